"""What of an arm is done again when its run goes on: increments whose checkpoint was damaged in the meantime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillwatt.pipelines.bench import Bench
from stillwatt.pipelines.checkpoint import damage_of

__all__ = ["Again", "checkpoint_dir", "evaluation_name", "find_damaged", "training_name"]


def training_name(arm: str, share: float) -> str:
    """The stage that trains an arm up to a share of its text."""
    return f"train.{arm}.{float(share)}"


def evaluation_name(arm: str, share: float) -> str:
    """The stage that scores an arm there."""
    return f"evaluate.{arm}.{float(share)}"


def checkpoint_dir(bench: Bench, name: str, share: float) -> Path:
    """Where an arm's checkpoint at that share of the budget lies."""
    return bench.state.folder("checkpoints") / name / str(float(share))


@dataclass(frozen=True, slots=True)
class Again:
    """An increment that is run again."""

    share: float
    before: Mapping[str, Any]
    """What its training found, the first time."""

    def is_same(self, results: Mapping[str, Any]) -> bool:
        """Whether it came to the same this time, so that what was scored then is what lies there now."""
        return all(results.get(key) == self.before.get(key) for key in ("tokens_total", "loss_last"))


def find_damaged(bench: Bench, arm: str, shares: Sequence[float]) -> tuple[Again, ...]:
    """The increments of an arm that must run again, in order; their marks are taken away, and it is said why.

    Only the checkpoint that is needed next is looked at: where it is damaged, the one before it, where that is still
    kept, and so on to the start. The stages that had made them stay on the books, as lost.
    """
    return bench.ranks.of_first(lambda: tuple(_find(bench, arm, shares))[::-1])


def _find(bench: Bench, arm: str, shares: Sequence[float]) -> Iterator[Again]:
    done: list[Again] = []
    for share in shares:
        results = bench.state.finished(training_name(arm, share))
        if results is None:
            break
        done.append(Again(share, results))
    if not done or not _is_needed(bench, arm, done[-1], shares[-1]):
        return
    for increment in reversed(done):
        name, directory = training_name(arm, increment.share), checkpoint_dir(bench, arm, increment.share)
        if not directory.exists():
            bench.announce(f"{name} is run again: its checkpoint {directory} is there no more")
        elif (damage := damage_of(directory)) is not None:
            bench.announce(f"{name} is run again: {damage}")
        else:
            return
        bench.state.forget(name)
        yield increment


def _is_needed(bench: Bench, arm: str, last: Again, end: float) -> bool:
    """Whether anything is yet to be made of the last checkpoint there is."""
    is_over = last.share >= end or bool(last.before.get("stopped_by"))
    return not is_over or bench.state.finished(evaluation_name(arm, last.share)) is None
