"""Which run is gone on with: what is known of the processes that were at it, and by what its settings may differ."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fakes import FakeClock
from stillwatt.ledger.environment import boot_id, host_name
from stillwatt.ledger.journal import JournalWriter
from stillwatt.ledger.rundir import MANIFEST, change_settings, create_run_dir, is_sound_manifest, read_manifest
from stillwatt.workflows.unfinished import Found, Unfinished, Wish, find_unfinished

Event = dict[str, Any]
SETTINGS: dict[str, Any] = {
    "name": "study",
    "description": "",
    "data": {"seed": 1},
    "train": {"seeds": [1]},
    "arms": [{"name": "kd", "alpha": 0.5}],
    "run": {"threads": None},
    "analysis": {"reuse": [10]},
}
COUNT = {"event": "meter", "t_ns": 6, "samples": 1, "failed_reads": 0, "skipped_ticks": 0, "cpu_s": 0.1}
LOST = {"event": "parent_lost", "t_ns": 9}
STAGE = {"event": "stage_started", "t_ns": 5, "stage_id": "r0a1", "name": "teacher_logits", "parent_id": None}
FAILED = {"event": "session_ended", "t_ns": 8, "utc_ns": 8, "status": "failed", "lost_events": 0, "cpu_s": 1.0}
ENDED = {**FAILED, "status": "ended"}


class Runs:
    """Runs in a folder, each a second after the one before."""

    def __init__(self, directory: Path) -> None:
        self.directory, self._clock = directory, FakeClock()

    def add(self, *events: Event, host: str = "near", **changes: Any) -> Path:
        """A run of one session with these events, of these settings."""
        run_dir = self.begun(**changes)
        session(run_dir, host, 0, *events)
        return run_dir

    def begun(self, **changes: Any) -> Path:
        """A run that no session has yet."""
        self._clock.advance(1.0)
        settings = {**SETTINGS, **changes}
        name = str(settings["name"])
        run_id = create_run_dir(self.directory, name, clock=self._clock, settings=settings, environment={})
        return self.directory / run_id

    def find(self, wish: Wish | None = None, **changes: Any) -> Found:
        """What a recipe of these settings goes on with."""
        return find_unfinished(self.directory, {**SETTINGS, **changes}, wish)

    def found(self, **changes: Any) -> str | None:
        """Which run that is."""
        run = self.find(**changes).run
        return None if run is None else run.run_id


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def write(path: Path, *events: Event) -> None:
    journal = JournalWriter(path)
    for event in events:
        journal.write(event)
    journal.close()


def session(
    run_dir: Path,
    host: str,
    rank: int,
    *more: Event,
    beside: tuple[Event, ...] = (),
    pid: int = 7,
    boot: str | None = None,
) -> None:
    """A rank's session on a machine, and what its sampling process wrote beside it."""
    name = f"{host}-7-{rank:04d}"
    started = {
        "event": "session_started", "t_ns": 1, "utc_ns": 1 + rank, "session": name, "run_id": run_dir.name, "pid": pid,
        "host": host, "boot_id": boot or f"boot of {host}", "stillwatt": "0", "python": "3", "rank": rank,
        "world_size": 2,
    }  # fmt: skip
    write(run_dir / f"journal.{name}.jsonl", started, *more)
    if beside:
        write(run_dir / f"journal.{name}.meter.jsonl", *beside)


def test_a_rank_that_was_killed_on_another_machine_holds_nothing_up_once_its_death_was_seen(runs: Runs) -> None:
    run_dir = runs.add(STAGE, FAILED)
    session(run_dir, "far", 1, STAGE, beside=(LOST,))
    assert runs.find() == Found(run=Unfinished(run_id=run_dir.name, sessions=2, attempts={"teacher_logits": 1}))


@pytest.mark.parametrize("beside", [(), (COUNT,)])
def test_a_rank_of_another_machine_that_may_live_is_left_alone_and_told_of(
    runs: Runs, beside: tuple[Event, ...]
) -> None:
    run_dir = runs.add(STAGE, FAILED)
    session(run_dir, "far", 1, STAGE, beside=beside)
    found = runs.find()
    assert found.run is None
    seen = "last seen on host far at 1970-01-01T00:00:00.000Z and may still live there"
    assert found.said == (
        f"run {run_dir.name} of these settings was {seen}; `--resume {run_dir.name}` goes on with it",
    )


def test_a_run_of_another_machine_is_gone_on_with_where_it_is_named_or_taken_over(runs: Runs) -> None:
    run_dir = runs.add(STAGE, host="far")
    for wish in (
        Wish(run=run_dir.name),
        Wish(run=f"elsewhere/{run_dir.name}"),
        Wish(run=run_dir.name[:-2]),
        Wish(run="study"),
        Wish(run="latest"),
        Wish(takes_over=True, is_trial=True),
    ):
        assert runs.find(wish).run == Unfinished(run_id=run_dir.name, sessions=1, attempts={"teacher_logits": 1}), wish
    (said,) = runs.find(Wish(is_trial=True)).said
    assert said.endswith("and may still live there; `--resume` goes on with it")


def test_a_run_of_this_host_before_it_was_started_anew_is_dead(runs: Runs) -> None:
    run_dir = runs.begun()
    session(run_dir, host_name(), 0, STAGE, pid=os.getpid(), boot="another boot")
    assert runs.found() == run_dir.name


@pytest.mark.skipif(not boot_id(), reason="the kernel tells no boot from another")
def test_a_run_that_lives_here_is_never_taken_over(runs: Runs) -> None:
    run_dir = runs.begun()
    session(run_dir, host_name(), 0, {**STAGE, "t_ns": 2**62}, pid=os.getpid(), boot=boot_id())
    session(run_dir, "far", 1, STAGE)
    found = runs.find(Wish(takes_over=True))
    at_work = f"is under way here (process {os.getpid()})"
    assert found.run is None
    assert found.said == (f"run {run_dir.name} of these settings {at_work}; this is another one",)
    assert at_work in str(runs.find(Wish(run="latest")).refusal)


@pytest.mark.parametrize(
    ("events", "changes", "reference", "said"),
    [
        ((STAGE, FAILED), {"data": {"seed": 2}}, "latest", "it differs in data.seed; give the recipe that it"),
        ((STAGE, FAILED), {"arms": [{"name": "kd", "alpha": 0.1}]}, "study", "it differs in arms.kd.alpha; give"),
        ((STAGE, FAILED), {key: 1 for key in "abcdefg"}, "study", "it differs in a, b, c, d, e and 2 more; give"),
        ((STAGE, ENDED), {}, "latest", "reached its end; leave --resume out"),
        ((STAGE, FAILED), {}, "stud", "no run 'stud' in"),
    ],
)  # fmt: skip
def test_a_run_that_cannot_be_gone_on_with_is_refused_by_its_name(
    runs: Runs, events: tuple[Event, ...], changes: dict[str, Any], reference: str, said: str
) -> None:
    runs.add(*events)
    found = runs.find(Wish(run=reference), **changes)
    assert found.run is None
    assert found.refusal is not None
    assert found.refusal.startswith(f"--resume {reference}: ")
    assert said in found.refusal


def test_a_run_without_a_session_is_none_to_go_on_with(runs: Runs) -> None:
    runs.begun()
    assert runs.find() == Found()
    assert "has no session to go on from" in str(runs.find(Wish(run="latest")).refusal)


def test_a_beginning_of_several_ids_names_none(runs: Runs) -> None:
    names = [runs.add(STAGE, FAILED).name for _ in range(2)]
    begin = names[0][:8]  # the day
    assert "fits 2 runs" in str(runs.find(Wish(run=begin)).refusal)


def test_a_manifest_that_cannot_be_read_is_passed_by(runs: Runs) -> None:
    older = runs.add(STAGE, FAILED)
    (runs.add(STAGE, FAILED) / MANIFEST).write_text("{", encoding="utf-8")
    assert runs.found() == older.name


@pytest.mark.parametrize(
    "changes",
    [
        {"description": "other words"},
        {"analysis": {"reuse": [5]}},
        {"sweep": {}},
        {"budget": "2 kWh"},
        {"budget": None},
    ],
)
def test_what_changes_no_measurement_begins_no_training_anew(runs: Runs, changes: dict[str, Any]) -> None:
    run_dir = runs.add(STAGE, FAILED)
    assert runs.found(**changes) == run_dir.name
    # the newest of several, whatever its words
    newer = runs.add(STAGE, FAILED, description="again")
    assert runs.found(**changes) == runs.found() == newer.name


def test_a_run_that_was_done_since_in_other_words_is_not_gone_back_behind(runs: Runs) -> None:
    older = runs.add(STAGE, FAILED)
    runs.add(STAGE, ENDED, description="done")
    assert runs.found(description="third") is None
    assert runs.found(description="done") is None
    assert runs.found() == older.name  # its own settings were never carried out


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"run": {"threads": 4}}, "run.threads"),
        ({"run": {"threads": 4}, "data": {"seed": 2}, "description": "x"}, "data.seed, run.threads"),
        ({"arms": [{"name": "kd", "alpha": 0.1}], "train": {"seeds": [1, 2]}}, "arms.kd.alpha, train.seeds"),
        ({"serve": {"prompts": 3}}, "serve"),
        ({"data": {"seed": 2, "a": 1, "b": 2, "c": 3}}, None),
        ({"name": "another", "data": {"seed": 2}}, None),
    ],
)
def test_a_run_that_is_nearly_the_same_work_is_told_of(runs: Runs, changes: dict[str, Any], said: str | None) -> None:
    run_dir = runs.add(STAGE, FAILED)
    lines = () if said is None else (f"unfinished run {run_dir.name} differs in {said}; it is left as it is",)
    assert runs.find(**changes) == Found(said=lines)
    assert runs.find(Wish(is_trial=True), **changes) == Found()


@pytest.mark.parametrize(("events", "host"), [((STAGE, ENDED), "near"), ((STAGE,), "far")])
def test_a_run_nearly_the_same_that_is_over_or_may_live_is_not_spoken_of(
    runs: Runs, events: tuple[Event, ...], host: str
) -> None:
    runs.add(*events, host=host)
    assert runs.find(data={"seed": 2}) == Found()


def test_new_words_stand_in_the_manifest_and_the_old_ones_beside_them(runs: Runs) -> None:
    run_dir = runs.add(STAGE, FAILED)
    was = read_manifest(run_dir)
    change_settings(run_dir, SETTINGS)
    assert read_manifest(run_dir) == was
    for words in ("second", "third"):
        change_settings(run_dir, {**SETTINGS, "description": words, "sweep": None})
    manifest = read_manifest(run_dir)
    assert is_sound_manifest(manifest)
    assert manifest["settings"] == {**SETTINGS, "description": "third", "sweep": None}
    assert [before["settings"] for before in manifest["settings_before"]] == [
        {"description": ""},
        {"description": "second"},
    ]
    assert manifest["settings_before"][0]["settings_sha256"] == was["settings_sha256"]
    # what is damaged stays so
    (run_dir / MANIFEST).write_text((run_dir / MANIFEST).read_text().replace('"study"', '"stady"'), encoding="utf-8")
    change_settings(run_dir, SETTINGS)
    assert read_manifest(run_dir)["settings"]["description"] == "third"
