"""Figures and tables as files: from tables, runs and saved answers; nothing half written, nothing guessed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from figure_studies import study_data
from run_dirs import quick_run
from run_records import quickstart
from stillwatt.analysis.study import summarise
from stillwatt.errors import ConfigError, MissingInputError, StillwattError, UnknownNameError, UsageError
from stillwatt.report.data import report_dict
from stillwatt.workflows.analyse import analyse_table
from stillwatt.workflows.figures import (
    FORECAST_SCHEMA,
    Drawn,
    from_file,
    from_runs,
    from_table,
    write_comparison_page,
    write_figures,
)


def saved(folder: Path, data: Any) -> Path:
    path = folder / "saved.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


def test_the_published_table_gives_its_figures_as_specs_and_tables(tmp_path: Path) -> None:
    paths = write_figures(from_table("paper"), tmp_path / "new" / "folder", form="json", tables="md")
    names = {path.name for path in paths}
    assert {"frontier-1.json", "frontier-3.json", "students-1.json", "bills-1.json", "tornado-1.json"} <= names
    assert {"frontier.md", "students.md", "bills.md", "tornado.md"} <= names
    assert {path.name for path in (tmp_path / "new" / "folder").iterdir()} == names
    spec = json.loads((tmp_path / "new" / "folder" / "frontier-1.json").read_text(encoding="utf-8"))
    assert spec["config"]["background"] == "#ffffff"


def test_a_saved_comparison_gives_what_the_table_gives(tmp_path: Path) -> None:
    found = from_file(saved(tmp_path, study_data()))
    assert [figure.name for figure in found.figures] == ["frontier", "students", "bills", "tornado", "sweep"]


def test_a_saved_report_is_drawn(tmp_path: Path) -> None:
    data = report_dict(quickstart(), summarise(quickstart(), reuse=(10,)))
    found = from_file(saved(tmp_path, data))
    assert {"stages", "arms", "frontier", "reuse", "trace"} <= {figure.name for figure in found.figures}
    assert "stages" in found.tables


def test_a_forecast_is_drawn(tmp_path: Path) -> None:
    span = {"low": 1.0, "value": 2.0, "high": 3.0}
    entries = [{"label": "a", "predicted": span, "measured": span}, {"label": "b", "predicted": span, "reason": "lost"}]
    found = from_file(saved(tmp_path, {"schema": FORECAST_SCHEMA, "unit": "J", "entries": entries}))
    assert [figure.name for figure in found.figures] == ["forecast"]
    none = from_file(saved(tmp_path, {"schema": FORECAST_SCHEMA, "entries": entries[1:]}))
    assert none.figures == ()
    assert list(none.tables) == ["forecast"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "its schema is None"),
        ({"schema": "other/1"}, "its schema is 'other/1'; figures are made of stillwatt.comparison/1"),
        ({"schema": "stillwatt.comparison/1"}, "not a whole stillwatt.comparison/1: KeyError 'points'"),
        ({"schema": "stillwatt.forecast/1", "entries": [{"label": "a", "predicted": None}]}, "not a whole"),
    ],
)
def test_a_file_that_cannot_be_drawn_says_why(tmp_path: Path, data: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_file(saved(tmp_path, data))


def test_a_file_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="stillwatt analyse"):
        from_file(tmp_path / "nothing.json")


def test_one_run_gives_its_report_s_figures_and_two_are_compared(tmp_path: Path) -> None:
    first = quick_run(tmp_path, number=1, name="one")
    second = quick_run(tmp_path, number=2, name="two")
    one = from_runs([first.run_id], runs_dir=tmp_path)
    assert {"stages", "trace"} <= {figure.name for figure in one.figures}
    assert one.complete
    two = from_runs([first.run_id, second.run_id], runs_dir=tmp_path)
    assert "bills" in {figure.name for figure in two.figures}


def test_only_the_named_figures_are_written(tmp_path: Path) -> None:
    paths = write_figures(from_table("paper"), tmp_path, form="json", only=("bills",), tables="csv")
    assert {path.name.partition("-")[0].partition(".")[0] for path in paths} == {"bills"}
    with pytest.raises(UnknownNameError, match="did you mean 'frontier'"):
        write_figures(from_table("paper"), tmp_path, form="json", only=("fronteir",))


def test_nothing_to_draw_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to draw"):
        write_figures(Drawn(figures=(), tables={}), tmp_path / "out", form="json")
    assert not (tmp_path / "out").exists()


def test_a_failed_drawing_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vl_convert", None)
    with pytest.raises(StillwattError, match="vl-convert-python is not installed"):
        write_figures(from_table("paper"), tmp_path / "out", form="svg")
    assert not (tmp_path / "out").exists()


def test_a_page_needs_a_file_name(tmp_path: Path) -> None:
    found = analyse_table("paper").comparison
    path = write_comparison_page(found, tmp_path / "page.html")
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    with pytest.raises(StillwattError, match="is a folder"):
        write_comparison_page(found, tmp_path)
    with pytest.raises(StillwattError, match="nothing can be written to"):
        write_comparison_page(found, tmp_path / "nowhere" / "page.html")
