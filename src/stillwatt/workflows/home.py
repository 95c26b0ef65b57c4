"""Where the user's own files are. Standard library only: the measured program asks."""

from __future__ import annotations

import os
from pathlib import Path

CALIBRATION_FILE = "calibration.toml"
GRID_FOLDER = "grids"


def calibration_path() -> Path:
    """Where the user's calibrations are kept: `$STILLWATT_HOME`, else `~/.config/stillwatt`.

    A user without a home, as containers have them, has a path at which nothing is.
    """
    return _root() / CALIBRATION_FILE


def grid_answers_path() -> Path:
    """Where answers of live grid services are kept."""
    return _root() / GRID_FOLDER


def _root() -> Path:
    return Path(os.environ.get("STILLWATT_HOME") or os.path.expanduser("~/.config/stillwatt"))
