"""A recipe is found by path or by name, in a checkout and when installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from stillwatt.config.bundled import _folder, bundled_recipes, find_recipe
from stillwatt.errors import ConfigError, UnknownNameError


def test_the_recipes_of_this_checkout_come_along() -> None:
    assert {"quickstart", "smoke_cpu", "paper_tulu3"} <= set(bundled_recipes())


def test_a_file_comes_before_a_bundled_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_recipe("quickstart").is_absolute()
    (tmp_path / "quickstart").write_text("", encoding="utf-8")
    assert find_recipe("quickstart") == Path("quickstart")


def test_a_misspelt_name_gets_the_right_one() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'quickstart'"):
        find_recipe("quikstart")


@pytest.mark.parametrize("path", ["mine.toml", "recipes/mine", "./quickstart"])
def test_a_path_that_is_not_there_is_not_taken_for_a_name(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if path == "./quickstart":
        path = str(tmp_path / "quickstart")
    with pytest.raises(ConfigError, match=r"no such file; recipes that come along: .*quickstart"):
        find_recipe(path)


def test_a_directory_is_not_a_recipe(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a directory"):
        find_recipe(str(tmp_path))


def test_the_installed_place_comes_first(tmp_path: Path) -> None:
    installed, checkout = tmp_path / "a", tmp_path / "b"
    checkout.mkdir()
    assert _folder((installed, checkout)) == checkout
    installed.mkdir()
    assert _folder((installed, checkout)) == installed
