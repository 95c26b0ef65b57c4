"""Files of a coded cache: arrays packed with their names, shards of blocks, and the prior with its tables.

Nothing is pickled, no name of a file is read from a file, and every byte is under a checksum.

Shapes: S sequences of a shard, B blocks of a shard, T tokens of all its sequences.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stillwatt.errors import ArtifactError, MissingExtraError, UsageError
from stillwatt.pipelines.artifacts import file_sha256, whole_file
from stillwatt.pipelines.cache.codec import Codec, expected_shape
from stillwatt.pipelines.cache.grid import TAIL_LEVELS
from stillwatt.pipelines.cache.prior import Prior
from stillwatt.pipelines.cache.scheme import Scheme
from stillwatt.pipelines.cache.sets import SetTables
from stillwatt.pipelines.cache.tables import ContextTables
from stillwatt.pipelines.caches import CODED_SCHEMA
from stillwatt.pipelines.logit_headers import (
    INDEX_NAME,
    Rule,
    Rules,
    broken,
    check_fields,
    is_count,
    is_hash,
    is_table,
    read_header,
)
from stillwatt.pipelines.logit_text import ShardText

try:
    import zstandard
except ImportError as err:  # pragma: no cover - the extra is there wherever the tests run
    raise MissingExtraError("zstandard", "cache") from err

__all__ = [
    "CODED_SCHEMA",
    "PRIOR_NAME",
    "ShardTables",
    "broken_block",
    "pack",
    "read_checked",
    "read_codec",
    "read_coded_index",
    "read_shard",
    "read_tokens",
    "shard_path",
    "tails_of",
    "unpack",
    "write_bytes",
    "write_codec",
    "write_shard",
]

PRIOR_NAME = "prior.bin"
_MAGIC = b"SWLCACH2"
_TRAILER_BYTES = 16
_ZSTD_LEVEL = 19
_MOST_BYTES = 1 << 31
"""What one packed array may unpack to."""

Arrays = dict[str, npt.NDArray[Any]]


def pack(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Arrays as bytes: one line of JSON with names, types, shapes and lengths, then each array under zstd.

    >>> unpack(pack({"a": np.array([1, 2], dtype="<u2")}))["a"].tolist()
    [1, 2]
    """
    blobs, head = [], []
    for name, array in arrays.items():
        little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<")))
        blob = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(little.tobytes())
        head.append([name, little.dtype.str, list(little.shape), len(blob)])
        blobs.append(blob)
    return json.dumps(head, separators=(",", ":")).encode() + b"\n" + b"".join(blobs)


def unpack(payload: bytes) -> Arrays:
    """The reverse of `pack`; the bytes have been checked already.

    Raises:
        ValueError: They are not packed arrays.
    """
    line, _, rest = payload.partition(b"\n")
    arrays: Arrays = {}
    for name, dtype, shape, length in json.loads(line):
        kind = np.dtype(dtype)
        if kind.kind not in "iu":
            raise ValueError(f"array {name!r} holds {kind}, not integers")
        size = int(np.prod(shape)) * kind.itemsize
        if size > _MOST_BYTES:
            raise ValueError(f"array {name!r} would take {size} bytes")
        raw = zstandard.ZstdDecompressor().decompress(rest[:length], max_output_size=max(size, 1))
        arrays[name] = np.frombuffer(raw, dtype=kind).reshape(shape)
        rest = rest[length:]
    return arrays


def read_coded_index(directory: Path) -> dict[str, Any]:
    """Read a coded cache's index.

    Raises:
        ArtifactError: It is missing, unreadable, of another format, changed, or contradicts itself.
    """
    index = read_header(directory, CODED_SCHEMA, _RULES, _SHARD_RULES)
    if index["prior"] is None and (index["shards"] or index["is_complete"]):
        raise broken(directory, f"its {INDEX_NAME} says no prior, and shards cannot be read without one")
    if index["prior"] is not None:
        check_fields(directory, f"its {INDEX_NAME}, prior,", index["prior"], _PRIOR_RULES)
    try:
        scheme = Scheme.from_json(index["scheme"])
    except (UsageError, TypeError) as err:
        raise broken(directory, f"its {INDEX_NAME} says a scheme that is none ({err})") from err
    if scheme.top_k > index["vocab_size"]:
        raise broken(directory, f"its {INDEX_NAME} says {scheme.top_k} kept tokens of {index['vocab_size']}")
    for number, shard in enumerate(index["shards"]):
        counted = sum(tails_of(shard["tails"]).values())
        if counted != (shard["rows"] if scheme.has_head else 0) or sum(shard["bytes_of"].values()) > shard["bytes"]:
            detail = f"{counted} tails of {shard['rows']} rows, or parts of more bytes than {shard['bytes']}"
            raise broken(directory, f"its {INDEX_NAME}, shard {number}, has {detail}")
    return index


def tails_of(text: str) -> Counter[int]:
    """How many positions have which level of tail, as a header says it.

    Raises:
        ValueError: It does not.

    >>> sorted(tails_of("3:10 7:1").items())
    [(3, 10), (7, 1)]
    """
    found: Counter[int] = Counter()
    for pair in text.split():
        level, count = map(int, pair.split(":"))
        if not 0 <= level < TAIL_LEVELS or count < 1:
            raise ValueError(f"{pair} is no level of a tail and how many have it")
        found[level] += count
    return found


def _are_tails(text: Any) -> bool:
    try:
        tails_of(text)
    except (ValueError, AttributeError):
        return False
    return True


_RULES: Rules = {
    "scheme": Rule(is_table, "a table"),
    "prior": Rule(lambda v: v is None or is_table(v), "a table, or null"),
}
_PRIOR_RULES: Rules = {
    "sha256": Rule(is_hash, "a sha256"),
    "bytes": Rule(is_count, "a whole number"),
    "entries": Rule(is_count, "a whole number"),
}
_SHARD_RULES: Rules = {
    **{name: Rule(is_count, "a whole number") for name in ("rows", "sequences", "blocks", "bytes")},
    "bytes_of": Rule(lambda v: is_table(v) and all(map(is_count, v.values())), "a table of whole numbers"),
    "tails": Rule(_are_tails, "levels of tails and their counts"),
    "sha256": Rule(is_hash, "a sha256"),
}


def shard_path(directory: Path, number: int) -> Path:
    """Where a shard lies; made from the number, never read from a file."""
    return directory / f"shard-{number:05d}.bin"


def write_bytes(path: Path, payload: bytes) -> str:
    """Write a file so that its name appears only once all of it is on disk; returns its sha256."""
    with whole_file(path) as file:
        file.write(payload)
    return file_sha256(path)


@dataclass(frozen=True, slots=True)
class ShardTables:
    """What a shard holds, and where."""

    sequence_S: npt.NDArray[np.int64]
    """The caller's index."""
    length_S: npt.NDArray[np.int64]
    """Tokens; one more than rows."""
    rows_B: npt.NDArray[np.int64]
    bytes_B: npt.NDArray[np.int64]
    crc_B: npt.NDArray[np.int64]
    tokens_T: npt.NDArray[np.int64]
    supervised_T: npt.NDArray[np.int64] | None = None
    """1 where a token is to be predicted; None where all are but the first of each sequence."""

    @property
    def first_byte_B(self) -> npt.NDArray[np.int64]:
        """Where each block begins in the file."""
        return len(_MAGIC) + np.cumsum(self.bytes_B) - self.bytes_B


def write_shard(path: Path, blocks: list[bytes], tables: ShardTables) -> tuple[str, int, int]:
    """Write a shard: blocks, then its tables; returns the sha256, all bytes, and those of the tables."""
    packed = pack(
        {
            "sequence": np.diff(tables.sequence_S, prepend=0).astype("<i8"),
            "length": tables.length_S.astype("<u4"),
            "block_rows": tables.rows_B.astype("<u4"),
            "block_bytes": tables.bytes_B.astype("<u4"),
            "block_crc32": tables.crc_B.astype("<u4"),
            "token_low": (tables.tokens_T & 0xFF).astype(np.uint8),
            "token_high": (tables.tokens_T >> 8).astype("<u2"),
            **({} if tables.supervised_T is None else {"supervised": tables.supervised_T.astype(np.uint8)}),
        }
    )
    trailer = len(packed).to_bytes(4, "little") + zlib.crc32(packed).to_bytes(4, "little") + _MAGIC
    whole = b"".join([_MAGIC, *blocks, packed, trailer])
    return write_bytes(path, whole), len(whole), len(packed) + len(trailer) + len(_MAGIC)


def read_shard(directory: Path, number: int, *, sha256: str) -> ShardTables:
    """Check every byte of a shard and read its tables.

    Raises:
        ArtifactError: It is missing or has changed; names the block where one is to blame.
    """
    path = shard_path(directory, number)
    if not path.is_file():
        raise ArtifactError(str(directory), f"{path.name} is missing")
    is_whole = file_sha256(path) == sha256
    try:
        tables = _tables(path)
    except (ValueError, KeyError, TypeError, zstandard.ZstdError) as err:
        raise ArtifactError(str(directory), f"shard {number} ({path.name}): its tables are broken ({err})") from err
    if is_whole:
        return tables
    block = broken_block(path, tables)
    where = "its tables" if block is None else f"block {block} of {len(tables.rows_B)}"
    raise ArtifactError(str(directory), f"shard {number} ({path.name}), {where}: changed since it was written")


def read_checked(directory: Path, number: int, said: Mapping[str, Any], vocab_size: int) -> ShardTables:
    """Read a shard's tables, and hold them against what the header says of it, and against each other.

    Raises:
        ArtifactError: As `read_shard`; or they contradict one another.
    """
    tables = read_shard(directory, number, sha256=said["sha256"])
    size = shard_path(directory, number).stat().st_size
    found = (int(tables.rows_B.sum()), len(tables.sequence_S), len(tables.rows_B), size)
    wanted = tuple(said[name] for name in ("rows", "sequences", "blocks", "bytes"))
    if found != wanted:
        what = f"{found} rows, sequences, blocks and bytes, and its {INDEX_NAME} says {wanted}"
        raise broken(directory, f"shard {number}: its tables have {what}")
    tokens_T, length_S = tables.tokens_T, tables.length_S
    is_shared_out = (length_S >= 1).all() and int(length_S.sum()) == len(tokens_T)
    is_shared_out = is_shared_out and (tables.supervised_T is None or len(tables.supervised_T) == len(tokens_T))
    if not is_shared_out or int((length_S - 1).sum()) != found[0]:
        raise broken(directory, f"shard {number}: its sequences do not share out its {found[0]} rows")
    if len(tokens_T) and int(tokens_T.max()) >= vocab_size:
        raise broken(directory, f"shard {number}: token {tokens_T.max()} lies outside the vocabulary of {vocab_size}")
    return tables


def read_tokens(directory: Path, number: int) -> ShardText:
    """The text of a shard that was checked when the cache was opened.

    Raises:
        ArtifactError: Its tables have changed since.
    """
    path = shard_path(directory, number)
    try:
        tables = _tables(path)
        return ShardText(tables.tokens_T, tables.supervised_T)
    except (OSError, ValueError, KeyError, TypeError, zstandard.ZstdError) as err:
        where = f"shard {number} ({path.name}): its tables changed since the cache was opened"
        raise ArtifactError(str(directory), f"{where} ({err})") from err


def broken_block(path: Path, tables: ShardTables) -> int | None:
    """The first block whose checksum fails."""
    with path.open("rb") as file:
        file.seek(len(_MAGIC))
        for block, (size, crc) in enumerate(zip(tables.bytes_B, tables.crc_B, strict=True)):
            if zlib.crc32(file.read(int(size))) != int(crc):
                return block
    return None


def _tables(path: Path) -> ShardTables:
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(size - _TRAILER_BYTES, 0))
        trailer = file.read()
        if len(trailer) < _TRAILER_BYTES or trailer[8:] != _MAGIC:
            raise ValueError("the file is cut short, or its end has changed")
        length, crc = int.from_bytes(trailer[:4], "little"), int.from_bytes(trailer[4:8], "little")
        file.seek(max(size - _TRAILER_BYTES - length, 0))
        packed = file.read(length)
    if zlib.crc32(packed) != crc:
        raise ValueError("their checksum fails")
    arrays = unpack(packed)
    return ShardTables(
        np.cumsum(arrays["sequence"].astype(np.int64)),
        arrays["length"].astype(np.int64),
        arrays["block_rows"].astype(np.int64),
        arrays["block_bytes"].astype(np.int64),
        arrays["block_crc32"].astype(np.int64),
        arrays["token_low"].astype(np.int64) | arrays["token_high"].astype(np.int64) << 8,
        arrays["supervised"].astype(np.int64) if "supervised" in arrays else None,
    )


def write_codec(directory: Path, codec: Codec) -> tuple[str, int]:
    """Write the prior and all tables; returns sha256 and bytes."""
    arrays: Arrays = {f"prior.{name}": array for name, array in codec.prior.arrays().items()}
    for name, tables in codec.context_tables.items():
        arrays.update(tables.arrays(f"context.{name}"))
    for name, sets in codec.set_tables.items():
        arrays.update({f"set.{name}.chance": sets.chance, f"set.{name}.weight": sets.weight})
    payload = pack(arrays)
    return write_bytes(directory / PRIOR_NAME, payload), len(payload)


def read_codec(path: Path, scheme: Scheme, *, sha256: str) -> Codec:
    """Check and read a prior.

    Raises:
        ArtifactError: It is missing, has changed, or is of another scheme.
    """
    if not path.is_file():
        raise ArtifactError(str(path.parent), f"{path.name} is missing")
    if file_sha256(path) != sha256:
        raise ArtifactError(str(path.parent), f"{path.name} has changed since it was written")
    try:
        arrays = unpack(path.read_bytes())
        part = {name.removeprefix("prior."): array for name, array in arrays.items() if name.startswith("prior.")}
        contexts = {name.split(".")[1] for name in arrays if name.startswith("context.")}
        sets = {name.split(".")[1] for name in arrays if name.startswith("set.")}
        codec = Codec(
            scheme,
            Prior.from_arrays(part),
            {name: ContextTables.from_arrays(arrays, f"context.{name}") for name in contexts},
            {name: SetTables(arrays[f"set.{name}.chance"], arrays[f"set.{name}.weight"]) for name in sets},
        )
    except (ValueError, KeyError, IndexError, TypeError, zstandard.ZstdError) as err:
        raise ArtifactError(str(path.parent), f"{path.name} cannot be read ({err})") from err
    if codec.shape != expected_shape(scheme, codec.prior.vocab_size):
        raise broken(path.parent, f"{path.name} has the tables of another scheme than its {INDEX_NAME} says")
    return codec
