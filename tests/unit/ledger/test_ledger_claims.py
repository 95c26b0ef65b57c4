"""One process counts a device; another takes over when it ends."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from run_dirs import cpu_counter, gpu_counter, gpu_power
from stillwatt.ledger.claims import Claims

GPUS = [gpu_counter("gpu0"), gpu_power("gpu0"), gpu_counter("gpu1")]


@pytest.fixture
def claims(tmp_path: Path) -> Iterator[list[Claims]]:
    """Three processes' claims of one run on one machine."""
    made = [Claims(tmp_path, "boot") for _ in range(3)]
    yield made
    for each in made:
        each.close()


def test_each_device_is_one_processs(claims: list[Claims]) -> None:
    first, second, third = claims
    assert first.take(GPUS) == GPUS
    assert first.take(GPUS) == GPUS
    assert second.take([*GPUS, cpu_counter()]) == [cpu_counter()]
    assert third.take([*GPUS, cpu_counter()]) == []
    assert not first.is_waiting
    assert second.is_waiting


def test_a_device_is_free_when_its_process_ends(claims: list[Claims]) -> None:
    first, second, third = claims
    first.take(GPUS)
    second.take(GPUS)
    first.close()
    assert second.take(GPUS) == GPUS
    assert not second.is_waiting
    assert third.take(GPUS) == []


def test_other_machines_and_other_runs_do_not_meet(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "run").mkdir()
    everywhere = [
        Claims(tmp_path / "run", "boot a"),
        Claims(tmp_path / "run", "boot b"),
        Claims(tmp_path / "other", "boot a"),
    ]
    assert [each.take(GPUS) for each in everywhere] == [GPUS] * 3
    for each in everywhere:
        each.close()


def test_two_cards_of_one_name_are_two_devices(claims: list[Claims]) -> None:
    """Containers number the cards that they see, each from 0."""
    first, second, _ = claims
    other = replace(gpu_counter("gpu0"), device="another card")
    assert first.take([gpu_counter("gpu0")])
    assert second.take([other]) == [other]


def test_edges_are_told_to_who_reads(claims: list[Claims]) -> None:
    first, second, third = claims
    first.take(GPUS[:2])
    second.take(GPUS)
    third.take(GPUS)
    third.tell()
    assert [ear.recv(9) for ear in first.ears] == [b"mark"]
    assert [ear.recv(9) for ear in second.ears] == [b"mark"]
    third.tell()
    third.tell()
    first.hear()
    for ear in first.ears:
        with pytest.raises(BlockingIOError):
            ear.recv(9)
    first.tell()  # nobody else has anything: no socket is made
    first.close()
    third.tell()  # nobody listens any more, and nothing is raised


def test_a_disk_without_locks_counts_all_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    claims = Claims(tmp_path, "boot")
    assert claims.take(GPUS) == GPUS
    assert "No locks available" in claims.problem
    assert not claims.is_waiting
    claims.close()


def test_a_folder_that_cannot_be_made_counts_all_and_says_so(tmp_path: Path) -> None:
    claims = Claims(tmp_path / "gone", "boot")
    assert claims.take(GPUS) == GPUS
    assert "cannot be claimed" in claims.problem
