"""Large plain tables by column instead of by cell: the same rows as `workflows.table`, or no answer at all.

Whatever is not plain (quotes, bad cells, rows that differ in length, columns of their own kind) is left to the reader
that goes cell by cell and names the place; so there is one set of errors.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stillwatt.records.comparison import Observation, Site
from stillwatt.units import J_PER_KWH

WORDS = ("label", "method", "student", "seed")
_OPTIONAL = (
    "throughput",
    "teacher_tokens",
    "serving_teacher_j_per_token",
    "serving_student_j_per_token",
    "student_seconds",
)
_NOTHING: Mapping[str, float] = {}
_LONGEST = 100_000
"""Characters in a cell, above which the other reader decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """A plain table's columns; None is an empty cell."""

    header_line: int
    words: Mapping[str, list[str]]
    numbers: Mapping[str, Sequence[float | None]]
    energies_j: Mapping[str, Sequence[float | None]]
    """`teacher_j`, `student_j`, `own_j`."""
    constants: Mapping[str, str]
    """Cells of the columns that say the same in every row."""

    def rows(self, settings: Sequence[str], sites: tuple[Site, Site]) -> Iterator[Observation]:
        """One observation a row.

        Args:
            settings: Columns that are settings of a training.
            sites: Where all students were trained, and where all teachers worked.
        """
        site, teacher_site = sites
        nothing = [None] * len(self.words["label"])
        columns = zip(
            *(self.words[name] for name in WORDS),
            self.numbers["quality"],
            self.numbers["quality_se"],
            *(self.energies_j[name] for name in ("teacher_j", "student_j", "own_j")),
            *(self.numbers.get(name, nothing) for name in _OPTIONAL),
            self._made_with([name for name in settings if name in self.numbers]),
            strict=True,
        )
        for line, cells in enumerate(columns, start=self.header_line + 1):
            yield Observation(
                label=cells[0],
                method=cells[1],
                student=cells[2],
                seed=cells[3],
                place=f"line {line}",
                quality=cells[4],
                quality_se=cells[5],
                teacher_j=cells[6],
                student_j=cells[7],
                own_j=cells[8],
                throughput=cells[9],
                teacher_tokens=cells[10],
                served_teacher_j=cells[11],
                served_student_j=cells[12],
                half_widths=_NOTHING,
                site=site,
                teacher_site=teacher_site,
                student_s=cells[13],
                settings=cells[14],
            )

    def _made_with(self, names: Sequence[str]) -> Sequence[Mapping[str, float]]:
        """The settings of each row."""
        if not names:
            return [_NOTHING] * len(self.words["label"])
        return [
            {name: value for name, value in zip(names, values, strict=True) if value is not None}
            for values in zip(*(self.numbers[name] for name in names), strict=True)
        ]


def read_columns(
    text: str, header: Sequence[str], header_line: int, number_names: Sequence[str], constant_names: Sequence[str]
) -> Columns | None:
    """The columns of a plain table.

    Args:
        text: The whole file.
        header: Names of the columns.
        header_line: The line they stand on.
        number_names: Columns of numbers that are 0 or more, where they are given; `quality` may be any number.
        constant_names: Columns that must say the same in every row, where they are given.

    Returns:
        The columns; None where the table is not plain, or holds anything that would have to be refused.
    """
    # how Windows ends a line, and the csv module too
    body = text.split("\n", header_line)[-1].replace("\r\n", "\n")
    if '"' in body or "\r" in body or "\0" in body or not body.strip():
        return None
    said = [name for name in constant_names if name in header]
    found = _parsed(body, header, number_names, (*WORDS, *said))
    if found is None or found.num_rows != body.rstrip("\n").count("\n") + 1:
        return None
    wanted = [name for name in (*number_names, "quality") if name in header]
    words = {name: _words(found, name) for name in WORDS}
    if any(column is None for column in words.values()) or not _are_sound(found, wanted):
        return None
    known = {name: column for name, column in words.items() if column is not None}
    constants = {name: _constant(found, name) for name in said}
    if not all(known["label"]) or not all(known["method"]) or None in constants.values():
        return None
    return Columns(
        header_line=header_line,
        words=known,
        numbers={name: _listed(found[name]) for name in wanted},
        energies_j=_energies(found),
        constants={name: cell for name, cell in constants.items() if cell is not None},
    )


def _parsed(body: str, header: Sequence[str], number_names: Sequence[str], words: Sequence[str]) -> Any:
    """An Arrow table; None where a cell is no number or a row has another length."""
    import pyarrow as pa
    from pyarrow import csv

    types = {name: pa.float64() for name in (*number_names, "quality")} | {name: pa.string() for name in words}
    try:
        return csv.read_csv(
            io.BytesIO(body.encode()),
            read_options=csv.ReadOptions(column_names=list(header), use_threads=False),
            parse_options=csv.ParseOptions(quote_char=False),
            convert_options=csv.ConvertOptions(
                column_types={name: kind for name, kind in types.items() if name in header},
                include_columns=[name for name in types if name in header],
                null_values=[""],
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:
        return None


def _words(found: Any, name: str) -> list[str] | None:
    """A column of words without the blanks around them; None where one is too long."""
    from pyarrow import compute

    column = compute.utf8_trim_whitespace(found[name])
    longest = compute.max(compute.utf8_length(column)).as_py()
    if longest > _LONGEST:
        return None
    if name == "label":
        words: list[str] = column.to_numpy().tolist()
        return words
    coded = column.combine_chunks().dictionary_encode()
    few = coded.dictionary.to_pylist()
    return [few[code] for code in coded.indices.to_numpy().tolist()]


def _constant(found: Any, name: str) -> str | None:
    """What all cells of a column say, without the blanks around it; None where they say several things."""
    from pyarrow import compute

    (cell, *others) = compute.unique(compute.utf8_trim_whitespace(found[name])).to_pylist()
    return None if others or len(cell) > _LONGEST else str(cell)


def _are_sound(found: Any, names: Sequence[str]) -> bool:
    """Whether all numbers are finite, and 0 or more where they must be."""
    from pyarrow import compute

    for name in names:
        column = found[name]
        ends = compute.min_max(column).as_py()
        if compute.any(compute.is_nan(column)).as_py() or float("inf") in (ends["max"], -(ends["min"] or 0.0)):
            return False
        if name != "quality" and (ends["min"] or 0.0) < 0.0:
            return False
    return True


def _listed(column: Any) -> list[float | None]:
    if not column.null_count:
        known: list[float | None] = column.to_numpy().tolist()
        return known
    if column.null_count == len(column):
        return [None] * len(column)
    return [None if value != value else value for value in column.to_numpy().tolist()]


def _energies(found: Any) -> dict[str, list[float | None]]:
    from pyarrow import compute

    own = compute.add(found["student_kwh"], found["other_kwh"])
    kwh = {"teacher_j": found["teacher_kwh"], "student_j": found["student_kwh"], "own_j": own}
    return {name: _listed(compute.multiply(column, float(J_PER_KWH))) for name, column in kwh.items()}
