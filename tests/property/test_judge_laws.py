"""Laws of judged scores, for any judge that gives the first of two answers some probability."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from stillwatt.errors import StillwattError
from stillwatt.pipelines.judge_scores import Duel, Reading, flip_share, grade, mean_grade, win_rate
from stillwatt.pipelines.rubrics import Rubric

SHARE = st.floats(0.0, 1.0)
READINGS = st.lists(st.tuples(SHARE, SHARE), min_size=2, max_size=40)
"""For each question: the probability of A with the own answer first, and of A with it second."""


def duels(readings: list[tuple[float, float]]) -> list[Duel]:
    return [Duel(own_first=first, own_second=1.0 - second) for first, second in readings]


@given(READINGS)
def test_exchanging_the_sides_gives_the_complement_with_the_same_error(readings: list[tuple[float, float]]) -> None:
    own, other = duels(readings), duels([(second, first) for first, second in readings])
    mine, theirs = win_rate(own), win_rate(other)
    assert theirs.value == pytest.approx(1.0 - mine.value, abs=1e-12)
    assert theirs.se == pytest.approx(mine.se, abs=1e-12)
    assert flip_share(other) == flip_share(own)


@given(st.lists(st.floats(0.501, 1.0), min_size=2, max_size=40))
def test_a_judge_of_positions_gives_a_half_and_flips_always(leanings: list[float]) -> None:
    found = duels([(leaning, leaning) for leaning in leanings])
    assert win_rate(found).value == pytest.approx(0.5, abs=1e-12)
    assert win_rate(found).se == pytest.approx(0.0, abs=1e-12)
    assert flip_share(found) == 1.0


@given(READINGS, st.randoms(use_true_random=False))
def test_the_order_of_the_questions_changes_nothing(
    readings: list[tuple[float, float]], shuffler: random.Random
) -> None:
    shuffled = shuffler.sample(readings, len(readings))
    assert win_rate(duels(shuffled)) == win_rate(duels(readings))
    assert flip_share(duels(shuffled)) == flip_share(duels(readings))


@example([(0.0, 1.0), (0.25, 0.375)], 2)
@given(READINGS, st.integers(2, 30))
def test_the_error_falls_as_one_over_the_root_of_the_questions(readings: list[tuple[float, float]], times: int) -> None:
    one, many = win_rate(duels(readings)), win_rate(duels(readings * times))
    sampled = abs(4.0 * one.value - 2.0) / (one.n + 4) < one.se
    assume(sampled and one.se > 1e-6)
    assert many.value == pytest.approx(one.value, abs=1e-12)
    least = abs(4.0 * many.value - 2.0) / (many.n + 4)  # falls more slowly, as long as questions are few
    assert many.se == pytest.approx(max(one.se * math.sqrt((one.n - 1) / (times * one.n - 1)), least), rel=1e-9)


@given(st.integers(2, 500), st.booleans())
def test_unanimous_verdicts_are_no_certainty(count: int, is_own: bool) -> None:
    found = win_rate([Duel(own_first=float(is_own), own_second=float(is_own))] * count)
    assert found.value == float(is_own)
    assert found.se == pytest.approx(2.0 / (count + 4))


def test_nineteen_of_twenty_intervals_hold_the_rate_that_the_questions_are_drawn_from() -> None:
    rng = random.Random(5)
    held = 0
    for _ in range(1_000):
        # verdicts that lean by question, with both orders of one question alike
        found = win_rate([Duel(own_first=p, own_second=p) for p in (rng.betavariate(2.0, 3.0) for _ in range(60))])
        held += abs(found.value - 0.4) <= 1.96 * found.se
    assert 930 <= held <= 970


@given(st.lists(st.lists(st.floats(0.01, 1.0), min_size=5, max_size=5), min_size=2, max_size=20))
def test_turning_the_grades_round_turns_the_mean_round(weights: list[list[float]]) -> None:
    def mean(turn: int) -> tuple[float, float]:
        readings = [
            Reading(shares=tuple(w / math.fsum(row) for w in row)[::turn], mass=0.5, tokens=9) for row in weights
        ]
        found = mean_grade([grade(each) for each in readings], best=5)
        return found.value, found.se

    (value, se), (turned, turned_se) = mean(1), mean(-1)
    assert 1.0 <= value <= 5.0
    assert turned == pytest.approx(6.0 - value)
    assert turned_se == pytest.approx(se, abs=1e-9)


@given(st.text(), st.text(), st.text())
def test_what_an_answer_holds_is_never_a_place(question: str, first: str, second: str) -> None:
    rubric = Rubric(name="r", text="{question}\x1f{answer_a}\x1f{answer_b}")
    filled = rubric.fill(question=question + "{answer_b}", answer_a=first + "{question}", answer_b=second)
    assert filled == f"{question}{{answer_b}}\x1f{first}{{question}}\x1f{second}"


def test_one_question_has_no_error_and_no_score() -> None:
    with pytest.raises(StillwattError, match=r"raise evaluate\.judge\.prompts"):
        win_rate([Duel(own_first=0.5, own_second=0.5)])


@pytest.mark.parametrize(("shares", "mass"), [((0.5, 0.4), 1.0), ((math.nan, 1.0), 1.0), ((0.5, 0.5), math.nan)])
def test_what_is_no_probability_is_refused(shares: tuple[float, ...], mass: float) -> None:
    with pytest.raises(StillwattError, match="the judge gives no probabilities"):
        Reading(shares=shares, mass=mass, tokens=1)
