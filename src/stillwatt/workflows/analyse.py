"""Compare trainings: from a table, from the published one, or from the ledger's runs."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from stillwatt.errors import UsageError
from stillwatt.records.comparison import Site
from stillwatt.units import KilowattHours, from_kwh
from stillwatt.workflows.books import show_run
from stillwatt.workflows.publish import summarise_run
from stillwatt.workflows.sites import fill_sites
from stillwatt.workflows.table import Table, constant_tokens, read_table

if TYPE_CHECKING:
    from stillwatt.analysis.seeds import SummedRun
    from stillwatt.records.comparison import Comparison, Observation, Unbilled
    from stillwatt.records.run import RunRecord

"""Name of the published table, instead of a path."""
_MEGA = 1_000_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretraining:
    """How much of the teacher's own pre-training each artefact bears; nothing unless asked for."""

    energy_kwh: float = 0.0
    share: float = 0.0

    @property
    def borne_j(self) -> float:
        """Joules on each teacher artefact."""
        return self.share * from_kwh(KilowattHours(self.energy_kwh))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What may be asked for beside the trainings themselves."""

    reuse: tuple[int, ...] = ()
    """Further N for `reuse:N`."""
    pretraining: Pretraining = field(default_factory=Pretraining)
    site: Site = field(default_factory=Site)
    """Cooling, carbon, water and price wherever a training does not say otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """A comparison, and whether every energy in it is whole."""

    comparison: Comparison
    complete: bool
    rows: tuple[Observation, ...] = ()
    """The trainings that were compared."""


def runs_of_sweep(references: Sequence[str], runs_dir: str) -> tuple[tuple[str, ...], str]:
    """What is to be compared, where a sweep's folder stands for the runs of its finished trials.

    Raises:
        UsageError: The sweep has no finished trial yet.
    """
    if len(references) != 1 or not (Path(references[0]) / "sweep.json").is_file():
        return tuple(references), runs_dir
    from stillwatt.workflows.trials import FINISHED, kept_trials

    trials = kept_trials(Path(references[0])).values()
    runs = tuple(trial.run_id for trial in trials if trial.status == FINISHED and trial.run_id)
    if not runs:
        raise UsageError(f"{references[0]}: no trial of this sweep is finished; `stillwatt sweep` goes on with it")
    return runs, references[0]


def analyse_table(table: str | Path, wishes: Wishes | None = None) -> Analysis:
    """Compare the trainings of a CSV table.

    Args:
        table: Its path, or `paper` for the table published by Lambert and Luccioni.
        wishes: What else was asked for.

    Raises:
        MissingInputError: There is no such file.
        ConfigError: The table cannot be used; names the line.
        MissingExtraError: SciPy or moocore is not installed.
    """
    with no_collection():
        read = read_table(table)
        return _analyse_table(read, read.source, wishes or Wishes())


def _analyse_table(read: Table, source: str, wishes: Wishes) -> Analysis:
    remarks = list(read.warnings)
    tokens = constant_tokens(read)
    if tokens is not None:
        remarks.append(
            f"column j_per_token is the total over {tokens / _MEGA:.1f} million tokens in every row: it says nothing "
            "further"
        )
    if read.published:
        said = ", ".join(f"{label} {words}" for label, words in read.published)
        remarks.append(f"N* as the source gives it: {said}")
    rows, found = _compare(read.rows, source, remarks, wishes, boundary=read.boundary)
    return Analysis(comparison=found, complete=True, rows=rows)


def analyse_runs(
    references: Sequence[str],
    *,
    runs_dir: str | Path = "runs",
    wishes: Wishes | None = None,
) -> Analysis:
    """Compare the trainings of runs; runs of the same arm are its seeds.

    Raises:
        RunNotFoundError: No such run.
        UsageError: A run is named twice, or none has an arm.
        MissingExtraError: SciPy or moocore is not installed.
    """
    from stillwatt.analysis.missing import missing_text
    from stillwatt.analysis.seeds import gather_runs

    runs = [show_run(runs_dir, reference) for reference in references]
    ids = [run.run_id for run in runs]
    twice = sorted({run_id for run_id in ids if ids.count(run_id) > 1})
    if twice:
        raise UsageError(f"run {twice[0]} is named twice; a run is no repeat of itself")
    summed = [_summed(run, runs_dir) for run in runs]
    gathered = gather_runs(summed)
    source = ", ".join(ids)
    if not gathered.rows:
        what = "ledger compare` holds such runs against each other" if len(ids) > 1 else "report` shows what it used"
        raise UsageError(f"no student was trained in {source}; `stillwatt {what}")
    rows, found = _compare(
        gathered.rows,
        source,
        gathered.warnings,
        wishes or Wishes(),
        boundary=gathered.boundary,
        unbilled=gathered.unbilled,
    )
    missing = tuple(arm for entry in summed for arm in entry.study.missing)
    if missing:
        first = f"{missing_text(missing)}: nothing here is said of what is missing"
        found = replace(found, missing=missing, warnings=(first, *found.warnings))
    return Analysis(comparison=found, complete=gathered.complete, rows=rows)


def _summed(run: RunRecord, runs_dir: str | Path) -> SummedRun:
    from stillwatt.analysis.seeds import SummedRun, cards_only

    return SummedRun(
        run=run,
        study=summarise_run(run, runs_dir=runs_dir),
        cards=summarise_run(run, runs_dir=runs_dir, seen=cards_only),
    )


def _compare(
    rows: Sequence[Observation],
    source: str,
    remarks: Sequence[str],
    wishes: Wishes,
    *,
    boundary: str,
    unbilled: Sequence[Unbilled] = (),
) -> tuple[tuple[Observation, ...], Comparison]:
    from stillwatt.analysis.compare import compare

    said = list(remarks)
    pretraining = wishes.pretraining
    if pretraining.borne_j > 0.0:
        rows = bear_pretraining(rows, pretraining.borne_j)
        said.append(
            f"every teacher artefact bears {pretraining.share:.3g} of {pretraining.energy_kwh:,.6g} kWh of "
            "pre-training: all figures with the teacher's work have it in them"
        )
    placed = fill_sites(rows, wishes.site)
    found = compare(
        placed,
        source=source,
        boundary=boundary,
        reuse_counts=wishes.reuse,
        unbilled=unbilled,
    )
    return placed, replace(found, warnings=(*found.warnings, *said))


@contextmanager
def no_collection() -> Iterator[None]:
    """Without looking for cycles meanwhile: millions of rows are made, none is in a cycle, and each look walks all."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def bear_pretraining(rows: Sequence[Observation], borne_j: float) -> tuple[Observation, ...]:
    """Put a share of the teacher's pre-training on every row that its work went into (method.md, eq. 31)."""
    return tuple(_bearing(row, borne_j) for row in rows)


def _bearing(row: Observation, borne_j: float) -> Observation:
    whole_j = row.whole_j and (row.whole_j[0] + borne_j, row.whole_j[1] + borne_j)
    if row.teacher_j:
        return replace(row, teacher_j=row.teacher_j + borne_j, whole_j=whole_j)
    if row.online_j and row.student_j is not None:
        # without an artefact each student that the teacher worked beside bears the share anew
        own_j = None if row.own_j is None else row.own_j + borne_j
        student_j, online_j = row.student_j + borne_j, row.online_j + borne_j
        return replace(row, student_j=student_j, own_j=own_j, online_j=online_j, whole_j=whole_j)
    return row
