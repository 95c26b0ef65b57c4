"""Quality relative to the teacher."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatt.analysis.quality import Yardstick, read_scores, relative_quality
from stillwatt.records.finding import NoQuality, Quality, Score


def score(
    value: float, *, task: str = "acc", se: float | None = 0.01, is_higher_better: bool = True, n: int | None = 100
) -> Score:
    return Score(task=task, value=value, se=se, n=n, higher_is_better=is_higher_better)


def quality(student: Sequence[Score], teacher: Sequence[Score]) -> Quality:
    found = relative_quality(student, Yardstick(scores=tuple(teacher)))
    assert isinstance(found, Quality)
    return found


positive = st.floats(min_value=1e-3, max_value=1e3)


@given(st.lists(st.tuples(positive, st.booleans()), min_size=1, max_size=6))
def test_the_teacher_itself_has_quality_one(values: list[tuple[float, bool]]) -> None:
    scores = [score(v, task=f"t{i}", is_higher_better=up) for i, (v, up) in enumerate(values)]
    assert math.isclose(quality(scores, scores).value, 1.0, rel_tol=1e-12)


@given(positive, positive, st.floats(min_value=1.001, max_value=10.0), st.booleans())
def test_a_better_score_is_a_higher_quality(student: float, teacher: float, factor: float, up: bool) -> None:
    better = student * factor if up else student / factor
    reference = [score(teacher, is_higher_better=up)]
    assert quality([score(better, is_higher_better=up)], reference).value > (
        quality([score(student, is_higher_better=up)], reference).value
    )


@given(positive, positive, positive)
def test_quality_does_not_depend_on_the_unit_of_a_score(student: float, teacher: float, unit: float) -> None:
    one = quality([score(student, se=0.1)], [score(teacher, se=0.2)])
    other = quality([score(student * unit, se=0.1 * unit)], [score(teacher * unit, se=0.2 * unit)])
    assert math.isclose(one.value, other.value, rel_tol=1e-9)
    assert one.se is not None
    assert other.se is not None
    assert math.isclose(one.se, other.se, rel_tol=1e-9)


def test_worked_example_of_two_tasks() -> None:
    student = [score(20.0, task="ppl", se=0.4, is_higher_better=False), score(0.6, task="acc", se=0.03)]
    teacher = [score(15.0, task="ppl", se=0.3, is_higher_better=False), score(0.8, task="acc", se=0.02)]
    found = quality(student, teacher)
    assert found.value == pytest.approx((0.75 + 0.75) / 2)
    own_ppl, own_acc = 0.75 * 0.4 / 20.0, 0.03 / 0.8
    assert found.own_se == pytest.approx(math.hypot(own_ppl, own_acc) / 2)
    both = math.hypot(own_ppl, 0.3 / 20.0, own_acc, 0.6 * 0.02 / 0.64)
    assert found.se == pytest.approx(both / 2)
    assert found.left_out == ()


@pytest.mark.parametrize("up", [True, False])
def test_the_error_is_that_of_a_small_change_of_each_score(up: bool) -> None:
    """First-order propagation against a finite difference."""
    step = 1e-6
    base = quality([score(0.7, is_higher_better=up)], [score(0.9, is_higher_better=up)]).value
    by_student = (
        quality([score(0.7 + step, is_higher_better=up)], [score(0.9, is_higher_better=up)]).value - base
    ) / step
    by_teacher = (
        quality([score(0.7, is_higher_better=up)], [score(0.9 + step, is_higher_better=up)]).value - base
    ) / step
    found = quality([score(0.7, se=0.02, is_higher_better=up)], [score(0.9, se=0.03, is_higher_better=up)])
    assert found.own_se == pytest.approx(abs(by_student) * 0.02, rel=1e-4)
    assert found.se == pytest.approx(math.hypot(by_student * 0.02, by_teacher * 0.03), rel=1e-4)


def test_a_score_without_an_error_leaves_the_quality_without_one() -> None:
    found = quality([score(0.7, se=None)], [score(0.9)])
    assert (found.se, found.own_se) == (None, None)
    assert quality([score(0.7)], [score(0.9, se=None)]).se is None


def test_tasks_that_cannot_be_compared_are_named() -> None:
    student = [
        score(0.7),
        score(1.0, task="extra"),
        score(3.0, task="odd"),
        score(0.0, task="ppl", is_higher_better=False),
    ]
    teacher = [
        score(0.9),
        score(1.0, task="gone"),
        score(3.0, task="odd", is_higher_better=False),
        score(2.0, task="ppl", is_higher_better=False),
    ]
    found = quality(student, teacher)
    assert [task.task for task in found.tasks] == ["acc"]
    assert {reason.partition(":")[0] for reason in found.left_out} == {"extra", "gone", "odd", "ppl"}


@pytest.mark.parametrize(
    ("student", "teacher", "reason"),
    [
        ([], [score(1.0)], "no scores"),
        ([score(1.0)], [], "neither teacher nor start was evaluated"),
        ([score(1.0)], [score(0.0)], "acc: the teacher scored 0"),
        ([score(0.0, is_higher_better=False)], [score(2.0, is_higher_better=False)], "acc: the student scored 0"),
        ([score(-1.0)], [score(2.0)], "acc: a score below 0 has no ratio"),
    ],
)
def test_no_quality_says_why(student: list[Score], teacher: list[Score], reason: str) -> None:
    assert relative_quality(student, Yardstick(scores=tuple(teacher))) == NoQuality(reason=reason)
    of_start = Yardstick(scores=tuple(teacher), student="small")
    assert relative_quality(student, of_start) == NoQuality(reason=reason.replace("the teacher", "the start"))


def test_a_student_that_scores_nothing_has_quality_nought() -> None:
    assert quality([score(0.0)], [score(0.5)]).value == 0.0


def test_reading_scores_keeps_numbers_and_drops_the_rest() -> None:
    results = {
        "scores": [
            {"task": "a", "value": 1, "se": 0.1, "n": 32, "higher_is_better": False},
            {"task": "b", "value": 0.5},
            {"task": "c", "value": math.nan},
            {"task": "d", "value": True},
            {"task": "e", "value": "0.5"},
            {"value": 2.0},
            {"task": "train_loss", "value": 1.5, "higher_is_better": False},
        ]
    }
    found = read_scores(results)
    assert [entry.task for entry in found] == ["a", "b", "unnamed"]
    assert (found[0].n, found[0].higher_is_better) == (32, False)
    assert (found[1].se, found[1].n, found[1].higher_is_better) == (None, None, True)
    assert read_scores({}) == ()
