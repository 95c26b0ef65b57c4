"""A driver from somebody else's package, installed with pip, is listed by the doctor and measures a program."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[1] / "plugin_example"
PROGRAM = """
import sys, time
import stillwatt
with stillwatt.Run("plugged", runs_dir=sys.argv[1], sensors=("example",), period_ms=50) as run:
    with run.stage("work"):
        time.sleep(1.0)
"""


@pytest.fixture(scope="module")
def plugged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the package is installed, with its file of watts."""
    folder = tmp_path_factory.mktemp("plugin")
    source, site, watts = folder / "source", folder / "site", folder / "watts"
    shutil.copytree(EXAMPLE, source)
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "--target", site, source], check=True)
    watts.write_text("50.0")
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return {**os.environ, "PYTHONPATH": path, "EXAMPLE_WATTS": str(watts)}


def _stillwatt(environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "stillwatt", *arguments]
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def test_the_doctor_lists_it(plugged: dict[str, str]) -> None:
    found = {one["subject"]: one for one in json.loads(_stillwatt(plugged, "doctor", "--json"))}
    assert found["sensor example"]["status"] == "ok"
    assert "50.0 W" in found["sensor example"]["detail"]


def test_it_measures_a_program(plugged: dict[str, str], tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], env=plugged, check=True)
    run = json.loads(_stillwatt(plugged, "ledger", "show", "plugged", "--runs", str(tmp_path), "--json"))
    (stage,) = run["stages"]
    (channel,) = stage["channels"]
    assert channel["channel"] == "board0"
    energy = channel["energy"]
    assert energy["basis"] == "measured"
    assert energy["low_j"] <= 50.0 * stage["duration_s"] <= energy["high_j"]


def test_it_cannot_be_misspelt(plugged: dict[str, str]) -> None:
    command = [sys.executable, "-m", "stillwatt", "doctor", "--sensors", "exemple"]
    asked = subprocess.run(command, env=plugged, capture_output=True, text=True, check=False)
    assert asked.returncode == 2
    assert "example" in asked.stderr
