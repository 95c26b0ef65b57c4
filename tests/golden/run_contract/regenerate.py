"""Write the golden run directory and the record it gives: `python tests/golden/run_contract/regenerate.py`.

Read the difference before committing it: it is what every user of the contract will see.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))


def main() -> None:
    """Make both anew."""
    from golden_run import golden_run
    from run_dirs import FakeLiveness
    from stillwatt.ledger.post import build_record

    for old in HERE.glob("20*"):
        shutil.rmtree(old)
    run = golden_run(HERE)
    record = build_record(run.path, liveness=FakeLiveness(False))
    text = json.dumps(record.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    (HERE / "run.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
