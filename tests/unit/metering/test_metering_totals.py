from __future__ import annotations

import math
from typing import Any

import pytest

from run_records import stage
from stillwatt.metering.totals import combine, merge_parts, sum_part, sum_stages
from stillwatt.records import Absent, Basis, Boundary, Energy, NoTotal, StageKind, Total


def energy(part: str = "gpu0", value_j: float = 100.0, **changes: Any) -> Energy:
    fields: dict[str, Any] = {
        "part": part, "device": "board A", "boundary": Boundary.BOARD, "value_j": value_j, "random_j": 3.0,
        "systematic_low_j": 5.0, "systematic_high_j": 6.0, "basis": Basis.MEASURED, "method": "counter",
        "coverage": 1.0, "failed_reads": 1, "estimated_j": 2.0, "missing_s": 0.0, "driver": "nvml", "source": "s",
    }  # fmt: skip
    return Energy(**(fields | changes))


def absent(part: str = "gpu0", boundary: Boundary = Boundary.BOARD, reason: str = "gone") -> Absent:
    return Absent(part=part, boundary=boundary, reason=reason)


def test_random_parts_of_stages_add_in_quadrature_and_systematic_ones_linearly() -> None:
    total = sum_part([energy(random_j=3.0), energy(random_j=4.0, coverage=0.5, device="board B")], [3.0, 1.0])
    assert isinstance(total, Energy)
    assert (total.value_j, total.random_j) == (200.0, 5.0)
    assert (total.systematic_low_j, total.systematic_high_j) == (10.0, 12.0)
    assert total.coverage == pytest.approx(3.5 / 4)
    assert (total.failed_reads, total.estimated_j, total.missing_s) == (2, 4.0, 0.0)
    assert (total.device, total.method, total.source) == ("board A + board B", "counter", "s")


def test_a_sum_takes_the_worst_basis_and_names_both_methods() -> None:
    total = sum_part([energy(), energy(basis=Basis.MODELLED, method="model", driver="host_model")], [1.0, 1.0])
    assert isinstance(total, Energy)
    assert (total.basis, total.method, total.driver) == (Basis.MODELLED, "counter+model", "nvml+host_model")


def test_a_stage_without_an_energy_lowers_coverage_and_is_missing() -> None:
    total = sum_part([energy(missing_s=0.5), absent()], [3.0, 2.0])
    assert isinstance(total, Energy)
    assert (total.value_j, total.coverage, total.missing_s) == pytest.approx((100.0, 0.6, 2.5))


def test_nothing_known_stays_absent_with_every_reason() -> None:
    found = sum_part([absent(reason="gone"), absent(reason="unreadable"), absent(reason="gone")], [1.0, 1.0, 1.0])
    assert found == absent(reason="gone; unreadable")


def test_stages_of_no_length_keep_their_coverage() -> None:
    total = sum_part([energy(coverage=1.0)], [0.0])
    assert isinstance(total, Energy)
    assert total.coverage == 1.0


@pytest.mark.parametrize(
    ("energies", "lengths_s", "message"),
    [
        ([], [], "0 energies"),
        ([energy()], [1.0, 2.0], "1 energies do not go with 2 lengths"),
        ([energy("gpu0"), energy("gpu1")], [1.0, 1.0], "not one part: gpu0, gpu1"),
    ],
)
def test_what_is_not_one_part_is_refused(energies: list[Energy], lengths_s: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sum_part(energies, lengths_s)


def test_parts_are_merged_by_name_and_one_of_another_host_is_no_gap() -> None:
    merged = merge_parts(
        [{"gpu0": energy(), "cpu0": absent("cpu0")}, {"gpu0": energy()}], [{"gpu0": 1.0, "cpu0": 1.0}, {"gpu0": 1.0}]
    )
    assert merged["cpu0"] == absent("cpu0")
    gpu = merged["gpu0"]
    assert isinstance(gpu, Energy)
    assert gpu.value_j == 200.0
    with pytest.raises(ValueError, match="1 stages do not go with 0 lengths"):
        merge_parts([{}], [])


def test_one_drivers_systematic_parts_move_together_and_different_drivers_do_not() -> None:
    parts = [
        energy("gpu0", random_j=0.0),
        energy("gpu1", random_j=0.0),
        energy("cpu0", random_j=0.0, driver="rapl", boundary=Boundary.CHIP),
    ]
    total = combine(parts)
    assert isinstance(total, Total)
    assert total.value_j == 300.0
    assert total.value_j - total.low_j == pytest.approx(math.hypot(10.0, 5.0))
    assert total.high_j - total.value_j == pytest.approx(math.hypot(12.0, 6.0))
    assert (total.complete, total.boundary) == (True, Boundary.COMPONENTS)


def test_shares_by_basis_come_best_first() -> None:
    total = combine([energy("cpu0", 25.0, basis=Basis.MODELLED), energy("gpu0", 75.0)])
    assert isinstance(total, Total)
    assert total.share_by_basis == ((Basis.MEASURED, 0.75), (Basis.MODELLED, 0.25))
    assert total.basis is Basis.MODELLED
    nothing = combine([energy(value_j=0.0)])
    assert isinstance(nothing, Total)
    assert nothing.share_by_basis == ()


def test_an_absent_part_or_missing_seconds_leave_the_total_incomplete() -> None:
    without = combine([energy("gpu0"), absent("cpu0")])
    assert isinstance(without, Total)
    assert (without.complete, without.absent) == (False, ("cpu0",))
    short = combine([energy(missing_s=0.2)])
    assert isinstance(short, Total)
    assert (short.complete, short.absent) == (False, ())


def test_no_total_says_why() -> None:
    assert combine([]) == NoTotal(reason="no part of this machine is metered")
    assert combine([absent("gpu0"), absent("cpu0")]) == NoTotal(reason="gpu0: gone; cpu0: gone")


def test_a_wall_reading_is_never_added_to_what_it_contains() -> None:
    wall = energy("psu0", boundary=Boundary.WALL)
    alone = combine([wall])
    assert isinstance(alone, Total)
    assert alone.boundary is Boundary.WALL
    assert combine([wall, energy("gpu0")]) == combine([energy("gpu0")])
    assert combine([wall, energy("node0", boundary=Boundary.NODE)]) == combine(
        [energy("node0", boundary=Boundary.NODE)]
    )


def test_rails_lie_inside_what_is_added() -> None:
    rail = energy("core0", boundary=Boundary.RAIL)
    assert combine([rail, energy("cpu0", boundary=Boundary.CHIP)]) == combine([energy("cpu0", boundary=Boundary.CHIP)])
    alone = combine([rail])
    assert isinstance(alone, NoTotal)
    assert "core0" in alone.reason


def test_what_is_absent_around_the_components_does_not_make_their_sum_incomplete() -> None:
    around = absent("wall0", boundary=Boundary.WALL)
    total = combine([energy("gpu0"), around])
    assert isinstance(total, Total)
    assert total.complete
    assert combine([around]) == NoTotal(reason="wall0: gone")


def test_a_share_of_what_is_summed_by_components_is_never_a_wall_reading() -> None:
    wall = energy("psu0", boundary=Boundary.WALL)
    assert combine([wall, absent("gpu0")], Boundary.COMPONENTS) == NoTotal(reason="gpu0: gone")
    assert combine([wall, energy("gpu0")], Boundary.COMPONENTS) == combine([energy("gpu0")])
    lone = combine([wall], Boundary.COMPONENTS)
    assert lone == NoTotal(reason="no part of it is metered at the boundary that is summed (components)")


def test_a_part_is_counted_once() -> None:
    with pytest.raises(ValueError, match="stands twice"):
        combine([energy(), energy()])


def test_stages_add_up_with_the_interval_of_their_sum() -> None:
    """Random parts of three stages in quadrature: 3 J each are 5.2 J, beside 15 J below and 18 J above."""
    steps = [stage(f"s{n}", "step", StageKind.OTHER, energies=[energy()]) for n in range(3)]
    total = sum_stages(steps)
    assert isinstance(total, Total)
    assert (total.value_j, total.complete) == (300.0, True)
    assert 300.0 - total.low_j == pytest.approx(math.hypot(15.0, math.sqrt(27.0)))
    assert total.high_j - 300.0 == pytest.approx(math.hypot(18.0, math.sqrt(27.0)))


def test_a_stage_without_energy_leaves_the_sum_of_stages_incomplete() -> None:
    known = stage("k", "step", StageKind.OTHER, energies=[energy()])
    unknown = stage("u", "step", StageKind.OTHER, energies=[])
    total = sum_stages([known, unknown])
    assert isinstance(total, Total)
    assert (total.value_j, total.complete) == (100.0, False)
    assert sum_stages([unknown, unknown]) == unknown.gross
    assert sum_stages([known]) is known.gross
