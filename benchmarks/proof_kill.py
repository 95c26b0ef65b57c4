"""Kills at random moments of sampling and of posting: what each cost, and whether all before it is intact.

    python benchmarks/proof_kill.py [--kills 50] [--seed 1] [--save]

Half of the kills hit a measured program, its sampling process, or both; half hit a posting. What counts as a fault is
in tests/kill_run.py. Exit status 1 where there was one, or where a kill cost more than a second of samples.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from kill_run import Kill, kill_posting, kill_sampling  # noqa: E402

SLOWEST_POSTING_S = 2.5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save", action="store_true", help="keep a dated summary beside this file")
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    kills: list[Kill] = []
    posting_faults: list[str] = []
    for number in range(arguments.kills):
        with tempfile.TemporaryDirectory() as folder:
            if number % 2:
                posting_faults += kill_posting(Path(folder), chance, slowest_s=SLOWEST_POSTING_S)
            else:
                kills.append(kill_sampling(Path(folder), chance))
    hit = [kill.lost_s for kill in kills if kill.victim != "program"]
    faults = [fault for kill in kills for fault in kill.faults] + posting_faults
    summary = {
        "date": datetime.now(UTC).date().isoformat(),
        "seed": arguments.seed,
        "kills_while_sampling": {
            name: sum(kill.victim == name for kill in kills) for name in ("program", "sampler", "both")
        },
        "kills_while_posting": arguments.kills - len(kills),
        "stages_told_before": sum(kill.stages_told for kill in kills),
        "lost_s": {"median": round(sorted(hit)[len(hit) // 2], 3), "most": round(max(hit), 3)} if hit else {},
        "faults": faults,
    }
    print(json.dumps(summary, indent=1))
    if arguments.save:
        path = HERE / f"proof-kill-{summary['date']}.json"
        path.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return 1 if faults or (hit and max(hit) > 1.0) else 0


if __name__ == "__main__":
    sys.exit(main())
