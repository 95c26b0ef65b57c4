"""Real sweeps of tiny models: killed and gone on with, and over a Ray cluster of two nodes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the distill extra is not installed")
pytest.importorskip("optuna", reason="the sweep extra is not installed")

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
QUICK = ("--set", "meter.idle_baseline_s=0.0", "--set", "serve.prompts=1", "--set", "train.checkpoints=[1.0]")


def command(folder: Path, *more: str) -> list[str]:
    path = folder / "sweep.toml"
    path.write_text(SWEEP, encoding="utf-8")
    return [sys.executable, "-m", "stillwatt", "sweep", str(path), "--runs", str(folder / "runs"), *QUICK, *more]


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def made_logits(folder: Path) -> int:
    """How many runs paid for the teacher's logits; the others point to them."""
    journals = [path.read_text(encoding="utf-8") for path in (folder / "runs").glob("sweep-*/2*/journal.*.jsonl")]
    started = [json.loads(line) for text in journals for line in text.splitlines() if '"name":"teacher_logits"' in line]
    return sum("reused_from" not in event["labels"] for event in started)


def test_a_killed_sweep_goes_on_and_the_teacher_works_once(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 240
    while not list((tmp_path / "runs").glob("sweep-*/trials/0000.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    before = next((tmp_path / "runs").glob("sweep-*/trials/0000.json"))
    kept = before.read_bytes(), before.stat().st_mtime_ns
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    done = subprocess.run(command(tmp_path, "--json"), capture_output=True, text=True, timeout=300, check=False)
    found = answer(done)
    assert [trial["status"] for trial in found["trials"]] == ["finished"] * 2
    assert (before.read_bytes(), before.stat().st_mtime_ns) == kept
    assert made_logits(tmp_path) == 1
    assert found["experimentation_j"] == pytest.approx(sum(trial["energy_j"] for trial in found["trials"]))
    assert found["comparison"]
    analysed = subprocess.run(
        [sys.executable, "-m", "stillwatt", "analyse", found["folder"]], capture_output=True, text=True, check=False
    )
    assert analysed.returncode == 0, analysed.stderr
    assert all(f"kd-t00{number}" in analysed.stdout for number in range(2))


@pytest.fixture(scope="session")
def two_nodes() -> Iterator[str]:
    """A real cluster of two nodes on this machine; gives its address."""
    pytest.importorskip("ray", reason="the scale extra is not installed")
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")  # of Ray's own, at its start
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        from ray.cluster_utils import Cluster

        small = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=small)
        cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
        yield cluster.address
        cluster.shutdown()  # type: ignore[no-untyped-call]  # Ray's own


def test_trials_run_on_both_nodes_of_a_ray_cluster(two_nodes: str, tmp_path: Path) -> None:
    done = subprocess.run(
        command(tmp_path, "--engine", "ray", "--json"),
        env={**os.environ, "RAY_ADDRESS": two_nodes, "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads(done.stdout[done.stdout.index("{") :])
    assert [trial["status"] for trial in found["trials"]] == ["finished"] * 2
    assert found["complete"]
