from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from fake_devices import grace_tree, jetson_tree, write_tree
from fakes import FakeClock, FakeSensor, fake_channel, fake_powercap, fake_proc
from nvml_simulator_build import NvmlSimulator
from stillwatt.errors import SensorUnavailableError, UnknownNameError, UsageError
from stillwatt.records import Absent, Basis, Boundary, Quantity, Role
from stillwatt.sensors import registry
from stillwatt.sensors.base import Probe
from stillwatt.sensors.registry import Resolution, check_names, known_names, make_sensor, probe_all, resolve
from stillwatt.sensors.synthetic import SyntheticSensor


class Machine:
    """Options that point every driver at a made-up machine."""

    def __init__(self, tmp_path: Path, simulator: NvmlSimulator) -> None:
        self.clock = FakeClock()
        self.simulator = simulator
        self.powercap = tmp_path / "none"
        self.proc = fake_proc(tmp_path / "proc")
        self.tmp_path = tmp_path
        self.gpus("init_error=9")

    def gpus(self, text: str) -> None:
        self.simulator.configure(text, now_ns=self.clock.now_ns)

    @property
    def options(self) -> dict[str, dict[str, Any]]:
        return {
            "nvml": {"library": self.simulator.path, "device_root": str(self.tmp_path / "no-dev")},
            "rapl": {"root": str(self.powercap)},
            "host_model": {"proc_root": str(self.proc), "sleep": self.clock.advance},
        }

    def resolve(self, *names: str, **more: dict[str, Any]) -> Resolution:
        return resolve(names, self.clock, {**self.options, **more})


@pytest.fixture
def machine(tmp_path: Path, nvml_simulator: NvmlSimulator) -> Machine:
    return Machine(tmp_path, nvml_simulator)


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A driver package with the entry point `wall`; the test sets what its class makes."""
    made: dict[str, Any] = {}
    module = types.ModuleType("wall_driver")
    module.WallSensor = lambda clock: made["sensor"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wall_driver", module)
    monkeypatch.setattr(
        registry, "_plugins", lambda: {"wall": "wall_driver:WallSensor", "torn": "wall_driver:Gone", "nvml": "x:Y"}
    )
    return made


def _roles(resolution: Resolution) -> dict[str, tuple[str, Role]]:
    return {channel.stream: (channel.driver, channel.role) for channel in resolution.channels}


def test_auto_takes_what_there_is_and_models_the_rest(machine: Machine) -> None:
    machine.gpus("gpu")
    resolution = machine.resolve("auto")
    assert _roles(resolution) == {
        "gpu0.energy_counter": ("nvml", Role.LEDGER),
        "gpu0.power": ("nvml", Role.WITNESS),
        "cpu0.power": ("host_model", Role.LEDGER),
        "dram0.power": ("host_model", Role.LEDGER),
    }
    assert [(probe.driver, probe.usable) for probe in resolution.probes] == [
        ("nvml", True),
        ("rapl", False),
        ("host_model", True),
    ]
    assert resolution.absent == ()
    resolution.close()


def test_auto_models_only_what_rapl_does_not_give(machine: Machine) -> None:
    machine.powercap = fake_powercap(machine.tmp_path, packages=1, with_dram=False).root
    resolution = machine.resolve("auto")
    assert _roles(resolution) == {
        "cpu0.energy_counter": ("rapl", Role.LEDGER),
        "dram0.power": ("host_model", Role.LEDGER),
    }
    resolution.close()


def test_auto_models_nothing_where_rapl_gives_all(machine: Machine) -> None:
    machine.powercap = fake_powercap(machine.tmp_path, packages=2).root
    resolution = machine.resolve("auto")
    assert {driver for driver, _ in _roles(resolution).values()} == {"rapl"}
    assert [probe.driver for probe in resolution.probes] == ["nvml", "rapl"]
    resolution.close()


def test_a_machine_without_gpus_lacks_none(machine: Machine) -> None:
    resolution = machine.resolve("auto")
    assert resolution.absent == ()
    assert not resolution.probes[0].usable
    resolution.close()


def test_a_gpu_that_is_there_and_cannot_be_read_is_absent(machine: Machine) -> None:
    machine.gpus("gpu;gpu handle_error=15")
    resolution = machine.resolve("auto")
    assert resolution.absent == (Absent(part="gpu1", boundary=Boundary.BOARD, reason="nvml: gpu1: GPU is lost"),)
    resolution.close()


def test_a_named_sensor_that_cannot_be_used_leaves_its_part_absent(machine: Machine) -> None:
    machine.gpus("gpu")
    resolution = machine.resolve("nvml", "rapl")
    assert {driver for driver, _ in _roles(resolution).values()} == {"nvml"}
    (absent,) = resolution.absent
    assert (absent.part, absent.boundary) == ("cpu0", Boundary.CHIP)
    assert absent.reason.startswith("rapl: ")
    resolution.close()


def test_with_nothing_readable_the_host_is_modelled_and_the_gpu_absent(machine: Machine) -> None:
    resolution = machine.resolve("nvml")
    assert {driver for driver, _ in _roles(resolution).values()} == {"host_model"}
    assert all(channel.basis is Basis.MODELLED for channel in resolution.channels)
    assert resolution.absent == (Absent(part="gpu0", boundary=Boundary.BOARD, reason="nvml: Driver Not Loaded"),)
    resolution.close()


def test_a_named_sensor_whose_parts_are_modelled_instead_leaves_none_absent(machine: Machine) -> None:
    resolution = machine.resolve("rapl")
    assert {channel.part for channel in resolution.channels} == {"cpu0", "dram0"}
    assert resolution.absent == ()
    assert [(probe.driver, probe.usable) for probe in resolution.probes] == [("rapl", False), ("host_model", True)]
    resolution.close()


def test_with_nothing_at_all_the_run_still_goes_on(machine: Machine) -> None:
    (machine.proc / "stat").unlink()
    resolution = machine.resolve("auto")
    assert resolution.opened == ()
    assert [absent.part for absent in resolution.absent] == ["cpu0", "dram0"]


def test_a_part_belongs_to_the_sensor_named_first(machine: Machine) -> None:
    machine.powercap = fake_powercap(machine.tmp_path, packages=1).root
    assert _roles(machine.resolve("rapl", "host_model")) == {
        "cpu0.energy_counter": ("rapl", Role.LEDGER),
        "dram0.energy_counter": ("rapl", Role.LEDGER),
        "cpu0.power": ("host_model", Role.WITNESS),
        "dram0.power": ("host_model", Role.WITNESS),
    }


def test_every_part_has_one_ledger_channel_however_sensors_are_named(machine: Machine) -> None:
    machine.gpus("gpu counter=0")
    machine.powercap = fake_powercap(machine.tmp_path, packages=1).root
    for names in (["auto"], ["host_model", "auto"], ["host_model", "rapl", "nvml"], ["rapl", "auto", "nvml"]):
        resolution = machine.resolve(*names)
        ledgers = [channel.part for channel in resolution.channels if channel.role is Role.LEDGER]
        assert sorted(ledgers) == ["cpu0", "dram0", "gpu0"], names
        resolution.close()


def test_a_model_of_the_host_stands_for_all_of_its_packages(machine: Machine, tmp_path: Path) -> None:
    """A server of two sockets whose RAPL only root may read lacks nothing that is modelled."""
    tree = fake_powercap(tmp_path, packages=2)
    machine.powercap = tree.root
    for names in (["host_model", "auto"], ["host_model", "rapl"]):
        resolution = machine.resolve(*names)
        booked = {channel.part: channel.driver for channel in resolution.channels if channel.role is Role.LEDGER}
        assert booked == {"cpu0": "host_model", "dram0": "host_model"}, names
        resolution.close()
    (tree.root / "intel-rapl:0/energy_uj").unlink()
    resolution = machine.resolve("rapl", "host_model")
    booked = {channel.part: channel.driver for channel in resolution.channels if channel.role is Role.LEDGER}
    assert booked == {"cpu1": "rapl", "dram0": "rapl", "dram1": "rapl"}
    assert [absent.part for absent in resolution.absent] == ["cpu0"]
    resolution.close()
    for file in tree.root.glob("intel-rapl:*/energy_uj"):
        file.unlink()
    for names in (["auto"], ["rapl"], ["rapl", "host_model"]):
        resolution = machine.resolve(*names)
        assert {channel.driver for channel in resolution.channels} == {"host_model"}, names
        assert resolution.absent == (), names
        resolution.close()


def test_a_name_given_twice_is_opened_once(machine: Machine) -> None:
    assert len(machine.resolve("host_model", "host_model").opened) == 1


def test_two_sensors_with_one_stream_are_refused_and_closed(machine: Machine, plugin: dict[str, Any]) -> None:
    sensor = FakeSensor(machine.clock, [fake_channel("cpu0", driver="wall")], driver="wall")
    plugin["sensor"] = sensor
    with pytest.raises(UsageError, match=r"'wall' and 'host_model' both give cpu0\.power"):
        machine.resolve("wall", "host_model")
    assert not sensor.is_open


def test_a_sensor_that_is_named_takes_the_place_of_what_auto_chose(
    machine: Machine, plugin: dict[str, Any], tmp_path: Path
) -> None:
    plugin["sensor"] = FakeSensor(machine.clock, [fake_channel("node0", boundary=Boundary.NODE, driver="wall")])
    tree = write_tree(tmp_path / "hwmon", {"hwmon0/name": "power_meter", "hwmon0/power1_average": 300_000_000})
    for names in (["auto", "wall"], ["wall", "auto"]):
        resolution = machine.resolve(*names, hwmon={"root": str(tree)})
        assert _roles(resolution)["node0.power"] == ("wall", Role.LEDGER), names
        assert {driver for driver, _ in _roles(resolution).values()} == {"wall", "host_model"}
        resolution.close()


def test_an_unknown_name_is_refused_with_the_nearest_one(machine: Machine) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'nvml'"):
        machine.resolve("nmvl")
    with pytest.raises(UnknownNameError):
        check_names(["auto", "nothing-like-it"])


def test_an_unknown_option_is_refused_with_the_nearest_one(machine: Machine) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'devices'"):
        machine.resolve("nvml", nvml={"device": [0]})


@pytest.mark.parametrize("options", [{"gain_rel": "five"}, {"gain_rel": None}])
def test_a_value_of_the_wrong_kind_is_a_usage_error(machine: Machine, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="option's value"):
        machine.resolve("rapl", rapl=options)


@pytest.mark.parametrize(
    ("driver", "options"),
    [
        ("ipmi", {"part": "node 0"}),
        ("redfish", {"part": "../node"}),
        ("smart_plug", {"part": ""}),
        ("hwmon", {"rails": [{"chip": "x", "file": "power1_input", "part": "a/b", "boundary": "rail"}]}),
        ("ipmi", {"arguments": "-I lanplus"}),
        ("redfish", {"url": 5, "user_env": ""}),
        ("host_model", {"watts_per_thread": float("inf")}),
    ],
)
def test_an_option_that_cannot_be_meant_is_told_before_anything_is_opened(driver: str, options: dict[str, Any]) -> None:
    """Anything else ends the sampling process, and the run has no energy at all."""
    with pytest.raises(UsageError, match=f"sensor '{driver}'"):
        make_sensor(driver, FakeClock(), **options)


def test_a_missing_option_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"^sensor 'replay': it needs the option 'path'; give it as"):
        make_sensor("replay", FakeClock())


def test_auto_is_no_sensor_of_its_own() -> None:
    with pytest.raises(UsageError, match="stands for several"):
        make_sensor("auto", FakeClock())


def test_an_installed_driver_is_known_and_used(machine: Machine, plugin: dict[str, Any]) -> None:
    sensor = FakeSensor(machine.clock, [fake_channel("node0", boundary=Boundary.NODE)], driver="wall")
    plugin["sensor"] = sensor
    assert known_names()[-2:] == ("torn", "wall")
    assert {"nvml", "rapl", "host_model", "synthetic", "replay"} <= set(known_names())
    resolution = machine.resolve("wall")
    assert sensor.is_open
    assert resolution.channels == tuple(sensor.channels)
    resolution.close()
    assert not sensor.is_open


def test_an_installed_driver_cannot_replace_one_of_ours(machine: Machine, plugin: dict[str, Any]) -> None:
    assert type(make_sensor("nvml", machine.clock)).__name__ == "NvmlSensor"


def test_an_entry_point_that_cannot_be_loaded_is_named(machine: Machine, plugin: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"'torn'.*'wall_driver:Gone'"):
        machine.resolve("torn")


def test_an_installed_driver_that_cannot_be_used_is_absent_by_its_name(
    machine: Machine, plugin: dict[str, Any]
) -> None:
    plugin["sensor"] = FakeSensor(machine.clock, driver="wall", unavailable="the plug is out")
    resolution = machine.resolve("wall")
    assert resolution.absent == (Absent(part="wall", boundary=Boundary.COMPONENTS, reason="wall: the plug is out"),)
    resolution.close()


class _Fickle(FakeSensor):
    """Probes well and does not open."""

    def probe(self) -> Probe:
        return Probe(driver="wall", usable=True, detail="fine", channels=tuple(self.channels))

    def open(self) -> tuple[Any, ...]:
        raise SensorUnavailableError("wall", "gone in between", "plug it in")


def test_a_sensor_lost_between_probe_and_open_is_not_usable(machine: Machine, plugin: dict[str, Any]) -> None:
    plugin["sensor"] = _Fickle(machine.clock, driver="wall")
    resolution = machine.resolve("wall")
    probe = resolution.probes[0]
    assert (probe.usable, probe.detail, probe.cure, probe.channels) == (False, "gone in between", "plug it in", ())
    assert [absent.part for absent in resolution.absent] == ["wall"]
    resolution.close()


def test_probing_all_covers_every_driver_of_the_machine(
    machine: Machine, plugin: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin["sensor"] = sensor = FakeSensor(machine.clock, driver="wall")
    monkeypatch.setattr(registry, "_plugins", lambda: {"wall": "wall_driver:WallSensor"})
    probes = probe_all(machine.clock, machine.options)
    measuring = ["nvml", "amdsmi", "intel_gpu", "apple", "jetson", "rapl", "hwmon", "host_model"]
    assert sorted(probe.driver for probe in probes) == sorted([*measuring, "wall"])
    assert not sensor.is_open
    assert probe_all(machine.clock)


def test_plugins_come_from_the_entry_points_of_installed_packages() -> None:
    assert isinstance(registry._plugins(), dict)


def test_demonstration_channels_do_not_meet_in_one_stream() -> None:
    resolution = resolve(["synthetic"], FakeClock())
    assert isinstance(resolution.opened[0].sensor, SyntheticSensor)
    assert {channel.quantity for channel in resolution.channels} == set(Quantity)


def test_memory_that_is_metered_with_its_socket_is_not_modelled_beside_it(machine: Machine, tmp_path: Path) -> None:
    resolution = machine.resolve("auto", hwmon={"root": str(grace_tree(tmp_path / "hwmon"))})
    assert _roles(resolution) == {"cpu0.power": ("hwmon", Role.LEDGER), "module0.power": ("hwmon", Role.LEDGER)}
    resolution.close()


@pytest.mark.parametrize("names", [("jetson", "host_model"), ("host_model", "jetson")])
def test_a_model_of_what_a_jetson_meters_is_left_out_in_any_order(
    machine: Machine, tmp_path: Path, names: tuple[str, ...]
) -> None:
    resolution = machine.resolve(*names, jetson={"root": str(jetson_tree(tmp_path / "i2c"))})
    assert {channel.driver for channel in resolution.channels} == {"jetson"}
    (told,) = [probe.detail for probe in resolution.probes if probe.driver == "host_model"]
    assert told.endswith("; left out, as metered by jetson: cpu0, dram0")
    assert told.count("left out") == 1
    machine_alone = machine.resolve(*names, jetson={"root": str(tmp_path / "none")})
    assert {channel.part for channel in machine_alone.channels} == {"cpu0", "dram0"}


def test_what_a_jetsons_supplies_hold_is_neither_modelled_nor_missing(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidia0").touch()  # of the display: there is a card for NVML, and it has no power
    nvml = {"library": machine.simulator.path, "device_root": str(tmp_path / "dev")}
    resolution = machine.resolve("auto", nvml=nvml, jetson={"root": str(jetson_tree(tmp_path / "i2c"))})
    assert {channel.driver for channel in resolution.channels} == {"jetson"}
    assert resolution.absent == ()
    resolution.close()
    (tmp_path / "dev/nvidia1").touch()
    resolution = machine.resolve("auto", nvml=nvml, jetson={"root": str(tmp_path / "i2c")})
    assert [absent.part for absent in resolution.absent] == ["gpu0", "gpu1"]
    resolution.close()


def test_auto_takes_of_a_driver_what_no_better_one_gives(machine: Machine, tmp_path: Path) -> None:
    machine.powercap = fake_powercap(tmp_path, packages=1).root
    tree = tmp_path / "hwmon"
    write_tree(tree, {"hwmon0/name": "amd_energy", "hwmon0/energy1_label": "Esocket0", "hwmon0/energy1_input": 5})
    write_tree(tree, {"hwmon1/name": "power_meter", "hwmon1/power1_average": 300_000_000})
    resolution = machine.resolve("auto", hwmon={"root": str(tree)})
    assert _roles(resolution) == {
        "cpu0.energy_counter": ("rapl", Role.LEDGER),
        "dram0.energy_counter": ("rapl", Role.LEDGER),
        "node0.power": ("hwmon", Role.LEDGER),
    }
    resolution.close()


def test_a_driver_that_was_given_options_is_told_of_by_auto_too(machine: Machine, tmp_path: Path) -> None:
    rail = {"chip": "ina999", "file": "power1_input", "part": "board0", "boundary": "board"}
    resolution = machine.resolve("auto", hwmon={"root": str(tmp_path), "rails": [rail]})
    (probe,) = (probe for probe in resolution.probes if probe.driver == "hwmon")
    assert not probe.usable
    assert "ina999" in probe.detail
    resolution.close()
