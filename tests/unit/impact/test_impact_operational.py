"""The use phase: boundaries, impacts worked by hand, statuses, and what is not counted."""

from __future__ import annotations

import numpy as np
import pytest

from impact_studies import catalog_of, figure, no_use, site, use
from stillwatt.factors.places import find_place
from stillwatt.impact.operational import OPERATIONAL, Operational
from stillwatt.impact.site import Site, site_at
from stillwatt.records.channel import Basis, Boundary
from stillwatt.records.energy import NoTotal
from stillwatt.records.factor import Water
from stillwatt.records.impact import VALUED, Cell, Impact, LifeStage, Status, Use

HERE = site()


def cells(uses: list[Use], where: Site = HERE) -> dict[tuple[LifeStage, Impact], Cell]:
    return {(cell.stage, cell.impact): cell for cell in Operational(uses, where, draws=2000).cells()}


def trained(uses: list[Use], where: Site = HERE) -> dict[Impact, Cell]:
    return {impact: cell for (stage, impact), cell in cells(uses, where).items() if stage is LifeStage.POST_TRAINING}


def test_ten_kilowatt_hours_of_a_node_by_hand() -> None:
    found = trained([use(kwh=10.0)])
    values = {impact: cell.value for impact, cell in found.items()}
    assert values == {
        Impact.ENERGY_METERED: pytest.approx(10.0),
        Impact.ENERGY_NODE: pytest.approx(10.0),
        Impact.ENERGY_FACILITY: pytest.approx(12.5),
        Impact.GWP_LOCATION: pytest.approx(5.0),
        Impact.GWP_MARKET: pytest.approx(1.25),
        Impact.PRIMARY_ENERGY: pytest.approx(112.5),
        Impact.ADPE: pytest.approx(6.25e-7),
        Impact.WATER_ONSITE: pytest.approx(5.0),  # of the 10 kWh of IT, not of the facility's 12.5
        Impact.WATER_OFFSITE: pytest.approx(50.0),
        Impact.EWASTE: None,
    }


@pytest.mark.parametrize(
    ("boundary", "node_kwh", "status"),
    [
        (Boundary.CHIP, 15.0, Status.FACTOR),
        (Boundary.BOARD, 15.0, Status.FACTOR),
        (Boundary.COMPONENTS, 12.0, Status.FACTOR),
        (Boundary.NODE, 10.0, Status.MEASURED),
        (Boundary.WALL, 10.0, Status.MEASURED),
    ],
)
def test_from_each_boundary_to_the_node(boundary: Boundary, node_kwh: float, status: Status) -> None:
    found = trained([use(boundary=boundary)])
    assert found[Impact.ENERGY_METERED].boundary is boundary
    assert found[Impact.ENERGY_NODE].value == pytest.approx(node_kwh)
    assert found[Impact.ENERGY_NODE].status is status
    assert found[Impact.ENERGY_FACILITY].value == pytest.approx(1.25 * node_kwh)
    assert found[Impact.ENERGY_FACILITY].status is Status.FACTOR


def test_a_facilitys_meter_needs_no_pue_and_knows_no_node() -> None:
    found = trained([use(boundary=Boundary.FACILITY)])
    assert found[Impact.ENERGY_FACILITY].value == pytest.approx(10.0)
    assert found[Impact.ENERGY_FACILITY].status is Status.MEASURED
    assert found[Impact.GWP_LOCATION].value == pytest.approx(4.0)
    for impact in (Impact.ENERGY_NODE, Impact.WATER_ONSITE):
        assert found[impact].status is Status.NOT_COUNTED
        assert "metered at the boundary facility" in found[impact].reason


def test_a_rail_leads_nowhere() -> None:
    found = trained([use(boundary=Boundary.RAIL)])
    assert found[Impact.ENERGY_FACILITY].status is Status.NOT_COUNTED


def test_unlike_boundaries_stand_side_by_side_until_they_are_brought_to_one() -> None:
    account = Operational([use(boundary=Boundary.BOARD), use(boundary=Boundary.NODE)], HERE, draws=100)
    found = {cell.impact: cell for cell in account.cells() if cell.stage is LifeStage.POST_TRAINING}
    assert found[Impact.ENERGY_METERED].status is Status.NOT_COUNTED
    assert "never added" in found[Impact.ENERGY_METERED].reason
    assert found[Impact.ENERGY_NODE].value == pytest.approx(25.0)
    metered = account.run_interval("r1", Impact.ENERGY_METERED)
    assert isinstance(metered, NoTotal)
    assert "never added" in metered.reason


@pytest.mark.parametrize(
    ("basis", "status"),
    [(Basis.MEASURED, Status.MEASURED), (Basis.MODELLED, Status.MODELLED), (Basis.ASSUMED, Status.FACTOR)],
)
def test_the_worst_row_gives_the_status(basis: Basis, status: Status) -> None:
    found = trained([use(), use(run="r2", basis=basis)])
    assert found[Impact.ENERGY_METERED].status is status


@pytest.mark.parametrize(
    ("gone", "impact"),
    [
        ("grid_gwp_location", Impact.GWP_LOCATION),
        ("grid_gwp_market", Impact.GWP_MARKET),
        ("grid_primary_energy", Impact.PRIMARY_ENERGY),
        ("grid_adpe", Impact.ADPE),
        ("wue", Impact.WATER_ONSITE),
        ("offsite_water", Impact.WATER_OFFSITE),
    ],
)
def test_a_missing_factor_is_not_counted_and_never_0(gone: str, impact: Impact) -> None:
    found = trained([use()], site(without=(gone,)))
    assert found[impact].status is Status.NOT_COUNTED
    assert found[impact].value is None
    assert found[impact].reason
    assert all(cell.status in VALUED for other, cell in found.items() if other not in (impact, Impact.EWASTE))


def test_without_a_contract_market_based_is_not_the_location_based() -> None:
    found = trained([use()], site(without=("grid_gwp_market",)))
    assert "contract" in found[Impact.GWP_MARKET].reason
    assert found[Impact.GWP_LOCATION].value == pytest.approx(5.0)


def test_without_a_pue_nothing_reaches_the_facility() -> None:
    found = trained([use()], site(without=("pue",)))
    assert found[Impact.ENERGY_NODE].value == pytest.approx(10.0)
    for impact in (Impact.ENERGY_FACILITY, Impact.GWP_LOCATION, Impact.WATER_OFFSITE):
        assert found[impact].status is Status.NOT_COUNTED


def test_the_hydro_switch() -> None:
    assert trained([use()], site(charge_hydro=False))[Impact.WATER_OFFSITE].value == pytest.approx(12.5)


def test_withdrawal_is_called_withdrawal() -> None:
    rows = [figure("pue"), figure("wue", water="withdrawal")]
    found = trained([use()], site_at(catalog_of(rows), find_place("FRA")))
    assert found[Impact.WATER_ONSITE].water is Water.WITHDRAWAL
    assert any("withdrawal" in caution for caution in found[Impact.WATER_ONSITE].cautions)
    assert trained([use()])[Impact.WATER_ONSITE].water is Water.CONSUMPTION


def test_stages_in_which_nothing_ran_say_so() -> None:
    found = cells([use()])
    assert {stage for stage, _ in found} == set(OPERATIONAL)
    assert len(found) == len(OPERATIONAL) * len(Impact)
    for stage in set(OPERATIONAL) - {LifeStage.POST_TRAINING}:
        cell = found[stage, Impact.GWP_LOCATION]
        assert (cell.status, cell.value) == (Status.NOT_COUNTED, None)
        assert cell.reason
    assert found[LifeStage.DATA, Impact.EWASTE].status is Status.NOT_APPLICABLE


def test_a_run_without_an_energy_makes_its_stage_incomplete_and_takes_nothing_away() -> None:
    account = Operational([use(), no_use()], HERE, draws=100)
    found = {cell.impact: cell for cell in account.cells() if cell.stage is LifeStage.POST_TRAINING}
    assert found[Impact.GWP_LOCATION].value == pytest.approx(5.0)
    assert found[Impact.GWP_LOCATION].incomplete == ("r2: no instrument",)
    assert isinstance(account.run_interval("r2", Impact.GWP_LOCATION), NoTotal)
    assert isinstance(account.run_interval("r1", Impact.GWP_LOCATION), tuple)
    assert isinstance(account.run_interval("r9", Impact.GWP_LOCATION), NoTotal)


def test_a_stage_without_any_energy_is_not_counted() -> None:
    found = trained([no_use()])
    assert found[Impact.GWP_LOCATION].status is Status.NOT_COUNTED
    assert found[Impact.GWP_LOCATION].reason == "r2: no instrument"


@pytest.mark.parametrize(
    ("row", "lack"), [(use(absent=("gpu1",)), "r1: without gpu1"), (use(complete=False), "r1: without some seconds")]
)
def test_an_incomplete_total_stays_incomplete_to_the_end(row: Use, lack: str) -> None:
    account = Operational([row], HERE, draws=100)
    found = {cell.impact: cell for cell in account.cells() if cell.stage is LifeStage.POST_TRAINING}
    assert found[Impact.GWP_LOCATION].incomplete == (lack,)
    run = account.run_interval("r1", Impact.GWP_LOCATION)
    assert isinstance(run, NoTotal)
    assert lack in run.reason


def test_cells_name_their_factors() -> None:
    found = trained([use(boundary=Boundary.BOARD)])
    assert found[Impact.GWP_LOCATION].factors == ("node_overhead", "pue", "grid_gwp_location")
    assert found[Impact.WATER_ONSITE].factors == ("node_overhead", "wue")
    assert found[Impact.ENERGY_METERED].factors == ()


def test_the_doubt_is_laid_at_the_widest_input() -> None:
    account = Operational([use(boundary=Boundary.COMPONENTS)], HERE, draws=20_000)
    shares = account.shares_of_variance(Impact.ADPE)
    assert next(iter(shares)) == "grid_adpe"
    assert set(shares) == {"grid_adpe", "pue", "components_to_node", "meter nvml"}
    assert 0.9 < sum(shares.values()) <= 1.02
    assert account.shares_of_variance(Impact.EWASTE) == {}
    assert Operational([use(half_width=0.0)], HERE, draws=10).shares_of_variance(Impact.ENERGY_METERED) == {
        "meter nvml": 0.0
    }


def test_the_same_seed_gives_the_same_account() -> None:
    one, two = (Operational([use()], HERE, draws=500, seed=7).cells() for _ in range(2))
    other = Operational([use()], HERE, draws=500, seed=8).cells()
    assert one == two
    assert one != other


def test_a_stages_interval_is_that_of_all_its_draws() -> None:
    found = trained([use(kwh=10.0, half_width=0.1)])[Impact.ENERGY_METERED]
    assert found.low is not None
    assert found.high is not None
    expected = 10.0 * 0.1 * 1.6449 / 1.96
    assert np.allclose([10.0 - found.low, found.high - 10.0], expected, rtol=0.08)
