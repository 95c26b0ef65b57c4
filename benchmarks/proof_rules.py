"""How much of what `stillwatt rules mine` finds is false, and how much of what is true it finds, in drawn worlds.

    python benchmarks/proof_rules.py [--studies 1000] [--save]

Worlds without effects: two, three and five seeds, seeds run three times, rounded figures, seeds of their own, seeds
that move all labels alike, one loud method, heavy tails. Worlds with some: one artefact a label, planted and faint
effects. What is true is read off a study of the same world without noise. `false` is the mean over studies of the share
of false ones among those found, which is asked to be 5 % at most; `in` the share of studies with any; the rest is the
share of the true statements of a kind that a study finds. Exits with 1 where the false share of a world is above 5 % by
more than two standard errors of its mean.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from rule_worlds import MIXED_WORLDS, NULL_WORLDS, MinedShare, lines_of, mined_share, worst_of  # noqa: E402

RATE = 0.05
SEED = 20261126


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--save", action="store_true", help="keep a dated output beside this file")
    arguments = parser.parse_args()
    found: dict[str, MinedShare] = {}
    for world in (*NULL_WORLDS, *MIXED_WORLDS):
        found[world.name] = mined_share(world, studies=arguments.studies, seed=SEED, rate=RATE)
        print(*lines_of({world.name: found[world.name]}), flush=True)
    name, worst = worst_of(found)
    print(f"worst  {name}: {worst:.2%} of those found are false, {RATE:.0%} asked")
    if arguments.save:
        date = datetime.now(UTC).date().isoformat()
        told = {
            "date": date,
            "rate": RATE,
            "studies": arguments.studies,
            "worst_false_share": worst,
            "worlds": {name: asdict(share) for name, share in found.items()},
        }
        (HERE / f"proof-rules-{date}.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    beyond = 2.0 * math.sqrt(RATE * (1.0 - RATE) / arguments.studies)
    sys.exit(int(worst > RATE + beyond))


if __name__ == "__main__":
    main()
