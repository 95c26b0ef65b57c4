"""The files below what somebody asked to import: found, hashed and decoded once, each under a name that is no path.

Links are followed once each, so that a circle of them ends; names are relative to what was asked for.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from stillwatt.errors import ConfigError, NoSuchInputError
from stillwatt.importers.model import LeftOut, SourceFile
from stillwatt.ledger.rundir import one_line

MAX_BYTES = 1 << 28
"""A log larger than 256 MiB is no log of these tools; it would not fit into memory several times over."""
MAX_FILES = 20_000
SUFFIXES = (".csv", ".json", ".log", ".txt", ".tsv", ".bak")


_STAGES = ".stages.csv"
"""How a file of stages ends that lies beside a log of power."""


@dataclass(frozen=True, eq=False)
class LogFile:
    """One file as it was found; read and hashed at the first look.

    Raises:
        OSError: from `data`, where it cannot be read.
    """

    path: Path
    name: str
    """Relative to what was asked for, on one line; never absolute, never with `..`."""
    is_named: bool
    """Whether it was asked for by its own name, and not found in a folder."""

    @cached_property
    def data(self) -> bytes:
        """The file's bytes."""
        return self.path.read_bytes()

    @cached_property
    def text(self) -> str:
        """The file as text; UTF-8 with or without a mark, or UTF-16 with one.

        Raises:
            ConfigError: it is neither; names the line.
        """
        encoding = "utf-16" if self.data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        try:
            text = self.data.decode(encoding)
        except UnicodeDecodeError as err:
            line = self.data[: err.start].count(b"\n") + 1
            raise self.wrong(f"not {encoding} text ({err.reason}); save it as UTF-8 and import it again", line) from err
        if "\x00" in text:
            raise self.wrong("it holds bytes of no text; is it a log?", text[: text.index("\x00")].count("\n") + 1)
        return text

    @cached_property
    def source(self) -> SourceFile:
        """Name and hash, for the manifest."""
        return SourceFile(name=self.name, sha256=hashlib.sha256(self.data).hexdigest(), num_bytes=len(self.data))

    def json_object(self) -> dict[str, Any]:
        """The file as one JSON object.

        Raises:
            ConfigError: it is not one; names the line.
        """
        try:
            value = json.loads(self.text, parse_float=_finite, parse_int=_whole, parse_constant=_refuse)
        except json.JSONDecodeError as err:
            cure = "was it cut off? take a whole copy of it"
            raise self.wrong(f"not JSON ({err.msg}); {cure}", err.lineno) from err
        except _UnusableNumberError as err:
            line = self.text[: self.text.find(err.text)].count("\n") + 1
            raise self.wrong(f"not JSON that can be used ({err})", line) from err
        except (ValueError, RecursionError) as err:
            raise self.wrong(f"not JSON that can be used ({err})", 1) from err
        if not isinstance(value, dict):
            raise self.wrong(f"a JSON {type(value).__name__}, not an object", 1)
        return value

    def wrong(self, what: str, line: int | None = None) -> ConfigError:
        """An error about this file."""
        return ConfigError(self.name, what, line=line)


def left_with(file: LogFile, error: ConfigError) -> LeftOut:
    """A file that is left out since it cannot be read, with the error's line and words."""
    return LeftOut(name=file.name, line=error.line, reason=str(error).partition(": ")[2])


def take_in(paths: Sequence[str | Path]) -> tuple[list[LogFile], list[LeftOut]]:
    """All files at and below some paths, in an order that does not depend on how they were given.

    Raises:
        NoSuchInputError: one of the paths does not exist.
        ConfigError: there are more files than any log folder has.
    """
    files: dict[Path, LogFile] = {}
    left_out: list[LeftOut] = []
    for given in sorted({Path(path) for path in paths}, key=lambda path: str(path.absolute())):
        if not given.exists():
            raise NoSuchInputError("a log or a folder of logs", str(given), "check the path")
        for file, reason in _below(given):
            if reason:
                left_out.append(LeftOut(name=file.name, reason=reason))
                continue
            real = file.path.resolve()
            if real not in files or (file.is_named and not files[real].is_named):
                files[real] = file
            if len(files) > MAX_FILES:
                raise ConfigError(str(given), f"more than {MAX_FILES} files; name the folder of the logs themselves")
    return sorted(files.values(), key=lambda file: (file.name, str(file.path))), left_out


def _below(given: Path) -> Iterator[tuple[LogFile, str]]:
    """Files with the reason to leave them out, or none."""
    if not given.is_dir():
        yield _look(given, one_line(given.name), is_named=True)
        stages = given.with_suffix(_STAGES)
        if stages != given and stages.is_file():
            yield _look(stages, one_line(stages.name), is_named=False)
        return
    top = given.resolve()
    seen: set[Path] = set()
    for folder, folders, names in os.walk(given, followlinks=True):
        real = Path(folder).resolve()
        if real in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder) / name
            shown = one_line((Path(top.name) / path.relative_to(given)).as_posix())
            yield _look(path, shown, is_named=False)


def _look(path: Path, name: str, *, is_named: bool) -> tuple[LogFile, str]:
    file = LogFile(path=path, name=name, is_named=is_named)
    if not path.is_file():
        return file, "not a file (a link to nothing, a device or a pipe)"
    size = path.stat().st_size
    if size == 0:
        return file, "empty"
    if size > MAX_BYTES:
        return file, f"{size} bytes, more than any log of these tools"
    if not is_named and not path.name.endswith(SUFFIXES):
        return file, f"its name ends in none of {', '.join(SUFFIXES)}"
    return file, ""


class _UnusableNumberError(ValueError):
    """A number of a JSON file that is none; keeps how it was written, by which its line is found."""

    def __init__(self, text: str, what: str) -> None:
        self.text = text
        super().__init__(f"{text[:20]}{'…' if len(text) > 20 else ''} {what}")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _UnusableNumberError(text, "is too large for a number")
    return number


def _whole(text: str) -> int:
    _finite(text)  # digits beyond a float's range also lie beyond what int() reads
    return int(text)


def _refuse(name: str) -> float:
    raise _UnusableNumberError(name, "is not JSON")
