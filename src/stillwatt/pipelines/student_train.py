"""Stage: train one student arm from one checkpoint to the next; the same loop for every method.

Two arms differ in what the loss compares and in nothing else: start, order of sequences, steps, learning rates. Steps,
learning rates and shares of the budget are counted over all passes together.
No token of given text is padding, and padding of a student's own text is in no loss and no count. A step's gradient
is that of the mean loss over all of its supervised tokens, however they fall into microbatches.

Shapes: S sequences, B sequences of a microbatch, T tokens of a sequence, D hidden width, N supervised positions,
K kept teacher tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from stillwatt.errors import StillwattError
from stillwatt.metering.meter import Stage
from stillwatt.pipelines.adapters import ADAPTER_DIR, adapt, read_adapter
from stillwatt.pipelines.cached_rows import CachedReader
from stillwatt.pipelines.checkpoint import read_checkpoint, write_adapter_checkpoint, write_checkpoint
from stillwatt.pipelines.corpus import Packed
from stillwatt.pipelines.logit_cache import LogitCache
from stillwatt.pipelines.loss_chunk import TeacherSide
from stillwatt.pipelines.losses import CHUNK_TOKENS, HeadLoss, cross_entropy_head, kd_head
from stillwatt.pipelines.models import CausalModel, check_apart, head_weight, hidden_states, load_model
from stillwatt.pipelines.objectives.dense import DENSE_CHUNK_TOKENS, DenseTeacher
from stillwatt.pipelines.objectives.sparse import Weighted, cached_side
from stillwatt.pipelines.objectives.vocabulary import cut_to_shared, first_rows
from stillwatt.pipelines.on_policy import Batch, OwnText, given_batch
from stillwatt.pipelines.optimizers import make_optimizer
from stillwatt.pipelines.passes import Microbatch, Passes
from stillwatt.pipelines.progress import Task
from stillwatt.pipelines.randomness import begin_dropout
from stillwatt.pipelines.ranks import Ranks
from stillwatt.pipelines.recompute import recompute_layers
from stillwatt.pipelines.schedule import curve_of, learning_rate
from stillwatt.pipelines.sharding import spread_over
from stillwatt.pipelines.spec import ArmSpec, TrainSpec
from stillwatt.pipelines.teacher_online import READ_AHEAD_TOKENS, OnlineTeacher
from stillwatt.pipelines.waiting import Waiting

if TYPE_CHECKING:
    from stillwatt.pipelines.cache.reader import CodedCache

__all__ = ["TrainJob", "num_steps", "step_at", "train"]


class Stopping(Protocol):
    """What may end a training; `budget.Stop` is such."""

    def first_step(self, tokens: int, *, is_own: bool) -> None:
        """The first step begins now, at so many tokens of the arm; on own text or not."""
        ...

    def after_step(self, tokens: int, *, is_own: bool) -> str | None:
        """Why to end after this step, at so many tokens of the arm, with such a step to come; None to go on."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainJob:
    """What stays the same over all increments of one arm."""

    arm_id: str
    arm: ArmSpec
    train: TrainSpec
    dtype: str
    """`float32`, or `bfloat16` for bf16 autocast on a GPU; weights are float32 either way."""
    seed: int
    examples: Packed
    cache: LogitCache | CodedCache | None
    teacher: OnlineTeacher | None = None
    """Where the loss needs all logits; None otherwise."""
    stop: Stopping | None = None
    """Where a budget may end the training before its text does; None otherwise."""
    sharding: str = "none"
    """`fsdp` to spread the student over the ranks of a launch."""
    base_dir: Path | None = None
    """Where the weights lie that adapters stand beside: the student's start; None where they are trained themselves."""
    own_text: OwnText | None = None
    """Where some steps train on what the student writes; None otherwise."""
    epochs: int = 1
    """How often each sequence goes through the student."""

    @property
    def passes(self) -> Passes:
        """Which sequence comes where."""
        return Passes(sequences=len(self.examples.ids_ST), epochs=self.epochs, seed=self.seed)

    def is_own(self, step: int) -> bool:
        """Whether that step trains on what the student writes."""
        return self.own_text is not None and self.own_text.takes(step)


def num_steps(job: TrainJob) -> int:
    """Optimiser steps of the whole budget; the last may be short."""
    return math.ceil(job.passes.places / (job.train.batch_size * job.train.accumulation_steps))


def _passes_done(job: TrainJob, steps: int) -> float:
    places = min(job.passes.places, steps * job.train.batch_size * job.train.accumulation_steps)
    return places / job.passes.sequences


def step_at(share: float, steps: int) -> int:
    """The step at which a share of the budget is used, rounded up to whole steps.

    >>> step_at(0.5, 7), step_at(1.0, 7), step_at(0.1, 30)
    (4, 7, 3)
    """
    # 0.1 * 30 is a little above 3 in binary; the decimal share is what is meant
    return min(steps, math.ceil(round(share * steps, 6)))


def train(
    job: TrainJob, start_dir: Path, *, from_share: float, to_share: float, out_dir: Path, stage: Stage, task: Task
) -> dict[str, Any]:
    """Train from one share of the budget to the next and write the next checkpoint, whole or not at all.

    Args:
        job: The arm.
        start_dir: The student's start where `from_share` is 0, else the checkpoint written for `from_share`; of a
            training by LoRA the latter holds adapters, and the weights beside them are those of `job.base_dir`.
        from_share: Share of the budget already used.
        to_share: Share at which to stop; at 1.0 no optimiser state is kept.
        out_dir: Where the checkpoint goes: a folder that transformers loads.
        stage: Counts tokens (padding is none), supervised tokens and steps; is told `loader_wait_share`, the share of
            the steps' time in which they waited for microbatches and rows of a cache.
        task: The bar, in tokens.

    Returns:
        loss_first, loss_last (mean of the first and last step of this increment), loss_curve (`curve_of` its steps),
        objective (what these are of, as one line; losses of other lines cannot be ranked with them), tokens_total (so
        far), parameters (of the student), trained_parameters (by LoRA: those of the adapters); where there are several,
        epochs (passes of the whole budget) and passes_done.

    Raises:
        StillwattError: The loss is no longer a number, or a setting is unknown.
    """
    torch.manual_seed(job.seed)
    loop = _Loop(job, _student(job, start_dir, is_begun=from_share > 0))
    steps = num_steps(job)
    first = step_at(from_share, steps) if from_share > 0 else 0
    if first:
        loop.restore(start_dir, first)
    losses: list[float] = []
    last, stopped_by = step_at(to_share, steps), None
    loop.waiting.begin()
    if job.stop is not None:
        job.stop.first_step(loop.tokens_done, is_own=job.is_own(first))
    for step in range(first, last):
        batches = loop.batches(step, first, last)
        losses.append(loop.step(batches, step, steps))
        loop.tokens_done += sum(batch.tokens for batch in batches)
        own, steps_here = loop.ranks.share(batches), int(loop.ranks.is_first)
        stage.add(tokens=sum(b.tokens for b in own), supervised_tokens=sum(b.supervised for b in own), steps=steps_here)
        loop.tell_reading(stage)
        # of the budget: own text may end before a sequence would
        task.advance(sum(len(batch.rows) for batch in batches) * job.examples.ids_ST.shape[1])
        if job.stop is not None:
            stopped_by = loop.ranks.agree(job.stop.after_step(loop.tokens_done, is_own=job.is_own(step + 1)))
        if stopped_by is not None:
            last = step + 1
            break
    loop.tell_waiting(stage)
    loop.save(start_dir, out_dir, steps_done=last, is_final=to_share >= 1.0 or stopped_by is not None)
    return {
        "loss_first": losses[0] if losses else None,
        "loss_last": losses[-1] if losses else None,
        "loss_curve": curve_of(losses),
        "objective": job.arm.minimises,
        "tokens_total": loop.tokens_done,
        **loop.sizes(),
        **({} if stopped_by is None else {"stopped_by": stopped_by, "steps_done": last, "steps_planned": steps}),
        **({} if job.own_text is None else {"own_text_steps": job.own_text.steps}),
        **({} if job.epochs == 1 else {"epochs": job.epochs, "passes_done": _passes_done(job, last)}),
    }


def _student(job: TrainJob, start_dir: Path, *, is_begun: bool) -> CausalModel:
    lora = job.train.lora
    model = load_model(start_dir if lora is None else job.base_dir or start_dir, dtype="float32")
    if job.examples.starts_ST is not None:
        check_apart(model, f"arm {job.arm_id!r}'s student")
    if lora is not None:
        adapt(model, lora, seed=job.seed)
        if is_begun:
            read_adapter(model, start_dir / ADAPTER_DIR)
    return model


class _Loop:
    """Model, optimiser and `accelerate` for one increment."""

    def __init__(self, job: TrainJob, model: CausalModel) -> None:
        from accelerate import Accelerator

        on_gpu = torch.cuda.is_available()
        self._job, self._passes = job, job.passes
        self.tokens_done = 0
        self.waiting, self.reading = Waiting(), Waiting()
        is_even = job.examples.lengths_S is None
        self._rows = None if job.cache is None else CachedReader(job.cache, is_even=is_even)
        self.ranks = Ranks()
        self._accelerator = Accelerator(mixed_precision="bf16" if job.dtype == "bfloat16" and on_gpu else "no")
        # accelerate has this once a process: another trainer that ended amid its accumulation leaves it off, and then
        # every step of ours would be left out without a word
        self._accelerator.sync_gradients = True
        model.train()
        if job.train.gradient_checkpointing:
            recompute_layers(model)
        self._whole = spread_over(model.to(self._accelerator.device), self.ranks, job.sharding)
        self.parameters = [p for p in self._whole.parameters() if p.requires_grad]
        self._is_sharded = job.sharding != "none" and self.ranks.count > 1
        self._optimizer = self._accelerator.prepare(make_optimizer(job.train, self.parameters))

    def sizes(self) -> dict[str, int]:
        """How many weights the student has, without adapters; how many are trained, where it is not those."""
        trained = sum(weights.numel() for weights in self.parameters)
        if self._job.train.lora is None:
            return {"parameters": trained}
        every = sum(weights.numel() for weights in self._whole.parameters())
        return {"parameters": every - trained, "trained_parameters": trained}

    def batches(self, step: int, first: int, last: int) -> list[Batch]:
        """The microbatches of a step, with what the teacher says of them at hand.

        Args:
            step: The step, counted from 0.
            first: The first step of this increment.
            last: The step behind its last one.
        """
        job, per_step = self._job, self._job.train.batch_size * self._job.train.accumulation_steps
        if job.teacher is not None:
            # what is read ahead of a budget's end would be spent for nothing
            tokens_ahead = READ_AHEAD_TOKENS if job.stop is None else 0
            ahead = max(1, tokens_ahead // (per_step * job.examples.ids_ST.shape[1]))
            if (step - first) % ahead == 0:
                steps = range(step, min(last, step + ahead))
                job.teacher.read([g for s in steps for g in self.ranks.share(self._given(s))])
        if job.own_text is None or not job.own_text.takes(step):
            with self.waiting:
                return [given_batch(job.examples, rows, place=place) for place, rows in self._given(step)]
        assert job.teacher is not None  # an arm with own text has one (`check_arm`)
        own_text, groups = job.own_text, self._groups(step)
        with torch.no_grad():
            batches: list[Batch] = self._whole(lambda model: own_text.write(model, groups, step))
        job.teacher.read_own(self.ranks.share(batches))
        return batches

    def _given(self, step: int) -> list[Microbatch]:
        """The microbatches of given text in a step; none where it trains on the student's own."""
        return [] if self._job.is_own(step) else self._groups(step)

    def _groups(self, step: int) -> list[Microbatch]:
        train = self._job.train
        per_step = train.batch_size * train.accumulation_steps
        return self._passes.microbatches(step * per_step, (step + 1) * per_step, train.batch_size)

    def step(self, batches: Sequence[Batch], step: int, steps: int) -> float:
        """One optimiser step over those sequences; returns the mean loss over their supervised tokens, in nats."""
        job = self._job
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(job.train, step, steps)
        # one divisor for the whole step: a mean per microbatch would weigh tokens of short ones more
        count = max(1, sum(batch.supervised for batch in batches))  # of all ranks
        total = torch.zeros((), device=self._accelerator.device)
        for batch, weight in self._turns(batches):
            begin_dropout(job.seed, batch.place)
            loss = self._whole(partial(self._weighted_loss, batch, weight / count))
            self._accelerator.backward(loss)
            total += loss.detach()
        if not self._is_sharded:
            self.ranks.sum_gradients(self.parameters)
        mean = float(self.ranks.sum(total))
        if not math.isfinite(mean):
            raise StillwattError(
                f"arm {job.arm_id!r}: the loss is {mean} at step {step + 1} of {steps}; lower train.learning_rate, "
                "or add warmup_steps"
            )
        self._accelerator.clip_grad_norm_(self.parameters, job.train.max_grad_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return mean

    def _turns(self, batches: Sequence[Batch]) -> list[tuple[Batch, float]]:
        """This rank's microbatches of a step, each counted once.

        Ranks of a student that is spread gather its layers together, so each has as many turns: one that has no
        microbatch left runs the step's first, and counts it nothing.
        """
        own = [(batch, 1.0) for batch in self.ranks.share(batches)]
        rounds = math.ceil(len(batches) / self.ranks.count) if self._is_sharded else len(own)
        return own + [(batches[0], 0.0)] * (rounds - len(own))

    def _weighted_loss(self, batch: Batch, weight: float, model: CausalModel) -> Tensor:
        if weight == 0.0:
            # of every weight something, so that all ranks reduce the same gradients
            ids_BT = batch.ids_BT.to(self._accelerator.device)
            return (hidden_states(model, ids_BT).sum() + head_weight(model).sum()) * 0.0
        return self._loss(batch, model).sum * weight

    def _loss(self, batch: Batch, model: CausalModel) -> HeadLoss:
        job, place = self._job, self._accelerator.device
        ids_BT, predicted_BT = batch.ids_BT.to(place), batch.predicted_BT.to(place)
        with self._accelerator.autocast():
            states_BTD = hidden_states(model, ids_BT, batch.positions_BT)
        states_ND, targets_N = states_BTD[:, :-1][predicted_BT], ids_BT[:, 1:][predicted_BT]
        weight_VD, objective = head_weight(model), job.arm.objective
        if objective is None:
            return cross_entropy_head(states_ND, weight_VD, targets_N)
        assert job.arm.alpha is not None  # checked by `check_arm`
        assert job.arm.temperature is not None
        if job.teacher is not None:
            side, weight_VD = _dense_side(job.arm, job.teacher, batch, predicted_BT, weight_VD)
        else:
            assert job.cache is not None
            # as with the teacher beside it: what it has no row for is in no sum (method.md, eq. 59)
            weight_VD = first_rows(weight_VD, job.cache.vocab_size)
            side = self._sparse_side(batch.rows, batch.predicted_BT, weight_VD.shape[0])
        return kd_head(
            states_ND,
            weight_VD,
            targets_N,
            side,
            # a student is not taught to say what it said
            alpha=0.0 if batch.is_own else job.arm.alpha,
            temperature=job.arm.temperature,
            temperature_power=objective.temperature_power,
            # with a teacher beside the student, both models' logits exist at once
            chunk_tokens=CHUNK_TOKENS if job.teacher is None else DENSE_CHUNK_TOKENS,
        )

    def _sparse_side(self, rows: tuple[int, ...], predicted_BT: Tensor, num_rows: int) -> TeacherSide:
        """What the cache holds for the supervised positions of those sequences."""
        job, place = self._job, self._accelerator.device
        assert self._rows is not None
        assert job.arm.objective is not None
        with self.waiting, self.reading:
            found = self._rows.read(rows, predicted_BT)
        self._check_ids(found.ids_NK, num_rows)
        parts = [part.to(place) for part in found.parts]
        return Weighted(*parts) if found.is_drawn else cached_side(job.arm.objective.name, *parts)

    def _check_ids(self, ids_NK: Tensor, num_rows: int) -> None:
        """A teacher with more rows of padding may have kept one of them: the student has none to set against it."""
        if ids_NK.numel() and int(ids_NK.max()) >= num_rows:
            raise StillwattError(
                f"arm {self._job.arm_id!r}: the logit cache keeps output row {int(ids_NK.max())} of the teacher and "
                f"the student has {num_rows}; begin a new run, whose cache has the rows of both alone, or use a loss "
                "of the whole vocabulary"
            )

    def tell_reading(self, stage: Stage) -> None:
        """Count the seconds since the last telling in which a cache was read; nothing where there is no cache."""
        if self._job.cache is not None:
            stage.add(read_s=self.reading.taken_s())

    def tell_waiting(self, stage: Stage) -> None:
        """Keep the share of the steps' time in which they waited for their data."""
        share = self.waiting.share()
        if share is not None:
            # a time, and no finding: two runs of one training have the same results and not the same waits
            stage.record({"loader_wait_share": share})

    def restore(self, directory: Path, first: int) -> None:
        """Take over the optimiser's state of a checkpoint."""
        self.tokens_done = read_checkpoint(directory, first, self._optimizer)

    def save(self, start_dir: Path, out_dir: Path, *, steps_done: int, is_final: bool) -> None:
        """Write the checkpoint beside its place and move it there in one step; the first rank does."""
        progress = {"arm": self._job.arm_id, "steps_done": steps_done, "tokens_done": self.tokens_done}
        optimizer, model = None if is_final else self._optimizer, self._whole.model
        if self._job.train.lora is None:
            write_checkpoint(model, optimizer, self.ranks, start_dir, out_dir, progress)
        else:
            base_dir = self._job.base_dir or start_dir
            write_adapter_checkpoint(model, optimizer, self.ranks, base_dir, out_dir, progress)


def _dense_side(
    arm: ArmSpec, teacher: OnlineTeacher, batch: Batch, predicted_BT: Tensor, weight_VD: Tensor
) -> tuple[TeacherSide, Tensor]:
    """What the teacher beside the student says of those positions; the student's output rows for the same tokens."""
    assert arm.objective is not None
    teacher_BTD, teacher_VD = teacher.take(batch)
    weight_VD, teacher_VD = cut_to_shared(weight_VD, teacher_VD)
    teacher_ND = teacher_BTD[:, :-1][predicted_BT]
    return DenseTeacher(arm.objective.name, arm.loss_parameter, teacher_ND, teacher_VD), weight_VD
