"""Where the user's own files are."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from stillwatt.workflows.home import calibration_path


def test_calibrations_are_in_the_users_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STILLWATT_HOME", str(tmp_path))
    assert calibration_path() == tmp_path / "calibration.toml"
    monkeypatch.delenv("STILLWATT_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert calibration_path() == tmp_path / ".config" / "stillwatt" / "calibration.toml"


def test_a_user_without_a_home_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.delenv("STILLWATT_HOME")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert os.path.expanduser("~") == "~"
    assert not calibration_path().exists()
