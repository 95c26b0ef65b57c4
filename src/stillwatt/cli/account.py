"""Runs, stages and checks as lines of text: energies with their interval and basis, and what is not known."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from stillwatt.cli.screen import columns, folded
from stillwatt.metering.totals import sum_stages
from stillwatt.records.energy import Absent, Energy, NoTotal, Total
from stillwatt.records.repeats import repeats
from stillwatt.records.run import total_dict
from stillwatt.report.format import (
    Unit,
    count_text,
    duration_text,
    energy_text,
    percent_text,
    pick_unit,
)
from stillwatt.units import J_PER_UNIT

if TYPE_CHECKING:
    from stillwatt.ledger.finding import Finding
    from stillwatt.records.finding import Study
    from stillwatt.records.repeats import Repeats
    from stillwatt.records.run import RunRecord
    from stillwatt.records.window import StageStatus

_INDENT = "  "
"""Before a stage, for each that it lies in: its energy is part of theirs."""
_LEAST_WH = 0.01
"""Below it the joules say more than their second name."""


class _ListedRun(Protocol):
    """A run as the list of runs gives it; the store itself is not this room's to know."""

    @property
    def run_id(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def status(self) -> StageStatus: ...

    @property
    def start_utc(self) -> str: ...

    @property
    def duration_s(self) -> float: ...

    @property
    def complete(self) -> bool: ...

    @property
    def stages(self) -> int: ...

    @property
    def warnings(self) -> int: ...

    @property
    def total(self) -> Total | NoTotal: ...


def total_text(total: Total | NoTotal, unit: Unit | None = None) -> str:
    """A total with interval, basis and what is missing; or why there is none.

    >>> total_text(NoTotal(reason="no idle baseline"))
    'not known: no idle baseline'
    """
    if isinstance(total, NoTotal):
        return f"not known: {total.reason}"
    text = f"{energy_text(total_dict(total), unit)} {_bases(total)}"
    if total.complete:
        return text
    return f"{text}; incomplete" + (f", without {', '.join(total.absent)}" if total.absent else "")


def record_lines(record: RunRecord, *, most: int | None = None) -> list[str]:
    """A run: its stages with their energies, its total, and what the reader should know.

    Stages stand below the one they lie in, and those that repeat there in one line.

    Args:
        record: The run.
        most: Columns at which what is no table is folded; None: nowhere.
    """
    lines = [f"run {record.run_id}  {record.name}: {record.status.value}, {duration_text(record.duration_s)}"]
    rows = [["stage", "kind", "status", "time", "tokens", "energy"]]
    unit = pick_unit(stage.gross.value_j for stage in record.stages if isinstance(stage.gross, Total))
    rows += [_stage_row(found, unit) for found in repeats(record.stages)]
    lines += columns(rows) if record.stages else ["no stages"]
    prose = [f"outside any stage  {total_text(record.unallocated)}"]
    prose += [f"total  {total_text(record.total)}{_in_wh(record.total)}", *_parts(record)]
    warnings = [f"note: {warning}" for warning in record.warnings]
    if most is not None:
        prose, warnings = ([part for line in some for part in folded(line, most)] for some in (prose, warnings))
    return [*lines, *prose, *_small_tables(record), *warnings]


def _small_tables(record: RunRecord) -> list[str]:
    """Logit caches, the teacher's text, passes, waits for data, a judge's scores, budgets; each where there is any."""
    from stillwatt.report.budget_table import budgets_table
    from stillwatt.report.cache_table import caches_table
    from stillwatt.report.data_tables import texts_table, waits_table
    from stillwatt.report.judged_table import judged_table
    from stillwatt.report.passes import passes_table

    data, lines = {"run": record.to_dict()}, list[str]()
    for name, table in (
        ("logit caches", caches_table(data)),
        ("teacher's text", texts_table(data)),
        ("passes over the text", passes_table(data)),
        ("waiting for data", waits_table(data)),
        ("judged answers", judged_table(data)),
        ("budgets", budgets_table(data)),
    ):
        if table.rows:
            lines += columns([[column.title for column in table.columns], *(list(row.cells) for row in table.rows)])
            lines += [f"note: {name}: {table.note}"] if table.note else []
    return lines


def run_rows(runs: Sequence[_ListedRun]) -> list[str]:
    """Runs as a table."""
    if not runs:
        return []
    rows = [["run", "name", "status", "started", "time", "energy"]]
    rows += [
        [run.run_id, run.name, run.status.value, run.start_utc, duration_text(run.duration_s), total_text(run.total)]
        for run in runs
    ]
    return columns(rows)


def run_dict(run: _ListedRun) -> dict[str, Any]:
    """A run of the list for programs."""
    return {
        "run_id": run.run_id,
        "name": run.name,
        "status": run.status.value,
        "start_utc": run.start_utc,
        "duration_s": run.duration_s,
        "complete": run.complete,
        "stages": run.stages,
        "warnings": run.warnings,
        "total_j": total_dict(run.total),
    }


def finding_rows(findings: Sequence[Finding]) -> list[str]:
    """What a check found, as a table."""
    return columns([[finding.severity.value, finding.where, finding.message] for finding in findings])


def study_text(record: RunRecord, study: Study) -> str:
    """A study's answer, as wide as the terminal or COLUMNS, and plain where stdout is no terminal."""
    from stillwatt.report.terminal import COLUMNS, answer_text

    is_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size((COLUMNS, 24)).columns
    return answer_text(record, study, columns=width, is_terminal=is_terminal)


def _stage_row(found: Repeats, unit: Unit) -> list[str]:
    stages, first = found.stages, found.stages[0]
    tokens = [stage.workload.get("tokens") for stage in stages]
    known = [count for count in tokens if count is not None]
    return [
        f"{_INDENT * found.depth}{found.title}",
        first.kind.value,
        first.status.value,
        duration_text(math.fsum(stage.duration_s for stage in stages)),
        count_text(sum(known) if len(known) == len(tokens) else None),
        total_text(sum_stages(stages), unit),
    ]


def _parts(record: RunRecord) -> Iterator[str]:
    """Each part once: who reads it and how, or why nobody does."""
    seen: set[str] = set()
    for energy in (energy for stage in record.stages for energy in stage.energies):
        if energy.part in seen:
            continue
        seen.add(energy.part)
        yield f"{energy.part}  {_how(energy)}"


def _how(energy: Energy | Absent) -> str:
    if isinstance(energy, Absent):
        return f"not known: {energy.reason}"
    return f"{energy.basis.value} by {energy.driver} ({energy.source or energy.method}), {energy.device}"


def _bases(total: Total) -> str:
    shares = [(basis, share) for basis, share in total.share_by_basis if share > 0]
    if len(shares) < 2:
        return total.basis.value
    return ", ".join(f"{percent_text(share)} {basis.value}" for basis, share in shares)


def _in_wh(total: Total | NoTotal) -> str:
    """A whole total in Wh, too; nothing where it is too small for that, or stands in kWh as it is."""
    if isinstance(total, NoTotal) or not total.complete or pick_unit([total.value_j]).symbol == "kWh":
        return ""
    energy_wh = total.value_j / J_PER_UNIT["Wh"]
    return f" = {energy_wh:.3g} Wh" if energy_wh >= _LEAST_WH else ""
