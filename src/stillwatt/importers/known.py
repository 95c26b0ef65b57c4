"""What the run directories hold already of other tools: so that nothing is booked twice, in whatever order it comes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from stillwatt.errors import LedgerError
from stillwatt.importers import carbontracker, codecarbon, energy_harness, power_csv
from stillwatt.importers.codecarbon_trackers import Tracked, tracked
from stillwatt.importers.copies import Figure
from stillwatt.importers.model import ImportedRun
from stillwatt.importers.write import IMPORT_KEY, content_hash
from stillwatt.ledger.liveness import ThisHost
from stillwatt.ledger.post import read_run
from stillwatt.ledger.rundir import list_run_dirs, read_manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRun:
    """A run that was imported before."""

    run_dir: Path
    told: Mapping[str, Any]
    """What its manifest says of the import."""

    @property
    def run_id(self) -> str:
        """The directory's name."""
        return self.run_dir.name

    def holds(self, run: ImportedRun) -> bool:
        """Whether its directory says of every session what the files say now."""
        return self.told.get("content_sha256") == content_hash(run)

    def differs(self, run: ImportedRun) -> str:
        """Why the files say something else than when it was imported."""
        before = {_base(name): sha256 for name, sha256 in _sources(self.told)}
        now = {_base(source.name): source.sha256 for source in run.sources}
        changed = sorted(name for name in now if before.get(name, now[name]) != now[name])
        if changed:
            return f"{', '.join(changed)} changed since it was imported"
        if now == before:
            return f"this release reads the same files otherwise than {self.told.get('importer')} did"
        return (
            f"it was imported from {', '.join(sorted(before))}, and {', '.join(sorted(now))} tell something else of it"
        )


def known_runs(runs_dir: Path) -> list[KnownRun]:
    """Runs that were imported before; a directory that cannot be posted is the ledger's to report."""
    found = []
    for run_dir in list_run_dirs(runs_dir):
        try:
            told = read_manifest(run_dir)["settings"].get(IMPORT_KEY)
        except LedgerError:
            continue
        if isinstance(told, Mapping):
            found.append(KnownRun(run_dir=run_dir, told=told))
    return found


def same_run(run: ImportedRun, known: Iterable[KnownRun]) -> KnownRun | None:
    """The one of them that is the same run: by its identity, or by its sums where the tool writes two logs."""
    own = [other for other in known if other.told.get("form") == run.form]
    by_identity = next((other for other in own if other.told.get("identity") == run.identity), None)
    files = {source.sha256 for source in run.sources}
    if by_identity is None and run.form == power_csv.FORM:
        # releases whose identity was the file's hash
        return next((other for other in own if other.told.get("identity") in files), None)
    if by_identity is not None or run.form != carbontracker.FORM:
        return by_identity
    # releases whose identity was the file's name, or which took less from the same file: it is still the same run
    return next(
        (
            other
            for other in own
            if other.holds(run)
            or carbontracker.is_other_log(other.told, run.settings)
            or any(sha256 in files for _, sha256 in _sources(other.told))
        ),
        None,
    )


def harness_figures(known: Sequence[KnownRun]) -> list[Figure]:
    """CodeCarbon's totals that runs of the harness have copied."""
    found = []
    for run in known:
        stages = run.told.get("stages")
        if run.told.get("form") != energy_harness.FORM or not isinstance(stages, Mapping):
            continue
        for name, stage in stages.items():
            total_kwh = stage.get("codecarbon_total_kwh") if isinstance(stage, Mapping) else None
            if isinstance(total_kwh, float):
                found.append(Figure(project=name, total_kwh=total_kwh, run_id=run.run_id))
    return found


def codecarbon_figures(known: Sequence[KnownRun]) -> list[Figure]:
    """CodeCarbon's totals that its own runs hold."""
    return [figure for run in known if run.told.get("form") == codecarbon.FORM for figure in _own_figures(run)]


def codecarbon_trackers(known: Sequence[KnownRun]) -> list[Tracked]:
    """CodeCarbon's trackers of its own runs."""
    own = [run.told for run in known if run.told.get("form") == codecarbon.FORM]
    return [found for told in own if (found := tracked(str(told.get("identity")), told)) is not None]


def _own_figures(run: KnownRun) -> Iterator[Figure]:
    try:
        sessions = read_run(run.run_dir, liveness=ThisHost()).sessions
    except LedgerError:
        return
    for session in sessions:
        for stage in session.stages:
            total_kwh = stage.results.get(codecarbon.TOTAL_KEY)
            if isinstance(total_kwh, float):
                yield Figure(project=stage.name, total_kwh=total_kwh, run_id=run.run_id)


def _sources(told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    sources = told.get("sources")
    for source in sources if isinstance(sources, Sequence) else ():
        if isinstance(source, Mapping):
            yield str(source.get("name")), str(source.get("sha256"))


def _base(name: str) -> str:
    return PurePosixPath(name).name
