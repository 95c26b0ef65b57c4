"""The Trainer's callback with the real library: stages, counts, resumption, failures, and no trouble of its own."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

import stillwatt
from integration_runs import assert_books_close, message_without, stages, synthetic_run, value_j
from stillwatt.records import StageKind, StageStatus

torch = pytest.importorskip("torch", reason="the extra 'distill' is not installed")
transformers = pytest.importorskip("transformers", reason="the extra 'distill' is not installed")

from stillwatt.integrations.transformers_callback import StillwattCallback  # noqa: E402

LENGTH = 12
ROWS = 20


def rows(count: int = ROWS, *, with_mask: bool = True) -> list[dict[str, Any]]:
    """Rows whose last tokens are padding: row n has `LENGTH - n % 4` tokens of its own."""
    made = []
    for number in range(count):
        own = LENGTH - number % 4
        mask = torch.tensor([1] * own + [0] * (LENGTH - own))
        row = {"input_ids": torch.arange(LENGTH) + 1, "labels": torch.arange(LENGTH) + 1}
        made.append({**row, "attention_mask": mask} if with_mask else row)
    return made


def tokens_of(count: int) -> int:
    return sum(LENGTH - number % 4 for number in range(count))


def make_trainer(folder: Path, callbacks: list[Any], *, data: list[Any] | None = None, **options: Any) -> Any:
    """A Trainer of a tiny random Llama on the CPU: 20 rows in batches of 2, accumulated in pairs, make 5 steps."""
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
    )
    chosen: dict[str, Any] = {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "num_train_epochs": 1,
        "logging_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "save_strategy": "steps",
        "save_steps": 2,
    }
    args = transformers.TrainingArguments(
        output_dir=str(folder), use_cpu=True, report_to=[], disable_tqdm=True, seed=1, **{**chosen, **options}
    )
    torch.manual_seed(1)
    return transformers.Trainer(
        model=transformers.LlamaForCausalLM(config),
        args=args,
        train_dataset=data or rows(),
        eval_dataset=rows(4),
        callbacks=callbacks,
    )


def test_attached_everything_is_a_stage_and_counted(runs_dir: Path, tmp_path: Path) -> None:
    with synthetic_run(runs_dir) as run:
        trainer = make_trainer(tmp_path, [])
        StillwattCallback(run, labels={"arm": "kd"}, every_steps=2).attach(trainer)
        trainer.train()
    record = run.result
    (train,) = stages(record, "student_train")
    assert (train.kind, train.status, train.parent_id) == (StageKind.STUDENT_TRAIN, StageStatus.ENDED, None)
    assert train.labels == {"arm": "kd"}
    assert train.workload["steps"] == 5
    assert train.workload["examples"] == ROWS
    assert train.workload["tokens"] == tokens_of(ROWS)
    assert train.workload["estimated_flop"] == trainer.state.total_flos > 0
    assert train.results["train_loss"] == pytest.approx(trainer.state.log_history[-1]["train_loss"])
    evaluations, saves, steps = (stages(record, name) for name in ("evaluate", "save_checkpoint", "steps"))
    assert [stage.parent_id for stage in (*evaluations, *saves, *steps)] == [train.stage_id] * (3 + 3 + 3)
    assert [stage.labels["first_step"] for stage in steps] == ["1", "3", "5"]
    assert all(stage.kind is StageKind.EVALUATE and "eval_loss" in stage.results for stage in evaluations)
    assert_books_close(record)


def test_a_bare_callback_foresees_evaluations_and_saves(runs_dir: Path, tmp_path: Path) -> None:
    with synthetic_run(runs_dir) as run:
        options: dict[str, Any] = {"include_num_input_tokens_seen": "non_padding"}
        make_trainer(tmp_path, [StillwattCallback(run)], **options).train()
    record = run.result
    (train,) = stages(record, "student_train")
    evaluations, saves = stages(record, "evaluate"), stages(record, "save_checkpoint")
    assert [stage.parent_id for stage in evaluations] == [train.stage_id] * 3
    assert [stage.status for stage in saves] == [StageStatus.ENDED] * 3
    assert not any(stage.labels for stage in evaluations)
    assert all("eval_loss" in stage.results for stage in evaluations)
    assert train.workload["tokens"] == tokens_of(ROWS)
    assert "loss" in train.results
    assert "examples" not in train.workload
    assert value_j(train.gross) > sum(value_j(stage.gross) for stage in (*evaluations, *saves))
    assert_books_close(record)


@pytest.mark.parametrize("strategy", ["epoch", "no"])
def test_at_the_end_of_an_epoch_too(runs_dir: Path, tmp_path: Path, strategy: str) -> None:
    with synthetic_run(runs_dir) as run:
        options: dict[str, Any] = {"eval_strategy": strategy, "save_strategy": strategy, "num_train_epochs": 2}
        trainer = make_trainer(tmp_path, [StillwattCallback(run)], **options)
        with pytest.warns(stillwatt.MeterWarning, match="not all counted"):
            trainer.train()
    expected = 2 if strategy == "epoch" else 0
    assert len(stages(run.result, "evaluate")) == len(stages(run.result, "save_checkpoint")) == expected


def test_tokens_that_cannot_be_known_are_absent_and_said_to_be(runs_dir: Path, tmp_path: Path) -> None:
    with synthetic_run(runs_dir) as run, pytest.warns(stillwatt.MeterWarning, match="not all counted"):
        make_trainer(tmp_path / "bare", [StillwattCallback(run, name="bare")]).train()
        for name, extra in (("no-mask", {}), ("padded", {"include_num_input_tokens_seen": "all"})):
            trainer = make_trainer(tmp_path / name, [], data=rows(with_mask=False), **extra)
            StillwattCallback(run, name=name).attach(trainer)
            trainer.train()
    (bare,), (no_mask,), (padded,) = (stages(run.result, name) for name in ("bare", "no-mask", "padded"))
    assert not any("tokens" in stage.workload for stage in (bare, no_mask, padded))
    assert "attach(trainer)" in bare.results["tokens_not_counted"]
    assert no_mask.results["tokens_not_counted"] == "10 of 10 batches have no attention mask"
    assert padded.workload["tokens_with_padding"] == ROWS * LENGTH
    assert padded.results["tokens_not_counted"]


@pytest.mark.parametrize("is_attached", [True, False])
def test_a_resumed_training_counts_its_own_work_only(runs_dir: Path, tmp_path: Path, is_attached: bool) -> None:
    options: dict[str, Any] = {"include_num_input_tokens_seen": "non_padding", "save_steps": 3, "eval_strategy": "no"}
    with synthetic_run(runs_dir) as run:
        for checkpoint in (None, str(tmp_path / "checkpoint-3")):
            callback = StillwattCallback(run)
            trainer = make_trainer(tmp_path, [callback], **options)
            if is_attached:
                callback.attach(trainer)
            trainer.train(resume_from_checkpoint=checkpoint)
    first, second = stages(run.result, "student_train")
    assert (first.workload["steps"], second.workload["steps"]) == (5, 2)
    assert first.workload["tokens"] == tokens_of(ROWS)
    assert 0 < second.workload["tokens"] < first.workload["tokens"] / 2
    assert second.workload["estimated_flop"] == pytest.approx(first.workload["estimated_flop"] * 2 / 5)
    if is_attached:
        assert second.workload["examples"] == 8


class Stops(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
    """Raises in the middle of the third step."""

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 2:
            raise FloatingPointError("diverged")


@pytest.mark.parametrize("tracked", ["no", "non_padding"])
def test_a_trainer_that_raises_leaves_a_failed_stage(runs_dir: Path, tmp_path: Path, tracked: str) -> None:
    with synthetic_run(runs_dir) as run:
        counted: list[int] = []
        trainer = make_trainer(tmp_path, [Stops()], include_num_input_tokens_seen=tracked)
        step = trainer.training_step

        def counting(model: Any, inputs: Any, *more: Any) -> Any:
            counted.append(int(inputs["attention_mask"].sum()))
            return step(model, inputs, *more)

        trainer.training_step = counting
        StillwattCallback(run, every_steps=10).attach(trainer)
        with pytest.raises(FloatingPointError, match="diverged"):
            trainer.train()
        with run.stage("afterwards"):
            pass
    record = run.result
    (train,), (steps,), (afterwards,) = (stages(record, name) for name in ("student_train", "steps", "afterwards"))
    assert (train.status, steps.status, afterwards.parent_id) == (StageStatus.FAILED, StageStatus.FAILED, None)
    assert train.workload["steps"] == 2
    assert train.workload["examples"] == 2 * len(counted) == 10
    assert train.workload["tokens"] == sum(counted)
    assert_books_close(record)


def test_a_failed_training_whose_tokens_are_unknown_has_none(runs_dir: Path, tmp_path: Path) -> None:
    with synthetic_run(runs_dir) as run:
        trainer = make_trainer(tmp_path, [Stops()], data=rows(with_mask=False))
        StillwattCallback(run).attach(trainer)
        with pytest.raises(FloatingPointError):
            trainer.train()
    (train,) = stages(run.result, "student_train")
    assert train.workload["examples"] == 10
    assert "tokens" not in train.workload


def test_a_bare_callback_finds_out_at_the_next_training(runs_dir: Path, tmp_path: Path) -> None:
    with synthetic_run(runs_dir) as run, pytest.warns(stillwatt.MeterWarning, match="not all counted"):
        callback, stops = StillwattCallback(run), Stops()
        trainer = make_trainer(tmp_path, [callback, stops])
        with pytest.raises(FloatingPointError):
            trainer.train()
        trainer.remove_callback(stops)
        trainer.train()
        trainer.train()
    trained = stages(run.result, "student_train")
    assert [stage.status for stage in trained] == [StageStatus.FAILED, StageStatus.ENDED, StageStatus.ENDED]
    assert [stage.parent_id for stage in trained] == [None] * 3
    assert [stage.workload["steps"] for stage in trained] == [2, 5, 5]


@pytest.mark.parametrize("padded_to", [None, 16])
def test_examples_that_are_joined_into_one_row_are_counted_with_their_tokens(
    runs_dir: Path, tmp_path: Path, padded_to: int | None
) -> None:
    """Without an attention mask: positions tell where each begins, and what is padding at the row's end."""
    data = [{"input_ids": list(range(1, 5 + number % 4))} for number in range(ROWS)]
    joined = transformers.DataCollatorWithFlattening()

    def collate(rows: list[Any]) -> dict[str, Any]:
        batch: dict[str, Any] = joined(rows)
        more = -batch["input_ids"].shape[1] % (padded_to or 1)
        return {name: torch.nn.functional.pad(ids, (0, more)) for name, ids in batch.items()}

    with synthetic_run(runs_dir) as run:
        trainer = make_trainer(tmp_path, [], data=data, eval_strategy="no", save_strategy="no")
        trainer.data_collator = collate
        StillwattCallback(run).attach(trainer)
        trainer.train()
    (trained,) = stages(run.result, "student_train")
    assert trained.workload["examples"] == ROWS
    assert trained.workload["tokens"] == sum(4 + number % 4 for number in range(ROWS))
    assert "tokens_not_counted" not in trained.results


def test_a_trainer_that_cannot_tell_padding_gives_no_count_without_it(runs_dir: Path, tmp_path: Path) -> None:
    options = {"include_num_input_tokens_seen": "non_padding", "eval_strategy": "no", "save_strategy": "no"}
    with synthetic_run(runs_dir) as run, pytest.warns(stillwatt.MeterWarning, match="10 of 10 batches have no"):
        trainer = make_trainer(tmp_path, [], data=rows(with_mask=False), **options)
        StillwattCallback(run).attach(trainer)
        trainer.train()
    (trained,) = stages(run.result, "student_train")
    assert "tokens" not in trained.workload
    assert trained.workload["tokens_with_padding"] == ROWS * LENGTH


def test_attached_twice_it_counts_once(runs_dir: Path, tmp_path: Path) -> None:
    with synthetic_run(runs_dir) as run:
        callback, trainer = StillwattCallback(run), make_trainer(tmp_path, [], eval_strategy="no", save_strategy="no")
        callback.attach(trainer).attach(trainer)
        trainer.train()
    (trained,) = stages(run.result, "student_train")
    assert (trained.workload["examples"], trained.workload["tokens"]) == (ROWS, tokens_of(ROWS))


def test_a_second_trainer_that_it_is_not_attached_to_is_measured_by_events(runs_dir: Path, tmp_path: Path) -> None:
    with synthetic_run(runs_dir) as run:
        callback = StillwattCallback(run)
        callback.attach(make_trainer(tmp_path / "first", [])).close()
        with pytest.warns(stillwatt.MeterWarning, match="attach"):
            make_trainer(tmp_path / "second", [callback]).train()
    (train,) = stages(run.result, "student_train")
    evaluations, saves = stages(run.result, "evaluate"), stages(run.result, "save_checkpoint")
    assert [stage.labels for stage in evaluations] == [{}] * 3  # foreseen, and not found after their first batch
    assert len(saves) == 3
    assert "tokens" not in train.workload
    assert "attach" in train.results["tokens_not_counted"]


def test_a_training_after_an_evaluation_that_raised_is_counted(runs_dir: Path, tmp_path: Path) -> None:
    def raises(_predictions: Any) -> dict[str, float]:
        raise FloatingPointError("no score")

    with synthetic_run(runs_dir) as run:
        callback = StillwattCallback(run)
        trainer = make_trainer(tmp_path, [callback], eval_strategy="no", include_num_input_tokens_seen="non_padding")
        trainer.compute_metrics = raises
        with pytest.raises(FloatingPointError):
            trainer.evaluate()
        trainer.train()
    (evaluated,), (trained,) = stages(run.result, "evaluate"), stages(run.result, "student_train")
    assert (evaluated.status, trained.status, trained.parent_id) == (StageStatus.FAILED, StageStatus.ENDED, None)
    assert (trained.workload["steps"], trained.workload["tokens"]) == (5, tokens_of(ROWS))


def test_evaluation_outside_training(runs_dir: Path, tmp_path: Path) -> None:
    with synthetic_run(runs_dir) as run:
        bare = make_trainer(tmp_path, [StillwattCallback(run, labels={"by": "bare"})])
        bare.evaluate()
        bare.predict(rows(4))
        attached = make_trainer(tmp_path, [])
        StillwattCallback(run, labels={"by": "attached"}).attach(attached)
        attached.evaluate()
        attached.evaluate({"one": rows(4), "two": rows(2)})
        with pytest.raises(TypeError):
            attached.evaluate(eval_dataset=7)
    found = stages(run.result, "evaluate")
    assert [stage.labels for stage in found[:2]] == [{"by": "bare", "begins": "after its first batch"}] * 2
    assert [stage.labels for stage in found[2:]] == [{"by": "attached"}] * 5
    assert [stage.parent_id is None for stage in found] == [True] * 4 + [False] * 2 + [True]
    assert [stage.status for stage in found] == [StageStatus.ENDED] * 6 + [StageStatus.FAILED]
    assert "eval_loss" in found[0].results
    assert "test_loss" in found[1].results


def test_a_factory_makes_a_run_for_each_training(runs_dir: Path, tmp_path: Path) -> None:
    made: list[stillwatt.Run] = []

    def factory() -> stillwatt.Run:
        made.append(synthetic_run(runs_dir, f"run {len(made)}"))
        return made[-1]

    trainer = make_trainer(tmp_path, [], eval_strategy="no")
    StillwattCallback(run_factory=factory).attach(trainer)
    trainer.train()
    trainer.train()
    assert [[stage.name for stage in stages(run.result, "student_train")] for run in made] == [["student_train"]] * 2
    assert all(run.result.status is StageStatus.ENDED for run in made)


class BrokenRun:
    """A run of which nothing works."""

    def stage(
        self, name: str, *, kind: StageKind | str = "other", labels: Mapping[str, str] | None = None
    ) -> AbstractContextManager[stillwatt.Stage]:
        raise ArithmeticError("broken")

    def mark(self, name: str) -> None:
        raise ArithmeticError("broken")

    @property
    def current_stage(self) -> stillwatt.Stage | None:
        raise ArithmeticError("broken")


@pytest.mark.parametrize("make", [lambda: StillwattCallback(BrokenRun()), StillwattCallback])
def test_its_own_errors_stay_its_own(tmp_path: Path, make: Callable[[], StillwattCallback]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        trainer = make_trainer(tmp_path, [])
        make().attach(trainer)
        trainer.train()
    assert trainer.state.global_step == 5
    assert len([warning for warning in caught if warning.category is stillwatt.MeterWarning]) == 1


def test_without_the_library_one_sentence_says_what_to_install() -> None:
    said = message_without(["transformers"], "import stillwatt.integrations.transformers_callback")
    assert said == "MissingExtraError: transformers is not installed; run: pip install 'stillwatt[distill]'"


@pytest.mark.parametrize("send", [lambda found: pickle.loads(pickle.dumps(found)), copy.deepcopy])  # noqa: S301
def test_it_can_be_sent_and_copied(runs_dir: Path, tmp_path: Path, send: Callable[[Any], Any]) -> None:
    """As launchers that start processes do: in another one, its run is out of reach, and it says so."""
    with synthetic_run(runs_dir) as run:
        callback = StillwattCallback(run)
        args = transformers.TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[])
        callback.on_train_begin(args, transformers.TrainerState(), transformers.TrainerControl())
        sent = send(callback)
        callback.close()
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            make_trainer(tmp_path / "sent", [sent], include_num_input_tokens_seen="non_padding").train()
    is_there = send is copy.deepcopy
    assert len(stages(run.result, "student_train")) == 1 + is_there
    told = [str(one.message) for one in seen if one.category is stillwatt.MeterWarning]
    assert ["give a run_factory" in text for text in told] == ([] if is_there else [True])
