"""Answers of an OpenAI client that are taken raw: the server's response, of which a program reads what it likes.

A body that is here is read for its usage at once. One that is streamed is counted when the program has it parsed, or
when it lets the answer go.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from stillwatt.integrations.usage import UsageCounter, read_usage
from stillwatt.metering.measured import StageLike

NOT_SAID = "the server's answer has no usage"
_RAW = "the answer was taken raw, and its body was not read as a whole"
_Take = Callable[[Any, UsageCounter, StageLike | None], Any]


def count_raw(answer: Any, counter: UsageCounter, stage: StageLike | None, *, take: _Take) -> None:
    """Count what an answer's response says, now or later.

    Args:
        answer: Has `http_response`, and `parse` that makes of it what is asked for.
        counter: Where to count.
        stage: The stage that asked.
        take: Counts what was parsed, and gives what stands for it.
    """
    response = getattr(answer, "http_response", None)
    if getattr(response, "is_closed", True) or not callable(getattr(answer, "parse", None)):
        _count_body(response, counter, stage)
        return
    answer._stillwatt = _Pending(response, counter, stage, take)
    # methods of its class, and not its own: those would hold it, so that nobody would know when it is let go
    kind: Any = type(answer)
    answer.__class__ = _counting(kind)


class _Pending:
    """A response whose body is not here yet; counted once."""

    def __init__(self, response: Any, counter: UsageCounter, stage: StageLike | None, take: _Take) -> None:
        self._response, self._counter, self._stage, self._take = response, counter, stage, take
        self._is_counted = False
        self._parsed: tuple[Any, Any] | None = None

    def take(self, found: Any) -> Any:
        """What was parsed, counted the first time; a stream that is given again is the one that was given first."""
        if not self._is_counted:
            self._is_counted = True
            self._parsed = found, self._take(found, self._counter, self._stage)
        return self._parsed[1] if self._parsed and self._parsed[0] is found else found

    def leave(self) -> None:
        """Nobody will ask for it any more."""
        if not self._is_counted:
            self._is_counted = True
            _count_body(self._response, self._counter, self._stage)


@functools.cache
def _counting(kind: Any) -> Any:
    """The answer's class, with methods that count; it goes by the same name."""

    def parse(self: Any, *args: Any, **kwargs: Any) -> Any:
        found, pending = kind.parse(self, *args, **kwargs), self._stillwatt
        if not inspect.isawaitable(found):
            return pending.take(found)

        async def awaited() -> Any:
            return pending.take(await found)

        return awaited()

    def close(self: Any, *args: Any, **kwargs: Any) -> Any:
        self._stillwatt.leave()
        return kind.close(self, *args, **kwargs)

    def __del__(self: Any) -> None:
        self._stillwatt.leave()

    methods = {"parse": parse, "__del__": __del__, **({"close": close} if hasattr(kind, "close") else {})}
    return type(kind.__name__, (kind,), {**methods, "__module__": kind.__module__, "__doc__": kind.__doc__})


def _count_body(response: Any, counter: UsageCounter, stage: StageLike | None) -> None:
    """Count what a response's body says, where somebody has read it."""
    try:
        body = response.json() if getattr(response, "is_closed", False) else None
    except (ValueError, RuntimeError):  # no JSON; or it was read piece by piece and is gone
        body = None
    counter.finish(stage, read_usage(body), reason=_RAW if body is None else NOT_SAID)
