from __future__ import annotations

from pathlib import Path

import pytest

from fakes import DEFAULT_RANGE_UJ, FakeClock, FakePowercap, fake_powercap, open_folder, unprivileged
from stillwatt.errors import SensorUnavailableError, UsageError
from stillwatt.records import Basis, Boundary, Quantity, ReadFailure, Reading, Role
from stillwatt.sensors.rapl import RaplSensor

MIRRORED_UJ = 500_000_000_000


def test_packages_and_their_dram_are_read_and_nothing_twice(tmp_path: Path) -> None:
    tree = fake_powercap(tmp_path, energy_uj=8_000_000)
    sensor = RaplSensor(FakeClock(), root=tree.root)
    channels = sensor.open()
    assert [channel.stream for channel in channels] == [
        "cpu0.energy_counter",
        "cpu1.energy_counter",
        "dram0.energy_counter",
        "dram1.energy_counter",
    ]
    counts = [result.count for result in sensor.read() if isinstance(result, Reading)]
    assert counts == [8_000_000.0, 8_000_001.0, 2_000_000.0, 2_000_000.0]
    sensor.close()


def test_channels_say_what_they_are(tmp_path: Path) -> None:
    tree = fake_powercap(tmp_path, packages=1)
    sensor = RaplSensor(FakeClock(), root=tree.root)
    cpu, dram = sensor.open()
    assert cpu.modulus == DEFAULT_RANGE_UJ + 1
    assert dram.modulus == 65_712_999_614
    assert (cpu.unit_si, cpu.quantity, cpu.role) == (0.000_001, Quantity.ENERGY_COUNTER, Role.LEDGER)
    assert (cpu.basis, cpu.boundary, cpu.device) == (Basis.MEASURED, Boundary.CHIP, "intel-rapl:0/package-0")
    assert "wraps after 262143 J" in cpu.source
    assert str(tree.root / "intel-rapl:0" / "energy_uj") in cpu.source
    assert dram.gain_low_rel > cpu.gain_low_rel
    sensor.close()


def test_every_reading_shows_the_file_as_it_is_now(tmp_path: Path) -> None:
    tree = fake_powercap(tmp_path, packages=1, with_dram=False)
    sensor = RaplSensor(FakeClock(), root=tree.root)
    sensor.open()
    tree.set_uj("intel-rapl:0", DEFAULT_RANGE_UJ)
    tree_end = sensor.read()[0]
    tree.set_uj("intel-rapl:0", 17)
    wrapped = sensor.read()[0]
    assert isinstance(tree_end, Reading)
    assert isinstance(wrapped, Reading)
    assert (tree_end.count, wrapped.count) == (float(DEFAULT_RANGE_UJ), 17.0)
    sensor.close()


def test_an_unknown_range_is_no_modulus(tmp_path: Path) -> None:
    tree = FakePowercap(tmp_path)
    tree.zone("intel-rapl:0", "package-0", range_uj=None)
    tree.zone("intel-rapl:1", "package-1", range_uj=0)
    channels = RaplSensor(FakeClock(), root=tree.root).probe().channels
    assert [channel.modulus for channel in channels] == [None, None]
    assert "wrap range unknown" in channels[0].source


def test_dies_are_parts_in_order_of_package_and_die(tmp_path: Path) -> None:
    tree = FakePowercap(tmp_path)
    for number, name in enumerate(["package-1-die-0", "package-0-die-1", "package-0-die-0"]):
        tree.zone(f"intel-rapl:{number}", name, energy_uj=number)
    channels = RaplSensor(FakeClock(), root=tree.root).probe().channels
    assert [channel.device.partition("/")[2] for channel in channels] == [
        "package-0-die-0",
        "package-0-die-1",
        "package-1-die-0",
    ]


def test_a_die_that_mirrors_another_is_left_out_and_said_to_be(tmp_path: Path) -> None:
    tree = FakePowercap(tmp_path)
    tree.zone("intel-rapl:0", "package-0-die-0", energy_uj=MIRRORED_UJ)
    tree.zone("intel-rapl:1", "package-0-die-1", energy_uj=MIRRORED_UJ + 500)
    tree.zone("intel-rapl:2", "package-1-die-0", energy_uj=MIRRORED_UJ + 900)
    probe = RaplSensor(FakeClock(), root=tree.root).probe()
    assert [channel.device for channel in probe.channels] == [
        "intel-rapl:0/package-0-die-0",
        "intel-rapl:2/package-1-die-0",
    ]
    assert "intel-rapl:1 left out: it shows the counter of intel-rapl:0 a second time" in probe.detail


def test_dies_with_counters_of_their_own_are_both_read(tmp_path: Path) -> None:
    tree = FakePowercap(tmp_path)
    tree.zone("intel-rapl:0", "package-0-die-0", energy_uj=MIRRORED_UJ)
    tree.zone("intel-rapl:1", "package-0-die-1", energy_uj=MIRRORED_UJ + 3_000_000)
    assert len(RaplSensor(FakeClock(), root=tree.root).probe().channels) == 2


def test_root_only_counters_are_absent_with_the_file_and_the_cure() -> None:
    with open_folder() as folder:
        tree = fake_powercap(folder, packages=1)
        for zone in ("intel-rapl:0", "intel-rapl:0:1"):
            (tree.root / zone / "energy_uj").chmod(0o400)
        sensor = RaplSensor(FakeClock(), root=tree.root)
        with unprivileged():
            probe = sensor.probe()
            with pytest.raises(SensorUnavailableError, match="readable by root only"):
                sensor.open()
    assert not probe.usable
    assert f"{tree.root}/intel-rapl:0/energy_uj: Permission denied (readable by root only)" in probe.detail
    assert f"sudo chmod a+r {tree.root}/intel-rapl:*/energy_uj" in probe.cure
    assert [absent.part for absent in probe.absent] == ["cpu0", "dram0"]


def test_what_can_be_read_is_used_though_something_cannot() -> None:
    with open_folder() as folder:
        tree = fake_powercap(folder, packages=1)
        (tree.root / "intel-rapl:0:1" / "energy_uj").chmod(0o400)
        sensor = RaplSensor(FakeClock(), root=tree.root)
        with unprivileged():
            probe = sensor.probe()
            channels = sensor.open()
            sensor.close()
    assert probe.usable
    assert [channel.part for channel in channels] == ["cpu0"]
    assert [absent.part for absent in probe.absent] == ["dram0"]


def test_a_counter_that_vanishes_fails_and_comes_back(tmp_path: Path) -> None:
    tree = fake_powercap(tmp_path, packages=1, with_dram=False)
    sensor = RaplSensor(FakeClock(), root=tree.root)
    sensor.open()
    tree.set_uj("intel-rapl:0", "nonsense")
    failed = sensor.read()[0]
    (tree.root / "intel-rapl:0" / "energy_uj").unlink()
    gone = sensor.read()[0]
    tree.set_uj("intel-rapl:0", 99)
    back = sensor.read()[0]
    assert isinstance(failed, ReadFailure)
    assert "not a number" in failed.reason
    assert isinstance(gone, ReadFailure)
    assert "No such file" in gone.reason
    assert isinstance(back, Reading)
    assert back.count == 99.0
    sensor.close()


@pytest.mark.parametrize("zones", [{}, {"intel-rapl:0": "psys"}, {"intel-rapl-mmio:0": "package-0"}, {"dtpm": "cpu0"}])
def test_a_tree_without_packages_is_not_usable(tmp_path: Path, zones: dict[str, str]) -> None:
    tree = FakePowercap(tmp_path)
    for zone, name in zones.items():
        tree.zone(zone, name)
    probe = RaplSensor(FakeClock(), root=tree.root).probe()
    assert not probe.usable
    assert probe.detail == f"no CPU package in {tmp_path}"
    assert "intel_rapl_msr" in probe.cure


def test_a_zone_without_a_name_is_passed_over(tmp_path: Path) -> None:
    tree = fake_powercap(tmp_path, packages=1, with_dram=False)
    (tree.root / "intel-rapl:7").mkdir()
    assert len(RaplSensor(FakeClock(), root=tree.root).probe().channels) == 1


@pytest.mark.parametrize("options", [{"gain_rel": 1.0}, {"dram_gain_rel": -0.1}])
def test_a_gain_that_is_no_fraction_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="fraction"):
        RaplSensor(FakeClock(), root="/", **options)  # type: ignore[arg-type]
