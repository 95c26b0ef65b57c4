"""A teacher behind a network address as a writer of text: prompts go out as words, answers come in as text.

Tokens are the server's, as its `usage` tells them; where it tells none they are counted by the student's tokenizer, and
marked so. They are billed as each answer comes in, so that a kill loses those under way and no others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from stillwatt.errors import RequestRefusedError
from stillwatt.pipelines.endpoint_books import PART, EndpointBooks, OpenStage
from stillwatt.pipelines.endpoint_client import Answer, EndpointClient, read_key
from stillwatt.pipelines.endpoint_prompts import Prompt, decoded
from stillwatt.pipelines.endpoint_together import ask_together, request_seed
from stillwatt.pipelines.prompts import Said
from stillwatt.pipelines.sampling import Written
from stillwatt.pipelines.spec import GenerateSpec
from stillwatt.pipelines.spec_endpoint import EndpointSpec

__all__ = ["PART", "EndpointWriter", "TextTokenizer"]

_COUNTED_HERE = "tokens are counted by the student's tokenizer"


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
        self._spec, self._tokenizer, self._sampling = spec, tokenizer, sampling
        key, longest = read_key(spec), sampling.max_new_tokens
        make_client = make_client or (lambda count: EndpointClient(spec, key=key, count=count))
        self._books = EndpointBooks(spec, stage, who="teacher", max_new_tokens=longest, without_usage=_COUNTED_HERE)
        self._client = make_client(self._books.count)

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
        self._books.state_energy(under_way=len(prompts))
        try:
            answers = self._ask_all(prompts, seed)
        finally:
            self._books.state_energy()
            self._books.record()
        return [self._written(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]

    def _ask_all(self, prompts: Sequence[Prompt], seed: int) -> list[Answer | RequestRefusedError | None]:
        """The answers in the order of the prompts; None for one without text, which no server would take."""
        said = [decoded(self._tokenizer, each.ids) if each.said is None else each.said for each in prompts]
        asked = {
            n: partial(self._ask, prompts[n], words, request_seed(seed, n)) for n, words in enumerate(said) if words
        }
        found = dict(zip(asked, ask_together(self._client, list(asked.values())), strict=True))
        return [found.get(n) for n in range(len(prompts))]

    def _ask(self, prompt: Prompt, words: Said, seed: int) -> Answer | RequestRefusedError:
        told = self._sampling
        try:
            answer = self._client.ask(
                words, max_tokens=told.max_new_tokens, temperature=told.temperature, top_p=told.top_p, seed=seed
            )
        except RequestRefusedError as err:
            self._books.refuse(err)
            return err
        # of a conversation the student's own form is what its tokenizer can count
        num_read = len(self._encoded(words)) if isinstance(words, str) else len(prompt.ids)
        self._books.bill(answer, lambda: (num_read, len(self._encoded(answer.text))))
        return answer

    def _written(self, prompt: Prompt, answer: Answer | RequestRefusedError | None) -> Written:
        if isinstance(answer, RequestRefusedError):
            return Written(tokens=[], refusal=str(answer))
        if answer is None:
            self._books.count(prompts_without_text=1)
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
            self._books.count(cut_completions=1)
        return ids[: self._sampling.max_new_tokens]

    def _encoded(self, text: str) -> list[int]:
        # a lone surrogate is JSON and no text; what looks like a special token in an answer is text
        plain = text.encode("utf-8", "replace").decode("utf-8")
        return list(self._tokenizer.encode(plain, add_special_tokens=False, split_special_tokens=True))
