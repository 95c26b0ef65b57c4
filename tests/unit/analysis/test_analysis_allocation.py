"""Shares of the teacher's work."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatt.analysis.allocation import (
    MARGINAL,
    ONE_OFF,
    TOKENS,
    choose_allocations,
    reuse,
    teacher_share,
    token_shares,
)
from stillwatt.records.allocation import Allocation, AllocationKind


@given(st.integers(min_value=1, max_value=10_000))
def test_shares_of_n_students_sum_to_one(students: int) -> None:
    share = teacher_share(reuse(students), None)
    assert share is not None
    assert math.isclose(share * students, 1.0, rel_tol=1e-12)


@given(st.dictionaries(st.text(min_size=1), st.floats(min_value=0.0, max_value=1e12), min_size=1))
def test_shares_by_tokens_sum_to_one(tokens: dict[str, float]) -> None:
    shares = token_shares(dict(tokens))
    if sum(tokens.values()) == 0.0:
        assert shares is None
    else:
        assert shares is not None
        assert math.isclose(math.fsum(shares.values()), 1.0, rel_tol=1e-9)
        assert all(teacher_share(TOKENS, share) == share for share in shares.values())


def test_one_off_bears_all_and_marginal_nothing() -> None:
    assert (teacher_share(ONE_OFF, 0.3), teacher_share(MARGINAL, 0.3)) == (1.0, 0.0)


def test_uncounted_tokens_have_no_shares() -> None:
    assert token_shares({"kd": 10.0, "other": None}) is None
    assert teacher_share(TOKENS, None) is None


@given(st.lists(st.integers(min_value=1, max_value=50)), st.lists(st.integers(min_value=1, max_value=9)))
def test_one_off_and_marginal_are_always_shown_and_the_actual_reuse_too(asked: list[int], consumers: list[int]) -> None:
    labels = [allocation.label for allocation in choose_allocations(asked, consumers)]
    most = max(consumers, default=0)
    assert labels[0] == "one-off"
    assert labels[-1] == "marginal"
    assert len(set(labels)) == len(labels)
    assert (f"reuse:{most}" in labels) == (most > 1)
    assert ("tokens" in labels) == (most > 1)
    assert all(f"reuse:{n}" in labels for n in asked if n > 1)


@pytest.mark.parametrize(
    ("kind", "students"), [(AllocationKind.REUSE, None), (AllocationKind.ONE_OFF, 3), (AllocationKind.REUSE, 0)]
)
def test_an_allocation_refuses_a_number_that_means_nothing(kind: AllocationKind, students: int | None) -> None:
    with pytest.raises(ValueError, match=r"N belongs|at least one"):
        Allocation(kind=kind, students=students)
