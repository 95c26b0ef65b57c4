"""How often the planner's intervals hold the truth, and how far its advice lies below the best, in drawn worlds.

    python benchmarks/proof_advice.py [--studies 1000] [--worlds 200] [--save]

Costs: joules of stages and of whole runs that come after a study, on worlds from no run at all to another device and a
hundred times the work. Qualities: one more training. Advice: what is lost, in units of quality, against the best option
that the true costs allow; a choice that breaks the budget loses all. `plain` is the loss of always training plainly.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from synthetic_worlds import COST_WORLDS, CURVE_WORLDS, cost_coverage, curve_coverage, regrets  # noqa: E402

SHARES = (0.25, 0.5, 0.75, 0.9, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--worlds", type=int, default=200)
    parser.add_argument("--save", action="store_true", help="keep a dated output beside this file")
    arguments = parser.parse_args()
    curves = {}
    for curve in CURVE_WORLDS:
        curves[curve.name] = curve_coverage(curve, studies=arguments.studies, seed=20261126)
        print(f"quality  {curve.name:40} {curves[curve.name]:6.1%}", flush=True)
    costs = {}
    for world in COST_WORLDS:
        costs[world.name] = cost_coverage(world, studies=arguments.studies, seed=20261126)
        print(f"energy   {world.name:40} {costs[world.name]}", flush=True)
    found = list(regrets(worlds=arguments.worlds, seed=20261126))
    advice = {
        "shares": SHARES,
        "advised": np.quantile([world.advised for world in found], SHARES).tolist(),
        "plain": np.quantile([world.plain for world in found], SHARES).tolist(),
        "mean_advised": float(np.mean([world.advised for world in found])),
        "mean_plain": float(np.mean([world.plain for world in found])),
        "within_budget": float(np.mean([world.is_feasible for world in found])),
    }
    print(json.dumps(advice, indent=1))
    if arguments.save:
        date = datetime.now(UTC).date().isoformat()
        told = {
            "date": date,
            "studies": arguments.studies,
            "worlds": arguments.worlds,
            "quality_coverage": curves,
            "energy_coverage": costs,
            "regret": advice,
        }
        (HERE / f"proof-advice-{date}.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
