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
    """Learning rate of a step, counted from 0: a linear warm-up, then as the schedule says (method.md, eq. 47a).

    A function of the step alone, so a resumed run goes on exactly where it was.
    """
    if step < train.warmup_steps:
        return train.learning_rate * (step + 1) / train.warmup_steps
    done = max(0.0, step - _falls_from(train, steps)) / max(1.0, steps - _falls_from(train, steps))
    falls = {"constant": lambda _: 1.0, "cosine": _along_a_cosine, "linear": _along_a_line, "wsd": _along_a_line}
    if train.schedule not in falls:
        raise StillwattError(f"train.schedule {train.schedule!r}; known: {', '.join(falls)}")
    share = falls[train.schedule](done)
    return train.learning_rate * (train.final_rate_share + (1.0 - train.final_rate_share) * share)


def _falls_from(train: TrainSpec, steps: int) -> float:
    """The step after which the rate falls; of `wsd` the decay's first, but not before the warm-up is over."""
    if train.schedule != "wsd" or train.decay_share is None:
        return float(train.warmup_steps)
    # as for a checkpoint, the decimal share is what is meant
    return max(float(train.warmup_steps), steps - math.ceil(round(train.decay_share * steps, 6)))


def _along_a_cosine(done: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * done))


def _along_a_line(done: float) -> float:
    return 1.0 - done


def curve_of(losses: Sequence[float], most: int = CURVE_POINTS) -> list[float]:
    """A training's losses on its stage's record: of every step, or the means of `most` equal spans of a long one.

    >>> curve_of([3.0, 2.0, 1.0])
    [3.0, 2.0, 1.0]
    >>> curve_of([4.0, 2.0, 1.0, 1.0], most=2)
    [3.0, 1.0]
    """
    spans = np.array_split(np.asarray(losses, dtype=np.float64), min(most, len(losses)) or 1)
    return [float(span.mean()) for span in spans if span.size]
