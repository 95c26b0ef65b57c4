"""Stages of a Hugging Face `Trainer`: training, with evaluation and the saving of checkpoints inside it.

`Trainer` tells its callbacks when an evaluation or a save is over, not when it begins. Without more, their beginnings
are read off the flags that decide on them; after `attach`, the methods themselves are measured.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from stillwatt.errors import LostTrainingError, MissingExtraError
from stillwatt.integrations.batches import LazySum, TokenCounter, num_examples
from stillwatt.integrations.contained import contained, json_numbers
from stillwatt.integrations.stage_hook import EVALUATE, SAVE, STEPS, StageHook
from stillwatt.metering.measured import SupportsStages
from stillwatt.records.window import StageKind

try:
    from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ImportError as err:
    raise MissingExtraError("transformers", "distill") from err

_ATTACHED = "_stillwatt_attached"
"""Where a Trainer keeps the callbacks that measure its methods."""


class StillwattCallback(StageHook, TrainerCallback):
    """Measures what a `Trainer` does, and never raises into its loop.

    Stages: `student_train` from the beginning of training to its end; inside it `evaluate`, `save_checkpoint` and, with
    `every_steps`, `steps`. Counts: `steps`, `examples`, `tokens` (those that are no padding) and `estimated_flop`, the
    Trainer's own estimate. In a launch of several ranks, what the Trainer counts over all ranks (steps, its own tokens,
    operations) is booked by the first rank alone, so that a sum over ranks is right.

    Tokens come from the Trainer where `include_num_input_tokens_seen="non_padding"`, else from the batches' attention
    masks if the callback is attached, else from nowhere: then the count is absent, with a warning.

    On a GPU, open the run with `Run(sync=torch.cuda.synchronize)`: queued work is then billed to the stage that queued
    it.

    Example:
        with stillwatt.Run("my student", sync=torch.cuda.synchronize) as run:
            trainer = Trainer(model=model, args=args, train_dataset=data)
            StillwattCallback(run).attach(trainer)
            trainer.train()

    Args:
        run: The open run to measure in.
        run_factory: Instead of `run`: makes one, which is open as long as the Trainer trains or evaluates.
        name: Name of the training stage.
        labels: What the stages belong to, e.g. `{"arm": "kd"}`.
        every_steps: Length of the `steps` stages; None for none.
        tie_clocks: Whether ranks of torch.distributed on several machines wait for one another, a minute at most, where
            training begins and ends, and mark the moment. All ranks should have the callback then.
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
    ) -> None:
        super().__init__(run, run_factory, labels)
        self._name = name
        self._every_steps = every_steps
        self._ties_clocks = tie_clocks
        self._has_padding_id = False
        self._num_at_work = 0
        self._tokens, self._joined_examples = TokenCounter(), LazySum()
        self._last_step = self._last_tokens = 0
        self._first_flop = 0.0
        self._steps = 0

    def attach(self, trainer: Trainer) -> StillwattCallback:
        """Measure the Trainer's own methods: exact beginnings, failures as they happen, examples and tokens.

        Adds the callback to the Trainer if it has not got it. A second time, nothing is added. Returns itself.
        """
        self._attach(trainer)
        return self

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the training stage."""
        self._end_lost()
        self._begin_run()
        if self._ties_clocks:
            self._tie("train_begin")
        self._begin(state, kwargs.get("processing_class"))

    @contained
    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open a stage of steps where one is due; what was foreseen and did not come is over."""
        self._stages.close(EVALUATE)
        self._stages.close(SAVE)
        if self._every_steps and not self._stages.is_open(STEPS):
            self._open(STEPS, StageKind.STUDENT_TRAIN, {"first_step": str(state.global_step + 1)})

    @contained
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Count the step; close a stage of steps that is full."""
        self._count(args, state, waits=False)
        if self._every_steps and (state.global_step % self._every_steps == 0 or state.global_step >= state.max_steps):
            self._stages.close(STEPS)
        self._foresee(control)

    @contained
    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Foresee an evaluation or a save at the end of an epoch."""
        self._foresee(control)

    @contained
    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep what was logged as the stage's results; the last of each name stays."""
        self._count(args, state, waits=True)
        found = json_numbers(logs or {})
        is_training = "learning_rate" in found or "train_runtime" in found
        (self._stages.get(self._name) if is_training else self._stages.innermost).record(found)

    @contained
    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The first sign of an evaluation that nothing foresaw."""
        if not self._stages.is_open(EVALUATE):
            self._open(EVALUATE, StageKind.EVALUATE, {"begins": "after its first batch"})

    @contained
    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep the scores; the evaluation is over."""
        self._stages.get(EVALUATE).record(json_numbers(metrics or {}))
        if not self._is_attached:
            self._stages.close(EVALUATE)
            if control.should_save and self._stages.is_open(self._name):
                self._open(SAVE, StageKind.OTHER)

    @contained
    def on_predict(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any, **kwargs: Any
    ) -> None:
        """A prediction is an evaluation."""
        self.on_evaluate(args, state, control, metrics=metrics)

    @contained
    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """The checkpoint is written."""
        if not self._is_attached:
            self._stages.close(SAVE)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the training stage."""
        self._finish_counts(args, state)
        if self._ties_clocks:
            self._tie("train_end")
        self._close_all()

    @contained
    def _attach(self, trainer: Trainer) -> None:
        if self not in trainer.callback_handler.callbacks:
            trainer.add_callback(self)
        target: Any = trainer
        attached = vars(target).setdefault(_ATTACHED, [])
        if self in attached:
            return  # what is measured twice would be counted twice
        attached.append(self)
        target.train = self._at_work(self._watched(trainer.train))
        target.training_step = self._counted(trainer.training_step)
        target.evaluate = self._at_work(self._around(trainer.evaluate, EVALUATE, StageKind.EVALUATE))
        target.predict = self._at_work(self._around(trainer.predict, EVALUATE, StageKind.EVALUATE))
        # a private method: where a version of transformers has none, saving is foreseen by its flag
        target._save_checkpoint = self._around(trainer._save_checkpoint, SAVE, StageKind.OTHER)

    @property
    def _is_attached(self) -> bool:
        """Whether events come from a Trainer whose methods are measured; another may have the same callback without."""
        return self._num_at_work > 0

    def _at_work(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            self._num_at_work += 1
            try:
                return method(*args, **kwargs)
            finally:
                self._num_at_work -= 1

        return call

    def _watched(self, train: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(train)
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return train(*args, **kwargs)
            except BaseException as err:
                self._rescue_counts()
                self._close_all(err)
                raise

        return call

    def _counted(self, training_step: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(training_step)
        def call(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            loss = training_step(model, inputs, *args, **kwargs)
            self._count_batch(inputs)
            return loss

        return call

    @contained
    def _end_lost(self) -> None:
        self._rescue_counts()
        # an evaluation, too: the first step would close it as one that did not come, with the training inside it
        self._stages.close_all(LostTrainingError("an earlier train() or evaluate() raised, and no event said so"))

    @contained
    def _begin(self, state: TrainerState, processing: Any) -> None:
        self._has_padding_id = getattr(processing, "pad_token_id", None) is not None
        self._tokens, self._joined_examples = TokenCounter(), LazySum()
        self._steps = 0
        # a resumed Trainer has loaded what earlier sessions counted; that is theirs
        self._last_step, self._last_tokens = state.global_step, int(state.num_input_tokens_seen)
        self._first_flop = float(state.total_flos)
        self._open(self._name, StageKind.STUDENT_TRAIN)

    def _foresee(self, control: TrainerControl) -> None:
        """Open what the Trainer is about to do, as its flags say; attached, the methods say it themselves."""
        if self._is_attached or not self._stages.is_open(self._name):
            return
        if control.should_evaluate:
            self._open(EVALUATE, StageKind.EVALUATE)
        elif control.should_save:
            self._open(SAVE, StageKind.OTHER)

    @contained
    def _count_batch(self, inputs: Any) -> None:
        self._tokens.add(inputs)
        examples = num_examples(inputs)
        if isinstance(examples, int):
            self._stages.get(self._name).add(examples=examples)
        elif examples is not None:
            self._joined_examples.add_number(examples)

    def _count(self, args: TrainingArguments, state: TrainerState, *, waits: bool) -> None:
        """Book what was counted since the last time; `waits` allows a look at numbers on a device."""
        stage = self._stages.get(self._name)
        steps, self._last_step = state.global_step - self._last_step, state.global_step
        seen = int(state.num_input_tokens_seen)
        tokens, self._last_tokens = seen - self._last_tokens, seen
        self._steps += steps
        if state.is_world_process_zero and steps:
            stage.add(steps=steps)
        tracked = self._tracked(args)
        if tracked and tokens and state.is_world_process_zero:
            stage.add(**{tracked: tokens})
        if tracked == "tokens" and steps:
            self._tokens.drop()  # the Trainer's count has them; what comes now is of a step that may fail
        self._book_own(tokens=tracked != "tokens", waits=waits)

    @contained
    def _rescue_counts(self) -> None:
        """Book what was counted of a training that is failing, as far as no step has booked it."""
        self._book_own(tokens=True, waits=True)

    def _book_own(self, *, tokens: bool, waits: bool) -> None:
        """Book what the batches themselves told since the last time."""
        sums: dict[str, LazySum] = {"examples": self._joined_examples, **({"tokens": self._tokens} if tokens else {})}
        counts = {name: each.take() for name, each in sums.items() if waits or each.is_at_hand}
        self._stages.get(self._name).add(**{name: count for name, count in counts.items() if count})

    @contained
    def _finish_counts(self, args: TrainingArguments, state: TrainerState) -> None:
        self._count(args, state, waits=True)
        stage = self._stages.get(self._name)
        if state.is_world_process_zero:
            stage.add(estimated_flop=float(state.total_flos) - self._first_flop)
        reason = self._token_gap(self._tracked(args))
        if reason and self._steps:
            stage.record({"tokens_not_counted": reason})
            self.warn(f"the tokens of {self._name!r} are not all counted: {reason}")

    def _token_gap(self, tracked: str) -> str:
        """Why the stage's token count is absent or not whole; empty where it is whole."""
        if tracked == "tokens":
            return ""
        if not self._is_attached:
            return 'neither include_num_input_tokens_seen="non_padding" nor attach(trainer) was there to count them'
        if self._tokens.num_unknown:
            every = self._tokens.num_unknown + self._tokens.num_known
            return f"{self._tokens.num_unknown} of {every} batches have no attention mask"
        return ""

    def _tracked(self, args: TrainingArguments) -> str:
        """What the Trainer's own count of tokens is called here; empty where it keeps none."""
        if str(args.include_num_input_tokens_seen) == "non_padding":
            # with neither a mask nor an id to know padding by, the Trainer counts padding as well
            is_blind = self._tokens.num_unmasked > 0 and not self._has_padding_id
            return "tokens_with_padding" if is_blind else "tokens"
        return "tokens_with_padding" if str(args.include_num_input_tokens_seen) == "all" else ""
