from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stillwatt.errors import StillwattError
from stillwatt.pipelines.checkpoint import damage_of
from stillwatt.pipelines.spec import PipelineSpec
from stillwatt.pipelines.state import RunState
from stillwatt.records.run import DOES_OVER
from study_place import KillingProgress, Place
from tiny_models import ListJournal, smoke_spec


def _spec(*checkpoints: float) -> PipelineSpec:
    spec = smoke_spec(serve=None)
    return dataclasses.replace(
        spec, arms=spec.arms[:1], train=dataclasses.replace(spec.train, checkpoints=checkpoints or (0.5, 1.0))
    )


@dataclass
class _Run(Place):
    """One run that goes on after each kill."""

    sessions: int = 0

    def go(self, spec: PipelineSpec, kill_at: str = "") -> ListJournal:
        self.sessions += 1
        return self.run(spec, progress=KillingProgress(kill_at), prefix=f"s{self.sessions}-")

    def checkpoint(self, share: float) -> Path:
        return self.directory / "r1" / "state" / "checkpoints" / "sft" / str(share)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """What the arm comes to where nothing happens to it."""
    directory = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLWATT_HOME", str(directory / "home"))
        run = _Run(directory)
        run.go(_spec())
        return dict(load_file(run.checkpoint(1.0) / "model.safetensors"))


@pytest.fixture
def run(tmp_path: Path) -> _Run:
    return _Run(tmp_path)


def _overwrite(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-1500:] = b"\x3f" * 1500
    path.write_bytes(bytes(raw))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("model.safetensors", _overwrite),
        ("model.safetensors", _cut),
        ("optimizer.safetensors", _cut),
        ("optimizer.safetensors", Path.unlink),
        ("training.json", _cut),
        ("training.json", Path.unlink),
    ],
)
def test_an_increment_whose_checkpoint_was_damaged_is_run_again(
    run: _Run, weights: dict[str, torch.Tensor], file: str, damage: Callable[[Path], None]
) -> None:
    run.go(_spec(), kill_at="train.sft.1.0")
    damage(run.checkpoint(0.5) / file)
    rest = run.go(_spec())
    # it came to the same as before, so its scores stand
    assert rest.stages() == ["train.sft.0.5", "train.sft.1.0", "evaluate.sft.1.0"]
    assert set(rest.status().values()) == {"ended"}
    (told,) = [line for line in run.said if "is run again" in line]
    assert told.startswith("train.sft.0.5 is run again: ")
    assert str(run.checkpoint(0.5) / file) in told
    for name, values in load_file(run.checkpoint(1.0) / "model.safetensors").items():
        assert torch.equal(values, weights[name]), name


def test_the_stage_that_does_it_over_says_so_and_others_do_not(run: _Run) -> None:
    run.go(_spec(), kill_at="train.sft.1.0")
    _overwrite(run.checkpoint(0.5) / "model.safetensors")
    rest = run.go(_spec())
    assert rest.labels("train.sft.0.5")[DOES_OVER] == "damaged"
    assert DOES_OVER not in rest.labels("train.sft.1.0")


def test_where_the_checkpoint_before_is_kept_no_more_the_arm_begins_anew(run: _Run) -> None:
    spec = _spec(0.25, 0.5, 1.0)
    run.go(spec, kill_at="train.sft.1.0")
    assert not run.checkpoint(0.25).exists()
    _overwrite(run.checkpoint(0.5) / "model.safetensors")
    rest = run.go(spec)
    assert rest.stages() == ["train.sft.0.25", "train.sft.0.5", "train.sft.1.0", "evaluate.sft.1.0"]
    assert f"its checkpoint {run.checkpoint(0.25)} is there no more" in "\n".join(run.said)


def test_where_the_checkpoint_before_is_kept_the_arm_goes_on_from_it(run: _Run) -> None:
    run.go(_spec(), kill_at="evaluate.sft.1.0")
    _overwrite(run.checkpoint(1.0) / "model.safetensors")
    rest = run.go(_spec())
    assert rest.stages() == ["train.sft.1.0", "evaluate.sft.1.0"]


def test_scores_of_a_model_that_came_out_otherwise_are_taken_again(run: _Run) -> None:
    run.go(_spec(), kill_at="train.sft.1.0")
    state = RunState(run.directory / "r1")
    kept = state.finished("train.sft.0.5")
    assert kept is not None
    state.finish("train.sft.0.5", {**kept, "loss_last": 1.0})
    _overwrite(run.checkpoint(0.5) / "model.safetensors")
    rest = run.go(_spec())
    assert rest.stages() == ["train.sft.0.5", "evaluate.sft.0.5", "train.sft.1.0", "evaluate.sft.1.0"]
    assert rest.labels("evaluate.sft.0.5")[DOES_OVER] == "damaged"


def test_a_finished_arm_is_not_looked_at(run: _Run) -> None:
    run.go(_spec())
    _overwrite(run.checkpoint(1.0) / "model.safetensors")
    assert run.go(_spec()).stages() == []


def test_a_checkpoint_of_an_earlier_version_is_gone_on_from(run: _Run) -> None:
    run.go(_spec(), kill_at="train.sft.1.0")
    progress = run.checkpoint(0.5) / "training.json"
    kept = json.loads(progress.read_text(encoding="utf-8"))
    assert {"model.safetensors", "optimizer.safetensors", "config.json"} <= kept.pop("files").keys()
    progress.write_text(json.dumps(kept), encoding="utf-8")
    assert damage_of(run.checkpoint(0.5)) is None
    assert run.go(_spec()).stages() == ["train.sft.1.0", "evaluate.sft.1.0"]


def test_a_checkpoint_of_an_earlier_version_that_cannot_be_read_is_one_sentence(run: _Run) -> None:
    run.go(_spec(), kill_at="train.sft.1.0")
    progress = run.checkpoint(0.5) / "training.json"
    kept = json.loads(progress.read_text(encoding="utf-8"))
    progress.write_text(json.dumps({**kept, "files": {}}), encoding="utf-8")
    _cut(run.checkpoint(0.5) / "optimizer.safetensors")
    with pytest.raises(StillwattError, match=rf"{run.checkpoint(0.5)}: the checkpoint cannot be read"):
        run.go(_spec())


def test_a_file_that_somebody_added_is_no_damage(run: _Run) -> None:
    run.go(_spec(), kill_at="train.sft.1.0")
    (run.checkpoint(0.5) / "notes.txt").write_text("mine", encoding="utf-8")
    assert damage_of(run.checkpoint(0.5)) is None


def test_an_arm_that_has_not_begun_has_nothing_to_do_again(run: _Run) -> None:
    run.go(_spec(), kill_at="train.sft.0.5")
    assert run.go(_spec()).stages()[0] == "train.sft.0.5"
