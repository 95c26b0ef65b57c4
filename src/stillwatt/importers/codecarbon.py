"""CodeCarbon's emissions.csv and its files of tasks: energies in kWh by component, one row a run (or a flush of it).

Rows add up within a run (`run_id`), so the last one counts. Figures are divided by the run's PUE, which the tool has
multiplied into them and into those of its tasks, whose files do not tell it. A backup (`.bak`) is read only where it is
named; rows that a file beside it has are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stillwatt.importers import bounds
from stillwatt.importers.codecarbon_rows import COMPONENTS, CarbonRow, last_rows, read_rows
from stillwatt.importers.codecarbon_trackers import TRACKED_KEY, facts_of
from stillwatt.importers.copies import Figures
from stillwatt.importers.intake import LogFile
from stillwatt.importers.model import Found, ImportedRun, ImportedSession, ImportedStage, Statement
from stillwatt.importers.numbers import number
from stillwatt.importers.tables import Row, header_of
from stillwatt.records.channel import Basis, Boundary
from stillwatt.records.window import StageKind
from stillwatt.units import J_PER_KWH

FORM = "codecarbon"
TOTAL_KEY = "codecarbon_energy_consumed_kwh"
"""The result that keeps a row's total."""
_NONE = Figures()
_NEEDED = {"timestamp", "duration"}
_SUM_SLACK = 0.001


def recognises(file: LogFile) -> bool:
    """Whether a file has the columns of CodeCarbon, in any of its versions."""
    header = set(header_of(file))
    has_energy = bool(header & {"energy_consumed", "emissions"})
    return header >= _NEEDED and has_energy and bool(header & {"project_name", "experiment_id", "run_id"})


def read(files: Sequence[LogFile], elsewhere: Figures = _NONE) -> Found:
    """All runs in some files.

    Args:
        files: Live files and backups.
        elsewhere: Totals that the harness has copied into its stages.

    Raises:
        ConfigError: a file is no text or no table.
    """
    rows, left_out = read_rows(files, elsewhere)
    last, repeats = last_rows(rows)
    tasks = [row for row in last if row.task]
    wholes = {row.run_id: row for row in last if not row.task}
    runs = []
    for run_id in dict.fromkeys(row.run_id for row in last):
        own = [row for row in tasks if row.run_id == run_id]
        runs.append(_run(wholes.get(run_id), own))
    return Found(runs=tuple(runs), left_out=(*left_out, *repeats))


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
    environment = _environment(first.row)
    mode = first.row.get("tracking_mode")
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
        environment=environment,
        settings={
            "tracking_mode": mode or None,
            "pue": first.pue if first.is_pue_told else None,
            TRACKED_KEY: facts_of(environment, mode, span_ns),
        },
    )


def _general_warnings(row: CarbonRow) -> list[str]:
    said = ["times are CodeCarbon's local ones, to the second and without a zone; they are taken for UTC"]
    if row.pue != 1.0:
        said.append(f"CodeCarbon multiplied its energies by a PUE of {row.pue:g}; it is divided out")
    if not row.is_pue_told:
        said.append(
            "files of tasks do not tell the PUE that CodeCarbon multiplied into their energies, and no row of the run "
            "itself does: they are booked as written, and the lower ends of their intervals allow for a PUE of up to "
            f"{bounds.MOST_PUE:g}; to have it divided out, import the run's emissions.csv together with them"
        )
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
    if all(row.energies_kwh[name] is None for name in COMPONENTS):
        found = [_total_only(row)]
    else:
        found = [line for line in (_gpu(row), _cpu(row), _ram(row)) if line.value_j is not None or _is_there(row, line)]
    return found if row.is_pue_told else [_with_untold_pue(line) for line in found]


def _with_untold_pue(line: Statement) -> Statement:
    source = f"{line.source}; a PUE of up to {bounds.MOST_PUE:g}, which is not told, may be in it"
    return replace(line, low_rel=bounds.low_with_untold_pue(line.low_rel), source=source)


def _is_there(row: CarbonRow, line: Statement) -> bool:
    """Whether a component without an energy is one of the machine's: its silence is then a gap, not a fact."""
    if line.part != "gpu":
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
