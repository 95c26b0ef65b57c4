"""Sums and ratios of seeds: their intervals and verdicts (method.md, eqs. 29 and 30)."""

from __future__ import annotations

import math
import statistics
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillwatt.analysis.breakeven import Estimate, ratio_interval
from stillwatt.analysis.contrast import Contrast, Evidence, combine, judge, ratio_of, student_t
from stillwatt.errors import MissingExtraError
from stillwatt.records.comparison import Ratio
from stillwatt.records.finding import Verdict

T_2 = 4.302652729911275
"""97.5 % quantile of Student's t with two degrees of freedom, from tables."""


def contrast(
    extra: float, saving: float, *, h_extra: float = 0.0, h_saving: float = 0.0, shared: float = 0.0
) -> Contrast:
    return Contrast(numerator=extra, denominator=saving, h_nn=h_extra**2, h_nd=shared, h_dd=h_saving**2)


def verdict_of(found: Contrast) -> Ratio:
    return judge(found, unit="student", against="sft")


def test_three_seeds_by_hand() -> None:
    found = combine([Evidence(pairs=((10.0, 1.0), (11.0, 1.2), (12.0, 0.8)), known_dd=0.25)])
    assert [found.numerator, found.denominator] == pytest.approx([11.0, 1.0])
    assert found.extra.random == pytest.approx(T_2 * 1.0 / math.sqrt(3.0))
    assert found.h_dd == pytest.approx((T_2 * 0.2) ** 2 / 3.0 + 0.25)
    # deviations (-1, 0, 1) and (0, 0.2, -0.2)
    assert found.h_nd == pytest.approx(T_2**2 * -0.2 / 6.0)


def test_independent_evidence_brings_its_own_quantile() -> None:
    two, five = [3.0, 5.0], [1.0, 2.0, 3.0, 4.0, 5.0]
    found = combine([Evidence(pairs=tuple((x, 0.0) for x in xs)) for xs in (two, five)])
    squares = [student_t(len(xs) - 1) ** 2 * statistics.variance(xs) / len(xs) for xs in (two, five)]
    assert found.h_nn == pytest.approx(sum(squares))


def test_one_seed_has_what_is_known_and_nothing_else() -> None:
    found = combine([Evidence(pairs=((11.0, 1.0),), known_nn=4.0, known_nd=1.0, known_dd=9.0)])
    assert (found.h_nn, found.h_nd, found.h_dd) == (4.0, 1.0, 9.0)


def test_without_scipy_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    with pytest.raises(MissingExtraError, match=r"stillwatt\[analysis\]"):
        student_t.__wrapped__(3)


amounts = st.floats(-20.0, 20.0).map(lambda x: round(x, 2))
widths = st.floats(0.0, 10.0).map(lambda x: round(x, 2))


@settings(deadline=None, max_examples=300)
@given(amounts, amounts, widths, widths, st.floats(-1.0, 1.0).map(lambda x: round(x, 1)))
def test_a_ratio_is_in_the_set_if_and_only_if_it_fits(n: float, d: float, h_n: float, h_d: float, r: float) -> None:
    """Fieller's set by trying ratios; the hull where it has two pieces."""
    shared = r * h_n * h_d
    interval = ratio_interval(Estimate(value=n, random=h_n), Estimate(value=d, random=h_d), shared=shared)
    for rho in [0.0, *(10.0 ** (k / 8.0) for k in range(-24, 25))]:
        slack = h_n**2 - 2.0 * rho * shared + rho**2 * h_d**2 - (n - rho * d) ** 2
        if slack > 1e-6 * (1.0 + rho**2):
            assert interval is not None
            assert interval.low <= rho * (1.0 + 1e-6) + 1e-6
            assert interval.high is None or rho <= interval.high * (1.0 + 1e-6) + 1e-6


def test_what_is_shared_by_both_makes_a_narrower_ratio() -> None:
    apart, together = (ratio_of(contrast(11.0, 1.1, h_extra=2.0, h_saving=0.2, shared=s)) for s in (0.0, 0.39))
    assert apart is not None
    assert together is not None
    assert apart.low < together.low < together.high < apart.high  # type: ignore[operator]


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (contrast(11.0, 1.1, h_saving=0.2), Verdict.VALUE),
        (contrast(1.0, 4.0, h_saving=1.0), Verdict.ALWAYS),
        (contrast(0.0, 4.0, h_saving=1.0), Verdict.ALWAYS),
        (contrast(11.0, 1.1, h_saving=1.2), Verdict.UNDETERMINED),
        (contrast(11.0, -1.1, h_saving=1.2), Verdict.UNDETERMINED),
        (contrast(11.0, -1.1, h_saving=1.0), Verdict.NEVER),
        (contrast(11.0, 0.0), Verdict.NEVER),
    ],
)
def test_verdicts(found: Contrast, verdict: Verdict) -> None:
    assert verdict_of(found).verdict is verdict


def test_undetermined_still_gives_what_is_known() -> None:
    found = verdict_of(contrast(11.0, 1.1, h_saving=1.2))
    assert found.value == pytest.approx(10.0)
    assert found.low == pytest.approx(11.0 / 2.3)
    assert found.high is None
    negative = verdict_of(contrast(11.0, -1.1, h_saving=1.2))
    assert negative.value is None
    assert negative.low == pytest.approx(110.0)


def test_a_teacher_that_took_less_than_nothing_is_repaid_at_once() -> None:
    """Only noise makes it negative; no negative number of students is told."""
    found = verdict_of(contrast(-5.0, 2.0, h_extra=1.0, h_saving=0.5))
    assert (found.value, found.low, found.high, found.verdict) == (0.0, 0.0, 0.0, Verdict.ALWAYS)
