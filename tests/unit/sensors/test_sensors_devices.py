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


def test_amd_lists_processes_with_their_memory_and_no_share(monkeypatch: pytest.MonkeyPatch) -> None:
    sensor, fake, clock = _amd(monkeypatch)
    assert (sensor.users({"gpu_amd0"}), sensor.cards()) == ((), ())
    sensor.open()
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
        f"{CHASSIS}/1/EnvironmentMetrics": {"PowerWatts": {"Reading": 321.5}, "EnergykWh": {"Reading": 2}},
    }
    sensor = _redfish(server)
    assert _values(sensor) == {"node0.power": 321.5, "node0.energy_counter": 7_200_000.0}
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
        ({CHASSIS: b"<html>"}, "not JSON"),
        ({CHASSIS: 503}, "503"),
        ({CHASSIS: {"Members": [{"@odata.id": f"{CHASSIS}/1"}]}, f"{CHASSIS}/1/Power": {"x": 1}}, "nothing at"),
    ],
)
def test_redfish_says_what_it_was_answered(server: FakeServer, answers: dict[str, Any], words: str) -> None:
    server.answers = answers
    assert words in _refused(_redfish(server))


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
            {"StatusSNS": {"ENERGY": {"Power": 62, "Total": 0.5}}},
            {"power": 62.0, "energy_counter": 1_800_000.0},
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
    server.answers = {"/": {"outlets": [{"w": 1}, {"w": "230.5", "kwh": 1.5}]}}
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
    assert _values(sensor) == {"wall0.power": 230.5, "wall0.energy_counter": 5.4e6}
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
    [("a,b\n1,2\n", "no column power_w"), ("power_w\n", "no row yet"), ("power_w\nmuch\n", "no number")],
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
