"""How long 100,000 draws of a study of 50 runs take: two stages and eight cards a run, ten impacts, all eight stages.

The use phase alone with each run's intervals, then the whole account: hardware, building, end of life, totals, shares
of variance, functional units and swings.
"""

from __future__ import annotations

import time

from stillwatt.factors.catalog import build_catalog, choose_for_device
from stillwatt.factors.places import find_place
from stillwatt.impact.inputs import Inputs
from stillwatt.impact.operational import Operational
from stillwatt.impact.site import Site, site_at
from stillwatt.impact.whole import assess
from stillwatt.records.channel import Basis, Boundary
from stillwatt.records.energy import Total
from stillwatt.records.impact import Impact, LifeStage, Use
from stillwatt.records.lifecycle import Count, Found, Role
from stillwatt.units import J_PER_KWH, S_PER_H
from stillwatt.workflows.account_hardware import hold

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
    _tell("use phase, intervals of each run", taken_s)
    taken_s = []
    given = _inputs(uses, site)
    for _ in range(REPEATS):
        start = time.perf_counter()
        assess(given)
        taken_s.append(time.perf_counter() - start)
    _tell("whole account, embodied included", taken_s)


def _tell(what: str, taken_s: list[float]) -> None:
    taken_s.sort()
    print(f"{RUNS} runs, {DRAWS:,} draws, {what}: best {taken_s[0]:.2f} s, middle {taken_s[REPEATS // 2]:.2f} s")


def _inputs(uses: list[Use], site: Site) -> Inputs:
    catalog = build_catalog()
    held = [hold(f"r{n}", Role.ACCELERATOR, "H100", "h100-sxm", 8.0, S_PER_H * (n + 1), catalog) for n in range(RUNS)]
    shared: dict[str, Found] = {
        "lifetime": choose_for_device(catalog, "lifetime", "any"),
        "storage_lifetime": choose_for_device(catalog, "lifetime", "any"),
        "utilisation": choose_for_device(catalog, "utilisation", "bloom"),
        "building_gwp": choose_for_device(catalog, "building_gwp", "data centre"),
        "building_lifetime": choose_for_device(catalog, "lifetime", "data centre"),
        "recycling_rate": choose_for_device(catalog, "recycling_rate", "world"),
    }
    counts = (Count(unit="run", count=float(RUNS)), Count(unit="student", count=3.0))
    return Inputs(
        uses=tuple(uses), site=site, shared=shared, held=tuple(held), counts=counts, charge_idle=True, draws=DRAWS
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
