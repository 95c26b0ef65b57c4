"""Tokens of requests to a language model, counted into the stage that made them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stillwatt.integrations.contained import Contained, contained
from stillwatt.metering.measured import StageLike, SupportsNotes, SupportsStages, Unmeasured, open_run
from stillwatt.metering.meter import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a server says a request took; None where it does not say."""

    prompt_tokens: int | None
    generated_tokens: int | None
    cached_prompt_tokens: int | None = None
    """Of the prompt's tokens, those whose work had been done before."""
    reasoning_tokens: int | None = None
    """Of the generated tokens, those that the answer does not show."""
    all_tokens: int | None = None
    """As the server adds them up; of a request that generates nothing (embeddings) those of the prompt."""

    def counts(self) -> dict[str, float]:
        """Counts for a stage; `tokens` only where both its parts are known, or the server says their sum."""
        names = ("prompt_tokens", "generated_tokens", "cached_prompt_tokens", "reasoning_tokens")
        counts = {name: float(getattr(self, name)) for name in names if getattr(self, name) is not None}
        if self.prompt_tokens is not None and self.generated_tokens is not None:
            counts["tokens"] = counts["prompt_tokens"] + counts["generated_tokens"]
        elif self.all_tokens is not None:
            counts["tokens"] = float(self.all_tokens)
        return {name: int(value) for name, value in counts.items()}


def read_usage(found: Any) -> Usage | None:
    """The usage in an answer of the chat, completions or responses interface; None where there is none.

    >>> read_usage({"usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}).counts()
    {'prompt_tokens': 3, 'generated_tokens': 2, 'tokens': 5}
    """
    usage = _field(found, "usage")
    if usage is None:
        usage = _field(_field(found, "response"), "usage")
    prompt = _first_count(usage, "prompt_tokens", "input_tokens")
    generated = _first_count(usage, "completion_tokens", "output_tokens")
    if prompt is None and generated is None:
        return None
    into = _field(usage, "prompt_tokens_details") or _field(usage, "input_tokens_details")
    out_of = _field(usage, "completion_tokens_details") or _field(usage, "output_tokens_details")
    return Usage(
        prompt_tokens=prompt,
        generated_tokens=generated,
        cached_prompt_tokens=_first_count(into, "cached_tokens"),
        reasoning_tokens=_first_count(out_of, "reasoning_tokens"),
        all_tokens=_first_count(usage, "total_tokens"),
    )


def _field(found: Any, name: str) -> Any:
    return found.get(name) if isinstance(found, dict) else getattr(found, name, None)


def _first_count(found: Any, *names: str) -> int | None:
    values = (_field(found, name) for name in names)
    return next((value for value in values if isinstance(value, int) and not isinstance(value, bool)), None)


class UsageCounter(Contained):
    """Knows which stage a request belongs to, and counts what came of it.

    A request belongs to the stage that is open where it is made. In a thread that has none open, as in a pool of them,
    it belongs to the stage that was open where the client was given to the counter, as long as that one lasts, and then
    to that in which a stage of the thread would lie, or the run's only open stage. Where nobody can tell, the run keeps
    a warning of it.
    """

    def __init__(self, run: SupportsStages | None) -> None:
        self._run = run
        self._home = self._current()

    @contained
    def begin(self) -> StageLike:
        """Count a request; the stage that it belongs to."""
        stage = self._current() or (self._home if self._home is not None and self._home.is_open else self._only())
        if stage is None or not stage.is_open:
            self._uncounted()
            return Unmeasured()
        stage.add(requests=1)
        return stage

    @contained
    def finish(self, stage: StageLike | None, usage: Usage | None, *, reason: str) -> None:
        """Count a request's tokens, or that they are not known, and why."""
        if stage is None:
            return
        if usage is None:
            stage.add(requests_without_usage=1)
            stage.record({"usage_absent": reason})
        else:
            stage.add(**usage.counts())

    @contained
    def fail(self, stage: StageLike | None, error: BaseException, usage: Usage | None = None) -> None:
        """Count a request that failed; what it is known to have taken is counted all the same."""
        if stage is not None:
            stage.add(failed_requests=1)
            stage.record({"last_failure": f"{type(error).__name__}: {error}"[:300]})
            self.finish(stage, usage, reason=f"the request failed with {type(error).__name__}")

    def _uncounted(self) -> None:
        message = "requests are made outside any stage; their tokens are counted nowhere"
        whole = self._whole()
        if whole is None:
            self.warn(message)
        else:
            whole.note(message)

    def _only(self) -> Stage | None:
        whole = self._whole()
        return None if whole is None else whole.only_stage

    def _whole(self) -> SupportsNotes | None:
        """The run, where it knows the stages of all its threads."""
        run: Any = self._run or open_run()
        return run if isinstance(run, SupportsNotes) else None

    def _current(self) -> Stage | None:
        run = self._run or open_run()
        return None if run is None else run.current_stage
