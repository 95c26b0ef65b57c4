"""Large tables by column: the same rows, warnings and errors as cell by cell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillwatt.errors import ConfigError
from stillwatt.records.comparison import Site
from stillwatt.workflows import table as tables
from stillwatt.workflows.table import COLUMNS, Table, read_table

HEADER = ",".join(COLUMNS)
SFT = "sft-1b,sft,1B,1,0.69,0.01,0,6.30,0.70,120"
KD = "kd-1b,kd,1B,1,0.70,,11.0,5.20,0.70,"

Both = Callable[[str], Table | str]


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Both:
    """Read a text both ways; they must agree. Gives the table, or the error in words."""
    path = tmp_path / "points.csv"

    def read(text: str) -> Table | str:
        path.write_bytes(text.encode())
        answers: list[Table | str] = []
        for large in (0, 10**9):
            monkeypatch.setattr(tables, "_LARGE", large)
            try:
                answers.append(read_table(path))
            except ConfigError as err:
                answers.append(str(err))
        assert answers[0] == answers[1]
        return answers[0]

    return read


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], bool]:
    """Whether a text is read by column."""
    path = tmp_path / "plain.csv"

    def is_plain(text: str) -> bool:
        monkeypatch.setattr(tables, "_LARGE", 0)
        path.write_bytes(text.encode())
        return tables._Reading(path)._plain_rows() is not None

    return is_plain


cells = st.sampled_from(["", "0", "0.7", "1e-2", "+5.", ".5", "70", "-1", "nan", "x", "1e999", " 3 ", "1,5", '"2"'])
names = st.sampled_from(["a", "b", " c ", "", "a\u00a0b", "d" * 40])
rows = st.tuples(names, st.sampled_from(["sft", "kd", ""]), names, st.sampled_from(["", "1", "2"]), *[cells] * 7).map(
    ",".join
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(rows, max_size=6), st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans())
def test_both_ways_agree_on_any_table(both: Both, lines: list[str], end: str, is_ended: bool, has_remark: bool) -> None:
    text = end.join([*(["# a remark"] if has_remark else []), f"{HEADER},alpha", *lines])
    both(text + (end if is_ended else ""))


good = st.tuples(st.sampled_from(["sft", "kd"]), *[st.sampled_from(["", "0", "0.7", "1e-2", "+5.", " 3 "])] * 7).map(
    lambda parts: f"{parts[0]},1B,1,{','.join(parts[1:])}"
)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(good, min_size=1, max_size=6))
def test_plain_tables_are_read_by_column(both: Both, plain: Callable[[str], bool], lines: list[str]) -> None:
    text = "\n".join([f"{HEADER},alpha", *(f"l{number},{line}" for number, line in enumerate(lines))])
    assert isinstance(both(text), Table)
    assert plain(text)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("kd-1b,kd,1B,1,0.7,,-11,5.2,0.7,", ":3: teacher_kwh is -11: less than nothing"),
        ("kd-1b,kd,1B,1,0.7,,eleven,5.2,0.7,", ":3: teacher_kwh is 'eleven', which is no number"),
        ("kd-1b,kd,1B,1,NaN,,11,5.2,0.7,", ":3: quality is NaN; leave the cell empty"),
        ("kd-1b,kd,1B,1,-inf,,11,5.2,0.7,", ":3: quality is -inf; leave the cell empty"),
        ("kd-1b,kd,1B,1,0.7,,1e999,5.2,0.7,", ":3: teacher_kwh is 1e999, beyond all numbers"),
        ("kd-1b,kd,1B,1,0.7,,11,5.2,0.7,,9", ":3: 11 cells where the header has 10"),
        ("kd-1b,,1B,1,0.7,,11,5.2,0.7,", ":3: no method"),
        (",kd,1B,1,0.7,,11,5.2,0.7,", ":3: no label"),
        (SFT, ":3: label 'sft-1b' with seed '1' stands here and on line 2"),
        (SFT.replace(",1B,1", ",7B,2"), ":3: label 'sft-1b' is sft/7B here and sft/1B on line 2"),
        (KD.replace("0.70,,", "70,,"), ":3: quality 70 here and 0.69 on line 2 look like two definitions"),
        ("x" * 200_000 + KD, ":3: cannot be read: field larger than field limit"),
    ],
)
def test_bad_rows_have_one_error_with_line_and_column(both: Both, bad: str, why: str) -> None:
    found = both(f"{HEADER}\n{SFT}\n{bad}\n")
    assert isinstance(found, str)
    assert f"points.csv{why}" in found


def test_settings_are_read_either_way(both: Both) -> None:
    found = both(f"{HEADER},alpha,student_seconds,max_new_tokens\n{SFT},,10,\n{KD},0.5,,256\n")
    assert isinstance(found, Table)
    assert [dict(row.settings) for row in found.rows] == [{}, {"alpha": 0.5, "max_new_tokens": 256.0}]
    assert [row.student_s for row in found.rows] == [10.0, None]
    changed = both(f"{HEADER},alpha\n{SFT},0.1\n{SFT.replace('1B,1', '1B,2')},0.2\n")
    assert "has another alpha here than on line 2" in str(changed)


def test_what_all_rows_say_alike_is_read_by_column(both: Both, plain: Callable[[str], bool]) -> None:
    extra = "boundary,quality_definition,pue,teacher_kgco2e_per_kwh"
    text = f"{HEADER},{extra}\n{SFT},Node,mean of 5,1.2,0.3\n{KD.replace('0.70,,', '70,,')},node,mean of 5,1.2,0.3\n"
    # Node and node are one boundary to the other reader, which decides
    assert isinstance(both(text), Table)
    assert not plain(text)
    text = text.replace("Node", "node")
    found = both(text)
    assert plain(text)
    assert isinstance(found, Table)
    assert found.boundary == "node"
    assert found.rows[0].site == Site(pue=1.2)
    assert found.rows[1].teacher_site == Site(pue=1.2, kgco2e_per_kwh=0.3)


said_alike = st.tuples(
    st.sampled_from(["", "node", "gpu", " node", "x"]),
    st.sampled_from(["", "mean of 5", "train loss"]),
    st.sampled_from(["", " 1.2 ", "2", "0.5", "1,2"]),
    st.sampled_from(["", "0.1", "-1", "0.7"]),
)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(good, min_size=2, max_size=4), said_alike, st.booleans())
def test_columns_that_say_the_same_are_read_either_way(
    both: Both, lines: list[str], said: tuple[str, ...], is_same: bool
) -> None:
    more = [said if is_same or number else (*said[:3], "0.7") for number in range(len(lines))]
    rows = [f"l{n},{line},{','.join(cells)}" for n, (line, cells) in enumerate(zip(lines, more, strict=True))]
    both("\n".join([f"{HEADER},alpha,boundary,quality_definition,pue,teacher_price_per_kwh", *rows]))


@pytest.mark.parametrize(
    "text",
    [
        f"{HEADER},total_kwh\n{SFT},7\n",
        f"{HEADER.replace(',', ';')}\n{SFT.replace(',', ';')}\n",
        f"{HEADER},label\n{SFT},x\n",
        f"{HEADER.replace(',seed', '')}\n{SFT}\n",
        f'{HEADER}\n"{SFT[:6]}"{SFT[6:]}\n',
        f"{HEADER}\n",
        f"{HEADER}\n{SFT}\n\n{KD}\n",
    ],
    ids=["total", "semicolons", "twice", "missing", "quotes", "empty", "blank line"],
)
def test_what_is_not_plain_is_read_cell_by_cell(both: Both, plain: Callable[[str], bool], text: str) -> None:
    both(text)
    assert not plain(text)


def test_rows_without_a_quality_are_named_either_way(both: Both) -> None:
    found = both(f"{HEADER},notes\n{SFT},x\nkd,kd,1B,1,,,11,5,1,,y\n")
    assert isinstance(found, Table)
    assert found.warnings[0].endswith("columns not read: notes")
    assert found.warnings[1].endswith(":3: kd, seed 1, has no quality; that row is in no frontier")
