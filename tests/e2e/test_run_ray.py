"""One study over the two nodes of a real Ray cluster: as one process does it, and disturbed in every way we know."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the distill extra is not installed")
pytest.importorskip("constriction", reason="the cache extra is not installed")

from kill_stage import write_recipe
from stillwatt.ledger.rundir import list_run_dirs, program_journals
from stillwatt.records import StageStatus, Total
from stillwatt.units import NS_PER_S
from study_outcome import Outcome, session_bounds

pytestmark = pytest.mark.slow

TOKENS = 512
PATIENCE_S = 240
SHARED = ("teacher_logits", "teacher_generate", "train.sft.0.5", "train.kd.1.0", "train.synthetic.1.0")
"""Stages that every rank has a part of."""


def command(folder: Path, *more: str) -> list[str]:
    recipe = write_recipe(folder / "recipe.toml", study="two ranks", tokens=TOKENS)
    return [sys.executable, "-m", "stillwatt", "run", str(recipe), "--runs", str(folder / "runs"), *more]


def environment(address: str = "") -> dict[str, str]:
    return {**os.environ, "PYTHONWARNINGS": "ignore", "CUDA_VISIBLE_DEVICES": "", "RAY_ADDRESS": address}


def carry_out(folder: Path, address: str = "", *more: str) -> subprocess.CompletedProcess[str]:
    engine = ("--engine", "ray") if address else ()
    return subprocess.run(
        command(folder, *engine, *more),
        env=environment(address),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def sessions(runs: Path) -> Iterator[list[dict[str, Any]]]:
    """What each rank's program has written so far."""
    for run_dir in list_run_dirs(runs) if runs.exists() else ():
        for path in program_journals(run_dir):
            lines = path.read_text(encoding="utf-8").split("\n")[:-1]
            if lines:
                yield [json.loads(line) for line in lines]


@dataclass(frozen=True)
class Disturbed:
    """A launch that something was done to in the middle of a stage."""

    status: int
    said: str
    told: str
    end_s: float
    """From then to the driver's end."""


def hear_sigint() -> None:
    """A script that runs the tests with `&` has SIGINT ignored in all of them, and by whatever they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def disturb(folder: Path, address: str, stage: str, act: Callable[[int, list[int]], None]) -> Disturbed:
    """Start the study over the cluster, and act once both ranks are in a stage.

    Args:
        folder: Where it is.
        address: The cluster's.
        stage: A stage's name.
        act: Told the driver's process and those of the ranks.
    """
    before = {events[0]["session"] for events in sessions(folder / "runs")}
    with (folder / "said").open("w") as said, (folder / "told").open("w") as told:
        driver = subprocess.Popen(
            command(folder, "--engine", "ray"), env=environment(address), stdout=said, stderr=told,
            start_new_session=True, preexec_fn=hear_sigint,
        )  # fmt: skip
        deadline = time.monotonic() + PATIENCE_S
        while True:
            assert driver.poll() is None, (folder / "told").read_text()[-3000:]
            assert time.monotonic() < deadline
            new = [events for events in sessions(folder / "runs") if events[0]["session"] not in before]
            inside = [events for events in new if any(event.get("name") == stage for event in events)]
            if len(inside) == 2:
                break
            time.sleep(0.002)
        by_rank = {events[0]["rank"]: events[0]["pid"] for events in inside}
        start_s = time.monotonic()
        act(driver.pid, [by_rank[0], by_rank[1]])
        status = driver.wait(PATIENCE_S)
        end_s = time.monotonic() - start_s
    return Disturbed(status, (folder / "said").read_text(), (folder / "told").read_text(), end_s)


def _tokens(outcome: Outcome, name: str) -> float:
    """Of what was finished under that name; of an artefact that was whole before its stage was, of who made it.

    A rank's part goes the way of the first one's, which may have ended when the other was still to be told so.
    """
    stages = [stage for stage in outcome.record.stages if stage.name == name]
    is_found = any("reused_from" in stage.labels for stage in stages if stage.status is StageStatus.ENDED)
    done = {
        stage.attempt for stage in stages if stage.labels.get("rank", "0") == "0" and stage.status is StageStatus.ENDED
    }
    return sum(stage.workload.get("tokens", 0.0) for stage in stages if is_found or stage.attempt in done)


def check_same(ours: Outcome, one: Outcome) -> None:
    """Text and caches to the byte, losses of every step but for the order of additions."""
    assert ours.artifacts() == one.artifacts()
    assert {name.split("/")[1].split("-")[0] for name in one.artifacts()} == {"logits", "text"}
    found, wanted = ours.results(), one.results()
    assert found.keys() == wanted.keys()
    trained = [name for name in wanted if name.startswith("train.")]
    assert len(trained) == 6
    for name in trained:
        assert found[name]["loss_curve"] == pytest.approx(wanted[name]["loss_curve"], abs=1e-5), name
    for name in SHARED:
        tokens = [_tokens(each, name) for each in (ours, one)]
        assert tokens[0] == tokens[1], name


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The study in one process."""
    folder = tmp_path_factory.mktemp("one")
    done = carry_out(folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return Outcome(folder / "runs")


def test_a_ray_cluster_does_what_one_process_does_and_every_joule_is_on_the_books_once(
    two_nodes: str, one: Outcome, tmp_path: Path
) -> None:
    done = carry_out(tmp_path, two_nodes)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert done.stdout.count("report  ") == 1
    assert "Where the joules went" in done.stdout
    told = done.stderr.splitlines()
    assert told[0].startswith("2 ranks over the Ray cluster: 0 on ")  # on both nodes: not "0-1 on"
    assert "0-1" not in told[0]
    assert sum(line.startswith("teacher_generate: done") for line in told) == 1
    two = Outcome(tmp_path / "runs", ranks=2)
    check_same(two, one)
    assert list(two.book_faults()) == []
    ranks = {(stage.name, stage.labels.get("rank", "")) for stage in two.record.stages if stage.parent_id is None}
    assert {(name, rank) for name in SHARED for rank in ("0", "1")} <= ranks
    assert ("prepare_data", "") in ranks
    ends = {events[0]["rank"]: (events[0]["world_size"], events[-1]["status"]) for events in sessions(two.runs_dir)}
    assert ends == {0: (2, "ended"), 1: (2, "ended")}


def test_a_launch_that_was_interrupted_and_then_lost_a_rank_goes_on_to_the_same_end(
    two_nodes: str, one: Outcome, tmp_path: Path
) -> None:
    stopped = disturb(tmp_path, two_nodes, "teacher_logits", lambda driver, _: os.killpg(driver, signal.SIGINT))
    assert stopped.status == 130, stopped.told[-3000:]
    assert "interrupted: all ranks have ended" in stopped.told
    ends = [events[-1] for events in sessions(tmp_path / "runs")]
    assert [(event["event"], event["status"]) for event in ends] == [("session_ended", "failed")] * 2

    lost_pids: list[int] = []

    def kill_second(_driver: int, ranks: list[int]) -> None:
        os.kill(ranks[1], signal.SIGKILL)
        lost_pids.append(ranks[1])

    killed = disturb(tmp_path, two_nodes, "teacher_generate", kill_second)
    assert killed.status == 1, killed.told[-3000:]
    assert killed.end_s < 30
    assert "going on with" in killed.told
    sentence = killed.told.splitlines()[-1]
    assert sentence.startswith("error: rank 1 on ")
    assert f"process {lost_pids[0]}) was ended by SIGKILL" in sentence
    assert sentence.endswith("what is finished is kept and booked, and the same command goes on from there")
    assert "Traceback" not in killed.told
    assert killed.said == ""

    done = carry_out(tmp_path, two_nodes)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "teacher_logits: " not in done.stderr  # what is finished is not done again
    two = Outcome(tmp_path / "runs", ranks=2)
    check_same(two, one)
    (lost,) = two.lost
    assert (lost.name, lost.labels["rank"], lost.attempt) == ("teacher_generate", "1", 1)
    assert isinstance(lost.gross, Total)
    assert lost.gross.value_j > 0
    bounds = sorted(session_bounds(two.run_dir))
    launches = [(bounds[place], bounds[place + 1]) for place in (0, 2)]
    lengths_s = [(max(a[1], b[1]) - min(a[0], b[0])) / NS_PER_S for a, b in launches]
    assert list(two.book_faults(lengths_s)) == []


def test_what_goes_wrong_in_the_study_is_said_in_the_first_rank_s_words(two_nodes: str, tmp_path: Path) -> None:
    done = carry_out(tmp_path, two_nodes, "--set", "teacher.source=path:/nowhere")
    assert done.returncode == 1
    assert done.stderr.count("error: ") == 1
    assert "config.json not found at /nowhere" in done.stderr.splitlines()[-1]


def test_more_ranks_than_cpus_are_refused_before_anything_is_spent(two_nodes: str, tmp_path: Path) -> None:
    done = carry_out(tmp_path, two_nodes, "--ranks", "5")
    assert done.returncode == 1
    assert "the Ray cluster has 2 CPUs, and 5 ranks take one each" in done.stderr
    assert not (tmp_path / "runs").exists()
