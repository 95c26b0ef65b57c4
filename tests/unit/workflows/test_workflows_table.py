"""Tables as spreadsheets leave them: what is read, what is refused and where."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillwatt.errors import ConfigError, MissingInputError
from stillwatt.records.comparison import CardEnergy, Site
from stillwatt.units import J_PER_KWH
from stillwatt.workflows.cells import BadCellError, Numbers
from stillwatt.workflows.sites import fill_sites
from stillwatt.workflows.table import COLUMNS, Table, constant_tokens, read_table

HEADER = ",".join(COLUMNS)
SFT = "sft-1b,sft,1B,1,0.69,0.01,0,6.30,0.70,120"
KD = "kd-1b,kd,1B,1,0.70,,11.0,5.20,0.70,"

Read = Callable[..., Table]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Write lines as a table and read it."""

    def write(*lines: str, encoding: str = "utf-8", end: str = "\n") -> Table:
        path = tmp_path / "points.csv"
        path.write_bytes(end.join((*lines, "")).encode(encoding))
        return read_table(path)

    return write


def test_rows_become_observations_in_joules(read: Read) -> None:
    table = read(HEADER, SFT, KD)
    sft, kd = table.rows
    assert (sft.label, sft.method, sft.student, sft.seed, sft.place) == ("sft-1b", "sft", "1B", "1", "line 2")
    assert (sft.quality, sft.quality_se, sft.throughput) == (0.69, 0.01, 120.0)
    assert sft.teacher_j == 0.0
    assert sft.student_j == pytest.approx(6.3 * J_PER_KWH)
    assert sft.own_j == pytest.approx(7.0 * J_PER_KWH)
    assert (kd.quality_se, kd.throughput) == (None, None)
    assert (table.warnings, table.boundary) == ((), "")


def test_an_empty_cell_is_unknown_and_never_0(read: Read) -> None:
    (row,) = read(HEADER, "kd-7b,kd,,,,,,,,").rows
    assert (row.quality, row.teacher_j, row.student_j, row.own_j, row.throughput) == (None, None, None, None, None)
    said = read(HEADER, "kd-7b,kd,7B,1,,,,,,").warnings[0]
    assert said.endswith(":2: kd-7b, seed 1, has no quality; that row is in no frontier")


@pytest.mark.parametrize(
    ("lines", "encoding", "end"),
    [
        ((HEADER, SFT, KD), "utf-8-sig", "\r\n"),
        ((HEADER, SFT, KD), "utf-16", "\n"),
        (("# a remark", "", HEADER, SFT, KD, ",,,,,,,,,"), "utf-8", "\n"),
        (tuple(line.replace(",", "\t") for line in (HEADER, SFT, KD)), "utf-8", "\n"),
        (("sep=;", *(line.replace(",", ";").replace(".", ",") for line in (HEADER, SFT, KD))), "utf-8", "\r\n"),
        (tuple(line.replace(",", ";").replace(".", ",") for line in (HEADER, SFT, KD)), "utf-8", "\n"),
        ((HEADER.upper().replace("_", " "), SFT, KD), "utf-8", "\n"),
        ((f"{HEADER},", f"{SFT},", f"{KD},"), "utf-8", "\n"),
    ],
    ids=["bom and crlf", "utf-16", "remarks", "tabs", "excel", "decimal commas", "spelling", "trailing comma"],
)
def test_spreadsheets_are_read_alike(read: Read, lines: tuple[str, ...], encoding: str, end: str) -> None:
    plain = read(HEADER, SFT, KD)
    table = read(*lines, encoding=encoding, end=end)
    bare = [(r.label, r.quality, r.teacher_j, r.student_j, r.own_j, r.throughput) for r in table.rows]
    assert bare == [(r.label, r.quality, r.teacher_j, r.student_j, r.own_j, r.throughput) for r in plain.rows]


def test_cells_that_a_row_lacks_are_unknown_and_said(read: Read) -> None:
    table = read(HEADER, "kd-1b,kd,1B,1,0.7,,11,5.2")
    assert table.rows[0].student_j == pytest.approx(5.2 * J_PER_KWH)
    assert table.rows[0].own_j is None
    assert table.warnings[0].endswith(":2: 8 cells where the header has 10; the others are taken as unknown")


def test_columns_in_any_order_and_others_beside_them(read: Read) -> None:
    names = [*reversed(COLUMNS), "notes"]
    cells = dict(zip(COLUMNS, SFT.split(","), strict=True)) | {"notes": "x"}
    table = read(",".join(names), ",".join(cells[name] for name in names))
    assert table.rows[0].student_j == pytest.approx(6.3 * J_PER_KWH)
    assert table.warnings[0].endswith("columns not read: notes")


def test_optional_columns(read: Read) -> None:
    header = (
        f"{HEADER},total_kwh,teacher_tokens,serving_teacher_j_per_token,serving_student_j_per_token,"
        "teacher_kwh_half_width,student_kwh_half_width,other_kwh_half_width,teacher_gpu_kwh,student_gpu_kwh,"
        "other_gpu_kwh,boundary,pue,kgco2e_per_kwh,teacher_kgco2e_per_kwh,price_per_kwh"
    )
    table = read(header, f"{KD},16.9,3000,1.0,0.6,0.1,0.3,0.4,9,4,0.5,Node,1.2,0.1,0.4,")
    (row,) = table.rows
    assert (row.teacher_tokens, row.served_teacher_j, row.served_student_j) == (3000.0, 1.0, 0.6)
    assert row.half_widths == pytest.approx(
        {"teacher_j": 0.1 * J_PER_KWH, "student_j": 0.3 * J_PER_KWH, "own_j": 0.5 * J_PER_KWH}
    )
    kwh = float(J_PER_KWH)
    assert row.cards == CardEnergy(teacher_j=9 * kwh, student_j=4 * kwh, own_j=4.5 * kwh)
    assert row.site == Site(pue=1.2, kgco2e_per_kwh=0.1)
    assert row.teacher_site == Site(pue=1.2, kgco2e_per_kwh=0.4)
    assert table.boundary == "node"


def test_boards_of_a_part_are_unknown_for_the_whole(read: Read) -> None:
    (row,) = read(f"{HEADER},teacher_gpu_kwh", f"{KD},9").rows
    assert row.cards == CardEnergy(teacher_j=9.0 * J_PER_KWH, student_j=None, own_j=None)


def test_a_total_stands_in_for_unknown_stages(read: Read) -> None:
    header = f"{HEADER},total_kwh"
    (row,) = read(header, "sft-7b,sft,7B,,0.9,,0,,,,19.5").rows
    assert row.student_j is None
    assert row.own_j == pytest.approx(19.5 * J_PER_KWH)
    (row,) = read(header, "kd-7b,kd,7B,,0.9,,,5,,,19.5").rows
    assert row.own_j is None
    with pytest.raises(ConfigError, match=r"stages sum to 16.9 kWh and total_kwh is 20"):
        read(header, f"{SFT},7", f"{KD},20")
    with pytest.raises(ConfigError, match="total_kwh is 10, less than its stages"):
        read(header, "kd,kd,1B,,0.7,,9,5,,,10")


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("kd-1b,kd,1B,1,0.7,,-11,5.2,0.7,", "teacher_kwh is -11: less than nothing"),
        ("kd-1b,kd,1B,1,0.7,,eleven,5.2,0.7,", "teacher_kwh is 'eleven', which is no number"),
        ("kd-1b,kd,1B,1,NaN,,11,5.2,0.7,", "quality is NaN; leave the cell empty if it is unknown"),
        ("kd-1b,kd,1B,1,0.7,,1e999,5.2,0.7,", "teacher_kwh is 1e999, beyond all numbers"),
        ('kd-1b,kd,1B,1,0.7,,"11,5",5.2,0.7,', "a decimal comma or thousands?"),
        ("kd-1b,kd,1B,1,0.7,,11,5.2,0.7,,9", "11 cells where the header has 10; decimal commas need semicolons"),
        ("kd-1b,,1B,1,0.7,,11,5.2,0.7,", "no method"),
        (",kd,1B,1,0.7,,11,5.2,0.7,", "no label"),
    ],
)
def test_a_cell_that_cannot_be_meant_refuses_the_table_at_its_line(read: Read, row: str, why: str) -> None:
    with pytest.raises(ConfigError, match=r"points.csv:3: ") as refused:
        read(HEADER, SFT, row)
    assert why in str(refused.value)


def test_all_bad_lines_are_named_at_once(read: Read) -> None:
    bad = [f"kd-{i},kd,1B,1,x,,11,5.2,0.7," for i in range(9)]
    with pytest.raises(ConfigError, match=r"also bad: line 4, line 5, line 6, line 7, line 8, line 9 and 2 more"):
        read(HEADER, SFT, *bad)


def test_of_many_rows_without_a_quality_the_first_are_named(read: Read) -> None:
    warnings = read(HEADER, SFT, *(f"kd-{i},kd,1B,1,,,11,5.2,0.7," for i in range(25))).warnings
    assert len(warnings) == 21
    assert warnings[-1].endswith("5 more rows like these; that row is in no frontier")


@pytest.mark.parametrize(
    ("extra", "cell", "why"),
    [
        ("pue", "0.9", "pue is 0.9; a facility takes at least what its machines take"),
        ("teacher_pue", "0.9", "teacher_pue is 0.9"),
        ("boundary", "rack", "boundary is 'rack'; it is one of gpu, node, facility"),
    ],
)
def test_what_a_site_cannot_be(read: Read, extra: str, cell: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        read(f"{HEADER},{extra}", f"{SFT},", f"{KD},{cell}")


@pytest.mark.parametrize(
    ("lines", "place", "why"),
    [
        ((HEADER.replace("student_kwh", "studnt_kwh"), SFT), "1", "'student_kwh' (did you mean 'studnt_kwh'?); needed"),
        ((HEADER.replace(",seed", ""), "x"), "1", "no column 'seed'"),
        ((HEADER.replace(",seed", ",label"), SFT), "1", "column 'label' stands there twice"),
        ((HEADER, SFT, SFT), "3", "label 'sft-1b' with seed '1' stands here and on line 2"),
        ((HEADER, "a,sft,,,,,,,,", "a,sft,,,,,,,,"), "3", "label 'a' without a seed stands here and on line 2"),
        ((HEADER, SFT, SFT.replace(",1B,1", ",7B,2")), "3", "label 'sft-1b' is sft/7B here and sft/1B on line 2"),
        ((HEADER,), "", "there is no row below the header"),
        ((HEADER, "kd-1b,kd,1B,1,x,,11,5.2,0.7,"), "2", "quality is 'x', which is no number"),
        ((HEADER, SFT, KD.replace("0.70,,", "70,,")), "3", "look like two definitions (per cent and share?)"),
        ((f"{HEADER},boundary", f"{SFT},gpu", f"{KD},node"), "3", "boundary is 'node' here and 'gpu' on line 2"),
        (
            (f"{HEADER},quality_definition", f"{SFT},mean of 5", f"{KD},"),
            "3",
            "quality is 'not named' here and 'mean of 5' on line 2",
        ),
        (
            (HEADER.replace(",quality,", ",train_loss,"), SFT),
            "1",
            "no column 'quality', and 'train_loss': a loss that was trained on is another quantity for each objective",
        ),
        (
            (f"{HEADER},quality_definition", f"{SFT},training loss", f"{KD},training loss"),
            "2",
            "quality is 'training loss': a loss that was trained on is another quantity for each objective",
        ),
    ],
)
def test_a_table_that_would_answer_wrongly_is_refused_with_its_line(
    read: Read, lines: tuple[str, ...], place: str, why: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        read(*lines)
    assert why in str(refused.value)
    assert f"points.csv:{place}: " in str(refused.value) if place else "points.csv: " in str(refused.value)


def test_two_decimal_marks_are_refused(read: Read) -> None:
    header = HEADER.replace(",", ";")
    with pytest.raises(ConfigError, match=r"which is the decimal mark cannot be known; write all numbers alike"):
        read(header, "a;sft;1B;1;0,69;;0;6.3;0,7;", "b;kd;1B;1;0,7;;11;5,2;0,7;")
    table = read(header, "a;sft;1B;1;0,69;;0;6,3;0,7;", "b;kd;1B;1;0,7;;11;5,2;0,7;")
    assert table.warnings[0].endswith(":2: commas are decimal marks here, as in 6,3")


def test_a_definition_may_be_named_and_then_per_cent_and_shares_may_mix(read: Read) -> None:
    header = f"{HEADER},quality_definition"
    table = read(header, f"{SFT},score", f"{KD.replace('0.70,,', '70,,')},score")
    assert [row.quality for row in table.rows] == [0.69, 70.0]


def test_files_that_are_none(tmp_path: Path, read: Read) -> None:
    with pytest.raises(MissingInputError, match="table not found at"):
        read_table(tmp_path / "nothing.csv")
    with pytest.raises(ConfigError, match="the table is empty; its first line names the columns"):
        read("# only a remark")
    (tmp_path / "latin.csv").write_bytes(f"{HEADER}\nkd-é,kd,,,,,,,,\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin.csv:2: byte 0xe9 is not UTF-8; save it as 'CSV UTF-8'"):
        read_table(tmp_path / "latin.csv")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory; name a CSV file"):
        read_table(tmp_path)
    (tmp_path / "nul.csv").write_text(HEADER + "\n" + "x" * 200_000 + ",kd,,,,,,,,\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"nul.csv:2: cannot be read: field larger than field limit"):
        read_table(tmp_path / "nul.csv")


def test_a_column_that_is_the_total_again_is_found(read: Read) -> None:
    header = f"{HEADER},j_per_token"
    rows = [f"l{i},sft,1B,{i},0.7,,0,{kwh},0,,{kwh * 3.6e6 / 30e6:.6f}" for i, kwh in enumerate((7.0, 19.5, 34.6))]
    assert constant_tokens(read(header, *rows)) == pytest.approx(30e6, rel=1e-4)
    assert constant_tokens(read(header, *rows[:2])) is None
    assert constant_tokens(read(header, *rows, "x,sft,1B,,0.7,,0,9,0,,0.5")) is None


def test_what_the_source_says_of_n_star_is_kept_in_its_words(read: Read) -> None:
    assert read(f"{HEADER},published_n_star", f"{SFT},", f"{KD},5-6").published == (("kd-1b", "5-6"),)


@settings(max_examples=300)
@given(st.text(alphabet="0123456789.,eE+-naif x", max_size=8))
def test_a_cell_is_a_number_as_python_reads_it_or_none_at_all(text: str) -> None:
    try:
        value = Numbers().read(text, "x", 1)
    except BadCellError:
        return
    assert (value is None) == (text == "")
    assert value is None or value == float(text)


def test_what_was_asked_for_fills_what_no_row_says(read: Read) -> None:
    rows = read(f"{HEADER},pue", f"{SFT},1.3", f"{KD},").rows
    assert fill_sites(rows, Site()) == rows
    sft, kd = fill_sites(rows, Site(pue=1.1, price_per_kwh=0.2))
    assert (sft.site, sft.teacher_site) == (Site(pue=1.3, price_per_kwh=0.2),) * 2
    assert kd.site == Site(pue=1.1, price_per_kwh=0.2)


def test_settings_of_a_sweep_are_read_and_are_part_of_a_label(tmp_path: Path) -> None:
    header = ",".join([*COLUMNS, "alpha", "temperature", "max_new_tokens"])
    path = tmp_path / "sweep.csv"
    row = "kd-1b,kd,1B,{seed},0.7,,11,5,1,,{alpha},2,"
    path.write_text("\n".join([header, row.format(seed=1, alpha=0.5), row.format(seed=2, alpha=0.5)]), encoding="utf-8")
    read = read_table(path)
    assert read.rows[0].settings == {"alpha": 0.5, "temperature": 2.0}
    assert not [warning for warning in read.warnings if "not read" in warning]
    path.write_text("\n".join([header, row.format(seed=1, alpha=0.5), row.format(seed=2, alpha=0.9)]), encoding="utf-8")
    with pytest.raises(ConfigError, match="has another alpha here than on line 2"):
        read_table(path)
