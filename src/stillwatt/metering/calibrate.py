"""A card's gain against an external meter: align the two logs, then regress one on the other (method.md, eq. 16b)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from stillwatt.metering.curve import Curve, Segment
from stillwatt.metering.series import BoolArray, FloatArray, IntArray
from stillwatt.units import NS_PER_S

LEAST_READINGS, LEAST_S = 60, 60.0
LEAST_SPAN = 0.25
"""Least span of power, as a share of the largest: with less, gain and offset cannot be told apart."""
LEAST_CORRELATION = 0.95
GAIN_RANGE = (0.5, 2.0)
"""Outside, the meter does not measure this card."""
_Z_95 = 1.96
_BLOCKS, _T_BLOCKS = 10, 2.262
"""Blocks of a jackknife, and Student's 97.5 % quantile for one less."""
_STEPS = 4
"""Offsets tried per reading of the meter while looking for the best."""
_FINE_STEPS = 20
_FINE_PERIODS = 1.5
_LEAST_KNOTS = 4
"""The card's energy is known at least so often during each reading that is compared."""
_LONGER, _LONGEST = 1.2, 30.0
"""How much longer an average is tried each time than the one before, and up to how many of the meter's readings."""
_CLEARLY = 0.5
"""A longer average is taken where it leaves less than this share of the variance that the meter's own period leaves."""
_NEAR_PERIODS = 3.0
"""Another offset further off than this many readings is another answer."""
_AS_GOOD = 2.0
"""An offset that leaves less than this many times the best one's residual variance cannot be told from it."""
_VALLEY = 3.0
"""Two offsets are two answers where this many times the residual variance lies between them."""
_MOST_DRIFT = 0.002
"""Clocks that part faster than 2 s in 1000 s are broken."""
_TIMING = 0.1
"""Readings are held to be timed to a tenth of their period, so load that changes tells less than load that holds."""
_HUBER = 1.345
_ROUNDS = 20
_CURVED_T, _CURVED_SHARE = 4.0, 0.02
_SIGMA_FROM_MAD = 1.4826


@dataclass(frozen=True, slots=True, eq=False)
class MeterLog:
    """What an external meter read.

    Attributes:
        t_s: shape [n], strictly increasing times in seconds on the meter's own clock.
        power_w: shape [n], mean power since the reading before.
    """

    t_s: FloatArray
    power_w: FloatArray

    @property
    def period_s(self) -> float:
        """Median distance of readings."""
        return float(np.median(np.diff(self.t_s)))


@dataclass(frozen=True, slots=True, kw_only=True)
class GainFit:
    """How the meter's power follows from the card's: meter = offset + gain * card.

    Attributes:
        gain: factor.
        gain_half: half-width of its 95 % interval, autocorrelation taken into account.
        offset_w: meter less card at 0 W of the card.
        offset_half_w: half-width of its 95 % interval.
        averaging_s: over how long each of the meter's readings averages, where that is clearly longer; else 0.
        shift_s: what was added to the meter's times to make them the run's.
        drift: by how much the meter's clock gains on the run's, as a fraction.
        readings: how many readings of the meter were used.
        length_s: from the first to the last of them.
        low_w: 5 % quantile of the card's power as it was read.
        high_w: 95 % quantile.
        residual_w: standard deviation of what the line leaves.
        correlation: between both.
        autocorrelation: of neighbouring residuals.
    """

    gain: float
    gain_half: float
    offset_w: float
    offset_half_w: float
    averaging_s: float
    shift_s: float
    drift: float
    readings: int
    length_s: float
    low_w: float
    high_w: float
    residual_w: float
    correlation: float
    autocorrelation: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Why a log gives no gain, with figures."""

    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Card:
    """The card's energy on the time base of the run, and between which times it was read."""

    curve: Curve
    origin_ns: int
    """Monotonic time of second 0."""
    averaging_s: float = 0.0
    """What the meter's readings average over; 0 for the time since the reading before."""

    @property
    def span_s(self) -> tuple[float, float]:
        is_read = np.flatnonzero(self.curve.kind == Segment.READ)
        first_ns, last_ns = self.curve.x_ns[is_read[0]], self.curve.x_ns[is_read[-1] + 1]
        return (first_ns - self.origin_ns) / NS_PER_S, (last_ns - self.origin_ns) / NS_PER_S

    @property
    def spacing_s(self) -> float:
        """How far apart the times are at which its energy is known."""
        return float(np.median(np.diff(self.curve.x_ns))) / NS_PER_S

    def mean_w(self, t_s: FloatArray) -> FloatArray:
        """Mean power over what each reading but the first averages; NaN outside the card's own readings."""
        first_s, last_s = self.span_s
        start_s = t_s[1:] - self.averaging_s if self.averaging_s else t_s[:-1]
        start_j, end_j = (self.curve.energy_at(self._mono_ns(at_s)) for at_s in (start_s, t_s[1:]))
        mean_w = (end_j - start_j) / (t_s[1:] - start_s)
        return np.where((start_s >= first_s) & (t_s[1:] <= last_s), mean_w, np.nan)

    def _mono_ns(self, t_s: FloatArray) -> IntArray:
        return (self.origin_ns + t_s * NS_PER_S).astype(np.int64)


def fit_gain(curve: Curve, origin_ns: int, log: MeterLog, *, max_shift_s: float) -> GainFit | Refused:
    """The card's gain and offset against the meter (method.md, eq. 16b).

    Args:
        curve: the card's cumulative energy, as its own instrument gives it.
        origin_ns: the monotonic time that second 0 of the log would be if both clocks agreed.
        log: the meter's readings.
        max_shift_s: how far the clocks may be apart.

    Returns:
        The fit, or why the data are too weak for one.
    """
    card = _Card(curve, origin_ns)
    log, together = no_finer(log, card.spacing_s)
    if log.t_s.size <= LEAST_READINGS:
        each = "" if together == 1 else f" of {together} each, as the card is read every {card.spacing_s:.2g} s"
        return Refused(reasons=(f"{log.t_s.size} readings of the meter{each}; more than {LEAST_READINGS} are needed",))
    shift_s = _best_shift(card, log, max_shift_s)
    if isinstance(shift_s, Refused):
        return shift_s
    card, shift_s = _averaging(card, log, shift_s)
    t_s, drift = _without_drift(card, log, shift_s)
    card_w = card.mean_w(t_s)
    inside = np.isfinite(card_w)
    fit = _regress(card_w[inside], log.power_w[1:][inside])
    half = _half_widths(card_w[inside], log.power_w[1:][inside], fit)
    half[1] = math.hypot(half[1], _mistimed(card, t_s, log, fit))
    used_s = t_s[1:][inside]
    found = GainFit(
        gain=float(fit.beta[1]),
        gain_half=float(half[1]),
        offset_w=float(fit.beta[0]),
        offset_half_w=float(half[0]),
        averaging_s=card.averaging_s,
        shift_s=shift_s,
        drift=drift,
        readings=int(np.count_nonzero(inside)),
        length_s=float(used_s[-1] - used_s[0]),
        low_w=float(np.quantile(card_w[inside], 0.05)),
        high_w=float(np.quantile(card_w[inside], 0.95)),
        residual_w=float(np.std(fit.residual_w)),
        correlation=_correlation(card_w, log.power_w[1:]),
        autocorrelation=_neighbours(fit.residual_w),
    )
    reasons = tuple(_weaknesses(found, fit, card_w[inside]))
    return Refused(reasons=reasons) if reasons else found


def no_finer(log: MeterLog, spacing_s: float) -> tuple[MeterLog, int]:
    """The log in readings over which the card was read often enough, and how many were put together for each.

    Between two of its readings the card's power is a straight line, where it was none: over a single reading of the
    meter that would make the card look steadier than it was, and the gain too large.

    >>> log = MeterLog(np.arange(5.0), np.array([0.0, 100.0, 300.0, 100.0, 300.0]))
    >>> coarse, together = no_finer(log, spacing_s=0.5)
    >>> coarse.power_w.tolist(), together
    ([200.0, 200.0, 200.0], 2)
    """
    together = max(1, math.ceil(_LEAST_KNOTS * spacing_s / log.period_s))
    t_s = log.t_s[::together]
    if t_s.size < 2:
        return MeterLog(t_s, log.power_w[::together]), together
    energy_j = np.append(0.0, np.cumsum(log.power_w[1:] * np.diff(log.t_s)))[::together]
    mean_w = np.diff(energy_j) / np.diff(t_s)
    return MeterLog(t_s, np.append(mean_w[0], mean_w)), together


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    """A weighted line with the covariance of its coefficients."""

    beta: FloatArray
    covariance: FloatArray
    residual_w: FloatArray
    weight: FloatArray


def _best_shift(card: _Card, log: MeterLog, max_shift_s: float) -> float | Refused:
    """What must be added to the meter's times: where the two logs correlate best."""
    period_s = log.period_s
    tried_s = np.arange(-max_shift_s, max_shift_s + period_s / _STEPS, period_s / _STEPS)
    found = np.array([_correlation(card.mean_w(log.t_s + shift_s), log.power_w[1:]) for shift_s in tried_s])
    if not np.any(found > 0):
        reason = f"the meter's log and the run do not overlap, or do not go together, within ±{max_shift_s:g} s"
        return Refused(reasons=(reason,))
    best = int(np.argmax(found))
    rivals = _rivals(found, best, round(_NEAR_PERIODS * _STEPS))
    if rivals.size:
        other = tried_s[rivals[np.argmax(found[rivals])]]
        reason = (
            f"the clocks' offset is ambiguous: {tried_s[best]:+.1f} s (correlation {found[best]:.4f}) and "
            f"{other:+.1f} s ({found[rivals].max():.4f}) fit alike; use a load that does not repeat itself"
        )
        return Refused(reasons=(reason,))
    if best in (0, tried_s.size - 1) and max_shift_s > 0:
        reason = f"the best offset, {tried_s[best]:+.1f} s, lies at the bound; look further with --max-offset"
        return Refused(reasons=(reason,))
    return _finely(card, log, float(tried_s[best]))[0]


def _finely(card: _Card, log: MeterLog, near_s: float) -> tuple[float, float]:
    """The best offset near one, and the share of the meter's variance that it leaves."""
    fine_s = near_s + np.linspace(-_FINE_PERIODS, _FINE_PERIODS, 2 * _FINE_STEPS + 1) * log.period_s
    finely = [_correlation(card.mean_w(log.t_s + shift_s), log.power_w[1:]) for shift_s in fine_s]
    best = int(np.argmax(finely))
    return float(fine_s[best]), 1.0 - finely[best] * abs(finely[best])


def _averaging(card: _Card, log: MeterLog, shift_s: float) -> tuple[_Card, float]:
    """The card as a meter sees it that averages over longer than its readings are apart, where it does (eq. 139).

    Against such a meter the card looks livelier than it was, and the gain too small.
    """
    found, (best_s, least) = card, _finely(card, log, shift_s)
    least *= _CLEARLY
    length_s = log.period_s * _LONGER
    while length_s <= min(_LONGEST * log.period_s, float(log.t_s[-1] - log.t_s[0]) / 4):
        tried = replace(card, averaging_s=length_s)
        # what averages over longer is older by half of the difference
        at_s, left = _finely(tried, log, shift_s + (length_s - log.period_s) / 2)
        if left < least:
            found, best_s, least = tried, at_s, left
        length_s *= _LONGER
    return found, best_s


def _rivals(found: FloatArray, best: int, near: int) -> IntArray:
    """Indices of other offsets that leave about as little, with a valley between them and the best."""
    left = 1.0 - found**2 + 1e-12
    as_good = (left < _AS_GOOD * left[best]) & (found > 0)
    far = np.flatnonzero(as_good & (np.abs(np.arange(found.size) - best) > near))
    between = [left[min(at, best) : max(at, best) + 1].max() for at in far.tolist()]
    is_rival: BoolArray = np.array(between, dtype=np.float64) > _VALLEY * left[best]
    return np.asarray(far[is_rival], dtype=np.int64)


def _without_drift(card: _Card, log: MeterLog, shift_s: float) -> tuple[FloatArray, float]:
    """The meter's times on the run's clock: shifted, and stretched where both halves show that its clock drifts."""
    middle = log.t_s.size // 2
    halves = [MeterLog(log.t_s[:middle], log.power_w[:middle]), MeterLog(log.t_s[middle:], log.power_w[middle:])]
    near_s = shift_s + np.linspace(-_FINE_PERIODS, _FINE_PERIODS, 6 * _FINE_STEPS + 1) * log.period_s
    shifts_s = []
    for half in halves:
        found = [_correlation(card.mean_w(half.t_s + near), half.power_w[1:]) for near in near_s]
        shifts_s.append(float(near_s[int(np.argmax(found))]))
    (one_s, one_w), (other_s, other_w) = ((float(np.mean(half.t_s)), float(np.std(half.power_w))) for half in halves)
    drift = (shifts_s[1] - shifts_s[0]) / (other_s - one_s)
    plain_s = log.t_s + shift_s
    drifted_s = log.t_s + sum(shifts_s) / 2 + drift * (log.t_s - (one_s + other_s) / 2)
    # an alternating half fits alike half a reading either way, and rounding picks one: the whole log must fit better
    plain, drifted = (_correlation(card.mean_w(t_s), log.power_w[1:]) for t_s in (plain_s, drifted_s))
    is_told = min(one_w, other_w) >= LEAST_SPAN * max(one_w, other_w)
    return (drifted_s, -drift) if is_told and abs(drift) <= _MOST_DRIFT and drifted > plain else (plain_s, 0.0)


def _regress(card_w: FloatArray, meter_w: FloatArray) -> _Line:
    """A robust, weighted line with a covariance that knows of autocorrelated residuals (method.md, eq. 16b)."""
    columns = np.column_stack((np.ones(card_w.size), card_w))
    change_w = np.abs(np.diff(card_w))
    step_w = np.maximum(np.append(change_w[:1], change_w), np.append(change_w, change_w[-1:]))
    noise_w = max(0.01 * float(np.ptp(card_w)), 0.1)
    huber = np.ones(card_w.size)
    for _ in range(_ROUNDS):
        weight = huber / (noise_w**2 + (_TIMING * step_w) ** 2)
        beta = np.linalg.lstsq(columns * np.sqrt(weight)[:, None], meter_w * np.sqrt(weight), rcond=None)[0]
        residual_w = meter_w - columns @ beta
        calm = step_w <= np.median(step_w)
        noise_w = max(_SIGMA_FROM_MAD * float(np.median(np.abs(residual_w[calm]))), 0.01)
        scaled = np.abs(residual_w) / np.sqrt(noise_w**2 + (_TIMING * step_w) ** 2)
        huber = np.minimum(1.0, _HUBER / np.maximum(scaled, _HUBER))
    return _Line(np.asarray(beta, dtype=np.float64), _covariance(columns, weight, residual_w), residual_w, weight)


def _half_widths(card_w: FloatArray, meter_w: FloatArray, line: _Line) -> FloatArray:
    """95 % half-widths of offset and gain: the covariance's and a jackknife's over blocks, in quadrature.

    Either alone is too narrow now and then (93 % of simulated logs). The covariance knows of noise that hangs together
    over some readings, the blocks of whatever else changes over the log: a load that tells less, a zero that wanders.
    """
    block = np.arange(card_w.size) * _BLOCKS // card_w.size
    without = np.array([_regress(card_w[block != b], meter_w[block != b]).beta for b in range(_BLOCKS)])
    spread = np.sqrt(np.sum((without - np.mean(without, axis=0)) ** 2, axis=0) * (_BLOCKS - 1) / _BLOCKS)
    return np.asarray(np.hypot(_Z_95 * np.sqrt(np.diag(line.covariance)), _T_BLOCKS * spread), dtype=np.float64)


def _mistimed(card: _Card, t_s: FloatArray, log: MeterLog, line: _Line) -> float:
    """How far the gain moves where the clocks are a tenth of a reading further apart, either way."""
    moved = []
    for shift_s in (-_TIMING * log.period_s, _TIMING * log.period_s):
        card_w = card.mean_w(t_s + shift_s)
        inside = np.isfinite(card_w)
        moved.append(abs(float(_regress(card_w[inside], log.power_w[1:][inside]).beta[1] - line.beta[1])))
    return max(moved)


def _covariance(columns: FloatArray, weight: FloatArray, residual_w: FloatArray) -> FloatArray:
    """Newey and West's, with lags up to twice the root of the number of readings."""
    count, unknown = columns.shape
    scores = columns * (weight * residual_w)[:, None]
    lags = min(count // 4, math.ceil(2 * math.sqrt(count)))
    middle = scores.T @ scores
    for lag in range(1, lags + 1):
        crossed = scores[lag:].T @ scores[:-lag]
        middle += (1.0 - lag / (lags + 1)) * (crossed + crossed.T)
    bread = np.linalg.pinv((columns * weight[:, None]).T @ columns)
    # the kernel gives long lags too little: what it leaves out grows with the lags' share of the readings
    return np.asarray(bread @ middle @ bread * count / (count - unknown) * (1.0 + 2.0 * lags / count), dtype=np.float64)


def _weaknesses(found: GainFit, line: _Line, card_w: FloatArray) -> Iterator[str]:
    """Every reason not to use a fit, with its figures."""
    if found.readings < LEAST_READINGS or found.length_s < LEAST_S:
        yield (
            f"{found.readings} readings over {found.length_s:.3g} s lie inside the run; "
            f"{LEAST_READINGS} over {LEAST_S:g} s are needed"
        )
    if found.high_w - found.low_w < LEAST_SPAN * found.high_w:
        yield (
            f"the card's power spans {found.low_w:.4g} to {found.high_w:.4g} W only; {LEAST_SPAN:.0%} of the larger is "
            "needed to tell gain from offset: let it rest and let it work"
        )
    if found.correlation < LEAST_CORRELATION:
        yield f"the correlation is {found.correlation:.3f}; {LEAST_CORRELATION} is needed"
    if not GAIN_RANGE[0] <= found.gain <= GAIN_RANGE[1]:
        yield f"a gain of {found.gain:.3g} means that the meter measures something else than this card"
    curved = _curvature(line, card_w)
    if curved is not None:
        yield f"the relation is not a line: it bends by {curved:.3g} W over the span of power"


def _curvature(line: _Line, card_w: FloatArray) -> float | None:
    """By how many watts the relation bends over the span; None where it is straight as far as can be told."""
    centred = card_w - np.mean(card_w)
    columns = np.column_stack((np.ones(card_w.size), centred, centred**2))
    root = np.sqrt(line.weight)
    beta = np.linalg.lstsq(columns * root[:, None], line.residual_w * root, rcond=None)[0]
    error = math.sqrt(_covariance(columns, line.weight, line.residual_w - columns @ beta)[2, 2])
    span_w = float(np.quantile(card_w, 0.95) - np.quantile(card_w, 0.05))
    bend_w = abs(float(beta[2])) * (span_w / 2) ** 2
    return bend_w if abs(float(beta[2])) > _CURVED_T * error and bend_w > _CURVED_SHARE * span_w else None


def _correlation(card_w: FloatArray, meter_w: FloatArray) -> float:
    """Pearson's, over readings inside the run; -1 where these are fewer than half, or do not vary."""
    inside: BoolArray = np.isfinite(card_w)
    if np.count_nonzero(inside) < max(2, card_w.size / 2):
        return -1.0
    one, other = card_w[inside] - np.mean(card_w[inside]), meter_w[inside] - np.mean(meter_w[inside])
    norm = math.sqrt(float(one @ one) * float(other @ other))
    return float(one @ other) / norm if norm > 0 else -1.0


def _neighbours(residual_w: FloatArray) -> float:
    square = float(residual_w @ residual_w)
    return float(residual_w[1:] @ residual_w[:-1]) / square if square > 0 else 0.0
