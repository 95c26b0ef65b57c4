"""The driver's buffer of power has wall-clock times: what is read of it when somebody sets that clock."""

from __future__ import annotations

import itertools

import pytest

from fakes import FakeClock, single
from nvml_simulator_build import NvmlSimulator
from stillwatt.records import Reading
from stillwatt.sensors import nvml_library
from stillwatt.sensors.nvml import NvmlSensor
from stillwatt.sensors.nvml_buffer import PowerBuffer
from stillwatt.units import NS_PER_MS, NS_PER_S, NS_PER_US

CARD = "gpu arch=4 counter=0 average=0 instant=0 samples=1 step_ms=20 usage_ms=10 watts=300 low=100 hz=1"


@pytest.mark.parametrize("shifts_s", [(-3600.0,), (7200.0,), (-3600.0, 7200.0, -1.0), (-0.5,), (0.5,)])
def test_a_wall_clock_that_is_set_costs_no_reading_and_none_is_taken_twice(
    nvml_simulator: NvmlSimulator, shifts_s: tuple[float, ...]
) -> None:
    clock = FakeClock()
    nvml_simulator.configure(CARD, now_ns=clock.now_ns)
    nvml_simulator.set_wall_offset_ns(clock.utc_offset_ns)
    sensor = NvmlSensor(clock, library=nvml_simulator.path)
    sensor.open()
    start_ns = clock.now_ns
    stamps: list[int] = []
    for shift_s in (*shifts_s, 0.0):
        for _ in range(10):
            clock.advance(0.1)
            nvml_simulator.set_time_ns(clock.now_ns)
            stamps += [one.t_ns for one in single(sensor.read()) if isinstance(one, Reading)]
        clock.utc_offset_ns += round(shift_s * NS_PER_S)
        nvml_simulator.set_wall_offset_ns(clock.utc_offset_ns)
    found_ms = [round((t_ns - start_ns) / NS_PER_MS) for t_ns in stamps]
    assert found_ms == list(range(20, 1000 * (len(shifts_s) + 1) + 1, 20))
    sensor.close()


def test_a_clock_that_is_slewed_or_read_late_moves_nothing(nvml_simulator: NvmlSimulator) -> None:
    clock = FakeClock()
    nvml_simulator.configure(CARD, now_ns=clock.now_ns)
    nvml_simulator.set_wall_offset_ns(clock.utc_offset_ns)
    sensor = NvmlSensor(clock, library=nvml_simulator.path)
    sensor.open()
    stamps: list[int] = []
    for number in range(100):
        clock.advance(0.05)
        clock.utc_offset_ns += (-1) ** number * 25 * NS_PER_US
        nvml_simulator.set_time_ns(clock.now_ns)
        nvml_simulator.set_wall_offset_ns(clock.utc_offset_ns)
        stamps += [one.t_ns for one in single(sensor.read()) if isinstance(one, Reading)]
    assert len(stamps) == 250
    assert min(later - earlier for earlier, later in itertools.pairwise(stamps)) > 19 * NS_PER_MS
    sensor.close()


def test_readings_that_keep_the_time_of_a_clock_since_set_back_do_not_bar_those_after_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with a driver that notes the time once and for all: an hour ahead of the clock, they were taken before."""
    clock = FakeClock()
    kept: list[tuple[int, int]] = []

    def samples(_nvml: object, _handle: object, since_us: int) -> tuple[list[int], list[int]]:
        found = sorted(one for one in kept if one[0] > since_us)
        return [t_us for t_us, _ in found], [value for _, value in found]

    monkeypatch.setattr(nvml_library, "power_samples", samples)
    buffer = PowerBuffer(clock)
    buffer.begin(clock.utc_ns() // NS_PER_US)
    taken: list[float] = []
    for number in range(6):
        if number == 3:
            clock.utc_offset_ns -= 3600 * NS_PER_S
        clock.advance(0.1)
        kept.append((clock.utc_ns() // NS_PER_US, number))
        taken += buffer.read(None, None).numbers
    assert taken == [0, 1, 2, 3, 4, 5]
