"""Stages of a Lightning `Trainer`: fitting, with validation and saving inside it; tests and predictions."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from stillwatt.errors import MissingExtraError
from stillwatt.integrations.batches import LazySum, TokenCounter, num_examples
from stillwatt.integrations.contained import contained, json_numbers
from stillwatt.integrations.stage_hook import EVALUATE, SAVE, STEPS, StageHook
from stillwatt.metering.measured import SupportsStages
from stillwatt.records.window import StageKind

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer


def _callback_class() -> Any:
    """`Callback` of the package that the program uses: `lightning`, or `pytorch_lightning` of the same contents."""
    packages = ["lightning.pytorch", "pytorch_lightning"]
    # where both are installed, the one that is imported already is the one that the program's Trainer comes from
    for package in sorted(packages, key=lambda name: name not in sys.modules):
        try:
            return importlib.import_module(package).Callback
        except ImportError:
            continue
    raise MissingExtraError("lightning", "lightning")


if not TYPE_CHECKING:
    Callback = _callback_class()


class StillwattCallback(StageHook, Callback):
    """Measures what a Lightning `Trainer` does, and never raises into its loop.

    Stages: `student_train` for a `fit`; inside it `evaluate` for each validation (the sanity check's too, labelled so),
    `save_checkpoint` and, with `every_steps`, `steps`. `validate`, `test` and `predict` are stages `evaluate` of their
    own. Counts: `steps`, `examples` and `tokens` (those that are no padding, from the batches' `attention_mask`; absent
    with a warning where batches have none). In a launch of several ranks, steps are booked by the first rank alone.

    On a GPU, open the run with `Run(sync=torch.cuda.synchronize)`: queued work is then billed to the stage that queued
    it. Tokens are summed on the device and fetched when a validation begins and at the end, so that no step waits.

    Example:
        with stillwatt.Run("my student", sync=torch.cuda.synchronize) as run:
            Trainer(callbacks=[StillwattCallback(run)]).fit(module, data)

    Args:
        run: The open run to measure in.
        run_factory: Instead of `run`: makes one, which is open as long as the Trainer works.
        name: Name of the training stage.
        labels: What the stages belong to, e.g. `{"arm": "kd"}`.
        every_steps: Length of the `steps` stages; None for none.
        tie_clocks: Whether ranks of torch.distributed on several machines wait for one another, a minute at most, where
            training begins and ends, and mark the moment. All ranks should have the callback then.
        count_tokens: False for data that has no tokens, so that nothing is said of their absence.
    """

    def __init__(
        self,
        run: SupportsStages | None = None,
        *,
        run_factory: Callable[[], SupportsStages] | None = None,
        name: str = "student_train",
        labels: Mapping[str, str] | None = None,
        every_steps: int | None = None,
        tie_clocks: bool = True,
        count_tokens: bool = True,
    ) -> None:
        super().__init__(run, run_factory, labels)
        self._name = name
        self._every_steps = every_steps
        self._ties_clocks = tie_clocks
        self._counts_tokens = count_tokens
        self._tokens, self._joined_examples = TokenCounter(), LazySum()
        self._last_step = 0
        self._unwrapped: Callable[..., Any] | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the training stage."""
        self._close_all()
        self._begin_run()
        self._tokens, self._joined_examples = TokenCounter(), LazySum()
        self._open(self._name, StageKind.STUDENT_TRAIN)
        self._watch_saving(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The first step is near: what a checkpoint said of earlier steps has been loaded by now."""
        if self._ties_clocks:
            self._tie("train_begin")
        self._last_step = trainer.global_step

    @contained
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Open a stage of steps where one is due."""
        if self._every_steps and not self._stages.is_open(STEPS):
            self._open(STEPS, StageKind.STUDENT_TRAIN, {"first_step": str(trainer.global_step + 1)})

    @contained
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch, and the step if it made one; close a stage of steps that is full."""
        stage = self._stages.get(self._name)
        self._tokens.add(batch)
        examples = num_examples(batch)
        if isinstance(examples, int):
            stage.add(examples=examples)
        elif examples is not None:
            self._joined_examples.add_number(examples)
        steps, self._last_step = trainer.global_step - self._last_step, trainer.global_step
        if steps and trainer.is_global_zero:
            stage.add(steps=steps)
        self._book_counts(waits=False)
        # one batch may make several steps (of several optimizers), which pass over a multiple
        if self._every_steps and trainer.global_step % self._every_steps < steps:
            self._stages.close(STEPS)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last step is done."""
        self._close(STEPS)
        if self._ties_clocks:
            self._tie("train_end")

    @contained
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the training stage."""
        self._book_counts(waits=True)
        self._stages.get(self._name).record(json_numbers(trainer.callback_metrics))
        if self._counts_tokens and self._tokens.num_unknown:
            every = self._tokens.num_unknown + self._tokens.num_known
            reason = f"{self._tokens.num_unknown} of {every} batches have no attention mask"
            self._stages.get(self._name).record({"tokens_not_counted": reason})
            self.warn(f"the tokens of {self._name!r} are not all counted: {reason}")
        self._unwatch_saving(trainer)
        self._close_all()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open a stage for the validation."""
        self._evaluation_starts({"part": "sanity check"} if trainer.sanity_checking else {})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the scores; the validation is over."""
        self._evaluation_ends(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open a stage for the test."""
        self._evaluation_starts({"part": "test"})

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the scores; the test is over."""
        self._evaluation_ends(trainer)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open a stage for the predictions."""
        self._evaluation_starts({"part": "predict"})

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The predictions are over."""
        self._evaluation_ends(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Whatever was open has failed."""
        self._rescue(trainer)
        self._close_all(exception)

    @contained
    def _evaluation_starts(self, labels: Mapping[str, str]) -> None:
        self._book_counts(waits=True)
        self._open(EVALUATE, StageKind.EVALUATE, labels)

    @contained
    def _evaluation_ends(self, trainer: Trainer) -> None:
        self._stages.get(EVALUATE).record(json_numbers(trainer.callback_metrics))
        self._stages.close(EVALUATE)

    @contained
    def _watch_saving(self, trainer: Trainer) -> None:
        target: Any = trainer
        self._unwrapped = trainer.save_checkpoint
        target.save_checkpoint = self._around(trainer.save_checkpoint, SAVE, StageKind.OTHER)

    @contained
    def _unwatch_saving(self, trainer: Trainer) -> None:
        if self._unwrapped is not None:
            target: Any = trainer
            target.save_checkpoint = self._unwrapped
            self._unwrapped = None

    @contained
    def _rescue(self, trainer: Trainer) -> None:
        """Book what was counted of a training that is failing."""
        self._unwatch_saving(trainer)
        self._book_counts(waits=True)

    def _book_counts(self, *, waits: bool) -> None:
        if waits or self._tokens.is_at_hand:
            tokens = self._tokens.take()
            if tokens:
                self._stages.get(self._name).add_tokens(tokens)
        if waits or self._joined_examples.is_at_hand:
            joined = self._joined_examples.take()
            if joined:
                self._stages.get(self._name).add(examples=joined)
