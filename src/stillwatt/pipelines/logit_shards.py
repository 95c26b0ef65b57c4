"""Files of a logit cache: shards of fixed-size rows, their offsets, and the index; `logit_cache` reads and writes them.

Shapes: T rows of a sequence, K kept tokens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stillwatt.errors import ArtifactError
from stillwatt.pipelines.arrays import read_array

__all__ = [
    "INDEX_NAME",
    "LOGIT_CACHE_SCHEMA",
    "OFFSETS_DTYPE",
    "Shard",
    "open_shard",
    "read_index",
    "remove_scratch",
    "renormalised",
    "row_dtype",
    "shard_paths",
]

LOGIT_CACHE_SCHEMA = "stillwatt.logit_cache/1"
INDEX_NAME = "index.json"
OFFSETS_DTYPE = np.dtype([("sequence", "<i8"), ("first_row", "<i8"), ("rows", "<i8")])


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


def shard_paths(directory: Path, number: int) -> tuple[Path, Path]:
    """Where a shard's rows and its offsets lie; names are made from the number, never read from a file."""
    return directory / f"shard-{number:05d}.rows.npy", directory / f"shard-{number:05d}.offsets.npy"


def read_index(directory: Path) -> dict[str, Any]:
    """Read a cache's index.

    Raises:
        ArtifactError: It is missing, unreadable, or of another format.
    """
    path = directory / INDEX_NAME
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        schema = index["schema"]
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise ArtifactError(str(directory), f"its {INDEX_NAME} cannot be read ({type(err).__name__}: {err})") from err
    if schema != LOGIT_CACHE_SCHEMA:
        raise ArtifactError(str(directory), f"its format is {schema!r}, not {LOGIT_CACHE_SCHEMA!r}")
    return dict(index)


def open_shard(directory: Path, number: int, shard: Mapping[str, Any], dtype: np.dtype[np.void]) -> Shard:
    """Check a shard's two files against the index and map them.

    Raises:
        ArtifactError: A file is missing, changed, or not of the rows that the index promises.
    """
    rows_path, offsets_path = shard_paths(directory, number)
    # a file without rows cannot be mapped
    rows = read_array(rows_path, sha256=shard["rows_sha256"], dtype=dtype, is_mapped=shard["rows"] > 0)
    offsets = read_array(offsets_path, sha256=shard["offsets_sha256"], dtype=OFFSETS_DTYPE, is_mapped=False)
    return Shard(rows, offsets)


def remove_scratch(directory: Path) -> None:
    """Remove what a killed writer had not yet given its name."""
    for pattern in (".shard-*", f".{INDEX_NAME}.*"):
        for scratch in directory.glob(pattern):
            scratch.unlink()
