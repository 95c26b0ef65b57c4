"""Studies killed at random moments of their stages, in one process and on two ranks, with one ledger all along.

A small version of benchmarks/proof_resume.py, and launches: under torchrun, spread by FSDP, killed and gone on with.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the distill extra is not installed")
pytest.importorskip("constriction", reason="the cache extra is not installed")

from safetensors.torch import load_file

from kill_stage import Studies, write_recipe
from stillwatt.records import StageStatus
from stillwatt.records.run import DOES_OVER
from study_outcome import Outcome

pytestmark = pytest.mark.slow

LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
TOKENS = 512
SHARED = ("teacher_logits", "teacher_generate", "train.kd.1.0")
"""Stages that every rank of a launch has a part of."""


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studies]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLWATT_HOME", str(tmp_path_factory.mktemp("home")))
        with Studies(tmp_path_factory.mktemp("studies"), tokens=TOKENS) as studies:
            yield studies


@pytest.fixture(scope="module")
def one(studies: Studies) -> Outcome:
    """The study in one process."""
    return studies.whole("ranks")


def check_against(one: Outcome, two: Outcome) -> None:
    """Losses and students but for the order of additions, one machine's energy once."""
    ours, theirs = two.results(), one.results()
    assert ours.keys() == theirs.keys()
    for name in (name for name in theirs if name.startswith("train.")):
        assert ours[name]["tokens_total"] == theirs[name]["tokens_total"]
        for key in ("loss_first", "loss_last"):
            assert ours[name][key] == pytest.approx(theirs[name][key], abs=1e-5), name
    assert ours["teacher_generate"] == theirs["teacher_generate"]
    judged = [name for name in theirs if name.startswith("judge.")]
    assert len(judged) == 11
    for name in judged:
        scores = [{each["task"]: each["value"] for each in found[name]["scores"]} for found in (ours, theirs)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-3), name
    for arm in ("sft", "kd", "synthetic", "gkd"):
        files = [each.run_dir / "state" / "checkpoints" / arm / "1.0" / "model.safetensors" for each in (two, one)]
        whole, spread = (load_file(path) for path in files)
        assert whole.keys() == spread.keys()
        assert all(float((values - spread[name]).abs().max()) < 1e-4 for name, values in whole.items())
    for prefix in ("teacher_logits", "teacher_generate", "train.sft", "train.kd"):
        assert tokens(two, prefix) == tokens(one, prefix), prefix
    assert list(two.book_faults()) == []


def tokens(outcome: Outcome, prefix: str) -> float:
    ended = [stage for stage in outcome.record.stages if stage.status is StageStatus.ENDED]
    return sum(stage.workload["tokens"] for stage in ended if stage.name.startswith(prefix))


def test_torchrun_makes_one_run_with_one_ledger(one: Outcome, tmp_path: Path) -> None:
    runs_dir = tmp_path / "runs"
    recipe = write_recipe(tmp_path / "recipe.toml", study="fsdp", tokens=TOKENS)
    done = subprocess.run(
        [sys.executable, *LAUNCH, "-m", "stillwatt", "run", str(recipe), "--runs", str(runs_dir)],
        env={**os.environ, "PYTHONWARNINGS": "ignore", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert done.stdout.count("report  ") == 1
    two = Outcome(runs_dir, ranks=2)
    check_against(one, two)
    ranks = {(stage.name, stage.labels.get("rank", "")) for stage in two.record.stages if stage.parent_id is None}
    assert {(name, rank) for name in SHARED for rank in ("0", "1")} <= ranks
    assert {("evaluate.kd.1.0", "0"), ("evaluate.kd.1.0", "1"), ("prepare_data", "")} <= ranks
    assert {("judge.kd.1.0", "0"), ("judge.kd.1.0", "1")} <= ranks  # they share what it reads


@pytest.mark.parametrize(
    ("study", "stage"), [("ranks", "teacher_logits"), ("ranks", "teacher_generate"), ("fsdp", "train.gkd.1.0")]
)
def test_a_killed_launch_is_gone_on_with_to_the_same_end(
    studies: Studies, one: Outcome, study: str, stage: str
) -> None:
    two = studies.whole(study, ranks=2)
    check_against(one, two)
    caches = [
        {name: sha for name, sha in each.artifacts().items() if not name.endswith("artifact.json")}
        for each in (two, one)
    ]
    assert caches[0] == caches[1]
    kill = studies.killed(two, study, stage, random.Random())
    assert kill.faults == []


class _AtOnce(random.Random):
    """A kill as the stage begins, which is never too late for what it is to leave undone."""

    def uniform(self, a: float, b: float) -> float:
        return a


def _overwrite_checkpoint(run_dir: Path) -> None:
    """Change the numbers of the student that the arm `kd` is to be gone on from, under a header that is as it was."""
    path = run_dir / "state" / "checkpoints" / "kd" / "0.5" / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1500:] = b"\x3f" * 1500
    path.write_bytes(bytes(raw))


def test_every_rank_trains_again_what_a_damaged_checkpoint_held(studies: Studies) -> None:
    whole = studies.whole("two ranks", ranks=2)
    kill = studies.killed(whole, "two ranks", "train.kd.1.0", _AtOnce(), harm=_overwrite_checkpoint)
    assert kill.faults == []
    assert kill.outcome is not None
    over = [stage for stage in kill.outcome.record.stages if DOES_OVER in stage.labels]
    told = [(stage.name, stage.labels["rank"], stage.attempt, stage.status) for stage in over]
    assert sorted(told) == [("train.kd.0.5", rank, 2, StageStatus.ENDED) for rank in ("0", "1")], kill
    # each has its own microbatches again, and together all of them
    assert tokens(kill.outcome, "train.kd.0.5") == 2 * tokens(whole, "train.kd.0.5")


@pytest.fixture(scope="module")
def fixed(studies: Studies) -> Outcome:
    return studies.whole("fixed rows")


@pytest.mark.parametrize("stage", ["teacher_generate", "train.gkd.1.0"])
def test_a_killed_stage_ends_as_if_it_had_not_been_and_its_loss_is_booked(
    studies: Studies, fixed: Outcome, stage: str
) -> None:
    kill = studies.killed(fixed, "fixed rows", stage, random.Random())
    assert kill.faults == []


def test_a_killed_coded_cache_is_the_same_to_the_byte(studies: Studies) -> None:
    whole = studies.whole("coded rows")
    assert list(whole.book_faults()) == []
    kill = studies.killed(whole, "coded rows", "teacher_logits", random.Random(), times=2)
    assert kill.faults == []
