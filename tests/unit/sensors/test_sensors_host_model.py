from __future__ import annotations

import math
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import FakeClock, fake_proc, set_cpu_ticks
from stillwatt.errors import SensorUnavailableError, UsageError
from stillwatt.records import Basis, Boundary, Quantity, ReadFailure, Reading
from stillwatt.sensors.host_model import HostModelSensor
from stillwatt.sensors.host_parameters import (
    IDLE_SHARE,
    PUBLISHED_CPUS,
    WATTS_PER_GIB,
    WATTS_PER_THREAD,
    Parameter,
    gain_bounds,
)

TICKS_PER_S = 100


class Host:
    """A machine whose CPUs are busy by a set share."""

    def __init__(self, folder: Path, *, num_cpus: int = 4) -> None:
        self.clock = FakeClock()
        self.num_cpus = num_cpus
        self.busy_share = 0.0
        self.ticks = [0.0, 0.0]
        self.proc = fake_proc(folder / "proc", num_cpus=num_cpus)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        total = seconds * self.num_cpus * TICKS_PER_S
        self.ticks[0] += total * self.busy_share
        self.ticks[1] += total * (1.0 - self.busy_share)
        set_cpu_ticks(self.proc, busy=round(self.ticks[0]), idle=round(self.ticks[1]), num_cpus=self.num_cpus)

    def sensor(self, **options: object) -> HostModelSensor:
        return HostModelSensor(self.clock, proc_root=self.proc, sleep=self.advance, **options)  # type: ignore[arg-type]


def _cpu_w(sensor: HostModelSensor) -> float:
    result = sensor.read()[0]
    assert isinstance(result, Reading)
    assert result.stream == "cpu0.power"
    return result.count


def test_full_load_is_the_rated_power_and_idle_its_share(tmp_path: Path) -> None:
    host = Host(tmp_path)
    sensor = host.sensor(watts_per_thread=5.0)
    sensor.open()
    assert _cpu_w(sensor) == pytest.approx(4 * 5.0 * IDLE_SHARE.value)
    host.busy_share = 1.0
    host.advance(1.0)
    assert _cpu_w(sensor) == pytest.approx(20.0)
    host.busy_share = 0.5
    host.advance(1.0)
    assert _cpu_w(sensor) == pytest.approx(20.0 * (IDLE_SHARE.value + (1 - IDLE_SHARE.value) * 0.5))


def test_the_first_reading_has_an_interval_behind_it(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.busy_share = 1.0
    sensor = host.sensor()
    sensor.open()
    assert _cpu_w(sensor) == pytest.approx(4 * WATTS_PER_THREAD.value)


def test_a_reading_too_soon_after_the_last_holds_its_value(tmp_path: Path) -> None:
    host = Host(tmp_path)
    sensor = host.sensor()
    sensor.open()
    idle_w = _cpu_w(sensor)
    host.busy_share = 1.0
    host.advance(0.1)
    assert _cpu_w(sensor) == idle_w
    host.advance(0.1)
    assert _cpu_w(sensor) == pytest.approx(4 * WATTS_PER_THREAD.value, rel=0.05)


@given(share=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8))
def test_energy_is_that_of_the_mean_load_however_it_is_cut(
    tmp_path_factory: pytest.TempPathFactory, share: list[float]
) -> None:
    host = Host(tmp_path_factory.mktemp("host"))
    sensor = host.sensor(parts=["cpu"])
    sensor.open()
    sensor.read()
    energy_j = 0.0
    for busy in share:
        host.busy_share = busy
        host.advance(1.0)
        energy_j += _cpu_w(sensor)
    sensor.close()
    expected_j = len(share) * sensor.cpu_power_w(statistics.fmean(share), host.num_cpus)
    assert energy_j == pytest.approx(expected_j, rel=0.02)


def test_time_stolen_by_other_machines_is_not_this_ones_work(tmp_path: Path) -> None:
    host = Host(tmp_path)
    sensor = host.sensor(watts_per_thread=1.0)
    sensor.open()
    sensor.read()
    host.clock.advance(1.0)
    set_cpu_ticks(host.proc, busy=round(host.ticks[0]) + 100, idle=round(host.ticks[1]) + 100, steal=200)
    assert _cpu_w(sensor) == pytest.approx(4 * (0.2 + 0.8 * 0.25))


def test_a_clock_that_stands_still_is_no_zero(tmp_path: Path) -> None:
    host = Host(tmp_path)
    sensor = host.sensor()
    sensor.open()
    sensor.read()
    host.clock.advance(1.0)
    failed = sensor.read()[0]
    assert isinstance(failed, ReadFailure)
    assert "no CPU time has passed" in failed.reason
    host.advance(1.0)
    assert _cpu_w(sensor) > 0.0


@pytest.mark.parametrize("text", ["cpu 1 2\n", "cpu x y z 1 2 3 4 5\n", ""])
def test_a_stat_that_cannot_be_read_is_a_failure(tmp_path: Path, text: str) -> None:
    host = Host(tmp_path)
    sensor = host.sensor()
    sensor.open()
    (host.proc / "stat").write_text(text, encoding="ascii")
    failed = sensor.read()[0]
    assert isinstance(failed, ReadFailure)
    assert "/stat" in failed.reason


def test_dram_is_memory_times_power(tmp_path: Path) -> None:
    sensor = Host(tmp_path).sensor(parts=["dram"])
    (channel,) = sensor.open()
    (result,) = sensor.read()
    assert isinstance(result, Reading)
    assert (result.stream, result.count) == ("dram0.power", 16 * WATTS_PER_GIB.value)
    assert (channel.device, channel.boundary) == ("host-model", Boundary.CHIP)


def test_channels_are_modelled_and_wide(tmp_path: Path) -> None:
    channels = Host(tmp_path).sensor().probe().channels
    assert [channel.part for channel in channels] == ["cpu0", "dram0"]
    for channel in channels:
        assert channel.basis is Basis.MODELLED
        assert channel.quantity is Quantity.POWER
        assert channel.gain_low_rel >= 0.5
        assert channel.gain_high_rel >= 1.0
        assert channel.source.startswith("model: ")
    assert [channel.is_constant for channel in channels] == [False, True]


def test_the_interval_holds_every_published_cpu_at_full_load() -> None:
    low_rel, high_rel = gain_bounds(WATTS_PER_THREAD, IDLE_SHARE)
    for cpu in PUBLISHED_CPUS:
        for watts in (cpu.rated_w, cpu.limit_w):
            ratio = watts / cpu.threads / WATTS_PER_THREAD.value
            assert 1.0 - low_rel <= ratio <= 1.0 + high_rel, cpu.name


def test_the_defaults_are_the_middle_and_the_ends_of_the_list() -> None:
    assert Parameter(value=3.75, low=15 / 16, high=9.5) == WATTS_PER_THREAD
    assert WATTS_PER_GIB.low < 0.07 < WATTS_PER_GIB.value < 0.392 < WATTS_PER_GIB.high


parameters = st.tuples(st.floats(0.1, 10.0), st.floats(1.0, 10.0), st.floats(1.0, 10.0)).map(
    lambda t: Parameter(value=t[0], low=t[0] / t[1], high=t[0] * t[2])
)


@given(parameters, parameters)
def test_more_unknowns_never_narrow_the_interval(one: Parameter, other: Parameter) -> None:
    low, high = gain_bounds(one)
    both_low, both_high = gain_bounds(one, other)
    assert low - 1e-9 <= both_low < 1.0
    assert high - 1e-9 <= both_high
    assert math.isclose(low, 1.0 - one.low / one.value, abs_tol=1e-9)
    assert math.isclose(high, one.high / one.value - 1.0, abs_tol=1e-6)


def test_a_users_parameter_brings_its_range_along(tmp_path: Path) -> None:
    host = Host(tmp_path)
    default = host.sensor(parts=["dram"]).probe().channels[0]
    scaled = host.sensor(parts=["dram"], watts_per_gib=1.0).probe().channels[0]
    exact = host.sensor(parts=["dram"], watts_per_gib=1.0, watts_per_gib_low=0.9, watts_per_gib_high=1.2).probe()
    assert (scaled.gain_low_rel, scaled.gain_high_rel) == pytest.approx((default.gain_low_rel, default.gain_high_rel))
    assert (exact.channels[0].gain_low_rel, exact.channels[0].gain_high_rel) == pytest.approx((0.1, 0.2))


@pytest.mark.parametrize(
    "options",
    [{"parts": []}, {"parts": ["gpu"]}, {"watts_per_thread": -1.0}, {"watts_per_gib": 1.0, "watts_per_gib_low": 2.0}],
)
def test_options_that_cannot_be_meant_are_refused(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="host_model"):
        Host(tmp_path).sensor(**options)


@pytest.mark.parametrize("file", ["stat", "meminfo"])
def test_without_proc_its_parts_are_absent(tmp_path: Path, file: str) -> None:
    host = Host(tmp_path)
    (host.proc / file).unlink()
    sensor = host.sensor()
    probe = sensor.probe()
    assert not probe.usable
    assert [absent.part for absent in probe.absent] == ["cpu0", "dram0"]
    with pytest.raises(SensorUnavailableError, match=file):
        sensor.open()


def test_a_proc_that_lists_nothing_is_not_usable(tmp_path: Path) -> None:
    host = Host(tmp_path)
    (host.proc / "meminfo").write_text("MemFree: 1 kB\n", encoding="ascii")
    assert "lists no logical CPU or no MemTotal" in host.sensor().probe().detail
