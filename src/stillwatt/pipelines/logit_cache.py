"""The teacher's distributions on disk: top-k token ids, their log-probabilities, and the mass of all the rest.

A cache is a folder (docs/reference/logit-cache.md): `index.json` says what it holds and carries a hash of every
other file; each shard is one `.npy` file of fixed-size rows, memory-mapped by the reader, and one of sequence
offsets. Nothing is pickled. A shard counts once `index.json` names it, so a killed writer loses at most the shard
it was filling, and goes on behind the last sealed one.

Alignment: a sequence of n tokens has n - 1 rows. Row t is the teacher's distribution over token t + 1, given tokens
0 to t; it belongs with the student's hidden state at t and with the target `tokens[t + 1]`. The last token predicts
nothing that is in the text, so it has no row; padding is never stored.

Shapes: B sequences of a batch, T rows of a sequence, K kept tokens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stillwatt.errors import ArtifactError
from stillwatt.pipelines import logit_text
from stillwatt.pipelines.arrays import write_array
from stillwatt.pipelines.artifacts import file_sha256, remove_unfinished
from stillwatt.pipelines.logit_headers import MOST_TOKENS, broken, check_complete, not_vouched_for, write_header
from stillwatt.pipelines.logit_shards import (
    INDEX_NAME,
    LOGIT_CACHE_SCHEMA,
    OFFSETS_DTYPE,
    Shard,
    check_rows,
    open_shard,
    read_index,
    renormalised,
    row_dtype,
    shard_paths,
)
from stillwatt.pipelines.logit_text import CacheText, SequenceText, check_text

__all__ = ["MASS_TOLERANCE", "CachedLogits", "CachedSequence", "LogitCache", "LogitCacheWriter"]

MASS_TOLERANCE = 2.0**-20
"""What is read sums to 1 within this, kept tokens and tail together."""
SHARD_ROWS = 32_768
"""About 8 MB at 64 kept tokens: what a kill can cost, and what a reader checks at once."""
_SUM_TOLERANCE = 2.0**-30
"""How far a sum may be off from the same one taken again, for each row."""
_LEAST_FP16 = float(np.finfo(np.float16).min)


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedLogits:
    """The teacher's distributions for a batch of sequences of equal length; ready for `losses.cached_kd_head`."""

    ids_BTK: Tensor
    """int64; most probable first."""
    logp_BTK: Tensor
    """float32, at the cache's temperature."""
    tail_logmass_BT: Tensor
    """float32; log of the mass outside the kept tokens, -inf where there is none."""

    def to(self, device: torch.device | str) -> CachedLogits:
        """The same on another device."""
        return CachedLogits(
            ids_BTK=self.ids_BTK.to(device),
            logp_BTK=self.logp_BTK.to(device),
            tail_logmass_BT=self.tail_logmass_BT.to(device),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedSequence:
    """The teacher's distributions for one sequence; dtypes as in `CachedLogits`."""

    ids_TK: Tensor
    logp_TK: Tensor
    tail_logmass_T: Tensor


class LogitCacheWriter:
    """Fills a cache, sequence by sequence; `close`, or leaving the `with` block without error, completes it.

    Opened on a folder where an earlier writer was stopped, it continues: `sealed_sequences` need not be added again.
    """

    def __init__(
        self,
        directory: Path,
        *,
        vocab_size: int,
        top_k: int,
        temperature: float,
        inputs: Mapping[str, Any],
        shard_rows: int | None = None,
    ) -> None:
        """Open or continue a cache.

        Args:
            directory: Made if it is not there.
            vocab_size: Size of the teacher's output.
            top_k: Tokens kept at each position.
            temperature: The teacher's logits are divided by it before the softmax.
            inputs: What the cache was made from, as JSON values; an unfinished cache of other inputs is refused.
            shard_rows: A shard is sealed once it holds this many rows; SHARD_ROWS unless told.

        Raises:
            ValueError: `top_k` or `temperature` has no meaning.
            ArtifactError: The folder holds a cache that is damaged or of other inputs.
        """
        if vocab_size > MOST_TOKENS:
            raise ValueError(f"a vocabulary of {vocab_size} tokens is above the {MOST_TOKENS} that a cache can have")
        if not 1 <= top_k <= vocab_size:
            raise ValueError(f"top_k {top_k} must lie between 1 and the vocabulary's {vocab_size}")
        if not temperature > 0.0:
            raise ValueError(f"temperature {temperature} must be positive")
        self._directory, self._shard_rows = directory, shard_rows or SHARD_ROWS
        self._dtype = row_dtype(vocab_size, top_k)
        self._vocab_size, self._top_k = vocab_size, top_k
        self._rows: list[npt.NDArray[np.void]] = []
        self._pending: list[int] = []
        self._texts: list[SequenceText] = []
        self._index: dict[str, Any] = {
            "schema": LOGIT_CACHE_SCHEMA,
            "vocab_size": vocab_size,
            "top_k": top_k,
            "temperature": temperature,
            "inputs": json.loads(json.dumps(dict(inputs), allow_nan=False)),
            "alignment": "row t is the distribution over token t + 1; n tokens have n - 1 rows",
            "is_complete": False,
            "shards": [],
        }
        directory.mkdir(parents=True, exist_ok=True)
        remove_unfinished(directory)
        self._sealed = self._resume()
        shards = self._index["shards"]
        self._holds_text = logit_text.has_text(shards[0]) if shards else None

    @property
    def sealed_sequences(self) -> frozenset[int]:
        """Indices of the sequences that a kill can no longer take."""
        return frozenset(self._sealed)

    def add(
        self,
        sequence_index: int,
        ids_TK: npt.NDArray[np.integer],
        logp_TK: npt.NDArray[np.floating],
        tail_logmass_T: npt.NDArray[np.floating],
        *,
        text: SequenceText | None = None,
    ) -> None:
        """Append one sequence's rows, and its text where the cache is to hold it; sealed with its shard.

        Raises:
            ValueError: The sequence is there already, the cache is complete, a row is not a distribution over
                different tokens, or the text does not fit the rows.
            ArtifactError: Some sequences come with their text and some without.
        """
        if sequence_index in self._sealed or sequence_index in self._pending:
            raise ValueError(f"sequence {sequence_index} is in the cache already")
        if self._index["is_complete"]:
            raise ValueError(f"sequence {sequence_index}: the cache is complete and cannot be added to")
        rows = (ids_TK, logp_TK, tail_logmass_T)
        check_rows(f"sequence {sequence_index}", rows, top_k=self._top_k, vocab_size=self._vocab_size)
        if self._holds_text not in (None, text is not None):
            raise ArtifactError(str(self._directory), f"sequence {sequence_index} {logit_text.WITHOUT_TEXT}")
        self._holds_text = text is not None
        if text is not None:
            check_text(f"sequence {sequence_index}", text, rows=len(ids_TK), vocab_size=self._vocab_size)
            self._texts.append(text)
        rows_T = np.empty(len(ids_TK), dtype=self._dtype)
        rows_T["ids"] = ids_TK
        rows_T["logp"] = np.clip(logp_TK, _LEAST_FP16, 0.0)
        rows_T["tail_logmass"] = tail_logmass_T
        self._rows.append(rows_T)
        self._pending.append(sequence_index)
        if sum(map(len, self._rows)) >= self._shard_rows:
            self._seal()

    def close(self) -> None:
        """Seal what is left and mark the cache as complete."""
        if self._pending:
            self._seal()
        self._index["is_complete"] = True
        write_header(self._directory, self._index)

    def __enter__(self) -> LogitCacheWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()

    def _resume(self) -> list[int]:
        """Take over the sealed shards of an earlier writer; half-written files stay unnamed and are overwritten."""
        if not (self._directory / INDEX_NAME).exists():
            write_header(self._directory, self._index)
            return []
        index = read_index(self._directory)
        for key in ("vocab_size", "top_k", "temperature", "inputs"):
            if index[key] != self._index[key]:
                raise ArtifactError(str(self._directory), f"it was begun with another {key}")
        sealed: list[int] = []
        for number, shard in enumerate(index["shards"]):
            sealed += open_shard(self._directory, number, shard, self._dtype).offsets["sequence"].tolist()
        self._index["shards"], self._index["is_complete"] = index["shards"], index["is_complete"]
        return sealed

    def _seal(self) -> None:
        """Put a shard on disk, then name it in the index: only the second step makes it count."""
        number = len(self._index["shards"])
        rows_R = np.concatenate(self._rows)
        offsets = np.zeros(len(self._pending), dtype=OFFSETS_DTYPE)
        offsets["sequence"], offsets["rows"] = self._pending, [len(rows) for rows in self._rows]
        offsets["first_row"] = np.cumsum(offsets["rows"]) - offsets["rows"]
        rows_path, offsets_path = shard_paths(self._directory, number)
        self._index["shards"].append(
            {
                "rows": len(rows_R),
                "sequences": len(offsets),
                "kept_mass_sum": float(-np.expm1(rows_R["tail_logmass"].astype(np.float64)).sum()),
                "rows_sha256": write_array(rows_path, rows_R),
                "offsets_sha256": write_array(offsets_path, offsets),
                **(logit_text.write_text(self._directory, number, self._texts) if self._texts else {}),
            }
        )
        write_header(self._directory, self._index)
        self._sealed += self._pending
        self._rows, self._pending, self._texts = [], [], []


class LogitCache:
    """A complete, checked cache, memory-mapped; made by `open`."""

    def __init__(
        self, directory: Path, index: Mapping[str, Any], shards: Sequence[Shard], text: CacheText | None = None
    ) -> None:
        self.directory = directory
        self.vocab_size, self.top_k = int(index["vocab_size"]), int(index["top_k"])
        self.temperature = float(index["temperature"])
        self.inputs: Mapping[str, Any] = index["inputs"]
        self._index = index
        self._shards, self._text = tuple(shards), text
        self._places = {
            int(entry["sequence"]): (number, int(entry["first_row"]), int(entry["rows"]), before)
            for number, shard in enumerate(self._shards)
            for before, entry in enumerate(shard.offsets)
        }
        if len(self._places) != sum(len(shard.offsets) for shard in self._shards):
            raise broken(directory, "a sequence stands in it twice")
        if self.not_vouched_for is not None:
            self._check_ids()

    @classmethod
    def open(cls, directory: Path) -> LogitCache:
        """Open a cache and check every byte of it against its hashes.

        Raises:
            ArtifactError: The cache is unfinished, a file is missing or changed, or the format is another one.
        """
        index = read_index(directory)
        check_complete(directory, index, shard_paths(directory, len(index["shards"]))[0])
        dtype = row_dtype(int(index["vocab_size"]), int(index["top_k"]))
        shards = [open_shard(directory, n, shard, dtype) for n, shard in enumerate(index["shards"])]
        return cls(directory, index, shards, logit_text.open_text(directory, index))

    @property
    def sequence_indices(self) -> tuple[int, ...]:
        """The sequences it holds, in ascending order."""
        return tuple(sorted(self._places))

    @property
    def holds_text(self) -> bool:
        """Whether it keeps the tokens of its sequences."""
        return self._text is not None

    def text(self, sequence_index: int) -> SequenceText:
        """A sequence as the teacher read it.

        Raises:
            IndexError: The cache does not hold that sequence, or no text at all.
        """
        if self._text is None or sequence_index not in self._places:
            raise IndexError(f"{self.directory} holds no text of a sequence {sequence_index}")
        return self._text.sequence(*self._places[sequence_index])

    @property
    def num_rows(self) -> int:
        """Positions with a stored distribution."""
        return sum(int(shard["rows"]) for shard in self._index["shards"])

    @property
    def bytes(self) -> int:
        """Size on disk, index included."""
        paths = [self.directory / INDEX_NAME]
        for number in range(len(self._shards)):
            paths += [*shard_paths(self.directory, number), *logit_text.text_paths(self.directory, number)]
        return sum(path.stat().st_size for path in paths if path.exists())

    @property
    def bytes_per_token(self) -> float | None:
        """Bytes on disk over stored positions (method.md, eq. 46); None for a cache without positions."""
        return self.bytes / self.num_rows if self.num_rows else None

    @property
    def kept_mass(self) -> float | None:
        """Mean teacher probability on the kept tokens (method.md, eq. 46); None for a cache without positions."""
        kept = sum(float(shard["kept_mass_sum"]) for shard in self._index["shards"])
        return kept / self.num_rows if self.num_rows else None

    @property
    def row_bytes(self) -> int:
        """Size of one stored position."""
        return row_dtype(self.vocab_size, self.top_k).itemsize

    def kept_mass_quantiles(self, shares: Sequence[float]) -> tuple[float, ...]:
        """Kept mass below which those shares of positions lie; empty for a cache without positions."""
        if not self.num_rows:
            return tuple(float("nan") for _ in shares)
        tails = np.concatenate([np.asarray(shard.rows["tail_logmass"], dtype=np.float64) for shard in self._shards])
        return tuple(np.quantile(-np.expm1(tails), list(shares)).tolist())

    @property
    def not_vouched_for(self) -> str | None:
        """What of it no hash speaks for; None where all of it is under one."""
        return not_vouched_for(self.directory, self._index)

    def verify(self) -> None:
        """Check what `open` takes for granted: every id, and the sums of kept mass.

        Raises:
            ArtifactError: Names the shard.
        """
        self._check_ids()
        for number, (shard, said) in enumerate(zip(self._shards, self._index["shards"], strict=True)):
            found = float(-np.expm1(shard.rows["tail_logmass"].astype(np.float64)).sum())
            # written so that NaN fails too
            if not abs(found - said["kept_mass_sum"]) <= _SUM_TOLERANCE * max(len(shard.rows), 1):
                detail = f"{INDEX_NAME} says a kept mass of {said['kept_mass_sum']}, and its rows have {found}"
                raise broken(self.directory, f"shard {number}: its {detail}")

    def _check_ids(self) -> None:
        for number, shard in enumerate(self._shards):
            ids = shard.rows["ids"]
            if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < self.vocab_size:
                detail = f"an id lies outside the vocabulary of {self.vocab_size} that its {INDEX_NAME} says"
                raise broken(self.directory, f"shard {number}: {detail}")

    @property
    def sha256(self) -> str:
        """Hash of the index, which carries the hashes of everything else."""
        return file_sha256(self.directory / INDEX_NAME)

    def sequence(self, sequence_index: int) -> CachedSequence:
        """The distributions of one sequence.

        Raises:
            IndexError: The cache does not hold that sequence.
        """
        rows_T = self._stored(sequence_index)
        return CachedSequence(
            ids_TK=torch.from_numpy(rows_T["ids"].astype(np.int64)),
            logp_TK=torch.from_numpy(renormalised(rows_T)),
            tail_logmass_T=torch.from_numpy(rows_T["tail_logmass"].astype(np.float32)),
        )

    def batch(self, sequence_indices: Sequence[int]) -> CachedLogits:
        """The distributions of some sequences of equal length, in the order asked for.

        Raises:
            IndexError: The cache does not hold one of them.
            ValueError: None are asked for, or their lengths differ.
        """
        stored = [self._stored(index) for index in sequence_indices]
        if len({len(rows_T) for rows_T in stored}) != 1:
            raise ValueError(f"a batch needs sequences of one length, not {[len(rows_T) for rows_T in stored]} rows")
        rows_BT = np.stack(stored)
        return CachedLogits(
            ids_BTK=torch.from_numpy(rows_BT["ids"].astype(np.int64)),
            logp_BTK=torch.from_numpy(renormalised(rows_BT)),
            tail_logmass_BT=torch.from_numpy(rows_BT["tail_logmass"].astype(np.float32)),
        )

    def _stored(self, sequence_index: int) -> npt.NDArray[np.void]:
        if sequence_index not in self._places:
            raise IndexError(f"{self.directory} holds no sequence {sequence_index}")
        number, first_row, num_rows, _ = self._places[sequence_index]
        return self._shards[number].rows[first_row : first_row + num_rows]
