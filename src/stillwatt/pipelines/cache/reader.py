"""Reads a coded cache, block by block; many may read at once.

Shapes: B sequences of a batch, T rows of a sequence, R rows of a block, K kept or drawn tokens, V vocabulary.
"""

from __future__ import annotations

import threading
import zlib
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stillwatt.errors import ArtifactError, UsageError
from stillwatt.pipelines.artifacts import file_sha256
from stillwatt.pipelines.cache.codec import CODER_FAILURES, Codec, Rows
from stillwatt.pipelines.cache.files import (
    PRIOR_NAME,
    ShardTables,
    read_checked,
    read_codec,
    read_coded_index,
    read_tokens,
    shard_path,
    tails_of,
)
from stillwatt.pipelines.cache.grid import tail_logmass
from stillwatt.pipelines.cache.scheme import Scheme
from stillwatt.pipelines.logit_cache import CachedLogits
from stillwatt.pipelines.logit_headers import INDEX_NAME, broken, check_complete, not_vouched_for
from stillwatt.pipelines.logit_text import SequenceText, ShardText

__all__ = ["CachedWeights", "CodedCache"]

_HELD_BLOCKS = 8
"""Blocks kept decoded: short sequences share one."""
_HELD_TEXTS = 16
"""Shards whose text is in memory: a megabyte each."""

Floats = npt.NDArray[np.float64]
_Value = TypeVar("_Value", bound=np.generic)


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedWeights:
    """Weighted tokens for a batch of sequences of equal length; for `objectives.sparse.Weighted`."""

    ids_BTK: Tensor
    """int64; -1 fills up."""
    weight_BTK: Tensor
    """float32; their expectation is the teacher's distribution."""

    @property
    def logp_BTK(self) -> Tensor:
        """Log of the weights: with it the loss is short of the exact one by what no student can change.

        0 where a weight is 0.
        """
        # a kept token rounded to nothing is worth nothing: its -inf would come back as 0 * -inf, which is NaN
        return self.weight_BTK.log().masked_fill(self.weight_BTK == 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class _Place:
    shard: int
    first_row: int
    rows: int
    first_token: int


class CodedCache:
    """A complete, checked cache; made by `open`."""

    holds_text = True  # rows are coded under the tokens before them

    def __init__(self, directory: Path, index: Mapping[str, Any], codec: Codec, shards: Iterable[ShardTables]) -> None:
        self.directory, self.codec, self._index = directory, codec, index
        self.scheme = codec.scheme
        self.vocab_size, self.temperature = int(index["vocab_size"]), float(index["temperature"])
        self.inputs: Mapping[str, Any] = index["inputs"]
        # memory is not to grow with the text
        self._shards = tuple(replace(each, tokens_T=each.tokens_T[:0].copy(), supervised_T=None) for each in shards)
        self._texts: OrderedDict[int, ShardText] = OrderedDict()
        self._first_rows = [np.concatenate([[0], np.cumsum(tables.rows_B)]) for tables in self._shards]
        self._places: dict[int, _Place] = {}
        for number, tables in enumerate(self._shards):
            rows_S = tables.length_S - 1
            first_row, first_token = np.cumsum(rows_S) - rows_S, np.cumsum(tables.length_S) - tables.length_S
            for entry in zip(tables.sequence_S, first_row, rows_S, first_token, strict=True):
                sequence, *rest = map(int, entry)
                self._places[sequence] = _Place(number, *rest)
        if len(self._places) != sum(len(tables.sequence_S) for tables in self._shards):
            raise broken(directory, "a sequence stands in it twice")
        self._held: OrderedDict[tuple[int, int], Rows] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def open(cls, directory: Path) -> CodedCache:
        """Open a cache and check every byte of it against its hashes.

        Raises:
            ArtifactError: The cache is unfinished, or a file is missing or changed; names shard and block.
        """
        index = read_coded_index(directory)
        check_complete(directory, index, shard_path(directory, len(index["shards"])))
        codec = read_codec(directory / PRIOR_NAME, Scheme.from_json(index["scheme"]), sha256=index["prior"]["sha256"])
        if codec.prior.vocab_size != index["vocab_size"]:
            detail = f"{PRIOR_NAME} is of {codec.prior.vocab_size} tokens"
            raise broken(directory, f"its {INDEX_NAME} says a vocabulary of {index['vocab_size']}, and its {detail}")
        size, entries = (directory / PRIOR_NAME).stat().st_size, len(codec.prior.ids)
        if (size, entries) != (index["prior"]["bytes"], index["prior"]["entries"]):
            detail = f"{PRIOR_NAME} has {size} bytes and {entries} entries"
            raise broken(directory, f"its {detail}, and its {INDEX_NAME} says otherwise")
        shards = (read_checked(directory, n, shard, index["vocab_size"]) for n, shard in enumerate(index["shards"]))
        return cls(directory, index, codec, shards)

    @property
    def top_k(self) -> int:
        """Tokens kept at each position, at most."""
        return self.scheme.top_k

    @property
    def sequence_indices(self) -> tuple[int, ...]:
        """The sequences it holds, in ascending order."""
        return tuple(sorted(self._places))

    @property
    def num_rows(self) -> int:
        """Positions with a stored distribution."""
        return sum(int(shard["rows"]) for shard in self._index["shards"])

    @property
    def prior_bytes(self) -> int:
        """Size of the prior and the tables."""
        return int(self._index["prior"]["bytes"])

    @property
    def prior_facts(self) -> Mapping[str, Any]:
        """Bytes, entries and hash of the prior."""
        facts: Mapping[str, Any] = self._index["prior"]
        return facts

    @property
    def bytes(self) -> int:
        """Size on disk, index and prior included."""
        names = [INDEX_NAME, PRIOR_NAME, *(shard_path(self.directory, n).name for n in range(len(self._shards)))]
        return sum((self.directory / name).stat().st_size for name in names)

    @property
    def bytes_per_token(self) -> float | None:
        """Bytes on disk over stored positions (method.md, eq. 46); None for a cache without positions."""
        return self.bytes / self.num_rows if self.num_rows else None

    @property
    def bytes_per_token_of(self) -> dict[str, float]:
        """What the bytes are made of, per stored position; their sum is `bytes_per_token` (eq. 89)."""
        found: dict[str, float] = {}
        for shard in self._index["shards"]:
            for part, size in shard["bytes_of"].items():
                found[part] = found.get(part, 0) + size
        found["ends of blocks"] = sum(int(shard["bytes"]) for shard in self._index["shards"]) - sum(found.values())
        found["index"] = (self.directory / INDEX_NAME).stat().st_size
        found["prior"] = self.prior_bytes
        return {part: size / max(self.num_rows, 1) for part, size in found.items()}

    @property
    def kept_mass(self) -> float | None:
        """Mean teacher probability on the kept tokens (eq. 46); None without a head or without positions."""
        levels, counts = self._tails()
        if not len(levels):
            return None
        return float(-np.expm1(tail_logmass(levels)) @ counts / counts.sum())

    def kept_mass_quantiles(self, shares: Sequence[float]) -> tuple[float, ...] | None:
        """Kept mass below which those shares of positions lie; None without a head or without positions."""
        levels, counts = self._tails()
        if not len(levels):
            return None
        kept = -np.expm1(tail_logmass(levels))
        order = np.argsort(kept)
        reached = np.cumsum(counts[order]) / counts.sum()
        at = np.minimum(np.searchsorted(reached, np.asarray(shares) - 1e-12), len(order) - 1)
        return tuple(kept[order][at].tolist())

    def _tails(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        pairs = [pair for shard in self._index["shards"] for pair in tails_of(shard["tails"]).items()]
        found = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        return found[:, 0], found[:, 1]

    @property
    def sha256(self) -> str:
        """Hash of the index, which carries the hashes of everything else."""
        return file_sha256(self.directory / INDEX_NAME)

    @property
    def num_blocks(self) -> int:
        """Blocks of all shards."""
        return sum(len(tables.rows_B) for tables in self._shards)

    def tokens(self, sequence_index: int) -> npt.NDArray[np.int64]:
        """The tokens of a sequence, as the teacher read them."""
        return self.text(sequence_index).tokens_T

    def text(self, sequence_index: int) -> SequenceText:
        """A sequence as the teacher read it."""
        at = self._place(sequence_index)
        return self._text(at.shard).part(at.first_token, at.rows + 1)

    @property
    def not_vouched_for(self) -> str | None:
        """What of it no hash speaks for; None where all of it is under one."""
        return not_vouched_for(self.directory, self._index)

    def verify(self) -> None:
        """Decode every block, and hold what is in it against the header.

        Raises:
            ArtifactError: Names the shard, and the block where one is to blame.
        """
        for shard, tables in enumerate(self._shards):
            tails: Counter[int] = Counter()
            for block in range(len(tables.rows_B)):
                rows = self.block(shard, block)
                tails.update(rows.tail_R.tolist() if self.scheme.has_head else ())
                if self.not_vouched_for is not None and not self.codec.gives(rows, int(tables.crc_B[block])):
                    where = f"shard {shard} ({shard_path(self.directory, shard).name}), block {block}"
                    detail = f"it was not coded under the scheme that its {INDEX_NAME} says"
                    raise broken(self.directory, f"{where}: {detail}")
            if tails != tails_of(self._index["shards"][shard]["tails"]):
                raise broken(self.directory, f"shard {shard}: its rows have other tails than its {INDEX_NAME} says")

    def rows(self, sequence_index: int) -> Rows:
        """A sequence's rows as levels and counts.

        Raises:
            IndexError: The cache does not hold that sequence.
            ArtifactError: A block has changed since the cache was opened.
        """
        place = self._place(sequence_index)
        if not place.rows:
            return Rows.none()
        first, parts = self._first_rows[place.shard], []
        block = int(np.searchsorted(first, place.first_row, side="right")) - 1
        start, end = place.first_row, place.first_row + place.rows
        while start < end:
            begin, stop = int(first[block]), min(int(first[block + 1]), end)
            parts.append(self.block(place.shard, block)[start - begin : stop - begin])
            start, block = stop, block + 1
        return Rows.join(parts)

    def block(self, shard: int, block: int) -> Rows:
        """One block's rows; random access costs one block.

        Raises:
            ArtifactError: The block has changed since the cache was opened.
        """
        key = (shard, block)
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        rows = self._decoded(shard, block)
        with self._lock:
            self._held[key] = rows
            while len(self._held) > _HELD_BLOCKS:
                self._held.popitem(last=False)
        return rows

    def _decoded(self, shard: int, block: int) -> Rows:
        tables, path = self._shards[shard], shard_path(self.directory, shard)
        where = f"shard {shard} ({path.name}), block {block} of {len(tables.rows_B)}"
        with path.open("rb") as file:
            file.seek(int(tables.first_byte_B[block]))
            payload = file.read(int(tables.bytes_B[block]))
        if zlib.crc32(payload) != int(tables.crc_B[block]):
            raise ArtifactError(str(self.directory), f"{where}: changed since the cache was opened")
        try:
            return self.codec.decode(payload, self._preceding(shard, block))
        except CODER_FAILURES as err:  # its bytes are whole, so what they are read by is not
            detail = f"cannot be decoded under the scheme that its {INDEX_NAME} says ({type(err).__name__}: {err})"
            raise broken(self.directory, f"{where}: {detail}") from err

    def _text(self, shard: int) -> ShardText:
        with self._lock:
            if shard in self._texts:
                self._texts.move_to_end(shard)
                return self._texts[shard]
        found = read_tokens(self.directory, shard)
        with self._lock:
            self._texts[shard] = found
            while len(self._texts) > _HELD_TEXTS:
                self._texts.popitem(last=False)
        return found

    def _preceding(self, shard: int, block: int) -> npt.NDArray[np.int64]:
        """The token before each row of a block: all tokens but the last of each sequence."""
        tables, first = self._shards[shard], self._first_rows[shard]
        rows_S = tables.length_S - 1
        start, end = int(first[block]), int(first[block + 1])
        ends_S = np.cumsum(rows_S)
        at = np.arange(start, end)
        preceding: npt.NDArray[np.int64] = self._text(shard).tokens_T[at + np.searchsorted(ends_S, at, side="right")]
        return preceding

    def batch(self, sequence_indices: Sequence[int]) -> CachedLogits:
        """Kept tokens, most probable first, and tails, of some sequences of equal length; for `topk` and `topp`.

        Raises:
            IndexError: The cache does not hold one of them.
            UsageError: The scheme has draws; `weights` reads them.
            ValueError: None are asked for, or their lengths differ.
        """
        if self.scheme.is_unbiased:
            raise UsageError(f"{self.directory}: scheme {self.scheme.name} holds weighted tokens; use loss sampled_kl")
        rows, shape = self._stacked(sequence_indices)
        return CachedLogits(
            ids_BTK=torch.from_numpy(_by_sequence(rows.ids_RK, shape)),
            logp_BTK=torch.from_numpy(_by_sequence(self._kept_logp(rows).astype(np.float32), shape)),
            tail_logmass_BT=torch.from_numpy(tail_logmass(rows.tail_R).astype(np.float32).reshape(shape)),
        )

    def weights(self, sequence_indices: Sequence[int]) -> CachedWeights:
        """Weighted tokens of some sequences of equal length; for `head_draws` and `rs_kd` (method.md, eq. 87).

        Raises:
            IndexError: The cache does not hold one of them.
            UsageError: The scheme has no draws; `batch` reads it.
            ValueError: None are asked for, or their lengths differ.
        """
        if not self.scheme.is_unbiased:
            raise UsageError(
                f"{self.directory}: scheme {self.scheme.name} holds no draws; use its kept tokens and tail"
            )
        rows, shape = self._stacked(sequence_indices)
        ids_RK, weight_RK = self._weights(rows)
        return CachedWeights(
            ids_BTK=torch.from_numpy(_by_sequence(ids_RK, shape)),
            weight_BTK=torch.from_numpy(_by_sequence(weight_RK.astype(np.float32), shape)),
        )

    def mean_logp(self, sequence_index: int) -> npt.NDArray[np.float32]:
        """Log of what the prior expects after each token of a sequence, [T, V]: the shape of a tail."""
        return self.codec.prior.mean_logp(self.tokens(sequence_index)[:-1])

    def _stacked(self, sequence_indices: Sequence[int]) -> tuple[Rows, tuple[int, int]]:
        stored = [self.rows(index) for index in sequence_indices]
        if len({len(rows) for rows in stored}) != 1:
            raise ValueError(f"a batch needs sequences of one length, not {[len(rows) for rows in stored]} rows")
        return Rows.join(stored), (len(stored), len(stored[0]))

    def _kept_logp(self, rows: Rows) -> Floats:
        """Log-probabilities whose mass and the tail sum to 1 (eq. 81)."""
        logp = np.where(rows.ids_RK < 0, -np.inf, self.scheme.grid.points[rows.level_RK])
        with np.errstate(divide="ignore"):
            found = np.log(np.exp(logp).sum(1))
            kept = np.log(-np.expm1(tail_logmass(rows.tail_R)))
        scaled: Floats = logp + (kept - found)[:, None]
        return scaled

    def _weights(self, rows: Rows) -> tuple[npt.NDArray[np.int64], Floats]:
        head = np.where(rows.ids_RK < 0, 0.0, np.exp(self.scheme.grid.points[rows.level_RK]))
        counts = np.where(rows.draw_ids_RU < 0, 0, rows.draw_counts_RU)
        mass = np.exp(tail_logmass(rows.tail_R)) if self.scheme.has_head else np.ones(len(rows))
        drawn = counts * (mass / self.scheme.draws)[:, None]
        return np.concatenate([rows.ids_RK, rows.draw_ids_RU], 1), np.concatenate([head, drawn], 1)

    def _place(self, sequence_index: int) -> _Place:
        if sequence_index not in self._places:
            raise IndexError(f"{self.directory} holds no sequence {sequence_index}")
        return self._places[sequence_index]


def _by_sequence(values_RK: npt.NDArray[_Value], shape: tuple[int, int]) -> npt.NDArray[_Value]:
    """Rows by sequence, [B, T, K]; where all sequences are of one token there are no rows, and K is 1 as losses want.

    >>> _by_sequence(np.zeros((6, 3)), (2, 3)).shape, _by_sequence(np.zeros((0, 0)), (2, 0)).shape
    ((2, 3, 3), (2, 0, 1))
    """
    return values_RK.reshape(*shape, values_RK.shape[1]) if len(values_RK) else values_RK.reshape(*shape, 1)
