"""The map of the shipped corpus, what the papers state beside it, and the page."""

from __future__ import annotations

import html.parser
import json
import math
from dataclasses import replace

import pytest

from literature_corpora import make_figure, make_work
from stillwatt.literature.corpus import make_corpus, shipped_corpus
from stillwatt.literature.coverage import coverage_map
from stillwatt.literature.reference import literature_markdown
from stillwatt.literature.stated import DISTILLATION, REVIEW, statements
from stillwatt.records.impact import LifeStage
from stillwatt.records.literature import Evidence, Treatment
from stillwatt.report.literature import map_figures, map_html, map_text, metric_table, range_text, works_table
from stillwatt.report.vega import CONFIG, leaning_axis

QUANTIFYING = {
    LifeStage.HARDWARE: 32,
    LifeStage.INFRASTRUCTURE: 5,
    LifeStage.DATA: 3,
    LifeStage.EXPERIMENTATION: 14,
    LifeStage.TRAINING: 102,
    LifeStage.POST_TRAINING: 18,
    LifeStage.DEPLOYMENT: 98,
    LifeStage.END_OF_LIFE: 6,
}
METRIC_WORKS = {
    "energy": 117,
    "co2e": 112,
    "water": 24,
    "adpe": 8,
    "primary_energy": 3,
    "ewaste": 2,
    "accelerator_hours": 38,
    "compute": 13,
    "cost": 12,
    "other": 10,
}


def test_the_shipped_map() -> None:
    drawn = coverage_map(shipped_corpus())
    assert (len(drawn.works), drawn.figures) == (217, 625)
    assert {cover.stage: cover.of(Treatment.QUANTIFIED) for cover in drawn.stages} == QUANTIFYING
    assert {metric: drawn.metric_works(metric) for metric in METRIC_WORKS} == METRIC_WORKS
    counts = {evidence.value: count for evidence, count in drawn.by_evidence}
    assert counts == {"full_text": 31, "card": 14, "secondary": 86, "abstract": 86, "recalled": 0}


def test_a_share_is_a_range_and_narrow_where_the_text_was_read() -> None:
    (training,) = [cover for cover in coverage_map(shipped_corpus()).stages if cover.stage is LifeStage.TRAINING]
    assert range_text(training.share) == "47 % to 71 %"
    assert range_text(training.share_read_whole) == "56 % to 58 %"
    nothing = coverage_map(make_corpus([make_work(evidence=Evidence.ABSTRACT)], [])).stages[0]
    assert nothing.share_read_whole is None


def test_the_papers_statements_and_where_the_corpus_differs() -> None:
    found = statements(shipped_corpus())
    assert {one.says for one in found if not one.agrees} == {"reporting rests predominantly on CO2e"}
    assert all(one.why for one in found if not one.agrees)
    assert sum(one.source == REVIEW for one in found) == 5
    assert sum(one.source == DISTILLATION for one in found) == 9


def test_a_changed_figure_no_longer_reproduces_the_paper() -> None:
    shipped = shipped_corpus()
    figures = [replace(one, value=12.0) if one.id == "lambert2026-kd-1b-teacher" else one for one in shipped.figures]
    broken = {one.says for one in statements(replace(shipped, figures=tuple(figures))) if not one.agrees}
    assert {"kd 1b: 16.9 kWh in all", "kd 1b: break-even by reuse at about 10 students"} <= broken


def test_the_reference_page_holds_the_hash_and_whose_definitions_these_are() -> None:
    page = literature_markdown()
    assert shipped_corpus().content_hash in page
    assert "this project's own" in page
    assert page.count("**no**") == 1


def test_without_that_paper_nothing_is_said_of_it() -> None:
    found = statements(make_corpus([make_work()], [make_figure()]))
    assert {one.source for one in found} == {REVIEW}


def test_what_rests_on_abstracts_is_marked() -> None:
    drawn = coverage_map(make_corpus([make_work("a", evidence=Evidence.ABSTRACT), make_work("b")], []))
    (energy, *_) = metric_table(drawn).rows
    assert "2/1" in energy.cells
    assert "abstract only" in {cell for row in works_table(drawn).rows for cell in row.cells}
    metrics, works = map_figures(drawn)
    assert "2/1" in {value["text"] for value in metrics.panels[0].spec["data"]["values"]}
    assert {value["work"] for value in works.panels[0].spec["data"]["values"]} == {"a (a)", "b"}


def test_the_terminal_shows_numbers_and_colours_only_a_terminal() -> None:
    drawn = coverage_map(shipped_corpus())
    plain = map_text(drawn)
    assert "102" in plain
    assert "\x1b" not in plain
    assert max(map(len, plain.splitlines())) <= 100
    assert "\x1b[" in map_text(drawn, is_terminal=True)
    assert "0 works" in map_text(coverage_map(make_corpus([], [])))


class Page(html.parser.HTMLParser):
    """Elements and attributes, and scripts by id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str | None, str] = {}
        self._script: str | None = None
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside, self._script = tag == "script", dict(attrs).get("id")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data

    def handle_endtag(self, tag: str) -> None:
        self._inside = False


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&\u2028"


def test_hostile_titles_are_shown_and_never_become_markup() -> None:
    work = make_work("a2024", title=HOSTILE, authors=HOSTILE)
    drawn = coverage_map(make_corpus([work], [make_figure(subject=HOSTILE)]))
    text = map_html(drawn, (), HOSTILE)
    page = Page(text)
    clean = Page(map_html(coverage_map(make_corpus([make_work("a2024")], [make_figure()])), (), "x"))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in clean.tags]
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert json.loads(page.scripts["report-data"])["work_by_stage"][0]["title"] == HOSTILE


def test_the_page_loads_nothing_and_is_the_same_again() -> None:
    drawn = coverage_map(make_corpus([make_work()], [make_figure()]))
    stated = statements(shipped_corpus())
    text = map_html(drawn, stated)
    assert map_html(drawn, stated) == text
    for tag, attributes in Page(text).tags:
        for name in ("src", "href", "action"):
            assert attributes.get(name) is None, (tag, name)
    assert "default-src 'none'" in text
    assert "this project's own" in text


@pytest.mark.parametrize("number", [0, 1])
def test_each_heat_map_draws_a_mark_for_each_cell(number: int) -> None:
    converter = pytest.importorskip("vl_convert", reason="vl-convert-python is not installed")
    works = [make_work("a"), make_work("b", evidence=Evidence.ABSTRACT)]
    figure = map_figures(coverage_map(make_corpus(works, [])))[number]
    drawn = json.dumps(converter.vegalite_to_vega({**figure.panels[0].spec, "width": 640}))
    assert '"type": "rect"' in drawn
    values = figure.panels[0].spec["data"]["values"]
    assert len(values) == (10 * 8, 2 * 8)[number]
    svg = converter.vegalite_to_svg({**figure.panels[0].spec, "width": 640})
    assert svg.count('role="graphics-symbol"') >= len(values)


@pytest.mark.parametrize("angle", [-30, -40])
def test_names_that_lean_stay_clear_of_the_cells_below_them(angle: int) -> None:
    """Half of a line of text, turned, reaches that far below the middle at which it is hung up."""
    axis = leaning_axis(angle)
    reach_px = 0.5 * CONFIG["axis"]["labelFontSize"] * math.cos(math.radians(angle))
    assert axis["labelPadding"] > reach_px
