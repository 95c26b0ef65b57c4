"""Files that a command writes: whole or not at all, with the same ends of lines everywhere, over nothing unasked."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from stillwatt.errors import ConfigError, FileExistsAlreadyError, StillwattError


def shown(path: str | Path) -> str:
    r"""A path as a text that any file can hold: bytes of it that are not UTF-8 are spelt out.

    >>> shown("runs"), shown(os.fsdecode(b"caf\xe9/runs"))
    ('runs', 'caf\\xe9/runs')
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def refuse_taken(path: Path, *, is_forced: bool, is_folder: bool = False, option: str = "-o") -> None:
    """Let nothing be written over that is there.

    Args:
        path: where something is to be written.
        is_forced: whether a file that is there is written over.
        is_folder: whether what is to be written is a folder of files.
        option: what the path was given with.

    Raises:
        ConfigError: a folder stands where a file is to be, or a file where a folder is to be.
        FileExistsAlreadyError: something is there already.
    """
    if path.is_dir() and not is_folder:
        raise ConfigError(option, f"{path} is a folder and was left as it is; name a file, e.g. {path / 'report.json'}")
    if path.is_file() and is_folder:
        raise ConfigError(
            option, f"{path} is a file and was left as it is; name a folder that is to hold several files"
        )
    if (path.is_file() or path.is_dir()) and not is_forced:  # into a pipe or `/dev/stdout` nothing is written over
        raise FileExistsAlreadyError(str(path), f"give another {option}, or --force")


def write_whole(path: Path, text: str) -> None:
    """A text with the ends of lines that it has, and its folders; an earlier file stays until the new one is whole.

    Raises:
        StillwattError: It cannot be written.
    """
    try:
        _write_whole(path, text)
    except OSError as err:
        raise StillwattError(f"nothing can be written to {path}: {err.strerror or err}") from err


def _write_whole(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():
        with path.open("w", encoding="utf-8", newline="") as stream:
            stream.write(text)
        return
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as stream:
            stream.write(text)
        part.replace(path)
    except OSError:
        with suppress(OSError):  # a disk that takes nothing gives nothing up either
            part.unlink(missing_ok=True)
        raise
