"""The teacher beside the student: its last hidden states for sequences that are about to be trained on.

The teacher reads ahead of the student, many sequences at a time and each time in a stage of its own, so that its
joules are the teacher's and its stages long enough to be metered. Hidden states are kept, not logits: they are as
exact, and a hundred times smaller.

Shapes: B sequences of a microbatch, T tokens of a sequence, D the teacher's hidden width, V its output rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from stillwatt.metering.meter import Stage
from stillwatt.pipelines.corpus import Packed
from stillwatt.pipelines.models import CausalModel, head_weight, hidden_states
from stillwatt.pipelines.on_policy import Batch, given_batch
from stillwatt.pipelines.passes import Microbatch

__all__ = ["READ_AHEAD_TOKENS", "OnlineTeacher"]

READ_AHEAD_TOKENS = 16_384
"""Tokens whose hidden states are kept at most, unless one optimiser step needs more: 38 MB at a width of 576 in
fp32. Never alters a result, as sequences go through the teacher in the student's own microbatches."""


@dataclass(slots=True)
class OnlineTeacher:
    """A teacher that is asked while the student trains."""

    load: Callable[[], CausalModel]
    """Gives the teacher; called at the first reading, inside its stage."""
    open_stage: Callable[[], AbstractContextManager[Stage]]
    """Opens the stage that the teacher's work is billed to."""
    examples: Packed
    place: torch.device
    """Where the student is."""
    rows: int | None = None
    """How many of the teacher's output rows, from the first, a student is compared on; None for all of them."""
    _model: CausalModel | None = None
    _weight_VD: Tensor | None = None
    _kept: dict[int, Tensor] = field(default_factory=dict)
    """By the microbatches' places in the training: what is read ahead may hold the same sequences of two passes."""

    def read(self, microbatches: Sequence[Microbatch]) -> None:
        """Run the teacher over those microbatches, in one stage, and keep what it found until it is asked for."""
        missing = [microbatch for microbatch in microbatches if microbatch.place not in self._kept]
        if not missing:
            return
        self._run(given_batch(self.examples, rows, place=place) for place, rows in missing)

    def read_own(self, batches: Sequence[Batch]) -> None:
        """Run the teacher over what the student wrote, in one stage, and keep what it found until it is asked for."""
        self._run(batches)

    def _run(self, batches: Iterable[Batch]) -> None:
        with self.open_stage() as stage:
            stage.add(tokens=0)  # a rank may have nothing to read, which is known
            if self._model is None:
                self._model = self.load().eval()
                self._weight_VD = head_weight(self._model).detach()[: self.rows].to(self.place)
            for batch in batches:
                # not inference mode: what is made there can be no operand of a training step
                with torch.no_grad():
                    states_BTD = hidden_states(self._model, batch.ids_BT.to(self._model.device), batch.positions_BT)
                self._kept[batch.place] = states_BTD.to(self.place)
                stage.add(tokens=batch.tokens)

    def take(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Hidden states [B, T, D] of a microbatch that was read, which are then let go of, and the output matrix."""
        assert self._weight_VD is not None  # `read` comes first
        return self._kept.pop(batch.place), self._weight_VD
