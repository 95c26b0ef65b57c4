"""Stages of a power log, from a second table beside it: name, start and end, and where known kind and tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stillwatt.importers.faults import Faults
from stillwatt.importers.intake import LogFile
from stillwatt.importers.model import ImportedStage, LeftOut
from stillwatt.importers.nesting import Span, innermost_around
from stillwatt.importers.numbers import count, is_missing, length_s, needed
from stillwatt.importers.tables import Row, header_of, moment, read_table
from stillwatt.records.window import StageKind
from stillwatt.units import nanoseconds


def is_marks(file: LogFile) -> bool:
    """Whether a file tells of stages: the columns name, start and end."""
    return {"name", "start", "end"} <= set(header_of(file))


def read_marks(file: LogFile) -> tuple[list[ImportedStage], list[LeftOut]]:
    """Stages of a second table, each in the shortest one around it."""
    table = read_table(file)
    faults = Faults(file)
    for line, what in table.misfits:
        faults.add(line, what)
    found: list[tuple[int, int, Row]] = []
    for row in table.rows:
        try:
            start_ns, end_ns = _mark_time(row.get("start")), _mark_time(row.get("end"))
            if end_ns < start_ns:
                raise ValueError("the stage ends before it starts")
            found.append((start_ns, end_ns, row))
        except ValueError as err:
            faults.add(row.line, str(err))
    found.sort(key=lambda mark: (mark[0], -mark[1], mark[2].line))
    return list(_stages(found, faults)), faults.left_out()


def _mark_time(text: str) -> int:
    """A date, an epoch time, or seconds from the file's own start where they are small."""
    try:
        return moment(text).utc_ns
    except ValueError:
        try:
            value = needed(text, "seconds")
            return nanoseconds(length_s(value, "seconds") if value else 0.0)
        except ValueError:
            raise ValueError(f"{text[:40]!r} is neither a time nor seconds from the file's start") from None


def _stages(found: Sequence[tuple[int, int, Row]], faults: Faults) -> Iterator[ImportedStage]:
    around = innermost_around([Span(start_ns, end_ns) for start_ns, end_ns, _ in found])
    for (start_ns, end_ns, row), parent in zip(found, around, strict=True):
        yield ImportedStage(
            name=row.get("name") or "stage",
            kind=_kind(row, faults),
            start_utc_ns=start_ns,
            end_utc_ns=end_ns,
            parent=parent,
            workload=_tokens(row, faults),
        )


def _kind(row: Row, faults: Faults) -> StageKind:
    text = row.get("kind")
    if text in list(StageKind):
        return StageKind(text)
    if not is_missing(text):
        known = ", ".join(kind.value for kind in StageKind)
        faults.add(row.line, f"kind {text[:40]!r} is not known ({known}); the stage is taken as other")
    return StageKind.OTHER


def _tokens(row: Row, faults: Faults) -> dict[str, float]:
    """A count of tokens where there is one; a stage is worth its energy without."""
    text = row.get("tokens")
    if is_missing(text):
        return {}
    try:
        tokens = count(needed(text, "tokens"), "tokens")
    except ValueError as err:
        faults.add(row.line, f"{err}; the stage is taken without a count")
        return {}
    if tokens == 0:
        faults.add(row.line, "tokens = 0 is no count; the stage is taken without one")
    return {"tokens": tokens} if tokens else {}
