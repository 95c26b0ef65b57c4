"""The ledger's one door: posts run directories into SQLite and answers from there with records."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from stillwatt.errors import LedgerError, RunNotFoundError, StillwattError
from stillwatt.ledger import schema
from stillwatt.ledger.fingerprint import data_fingerprint, stat_signature
from stillwatt.ledger.liveness import Liveness, ThisHost
from stillwatt.ledger.post import RunFacts, account_run, read_run
from stillwatt.ledger.references import resolve
from stillwatt.ledger.rows import delete_run, insert_run, load_run, run_total
from stillwatt.ledger.rundir import list_run_dirs
from stillwatt.ledger.segments import seal
from stillwatt.ledger.store_faults import ledger_fault
from stillwatt.records.energy import NoTotal, Total
from stillwatt.records.run import RunRecord
from stillwatt.records.window import StageStatus

LEDGER_FILE = "ledger.sqlite"

_T = TypeVar("_T", bound="RunRecord | RunLine")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLine:
    """One run as a list shows it."""

    run_id: str
    name: str
    status: StageStatus
    start_utc: str
    duration_s: float
    complete: bool
    stages: int
    """How many attempts of stages it holds."""
    warnings: int
    total: Total | NoTotal


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A run directory that could not be posted, or not be sealed, and why."""

    run_id: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """What one look at the run directories changed."""

    posted: tuple[str, ...]
    """Runs that were new or changed, oldest first."""
    removed: tuple[str, ...]
    """Runs that left the ledger, since their directory is gone or cannot be read any more."""
    problems: tuple[Problem, ...]


class LedgerStore:
    """The runs below one directory. Posts on `refresh`; everything else answers from what was posted.

    With `read_only`, and where the directory or the ledger's file cannot be written, the ledger is held in memory:
    nothing is written or sealed, and every answer is the same.

    Example:
        with LedgerStore(Path("runs")) as store:
            store.refresh()
            record = store.get(store.resolve("latest"))
    """

    def __init__(self, runs_dir: Path, *, read_only: bool = False, liveness: Liveness | None = None) -> None:
        """Open the ledger; a file that is no database is set aside, since it can be made again.

        Raises:
            LedgerError: the ledger is locked by another process, or is somebody else's database.
        """
        self.runs_dir = Path(runs_dir)
        self._liveness = liveness or ThisHost()
        self._lock = threading.RLock()
        self.is_in_memory = read_only or not self._is_writable()
        self._database = self._open()

    def __enter__(self) -> LedgerStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; closing twice is no error."""
        with self._lock:
            self._database.close()

    def refresh(self) -> Posted:
        """Post every run directory that is new or has changed, and drop the runs whose directory is gone.

        A directory that cannot be posted is reported and keeps no other from being posted.

        Raises:
            LedgerError: the ledger itself cannot be written.
        """
        posted: list[str] = []
        problems: list[Problem] = []
        failed: set[str] = set()
        with self._lock, self._translated():
            run_dirs = {path.name: path for path in list_run_dirs(self.runs_dir)}
            for run_id, run_dir in run_dirs.items():
                try:
                    if self._post(run_dir, problems):
                        posted.append(run_id)
                except (StillwattError, OSError, ValueError, OverflowError, sqlite3.IntegrityError) as err:
                    failed.add(run_id)
                    problems.append(Problem(run_id=run_id, message=f"{type(err).__name__}: {err}"))
            # rows of a directory that can no longer be read would outlive what they stand for
            removed = self._drop([run_id for run_id in self._run_ids() if run_id not in run_dirs or run_id in failed])
        return Posted(posted=tuple(posted), removed=removed, problems=tuple(problems))

    def rebuild(self) -> Posted:
        """Forget everything and post every run directory again; the rows come out the same.

        Raises:
            LedgerError: the ledger itself cannot be written, or is only held in memory.
        """
        if self.is_in_memory:
            raise LedgerError(
                f"the ledger of {self.runs_dir} cannot be written, and nothing was: every answer comes from the run "
                f"directories as they are; to keep one, let {self.runs_dir / LEDGER_FILE} be written to"
            )
        with self._lock, self._translated():
            with self._transaction():
                for table in ("posted", *reversed(schema.TABLES)):
                    self._database.execute(f"DELETE FROM {table}")
            return self.refresh()

    def runs(self) -> tuple[RunLine, ...]:
        """Every posted run, newest first."""
        with self._lock, self._translated():
            lines = [self._whole(run_id, self._line, "line_digest") for run_id in self._run_ids()]
        return tuple(sorted(lines, key=lambda line: (line.start_utc, line.run_id), reverse=True))

    def resolve(self, reference: str) -> str:
        """The run id meant by an id, `latest`, a name (its latest run) or a unique prefix of an id.

        A path to a run directory means the run of that name, where no run is called like the path itself.

        Raises:
            RunNotFoundError: nothing fits.
            AmbiguousRunError: a prefix fits several runs.
        """
        with self._lock, self._translated():
            known = self._database.execute("SELECT run_id, name FROM runs ORDER BY start_utc DESC, run_id DESC")
            runs: list[tuple[str, str]] = known.fetchall()
        return resolve(reference, runs, str(self.runs_dir))

    def get(self, run_id: str) -> RunRecord:
        """The whole record of a run.

        Raises:
            RunNotFoundError: no such run has been posted.
        """
        with self._lock, self._translated():
            if run_id not in self._run_ids():
                raise RunNotFoundError(run_id, str(self.runs_dir), self._run_ids())
            return self._whole(run_id, self._record, "record_digest")

    def dump(self) -> tuple[tuple[str, tuple[Any, ...]], ...]:
        """Every row that follows from the run directories, as (table, values), in an order of its own making."""
        with self._lock, self._translated():
            return tuple(
                (table, tuple(row))
                for table in schema.TABLES
                for row in sorted(self._database.execute(f"SELECT * FROM {table}").fetchall(), key=repr)
            )

    def _is_writable(self) -> bool:
        """Whether the ledger can be: SQLite opens a file that is not ours to write, and fails with the first row."""
        path = self.runs_dir / LEDGER_FILE
        return self.runs_dir.is_dir() and all(
            os.access(each, os.W_OK) for each in (self.runs_dir, path) if each.exists()
        )

    def _open(self) -> sqlite3.Connection:
        path = self.runs_dir / LEDGER_FILE
        try:
            if self.is_in_memory:
                return self._open_copy(path)
            return self._open_file(path)
        except sqlite3.Error as err:
            raise ledger_fault(path, err) from err

    def _open_file(self, path: Path) -> sqlite3.Connection:
        try:
            return schema.connect(path)
        except sqlite3.OperationalError:  # locked: the file itself may be sound
            raise
        except sqlite3.DatabaseError:
            # not a database, or torn: an index can be made again, and the old file is kept for whoever wonders
            path.replace(path.with_name(f"{LEDGER_FILE}.unreadable"))
            return schema.connect(path)

    def _open_copy(self, path: Path) -> sqlite3.Connection:
        """A ledger in memory, begun from the file where there is a usable one, so that less is to be posted."""
        database = schema.connect(None)
        if not path.is_file():
            return database
        try:
            source = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=schema.BUSY_TIMEOUT_S)
            try:
                if source.execute("PRAGMA user_version").fetchone()[0] == schema.SCHEMA_VERSION:
                    source.backup(database)
            finally:
                source.close()
        except sqlite3.Error:  # unreadable here; everything is posted anew
            database.close()
            return schema.connect(None)
        return database

    def _whole(self, run_id: str, read: Callable[[str], _T], column: str) -> _T:
        """What the rows of a run say, posted anew first where they are not what was posted.

        Raises:
            LedgerError: the rows were changed and the run's directory cannot be posted again.
        """
        query = f"SELECT {column} FROM posted WHERE run_id = ?"
        for _ in range(2):
            with suppress(LedgerError, ValueError, TypeError, LookupError):
                found = read(run_id)
                if (_digest(found),) == self._database.execute(query, (run_id,)).fetchone():
                    return found
            self._post_facts(self.runs_dir / run_id, [])
        raise LedgerError(f"run {run_id}: its rows in {LEDGER_FILE} do not stay as written; delete that file")

    def _record(self, run_id: str) -> RunRecord:
        record = load_run(self._database, run_id)
        if record is None:
            raise LedgerError(f"run {run_id}: its row is gone")
        return record

    def _line(self, run_id: str) -> RunLine:
        query = (
            "SELECT r.run_id, r.name, r.status, r.start_utc, r.duration_s, r.complete,"
            " (SELECT count(*) FROM stages s WHERE s.run_id = r.run_id) AS stages,"
            " (SELECT count(*) FROM warnings w WHERE w.run_id = r.run_id) AS warnings"
            " FROM runs r WHERE r.run_id = ?"
        )
        row = self._database.execute(query, (run_id,)).fetchone()
        return RunLine(
            run_id=row[0],
            name=row[1],
            status=StageStatus(row[2]),
            start_utc=row[3],
            duration_s=row[4],
            complete=bool(row[5]),
            stages=row[6],
            warnings=row[7],
            total=run_total(self._database, row[0]),
        )

    def _post(self, run_dir: Path, problems: list[Problem]) -> bool:
        """Post one run if it is new or changed; whether it was."""
        run_id = run_dir.name
        row = self._database.execute(
            "SELECT signature, fingerprint, is_live FROM posted JOIN runs USING (run_id) WHERE run_id = ?", (run_id,)
        ).fetchone()
        signature = stat_signature(run_dir)
        if row is not None and row[0] == signature and not row[2]:
            return False
        # taken before the files are read: what is appended meanwhile is seen as a change next time
        fingerprint = data_fingerprint(run_dir)
        is_same = row is not None and row[1] == fingerprint and not row[2]
        if is_same:
            self._database.execute("UPDATE posted SET signature = ? WHERE run_id = ?", (signature, run_id))
            return False
        self._post_facts(run_dir, problems, signature=signature, fingerprint=fingerprint)
        return True

    def _post_facts(
        self, run_dir: Path, problems: list[Problem], *, signature: str = "", fingerprint: str = ""
    ) -> None:
        """Read a directory, write its rows and seal its samples; without a fingerprint the next refresh looks again."""
        facts = read_run(run_dir, liveness=self._liveness)
        record = account_run(facts)
        with self._transaction():
            insert_run(self._database, record)
            self._remember(record, signature, fingerprint, is_live=facts.is_live)
        self._seal(run_dir, facts, problems)

    def _remember(self, record: RunRecord, signature: str, fingerprint: str, *, is_live: bool) -> None:
        line = self._line(record.run_id)
        self._database.execute(
            "INSERT OR REPLACE INTO posted VALUES (?, ?, ?, ?, ?, ?)",
            (record.run_id, signature, fingerprint, int(is_live), _digest(line), _digest(record)),
        )

    def _seal(self, run_dir: Path, facts: RunFacts, problems: list[Problem]) -> None:
        if self.is_in_memory:
            return
        for session in facts.sessions:
            if not session.is_sealable:
                continue
            try:
                seal(run_dir, session.session, session.channels)
            except OSError as err:  # the raw file is still there and says the same
                problems.append(Problem(run_id=run_dir.name, message=f"samples were not sealed ({err})"))

    def _drop(self, run_ids: Sequence[str]) -> tuple[str, ...]:
        with self._transaction():
            for run_id in run_ids:
                delete_run(self._database, run_id)
                self._database.execute("DELETE FROM posted WHERE run_id = ?", (run_id,))
        return tuple(run_ids)

    def _run_ids(self) -> list[str]:
        return [row[0] for row in self._database.execute("SELECT run_id FROM runs ORDER BY run_id").fetchall()]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._database.in_transaction:  # a full disk has ended it already
                self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as err:
            raise ledger_fault(self.runs_dir / LEDGER_FILE, err) from err


def _digest(told: RunRecord | RunLine) -> str:
    """SHA-256 of everything a record says; equal for equal ones, to the last bit of each number."""
    # not the record's own repr, which leaves out what is too long to look at
    everything = repr([getattr(told, name) for name in told.__slots__])
    return hashlib.sha256(everything.encode("utf-8", "replace")).hexdigest()
