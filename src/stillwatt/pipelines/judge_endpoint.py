"""A judge behind a network address: the probabilities of its first token, or the verdict that it writes.

Each answer is on disk before the next batch is asked for, so that a run that was cut short asks for the rest alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from stillwatt.errors import EndpointError, RequestRefusedError
from stillwatt.pipelines.endpoint_books import EndpointBooks, OpenStage
from stillwatt.pipelines.endpoint_client import NO_PROBABILITIES, Answer, EndpointClient, read_key
from stillwatt.pipelines.endpoint_together import ask_together, request_seed
from stillwatt.pipelines.judge_kept import KeptReadings, reading_key
from stillwatt.pipelines.judge_scores import NO_VERDICT, REFUSED, NoReading, Reading
from stillwatt.pipelines.progress import Task
from stillwatt.pipelines.spec_endpoint import EndpointSpec
from stillwatt.pipelines.spec_evaluate import BY_TEXT, JudgeSpec

__all__ = ["EndpointJudge", "by_probabilities", "by_text"]

_NOT_COUNTED = "what it read and wrote is not known"
_MARKS = " \t\r\n*_`\"'().:,[]{}<>#"
"""What may stand around a verdict that is written."""
_LONGEST_SAID = 200


class EndpointJudge:
    """A server that is asked for a verdict on each prompt; nothing is loaded here.

    Args:
        spec: What it is asked, and how.
        make_client: Makes the client, given where to count.

    Raises:
        UsageError: There is no key where the recipe names one.
    """

    is_loaded_here = False

    def __init__(
        self, spec: JudgeSpec, *, make_client: Callable[[Callable[..., None]], EndpointClient] | None = None
    ) -> None:
        assert spec.endpoint is not None  # the recipe's rules see to it
        self._spec, self._server = spec, spec.endpoint
        self._make_client = make_client or partial(_client, spec.endpoint)

    @property
    def identity(self) -> Mapping[str, Any]:
        """Address, model and way of asking; whose weights these are, nobody here knows."""
        how: dict[str, Any] = {"verdicts_by": self._spec.verdicts_by}
        how |= (
            {"verdict_tokens": self._spec.verdict_tokens}
            if self._spec.verdicts_by == BY_TEXT
            else {"top_logprobs": self._server.top_logprobs}
        )
        return {"weights": None, **self._server.identity, **how}

    def check(self, prompts: Sequence[str]) -> None:
        """Nothing of it can be tried beforehand: tokens and template are the server's."""

    def open(self) -> None:
        """Nothing is loaded."""

    def read(
        self, prompts: Sequence[str], *, task: Task, stage: OpenStage, kept: Path | None = None
    ) -> list[Reading | NoReading]:
        """What the server gives each verdict on each prompt; prompts that were answered before are not asked again.

        The stage is told of tokens, of energy as far as anybody knows it, and of the server.

        Raises:
            EndpointError: A request failed for good; what was answered is kept.
            StillwattError: So many prompts were refused that the request must be wrong; they are not kept.
        """
        longest = self._spec.max_verdict_tokens
        books = EndpointBooks(self._server, stage, who="judge", max_new_tokens=longest, without_usage=_NOT_COUNTED)
        keys = [reading_key(self.identity, number, prompt) for number, prompt in enumerate(prompts)]
        with KeptReadings(kept, len(prompts)) as found:
            wanted = [number for number, key in enumerate(keys) if key not in found]
            if done := len(prompts) - len(wanted):
                stage.add(prompts_taken_over=done)
                task.advance(done)
            client = self._make_client(books.count)
            for first in range(0, len(wanted), self._spec.batch_size):
                batch = wanted[first : first + self._spec.batch_size]
                books.state_energy(under_way=len(batch))
                try:
                    ask_together(
                        client,
                        [partial(self._ask, client, books, found, number, keys[number], prompts[number])
                         for number in batch],
                    )  # fmt: skip
                finally:
                    books.state_energy()
                    books.record()
                found.check()
                task.advance(len(batch))
            found.check_end()
            stage.add(samples=len(prompts))
            return [found[key] for key in keys]

    def _ask(
        self, client: EndpointClient, books: EndpointBooks, found: KeptReadings, number: int, key: str, prompt: str
    ) -> None:
        is_text = self._spec.verdicts_by == BY_TEXT
        try:
            answer = client.ask(
                prompt,
                max_tokens=self._spec.max_verdict_tokens,
                # at 1, what a server tells before and after its sampling settings is the same
                temperature=0.0 if is_text else 1.0,
                top_p=1.0,
                seed=request_seed(self._spec.seed, number),
            )
        except RequestRefusedError as err:
            books.refuse(err)
            found.refuse(key, NoReading(why=REFUSED, said=err.detail), str(err))
            return
        books.bill(answer)
        found.keep(key, self._reading(answer))

    def _reading(self, answer: Answer) -> Reading | NoReading:
        letters = self._spec.verdicts
        if answer.is_refused:
            return NoReading(why=REFUSED, said=answer.text[:_LONGEST_SAID])
        if self._spec.verdicts_by == BY_TEXT:
            return by_text(answer.text, letters)
        if answer.first is None:
            detail = "its answer does not tell how probable its first token was"
            raise EndpointError(self._server.url, detail, NO_PROBABILITIES.format(table=self._server.table))
        return by_probabilities(answer.first, letters)


def by_probabilities(first: Mapping[str, float], verdicts: Sequence[str]) -> Reading | NoReading:
    """What the first token's probabilities give each verdict; a token with or without a space before it is the same.

    A verdict that is not among the tokens that the server tells has less than the least of them, and counts as 0.

    >>> by_probabilities({"A": 0.25, " A": 0.125, "B": 0.125, "The": 0.1}, ("A", "B")).shares
    (0.75, 0.25)
    """
    masses = [sum(p for token, p in first.items() if token.strip() == verdict.strip()) for verdict in verdicts]
    mass = sum(masses)
    if mass <= 0.0:
        likely = max(first, key=lambda token: first[token])
        return NoReading(why=NO_VERDICT, said=likely[:_LONGEST_SAID])
    return Reading(
        shares=tuple(each / mass for each in masses), mass=min(mass, 1.0), tokens=0, is_cut_off=min(masses) == 0.0
    )


def by_text(text: str, verdicts: Sequence[str]) -> Reading | NoReading:
    """The verdict that was written: alone, or alone on the last line; marks around it do not count.

    >>> by_text("**B**.", ("A", "B")).shares, by_text("A is fine, but B wins.", ("A", "B")).why
    ((0.0, 1.0), 'no verdict')
    """
    lines = [text, *text.strip().splitlines()[-1:]]
    for line in lines:
        shares = tuple(float(line.strip(_MARKS) == verdict.strip()) for verdict in verdicts)
        if sum(shares) == 1.0:
            return Reading(shares=shares, mass=None, tokens=0)
    return NoReading(why=NO_VERDICT, said=text[:_LONGEST_SAID])


def _client(server: EndpointSpec, count: Callable[..., None]) -> EndpointClient:
    return EndpointClient(server, key=read_key(server), count=count)
