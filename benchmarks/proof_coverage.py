"""How often each 95 % interval of `stillwatt analyse` holds the truth, over synthetic studies, difficult ones included.

    python benchmarks/proof_coverage.py [--studies 1000] [--save]

Each study is drawn from known means and spreads, analysed as a table would be, and held against the truth. A break-even
that never comes is held by a verdict `never` or an interval without an upper end. Prints one line a scenario.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from synthetic_studies import SCENARIOS, coverage  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--save", action="store_true", help="keep a dated output beside this file")
    arguments = parser.parse_args()
    lines = []
    worst: dict[str, float] = {}
    for scenario in SCENARIOS:
        found = coverage(scenario, studies=arguments.studies, seed=20261125)
        lines.append(f"{scenario.name:44} " + "  ".join(f"{name} {share:6.1%}" for name, share in found.items()))
        print(lines[-1], flush=True)
        for name, share in found.items():
            worst[name] = min(worst.get(name, 1.0), share)
    lines.append("worst  " + "  ".join(f"{name} {share:.1%}" for name, share in worst.items()))
    print(lines[-1])
    if arguments.save:
        date = datetime.now(UTC).date().isoformat()
        (HERE / f"coverage-{date}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        summary = {"date": date, "studies": arguments.studies, "worst": worst}
        (HERE / f"coverage-{date}.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
