"""Files of a logit cache: shards of fixed-size rows, their offsets, and the index; `logit_cache` reads and writes them.

Shapes: T rows of a sequence, K kept tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stillwatt.pipelines.arrays import read_array
from stillwatt.pipelines.logit_headers import (
    INDEX_NAME,
    Rule,
    Rules,
    broken,
    is_count,
    is_hash,
    is_number,
    read_header,
)

__all__ = [
    "INDEX_NAME",
    "LOGIT_CACHE_SCHEMA",
    "OFFSETS_DTYPE",
    "Shard",
    "check_rows",
    "open_shard",
    "read_index",
    "renormalised",
    "row_dtype",
    "shard_paths",
]

_INPUT_MASS_TOLERANCE = 2e-3
"""How far from 1 the mass handed to the writer may be: rounding of a half-precision teacher, not a mistake."""
LOGIT_CACHE_SCHEMA = "stillwatt.logit_cache/1"
OFFSETS_DTYPE = np.dtype([("sequence", "<i8"), ("first_row", "<i8"), ("rows", "<i8")])
_RULES: Rules = {"top_k": Rule(lambda v: is_count(v) and v >= 1, "a whole number above 0")}
_SHARD_RULES: Rules = {
    "rows": Rule(is_count, "a whole number"),
    "sequences": Rule(is_count, "a whole number"),
    "kept_mass_sum": Rule(is_number, "a number"),
    "rows_sha256": Rule(is_hash, "a sha256"),
    "offsets_sha256": Rule(is_hash, "a sha256"),
}


def row_dtype(vocab_size: int, top_k: int) -> np.dtype[np.void]:
    """One row of a shard: ids in 2 bytes where they fit, log-probabilities in fp16, the tail in fp32.

    >>> row_dtype(49_152, 64).itemsize
    260
    >>> row_dtype(128_256, 64).itemsize
    388
    """
    id_type = "<u2" if vocab_size <= 1 << 16 else "<i4"
    return np.dtype([("ids", id_type, (top_k,)), ("logp", "<f2", (top_k,)), ("tail_logmass", "<f4")])


@dataclass(frozen=True, slots=True)
class Shard:
    """One checked shard."""

    rows: npt.NDArray[np.void]
    offsets: npt.NDArray[np.void]


def renormalised(rows: npt.NDArray[np.void]) -> npt.NDArray[np.float32]:
    """Log-probabilities whose mass and the stored tail sum to 1; any leading axes.

    The tail is held in fp32 and taken as exact: its logarithm keeps full relative precision both where the tail
    nearly vanishes and where it is nearly everything. The rounding of fp16 is thus spread over the kept tokens only.
    """
    logp = rows["logp"].astype(np.float64)
    kept_logmass = np.log(-np.expm1(rows["tail_logmass"].astype(np.float64)))
    found_logmass = np.log(np.exp(logp).sum(-1))
    scaled: npt.NDArray[np.float32] = (logp + (kept_logmass - found_logmass)[..., None]).astype(np.float32)
    return scaled


def check_rows(
    where: str,
    rows: tuple[npt.NDArray[np.integer], npt.NDArray[np.floating], npt.NDArray[np.floating]],
    *,
    top_k: int,
    vocab_size: int,
) -> None:
    """Refuse ids, log-probabilities and tails of a sequence that are no distributions over different tokens.

    Raises:
        ValueError: Says where and what is wrong.
    """
    ids_TK, logp_TK, tail_logmass_T = rows
    if ids_TK.ndim != 2 or ids_TK.shape[1] != top_k:
        raise ValueError(f"{where}: ids {ids_TK.shape} must be [T, {top_k}]")
    if logp_TK.shape != ids_TK.shape or tail_logmass_T.shape != ids_TK.shape[:1]:
        raise ValueError(f"{where}: log-probabilities {logp_TK.shape} or tail {tail_logmass_T.shape} do not fit")
    if ids_TK.size and not (ids_TK.min() >= 0 and ids_TK.max() < vocab_size):
        raise ValueError(f"{where}: an id lies outside the vocabulary of {vocab_size}")
    if (np.diff(np.sort(ids_TK, axis=1), axis=1) == 0).any():
        raise ValueError(f"{where}: an id stands twice in one row")
    mass_T = np.exp(logp_TK.astype(np.float64)).sum(1) + np.exp(tail_logmass_T.astype(np.float64))
    # written so that NaN fails too
    if not (np.abs(mass_T - 1.0) <= _INPUT_MASS_TOLERANCE).all() or not (tail_logmass_T < 0.0).all():
        raise ValueError(f"{where}: a row's kept tokens and tail are not a distribution")


def shard_paths(directory: Path, number: int) -> tuple[Path, Path]:
    """Where a shard's rows and its offsets lie; names are made from the number, never read from a file."""
    return directory / f"shard-{number:05d}.rows.npy", directory / f"shard-{number:05d}.offsets.npy"


def read_index(directory: Path) -> dict[str, Any]:
    """Read a cache's index.

    Raises:
        ArtifactError: It is missing, unreadable, of another format, changed, or contradicts itself.
    """
    index = read_header(directory, LOGIT_CACHE_SCHEMA, _RULES, _SHARD_RULES)
    if index["top_k"] > index["vocab_size"]:
        raise broken(directory, f"its {INDEX_NAME} says {index['top_k']} kept tokens of {index['vocab_size']}")
    return index


def open_shard(directory: Path, number: int, shard: Mapping[str, Any], dtype: np.dtype[np.void]) -> Shard:
    """Check a shard's two files against the index and each other, and map them.

    Raises:
        ArtifactError: A file is missing, changed, or not of the rows that the index promises.
    """
    rows_path, offsets_path = shard_paths(directory, number)
    # a file without rows cannot be mapped
    rows = read_array(rows_path, sha256=shard["rows_sha256"], dtype=dtype, is_mapped=shard["rows"] > 0)
    offsets = read_array(offsets_path, sha256=shard["offsets_sha256"], dtype=OFFSETS_DTYPE, is_mapped=False)
    found, promised = (rows.shape, offsets.shape), ((shard["rows"],), (shard["sequences"],))
    if found != promised:
        where = f"shard {number}: its files hold {found[0]} rows and {found[1]} sequences"
        raise broken(directory, f"{where}, and its {INDEX_NAME} says {promised[0]} and {promised[1]}")
    ends = np.cumsum(offsets["rows"])
    fits = (offsets["rows"] >= 0).all() and (offsets["first_row"] == ends - offsets["rows"]).all()
    if not fits or int(offsets["rows"].sum()) != len(rows):
        raise broken(directory, f"shard {number}: {offsets_path.name} does not share out the {len(rows)} rows")
    return Shard(rows, offsets)
