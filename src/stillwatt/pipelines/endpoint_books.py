"""What a stage is told of a server that works for it: tokens, what happened, and energy as far as anybody knows it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from stillwatt.errors import RequestRefusedError
from stillwatt.pipelines.endpoint_client import Answer
from stillwatt.pipelines.spec_endpoint import EndpointSpec
from stillwatt.records.channel import Basis, Boundary

__all__ = ["PART", "EndpointBooks", "OpenStage"]

PART = "endpoint"
"""Name of the server in a stage's account."""
_MOST_REASONS = 8
"""How many reasons for refusals are kept apart: servers put numbers of requests into them."""
_OTHER_REASONS = "other reasons"


class OpenStage(Protocol):
    """The stage that asks; `metering.meter.Stage` is one."""

    def add(self, **counts: float) -> None:
        """Add to the workload, by name."""
        ...

    def record(self, results: Mapping[str, Any]) -> None:
        """Keep what was found."""
        ...

    def state_energy(self, part: str, **said: Any) -> None:
        """Say what another machine drew, or why nobody knows."""
        ...


class EndpointBooks:
    """A server's account in one stage; may be told of answers by several threads at once.

    Args:
        spec: The server.
        stage: The stage that is open.
        who: What the server is in the study: `teacher` or `judge`.
        max_new_tokens: The longest answer that is asked for.
        without_usage: What is done where the server does not count its tokens.
    """

    def __init__(
        self, spec: EndpointSpec, stage: OpenStage, *, who: str, max_new_tokens: int, without_usage: str
    ) -> None:
        self._spec, self._stage, self._who, self._longest = spec, stage, who, max_new_tokens
        self._without_usage = without_usage
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._finishes: Counter[str] = Counter()
        self._models: Counter[str] = Counter()
        self._refusals: Counter[str] = Counter()

    def count(self, **counts: int) -> None:
        """Add to the stage's workload."""
        with self._lock:
            self._counts.update(counts)
        self._stage.add(**counts)

    def bill(self, answer: Answer, counted_here: Callable[[], tuple[int, int]] | None = None) -> None:
        """Count an answer's tokens at once, whatever becomes of its text.

        Args:
            answer: What the server wrote.
            counted_here: Tokens of prompt and answer where it does not tell its own; nothing is known where None.
        """
        prompt, generated = answer.prompt_tokens, answer.generated_tokens
        with self._lock:
            self._finishes[answer.finish or "not said"] += 1
            self._models[answer.model or "not said"] += 1
        if prompt is None or generated is None:
            self.count(requests_without_usage=1)
            if counted_here is not None:
                here = counted_here()
                prompt = here[0] if prompt is None else prompt
                generated = here[1] if generated is None else generated
                self.count(tokens_counted_here=prompt + generated)
        told = {"prompt_tokens": prompt, "generated_tokens": generated}
        known = {name: number for name, number in told.items() if number is not None}
        if known:
            self.count(**known, tokens=sum(known.values()))

    def refuse(self, err: RequestRefusedError) -> None:
        """Keep why a request was refused."""
        with self._lock:
            is_known = err.detail in self._refusals or len(self._refusals) < _MOST_REASONS
            self._refusals[err.detail if is_known else _OTHER_REASONS] += 1

    def record(self) -> None:
        """Write down what the server is, and what it said of itself."""
        found: dict[str, Any] = {"models": dict(self._models), "finish_reasons": dict(self._finishes)}
        if self._counts["requests_without_usage"]:
            found["usage_absent"] = f"the server's answer has no usage: {self._without_usage}"
        if self._refusals:
            found["refusals"] = dict(self._refusals)
        self._stage.record({"endpoint": {**self._spec.identity, **found}})

    def state_energy(self, *, under_way: int = 0) -> None:
        """What the server drew for this stage so far, as far as anybody can say (method.md, eq. 131).

        What may have been generated and was never told of is at the upper end alone: tries without an answer, answers
        whose tokens nobody counted, and requests that are under way, should this process be ended before they come
        back.
        """
        host = self._spec.host
        said: dict[str, Any] = {"device": f"{self._spec.model} at {host}", "boundary": Boundary.NODE.value}
        each = self._spec.token_energy
        if each is None:
            reason = f"the {self._who} is an endpoint: {host} is read by nobody here, and no model was asked for"
            self._stage.state_energy(PART, **said, value_j=None, reason=reason)
            return
        told, counts = self._counts["generated_tokens"], self._counts
        uncounted = counts["requests_without_usage"] if not counts["tokens_counted_here"] else 0
        untold = (counts["unanswered_tries"] + uncounted + under_way) * self._longest
        value_j = told * each.value_j
        self._stage.state_energy(
            PART,
            **said,
            value_j=value_j,
            systematic_low_j=value_j - told * each.low_j,
            systematic_high_j=(told + untold) * each.high_j - value_j,
            basis=Basis.MODELLED.value,
            driver="ecologits",
            source=self._spec.energy_source,
        )
