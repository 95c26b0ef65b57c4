"""Recipes that are not taken, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from stillwatt.config.load import load_recipe
from stillwatt.errors import ConfigError


def refusal(path: Path, text: str, *overrides: str) -> str:
    """What is said of a recipe that must not be taken."""
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_recipe(path, overrides)
    return str(caught.value)
