"""The beginning-of-text token: what a tokenizer's own encoding puts before every text.

A model that was trained with one gives next to nothing without it (Gemma-7B's perplexity on LAMBADA is 5.9e9 instead of
3.5: lm-evaluation-harness, pull request 1465), so each document, sequence, prompt and question begins with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["begins_with_bos", "bos_ids_of", "last_with_bos", "with_bos", "without_bos"]

_LETTER = "a"
"""Some text, to see what is put before it."""


def bos_ids_of(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """What the tokenizer's own encoding puts before a text, mostly one token; nothing where it puts nothing.

    Having a BOS is not enough: GPT-2's is its end token, and none is put before a text.
    """
    plain = list(tokenizer(_LETTER, add_special_tokens=False)["input_ids"])
    own = list(tokenizer(_LETTER)["input_ids"])
    for start in range(len(own) - len(plain) + 1):
        if own[start : start + len(plain)] == plain:
            return tuple(int(token) for token in own[:start])
    # a text's first token may be another behind a BOS
    return (int(own[0]),) if own and own[0] == tokenizer.bos_token_id else ()


def begins_with_bos(ids: Sequence[int], bos_ids: tuple[int, ...]) -> bool:
    """Whether tokens begin with it, as text from a chat template may; true where there is none."""
    return tuple(int(token) for token in ids[: len(bos_ids)]) == bos_ids


def without_bos(ids_T: npt.NDArray[np.int32], bos_ids: tuple[int, ...]) -> npt.NDArray[np.int32]:
    """A document's tokens without the BOS before them.

    >>> without_bos(np.array([1, 5], dtype=np.int32), (1,)).tolist()
    [5]
    """
    return ids_T[len(bos_ids) :] if begins_with_bos(ids_T[: len(bos_ids)].tolist(), bos_ids) else ids_T


def with_bos(ids: Sequence[int], bos_ids: tuple[int, ...]) -> list[int]:
    """Tokens with the BOS before them, never twice.

    >>> with_bos([5, 6], (1,)), with_bos([1, 5], (1,)), with_bos([5], ())
    ([1, 5, 6], [1, 5], [5])
    """
    return list(ids) if begins_with_bos(ids, bos_ids) else [*bos_ids, *ids]


def last_with_bos(ids: Sequence[int], most: int, bos_ids: tuple[int, ...]) -> list[int]:
    """The last of some tokens, `most` of them at most, the BOS that stays before them among these.

    >>> last_with_bos([1, 5, 6, 7], 3, (1,)), last_with_bos([5, 6, 7], 2, ())
    ([1, 6, 7], [6, 7])
    """
    if len(ids) <= most or not bos_ids:
        return list(ids[-most:])
    return [*bos_ids, *ids[len(ids) - max(most - len(bos_ids), 0) :]]
