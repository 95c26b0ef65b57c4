from __future__ import annotations

import re

import numpy as np
import pytest

from stillwatt.metering.account import SessionInput, account_session
from stillwatt.metering.checks import beat_half_w, looks_away
from stillwatt.metering.cumulate import cumulate
from stillwatt.metering.curve import Curve
from stillwatt.metering.estimate import estimate
from stillwatt.metering.series import Series
from stillwatt.records import Absent, Energy, Role, StageWindow
from stillwatt.units import NS_PER_MS, NS_PER_S
from strategies import EPOCH_NS, StepLoad, poll_times, power_channel, step_counter, window

CONSTANT = StepLoad(np.array([EPOCH_NS]), np.array([200.0]))


def square(period_ms: float, length_s: float, high_w: float = 400.0, low_w: float = 80.0) -> StepLoad:
    halves = np.arange(0, int(length_s * 2_000 / period_ms), dtype=np.int64)
    steps_ns = EPOCH_NS + (halves * period_ms / 2 * NS_PER_MS).astype(np.int64)
    return StepLoad(steps_ns, np.where(halves % 2 == 0, high_w, low_w))


def part_time(
    load: StepLoad, t_ns: np.ndarray, *, averaging_ms: int = 25, scale: float = 1.0, **changes: object
) -> Series:
    """An instrument that is renewed every 100 ms and looks at the last `averaging_ms` of them."""
    ends_ns = EPOCH_NS + (t_ns - EPOCH_NS) // (100 * NS_PER_MS) * (100 * NS_PER_MS)
    window_ns = averaging_ms * NS_PER_MS
    watts = (load.energy_j(ends_ns) - load.energy_j(ends_ns - window_ns)) / (window_ns / NS_PER_S) * scale
    return Series(power_channel(averaging_ns=window_ns, **changes), t_ns, watts)


def measured(ledger: Series, witness: Series | None, start_s: float, end_s: float) -> Energy:
    energy = estimate(ledger, witness, [window(start_s, end_s)])
    assert isinstance(energy, Energy)
    return energy


def test_counter_and_power_that_agree_are_not_flagged() -> None:
    t_ns = poll_times(np.random.default_rng(1), 20.0)
    assert measured(step_counter(CONSTANT, t_ns), part_time(CONSTANT, t_ns, role=Role.WITNESS), 3, 15).flags == ()


def test_counter_and_power_that_do_not_are_flagged_with_both_numbers() -> None:
    t_ns = poll_times(np.random.default_rng(1), 20.0)
    witness = part_time(CONSTANT, t_ns, averaging_ms=100, scale=1.75, role=Role.WITNESS)
    energy = measured(step_counter(CONSTANT, t_ns), witness, 3, 15)
    assert energy.value_j == pytest.approx(2_400, rel=0.01)
    (flag,) = energy.flags
    assert flag.startswith("witness-disagrees: the counter gives 24")
    assert "power 42" in flag


def test_streams_that_disagree_are_called_what_they_are() -> None:
    t_ns = poll_times(np.random.default_rng(1), 20.0)
    booked = part_time(CONSTANT, t_ns, averaging_ms=100, scale=1.75)
    (flag,) = measured(booked, step_counter(CONSTANT, t_ns), 3, 15).flags
    assert flag.startswith("witness-disagrees: power gives 42")
    assert "and the counter 24" in flag
    other = part_time(CONSTANT, t_ns, averaging_ms=100, role=Role.WITNESS, driver="plug")
    (flag,) = measured(booked, other, 3, 15).flags
    assert re.match(r"witness-disagrees: power of \S+ gives 42\d\d J and power of plug 24", flag)


def test_gains_may_explain_a_difference() -> None:
    t_ns = poll_times(np.random.default_rng(1), 20.0)
    counter = step_counter(CONSTANT, t_ns, gain_low_rel=0.05, gain_high_rel=0.05)
    witness = part_time(CONSTANT, t_ns, averaging_ms=100, scale=1.08, role=Role.WITNESS, gain_high_rel=0.05)
    assert measured(counter, witness, 3, 15).flags == ()


def test_a_witness_with_holes_accuses_nobody() -> None:
    t_ns = poll_times(np.random.default_rng(1), 20.0)
    witness = part_time(CONSTANT, t_ns, scale=1.75, role=Role.WITNESS)
    kept = (t_ns < EPOCH_NS + 2 * NS_PER_S) & True
    holed = Series(witness.channel, t_ns[kept], witness.count[kept])
    assert measured(step_counter(CONSTANT, t_ns), holed, 3, 15).flags == ()


def test_a_load_that_beats_with_a_part_time_witness_is_aliased_and_all_edges_widened() -> None:
    t_ns = poll_times(np.random.default_rng(2), 30.0)
    load = square(100.0 / 1.001, 32.0)
    counter = step_counter(load, t_ns, phase_ns=20 * NS_PER_MS)
    flagged = measured(counter, part_time(load, t_ns, role=Role.WITNESS), 3, 9)
    assert [flag.partition(":")[0] for flag in flagged.flags] == ["aliased"]
    assert "looks at 25 of every 100 ms" in flagged.flags[0]
    alone = measured(counter, None, 3, 9)
    assert flagged.value_j == pytest.approx(alone.value_j, rel=0.01)
    assert flagged.random_j > alone.random_j + 10


def test_a_beat_without_a_counter_is_flagged_and_its_interval_holds_the_truth() -> None:
    t_ns = poll_times(np.random.default_rng(3), 40.0, period_ns=50 * NS_PER_MS)
    for period_ms in (99.0, 98.0, 96.0):
        load = square(period_ms, 42.0)
        for start_s, end_s in ((3.0, 5.0), (7.3, 13.0), (20.0, 31.0)):
            energy = measured(part_time(load, t_ns), None, start_s, end_s)
            assert [flag.partition(":")[0] for flag in energy.flags] == ["aliased"]
            true_j = load.window_j(EPOCH_NS + int(start_s * 1e9), EPOCH_NS + int(end_s * 1e9))
            assert energy.low_j <= true_j <= energy.high_j


def test_steps_and_constants_and_whole_time_instruments_are_not_flagged() -> None:
    t_ns = poll_times(np.random.default_rng(4), 40.0, period_ns=50 * NS_PER_MS)
    assert measured(part_time(square(3_000.0, 42.0), t_ns), None, 3, 30).flags == ()
    assert measured(part_time(CONSTANT, t_ns), None, 3, 30).flags == ()
    assert measured(part_time(square(99.0, 42.0), t_ns, averaging_ms=100), None, 3, 30).flags == ()


def test_a_small_swing_is_no_matter() -> None:
    slow = 300.0 + 25.0 * np.sin(np.arange(200) / 3)
    assert beat_half_w(slow, slow) is None
    assert beat_half_w(300.0 + 10 * (slow - 300.0), slow) is not None


def test_too_little_says_nothing() -> None:
    assert beat_half_w(np.array([]), np.array([])) is None
    assert beat_half_w(np.array([1.0, 400.0, 1.0]), np.array([1.0])) is None
    few = np.array([80.0, 400.0] * 4)
    assert beat_half_w(few, few) is None


def test_what_is_not_known_looks_away_from_nothing() -> None:
    assert not looks_away(power_channel())
    assert not looks_away(power_channel(averaging_ns=0))
    assert looks_away(power_channel(averaging_ns=25 * NS_PER_MS))


def test_no_readings_are_absent_and_not_flagged() -> None:
    empty = Series(power_channel(averaging_ns=25 * NS_PER_MS), np.array([], dtype=np.int64), np.array([]))
    assert isinstance(estimate(empty, None, [window(1, 2)]), Absent)


def test_a_session_says_once_how_many_stages_are_flagged() -> None:
    t_ns = poll_times(np.random.default_rng(1), 20.0)
    witness = part_time(CONSTANT, t_ns, averaging_ms=100, scale=1.75, role=Role.WITNESS)
    stages = [
        StageWindow(session="s", stage_id=f"a{k}", parent_id=None, start_ns=start, end_ns=start + 4 * NS_PER_S)
        for k, start in enumerate((EPOCH_NS + 2 * NS_PER_S, EPOCH_NS + 8 * NS_PER_S))
    ]
    account = account_session(
        SessionInput(
            windows=stages,
            start_ns=EPOCH_NS + NS_PER_S,
            end_ns=EPOCH_NS + 15 * NS_PER_S,
            series={"gpu0": (step_counter(CONSTANT, t_ns), witness)},
            absent=(Absent(part="cpu0", boundary=witness.channel.boundary, reason="none"),),
        )
    )
    flagged = [note for note in account.notes if "witness-disagrees" in note]
    assert len(flagged) == 1
    assert flagged[0].startswith("gpu0: 2 stages witness-disagrees: the counter gives")


def test_a_smoothing_instrument_is_centred_and_its_edges_are_wide() -> None:
    """A one-second average: the step's place is right to its middle, and the interval reaches over the smoothing."""
    load = StepLoad(np.array([EPOCH_NS, EPOCH_NS + 10 * NS_PER_S]), np.array([100.0, 500.0]))
    t_ns = poll_times(np.random.default_rng(5), 20.0)
    smooth = part_time(load, t_ns, averaging_ms=1_000)
    energy = measured(smooth, None, 10.0, 15.0)
    assert abs(energy.value_j - 2_500.0) <= energy.random_j
    assert energy.random_j > 30
    assert abs(energy.value_j - 2_500.0) < 0.15 * 400
    calm = measured(smooth, None, 3.0, 7.0)
    assert calm.random_j < 0.06 * calm.value_j  # what may swing unseen inside a second, at both edges of four


@pytest.mark.parametrize("is_stamped", [True, False])
def test_readings_with_the_instruments_own_time_are_not_moved_back(is_stamped: bool) -> None:
    load = StepLoad(np.array([EPOCH_NS, EPOCH_NS + 10 * NS_PER_S]), np.array([100.0, 500.0]))
    t_ns = EPOCH_NS + np.arange(0, 20_000, 20, dtype=np.int64) * NS_PER_MS
    watts = (load.energy_j(t_ns) - load.energy_j(t_ns - 20 * NS_PER_MS)) / 0.02
    channel = power_channel(update_period_ns=20 * NS_PER_MS, averaging_ns=20 * NS_PER_MS, is_stamped=is_stamped)
    curve = cumulate(Series(channel, t_ns, watts))
    assert isinstance(curve, Curve)
    step_ns = int(curve.x_ns[int(np.flatnonzero(np.diff(curve.power_w) > 100)[0])])
    assert step_ns - EPOCH_NS - 10 * NS_PER_S == pytest.approx(
        -10 * NS_PER_MS if is_stamped else -20 * NS_PER_MS, abs=12 * NS_PER_MS
    )


def test_one_smoothed_reading_smooths_nothing() -> None:
    one = Series(power_channel(averaging_ns=NS_PER_S), np.array([EPOCH_NS]), np.array([100.0]))
    assert isinstance(cumulate(one), Curve)
