"""Imports logs of other tools: finds runs in files, writes those that are new as run directories, and posts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from stillwatt.clock import Clock, SystemClock
from stillwatt.errors import LedgerError, UsageError
from stillwatt.importers.copies import Figure, Figures
from stillwatt.importers.detect import AUTO, find_runs
from stillwatt.importers.intake import take_in
from stillwatt.importers.known import (
    KnownRun,
    codecarbon_figures,
    codecarbon_trackers,
    harness_figures,
    known_runs,
    same_run,
)
from stillwatt.importers.model import ImportedRun, LeftOut
from stillwatt.importers.write import write_run
from stillwatt.ledger.booking import book_run
from stillwatt.ledger.liveness import ThisHost
from stillwatt.ledger.post import read_run
from stillwatt.ledger.stated import StatedCheck, stated_checks
from stillwatt.ledger.store import LedgerStore
from stillwatt.records.run import RunRecord


class Outcome(StrEnum):
    """What became of a run that was found."""

    IMPORTED = "imported"
    ALREADY_THERE = "already_there"
    CHANGED = "changed"
    """A run of this identity was imported before, from files that said something else."""
    WOULD_IMPORT = "would_import"


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCheck:
    """A stage's energy from the file's readings beside the file's own figure."""

    stage: str
    check: StatedCheck


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportLine:
    """One run that was found in the files."""

    found: ImportedRun
    outcome: Outcome
    run_id: str | None
    """None where nothing was written and nothing is there."""
    record: RunRecord | None
    """As the ledger has it; None for a dry run and a changed file."""
    checks: tuple[StageCheck, ...] = ()
    reason: str = ""
    """Why the files say something else than the run that is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """All that an import did, or would do."""

    lines: tuple[ImportLine, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def has_changed(self) -> bool:
        """Whether a run was left as it is although its file says something new."""
        return any(line.outcome is Outcome.CHANGED for line in self.lines)

    @property
    def is_complete(self) -> bool:
        """Whether every run that is in the ledger now has a whole energy."""
        return all(line.record is None or line.record.complete for line in self.lines)


def import_logs(
    paths: Sequence[str | Path],
    *,
    runs_dir: str | Path,
    form: str = AUTO,
    name: str | None = None,
    is_dry: bool = False,
    clock: Clock | None = None,
) -> ImportReport:
    """Import every run in some files and folders that is not in the ledger's directory yet.

    Args:
        paths: Logs, or folders of them.
        runs_dir: Where run directories lie.
        form: The kind of logs, or `auto`.
        name: What to call the run; only where there is one.
        is_dry: Only tell what would be taken; write nothing.
        clock: This machine's if None.

    Raises:
        MissingInputError: A path does not exist.
        ConfigError: A named file cannot be read as a log; says the line.
        UsageError: Nothing in the files is a log, or `name` is given for several runs.
    """
    files, left_out = take_in(paths)
    runs_dir = Path(runs_dir)
    known = known_runs(runs_dir)
    found = find_runs(
        files, form, copied=harness_figures(known), booked=_booked_once(known), known=codecarbon_trackers(known)
    )
    left_out += found.left_out
    runs = list(found.runs)
    if not runs and not any(left.is_in_ledger for left in found.left_out):
        raise UsageError(_nothing(paths, left_out))
    if name is not None:
        if len(runs) > 1:
            raise UsageError(
                f"--name {name!r} is for one run, and {len(runs)} were found; import their files one by one"
            )
        runs = [replace(runs[0], name=name)]
    lines = _write(runs, known, runs_dir, clock or SystemClock(), is_dry=is_dry)
    return ImportReport(lines=tuple(lines if is_dry else _posted(lines, runs_dir)), left_out=tuple(left_out))


def _nothing(paths: Sequence[str | Path], left_out: Sequence[LeftOut]) -> str:
    where = ", ".join(str(path) for path in paths)
    why = "".join(f"\n  {left.place}: {left.reason}" for left in left_out[:20])
    more = f"\n  and {len(left_out) - 20} more" if len(left_out) > 20 else ""
    return f"no run of a known tool in {where}; docs/how-to/import.md says what can be imported{why}{more}"


def _booked_once(known: Sequence[KnownRun]) -> list[Figure]:
    """Totals of CodeCarbon's own runs, but for those that a run of the harness has too.

    A release that took both has booked them; such a stage is there, and is not to be refused.
    """
    copied = Figures(harness_figures(known))
    return [figure for figure in codecarbon_figures(known) if not copied.find(figure.project, figure.total_kwh)]


def _write(
    runs: Sequence[ImportedRun], known: Sequence[KnownRun], runs_dir: Path, clock: Clock, *, is_dry: bool
) -> list[ImportLine]:
    lines = []
    for run in runs:
        there = same_run(run, known)
        if there is not None and there.holds(run):
            lines.append(ImportLine(found=run, outcome=Outcome.ALREADY_THERE, run_id=there.run_id, record=None))
        elif there is not None:
            reason = there.differs(run)
            line = ImportLine(found=run, outcome=Outcome.CHANGED, run_id=there.run_id, record=None, reason=reason)
            lines.append(line)
        elif is_dry:
            lines.append(ImportLine(found=run, outcome=Outcome.WOULD_IMPORT, run_id=None, record=None))
        else:
            run_id = write_run(run, runs_dir, clock=clock)
            lines.append(ImportLine(found=run, outcome=Outcome.IMPORTED, run_id=run_id, record=None))
    return lines


def _posted(lines: Sequence[ImportLine], runs_dir: Path) -> list[ImportLine]:
    """The lines with what the ledger makes of their directories."""
    with LedgerStore(runs_dir) as store:
        posted = store.refresh()
        problems = {problem.run_id: problem.message for problem in posted.problems}
        told = []
        for line in lines:
            if line.run_id is None or line.outcome is Outcome.CHANGED:
                told.append(line)
                continue
            if line.run_id in problems:
                raise LedgerError(f"run {line.run_id} was written and cannot be posted: {problems[line.run_id]}")
            checks = _checks(runs_dir / line.run_id)
            told.append(replace(line, record=store.get(line.run_id), checks=checks))
    return told


def _checks(run_dir: Path) -> tuple[StageCheck, ...]:
    booked = book_run(read_run(run_dir, liveness=ThisHost()).sessions)
    return tuple(
        StageCheck(stage=names.get(check.stage_id, check.stage_id), check=check)
        for each in booked.places
        for session in each.place.sessions
        for names in [{stage.stage_id: stage.name for stage in session.stages}]
        for check in stated_checks(each.account, session.stated)
    )
