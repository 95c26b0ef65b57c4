"""Samples as readers see them: raw while a run is measured, sealed to Parquet when it is over.

Sealing is done by posting, never in the measured program. It goes through a temporary file, a sync and a
rename, and may stop after any step: a reader takes the sealed file where it holds as much as the raw one.
Both kinds carry checksums: what does not fit its own is left out and said so.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from stillwatt.ledger.segments_raw import RAW_SUFFIX, RECORD, SAMPLES_DIR, SEAL, block_checksum, raw_path
from stillwatt.metering.series import in_order
from stillwatt.records.channel import Channel, Quantity
from stillwatt.threads import map_large
from stillwatt.units import J_PER_UJ, W_PER_MW_MILLI

PARQUET_SUFFIX = ".parquet"

_TORN_BYTES, _DAMAGED, _RECORDS, _CRC = (
    "stillwatt.torn_bytes",
    "stillwatt.damaged",
    "stillwatt.raw_records",
    "stillwatt.crc",
)
_LARGE_BYTES = 1 << 19
_PREFIXES = {1.0: "", W_PER_MW_MILLI: "m", J_PER_UJ: "u"}

Times = npt.NDArray[np.int64]
Counts = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One stream's samples of one session, and what was wrong with their files."""

    t_ns: Times
    """Monotonic times, int64[n], growing."""
    count: Counts
    """What the instrument gave, float64[n], in the channel's own unit."""
    torn_bytes: int
    """Bytes at the end of the raw file that belong to no finished block; left out."""
    damaged: int
    """Records of blocks that do not fit their checksum; left out."""
    dropped: int
    """Records left out because their count is not finite or a later record has the same time."""
    problem: str | None
    """Why the samples could not be read, where there is no other file that holds them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """What one file holds, in the order written."""

    t_ns: Times
    count: Counts
    torn_bytes: int
    damaged: int
    records: int
    """Whole records of the raw file, seals and all, by which a stream counts as grown."""


def parquet_path(run_dir: Path, session: str, stream: str) -> Path:
    """Where a stream's samples lie once sealed.

    Raises:
        ValueError: session or stream could not be a file name of this directory.
    """
    return raw_path(run_dir, session, stream).with_suffix(PARQUET_SUFFIX)


def read_stream(run_dir: Path, session: str, stream: str) -> tuple[Times, Counts]:
    """A stream's samples: times in ns, int64[n], and counts, float64[n]; both empty where nothing was stored.

    Raises:
        ValueError: session or stream could not be a file name of this directory.
    """
    segment = read_segment(run_dir, session, stream)
    return segment.t_ns, segment.count


def read_segment(run_dir: Path, session: str, stream: str) -> Segment:
    """A stream's samples from the sealed or the raw file, whichever holds more; the sealed one where they agree.

    Raises:
        ValueError: session or stream could not be a file name of this directory.
    """
    sealed_at, raw_at = parquet_path(run_dir, session, stream), raw_path(run_dir, session, stream)
    # the raw file first: a seal between the two looks removes it only after the sealed one is there
    raw = _read_raw(raw_at)
    sealed, problem = _read_parquet(sealed_at, stream)
    if raw is None and sealed is None:
        return Segment(t_ns=_no_times(), count=_no_counts(), torn_bytes=0, damaged=0, dropped=0, problem=problem)
    if raw is None or (sealed is not None and sealed.t_ns.size >= raw.t_ns.size):
        assert sealed is not None
        return _checked(sealed)
    return _checked(raw)


def read_segments(run_dir: Path, session: str, streams: Iterable[str]) -> dict[str, Segment]:
    """Several streams' samples, by stream.

    Raises:
        ValueError: as of `read_segment`.
    """
    wanted = list(streams)
    found = map_large(lambda stream: read_segment(run_dir, session, stream), wanted, are_large=_are_large(run_dir))
    return dict(zip(wanted, found, strict=True))


def seal(run_dir: Path, session: str, channels: Mapping[str, Channel]) -> tuple[Path, ...]:
    """Turn a session's raw files into Parquet; only for sessions whose sampling process is gone.

    Streams that `channels` does not know are left as they are. Sealing again is harmless.

    Returns:
        The sealed files written or confirmed, whose raw file is gone now.

    Raises:
        OSError: the disk is full or read-only; the raw file is still there then.
    """
    done = map_large(lambda item: _seal(run_dir, session, *item), channels.items(), are_large=_are_large(run_dir))
    return tuple(path for path in done if path is not None)


def _seal(run_dir: Path, session: str, stream: str, channel: Channel) -> Path | None:
    raw_at, sealed_at = raw_path(run_dir, session, stream), parquet_path(run_dir, session, stream)
    raw = _read_raw(raw_at)
    if raw is None:
        return None
    sealed, _ = _read_parquet(sealed_at, stream)
    if sealed is None or sealed.t_ns.size < raw.t_ns.size:
        _write_parquet(sealed_at, pa.table([raw.t_ns, raw.count], schema=_sealed_schema(channel, raw)))
    raw_at.unlink(missing_ok=True)
    return sealed_at


def _are_large(run_dir: Path) -> bool:
    """Whether a run's samples are worth threads."""
    try:
        return any(path.stat().st_size > _LARGE_BYTES for path in (Path(run_dir) / SAMPLES_DIR).iterdir())
    except FileNotFoundError:  # none yet, or one was sealed this moment
        return False


def stored_streams(run_dir: Path) -> dict[str, int]:
    """How many whole records each stored stream has, by `<session>.<stream>`; -1 where its file cannot be read.

    A segment counts the same before and after it is sealed.
    """
    counts: dict[str, int] = {}
    folder = Path(run_dir) / SAMPLES_DIR
    for path in sorted(folder.glob(f"*{RAW_SUFFIX}")):
        try:
            counts[path.stem] = path.stat().st_size // RECORD.size
        except FileNotFoundError:
            continue
    for path in sorted(folder.glob(f"[!.]*{PARQUET_SUFFIX}")):
        counts[path.stem] = max(_parquet_records(path), counts.get(path.stem, -1))
    return counts


def unit_name(channel: Channel) -> str:
    """The unit of a channel's stored counts: `J`, `mJ`, `uJ`, `W`, `mW`, or a multiple such as `6.1e-05 J`."""
    base = "W" if channel.quantity is Quantity.POWER else "J"
    if channel.unit_si in _PREFIXES:
        return _PREFIXES[channel.unit_si] + base
    return f"{channel.unit_si:g} {base}"


def samples_schema(channel: Channel) -> pa.Schema:
    """Columns `t_ns` and `count` with unit, channel and SI value of one count as field metadata."""
    described = {
        "unit": unit_name(channel),
        "unit_si": repr(channel.unit_si),
        "channel": channel.stream,
        "part": channel.part,
        "device": channel.device,
        "boundary": channel.boundary.value,
        "quantity": channel.quantity.value,
        "driver": channel.driver,
        "basis": channel.basis.value,
    }
    clock = {"unit": "ns", "clock": "CLOCK_MONOTONIC"}
    return pa.schema(
        [
            pa.field("t_ns", pa.int64(), nullable=False, metadata=clock),
            pa.field("count", pa.float64(), nullable=False, metadata=described),
        ]
    )


def _sealed_schema(channel: Channel, raw: _Stored) -> pa.Schema:
    """What the raw file told beside its samples goes along, so that the sealed one tells the same."""
    described = {
        _TORN_BYTES: str(raw.torn_bytes),
        _DAMAGED: str(raw.damaged),
        _RECORDS: str(raw.records),
        _CRC: str(_checksum(raw)),
    }
    return samples_schema(channel).with_metadata(described)


def _checksum(stored: _Stored) -> int:
    """CRC-32 of all that a sealed file says, independent of how Parquet writes it down."""
    told = f"{stored.torn_bytes} {stored.damaged} {stored.records}".encode()
    checksum = zlib.crc32(told)
    return zlib.crc32(stored.count.data, zlib.crc32(stored.t_ns.data, checksum))


def _write_parquet(path: Path, table: pa.Table) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(3).hex()}.tmp")
    try:
        with temporary.open("wb") as file:
            pq.write_table(
                table,
                file,
                compression="zstd",
                use_dictionary=False,
                column_encoding={"t_ns": "DELTA_BINARY_PACKED", "count": "BYTE_STREAM_SPLIT"},
            )
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power loss, before what it replaces is removed."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_raw(path: Path) -> _Stored | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    size = len(data) // RECORD.size
    times = np.frombuffer(data, "<i8", count=2 * size)[::2]
    counts = np.frombuffer(data, "<f8", count=2 * size)[1::2]
    seals = np.flatnonzero(times < 0)
    is_kept, end, damaged = times >= 0, int(seals[-1]) + 1 if seals.size else 0, 0
    if not _is_as_written(data, end):
        is_kept, end, damaged = _whole_blocks(data, seals)
        if np.any(seals >= end):  # what follows the last whole block holds a seal that fits nothing
            damaged, end = damaged + size - end, size
    is_kept[end:] = False
    return _Stored(
        t_ns=times[is_kept].astype(np.int64, copy=False),
        count=counts[is_kept].astype(np.float64, copy=False),
        torn_bytes=len(data) - RECORD.size * end,
        damaged=damaged,
        records=size,
    )


def _is_as_written(data: bytes, end: int) -> bool:
    """Whether everything before the last seal has the checksum written in that seal; `end`: records up to it."""
    if end == 0:
        return True
    begin = RECORD.size * (end - 1)
    running: int = SEAL.unpack_from(data, begin)[2]
    return zlib.crc32(memoryview(data)[:begin]) == running


def _whole_blocks(data: bytes, seals: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.bool_], int, int]:
    """Which records lie in blocks that fit their own checksum, where the last of these ends, and how many do not."""
    is_kept = np.zeros(len(data) // RECORD.size, dtype=np.bool_)
    view, end, damaged = memoryview(data), 0, 0
    for place in seals.tolist():
        head, checksum, _ = SEAL.unpack_from(data, RECORD.size * place)
        first = place + head
        if first < end or block_checksum(view[RECORD.size * first : RECORD.size * place], first) != checksum:
            continue
        is_kept[first:place] = True
        damaged += first - end
        end = place + 1
    return is_kept, end, damaged


def _read_parquet(path: Path, stream: str) -> tuple[_Stored | None, str | None]:
    if not path.exists():
        return None, None
    try:
        with path.open("rb") as file:  # pyarrow itself opens no path that is not UTF-8
            table: Any = pq.ParquetFile(file).read(columns=["t_ns", "count"], use_threads=False)
        told = table.schema.metadata or {}
        stored = _Stored(
            t_ns=table.column("t_ns").to_numpy().astype(np.int64),
            count=table.column("count").to_numpy().astype(np.float64),
            torn_bytes=int(told[_TORN_BYTES.encode()]),
            damaged=int(told[_DAMAGED.encode()]),
            records=int(told[_RECORDS.encode()]),
        )
        is_sound = _checksum(stored) == int(told[_CRC.encode()])
        described = table.schema.field("count").metadata[b"channel"].decode()
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError, MemoryError, OverflowError) as err:
        return None, f"{path.name} cannot be read ({err})"
    if not is_sound:
        return None, f"{path.name} does not have the checksum written in it; it was changed"
    if described != stream:
        return None, f"{path.name} holds samples of {described}; it was renamed"
    return stored, None


def _parquet_records(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return int((pq.read_schema(file).metadata or {})[_RECORDS.encode()])
    except (pa.ArrowException, OSError, KeyError, ValueError):
        return -1


def _checked(stored: _Stored) -> Segment:
    """Put the records in time order; of those with one time keep the last, and none whose count is not finite."""
    t_ns, count = in_order(stored.t_ns, stored.count)
    return Segment(
        t_ns=t_ns,
        count=count,
        torn_bytes=stored.torn_bytes,
        damaged=stored.damaged,
        dropped=stored.t_ns.size - t_ns.size,
        problem=None,
    )


def _no_times() -> Times:
    return np.empty(0, dtype=np.int64)


def _no_counts() -> Counts:
    return np.empty(0, dtype=np.float64)
