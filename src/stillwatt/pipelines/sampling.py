"""A model continues prompts: batched, padded on the left, with its own key-value cache, stopped at its end tokens.

What stands behind an end token, and all padding, is cut off: it is no text and is counted nowhere.

Shapes: B prompts of a batch, P longest prompt of the batch, L = P + longest completion of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from stillwatt.pipelines.written_together import Together, together

if TYPE_CHECKING:
    from stillwatt.pipelines.endpoint_prompts import Prompt

__all__ = [
    "AskingWriter",
    "Sampling",
    "ScoringWriter",
    "Speaker",
    "TextWriter",
    "Tokenizer",
    "Writer",
    "Written",
    "end_ids",
]


class Sampling(Protocol):
    """How tokens are drawn; `GenerateSpec` and `OwnTextSpec` are such."""

    @property
    def max_new_tokens(self) -> int:
        """Longest continuation."""
        ...

    @property
    def temperature(self) -> float:
        """At 0 the most probable token is always taken."""
        ...

    @property
    def top_p(self) -> float:
        """The smallest set of tokens with this probability."""
        ...


class Speaker(Protocol):
    """The part of a transformers causal language model that is used here."""

    generation_config: Any

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        ...

    def eval(self) -> Any:
        """Switch dropout and the like off."""
        ...

    def generate(self, inputs: Any, /, **settings: Any) -> Any:
        """Continue a batch."""
        ...


class Tokenizer(Protocol):
    """The part of a tokenizer that is used here."""

    @property
    def eos_token_id(self) -> Any:
        """The token that ends a text, or None."""
        ...

    @property
    def pad_token_id(self) -> Any:
        """The token that fills a batch, or None."""
        ...


class TextWriter(Protocol):
    """Whoever continues prompts: a model of this process, or another engine."""

    @property
    def end_ids(self) -> frozenset[int]:
        """Tokens that end a text."""
        ...

    def write(self, prompts: Sequence[Sequence[int]], seed: int) -> list[list[int]]:
        """Each prompt's completion, its end token included where it came to one; the same for the same seed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """One completion, and how probable its tokens were."""

    tokens: list[int]
    logprobs: list[float] | None = None
    """Of each token, by the model's own distribution (temperature 1, nothing cut off), in nats; None if not asked."""
    refusal: str | None = None
    """Why whoever was asked would not write anything after this prompt; None where it did."""


@runtime_checkable
class ScoringWriter(TextWriter, Protocol):
    """A writer that can also tell how probable its own tokens were."""

    def write_scored(self, prompts: Sequence[Sequence[int]], seed: int) -> list[Written]:
        """The completions that `write` gives, with the log-probabilities of their tokens."""
        ...


@runtime_checkable
class AskingWriter(TextWriter, Protocol):
    """A writer that is asked in words, and that may refuse a prompt."""

    def answer(self, prompts: Sequence[Prompt], seed: int) -> list[Written]:
        """Each prompt's completion, as `write` gives it, or why there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Writer:
    """A model that continues batches of prompts."""

    model: Speaker
    tokenizer: Tokenizer
    spec: Sampling
    end_ids: frozenset[int]
    is_complete: Callable[[Sequence[int]], bool] | None = None
    """Told what has been written after a prompt; True where it need not go on, though no end token was written."""
    num_tokens: int | None = None
    """How many of the model's output rows, from the first, may be drawn; the rows behind them are no tokens. None
    where every row may."""

    def write(self, prompts: Sequence[Sequence[int]], seed: int) -> list[list[int]]:
        """Each prompt's completion, its end token included where it came to one.

        They go through the model together, those of unlike lengths padded to one, where that alters nothing of what it
        says to each; else those of one length together, or each by itself (`written_together`).
        """
        return [written.tokens for written in self._written(prompts, seed, is_scored=False)]

    def write_scored(self, prompts: Sequence[Sequence[int]], seed: int) -> list[Written]:
        """The same completions, with the log-probabilities of their tokens; logits exist for one step at a time."""
        return self._written(prompts, seed, is_scored=True)

    def _written(self, prompts: Sequence[Sequence[int]], seed: int, *, is_scored: bool) -> list[Written]:
        place, found = self.model.device, dict[int, Written]()
        self.model.eval()
        with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []), _own_settings(self.model):
            batches = self._batches(prompts)
            torch.manual_seed(seed)
            for numbers in batches:
                batch = self._batch([prompts[number] for number in numbers], _Scores() if is_scored else None)
                found |= zip(numbers, batch, strict=True)
        return [found[number] for number in range(len(prompts))]

    def _batches(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        """Numbers of the prompts that are continued together."""
        kind = together(self.model, self._pad_id()) if len(prompts) > 1 else Together.ANY_LENGTHS
        if kind is not Together.ONE_LENGTH:
            numbers = list(range(len(prompts)))
            return [numbers] if kind is Together.ANY_LENGTHS else [[number] for number in numbers]
        by_length: dict[int, list[int]] = {}
        for number, prompt in enumerate(prompts):
            by_length.setdefault(len(prompt), []).append(number)
        return list(by_length.values())

    def _batch(self, prompts: Sequence[Sequence[int]], scores: _Scores | None) -> list[Written]:
        tokens_BP, mask_BP = _padded_left(prompts, self._pad_id())
        place, start = self.model.device, tokens_BP.shape[1]
        ends = None if self.is_complete is None else _Ends(self.is_complete, start, [None] * len(prompts))
        # what no token has is cut off first: probabilities are those of tokens
        looks = [None if self.num_tokens is None else _Tokens(self.num_tokens), None if scores is None else scores.look]
        hooks: dict[str, Any] = {"logits_processor": [one for one in looks if one is not None]} if any(looks) else {}
        criteria = [one for one in (None if scores is None else scores.note, ends) if one is not None]
        hooks |= {"stopping_criteria": criteria} if criteria else {}
        tokens_BL = self.model.generate(
            tokens_BP.to(place), attention_mask=mask_BP.to(place), generation_config=self._settings(), **hooks
        )
        rows = tokens_BL[:, start:].tolist()
        lengths = [None] * len(rows) if ends is None else ends.lengths
        completions = [self._until_end(row[:length]) for row, length in zip(rows, lengths, strict=True)]
        if scores is None:
            return [Written(tokens=tokens) for tokens in completions]
        said = zip(completions, scores.rows(), strict=True)
        return [Written(tokens=tokens, logprobs=row[: len(tokens)]) for tokens, row in said]

    def _until_end(self, tokens: list[int]) -> list[int]:
        for place, token in enumerate(tokens):
            if token in self.end_ids:
                return tokens[: place + 1]
        return tokens

    def _pad_id(self) -> int:
        if self.tokenizer.pad_token_id is not None:
            return int(self.tokenizer.pad_token_id)
        return min(self.end_ids, default=0)  # masked before the prompt, cut off behind the end: any id will do

    def _settings(self) -> Any:
        from transformers import GenerationConfig

        sampling: dict[str, Any] = {"do_sample": False}
        if self.spec.temperature > 0.0:
            # top_k = 0: transformers would keep the 50 most probable tokens only, unasked
            sampling = {"do_sample": True, "temperature": self.spec.temperature, "top_p": self.spec.top_p, "top_k": 0}
        return GenerationConfig(  # type: ignore[no-untyped-call]  # transformers leaves its constructor untyped
            max_new_tokens=self.spec.max_new_tokens,
            eos_token_id=sorted(self.end_ids) or None,
            pad_token_id=self._pad_id(),
            **sampling,
        )


@dataclass(frozen=True, slots=True)
class _Tokens:
    """Leaves nothing to draw behind the last token: padding of an output layer is no text."""

    count: int

    def __call__(self, tokens_BL: Tensor, logits_BV: Tensor) -> Tensor:
        if self.count < logits_BV.shape[-1]:
            logits_BV[:, self.count :] = -torch.inf
        return logits_BV


@dataclass(slots=True)
class _Scores:
    """Takes down, step by step, how probable the token that was drawn had been.

    transformers shows the logits of a step before temperature and top-p are applied to them (`look`), and the drawn
    tokens right after it (`note`).
    """

    _logits_BV: Tensor | None = None
    _steps: list[Tensor] = field(default_factory=list)

    def look(self, tokens_BL: Tensor, logits_BV: Tensor) -> Tensor:
        """Keep a step's logits; what is drawn from stays as it is."""
        self._logits_BV = logits_BV
        return logits_BV

    def note(self, tokens_BL: Tensor, _scores: Any, **_more: Any) -> Tensor:
        """Keep the log-probability of the tokens that were drawn; no text ends by it."""
        assert self._logits_BV is not None  # `look` comes first
        logp_BV = torch.log_softmax(self._logits_BV.float(), -1)
        self._steps.append(logp_BV.gather(-1, tokens_BL[:, -1:].to(logp_BV.device)).cpu())
        return torch.zeros(len(tokens_BL), dtype=torch.bool, device=tokens_BL.device)

    def rows(self) -> list[list[float]]:
        """By prompt, of every token that was drawn; padding behind an end has a figure too, which means nothing."""
        found: list[list[float]] = torch.cat(self._steps, dim=1).tolist()
        return found


@dataclass(slots=True)
class _Ends:
    """Ends the texts that are complete; behind that, as behind an end token, nothing is text."""

    is_complete: Callable[[Sequence[int]], bool]
    start: int
    lengths: list[int | None]
    """Tokens up to where a text was complete; None where it was not."""

    def __call__(self, tokens_BL: Tensor, _scores: Any, **_more: Any) -> Tensor:
        for number, row in enumerate(tokens_BL[:, self.start :].tolist()):
            if self.lengths[number] is None and self.is_complete(row):
                self.lengths[number] = len(row)
        is_done = [length is not None for length in self.lengths]
        return torch.tensor(is_done, dtype=torch.bool, device=tokens_BL.device)


@contextmanager
def _own_settings(model: Speaker) -> Iterator[None]:
    """Put the model's own generation settings aside: what a checkpoint carries would fill in for what we leave out."""
    from transformers import GenerationConfig

    kept = model.generation_config
    model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    try:
        yield
    finally:
        model.generation_config = kept


def _padded_left(prompts: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Prompts that end together, so that every completion starts right behind its own prompt; and their mask.

    >>> tokens_BP, mask_BP = _padded_left([[5, 6, 7], [8]], 0)
    >>> tokens_BP.tolist(), mask_BP.tolist()
    ([[5, 6, 7], [0, 0, 8]], [[1, 1, 1], [0, 0, 1]])
    """
    longest = max(map(len, prompts))
    rows = [[pad_id] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    masks = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(rows, dtype=torch.long), torch.tensor(masks, dtype=torch.long)


def end_ids(model: Speaker, tokenizer: Tokenizer) -> frozenset[int]:
    """Tokens that end a text: the tokenizer's, and those of the model, which may have several."""
    ids: set[int] = set()
    for found in (tokenizer.eos_token_id, model.generation_config.eos_token_id):
        if found is not None:
            ids.update(found if isinstance(found, (list, tuple)) else (found,))
    return frozenset(ids)
