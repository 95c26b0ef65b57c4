"""Zeus's CSV: one row a measurement window at its end, joules by GPU; windows may nest and overlap.

Windows inside others become stages inside stages. A window that overlaps another only in part keeps its figure as a
result, and no energy: the joules of the overlap are in both, and counting both would count them twice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stillwatt.importers import bounds
from stillwatt.importers.intake import LogFile
from stillwatt.importers.model import Found, ImportedRun, ImportedSession, ImportedStage, LeftOut, Statement
from stillwatt.importers.nesting import Span, crossing, innermost_around
from stillwatt.importers.numbers import length_s, needed, number
from stillwatt.importers.tables import Row, header_of, moment, read_table
from stillwatt.records.channel import Basis, Boundary
from stillwatt.records.window import StageKind
from stillwatt.units import nanoseconds

FORM = "zeus"
_COLUMNS = ("start_time", "window_name", "elapsed_time")
_GPU = re.compile(r"gpu(\d+)_energy")
_MAX_W = 20_000.0
"""No single accelerator draws as much."""


@dataclass(frozen=True, slots=True)
class _Window:
    line: int
    name: str
    start_ns: int
    end_ns: int
    energies_j: dict[str, float | None]


def recognises(file: LogFile) -> bool:
    """Whether a file begins as Zeus's monitor begins its log."""
    return header_of(file)[:3] == _COLUMNS


def read(files: Sequence[LogFile]) -> Found:
    """One run a file.

    Raises:
        ConfigError: a file is no table.
    """
    runs, left_out = [], []
    for file in files:
        run, faults = _read_file(file)
        left_out += faults
        if run is not None:
            runs.append(run)
    return Found(runs=tuple(runs), left_out=tuple(left_out))


def _read_file(file: LogFile) -> tuple[ImportedRun | None, list[LeftOut]]:
    table = read_table(file)
    left_out = [LeftOut(name=file.name, line=line, reason=what) for line, what in table.misfits]
    windows = []
    for row in table.rows:
        try:
            windows.append(_parse(row))
        except ValueError as err:
            left_out.append(LeftOut(name=file.name, line=row.line, reason=str(err)))
    if not windows:
        none = LeftOut(name=file.name, reason="no window in it: Zeus writes a row when a window ends")
        return None, left_out or [none]
    stages, warnings = _stages(windows)
    run = ImportedRun(
        form=FORM,
        tool="Zeus",
        tool_version="",
        identity=file.source.sha256,
        name=file.path.stem,
        host="",
        sessions=(ImportedSession(stages=tuple(stages)),),
        sources=(file.source,),
        warnings=(
            "Zeus's file names neither its version, nor the cards, nor whether they have an energy counter",
            "Zeus's file holds GPUs only; CPU and DRAM were not written",
            *warnings,
        ),
    )
    return run, left_out


def _parse(row: Row) -> _Window:
    elapsed_s = length_s(needed(row.get("elapsed_time"), "elapsed_time"), "elapsed_time")
    start_ns = moment(row.get("start_time")).utc_ns
    energies: dict[str, float | None] = {}
    for column, cell in row.cells.items():
        if match := _GPU.fullmatch(column):
            value_j = number(cell)
            if value_j is not None and value_j > _MAX_W * elapsed_s:
                raise ValueError(f"{column} = {value_j:g} J in {elapsed_s:g} s is more than a card can draw")
            energies[f"gpu{match.group(1)}"] = value_j
    return _Window(row.line, row.get("window_name"), start_ns, start_ns + nanoseconds(elapsed_s), energies)


def _stages(windows: Sequence[_Window]) -> tuple[list[ImportedStage], list[str]]:
    """Windows as stages, outer ones first, each in the shortest one around it."""
    ordered = sorted(windows, key=lambda w: (w.start_ns, -w.end_ns, w.line))
    spans = [Span(window.start_ns, window.end_ns) for window in ordered]
    crosses = crossing(spans)
    stages: list[ImportedStage] = []
    warnings = []
    for place, (window, parent) in enumerate(zip(ordered, innermost_around(spans), strict=True)):
        stage = _stage(window, parent)
        if place in crosses:
            reason = (
                f"the window overlaps {ordered[crosses[place]].name!r} in part; the joules of the overlap are in both"
            )
            stage = replace(stage, stated=tuple(replace(line, value_j=None, reason=reason) for line in stage.stated))
            warnings.append(f"stage {window.name!r}: {reason}, so its own figure is a result and not booked")
        warnings += [
            f"{line.part} in stage {window.name!r}: {line.reason}"
            for line in stage.stated
            if line.value_j is None and place not in crosses
        ]
        stages.append(stage)
    return stages, warnings


def _stage(window: _Window, parent: int | None) -> ImportedStage:
    length_s = (window.end_ns - window.start_ns) / nanoseconds(1.0)
    return ImportedStage(
        name=window.name or "window",
        kind=StageKind.OTHER,
        start_utc_ns=window.start_ns,
        end_utc_ns=window.end_ns,
        parent=parent,
        results={f"zeus_{part}_energy_j": value for part, value in window.energies_j.items() if value is not None},
        stated=tuple(_statement(part, value, length_s) for part, value in window.energies_j.items()),
    )


def _statement(part: str, value_j: float | None, length_s: float) -> Statement:
    reason = ""
    if value_j is None:
        reason = "Zeus wrote no number"
    elif value_j < 0:
        reason = f"Zeus wrote {value_j:g} J: the counter was reset inside the window, and what it drew is not known"
    elif value_j == 0:
        reason = "Zeus wrote 0 J: the window was shorter than a step of the counter, or nothing was sampled"
    usable_j = None if reason else value_j
    return Statement(
        part=part,
        device="",
        boundary=Boundary.BOARD,
        value_j=usable_j,
        low_rel=bounds.ZEUS.low_rel,
        high_rel=bounds.ZEUS.high_rel,
        random_j=0.0 if usable_j is None else bounds.edge_j(usable_j, length_s),
        basis=Basis.MEASURED,
        driver="zeus",
        source=f"Zeus: {bounds.ZEUS.why}",
        reason=reason,
    )
