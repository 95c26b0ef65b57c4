from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stillwatt.metering.series import Series
from stillwatt.metering.updates import find_updates
from stillwatt.units import NS_PER_MS, NS_PER_S
from strategies import EPOCH_NS, StepLoad, channel, step_counter

LOAD = StepLoad(np.array([EPOCH_NS]), np.array([300.0]))


def times(*spans: tuple[float, float, float]) -> np.ndarray:
    """Reading times from (start, end, every) in milliseconds after the trace's start."""
    found = [np.arange(start, end, every) for start, end, every in spans]
    return np.unique((EPOCH_NS + np.concatenate(found) * NS_PER_MS).astype(np.int64))


def no_breaks(series: Series) -> np.ndarray:
    return np.zeros(series.t_ns.size - 1, dtype=np.bool_)


def true_updates(step_ms: float, phase_ms: float, length_s: float) -> np.ndarray:
    return EPOCH_NS + ((phase_ms + np.arange(0, length_s * 1e3 / step_ms) * step_ms) * NS_PER_MS).astype(np.int64)


@settings(max_examples=40, deadline=None)
@given(
    step_ms=st.floats(90.0, 110.0),
    phase_ms=st.floats(0.0, 90.0),
    edges_ms=st.lists(st.floats(1_000, 9_000), min_size=1, max_size=6),
)
# looks that begin or end just at an update see it less sharply than others; their blur is no jitter of the counter's
@example(step_ms=90.0, phase_ms=35.0, edges_ms=[2172.0, 2645.0])
@example(step_ms=90.0, phase_ms=15.0, edges_ms=[1134.0, 6009.0, 3885.0, 8086.0, 3467.0])
@example(step_ms=92.43756343117079, phase_ms=19.952053468994578, edges_ms=[4919.8865, 5549.7871, 3573.591, 7620.4959])
def test_every_update_lies_within_its_bounds_and_near_edges_they_are_sharp(
    step_ms: float, phase_ms: float, edges_ms: list[float]
) -> None:
    looks = [(0.0, 500.0, 4.0)] + [(edge, edge + 1.2 * step_ms, 4.0) for edge in edges_ms]
    t_ns = times((0.0, 10_000.0, 100.0), *looks)
    series = step_counter(
        LOAD, t_ns, phase_ns=round(phase_ms * NS_PER_MS), step_ns=round(step_ms * NS_PER_MS), update_period_ns=10**8
    )
    found = find_updates(series, no_breaks(series))
    true_ns = true_updates(step_ms, phase_ms, 11)
    nearest = true_ns[np.argmin(np.abs(found.x_ns[1:, None] - true_ns[None, :]), axis=1)]
    assert np.all(np.abs(found.x_ns[1:] - nearest) <= found.half_ns[1:] + 1)
    assert found.period_ns == pytest.approx(step_ms * NS_PER_MS, rel=0.03)
    for edge_ms in edges_ms:
        after = int(np.searchsorted(found.x_ns, EPOCH_NS + edge_ms * NS_PER_MS))
        if after < found.x_ns.size - 1:
            assert found.half_ns[after] <= 0.08 * step_ms * NS_PER_MS
            assert found.half_ns[after - 1] <= 0.2 * step_ms * NS_PER_MS


@pytest.mark.parametrize(("phase_ms", "from_ms", "to_ms"), [(2.0, -250, 150), (4.0, -250, 150), (97.0, -150, 250)])
def test_beside_an_update_that_was_seen_sharply_none_is_taken_for_one_half_a_period_away(
    phase_ms: float, from_ms: float, to_ms: float
) -> None:
    """Read at the counter's own rate, just before or after its steps, only the neighbour tells which update it was."""
    edges_ms = 1_050.0 + 1_000.0 * np.arange(8)
    looks = [(0.0, 500.0, 4.0), *((edge, edge + 110.0, 4.0) for edge in edges_ms.tolist())]
    t_ns = times((0.0, 9_500.0, 100.0), *looks)
    t_ns = np.unique(t_ns + np.random.default_rng(1).integers(0, NS_PER_MS, t_ns.size))
    series = step_counter(LOAD, t_ns, phase_ns=round(phase_ms * NS_PER_MS))
    found = find_updates(series, no_breaks(series))
    true_ns = true_updates(100.0, phase_ms, 11)
    for edge_ms in edges_ms:
        away_ms = (found.x_ns - EPOCH_NS) / NS_PER_MS - edge_ms
        near = (away_ms > from_ms) & (away_ms < to_ms)
        off_ns = np.min(np.abs(found.x_ns[near, None] - true_ns[None, :]), axis=1)
        assert np.count_nonzero(near) == 4
        assert np.max(off_ns) <= 12 * NS_PER_MS
        assert np.all(off_ns <= found.half_ns[near])


def test_a_faster_rhythm_than_declared_is_found() -> None:
    t_ns = times((0.0, 5_000.0, 100.0), (0.0, 500.0, 2.0))
    series = step_counter(LOAD, t_ns, step_ns=20 * NS_PER_MS, update_period_ns=100 * NS_PER_MS)
    assert find_updates(series, no_breaks(series)).period_ns == pytest.approx(20 * NS_PER_MS, rel=0.02)


def test_without_sharp_sightings_there_is_no_rhythm_and_bounds_stay_wide() -> None:
    t_ns = times((0.0, 5_000.0, 100.0))
    series = step_counter(LOAD, t_ns, phase_ns=37 * NS_PER_MS)
    found = find_updates(series, no_breaks(series))
    assert np.median(found.half_ns) == pytest.approx(50 * NS_PER_MS, rel=0.1)


def irregular(rng: np.random.Generator, stray_ms: float) -> Series:
    """A counter whose steps stray from 100 ms, seen every 4 ms for two seconds and every 100 ms after."""
    t_ns = times((0.0, 2_000.0, 4.0), (2_000.0, 6_000.0, 100.0))
    steps_ns = EPOCH_NS + np.cumsum(rng.uniform(100 - stray_ms, 100 + stray_ms, 80) * NS_PER_MS).astype(np.int64)
    shown = np.searchsorted(steps_ns, t_ns)
    return Series(channel(unit_si=1.0), t_ns, shown.astype(np.float64))


def test_steps_without_a_rhythm_keep_the_bounds_that_readings_give() -> None:
    series = irregular(np.random.default_rng(3), 60.0)
    found = find_updates(series, no_breaks(series))
    assert found.period_ns == 100 * NS_PER_MS
    assert np.median(found.half_ns[series.t_ns[found.first] > EPOCH_NS + 2 * NS_PER_S + 10**8]) >= 40 * NS_PER_MS


def test_jitter_widens_what_the_rhythm_narrows() -> None:
    rng = np.random.default_rng(4)
    t_ns = times((0.0, 2_000.0, 4.0), (2_000.0, 6_000.0, 97.0))
    halves = []
    for stray_ms in (0.0, 5.0):
        steps_ns = true_updates(100.0, 20.0, 7.0) + (rng.normal(0, stray_ms, 70) * NS_PER_MS).astype(np.int64)
        series = Series(channel(unit_si=1.0), t_ns, np.searchsorted(steps_ns, t_ns).astype(np.float64))
        found = find_updates(series, no_breaks(series))
        blurred = series.t_ns[found.first] > EPOCH_NS + 2_200 * NS_PER_MS
        halves.append(float(np.median(found.half_ns[blurred])))
        nearest_ns = steps_ns[np.argmin(np.abs(found.x_ns[blurred][:, None] - steps_ns[None, :]), axis=1)]
        assert np.mean(np.abs(found.x_ns[blurred] - nearest_ns) <= found.half_ns[blurred]) >= 0.9
    assert halves[0] < 0.5 * halves[1]


def test_a_sharp_pair_alone_is_no_rhythm() -> None:
    t_ns = times((0.0, 3_000.0, 100.0), (1_000.0, 1_110.0, 4.0))
    series = step_counter(LOAD, t_ns, phase_ns=37 * NS_PER_MS)
    found = find_updates(series, no_breaks(series))
    assert np.count_nonzero(found.half_ns < 10 * NS_PER_MS) <= 2


def test_pairs_too_far_apart_to_count_the_periods_between_are_left_out() -> None:
    """Two looks at one step each, an hour apart: nobody can count 36,000 periods of a length known to a percent."""
    looks = [(start, start + 120.0, 4.0) for start in (0.0, 2_000_000.0, 4_000_000.0)]
    t_ns = times(*looks, (0.0, 300.0, 100.0))
    series = step_counter(LOAD, t_ns, step_ns=101 * NS_PER_MS, update_period_ns=100 * NS_PER_MS)
    assert find_updates(series, no_breaks(series)).period_ns >= 100 * NS_PER_MS


def test_looks_too_far_apart_give_no_rhythm() -> None:
    looks = [(start, start + 104.0, 4.0) for start in (0.0, 40_000.0, 81_000.0)]
    series = step_counter(LOAD, times(*looks), phase_ns=50 * NS_PER_MS)
    found = find_updates(series, no_breaks(series))
    assert found.period_ns == 100 * NS_PER_MS


def test_a_counter_that_stands_longer_than_declared_is_taken_at_its_changes() -> None:
    series = step_counter(LOAD, times((0.0, 8_000.0, 100.0)), step_ns=400 * NS_PER_MS, update_period_ns=100 * NS_PER_MS)
    assert find_updates(series, no_breaks(series)).period_ns == pytest.approx(400 * NS_PER_MS, rel=0.01)


def test_a_rhythm_too_fast_for_the_looks_narrows_nothing() -> None:
    t_ns = times((0.0, 5_000.0, 100.0), (0.0, 500.0, 4.0))
    series = step_counter(LOAD, t_ns, step_ns=12 * NS_PER_MS, update_period_ns=100 * NS_PER_MS)
    found = find_updates(series, no_breaks(series))
    assert found.period_ns < 20 * NS_PER_MS
    assert np.all(found.half_ns >= 1.9 * NS_PER_MS)
