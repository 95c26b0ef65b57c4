"""The doctor: every obstacle with its cure, on this machine and on made-up ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from fake_devices import jetson_tree
from fakes import FakeClock, fake_proc
from stillwatt.clock import SystemClock
from stillwatt.errors import UnknownNameError
from stillwatt.sensors.host_model import HostModelSensor
from stillwatt.sensors.jetson import JetsonSensor
from stillwatt.sensors.registry import resolve
from stillwatt.workflows import doctor
from stillwatt.workflows.doctor import Health, examine


def test_every_finding_that_is_not_well_says_what_would_help() -> None:
    findings = examine()
    assert {"sensor nvml", "sensor rapl", "sensor host_model", "energy", "disk", "python"} <= {
        finding.subject for finding in findings
    }
    assert all(finding.cure for finding in findings if finding.status is Health.MISSING)
    assert all(finding.detail for finding in findings)


def test_named_sensors_alone_are_looked_at() -> None:
    subjects = [finding.subject for finding in examine(["synthetic"])]
    assert [subject for subject in subjects if subject.startswith("sensor")] == ["sensor synthetic"]
    with pytest.raises(UnknownNameError, match="did you mean 'rapl'"):
        examine(["rapll"])


def test_where_no_named_sensor_is_usable_the_doctor_says_what_a_run_does(tmp_path: Path) -> None:
    """As `resolve` does: the host is modelled then, and the energy is not absent."""
    options = {"smart_plug": {"csv": str(tmp_path / "gone.csv")}}
    said = {finding.subject: finding for finding in examine(["smart_plug"], options=options)}
    found = resolve(["smart_plug"], SystemClock(), options)
    found.close()
    modelled = {channel.part for channel in found.channels}
    assert said["sensor smart_plug"].status is Health.MISSING
    assert said["energy"].status is (Health.DEGRADED if modelled else Health.MISSING)
    assert all(part in said["energy"].detail for part in modelled)


def test_a_named_sensor_stands_beside_what_auto_takes(tmp_path: Path) -> None:
    table = tmp_path / "plug.csv"
    table.write_text("power_w\n100.0\n", encoding="utf-8")
    subjects = [one.subject for one in examine(["auto", "smart_plug"], options={"smart_plug": {"csv": str(table)}})]
    assert subjects.count("sensor smart_plug") == 1
    assert "sensor nvml" in subjects


def test_a_missing_extra_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor._EXTRAS, "report", ("no-such-package-at-all",))
    (finding,) = [f for f in examine(["synthetic"]) if f.subject == "extra report"]
    assert finding.status is Health.MISSING
    assert finding.cure == "pip install 'stillwatt[report]'"


def test_what_trains_adapters_is_an_extra_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor._EXTRAS, "lora", ("no-such-package-at-all",))
    (finding,) = [f for f in examine(["synthetic"]) if f.subject == "extra lora"]
    assert "[train.lora]" in finding.detail
    assert finding.cure == "pip install 'stillwatt[lora]'"


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "_ENOUGH_FREE_GIB", 1e9)
    (finding,) = [f for f in examine(["synthetic"], runs_dir=tmp_path) if f.subject == "disk"]
    assert finding.status is Health.DEGRADED
    assert "--runs DIR" in finding.cure


def test_nothing_readable_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "probe_all", lambda *_: ())
    (finding,) = [f for f in examine() if f.subject == "energy"]
    assert finding.status is Health.MISSING


def test_what_a_modules_supplies_hold_is_not_said_to_be_modelled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    jetson = JetsonSensor(FakeClock(), root=jetson_tree(tmp_path))
    model = HostModelSensor(FakeClock(), proc_root=fake_proc(tmp_path / "proc"))
    monkeypatch.setattr(doctor, "probe_all", lambda *_: (jetson.probe(), model.probe()))
    (finding,) = [f for f in examine() if f.subject == "energy"]
    assert finding.detail == "measured: module0, rail-vdd-cpu-gpu-cv, rail-vdd-soc"
