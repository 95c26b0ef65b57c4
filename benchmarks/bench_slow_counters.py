"""Whether intervals hold the truth where a slow or coarse counter is all there is of a part: plugs, controllers.

    python benchmarks/bench_slow_counters.py [--sessions 80] [--save]

Random loads of known energy, counters that are read once a second (tests/slow_counters.py), stages of 5 s to a quarter
of the session. `levels`: 60 to 500 W, or 5 and 700 W. `half` is the median half-width as a share of what was drawn, of
stages that drew something; no gain. Run by an earlier release (PYTHONPATH) it tells what that one says.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from slow_counters import covered, measured

COUNTERS = {"360 J a count": (360.0, 0.0), "3,600 J a count": (3600.0, 0.0)} | {
    "1 J, every 10 s": (1.0, 10.0),
    "1 J, every 60 s": (1.0, 60.0),
    "3,600 J, every 60 s": (3600.0, 60.0),
}
LEVELS_W = {"60-500 W": np.linspace(60.0, 500.0, 12), "5 or 700 W": np.array([5.0, 700.0])}
DWELLS_S = ((0.2, 3.0), (10.0, 120.0))
SESSIONS_S = (90.0, 300.0, 1800.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=80, help="sessions a row")
    parser.add_argument("--save", metavar="NAME", help="keep the rows beside this file, as NAME-<date>.json")
    arguments = parser.parse_args()
    rows = []
    heads = f"{'session':>8s}{'n':>6s}{'held %':>8s}{'half':>7s}{'0 J':>5s}"
    print(f"{'counter':20s}{'levels':12s}{'change every':14s}{heads}")
    for counter, (unit_j, update_s) in COUNTERS.items():
        for levels, levels_w in LEVELS_W.items():
            for dwell_s in DWELLS_S:
                for session_s in SESSIONS_S:
                    how = (levels_w, dwell_s, unit_j, update_s, session_s)
                    found = [one for seed in range(arguments.sessions) for one in measured(seed, *how)]
                    rows.append(row(counter, levels, dwell_s, session_s, found))
                    print(line(rows[-1]), flush=True)
    if arguments.save:
        path = Path(__file__).with_name(f"{arguments.save}-{datetime.now(UTC).date().isoformat()}.json")
        path.write_text(json.dumps({"sessions": arguments.sessions, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def row(counter: str, levels: str, dwell_s: tuple[float, float], session_s: float, found: Any) -> dict[str, Any]:
    """One row of the table."""
    halves = [(energy.high_j - energy.low_j) / 2 / true_j for true_j, energy in found if true_j > 0]
    return {
        "counter": counter,
        "levels": levels,
        "dwell_s": dwell_s,
        "session_s": session_s,
        "stages": len(found),
        "covered_pct": round(100 * covered(found), 1),
        "half_of_true": round(float(np.median(halves)), 3),
        "zero_j": sum(energy.value_j == 0 < true_j for true_j, energy in found),
    }


def line(one: dict[str, Any]) -> str:
    """A row for people."""
    dwell = "{:g}-{:g} s".format(*one["dwell_s"])
    names = f"{one['counter']:20s}{one['levels']:12s}{dwell:14s}{one['session_s']:8.0f}"
    return f"{names}{one['stages']:6d}{one['covered_pct']:8.1f}{one['half_of_true']:7.2f}{one['zero_j']:5d}"


if __name__ == "__main__":
    main()
