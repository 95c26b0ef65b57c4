"""Real sweeps of tiny models: killed and gone on with, and over a Ray cluster of two nodes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the distill extra is not installed")
pytest.importorskip("optuna", reason="the sweep extra is not installed")

from stillwatt.records import Total
from stillwatt.workflows.books import show_run

pytestmark = pytest.mark.slow

SWEEP = """
[sweep]
recipe = "smoke_cpu"
arm = "kd"
method = "nsga2"
trials = 2
seed = 1
objectives = ["energy", "loss"]

[sweep.parameters]
"train.learning_rate" = { low = 1e-4, high = 1e-2, log = true }
"""
QUICK = (
    "meter.sensors=['synthetic']",
    "meter.options.synthetic={channels=[{watts=100.0}]}",
    "meter.idle_baseline_s=0.0",
    "serve.prompts=1",
    "train.checkpoints=[1.0]",
)
PATIENCE_S = 240


def command(folder: Path, *more: str) -> list[str]:
    path = folder / "sweep.toml"
    path.write_text(SWEEP, encoding="utf-8")
    changes = [part for change in QUICK for part in ("--set", change)]
    return [sys.executable, "-m", "stillwatt", "sweep", str(path), "--runs", str(folder / "runs"), *changes, *more]


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def made_logits(folder: Path) -> int:
    """How many runs paid for the teacher's logits; the others point to them."""
    journals = [path.read_text(encoding="utf-8") for path in folder.glob("2*/journal.*.jsonl")]
    started = [json.loads(line) for text in journals for line in text.splitlines() if '"name":"teacher_logits"' in line]
    return sum("reused_from" not in event["labels"] for event in started)


def is_in_second_trial(runs: Path) -> bool:
    """Whether the second trial's run is at work and has teacher's scores behind it."""
    notes = list(runs.glob("sweep-*/trials/run.0001"))
    journals = [path for note in notes for path in (note.parent.parent / note.read_text()).glob("journal.*.jsonl")]
    return any('"evaluate.start"' in path.read_text(encoding="utf-8") for path in journals)


@dataclass(frozen=True)
class Resumed:
    """A sweep of two trials whose second one was killed under way, and which was then gone on with."""

    folder: Path
    found: dict[str, Any]
    runs: frozenset[str]
    first_before: bytes
    first_after: bytes


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    folder = tmp_path_factory.mktemp("sweep")
    process = subprocess.Popen(
        command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + PATIENCE_S
    while not is_in_second_trial(folder / "runs"):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (trials,) = (folder / "runs").glob("sweep-*/trials")
    assert sorted(path.name for path in trials.glob("*.json")) == ["0000.json"]
    before = (trials / "0000.json").read_bytes()
    done = subprocess.run(
        command(folder, "--json"), capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )  # fmt: skip
    runs = frozenset(path.name for path in trials.parent.glob("2*"))
    return Resumed(trials.parent, answer(done), runs, before, (trials / "0000.json").read_bytes())


def test_a_killed_sweep_goes_on_and_the_teacher_works_once(resumed: Resumed) -> None:
    found = resumed.found
    assert [trial["status"] for trial in found["trials"]] == ["finished"] * 2
    assert resumed.first_after == resumed.first_before
    assert show_run(resumed.folder, found["trials"][0]["run_id"]).meter["sessions"] == 1
    assert made_logits(resumed.folder) == 1
    assert found["comparison"]
    analysed = subprocess.run(
        [sys.executable, "-m", "stillwatt", "analyse", found["folder"]], capture_output=True, text=True, check=False
    )
    assert analysed.returncode == 0, analysed.stderr
    assert all(f"kd-t00{number}" in analysed.stdout for number in range(2))


def test_what_a_killed_trial_spent_is_in_the_sum(resumed: Resumed) -> None:
    trials = resumed.found["trials"]
    record = show_run(resumed.folder, trials[1]["run_id"])
    assert record.meter["sessions"] == 2
    by_session: dict[str, float] = {}
    stages = {stage.stage_id: stage for stage in record.stages if stage.parent_id is None}
    for span in record.spans:
        stage = stages.get(span.stage_id)
        if stage is not None and isinstance(stage.gross, Total):
            by_session[span.session] = by_session.get(span.session, 0.0) + stage.gross.value_j
    lost_j, last_j = by_session.values()
    assert lost_j > 10.0  # a tenth of a second of 100 W
    assert isinstance(record.total, Total)
    assert trials[1]["energy_j"] == record.total.value_j >= lost_j + last_j
    assert trials[1]["duration_s"] == pytest.approx(record.duration_s)
    spent = resumed.found["experimentation_j"]
    assert spent["value_j"] == pytest.approx(sum(trial["energy_j"] for trial in trials))
    assert spent["basis"] == "assumed"
    assert resumed.runs == {trial["run_id"] for trial in trials}


def test_a_sweep_goes_on_over_both_nodes_of_a_ray_cluster(two_nodes: str, resumed: Resumed) -> None:
    done = subprocess.run(
        command(resumed.folder.parent.parent, "--engine", "ray", "--trials", "4", "--json"),
        env={**os.environ, "RAY_ADDRESS": two_nodes, "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    found = answer(done)
    assert found["folder"] == str(resumed.folder)
    assert [trial["status"] for trial in found["trials"]] == ["finished"] * 4
    assert made_logits(resumed.folder) == 1
    # a node has one CPU and a trial takes one, so that trials at the same time are on different nodes
    records = [show_run(resumed.folder, trial["run_id"]) for trial in found["trials"][2:]]
    starts_s = [datetime.fromisoformat(record.start_utc).timestamp() for record in records]
    ends_s = [start_s + record.duration_s for start_s, record in zip(starts_s, records, strict=True)]
    assert max(starts_s) < min(ends_s)
