"""Samples as readers see them: raw while a run is measured, sealed to Parquet when it is over.

Sealing is done by posting, never in the measured program. It goes through a temporary file, a sync and a
rename, and may stop after any step: a reader takes the sealed file where it holds as much as the raw one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from stillwatt.ledger.segments_raw import RAW_SUFFIX, RECORD, SAMPLES_DIR, raw_path
from stillwatt.records.channel import Channel, Quantity
from stillwatt.units import J_PER_UJ, W_PER_MW_MILLI

PARQUET_SUFFIX = ".parquet"

_RAW_TYPE = np.dtype([("t_ns", "<i8"), ("count", "<f8")])
_TORN_BYTES = "stillwatt.torn_bytes"
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
    """Bytes at the end of the raw file that are no whole record; left out."""
    dropped: int
    """Records left out because their count is not finite or a later record has the same time."""
    problem: str | None
    """Why the samples could not be read, where there is no other file that holds them."""


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
    sealed, problem = _read_parquet(sealed_at)
    if raw is None and sealed is None:
        return Segment(t_ns=_no_times(), count=_no_counts(), torn_bytes=0, dropped=0, problem=problem)
    if raw is None or (sealed is not None and sealed[0].size >= raw[0].size):
        assert sealed is not None
        return _checked(*sealed)
    return _checked(*raw)


def seal(run_dir: Path, session: str, channels: Mapping[str, Channel]) -> tuple[Path, ...]:
    """Turn a session's raw files into Parquet; only for sessions whose sampling process is gone.

    Streams that `channels` does not know are left as they are. Sealing again is harmless.

    Returns:
        The sealed files written or confirmed, whose raw file is gone now.

    Raises:
        OSError: the disk is full or read-only; the raw file is still there then.
    """
    done = []
    for stream, channel in channels.items():
        raw_at, sealed_at = raw_path(run_dir, session, stream), parquet_path(run_dir, session, stream)
        raw = _read_raw(raw_at)
        if raw is None:
            continue
        t_ns, count, torn_bytes = raw
        sealed, _ = _read_parquet(sealed_at)
        if sealed is None or sealed[0].size < t_ns.size:
            _write_parquet(sealed_at, pa.table([t_ns, count], schema=samples_schema(channel, torn_bytes)))
        raw_at.unlink(missing_ok=True)
        done.append(sealed_at)
    return tuple(done)


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
        counts[path.stem] = max(_parquet_rows(path), counts.get(path.stem, -1))
    return counts


def unit_name(channel: Channel) -> str:
    """The unit of a channel's stored counts: `J`, `mJ`, `uJ`, `W`, `mW`, or a multiple such as `6.1e-05 J`."""
    base = "W" if channel.quantity is Quantity.POWER else "J"
    if channel.unit_si in _PREFIXES:
        return _PREFIXES[channel.unit_si] + base
    return f"{channel.unit_si:g} {base}"


def samples_schema(channel: Channel, torn_bytes: int = 0) -> pa.Schema:
    """Columns `t_ns` and `count` with unit, channel and SI value of one count as field metadata.

    `torn_bytes` goes along, so that a sealed segment tells the same as the raw one did.
    """
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
        ],
        metadata={_TORN_BYTES: str(torn_bytes)},
    )


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


def _read_raw(path: Path) -> tuple[Times, Counts, int] | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    torn_bytes = len(data) % RECORD.size
    records = np.frombuffer(data, dtype=_RAW_TYPE, count=len(data) // RECORD.size)
    return records["t_ns"].astype(np.int64), records["count"].astype(np.float64), torn_bytes


def _read_parquet(path: Path) -> tuple[tuple[Times, Counts, int] | None, str | None]:
    if not path.exists():
        return None, None
    try:
        table: Any = pq.ParquetFile(path, memory_map=False).read(columns=["t_ns", "count"], use_threads=False)
        t_ns = table.column("t_ns").to_numpy().astype(np.int64)
        count = table.column("count").to_numpy().astype(np.float64)
        torn_bytes = int((table.schema.metadata or {}).get(_TORN_BYTES.encode(), b"0"))
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as err:
        return None, f"{path.name} cannot be read ({err})"
    return (t_ns, count, torn_bytes), None


def _parquet_rows(path: Path) -> int:
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError):
        return -1


def _checked(t_ns: Times, count: Counts, torn_bytes: int) -> Segment:
    """Put the records in time order; of those with one time keep the last, and none whose count is not finite."""
    is_number = np.isfinite(count)
    order = np.argsort(t_ns[is_number], kind="stable")
    times, counts = t_ns[is_number][order], count[is_number][order]
    is_last = np.append(np.diff(times) > 0, np.ones(min(1, times.size), dtype=np.bool_))
    dropped = int(t_ns.size - np.count_nonzero(is_last))
    return Segment(t_ns=times[is_last], count=counts[is_last], torn_bytes=torn_bytes, dropped=dropped, problem=None)


def _no_times() -> Times:
    return np.empty(0, dtype=np.int64)


def _no_counts() -> Counts:
    return np.empty(0, dtype=np.float64)
