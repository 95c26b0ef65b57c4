"""Writes a coded cache, sequence by sequence, with as much memory for a long text as for a short one.

Shapes: T rows of a sequence (n tokens have n - 1), K kept tokens, U drawn tokens, W tokens given to learn from.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from stillwatt.errors import ArtifactError
from stillwatt.pipelines.artifacts import remove_unfinished
from stillwatt.pipelines.cache.codec import Codec, Rows, Wide, fit_codec
from stillwatt.pipelines.cache.files import (
    CODED_SCHEMA,
    PRIOR_NAME,
    ShardTables,
    read_codec,
    read_coded_index,
    read_shard,
    shard_path,
    write_codec,
    write_shard,
)
from stillwatt.pipelines.cache.grid import tail_level
from stillwatt.pipelines.cache.scheme import Scheme
from stillwatt.pipelines.logit_headers import MOST_TOKENS, write_header
from stillwatt.pipelines.logit_shards import INDEX_NAME

__all__ = ["CodedCacheWriter", "Cut"]

SHARD_ROWS = 65_536
"""About 4 MB at 64 kept tokens: what a kill can cost."""
BLOCK_ROWS = 256
"""What is read at once, at most; a block is closed at the end of a sequence once it is half full."""
PRIOR_ROWS = 32_768
"""Rows that the prior is learned from."""
_INPUT_MASS_TOLERANCE = 2e-3
"""How far from 1 the mass handed over may be: rounding of a half-precision teacher, not a mistake."""
_ID_BITS = 32
_FILLER = 1 << 48
"""Behind all levels and ids, where both are sorted as one number."""
_UNIFORMS = 1
"""Second word of the key of the random numbers that rounding uses; those of the draws have none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What is left of a teacher's distributions over one sequence."""

    ids_TK: npt.NDArray[np.integer]
    """Different in each row; -1 fills up at the end. K is 0 without a head."""
    logp_TK: npt.NDArray[np.floating]
    tail_logmass_T: npt.NDArray[np.floating]
    """Log of the mass outside the kept tokens."""
    draw_ids_TU: npt.NDArray[np.integer]
    """Different in each row, none of the kept ones; -1 fills up at the end. U is 0 without draws."""
    draw_counts_TU: npt.NDArray[np.integer]
    """How often each was drawn; they sum to the scheme's draws, or to 0 where there is no tail."""
    wide: Wide | None = None
    """More tokens, most probable first, as long as the writer's `wants_wide`."""


class CodedCacheWriter:
    """Fills a coded cache; `close`, or leaving the `with` block without error, completes it.

    The first rows are held back until the prior is learned from them, unless one is given. Opened on a folder where an
    earlier writer was stopped, it continues behind the last sealed shard: `sealed_sequences` need not come again.
    """

    def __init__(
        self,
        directory: Path,
        *,
        scheme: Scheme,
        vocab_size: int,
        temperature: float,
        inputs: Mapping[str, Any],
        prior: Codec | None = None,
        prior_rows: int | None = None,
        shard_rows: int | None = None,
    ) -> None:
        """Open or continue a cache.

        Args:
            directory: Made if it is not there.
            scheme: What is kept.
            vocab_size: Size of the teacher's output.
            temperature: The teacher's logits are divided by it before the softmax.
            inputs: What the cache was made from, as JSON values: hashes of teacher, tokenizer and data among them.
            prior: Prior and tables of another cache of the same scheme.
            prior_rows: Rows to learn the prior from; PRIOR_ROWS unless told.
            shard_rows: A shard is sealed once it holds this many rows; SHARD_ROWS unless told.

        Raises:
            ValueError: The scheme does not fit the vocabulary, or the temperature has no meaning.
            ArtifactError: The folder holds a cache that is damaged or of other inputs.
        """
        if vocab_size > MOST_TOKENS:
            raise ValueError(f"a vocabulary of {vocab_size} tokens is above the {MOST_TOKENS} that a cache can have")
        if scheme.top_k > vocab_size or not temperature > 0.0:
            raise ValueError(f"top_k {scheme.top_k} of {vocab_size} tokens at temperature {temperature}")
        if prior is not None and (prior.scheme != scheme or prior.prior.vocab_size != vocab_size):
            raise ValueError(f"a prior of {prior.scheme} and {prior.prior.vocab_size} tokens is given for {scheme}")
        self._directory, self._scheme, self._vocab_size = directory, scheme, vocab_size
        self._shard_rows, self._prior_rows = shard_rows or SHARD_ROWS, prior_rows or PRIOR_ROWS
        self._index: dict[str, Any] = {
            "schema": CODED_SCHEMA,
            "vocab_size": vocab_size,
            "temperature": temperature,
            "scheme": scheme.to_json(),
            "inputs": json.loads(json.dumps(dict(inputs), allow_nan=False)),
            "alignment": "row t is the distribution over token t + 1; n tokens have n - 1 rows",
            "dtype": "levels of log-probability, range-coded under integer tables",
            "prior": None,
            "is_complete": False,
            "shards": [],
        }
        self._held: list[tuple[int, npt.NDArray[np.int64], Rows, Wide]] = []
        self._unsupervised: dict[int, npt.NDArray[np.int64]] = {}
        """Places of tokens that are not to be predicted, of sequences that are not sealed and have more of them than
        their first."""
        self._codec: Codec | None = None
        self._start_shard()
        directory.mkdir(parents=True, exist_ok=True)
        remove_unfinished(directory)
        self._sealed = self._resume()
        if self._codec is None and prior is not None:
            self._take_prior(prior)

    def _start_shard(self) -> None:
        self._open_rows: list[Rows] = []
        self._blocks: list[bytes] = []
        self._block_rows: list[int] = []
        self._lengths: dict[int, int] = {}
        self._tokens: list[npt.NDArray[np.int64]] = []
        self._tails: Counter[int] = Counter()
        self._bytes_of: Counter[str] = Counter()

    @property
    def sealed_sequences(self) -> frozenset[int]:
        """Indices of the sequences that a kill can no longer take."""
        return frozenset(self._sealed)

    @property
    def wants_wide(self) -> bool:
        """Whether the prior is still to be learned, so that rows should come with `wide`."""
        return self._codec is None

    @property
    def rows_to_learn_from(self) -> int:
        """How many more rows the prior is learned from, if it is not learned yet."""
        held = sum(len(rows) for _, _, rows, _ in self._held)
        return max(self._prior_rows - held, 0) if self.wants_wide else 0

    def add(
        self,
        sequence_index: int,
        tokens: npt.NDArray[np.integer],
        cut: Cut,
        supervised: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Append one sequence: its n tokens, and what is kept of the n - 1 distributions.

        `supervised` says which of the tokens are to be predicted; all but the first where it is left out.

        Raises:
            ValueError: The sequence is there already, the cache is complete, or a row is not a distribution over
                different tokens.
        """
        held = {index for index, *_ in self._held}
        if sequence_index in self._sealed or sequence_index in self._lengths or sequence_index in held:
            raise ValueError(f"sequence {sequence_index} is in the cache already")
        if self._index["is_complete"]:
            raise ValueError(f"sequence {sequence_index}: the cache is complete and cannot be added to")
        check_cut(f"sequence {sequence_index}", tokens, cut, self._scheme, self._vocab_size)
        wide_tokens = tokens.astype(np.int64)
        if supervised is not None and not supervised[1:].all():
            self._unsupervised[sequence_index] = np.flatnonzero(~supervised)
        rows = rows_of(self._scheme, sequence_index, wide_tokens, cut)
        if self._codec is not None:
            self._append(sequence_index, wide_tokens, rows)
            return
        self._held.append((sequence_index, wide_tokens, rows, cut.wide or Wide(cut.ids_TK, cut.logp_TK)))
        if sum(len(rows) for _, _, rows, _ in self._held) >= self._prior_rows:
            self._learn()

    def close(self) -> None:
        """Code and seal what is left and mark the cache as complete."""
        if self._codec is None:
            self._learn()
        if self._lengths:
            self._seal()
        self._index["is_complete"] = True
        write_header(self._directory, self._index)

    def __enter__(self) -> CodedCacheWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()

    def _learn(self) -> None:
        """Learn the prior from the rows held back, then code them."""
        held, self._held = self._held, []
        rows = Rows.join([rows for _, _, rows, _ in held]) if held else Rows.none()
        self._take_prior(fit_codec(self._scheme, rows, Wide.join([w for *_, w in held]), vocab_size=self._vocab_size))
        for index, tokens, part, _ in held:
            self._append(index, tokens, part)

    def _take_prior(self, codec: Codec) -> None:
        sha256, size = write_codec(self._directory, codec)
        self._index["prior"] = {"sha256": sha256, "bytes": size, "entries": len(codec.prior.ids)}
        write_header(self._directory, self._index)
        self._codec = codec

    def _append(self, sequence_index: int, tokens: npt.NDArray[np.int64], rows: Rows) -> None:
        self._lengths[sequence_index] = len(tokens)
        self._tokens.append(tokens)
        self._tails.update(rows.tail_R.tolist() if self._scheme.has_head else ())
        while len(rows):
            room = BLOCK_ROWS - sum(map(len, self._open_rows))
            self._open_rows.append(rows[:room])
            if len(rows) >= room:
                self._close_block()
            rows = rows[room:]
        if 2 * sum(map(len, self._open_rows)) >= BLOCK_ROWS:
            self._close_block()
        if sum(self._block_rows) + sum(map(len, self._open_rows)) >= self._shard_rows:
            self._seal()

    def _close_block(self) -> None:
        assert self._codec is not None
        rows, self._open_rows = Rows.join(self._open_rows), []
        self._blocks.append(self._codec.encode(rows, self._bytes_of))
        self._block_rows.append(len(rows))

    def _seal(self) -> None:
        """Put a shard on disk, then name it in the index: only the second step makes it count."""
        if self._open_rows:
            self._close_block()
        number = len(self._index["shards"])
        tables = ShardTables(
            np.array(list(self._lengths), dtype=np.int64),
            np.array(list(self._lengths.values()), dtype=np.int64),
            np.array(self._block_rows, dtype=np.int64),
            np.array([len(block) for block in self._blocks], dtype=np.int64),
            np.array([zlib.crc32(block) for block in self._blocks], dtype=np.int64),
            np.concatenate(self._tokens),
            self._targets(),
        )
        sha256, size, of_tables = write_shard(shard_path(self._directory, number), self._blocks, tables)
        self._bytes_of["tokens and tables"] += of_tables
        self._index["shards"].append(
            {
                "rows": sum(self._block_rows),
                "sequences": len(self._lengths),
                "blocks": len(self._blocks),
                "bytes": size,
                "bytes_of": dict(self._bytes_of),
                "tails": " ".join(f"{level}:{count}" for level, count in sorted(self._tails.items())),
                "sha256": sha256,
            }
        )
        write_header(self._directory, self._index)
        self._sealed += list(self._lengths)
        self._start_shard()

    def _targets(self) -> npt.NDArray[np.int64] | None:
        """Which tokens of the shard are to be predicted; None where all are but the first of each sequence."""
        left_out = {index: self._unsupervised.pop(index) for index in self._lengths if index in self._unsupervised}
        if not left_out:
            return None
        targets_T, end = np.ones(sum(self._lengths.values()), dtype=np.int64), 0
        for index, length in self._lengths.items():
            targets_T[end] = 0
            targets_T[end + left_out.get(index, np.zeros(0, dtype=np.int64))] = 0
            end += length
        return targets_T

    def _resume(self) -> list[int]:
        """Take over the prior and the sealed shards of an earlier writer."""
        if not (self._directory / INDEX_NAME).exists():
            write_header(self._directory, self._index)
            return []
        index = read_coded_index(self._directory)
        for key in ("vocab_size", "temperature", "scheme", "inputs"):
            if index[key] != self._index[key]:
                raise ArtifactError(str(self._directory), f"it was begun with another {key}")
        if index["prior"] is not None:
            path = self._directory / PRIOR_NAME
            self._codec = read_codec(path, self._scheme, sha256=index["prior"]["sha256"])
        sealed: list[int] = []
        for number, shard in enumerate(index["shards"]):
            sealed += read_shard(self._directory, number, sha256=shard["sha256"]).sequence_S.tolist()
        self._index = index
        return sealed


def rows_of(scheme: Scheme, sequence_index: int, tokens: npt.NDArray[np.int64], cut: Cut) -> Rows:
    """Round a sequence's values to levels: to the nearest, or by chance where the scheme is unbiased."""
    ids, logp, tail = cut.ids_TK.astype(np.int64), cut.logp_TK, cut.tail_logmass_T
    if scheme.is_unbiased and scheme.has_head:
        rng = np.random.Generator(np.random.Philox(key=[scheme.seed, sequence_index << 1 | _UNIFORMS]))
        level = scheme.grid.either(logp, rng.random(logp.shape))
        tail_T = tail_level(tail, rng.random(tail.shape))
    else:
        level, tail_T = scheme.grid.nearest(logp), tail_level(tail)
    is_filler = ids < 0
    keys = np.sort(np.where(is_filler, _FILLER, level << _ID_BITS | ids), axis=1)
    is_filler = keys == _FILLER
    ids, level = np.where(is_filler, -1, keys & (1 << _ID_BITS) - 1), np.where(is_filler, 0, keys >> _ID_BITS)
    drawn, counts = cut.draw_ids_TU.astype(np.int64), cut.draw_counts_TU.astype(np.int64)
    order = np.argsort(np.where(drawn < 0, 1 << 32, drawn), axis=1)
    drawn, counts = np.take_along_axis(drawn, order, 1), np.take_along_axis(counts, order, 1)
    return Rows(tokens[:-1], ids, level, tail_T if scheme.has_head else np.zeros_like(tail_T), drawn, counts)


def check_cut(where: str, tokens: npt.NDArray[np.integer], cut: Cut, scheme: Scheme, vocab_size: int) -> None:
    """Refuse what is no distribution, or does not fit.

    Raises:
        ValueError: Names the sequence and what is wrong.
    """
    num = len(tokens) - 1
    if len(tokens) < 1 or tokens.min() < 0 or tokens.max() >= vocab_size:
        raise ValueError(f"{where}: no tokens, or one outside the vocabulary of {vocab_size}")
    for name, array in (("ids", cut.ids_TK), ("tail", cut.tail_logmass_T), ("draws", cut.draw_ids_TU)):
        if len(array) != num:
            raise ValueError(f"{where}: {len(array)} rows of {name} for {len(tokens)} tokens; there must be {num}")
    width = cut.ids_TK.shape[1]
    if width > scheme.top_k or (width < scheme.top_k and not scheme.is_variable):
        raise ValueError(f"{where}: {width} kept tokens, and the scheme keeps {scheme.top_k}")
    _check_ids(where, cut.ids_TK, vocab_size, may_be_short=scheme.is_variable)
    _check_ids(where, cut.draw_ids_TU, vocab_size, may_be_short=True)
    if scheme.has_head:
        kept = np.where(cut.ids_TK >= 0, np.exp(cut.logp_TK.astype(np.float32)), 0.0).sum(1)
        mass = kept + np.exp(cut.tail_logmass_T.astype(np.float64))
        # written so that NaN fails too
        if not (np.abs(mass - 1.0) <= _INPUT_MASS_TOLERANCE).all() or not (cut.tail_logmass_T < 0.0).all():
            raise ValueError(f"{where}: a row's kept tokens and tail are not a distribution")


def _check_ids(where: str, ids: npt.NDArray[np.integer], vocab_size: int, *, may_be_short: bool) -> None:
    if not ids.size:
        return
    if ids.max() >= vocab_size or ids.min() < (-1 if may_be_short else 0):
        raise ValueError(f"{where}: an id lies outside the vocabulary of {vocab_size}")
    ranked = np.sort(ids.astype(np.int32), axis=1)  # below the vocabulary, as was just checked; sorted in half the time
    if ((np.diff(ranked, axis=1) == 0) & (ranked[:, 1:] >= 0)).any():
        raise ValueError(f"{where}: an id stands twice in one row")
