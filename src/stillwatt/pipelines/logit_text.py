"""The text of a logit cache, where it holds it: each sequence's token ids, and which of them are to be predicted.

Fixed rows keep it in files of their own beside each shard; the coded form has it in the shard's tables.

Shapes: T tokens of a sequence, or of all sequences of a shard.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stillwatt.pipelines.arrays import read_array, write_array
from stillwatt.pipelines.logit_headers import INDEX_NAME, broken, is_hash

__all__ = [
    "WITHOUT_TEXT",
    "CacheText",
    "SequenceText",
    "ShardText",
    "check_text",
    "has_text",
    "open_text",
    "sequences_sha256",
    "text_paths",
    "write_text",
]

WITHOUT_TEXT = "comes with its text and those before it without, or the other way round"
"""What is wrong where a cache would hold the text of some of its sequences."""

_TOKENS = "tokens_sha256"
_TARGETS = "supervised_sha256"
_TOKENS_DTYPE = np.dtype("<i4")
_TARGETS_DTYPE = np.dtype("|u1")


@dataclass(frozen=True, slots=True)
class SequenceText:
    """One sequence as its teacher read it.

    >>> SequenceText.whole(np.array([5, 6, 7])).supervised_T.tolist()
    [False, True, True]
    """

    tokens_T: npt.NDArray[np.int64]
    supervised_T: npt.NDArray[np.bool_]
    """Which tokens are to be predicted; the first never is."""

    @classmethod
    def whole(cls, tokens_T: npt.NDArray[np.integer]) -> SequenceText:
        """A text all of which is to be predicted but its first token."""
        return cls(tokens_T.astype(np.int64), np.arange(len(tokens_T)) > 0)

    @property
    def is_whole(self) -> bool:
        """Whether all but the first token is to be predicted."""
        return bool(self.supervised_T[1:].all())


@dataclass(frozen=True, slots=True)
class ShardText:
    """The text of all sequences of a shard, one behind the other."""

    tokens_T: npt.NDArray[np.integer]
    supervised_T: npt.NDArray[np.integer] | None
    """1 where a token is to be predicted; None where all are but the first of each sequence."""

    def part(self, first: int, tokens: int) -> SequenceText:
        """The sequence of so many tokens that begins there."""
        found = SequenceText.whole(np.asarray(self.tokens_T[first : first + tokens]))
        if self.supervised_T is None:
            return found
        return SequenceText(found.tokens_T, np.asarray(self.supervised_T[first : first + tokens]) != 0)


class CacheText:
    """The text of a cache of fixed rows; made by `open_text`."""

    def __init__(self, shards: Sequence[ShardText]) -> None:
        self._shards = shards

    def sequence(self, shard: int, first_row: int, rows: int, before: int) -> SequenceText:
        """One sequence, by where its rows lie and how many sequences of the shard stand before it."""
        return self._shards[shard].part(first_row + before, rows + 1)


def sequences_sha256(sequences: Iterable[Sequence[int] | npt.NDArray[np.integer]]) -> str:
    """One hash over all token ids and lengths.

    >>> sequences_sha256([[1, 2], [3]]) == sequences_sha256([[1], [2, 3]])
    False
    """
    digest = hashlib.sha256()
    for sequence in sequences:
        digest.update(len(sequence).to_bytes(8, "little"))
        digest.update(np.asarray(sequence, dtype="<i8").tobytes())
    return digest.hexdigest()


def check_text(where: str, text: SequenceText, *, rows: int, vocab_size: int) -> None:
    """Refuse a text that does not fit its rows.

    Raises:
        ValueError: It has not one token more than there are rows, or one outside the vocabulary.
    """
    if not len(text.tokens_T) == len(text.supervised_T) == rows + 1:
        raise ValueError(f"{where}: {len(text.tokens_T)} tokens for {rows} rows; there is one more")
    if not 0 <= text.tokens_T.min() <= text.tokens_T.max() < vocab_size:
        raise ValueError(f"{where}: a token lies outside the vocabulary of {vocab_size}")


def text_paths(directory: Path, number: int) -> tuple[Path, Path]:
    """Where the tokens of a shard lie, and which of them are to be predicted."""
    return directory / f"shard-{number:05d}.tokens.npy", directory / f"shard-{number:05d}.supervised.npy"


def write_text(directory: Path, number: int, texts: Sequence[SequenceText]) -> dict[str, str]:
    """Write the text of a shard's sequences; returns what its index says of it."""
    tokens_path, targets_path = text_paths(directory, number)
    tokens_T = np.concatenate([text.tokens_T for text in texts]).astype(_TOKENS_DTYPE)
    said = {_TOKENS: write_array(tokens_path, tokens_T)}
    if not all(text.is_whole for text in texts):
        targets_T = np.concatenate([text.supervised_T for text in texts]).astype(_TARGETS_DTYPE)
        said[_TARGETS] = write_array(targets_path, targets_T)
    return said


def has_text(said: Mapping[str, Any]) -> bool:
    """Whether a shard's entry in an index names its text."""
    return _TOKENS in said


def open_text(directory: Path, index: Mapping[str, Any]) -> CacheText | None:
    """Check every byte of a cache's text; None where it holds none.

    Raises:
        ArtifactError: A file is missing or changed, or contradicts the index; or some shards have text and some none.
    """
    shards = index["shards"]
    if not any(has_text(said) for said in shards):
        return None
    return CacheText([_open(directory, number, said, int(index["vocab_size"])) for number, said in enumerate(shards)])


def _open(directory: Path, number: int, said: Mapping[str, Any], vocab_size: int) -> ShardText:
    for name in (_TOKENS, _TARGETS):
        if not is_hash(said.get(name, "" if name == _TOKENS else "0" * 64)):
            raise broken(directory, f"its {INDEX_NAME}, shard {number}, has no sound {name}")
    tokens_path, targets_path = text_paths(directory, number)
    wanted = int(said["rows"]) + int(said["sequences"])
    tokens_T = read_array(tokens_path, sha256=said[_TOKENS], dtype=_TOKENS_DTYPE, is_mapped=wanted > 0)
    if tokens_T.shape != (wanted,):
        raise broken(directory, f"shard {number}: {tokens_path.name} holds {tokens_T.shape} tokens, not {wanted}")
    if wanted and not 0 <= int(tokens_T.min()) <= int(tokens_T.max()) < vocab_size:
        raise broken(directory, f"shard {number}: a token lies outside the vocabulary of {vocab_size}")
    if _TARGETS not in said:
        return ShardText(tokens_T, None)
    targets_T = read_array(targets_path, sha256=said[_TARGETS], dtype=_TARGETS_DTYPE, is_mapped=wanted > 0)
    if targets_T.shape != tokens_T.shape:
        raise broken(directory, f"shard {number}: {targets_path.name} does not fit {tokens_path.name}")
    return ShardText(tokens_T, targets_T)
