"""Rows of CodeCarbon's files, checked: which count, the PUE that each holds, and what is left out with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from stillwatt.importers.copies import Figures
from stillwatt.importers.intake import LogFile
from stillwatt.importers.model import LeftOut
from stillwatt.importers.numbers import energy_kwh, length_s, needed, number
from stillwatt.importers.tables import Row, moment, read_table
from stillwatt.units import KilowattHours, from_kwh, nanoseconds

COMPONENTS = ("cpu", "gpu", "ram")


@dataclass(frozen=True, slots=True, kw_only=True)
class CarbonRow:
    """One row, checked."""

    file: LogFile
    row: Row
    run_id: str
    """The tool's own, or one made of the project and the time for versions that had none."""
    project: str
    task: str
    """Empty for the row of a whole run."""
    end_utc_ns: int
    duration_s: float
    pue: float
    """1 where it is not told."""
    is_pue_told: bool
    energies_kwh: dict[str, float | None]
    """By component and `total`, as written; None where the column is empty or not there."""

    @property
    def start_utc_ns(self) -> int:
        """When it began; the tool writes whole seconds of the time at the end."""
        return self.end_utc_ns - nanoseconds(self.duration_s)

    def joules(self, name: str) -> float | None:
        """One component's energy without the PUE."""
        value = self.energies_kwh[name]
        return None if value is None else from_kwh(KilowattHours(value)) / self.pue


def is_backup(file: LogFile) -> bool:
    """Whether CodeCarbon set this file aside; it then began a new one of the old name."""
    return file.name.endswith(".bak")


def read_rows(files: Sequence[LogFile], elsewhere: Figures) -> tuple[list[CarbonRow], list[LeftOut]]:
    """The rows of live files, and of backups that were named; the others' are left out, each with the reason."""
    live = [file for file in files if not is_backup(file)]
    backups = [file for file in files if is_backup(file)]
    rows: list[CarbonRow] = []
    left_out: list[LeftOut] = []
    pues: dict[str, float] = {}
    for file in live:
        found, faults = _file_rows(file, elsewhere, pues)
        rows += found
        left_out += faults
    known = {(row.run_id, row.task) for row in rows}
    for file in backups:
        found, faults = _file_rows(file, elsewhere, pues)
        left_out += faults
        for row in found:
            if (row.run_id, row.task) in known:
                left_out.append(_out(row, f"run {row.run_id} is in the file beside this backup already"))
            elif not file.is_named:
                reason = (
                    f"an older session ({row.project}, run {row.run_id}), only in this backup; name it to import it"
                )
                left_out.append(_out(row, reason))
            else:
                rows.append(row)
    return [_with_pue(row, pues) for row in rows], left_out


def _with_pue(row: CarbonRow, pues: Mapping[str, float]) -> CarbonRow:
    """A task with its run's PUE, where a row of the run tells it."""
    if row.is_pue_told or row.run_id not in pues:
        return row
    return replace(row, pue=pues[row.run_id], is_pue_told=True)


def _out(row: CarbonRow, reason: str) -> LeftOut:
    return LeftOut(name=row.file.name, line=row.row.line, reason=reason)


def _file_rows(file: LogFile, elsewhere: Figures, pues: dict[str, float]) -> tuple[list[CarbonRow], list[LeftOut]]:
    """A file's rows, and what is left out of it; adds to `pues` what rows of whole runs tell, taken or not."""
    table = read_table(file)
    if not table.rows and not table.misfits:
        return [], [LeftOut(name=file.name, reason="a header and no row: the tool was stopped before it wrote one")]
    rows, left_out = [], []
    for line, what in table.misfits:
        reason = f"{what}: its values stand under the wrong names (releases before 3.3 drop empty columns on appending)"
        left_out.append(LeftOut(name=file.name, line=line, reason=reason))
    for row in table.rows:
        try:
            parsed = _parse(file, row)
        except ValueError as err:
            left_out.append(LeftOut(name=file.name, line=row.line, reason=str(err)))
            continue
        if not parsed.task:
            pues[parsed.run_id] = parsed.pue
        copy = elsewhere.find(parsed.project, parsed.energies_kwh["total"])
        if copy is None:
            rows.append(parsed)
        else:
            reason = (
                f"the figures of run {parsed.run_id} are in {copy.where} already, which the harness copied them into; "
                f"that is kept, so that the work is not counted twice; {copy.instead}"
            )
            left_out.append(replace(_out(parsed, reason), is_in_ledger=bool(copy.run_id)))
    return rows, left_out


def _parse(file: LogFile, row: Row) -> CarbonRow:
    end_ns = moment(row.get("timestamp")).utc_ns
    duration_s = length_s(needed(row.get("duration"), "duration"), "duration")
    told_pue = number(row.get("pue"))
    pue = told_pue or 1.0
    if not 1.0 <= pue <= 10.0:
        raise ValueError(f"a PUE of {pue} cannot be meant")
    energies: dict[str, float | None] = {name: number(row.get(f"{name}_energy")) for name in COMPONENTS}
    energies["total"] = number(row.get("energy_consumed"))
    for name, value in energies.items():
        if value is not None and energy_kwh(value, f"{name} energy", duration_s) < 0:
            raise ValueError(f"{name} energy of {value} kWh cannot be meant")
    project = row.get("project_name", "experiment_id") or "codecarbon"
    run_id = row.get("run_id") or f"{project}@{row.get('timestamp')}"
    task = row.get("task_name")
    return CarbonRow(
        file=file,
        row=row,
        run_id=run_id,
        project=project,
        task=task,
        end_utc_ns=end_ns,
        duration_s=duration_s,
        pue=pue,
        # releases that write no column of it for a run have none to multiply by
        is_pue_told=told_pue is not None or not task,
        energies_kwh=energies,
    )


def last_rows(rows: Sequence[CarbonRow]) -> tuple[list[CarbonRow], list[LeftOut]]:
    """Of the rows of one run (or of one task of it) the longest, in order of time; the others are in it."""
    best: dict[tuple[str, str], CarbonRow] = {}
    for row in sorted(rows, key=lambda row: (row.duration_s, row.end_utc_ns, row.file.name, -row.row.line)):
        best[row.run_id, row.task] = row
    left_out = [
        _out(row, f"run {row.run_id} goes on in a later row; rows add up, so only the last one counts")
        for row in rows
        if best[row.run_id, row.task] is not row
    ]
    return sorted(best.values(), key=lambda row: (row.start_utc_ns, row.run_id, row.task)), left_out
