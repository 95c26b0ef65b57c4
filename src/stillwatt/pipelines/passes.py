"""Passes over the training text: which sequence comes at which place of a training (method.md, section 6)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Microbatch", "Passes", "budget_text", "settings_reaching"]

_ORDER = 0x7061  # keeps the orders of later passes apart from every other that begins with the same seed


class Microbatch(NamedTuple):
    """Sequences that go through a model together."""

    place: int
    """Of the first of them in the training, all passes counted: what tells it from one of the same sequences in another
    pass."""
    rows: tuple[int, ...]
    """Numbers of the sequences; where one pass ends and the next begins, a number may stand there twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """Every sequence once a pass, each pass in an order of its own.

    Orders depend on the seed and the number of the pass alone: no rank, no resume and no number of passes has a say,
    so that the first pass is that of a training with no other.
    """

    sequences: int
    epochs: int
    seed: int

    @property
    def places(self) -> int:
        """Sequences of the whole training, each counted in every pass."""
        return self.sequences * self.epochs

    def microbatches(self, start: int, stop: int, size: int) -> list[Microbatch]:
        """Those places of the training as they go through a model; the last microbatch may be short.

        A pass that ends within a step is gone on with by the next one's first sequences, so that nothing is left out.

        >>> passes = Passes(sequences=3, epochs=2, seed=1)
        >>> [microbatch.place for microbatch in passes.microbatches(0, 99, 2)]
        [0, 2, 4]
        >>> sorted(row for microbatch in passes.microbatches(3, 6, 2) for row in microbatch.rows)
        [0, 1, 2]
        """
        rows = self._rows(start, min(stop, self.places))
        return [Microbatch(start + at, tuple(rows[at : at + size])) for at in range(0, len(rows), size)]

    def _rows(self, start: int, stop: int) -> list[int]:
        found: list[int] = []
        while start < stop:
            number, within = divmod(start, self.sequences)
            end = min(self.sequences, within + stop - start)
            found += _permutation(self.sequences, self.seed, number)[within:end].tolist()
            start += end - within
        return found


@lru_cache(maxsize=2)
def _permutation(count: int, seed: int, number: int) -> npt.NDArray[np.int64]:
    """The order of a pass; two are kept, as a step may hold the end of one and the beginning of the next."""
    return np.random.default_rng([_ORDER, seed, number] if number else seed).permutation(count)


def budget_text(tokens: int, epochs: int) -> str:
    """A budget of tokens, with what a pass of it takes.

    >>> budget_text(3072, 1), budget_text(3072, 3)
    ('the budget is 3,072', 'the budget is 3,072, 1,024 in each of 3 passes')
    """
    said = f"the budget is {tokens:,}"
    return said if epochs == 1 else f"{said}, {tokens // epochs:,} in each of {epochs:,} passes"


def settings_reaching(sequences: int, *, places: int, length: int) -> str:
    """Which settings come to a budget, or as near above it as whole passes can, with the text there is; empty for none.

    Args:
        sequences: Of the text there is.
        places: Sequences of the budget, each counted in every pass.
        length: Tokens of a sequence.

    >>> settings_reaching(25, places=100, length=8)
    'data.epochs = 4'
    >>> settings_reaching(30, places=101, length=8)
    'data.epochs = 4 with data.train_tokens = 832'
    """
    if not sequences:
        return ""
    epochs = -(-places // sequences)
    each = -(-places // epochs)
    exact = f"data.epochs = {epochs}"
    return exact if each * epochs == places else f"{exact} with data.train_tokens = {each * epochs * length}"
