"""Figures of comparisons: goldens, marks that are really drawn, hostile names, print, and a law of the tornado."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from figure_studies import HOSTILE, marks, marks_of, study, study_data
from observations import observation
from run_records import quickstart
from stillwatt.analysis.compare import compare
from stillwatt.analysis.study import summarise
from stillwatt.errors import MissingDrawerError
from stillwatt.records.comparison import Comparison
from stillwatt.report import figure_plane, figure_students
from stillwatt.report.comparison import comparison_dict
from stillwatt.report.comparison_figures import comparison_figures
from stillwatt.report.comparison_tables import reuse_table
from stillwatt.report.data import report_dict
from stillwatt.report.drawing import draw, printable
from stillwatt.report.figure import Figure
from stillwatt.report.figure_forecast import Foretold, Span, forecast_figure, forecast_table, read_foretold
from stillwatt.report.figure_tornado import Weighed, tornado_figure
from stillwatt.report.figures import build_figures

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "figures"
FORECASTS = (
    Foretold(
        label="kd", predicted=Span(low=9.0, value=10.0, high=12.0), measured=Span(low=10.4, value=10.5, high=10.6)
    ),
    Foretold(label="sft", predicted=Span(low=2.0, value=3.0, high=4.0), measured=Span(low=4.4, value=4.5, high=4.6)),
    Foretold(label="lost", predicted=Span(low=2.0, value=3.0, high=4.0), measured=None, reason="killed"),
)


def quickstart_data() -> dict[str, Any]:
    return report_dict(quickstart(), summarise(quickstart(), reuse=(10,)))


def figures(data: Mapping[str, Any] | None = None) -> dict[str, Figure]:
    found = {figure.name: figure for figure in comparison_figures(study_data() if data is None else data)}
    forecast = forecast_figure(FORECASTS)
    assert forecast is not None
    return {**found, "forecast": forecast}


@pytest.fixture(scope="module")
def drawn() -> dict[str, Figure]:
    return figures()


NAMES = ("frontier", "students", "bills", "tornado", "sweep", "forecast")


@pytest.mark.parametrize("name", NAMES)
def test_specs_are_as_they_were(drawn: dict[str, Figure], name: str) -> None:
    """To the byte but for the last digits of numbers: `make golden` writes them anew."""
    golden = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    assert alike(golden, golden_of(drawn[name]))


def golden_of(figure: Figure) -> Any:
    """A figure's words and specs; the shared settings stand in `vega.py` once."""
    panels = [{"title": p.title, "spec": {k: v for k, v in p.spec.items() if k != "config"}} for p in figure.panels]
    words = {"title": figure.title, "caption": figure.caption, "alt": figure.alt}
    return json.loads(json.dumps({**words, "legend": [e.title for e in figure.legend], "panels": panels}))


def alike(one: Any, two: Any) -> bool:
    if isinstance(one, dict):
        return isinstance(two, dict) and list(one) == list(two) and all(alike(one[key], two[key]) for key in one)
    if isinstance(one, list):
        return isinstance(two, list) and len(one) == len(two) and all(map(alike, one, two))
    if isinstance(one, float) and isinstance(two, float):
        return math.isclose(one, two, rel_tol=1e-6, abs_tol=1e-12)
    return bool(one == two)


def test_every_label_on_the_plane_is_a_point_with_its_errors_and_its_name(drawn: dict[str, Figure]) -> None:
    data = study_data()
    panels = drawn["frontier"].panels
    assert len(panels) == len(data["frontiers"]) == 3
    for panel, points in zip(panels, data["points"].values(), strict=True):
        found = marks(panel.spec)
        assert found["symbol"] == len(points)
        assert found["rule"] == len(points) + sum(point["quality_half_width"] is not None for point in points)
        named = sum(bool(value["corner"]) for value in panel.spec["data"]["values"])
        assert found["text"] == named > 5


def test_a_sure_place_is_drawn_darker_than_an_unsure_one_and_says_so(drawn: dict[str, Figure]) -> None:
    values = [v for panel in drawn["frontier"].panels for v in panel.spec["data"]["values"] if v["p"] is not None]
    inks = [value["ink"] for value in sorted(values, key=lambda value: value["p"])]
    assert inks == sorted(inks)
    assert inks[0] < inks[-1]
    assert all(" p " in value["label"] for value in values)


def test_each_curve_has_its_line_its_band_its_name_and_its_n_star(drawn: dict[str, Figure]) -> None:
    data = study_data()
    panels = {panel.title: marks(panel.spec) for panel in drawn["students"].panels}
    one = panels["against sft-1b"]
    # two curves: a band, a line and an end name each, N* in words each, and the baseline's name
    assert (one["area"], one["line"], one["text"]) == (2, 2, 5)
    counts = len(data["curves"][0]["points"])
    rings = sum(1.0 <= (e["value"] or 0.0) <= 100.0 for e in data["n_star"] if e["baseline"] == "sft-1b")
    assert one["symbol"] == 2 * counts + rings
    assert one["rule"] == 1 + rings
    assert one["rect"] == 1


def test_crowded_panels_say_what_they_leave_out(drawn: dict[str, Figure]) -> None:
    crowded = next(panel for panel in drawn["students"].panels if panel.title == "against sft-3b")
    assert marks(crowded.spec)["line"] == figure_students.MOST_CURVES
    assert "2 more curves are not drawn." in drawn["students"].caption


def test_bars_stack_to_the_bill_of_each_allocation(drawn: dict[str, Figure]) -> None:
    data = study_data()
    whole = [entry for entry in data["stages"] if entry["total_kwh"] is not None]
    for panel, allocation in zip(drawn["bills"].panels, data["points"], strict=True):
        found = marks(panel.spec)
        assert found["rect"] == 3 * len(whole)
        assert found["rule"] == len(whole)
        placed = {point["label"]: point["energy_kwh"] for point in data["points"][allocation]}
        ends: dict[str, float] = {}
        for value in panel.spec["data"]["values"]:
            ends[value["label"]] = max(ends.get(value["label"], 0.0), value["end"])
        assert ends == pytest.approx({label: placed[label] * 3_600_000 for label in ends})
    assert "Not drawn, because an energy is unknown: syn-7b." in drawn["bills"].caption


def test_a_tornado_has_two_sides_for_each_of_three_energies(drawn: dict[str, Figure]) -> None:
    for panel in drawn["tornado"].panels:
        found = marks(panel.spec)
        assert (found["rect"], found["text"], found["rule"]) == (6, 6, 1)
        widths = [abs(v["end"] - v["start"]) for v in panel.spec["data"]["values"]]
        assert max(widths[:2]) == pytest.approx(max(widths))


energies = st.floats(min_value=0.1, max_value=1e3)


@given(energies, energies, energies)
def test_more_teacher_needs_more_students_and_dearer_training_too(
    teacher: float, student: float, saving: float
) -> None:
    entry = Weighed(label="a", baseline="b", teacher=teacher, student=student, baseline_student=student + saving)
    here = entry.n_star()
    assert here is not None
    for stage, less, more in entry.turning:
        low, high = (more, less) if stage == "baseline" else (less, more)
        assert low is not None
        assert low <= here * (1.0 + 1e-9)
        assert high is None or high >= here * (1.0 - 1e-9)


def test_a_saving_that_a_tenth_takes_away_ends_in_never() -> None:
    entry = Weighed(label="a", baseline="b", teacher=1.0, student=10.0, baseline_student=10.5)
    figure = tornado_figure([entry], {})
    assert figure is not None
    assert "▲ never" in json.dumps(figure.panels[0].spec, ensure_ascii=False)
    assert marks(figure.panels[0].spec)["rect"] == 6


def test_seeds_that_are_labels_of_their_own_have_one_tornado() -> None:
    rows = [
        observation(name, label=f"{name}-s{seed}", seed=str(seed), student_j=student_j + seed / 10.0)
        for name, student_j in (("kd-1b", 5.0), ("sft-1b", 6.0))
        for seed in (1, 2)
    ]
    data = comparison_dict(compare(rows, source="made up"))
    tornado = {figure.name: figure for figure in comparison_figures(data)}["tornado"]
    assert [panel.title for panel in tornado.panels] == ["kd-1b against sft-1b"]
    assert tornado.table.rows[1].cells[2:6] == ("train student", "7.26", "11.0", "22.7")


def test_a_sweep_is_a_cell_for_each_setting(drawn: dict[str, Figure]) -> None:
    titles = [panel.title for panel in drawn["sweep"].panels]
    assert titles == ["kd, 3b: energy", "kd, 3b: quality"]
    for panel in drawn["sweep"].panels:
        found = marks(panel.spec)
        assert (found["rect"], found["text"]) == (6, 6)


def swept(*settings: dict[str, float], **changes: Any) -> Figure | None:
    rows = [observation("kd-1b", label=f"kd-{i}", settings=own, **changes) for i, own in enumerate(settings)]
    data = comparison_dict(compare([*rows, observation("sft-1b")], source="made up"))
    return {figure.name: figure for figure in comparison_figures(data)}.get("sweep")


def test_one_swept_setting_is_a_strip_and_a_third_one_makes_more_maps() -> None:
    strip = swept({"max_new_tokens": 128.0}, {"max_new_tokens": 256.0})
    assert strip is not None
    assert marks(strip.panels[0].spec)["rect"] == 2
    cube = swept(
        *({"alpha": a, "temperature": t, "max_new_tokens": n} for a in (0.1, 0.9) for t in (1, 2) for n in (8, 9))
    )
    assert cube is not None
    assert [panel.title for panel in cube.panels][::2] == [
        "kd, 1b, max_new_tokens 8: energy",
        "kd, 1b, max_new_tokens 9: energy",
    ]


def test_settings_without_a_title_of_their_own_are_axes_too() -> None:
    figure = swept(*({"top_k": k, "train_tokens": n, "alpha": 0.5} for k in (10, 100) for n in (1e6, 2e6)))
    assert figure is not None
    encoding = figure.panels[0].spec["encoding"]
    assert [encoding[axis]["title"] for axis in "xy"] == ["top_k (1)", "train_tokens (tokens)"]
    assert [column.title for column in figure.table.columns[3:6]] == ["α (1)", "top_k (1)", "train_tokens (tokens)"]


def test_labels_of_a_sweep_without_a_point_are_counted() -> None:
    rows = [observation("kd-1b", label=f"kd-{a}", settings={"alpha": a}, quality=a or None) for a in (0.0, 0.5, 0.9)]
    data = comparison_dict(compare([*rows, observation("sft-1b")], source="made up"))
    figure = {figure.name: figure for figure in comparison_figures(data)}["sweep"]
    assert marks(figure.panels[0].spec)["rect"] == 2
    assert "1 of the labels swept have no point, and no cell." in figure.caption


def test_nothing_swept_is_no_sweep() -> None:
    assert swept({"alpha": 0.5}, {"alpha": 0.5}) is None
    assert swept({}, {}) is None


def test_labels_of_one_cell_are_averaged_and_their_interval_is_not_claimed() -> None:
    figure = swept({"alpha": 0.1}, {"alpha": 0.1}, {"alpha": 0.9})
    assert figure is not None
    first, second = figure.panels[0].spec["data"]["values"]
    assert first["labels"] == "kd-0, kd-1"
    assert "±" not in first["text"]
    assert "±" in second["text"]


def test_predictions_stand_on_both_axes_with_their_intervals(drawn: dict[str, Figure]) -> None:
    found = marks(drawn["forecast"].panels[0].spec)
    assert found == {"line": 1, "rule": 4, "symbol": 2, "text": 2}
    assert "1 of 2 measured values" in drawn["forecast"].caption
    assert "Not drawn: lost (killed)." in drawn["forecast"].caption


def test_far_apart_predictions_have_logarithmic_axes() -> None:
    far = [replace(FORECASTS[0], measured=Span(low=k, value=k, high=k), label=str(k)) for k in (0.1, 10.0, 1000.0)]
    figure = forecast_figure(far, unit="J")
    assert figure is not None
    assert figure.panels[0].spec["layer"][0]["encoding"]["x"]["scale"]["type"] == "log"
    assert marks(figure.panels[0].spec)["symbol"] == 3


def test_without_a_measurement_there_is_a_table_and_no_figure() -> None:
    assert forecast_figure(FORECASTS[2:]) is None
    assert forecast_table(FORECASTS).rows[2].cells == ("lost", "3.0 [2.0, 4.0]", "not measured: killed", "–", "–")
    assert forecast_table(FORECASTS).rows[1].cells[3:] == ("−33 %", "no")


@pytest.mark.parametrize("ends", [(2.0, 1.0, 3.0), (1.0, math.nan, 3.0), (-math.inf, 1.0, 3.0)])
def test_an_interval_holds_its_value(ends: tuple[float, float, float]) -> None:
    low, value, high = ends
    with pytest.raises(ValueError, match="lies outside"):
        Span(low=low, value=value, high=high)


def test_forecasts_are_read_from_json() -> None:
    span = {"low": 1, "value": 2, "high": 3}
    entries = read_foretold([{"label": "a", "predicted": span, "measured": {"low": 0, "value": 0, "high": 0}}])
    assert entries[0].error_rel is None
    assert not entries[0].is_within


def named_channels(spec: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], str, set[str]]]:
    """Each encoded channel with the fields that its layer's data have."""
    shared = spec.get("encoding", {})
    for layer in spec["layer"]:
        rows = layer.get("data", spec["data"])["values"]
        fields = {field for row in rows for field in row}
        for name, channel in {**shared, **layer.get("encoding", {})}.items():
            for one in channel if isinstance(channel, list) else [channel]:
                yield one, name, fields


@pytest.mark.parametrize("name", NAMES)
def test_channels_name_fields_that_are_there(drawn: dict[str, Figure], name: str) -> None:
    for panel in drawn[name].panels:
        for channel, place, fields in named_channels(panel.spec):
            assert "field" not in channel or channel["field"] in fields, (name, place, channel)


@pytest.mark.parametrize("name", NAMES)
def test_axes_say_their_unit(drawn: dict[str, Figure], name: str) -> None:
    for panel in drawn[name].panels:
        titles = [c["title"] for c, place, _ in named_channels(panel.spec) if place in ("x", "y") and c.get("title")]
        assert titles
        assert all(title.endswith(")") or title.endswith(", N") for title in titles), titles


@pytest.mark.parametrize("name", ["frontier", "students", "bills", "tornado", "forecast"])
def test_what_colour_says_is_said_another_way_too(drawn: dict[str, Figure], name: str) -> None:
    """By shape, by dash, by a letter, or by fill: a grey print loses nothing."""
    for panel in drawn[name].panels:
        places = {place for _, place, _ in named_channels(panel.spec)}
        fills = {layer["mark"].get("filled") for layer in panel.spec["layer"]}
        assert places & {"shape", "strokeDash", "text"} or fills >= {True, False}


RUN_NAMES = ("stages", "arms", "reuse", "trace")


@pytest.mark.parametrize("name", [*NAMES, *RUN_NAMES])
def test_every_spec_is_valid_by_the_published_schema(drawn: dict[str, Figure], name: str) -> None:
    # the schema of 2 MB is no part of what is shipped, and altair of no extra: `pip install altair` runs this
    pytest.importorskip("altair", reason="altair, which ships the schema of Vega-Lite, is not installed")
    import jsonschema

    place = resources.files("altair") / "vegalite" / "v6" / "schema" / "vega-lite-schema.json"
    validator = jsonschema.Draft7Validator(json.loads(place.read_text(encoding="utf-8")))
    known = drawn if name in NAMES else {figure.name: figure for figure in build_figures(quickstart_data())}
    for panel in known[name].panels:
        for spec in (panel.spec, printable(known[name], panel)):
            best = jsonschema.exceptions.best_match(validator.iter_errors(spec))
            assert best is None, best


def test_hostile_names_change_no_mark_and_no_expression() -> None:
    plain, hostile = figures(), figures(study_data(prefix=HOSTILE))
    for name in ("frontier", "students", "bills", "tornado"):
        for one, two in zip(plain[name].panels[:1], hostile[name].panels[:1], strict=True):
            expected, found = marks(one.spec), marks(two.spec)
            # a long name may find no room on the plane
            expected.pop("text", None), found.pop("text", None)
            assert found == expected
            expressions = [json.dumps(layer.get("transform", "")) for layer in two.spec["layer"]]
            assert not any("alert" in text for text in expressions)


def test_points_beyond_what_can_be_seen_are_counted() -> None:
    rows = [observation("sft-1b", label=f"sft-{i}", student_j=6.0 + i, quality=0.5 - i / 1e4) for i in range(450)]
    data = comparison_dict(compare(rows, source="made up"))
    figure = comparison_figures(data)[0]
    assert marks(figure.panels[0].spec)["symbol"] == figure_plane.MOST_DRAWN
    assert "50 more points are not drawn." in figure.caption


def test_labels_that_have_no_place_are_told_in_every_figure() -> None:
    """Of very many labels only those that may be on a frontier have a place; the others keep bills and N*."""
    whole = study()
    fronts = [replace(f, placed=tuple(p for p in f.placed if p.is_on_frontier)) for f in whole.fronts]
    data = comparison_dict(replace(whole, fronts=tuple(fronts), stages=whole.stages[:8], num_labels=20_000))
    found = figures(data)
    # none of the labels swept is on the frontier
    assert found.keys() | {"sweep"} == figures().keys()
    told = "Of 20,000 labels only those that may be on a frontier are listed as points."
    assert told in found["frontier"].caption
    assert told in found["frontier"].table.note
    for panel, front in zip(found["frontier"].panels, fronts, strict=True):
        assert marks(panel.spec)["symbol"] == len(front.placed) > 0
    assert "19,992 more labels have no bar." in found["bills"].caption
    assert "19,992 more labels are not listed." in found["bills"].table.note
    assert marks(found["bills"].panels[0].spec)["rect"] == 3 * 7
    assert marks(found["bills"].panels[0].spec)["rule"] < 7
    assert [p.title for p in found["tornado"].panels] == [p.title for p in figures()["tornado"].panels]
    assert marks(found["students"].panels[0].spec) == marks(figures()["students"].panels[0].spec)


def test_a_row_of_a_table_has_a_cell_for_each_column(drawn: dict[str, Figure]) -> None:
    for figure in (*drawn.values(), *build_figures(quickstart_data())):
        assert {len(row.cells) for row in figure.table.rows} == {len(figure.table.columns)}, figure.name


def test_a_comparison_of_nothing_draws_nothing() -> None:
    data = comparison_dict(compare([observation("sft-1b", quality=None, student_j=None)], source="made up"))
    assert comparison_figures(data) == ()
    assert reuse_table(data).rows == ()


def test_by_tokens_a_label_bears_what_its_point_says() -> None:
    rows = [
        observation("sft-1b"),
        observation("kd-1b", teacher_tokens=100.0),
        observation("kd-7b", teacher_tokens=300.0, quality=None),
    ]
    found = {figure.name: figure for figure in comparison_figures(comparison_dict(compare(rows, source="made up")))}
    panel = next(p for p in found["bills"].panels if p.title == "Shared by tokens used")
    values = {(v["label"], v["part"]): v["end"] - v["start"] for v in panel.spec["data"]["values"]}
    assert values["kd-1b", "teacher's work"] == pytest.approx(11.0 * 0.25)
    # its tokens are known to the analysis alone, and it has no point
    assert ("kd-7b", "teacher's work") not in values
    assert "Shared by tokens, these have no point and no bar: kd-7b." in found["bills"].caption


def test_a_curve_without_a_baseline_is_drawn_alone() -> None:
    rows = [observation("kd-1b"), observation("kd-2b")]
    found = {figure.name: figure for figure in comparison_figures(comparison_dict(compare(rows, source="made up")))}
    (panel,) = found["students"].panels
    assert panel.title == "without a baseline"
    assert "rule" not in marks(panel.spec)


@pytest.mark.parametrize("name", NAMES)
def test_print_is_black_on_white_with_its_legend_and_as_many_marks(drawn: dict[str, Figure], name: str) -> None:
    figure = drawn[name]
    panel = figure.panels[0]
    spec = printable(figure, panel)
    assert "currentColor" not in json.dumps({**spec, "data": None})
    svg = draw(spec, "svg").decode()
    assert 'fill="#ffffff"' in svg
    assert marks_of(svg).keys() == marks(panel.spec).keys()
    if figure.legend:
        assert svg.count("role-legend-label") == len(figure.legend)
        assert all(entry.title in svg for entry in figure.legend)


def test_a_name_is_no_ink() -> None:
    found = figures(study_data(prefix="currentColor"))
    spec = printable(found["bills"], found["bills"].panels[0])
    assert spec["data"]["values"][0]["label"].startswith("currentColor")


@pytest.mark.parametrize(("form", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("json", b"{"), ("svg", b"<svg")])
def test_every_form_is_what_it_says_and_the_same_twice(drawn: dict[str, Figure], form: str, magic: bytes) -> None:
    pytest.importorskip("vl_convert", reason="vl-convert-python is not installed")
    figure = drawn["tornado"]
    spec = printable(figure, figure.panels[0])
    one = draw(spec, form)
    assert one.startswith(magic)
    if form != "pdf":
        assert draw(spec, form) == one


def test_without_the_drawing_library_the_way_out_is_named(
    drawn: dict[str, Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vl_convert", None)
    spec = printable(drawn["tornado"], drawn["tornado"].panels[0])
    with pytest.raises(MissingDrawerError, match=r"pip install 'stillwatt\[figures\]'") as caught:
        draw(spec, "svg")
    assert caught.value.exit_code == 2
    assert draw(spec, "json").startswith(b"{")


def test_a_run_s_report_has_a_tornado_for_each_arm_that_saves_something() -> None:
    data = quickstart_data()
    saving = [
        found["arm"]
        for found in data["break_evens"]
        if found["kind"] == "reuse" and found["checkpoint"] == "1.0" and (found["saving_j"] or 0.0) > 0.0
    ]
    tornado = next(figure for figure in build_figures(data) if figure.name == "tornado")
    assert [panel.title for panel in tornado.panels] == [f"{arm} against sft" for arm in saving] != []
    assert len(tornado.table.columns) == 6
    assert marks(tornado.panels[0].spec)["rect"] == 6


def test_nothing_saved_is_no_tornado() -> None:
    data = quickstart_data()
    for found in data["break_evens"]:
        found["saving_j"] = -1.0
    assert "tornado" not in {figure.name for figure in build_figures(data)}


def test_goldens_do_not_depend_on_the_order_of_drawing() -> None:
    found: Comparison = study()
    assert comparison_figures(comparison_dict(found)) == comparison_figures(comparison_dict(found))


def write_goldens() -> None:
    """Write the goldens anew; look at the difference before keeping it."""
    os.makedirs(GOLDEN, exist_ok=True)
    for name, figure in figures().items():
        text = json.dumps(golden_of(figure), indent=1, ensure_ascii=False)
        # what holds no braces itself stands on one line
        text = re.sub(r"[{\[]\n[^{}\[\]]*[}\]]", lambda found: re.sub(r"\n\s*", " ", found[0]), text)
        (GOLDEN / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_goldens()
