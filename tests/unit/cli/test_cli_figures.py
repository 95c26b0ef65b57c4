"""`figures` and `analyse --html`: what they write, what they refuse, and how they exit."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from run_dirs import quick_run

Stillwatt = Callable[..., Result]


def test_files_are_named_on_stdout(stillwatt: Stillwatt, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = stillwatt("figures", "--table", "paper", "-o", str(out), "--format", "json", "--only", "frontier, tornado")
    assert result.exit_code == 0, result.output
    named = result.stdout.splitlines()
    assert named[0] == str(out / "frontier-1.json")
    assert sorted(named) == sorted(str(path) for path in out.iterdir())


def test_files_as_json_and_tables_beside_them(stillwatt: Stillwatt, tmp_path: Path) -> None:
    arguments = ("figures", "--table", "paper", "-o", str(tmp_path), "--format", "json", "--tables", "tex", "--json")
    files = json.loads(stillwatt(*arguments).stdout)["files"]
    assert str(tmp_path / "bills.tex") in files


def test_a_run_is_drawn(stillwatt: Stillwatt, tmp_path: Path) -> None:
    quick_run(tmp_path / "runs")
    arguments = ("--runs", str(tmp_path / "runs"), "-o", str(tmp_path / "out"), "--format", "json")
    result = stillwatt("figures", "latest", *arguments)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "stages.json").is_file()


def test_a_page_is_there_also_where_the_reader_of_the_answer_goes(
    stillwatt: Stillwatt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_text: str) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("stillwatt.cli.analyse.say_prose", gone)
    page = tmp_path / "page.html"
    assert stillwatt("analyse", "--table", "paper", "--html", str(page)).exit_code == 1
    assert page.is_file()


def test_what_analyse_saved_is_drawn(stillwatt: Stillwatt, tmp_path: Path) -> None:
    saved = tmp_path / "comparison.json"
    page = tmp_path / "page.html"
    answer = stillwatt("analyse", "--table", "paper", "--json", "--html", str(page))
    assert answer.exit_code == 0, answer.output
    assert f"page  {page}" in answer.stderr
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    saved.write_text(answer.stdout, encoding="utf-8")
    result = stillwatt("figures", str(saved), "-o", str(tmp_path / "out"), "--format", "json")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name runs, a JSON file or a table, one of the three"),
        (("latest", "--table", "paper"), "one of the three"),
        (("a.json", "b"), "a.json is drawn by itself"),
        (("--table", "paper", "--only", " ,"), "--only names at least one figure"),
        (("--table", "paper", "--only", "pie"), "unknown figure 'pie'"),
        (("gone",), "no run 'gone'"),
    ],
)
def test_what_cannot_be_meant_exits_with_2(
    stillwatt: Stillwatt, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = stillwatt("figures", *arguments, "-o", str(tmp_path / "out"), "--runs", str(tmp_path))
    assert result.exit_code == 2
    assert message in result.output


def test_an_absent_library_is_one_sentence(
    stillwatt: Stillwatt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vl_convert", None)
    result = stillwatt("figures", "--table", "paper", "-o", str(tmp_path))
    assert result.exit_code == 2
    assert result.stderr == "error: vl-convert-python is not installed; run: pip install 'stillwatt[figures]'\n"
