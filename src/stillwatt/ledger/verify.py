"""Check run directories and the ledger against themselves: what is torn, lost, orphaned, or does not add up.

An error means that a number may be wrong or a file was changed; a warning, that something was lost and is said
so in the record; an info, that something is worth knowing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

from stillwatt.errors import LedgerError, RunNotFoundError, StillwattError
from stillwatt.ledger import schema
from stillwatt.ledger.conservation import conservation_findings
from stillwatt.ledger.events import parse_events
from stillwatt.ledger.finding import Finding, Severity
from stillwatt.ledger.journal import read_journal
from stillwatt.ledger.liveness import Liveness, ThisHost
from stillwatt.ledger.post import RunFacts, account_run, read_run
from stillwatt.ledger.rows import load_run
from stillwatt.ledger.rundir import list_run_dirs, meter_journals, program_journals, settings_hash
from stillwatt.ledger.segments import stored_streams
from stillwatt.ledger.segments_raw import SAMPLES_DIR
from stillwatt.ledger.sessions import SessionFacts
from stillwatt.ledger.store import LEDGER_FILE, LedgerStore
from stillwatt.records.run import RunRecord
from stillwatt.records.window import StageStatus

__all__ = ["Finding", "Severity", "verify", "verify_run"]


def verify(runs_dir: Path, reference: str | None = None, *, liveness: Liveness | None = None) -> list[Finding]:
    """Check one run, or all of them and the ledger; changes nothing.

    Args:
        runs_dir: Where run directories and the ledger lie.
        reference: A run's id, name, unique prefix or `latest`; all runs if None.
        liveness: Tells whether processes still live; this machine's /proc if None.

    Returns:
        Findings by run, oldest run first; empty where all is well.

    Raises:
        RunNotFoundError: no such run.
        AmbiguousRunError: the reference fits several runs.
    """
    runs_dir, liveness = Path(runs_dir), liveness or ThisHost()
    run_dirs = {path.name: path for path in list_run_dirs(runs_dir)}
    if reference is not None:
        run_id = _resolve(runs_dir, reference, run_dirs, liveness)
        run_dirs = {run_id: run_dirs[run_id]}
    findings: list[Finding] = []
    with _stored_records(runs_dir, findings) as stored:
        for run_dir in run_dirs.values():
            findings += verify_run(run_dir, liveness=liveness, stored=stored)
        if reference is None:
            findings += stored.strangers(run_dirs)
    return findings


def verify_run(run_dir: Path, *, liveness: Liveness, stored: StoredRecords | None = None) -> list[Finding]:
    """Check one run directory, and the ledger's rows of it where `stored` gives them."""
    run_id = run_dir.name
    try:
        facts = read_run(run_dir, liveness=liveness)
        record = account_run(facts)
    except (StillwattError, OSError, ValueError) as err:
        return [Finding(severity=Severity.ERROR, code="unreadable", where=run_id, message=str(err))]
    findings = [
        *_manifest_findings(facts),
        *_journal_findings(run_dir),
        *(found for session in facts.sessions for found in _session_findings(facts, session)),
        *_orphan_segments(run_dir, facts),
        *conservation_findings(record),
    ]
    if stored is not None:
        findings += stored.compare(record, is_live=facts.is_live)
    return findings


def _resolve(runs_dir: Path, reference: str, run_dirs: Mapping[str, Path], liveness: Liveness) -> str:
    """The id meant; a directory that cannot be posted can still be named by its id."""
    if reference in run_dirs:
        return reference
    with LedgerStore(runs_dir, read_only=True, liveness=liveness) as store:
        store.refresh()
        run_id = store.resolve(reference)
    if run_id not in run_dirs:
        raise RunNotFoundError(reference, str(runs_dir), run_dirs)
    return run_id


def _manifest_findings(facts: RunFacts) -> Iterator[Finding]:
    manifest = facts.manifest
    if settings_hash(manifest["settings"]) != manifest["settings_sha256"]:
        yield Finding(
            severity=Severity.ERROR,
            code="settings-hash",
            where=f"{facts.run_id}/manifest.json",
            message="the settings do not have the hash written beside them; they were changed after the run began",
        )
    for warning in facts.warnings:
        yield Finding(severity=Severity.WARNING, code="run-directory", where=facts.run_id, message=warning)


def _journal_findings(run_dir: Path) -> Iterator[Finding]:
    for path in (*program_journals(run_dir), *meter_journals(run_dir)):
        where = f"{run_dir.name}/{path.name}"
        journal = read_journal(path)
        if journal.torn_bytes:
            message = f"the last line was torn off ({journal.torn_bytes} bytes), as by a kill or a power loss"
            yield Finding(severity=Severity.WARNING, code="torn-line", where=where, message=message)
        for problem in journal.problems:
            yield Finding(severity=Severity.ERROR, code="bad-line", where=where, message=problem)
        for problem in parse_events(journal.events)[1]:
            yield Finding(severity=Severity.ERROR, code="bad-event", where=where, message=problem)


def _session_findings(facts: RunFacts, session: SessionFacts) -> Iterator[Finding]:
    where = f"{facts.run_id}/{session.session}"
    if not session.has_sampler and session.status is not StageStatus.RUNNING:
        message = "no sampling process wrote to this session; its energy is not known"
        yield Finding(severity=Severity.ERROR, code="no-sampler", where=where, message=message)
    if session.status is StageStatus.RECOVERED:
        message = "the measured program was lost; the session ends at its last sign of life"
        yield Finding(severity=Severity.WARNING, code="session-lost", where=where, message=message)
    if session.is_sampler_lost:
        message = "the sampling process was lost; there are no samples after its last flush"
        yield Finding(severity=Severity.WARNING, code="sampler-lost", where=where, message=message)
    yield from _stage_findings(where, session)
    yield from _segment_findings(where, session)
    if session.lost_samples:
        message = f"{session.lost_samples} samples that the sampling process took are not here"
        yield Finding(severity=Severity.ERROR, code="samples-short", where=where, message=message)


def _stage_findings(where: str, session: SessionFacts) -> Iterator[Finding]:
    known = {stage.stage_id for stage in session.stages}
    for stage in session.stages:
        here = f"{where}/{stage.stage_id}"
        if stage.status is StageStatus.RECOVERED:
            message = f"stage {stage.name!r} was cut off; its end is the last sign of life"
            yield Finding(severity=Severity.INFO, code="stage-recovered", where=here, message=message)
        if stage.parent_id is not None and stage.parent_id not in known:
            message = f"stage {stage.name!r} lies in stage {stage.parent_id}, which is not in the journal"
            yield Finding(severity=Severity.ERROR, code="orphan-stage", where=here, message=message)


def _segment_findings(where: str, session: SessionFacts) -> Iterator[Finding]:
    for stream, segment in session.segments.items():
        here = f"{where}/{stream}"
        if segment.problem is not None:
            yield Finding(severity=Severity.ERROR, code="segment-unreadable", where=here, message=segment.problem)
        elif not segment.t_ns.size:
            message = "no sample was stored"
            yield Finding(severity=Severity.WARNING, code="no-samples", where=here, message=message)
        if segment.torn_bytes:
            message = f"{segment.torn_bytes} torn bytes at the end of the segment are left out"
            yield Finding(severity=Severity.WARNING, code="torn-segment", where=here, message=message)
        if segment.damaged:
            message = f"{segment.damaged} records do not fit their checksum and are left out; they were changed"
            yield Finding(severity=Severity.ERROR, code="damaged-segment", where=here, message=message)
        if segment.dropped:
            message = f"{segment.dropped} records with a repeated time or no finite count are left out"
            yield Finding(severity=Severity.WARNING, code="dropped-records", where=here, message=message)
    for stream in dict.fromkeys(gap.stream for gap in session.gaps):
        count = sum(gap.stream == stream for gap in session.gaps)
        message = f"{count} spans without readings"
        yield Finding(severity=Severity.INFO, code="gaps", where=f"{where}/{stream}", message=message)


def _orphan_segments(run_dir: Path, facts: RunFacts) -> Iterator[Finding]:
    known = {f"{session.session}.{stream}" for session in facts.sessions for stream in session.channels}
    for stem in stored_streams(run_dir).keys() - known:
        message = "samples of a stream that no journal describes; they are in no number"
        where = f"{facts.run_id}/{SAMPLES_DIR}/{stem}"
        yield Finding(severity=Severity.ERROR, code="orphan-segment", where=where, message=message)
    if facts.is_live:
        return
    for path in sorted((run_dir / SAMPLES_DIR).glob(".*.tmp")):
        message = "left behind by a sealing that was cut short; may be deleted"
        where = f"{facts.run_id}/{SAMPLES_DIR}/{path.name}"
        yield Finding(severity=Severity.INFO, code="leftover", where=where, message=message)


class StoredRecords:
    """The ledger's rows as they are, to be compared with what the directories give."""

    def __init__(self, path: Path, database: sqlite3.Connection | None) -> None:
        self._path = path
        self._database = database

    def __enter__(self) -> StoredRecords:
        return self

    def __exit__(self, *_: object) -> None:
        if self._database is not None:
            self._database.close()

    def compare(self, record: RunRecord, *, is_live: bool) -> list[Finding]:
        """What the ledger has otherwise than the run directory; a run not posted yet is no fault."""
        if self._database is None or is_live:
            return []
        try:
            stored = load_run(self._database, record.run_id)
        except (LedgerError, sqlite3.Error, ValueError, TypeError) as err:
            return [self._finding(Severity.ERROR, "ledger-row", record.run_id, str(err))]
        except LookupError as err:  # a column's name was changed with the rest of its page
            return [self._finding(Severity.ERROR, "ledger-row", record.run_id, f"a table lacks its column {err}")]
        if stored is None:
            return [self._finding(Severity.INFO, "not-posted", record.run_id, "not in the ledger yet")]
        differing = [name for name in record.__slots__ if getattr(stored, name) != getattr(record, name)]
        if not differing:
            return []
        message = f"the ledger differs from the run directory in {', '.join(differing)}; run `stillwatt ledger rebuild`"
        return [self._finding(Severity.ERROR, "ledger-differs", record.run_id, message)]

    def strangers(self, run_dirs: Mapping[str, Path]) -> list[Finding]:
        """Runs of the ledger that have no directory."""
        if self._database is None:
            return []
        try:
            known = [row[0] for row in self._database.execute("SELECT run_id FROM runs ORDER BY run_id").fetchall()]
        except (sqlite3.Error, UnicodeDecodeError) as err:
            return [self._finding(Severity.ERROR, "ledger-row", "", str(err))]
        message = "the ledger holds a run whose directory is gone; the next look drops it"
        return [
            self._finding(Severity.WARNING, "no-directory", run_id, message)
            for run_id in known
            if run_id not in run_dirs
        ]

    def _finding(self, severity: Severity, code: str, run_id: str, message: str) -> Finding:
        return Finding(severity=severity, code=code, where=f"{self._path.name}/{run_id}", message=message)


def _stored_records(runs_dir: Path, findings: list[Finding]) -> StoredRecords:
    """The ledger opened to read; without one, or with one of another version, there is nothing to compare."""
    path = runs_dir / LEDGER_FILE
    if not path.is_file():
        return StoredRecords(path, None)
    try:
        database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=schema.BUSY_TIMEOUT_S)
        try:
            version = database.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.Error:
            database.close()
            raise
    except sqlite3.Error as err:
        message = f"the ledger cannot be read ({err}); it is an index and is made again when it is next used"
        findings.append(Finding(severity=Severity.ERROR, code="ledger-unreadable", where=path.name, message=message))
        return StoredRecords(path, None)
    if version != schema.SCHEMA_VERSION:
        database.close()
        message = f"the ledger is of version {version}, this program of {schema.SCHEMA_VERSION}; it is made again"
        findings.append(Finding(severity=Severity.WARNING, code="ledger-version", where=path.name, message=message))
        return StoredRecords(path, None)
    return StoredRecords(path, database)
