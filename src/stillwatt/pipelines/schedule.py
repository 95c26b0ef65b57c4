"""What a training does over its steps: its learning rate, and what is kept of its losses."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from stillwatt.errors import StillwattError
from stillwatt.pipelines.spec import TrainSpec

__all__ = ["CURVE_POINTS", "curve_of", "learning_rate"]

CURVE_POINTS = 64
"""So many means at most stand for the losses of an increment."""


def learning_rate(train: TrainSpec, step: int, steps: int) -> float:
    """Learning rate of a step, counted from 0: linear warm-up, then constant or a cosine to 0 after the last step.

    A function of the step alone, so a resumed run goes on exactly where it was.
    """
    if step < train.warmup_steps:
        return train.learning_rate * (step + 1) / train.warmup_steps
    if train.schedule == "constant":
        return train.learning_rate
    if train.schedule != "cosine":
        raise StillwattError(f"train.schedule {train.schedule!r}; known: constant, cosine")
    done = (step - train.warmup_steps) / max(1, steps - train.warmup_steps)
    return train.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))


def curve_of(losses: Sequence[float], most: int = CURVE_POINTS) -> list[float]:
    """A training's losses on its stage's record: of every step, or the means of `most` equal spans of a long one.

    >>> curve_of([3.0, 2.0, 1.0])
    [3.0, 2.0, 1.0]
    >>> curve_of([4.0, 2.0, 1.0, 1.0], most=2)
    [3.0, 1.0]
    """
    spans = np.array_split(np.asarray(losses, dtype=np.float64), min(most, len(losses)) or 1)
    return [float(span.mean()) for span in spans if span.size]
