"""Tables for papers and spreadsheets: nothing in a name becomes LaTeX, a formula or markup."""

from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from figure_studies import HOSTILE, study_data
from run_records import quickstart
from stillwatt.analysis.study import summarise
from stillwatt.report.comparison_tables import frontier_table, plus_minus_text, stages_table, unbilled_table
from stillwatt.report.data import report_dict
from stillwatt.report.figure_tornado import comparison_weighed, tornado_table, turning_factors
from stillwatt.report.table_text import FORMS, csv_text, latex_text, markdown_text, table_text
from stillwatt.report.tables import Column, Row, Table, stage_table

cells = st.text(alphabet=st.sampled_from("ab \\{}$&#%_^~<>[]\"`|*=+-@\t\r\n,;±–\u2028'"), max_size=20)


def table(*rows: tuple[str, ...], note: str = "") -> Table:
    columns = (Column(title="name"), Column(title="energy (J)", is_number=True))
    return Table(title="A title", columns=columns, rows=tuple(Row(cells=row) for row in rows), note=note)


@settings(max_examples=40)
@given(cells)
def test_latex_has_no_special_character_left_bare(text: str) -> None:
    set_as = latex_text(text)
    known = re.sub(r"\\text[a-z]+\{\}|\\[{}$&#%_]|\$(\\pm|-|\\[a-z]+)\$|\{\[\}", "", set_as)
    assert not re.search(r"[\\{}$&#%_^<>\"`\n\r\t]", known)


@settings(max_examples=40)
@given(st.lists(st.tuples(cells, cells), max_size=5), cells)
def test_a_latex_table_has_as_many_lines_and_cells_as_the_table(rows: list[tuple[str, str]], note: str) -> None:
    lines = table_text(table(*rows, note=note), "tex").split("\n")
    body = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    assert len(body) == len(rows)
    assert all(line.endswith(r"\\") and line.count(" & ") >= 1 for line in body)
    assert all(line.startswith("%") for line in lines[: lines.index(r"\begin{tabular}{lr}")])


@settings(max_examples=40)
@given(st.lists(st.tuples(cells, cells), max_size=5))
def test_a_csv_table_reads_back_and_holds_no_formula(rows: list[tuple[str, str]]) -> None:
    read = list(csv.reader(io.StringIO(table_text(table(*rows), "csv"), newline="")))
    assert len(read) == len(rows) + 1
    for cell in (cell for row in read for cell in row):
        assert not cell.startswith(("=", "@", "\t", "\r", "\n"))
        assert not cell.startswith(("+", "-")) or re.fullmatch(r"[+-]\d[\d,. ±\[\]*+-]*", cell)


@settings(max_examples=40)
@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=5))
def test_a_markdown_table_keeps_its_columns(rows: list[tuple[str, str]]) -> None:
    lines = table_text(table(*rows), "md").split("\n")
    assert len(lines) == len(rows) + 3
    assert all(len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == 3 for line in lines[:-1])


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1", "+1"),
        ("-0.3 [-0.5, 0.1]", "-0.3 [-0.5, 0.1]"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("–", ""),
        ("kd", "kd"),
    ],
)
def test_cells_of_csv(text: str, written: str) -> None:
    assert csv_text(text) == written


def test_markup_is_shown_as_it_is() -> None:
    assert markdown_text("<script>|`x`\n[a](b)") == r"&lt;script&gt;\|\`x\` \[a\](b)"


@pytest.mark.parametrize("form", FORMS)
def test_every_table_of_a_comparison_has_its_units_and_intervals(form: str) -> None:
    data = study_data(prefix=HOSTILE)
    text = table_text(frontier_table(data), form)
    assert "one-off (J)" in text
    assert ("$\\pm$" if form == "tex" else "±") in text
    assert "<img" not in text.partition(r"\begin{tabular}")[2] + (text if form == "md" else "")
    assert table_text(stages_table(data), form).count("\n") >= len(data["stages"])
    tornado = tornado_table(comparison_weighed(data), turning_factors(data))
    assert "turns at (times)" in table_text(tornado, form)


def test_a_run_s_stage_table_has_its_sum_apart() -> None:
    data = report_dict(quickstart(), summarise(quickstart(), reuse=(10,)))
    text = table_text(stage_table(data), "tex")
    assert text.count(r"\midrule") == 2
    assert "energy (kJ)" in text
    assert "**total**" in table_text(stage_table(data), "md")


def test_what_is_unknown_is_a_dash_and_in_csv_nothing() -> None:
    data = study_data()
    row = next(row for row in stages_table(data).rows if row.cells[0] == "syn-7b")
    assert row.cells[1] == "–"
    assert "syn-7b,," in table_text(stages_table(data), "csv")
    assert unbilled_table(data).rows == ()


def test_long_tables_say_how_much_is_missing() -> None:
    data = study_data()
    data["stages"] = [{**data["stages"][0], "label": str(i)} for i in range(250)]
    found = stages_table(data)
    assert len(found.rows) == 200
    assert found.note.endswith("50 more rows are in the JSON alone.")


def test_a_zero_half_width_is_said() -> None:
    assert plus_minus_text(5.0, 0.0) == "5.000 ± 0.000"
