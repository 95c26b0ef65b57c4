"""Readings of a judge that is a server, on disk as they come: a line each, so that a kill loses none that was paid for.

Refusals are kept only once somebody was answered after them: many in a row are the request's fault, or that of credit
that is spent, and who mends it asks them anew.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from stillwatt.errors import StillwattError
from stillwatt.pipelines.artifacts import canonical_json
from stillwatt.pipelines.judge_scores import NoReading, Reading

__all__ = ["KeptReadings", "reading_key"]

_FEW = 4
"""Fewer refusals with no answer beside them may be the prompts' fault."""


def reading_key(identity: Mapping[str, Any], number: int, prompt: str) -> str:
    """What a reading is found by: who was asked, how, what, and which of the prompts it is."""
    return hashlib.sha256(canonical_json([dict(identity), number, prompt]).encode("utf-8")).hexdigest()


class KeptReadings:
    """A file of readings that is added to; may be told of answers by several threads at once.

    Args:
        path: The file; nothing is kept where None.
        count: How many prompts there are.
    """

    def __init__(self, path: Path | None, count: int) -> None:
        self._path, self._count = path, count
        self._lock = threading.Lock()
        self._file: IO[str] | None = None
        self._found: dict[str, Reading | NoReading] = {}
        self._held: dict[str, NoReading] = {}
        """Refusals since the last answer."""
        self._why = ""

    def __enter__(self) -> Self:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            whole = _whole_lines(self._path)
            self._found = dict(_from_lines(self._path, whole))
            self._file = self._path.open("a", encoding="utf-8")
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _err: BaseException | None, _at: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def __contains__(self, key: str) -> bool:
        return key in self._found

    def __getitem__(self, key: str) -> Reading | NoReading:
        return self._found[key]

    def keep(self, key: str, reading: Reading | NoReading) -> None:
        """An answer; what was refused before it is kept with it."""
        with self._lock:
            for each, refused in {**self._held, key: reading}.items():
                self._write(each, refused)
            self._held = {}

    def refuse(self, key: str, reading: NoReading, why: str) -> None:
        """A prompt that the server will not judge."""
        with self._lock:
            self._held[key], self._why = reading, why

    def check(self) -> None:
        """Refuse to go on where nobody was answered so far and as many were refused as cannot be chance.

        Raises:
            StillwattError: With the server's words.
        """
        if not self._found and len(self._held) >= min(_FEW, self._count):
            raise StillwattError(
                f"every one of the first {len(self._held)} prompts to the judge was refused, so that the request is "
                f"wrong and not a prompt: {self._why}"
            )

    def check_end(self) -> None:
        """Keep the last refusals, unless there are as many as cannot be chance.

        Raises:
            StillwattError: The same command asks these again, and them alone.
        """
        if len(self._held) >= _FEW:
            raise StillwattError(
                f"the last {len(self._held)} prompts to the judge were all refused: {self._why}; run the recipe again "
                "when that is mended, what was answered is kept"
            )
        with self._lock:
            for key, reading in self._held.items():
                self._write(key, reading)
            self._held = {}

    def _write(self, key: str, reading: Reading | NoReading) -> None:
        self._found[key] = reading
        if self._file is not None:
            self._file.write(f"{_to_line(key, reading)}\n")
            self._file.flush()


def _to_line(key: str, reading: Reading | NoReading) -> str:
    told: dict[str, Any]
    if isinstance(reading, NoReading):
        told = {"why": reading.why, "said": reading.said}
    else:
        told = {"shares": list(reading.shares), "mass": reading.mass, "is_cut_off": reading.is_cut_off}
    return json.dumps({"key": key, **told}, allow_nan=False)


def _from_lines(path: Path, lines: Sequence[bytes]) -> Iterator[tuple[str, Reading | NoReading]]:
    for number, line in enumerate(lines, start=1):
        try:
            yield _from_line(line.decode("utf-8"))
        except (ValueError, RecursionError, KeyError, TypeError, StillwattError) as err:
            raise StillwattError(
                f"{path}:{number}: this line is no reading of the judge's that was kept ({err or type(err).__name__}); "
                "remove it, and the same command asks the judge that question again and keeps all others"
            ) from err


def _from_line(line: str) -> tuple[str, Reading | NoReading]:
    told = json.loads(line)
    if "why" in told:
        return told["key"], NoReading(why=told["why"], said=told["said"])
    shares, mass, is_cut_off = tuple(told["shares"]), told["mass"], told["is_cut_off"]
    return told["key"], Reading(shares=shares, mass=mass, tokens=0, is_cut_off=is_cut_off)


def _whole_lines(path: Path) -> list[bytes]:
    """The file's lines; a last one that a kill cut off is cut away, so that the next begins a line of its own."""
    if not path.exists():
        return []
    data = path.read_bytes()
    whole, _, torn = data.rpartition(b"\n")
    if torn:
        with path.open("r+b") as file:
            file.truncate(len(data) - len(torn))
    return whole.split(b"\n") if whole else []
