from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import FakeClock
from stillwatt.errors import UnknownNameError, UsageError
from stillwatt.records import Basis, Boundary, ReadFailure, Reading, Role
from stillwatt.sensors.synthetic import SHAPES, PowerTrace, SyntheticSensor
from stillwatt.units import NS_PER_S

finite = st.floats(-50.0, 50.0)
traces = st.builds(
    PowerTrace,
    shape=st.sampled_from(SHAPES),
    watts=st.floats(1.0, 1000.0),
    low_watts=st.floats(0.0, 1000.0),
    period_s=st.floats(0.01, 10.0),
    duty=st.floats(0.0, 1.0),
)


@given(traces, finite, finite, finite)
def test_cutting_a_span_in_two_conserves_energy(trace: PowerTrace, a: float, b: float, c: float) -> None:
    a, b, c = sorted((a, b, c))
    whole = trace.energy_j(c) - trace.energy_j(a)
    parts = (trace.energy_j(b) - trace.energy_j(a)) + (trace.energy_j(c) - trace.energy_j(b))
    assert math.isclose(whole, parts, rel_tol=1e-9, abs_tol=1e-6)


@given(traces, finite, st.floats(0.0, 5.0))
def test_energy_lies_between_what_the_extremes_of_power_would_give(
    trace: PowerTrace, start: float, span: float
) -> None:
    energy_j = trace.energy_j(start + span) - trace.energy_j(start)
    low_w, high_w = sorted((trace.watts, trace.low_watts))
    if trace.shape == "constant":
        low_w = high_w = trace.watts
    assert low_w * span - 1e-5 <= energy_j <= high_w * span + 1e-5


@settings(deadline=None)
@given(traces)
def test_energy_is_the_integral_of_power(trace: PowerTrace) -> None:
    steps = 2_000
    width = trace.period_s / steps
    total = sum(trace.power_w((i + 0.5) * width) for i in range(steps)) * width
    scale = max(trace.watts, trace.low_watts) * trace.period_s
    assert abs(total - trace.energy_j(trace.period_s)) <= 2e-3 * scale


@pytest.mark.parametrize(
    ("trace", "energy_j"),
    [
        (PowerTrace(watts=50.0), 100.0),
        (PowerTrace(shape="square", watts=300.0, low_watts=100.0, period_s=4.0, duty=0.25), 400.0),
        (PowerTrace(shape="ramp", watts=100.0, low_watts=0.0, period_s=2.0), 100.0),
    ],
)
def test_worked_examples(trace: PowerTrace, energy_j: float) -> None:
    assert trace.energy_j(2.0) == pytest.approx(energy_j)


def _counts(sensor: SyntheticSensor, clock: FakeClock, *, steps: int, step_s: float) -> list[float]:
    counts = []
    for _ in range(steps):
        clock.advance(step_s)
        result = sensor.read()[0]
        assert isinstance(result, Reading)
        counts.append(result.count)
    return counts


def test_a_counter_shows_millijoules_in_steps_and_with_gain() -> None:
    clock = FakeClock()
    sensor = SyntheticSensor(clock, channels=[{"watts": 100.0, "gain": 1.05, "step_ms": 100.0}])
    sensor.open()
    assert _counts(sensor, clock, steps=4, step_s=0.05) == [0.0, 10_500.0, 10_500.0, 21_000.0]


def test_a_counter_wraps_at_its_modulus() -> None:
    clock = FakeClock()
    sensor = SyntheticSensor(clock, channels=[{"watts": 100.0, "modulus": 25_000, "step_ms": 0.0}])
    assert sensor.open()[0].modulus == 25_000
    assert _counts(sensor, clock, steps=3, step_s=0.1) == [10_000.0, 20_000.0, 5_000.0]


def test_a_counter_that_is_reset_begins_again_at_zero() -> None:
    clock = FakeClock()
    sensor = SyntheticSensor(clock, channels=[{"watts": 100.0, "reset_at_s": 0.25, "step_ms": 0.0}])
    sensor.open()
    assert _counts(sensor, clock, steps=4, step_s=0.1) == [10_000.0, 20_000.0, 5_000.0, 15_000.0]


def test_power_is_held_between_renewals() -> None:
    clock = FakeClock()
    sensor = SyntheticSensor(
        clock, channels=[{"quantity": "power", "shape": "ramp", "watts": 100.0, "period_s": 1.0, "step_ms": 200.0}]
    )
    sensor.open()
    assert _counts(sensor, clock, steps=4, step_s=0.1) == pytest.approx([0.0, 20.0, 20.0, 40.0])


def test_failures_come_every_nth_reading_and_in_a_span() -> None:
    clock = FakeClock()
    sensor = SyntheticSensor(clock, channels=[{"fail_every": 3, "fail_from_s": 0.55, "fail_until_s": 0.75}])
    sensor.open()
    failed = []
    for number in range(1, 10):
        clock.advance(0.1)
        if isinstance(sensor.read()[0], ReadFailure):
            failed.append(number)
    assert failed == [3, 6, 7, 9]


def test_a_stall_happens_once() -> None:
    clock = FakeClock()
    slept: list[float] = []
    sensor = SyntheticSensor(clock, channels=[{"stall_at_s": 0.15, "stall_s": 9.0}], sleep=slept.append)
    sensor.open()
    for _ in range(4):
        clock.advance(0.1)
        sensor.read()
    assert slept == [9.0]


def test_the_truth_is_given_for_a_part_and_any_span() -> None:
    clock = FakeClock()
    sensor = SyntheticSensor(clock, origin_ns=0)
    with pytest.raises(UsageError, match="begin at open"):
        sensor.true_energy_j("gpu0", 0, 1)
    sensor.open()
    assert sensor.true_energy_j("cpu0", 0, 2 * NS_PER_S) == pytest.approx(90.0)
    assert sensor.true_energy_j("gpu0", 0, 2 * NS_PER_S) == pytest.approx(380.0)
    with pytest.raises(UnknownNameError, match="did you mean 'gpu0'"):
        sensor.true_energy_j("gpu", 0, 1)


def test_no_report_can_take_it_for_a_measurement() -> None:
    for channel in SyntheticSensor(FakeClock()).probe().channels:
        assert channel.basis is Basis.ASSUMED
        assert channel.source.startswith("SIMULATED")
        assert channel.device == "synthetic"


def test_the_default_has_a_ledger_a_witness_and_a_cpu() -> None:
    channels = SyntheticSensor(FakeClock()).open()
    assert [(c.stream, c.role, c.boundary) for c in channels] == [
        ("gpu0.energy_counter", Role.LEDGER, Boundary.BOARD),
        ("gpu0.power", Role.WITNESS, Boundary.BOARD),
        ("cpu0.power", Role.LEDGER, Boundary.CHIP),
    ]


def test_nothing_is_shown_before_open() -> None:
    assert SyntheticSensor(FakeClock()).read() == []


@pytest.mark.parametrize(
    ("entries", "error", "words"),
    [
        ([{"wats": 1.0}], UnknownNameError, "did you mean 'watts'"),
        ([{"shape": "sqare"}], UnknownNameError, "did you mean 'square'"),
        ([{"shape": "square", "duty": 2.0}], UsageError, "duty"),
        ([{"shape": "square", "period_s": 0.0}], UsageError, "period"),
        ([], UsageError, "different streams"),
        ([{"part": "gpu0"}, {"part": "gpu0"}], UsageError, "different streams"),
    ],
)
def test_what_cannot_be_meant_is_refused(entries: list[dict[str, object]], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        SyntheticSensor(FakeClock(), channels=entries)


@given(st.integers(1, 40), st.floats(0.01, 0.3))
def test_the_last_count_tells_the_true_energy_to_one_step(steps: int, step_s: float) -> None:
    clock = FakeClock()
    sensor = SyntheticSensor(
        clock, channels=[{"shape": "square", "watts": 300.0, "low_watts": 80.0, "period_s": 0.7, "step_ms": 100.0}]
    )
    sensor.open()
    start_ns = clock.now_ns
    counts = _counts(sensor, clock, steps=steps, step_s=step_s)
    true_mj = sensor.true_energy_j("gpu0", start_ns, clock.now_ns) * 1000
    assert true_mj - 300.0 * 100.0 - 1.1 <= counts[-1] <= true_mj + 1.1
    assert all(a <= b for a, b in itertools.pairwise(counts))
