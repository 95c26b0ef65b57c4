"""The tables of `ledger.sqlite`: an index over run directories that SQL users may query.

Energies are in joules, lengths in seconds; a NULL number always stands beside a reason. The journal mode is
SQLite's default and not WAL, which needs shared memory that network disks do not have.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from stillwatt.errors import LedgerError

SCHEMA_VERSION = 5
"""Stored as `user_version`; a ledger of another version is made again from the run directories."""

BUSY_TIMEOUT_S = 30.0
"""How long to wait while another process posts."""

TABLES = (
    "runs",
    "stages",
    "workload",
    "labels",
    "results",
    "energies",
    "totals",
    "meter",
    "probes",
    "warnings",
    "spans",
    "traces",
    "trace_points",
)
"""The tables that follow from the run directories alone.

`posted` remembers when to look again, and what was written, so that rows changed since are noticed.
"""

_OF_RUN = "run_id TEXT NOT NULL REFERENCES runs(run_id) ON DELETE CASCADE"
_OF_STAGE = (
    f"{_OF_RUN}, stage_id TEXT NOT NULL, ordinal INTEGER NOT NULL,"
    " FOREIGN KEY (run_id, stage_id) REFERENCES stages(run_id, stage_id) ON DELETE CASCADE"
)

DDL = f"""
CREATE TABLE runs (
  run_id TEXT PRIMARY KEY, name TEXT NOT NULL, status TEXT NOT NULL, start_utc TEXT NOT NULL,
  duration_s REAL NOT NULL, complete INTEGER NOT NULL CHECK (complete IN (0, 1)), gaps INTEGER NOT NULL,
  settings TEXT NOT NULL CHECK (json_valid(settings)), settings_sha256 TEXT NOT NULL,
  environment TEXT NOT NULL CHECK (json_valid(environment))
) STRICT;
CREATE INDEX runs_by_name ON runs(name, start_utc);
CREATE TABLE stages (
  {_OF_RUN}, ordinal INTEGER NOT NULL, stage_id TEXT NOT NULL, parent_id TEXT, name TEXT NOT NULL,
  kind TEXT NOT NULL, attempt INTEGER NOT NULL, status TEXT NOT NULL, start_utc TEXT NOT NULL,
  duration_s REAL NOT NULL, PRIMARY KEY (run_id, stage_id)
) STRICT;
CREATE TABLE workload (
  name TEXT NOT NULL, amount ANY NOT NULL, {_OF_STAGE}
) STRICT;
CREATE TABLE labels (
  name TEXT NOT NULL, label TEXT NOT NULL, {_OF_STAGE}
) STRICT;
CREATE TABLE results (
  name TEXT NOT NULL, value TEXT NOT NULL CHECK (json_valid(value)), {_OF_STAGE}
) STRICT;
CREATE TABLE energies (
  part TEXT NOT NULL, boundary TEXT NOT NULL, device TEXT, value_j REAL, low_j REAL, high_j REAL, random_j REAL,
  systematic_low_j REAL, systematic_high_j REAL, basis TEXT, method TEXT, coverage REAL, failed_reads INTEGER,
  estimated_j REAL, missing_s REAL, driver TEXT, source TEXT, flags TEXT, placing_j REAL,
  in_step_cos_j REAL, in_step_sin_j REAL, absent_reason TEXT,
  {_OF_STAGE}, CHECK ((value_j IS NULL) = (absent_reason IS NOT NULL))
) STRICT;
CREATE TABLE totals (
  {_OF_RUN}, scope TEXT NOT NULL CHECK (scope IN ('run', 'unallocated', 'gross', 'net')),
  stage_id TEXT, value_j REAL, low_j REAL, high_j REAL, basis TEXT, complete INTEGER, boundary TEXT,
  absent TEXT, share_by_basis TEXT, absent_reason TEXT,
  CHECK ((value_j IS NULL) = (absent_reason IS NOT NULL)),
  CHECK ((stage_id IS NULL) = (scope IN ('run', 'unallocated')))
) STRICT;
CREATE TABLE meter ({_OF_RUN}, ordinal INTEGER NOT NULL, name TEXT NOT NULL, amount ANY NOT NULL) STRICT;
CREATE TABLE probes (
  {_OF_RUN}, ordinal INTEGER NOT NULL, driver TEXT NOT NULL, usable INTEGER NOT NULL, detail TEXT NOT NULL,
  cure TEXT NOT NULL
) STRICT;
CREATE TABLE warnings ({_OF_RUN}, ordinal INTEGER NOT NULL, message TEXT NOT NULL) STRICT;
CREATE TABLE spans (
  {_OF_RUN}, ordinal INTEGER NOT NULL, stage_id TEXT NOT NULL, session TEXT NOT NULL, start_s REAL NOT NULL,
  end_s REAL NOT NULL
) STRICT;
CREATE TABLE traces ({_OF_RUN}, trace INTEGER NOT NULL, session TEXT NOT NULL, part TEXT NOT NULL) STRICT;
CREATE TABLE trace_points (
  {_OF_RUN}, trace INTEGER NOT NULL, ordinal INTEGER NOT NULL, t_s REAL NOT NULL, mean_w REAL NOT NULL,
  low_w REAL NOT NULL, high_w REAL NOT NULL
) STRICT;
CREATE TABLE posted (
  run_id TEXT PRIMARY KEY, signature TEXT NOT NULL, fingerprint TEXT NOT NULL, is_live INTEGER NOT NULL,
  line_digest TEXT NOT NULL, record_digest TEXT NOT NULL
) STRICT;
{"".join(f"CREATE INDEX {table}_of_run ON {table}(run_id);" for table in TABLES[2:])}
"""


def connect(path: Path | None) -> sqlite3.Connection:
    """Open the ledger with its tables in place, or one in memory where `path` is None.

    Raises:
        sqlite3.Error: the file cannot be opened, is no database, or is locked for longer than the busy timeout.
    """
    target = ":memory:" if path is None else str(path)
    # a server reads from several threads, one after the other: the caller holds a lock
    database = sqlite3.connect(target, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA foreign_keys = ON")
        if _version(database) != SCHEMA_VERSION:
            _make_tables(database)
    except BaseException:
        database.close()
        raise
    return database


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def _make_tables(database: sqlite3.Connection) -> None:
    """Make the tables in one transaction, dropping those of another version."""
    database.execute("BEGIN IMMEDIATE")
    try:
        if _version(database) != SCHEMA_VERSION:  # another process may have made them while we waited
            for (table,) in _own_tables(database):
                database.execute(f'DROP TABLE "{table}"')
            for statement in DDL.split(";"):
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:  # SQLite itself ends one whose pages it cannot write
            database.execute("ROLLBACK")
        raise


def _own_tables(database: sqlite3.Connection) -> list[tuple[str]]:
    """This ledger's tables, children before what they refer to.

    Raises:
        LedgerError: the file holds tables that no version of the ledger made, so it is somebody's own database.
    """
    rows: list[tuple[str]] = database.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid DESC"
    ).fetchall()
    names = {name for (name,) in rows}
    if names and not {"runs", "posted"} <= names:
        raise LedgerError(f"ledger.sqlite holds other tables ({', '.join(sorted(names))}); move that file away")
    return rows
