"""A teacher behind a network address as a writer of text: prompts go out as words, answers come in as text.

Tokens are the server's, as its `usage` tells them; where it tells none they are counted by the student's tokenizer, and
marked so. They are billed as each answer comes in, so that a kill loses those under way and no others.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any, Protocol
from urllib.parse import urlsplit

from stillwatt.errors import RequestRefusedError
from stillwatt.pipelines.endpoint_client import Answer, EndpointClient, read_key
from stillwatt.pipelines.endpoint_prompts import Prompt, decoded
from stillwatt.pipelines.prompts import Said
from stillwatt.pipelines.sampling import Written
from stillwatt.pipelines.spec import GenerateSpec
from stillwatt.pipelines.spec_endpoint import EndpointSpec
from stillwatt.records.channel import Basis, Boundary

__all__ = ["PART", "EndpointWriter", "TextTokenizer"]

PART = "endpoint"
"""Name of the server in a stage's account."""
_MOST_REASONS = 8
"""How many reasons for refusals are kept apart: servers put numbers of requests into them."""
_OTHER_REASONS = "other reasons"
_NO_USAGE = "the server's answer has no usage: tokens are counted by the student's tokenizer"


class TextTokenizer(Protocol):
    """The part of a tokenizer that is used here."""

    @property
    def eos_token_id(self) -> Any:
        """The token that ends a text."""
        ...

    def encode(self, text: str, /, **settings: Any) -> list[int]:
        """Text as tokens."""
        ...

    def decode(self, ids: list[int], /, *, skip_special_tokens: bool) -> str | list[str]:
        """Tokens as text: one, of one list of them."""
        ...


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


class EndpointWriter:
    """Continues prompts by asking a server; what it is billed as, it tells the stage itself.

    Args:
        spec: The server.
        tokenizer: The student's.
        sampling: How tokens are drawn, there.
        stage: The stage that is open.
        make_client: Makes the client, given where to count.

    Raises:
        UsageError: There is no key where the recipe names one.
    """

    bills_itself = True
    """Whether the stage is told of processed tokens by the writer, and not by who asks it to write."""

    def __init__(
        self,
        spec: EndpointSpec,
        tokenizer: TextTokenizer,
        sampling: GenerateSpec,
        stage: OpenStage,
        *,
        make_client: Callable[[Callable[..., None]], EndpointClient] | None = None,
    ) -> None:
        self._spec, self._tokenizer, self._sampling, self._stage = spec, tokenizer, sampling, stage
        key = read_key(spec)
        make_client = make_client or (lambda count: EndpointClient(spec, key=key, count=count))
        self._client = make_client(self._count)
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._finishes: Counter[str] = Counter()
        self._models: Counter[str] = Counter()
        self._refusals: Counter[str] = Counter()

    @property
    def end_ids(self) -> frozenset[int]:
        """The student's end token: the server's own never comes as one."""
        return frozenset((int(self._tokenizer.eos_token_id),))

    def write(self, prompts: Sequence[Sequence[int]], seed: int) -> list[list[int]]:
        """What `answer` gives for the prompts' text; nothing behind one that is refused."""
        return [one.tokens for one in self.answer([Prompt(ids=ids) for ids in prompts], seed)]

    def answer(self, prompts: Sequence[Prompt], seed: int) -> list[Written]:
        """Each prompt's completion in the student's tokens, its end token included where the server says `stop`.

        One that the server refuses has a `refusal` and no tokens.

        Raises:
            EndpointError: A request failed for good; what the others of the batch took is billed all the same.
        """
        self._state_energy(under_way=len(prompts))
        try:
            answers = self._ask_all(prompts, seed)
        finally:
            self._state_energy()
            self._record()
        return [self._written(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]

    def _ask_all(self, prompts: Sequence[Prompt], seed: int) -> list[Answer | RequestRefusedError | None]:
        """The answers in the order of the prompts; None for one without text, which no server would take."""
        pool = ThreadPoolExecutor(max_workers=self._spec.concurrency, thread_name_prefix="stillwatt-endpoint")
        said = [decoded(self._tokenizer, each.ids) if each.said is None else each.said for each in prompts]
        asked = {n: pool.submit(self._ask, prompts[n], words, _seed(seed, n)) for n, words in enumerate(said) if words}
        try:
            done, _ = wait(asked.values(), return_when=FIRST_EXCEPTION)
            for each in done:
                each.result()  # raises what it failed with
            return [asked[n].result() if n in asked else None for n in range(len(prompts))]
        except BaseException:
            # of a batch that failed nobody will use the rest: what is not begun is left, what waits gives up
            self._client.stop()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _ask(self, prompt: Prompt, words: Said, seed: int) -> Answer | RequestRefusedError:
        told = self._sampling
        try:
            answer = self._client.ask(
                words, max_tokens=told.max_new_tokens, temperature=told.temperature, top_p=told.top_p, seed=seed
            )
        except RequestRefusedError as err:
            with self._lock:
                is_known = err.detail in self._refusals or len(self._refusals) < _MOST_REASONS
                self._refusals[err.detail if is_known else _OTHER_REASONS] += 1
            return err
        # of a conversation the student's own form is what its tokenizer can count
        num_read = len(self._encoded(words)) if isinstance(words, str) else len(prompt.ids)
        self._bill(num_read, answer)
        return answer

    def _bill(self, num_read: int, answer: Answer) -> None:
        """Count an answer's tokens at once, whatever becomes of its text."""
        prompt, generated = answer.prompt_tokens, answer.generated_tokens
        with self._lock:
            self._finishes[answer.finish or "not said"] += 1
            self._models[answer.model or "not said"] += 1
        if prompt is None or generated is None:
            prompt = num_read if prompt is None else prompt
            generated = len(self._encoded(answer.text)) if generated is None else generated
            self._count(requests_without_usage=1, tokens_counted_here=prompt + generated)
        self._count(prompt_tokens=prompt, generated_tokens=generated, tokens=prompt + generated)

    def _written(self, prompt: Prompt, answer: Answer | RequestRefusedError | None) -> Written:
        if isinstance(answer, RequestRefusedError):
            return Written(tokens=[], refusal=str(answer))
        if answer is None:
            self._count(prompts_without_text=1)
            return Written(tokens=[])
        return Written(tokens=self._tokens(decoded(self._tokenizer, prompt.ids), answer))

    def _tokens(self, prompt: str, answer: Answer) -> list[int]:
        """The student's tokens of an answer, as they stand behind its prompt; no more than a continuation may have."""
        before, whole = self._encoded(prompt), self._encoded(prompt + answer.text)
        is_joined = whole[: len(before)] == before  # where a token would span both, the answer is taken by itself
        ids = whole[len(before) :] if is_joined else self._encoded(answer.text)
        if answer.finish == "stop":
            ids = [*ids, int(self._tokenizer.eos_token_id)]
        if len(ids) > self._sampling.max_new_tokens:
            self._count(cut_completions=1)
        return ids[: self._sampling.max_new_tokens]

    def _encoded(self, text: str) -> list[int]:
        # a lone surrogate is JSON and no text; what looks like a special token in an answer is text
        plain = text.encode("utf-8", "replace").decode("utf-8")
        return list(self._tokenizer.encode(plain, add_special_tokens=False, split_special_tokens=True))

    def _count(self, **counts: int) -> None:
        with self._lock:
            self._counts.update(counts)
        self._stage.add(**counts)

    def _record(self) -> None:
        found: dict[str, Any] = {"models": dict(self._models), "finish_reasons": dict(self._finishes)}
        if self._counts["requests_without_usage"]:
            found["usage_absent"] = _NO_USAGE
        if self._refusals:
            found["refusals"] = dict(self._refusals)
        self._stage.record({"endpoint": {**self._spec.identity, **found}})

    def _state_energy(self, *, under_way: int = 0) -> None:
        """What the server drew for this stage so far, as far as anybody can say (method.md, eq. 131).

        What may have been generated and was never told of is at the upper end alone: tries without an answer, and
        requests that are under way, should this process be ended before they come back.
        """
        host = urlsplit(self._spec.url).hostname or self._spec.url
        said: dict[str, Any] = {"device": f"{self._spec.model} at {host}", "boundary": Boundary.NODE.value}
        each = self._spec.token_energy
        if each is None:
            reason = f"the teacher is an endpoint: {host} is read by nobody here, and no model was asked for"
            self._stage.state_energy(PART, **said, value_j=None, reason=reason)
            return
        told = self._counts["generated_tokens"]
        untold = (self._counts["unanswered_tries"] + under_way) * self._sampling.max_new_tokens
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


def _seed(seed: int, number: int) -> int:
    """A request's own seed; 31 bits, which every server takes."""
    digest = hashlib.sha256(f"{seed}/{number}".encode()).digest()
    return int.from_bytes(digest[:4], "little") >> 1
