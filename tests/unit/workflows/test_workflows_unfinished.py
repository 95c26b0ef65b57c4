"""Which run is gone on with: what is known of the processes that were at it, on this machine and on others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fakes import FakeClock
from stillwatt.ledger.journal import JournalWriter
from stillwatt.ledger.rundir import create_run_dir, read_manifest
from stillwatt.workflows.pipeline import Unfinished, find_unfinished

Event = dict[str, Any]
COUNT = {"event": "meter", "t_ns": 6, "samples": 1, "failed_reads": 0, "skipped_ticks": 0, "cpu_s": 0.1}
LOST = {"event": "parent_lost", "t_ns": 9}
STAGE = {"event": "stage_started", "t_ns": 5, "stage_id": "r0a1", "name": "teacher_logits", "parent_id": None}


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    run_id = create_run_dir(tmp_path, "study", clock=FakeClock(), settings={"data": {"seed": 1}}, environment={})
    return tmp_path / run_id


def write(path: Path, *events: Event) -> None:
    journal = JournalWriter(path)
    for event in events:
        journal.write(event)
    journal.close()


def session(run_dir: Path, host: str, rank: int, *more: Event, beside: tuple[Event, ...] = ()) -> None:
    """A rank's session on a machine, and what its sampling process wrote beside it."""
    name = f"{host}-7-0001"
    started = {
        "event": "session_started", "t_ns": 1, "utc_ns": 1 + rank, "session": name, "run_id": run_dir.name, "pid": 7,
        "host": host, "boot_id": f"boot of {host}", "stillwatt": "0", "python": "3", "rank": rank, "world_size": 2,
    }  # fmt: skip
    write(run_dir / f"journal.{name}.jsonl", started, *more)
    if beside:
        write(run_dir / f"journal.{name}.meter.jsonl", *beside)


def found(run_dir: Path) -> Unfinished | None:
    return find_unfinished(run_dir.parent, read_manifest(run_dir)["settings_sha256"])


ENDED = {"event": "session_ended", "t_ns": 8, "utc_ns": 8, "status": "failed", "lost_events": 0, "cpu_s": 1.0}


def test_a_rank_that_was_killed_on_another_machine_holds_nothing_up_once_its_death_was_seen(run_dir: Path) -> None:
    session(run_dir, "near", 0, STAGE, ENDED)
    session(run_dir, "far", 1, STAGE, beside=(LOST,))
    assert found(run_dir) == Unfinished(run_id=run_dir.name, sessions=2, attempts={"teacher_logits": 1})


@pytest.mark.parametrize("beside", [(), ({"event": "meter", "t_ns": 6, "samples": 1},)])
def test_a_rank_of_another_machine_that_may_live_is_left_alone(run_dir: Path, beside: tuple[Event, ...]) -> None:
    session(run_dir, "near", 0, STAGE, ENDED)
    session(run_dir, "far", 1, STAGE, beside=beside)
    assert found(run_dir) is None
