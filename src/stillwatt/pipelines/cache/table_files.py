"""Which files of a folder are a table; `datasets` leaves others of its own beside them."""

from __future__ import annotations

import json
from pathlib import Path

from stillwatt.errors import NoSuchInputError, UsageError

__all__ = ["table_files"]

_STATE = "state.json"
"""Where `datasets` says which files a folder's table is in, in their order."""
_NOT_ROWS = ("cache-*.arrow", "tmp*")
"""What it leaves there when somebody works on the table: the same rows once more, or some of them."""


def table_files(path: Path) -> list[Path]:
    """Arrow and Parquet files of a folder's table, in the order of its rows, or the one file that is given.

    Raises:
        NoSuchInputError: There is no such folder or file, or no table in it.
        UsageError: The folder holds several tables, or lacks a file that it says is part of its table.
    """
    if path.is_file():
        return [path]
    found = sorted(each for each in path.rglob("*") if each.suffix in (".arrow", ".parquet"))
    folders = list(dict.fromkeys(each.parent for each in found))
    if len(folders) > 1:
        splits = ", ".join(sorted(str(folder.relative_to(path)) for folder in folders))
        raise UsageError(f"{path}: holds several tables ({splits}); give one of them")
    rows = [] if not folders else _said(folders[0]) or [each for each in found if not _is_left(each)]
    if not rows:
        raise NoSuchInputError("a logit cache", str(path), "give a cache's folder, or Arrow or Parquet files")
    return rows


def _is_left(file: Path) -> bool:
    return any(file.match(pattern) for pattern in _NOT_ROWS)


def _said(folder: Path) -> list[Path]:
    """The files that `datasets` says hold the folder's table; none where it says nothing."""
    try:
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        names = [Path(str(file["filename"])).name for file in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    files = [folder / name for name in names]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise UsageError(f"{folder}: its {_STATE} names {missing[0]}, which is not there; copy the whole folder again")
    return files
