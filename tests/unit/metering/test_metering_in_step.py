"""Stages that keep step with the instrument err alike: their sum's interval must know (method.md, eqs. 127 and 128)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatt.metering.attribute import WeightedWindow
from stillwatt.metering.baseline import IdlePower
from stillwatt.metering.estimate import estimate_many
from stillwatt.metering.policies import baseline_energy
from stillwatt.metering.series import Series
from stillwatt.metering.totals import sum_part
from stillwatt.records import Absent, Basis, Boundary, Energy
from stillwatt.records.energy import random_of_sum
from stillwatt.units import NS_PER_MS
from strategies import EPOCH_NS, FloatArray, IntArray, StepLoad, power_readings, step_counter, window

BURSTS = 10


def energy(**changes: Any) -> Energy:
    fields: dict[str, Any] = {
        "part": "gpu0", "device": "board A", "boundary": Boundary.BOARD, "value_j": 40.0, "random_j": 5.0,
        "systematic_low_j": 0.0, "systematic_high_j": 0.0, "basis": Basis.MEASURED, "method": "counter",
        "coverage": 1.0, "failed_reads": 0, "estimated_j": 0.0, "missing_s": 0.0, "driver": "nvml", "source": "s",
    }  # fmt: skip
    return Energy(**(fields | changes))


def pointing(angle: float, length_j: float = 5.0, **changes: Any) -> Energy:
    return energy(in_step_cos_j=length_j * math.cos(angle), in_step_sin_j=length_j * math.sin(angle), **changes)


AMOUNTS = st.floats(0.0, 100.0, allow_subnormal=False).map(lambda number: round(number, 6))
vectors = st.builds(
    lambda rest_j, placing_j, share, angle: pointing(
        angle, rest_j * share, random_j=placing_j + rest_j, placing_j=placing_j
    ),
    AMOUNTS, AMOUNTS, st.floats(0.0, 1.0), st.floats(0.0, 2 * math.pi),
)  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from([-2.0, -0.5, 0.0, 1.0, 3.0]), vectors), min_size=1, max_size=8))
def test_a_sums_half_width_lies_between_quadrature_and_the_plain_sum(terms: list[tuple[float, Energy]]) -> None:
    found = random_of_sum(terms)
    halves = [abs(weight) * one.random_j for weight, one in terms]
    assert math.hypot(*halves) * (1 - 1e-9) - 1e-9 <= found.half_j <= math.fsum(halves) * (1 + 1e-9) + 1e-9
    assert math.hypot(found.in_step_cos_j, found.in_step_sin_j) <= math.fsum(halves) * (1 + 1e-9) + 1e-9


@given(st.lists(vectors, min_size=2, max_size=8), st.data())
def test_a_sum_of_sums_is_no_narrower_than_the_sum_of_all(parts: list[Energy], data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(parts) - 1))
    halves = [sum_part(some, [1.0] * len(some)) for some in (parts[:cut], parts[cut:])]
    at_once, in_two = sum_part(parts, [1.0] * len(parts)), sum_part(halves, [1.0, 1.0])
    assert isinstance(at_once, Energy)
    assert isinstance(in_two, Energy)
    assert in_two.random_j >= at_once.random_j * (1 - 1e-9) - 1e-9
    assert in_two.in_step_cos_j == pytest.approx(at_once.in_step_cos_j, abs=1e-9)


def test_vectors_that_point_one_way_add_up_and_those_that_scatter_do_not() -> None:
    alike = sum_part([pointing(0.7)] * BURSTS, [0.1] * BURSTS)
    scattered = sum_part([pointing(2 * math.pi * k / BURSTS) for k in range(BURSTS)], [0.1] * BURSTS)
    assert isinstance(alike, Energy)
    assert isinstance(scattered, Energy)
    assert alike.random_j == pytest.approx(50.0)
    assert scattered.random_j == pytest.approx(5.0 * math.sqrt(BURSTS))


def test_a_difference_of_what_is_in_step_cancels_but_never_below_quadrature() -> None:
    assert random_of_sum([(1.0, pointing(0.7)), (-1.0, pointing(0.7))]).half_j == pytest.approx(math.hypot(5.0, 5.0))


def test_another_part_has_its_own_steps() -> None:
    terms = [(1.0, pointing(0.7)), (1.0, pointing(0.7, part="gpu1"))]
    assert random_of_sum(terms).half_j == pytest.approx(math.hypot(5.0, 5.0))


def test_a_baseline_has_no_edges_to_share() -> None:
    idle = IdlePower(
        part="gpu0", value_w=50.0, random_w=2.0, systematic_low_w=0.0, systematic_high_w=0.0,
        basis=Basis.MEASURED, driver="nvml",
    )  # fmt: skip
    assert baseline_energy(pointing(0.7), idle, 2.0).in_step_cos_j == 0.0


Bursts = tuple[Series, StepLoad, list[list[WeightedWindow]]]


def bursts(spacing_ms: float, phase_ms: float, *, is_sharp: bool = False) -> Bursts:
    """Ten stages of 100 ms at 400 W, 80 W between, and a counter of 100 ms read at its own rate; closely, if sharp."""
    begins_ms = 1_000.0 + spacing_ms * np.arange(BURSTS)
    edges_ms = np.concatenate([[0.0], np.stack((begins_ms, begins_ms + 100.0)).T.ravel()])
    load = StepLoad(at(edges_ms), np.array([80.0] + [400.0, 80.0] * BURSTS))
    looks_ms = [np.arange(0.0, 500.0, 4.0), *(np.arange(edge, edge + 110.0, 4.0) for edge in edges_ms)]
    polls_ms = np.arange(0.0, begins_ms[-1] + 2_000.0, 100.0)
    t_ns = np.unique(at(np.concatenate([polls_ms, *looks_ms]) if is_sharp else polls_ms))
    series = step_counter(load, t_ns, phase_ns=round(phase_ms * NS_PER_MS))
    return series, load, [[window(begin / 1e3, begin / 1e3 + 0.1)] for begin in begins_ms.tolist()]


def at(ms: FloatArray) -> IntArray:
    return np.asarray(EPOCH_NS + np.round(ms * NS_PER_MS), dtype=np.int64)


def added(found: Sequence[Energy | Absent]) -> Energy:
    total = sum_part(found, [0.1] * len(found))
    assert isinstance(total, Energy)
    return total


@pytest.mark.parametrize("spacing_ms", [1_000.0, 1_037.0])
def test_the_sum_of_bursts_is_inside_where_quadrature_would_leave_it_out(spacing_ms: float) -> None:
    """Nobody looked closely: all errors have one sign, in step or not."""
    inside, in_quadrature, halves = [], [], []
    for phase_ms in np.arange(0.5, 100.0, 2.0).tolist():
        series, load, owners = bursts(spacing_ms, phase_ms)
        found = estimate_many(series, None, owners).energies
        true_j = sum(load.window_j(one[0].start_ns, one[0].end_ns) for one in owners)
        away_j = abs(added(found).value_j - true_j)
        inside.append(away_j <= added(found).random_j)
        in_quadrature.append(away_j <= math.hypot(*(one.random_j for one in found if isinstance(one, Energy))))
        halves.append(added(found).random_j / true_j)
    assert np.mean(inside) >= 0.95
    assert np.mean(in_quadrature) < 0.8
    assert np.median(halves) < 0.9  # a single burst's own


def test_with_close_looks_only_bursts_in_step_stand_together() -> None:
    widths = {}
    for spacing_ms in (1_000.0, 1_037.0):
        series, _, owners = bursts(spacing_ms, 33.0, is_sharp=True)
        marks_ns = [edge_ns for (one,) in owners for edge_ns in (one.start_ns, one.end_ns)]
        found = estimate_many(series, None, owners, marks_ns=marks_ns).energies
        widths[spacing_ms] = added(found).random_j / sum(one.random_j for one in found if isinstance(one, Energy))
    assert widths[1_000.0] > 0.9
    assert widths[1_037.0] < 0.6


def test_windows_of_one_owner_in_step_are_as_wide_as_their_sum() -> None:
    series, _, owners = bursts(1_000.0, 33.0, is_sharp=True)
    whole = [one for windows in owners for one in windows]
    found = estimate_many(series, None, [*owners, whole]).energies
    total, together = added(found[:-1]), found[-1]
    assert isinstance(together, Energy)
    assert together.random_j == pytest.approx(total.random_j, rel=0.05)
    assert together.in_step_cos_j == pytest.approx(total.in_step_cos_j, rel=1e-6)
    assert together.placing_j == pytest.approx(total.placing_j, rel=1e-6)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_delay_of_power_readings_is_shared_with_its_sign(sign: float) -> None:
    """Stages that begin where power rises lose by a delay that those gain by where it falls."""
    load = StepLoad(at(np.array([0.0, 1_000.0, 5_000.0])), 300.0 + sign * np.array([-100.0, 100.0, 100.0]))
    series = power_readings(load, at(np.arange(0.0, 9_000.0, 100.0)), update_period_ns=100 * NS_PER_MS)
    (found,) = estimate_many(series, None, [[window(0.93, 3.0)]]).energies
    assert isinstance(found, Energy)
    assert found.in_step_cos_j * sign > 0.0
    assert (found.in_step_sin_j, found.placing_j) == (0.0, 0.0)
    assert abs(found.in_step_cos_j) <= found.random_j


def test_windows_that_meet_are_one_stage() -> None:
    series, _, _ = bursts(1_000.0, 33.0)
    cut, whole = ([window(1.0, 1.04), window(1.04, 1.1)], [window(1.0, 1.1)])
    one, other = estimate_many(series, None, [cut, whole]).energies
    assert isinstance(one, Energy)
    assert isinstance(other, Energy)
    assert one.in_step_cos_j == pytest.approx(other.in_step_cos_j)
