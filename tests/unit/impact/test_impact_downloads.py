"""Downloads by a network's factor (method eq. 114), and what making and disposing say that they cover."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from impact_studies import site, use
from lifecycle_studies import held, inputs, kept, made, value_of
from stillwatt.errors import UnlikeAmountsError
from stillwatt.impact.operational import NOTHING_RAN
from stillwatt.impact.sums import add_amounts
from stillwatt.impact.whole import assess
from stillwatt.records.channel import Boundary
from stillwatt.records.factor import Choice, NoFactor
from stillwatt.records.impact import Amount, Cell, Impact, LifeStage, Making, Status
from stillwatt.records.lifecycle import Assessment, Found, Held, Lack, Moved, Role, Tried

NETWORK: Found = Choice(factor=made("network_energy", "internet", 0.06, "kWh/GB", low=0.002, high=0.12))
DERIVED = (Impact.GWP_LOCATION, Impact.PRIMARY_ENERGY, Impact.WATER_OFFSITE, Impact.ADPE)


def moved(size_bytes: float = 1e9, found: Found = NETWORK, what: str = "teacher") -> Moved:
    return Moved(run="r1", what=what, size_bytes=size_bytes, told_by="record", found=found)


def cell_of(found: Assessment, stage: LifeStage, impact: Impact) -> Cell:
    return next(cell for cell in found.cells if (cell.stage, cell.impact) == (stage, impact))


def test_a_gigabyte_is_the_networks_energy_at_the_places_grid() -> None:
    found = assess(inputs(uses=(), moved=(moved(2e9),)))
    energy = cell_of(found, LifeStage.DATA, Impact.ENERGY_FACILITY)
    assert energy.value == pytest.approx(0.12)
    assert (energy.status, energy.boundary) == (Status.FACTOR, Boundary.FACILITY)
    assert NOTHING_RAN[LifeStage.DATA] in energy.incomplete
    for impact, quantity in ((Impact.GWP_LOCATION, "grid_gwp_location"), (Impact.ADPE, "grid_adpe")):
        cell = cell_of(found, LifeStage.DATA, impact)
        per_kwh = site().factor(quantity)
        assert not isinstance(per_kwh, NoFactor)
        assert cell.value == pytest.approx(0.12 * per_kwh.value)
        assert {"network_energy@internet", per_kwh.id} <= set(cell.factors)


def test_nothing_of_a_download_is_metered_nor_bought_by_contract() -> None:
    before, after = assess(inputs()), assess(inputs(moved=(moved(1e12),)))
    for impact in (Impact.ENERGY_METERED, Impact.ENERGY_NODE, Impact.GWP_MARKET, Impact.WATER_ONSITE):
        assert value_of(after, LifeStage.DATA, impact) == value_of(before, LifeStage.DATA, impact)
    lacking = cell_of(after, LifeStage.DATA, Impact.GWP_MARKET).incomplete
    assert any("contracts that are not known" in said for said in lacking)
    assert cell_of(after, LifeStage.DATA, Impact.ENERGY_METERED).incomplete == ()


@pytest.mark.parametrize("impact", [Impact.ENERGY_FACILITY, *DERIVED])
def test_a_download_adds_to_what_was_counted(impact: Impact) -> None:
    before, after = assess(inputs()), assess(inputs(moved=(moved(1e12),)))
    assert (value_of(after, LifeStage.DATA, impact) or 0.0) > (value_of(before, LifeStage.DATA, impact) or 0.0)


def test_without_a_factor_it_is_named_and_never_0() -> None:
    gone = NoFactor(quantity="network_energy", where="internet", reason="no figure of a network")
    found = assess(inputs(uses=(), moved=(moved(found=gone),)))
    cell = cell_of(found, LifeStage.DATA, Impact.ENERGY_FACILITY)
    assert (cell.status, cell.value) == (Status.NOT_COUNTED, None)
    assert "no figure of a network" in cell.reason
    without = site(without=("grid_gwp_location",))
    found = assess(inputs(uses=(), moved=(moved(),), site=without))
    assert cell_of(found, LifeStage.DATA, Impact.GWP_LOCATION).value is None
    assert cell_of(found, LifeStage.DATA, Impact.ENERGY_FACILITY).value == pytest.approx(0.06)


def test_bytes_that_nobody_knows_leave_the_cell_without_a_value() -> None:
    lack = Lack(stage=LifeStage.DATA, reason="download of teacher: its bytes were not recorded")
    cell = cell_of(assess(inputs(uses=(), lacks=(lack,))), LifeStage.DATA, Impact.ENERGY_FACILITY)
    assert cell.value is None
    assert "not recorded" in cell.reason


@given(size=st.floats(1e3, 1e15), times=st.floats(0.1, 10.0))
def test_a_download_is_linear_in_its_bytes_and_split_without_loss(size: float, times: float) -> None:
    def gwp(*rows: Moved) -> float | None:
        bare = inputs(uses=(), held=(), kept=(), counts=(), moved=rows, draws=10)
        return value_of(assess(bare), LifeStage.DATA, Impact.GWP_LOCATION)

    one, more = gwp(moved(size)), gwp(moved(size * times))
    both = gwp(moved(size / 2), moved(size / 2, what="text"))
    assert one is not None
    assert more == pytest.approx(one * times)
    assert both == pytest.approx(one)


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan"), float("inf")])
def test_no_bytes_are_no_download(size: float) -> None:
    with pytest.raises(ValueError, match="a lack"):
        moved(size)
    with pytest.raises(ValueError, match="cannot be meant"):
        Tried(runs_looked_at=-1, attempts=0, means="the ledger")


def test_making_says_what_it_covers_and_no_metered_boundary() -> None:
    host = Held(run="r1", role=Role.HOST, name="xeon", device="xeon", count=1.0, time_s=3600.0, found=held().found)
    network = Held(run="r1", role=Role.NETWORK, name="sw", device="sw", count=0.1, time_s=60.0, found=held().found)
    found = assess(inputs(held=(held(), host, network), kept=(kept(),)))
    for impact in (Impact.GWP_LOCATION, Impact.GWP_MARKET):
        cell = cell_of(found, LifeStage.HARDWARE, impact)
        assert cell.boundary is Making.EQUIPMENT
        assert set(cell.covers) == {"accelerator", "host", "network", "storage"}
    assert cell_of(found, LifeStage.HARDWARE, Impact.ADPE).covers == ("accelerator", "host", "network")
    building = cell_of(found, LifeStage.INFRASTRUCTURE, Impact.GWP_LOCATION)
    assert (building.boundary, building.covers) == (Making.BUILDING, ("building",))
    waste = cell_of(found, LifeStage.END_OF_LIFE, Impact.EWASTE)
    assert (waste.boundary, waste.covers) == (Making.EQUIPMENT, ("accelerator", "host", "network"))
    assert all(
        isinstance(cell.boundary, Boundary) for cell in found.cells if cell.value is not None and not cell.covers
    )


def test_what_was_made_is_added_to_any_one_boundary_and_two_boundaries_are_not() -> None:
    def amount(boundary: Any) -> Amount:
        return Amount(impact=Impact.GWP_LOCATION, unit="kgCO2e", value=1.0, boundary=boundary)

    total = add_amounts([amount(Making.EQUIPMENT), amount(Boundary.FACILITY), amount(Making.BUILDING)])
    assert (total.value, total.boundary) == (3.0, Boundary.FACILITY)
    assert add_amounts([amount(Making.EQUIPMENT)] * 2).boundary is Making.EQUIPMENT
    with pytest.raises(UnlikeAmountsError, match="board"):
        add_amounts([amount(Making.EQUIPMENT), amount(Boundary.BOARD), amount(Boundary.FACILITY)])
    found = assess(inputs(uses=(use(),)))
    total_gwp = next(one for one in found.totals if one.impact is Impact.GWP_LOCATION)
    assert {LifeStage.HARDWARE, LifeStage.INFRASTRUCTURE, use().stage} <= set(total_gwp.stages)
