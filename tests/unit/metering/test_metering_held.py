"""Power held beside the readings: wide where readings should have come, as ever where none was due (eq. 147)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatt.metering.estimate import estimate
from stillwatt.metering.series import Series
from stillwatt.records import Energy
from stillwatt.records.sample import Lull
from stillwatt.units import NS_PER_MS, NS_PER_S
from strategies import EPOCH_NS, StepLoad, poll_times, power_channel, step_counter, window

LIMIT_W = 450.0
READ_S = 10.0
kinds = st.sampled_from(["power", "counter", "silent counter"])


def streams(load: StepLoad, kind: str, from_s: float = 0.0) -> tuple[Series, Series | None]:
    """What a sampling process leaves that reads every 100 ms and is gone after ten seconds."""
    t_ns = poll_times(np.random.default_rng(1), READ_S, jitter_ns=0) + round(from_s * NS_PER_S)
    power = Series(power_channel(update_period_ns=NS_PER_MS, averaging_ns=0, limit_w=LIMIT_W), t_ns, load.power_w(t_ns))
    counter = step_counter(load, t_ns, phase_ns=37 * NS_PER_MS, limit_w=LIMIT_W)
    if kind == "silent counter":
        return replace(counter, count=np.full(t_ns.size, 5.0)), power
    return (power, None) if kind == "power" else (counter, None)


def measured(load: StepLoad, kind: str, start_s: float, end_s: float, from_s: float = 0.0) -> Energy:
    marks_ns = [EPOCH_NS + round(edge_s * NS_PER_S) for edge_s in (start_s, end_s)]
    energy = estimate(*streams(load, kind, from_s), [window(start_s, end_s)], marks_ns=marks_ns)
    assert isinstance(energy, Energy)
    return energy


def steps(seen_w: float, unseen_w: float, at_s: float) -> StepLoad:
    at_ns = EPOCH_NS + round(at_s * NS_PER_S)
    return StepLoad(np.array([EPOCH_NS - 9 * NS_PER_S, at_ns]), np.array([seen_w, unseen_w]))


@given(kind=kinds, seen_w=st.floats(20.0, 400.0), unseen_w=st.floats(0.0, LIMIT_W), held_s=st.floats(0.15, 0.999))
def test_what_outlives_the_readings_may_draw_anything_up_to_the_limit(
    kind: str, seen_w: float, unseen_w: float, held_s: float
) -> None:
    """The load changes as the sampling process dies."""
    died_s = READ_S + 0.001
    energy = measured(steps(seen_w, unseen_w, died_s), kind, died_s, died_s + held_s)
    assert energy.coverage == 0.0
    assert energy.value_j == pytest.approx(seen_w * held_s, rel=0.01)
    assert energy.low_j <= unseen_w * held_s <= energy.high_j


@given(kind=kinds, seen_w=st.floats(20.0, 400.0), unseen_w=st.floats(0.0, LIMIT_W), held_s=st.floats(0.15, 0.9))
def test_so_may_what_began_before_the_readings(kind: str, seen_w: float, unseen_w: float, held_s: float) -> None:
    energy = measured(steps(unseen_w, seen_w, 3.0), kind, 3.0 - held_s, 3.0, from_s=3.0)
    slack_j = 0.11 * LIMIT_W if kind == "counter" else 1e-6  # its first step began before the first reading
    assert energy.low_j - slack_j <= unseen_w * held_s <= energy.high_j + slack_j


@pytest.mark.parametrize("kind", ["power", "counter"])
def test_a_run_that_ends_before_a_further_reading_was_due_is_as_sure_as_without_a_limit(kind: str) -> None:
    load = steps(200.0, 210.0, 5.0)
    due, late = measured(load, kind, 2.0, READ_S + 0.09), measured(load, kind, 2.0, READ_S + 0.12)
    assert due.random_j < late.random_j - 10.0
    without = [replace(s, channel=replace(s.channel, limit_w=None)) for s in streams(load, kind) if s is not None]
    unlimited = estimate(without[0], None, [window(2.0, READ_S + 0.09)])
    assert isinstance(unlimited, Energy)
    assert due.random_j == unlimited.random_j


def test_a_session_at_rest_reads_once_a_second() -> None:
    load, end_s = steps(200.0, 210.0, 5.0), READ_S + 0.8
    (ledger, _), marks_ns = streams(load, "power"), [EPOCH_NS, EPOCH_NS + round(end_s * NS_PER_S)]
    lull = Lull(start_ns=EPOCH_NS + 8 * NS_PER_S, end_ns=marks_ns[1], period_ns=NS_PER_S)
    resting = estimate(replace(ledger, lulls=(lull,)), None, [window(1.0, end_s)], marks_ns=marks_ns)
    cut_off = estimate(ledger, None, [window(1.0, end_s)], marks_ns=marks_ns)
    assert isinstance(resting, Energy)
    assert isinstance(cut_off, Energy)
    assert resting.random_j < 12.0
    assert cut_off.random_j > 200.0
