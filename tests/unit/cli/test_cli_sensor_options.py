"""Sensors that need to be told something: how, where that is said, and that nothing runs without it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from stillwatt import Run
from stillwatt.errors import UsageError

Stillwatt = Callable[..., Result]

TOUCH = ("--", "touch", "ran")
NEEDY = pytest.mark.parametrize(
    ("driver", "key"), [("smart_plug", "'url' or 'csv'"), ("redfish", "'url'"), ("replay", "'path'")]
)


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@NEEDY
def test_a_sensor_without_what_it_needs_is_refused_and_told_how(
    driver: str, key: str, stillwatt: Stillwatt, tmp_path: Path
) -> None:
    first = key.split("'")[1]
    for refused in (
        stillwatt("measure", "--sensors", driver, *TOUCH),
        stillwatt("doctor", "--sensors", driver),
        stillwatt("recipe", "check", "smoke_cpu", "--set", f'meter.sensors=["{driver}"]'),
    ):
        assert (refused.exit_code, refused.stdout) == (2, ""), refused.output
        assert f"sensor '{driver}': it needs the option {key}; give it as" in refused.stderr
        assert f"--sensor-option {driver}.{first}=" in refused.stderr
        assert f"[meter.options.{driver}]" in refused.stderr
        assert f"Run(options={{'{driver}': {{'{first}': …}}}})" in refused.stderr
    with pytest.raises(UsageError, match="it needs the option"):
        Run("r", sensors=[driver])
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("--sensor-option", "smart_plug"), "is not of the form DRIVER.KEY=VALUE"),
        (("--sensor-option", "smart_plug.url"), "is not of the form DRIVER.KEY=VALUE"),
        (("--sensor-option", "smart_plugg.url=http://a"), "did you mean 'smart_plug'?"),
        (("--sensor-option", "smart_plug.url=http://a"), "name it too: --sensors auto,smart_plug"),
        (("--sensors", "nvml", "--sensor-option", "rapl.gain_rel=0.1"), "name it too: --sensors nvml,rapl"),
        (("--sensors", "replay", "--sensor-option", "replay.path=a", "--sensor-option", "replay.pase=b"), "'pace'"),
        (
            ("--sensors", "smart_plug", "--sensor-option", "smart_plug.csv=a", "--sensor-option", "smart_plug.url=b"),
            "b",
        ),
    ],
)
def test_an_option_that_cannot_be_meant_stops_before_the_command(
    given: tuple[str, ...], says: str, stillwatt: Stillwatt, tmp_path: Path
) -> None:
    refused = stillwatt("measure", *given, *TOUCH)
    assert refused.exit_code == 2, refused.output
    assert says in refused.stderr
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "runs").exists()


def test_a_recording_named_on_the_command_line_is_replayed(stillwatt: Stillwatt, tmp_path: Path) -> None:
    rows = [f"{number / 10:.1f},gpu0,200.0" for number in range(600)]
    (tmp_path / "2026-01-02").write_text("\n".join(("t_s,part,power_w", *rows, "")), encoding="utf-8")
    given = ("--sensor-option", "replay.path=2026-01-02", "--sensor-option", "replay.gain_rel=0.01")
    done = stillwatt("measure", "--json", "--period-ms", "20", "--sensors", "replay", *given, "--", "sleep", "1")
    assert done.exit_code == 0, done.output
    record = json.loads(done.stderr.splitlines()[-1])["record"]
    (stage,) = record["stages"]
    assert "gpu0" in json.dumps(stage)
    (manifest,) = (tmp_path / "runs").glob("*/manifest.json")
    kept = json.loads(manifest.read_text(encoding="utf-8"))["settings"]["sensor_options"]
    assert kept == {"replay": {"path": "2026-01-02", "gain_rel": 0.01}}


def test_doctor_looks_at_a_sensor_with_its_options(stillwatt: Stillwatt, tmp_path: Path) -> None:
    (tmp_path / "plug.csv").write_text("power_w\n100.0\n", encoding="utf-8")
    seen = stillwatt("doctor", "--sensors", "smart_plug", "--sensor-option", "smart_plug.csv=plug.csv", "--json")
    assert seen.exit_code == 0, seen.output
    (plug,) = [one for one in json.loads(seen.stdout) if one["subject"] == "sensor smart_plug"]
    assert plug["status"] == "ok"
    assert stillwatt("doctor", "--sensors", "smart_plug", "--sensor-option", "smart_plug.cvs=a").exit_code == 2
