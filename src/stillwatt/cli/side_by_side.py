"""Runs beside each other as lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from stillwatt.cli.screen import columns, folded
from stillwatt.records.finding import Bill
from stillwatt.report.format import (
    MISSING,
    Unit,
    count_text,
    duration_text,
    interval_text,
    pick_unit,
    times_interval_text,
)

if TYPE_CHECKING:
    from stillwatt.analysis.side_by_side import Entry, Side, SideBySide, Times


def side_lines(found: SideBySide, *, most: int) -> list[str]:
    """The answer first, then all sides as a table, then their stages where there are several, then what to beware of.

    Args:
        found: The sides.
        most: Columns of the terminal.
    """
    first, *others = found.sides
    lines = [part for side in others for line in _answers(side, first) for part in folded(line, most)]
    lines += ["", *_table(found, most)]
    names = list(dict.fromkeys(name for side in found.sides for name in side.stages))
    if len(names) > 1:
        lines += ["", *_stage_table(found, names, most)]
    notes = [f"note: {warning}" for warning in found.warnings]
    return [*lines, "", *(part for note in notes for part in folded(note, most))]


def _answers(side: Side, first: Side) -> Iterator[str]:
    times, per_token = side.work.times, side.work.times_per_token
    if times is None or times.value is None:
        yield f"{side.label} against {first.label}: not known" + (f": {times.reason}" if times else "")
        return
    yield f"{side.label} took {_times(times)} times the energy of {first.label}{_beyond(times)}"
    if per_token is not None:
        yield f"  by token: {_times(per_token)} times{_beyond(per_token)}"


def _times(times: Times) -> str:
    return MISSING if times.value is None else times_interval_text(times.value, times.low, times.high)


def _beyond(times: Times) -> str:
    """Whether the interval leaves 1 out."""
    is_less = times.high is not None and times.high < 1.0
    return "" if times.low > 1.0 or is_less else ": which of them took more cannot be told"


def _table(found: SideBySide, most: int) -> list[str]:
    unit = pick_unit(side.work.energy.value_j for side in found.sides if isinstance(side.work.energy, Bill))
    rows = [["run", "energy", "basis", "time", "mean power", "tokens", "per token"]]
    rows += [[_called(side), *_cells(side.work, unit)] for side in found.sides]
    return columns(rows, most=most)


def _called(side: Side) -> str:
    count = len(side.run_ids)
    return side.label if count == 1 else f"{side.label} (mean of {count})"


def _cells(entry: Entry, unit: Unit) -> list[str]:
    bill, tokens = entry.energy, count_text(entry.tokens)
    if not isinstance(bill, Bill):
        return [f"not known: {bill.reason}", MISSING, duration_text(entry.duration_s), MISSING, tokens, MISSING]
    text = _joules(bill, unit)
    if not bill.complete:
        text += "; incomplete"
    power = f"{bill.value_j / entry.duration_s:.3g} W" if entry.duration_s > 0.0 else MISSING
    per_token = f"{bill.value_j / entry.tokens:.3g} J" if entry.tokens else MISSING
    basis = bill.basis.value if bill.basis else MISSING
    return [text, basis, duration_text(entry.duration_s), power, tokens, per_token]


def _joules(bill: Bill, unit: Unit) -> str:
    value, low, high = (unit.of(one) for one in (bill.value_j, bill.low_j, bill.high_j))
    text = interval_text(value, low, high)
    number, _, ends = text.partition(" ")
    return f"{number} {unit.symbol} {ends}".rstrip()


def _stage_table(found: SideBySide, names: list[str], most: int) -> list[str]:
    first, *others = found.sides
    energies = [side.stages[name].energy for side in found.sides for name in side.stages]
    unit = pick_unit(one.value_j for one in energies if isinstance(one, Bill))
    rows = [["stage", first.label, *(text for side in others for text in (side.label, "times"))]]
    for name in names:
        row = [name, _stage(first.stages.get(name), unit)]
        for side in others:
            entry = side.stages.get(name)
            row += [_stage(entry, unit), _times(entry.times) if entry is not None and entry.times else MISSING]
        rows.append(row)
    return columns(rows, most=most)


def _stage(entry: Entry | None, unit: Unit) -> str:
    return _joules(entry.energy, unit) if entry is not None and isinstance(entry.energy, Bill) else MISSING
