"""Answers of grid services, kept by the hash of what was asked, with the time at which they were given.

A file holds the request without any key, the answer's bytes as text and their sha256; one that does not match is not
used. What is kept is the user's own copy: the services' licences say what may be passed on.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from stillwatt.grids.source import utc_ns
from stillwatt.records.grid import HOUR_NS, Answer

_SCHEMA = "stillwatt.grid-answer/1"
SETTLED_NS = 24 * HOUR_NS
"""Figures of the last day are still being corrected: an answer given earlier than this after its period is asked for
again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An answer and what is known of it."""

    body: bytes
    answer: Answer

    def is_settled(self, end_utc_ns: int) -> bool:
        """Whether it was given long enough after the end of the period that it is for."""
        return utc_ns(self.answer.fetched_utc) >= end_utc_ns + SETTLED_NS


class AnswerStore:
    """A folder of answers.

    Args:
        folder: made when the first answer is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def find(self, request: str) -> Kept | None:
        """The answer to a request; None where there is none, or its file is damaged."""
        try:
            data = json.loads(self._path(request).read_bytes())
            body = data["body"].encode("utf-8")
            answer = Answer(request=data["request"], sha256=data["sha256"], fetched_utc=data["fetched_utc"])
            utc_ns(answer.fetched_utc)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        is_sound = data.get("schema") == _SCHEMA and answer.request == request and _sha256(body) == answer.sha256
        return Kept(body=body, answer=answer) if is_sound else None

    def keep(self, request: str, body: bytes, fetched_utc: str) -> Answer:
        """Keep an answer; one that cannot be written is used all the same."""
        answer = describe(request, body, fetched_utc)
        said = {
            "schema": _SCHEMA,
            "request": request,
            "fetched_utc": fetched_utc,
            "sha256": answer.sha256,
            "body": body.decode("utf-8"),
        }
        path = self._path(request)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(said), encoding="utf-8")
            part.replace(path)
        except OSError:  # a full or read-only disk costs the next run a request, not this one its answer
            with suppress(OSError):
                part.unlink(missing_ok=True)
        return answer

    def _path(self, request: str) -> Path:
        return self.folder / f"{_sha256(request.encode('utf-8'))}.json"


def describe(request: str, body: bytes, fetched_utc: str) -> Answer:
    """What is known of an answer."""
    return Answer(request=request, sha256=_sha256(body), fetched_utc=fetched_utc)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
