"""The text of a logit cache as training text: its sequences as they are, the last of them held out.

Shapes: S sequences, T tokens of the longest that may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stillwatt.errors import ArtifactError, MissingInputError, StillwattError
from stillwatt.pipelines.caches import check_tokenizer, open_cache
from stillwatt.pipelines.corpus import Packed
from stillwatt.pipelines.logit_cache import LogitCache
from stillwatt.pipelines.logit_text import SequenceText
from stillwatt.pipelines.passes import settings_reaching
from stillwatt.pipelines.spec import CACHE_SCHEME

if TYPE_CHECKING:
    from stillwatt.pipelines.cache.reader import CodedCache
    from stillwatt.pipelines.spec_data import DataSpec

__all__ = ["CachedCorpus", "cache_dir", "is_cached", "load_cached", "open_given"]

_BEGIN = (
    "`stillwatt cache verify` says what is wrong; copy the folder again from where it was whole, or convert it anew"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedCorpus:
    """What a cache gives to train on and to be judged by."""

    train: Packed
    held_out: tuple[npt.NDArray[np.int32], ...]
    num_train: int
    """Sequences that may be trained on; `train` holds the first of them."""
    names_tokenizer: bool
    """Whether the cache says which tokenizer its tokens are of."""


def is_cached(source: str) -> bool:
    """Whether a corpus source is the text of a cache.

    >>> is_cached("cache:mine"), is_cached("path:mine.jsonl")
    (True, False)
    """
    return source.startswith(CACHE_SCHEME)


def cache_dir(written: str) -> Path:
    """The folder that a recipe means, with or without the scheme before it.

    >>> cache_dir("cache:caches/mine").as_posix()
    'caches/mine'
    """
    return Path(written.removeprefix(CACHE_SCHEME)).expanduser()


def open_given(directory: Path, key: str) -> LogitCache | CodedCache:
    """Open a cache that a recipe names, every byte checked; it is never moved aside, as it is not ours to make again.

    Args:
        directory: The cache.
        key: The recipe's key, for the message.

    Raises:
        MissingInputError: There is no such folder.
        StillwattError: It is no cache, unfinished or damaged.
    """
    if not directory.is_dir():
        raise MissingInputError(f"the logit cache of {key}", str(directory), "name the folder of a sealed cache")
    try:
        return open_cache(directory)
    except ArtifactError as err:
        raise StillwattError(f"{key}: the logit cache {err.path} cannot be used: {err.detail}; {_BEGIN}") from err


def load_cached(data: DataSpec, count: int, tokenizer_sha256: str) -> CachedCorpus:
    """Take the first `count` sequences of a cache to train on, and the last share of all for evaluation.

    Raises:
        UsageError: The cache names another tokenizer.
        StillwattError: The cache does not hold its text, has too few sequences, too long ones, or nothing to predict.
    """
    directory = cache_dir(data.source)
    cache = open_given(directory, "data.source")
    check_tokenizer(f"data.source: {directory}", cache.inputs, tokenizer_sha256)
    _check_text(cache, directory)
    order = cache.sequence_indices
    num_held_out = int(np.ceil(data.held_out_share * len(order)))
    num_train = len(order) - num_held_out
    if count > num_train or not num_held_out:
        raise StillwattError(
            f"data.source: {directory} holds {len(order)} sequences, of which {num_held_out} are held out, and "
            f"data.train_tokens asks for {count}: lower it to at most "
            f"{num_train * data.sequence_tokens * data.epochs}, or data.held_out_share{_more(data, num_train)}"
        )
    texts = [cache.text(index) for index in order[:count]]
    longest = max(len(text.tokens_T) for text in texts)
    if longest > data.sequence_tokens:
        raise StillwattError(
            f"data.source: {directory} holds a sequence of {longest} tokens, and data.sequence_tokens is "
            f"{data.sequence_tokens}; raise it, as a cache's sequences are not cut"
        )
    held_out = tuple(cache.text(index).tokens_T.astype(np.int32) for index in order[num_train:])
    train = _packed(texts, data.sequence_tokens)
    if not train.supervised_ST.any():
        raise StillwattError(
            f"data.source: in {directory} no token of the {count} sequences to train on is to be predicted; look at "
            "the column labels of the table that it was converted from"
        )
    names_tokenizer = "tokenizer_sha256" in cache.inputs
    return CachedCorpus(train=train, held_out=held_out, num_train=num_train, names_tokenizer=names_tokenizer)


def _more(data: DataSpec, num_train: int) -> str:
    more = settings_reaching(num_train, places=data.sequences * data.epochs, length=data.sequence_tokens)
    return f", or set {more}" if more and num_train < data.sequences else ""


def _check_text(cache: LogitCache | CodedCache, directory: Path) -> None:
    if not cache.holds_text:
        raise StillwattError(
            f"data.source: the logit cache {directory} does not hold its text; convert its table anew with this "
            "release, or name the text itself as data.source"
        )
    if cache.inputs.get("packing") == "documents":
        raise StillwattError(
            f"data.source: the teacher of {directory} kept documents apart, and where they begin is not in the cache; "
            'name the text itself as data.source, with packing = "documents"'
        )


def _packed(texts: Sequence[SequenceText], length: int) -> Packed:
    """Sequences as they are, padded behind their ends: states before the padding do not depend on it.

    >>> packed = _packed([SequenceText.whole(np.array([7, 8])), SequenceText.whole(np.array([4, 5, 6]))], 3)
    >>> packed.ids_ST.tolist(), packed.supervised_ST.tolist(), packed.num_tokens
    ([[7, 8, 0], [4, 5, 6]], [[False, True, False], [False, True, True]], 5)
    """
    ids_ST = np.zeros((len(texts), length), dtype=np.int32)
    supervised_ST = np.zeros((len(texts), length), dtype=np.bool_)
    for row, text in enumerate(texts):
        ids_ST[row, : len(text.tokens_T)] = text.tokens_T
        supervised_ST[row, : len(text.tokens_T)] = text.supervised_T
    lengths_S = np.array([len(text.tokens_T) for text in texts], dtype=np.int64)
    return Packed(ids_ST=ids_ST, supervised_ST=supervised_ST, dropped_tokens=0, lengths_S=lengths_S)
