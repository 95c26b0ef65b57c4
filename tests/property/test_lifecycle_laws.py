"""Laws of life-cycle accounts: linear, conserved, blind to order; intervals nest; coverage only grows by measuring."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impact_studies import FIGURES, site, use
from lifecycle_studies import DEVICE, SHARED, device_factors, held, inputs, kept, report, shared
from run_records import quickstart, run_record, stage
from stillwatt.impact.coverage import CLASSES, NOT_APPLICABLE, coverage, score
from stillwatt.impact.inputs import Inputs
from stillwatt.impact.stages import Mapper
from stillwatt.impact.tally import UNITS
from stillwatt.impact.whole import assess
from stillwatt.records.channel import Boundary
from stillwatt.records.energy import Total
from stillwatt.records.factor import Choice
from stillwatt.records.impact import VALUED, Cell, Impact, LifeStage, Status
from stillwatt.records.lifecycle import Assessment
from stillwatt.records.window import StageKind, StageStatus
from stillwatt.report.data import report_json
from stillwatt.report.lifecycle import lifecycle_dict
from stillwatt.report.lifecycle_inputs import read_inputs

FEW = settings(max_examples=25)
QUICK = {"draws": 20}


def values(found: Assessment) -> dict[tuple[LifeStage, Impact], float]:
    return {(cell.stage, cell.impact): cell.value for cell in found.cells if cell.value is not None}


PLAIN = values(assess(inputs(**QUICK)))
EMBODIED_IN = {
    "embodied_gwp": {Impact.GWP_LOCATION, Impact.GWP_MARKET},
    "embodied_primary_energy": {Impact.PRIMARY_ENERGY},
    "embodied_adpe": {Impact.ADPE},
    "embodied_water": {Impact.WATER_OFFSITE},
}


@FEW
@given(quantity=st.sampled_from(sorted(EMBODIED_IN)), times=st.floats(0.2, 5.0))
def test_hardware_is_linear_in_each_factor_of_a_device_and_blind_to_others(quantity: str, times: float) -> None:
    card = device_factors(values={quantity: DEVICE[quantity][0] * times})
    one = values(assess(inputs(kept=(), **QUICK)))
    more = values(assess(inputs(held=(held(found=card),), kept=(), **QUICK)))
    for key, value in one.items():
        moved = key[0] is LifeStage.HARDWARE and key[1] in EMBODIED_IN[quantity]
        assert more[key] == pytest.approx(value * times if moved else value)


@FEW
@given(name=st.sampled_from(["lifetime", "building_gwp", "building_lifetime"]), times=st.floats(0.3, 3.0))
def test_impacts_of_hardware_and_building_go_with_one_over_their_lifetimes(name: str, times: float) -> None:
    more = values(assess(inputs(shared=shared({name: SHARED[name][2] * times}), kept=(), **QUICK)))
    one = values(assess(inputs(kept=(), **QUICK)))
    moved = {LifeStage.HARDWARE, LifeStage.END_OF_LIFE} if name == "lifetime" else {LifeStage.INFRASTRUCTURE}
    scale = times if name == "building_gwp" else 1.0 / times
    for key, value in one.items():
        assert more[key] == pytest.approx(value * scale if key[0] in moved else value)


@FEW
@given(parts=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=6))
def test_sharing_a_device_out_over_runs_keeps_its_impacts(parts: list[float]) -> None:
    rows = tuple(held(run=f"r{n}", time_s=31_557_600.0 * part / math.fsum(parts)) for n, part in enumerate(parts))
    assert values(assess(inputs(held=rows, **QUICK))) == pytest.approx(PLAIN)


@FEW
@given(dice=st.randoms(use_true_random=False))
def test_the_order_of_runs_devices_and_bytes_changes_nothing(dice: random.Random) -> None:
    rows: dict[str, list[object]] = {
        "uses": [use(run=f"r{n}", kwh=n + 1.0) for n in range(3)],
        "held": [held(run=f"r{n}", name=name, count=n + 1.0) for n, name in enumerate("abca")],
        "kept": [kept(10.0**n) for n in (9, 10, 11)],
    }
    one = assess(inputs(**rows, **QUICK))
    other = assess(inputs(**{name: dice.sample(of, len(of)) for name, of in rows.items()}, **QUICK))
    assert values(other) == pytest.approx(values(one))
    assert [(t.low, t.high) for t in other.totals] == [
        (t.low and pytest.approx(t.low), t.high and pytest.approx(t.high)) for t in one.totals
    ]


@FEW
@given(narrow=st.floats(1.05, 1.5), wider=st.floats(1.05, 2.0))
def test_a_wider_lifetime_gives_an_interval_that_holds_the_narrower(narrow: float, wider: float) -> None:
    def ends(ratio: float) -> tuple[float, float]:
        life = shared()["lifetime"]
        assert isinstance(life, Choice)
        wide = replace(life.factor, low=4.0 / ratio, high=4.0 * ratio)
        found = assess(inputs(shared={**shared(), "lifetime": Choice(factor=wide)}, kept=(), draws=200))
        (cell,) = [c for c in found.cells if c.stage is LifeStage.END_OF_LIFE and c.impact is Impact.EWASTE]
        assert cell.low is not None
        assert cell.high is not None
        return cell.low, cell.high

    inner, outer = ends(narrow), ends(narrow * wider)
    assert outer[0] <= inner[0] * 1.0001
    assert inner[1] <= outer[1] * 1.0001


KINDS = st.sampled_from(list(StageKind))


@FEW
@given(
    st.lists(
        st.tuples(KINDS, st.floats(1.0, 1e5), st.sampled_from([StageStatus.ENDED, StageStatus.FAILED]), st.booleans()),
        min_size=1,
        max_size=8,
    )
)
def test_every_joule_of_a_run_is_booked_once(rows: list[tuple[StageKind, float, StageStatus, bool]]) -> None:
    """Stages that hold another one of half their energy, and energy outside any stage."""
    stages = []
    for n, (kind, joules, status, has_inner) in enumerate(rows):
        stages.append(stage(f"s{n}", f"stage{n}", kind, joules=joules, status=status))
        if has_inner:
            inner = StageKind.TEACHER_LOGITS
            stages.append(stage(f"c{n}", f"inner{n}", inner, joules=joules / 2.0, parent_id=f"s{n}"))
    run = run_record(stages)
    uses = Mapper(run).uses()
    assert isinstance(run.total, Total)
    booked = math.fsum(one.energy.value_j for one in uses if isinstance(one.energy, Total))
    assert booked == pytest.approx(run.total.value_j)
    lost = [one for one in rows if one[2] is StageStatus.FAILED]
    if lost:
        assert any(one.stage is LifeStage.EXPERIMENTATION for one in uses)


def cell(stage: LifeStage, impact: Impact, status: Status) -> Cell:
    has = status in VALUED
    numbers = {"value": 1.0, "low": 1.0, "high": 1.0, "boundary": Boundary.NODE} if has else {"reason": "unknown"}
    return Cell(stage=stage, impact=impact, unit=UNITS[impact], status=status, **numbers)


GRID = [(one, other) for one in LifeStage for other in Impact]


@settings(max_examples=60)
@given(
    statuses=st.lists(st.sampled_from(list(Status)), min_size=len(GRID), max_size=len(GRID)),
    letters=st.lists(st.sampled_from(sorted(CLASSES)), min_size=len(GRID), max_size=len(GRID)),
    at=st.integers(0, len(GRID) - 1),
)
def test_adding_a_measured_cell_never_lowers_the_coverage(statuses: list[Status], letters: list[str], at: int) -> None:
    """Whatever stood there before: nothing, something worse, or the claim that it does not apply."""
    before = [cell(*place, status) for place, status in zip(GRID, statuses, strict=True)]
    classes = dict(zip(GRID, letters, strict=True))
    after = [*before[:at], cell(*GRID[at], Status.MEASURED), *before[at + 1 :]]
    now = {**classes, GRID[at]: "A"}
    for subset in (slice(None), slice(at, at + 1)):
        assert score(after[subset], now) >= score(before[subset], classes) - 1e-12
    assert 0.0 <= coverage(before, classes).score <= coverage(before, classes).counted <= 1.0


@FEW
@given(gone=st.sets(st.sampled_from(sorted({*FIGURES, *SHARED})), max_size=6))
def test_a_total_is_what_is_counted_and_names_what_is_not(gone: set[str]) -> None:
    without = tuple(gone & set(SHARED))
    found = assess(inputs(site=site(without=tuple(gone & set(FIGURES))), shared=shared(without=without), **QUICK))
    for total in found.totals:
        cells = [one for one in found.cells if one.impact is total.impact]
        counted = [one.value for one in cells if one.value is not None]
        assert total.value == (pytest.approx(math.fsum(counted)) if counted else None)
        for one in cells:
            assert one.status in VALUED or one.reason
            if one.status is Status.NOT_COUNTED:
                assert any(lack.startswith(one.stage.value) for lack in total.lacking)
    does_not = {(one.stage, one.impact) for one in found.cells if one.status is Status.NOT_APPLICABLE}
    assert does_not == NOT_APPLICABLE


@settings(max_examples=15)
@given(kwh=st.floats(1e-6, 1e9), seed=st.integers(0, 2**31), idle=st.booleans())
def test_a_report_computed_anew_from_itself_has_the_same_bytes(kwh: float, seed: int, idle: bool) -> None:
    data = report(uses=(use(kwh=kwh),), seed=seed, charge_idle=idle, draws=50)
    again: Inputs = read_inputs(data)
    assert report_json(lifecycle_dict(again, assess(again))) == report_json(data)


def test_a_real_study_is_conserved_too() -> None:
    run = quickstart()
    assert isinstance(run.total, Total)
    for kept_arm in (None, frozenset({"kd"})):
        uses = Mapper(run, kept=kept_arm).uses()
        booked = math.fsum(one.energy.value_j for one in uses if isinstance(one.energy, Total))
        assert booked == pytest.approx(run.total.value_j)
