"""CodeCarbon's emissions.csv and its files of tasks: energies in kWh by component, one row a run (or a flush of it).

Rows add up within a run (`run_id`), so the last one counts. Figures are divided by the row's PUE, which the tool has
multiplied into them. A backup (`.bak`) is read only where it is named; rows that a file beside it has are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stillwatt.importers import bounds
from stillwatt.importers.copies import Figures
from stillwatt.importers.intake import LogFile
from stillwatt.importers.model import Found, ImportedRun, ImportedSession, ImportedStage, LeftOut, Statement
from stillwatt.importers.numbers import energy_kwh, length_s, needed, number
from stillwatt.importers.tables import Row, header_of, moment, read_table
from stillwatt.records.channel import Basis, Boundary
from stillwatt.records.window import StageKind
from stillwatt.units import J_PER_KWH, KilowattHours, from_kwh, nanoseconds

FORM = "codecarbon"
TOTAL_KEY = "codecarbon_energy_consumed_kwh"
"""The result that keeps a row's total."""
_NONE = Figures()
_NEEDED = {"timestamp", "duration"}
_COMPONENTS = ("cpu", "gpu", "ram")
_SUM_SLACK = 0.001


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


def recognises(file: LogFile) -> bool:
    """Whether a file has the columns of CodeCarbon, in any of its versions."""
    header = set(header_of(file))
    has_energy = bool(header & {"energy_consumed", "emissions"})
    return header >= _NEEDED and has_energy and bool(header & {"project_name", "experiment_id", "run_id"})


def is_backup(file: LogFile) -> bool:
    """Whether CodeCarbon set this file aside; it then began a new one of the old name."""
    return file.name.endswith(".bak")


def read(files: Sequence[LogFile], elsewhere: Figures = _NONE) -> Found:
    """All runs in some files.

    Args:
        files: Live files and backups.
        elsewhere: Totals that the harness has copied into its stages.

    Raises:
        ConfigError: a file is no text or no table.
    """
    rows, left_out = read_rows(files, elsewhere)
    last, repeats = _last_rows(rows)
    tasks = [row for row in last if row.task]
    wholes = {row.run_id: row for row in last if not row.task}
    runs = []
    for run_id in dict.fromkeys(row.run_id for row in last):
        own = [row for row in tasks if row.run_id == run_id]
        runs.append(_run(wholes.get(run_id), own))
    return Found(runs=tuple(runs), left_out=(*left_out, *repeats))


def read_rows(files: Sequence[LogFile], elsewhere: Figures) -> tuple[list[CarbonRow], list[LeftOut]]:
    """The rows of live files, and of backups that were named; the others' are left out, each with the reason."""
    live = [file for file in files if not is_backup(file)]
    backups = [file for file in files if is_backup(file)]
    rows: list[CarbonRow] = []
    left_out: list[LeftOut] = []
    for file in live:
        found, faults = _file_rows(file, elsewhere)
        rows += found
        left_out += faults
    known = {(row.run_id, row.task) for row in rows}
    for file in backups:
        found, faults = _file_rows(file, elsewhere)
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
    return rows, left_out


def _out(row: CarbonRow, reason: str) -> LeftOut:
    return LeftOut(name=row.file.name, line=row.row.line, reason=reason)


def _file_rows(file: LogFile, elsewhere: Figures) -> tuple[list[CarbonRow], list[LeftOut]]:
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
    pue = number(row.get("pue")) or 1.0
    if not 1.0 <= pue <= 10.0:
        raise ValueError(f"a PUE of {pue} cannot be meant")
    energies: dict[str, float | None] = {name: number(row.get(f"{name}_energy")) for name in _COMPONENTS}
    energies["total"] = number(row.get("energy_consumed"))
    for name, value in energies.items():
        if value is not None and energy_kwh(value, f"{name} energy", duration_s) < 0:
            raise ValueError(f"{name} energy of {value} kWh cannot be meant")
    project = row.get("project_name", "experiment_id") or "codecarbon"
    run_id = row.get("run_id") or f"{project}@{row.get('timestamp')}"
    return CarbonRow(
        file=file,
        row=row,
        run_id=run_id,
        project=project,
        task=row.get("task_name"),
        end_utc_ns=end_ns,
        duration_s=duration_s,
        pue=pue,
        energies_kwh=energies,
    )


def _last_rows(rows: Sequence[CarbonRow]) -> tuple[list[CarbonRow], list[LeftOut]]:
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


def _run(whole: CarbonRow | None, tasks: Sequence[CarbonRow]) -> ImportedRun:
    first = whole or tasks[0]
    warnings: list[str] = []
    stages = []
    if whole is not None:
        stages.append(_stage(whole, None, warnings))
    stages += [_stage(task, None if whole is None else 0, warnings) for task in tasks]
    if whole is None:
        warnings.append(
            "only tasks are in the files, not the run around them; what was drawn between them is not known"
        )
    rows = [row for row in (whole, *tasks) if row is not None]
    files = {row.file.name: row.file for row in rows}
    warnings += _general_warnings(first)
    span_ns = (min(row.start_utc_ns for row in rows), max(row.end_utc_ns for row in rows))
    session = ImportedSession(stages=tuple(stages), start_utc_ns=span_ns[0], end_utc_ns=span_ns[1])
    return ImportedRun(
        form=FORM,
        tool="CodeCarbon",
        tool_version=first.row.get("codecarbon_version"),
        identity=first.run_id,
        name=first.project,
        host="",
        sessions=(session,),
        sources=tuple(files[name].source for name in sorted(files)),
        warnings=tuple(dict.fromkeys(warnings)),
        environment=_environment(first.row),
        settings={"tracking_mode": first.row.get("tracking_mode") or None, "pue": first.pue},
    )


def _general_warnings(row: CarbonRow) -> list[str]:
    said = ["times are CodeCarbon's local ones, to the second and without a zone; they are taken for UTC"]
    if row.pue != 1.0:
        said.append(f"CodeCarbon multiplied its energies by a PUE of {row.pue:g}; it is divided out")
    if row.row.get("tracking_mode") == "process":
        said.append("tracking_mode=process: CPU and memory are this process's share, not the machine's")
    if not row.row.get("codecarbon_version"):
        said.append("the file does not tell which version of CodeCarbon wrote it")
    return said


def _stage(row: CarbonRow, parent: int | None, warnings: list[str]) -> ImportedStage:
    name = row.task or row.project
    total_j = row.joules("total")
    stated = tuple(statements(row))
    known_j = sum(line.value_j for line in stated if line.value_j is not None)
    if total_j is not None and abs(total_j - known_j) > _SUM_SLACK * max(total_j, known_j):
        warnings.append(
            f"stage {name!r}: CodeCarbon's total is {total_j / J_PER_KWH:.6g} kWh and its components add up to "
            f"{known_j / J_PER_KWH:.6g} kWh; the components are booked"
        )
    warnings += [f"{line.part} in stage {name!r}: {line.reason}" for line in stated if line.value_j is None]
    emissions = _quietly(row.row, "emissions")
    results = {TOTAL_KEY: row.energies_kwh["total"], "codecarbon_emissions_kg": emissions}
    return ImportedStage(
        name=name,
        kind=StageKind.OTHER,
        start_utc_ns=row.start_utc_ns,
        end_utc_ns=row.end_utc_ns,
        parent=parent,
        labels={"codecarbon_run_id": row.run_id},
        results={key: value for key, value in results.items() if value is not None},
        stated=stated,
    )


def statements(row: CarbonRow) -> list[Statement]:
    """What a row says of each component; a file of a version without components states a total alone."""
    if all(row.energies_kwh[name] is None for name in _COMPONENTS):
        return [_total_only(row)]
    return [
        statement
        for statement in (_gpu(row), _cpu(row), _ram(row))
        if statement.value_j is not None or _is_there(row, statement.part)
    ]


def _is_there(row: CarbonRow, part: str) -> bool:
    """Whether a component without an energy is one of the machine's: its silence is then a gap, not a fact."""
    if part != "gpu":
        return True
    try:
        return bool(row.row.get("gpu_model")) or (number(row.row.get("gpu_count")) or 0) > 0
    except ValueError:
        return True


def _usable(row: CarbonRow, name: str) -> tuple[float | None, str]:
    """A component's joules, or none with the reason; the tool writes 0 where it could not read."""
    value_j = row.joules(name)
    if value_j is None:
        return None, f"CodeCarbon wrote no {name} energy"
    if value_j == 0.0:
        return None, f"CodeCarbon wrote 0 kWh of {name} energy, as it does where it cannot read"
    return value_j, ""


def _gpu(row: CarbonRow) -> Statement:
    value_j, reason = _usable(row, "gpu")
    model = row.row.get("gpu_model")
    bound = bounds.counter_or_polled(model)
    return Statement(
        part="gpu",
        device=model,
        boundary=Boundary.BOARD,
        value_j=value_j,
        low_rel=bound.low_rel,
        high_rel=bound.high_rel,
        random_j=0.0 if value_j is None else bounds.edge_j(value_j, row.duration_s),
        basis=Basis.MEASURED,
        driver="codecarbon-gpu",
        source=f"CodeCarbon gpu_energy, all GPUs it counted: {bound.why}",
        reason=reason,
    )


def _cpu(row: CarbonRow) -> Statement:
    value_j, reason = _usable(row, "cpu")
    bound = bounds.CPU_UNKNOWN
    scope = " (this process's share)" if row.row.get("tracking_mode") == "process" else ""
    return Statement(
        part="cpu",
        device=row.row.get("cpu_model"),
        boundary=Boundary.CHIP,
        value_j=value_j,
        low_rel=bound.low_rel,
        high_rel=bound.high_rel,
        basis=Basis.ASSUMED,
        driver="codecarbon-cpu",
        source=f"CodeCarbon cpu_energy{scope}: {bound.why}",
        reason=reason,
    )


def _ram(row: CarbonRow) -> Statement:
    value_j, reason = _usable(row, "ram")
    bound = bounds.RAM_MODEL
    return Statement(
        part="dram",
        device="",
        boundary=Boundary.CHIP,
        value_j=value_j,
        low_rel=bound.low_rel,
        high_rel=bound.high_rel,
        basis=Basis.MODELLED,
        driver="codecarbon-ram",
        source=f"CodeCarbon ram_energy: {bound.why}",
        reason=reason,
    )


def _total_only(row: CarbonRow) -> Statement:
    value_j, reason = _usable(row, "total")
    bound = bounds.CPU_UNKNOWN
    return Statement(
        part="machine",
        device="",
        boundary=Boundary.COMPONENTS,
        value_j=value_j,
        low_rel=bound.low_rel,
        high_rel=bound.high_rel,
        basis=Basis.ASSUMED,
        driver="codecarbon",
        source="CodeCarbon energy_consumed of a version that wrote no components: what it holds is not told",
        reason=reason,
    )


def _quietly(row: Row, name: str) -> float | None:
    """A number that nothing rests on."""
    try:
        return number(row.get(name))
    except ValueError:
        return None


def _environment(row: Row) -> dict[str, str | None]:
    names = {"platform": "os", "python": "python_version", "cpu_model": "cpu_model", "gpu_model": "gpu_model"}
    extra = ("gpu_count", "cpu_count", "ram_total_size", "country_iso_code", "region", "cloud_provider", "cloud_region")
    return {key: row.get(name) or None for key, name in (*names.items(), *((name, name) for name in extra))}
