"""The Lightning callback with the real library: stages, counts, resumption and failures."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest

import stillwatt
from integration_runs import assert_books_close, message_without, stages, synthetic_run
from stillwatt.records import StageKind, StageStatus
from stillwatt.workflows.books import show_run

torch = pytest.importorskip("torch", reason="the extra 'distill' is not installed")
lightning = pytest.importorskip("lightning.pytorch", reason="the extra 'lightning' is not installed")

from stillwatt.integrations.lightning_callback import StillwattCallback  # noqa: E402

pytestmark = [
    # lightning 2.6 walks batches with a class that PyTorch 2.13 has renamed
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    # and wonders why nobody uses SLURM where it is installed
    pytest.mark.filterwarnings("ignore:The `srun` command is available"),
]


class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
    """One layer over token ids."""

    def __init__(self, stop_at: int = -1) -> None:
        super().__init__()
        self.layer = torch.nn.Embedding(64, 1)
        self.stop_at = stop_at

    def _loss(self, batch: Any) -> Any:
        ids = batch["input_ids"] if isinstance(batch, dict) else batch[0]
        return self.layer(ids).pow(2).mean()

    def training_step(self, batch: Any, number: int) -> Any:
        if number == self.stop_at:
            raise FloatingPointError("diverged")
        return self._loss(batch)

    def validation_step(self, batch: Any, number: int) -> None:
        self.log("val_loss", self._loss(batch))

    def test_step(self, batch: Any, number: int) -> None:
        self.log("test_loss", self._loss(batch))

    def predict_step(self, batch: Any, number: int) -> Any:
        return self._loss(batch)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def loader(count: int = 20, *, with_mask: bool = True) -> Any:
    """Batches of two; row n has 8 - n % 4 tokens."""
    ids = torch.arange(8).repeat(count, 1)
    if not with_mask:
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(ids, ids), batch_size=2)
    masks = [torch.tensor([1] * (8 - n % 4) + [0] * (n % 4)) for n in range(count)]
    rows = [{"input_ids": row, "attention_mask": mask} for row, mask in zip(ids, masks, strict=True)]
    return torch.utils.data.DataLoader(rows, batch_size=2)


def make_trainer(folder: Path, callback: StillwattCallback, **options: Any) -> Any:
    folder = Path(tempfile.mkdtemp(dir=folder))
    checkpoint = lightning.callbacks.ModelCheckpoint(dirpath=folder, every_n_train_steps=2, save_top_k=-1)
    chosen: dict[str, Any] = {
        "max_epochs": 1,
        "accumulate_grad_batches": 2,
        "val_check_interval": 4,
        "num_sanity_val_steps": 1,
        "callbacks": [callback, checkpoint],
    }
    return lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **{**chosen, **options},
    )


def test_everything_is_a_stage_and_counted(runs_dir: Path, tmp_path: Path) -> None:
    with synthetic_run(runs_dir) as run:
        trainer = make_trainer(tmp_path, StillwattCallback(run, labels={"arm": "kd"}, every_steps=2))
        trainer.fit(Module(), loader(), loader(4))
        trainer.test(Module(), loader(4), verbose=False)
        trainer.predict(Module(), loader(4))
        trainer.validate(Module(), loader(4), verbose=False)
    record = run.result
    (train,) = stages(record, "student_train")
    assert (train.kind, train.status, train.parent_id) == (StageKind.STUDENT_TRAIN, StageStatus.ENDED, None)
    assert train.workload == {"steps": 5, "examples": 20, "tokens": sum(8 - n % 4 for n in range(20))}
    assert "val_loss" in train.results
    evaluations, steps = stages(record, "evaluate"), stages(record, "steps")
    assert [stage.labels.get("part") for stage in evaluations] == ["sanity check", None, None, "test", "predict", None]
    assert [stage.parent_id is None for stage in evaluations] == [False] * 3 + [True] * 3
    assert evaluations[3].results["test_loss"] > 0
    assert [stage.labels["first_step"] for stage in steps] == ["1", "3", "5"]
    assert len(stages(record, "save_checkpoint")) >= 2
    assert all(stage.labels["arm"] == "kd" for stage in record.stages)
    assert_books_close(record)


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_resumed_fit_counts_its_own_work_only(runs_dir: Path, tmp_path: Path) -> None:
    with synthetic_run(runs_dir) as run:
        trainer = make_trainer(tmp_path, StillwattCallback(run))
        trainer.fit(Module(), loader(), loader(4))
        trainer.save_checkpoint(tmp_path / "whole.ckpt")
        trainer = make_trainer(tmp_path, StillwattCallback(run), max_epochs=2)
        trainer.fit(Module(), loader(), loader(4), ckpt_path=tmp_path / "whole.ckpt")
    assert [stage.workload["steps"] for stage in stages(run.result, "student_train")] == [5, 5]


class TwoOptimizers(Module):
    """Makes two steps of each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, number: int) -> None:
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(self._loss(batch))
            optimizer.step()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.parameters(), lr=0.1) for _ in range(2)]


def test_stages_of_steps_end_where_a_batch_makes_several(runs_dir: Path, tmp_path: Path) -> None:
    with synthetic_run(runs_dir) as run:
        callback = StillwattCallback(run, every_steps=5)
        trainer = make_trainer(tmp_path, callback, accumulate_grad_batches=1, callbacks=[callback])
        trainer.fit(TwoOptimizers(), loader(), loader(4))
    assert [stage.labels["first_step"] for stage in stages(run.result, "steps")] == ["1", "7", "11", "17"]


def test_an_exception_marks_what_was_open_failed(runs_dir: Path, tmp_path: Path) -> None:
    with synthetic_run(runs_dir) as run:
        trainer = make_trainer(tmp_path, StillwattCallback(run, every_steps=10))
        with pytest.raises(FloatingPointError, match="diverged"):
            trainer.fit(Module(stop_at=5), loader(), loader(4))
        trainer.save_checkpoint(tmp_path / "after.ckpt")
        with run.stage("afterwards"):
            pass
    record = run.result
    (train,), (steps,), (afterwards,) = (stages(record, name) for name in ("student_train", "steps", "afterwards"))
    assert (train.status, steps.status, afterwards.parent_id) == (StageStatus.FAILED, StageStatus.FAILED, None)
    assert (train.workload["steps"], train.workload["examples"]) == (2, 10)
    assert_books_close(record)


def test_tokens_that_cannot_be_known_are_absent_and_said_to_be(runs_dir: Path, tmp_path: Path) -> None:
    with synthetic_run(runs_dir) as run:
        with pytest.warns(stillwatt.MeterWarning, match="10 of 10 batches have no attention mask"):
            make_trainer(tmp_path, StillwattCallback(run)).fit(Module(), loader(with_mask=False), loader(4))
        make_trainer(tmp_path, StillwattCallback(run, count_tokens=False)).fit(
            Module(), loader(with_mask=False), loader(4)
        )
    first, second = stages(run.result, "student_train")
    assert first.workload == second.workload == {"steps": 5, "examples": 20}
    assert "tokens_not_counted" in first.results
    assert "tokens_not_counted" not in second.results


def test_a_factory_makes_a_run_for_each_fit(runs_dir: Path, tmp_path: Path) -> None:
    made: list[stillwatt.Run] = []

    def factory() -> stillwatt.Run:
        made.append(synthetic_run(runs_dir, f"run {len(made)}"))
        return made[-1]

    callback = StillwattCallback(run_factory=factory)
    for _ in range(2):
        make_trainer(tmp_path, callback).fit(Module(), loader(), loader(4))
    assert [len(stages(run.result, "student_train")) for run in made] == [1, 1]


def test_without_a_run_the_fit_goes_on(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        trainer = make_trainer(tmp_path, StillwattCallback())
        trainer.fit(Module(), loader(), loader(4))
    assert trainer.global_step == 5
    assert [warning for warning in caught if warning.category is stillwatt.MeterWarning]


DDP = """
import sys, warnings, torch, stillwatt
warnings.simplefilter("ignore")
from lightning.pytorch import LightningModule, Trainer
from stillwatt.integrations.lightning_callback import StillwattCallback

class Module(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
    def training_step(self, batch, number):
        return self.layer(batch[0]).mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)

data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(16, 4)), batch_size=2)
with stillwatt.Run("student", runs_dir=sys.argv[1], sensors=("synthetic",)) as run:
    callback = StillwattCallback(run, count_tokens=False)
    Trainer(accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, callbacks=[callback]).fit(Module(), data)
"""


def test_ranks_that_the_trainer_starts_itself_measure_one_run(tmp_path: Path) -> None:
    script, runs_dir = tmp_path / "train.py", tmp_path / "runs"
    script.write_text(DDP)
    subprocess.run([sys.executable, str(script), str(runs_dir)], capture_output=True, check=True, timeout=300)
    (run_dir,) = [path for path in runs_dir.iterdir() if (path / "manifest.json").exists()]
    record = show_run(runs_dir, run_dir.name)
    trained = [stage for stage in record.stages if stage.kind is StageKind.STUDENT_TRAIN]
    assert sorted(stage.workload.get("steps", 0) for stage in trained) == [0, 4]
    assert [stage.workload["examples"] for stage in trained] == [8, 8]
    assert record.complete
    assert not record.warnings
    assert_books_close(record)


def test_the_package_that_the_program_uses_gives_the_class() -> None:
    script = "import pytorch_lightning, stillwatt.integrations.lightning_callback as module; print(module.Callback)"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True)
    assert "pytorch_lightning" in done.stdout


def test_where_one_package_is_missing_the_other_does() -> None:
    script = "import stillwatt.integrations.lightning_callback as module; print(module.Callback.__module__)"
    assert message_without(["lightning"], script).endswith("pytorch_lightning.callbacks.callback")


def test_without_the_library_one_sentence_says_what_to_install() -> None:
    said = message_without(["lightning", "pytorch_lightning"], "import stillwatt.integrations.lightning_callback")
    assert said == "MissingExtraError: lightning is not installed; run: pip install 'stillwatt[lightning]'"
