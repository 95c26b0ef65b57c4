"""When distilling has paid for its teacher: by reuse, by serving, at matched quality (method.md, eqs. 25 to 27, 143).

Intervals use the random parts of the meter and `repeat_rel`, how much a single stage's energy differs between
repeats (eq. 28). The systematic parts are left out: numerator and denominator are energies of the same parts, read by
the same instruments, so a gain error multiplies both and cancels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stillwatt.analysis.bills import lacking
from stillwatt.records.energy import NoTotal
from stillwatt.records.finding import ArmPoint, Bill, BreakEven, BreakEvenKind, NoQuality, ServingRate, Verdict
from stillwatt.records.window import ONLINE_TEACHER

NOTHING_TO_SHARE = "the teacher ran beside the training and left nothing that another student could use"
_Z_95 = 1.959963984540054
"""Half-width of a 95 % interval in standard deviations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value with the half-width of its random 95 % interval."""

    value: float
    random: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioInterval:
    """The non-negative ratios that the data do not rule out; `high` None: no upper end."""

    low: float
    high: float | None


def ratio_interval(numerator: Estimate, denominator: Estimate, *, shared: float = 0.0) -> RatioInterval | None:
    """Fieller's 95 % interval of a ratio, cut at 0 (method.md, eqs. 24 and 30).

        all rho >= 0 with  (n - rho d)^2 <= h_n^2 - 2 rho h_nd + rho^2 h_d^2      (h: 95 % half-widths)

    It has no upper end where the denominator cannot be told from 0, which is the truth about such a ratio.

    Args:
        numerator: What is divided.
        denominator: What it is divided by.
        shared: h_nd, the product of the half-widths times their correlation; 0 for independent errors.

    Returns:
        The interval, or the smallest that holds all pieces where there are two; None where no ratio >= 0 is left.

    >>> ratio_interval(Estimate(value=11.0, random=0.0), Estimate(value=1.1, random=0.1))
    RatioInterval(low=9.166666666666666, high=11.0)
    """
    n, h_n, d, h_d = numerator.value, numerator.random, denominator.value, denominator.random
    a = (d - h_d) * (d + h_d)
    half_b = n * d - shared
    c = (n - h_n) * (n + h_n)
    if a == 0.0:
        return _linear_interval(half_b, c)
    # half_b^2 - a c, written without the difference of near-equal numbers that would lose a narrow interval
    discriminant = (n * h_d) ** 2 + (d * h_n) ** 2 - (h_n * h_d) ** 2 + shared * (shared - 2.0 * n * d)
    if discriminant < 0.0 and a < 0.0:
        # only where both intervals hold 0: every ratio fits
        return RatioInterval(low=0.0, high=None)
    root = math.sqrt(max(discriminant, 0.0))
    first, second = sorted(((half_b - root) / a, (half_b + root) / a))
    if a > 0.0:
        return None if second < 0.0 else RatioInterval(low=max(first, 0.0), high=second)
    # the ratios outside (first, second) fit, without an upper end
    return RatioInterval(low=second if first < 0.0 < second else 0.0, high=None)


def _linear_interval(half_b: float, c: float) -> RatioInterval:
    """The interval where the denominator's own interval just touches 0: c <= 2 half_b rho."""
    if half_b <= 0.0:
        return RatioInterval(low=0.0, high=None)
    return RatioInterval(low=max(c / (2.0 * half_b), 0.0), high=None)


def break_even(extra: Estimate, saving: Estimate) -> tuple[Verdict, float | None, RatioInterval | None]:
    """Extra energy over saving per unit, with a verdict; never negative (method.md, eqs. 25 and 26).

    `never` where the saving is negative, or zero, beyond its random error; `undetermined` where its interval
    reaches 0 from above or below; otherwise a value.

    >>> break_even(Estimate(value=11.0, random=0.0), Estimate(value=-2.0, random=1.0))[0].value
    'never'
    """
    if saving.value + saving.random <= 0.0:
        return Verdict.NEVER, None, None
    interval = ratio_interval(extra, saving)
    value = extra.value / saving.value if saving.value > 0.0 else None
    if saving.value - saving.random <= 0.0:
        return Verdict.UNDETERMINED, value, interval
    return Verdict.VALUE, value, interval


def reuse_break_even(point: ArmPoint, baseline: ArmPoint, *, repeat_rel: float = 0.0) -> BreakEven:
    """N*: students that must share the artefact before distilling uses no more than the baseline (method.md, eq. 25).

    N* = E_artefact / (E_student,baseline - E_student,arm - E_online)                                      [1]
    """
    blank = _blank(BreakEvenKind.REUSE, point)
    known = _estimates(baseline.student_energy, repeat_rel=repeat_rel)
    if isinstance(known, NoTotal):
        return replace(blank, reason=known.reason)
    return _reuse(blank, point, known[0], "at equal token budget", repeat_rel)


def no_equal_budget(point: ArmPoint, reason: str) -> BreakEven:
    """N* of a point that no baseline was trained as long as (method.md, eq. 144)."""
    return replace(_blank(BreakEvenKind.REUSE, point), verdict=Verdict.NOT_AT_THIS_BUDGET, reason=reason)


def serving_break_even(
    point: ArmPoint, teacher: ServingRate, student: ServingRate, *, repeat_rel: float = 0.0
) -> BreakEven:
    """T*: tokens to serve until the student has repaid its making, against serving the teacher (method.md, eq. 26).

    T* = E_one-off / (j_teacher - j_student) ;  j in J per generated token                             [tokens]
    """
    blank = _blank(BreakEvenKind.SERVING, point)
    known = _estimates(point.energy_under("one-off"), teacher.energy, student.energy, repeat_rel=repeat_rel)
    if isinstance(known, NoTotal):
        return replace(blank, reason=known.reason)
    bill, served_teacher, served_student = known
    saving = Estimate(
        value=served_teacher.value / teacher.tokens - served_student.value / student.tokens,
        random=math.hypot(served_teacher.random / teacher.tokens, served_student.random / student.tokens),
    )
    return _judge(blank, bill, saving, "against serving the teacher")


def matched_quality_break_even(point: ArmPoint, baseline: Sequence[ArmPoint], *, repeat_rel: float = 0.0) -> BreakEven:
    """N* against the baseline at the arm's own quality (method.md, eq. 27).

        E_b(Q) = E_k + (Q - Q_k) (E_{k+1} - E_k) / (Q_{k+1} - Q_k)   between neighbouring checkpoints        [J]

    Where several stretches of the baseline's path pass the quality, the cheapest counts. Errors of both qualities
    enter through the slope. A quality beyond all of them by no more than its error is the best or the worst one's.

    Args:
        point: The arm's point.
        baseline: The baseline's points, in checkpoint order.
        repeat_rel: Half-width of an energy's repeatability, as a share of it (eq. 28).
    """
    blank = _blank(BreakEvenKind.MATCHED_QUALITY, point)
    if isinstance(point.quality, NoQuality):
        return replace(blank, reason=f"the arm has no quality: {point.quality.reason}")
    known = [_known(entry, repeat_rel) for entry in baseline]
    path = [entry for entry in known if entry is not None]
    if not path:
        return replace(blank, reason="the baseline has no point with both energy and quality")
    own_se = point.quality.own_se
    crossings = [
        crossing
        for one, two in itertools.pairwise(path)
        if (crossing := _read_off(one, two, point.quality.value, own_se)) is not None
    ]
    if crossings:
        matched = min(crossings, key=lambda crossing: crossing.value)
        return _reuse(blank, point, matched, "against the baseline at this quality", repeat_rel)
    end = _nearest_end(path, point.quality.value)
    gap = Estimate(value=point.quality.value - end.quality, random=_Z_95 * _joint_se(end.quality_se, own_se))
    if abs(gap.value) > gap.random or len(path) < 2:
        return replace(blank, verdict=Verdict.NOT_AT_THIS_QUALITY, reason=_outside(end, point.quality.value, gap))
    against = f"against the baseline at this quality (which is known to ±{gap.random:.2g})"
    return _reuse(blank, point, _at_end(path, end, own_se), against, repeat_rel)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Observed:
    """A baseline checkpoint with both coordinates."""

    energy: Estimate
    quality: float
    quality_se: float | None


def _known(point: ArmPoint, repeat_rel: float) -> _Observed | None:
    if isinstance(point.student_energy, NoTotal) or isinstance(point.quality, NoQuality):
        return None
    return _Observed(
        energy=_estimate(point.student_energy, repeat_rel),
        quality=point.quality.value,
        quality_se=point.quality.own_se,
    )


def _read_off(one: _Observed, two: _Observed, quality: float, own_se: float | None) -> Estimate | None:
    """The baseline's energy at a quality between two checkpoints; None outside."""
    low, high = sorted((one.quality, two.quality))
    if not low <= quality <= high:
        return None
    if low == high:
        return min(one.energy, two.energy, key=lambda energy: energy.value)
    place = (quality - one.quality) / (two.quality - one.quality)
    slope = (two.energy.value - one.energy.value) / (two.quality - one.quality)
    path_se = math.hypot((1.0 - place) * (one.quality_se or 0.0), place * (two.quality_se or 0.0))
    # later checkpoints hold the earlier ones' energy, so the larger random part bounds that of the mixture
    return Estimate(
        value=one.energy.value + place * (two.energy.value - one.energy.value),
        random=math.hypot(
            max(one.energy.random, two.energy.random), _Z_95 * slope * math.hypot(path_se, own_se or 0.0)
        ),
    )


def _joint_se(one: float | None, other: float | None) -> float:
    return math.hypot(one or 0.0, other or 0.0)


def _nearest_end(path: Sequence[_Observed], quality: float) -> _Observed:
    """Of the baseline's checkpoints, the one whose quality is nearest: the best or the worst where it is outside."""
    return min(path, key=lambda entry: (abs(entry.quality - quality), entry.energy.value))


def _at_end(path: Sequence[_Observed], end: _Observed, own_se: float | None) -> Estimate:
    """The baseline's energy at a quality that cannot be told from its best or worst checkpoint's.

    The errors of both qualities enter through the steepest of the stretches that end there; of a level one, what it
    took.
    """
    joint = _Z_95 * _joint_se(end.quality_se, own_se)
    widest_j = 0.0
    for one, two in itertools.pairwise(path):
        if end in (one, two):
            rise_j, rise = abs(two.energy.value - one.energy.value), abs(two.quality - one.quality)
            slid_j = joint * rise_j / rise if rise > 0.0 else rise_j
            widest_j = max(widest_j, math.hypot(max(one.energy.random, two.energy.random), slid_j))
    return Estimate(value=end.energy.value, random=widest_j)


def _outside(end: _Observed, quality: float, gap: Estimate) -> str:
    """Why nothing is read off; the gap tells what rounded qualities may hide."""
    within = f"{abs(gap.value):.2g}" + (f" ± {gap.random:.2g}" if gap.random else "")
    if abs(gap.value) <= gap.random:
        return f"the baseline has one checkpoint alone, at quality {end.quality:.4f}: nothing lies on both sides of it"
    if gap.value > 0.0:
        return f"no baseline checkpoint reaches quality {quality:.4f}; its best is {end.quality:.4f}, lower by {within}"
    return (
        f"every baseline checkpoint is better than quality {quality:.4f}, by {within} and more; a shorter baseline run "
        "was not made"
    )


def _reuse(blank: BreakEven, point: ArmPoint, baseline: Estimate, against: str, repeat_rel: float) -> BreakEven:
    known = _estimates(point.artifact_energy, point.online_energy, point.student_energy, repeat_rel=repeat_rel)
    if isinstance(known, NoTotal):
        return replace(blank, reason=known.reason)
    artifacts, online, own = known
    saving = Estimate(value=baseline.value - own.value, random=math.hypot(baseline.random, own.random))
    if left_nothing(point):
        return _never_shared(blank, online, saving, against)
    # a teacher beside the training works for each further student anew, as its own training does
    saving = Estimate(value=saving.value - online.value, random=math.hypot(saving.random, online.random))
    judged = _judge(blank, artifacts, saving, against)
    bills = [bill for bill in (point.artifact_energy, point.student_energy) if isinstance(bill, Bill)]
    gaps = lacking(bills[0], *bills[1:])
    if judged.verdict is Verdict.VALUE and gaps:
        reason = f"{judged.value:.3g} at least: the teacher's work is not known whole ({'; '.join(gaps)})"
        return replace(judged, verdict=Verdict.UNDETERMINED, value=None, low=None, high=None, reason=reason)
    return judged


def left_nothing(point: ArmPoint) -> bool:
    """Whether a point's teacher ran beside the training alone: no other student can use any of that work (eq. 143)."""
    return bool(point.artifacts) and all(use.kind == ONLINE_TEACHER for use in point.artifacts)


def _never_shared(blank: BreakEven, online: Estimate, saving: Estimate, against: str) -> BreakEven:
    """No number of students repays a teacher that left nothing, whatever the first one saved (method.md, eq. 143)."""
    net_j, noise_j = saving.value - online.value, math.hypot(saving.random, online.random)
    outcome = f"takes more energy {against}" if net_j < 0.0 else f"saves energy {against} all the same"
    if abs(net_j) <= noise_j:
        outcome = f"takes neither clearly more nor clearly less energy {against}"
    return replace(
        blank,
        verdict=Verdict.NEVER,
        extra_j=online.value,
        saving_j=saving.value,
        reason=f"{NOTHING_TO_SHARE}; with it, each student {outcome}",
    )


def _judge(blank: BreakEven, extra: Estimate, saving: Estimate, against: str) -> BreakEven:
    verdict, value, interval = break_even(extra, saving)
    reasons = {
        Verdict.VALUE: f"each unit saves energy {against}",
        Verdict.NEVER: f"nothing is saved {against}: the difference is negative beyond its random error",
        Verdict.UNDETERMINED: f"the saving {against} cannot be told from 0 on this run",
    }
    return replace(
        blank,
        verdict=verdict,
        value=value,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        extra_j=extra.value,
        saving_j=saving.value,
        reason=reasons[verdict],
    )


def _blank(kind: BreakEvenKind, point: ArmPoint) -> BreakEven:
    return BreakEven(
        kind=kind,
        arm=point.arm,
        checkpoint=point.checkpoint,
        verdict=Verdict.UNDETERMINED,
        value=None,
        low=None,
        high=None,
        extra_j=None,
        saving_j=None,
        reason="",
    )


def _estimates(*energies: Bill | NoTotal, repeat_rel: float) -> list[Estimate] | NoTotal:
    """Values with their random parts, or the first reason why there is none."""
    found = []
    for energy in energies:
        if isinstance(energy, NoTotal):
            return energy
        found.append(_estimate(energy, repeat_rel))
    return found


def _estimate(energy: Bill, repeat_rel: float) -> Estimate:
    """An energy with its metering error and its repeatability, which are independent (method.md, eq. 28)."""
    return Estimate(value=energy.value_j, random=math.hypot(energy.random_j, repeat_rel * energy.value_j))
