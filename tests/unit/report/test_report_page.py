"""The page: self-contained, the same bytes, safe with hostile names; figures that draw marks."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import math
import re
from dataclasses import replace
from importlib import resources
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from html_page import Page
from run_records import measured_command, quickstart, run_record, stage
from stillwatt.analysis.study import summarise
from stillwatt.errors import MissingExtraError, MissingInputError
from stillwatt.records import NoTotal, RunRecord, StageKind, StageStatus
from stillwatt.report import runtimes
from stillwatt.report.data import report_dict
from stillwatt.report.figure import Figure
from stillwatt.report.figures import build_figures
from stillwatt.report.html import embed_json, report_html
from stillwatt.report.labels import Spot, name_box, place_names
from stillwatt.report.tables import Row, Table, table_columns

HOSTILE = "</script ></script><!--<script><img src=x onerror=alert(1)>&\"'\u2028"


def made(run: RunRecord) -> dict[str, Any]:
    return report_dict(run, summarise(run, reuse=(10,)))


def hostile_run() -> RunRecord:
    run = quickstart(name=HOSTILE, environment={HOSTILE: HOSTILE, "deep": {"er": HOSTILE}}, warnings=(HOSTILE,))
    stages = [
        replace(
            entry,
            name=entry.name + HOSTILE,
            labels={key: value + HOSTILE if key in ("arm", "artifact") and value != "teacher" else value
                    for key, value in entry.labels.items()},
        )
        for entry in run.stages
    ]  # fmt: skip
    return replace(run, stages=tuple(stages))


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_embedded_json_is_the_same_value_and_holds_no_markup(value: Any) -> None:
    text = embed_json(value)
    assert json.loads(text) == value
    assert not set(text) & set("<>&\u2028\u2029")


@pytest.fixture(scope="module")
def page_text() -> str:
    return report_html(made(quickstart()))


def test_the_same_data_gives_the_same_page(page_text: str) -> None:
    assert report_html(made(quickstart())) == page_text


def test_a_page_can_be_made_again_from_its_own_data(page_text: str) -> None:
    scripts = {attributes.get("id"): text for attributes, text in Page(page_text).scripts}
    assert report_html(json.loads(scripts["report-data"])) == page_text


def test_the_page_loads_nothing(page_text: str) -> None:
    for tag, attributes in Page(page_text).elements:
        for name in ("src", "href", "data", "action", "poster", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name, value)
    style = resources.files("stillwatt.report") / "templates" / "report.css"
    assert "url(" not in style.read_text(encoding="utf-8")


def test_its_policy_names_every_script_that_runs_and_no_other(page_text: str) -> None:
    page = Page(page_text)
    policy = next(a["content"] or "" for t, a in page.elements if t == "meta" and a.get("http-equiv"))
    named = set(re.findall(r"'(sha256-[^']+)'", policy))
    running = [text for attributes, text in page.scripts if "type" not in attributes]
    hashes = {"sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in running}
    assert hashes == named
    assert len(running) == 4
    assert "unsafe-eval" not in policy
    assert policy.startswith("default-src 'none'")


def test_hostile_names_are_shown_and_never_become_markup() -> None:
    text = report_html(made(hostile_run()))
    page = Page(text)
    assert not [tag for tag, _ in page.elements if tag == "img"]
    assert not [a for _, a in page.elements if any(name.startswith("on") for name in a)]
    assert len([1 for attributes, _ in page.scripts]) == 6
    assert any(HOSTILE in words for words in page.words)
    data = json.loads(next(t for a, t in page.scripts if a.get("id") == "report-data"))
    assert data["run"]["name"] == HOSTILE


@pytest.mark.parametrize("label", ["one-off", "reuse:10", "marginal"])
def test_the_page_says_what_the_data_say(page_text: str, label: str) -> None:
    words = " ".join(Page(page_text).words)
    data = made(quickstart())
    assert data["answer"]["title"] in words
    assert label in words
    for entry in data["not_counted"]:
        assert entry["what"] in words
    assert data["run"]["settings_sha256"] in words


def test_every_figure_has_a_name_for_those_who_cannot_see_it_and_a_table(page_text: str) -> None:
    drawn = [a for t, a in Page(page_text).elements if t == "div" and "data-figure" in a]
    assert len(drawn) == 3 + 3 + 2 + 1
    assert all(len(a["aria-label"] or "") > 30 and a["role"] == "img" for a in drawn)
    assert all(figure.table.rows for figure in build_figures(made(quickstart())))


def test_a_command_s_page_has_no_arms() -> None:
    words = " ".join(Page(report_html(made(measured_command()))).words)
    assert "python train.py used 320 J [190, 440]" in words
    assert "One student of each arm" not in words
    assert "Power over time" in words


def test_a_page_without_any_energy_is_still_a_page() -> None:
    gone = NoTotal(reason="every part is absent")
    run = run_record([stage("a1", "job", StageKind.OTHER)], total=gone, unallocated=gone, traces=(), spans=())
    words = " ".join(Page(report_html(made(run))).words)
    assert "every part is absent" in words


def test_arms_that_no_one_could_place_are_named_with_the_reason() -> None:
    gone = ("evaluate.teacher", "evaluate.start")
    run = run_record([one for one in quickstart().stages if not one.name.startswith(gone)])
    words = " ".join(Page(report_html(made(run))).words)
    assert "No point has both an energy and a quality." in words
    assert "because neither teacher nor start was evaluated" in words


def test_where_no_teacher_was_evaluated_the_page_says_what_quality_is_relative_to() -> None:
    data = made(run_record([entry for entry in quickstart().stages if entry.name != "evaluate.teacher"]))
    assert data["yardstick"] == "pruned as it starts"
    page = report_html(data)
    words = " ".join(Page(page).words)
    assert "no teacher was evaluated: quality Q is relative to pruned as it starts, which is 1" in words
    assert "quality Q (pruned as it starts = 1)" in page
    assert "quality Q (teacher = 1)" not in page
    assert "No point has both an energy and a quality." not in words


def test_without_the_template_engine_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'stillwatt\[report\]'"):
        report_html(made(measured_command()))


def test_vendored_runtimes_are_those_of_their_hashes_and_licences_are_there() -> None:
    folder = resources.files("stillwatt.report") / "vendor"
    sums = runtimes.vendored_sums()
    present = {entry.name for entry in folder.iterdir()} - {"SHA256SUMS"}
    assert present == set(sums)
    for name, digest in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert {f"LICENSE.{name}.txt" for name in ("vega", "vega-lite", "vega-interpreter", "bundled")} <= set(sums)
    assert "Redistribution and use" in (folder / "LICENSE.vega.txt").read_text(encoding="utf-8")


def test_a_changed_runtime_is_not_put_into_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = {**runtimes.vendored_sums(), "vega.min.js": "0" * 64}
    monkeypatch.setattr(runtimes, "vendored_sums", lambda: changed)
    with pytest.raises(MissingInputError, match="install stillwatt again"):
        runtimes.load_runtimes()


def test_no_runtime_can_end_its_own_script_element() -> None:
    for script in runtimes.load_runtimes():
        assert "</script" not in script.lower()
        assert "<!--" not in script
        assert "sourceMappingURL" not in script


def figures_of(run: RunRecord) -> dict[str, Figure]:
    return {figure.name: figure for figure in build_figures(made(run))}


def svg_marks(spec: dict[str, Any]) -> dict[str, int]:
    """Marks by kind, drawn without a browser."""
    converter = pytest.importorskip("vl_convert", reason="vl-convert-python is not installed")
    svg = converter.vegalite_to_svg({**spec, "width": 640}, vl_version="6.4")
    groups = re.findall(r'<g class="mark-(\w+) role-mark[^"]*"[^>]*>(.*?)</g>', svg, flags=re.DOTALL)
    found: dict[str, int] = {}
    for kind, inside in groups:
        found[kind] = found.get(kind, 0) + inside.count("<path") + inside.count("<text") + inside.count("<line")
    return found


def test_the_stage_bars_draw_a_bar_and_a_whisker_for_each_row() -> None:
    figure = figures_of(quickstart())["stages"]
    marks = svg_marks(figure.panels[0].spec)
    assert marks["rect"] == 15
    assert marks["rule"] == 15


def test_the_arm_bars_draw_the_four_kinds_of_work() -> None:
    # three arms of prepare, train, evaluate, and the teacher of two; sft's teacher is a bar of no width
    marks = svg_marks(figures_of(quickstart())["arms"].panels[0].spec)
    assert marks["rect"] == 12
    assert marks["rule"] == 3


def test_every_frontier_panel_draws_all_points_and_names_them() -> None:
    panels = figures_of(quickstart())["frontier"].panels
    assert [panel.title for panel in panels] == [
        "One student pays it all",
        "10 students share it",
        "Nobody: it was there anyway",
    ]
    for panel in panels:
        marks = svg_marks(panel.spec)
        assert marks["symbol"] == 6
        assert marks["text"] == 6
        assert marks["rule"] == 12


def test_a_crowded_plane_names_last_checkpoints_alone() -> None:
    run = quickstart()
    copies = [
        replace(s, stage_id=f"b{s.stage_id}", labels={**s.labels, "arm": s.labels["arm"] + "2"})
        for s in run.stages
        if s.labels.get("arm") in ("sft", "kd")
    ]
    values = figures_of(run_record([*run.stages, *copies]))["frontier"].panels[0].spec["data"]["values"]
    assert {value["budget"] for value in values if value["corner"]} == {"100 %"}


spots = st.lists(
    st.builds(
        Spot,
        x=st.floats(min_value=0.0, max_value=1.0),
        y=st.floats(min_value=0.0, max_value=1.0),
        name=st.text(min_size=1, max_size=12),
    ),
    max_size=12,
)


@given(spots, spots)
def test_names_on_a_plane_never_lie_on_each_other(points: list[Spot], others: list[Spot]) -> None:
    corners = place_names(points, [*points, *others])
    boxes = [name_box(point, corner) for point, corner in zip(points, corners, strict=True) if corner is not None]
    assert not any(one.meets(two) for one, two in itertools.combinations(boxes, 2))
    assert corners[:1] != (None,)


def test_a_name_lies_on_no_point_where_it_can() -> None:
    named, above, below = (Spot(x=x, y=y, name="kd-1b") for x, y in ((0.2, 0.5), (0.3, 0.55), (0.3, 0.45)))
    assert place_names([named], [named]) == ("right above",)
    assert place_names([named], [named, above]) == ("right below",)
    assert place_names([named], [named, above, below]) == ("left above",)


def test_the_bands_of_sharing_are_as_wide_as_what_its_break_even_rests_on() -> None:
    """Metering noise alone would be a hair's breadth where a training repeats within three quarters."""
    run = quickstart()
    data = report_dict(run, replace(summarise(run, reuse=(10,)), repeat_rel=0.73))
    figure = next(figure for figure in build_figures(data) if figure.name == "reuse")
    assert "repeating within ±73 %, as N* is" in figure.caption
    values = figure.panels[0].spec["data"]["values"]
    first = next(value for value in values if value["has_teacher"] and value["students"] == 1)
    (point,) = (p for p in data["arms"] if p["arm"] == first["arm"] and p["is_final"])
    rest_j, teacher_j = point["allocated"]["marginal"]["value_j"], point["teacher"]["value_j"]
    half = (first["high"] - first["low"]) / 2.0 / first["energy"]
    assert half == pytest.approx(0.73 * math.hypot(rest_j, teacher_j) / (rest_j + teacher_j), rel=0.02)
    assert {value["arm"] for value in values} >= {data["baseline_arm"]}
    assert min(value["low"] for value in values) >= 0.0


def test_the_reuse_curves_cover_the_axis() -> None:
    marks = svg_marks(figures_of(quickstart())["reuse"].panels[0].spec)
    assert marks["line"] == 3
    assert marks["symbol"] == 2 * 7
    assert marks["area"] == 3


def test_a_break_even_on_the_axis_is_marked() -> None:
    data = made(quickstart())
    for found in data["break_evens"]:
        if (found["kind"], found["arm"], found["checkpoint"]) == ("reuse", "synthetic", "1.0"):
            found.update(verdict="value", value=46.0)
    spec = next(figure for figure in build_figures(data) if figure.name == "reuse").panels[0].spec
    assert "N* = 46" in json.dumps(spec)
    assert svg_marks(spec)["text"] == 1


def test_stages_of_unlike_kinds_have_unlike_words_in_the_trace() -> None:
    run = quickstart()
    failed = tuple(replace(s, status=StageStatus.FAILED) if s.name == "train.kd.0.5" else s for s in run.stages)
    spec = json.dumps(figures_of(replace(run, stages=failed))["trace"].panels[0].spec)
    for words in ("train sft 0.5", "evaluate sft 0.5", "train kd 1.0"):
        assert f'"long": "{words}"' in spec


def test_text_has_room_on_a_narrow_page_and_wide_tables_say_that_they_go_on() -> None:
    few = Table(title="t", columns=table_columns("a", "b"), rows=(Row(cells=("x", "y" * 60)),))
    assert few.is_wordy
    assert not replace(few, rows=(Row(cells=("x", "y")),)).is_wordy
    assert not replace(few, columns=table_columns(*"abcd")).is_wordy
    page = report_html(made(quickstart()))
    assert '<table class="wordy">' in page
    assert re.search(r'<td class="long" data-title="[^"]+">', page)
    assert page.count('class="scroll"') == page.count('class="scroll" tabindex="0" role="region"')
    assert ".scroll:focus-visible" in page


def test_the_trace_draws_bands_for_all_stages() -> None:
    panels = figures_of(quickstart())["trace"].panels
    assert [panel.title for panel in panels] == ["cpu0", "dram0"]
    for panel in panels:
        marks = svg_marks(panel.spec)
        assert marks["rect"] == 20
        assert marks["area"] == 1
        assert marks["line"] == 1


def test_specs_hold_their_data_and_ask_for_none() -> None:
    for figure in figures_of(quickstart()).values():
        for panel in figure.panels:
            text = json.dumps(panel.spec)
            assert '"url"' not in text
            assert "NaN" not in text


def test_sessions_are_told_apart_in_traces() -> None:
    run = quickstart()
    second = tuple(replace(trace, session="host-2-b") for trace in run.traces)
    titles = [p.title for p in figures_of(replace(run, traces=run.traces + second))["trace"].panels]
    assert titles[0] == "cpu0, session 1 of 2"
    assert titles[2] == "cpu0, session 2 of 2"


def test_an_arm_without_energy_is_left_out_of_the_drawing_and_named_in_the_table() -> None:
    run = run_record([s for s in quickstart().stages if s.name != "teacher_logits"])
    figures = figures_of(run)
    assert "kd" not in {v["arm"] for v in figures["arms"].panels[0].spec["data"]["values"]}
    assert "no stage of this run made artefact" in figures["frontier"].table.note
