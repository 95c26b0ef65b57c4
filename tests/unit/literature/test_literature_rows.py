"""Reading tables of the corpus: what is wrong is named by row and column, and nothing is guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from literature_corpora import make_work
from stillwatt.errors import ConfigError, MissingInputError
from stillwatt.literature.corpus import DATA, check_file, load_corpus, shipped_corpus
from stillwatt.literature.rows import read_table
from stillwatt.records.impact import LifeStage
from stillwatt.records.literature import Evidence, Method, Reach, Treatment

HEADER = "title,authors,year,source,subject,stage,metric,value,unit,per,boundary,evidence,verified"
ROW = "A study,A; B,2026,https://example.org/a,A model,training,energy,12.5,MWh,,node,full_text,yes"


def problems(text: str) -> list[str]:
    return [str(one) for one in read_table(text, "mine.csv", {}).problems]


def changed(**cells: str) -> str:
    row = dict(zip(HEADER.split(","), ROW.split(","), strict=True)) | cells
    return f"{HEADER}\n{','.join(row[name] for name in HEADER.split(','))}\n"


def test_one_row_makes_a_work_and_a_figure() -> None:
    table = read_table(f"{HEADER}\n{ROW}\n", "mine.csv", {})
    assert not table.problems
    (work,), (figure,) = table.works, table.figures
    assert (figure.value, figure.unit, figure.reach, figure.verified) == (12.5, "MWh", Reach.NODE, True)
    assert figure.method is Method.REPORTED
    assert work.treatment(LifeStage.TRAINING) is Treatment.QUANTIFIED
    assert work.treatment(LifeStage.DEPLOYMENT) is Treatment.UNKNOWN
    assert work.metrics == ((LifeStage.TRAINING, ("energy",)),)


def test_a_row_of_a_known_work_joins_it_and_keeps_the_weaker_evidence() -> None:
    known = make_work(
        "known",
        source="https://arxiv.org/abs/2605.05416v2",
        evidence=Evidence.ABSTRACT,
        metrics={LifeStage.DATA: ("water",)},
    )
    text = changed(source="http://www.arxiv.org/pdf/2605.05416v1.pdf")
    table = read_table(text, "mine.csv", {"known": known})
    assert not table.problems
    (work,) = table.works
    assert work.id == "known"
    assert work.evidence is Evidence.ABSTRACT
    assert dict(work.metrics) == {LifeStage.DATA: ("water",), LifeStage.TRAINING: ("energy",)}


def test_two_rows_of_one_new_work_are_one_work() -> None:
    second = ROW.replace("training", "deployment_inference").replace("energy", "co2e").replace("MWh", "t")
    table = read_table(f"{HEADER}\n{ROW}\n{second}\n", "mine.csv", {})
    assert not table.problems
    assert len(table.works) == 1
    assert [stage for stage, _ in table.works[0].metrics] == [LifeStage.TRAINING, LifeStage.DEPLOYMENT]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ({"source": ""}, "mine.csv:2, column source: is required"),
        ({"source": "unknown"}, "column source: is required"),
        ({"source": "https://nowhere"}, "column source: 'https://nowhere' is no address"),
        ({"source": "J 1"}, "column source: 'J 1' is too short"),
        ({"year": "26"}, "column year: '26' is no year"),
        ({"year": ""}, "column year: is required"),
        ({"boundary": ""}, "column boundary: is required; one of board, components"),
        ({"boundary": "nod"}, "column boundary: unknown 'nod'; did you mean 'node'?"),
        ({"unit": "kwh"}, "column unit: unknown 'kwh'; did you mean 'kWh'?"),
        ({"unit": "kg"}, "column unit: kg is of mass and energy of energy; write J, kJ"),
        ({"value": "1,200"}, "mine.csv:2, more cells than the header has names"),
        ({"value": "12 MWh"}, "column value: '12 MWh' is no number"),
        ({"value": "-1"}, "column value: -1 is not a finite number"),
        ({"value": "nan"}, "column value: nan is not a finite number"),
        ({"value": ""}, "column value: no value, nor low and high"),
        ({"stage": "trainin"}, "column stage: unknown 'trainin'; did you mean 'training'?"),
        ({"metric": "joules"}, "column metric: unknown 'joules'"),
        ({"evidence": ""}, "column evidence: is required"),
        ({"verified": "maybe"}, "column verified: 'maybe' is neither yes nor no"),
        ({"title": ""}, "column title: is required"),
    ],
)
def test_a_bad_cell_is_named(cells: dict[str, str], expected: str) -> None:
    found = problems(changed(**cells))
    assert found
    assert any(expected in problem for problem in found), found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{HEADER}\n", "mine.csv:1, has a header and no row"),
        ("", "no column title"),
        (f"{HEADER},colour\n{ROW},red\n", "unknown column 'colour'"),
        (f"{HEADER},unit\n{ROW},kWh\n", "column 'unit' stands there twice"),
        (HEADER.replace(",unit", "") + "\nx\n", "no column unit"),
        (f'{HEADER}\n"A study', "cannot be read as CSV"),
        (f"{HEADER}\n{ROW},more\n", "more cells than the header has names"),
    ],
)
def test_a_bad_file_is_named(text: str, expected: str) -> None:
    assert any(expected in problem for problem in problems(text)), problems(text)


@pytest.mark.parametrize(
    "text",
    [
        f"{HEADER}\r{ROW}\r",
        f"{HEADER}\r\n{ROW}\r\n",
        f"\ufeff{HEADER}\n{ROW}\n",
        f"{HEADER.replace(',', ' , ')}\n{ROW}\n",
        f" {HEADER.replace(',per,', ',per ,')} \n{ROW}\n",
    ],
    ids=["CR alone", "CR LF", "byte order mark", "blanks in the header", "blanks about it"],
)
def test_however_a_table_is_saved_it_says_the_same(text: str) -> None:
    table, wanted = read_table(text, "mine.csv", {}), read_table(f"{HEADER}\n{ROW}\n", "mine.csv", {})
    assert not table.problems
    assert (table.works, table.figures) == (wanted.works, wanted.figures)


@pytest.mark.parametrize(
    "titles",
    [
        [f"The energy of language models in production, part {part}" for part in ("one", "two")],
        ["大模型推理能耗", "训练碳足迹"],
    ],
    ids=["the first 40 characters are the same", "no letter of a to z"],
)
def test_two_new_works_are_two_works(titles: list[str]) -> None:
    rows = [ROW.replace("A study", f'"{title}"').replace("org/a", f"org/{n}") for n, title in enumerate(titles)]
    table = read_table("\n".join([HEADER, *rows, ""]), "mine.csv", {})
    assert not table.problems
    assert [work.title for work in table.works] == titles
    assert len({work.id for work in table.works}) == 2
    assert [figure.work for figure in table.figures] == [work.id for work in table.works]
    assert len({figure.id for figure in table.figures}) == 2


def test_a_figure_per_nothing_at_all_and_a_value_out_of_its_range_are_named() -> None:
    assert any("column per: '0 requests' is per nothing at all" in one for one in problems(changed(per="0 requests")))
    found = problems(f"{HEADER},low,high\n{ROW},13,14\n")
    assert any("column value: 12.5 lies outside low and high" in one for one in found)


def test_a_range_the_wrong_way_round_and_counts_that_do_not_belong() -> None:
    header = f"{HEADER},low,high,counts"
    found = problems(f"{header}\n{ROW.replace('12.5', '')},9,3,location\n")
    assert any("column low: 9 lies above high 3" in one for one in found)
    assert any("column counts: unknown 'location'; known: nothing for energy" in one for one in found)


def test_every_problem_is_found_in_one_go(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(changed(source="", year="x", unit="?"), encoding="utf-8")
    assert len(check_file(path).problems) == 3
    with pytest.raises(ConfigError, match=r"mine\.csv:2: column source: .*; 2 more, `stillwatt literature check"):
        load_corpus([path])


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError):
        load_corpus([tmp_path / "none.csv"])
    path = tmp_path / "bytes.csv"
    path.write_bytes(b"title,\xff\n")
    assert "not UTF-8" in str(check_file(path).problems[0])
    with pytest.raises(ConfigError, match="cannot be read"):
        check_file(tmp_path)


def test_works_are_checked_as_well(tmp_path: Path) -> None:
    text = (DATA / "works.csv").read_text(encoding="utf-8")
    header, first, *_ = text.splitlines()
    twice = tmp_path / "works.csv"
    twice.write_text(f"{header}\n{first}\n{first}\n", encoding="utf-8")
    assert [one.message for one in check_file(twice).problems] == ["'strubell2019' stands there twice"]
    wrong = first.replace("experimentation:accelerator_hours", "data:hours", 1)
    twice.write_text(f"{header}\n{wrong}\n", encoding="utf-8")
    messages = " ".join(one.message for one in check_file(twice).problems)
    assert "unknown 'hours'" in messages
    assert "a stage is quantified where it has a metric" in messages
    twice.write_text(f"{header}\n{first.replace('training:', 'trainig:', 1)}\n", encoding="utf-8")
    assert any("did you mean 'training'" in one.message for one in check_file(twice).problems)


def test_figures_need_a_known_work_and_one_id_each(tmp_path: Path) -> None:
    text = (DATA / "figures.csv").read_text(encoding="utf-8")
    header, first, *_ = text.splitlines()
    path = tmp_path / "figures.csv"
    path.write_text(f"{header}\n{first}\n{first.replace(',strubell2019,', ',strubell2018,')}\n", encoding="utf-8")
    messages = [str(one) for one in check_file(path).problems]
    assert any("column work: unknown 'strubell2018'; did you mean 'strubell2019'?" in one for one in messages)
    assert any("'strubell2019-tbig' stands there twice" in one for one in messages)


def test_what_is_shipped_is_sound_and_can_be_added_to(tmp_path: Path) -> None:
    for name in ("works.csv", "figures.csv"):
        assert not check_file(DATA / name).problems
    shipped = shipped_corpus()
    assert all(figure.work in shipped.index for figure in shipped.figures)
    path = tmp_path / "mine.csv"
    path.write_text(f"{HEADER}\n{ROW}\n", encoding="utf-8")
    corpus = load_corpus([path])
    assert len(corpus.works) == len(shipped.works) + 1
    assert len(corpus.figures) == len(shipped.figures) + 1
    assert corpus.content_hash != shipped.content_hash
