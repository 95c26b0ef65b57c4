"""N*, T* and matched quality: published rows, laws, and honest verdicts."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from stillwatt.analysis.allocation import ONE_OFF
from stillwatt.analysis.breakeven import (
    Estimate,
    RatioInterval,
    break_even,
    matched_quality_break_even,
    ratio_interval,
    reuse_break_even,
    serving_break_even,
)
from stillwatt.records.channel import Basis
from stillwatt.records.energy import NoTotal
from stillwatt.records.finding import (
    AllocatedEnergy,
    ArmPoint,
    Bill,
    BreakEvenKind,
    NoQuality,
    Quality,
    ServingRate,
    Verdict,
)
from stillwatt.units import J_PER_KWH

GONE = NoTotal(reason="the sampler was lost")


def estimate(value: float, random: float = 0.0) -> Estimate:
    return Estimate(value=value, random=random)


def bill(value_j: float, random_j: float = 0.0, systematic_j: float = 0.0) -> Bill:
    return Bill(
        value_j=value_j,
        random_j=random_j,
        systematic_low_j=systematic_j,
        systematic_high_j=systematic_j,
        basis=Basis.MEASURED,
        complete=True,
    )


def quality(value: float, se: float | None = 0.0) -> Quality:
    return Quality(value=value, se=se, own_se=se, tasks=())


def point(student: Bill | NoTotal, teacher: Bill | NoTotal, q: Quality | NoQuality, **changes: Any) -> ArmPoint:
    made = ArmPoint(
        arm="kd",
        name="kd",
        method="kd",
        student="",
        seed="1",
        checkpoint="1.0",
        budget_share=1.0,
        is_final=True,
        tokens=None,
        supervised_tokens=None,
        prepare_energy=bill(0.0),
        teacher_energy=teacher,
        artifact_energy=teacher,
        online_energy=bill(0.0),
        student_energy=student,
        evaluation_energy=bill(0.0),
        other_energy=bill(0.0),
        experimentation_energy=bill(0.0),
        artifacts=(),
        allocated=(AllocatedEnergy(allocation=ONE_OFF, energy=teacher),),
        scores=(),
        quality=q,
    )
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("teacher_kwh", "baseline_kwh", "student_kwh", "published"),
    [(11.00, 6.30, 5.20, 10.0), (11.00, 33.15, 30.05, 3.5), (10.60, 6.30, 5.35, 11.2), (10.60, 33.15, 28.65, 2.4)],
    ids=["KD 1B", "KD 13B", "synthetic 1B", "synthetic 13B"],
)
def test_published_rows(teacher_kwh: float, baseline_kwh: float, student_kwh: float, published: float) -> None:
    arm = point(bill(student_kwh * J_PER_KWH), bill(teacher_kwh * J_PER_KWH), quality(0.7))
    baseline = point(bill(baseline_kwh * J_PER_KWH), bill(0.0), quality(0.7))
    found = reuse_break_even(arm, baseline)
    assert found.verdict is Verdict.VALUE
    assert found.value == pytest.approx(published, abs=0.06)


def test_t_star_by_hand() -> None:
    arm = point(bill(5.0), bill(7200.0), quality(0.7))
    teacher = ServingRate(model="teacher", is_teacher=True, tokens=100.0, duration_s=1.0, energy=bill(300.0))
    student = ServingRate(model="s", is_teacher=False, tokens=50.0, duration_s=1.0, energy=bill(50.0))
    found = serving_break_even(arm, teacher, student)
    assert (found.kind, found.verdict) == (BreakEvenKind.SERVING, Verdict.VALUE)
    assert found.value == pytest.approx(7200.0 / (3.0 - 1.0))


sizes = st.floats(min_value=0.0, max_value=1e6)
values = st.floats(min_value=-1e6, max_value=1e6)


@given(sizes, sizes, values, sizes)
def test_a_break_even_is_never_negative(extra: float, extra_random: float, saving: float, saving_random: float) -> None:
    verdict, value, interval = break_even(estimate(extra, extra_random), estimate(saving, saving_random))
    assert value is None or value >= 0.0
    if interval is not None:
        assert interval.low >= 0.0
        assert interval.high is None or interval.high >= interval.low
    if verdict is Verdict.VALUE:
        assert value is not None
        assert saving - saving_random > 0.0
    if verdict is Verdict.NEVER:
        assert value is None
        assert interval is None


moderate = st.floats(min_value=1e-2, max_value=1e3)
shares = st.floats(min_value=0.0, max_value=2.0)


@given(moderate, shares, moderate, shares, st.floats(min_value=0.0, max_value=1e3))
def test_the_interval_holds_exactly_the_ratios_that_fit(
    n: float, n_share: float, d: float, d_share: float, rho: float
) -> None:
    """Fieller's condition itself, tried at a ratio of the test's own choosing."""
    numerator, denominator = estimate(n, n * n_share), estimate(d, d * d_share)
    interval = ratio_interval(numerator, denominator)
    misfit = (n - rho * d) ** 2 - (numerator.random**2 + (rho * denominator.random) ** 2)
    scale = n**2 + (rho * d) ** 2
    assume(abs(misfit) > 1e-6 * scale)
    inside = interval is not None and interval.low <= rho and (interval.high is None or rho <= interval.high)
    assert inside == (misfit < 0.0)


@given(moderate, shares, moderate, shares)
def test_the_interval_holds_the_ratio_itself(n: float, n_share: float, d: float, d_share: float) -> None:
    interval = ratio_interval(estimate(n, n * n_share), estimate(d, d * d_share))
    assert interval is not None
    assert interval.low <= n / d * (1 + 1e-9)
    assert interval.high is None or n / d <= interval.high * (1 + 1e-9)


@given(moderate, moderate, st.floats(min_value=0.0, max_value=0.9), st.floats(min_value=0.1, max_value=10.0))
def test_a_gain_error_of_the_instrument_cancels(extra: float, saving: float, share: float, gain: float) -> None:
    one = break_even(estimate(extra, extra * share), estimate(saving, saving * share))
    two = break_even(estimate(gain * extra, gain * extra * share), estimate(gain * saving, gain * saving * share))
    assert one[1] == pytest.approx(two[1])
    assert one[2] is not None
    assert two[2] is not None
    assert one[2].low == pytest.approx(two[2].low)
    assert one[2].high == pytest.approx(two[2].high)


def test_systematic_parts_do_not_widen_the_interval() -> None:
    baseline = point(bill(60.0, 1.0), bill(0.0), quality(0.7))
    rough_baseline = point(bill(60.0, 1.0, 24.0), bill(0.0), quality(0.7))
    sharp = reuse_break_even(point(bill(40.0, 1.0), bill(100.0, 2.0), quality(0.7)), baseline)
    rough = reuse_break_even(point(bill(40.0, 1.0, 16.0), bill(100.0, 2.0, 40.0), quality(0.7)), rough_baseline)
    assert (sharp.low, sharp.high) == (rough.low, rough.high)


@pytest.mark.parametrize(
    ("saving", "verdict", "has_value", "has_end"),
    [
        (estimate(10.0, 1.0), Verdict.VALUE, True, True),
        (estimate(1.0, 10.0), Verdict.UNDETERMINED, True, False),
        (estimate(-1.0, 10.0), Verdict.UNDETERMINED, False, False),
        (estimate(-10.0, 1.0), Verdict.NEVER, False, False),
        (estimate(0.0, 0.0), Verdict.NEVER, False, False),
    ],
)
def test_verdicts(saving: Estimate, verdict: Verdict, has_value: bool, has_end: bool) -> None:
    found = break_even(estimate(100.0, 5.0), saving)
    assert found[0] is verdict
    assert (found[1] is not None) == has_value
    assert (found[2] is not None and found[2].high is not None) == has_end


@pytest.mark.parametrize(
    ("numerator", "denominator", "expected"),
    [
        # the denominator's interval just touches 0
        (estimate(10.0, 1.0), estimate(2.0, 2.0), RatioInterval(low=99.0 / 40.0, high=None)),
        (estimate(10.0, 1.0), estimate(-2.0, 2.0), RatioInterval(low=0.0, high=None)),
        # both reach 0: everything fits
        (estimate(1.0, 10.0), estimate(1.0, 10.0), RatioInterval(low=0.0, high=None)),
        # only the numerator reaches 0: from 0 up
        (estimate(1.0, 2.0), estimate(10.0, 0.0), RatioInterval(low=0.0, high=0.3)),
        # a negative ratio for certain
        (estimate(10.0, 1.0), estimate(-10.0, 1.0), None),
        # the numerator's interval reaches 0 and the denominator's too, one side only
        (estimate(1.0, 1.5), estimate(5.0, 5.1), RatioInterval(low=0.0, high=None)),
    ],
)
def test_corners_of_the_ratio(numerator: Estimate, denominator: Estimate, expected: RatioInterval | None) -> None:
    found = ratio_interval(numerator, denominator)
    if expected is None or found is None:
        assert found is expected
    else:
        assert found.low == pytest.approx(expected.low)
        assert found.high == (None if expected.high is None else pytest.approx(expected.high))


def baseline_path(*places: tuple[float, float], se: float | None = 0.0, random_j: float = 0.0) -> list[ArmPoint]:
    return [point(bill(e, random_j), bill(0.0), quality(q, se)) for e, q in places]


@given(st.floats(min_value=0.0, max_value=1.0))
def test_matched_quality_reads_the_baseline_between_its_checkpoints(place: float) -> None:
    path = baseline_path((40.0, 0.6), (80.0, 0.8))
    arm = point(bill(20.0), bill(100.0), quality(min(0.6 + 0.2 * place, 0.8)))
    found = matched_quality_break_even(arm, path)
    assert found.verdict is Verdict.VALUE
    assert found.saving_j == pytest.approx(20.0 + 40.0 * place)
    assert found.value == pytest.approx(100.0 / (20.0 + 40.0 * place))


def test_the_cheapest_passage_counts_where_the_baseline_goes_back_and_forth() -> None:
    path = baseline_path((40.0, 0.6), (80.0, 0.8), (120.0, 0.5))
    found = matched_quality_break_even(point(bill(20.0), bill(100.0), quality(0.7)), path)
    assert found.saving_j == pytest.approx(60.0 - 20.0)


def test_a_level_stretch_counts_at_its_cheaper_end() -> None:
    path = baseline_path((40.0, 0.7), (80.0, 0.7))
    found = matched_quality_break_even(point(bill(20.0), bill(100.0), quality(0.7)), path)
    assert found.saving_j == pytest.approx(20.0)


def test_an_uncertain_quality_widens_the_interval_through_the_slope() -> None:
    sharp = matched_quality_break_even(
        point(bill(20.0), bill(100.0), quality(0.7)), baseline_path((40.0, 0.6), (80.0, 0.8))
    )
    blurred_arm = point(bill(20.0), bill(100.0), quality(0.7, 0.02))
    blurred = matched_quality_break_even(blurred_arm, baseline_path((40.0, 0.6), (80.0, 0.8), se=0.02))
    unknown = matched_quality_break_even(
        point(bill(20.0), bill(100.0), quality(0.7, None)), baseline_path((40.0, 0.6), (80.0, 0.8), se=None)
    )
    assert sharp.low is not None
    assert blurred.low is not None
    assert blurred.low < sharp.low
    assert unknown.low == pytest.approx(sharp.low)


@pytest.mark.parametrize(("q", "words"), [(0.9, "its best is 0.8000"), (0.5, "shorter baseline run")])
def test_outside_the_baseline_it_is_not_at_this_quality(q: float, words: str) -> None:
    arm = point(bill(20.0), bill(100.0), quality(q))
    found = matched_quality_break_even(arm, baseline_path((40.0, 0.6), (80.0, 0.8)))
    assert found.verdict is Verdict.NOT_AT_THIS_QUALITY
    assert found.value is None
    assert words in found.reason


@given(
    st.floats(1e-9, 0.2),
    st.floats(1e-6, 0.1),
    st.floats(1e-6, 0.1),
    st.booleans(),
    st.sampled_from([[], [(60.0, 0.7)], [(50.0, 0.65), (70.0, 0.75)]]),
)
@example(0.01, 0.1, 0.1, True, [(60.0, 0.7)])
def test_a_quality_within_its_error_of_the_best_or_worst_checkpoint_is_that_ones(
    gap: float, own_se: float, se: float, is_above: bool, between: list[tuple[float, float]]
) -> None:
    path = baseline_path((40.0, 0.6), *between, (80.0, 0.8), se=se)
    end, end_j, sign = (0.8, 80.0, 1.0) if is_above else (0.6, 40.0, -1.0)
    half = 1.959963984540054 * math.hypot(own_se, se)
    assume(abs(gap - half) > 1e-9)
    found = matched_quality_break_even(point(bill(20.0), bill(100.0), quality(end + sign * gap, own_se)), path)
    assert (found.verdict is Verdict.NOT_AT_THIS_QUALITY) == (gap > half)
    if gap < half:
        # the answer at the checkpoint's own quality, with the errors of both qualities in it
        there = matched_quality_break_even(point(bill(20.0), bill(100.0), quality(end, own_se)), path)
        assert found.saving_j == pytest.approx(end_j - 20.0)
        assert found.verdict is there.verdict
        assert [found.value, found.low, found.high] == pytest.approx([there.value, there.low, there.high])
        assert "(which is known to ±" in found.reason


def test_a_gap_that_rounding_would_hide_is_said() -> None:
    arm = point(bill(20.0), bill(100.0), quality(0.80001, 0.000_001))
    found = matched_quality_break_even(arm, baseline_path((40.0, 0.6), (80.0, 0.8)))
    assert found.verdict is Verdict.NOT_AT_THIS_QUALITY
    assert found.reason.endswith("its best is 0.8000, lower by 1e-05 ± 2e-06")


def test_of_one_checkpoint_nothing_is_read_off() -> None:
    arm = point(bill(20.0), bill(100.0), quality(0.8, 0.02))
    found = matched_quality_break_even(arm, baseline_path((80.0, 0.81), se=0.02))
    assert found.verdict is Verdict.NOT_AT_THIS_QUALITY
    assert "one checkpoint alone" in found.reason


@pytest.mark.parametrize(
    ("arm", "path", "words"),
    [
        (point(bill(1.0), bill(1.0), NoQuality(reason="no scores")), baseline_path((1.0, 0.5)), "no scores"),
        (point(bill(1.0), bill(1.0), quality(0.5)), [point(GONE, bill(0.0), quality(0.5))], "no point with both"),
        (
            point(bill(1.0), bill(1.0), quality(0.5)),
            [point(bill(1.0), bill(0.0), NoQuality(reason="x"))],
            "no point with both",
        ),
        (point(GONE, bill(1.0), quality(0.5)), baseline_path((1.0, 0.5), (2.0, 0.6)), "sampler was lost"),
    ],
)
def test_what_is_missing_is_said_for_matched_quality(arm: ArmPoint, path: list[ArmPoint], words: str) -> None:
    found = matched_quality_break_even(arm, path)
    assert found.verdict is Verdict.UNDETERMINED
    assert words in found.reason


@pytest.mark.parametrize(
    ("arm", "baseline"),
    [
        (point(GONE, bill(1.0), quality(0.5)), point(bill(1.0), bill(0.0), quality(0.5))),
        (point(bill(1.0), GONE, quality(0.5)), point(bill(1.0), bill(0.0), quality(0.5))),
        (point(bill(1.0), bill(1.0), quality(0.5)), point(GONE, bill(0.0), quality(0.5))),
    ],
)
def test_what_is_missing_is_said_for_reuse(arm: ArmPoint, baseline: ArmPoint) -> None:
    found = reuse_break_even(arm, baseline)
    assert (found.verdict, found.value, found.reason) == (Verdict.UNDETERMINED, None, GONE.reason)


def test_what_is_missing_is_said_for_serving() -> None:
    rate = ServingRate(model="teacher", is_teacher=True, tokens=1.0, duration_s=1.0, energy=GONE)
    found = serving_break_even(point(bill(1.0), bill(1.0), quality(0.5)), rate, rate)
    assert found.reason == GONE.reason


def test_serving_a_student_that_needs_more_never_pays() -> None:
    teacher = ServingRate(model="teacher", is_teacher=True, tokens=10.0, duration_s=1.0, energy=bill(10.0, 0.1))
    student = ServingRate(model="s", is_teacher=False, tokens=10.0, duration_s=1.0, energy=bill(20.0, 0.1))
    found = serving_break_even(point(bill(1.0), bill(1.0), quality(0.5)), teacher, student)
    assert found.verdict is Verdict.NEVER
    assert not math.isnan(found.saving_j or 0.0)


@pytest.mark.parametrize(("common", "is_known"), [((), False), (("endpoint in train: nobody reads it",), True)])
def test_a_teacher_that_is_not_known_whole_gives_a_lower_end_and_no_value(
    common: tuple[str, ...], is_known: bool
) -> None:
    """What all stages lack alike leaves the ratio standing; what the teacher alone lacks does not."""
    short = replace(bill(100.0), complete=False, absent=("endpoint in teacher_generate: nobody reads it",))
    own = replace(bill(10.0), absent=common, complete=not common)
    found = reuse_break_even(point(own, short, quality(0.9)), point(bill(30.0), bill(0.0), quality(0.9)))
    assert found.verdict is (Verdict.VALUE if is_known else Verdict.UNDETERMINED)
    assert found.value == (5.0 if is_known else None)
    if not is_known:
        assert found.reason == (
            "5 at least: the teacher's work is not known whole (endpoint in teacher_generate: nobody reads it)"
        )
