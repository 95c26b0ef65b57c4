"""Drivers for instruments that stand elsewhere, against fakes: what they read, and what they say when they cannot."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fake_devices import (
    IPMI_ANSWER,
    FakeAmd,
    FakeApple,
    FakeServer,
    fake_ipmitool,
    grace_tree,
    intel_tree,
    jetson_tree,
    put_module,
    serving,
    write_tree,
)
from fakes import FakeClock
from stillwatt.errors import SensorUnavailableError, UsageError
from stillwatt.records import Basis, Boundary, NotDue, Quantity, ReadFailure, Reading, Role
from stillwatt.sensors import Sensor
from stillwatt.sensors.amd import AmdSensor
from stillwatt.sensors.apple import AppleSensor
from stillwatt.sensors.hwmon import HwmonSensor
from stillwatt.sensors.intel_gpu import IntelGpuSensor
from stillwatt.sensors.ipmi import IpmiSensor
from stillwatt.sensors.jetson import JetsonSensor
from stillwatt.sensors.redfish import RedfishSensor
from stillwatt.sensors.smart_plug import SmartPlugSensor
from stillwatt.units import NS_PER_S


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with serving() as fake:
        yield fake


def _values(sensor: Sensor) -> dict[str, float]:
    """What the streams read now, in SI."""
    units = {channel.stream: channel.unit_si for channel in sensor.open()}
    results = sensor.read()
    assert all(isinstance(result, Reading) for result in results), results
    return {r.stream: r.count * units[r.stream] for r in results if isinstance(r, Reading)}


def _boundaries(sensor: Sensor) -> dict[str, Boundary]:
    return {channel.part: channel.boundary for channel in sensor.open()}


def _refused(sensor: Sensor) -> str:
    """What a sensor says that cannot be used; the cure is never empty."""
    probe = sensor.probe()
    assert not probe.usable
    assert probe.cure
    with pytest.raises(SensorUnavailableError):
        sensor.open()
    return probe.detail


# files ----------------------------------------------------------------------------------------------------------------


def test_grace_books_the_socket_and_keeps_the_module_beside_it(tmp_path: Path) -> None:
    sensor = HwmonSensor(FakeClock(), root=grace_tree(tmp_path))
    assert _values(sensor) == {"cpu0.power": pytest.approx(90.0), "module0.power": pytest.approx(450.0)}
    assert _boundaries(sensor) == {"cpu0": Boundary.CHIP, "module0": Boundary.NODE}
    socket = sensor.open()[0]
    assert (socket.averaging_ns, socket.update_period_ns) == (50_000_000, 50_000_000)
    assert "Grace Power Socket 0" in socket.source


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("CPU Power Socket 1", {"cores1": Boundary.RAIL}),
        ("SysIO Power Socket 0", {"sysio0": Boundary.RAIL}),
        ("", {"node0": Boundary.NODE}),
    ],
)
def test_acpi_meters_by_their_label(tmp_path: Path, label: str, expected: dict[str, Boundary]) -> None:
    tree: dict[str, str | int] = {
        "hwmon0/name": "power_meter",
        "hwmon0/power1_oem_info": label,
        "hwmon0/power1_average": 1,
    }
    assert _boundaries(HwmonSensor(FakeClock(), root=write_tree(tmp_path, tree))) == expected


def test_amd_energy_books_its_sockets_and_no_cores(tmp_path: Path) -> None:
    tree: dict[str, str | int] = {"hwmon0/name": "amd_energy"}
    for number, (label, count) in enumerate([("Ecore000", 1), ("Esocket0", 5_000_000), ("Esocket1", 6_000_000)], 1):
        tree |= {f"hwmon0/energy{number}_label": label, f"hwmon0/energy{number}_input": count}
    sensor = HwmonSensor(FakeClock(), root=write_tree(tmp_path, tree))
    assert _values(sensor) == {"cpu0.energy_counter": 5.0, "cpu1.energy_counter": 6.0}


def test_a_rail_that_is_named_is_read_and_one_that_is_not_there_is_told(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, {"hwmon0/name": "ina226", "hwmon0/power1_input": 12_500_000})
    rail = {"chip": "ina226", "file": "power1_input", "part": "board0", "boundary": "node"}
    sensor = HwmonSensor(FakeClock(), root=tree, rails=[rail])
    assert _values(sensor) == {"board0.power": 12.5}
    assert _boundaries(sensor) == {"board0": Boundary.NODE}
    assert "ina999" in _refused(HwmonSensor(FakeClock(), root=tree, rails=[{**rail, "chip": "ina999"}]))
    assert str(tmp_path) in _refused(HwmonSensor(FakeClock(), root=tree))


@pytest.mark.parametrize(
    ("rail", "words"),
    [
        ({"chip": "x", "file": "power1_input", "part": "a"}, "boundary"),
        ({"chip": "x", "file": "../../etc/passwd", "part": "a", "boundary": "chip"}, "not a hwmon file"),
        ({"chip": "x", "file": "power1_input", "part": "a", "boundary": "box"}, "box"),
    ],
)
def test_a_rail_that_cannot_be_meant_is_refused(rail: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        HwmonSensor(FakeClock(), rails=[rail])


@pytest.mark.parametrize(
    ("labels", "joules", "boundary"),
    [((""), 7.0, Boundary.BOARD), (("card", "pkg"), 7.0, Boundary.BOARD), (("pkg",), 7.0, Boundary.CHIP)],
)
def test_an_intel_card_is_one_counter(
    tmp_path: Path, labels: tuple[str, ...], joules: float, boundary: Boundary
) -> None:
    sensor = IntelGpuSensor(FakeClock(), root=intel_tree(tmp_path, driver="xe", labels=labels or ("",)))
    assert _values(sensor) == {"gpu_intel0.energy_counter": joules}
    assert _boundaries(sensor) == {"gpu_intel0": boundary}


def test_intel_cards_are_numbered_by_their_addresses(tmp_path: Path) -> None:
    for number in (4, 5):
        write_tree(tmp_path, {f"hwmon{number}/name": "i915", f"hwmon{number}/energy1_input": number})
    _linked(tmp_path, hwmon4="0000:83:00.0", hwmon5="0000:03:00.0")
    channels = IntelGpuSensor(FakeClock(), root=tmp_path).open()
    assert {c.part: c.device for c in channels} == {"gpu_intel0": "0000:03:00.0", "gpu_intel1": "0000:83:00.0"}
    assert channels[0].source.endswith("(i915, card or its package)")


def test_intel_cards_can_be_chosen_and_one_that_is_not_there_is_named(tmp_path: Path) -> None:
    for number in (4, 5, 6):
        write_tree(tmp_path, {f"hwmon{number}/name": "xe", f"hwmon{number}/energy1_input": 1_000_000 * number})
    _linked(tmp_path, hwmon4="0000:83:00.0", hwmon5="0000:03:00.0", hwmon6="0000:a1:00.0")
    (tmp_path / "hwmon6" / "energy1_input").unlink()
    sensor = IntelGpuSensor(FakeClock(), root=tmp_path, devices=[0, "0000:83:00.0", 2, 7])
    assert _values(sensor) == {"gpu_intel0.energy_counter": 5.0, "gpu_intel1.energy_counter": 4.0}
    silent, missing = sensor.probe().absent
    assert (silent.part, missing.part) == ("gpu_intel2", "gpu_intel7")
    assert missing.reason == f"intel_gpu: no energy counter of card 7 in {tmp_path}"
    with pytest.raises(SensorUnavailableError, match=r"no energy counter of Intel GPU 0000:ff:00\.0"):
        IntelGpuSensor(FakeClock(), root=tmp_path, devices=["0000:ff:00.0"]).open()


def test_a_jetson_books_its_input_and_keeps_the_rails_inside_it(tmp_path: Path) -> None:
    sensor = JetsonSensor(FakeClock(), root=jetson_tree(tmp_path))
    assert _values(sensor) == pytest.approx(
        {"module0.power": 5.0, "rail-vdd-cpu-gpu-cv.power": 10.0, "rail-vdd-soc.power": 15.0}
    )
    assert set(_boundaries(sensor).values()) == {Boundary.BOARD, Boundary.RAIL}


def test_a_jetson_without_an_input_rail_books_all_of_them(tmp_path: Path) -> None:
    sensor = JetsonSensor(FakeClock(), root=jetson_tree(tmp_path, labels=("VDD_GPU_SOC", "VDD_CPU_CV", "NC")))
    assert set(_boundaries(sensor).values()) == {Boundary.BOARD}
    assert len(sensor.open()) == 2


def test_a_rail_that_feeds_from_another_metered_one_is_added_to_nothing(tmp_path: Path) -> None:
    tree = jetson_tree(tmp_path, labels=("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"))
    memory = "ina3221/1-0041/hwmon/hwmon2"
    files: dict[str, str | int] = {"in1_label": "NC", "in2_label": "VDDQ_VDD2_1V8AO", "in2_input": 5000}
    write_tree(tree, {f"{memory}/{name}": value for name, value in {**files, "curr2_input": 200}.items()})
    sensor = JetsonSensor(FakeClock(), root=tree)
    assert _boundaries(sensor) == {
        "rail-vdd-gpu-soc": Boundary.BOARD,
        "rail-vdd-cpu-cv": Boundary.BOARD,
        "rail-vin-sys-5v0": Boundary.BOARD,
        "rail-vddq-vdd2-1v8ao": Boundary.RAIL,
    }
    assert "inside VIN_SYS_5V0" in next(c.source for c in sensor.open() if c.boundary is Boundary.RAIL)


def test_rails_may_be_called_in_any_language(tmp_path: Path) -> None:
    sensor = JetsonSensor(FakeClock(), root=jetson_tree(tmp_path, labels=("VDD_IN", "電源", "主機")))
    assert set(_boundaries(sensor)) == {"module0", "rail-電源", "rail-主機"}


def test_a_power_that_nothing_draws_is_a_failed_reading(tmp_path: Path) -> None:
    tree = jetson_tree(tmp_path)
    write_tree(tree, {"ina3221/1-0040/hwmon/hwmon1/curr1_input": -8})
    sensor = JetsonSensor(FakeClock(), root=tree)
    assert "module0" in _boundaries(sensor)  # one such reading at the beginning costs no run its instrument
    failure, *_ = sensor.read()
    assert isinstance(failure, ReadFailure)
    assert "-0.04 W is no power" in failure.reason
    write_tree(tree, {"ina3221/1-0040/hwmon/hwmon1/curr1_input": 1000})
    assert _values(sensor)["module0.power"] == 5.0


def _linked(root: Path, **devices: str) -> None:
    """Let hwmon folders show the devices behind them."""
    for folder, address in devices.items():
        device = root / "devices" / address
        device.mkdir(parents=True, exist_ok=True)
        (root / folder / "device").symlink_to(device)


def test_a_card_whose_folder_got_another_number_is_still_the_same_card(tmp_path: Path) -> None:
    """Where two cards' drivers are loaded anew, each folder may be the other card's."""
    root = tmp_path / "hwmon"
    for number, microjoules in ((4, 7_000_000), (5, 99_000_000)):
        write_tree(root, {f"hwmon{number}/name": "xe", f"hwmon{number}/energy1_input": microjoules})
    _linked(root, hwmon4="0000:03:00.0", hwmon5="0000:83:00.0")
    sensor = IntelGpuSensor(FakeClock(), root=root)
    before = _values(sensor)
    (root / "hwmon4").rename(root / "hwmon9")
    (root / "hwmon5").rename(root / "hwmon4")
    for file in sensor._files:
        file.close()  # as after the first reading of a device that went away
    assert _values(sensor) == before == {"gpu_intel0.energy_counter": 7.0, "gpu_intel1.energy_counter": 99.0}
    (root / "hwmon9").rename(tmp_path / "gone")
    sensor._files[0].close()
    failure, _ = sensor.read()
    assert isinstance(failure, ReadFailure)
    assert "No such device" in failure.reason


def test_acpi_meters_that_are_not_one_node(tmp_path: Path) -> None:
    meter: dict[str, str | int] = {"name": "power_meter", "power1_average": 200_000_000}
    for number in (0, 1):
        write_tree(tmp_path / "two", {f"hwmon{number}/{name}": value for name, value in meter.items()})
    assert "2 ACPI meters without a label" in _refused(HwmonSensor(FakeClock(), root=tmp_path / "two"))
    battery = {f"hwmon0/{name}": value for name, value in {**meter, "power1_is_battery": 1}.items()}
    assert "no power" in _refused(HwmonSensor(FakeClock(), root=write_tree(tmp_path / "battery", battery)))
    unknown = {f"hwmon0/{name}": value for name, value in {**meter, "power1_average": 0xFFFF_FFFF * 1000}.items()}
    silent = HwmonSensor(FakeClock(), root=write_tree(tmp_path / "unknown", unknown))
    assert "knows none" in _refused(silent)
    assert "chmod" not in silent.probe().cure


def test_a_rail_of_two_chips_with_one_name_says_which(tmp_path: Path) -> None:
    for number in (1, 2):
        write_tree(tmp_path, {f"hwmon{number}/name": "amdgpu", f"hwmon{number}/power1_average": number * 10_000_000})
    _linked(tmp_path, hwmon1="0000:03:00.0", hwmon2="0000:83:00.0")
    rail = {"chip": "amdgpu", "file": "power1_average", "part": "gpu0", "boundary": "board"}
    assert "say which by `device`: 0000:03:00.0, 0000:83:00.0" in _refused(
        HwmonSensor(FakeClock(), root=tmp_path, rails=[rail])
    )
    second = {**rail, "device": "0000:83:00.0"}
    assert _values(HwmonSensor(FakeClock(), root=tmp_path, rails=[second])) == {"gpu0.power": 20.0}
    gone = HwmonSensor(FakeClock(), root=tmp_path, rails=[{**rail, "device": "0000:99:00.0"}])
    assert "0000:99:00.0" in _refused(gone)
    with pytest.raises(UsageError, match="same part"):
        HwmonSensor(FakeClock(), rails=[rail, second])


def test_a_named_rail_goes_before_what_is_known_and_a_counter_before_its_power(tmp_path: Path) -> None:
    write_tree(tmp_path, {"hwmon0/name": "power_meter", "hwmon0/power1_average": 200_000_000})
    write_tree(tmp_path, {"hwmon1/name": "psu", "hwmon1/power1_input": 210_000_000, "hwmon1/energy1_input": 5_000_000})
    rails = [
        {"chip": "psu", "file": name, "part": "node0", "boundary": "node"} for name in ("power1_input", "energy1_input")
    ]
    sensor = HwmonSensor(FakeClock(), root=tmp_path, rails=rails)
    assert _values(sensor) == {"node0.power": 210.0, "node0.energy_counter": 5.0}
    assert {c.quantity: c.role for c in sensor.open()} == {
        Quantity.POWER: Role.WITNESS,
        Quantity.ENERGY_COUNTER: Role.LEDGER,
    }


def test_an_older_jetson_by_its_iio_files(tmp_path: Path) -> None:
    place = "ina3221x/1-0040/iio:device0"
    tree: dict[str, str | int] = {f"{place}/rail_name_0": "POM_5V_IN", f"{place}/in_power0_input": 4200}
    assert _values(JetsonSensor(FakeClock(), root=write_tree(tmp_path, tree))) == {"module0.power": 4.2}


def test_a_file_that_comes_back_is_read_again(tmp_path: Path) -> None:
    tree = intel_tree(tmp_path)
    sensor = IntelGpuSensor(FakeClock(), root=tree)
    sensor.open()
    count_at = tree / "hwmon4/energy1_input"
    count_at.write_text("gone\n")
    (failure,) = sensor.read()
    assert isinstance(failure, ReadFailure)
    assert "not a number" in failure.reason
    count_at.write_text("9000000\n")
    assert _values(sensor) == {"gpu_intel0.energy_counter": 9.0}


def test_a_file_that_only_root_may_read_is_absent_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    tree = intel_tree(tmp_path)
    real = os.open

    def closed(path: Any, *args: Any, **kwargs: Any) -> int:
        if str(path).endswith("energy1_input"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", closed)
    probe = IntelGpuSensor(FakeClock(), root=tree).probe()
    assert not probe.usable
    assert "energy1_input: Permission denied" in probe.detail
    assert [absent.part for absent in probe.absent] == ["gpu_intel0"]


# AMD and Apple --------------------------------------------------------------------------------------------------------


def _amd(monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[AmdSensor, FakeAmd, FakeClock]:
    clock = FakeClock()
    fake = FakeAmd(seconds=lambda: clock.now_ns / NS_PER_S, **options)
    put_module(monkeypatch, fake.module())
    return AmdSensor(clock, sleep=clock.advance), fake, clock


def test_amd_books_the_accumulator_with_power_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sensor, fake, clock = _amd(monkeypatch)
    before = _values(sensor)
    assert {c.part: c.device for c in sensor.open()} == {"gpu_amd0": "uuid-0", "gpu_amd1": "uuid-1"}
    clock.advance(10.0)
    after = _values(sensor)
    grown = {stream: after[stream] - before[stream] for stream in after}
    assert grown["gpu_amd0.energy_counter"] == pytest.approx(2000.0, rel=1e-4)
    assert after["gpu_amd1.power"] == 100.0
    assert {c.stream: c.role for c in sensor.open()}["gpu_amd0.power"] is Role.WITNESS
    sensor.close()
    assert not fake.is_initialised


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stuck": frozenset({0, 1})}, "stands still while the card draws 200 W"),
        ({"counts_a_joule": 1.0}, "while the card says 200 W"),
        ({"counts_a_joule": 1e9 / 15.3, "watts": (3.0, 4.0)}, "it says 3e+03 W while the card says 3 W"),
        ({"no_energy": frozenset({0, 1})}, "no energy accumulator"),
    ],
)
def test_amd_books_power_where_the_accumulator_is_known_to_lie(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], words: str
) -> None:
    sensor, _, _ = _amd(monkeypatch, **options)
    channels = sensor.open()
    assert [(c.quantity, c.role) for c in channels] == [(Quantity.POWER, Role.LEDGER)] * 2
    assert words in channels[0].source


def test_amd_reads_what_an_older_binding_calls_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    sensor, _, _ = _amd(monkeypatch, energy_key="power", watts=(50.0,))
    assert sensor.open()[0].quantity is Quantity.ENERGY_COUNTER
    assert isinstance(sensor.read()[0], Reading)


def test_amd_says_which_card_gives_nothing_and_which_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    _, fake, clock = _amd(monkeypatch, no_energy=frozenset({1}), no_power=frozenset({1}))
    sensor = AmdSensor(clock, devices=[0, 1, 7], sleep=clock.advance)
    probe = sensor.probe()
    assert probe.usable
    assert {absent.part for absent in probe.absent} == {"gpu_amd1", "gpu_amd7"}
    assert not fake.is_initialised


def test_partitions_of_a_socket_are_one_part_with_one_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    places = {"addresses": tuple(f"0000:{bus}:00.{one}" for bus in ("0c", "22") for one in range(4))}
    sensor, fake, clock = _amd(monkeypatch, watts=(130.0,) * 4 + (170.0,) * 4, **places, partition_ids=(0, 1, 2, 3) * 2)
    assert _boundaries(sensor) == {"gpu_amd0": Boundary.BOARD, "gpu_amd4": Boundary.BOARD}
    assert "4 partitions together" in sensor.open()[0].source
    fake.processes = [{"pid": os.getpid(), "memory_usage": {}}]
    (use,) = sensor.users({"gpu_amd4"})
    assert [user.pid for user in use.users or ()] == [os.getpid()]
    of_third = AmdSensor(clock, devices=[6], sleep=clock.advance)
    assert set(_boundaries(of_third)) == {"gpu_amd4"}
    apart, *_ = _amd(monkeypatch, watts=(130.0, 170.0), addresses=("0:5:0.0", "0:5:0.1"), partition_ids=(0, 0))
    assert set(_boundaries(apart)) == {"gpu_amd0", "gpu_amd1"}


def test_the_second_die_of_a_card_is_left_out_where_the_first_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    sensor, _, clock = _amd(monkeypatch, watts=(89.0, 0.0, 93.0, 0.0))
    probe = sensor.probe()
    assert {channel.part for channel in probe.channels} == {"gpu_amd0", "gpu_amd2"}
    assert probe.absent == ()
    assert "gpu_amd3 shows 0 W and 0 J" in probe.detail
    alone = AmdSensor(clock, devices=[1, 2], sleep=clock.advance).probe()
    assert [absent.part for absent in alone.absent] == ["gpu_amd1"]


@pytest.mark.parametrize("told_by", ["table", "name"])
def test_an_apu_is_a_cpus_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told_by: str) -> None:
    _, _, clock = _amd(
        monkeypatch,
        addresses=("0000:03:00.0", "0000:c5:00.0"),
        names=("Radeon RX 7900", "AMD Instinct MI300A" if told_by == "name" else "Radeon 8060S"),
    )
    for address, table in {"0000:03:00.0": 1, "0000:c5:00.0": 1 if told_by == "name" else 3}.items():
        (tmp_path / address).mkdir()
        (tmp_path / address / "gpu_metrics").write_bytes(bytes([120, 0, table, 0, 9, 9]))
    sensor = AmdSensor(clock, sleep=clock.advance, pci_root=str(tmp_path))
    assert _boundaries(sensor) == {"gpu_amd0": Boundary.BOARD, "cpu0": Boundary.CHIP}
    assert "its CPU is in it" in sensor.open()[-1].source
    assert [use.part for use in sensor.users({"gpu_amd0", "cpu0"})] == ["gpu_amd0"]


def test_amd_without_the_library_keeps_the_bindings_words_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "amdsmi", raising=False)
    package = tmp_path / "amdsmi.py"
    package.write_text("print('noise')\nraise KeyError('ROCM_PATH')\n")
    monkeypatch.syspath_prepend(tmp_path)
    kfd = write_tree(tmp_path / "kfd", {"0/gpu_id": 0, "1/gpu_id": 5125})
    sensor = AmdSensor(FakeClock(), kfd_root=str(kfd))
    assert "ROCM_PATH" in _refused(sensor)
    assert [absent.part for absent in sensor.probe().absent] == ["gpu_amd0"]
    assert "noise" not in capsys.readouterr().out


def test_cards_that_the_kernel_knows_are_missed_once_and_an_apus_gpu_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, _, clock = _amd(monkeypatch, error="no permission on /dev/kfd")
    kfd: dict[str, str | int] = {"0/gpu_id": 0}
    for node, location in enumerate((0x0C00, 0x0C01, 0x0C02, 0x2200, 0xC500), 1):
        kfd |= {f"{node}/gpu_id": 5000 + node, f"{node}/properties": f"simd_count 4\nlocation_id {location}\ndomain 0"}
    write_tree(tmp_path / "kfd", kfd)
    apu = tmp_path / "pci/0000:c5:00.0"
    apu.mkdir(parents=True)
    (apu / "gpu_metrics").write_bytes(bytes([120, 0, 2, 4]))
    probe = AmdSensor(clock, kfd_root=str(tmp_path / "kfd"), pci_root=str(tmp_path / "pci")).probe()
    assert [absent.part for absent in probe.absent] == ["gpu_amd0", "gpu_amd1"]


def test_amd_lists_processes_with_their_memory_and_no_share(monkeypatch: pytest.MonkeyPatch) -> None:
    sensor, fake, clock = _amd(monkeypatch)
    assert (sensor.users({"gpu_amd0"}), sensor.cards()) == ((), ())
    sensor.open()
    assert [card.index for card in sensor.cards()] == [None, None]
    fake.processes = [
        {"name": "secret", "pid": os.getpid(), "mem": 9, "memory_usage": {"vram_mem": 5}, "engine_usage": {"gfx": 1}},
        {"name": "secret", "pid": 99_999_999, "memory_usage": {"vram_mem": "N/A"}},
        {"pid": 99_999_998},
    ]
    first = sensor.users({"gpu_amd0"})
    clock.advance(1.0)
    (use,) = sensor.users({"gpu_amd0"})
    assert (first[0].since_ns, use.since_ns, use.t_ns) == (first[0].t_ns, first[0].t_ns, clock.now_ns)
    assert [(user.pid, user.sm_share, user.memory_bytes) for user in use.users or ()] == [
        (os.getpid(), None, 5),
        (99_999_999, None, None),
        (99_999_998, None, None),
    ]
    assert "secret" not in repr(use)


@pytest.mark.parametrize("answer", ["not supported", None, [object()], [{"name": "x"}], [{"pid": "N/A"}]])
def test_amd_that_lists_no_processes_says_why(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    sensor, fake, _ = _amd(monkeypatch)
    sensor.open()
    fake.processes = answer
    (use,) = sensor.users({"gpu_amd1"})
    assert use.users is None
    assert use.reason.startswith("amdsmi_get_gpu_process_list: ")


def test_amd_tells_how_hip_counts_its_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    uuids = [f"GPU-{number:016x}" for number in range(3)]
    sensor, _, _ = _amd(
        monkeypatch,
        watts=(200.0, 0.0, 100.0),
        stuck=frozenset(),
        hip=((1, uuids[1]), (2, "N/A"), (0, uuids[0])),
    )
    sensor.open()
    found = [(card.part, card.index, card.uuid, card.runtime, card.holds_cpu) for card in sensor.cards()]
    assert found == [
        ("gpu_amd0", 1, uuids[1], "hip", False),
        ("gpu_amd0", 2, "", "hip", False),  # a second die: what it draws is shown by the first
        ("gpu_amd2", 0, uuids[0], "hip", False),
    ]
    untold, _, _ = _amd(monkeypatch, hip=(("N/A", ""), (True, None)))
    untold.open()
    assert [card.index for card in untold.cards()] == [None, None]
    apu, _, _ = _amd(monkeypatch, names=("AMD Instinct MI300A", "MI300X"), hip=((0, uuids[0]), (1, uuids[1])))
    apu.open()
    assert [(card.part, card.holds_cpu) for card in apu.cards()] == [("cpu0", True), ("gpu_amd1", False)]


def test_amd_that_cannot_be_initialised_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    sensor, _, _ = _amd(monkeypatch, error="no permission on /dev/kfd")
    assert "/dev/kfd" in _refused(sensor)
    assert sensor.read() == []


def test_apple_counts_what_the_chip_fills_and_calls_it_modelled(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    fake = FakeApple(seconds=lambda: clock.now_ns / NS_PER_S)
    put_module(monkeypatch, fake.module())
    sensor = AppleSensor(clock)
    clock.advance(9.0)
    assert _values(sensor) == pytest.approx(
        {"cpu0.energy_counter": 100.0, "gpu0.energy_counter": 200.0, "dram0.energy_counter": 20.0}
    )
    assert {channel.basis for channel in sensor.open()} == {Basis.MODELLED}
    fake.missing = frozenset({"gpu_mj"})
    assert [type(result) for result in sensor.read()] == [Reading, ReadFailure, Reading]
    sensor.close()
    fake.missing = frozenset({"cpu_total_mj", "gpu_mj", "dram_mj", "ane_mj"})
    assert "no energy field" in _refused(sensor)
    fake.error = "IOReport is gone"
    assert "IOReport is gone" in _refused(sensor)


# controllers and plugs ------------------------------------------------------------------------------------------------


def test_ipmi_reads_the_nodes_power_at_its_own_pace(tmp_path: Path) -> None:
    clock = FakeClock()
    sensor = IpmiSensor(clock, command=str(fake_ipmitool(tmp_path)))
    assert _values(sensor) == {"node0.power": 220.0}
    assert _boundaries(sensor) == {"node0": Boundary.NODE}
    clock.advance(0.1)
    assert sensor.read() == [NotDue(stream="node0.power")]
    clock.advance(1.0)
    assert isinstance(sensor.read()[0], Reading)


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        ("DCMI request failed because: Invalid command (c1)\n", 1, "Invalid command"),
        ("", 3, "exit status 3"),
        (IPMI_ANSWER.replace("activated", "deactivated"), 0, "Instantaneous"),
        (IPMI_ANSWER.replace(" 220 Watts", "   0 Watts"), 0, "no running node draws"),
        ("nothing of the kind\n", 0, "nothing of the kind"),
    ],
)
def test_ipmi_says_what_the_command_said(tmp_path: Path, answer: str, status: int, words: str) -> None:
    command = str(fake_ipmitool(tmp_path, answer=answer, status=status))
    assert words in _refused(IpmiSensor(FakeClock(), command=command))


def test_ipmi_without_the_command_or_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no command" in _refused(IpmiSensor(FakeClock(), command="no-such-ipmitool"))
    monkeypatch.setattr("stillwatt.sensors.ipmi._TIMEOUT_S", 0.2)
    slow = IpmiSensor(FakeClock(), command=str(fake_ipmitool(tmp_path, sleep_s=2.0)))
    assert "no answer in 0 s" in _refused(slow)


def _redfish(server: FakeServer, **options: Any) -> RedfishSensor:
    return RedfishSensor(FakeClock(), url=server.url, user_env="", password_env="", **options)


CHASSIS = "/redfish/v1/Chassis"


def test_redfish_finds_the_chassis_with_a_power_and_then_asks_only_that(server: FakeServer) -> None:
    server.answers = {
        CHASSIS: {"Members": [{"@odata.id": f"{CHASSIS}/fans/"}, {"@odata.id": f"{CHASSIS}/1"}]},
        f"{CHASSIS}/1/EnvironmentMetrics": {"PowerWatts": {"Reading": 321.5}, "EnergyJoules": {"Reading": 7200}},
    }
    sensor = _redfish(server)
    assert _values(sensor) == {"node0.power": 321.5, "node0.energy_counter": 7200.0}
    assert {c.quantity: c.role for c in sensor.open()} == {
        Quantity.POWER: Role.WITNESS,
        Quantity.ENERGY_COUNTER: Role.LEDGER,
    }
    assert server.asked[-1] == f"{CHASSIS}/1/EnvironmentMetrics"
    assert f"{CHASSIS}/1" in sensor.describe()


def test_redfish_reads_the_older_power_resource(server: FakeServer) -> None:
    server.answers = {f"{CHASSIS}/Self/Power": {"PowerControl": [{"PowerConsumedWatts": 250}]}}
    assert _values(_redfish(server, chassis="Self")) == {"node0.power": 250.0}


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({}, "404"),
        ({CHASSIS: {"Members": []}}, "lists no chassis"),
        ({CHASSIS: {"Members": None}}, "lists no chassis"),
        ({CHASSIS: {"Members": 3}}, "lists no chassis"),
        ({CHASSIS: b"[" * 100_000}, "not JSON"),
        (
            {
                CHASSIS: {"Members": [{"@odata.id": f"{CHASSIS}/1"}]},
                f"{CHASSIS}/1/EnvironmentMetrics": {"PowerWatts": {"Reading": 0}},
            },
            "no running node draws",
        ),
        ({CHASSIS: b"<html>"}, "not JSON"),
        ({CHASSIS: 503}, "503"),
        ({CHASSIS: {"Members": [{"@odata.id": f"{CHASSIS}/1"}]}, f"{CHASSIS}/1/Power": {"x": 1}}, "nothing at"),
    ],
)
def test_redfish_says_what_it_was_answered(server: FakeServer, answers: dict[str, Any], words: str) -> None:
    server.answers = answers
    assert words in _refused(_redfish(server))


def test_a_controller_with_several_powers_is_asked_which_is_the_nodes(server: FakeServer) -> None:
    """A part of the node or the enclosure around it would be booked as the node, whichever is listed first."""
    watts = {"HGX_GPU_SXM_1": 110, "DGX": 5200, "fans": None}
    server.answers = {CHASSIS: {"Members": [{"@odata.id": f"{CHASSIS}/{name}"} for name in watts]}}
    server.answers |= {
        f"{CHASSIS}/{name}/EnvironmentMetrics": {"PowerWatts": {"Reading": w}} for name, w in watts.items()
    }
    assert "(HGX_GPU_SXM_1 110 W, DGX 5200 W); name the node's" in _refused(_redfish(server))
    assert _values(_redfish(server, chassis="DGX")) == {"node0.power": 5200.0}


def test_a_controller_that_lists_more_than_can_be_asked_is_told_of_at_once(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The measured program waits for its instruments."""
    server.answers = {CHASSIS: {"Members": [{"@odata.id": f"{CHASSIS}/card{number}"} for number in range(40)]}}
    clock = FakeClock()
    sensor = RedfishSensor(clock, url=server.url, user_env="", password_env="")
    answer = server.answer

    def slowly(path: str, authorization: str) -> tuple[int, bytes]:
        clock.advance(0.5)
        return answer(path, authorization)

    monkeypatch.setattr(server, "answer", slowly)
    assert "name the node's with the option `chassis`" in sensor.probe().detail
    assert len(server.asked) < 15


def test_the_password_goes_to_no_other_server(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDFISH_USER", "reader")
    monkeypatch.setenv("REDFISH_PASSWORD", "secret-word")
    with serving() as other:
        place = f"{CHASSIS}/1/Power"
        server.redirects = {f"{CHASSIS}/1/EnvironmentMetrics": f"{other.url}/x", place: f"{place}/"}
        server.answers = {f"{place}/": {"PowerControl": [{"PowerConsumedWatts": 250}]}}
        assert _values(RedfishSensor(FakeClock(), url=server.url, chassis="1")) == {"node0.power": 250.0}
        server.redirects = dict.fromkeys([place, f"{CHASSIS}/1/EnvironmentMetrics"], other.url)
        refusal = _refused(RedfishSensor(FakeClock(), url=server.url, chassis="1"))
        assert "sends on to http://127.0.0.1" in refusal
        assert other.asked == []


def test_an_answer_without_an_end_is_given_up(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stillwatt.sensors.web._TIMEOUT_S", 0.2)
    server.drips_s = 0.05
    server.answers = {f"{CHASSIS}/1/Power": {"PowerControl": [{"PowerConsumedWatts": 250}] * 100}}
    assert "no end of the answer" in _refused(_redfish(server, chassis="1"))


def test_redfish_logs_in_by_the_environment_and_tells_nobody(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDFISH_USER", "reader")
    monkeypatch.setenv("REDFISH_PASSWORD", "secret-word")
    server.answers = {f"{CHASSIS}/1/Power": {"PowerControl": [{"PowerConsumedWatts": 250}]}}
    server.wanted_authorization = "Basic cmVhZGVyOnNlY3JldC13b3Jk"
    sensor = RedfishSensor(FakeClock(), url=server.url, chassis="1")
    assert _values(sensor) == {"node0.power": 250.0}
    server.wanted_authorization = "Basic other"
    monkeypatch.setattr(sensor, "_asked_ns", None)
    (failure, *_) = sensor.read()
    assert isinstance(failure, ReadFailure)
    assert "401" in failure.reason
    assert "secret-word" not in f"{failure.reason} {sensor.open()} {sensor.probe()}"


def test_addresses_that_cannot_be_meant_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDFISH_USER", raising=False)
    for options, words in [
        ({"url": "ftp://x"}, "not an http address"),
        ({"url": "http://me:secret@bmc"}, "not in the address"),
        ({"url": "http://bmc"}, "REDFISH_USER is not set"),
        ({"url": "https://bmc", "user_env": "", "password_env": "", "ca_file": "/no.pem"}, "'/no.pem' cannot be used"),
        ({"chassis": "../x"}, "not a path"),
        ({"period_ms": 10}, "below 1000"),
        ({"gain_rel": 2.0}, "fraction"),
    ]:
        with pytest.raises(UsageError, match=words) as refused:
            RedfishSensor(FakeClock(), **options)  # type: ignore[arg-type]
        assert "secret" not in str(refused.value)
    assert "no address" in _refused(RedfishSensor(FakeClock()))


@pytest.mark.parametrize(
    ("kind", "path", "document", "expected"),
    [
        ("shelly1", "/status", {"meters": [{"power": 60.0, "total": 10}]}, {"power": 60.0, "energy_counter": 600.0}),
        (
            "shelly2",
            "/rpc/Switch.GetStatus?id=0",
            {"apower": 61.5, "aenergy": {"total": 2.0}},
            {"power": 61.5, "energy_counter": 7200.0},
        ),
        (
            "tasmota",
            "/cm?cmnd=Status%208",
            {"StatusSNS": {"ENERGY": {"Power": 62, "Total": 0.50004}}},
            {"power": 62.0, "energy_counter": pytest.approx(1_800_144.0)},
        ),
    ],
)
def test_a_plug_of_each_kind(
    server: FakeServer, kind: str, path: str, document: dict[str, Any], expected: dict[str, float]
) -> None:
    server.answers = {path: document}
    sensor = SmartPlugSensor(FakeClock(), url=server.url, kind=kind)
    assert _values(sensor) == {f"wall0.{name}": value for name, value in expected.items()}
    assert _boundaries(sensor) == {"wall0": Boundary.WALL}


def test_any_plug_with_json_by_its_paths(server: FakeServer) -> None:
    server.answers = {"/": {"outlets": [{"w": 1}, {"w": "230.5", "kwh": 1.50001}]}}
    sensor = SmartPlugSensor(
        FakeClock(),
        url=server.url,
        kind="json",
        outlet=1,
        power_path="outlets.{n}.w",
        energy_path="outlets.{n}.kwh",
        energy_unit_j=3.6e6,
        boundary="node",
    )
    assert _values(sensor) == {"wall0.power": 230.5, "wall0.energy_counter": pytest.approx(5_400_036.0)}
    server.answers = {"/": {"outlets": [{"w": 1}, {"w": True, "kwh": float("inf")}]}}
    sensor.close()
    assert "no number" in _refused(sensor)


def test_a_csv_that_is_written_to_gives_its_last_whole_row(tmp_path: Path) -> None:
    clock, path = FakeClock(), tmp_path / "meter.csv"
    path.write_text("time,power_w,energy_j\n1,100,1000\n2,110,1110\n3,12")
    sensor = SmartPlugSensor(clock, csv=path)
    assert _values(sensor) == {"wall0.power": 110.0, "wall0.energy_counter": 1110.0}
    with path.open("a") as file:
        file.write("0,1230\n")
    clock.advance(2.0)
    assert _values(sensor) == {"wall0.power": 120.0, "wall0.energy_counter": 1230.0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", "no column power_w"),
        ("power_w\n", "no row yet"),
        ("power_w\nmuch\n", "no number"),
        ("power_w,x\n,1\n", "neither"),
    ],
)
def test_a_csv_that_says_nothing_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "meter.csv"
    path.write_text(text)
    assert words in _refused(SmartPlugSensor(FakeClock(), csv=path))


def test_plugs_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    for options, words in [
        ({"kind": "hue"}, "'hue'"),
        ({"kind": "json"}, "power_path"),
        ({"boundary": "room"}, "room"),
        ({"url": "http://x", "csv": "y"}, "not both"),
    ]:
        with pytest.raises(UsageError, match=words):
            SmartPlugSensor(FakeClock(), **options)  # type: ignore[arg-type]
    assert "no plug" in _refused(SmartPlugSensor(FakeClock()))
    assert "No such file" in _refused(SmartPlugSensor(FakeClock(), csv=tmp_path / "gone.csv"))


def test_a_server_that_is_gone_is_a_failure_and_it_is_asked_again(server: FakeServer) -> None:
    clock = FakeClock()
    server.answers = {"/status": {"meters": [{"power": 60.0, "total": 10}]}}
    sensor = SmartPlugSensor(clock, url=server.url, kind="shelly1")
    _values(sensor)
    server.answers = {"/status": {"meters": [{"total": 10}]}}
    clock.advance(2.0)
    assert {type(result) for result in sensor.read()} == {ReadFailure}
    server.answers = {"/status": {"meters": [{"power": 61.0, "total": 11}]}}
    clock.advance(2.0)
    assert _values(sensor)["wall0.power"] == 61.0


def test_nobody_at_the_address_is_told_with_the_address() -> None:
    assert "127.0.0.1:9" in _refused(SmartPlugSensor(FakeClock(), url="http://127.0.0.1:9"))
