from __future__ import annotations

import builtins
import itertools
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes import FakeClock, single
from nvml_simulator_build import ENVIRONMENT, NvmlSimulator, SimulatedClock, build
from stillwatt.errors import SensorUnavailableError, UsageError
from stillwatt.records import Boundary, Channel, NotDue, Quantity, Reading, Role
from stillwatt.sensors import nvml_library
from stillwatt.sensors.base import Urgency
from stillwatt.sensors.nvml import NvmlSensor
from stillwatt.sensors.nvml_sources import buffer_source
from stillwatt.units import NS_PER_MS, NS_PER_S

INSTANT = "nvmlDeviceGetFieldValues(NVML_FI_DEV_POWER_INSTANT = 186)"
AVERAGE = "nvmlDeviceGetFieldValues(NVML_FI_DEV_POWER_AVERAGE = 185)"


class Rig:
    """A sensor on a simulator at a set time."""

    def __init__(self, simulator: NvmlSimulator, text: str, **options: Any) -> None:
        self.clock = FakeClock()
        self.simulator = simulator
        simulator.configure(text, now_ns=self.clock.now_ns)
        simulator.set_wall_offset_ns(self.clock.utc_offset_ns)
        self.sensor = NvmlSensor(self.clock, library=simulator.path, **options)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.simulator.set_time_ns(self.clock.now_ns)

    def shown(self) -> dict[str, float | str]:
        results = [r for r in single(self.sensor.read()) if not isinstance(r, NotDue)]
        return {r.stream: r.count if isinstance(r, Reading) else r.reason for r in results}


def _by_stream(channels: tuple[Channel, ...]) -> dict[str, Channel]:
    return {channel.stream: channel for channel in channels}


def test_the_counter_is_the_ledger_and_instant_power_its_witness(nvml_simulator: NvmlSimulator) -> None:
    rig = Rig(nvml_simulator, "driver=535.1;gpu watts=300 name=H100")
    channels = _by_stream(rig.sensor.open())
    counter, power = channels["gpu0.energy_counter"], channels["gpu0.power"]
    assert (counter.role, counter.unit_si, counter.modulus) == (Role.LEDGER, 0.001, None)
    assert (power.role, power.unit_si) == (Role.WITNESS, 0.001)
    assert counter.source == "nvmlDeviceGetTotalEnergyConsumption; H100; driver 535.1"
    assert power.source == f"{INSTANT}; H100; driver 535.1"
    assert counter.device == "GPU-00000000-0000-0000-0000-000000000000"
    assert counter.boundary is Boundary.BOARD
    assert (counter.gain_low_rel, counter.gain_high_rel) == (0.05, 0.05)


@pytest.mark.parametrize(
    ("card", "role", "call"),
    [
        ("instant=0", Role.WITNESS, "nvmlDeviceGetPowerUsage"),
        ("instant=0 power=0", Role.WITNESS, AVERAGE),
        ("counter=0", Role.LEDGER, AVERAGE),
        ("counter=0 average=0", Role.LEDGER, "nvmlDeviceGetPowerUsage"),
        ("counter=0 average=0 power=0", Role.LEDGER, INSTANT),
    ],
)
def test_the_best_power_reading_is_chosen_for_its_use(
    nvml_simulator: NvmlSimulator, card: str, role: Role, call: str
) -> None:
    channel = _by_stream(Rig(nvml_simulator, f"gpu {card}").sensor.open())["gpu0.power"]
    assert (channel.role, channel.source.partition(";")[0]) == (role, call)
    assert channel.update_period_ns == 100 * NS_PER_MS
    assert channel.averaging_ns == (25 * NS_PER_MS if call == INSTANT else NS_PER_S)


def test_the_module_of_a_grace_superchip_stands_beside_its_card(nvml_simulator: NvmlSimulator) -> None:
    rig = Rig(
        nvml_simulator, "gpu watts=300 module_w=150 name=NVIDIA-GH200-480GB;gpu watts=300 name=GB200;gpu module_w=9"
    )
    channels = _by_stream(rig.sensor.open())
    assert [channel.part for channel in channels.values() if channel.boundary is not Boundary.BOARD] == ["gpu_module0"]
    module = channels["gpu_module0.power"]
    assert (module.boundary, module.role, module.averaging_ns) == (Boundary.NODE, Role.LEDGER, None)
    assert module.sampling_period_ns is None
    assert module.source.startswith(
        "nvmlDeviceGetFieldValues(NVML_FI_DEV_POWER_INSTANT = 186, NVML_POWER_SCOPE_MODULE); NVIDIA-GH200-480GB"
    )
    shown = rig.shown()
    assert (shown["gpu_module0.power"], shown["gpu0.power"]) == (450_000, 300_000)


def test_a_counter_alone_is_enough(nvml_simulator: NvmlSimulator) -> None:
    channels = Rig(nvml_simulator, "gpu instant=0 average=0 power=0").sensor.open()
    assert [(c.quantity, c.role) for c in channels] == [(Quantity.ENERGY_COUNTER, Role.LEDGER)]


@pytest.mark.parametrize(
    ("card", "period_ms", "averaging_ms"),
    [
        ("arch=3", 100, 0),
        ("arch=4", 20, 10),
        ("arch=5", 20, 10),
        ("arch=6", 100, 100),
        ("arch=7", 100, 100),
        ("arch=7 name=NVIDIA-A100-SXM4-80GB", 100, 25),
        ("arch=8", 100, 100),
        ("arch=9", 100, 25),
        ("arch=10", 100, None),
    ],
)
def test_what_the_witness_averages_over_is_the_chips(
    nvml_simulator: NvmlSimulator, card: str, period_ms: int, averaging_ms: int | None
) -> None:
    channels = _by_stream(Rig(nvml_simulator, f"gpu {card}").sensor.open())
    power = channels["gpu0.power"]
    assert power.update_period_ns == period_ms * NS_PER_MS
    assert power.averaging_ns == (None if averaging_ms is None else averaging_ms * NS_PER_MS)
    assert channels["gpu0.energy_counter"].update_period_ns == 100 * NS_PER_MS
    assert power.settling_ns == (840 * NS_PER_MS if card == "arch=3" else None)


def test_the_most_a_card_may_draw_is_what_it_says_itself(nvml_simulator: NvmlSimulator) -> None:
    rig = Rig(nvml_simulator, "gpu limit_w=350;gpu;gpu limit_w=900 module_w=100 name=NVIDIA-GH200")
    limits = {channel.stream: channel.limit_w for channel in rig.sensor.open()}
    assert limits["gpu0.energy_counter"] == limits["gpu0.power"] == 350.0
    assert limits["gpu1.power"] is None
    assert (limits["gpu2.power"], limits["gpu_module2.power"]) == (900.0, None)


@pytest.mark.parametrize(("driver", "averaging_ms"), [("525.1", 1000), ("530.30", 100), ("545.2", 1000)])
def test_what_plain_power_means_on_ada_depends_on_the_driver(
    nvml_simulator: NvmlSimulator, driver: str, averaging_ms: int
) -> None:
    rig = Rig(nvml_simulator, f"driver={driver};gpu arch=8 counter=0 instant=0 average=0")
    power = _by_stream(rig.sensor.open())["gpu0.power"]
    assert power.averaging_ns == averaging_ms * NS_PER_MS


def test_the_drivers_buffer_gives_every_value_with_its_own_time(nvml_simulator: NvmlSimulator) -> None:
    rig = Rig(
        nvml_simulator,
        "gpu arch=4 counter=0 average=0 instant=0 samples=1 step_ms=20 usage_ms=10 watts=300 low=100 hz=1",
    )
    (channel,) = rig.sensor.open()
    assert channel.is_stamped
    assert channel.source.startswith("nvmlDeviceGetSamples")
    assert [type(result) for result in rig.sensor.read()] == [NotDue]
    start_ns = rig.clock.now_ns
    rig.advance(0.99)
    readings = [result for result in single(rig.sensor.read()) if isinstance(result, Reading)]
    offsets_ms = [round((reading.t_ns - start_ns) / NS_PER_MS) for reading in readings]
    assert offsets_ms == list(range(20, 981, 20))
    assert [reading.count for reading in readings] == [300_000.0] * 25 + [100_000.0] * 24
    assert [type(result) for result in rig.sensor.read()] == [NotDue]


SLOW_HOPPER = "gpu arch=9 samples=1 samples_ms=20 samples_window_ms=25 call_ms=2.6 watts=300 low=100 hz=1"


def slow_rig(simulator: NvmlSimulator, text: str = SLOW_HOPPER) -> tuple[SimulatedClock, NvmlSensor]:
    """A card whose counter takes 2.6 ms to answer, two seconds after its trace began."""
    clock = SimulatedClock(simulator)
    simulator.configure(text, now_ns=clock.now_ns)
    simulator.set_wall_offset_ns(clock.utc_offset_ns)
    clock.set_ns(clock.now_ns + 2 * NS_PER_S)
    return clock, NvmlSensor(clock, library=simulator.path)


def test_on_hopper_the_drivers_buffer_is_the_witness(nvml_simulator: NvmlSimulator) -> None:
    _, sensor = slow_rig(nvml_simulator)
    witness = _by_stream(sensor.open())["gpu0.power"]
    assert witness.role is Role.WITNESS
    assert witness.is_stamped
    assert (witness.update_period_ns, witness.averaging_ns) == (20 * NS_PER_MS, 25 * NS_PER_MS)
    assert witness.source.startswith("nvmlDeviceGetSamples(NVML_TOTAL_POWER_SAMPLES)")


def test_a_hopper_whose_driver_keeps_no_readings_is_read_as_before(nvml_simulator: NvmlSimulator) -> None:
    _, sensor = slow_rig(nvml_simulator, "gpu arch=9 call_ms=2.6")
    channels = _by_stream(sensor.open())
    assert "INSTANT" in channels["gpu0.power"].source
    assert channels["gpu0.energy_counter"].sampling_period_ns is None


def test_a_counter_beside_a_record_of_power_is_read_rarely_but_for_edges_and_the_last_time(
    nvml_simulator: NvmlSimulator,
) -> None:
    clock, sensor = slow_rig(nvml_simulator)
    described = _by_stream(sensor.open())["gpu0.energy_counter"]
    assert described.sampling_period_ns == 1500 * NS_PER_MS

    def kinds(seconds: float, urgency: Urgency) -> dict[str, type]:
        clock.set_ns(clock.monotonic_ns() + round(seconds * NS_PER_S))
        sensor.urgency = urgency
        return {result.stream: type(result) for result in single(sensor.read())}

    turns = [kinds(0.1, Urgency.IN_TURN)["gpu0.energy_counter"] for _ in range(60)]
    read_at = [index for index, kind in enumerate(turns) if kind is Reading]
    assert read_at[:4] == [0, 1, 3, 5]  # more often in the first seconds
    assert read_at[-1] - read_at[-2] == 14
    assert set(kinds(1.4, Urgency.IN_TURN).values()) == {Reading}
    assert set(kinds(0.1, Urgency.IN_TURN).values()) == {NotDue}
    assert kinds(0.05, Urgency.AT_EDGE) == {"gpu0.energy_counter": Reading, "gpu0.power": NotDue}
    assert kinds(0.55, Urgency.IN_TURN) == {"gpu0.energy_counter": NotDue, "gpu0.power": Reading}
    assert set(kinds(1.4, Urgency.IN_TURN).values()) == {Reading}
    assert set(kinds(0.05, Urgency.LAST).values()) == {Reading}


def test_a_card_with_a_record_of_power_rests_between_two_fetches_whatever_its_counter_costs(
    nvml_simulator: NvmlSimulator,
) -> None:
    _, slow = slow_rig(nvml_simulator)
    slow.open()
    assert slow.rests_ns == 750 * NS_PER_MS
    _, quick = slow_rig(nvml_simulator, SLOW_HOPPER.replace("call_ms=2.6", "call_ms=0"))
    channels = _by_stream(quick.open())
    assert channels["gpu0.energy_counter"].sampling_period_ns == 1500 * NS_PER_MS
    assert quick.rests_ns == 750 * NS_PER_MS
    _, polled = slow_rig(nvml_simulator, "gpu arch=9")
    assert polled.rests_ns == 0
    polled.open()
    assert polled.rests_ns == 0


@pytest.mark.parametrize(("empty", "newest_us"), [(0, 7), (3, 7), (4, None)])
def test_a_record_that_begins_when_it_is_first_asked_for_is_waited_for(
    empty: int, newest_us: int | None, nvml_simulator: NvmlSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml = nvml_library.load(nvml_simulator.path)
    answers: list[tuple[list[int], list[int]]] = [([], [])] * empty + [([5, 7], [100, 100])]
    waits_s: list[float] = []
    monkeypatch.setattr(nvml_library, "power_samples", lambda *_asked: answers.pop(0))
    read = buffer_source(nvml, waits_s.append).read
    if newest_us is None:
        with pytest.raises(nvml.NVMLError):
            read(None)
    else:
        assert read(None) == newest_us
    assert len(waits_s) == empty


def test_a_reading_of_the_buffer_whose_time_moved_by_microseconds_is_not_given_twice(
    nvml_simulator: NvmlSimulator,
) -> None:
    clock, sensor = slow_rig(nvml_simulator)
    sensor.open()
    sensor.urgency = Urgency.LAST
    stamps: list[int] = []
    for shift_us in (0, 7, -3, 5):
        nvml_simulator.set_wall_offset_ns(clock.utc_offset_ns + shift_us * 1_000)
        stamps += [one.t_ns for one in single(sensor.read()) if isinstance(one, Reading) and one.stream == "gpu0.power"]
        clock.set_ns(clock.monotonic_ns() + NS_PER_S // 10)
    assert min(later - earlier for earlier, later in itertools.pairwise(stamps)) > 19 * NS_PER_MS


def test_mig_is_measured_whole_and_said_so(nvml_simulator: NvmlSimulator) -> None:
    channels = Rig(nvml_simulator, "gpu mig=1").sensor.open()
    assert all("MIG mode: the whole card" in channel.source for channel in channels)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    watts=st.integers(50, 700),
    low=st.integers(0, 50),
    hz=st.sampled_from([0.0, 0.5, 1.3, 7.0]),
    gain=st.floats(0.9, 1.1),
    steps=st.integers(1, 60),
)
def test_the_counter_tells_the_true_energy_to_one_step_and_the_gain(
    nvml_simulator: NvmlSimulator, watts: int, low: int, hz: float, gain: float, steps: int
) -> None:
    rig = Rig(nvml_simulator, f"gpu watts={watts} low={low} hz={hz} gain={gain!r}")
    rig.sensor.open()
    start_ns = rig.clock.now_ns
    first = rig.shown()["gpu0.energy_counter"]
    rig.advance(steps * 0.09)
    last = rig.shown()["gpu0.energy_counter"]
    rig.sensor.close()
    assert isinstance(first, float)
    assert isinstance(last, float)
    true_j = nvml_simulator.true_energy_j(0, start_ns, rig.clock.now_ns)
    # the product may round to a hair below what the counter shows
    assert -1e-9 <= true_j * gain - (last - first) / 1000 <= watts * 0.1 * gain + 0.01


def test_power_is_in_milliwatts_and_of_its_own_window(nvml_simulator: NvmlSimulator) -> None:
    rig = Rig(nvml_simulator, "gpu watts=300 low=100 hz=1;gpu watts=300 low=100 hz=1 counter=0 usage_ms=1000")
    rig.sensor.open()
    rig.advance(2.4)
    shown = rig.shown()
    assert shown["gpu0.power"] == 300_000.0
    assert shown["gpu1.power"] == pytest.approx(200_000.0, abs=1.0)


def test_a_reading_is_stamped_in_the_middle_of_its_call(
    nvml_simulator: NvmlSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(nvml_simulator, "gpu instant=0 average=0 power=0")
    find = pynvml._nvmlGetFunctionPointer

    def slow(name: str) -> Callable[..., int]:
        function = find(name)

        def wait_and_call(*arguments: Any) -> int:
            rig.clock.advance(0.02)
            code: int = function(*arguments)
            return code

        return wait_and_call

    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer", slow)
    rig.sensor.open()
    begun_ns = rig.clock.now_ns
    (reading,) = rig.sensor.read()
    assert isinstance(reading, Reading)
    assert reading.t_ns == begun_ns + 10 * NS_PER_MS


def test_each_failing_call_is_a_failure_in_nvmls_words(nvml_simulator: NvmlSimulator) -> None:
    rig = Rig(nvml_simulator, "gpu fail_from_s=1 fail_until_s=2;gpu watts=50")
    rig.sensor.open()
    rig.advance(1.0)
    shown = rig.shown()
    assert shown["gpu0.energy_counter"] == "nvmlDeviceGetTotalEnergyConsumption: Unknown Error"
    assert shown["gpu0.power"] == f"{INSTANT}: Unknown Error"
    assert shown["gpu1.power"] == 50_000.0
    rig.advance(1.0)
    assert shown["gpu1.energy_counter"] == 50_000.0
    assert isinstance(rig.shown()["gpu0.power"], float)


def test_one_bad_answer_at_open_does_not_cost_the_counter(nvml_simulator: NvmlSimulator) -> None:
    streams = [channel.stream for channel in Rig(nvml_simulator, "gpu fail_every=2").sensor.open()]
    assert streams == ["gpu0.energy_counter", "gpu0.power"]


def test_a_lost_gpu_fails_and_the_others_go_on(nvml_simulator: NvmlSimulator) -> None:
    rig = Rig(nvml_simulator, "gpu watts=100 die_s=1;gpu watts=50")
    rig.sensor.open()
    rig.advance(1.5)
    for _ in range(40):  # beyond the first attempts to initialise NVML again
        shown = rig.shown()
        assert shown["gpu0.power"] == f"{INSTANT}: GPU is lost"
        assert shown["gpu1.power"] == 50_000.0
        rig.advance(1.0)


def test_a_lost_nvml_is_initialised_again_after_some_seconds(nvml_simulator: NvmlSimulator) -> None:
    rig = Rig(nvml_simulator, "gpu watts=100 uninit_s=1")
    rig.sensor.open()
    rig.advance(1.0)
    assert rig.shown()["gpu0.power"] == f"{INSTANT}: Uninitialized"
    rig.advance(4.0)
    assert rig.shown()["gpu0.power"] == f"{INSTANT}: Uninitialized"
    rig.advance(1.1)
    assert rig.shown()["gpu0.power"] == 100_000.0


def test_nvml_is_not_initialised_again_at_every_reading(
    nvml_simulator: NvmlSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(nvml_simulator, "gpu die_s=1")
    rig.sensor.open()
    inits: list[int] = []
    import pynvml

    monkeypatch.setattr(pynvml, "nvmlInit", lambda: inits.append(rig.clock.now_ns // NS_PER_S))
    for _ in range(100):
        rig.advance(1.0)
        rig.sensor.read()
    waits = [later - earlier for earlier, later in itertools.pairwise(inits)]
    assert 3 <= len(inits) <= 5
    assert waits == sorted(waits)
    assert min(waits) >= 9


def test_a_reset_counter_is_shown_as_it_is(nvml_simulator: NvmlSimulator) -> None:
    rig = Rig(nvml_simulator, "gpu watts=100 offset_mj=5000000 reset_s=1")
    rig.sensor.open()
    assert rig.shown()["gpu0.energy_counter"] == 5_000_000.0
    rig.advance(1.5)
    assert rig.shown()["gpu0.energy_counter"] == 50_000.0


@pytest.mark.parametrize("devices", [[1], ["GPU-00000000-0000-0000-0000-000000000001"]])
def test_devices_are_chosen_by_index_or_uuid(nvml_simulator: NvmlSimulator, devices: list[int | str]) -> None:
    rig = Rig(nvml_simulator, "gpu;gpu;gpu handle_error=15", devices=devices)
    assert {channel.part for channel in rig.sensor.open()} == {"gpu1"}
    assert rig.sensor.probe().absent == ()


def test_a_device_that_is_not_there_is_absent(nvml_simulator: NvmlSimulator) -> None:
    probe = Rig(nvml_simulator, "gpu", devices=[0, 4, "GPU-4711"]).sensor.probe()
    assert [absent.part for absent in probe.absent] == ["gpu4", "GPU-4711"]
    assert "has no device 4" in probe.absent[0].reason


def test_cuda_visible_devices_does_not_hide_a_card(
    nvml_simulator: NvmlSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert {channel.part for channel in Rig(nvml_simulator, "gpu;gpu").sensor.open()} == {"gpu0", "gpu1"}


def test_a_card_that_gives_nothing_is_absent_with_every_reason(nvml_simulator: NvmlSimulator) -> None:
    rig = Rig(nvml_simulator, "gpu;gpu counter=0 power=0 instant=0 average=0;gpu handle_error=15")
    probe = rig.sensor.probe()
    assert probe.usable
    silent, lost = probe.absent
    assert (silent.part, lost.part) == ("gpu1", "gpu2")
    assert silent.reason.count("Not Supported") == 5
    assert lost.reason == "nvml: gpu2: GPU is lost"
    assert lost.reason in probe.detail


def test_no_card_with_anything_is_not_usable(nvml_simulator: NvmlSimulator) -> None:
    probe = Rig(nvml_simulator, "gpu counter=0 power=0 instant=0 average=0").sensor.probe()
    assert not probe.usable
    assert [absent.part for absent in probe.absent] == ["gpu0"]


def test_no_card_at_all_is_not_usable(nvml_simulator: NvmlSimulator, tmp_path: Path) -> None:
    probe = Rig(nvml_simulator, "driver=1.2", device_root=str(tmp_path)).sensor.probe()
    assert (probe.usable, probe.detail, probe.absent) == (False, "driver 1.2: no NVIDIA GPU", ())


@pytest.mark.parametrize(
    ("code", "words", "cure"),
    [
        (9, "Driver Not Loaded", "modprobe"),
        (4, "Insufficient Permissions", "/dev/nvidiactl"),
        (18, "version mismatch", "reboot"),
        (999, "Unknown Error", "nvidia-smi"),
    ],
)
def test_an_nvml_that_does_not_start_says_why(
    nvml_simulator: NvmlSimulator, tmp_path: Path, code: int, words: str, cure: str
) -> None:
    probe = Rig(nvml_simulator, f"init_error={code}", device_root=str(tmp_path)).sensor.probe()
    assert not probe.usable
    assert words in probe.detail
    assert cure in probe.cure
    assert probe.absent == ()


def test_cards_with_device_files_are_absent_when_nvml_does_not_start(
    nvml_simulator: NvmlSimulator, tmp_path: Path
) -> None:
    for name in ("nvidia0", "nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm", "nvidia3x"):
        (tmp_path / name).touch()
    probe = Rig(nvml_simulator, "init_error=9", device_root=str(tmp_path)).sensor.probe()
    assert [absent.part for absent in probe.absent] == ["gpu0", "gpu2", "gpu10"]
    assert probe.absent[0].reason == "nvml: Driver Not Loaded"


def test_a_call_that_fails_while_cards_are_listed_leaves_nothing_open(
    nvml_simulator: NvmlSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(nvml_simulator, "gpu")
    pynvml = nvml_library.load(nvml_simulator.path)

    def refuse() -> int:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN)

    with monkeypatch.context() as patch:
        patch.setattr(pynvml, "nvmlDeviceGetCount", refuse)
        with pytest.raises(SensorUnavailableError, match="Unknown Error"):
            rig.sensor.open()
    assert not rig.sensor.read()
    assert len(rig.sensor.open()) == 2


def test_closing_survives_an_nvml_that_is_gone(nvml_simulator: NvmlSimulator) -> None:
    rig = Rig(nvml_simulator, "gpu")
    rig.sensor.open()
    nvml_library.load(nvml_simulator.path).nvmlShutdown()
    rig.sensor.close()
    assert not rig.sensor.read()


@pytest.mark.parametrize(
    "name", ["nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetFieldValues", "nvmlDeviceGetMigMode"]
)
def test_an_old_library_without_a_function_is_used_for_what_it_has(tmp_path: Path, name: str) -> None:
    simulator = NvmlSimulator(build(tmp_path, omit=[name]))
    rig = Rig(simulator, "gpu")
    channels = _by_stream(rig.sensor.open())
    rig.sensor.close()
    if name == "nvmlDeviceGetTotalEnergyConsumption":
        assert [(c.stream, c.role) for c in channels.values()] == [("gpu0.power", Role.LEDGER)]
    else:
        assert channels["gpu0.energy_counter"].role is Role.LEDGER
        assert ("PowerUsage" in channels["gpu0.power"].source) == (name == "nvmlDeviceGetFieldValues")


class _Answering:
    """A binding whose one function answers with a value of some type, in the bytes that NVML would write."""

    class NVMLError(Exception):
        """As the binding's, with its code."""

    def __init__(self, value_type: int, packed: bytes, *, code: int = 0, field_code: int = 0) -> None:
        self._answer = (value_type, packed, code, field_code)

    def _nvmlGetFunctionPointer(self, name: str) -> Callable[..., int]:
        assert name == "nvmlDeviceGetFieldValues"
        value_type, packed, code, field_code = self._answer

        def answer(_handle: object, _count: object, reference: Any) -> int:
            field = reference._obj
            assert field.field_id == 186
            field.value_type, field.code = value_type, field_code
            field.value = int.from_bytes(packed.ljust(8, b"\xff"), "little")
            return code

        return answer


@pytest.mark.parametrize(
    ("value_type", "packed", "expected"),
    [
        (0, struct.pack("<d", 1.9), 1),
        (1, struct.pack("<I", 2), 2),
        (3, struct.pack("<Q", 3), 3),
        (4, struct.pack("<q", -4), -4),
        (5, struct.pack("<i", 5), 5),
    ],
)
def test_a_field_is_read_by_its_type(value_type: int, packed: bytes, expected: int) -> None:
    assert nvml_library.field_reader(_Answering(value_type, packed), 186)(None) == expected


@pytest.mark.parametrize(
    "binding",
    [_Answering(77, b""), _Answering(1, b"", code=999), _Answering(1, b"", field_code=3)],
    ids=["unknown type", "call failed", "field failed"],
)
def test_a_field_that_cannot_be_read_is_nvmls_error(binding: _Answering) -> None:
    with pytest.raises(_Answering.NVMLError):
        nvml_library.field_reader(binding, 186)(None)


def test_a_missing_binding_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import: Callable[..., Any] = builtins.__import__

    def refuse(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name == "pynvml":
            raise ImportError("No module named 'pynvml'")
        return real_import(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", refuse)
    probe = NvmlSensor(FakeClock()).probe()
    assert not probe.usable
    assert probe.cure == "pip install nvidia-ml-py"


@pytest.mark.parametrize("gain_rel", [-0.1, 1.0])
def test_a_gain_that_is_no_fraction_is_refused(gain_rel: float) -> None:
    with pytest.raises(UsageError, match="fraction"):
        NvmlSensor(FakeClock(), gain_rel=gain_rel)


SCRIPT = """
from stillwatt.clock import SystemClock
from stillwatt.sensors.nvml import NvmlSensor
sensor = NvmlSensor(SystemClock())
print([channel.stream for channel in sensor.open()], [reading.count for reading in sensor.read()][1])
sensor.close()
"""


def test_another_process_finds_the_simulator_as_its_system_library(nvml_simulator_path: Path) -> None:
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(nvml_simulator_path.parent),
        ENVIRONMENT: "driver=570.1;gpu watts=123",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split("\n")[0] == "['gpu0.energy_counter', 'gpu0.power'] 123000.0"
