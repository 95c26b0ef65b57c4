"""How long 100,000 draws of a study of 50 runs take: two stages a run, nine impacts, each run with its intervals."""

from __future__ import annotations

import time

from stillwatt.factors.catalog import build_catalog
from stillwatt.factors.places import find_place
from stillwatt.impact.operational import Operational
from stillwatt.impact.site import site_at
from stillwatt.records.channel import Basis, Boundary
from stillwatt.records.energy import Total
from stillwatt.records.impact import Impact, LifeStage, Use
from stillwatt.units import J_PER_KWH

RUNS, DRAWS, REPEATS = 50, 100_000, 5


def main() -> None:
    """Print the best and the middle of five."""
    site = site_at(build_catalog(), find_place("us-east-1"))
    uses = [
        Use(run=f"r{n}", stage=stage, energy=_energy(J_PER_KWH * (n + 1)), meter="nvml")
        for n in range(RUNS)
        for stage in (LifeStage.DATA, LifeStage.POST_TRAINING)
    ]
    taken_s = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        account = Operational(uses, site, draws=DRAWS)
        account.cells()
        account.shares_of_variance(Impact.GWP_LOCATION)
        taken_s.append(time.perf_counter() - start)
    taken_s.sort()
    print(
        f"{RUNS} runs, {len(uses)} rows, {DRAWS:,} draws: best {taken_s[0]:.2f} s, middle {taken_s[REPEATS // 2]:.2f} s"
    )


def _energy(value_j: float) -> Total:
    return Total(
        value_j=value_j,
        low_j=0.95 * value_j,
        high_j=1.05 * value_j,
        basis=Basis.MEASURED,
        complete=True,
        boundary=Boundary.COMPONENTS,
    )


if __name__ == "__main__":
    main()
