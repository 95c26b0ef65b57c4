"""What an error of SQLite's means to whoever asked for the ledger: what cannot be done, why, and what to do."""

from __future__ import annotations

import resource
import shutil
import sqlite3
from contextlib import suppress
from pathlib import Path

from stillwatt.errors import LedgerError

_LEAST_FREE = 1 << 16
"""Bytes below which a disk is full to a database that grows by pages."""


def ledger_fault(path: Path, err: Exception) -> LedgerError:
    """The error to raise for one that came of the ledger's file."""
    name = getattr(err, "sqlite_errorname", "")
    if _is_full(path, err, name):
        return LedgerError(
            f"{path.parent}: the disk is full, so nothing could be entered in {path.name}; what was measured and "
            "written until then is kept in the runs' own directories: make room, and the next `stillwatt ledger list` "
            "with these --runs enters it"
        )
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return LedgerError(
            f"{path} is held by another program ({err}); nothing was changed: try again when it has ended"
        )
    if name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN")):
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        why = (
            "" if limit == resource.RLIM_INFINITY else f"; no file may be larger than {limit} bytes here (`ulimit -f`)"
        )
        return LedgerError(
            f"{path} cannot be read or written ({err}{why}); what was measured is kept in the runs' own directories, "
            "and the next `stillwatt ledger list` with these --runs enters it where that can be done"
        )
    return LedgerError(f"{path}: {err}; it is an index and may be deleted, it will be made again")


def _is_full(path: Path, err: Exception, name: str) -> bool:
    """Whether it is the disk that is full: SQLite says so of its pages, and not of files that it cannot make."""
    if name == "SQLITE_FULL":
        return True
    with suppress(OSError):
        return isinstance(err, sqlite3.OperationalError) and shutil.disk_usage(path.parent).free < _LEAST_FREE
    return False
