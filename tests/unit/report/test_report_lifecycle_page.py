"""A life-cycle report's page and Markdown: every cell with its status, no total without its coverage, no absent 0."""

from __future__ import annotations

import base64
import copy
import gzip
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from export_reports import rich
from html_page import Page
from lifecycle_pages import HOSTILE, Blocks, bare, hostile, reports, uncounted
from stillwatt.config.lifecycle_schema import schema_faults
from stillwatt.errors import ReportError
from stillwatt.records.impact import Impact, LifeStage
from stillwatt.report.data import report_json
from stillwatt.report.figure_lifecycle import lifecycle_figures
from stillwatt.report.lifecycle_impact import both_gwps_table, impact_scale, matrix_of, totals_table, units_table
from stillwatt.report.lifecycle_page import lifecycle_html, lifecycle_markdown, told_of
from stillwatt.report.lifecycle_reasons import plain_words
from stillwatt.report.lifecycle_text import lifecycle_text
from stillwatt.report.lifecycle_whole import NO_CELL, whole_report
from stillwatt.report.lifecycle_words import STATUS_TITLES, VALUED, amount_text, impact_title, number_text, scale_for
from stillwatt.report.table_text import markdown_text

REPORTS = reports()
_CELLS = len(LifeStage) * len(Impact)
_STATUSES = tuple(STATUS_TITLES)


@pytest.fixture(scope="module", params=REPORTS)
def pages(request: pytest.FixtureRequest) -> tuple[dict[str, Any], str, str]:
    data = REPORTS[request.param]
    return data, lifecycle_html(data), lifecycle_markdown(data)


def at(data: dict[str, Any], stage: str, impact: str) -> dict[str, Any]:
    found: dict[str, Any] = next(c for c in data["cells"] if (c["stage"], c["impact"]) == (stage, impact))
    return found


def check_square(text: str, cell: dict[str, Any]) -> None:
    """A cell's words hold its status, a number where it has a value, and none where it has not."""
    assert STATUS_TITLES[cell["status"]] in text
    assert bool(re.search(r"\d", text)) == (cell["value"] is not None and cell["status"] in VALUED)
    if cell.get("incomplete"):
        assert "incomplete" in text


def test_each_cell_stands_in_the_page_with_its_status(pages: tuple[dict[str, Any], str, str]) -> None:
    data, page, markdown = pages
    squares = Blocks(page).cells
    assert len(squares) == _CELLS == len(data["cells"])
    lines = {line.split(" | ")[0]: line.split(" | ") for line in markdown.split("### Impacts by stage")[1].splitlines()}
    for cell in data["cells"]:
        check_square(squares[f"{cell['stage']}/{cell['impact']}"], cell)
        scale = scale_for([c["value"] for c in (*data["cells"], *data["totals"]) if c["impact"] == cell["impact"]],
                          cell["unit"])  # fmt: skip
        row = lines["| " + markdown_text(f"{impact_title(cell['impact'])} ({scale.symbol})")]
        check_square(row[1 + [stage.value for stage in LifeStage].index(cell["stage"])], cell)


_VALUE = st.floats(0.0, 1e300) | st.sampled_from([0.0, 1e-12, 3.8e-5, 1.0])


_CHANGE = st.tuples(
    st.integers(0, _CELLS - 1),
    st.sampled_from(_STATUSES),
    st.tuples(_VALUE, _VALUE, _VALUE).map(sorted),
    st.booleans(),
    st.booleans(),
)


@settings(max_examples=15, deadline=None)
@given(st.lists(_CHANGE, max_size=8))
@example([(_CELLS - 1, "not_applicable", [0.0, 0.0, 0.0], False, False)])  # a total is left, of no cell
def test_any_cell_has_its_status_and_what_is_not_counted_never_a_number(changes: list[Any]) -> None:
    data = rich()
    for index, status, ends, is_whole, keeps_value in changes:
        low, value, high = ends if status in VALUED or keeps_value else (None, None, None)
        data["cells"][index].update(status=status, value=value, low=low, high=high, reason="for a reason")
        data["cells"][index]["incomplete"] = [] if is_whole else ["a part"]
    matrix = matrix_of(whole_report(data))
    squares = [square for line in matrix.lines for square in line.squares]
    assert len(squares) == _CELLS
    for square in squares:
        check_square(square.text, at(data, square.stage, square.impact))
    for figure in lifecycle_figures(whole_report(data)):
        for value in (value for panel in figure.panels for value in panel.spec["data"]["values"]):
            if "status" in value and value["status"] not in VALUED:
                assert "value" not in value
                assert not re.search(r"\d", value.get("words", "") + value.get("text", ""))


def test_what_is_not_counted_is_no_0_though_a_report_says_so() -> None:
    data = rich()
    cell = at(data, "training", "gwp_market")
    cell.update(status="not_counted", value=0.0, low=0.0, high=0.0, reason="nobody looked")
    page = Blocks(lifecycle_html(data))
    assert page.cells["training/gwp_market"].split() == ["not", "counted"]
    assert any("breaks" in line and "stillwatt validate" in line for line in page.lines)
    assert any("null, never 0" in line for line in page.lines)
    row = next(row for row in both_gwps_table(whole_report(data)).rows if row.cells[0] == "training")
    assert row.cells[3:] == ("", "not counted")


def test_a_zero_that_was_counted_is_one() -> None:
    data = rich()
    at(data, "training", "gwp_market").update(status="factor", value=0.0, low=0.0, high=0.0)
    assert Blocks(lifecycle_html(data)).cells["training/gwp_market"].split()[0] == "0"


def distinct() -> dict[str, Any]:
    """Totals and coverages that nothing else in the report is like."""
    data = rich()
    for number, total in enumerate(data["totals"]):
        if total["value"] is not None:
            total.update(value=7.0 + number / 50.0, low=6.99 + number / 50.0, high=7.02 + number / 50.0)
        total["coverage"] = 0.61 + number / 100.0
    return data


def test_no_total_stands_anywhere_without_its_coverage() -> None:
    data = distinct()
    said = whole_report(data)
    lines = {"html": Blocks(lifecycle_html(data)).lines, "markdown": lifecycle_markdown(data).splitlines()}
    for total in data["totals"]:
        covers = f"{total['coverage']:.0%}".replace("%", " %")
        words = amount_text(total, total["unit"], impact_scale(said, total["impact"])).split(" [")[0]
        for form, told in lines.items():
            plain = [line.replace("\u00a0", " ").replace("\\", "") for line in told]
            if total["value"] is not None:
                of_it = [line for line in plain if re.search(rf"(?<![\d.]){re.escape(words)}", line)]
                assert of_it
                assert all(covers in line for line in of_it), (form, total["impact"], of_it)
            assert any(covers in line and impact_title(total["impact"]) in line for line in plain), total["impact"]
    for line in matrix_of(said).lines:
        assert (
            line.coverage == f"{100 * next(t['coverage'] for t in data['totals'] if t['impact'] == line.impact):.0f} %"
        )
    assert totals_table(said).columns[3].title == "coverage"
    per_unit = units_table(said)
    assert per_unit is not None
    assert per_unit.columns[1].title == "coverage"


def test_the_same_report_gives_the_same_bytes(pages: tuple[dict[str, Any], str, str]) -> None:
    data, page, markdown = pages
    saved = json.loads(report_json(data))
    assert lifecycle_html(saved) == page
    assert lifecycle_markdown(saved) == markdown
    scripts = {attributes.get("id"): text for attributes, text in Page(page).scripts}
    assert lifecycle_html(json.loads(scripts["report-data"])) == page


def test_the_phases_stand_in_the_order_of_iso_14044_in_both(pages: tuple[dict[str, Any], str, str]) -> None:
    _, page, markdown = pages
    titles = re.findall(r"^## (.*)$", markdown, re.MULTILINE)
    assert titles == [
        "1. Goal and scope",
        "2. Inventory",
        "3. Impact",
        "4. Interpretation",
        "5. Functional units",
        "6. Factors",
        "7. The protocol",
    ]
    assert [line for line in Blocks(page).lines if re.match(r"\d\. ", line)] == titles


def test_every_factor_is_in_both_with_all_that_makes_it_one() -> None:
    data = rich()
    lines = Blocks(lifecycle_html(data)).lines
    markdown = lifecycle_markdown(data).splitlines()
    for factor in data["factors"]:
        wanted = [factor["id"], *(number_text(factor[key]) for key in ("value", "low", "high"))]
        wanted += [str(factor["year"]), factor["source"], factor["licence"]]
        assert any(all(words in line for words in wanted) for line in lines), factor["id"]
        assert any(all(markdown_text(words) in line for words in wanted) for line in markdown), factor["id"]
        assert any(factor["hash"] in line for line in lines)


def _pieces(reason: str) -> Iterator[str]:
    """What of a reason must stand on the page: its words as people read them, and what there is to type."""
    for part in reason.split("; "):
        if part.startswith("give one with --factor"):
            name, where = re.split("[ ']", part.partition("@")[0])[-1], part.partition("@")[2].partition("=")[0]
            yield from (name, f"@{where}=VALUE")
            continue
        names = [word for word in re.findall(r"\w+", part) if plain_words(word) != word]
        yield from (plain_words(name) for name in names)
        for piece in re.split("|".join(names) or "$", part):
            yield " ".join(piece.split())


def test_what_is_not_counted_is_listed_with_its_reason(pages: tuple[dict[str, Any], str, str]) -> None:
    data, page, _ = pages
    lines = Blocks(page).lines
    for cell in data["cells"]:
        said = [cell["reason"]] if cell["status"] == "not_counted" else []
        for what in [*said, *cell.get("incomplete", [])]:
            for words in _pieces(what):
                assert any(words in line and impact_title(cell["impact"]) in line for line in lines), what
    for limit in data["interpretation"]["limits"]:
        assert limit in lines


def test_the_level_of_the_protocol_is_as_validate_says_it(pages: tuple[dict[str, Any], str, str]) -> None:
    from stillwatt.report.conformance import conformance, conformance_lines
    from stillwatt.report.lifecycle_rules import rule_faults

    data, page, _ = pages
    level = conformance(data, rule_faults(data))
    lines = Blocks(page).lines
    assert any(next(conformance_lines(level)) in line for line in lines)
    for gap in level.before_next:
        assert any(line.startswith(gap.requirement.id) and gap.rule in line for line in lines)


def test_the_headline_is_hedged_where_the_data_are() -> None:
    whole = rich()
    for total in whole["totals"]:
        total.update(complete=True, lacking=[])
    assert "is not known" not in told_of(whole).title
    assert "coverage" in told_of(whole).title
    assert told_of(rich()).title.endswith("how much it was in all is not known")
    assert told_of(uncounted()).title == "What r1 did to the climate is not known (coverage 0 %)"
    nothing = uncounted()
    nothing["totals"] = []
    assert told_of(nothing).title == "What r1 did to the climate is not known"
    narrow = rich()
    next(t for t in narrow["totals"] if t["impact"] == "gwp_location").update(value=5.0, low=4.9, high=5.1)
    assert told_of(narrow).title.startswith("About 5 kg CO2e could be counted for r1")


def test_runs_are_named_and_many_are_counted() -> None:
    data = rich()
    data["goal_and_scope"]["about"]["runs"] = [{"run_id": f"run-{number}"} for number in range(5)]
    assert told_of(data).eyebrow[0] == "run-0, run-1, run-2 and 2 more"
    data["goal_and_scope"]["about"]["runs"] = "the lot of last year"
    told = told_of(data)
    assert told.eyebrow[0] == "this work"
    assert "the lot of last year" in lifecycle_markdown(data)


def test_hostile_names_are_text_in_the_page() -> None:
    clean, dirty = Page(lifecycle_html(rich())), Page(lifecycle_html(hostile()))
    assert not [tag for tag, _ in dirty.elements if tag in ("img", "iframe", "object", "form")]
    assert len(dirty.scripts) == len(clean.scripts)
    for tag, attributes in dirty.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "action", "data", "srcset"):
            assert attributes.get(name) is None, (tag, name)
        address = attributes.get("href")
        assert address is None or address.startswith(("data:", "https://example.org/")), address
    links = [attributes["href"] for tag, attributes in dirty.elements if tag == "a"]
    assert links == ["https://example.org/a_b?c=d&e"]
    words = " ".join(dirty.words)
    assert "javascript:alert(3)" in words
    assert "<img src=x onerror=alert(1)>" in words
    assert schema_faults(report_json(hostile())) == ()


def test_hostile_names_are_text_in_the_markdown() -> None:
    text = lifecycle_markdown(hostile())
    lines = text.splitlines()
    assert "<img" not in text
    assert "</script" not in text
    assert re.search(r"(?<!\\)\]\(javascript", text) is None
    titles = [line for line in lines if line.startswith("#")]
    assert [line for line in titles if line.startswith("# ")] == titles[:1]
    assert all(re.fullmatch(r"##+ [\w ,.×()]+", line) for line in titles[1:]), titles
    assert "[" + markdown_text(HOSTILE) + "](<https://example.org/a_b?c=d&e>)" in text


@pytest.mark.parametrize("data", [rich(), hostile(), bare()], ids=["rich", "hostile", "bare"])
def test_every_row_of_a_table_has_as_many_cells_as_its_head(data: dict[str, Any]) -> None:
    head = 0
    for line in lifecycle_markdown(data).split("\n"):
        bars = len(re.findall(r"(?<!\\)(?:\\\\)*\|", line))
        if not line.startswith("|"):
            assert not bars, line
            head = 0
            continue
        head = head or bars
        assert bars == head, line


def test_a_report_written_by_hand_with_the_least_is_told_too() -> None:
    data = bare()
    assert schema_faults(report_json(data)) == ()
    text = lifecycle_markdown(data)
    assert "The report divides its impacts by nothing." in text
    assert "| goal | not stated |" in text
    assert "this work" in lifecycle_html(data)
    assert "Life cycle of no run at France" in lifecycle_text(data)


def test_cells_and_totals_that_are_not_there_are_not_counted() -> None:
    data = bare()
    data["cells"] = [cell for cell in data["cells"] if cell["stage"] != "training"]
    data["totals"] = data["totals"][:3]
    squares = Blocks(lifecycle_html(data))
    assert squares.cells["training/gwp_location"].strip() == "not counted"
    assert squares.totals["gwp_location"].strip() == "no total"
    assert any(NO_CELL in line for line in squares.lines)
    assert "?" in lifecycle_text(data)


def test_a_status_without_its_value_says_so() -> None:
    data = rich()
    at(data, "training", "adpe").update(value=None, low=None, high=None)
    page = Blocks(lifecycle_html(data))
    assert page.cells["training/adpe"].split() == ["no", "value", "factor"]
    assert any("promises a value" in line for line in page.lines)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda data: data.update(schema="stillwatt.report/1"), "it is 'stillwatt.report/1', and a page is made of"),
        (lambda data: data.pop("schema"), "it is None"),
        (lambda data: data.pop("coverage"), "coverage is missing"),
        (lambda data: data["goal_and_scope"].pop("place"), "it is no whole life-cycle report"),
        (lambda data: data.update(cells=["?"]), "it is no whole life-cycle report"),
        (lambda data: data["totals"][0].pop("unit"), "KeyError('unit')"),
    ],
)
def test_what_is_no_such_report_is_refused_with_its_place(spoil: Any, said: str) -> None:
    data = copy.deepcopy(rich())
    spoil(data)
    for make in (lifecycle_html, lifecycle_markdown):
        with pytest.raises(ReportError, match=re.escape(said)):
            make(data)


def test_numbers_that_json_has_no_word_for_are_text() -> None:
    data = rich()
    data["goal_and_scope"]["about"]["loss"] = float("nan")
    assert "| loss | nan |" in lifecycle_markdown(data)
    assert "NaN" not in Page(lifecycle_html(data)).scripts[0][1]


def test_every_drawing_has_a_name_and_a_spec(pages: tuple[dict[str, Any], str, str]) -> None:
    _, text, _ = pages
    page = Page(text)
    places = [a for tag, a in page.elements if tag == "div" and "data-figure" in a]
    assert places
    specs = json.loads(next(script for a, script in page.scripts if a.get("id") == "figure-specs"))
    assert {a["data-figure"] for a in places} == set(specs)
    assert all(len(a["aria-label"] or "") > 30 and a["role"] == "img" for a in places)


def test_both_gwps_are_drawn_on_one_scale() -> None:
    stages = next(figure for figure in lifecycle_figures(whole_report(rich())) if figure.name == "stages")
    of_gwp = [panel.spec for panel in stages.panels if panel.title.startswith("GWP")]
    domains = [spec["layer"][0]["encoding"]["x"]["scale"]["domain"] for spec in of_gwp]
    assert len(domains) == 2
    assert domains[0] == domains[1]
    assert all("coverage" in panel.title for panel in stages.panels)


def test_what_was_fetched_where_attempts_were_looked_for_and_what_making_covers_stand_in_both() -> None:
    data = rich()
    data["inventory"]["moved"] = [
        {"run": "r1", "what": "org/teacher", "size_bytes": 14.5e9, "told_by": "user",
         "found": {"factor": None, "reason": "no network is known"}}
    ]  # fmt: skip
    data["inventory"]["tried"] = {"runs_looked_at": 17, "attempts": 23, "means": "all of this ledger"}
    at(data, "hardware_manufacturing", "gwp_location").update(boundary="equipment", covers=["host", "storage"])
    for lines in (Blocks(lifecycle_html(data)).lines, lifecycle_markdown(data).splitlines()):
        plain = [line.replace("\u00a0", " ").replace(" | ", " ") for line in lines]
        assert any("org/teacher" in line and "14.5 GB" in line and "no network is known" in line for line in plain)
        assert any("17 23 all of this ledger" in line for line in plain)
        assert any("equipment (host and storage)" in line for line in plain)


def test_whom_a_scenario_serves_is_said_in_words() -> None:
    data = rich()
    data["goal_and_scope"]["about"]["served"] = {
        "student": "pruned", "why": "the ledger's one student is served",
        "stages": [{"run": "r1", "stage": "serve.student"}], "not_served": [],
    }  # fmt: skip
    said = [line for line in lifecycle_markdown(data).splitlines() if "that is served" in line]
    assert len(said) == 1
    assert "pruned, by serve.student of r1: the ledger's one student is served" in said[0].replace("\\", "")
    assert "not\\_served" not in said[0]


def test_a_very_long_report_is_packed_in_its_page_and_the_kind_of_text_says_so() -> None:
    data = rich()
    data["goal_and_scope"]["about"]["assumptions"] = [f"assumption {number}: {'x' * 100}" for number in range(10_000)]
    held = next(
        text for attributes, text in Page(lifecycle_html(data)).scripts if attributes.get("id") == "report-data"
    )
    kinds = [a.get("type") for a, _ in Page(lifecycle_html(data)).scripts if a.get("id") == "report-data"]
    assert kinds == ["application/gzip;base64"]
    assert json.loads(gzip.decompress(base64.b64decode(held))) == json.loads(report_json(data))
