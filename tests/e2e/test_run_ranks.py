"""`torchrun -m stillwatt run`: one study, one ledger, on two ranks; killed and gone on with; spread by FSDP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the distill extra is not installed")

from safetensors.torch import load_file

from kill_stage import write_recipe
from stillwatt.ledger.rundir import list_run_dirs, program_journals
from stillwatt.records import StageStatus, Total
from study_outcome import WATTS, Outcome

pytestmark = pytest.mark.slow

LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
PATIENCE_S = 180.0
LAYOUT = {"study": "ranks", "tokens": 512}


def command(runs_dir: Path, *changes: str, ranks: int = 2) -> list[str]:
    recipe = write_recipe(runs_dir.with_suffix(".toml"), **LAYOUT)
    started = [*LAUNCH, "-m", "stillwatt"] if ranks > 1 else ["-m", "stillwatt"]
    sets = [part for change in changes for part in ("--set", change)]
    return [sys.executable, *started, "run", str(recipe), "--runs", str(runs_dir), *sets]


def run(runs_dir: Path, *changes: str, ranks: int = 2) -> Outcome:
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command(runs_dir, *changes, ranks=ranks), env=environment, capture_output=True, text=True, timeout=PATIENCE_S,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert done.stdout.count("report  ") == 1
    return Outcome(runs_dir)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The study in one process."""
    return run(tmp_path_factory.mktemp("one") / "runs", ranks=1)


def check_against(one: Outcome, two: Outcome) -> None:
    """Artefacts to the byte, losses and scores but for the order of additions, and books that close."""
    assert {name: value for name, value in two.artifacts().items() if not name.endswith("artifact.json")} == {
        name: value for name, value in one.artifacts().items() if not name.endswith("artifact.json")
    }
    ours, theirs = two.results(), one.results()
    assert ours.keys() == theirs.keys()
    for name, results in theirs.items():
        if name.startswith("train."):
            for key in ("loss_first", "loss_last"):
                assert ours[name][key] == pytest.approx(results[key], abs=1e-5), name
            assert ours[name]["tokens_total"] == results["tokens_total"]
        if name.startswith("evaluate."):
            values = [[score["value"] for score in found["scores"]] for found in (ours[name], results)]
            assert values[0] == pytest.approx(values[1], rel=1e-3), name
    total = two.record.total
    assert isinstance(total, Total)
    assert two.record.complete
    # the machine's energy is on the books once, however many sessions ran on it at a time
    assert total.value_j <= 1.02 * WATTS * two.record.duration_s
    assert total.value_j >= WATTS * (two.record.duration_s - 2.0)
    outer = [stage for stage in two.record.stages if stage.parent_id is None]
    parts_j = sum(stage.gross.value_j for stage in outer if isinstance(stage.gross, Total))
    assert isinstance(two.record.unallocated, Total)
    assert parts_j + two.record.unallocated.value_j == pytest.approx(total.value_j, rel=1e-9)


def tokens(outcome: Outcome, prefix: str) -> float:
    ended = [stage for stage in outcome.record.stages if stage.status is StageStatus.ENDED]
    return sum(stage.workload["tokens"] for stage in ended if stage.name.startswith(prefix))


def test_a_launch_of_two_ranks_is_one_run_with_one_ledger(one: Outcome, tmp_path: Path) -> None:
    two = run(tmp_path / "runs")
    check_against(one, two)
    assert two.record.meter["sessions"] == 2
    ranks = {(stage.name, stage.labels.get("rank", "")) for stage in two.record.stages if stage.parent_id is None}
    for stage in ("teacher_logits", "train.kd.1.0"):
        assert {(stage, "0"), (stage, "1")} <= ranks
    assert {("evaluate.kd.1.0", ""), ("prepare_data", "")} <= ranks
    for prefix in ("teacher_logits", "train.sft", "train.kd"):
        assert tokens(two, prefix) == tokens(one, prefix), prefix


def test_a_killed_launch_is_gone_on_with(one: Outcome, tmp_path: Path) -> None:
    runs_dir = tmp_path / "runs"
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(
        command(runs_dir), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + PATIENCE_S
    while not any('"name":"train.kd.1.0"' in text for text in journals(runs_dir)):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    # the launcher's ranks are in sessions of their own: all of them are killed, and the launcher
    ranks = [json.loads(text.splitlines()[0])["pid"] for text in journals(runs_dir)]
    assert len(ranks) == 2
    for pid in (process.pid, *ranks):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    two = run(runs_dir)
    check_against(one, two)
    assert two.record.meter["sessions"] == 4
    lost = [stage for stage in two.record.stages if stage.status is StageStatus.RECOVERED]
    assert {(stage.name, stage.attempt) for stage in lost} <= {("train.kd.1.0", 1)}
    again = {(stage.attempt, stage.status) for stage in two.record.stages if stage.name == "train.kd.1.0"}
    assert (2, StageStatus.ENDED) in again or not lost


def test_fsdp_trains_as_one_process_does_and_leaves_whole_files(one: Outcome, tmp_path: Path) -> None:
    two = run(tmp_path / "runs", 'run.sharding="fsdp"')
    check_against(one, two)
    for arm in ("sft", "kd", "gkd"):
        ours, theirs = (
            load_file(each.run_dir / "state" / "checkpoints" / arm / "1.0" / "model.safetensors") for each in (two, one)
        )
        assert ours.keys() == theirs.keys()
        for name, values in theirs.items():
            assert ours[name].shape == values.shape
            assert float((ours[name] - values).abs().max()) < 1e-4, (arm, name)


def journals(runs_dir: Path) -> list[str]:
    paths = [path for run_dir in list_run_dirs(runs_dir) for path in program_journals(run_dir)]
    return [path.read_text(encoding="utf-8") for path in paths]
