"""What readers make of damaged journals, samples, manifests and ledgers: an error or less, never a wrong number.

    python benchmarks/proof_fuzz.py [--cases 10000] [--seed 1] [--save]

The damage and what counts as silent are in tests/fuzz_ledger.py. Exit status 1 where a case was silent.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from fuzz_ledger import Fuzz, Outcomes  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save", action="store_true", help="keep a dated summary beside this file")
    arguments = parser.parse_args()
    outcomes, begun_s = Outcomes(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        fuzz = Fuzz(Path(folder), np.random.default_rng(arguments.seed))
        fuzz.run(arguments.cases, outcomes, seen=_progress(arguments.cases))
    summary = {
        "date": datetime.now(UTC).date().isoformat(),
        "cases": outcomes.cases,
        "seed": arguments.seed,
        "outcomes": dict(outcomes.by_outcome),
        "files": dict(outcomes.by_file),
        "silent": outcomes.silent,
        "took_s": round(time.monotonic() - begun_s, 1),
    }
    print(json.dumps(summary, indent=1))
    if arguments.save:
        path = HERE / f"proof-fuzz-{summary['date']}.json"
        path.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return 1 if outcomes.silent else 0


def _progress(cases: int) -> Callable[[int], None]:
    def seen(number: int) -> None:
        if sys.stderr.isatty() and number % 100 == 0:
            print(f"\r{number} of {cases}", end="", file=sys.stderr)

    return seen


if __name__ == "__main__":
    sys.exit(main())
