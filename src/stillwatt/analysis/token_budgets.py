"""How far a training was meant to go: what its recipe gives it, not what came of that (method.md, eq. 146)."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from stillwatt.records.finding import ArmPoint, Study
from stillwatt.records.run import RunRecord


def token_budget(run: RunRecord, study: Study, point: ArmPoint) -> float | None:
    """Tokens that an arm was given up to a checkpoint (method.md, eq. 146); None where nobody says or counted.

        n = n_recipe c                                                                                     [tokens]

    with c the checkpoint's share, that of the last one where the arm's own budget ended it: seeds that end at another
    step are repeats all the same. Where the run's budget, which is no arm's, cut it short, n is what it used. Where no
    recipe says, n is the mean over the run's trainings of that arm, and none of one that its own budget ended.
    """
    asked = _number(run.settings.get("data"), "train_tokens")
    if asked is None:
        if point.stop is not None and point.stop.is_own:
            return None
        known = list(_tokens_of_seeds(study, point))
        return statistics.fmean(known) if known else None
    if point.stop is None:
        return asked * point.budget_share
    return asked * _last_share(run) if point.stop.is_own else point.tokens


def budget_beside_tokens(run: RunRecord, point: ArmPoint) -> tuple[Any, ...] | None:
    """What an arm may take in joules, seconds or tokens, its own or that of each arm; None where it may take all.

    As the recipe writes it, with whose share of the teacher's work is in it.
    """
    budgets = run.settings.get("budgets")
    shared = budgets if isinstance(budgets, Mapping) else {}
    arms = run.settings.get("arms")
    named = [arm for arm in arms if isinstance(arm, Mapping)] if isinstance(arms, list) else []
    own = next((arm.get("budget") for arm in named if arm.get("name") == point.name), None)
    said = own or shared.get("each_arm")
    if said is None and point.stop is not None and point.stop.is_own:
        said = point.stop.said  # of a run whose recipe is not there
    return None if said is None else (said, *sorted((key, shared[key]) for key in shared if key != "each_arm"))


def _tokens_of_seeds(study: Study, point: ArmPoint) -> Iterator[float]:
    what = (point.name, point.student, point.method, point.checkpoint)
    for other in study.final_points:
        if (other.name, other.student, other.method, other.checkpoint) == what and other.tokens is not None:
            yield other.tokens


def _last_share(run: RunRecord) -> float:
    train = run.settings.get("train")
    shares = train.get("checkpoints") if isinstance(train, Mapping) else None
    return float(shares[-1]) if isinstance(shares, list) and shares else 1.0


def _number(table: Any, name: str) -> float | None:
    said = table.get(name) if isinstance(table, Mapping) else None
    return float(said) if isinstance(said, int | float) else None
