"""Samples: whole records from torn files, and sealing that may stop anywhere."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from run_dirs import cpu_counter, gpu_counter, gpu_power
from stillwatt.ledger.segments import (
    parquet_path,
    read_segment,
    read_stream,
    samples_schema,
    seal,
    stored_streams,
    unit_name,
)
from stillwatt.ledger.segments_raw import RawWriter, raw_path

SESSION = "host-1-ab"
STREAM = "gpu0.energy_counter"
CHANNELS = {STREAM: gpu_counter()}


def _store(run_dir: Path, count: int, *, first: int = 0) -> Path:
    path = raw_path(run_dir, SESSION, STREAM)
    writer = RawWriter(path)
    for number in range(first, first + count):
        writer.append(number * 100, number * 0.1)
    writer.close()
    return path


def _expect(run_dir: Path, count: int) -> None:
    t_ns, counts = read_stream(run_dir, SESSION, STREAM)
    assert t_ns.dtype == np.int64
    assert counts.dtype == np.float64
    assert t_ns.tolist() == [number * 100 for number in range(count)]
    assert counts.tolist() == [number * 0.1 for number in range(count)]


def test_raw_then_sealed_gives_the_same_numbers(tmp_path: Path) -> None:
    raw = _store(tmp_path, 1000)
    _expect(tmp_path, 1000)
    before = stored_streams(tmp_path)
    assert seal(tmp_path, SESSION, CHANNELS) == (parquet_path(tmp_path, SESSION, STREAM),)
    assert not raw.exists()
    _expect(tmp_path, 1000)
    assert stored_streams(tmp_path) == before == {f"{SESSION}.{STREAM}": 1001}  # and their seal
    assert seal(tmp_path, SESSION, CHANNELS) == ()


def test_a_folder_whose_name_is_not_utf_8_keeps_its_samples(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    _store(folder, 100)
    before = stored_streams(folder)
    seal(folder, SESSION, CHANNELS)
    _expect(folder, 100)
    assert read_segment(folder, SESSION, STREAM).problem is None
    assert stored_streams(folder) == before


def test_a_sealed_segment_says_its_unit_and_channel(tmp_path: Path) -> None:
    _store(tmp_path, 3)
    seal(tmp_path, SESSION, CHANNELS)
    path = parquet_path(tmp_path, SESSION, STREAM)
    schema = pq.read_schema(path)
    count = schema.field("count").metadata
    assert (count[b"unit"], count[b"unit_si"], count[b"channel"]) == (b"mJ", b"0.001", STREAM.encode())
    assert schema.field("t_ns").metadata[b"unit"] == b"ns"
    assert pq.ParquetFile(path).metadata.row_group(0).column(1).compression == "ZSTD"


def test_units_by_name() -> None:
    assert [unit_name(channel) for channel in (gpu_counter(), gpu_power(), cpu_counter())] == ["mJ", "W", "uJ"]


def test_nothing_stored_is_two_empty_arrays(tmp_path: Path) -> None:
    t_ns, counts = read_stream(tmp_path, SESSION, STREAM)
    assert t_ns.size == counts.size == 0
    assert seal(tmp_path, SESSION, CHANNELS) == ()
    assert stored_streams(tmp_path) == {}


def test_both_files_after_a_crash_between_rename_and_remove(tmp_path: Path) -> None:
    raw = _store(tmp_path, 10)
    data = raw.read_bytes()
    seal(tmp_path, SESSION, CHANNELS)
    raw.write_bytes(data)
    _expect(tmp_path, 10)
    assert stored_streams(tmp_path) == {f"{SESSION}.{STREAM}": 11}  # ten samples and the seal of their block
    assert len(seal(tmp_path, SESSION, CHANNELS)) == 1
    assert not raw.exists()
    _expect(tmp_path, 10)


@pytest.mark.parametrize(("raw_count", "sealed_count"), [(10, 4), (4, 10)])
def test_the_longer_file_wins(tmp_path: Path, raw_count: int, sealed_count: int) -> None:
    raw = _store(tmp_path, sealed_count)
    seal(tmp_path, SESSION, CHANNELS)
    _store(tmp_path, raw_count)
    _expect(tmp_path, 10)
    seal(tmp_path, SESSION, CHANNELS)
    assert not raw.exists()
    _expect(tmp_path, 10)


def test_an_unreadable_sealed_file_never_hides_a_good_raw_one(tmp_path: Path) -> None:
    _store(tmp_path, 5)
    parquet_path(tmp_path, SESSION, STREAM).write_bytes(b"PAR1 torn")
    _expect(tmp_path, 5)
    assert read_segment(tmp_path, SESSION, STREAM).problem is None
    seal(tmp_path, SESSION, CHANNELS)
    _expect(tmp_path, 5)


def test_an_unreadable_sealed_file_alone_is_reported(tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    parquet_path(tmp_path, SESSION, STREAM).write_bytes(b"PAR1 torn")
    segment = read_segment(tmp_path, SESSION, STREAM)
    assert segment.t_ns.size == 0
    assert segment.problem is not None
    assert "cannot be read" in segment.problem
    assert stored_streams(tmp_path) == {f"{SESSION}.{STREAM}": -1}


class Crash(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("step", ["write_table", "fsync", "replace", "unlink"])
def test_a_crash_at_any_step_of_sealing_is_harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    _store(tmp_path, 50)

    def crash(*_args: object, **_kwargs: object) -> None:
        raise Crash

    owner = {"write_table": pq, "fsync": os, "replace": os, "unlink": Path}[step]
    with monkeypatch.context() as patch:
        patch.setattr(owner, step, crash)
        with pytest.raises(Crash):
            seal(tmp_path, SESSION, CHANNELS)
    _expect(tmp_path, 50)
    assert len(seal(tmp_path, SESSION, CHANNELS)) == 1
    _expect(tmp_path, 50)
    assert not raw_path(tmp_path, SESSION, STREAM).exists()


def test_a_full_disk_while_sealing_leaves_the_raw_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _store(tmp_path, 5)

    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", full)
        with pytest.raises(OSError, match="No space"):
            seal(tmp_path, SESSION, CHANNELS)
    assert [path.name for path in (tmp_path / "samples").iterdir()] == [f"{SESSION}.{STREAM}.raw"]
    _expect(tmp_path, 5)


def test_torn_bytes_are_told_before_and_after_sealing(tmp_path: Path) -> None:
    path = _store(tmp_path, 5)
    with path.open("ab") as file:
        file.write(b"torn!")
    assert read_segment(tmp_path, SESSION, STREAM).torn_bytes == 5
    seal(tmp_path, SESSION, CHANNELS)
    assert read_segment(tmp_path, SESSION, STREAM).torn_bytes == 5
    _expect(tmp_path, 5)


def test_records_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    path = raw_path(tmp_path, SESSION, STREAM)
    writer = RawWriter(path)
    for record in [(10, 1.0), (30, 3.0), (20, 2.0), (40, float("nan")), (30, 3.5), (50, float("inf"))]:
        writer.append(*record)
    writer.close()
    segment = read_segment(tmp_path, SESSION, STREAM)
    assert segment.t_ns.tolist() == [10, 20, 30]
    assert segment.count.tolist() == [1.0, 2.0, 3.5]
    assert segment.dropped == 3


def test_a_short_write_never_misaligns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = RawWriter(raw_path(tmp_path, SESSION, STREAM))
    for number in range(4):
        writer.append(number * 100, number * 0.1)
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:37]))
        with pytest.raises(OSError, match="fitted"):
            writer.flush()
    for number in range(4, 6):
        writer.append(number * 100, number * 0.1)
    writer.close()
    _expect(tmp_path, 6)


def test_a_writer_cuts_an_earlier_torn_tail(tmp_path: Path) -> None:
    _store(tmp_path, 3)
    path = _store(tmp_path, 2, first=3)
    path.write_bytes(path.read_bytes()[:-5])  # the second block has lost its seal, and with it its two samples
    _store(tmp_path, 4, first=3)
    segment = read_segment(tmp_path, SESSION, STREAM)
    assert (segment.t_ns.size, segment.damaged, segment.torn_bytes) == (7, 0, 0)
    _expect(tmp_path, 7)


def test_what_a_full_disk_cannot_take_is_counted(tmp_path: Path) -> None:
    writer = RawWriter(raw_path(tmp_path, SESSION, STREAM), max_buffered=3)
    for number in range(5):
        writer.append(number, float(number))
    assert writer.dropped == 2
    writer.fsync()
    writer.close()
    writer.close()
    assert read_stream(tmp_path, SESSION, STREAM)[0].tolist() == [2, 3, 4]


@pytest.mark.parametrize("session", ["../x", "a/b", "a.b", "", "a\x00"])
def test_a_session_that_could_leave_the_directory_is_refused(session: str) -> None:
    with pytest.raises(ValueError, match="file name"):
        raw_path(Path("r"), session, STREAM)


@pytest.mark.parametrize("stream", ["../x", "a/b", ".hidden", "a..b", "", "a."])
def test_a_stream_that_could_leave_the_directory_is_refused(stream: str) -> None:
    with pytest.raises(ValueError, match="file name"):
        parquet_path(Path("r"), SESSION, stream)


def test_the_schema_of_samples_has_no_nulls() -> None:
    assert [field.nullable for field in samples_schema(gpu_counter())] == [False, False]
