"""Run the smoke recipe and write the losses of its steps: python tests/golden/losses/regenerate.py

Read the difference before you commit it: losses change with the arithmetic of a training and with nothing else.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

PLACE = Path(__file__).with_name("smoke_cpu.json")


def main() -> None:
    """Make the file anew."""
    with tempfile.TemporaryDirectory() as runs:
        program = [sys.executable, "-m", "stillwatt"]
        subprocess.run([*program, "run", "smoke_cpu", "--runs", runs], check=True, stdout=subprocess.DEVNULL)
        show = [*program, "ledger", "show", "latest", "--json", "--runs", runs]
        record = json.loads(subprocess.run(show, check=True, capture_output=True, text=True).stdout)
    curves = {
        stage["name"]: [float(f"{loss:.7g}") for loss in stage["results"]["loss_curve"]]
        for stage in record["stages"]
        if stage["kind"] == "student_train"
    }
    PLACE.write_text(json.dumps(curves, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
