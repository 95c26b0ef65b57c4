"""Factors of the command line that contradict each other."""

from __future__ import annotations

import pytest

from stillwatt.errors import ConfigError
from stillwatt.workflows.factors import open_catalog


def test_one_factor_cannot_be_two_things() -> None:
    with pytest.raises(ConfigError, match=r"pue@FRA is given twice"):
        open_catalog(overrides=("pue@FRA=1.2", "wue@FRA=0.3L/kWh", "pue@FRA=1.5"))
    two_waters = ("wue@aws=0.3L/kWh:consumption", "wue@aws=0.5L/kWh:withdrawal")
    assert open_catalog(overrides=("pue@FRA=1.2", "pue@POL=1.2", *two_waters))
