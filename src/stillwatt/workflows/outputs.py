"""Files that a command writes: whole or not at all, with the same ends of lines everywhere, over nothing unasked."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from stillwatt.errors import ConfigError, FileExistsAlreadyError, StillwattError
from stillwatt.ledger.rundir import MANIFEST
from stillwatt.ledger.segments_raw import SAMPLES_DIR
from stillwatt.ledger.store import LEDGER_FILE


def shown(path: str | Path) -> str:
    r"""A path as a text that any file can hold: bytes of it that are not UTF-8 are spelt out.

    >>> shown("runs"), shown(os.fsdecode(b"caf\xe9/runs"))
    ('runs', 'caf\\xe9/runs')
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


_EXAMPLES = {"--html": "report.html", "--markdown": "report.md"}
"""A file that an option may name; of any other, JSON."""
_LONGEST_HEAD_BYTES = 65_536


def refuse_taken(
    path: Path,
    *,
    is_forced: bool,
    is_folder: bool = False,
    option: str = "-o",
    inputs: Iterable[str | Path] = (),
    own: str = "",
) -> None:
    """Let nothing be written over that is there, and nothing at all over what a run is known by.

    A page that this program wrote may be renewed by what writes such pages; nobody edits one by hand (decision 0060).

    Args:
        path: where something is to be written.
        is_forced: whether a file that is there is written over.
        is_folder: whether what is to be written is a folder of files.
        option: what the path was given with.
        inputs: what the command reads; never written over.
        own: what tells such a page from all other files: the words that its title ends in, or the contract of its JSON.

    Raises:
        ConfigError: a folder stands where a file is to be, or a file where a folder is to be; the command reads it; or
            it is a run's journal, samples or manifest, or the ledger.
        FileExistsAlreadyError: something is there already.
    """
    if path.is_dir() and not is_folder:
        example = path / _EXAMPLES.get(option, "report.json")
        raise ConfigError(option, f"{path} is a folder and was left as it is; name a file, e.g. {example}")
    if is_folder:
        refuse_no_folder(path, option=option)
    if any(_is_same(path, one) for one in inputs):
        raise ConfigError(option, f"{path} is what the command reads and was left as it is; name another file")
    if _is_record(path):
        raise ConfigError(option, f"{path} is what a run is known by and was left as it is; name another file")
    if is_forced or is_own(path, own):
        return
    if path.is_file() or path.is_dir():  # into a pipe or `/dev/stdout` nothing is written over
        raise FileExistsAlreadyError(str(path), f"give another {option}, or --force")


def refuse_no_folder(path: Path, *, option: str) -> None:
    """Let no file stand where a folder is, or is to be made.

    Raises:
        ConfigError: the path, or a folder above it, is a file.
    """
    for place in (path, *path.parents):
        if place.exists() and not place.is_dir():
            raise ConfigError(
                option, f"{place} is a file and was left as it is; name a folder that is to hold several files"
            )


def is_own(path: Path, mark: str) -> bool:
    """Whether a file is one that this program wrote: a page whose title ends in the mark, or JSON of that contract."""
    if not mark or not path.is_file():  # a pipe would have us wait for whoever writes into it
        return False
    try:
        with path.open("rb") as stream:
            head = stream.read(_LONGEST_HEAD_BYTES)
    except OSError:
        return False
    words = head.lstrip()
    if words.startswith(b"<!doctype html>"):
        return f"{mark}</title>".encode() in words
    return re.match(rb'\{\s*"schema"\s*:\s*"' + re.escape(mark.encode()) + rb'"', words) is not None


def _is_record(path: Path) -> bool:
    """Whether a file that is there is part of a run's truth, or the index over it; reports beside them are not."""
    if not path.is_file():
        return False
    if path.name == LEDGER_FILE:
        return True
    if (path.parent / MANIFEST).is_file():
        return path.name == MANIFEST or path.name.startswith("journal.")
    return path.parent.name == SAMPLES_DIR and (path.parent.parent / MANIFEST).is_file()


def _is_same(path: Path, other: str | Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:  # one of them is not there
        return False


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
