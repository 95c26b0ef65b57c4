"""A sign of life of a sampling process without samples: written over and over, believed where it is whole."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import FakeClock
from run_dirs import FakeLiveness, SyntheticRun, SyntheticSession, constant_counter, gpu_counter
from stillwatt.ledger.disk import Disk
from stillwatt.ledger.fingerprint import data_fingerprint, stat_signature
from stillwatt.ledger.gather import gather
from stillwatt.ledger.journal import JournalWriter
from stillwatt.ledger.life import LifeSign, last_life_ns, life_path, life_signs
from stillwatt.ledger.post import build_record
from stillwatt.ledger.segments_raw import RawWriter, raw_path
from stillwatt.records import Readings
from stillwatt.units import J_PER_MJ_MILLI, NS_PER_S, nanoseconds

DEAD = FakeLiveness()


def _leave(path: Path, *times_ns: int) -> None:
    sign = LifeSign(path)
    for t_ns in times_ns:
        sign.leave(t_ns)
    sign.close()
    sign.close()


@given(st.lists(st.integers(0, (1 << 63) - 1), min_size=1, max_size=9).map(sorted))
def test_the_last_time_is_read_from_a_file_of_fixed_size(
    tmp_path_factory: pytest.TempPathFactory, times: list[int]
) -> None:
    path = tmp_path_factory.mktemp("life") / "journal.host-1-ab.life"
    _leave(path, *times)
    assert last_life_ns(path) == times[-1]
    assert path.stat().st_size == 96 * min(len(times), 2)


@given(st.integers(0, 191), st.binary(min_size=1, max_size=191))
def test_a_write_that_was_cut_off_leaves_the_one_before_it(
    tmp_path_factory: pytest.TempPathFactory, place: int, rubbish: bytes
) -> None:
    path = tmp_path_factory.mktemp("life") / "journal.host-1-ab.life"
    _leave(path, 10, 20, 30)
    data = bytearray(path.read_bytes())
    line = place // 96
    end = min(place + len(rubbish), 96 * (line + 1))
    data[place:end] = rubbish[: end - place]
    path.write_bytes(data)
    assert last_life_ns(path) in (20, 30)


@pytest.mark.parametrize("text", [b"", b"\0" * 192, b"life", b'{"event":"life","t_ns":5}\n'])
def test_what_is_no_sign_of_life_is_none(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "journal.host-1-ab.life"
    assert last_life_ns(path) == 0
    path.write_bytes(text)
    assert last_life_ns(path) == 0


def test_a_flush_without_samples_leaves_a_sign_in_their_stead(tmp_path: Path) -> None:
    clock, path = FakeClock(), tmp_path / "journal.s-1.life"
    disk = Disk(
        JournalWriter(tmp_path / "journal.s-1.meter.jsonl"),
        lambda stream: RawWriter(raw_path(tmp_path, "s-1", stream)),
        clock,
        life=LifeSign(path),
    )
    disk.keep(Readings("gpu0.power", [clock.now_ns], [1.0]))
    disk.flush()
    assert not path.exists()
    clock.advance(1.0)
    disk.flush()
    assert last_life_ns(path) == clock.now_ns
    shutil.rmtree(tmp_path)
    disk.close()


def test_a_sign_that_cannot_be_left_stops_nothing(tmp_path: Path) -> None:
    disk = Disk(
        JournalWriter(tmp_path / "journal.s-1.meter.jsonl"),
        lambda stream: RawWriter(raw_path(tmp_path, "s-1", stream)),
        FakeClock(),
        life=LifeSign(tmp_path / "gone" / "journal.s-1.life"),
    )
    disk.close()


def _two_ranks(runs_dir: Path, group: str = "") -> tuple[SyntheticRun, SyntheticSession]:
    """Rank 0 reads the card for both; all of rank 1 is killed some time after 105 s."""
    run = SyntheticRun(runs_dir, group=group)
    reader = run.session(start_s=100.0, rank=0, world_size=2, launch="l")
    reader.sampler([gpu_counter()])
    reader.stage("train", 101.0, 115.0)
    reader.samples("gpu0.energy_counter", constant_counter(200.0, J_PER_MJ_MILLI), until_s=116.2)
    reader.end(116.0)
    killed = run.session(start_s=100.0, rank=1, world_size=2, launch="l")
    killed.sampler([])
    killed.begin("train", 101.0)
    killed.meter("meter", 105.0, samples=0, failed_reads=0, skipped_ticks=0, cpu_s=0.1)
    return run, killed


def test_a_killed_rank_without_devices_ends_at_its_sign_of_life(runs_dir: Path) -> None:
    run, killed = _two_ranks(runs_dir)
    assert build_record(run.path, liveness=DEAD).stages[1].duration_s == 4.0
    _leave(life_path(run.path, killed.name), nanoseconds(112.0), nanoseconds(113.0))
    stage = build_record(run.path, liveness=DEAD).stages[1]
    assert (stage.status.value, stage.duration_s) == ("recovered", 12.0)


def test_a_sign_of_life_is_brought_along_where_it_is_later(tmp_path: Path) -> None:
    node, killed = _two_ranks(tmp_path / "node", group="l")
    sign = life_path(node.path, killed.name)
    _leave(sign, 5 * NS_PER_S)
    (first,) = gather(tmp_path / "here", [node.path])
    assert sign.name in first.files
    here = tmp_path / "here" / first.run_id
    prints = data_fingerprint(here)
    assert prints == data_fingerprint(node.path)
    assert gather(tmp_path / "here", [node.path])[0].files == ()
    _leave(sign, 6 * NS_PER_S, 7 * NS_PER_S)
    signature = stat_signature(here)
    assert gather(tmp_path / "here", [node.path])[0].files == (sign.name,)
    assert last_life_ns(here / sign.name) == 7 * NS_PER_S
    assert data_fingerprint(here) != prints
    assert stat_signature(here) != signature
    _leave(sign, 6 * NS_PER_S)
    sign.unlink()
    _leave(sign, 6 * NS_PER_S)
    assert gather(tmp_path / "here", [node.path])[0].files == ()
    sign.unlink()
    sign.symlink_to(here / sign.name)
    assert life_signs(node.path) == ()
