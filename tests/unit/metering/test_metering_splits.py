"""Steps of load inside a counter's steps: found from levels, energy and stages' marks, never at the cost of energy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillwatt.metering.attribute import WeightedWindow
from stillwatt.metering.cumulate import cumulate
from stillwatt.metering.curve import Curve
from stillwatt.metering.estimate import estimate, estimate_many
from stillwatt.metering.levels import Levels
from stillwatt.metering.series import Series
from stillwatt.metering.splits import split_steps
from stillwatt.records import Energy, Role
from stillwatt.units import NS_PER_MS
from strategies import EPOCH_NS, StepLoad, power_channel, step_counter

STEP_MS = 100.0
LOOKS = ((0.0, 600.0, 4.0),)


def at(ms: float) -> int:
    return EPOCH_NS + round(ms * NS_PER_MS)


def load(*levels: tuple[float, float]) -> StepLoad:
    """Levels as (from ms, watts)."""
    return StepLoad(np.array([at(start) for start, _ in levels], dtype=np.int64), np.array([w for _, w in levels]))


def read(
    trace: StepLoad, marks_ms: Sequence[float] = (), *, averaging_ms: float | None = 25.0, late_ms: float = 0.0
) -> tuple[Series, Series | None]:
    """A counter in steps of 100 ms at 50, 150, … ms, read every 100 ms and closely at marks, and its witness."""
    spans = [np.arange(0.0, 5_000.0, 100.0)]
    spans += [np.arange(start, end, every) for start, end, every in LOOKS]
    spans += [np.arange(mark, mark + 110.0, 4.0) for mark in marks_ms]
    t_ns = np.unique((EPOCH_NS + np.concatenate(spans) * NS_PER_MS).astype(np.int64))
    counter = step_counter(trace, t_ns, phase_ns=50 * NS_PER_MS)
    if averaging_ms is None:
        return counter, None
    window_ns = round(averaging_ms * NS_PER_MS)
    origin_ns = at(50.0 + late_ms)
    ends_ns = origin_ns + (t_ns - origin_ns) // (100 * NS_PER_MS) * (100 * NS_PER_MS)
    watts = (trace.energy_j(ends_ns) - trace.energy_j(ends_ns - window_ns)) / (window_ns / 1e9)
    channel = power_channel(averaging_ns=window_ns, role=Role.WITNESS)
    return counter, Series(channel, t_ns, watts)


def error_j(
    trace: StepLoad, start_ms: float, end_ms: float, *, is_marked: bool = True, **witness: float | None
) -> float:
    """What the estimate of one stage is off."""
    counter, beside = read(trace, (start_ms, end_ms), **witness)  # type: ignore[arg-type]
    marks = (at(start_ms), at(end_ms)) if is_marked else ()
    energy = estimate(counter, beside, [WeightedWindow(at(start_ms), at(end_ms))], marks_ns=marks)
    assert isinstance(energy, Energy)
    wrong_j = energy.value_j - trace.window_j(at(start_ms), at(end_ms))
    assert abs(wrong_j) <= energy.random_j + 0.002
    return wrong_j


def test_a_step_anywhere_is_found_from_the_levels_of_a_sharp_witness() -> None:
    """Stage from 1000 ms; the load steps at 1020 ms, inside the counter's step from 950 to 1050 ms."""
    trace = load((0, 80.0), (1_020, 400.0))
    assert abs(error_j(trace, 1_000, 3_000)) < 0.8
    straight_j = 320.0 * 0.03 - 320.0 * 0.03 * 0.5
    assert straight_j > 4


def test_a_step_is_found_from_the_steps_beside_where_there_is_no_witness() -> None:
    trace = load((0, 80.0), (1_020, 400.0))
    assert abs(error_j(trace, 1_000, 3_000, averaging_ms=None)) < 0.8


def test_a_witness_that_is_renewed_at_other_times_is_not_taken_for_levels() -> None:
    trace = load((0, 80.0), (700, 300.0), (1_020, 80.0), (1_500, 350.0), (2_000, 80.0), (2_400, 200.0))
    assert abs(error_j(trace, 1_000, 3_000, late_ms=40.0)) < 3.0


def test_a_slow_witness_tells_no_levels() -> None:
    trace = load((0, 80.0), (1_020, 400.0))
    assert abs(error_j(trace, 1_000, 3_000, averaging_ms=1_000.0)) < 0.8


@pytest.mark.parametrize("offset_ms", [3, 20, 37, 45, 55, 80, 97])
@pytest.mark.parametrize("averaging_ms", [25.0, None])
def test_a_burst_that_is_a_stage_keeps_its_joules_at_any_phase(offset_ms: float, averaging_ms: float | None) -> None:
    """100 ms at 400 W over 80 W: without marks and levels 28 % of its 40 J are lost."""
    start_ms = 1_000 + offset_ms
    trace = load((0, 80.0), (start_ms, 400.0), (start_ms + 100, 80.0))
    assert abs(error_j(trace, start_ms, start_ms + 100, averaging_ms=averaging_ms)) < 0.05 * 40


def test_a_pulse_between_two_marks_inside_one_step_is_theirs() -> None:
    trace = load((0, 80.0), (1_070, 400.0), (1_120, 80.0))
    assert abs(error_j(trace, 1_070, 1_120)) < 1.5


def test_marks_move_nothing_where_the_load_did_not_change() -> None:
    trace = load((0, 200.0))
    for marks in ((1_010.0, 1_040.0), (1_010.0, 2_500.0)):
        assert error_j(trace, *marks) == pytest.approx(0.0, abs=0.5)


def test_marks_move_nothing_where_a_single_step_explains_the_energy() -> None:
    """Two marks in one step, and a single step of load beside them."""
    trace = load((0, 80.0), (1_090, 400.0))
    assert abs(error_j(trace, 1_060, 1_075)) < 1.5


def test_a_mark_in_a_step_of_load_elsewhere_is_not_the_step() -> None:
    trace = load((0, 80.0), (1_030, 400.0))
    counter, beside = read(trace, (1_000.0, 3_000.0))
    with_marks = cumulate(counter, None, None, (at(1_000.0), at(3_000.0)))
    without = cumulate(counter)
    assert isinstance(with_marks, Curve)
    assert isinstance(without, Curve)
    assert with_marks.x_ns.tolist() == without.x_ns.tolist()
    assert beside is not None


def marked_error_j(trace: StepLoad, marks_ms: Sequence[float], *, averaging_ms: float | None = 25.0) -> float:
    """What the stage from the first mark to 3000 ms is off where there are other marks."""
    counter, beside = read(trace, (*marks_ms, 3_000.0), averaging_ms=averaging_ms)
    marks_ns = [at(ms) for ms in (*marks_ms, 3_000.0)]
    energy = estimate(counter, beside, [WeightedWindow(marks_ns[0], marks_ns[-1])], marks_ns=marks_ns)
    assert isinstance(energy, Energy)
    return energy.value_j - trace.window_j(marks_ns[0], marks_ns[-1])


def test_a_blurred_witness_bears_out_a_step_at_a_mark() -> None:
    """The step at 1040 ms lies in the 25 ms before the counter's, and two marks in the next step hide what follows."""
    trace = load((0, 80.0), (1_040, 400.0))
    assert abs(marked_error_j(trace, (1_040.0, 1_070.0, 1_080.0))) < 0.8


def test_a_step_that_nothing_bears_out_stays_where_the_neighbours_put_it() -> None:
    trace = load((0, 80.0), (1_020, 400.0))
    assert abs(marked_error_j(trace, (1_020.0, 1_070.0, 1_120.0), averaging_ms=None)) < 0.8


def test_what_two_marks_hide_before_a_step_bears_nothing_out() -> None:
    trace = load((0, 80.0), (1_020, 400.0))
    counter, _ = read(trace, (870.0, 890.0, 1_020.0, 3_000.0), averaging_ms=None)
    marks_ns = [at(ms) for ms in (870.0, 890.0, 1_020.0, 3_000.0)]
    energy = estimate(counter, None, [WeightedWindow(at(1_020.0), at(3_000.0))], marks_ns=marks_ns)
    assert isinstance(energy, Energy)
    assert abs(energy.value_j - trace.window_j(at(1_020.0), at(3_000.0))) <= energy.random_j


@pytest.mark.parametrize("mark_ms", [1_048.2, 1_048.7, 1_049.2, 1_049.7, 1_050.2])
def test_a_mark_at_the_counters_step_is_in_none_of_them(mark_ms: float) -> None:
    trace = load((0, 80.0), (mark_ms, 400.0))
    assert abs(marked_error_j(trace, (mark_ms,))) < 1.0


def test_marks_at_knots_and_in_what_was_not_read_split_nothing() -> None:
    curve = cumulate(read(load((0, 80.0), (1_020, 400.0)))[0])
    assert isinstance(curve, Curve)
    unknown = np.full(curve.power_w.size, np.nan)
    levels = Levels(unknown, unknown, np.zeros(unknown.size, dtype=np.bool_), 0)
    marks_ns = np.array([int(curve.x_ns[0] + curve.x_ns[1]) // 2, int(curve.x_ns[10]) + 100])
    assert split_steps(curve, levels, marks_ns, 100 * NS_PER_MS) is curve


def test_marks_that_no_card_could_fill_move_nothing() -> None:
    """A pulse beside two marks 2 ms apart: between them it would have been 4.9 kW."""
    trace = load((0, 80.0), (1_060, 400.0), (1_090, 80.0))
    assert abs(error_j(trace, 1_100, 1_102)) < 1.0


def errors_j(trace: StepLoad, starts_ms: Sequence[float], *, late_ms: float = 0.0) -> list[float]:
    """What stages of 100 ms are off that are measured in one session, each edge told `late_ms` late or early in turns.

    The latter blurs the knots: the marks are where they are, the close looks show steps at other times.
    """
    edges_ms = [edge for start in starts_ms for edge in (start, start + 100.0)]
    counter, _ = read(trace, edges_ms, averaging_ms=None)
    if late_ms:
        moved_ns = np.where(np.arange(counter.t_ns.size) % 2 == 0, 1, -1) * round(late_ms * NS_PER_MS)
        counter = replace(counter, t_ns=np.maximum.accumulate(counter.t_ns + moved_ns) + np.arange(counter.t_ns.size))
    windows = [[WeightedWindow(at(start), at(start + 100.0))] for start in starts_ms]
    energies = estimate_many(counter, None, windows, marks_ns=[at(edge) for edge in edges_ms]).energies
    return [
        energy.value_j - trace.window_j(at(start), at(start + 100.0))
        for energy, start in zip(energies, starts_ms, strict=True)
        if isinstance(energy, Energy)
    ]


def bursts(starts_ms: Sequence[float]) -> StepLoad:
    return load((0, 80.0), *[level for start in starts_ms for level in ((start, 400.0), (start + 100.0, 80.0))])


@pytest.mark.parametrize("offset_ms", [38.0, 42.0, 58.0, 62.0])
def test_a_burst_that_begins_near_a_step_keeps_its_joules_though_the_steps_time_is_blurred(offset_ms: float) -> None:
    """Of 8 ms at 400 W, 1.5 ms are not known: both sides of the step give unlike levels, together the right one."""
    starts_ms = [1_000.0 + 500.0 * k + offset_ms for k in range(6)]
    assert np.max(np.abs(errors_j(bursts(starts_ms), starts_ms, late_ms=1.5))) < 0.04 * 40


def test_marks_of_stages_that_the_load_does_not_heed_are_not_used() -> None:
    """The load steps where it likes: levels that agree with a mark do so by chance."""
    rng = np.random.default_rng(7)
    ms = np.cumsum(rng.uniform(50, 300, 40))
    trace = load(*zip(ms.tolist(), rng.uniform(20, 700, 40).tolist(), strict=True))
    starts_ms = (800.0 + 437.0 * np.arange(9)).tolist()
    counter, _ = read(trace, [edge for start in starts_ms for edge in (start, start + 100)], averaging_ms=None)
    marks_ns = [at(edge) for start in starts_ms for edge in (start, start + 100)]
    marked, unmarked = cumulate(counter, marks_ns=marks_ns), cumulate(counter)
    assert isinstance(marked, Curve)
    assert isinstance(unmarked, Curve)
    assert marked.x_ns.tolist() == unmarked.x_ns.tolist()


def test_what_a_borne_out_mark_leaves_open_is_less_than_all_that_could_be_misplaced() -> None:
    starts_ms = [1_000.0, 2_000.0, 3_000.0]
    counter, _ = read(bursts(starts_ms), [edge for start in starts_ms for edge in (start, start + 100)])
    marks_ns = [at(edge) for start in starts_ms for edge in (start, start + 100)]
    (told,) = estimate_many(counter, None, [[WeightedWindow(at(2_000), at(2_100))]], marks_ns=marks_ns).energies
    (untold,) = estimate_many(counter, None, [[WeightedWindow(at(2_000), at(2_100))]]).energies
    assert isinstance(told, Energy)
    assert isinstance(untold, Energy)
    assert told.random_j < 0.15 * 40 < untold.random_j


def rarely_read(trace: StepLoad, every_ms: float, step_ms: float, marks_ms: Sequence[float]) -> Energy:
    """The stage between the first two marks, of a counter that nobody looked at when the stages began and ended."""
    t_ns = EPOCH_NS + (np.arange(0.0, 10_000.0, every_ms) * NS_PER_MS).astype(np.int64)
    counter = step_counter(
        trace, t_ns, step_ns=round(step_ms * NS_PER_MS), sampling_period_ns=round(every_ms * NS_PER_MS)
    )
    windows = [WeightedWindow(at(marks_ms[0]), at(marks_ms[1]))]
    energy = estimate(counter, None, windows, marks_ns=[at(ms) for ms in marks_ms])
    assert isinstance(energy, Energy)
    return energy


@pytest.mark.parametrize(("every_ms", "step_ms"), [(100.0, 1.0), (1_000.0, 20.0)])
def test_a_counter_that_is_read_more_rarely_than_it_steps_has_its_load_begin_with_the_stage(
    every_ms: float, step_ms: float
) -> None:
    start_ms, end_ms = 3_000.0 + 0.33 * every_ms, 7_000.0 + 0.61 * every_ms
    trace = load((0, 60.0), (start_ms, 400.0), (end_ms, 60.0))
    energy = rarely_read(trace, every_ms, step_ms, (start_ms, end_ms))
    off_j = energy.value_j - trace.window_j(at(start_ms), at(end_ms))
    assert (
        abs(off_j) < 0.1 * 340.0 * every_ms / 1_000
    )  # straight lines lose 0.46 of it: 0.22 at the start, 0.24 at the end
    assert abs(off_j) <= energy.random_j


@pytest.mark.parametrize(
    ("start_ms", "end_ms"), [(2_400.0, 2_500.0), (2_900.0, 3_100.0), (2_700.0, 3_400.0), (2_050.0, 2_350.0)]
)
@pytest.mark.parametrize("resting_w", [60.0, 400.0])
def test_stages_between_two_readings_may_have_drawn_all_that_is_there(
    start_ms: float, end_ms: float, resting_w: float
) -> None:
    """And rests nothing: other marks beside them leave no interval that shows either's level."""
    trace = load((0, resting_w), (start_ms, 460.0 - resting_w), (end_ms, resting_w))
    energy = rarely_read(trace, 1_000.0, 20.0, (start_ms, end_ms, 1_500.0, 3_600.0))
    late_j = 400.0 * 0.01  # a reading shows what was drawn up to an update, up to 20 ms before it
    assert abs(energy.value_j - trace.window_j(at(start_ms), at(end_ms))) <= energy.random_j + late_j


@settings(max_examples=60, deadline=None)
@given(
    levels=st.lists(st.floats(20.0, 700.0), min_size=3, max_size=12),
    dwell_ms=st.floats(30.0, 400.0),
    marks_ms=st.lists(st.floats(200.0, 4_500.0), min_size=0, max_size=8, unique=True),
    averaging_ms=st.sampled_from([10.0, 25.0, 100.0, None]),
)
def test_splits_keep_the_energy_of_every_step_and_power_at_or_above_zero(
    levels: list[float], dwell_ms: float, marks_ms: list[float], averaging_ms: float | None
) -> None:
    trace = load(*[(k * dwell_ms, watts) for k, watts in enumerate(levels)])
    counter, beside = read(trace, marks_ms, averaging_ms=averaging_ms)
    witness = cumulate(beside) if beside is not None else None
    plain = cumulate(counter)
    split = cumulate(counter, witness if isinstance(witness, Curve) else None, beside, [at(ms) for ms in marks_ms])
    assert isinstance(plain, Curve)
    assert isinstance(split, Curve)
    updates_ns = np.intersect1d(plain.x_ns, split.x_ns)
    assert updates_ns.size >= plain.x_ns.size - 40
    np.testing.assert_allclose(split.energy_at(updates_ns), split.energy_j[np.searchsorted(split.x_ns, updates_ns)])
    assert np.all(np.diff(split.x_ns) > 0)
    assert np.all(split.power_w >= -1e-6)
    assert np.all(np.diff(split.energy_j) >= -1e-6)
    np.testing.assert_allclose(np.diff(split.energy_j), split.mean_w * split.length_s, atol=1e-5)
