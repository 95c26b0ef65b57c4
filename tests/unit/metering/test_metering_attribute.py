from __future__ import annotations

import pytest

from stillwatt.metering.attribute import WeightedSpan, WeightedWindow, ancestors, exclusive_windows
from stillwatt.records import StageWindow


def stage(stage_id: str, start_ns: int, end_ns: int, parent_id: str | None = None) -> StageWindow:
    return StageWindow(session="one", stage_id=stage_id, parent_id=parent_id, start_ns=start_ns, end_ns=end_ns)


def test_a_parent_keeps_what_its_children_leave() -> None:
    owned = exclusive_windows([stage("a", 10, 50), stage("b", 20, 30, "a")], 0, 60)
    assert owned == {
        None: (WeightedWindow(0, 10), WeightedWindow(50, 60)),
        "a": (WeightedWindow(10, 20), WeightedWindow(30, 50)),
        "b": (WeightedWindow(20, 30),),
    }


def test_stages_side_by_side_share_equally() -> None:
    owned = exclusive_windows([stage("a", 0, 20), stage("b", 10, 30)], 0, 30)
    assert owned["a"] == (WeightedWindow(0, 10), WeightedWindow(10, 20, 0.5))
    assert owned["b"] == (WeightedWindow(10, 20, 0.5), WeightedWindow(20, 30))
    assert owned[None] == ()


def test_a_child_that_outlives_its_parent_keeps_its_time() -> None:
    owned = exclusive_windows([stage("a", 0, 10), stage("b", 5, 20, "a")], 0, 20)
    assert owned["a"] == (WeightedWindow(0, 5),)
    assert owned["b"] == (WeightedWindow(5, 20),)


def test_time_goes_to_a_grandchild_even_where_its_own_parent_is_over() -> None:
    owned = exclusive_windows([stage("a", 0, 30), stage("b", 0, 10, "a"), stage("c", 5, 20, "b")], 0, 30)
    assert owned["b"] == (WeightedWindow(0, 5),)
    assert owned["c"] == (WeightedWindow(5, 20),)
    assert owned["a"] == (WeightedWindow(20, 30),)


def test_stages_are_clipped_to_the_session_and_empty_ones_own_nothing() -> None:
    owned = exclusive_windows([stage("a", 0, 100), stage("b", 30, 30), stage("c", 90, 95)], 20, 40)
    assert owned == {None: (), "a": (WeightedWindow(20, 40),), "b": (), "c": ()}


def test_a_session_of_no_length_has_no_windows() -> None:
    assert exclusive_windows([stage("a", 5, 5)], 5, 5) == {None: (), "a": ()}


def test_a_session_cannot_end_before_it_starts() -> None:
    with pytest.raises(ValueError, match="cannot end"):
        exclusive_windows([], 2, 1)


def test_two_stages_with_one_id_are_refused() -> None:
    with pytest.raises(ValueError, match="same id"):
        exclusive_windows([stage("a", 0, 1), stage("a", 1, 2)], 0, 2)


def test_a_circle_of_parents_ends() -> None:
    assert ancestors([stage("a", 0, 1, "b"), stage("b", 0, 1, "a"), stage("c", 0, 1, "lost")]) == {
        "a": ("b",),
        "b": ("a",),
        "c": (),
    }


def test_sessions_share_as_told_and_a_sessions_stages_equally() -> None:
    teacher = StageWindow(session="teacher", stage_id="t", parent_id=None, start_ns=0, end_ns=40)
    students = [
        StageWindow(session="student", stage_id=f"s{number}", parent_id=None, start_ns=10, end_ns=40)
        for number in (1, 2)
    ]
    told = [WeightedSpan(0, 30, (("teacher", 3.0), ("student", 1.0), ("stranger", 9.0)))]
    owned = exclusive_windows([teacher, *students], 0, 40, told)
    assert owned["t"] == (WeightedWindow(0, 10), WeightedWindow(10, 30, 0.75), WeightedWindow(30, 40, 1 / 3))
    assert owned["s1"] == owned["s2"] == (WeightedWindow(10, 30, 0.125), WeightedWindow(30, 40, 1 / 3))


def test_a_session_told_to_have_nothing_has_nothing_unless_nobody_has() -> None:
    stages = [StageWindow(session=name, stage_id=name, parent_id=None, start_ns=0, end_ns=20) for name in "ab"]
    owned = exclusive_windows(
        stages, 0, 20, [WeightedSpan(0, 10, (("a", 1.0), ("b", 0.0))), WeightedSpan(10, 20, (("c", 1.0),))]
    )
    assert owned["a"] == (WeightedWindow(0, 10), WeightedWindow(10, 20, 0.5))
    assert owned["b"] == (WeightedWindow(10, 20, 0.5),)


def test_what_was_told_of_other_times_changes_nothing() -> None:
    stages = [StageWindow(session=name, stage_id=name, parent_id=None, start_ns=0, end_ns=20) for name in "xy"]
    told = [WeightedSpan(20, 30, (("x", 1.0), ("y", 0.0))), WeightedSpan(-5, 0, (("x", 0.0), ("y", 1.0)))]
    assert exclusive_windows(stages, 0, 20, told) == exclusive_windows(stages, 0, 20)
