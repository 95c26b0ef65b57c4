"""Effects and their tail probabilities: the same as the intervals say, and as Student's test says."""

from __future__ import annotations

import math
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from observations import seeds
from stillwatt.analysis.contrast import Evidence, combine
from stillwatt.analysis.effects import Effect, effect_of, tail
from stillwatt.analysis.trainings import Term, gather_labels
from stillwatt.errors import MissingExtraError
from stillwatt.records.comparison import Observation
from stillwatt.records.energy import NoTotal

numbers = st.integers(-50, 50).map(lambda n: n / 7.0)
pairs = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=5).map(tuple)
evidences = st.lists(st.builds(Evidence, pairs=pairs, known_nn=st.sampled_from([0.0, 0.25])), min_size=1, max_size=3)


def gap(one: list[float], two: list[float], *, named_alike: bool = True) -> Effect:
    rows = seeds("kd-1b", [5.0] * len(one), quality=one)
    rows += seeds("sft-1b", [6.0] * len(two), quality=two, first=1 if named_alike else 50)
    kd, sft = gather_labels(rows)
    found = effect_of(
        [Term(label=kd, numerator={"quality": 1.0}), Term(label=sft, numerator={"quality": -1.0})], 0.1, is_ratio=False
    )
    assert isinstance(found, Effect)
    return found


@settings(deadline=None, max_examples=200)
@given(evidences, numbers)
def test_a_tail_is_below_one_fortieth_exactly_where_the_interval_leaves_the_bound_out(
    evidence: list[Evidence], bound: float
) -> None:
    found = combine(evidence)
    half_width = math.sqrt(found.h_nn)
    distance = found.numerator - bound
    if abs(abs(distance) - half_width) < 1e-6:
        return
    p = tail(evidence, lambda n, d: n, bound)
    assert (p < 0.025) == (distance > half_width)
    assert (p > 0.975) == (-distance > half_width)


@settings(deadline=None, max_examples=100)
@given(evidences, numbers, numbers)
def test_a_tail_falls_as_the_bound_does(evidence: list[Evidence], one: float, two: float) -> None:
    low, high = sorted((one, two))
    assert tail(evidence, lambda n, d: n, low) <= tail(evidence, lambda n, d: n, high) + 1e-12


def test_paired_seeds_give_students_test() -> None:
    one, two = [0.71, 0.73, 0.78], [0.70, 0.69, 0.72]
    found = gap(one, two)
    wanted = stats.ttest_rel(one, two, alternative="greater").pvalue
    assert found.p_above(0.0) == pytest.approx(wanted)
    assert found.p_below(0.0) == pytest.approx(1.0 - wanted)
    assert found.seeds == 3
    assert found.value == pytest.approx(0.0366667, rel=1e-4)


def test_unpaired_seeds_are_no_surer_than_welch() -> None:
    one, two = [0.71, 0.73, 0.78], [0.70, 0.69, 0.72]
    found = gap(one, two, named_alike=False)
    assert found.p_above(0.0) >= stats.ttest_ind(one, two, equal_var=False, alternative="greater").pvalue


def test_a_ratio_lies_above_its_bound_as_its_interval_says() -> None:
    kd, sft = gather_labels([*seeds("kd-1b", [9.0, 10.0, 12.0]), *seeds("sft-1b", [5.0, 5.2, 5.1])])
    found = effect_of(
        [Term(label=kd, numerator={"student_j": 1.0}), Term(label=sft, denominator={"student_j": 1.0})],
        0.1,
        is_ratio=True,
    )
    assert isinstance(found, Effect)
    low, high = found.interval
    assert low is not None
    assert high is not None
    assert found.p_above(low) == pytest.approx(0.025)
    assert found.p_below(high) == pytest.approx(0.025)


def test_rounded_seeds_that_agree_are_no_certainty() -> None:
    found = gap([0.71, 0.72], [0.70, 0.71])
    assert found.seeds == 1
    assert found.interval == (None, None)
    assert found.p_above(0.0) == 0.0


def test_no_difference_is_even_odds() -> None:
    assert gap([0.7, 0.8], [0.8, 0.7]).p_above(0.0) == 0.5


def test_a_ratio_to_nothing_has_no_value() -> None:
    rows: list[Observation] = [*seeds("kd-1b", [5.0, 5.5]), *seeds("sft-1b", [2.0, 2.6])]
    kd, sft = gather_labels(rows)
    terms = [
        Term(label=kd, numerator={"teacher_j": 1.0}, denominator={"student_j": -1.0}),
        Term(label=sft, denominator={"student_j": 1.0}),
    ]
    found = effect_of(terms, 0.1, is_ratio=True)
    assert isinstance(found, Effect)
    assert found.value is None
    assert found.interval == (None, None)
    assert found.p_above(1.0) < 0.025


def test_what_is_unknown_is_no_effect() -> None:
    (kd,) = gather_labels(seeds("kd-1b", [5.0], quality=None))
    found = effect_of([Term(label=kd, numerator={"quality": 1.0})], 0.1, is_ratio=False)
    assert found == NoTotal(reason="the quality of kd-1b is unknown")


def test_an_artefact_that_was_made_once_is_one_draw() -> None:
    kd, syn = gather_labels([*seeds("kd-1b", [5.0, 5.5]), *seeds("syn-1b", [4.0, 4.2], teacher_j=[9.0, 10.0])])
    terms = [Term(label=kd, numerator={"teacher_j": 1.0}), Term(label=syn, denominator={"teacher_j": 1.0})]
    found = effect_of(terms, 0.1, is_ratio=True)
    assert isinstance(found, Effect)
    assert found.seeds == 1


def test_without_scipy_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(MissingExtraError, match=r"stillwatt\[analysis\]"):
        tail([Evidence(pairs=((1.0, 0.0), (2.0, 0.0)))], lambda n, d: n, 0.0)
