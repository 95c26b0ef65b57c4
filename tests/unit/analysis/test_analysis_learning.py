"""Quality against tokens: laws of the curve, its doubt, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stillwatt.analysis.costs.posterior import Floats
from stillwatt.analysis.learning import Asked, LearningCurve, why_undetermined
from stillwatt.records.advice import Scored
from synthetic_worlds import CURVE_WORLDS, CurveWorld, curve_coverage


def scored(tokens: float, quality: float, **changes: Any) -> Scored:
    """One score of one student."""
    made = Scored(
        method="kd", student="one", settings="a", tokens=tokens, quality=quality, se=None, place=f"run{tokens:g}"
    )
    return replace(made, **changes)


def curve_of(tokens: float) -> float:
    """A curve that is a power law."""
    return 0.9 - 0.3 * float((tokens / 1e5) ** -0.5)


SEEN = [scored(n, curve_of(n)) for n in (1e5, 2e5, 4e5, 8e5)]


def asked(tokens: float, settings: str = "a", student: str = "one") -> Asked:
    return Asked(student=student, settings=settings, tokens=tokens)


def test_more_tokens_never_make_it_worse_and_it_saturates() -> None:
    budgets = [5e4, 1e5, 1e6, 1e7, 1e9]
    means = LearningCurve(SEEN, [asked(n) for n in budgets]).draws(seed=1)[1]
    assert (np.diff(means, axis=1) >= 0.0).all()
    last = np.median(means, axis=0)
    assert last[-1] - last[-2] < last[1] - last[0]


def test_doubt_grows_with_the_distance_and_with_what_is_new() -> None:
    questions = [asked(4e5), asked(4e6), asked(4e5, settings="new"), asked(4e5, settings="new", student="other")]
    means = LearningCurve(SEEN, questions).draws(seed=1)[1]
    widths = np.ptp(np.quantile(means, (0.025, 0.975), axis=0), axis=0)
    assert widths[0] < widths[1]
    assert widths[0] < widths[2] < widths[3]


def test_items_move_all_scores_alike_and_widen_the_answer() -> None:
    sharp = LearningCurve(SEEN, [asked(4e5)]).draws(seed=1)[0]
    blunt = LearningCurve([replace(s, se=0.1) for s in SEEN], [asked(4e5)]).draws(seed=1)[0]
    assert float(blunt.std()) > 2.0 * float(sharp.std())


def test_a_ceiling_is_not_passed() -> None:
    found, means = LearningCurve(SEEN, [asked(1e9)], ceiling=0.8).draws(seed=1)
    assert float(found.max()) <= 0.8
    assert float(means.max()) <= 0.8


def test_left_out_scores_are_found_again() -> None:
    error = LearningCurve(SEEN, []).leave_one_out()
    assert error is not None
    assert error.points == 4
    assert error.median_error < 0.1
    assert LearningCurve(SEEN[:1], []).leave_one_out() is None


def test_too_few_scores_draw_no_curve() -> None:
    assert why_undetermined(SEEN) == ""
    assert "3 scores at 3 token budgets" in why_undetermined(SEEN[:3])
    assert "undetermined" in why_undetermined([SEEN[0]] * 9)


@pytest.mark.parametrize(
    "scores",
    [[], [scored(1e5, math.nan)], [scored(1e5, math.inf)], [scored(0.0, 0.5)]],
    ids=["none", "nan", "inf", "0"],
)
def test_what_is_no_score_is_refused(scores: list[Scored]) -> None:
    with pytest.raises(ValueError, match="finite numbers"):
        LearningCurve(scores, [])


@pytest.mark.parametrize("world", CURVE_WORLDS[:4], ids=lambda world: world.name)
def test_intervals_hold_one_more_training(world: CurveWorld) -> None:
    """Of 40 at 95 %, 33 and fewer come once in 300 times; the long form is `benchmarks/proof_advice.py`."""
    assert curve_coverage(world, studies=40, seed=20261126) > 33 / 40


def test_methods_are_in_doubt_apart_and_share_their_items() -> None:
    """Two methods that scored alike may yet be unlike: with one seed their draws must not move together."""

    def drawn(method: str, se: float | None) -> tuple[Floats, Floats]:
        scores = [
            Scored(method=method, student="", settings="", tokens=tokens, quality=0.5, se=se, place="run")
            for tokens in (1e5, 2e5)
        ]
        return LearningCurve(scores, [Asked(student="", settings="", tokens=1e6)]).draws(seed=3)

    means = np.hstack([drawn(method, None)[1] for method in ("sft", "kd")])
    assert abs(np.corrcoef(means.T).flat[1]) < 0.1
    # items of an error far above everything else: both methods were scored on the same ones
    quality = np.hstack([drawn(method, 10.0)[0] for method in ("sft", "kd")])
    assert np.corrcoef(quality.T).flat[1] > 0.9
