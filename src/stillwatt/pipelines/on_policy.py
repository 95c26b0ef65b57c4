"""A student's own text as training text: which steps take it, and how it is written and laid out (method.md, eq. 100).

The student is asked while it trains, so each text comes from the weights of that very step and nothing can be made
ahead or kept. A step's choice and its sampling depend on the arm's seed and the number of the step alone, counted over
all passes: a resumed training takes the same steps and, from the same weights, writes the same text, and no pass
repeats the text of another.

Shapes: B sequences of a microbatch, T tokens of the longest of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from stillwatt.metering.meter import Stage
from stillwatt.pipelines.corpus import Packed, positions_of
from stillwatt.pipelines.models import CausalModel
from stillwatt.pipelines.own_prompts import StepPrompts
from stillwatt.pipelines.passes import Microbatch
from stillwatt.pipelines.randomness import drawn_number
from stillwatt.pipelines.sampling import Tokenizer, Writer, end_ids
from stillwatt.pipelines.spec_text import OwnTextSpec

__all__ = ["Batch", "OwnText", "given_batch", "takes_own_text"]

_DRAWS = float(1 << 53)
"""Numbers that 53 bits can tell apart: as many as a float between 0 and 1 can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Sequences that go through the models together; what is longer than a sequence's own text is padding."""

    rows: tuple[int, ...]
    """Numbers of the sequences in the training text; for the student's own text, of those in whose place it stands."""
    ids_BT: Tensor
    predicted_BT: Tensor
    """Which of the tokens from the second on are to be predicted; False on padding. Shape [B, T - 1]."""
    tokens: int
    """Of the texts, without padding."""
    is_own: bool = False
    positions_BT: Tensor | None = None
    """Each token's place in its own document, where documents are kept apart; None otherwise."""
    place: int = 0
    """Of its microbatch in the training, all passes counted."""

    @property
    def supervised(self) -> int:
        """How many tokens are to be predicted."""
        return int(self.predicted_BT.sum())


def given_batch(examples: Packed, rows: Sequence[int], *, place: int = 0) -> Batch:
    """Some sequences of the training text, as wide as the longest of them."""
    lengths_B = None if examples.lengths_S is None else examples.lengths_S[list(rows)]
    width = examples.ids_ST.shape[1] if lengths_B is None else max(2, int(lengths_B.max()))
    ids_BT = torch.from_numpy(examples.ids_ST[list(rows), :width].astype(np.int64))
    predicted_BT = torch.from_numpy(examples.supervised_ST[list(rows), 1:width])
    starts_ST = examples.starts_ST
    positions_BT = None if starts_ST is None else torch.from_numpy(positions_of(starts_ST[list(rows)]))
    return Batch(
        rows=tuple(rows),
        ids_BT=ids_BT,
        predicted_BT=predicted_BT,
        tokens=ids_BT.numel() if lengths_B is None else int(lengths_B.sum()),
        positions_BT=positions_BT,
        place=place,
    )


def takes_own_text(share: float, *, seed: int, step: int) -> bool:
    """Whether a step, counted from 0, trains on the student's own text.

    >>> [takes_own_text(share, seed=1, step=0) for share in (0.0, 1.0)]
    [False, True]
    """
    return (drawn_number(seed, step, "own") >> 11) / _DRAWS < share


@dataclass(slots=True)
class OwnText:
    """Lets a student write its training text."""

    spec: OwnTextSpec
    share: float
    """Probability that a step trains on own text."""
    seed: int
    prompts: Packed
    """Text whose sequences begin with the prompts, unless there are prompts of a file."""
    tokenizer: Tokenizer
    open_stage: Callable[[], AbstractContextManager[Stage]]
    """Opens the stage that the student's writing is billed to."""
    asked: StepPrompts | None = None
    """Prompts of a file; None where beginnings of training text are continued."""
    steps: int = 0
    """Steps that took own text so far, in this increment."""
    generated_tokens: int = field(default=0)
    num_tokens: int | None = None
    """How many output rows, from the first, the student may draw, which are the tokenizer's: what pads its output layer
    is no text, and the teacher may have no row to read it with. None where every row may."""
    is_counted: bool = True
    """Whether this process counts what is written: every rank writes the same text, and one of them counts it."""

    def takes(self, step: int) -> bool:
        """Whether that step trains on own text."""
        return takes_own_text(self.share, seed=self.seed, step=step)

    def write(self, model: CausalModel, groups: Sequence[Microbatch], step: int) -> list[Batch]:
        """Let the student continue that step's prompts, all at once; one microbatch for each group of sequences.

        The prompts are the beginnings of those sequences, or as many prompts of the file. Where a step has the end of
        one pass and the beginning of the next, a sequence may be in it twice, and is gone on with twice.

        Tokens counted are the prompts' and those generated, each end token included; padding and what stands behind
        an end token are nothing.
        """
        rows = [row for group in groups for row in group.rows]
        prompts = self._prompts(rows, step)
        was_training = model.training
        with self.open_stage() as stage:
            ends = end_ids(model, self.tokenizer)
            writer = Writer(model, self.tokenizer, self.spec, ends, num_tokens=self.num_tokens)
            try:
                completions = writer.write(prompts, drawn_number(self.seed, step, "text") >> 1)
            finally:
                model.train(was_training)
            generated = sum(map(len, completions))
            counts = {"tokens": sum(map(len, prompts)) + generated, "generated_tokens": generated, "samples": len(rows)}
            stage.add(**{name: amount if self.is_counted else 0 for name, amount in counts.items()})
        self.steps += 1
        self.generated_tokens += generated
        texts = iter(zip(prompts, completions, strict=True))
        return [_own_batch(group, list(islice(texts, len(group.rows)))) for group in groups]

    def _prompts(self, rows: Sequence[int], step: int) -> list[list[int]]:
        if self.asked is not None:
            return self.asked.of_step(step, len(rows))
        return [self.prompts.row(row)[: self.spec.prompt_tokens] for row in rows]


def _own_batch(group: Microbatch, texts: Sequence[tuple[list[int], list[int]]]) -> Batch:
    """Texts padded behind their ends: a causal model's states before the padding do not depend on it.

    >>> batch = _own_batch(Microbatch(8, (4, 7)), [([1, 2], [3, 0]), ([5, 6], [0])])
    >>> batch.ids_BT.tolist(), batch.predicted_BT.tolist(), batch.tokens
    ([[1, 2, 3, 0], [5, 6, 0, 0]], [[False, True, True], [False, True, False]], 7)
    """
    length = max(len(prompt) + len(completion) for prompt, completion in texts)
    ids_BT = torch.zeros(len(texts), length, dtype=torch.long)
    predicted_BT = torch.zeros(len(texts), length - 1, dtype=torch.bool)
    for number, (prompt, completion) in enumerate(texts):
        end = len(prompt) + len(completion)
        ids_BT[number, :end] = torch.tensor([*prompt, *completion])
        predicted_BT[number, len(prompt) - 1 : end - 1] = True
    tokens = sum(len(prompt) + len(completion) for prompt, completion in texts)
    return Batch(
        rows=group.rows, ids_BT=ids_BT, predicted_BT=predicted_BT, tokens=tokens, is_own=True, place=group.place
    )
