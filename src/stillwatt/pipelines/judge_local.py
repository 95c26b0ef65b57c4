"""A language model as a judge: it reads a prompt, and its probabilities of the verdicts are taken where one would be.

Nothing is generated and nothing parsed, so the same prompt has the same reading.

Shapes: B prompts of a batch, T tokens of the longest of them, K verdicts, D hidden width, V vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from stillwatt.errors import StillwattError
from stillwatt.metering.meter import Stage
from stillwatt.pipelines.judge_scores import NoReading, Reading
from stillwatt.pipelines.models import CausalModel, head_weight, hidden_states, tokenizer_sha256
from stillwatt.pipelines.progress import Task
from stillwatt.pipelines.ranks import Ranks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Coded", "Coder", "Judge", "LocalJudge", "context_of"]


class Judge(Protocol):
    """Whoever gives verdicts: a model of this process, or a server."""

    @property
    def is_loaded_here(self) -> bool:
        """Whether opening it takes a model's memory and time on this machine; such a judge is opened on every rank."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """What tells it from other judges: where it is the same, the same prompt has the same reading.

        `weights` is the identity of its files (`ModelPlace`), or None where they are not to be seen.
        """
        ...

    def check(self, prompts: Sequence[str]) -> None:
        """Refuse prompts that it could not judge, before anything is spent on them; loads no model.

        Raises:
            StillwattError: With the prompt, and what to change.
        """
        ...

    def open(self) -> None:
        """Load it, where it is not loaded."""
        ...

    def read(
        self, prompts: Sequence[str], *, task: Task, stage: Stage, kept: Path | None = None
    ) -> Sequence[Reading | NoReading]:
        """What the judge gives each verdict on each prompt, in the order of the prompts; opened before.

        Args:
            prompts: What it reads.
            task: The bar.
            stage: The stage that is open, which is told of `tokens` and `samples` that went through the judge.
            kept: A file in which readings may be kept as they come, and found again.

        Raises:
            StillwattError: A prompt that it cannot read, or no probabilities.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Coded:
    """One prompt as the judge reads it."""

    ids: tuple[int, ...]
    verdicts: tuple[int, ...]
    """Token of each verdict, right behind `ids`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coder:
    """Makes tokens of prompts, and refuses what the judge could not answer."""

    tokenizer: PreTrainedTokenizerBase
    judge: str
    """What the judge is called in messages."""
    form: str
    verdicts: tuple[str, ...]
    context: int | None
    """Tokens that the judge can read at most; None where its configuration does not say."""

    def __post_init__(self) -> None:
        if self.form == "chat" and not self.tokenizer.chat_template:
            raise StillwattError(
                f'judge {self.judge} has no chat template; set evaluate.judge.form = "plain", or choose a model that '
                "was made for conversations"
            )

    @property
    def template_sha256(self) -> str | None:
        """What tells the chat template from others; None where none is used."""
        if self.form != "chat":
            return None
        return hashlib.sha256(str(self.tokenizer.chat_template).encode("utf-8")).hexdigest()

    def code(self, prompt: str) -> Coded:
        """The prompt's tokens, and the token that each verdict would be behind them.

        Verdicts may begin alike, as with a space that is a token of its own: what they share is read with the prompt.

        Raises:
            StillwattError: Verdicts are not told apart by one token, or the prompt is longer than the judge can read.
        """
        text = self._text(prompt)
        rows = [tuple(self._ids(text + verdict)) for verdict in self.verdicts]
        shared = rows[0][:-1]
        if any(row[:-1] != shared for row in rows) or len(set(rows)) < len(rows):
            raise StillwattError(
                f"judge {self.judge}: the verdicts {', '.join(map(repr, self.verdicts))} are not single tokens of its "
                f"vocabulary behind the rubric ({self._shown(rows, text)}); choose others in evaluate.judge.verdicts"
            )
        if self.context is not None and len(shared) > self.context:
            raise StillwattError(
                f"judge {self.judge} reads {self.context} tokens at most, and a prompt has {len(shared)} (it begins "
                f"{prompt[:60]!r}); lower evaluate.judge.prompt_tokens or answer_tokens, or shorten the rubric"
            )
        return Coded(ids=shared, verdicts=tuple(row[-1] for row in rows))

    def _text(self, prompt: str) -> str:
        if self.form != "chat":
            return prompt
        messages = [{"role": "user", "content": prompt}]
        return str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def _ids(self, text: str) -> list[int]:
        # a chat template has its special tokens in its text
        ids: list[int] = self.tokenizer(text, add_special_tokens=self.form != "chat")["input_ids"]
        return ids

    def _shown(self, rows: Sequence[tuple[int, ...]], text: str) -> str:
        """How each verdict is written, from where it leaves the prompt's own tokens."""
        own = self._ids(text)
        ends = [row[min(len(own), len(row) - 1) :] for row in rows]
        tokens = [" ".join(map(repr, self.tokenizer.convert_ids_to_tokens(list(end)))) for end in ends]
        return ", ".join(f"{verdict!r} is {end}" for verdict, end in zip(self.verdicts, tokens, strict=True))


def context_of(config: Any) -> int | None:
    """Tokens that a model of this configuration can read at most; None where it does not say."""
    found = getattr(config.get_text_config(), "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


class LocalJudge:
    """A model of this process, loaded when it is opened; ranks of a launch share its prompts, each with the model.

    Args:
        coder: Makes tokens of prompts.
        load: Loads the model.
        weights: Identity of its files.
        dtype: Their number format.
        batch: Prompts that are read together.
        ranks: Who reads; this process alone where not given.
    """

    is_loaded_here = True

    def __init__(
        self,
        coder: Coder,
        load: Callable[[], CausalModel],
        *,
        weights: str,
        dtype: str,
        batch: int,
        ranks: Ranks | None = None,
    ) -> None:
        self._coder, self._load, self._batch = coder, load, batch
        self._ranks = ranks or Ranks(is_alone=True)
        self._weights, self._dtype = weights, dtype
        self._model: CausalModel | None = None

    @property
    def identity(self) -> Mapping[str, Any]:
        """Its files, its number format, its tokens and its template."""
        return {
            "weights": self._weights,
            "dtype": self._dtype,
            "tokenizer_sha256": tokenizer_sha256(self._coder.tokenizer),
            "chat_template_sha256": self._coder.template_sha256,
        }

    def check(self, prompts: Sequence[str]) -> None:
        """Refuse prompts that are too long, and verdicts that are no single tokens."""
        for prompt in prompts:
            self._coder.code(prompt)

    def open(self) -> None:
        """Load the model, once."""
        if self._model is None:
            self._model = self._load()

    def read(
        self, prompts: Sequence[str], *, task: Task, stage: Stage | None = None, kept: Path | None = None
    ) -> list[Reading]:
        """What the judge gives each verdict on each prompt; all prompts are looked at before one is read.

        Ranks share the batches, which are those of one process; each counts its own, and all get every reading.
        """
        coded = [self._coder.code(prompt) for prompt in prompts]
        # prompts of about one length go together, so that little of a batch is padding
        order = sorted(range(len(coded)), key=lambda number: len(coded[number].ids))
        batches = [order[first : first + self._batch] for first in range(0, len(order), self._batch)]

        def read(own: Sequence[Sequence[int]]) -> Iterator[list[Reading]]:
            for chosen in own:
                readings = self._read([coded[number] for number in chosen])
                if stage is not None:
                    stage.add(tokens=sum(reading.tokens for reading in readings), samples=len(readings))
                task.advance(len(readings) * self._ranks.count)
                yield readings

        read_batches = self._ranks.divide(batches, lambda own: [*read(own)])
        found: dict[int, Reading] = {}
        for chosen, readings in zip(batches, read_batches, strict=True):
            found.update(zip(chosen, readings, strict=True))
        return [found[number] for number in range(len(coded))]

    @torch.no_grad()
    def _read(self, batch: Sequence[Coded]) -> list[Reading]:
        lengths_B = torch.tensor([len(each.ids) for each in batch])
        # padded behind their ends: a causal model's states before the padding do not depend on it
        ids_BT = torch.zeros(len(batch), int(lengths_B.max()), dtype=torch.long)
        for row, each in enumerate(batch):
            ids_BT[row, : len(each.ids)] = torch.tensor(each.ids)
        model = self._model
        if model is None:
            raise StillwattError(f"judge {self._coder.judge} was asked before it was loaded; call `open` first")
        states_BTD = hidden_states(model, ids_BT.to(model.device))
        weight_VD = head_weight(model)
        last_BD = states_BTD[torch.arange(len(batch)), lengths_B - 1].to(weight_VD.device)
        logs_BV = torch.log_softmax((last_BD @ weight_VD.T).double(), dim=-1).cpu()
        logs_BK = logs_BV.gather(1, torch.tensor([each.verdicts for each in batch]))
        shares_BK = torch.softmax(logs_BK, dim=-1)
        masses_B = torch.exp(torch.logsumexp(logs_BK, dim=-1))
        return [
            Reading(shares=tuple(shares), mass=mass, tokens=len(each.ids))
            for shares, mass, each in zip(shares_BK.tolist(), masses_B.tolist(), batch, strict=True)
        ]
