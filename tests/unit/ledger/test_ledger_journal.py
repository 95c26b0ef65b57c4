"""The journal: whole lines, whatever happens."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import zlib
from pathlib import Path
from typing import Any

import pytest

from stillwatt.ledger.journal import JournalWriter, read_journal


def _event(number: int, **fields: Any) -> dict[str, Any]:
    return {"event": "warning", "t_ns": number, "message": f"nr {number}", **fields}


def _write(path: Path, count: int) -> list[dict[str, Any]]:
    writer = JournalWriter(path)
    events = [_event(number) for number in range(count)]
    for event in events:
        writer.write(event)
    writer.close()
    return events


class ShortWrites:
    """Stands in for a disk that fills up: the next write takes only so many bytes, or none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.allow: int | None = None
        self._real = os.write
        monkeypatch.setattr(os, "write", self._write)

    def _write(self, descriptor: int, data: bytes) -> int:
        if self.allow is None:
            return self._real(descriptor, data)
        allowed, self.allow = self.allow, None
        if allowed == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._real(descriptor, data[:allowed])


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    events = _write(path, 5)
    read = read_journal(path)
    assert list(read.events) == events
    assert (read.torn_bytes, read.problems) == (0, ())
    assert path.stat().st_mode & 0o777 == 0o644 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_one_line_and_one_write_an_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = os.write

    def counted(descriptor: int, data: bytes) -> int:
        sizes.append(len(data))
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", counted)
    writer = JournalWriter(tmp_path / "j.jsonl")
    writer.write(_event(1, text="two\nlines\u2028and ünïcode"))
    writer.close()
    data = (tmp_path / "j.jsonl").read_bytes()
    assert sizes == [len(data)]
    assert data.count(b"\n") == 1
    assert "ünïcode".encode() in data


@pytest.mark.parametrize("allowed", [0, 1, 7, 30])
def test_a_full_disk_costs_one_event_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    path = tmp_path / "j.jsonl"
    disk = ShortWrites(monkeypatch)
    writer = JournalWriter(path)
    writer.write(_event(1))
    disk.allow = allowed
    with pytest.raises(OSError, match=r"space|fitted"):
        writer.write(_event(2))
    writer.write(_event(3))
    writer.write(_event(4))
    writer.close()
    read = read_journal(path)
    assert [event["t_ns"] for event in read.events] == [1, 3, 4]
    assert len(read.problems) == (1 if allowed else 0)
    assert all("line 2" in problem for problem in read.problems)


def test_going_on_after_a_torn_line_keeps_the_next_event(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    _write(path, 2)
    path.write_bytes(path.read_bytes()[:-9])
    _write(path, 1)
    read = read_journal(path)
    assert [event["t_ns"] for event in read.events] == [0, 0]
    assert len(read.problems) == 1


def test_a_bad_line_in_the_middle_is_told_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    _write(path, 4)
    lines = path.read_bytes().split(b"\n")
    lines[1] = b"\x00" * len(lines[1])
    lines[2] = b"[1, 2]"
    path.write_bytes(b"\n".join(lines))
    read = read_journal(path)
    assert [event["t_ns"] for event in read.events] == [0, 3]
    assert [problem.split(":")[0] for problem in read.problems] == ["line 2", "line 3"]


@pytest.mark.parametrize(
    "line",
    [
        b'{"event":"x"}',
        b'{"event":1,"t_ns":1}',
        b'{"event":"x","t_ns":true}',
        b'{"event":"x","t_ns":1,"v":NaN}',
        b'{"event":"x","t_ns":1,"v":1e999}',
        b'{"event":"x","t_ns":1.0}',
        b"[" * 100_000,
        b'\xff{"event":"x","t_ns":1}',
        b"null",
    ],
)
def test_lines_that_are_no_events(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(_sealed(line) + b"\n")
    read = read_journal(path)
    assert read.events == ()
    assert len(read.problems) == 1


def _sealed(line: bytes) -> bytes:
    """A line with its right checksum, whatever it says."""
    return line[:-1] + b',"crc":"%08x"}' % zlib.crc32(line)


@pytest.mark.parametrize("byte", range(0, 60, 3))
def test_a_line_with_one_changed_bit_is_left_out(tmp_path: Path, byte: int) -> None:
    path = tmp_path / "j.jsonl"
    _write(path, 3)
    data = bytearray(path.read_bytes())
    begin = data.index(b"\n") + 1
    data[begin + byte % (data.index(b"\n", begin) - begin)] ^= 1 << (byte % 7)
    path.write_bytes(data)
    read = read_journal(path)
    assert [event["t_ns"] for event in read.events] == [0, 2]
    assert len(read.problems) in (1, 2)  # two where the bit made a line end of a letter


@pytest.mark.parametrize("gone", [0, 1, 3])
def test_a_line_that_was_taken_out_is_missed(tmp_path: Path, gone: int) -> None:
    path = tmp_path / "j.jsonl"
    _write(path, 5)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:gone] + lines[gone + 1 :]))
    read = read_journal(path)
    assert len(read.events) == 4
    assert read.problems == (f"1 lines are gone, the first of them number {gone}",)


def test_lines_are_numbered_on_by_whoever_opens_the_journal_next(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    for _ in range(3):
        _write(path, 2)
    assert [json.loads(line)["n"] for line in path.read_text().splitlines()] == [0, 1, 2, 3, 4, 5]
    assert read_journal(path).problems == ()


def test_a_line_without_a_checksum_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(b'{"event":"x","t_ns":1}\n')
    (problem,) = read_journal(path).problems
    assert "no checksum" in problem


def test_half_a_character_never_reaches_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    writer = JournalWriter(path)
    writer.write(_event(1, message="file \udcff.txt"))
    writer.close()
    other_writers = b'{"event":"warning","t_ns":2,"message":"\\ud800 \\ud83d\\ude00","n":1}'
    path.write_bytes(path.read_bytes() + _sealed(other_writers) + b"\n")
    messages = [event["message"] for event in read_journal(path).events]
    assert messages == ["file ?.txt", "? \U0001f600"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object()])
def test_what_json_cannot_hold_is_refused_and_leaves_no_trace(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "j.jsonl"
    writer = JournalWriter(path)
    with pytest.raises((TypeError, ValueError)):
        writer.write(_event(1, value=value))
    writer.write(_event(2))
    writer.close()
    assert [event["t_ns"] for event in read_journal(path).events] == [2]
    assert read_journal(path).problems == ()


def test_a_closed_journal_refuses_and_closing_twice_is_fine(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "j.jsonl")
    writer.close()
    writer.close()
    writer.fsync()
    with pytest.raises(OSError, match="closed"):
        writer.write(_event(1))


def _closed_for(own: Path, journal: JournalWriter) -> int:
    """Close the journal's descriptor behind its back; its number is a file of the program's own from now on."""
    assert journal._file is not None
    number = journal._file.number
    os.close(number)
    taken = os.open(own, os.O_CREAT | os.O_RDWR)
    if taken != number:
        os.dup2(taken, number)
        os.close(taken)
    return number


@pytest.mark.parametrize("has_proc", [True, False], ids=["path", "inode"])
def test_a_journal_that_was_closed_behind_its_back_goes_on_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_proc: bool
) -> None:
    if not has_proc:
        monkeypatch.setattr("stillwatt.ledger.journal._path", lambda number: "")
    said: list[str] = []
    journal = JournalWriter(tmp_path / "j.jsonl", lambda: said.append("closed"))
    journal.write({"event": "a", "t_ns": 1})
    first = _closed_for(tmp_path / "own", journal)
    journal.write({"event": "b", "t_ns": 2})
    journal.write({"event": "c", "t_ns": 3})
    assert said == ["closed"]
    second = _closed_for(tmp_path / "own", journal)
    journal.close()
    for number in (first, second):
        os.close(number)  # it is the program's still
    assert (tmp_path / "own").read_bytes() == b""
    found = read_journal(tmp_path / "j.jsonl")
    assert ([event["event"] for event in found.events], found.problems) == (["a", "b", "c"], ())


def test_a_journal_whose_folder_was_renamed_goes_on(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    journal = JournalWriter(tmp_path / "run" / "j.jsonl")
    (tmp_path / "run").rename(tmp_path / "moved")
    journal.write({"event": "a", "t_ns": 1})
    journal.close()
    assert len(read_journal(tmp_path / "moved" / "j.jsonl").events) == 1


def test_threads_never_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    writer = JournalWriter(path)

    def write(start: int) -> None:
        for number in range(start, start + 50):
            writer.write(_event(number, pad="x" * (number % 97)))

    threads = [threading.Thread(target=write, args=(start,)) for start in range(0, 400, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.fsync()
    writer.close()
    read = read_journal(path)
    assert sorted(event["t_ns"] for event in read.events) == list(range(400))
    assert read.problems == ()


_WRITER = """
import sys
from pathlib import Path
from stillwatt.ledger.journal import JournalWriter
from stillwatt.ledger.segments_raw import RawWriter
journal, raw = JournalWriter(Path(sys.argv[1])), RawWriter(Path(sys.argv[2]))
number = 0
while True:
    number += 1
    journal.write({"event": "warning", "t_ns": number, "message": "x" * (number % 500)})
    raw.append(number, float(number))
    if number % 7 == 0:
        raw.flush()
    if number % 100 == 0:
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()
"""


def test_kill_9_keeps_every_acknowledged_event(tmp_path: Path) -> None:
    journal, raw = tmp_path / "j.jsonl", tmp_path / "samples" / "s.raw"
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(journal), str(raw)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    acknowledged = 0
    while acknowledged < 500:
        acknowledged = int(writer.stdout.readline())
    os.kill(writer.pid, signal.SIGKILL)
    rest = writer.stdout.read().split("\n")
    writer.stdout.close()
    assert writer.wait() == -signal.SIGKILL
    acknowledged = max([acknowledged, *(int(line) for line in rest[:-1] if line)])
    read = read_journal(journal)
    numbers = [event["t_ns"] for event in read.events]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= acknowledged
    assert read.problems == ()
    assert raw.stat().st_size // 16 >= acknowledged // 7 * 7


def test_the_measured_program_stays_light() -> None:
    code = (
        "import sys, stillwatt.ledger.journal, stillwatt.ledger.segments_raw, stillwatt.ledger.rundir, "
        "stillwatt.ledger.environment; "
        "print([m for m in ('numpy', 'pyarrow', 'msgspec', 'pydantic', 'sqlite3', 'torch') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_journal_is_plain_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    events = _write(path, 3)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [list(line)[-1] for line in lines] == ["crc"] * 3
    assert [{key: line[key] for key in event} for line, event in zip(lines, events, strict=True)] == events


def test_a_journal_that_was_appended_to_itself_counts_once(tmp_path: Path) -> None:
    """As by a copy that went on where it should have begun anew; its counts would be added up twice."""
    path = tmp_path / "journal.jsonl"
    events = _write(path, 3)
    path.write_bytes(2 * path.read_bytes())
    read = read_journal(path)
    assert list(read.events) == events
    assert read.problems == tuple(f"line {n}: it is there a second time; it was copied" for n in (4, 5, 6))
