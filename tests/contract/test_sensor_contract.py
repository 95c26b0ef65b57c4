"""What every instrument must hold to, simulated or real."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from fake_devices import FakeAmd, FakeApple, fake_ipmitool, grace_tree, intel_tree, jetson_tree
from fakes import FakeClock, fake_powercap, fake_proc, set_cpu_ticks, single
from nvml_simulator_build import NvmlSimulator, SimulatedClock
from stillwatt.clock import SystemClock
from stillwatt.errors import SensorUnavailableError
from stillwatt.records import Boundary, NotDue, ReadFailure, Reading, Readings
from stillwatt.sensors import Probe, Sensor
from stillwatt.sensors.amd import AmdSensor
from stillwatt.sensors.apple import AppleSensor
from stillwatt.sensors.base import Paced, Urgency
from stillwatt.sensors.host_model import HostModelSensor
from stillwatt.sensors.hwmon import HwmonSensor
from stillwatt.sensors.intel_gpu import IntelGpuSensor
from stillwatt.sensors.ipmi import IpmiSensor
from stillwatt.sensors.jetson import JetsonSensor
from stillwatt.sensors.nvml import NvmlSensor
from stillwatt.sensors.rapl import RaplSensor
from stillwatt.sensors.redfish import RedfishSensor
from stillwatt.sensors.replay import ReplaySensor
from stillwatt.sensors.smart_plug import SmartPlugSensor
from stillwatt.sensors.synthetic import SyntheticSensor
from stillwatt.units import NS_PER_S


class Bench:
    """A sensor, and how to let time pass for it."""

    def __init__(self, sensor: Sensor, advance: Callable[[float], None], *, break_it: Callable[[], object]) -> None:
        self.sensor = sensor
        self.advance = advance
        self.break_it = break_it


def _synthetic(tmp_path: Path, simulator: NvmlSimulator) -> Bench:
    clock = FakeClock()
    channels = [
        {"part": "gpu0", "shape": "square", "watts": 300.0, "low_watts": 80.0, "fail_from_s": 100.0},
        {"part": "gpu0", "quantity": "power", "role": "witness", "watts": 200.0, "fail_from_s": 100.0},
    ]
    return Bench(SyntheticSensor(clock, channels=channels), clock.advance, break_it=lambda: clock.advance(100.0))


def _replay(tmp_path: Path, simulator: NvmlSimulator) -> Bench:
    clock = FakeClock()
    rows = [f"{i / 10},gpu0,{100 + i},{i * 10}\n{i / 10},cpu0,{20 + i}," for i in range(200)]
    path = tmp_path / "recording.csv"
    path.write_text("\n".join(["t_s,part,power_w,counter_j", *rows]), encoding="utf-8")
    return Bench(ReplaySensor(clock, path=path), clock.advance, break_it=lambda: clock.advance(100.0))


def _rapl(tmp_path: Path, simulator: NvmlSimulator) -> Bench:
    clock = FakeClock()
    tree = fake_powercap(tmp_path)

    def break_it() -> None:
        for zone in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:1", "intel-rapl:1:1"):
            tree.set_uj(zone, "no number")

    return Bench(RaplSensor(clock, root=tree.root), clock.advance, break_it=break_it)


def _nvml(tmp_path: Path, simulator: NvmlSimulator) -> Bench:
    clock = FakeClock()
    simulator.configure("gpu watts=300 low=80 hz=2 die_s=100;gpu watts=100 counter=0 die_s=100", now_ns=clock.now_ns)

    def advance(seconds: float) -> None:
        clock.advance(seconds)
        simulator.set_time_ns(clock.now_ns)

    return Bench(NvmlSensor(clock, library=simulator.path), advance, break_it=lambda: advance(100.0))


def _nvml_paced(tmp_path: Path, simulator: NvmlSimulator) -> Bench:
    """A card with a counter that takes long to answer, and the driver's buffer beside it."""
    simulator.configure("")
    clock = SimulatedClock(simulator)
    simulator.configure(
        "gpu watts=300 low=80 hz=2 die_s=100 arch=9 samples=1 samples_ms=20 samples_window_ms=25 call_ms=2.6",
        now_ns=clock.now_ns,
    )
    simulator.set_wall_offset_ns(clock.utc_offset_ns)
    clock.set_ns(clock.now_ns + NS_PER_S)

    def advance(seconds: float) -> None:
        clock.set_ns(clock.monotonic_ns() + round(seconds * NS_PER_S))

    return Bench(NvmlSensor(clock, library=simulator.path), advance, break_it=lambda: advance(100.0))


def _host_model(tmp_path: Path, simulator: NvmlSimulator) -> Bench:
    clock = FakeClock()
    proc = fake_proc(tmp_path / "proc")

    def advance(seconds: float) -> None:
        clock.advance(seconds)
        ticks = clock.now_ns // 10_000_000
        set_cpu_ticks(proc, busy=ticks, idle=3 * ticks)

    def break_it() -> None:
        clock.advance(1.0)
        (proc / "stat").write_text("nonsense\n", encoding="ascii")

    sensor = HostModelSensor(clock, parts=["cpu"], proc_root=proc, sleep=advance)
    return Bench(sensor, advance, break_it=break_it)


def _hwmon(tmp_path: Path, simulator: NvmlSimulator) -> Bench:
    clock, tree = FakeClock(), grace_tree(tmp_path)
    files = tree.glob("*/power1_average")
    return Bench(HwmonSensor(clock, root=tree), clock.advance, break_it=lambda: _spoil(*files))


def _intel_gpu(tmp_path: Path, simulator: NvmlSimulator) -> Bench:
    clock, tree = FakeClock(), intel_tree(tmp_path)
    return Bench(
        IntelGpuSensor(clock, root=tree), clock.advance, break_it=lambda: _spoil(tree / "hwmon4/energy1_input")
    )


def _jetson(tmp_path: Path, simulator: NvmlSimulator) -> Bench:
    clock, tree = FakeClock(), jetson_tree(tmp_path)
    files = tree.glob("ina3221/*/hwmon/*/curr*_input")
    return Bench(JetsonSensor(clock, root=tree), clock.advance, break_it=lambda: _spoil(*files))


def _spoil(*files: Path) -> None:
    for file in files:
        file.write_text("no number")


def _amd(tmp_path: Path, simulator: NvmlSimulator) -> Bench:
    clock = FakeClock()
    fake = FakeAmd(seconds=lambda: clock.now_ns / NS_PER_S)
    sensor = AmdSensor(clock, sleep=clock.advance)
    sys.modules["amdsmi"] = fake.module()
    return Bench(sensor, clock.advance, break_it=lambda: setattr(fake, "error", "the driver is gone"))


def _apple(tmp_path: Path, simulator: NvmlSimulator) -> Bench:
    clock = FakeClock()
    fake = FakeApple(seconds=lambda: clock.now_ns / NS_PER_S)
    sys.modules["zeus_apple_silicon"] = fake.module()
    return Bench(AppleSensor(clock), clock.advance, break_it=lambda: setattr(fake, "error", "IOReport is gone"))


def _ipmi(tmp_path: Path, simulator: NvmlSimulator) -> Bench:
    clock = FakeClock()
    command = fake_ipmitool(tmp_path)

    def break_it() -> None:
        clock.advance(2.0)
        (tmp_path / "answer").write_text("the controller does not answer")

    return Bench(IpmiSensor(clock, command=str(command)), clock.advance, break_it=break_it)


def _smart_plug(tmp_path: Path, simulator: NvmlSimulator) -> Bench:
    clock, path = FakeClock(), tmp_path / "meter.csv"
    path.write_text("power_w,energy_j\n230,1000\n")

    def break_it() -> None:
        clock.advance(2.0)
        path.unlink()

    return Bench(SmartPlugSensor(clock, csv=path), clock.advance, break_it=break_it)


def _real(make: Callable[[SystemClock], Sensor]) -> Bench:
    import time

    sensor = make(SystemClock())
    probe = sensor.probe()
    if not probe.usable:
        pytest.skip(f"{probe.driver} is not usable here: {probe.detail}")
    return Bench(sensor, time.sleep, break_it=lambda: pytest.skip("real hardware is not broken for a test"))


def _real_nvml(tmp_path: Path, simulator: NvmlSimulator) -> Bench:
    return _real(lambda clock: NvmlSensor(clock))


def _real_host(tmp_path: Path, simulator: NvmlSimulator) -> Bench:
    return _real(lambda clock: HostModelSensor(clock))


def _real_rapl(tmp_path: Path, simulator: NvmlSimulator) -> Bench:
    return _real(lambda clock: RaplSensor(clock))


MAKERS = [
    pytest.param(_synthetic, id="synthetic"),
    pytest.param(_replay, id="replay"),
    pytest.param(_rapl, id="rapl"),
    pytest.param(_nvml, id="nvml"),
    pytest.param(_nvml_paced, id="nvml-paced"),
    pytest.param(_host_model, id="host_model"),
    pytest.param(_hwmon, id="hwmon"),
    pytest.param(_intel_gpu, id="intel_gpu"),
    pytest.param(_jetson, id="jetson"),
    pytest.param(_amd, id="amdsmi"),
    pytest.param(_apple, id="apple"),
    pytest.param(_ipmi, id="ipmi"),
    pytest.param(_smart_plug, id="smart_plug"),
    pytest.param(_real_host, id="real-host_model"),
    pytest.param(_real_rapl, id="real-rapl"),
    pytest.param(_real_nvml, id="real-nvml", marks=pytest.mark.gpu),
]


@pytest.fixture(params=MAKERS)
def bench(request: pytest.FixtureRequest, tmp_path: Path, nvml_simulator: NvmlSimulator) -> Iterator[Bench]:
    made: Bench = request.param(tmp_path, nvml_simulator)
    if isinstance(made.sensor, Paced):
        made.sensor.urgency = Urgency.LAST  # what can wait is not left out
    yield made
    made.sensor.close()
    for fake in ("amdsmi", "zeus_apple_silicon"):
        sys.modules.pop(fake, None)


def test_it_answers_to_the_protocol(bench: Bench) -> None:
    assert isinstance(bench.sensor, Sensor)
    assert bench.sensor.driver


def test_probe_describes_what_open_gives_and_leaves_nothing_open(bench: Bench) -> None:
    probe = bench.sensor.probe()
    assert isinstance(probe, Probe)
    assert probe.usable
    assert probe.detail
    assert probe.driver == bench.sensor.driver
    assert probe.channels == bench.sensor.open()


def test_channels_can_be_written_as_json_and_name_their_source(bench: Bench) -> None:
    channels = bench.sensor.open()
    assert channels
    assert len({channel.stream for channel in channels}) == len(channels)
    for channel in channels:
        assert channel.driver == bench.sensor.driver
        assert channel.source
        assert channel.boundary is not Boundary.COMPONENTS  # a sum, which no instrument reads
        assert json.loads(json.dumps(asdict(channel)))["part"] == channel.part


def test_every_reading_has_a_result_for_each_stream_and_several_only_of_those_that_tell_their_times(
    bench: Bench,
) -> None:
    channels = bench.sensor.open()
    stamped = {channel.stream for channel in channels if channel.is_stamped}
    for _ in range(5):
        bench.advance(0.1)
        results = bench.sensor.read()
        assert {result.stream for result in results if isinstance(result, Readings)} <= stamped
        found = [result.stream for result in results]
        assert set(found) == {channel.stream for channel in channels}
        assert len([one for one in found if one not in stamped]) == len(channels) - len(stamped)


def test_a_first_reading_right_after_open_has_values(bench: Bench) -> None:
    bench.sensor.open()
    assert all(isinstance(result, Reading) and result.count >= 0.0 for result in single(bench.sensor.read()))


def test_stamps_of_a_stream_never_go_back(bench: Bench) -> None:
    bench.sensor.open()
    stamps: dict[str, list[int]] = {}
    for _ in range(10):
        bench.advance(0.05)
        for result in single(bench.sensor.read()):
            if not isinstance(result, NotDue):
                stamps.setdefault(result.stream, []).append(result.t_ns)
    assert all(times == sorted(times) for times in stamps.values())


def test_counters_do_not_fall_between_readings(bench: Bench) -> None:
    counters = {channel.stream for channel in bench.sensor.open() if channel.quantity == "energy_counter"}
    counts: dict[str, list[float]] = {}
    for _ in range(10):
        bench.advance(0.05)
        for result in bench.sensor.read():
            if isinstance(result, Reading) and result.stream in counters:
                counts.setdefault(result.stream, []).append(result.count)
    assert set(counts) == counters
    assert all(series == sorted(series) for series in counts.values())


def test_opening_and_closing_twice_is_no_error(bench: Bench) -> None:
    first = bench.sensor.open()
    assert bench.sensor.open() == first
    bench.sensor.close()
    bench.sensor.close()
    assert bench.sensor.open() == first
    bench.advance(0.1)
    assert {result.stream for result in bench.sensor.read()} == {channel.stream for channel in first}


def test_probing_an_open_sensor_does_not_close_it(bench: Bench) -> None:
    channels = bench.sensor.open()
    bench.sensor.probe()
    bench.advance(0.1)
    assert all(isinstance(result, Reading) for result in single(bench.sensor.read()))
    assert bench.sensor.open() == channels


def test_errors_become_failures_and_say_something(bench: Bench) -> None:
    streams = sorted(channel.stream for channel in bench.sensor.open())
    bench.advance(0.1)
    bench.sensor.read()
    bench.break_it()
    results = bench.sensor.read()
    assert sorted(result.stream for result in results) == streams
    assert all(isinstance(result, ReadFailure) and result.reason for result in results)


UNUSABLE = [
    pytest.param(lambda clock: NvmlSensor(clock, library="/nonexistent/libnvidia-ml.so.1"), id="nvml"),
    pytest.param(lambda clock: RaplSensor(clock, root="/nonexistent"), id="rapl"),
    pytest.param(lambda clock: HostModelSensor(clock, proc_root="/nonexistent"), id="host_model"),
    pytest.param(lambda clock: ReplaySensor(clock, path="/nonexistent.csv"), id="replay"),
    pytest.param(lambda clock: HwmonSensor(clock, root="/nonexistent"), id="hwmon"),
    pytest.param(lambda clock: IntelGpuSensor(clock, root="/nonexistent"), id="intel_gpu"),
    pytest.param(lambda clock: JetsonSensor(clock, root="/nonexistent"), id="jetson"),
    pytest.param(lambda clock: IpmiSensor(clock, command="/nonexistent/ipmitool"), id="ipmi"),
    pytest.param(lambda clock: RedfishSensor(clock, url="http://nonexistent.invalid", user_env=""), id="redfish"),
    pytest.param(lambda clock: SmartPlugSensor(clock, csv="/nonexistent.csv"), id="smart_plug"),
]


@pytest.mark.parametrize("make", UNUSABLE)
def test_what_cannot_be_used_says_why_and_what_would_help(make: Callable[[FakeClock], Sensor]) -> None:
    sensor = make(FakeClock())
    probe = sensor.probe()
    assert not probe.usable
    assert probe.channels == ()
    assert "nonexistent" in probe.detail
    assert probe.cure
    with pytest.raises(SensorUnavailableError, match="nonexistent"):
        sensor.open()
    assert sensor.read() == []
    sensor.close()
