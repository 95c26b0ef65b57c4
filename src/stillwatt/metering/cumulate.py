"""Cumulative energy curves from readings: counters by interpolation, power by trapezoid (method.md, eqs. 3 to 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from stillwatt.metering.counter import counter_curve, is_unrenewed
from stillwatt.metering.curve import Curve, Segment, carry_on, cover, hold_ns, unseen_half_w
from stillwatt.metering.full_time import (
    SECOND_DIFFERENCE,
    SECOND_DIFFERENCE_NOISE,
    inside_averages_j,
    leaves_nothing_out,
    unseen_j2,
)
from stillwatt.metering.outpaced import is_outpaced
from stillwatt.metering.plausible import changes
from stillwatt.metering.rejection import without_failed
from stillwatt.metering.series import FloatArray, IntArray, Series
from stillwatt.records.channel import Quantity
from stillwatt.units import NS_PER_S

_STUCK_UPDATES = 10
"""A counter that never moves, seen for this many update periods, is stuck."""
_FEW_UPDATES = 3
"""A counter that shows fewer values than that in so many updates was renewed once, as far as it tells."""
_OVERSAMPLED = 1.5
"""Read this much more often than it is renewed, a value's first sight tells when it was."""
_STRAYS = 8
"""An instrument's own times are good to an eighth of its update period."""
_SMOOTHED = 0.25
"""Eq. 7a: a step of load at a stage's edge is smoothed over it by an eighth of step times average, at both edges."""
_UNSEEN = 0.5
"""Eq. 7a: standard deviation of a load that swings between half and one and a half of what is read."""
_QUIET, _QUIET_SHARE = 0.25, 0.1015
"""Eq. 7: a quarter of a session's squared second differences lie below 0.1015 of their mean where there is nothing but
noise; a few readings in a row may look steadier than that by chance."""
_SETTLING_REL = 0.1 * 1.5
"""How far a card's time constant may lie from what was measured on others of its kind (eq. 4a): a tenth, by which both
edges of a stage are off to the same end, while they are added up as if they were apart."""


def cumulate(
    series: Series, witness: Curve | None = None, beside: Series | None = None, marks_ns: Sequence[int] = ()
) -> Curve | str:
    """The curve of one stream, or the reason there is none (method.md, eqs. 3 to 7).

    Args:
        series: readings of a counter or of power.
        witness: curve of the same part's power; repairs a counter's resets and shows load changes beside edges.
        beside: the readings that `witness` was made from.
        marks_ns: when stages began or ended: load tends to change there, and readings were due until then.
    """
    stream = series.channel.stream
    if series.t_ns.size == 0:
        return f"no readings of {stream} in this session"
    if series.channel.quantity is Quantity.POWER:
        is_constant = series.channel.is_constant and series.count.min() == series.count.max()
        return _constant_curve(series) if is_constant else _power_curve(series, marks_ns)
    sound = without_failed(series, has_witness=witness is not None)
    series = sound.series
    if series.t_ns.size == 1:
        others = f" beside {sum(gap.failed_reads for gap in sound.failed)} that failed" if sound.failed else ""
        return f"one reading of {stream} in this session{others}; a counter needs two"
    watched_ns = int(series.t_ns[-1] - series.t_ns[0])
    if not np.any(np.diff(series.count)) and watched_ns >= _STUCK_UPDATES * series.channel.update_period_ns:
        return f"{stream} did not move in {watched_ns / NS_PER_S:.1f} s: the counter is stuck"
    watched, every_s = f"{watched_ns / NS_PER_S:.3g} s", series.channel.update_period_ns / NS_PER_S
    if is_unrenewed(series):
        return f"{stream} showed no step of known energy in {watched}; it is renewed every {every_s:.3g} s"
    if witness is not None and _is_too_short(series, watched_ns, beside):
        return f"{stream} was renewed only once in {watched}; it is every {every_s:.3g} s"
    return replace(counter_curve(series, witness, beside, marks_ns), failed=sound.failed)


def _is_too_short(series: Series, watched_ns: int, beside: Series | None) -> bool:
    """Whether a far faster witness tells all of a session in which a counter was renewed but once (eq. 148).

    Nobody saw when the first value was renewed, so that a single step may have begun long before the session.
    """
    period_ns = series.channel.update_period_ns
    is_short = watched_ns < _FEW_UPDATES * period_ns and changes(series.count).size < _FEW_UPDATES
    return is_short and is_outpaced(period_ns, beside)


def _power_curve(series: Series, marks_ns: Sequence[int]) -> Curve:
    """Trapezoid between readings, each at the middle of what it averages over (eqs. 4, 5, 7)."""
    series, x_ns, lag_ns = _centred(series)
    power_w = series.count * series.channel.unit_si
    length_s = np.diff(x_ns) / NS_PER_S
    is_gap = np.diff(x_ns) > series.allowed_ns
    mean_w = (power_w[1:] + power_w[:-1]) / 2
    range_w = np.array([power_w.min(), power_w.max()])
    spread_w = unseen_half_w(series.channel, mean_w, range_w)
    kind = np.where(is_gap, Segment.BRIDGED_GAP, Segment.READ).astype(np.int8)
    covered = cover(series, kind)
    slope_w_per_s, settling_s = np.diff(power_w) / length_s, (series.channel.settling_ns or 0) / NS_PER_S
    drawn_w = mean_w + settling_s * slope_w_per_s  # eq. 4a
    second2, stride = _second_differences2(series, power_w)
    is_whole = leaves_nothing_out(series.channel)
    if is_whole:
        sampling_j2, inside_j = unseen_j2(series, power_w, second2), inside_averages_j(series.channel, second2)
    else:
        ends2 = (second2[1:] + second2[:-1]) / SECOND_DIFFERENCE
        sampling_j2, inside_j = stride * length_s**2 * ends2, np.zeros(power_w.size)
    read = Curve(
        x_ns=x_ns,
        energy_j=np.append(0.0, np.cumsum(drawn_w * length_s)),
        power_w=power_w[:-1] + settling_s * slope_w_per_s,
        slope_w_per_s=slope_w_per_s,
        kind=kind,
        low_w=drawn_w,
        high_w=drawn_w,
        whole_j=np.where(is_gap, spread_w * length_s, 0.0),
        sampling_j2=np.where(is_gap, 0.0, sampling_j2),
        lag_j=_smoothed_j(series, power_w) + _settling_j(power_w, settling_s) + inside_j,
        lag_ns=lag_ns,
        cover_ns=covered.cover_ns,
        covered_s=covered.covered_s,
        present_s=covered.present_s,
        resets_ns=np.array([], dtype=np.int64),
        repaired_j=np.array([], dtype=np.float64),
        steps_ns=x_ns if is_whole else np.array([], dtype=np.int64),
        step_ns=series.channel.update_period_ns if is_whole else 0,
    )
    return carry_on(read, series, ends_w=power_w[[0, -1]], range_w=range_w, marks_ns=marks_ns)


def _constant_curve(series: Series) -> Curve:
    """A model's constant: power times length, as far as readings show that the machine ran (eq. 8).

    No reading could have shown anything else, so nothing between them, or held beside them, is less known.
    """
    reach_ns, power_w = hold_ns(series), series.count[:1] * series.channel.unit_si
    x_ns = np.array([series.t_ns[0] - reach_ns, series.t_ns[-1] + reach_ns], dtype=np.int64)
    run_s = np.append(0.0, np.diff(x_ns) / NS_PER_S)
    zero = np.zeros(1)
    return Curve(
        x_ns=x_ns,
        energy_j=run_s * power_w,
        power_w=power_w,
        slope_w_per_s=zero,
        kind=np.array([Segment.READ], dtype=np.int8),
        low_w=power_w,
        high_w=power_w,
        whole_j=zero,
        sampling_j2=zero,
        lag_j=np.zeros(2),
        lag_ns=0,
        cover_ns=x_ns,
        covered_s=run_s,
        present_s=run_s,
        resets_ns=np.array([], dtype=np.int64),
        repaired_j=np.array([], dtype=np.float64),
    )


def _smoothed_j(series: Series, power_w: FloatArray) -> FloatArray:
    """Half-range of the energy at each reading from what a long average smooths away (eq. 7a); 0 for short ones.

    The average's own change over a reading tells how far power now differs from power an averaging time ago. Of a load
    that repeats in that time it shows nothing, so the swing is never taken for less than the power itself.
    """
    averaging_ns = series.channel.averaging_ns or 0
    if averaging_ns <= series.channel.update_period_ns or power_w.size < 2:
        return np.zeros(power_w.size)
    differs_w = np.diff(power_w) * averaging_ns / np.diff(series.t_ns)
    near = max(1, round(2 * averaging_ns / max(1, float(np.median(np.diff(series.t_ns))))))
    around = np.convolve(differs_w**2, np.ones(2 * near + 1), mode="full")[near : near + differs_w.size]
    counts = np.convolve(np.ones(differs_w.size), np.ones(2 * near + 1), mode="full")[near : near + differs_w.size]
    spread_w = np.sqrt(around / counts / 2)
    hidden_w = np.maximum(np.append(spread_w[:1], spread_w), _UNSEEN * np.abs(power_w))
    return np.asarray(_SMOOTHED * averaging_ns / NS_PER_S * hidden_w, dtype=np.float64)


def _settling_j(power_w: FloatArray, settling_s: float) -> FloatArray:
    """Half-range of the energy at each reading from what follows slowly (eq. 4a): its noise, and its time constant."""
    if not settling_s or power_w.size < 3:
        return np.zeros(power_w.size)
    noise_w = float(np.sqrt(np.quantile(np.diff(power_w, 2) ** 2, _QUIET) / _QUIET_SHARE / SECOND_DIFFERENCE_NOISE))
    unsure_w = _SETTLING_REL * np.abs(power_w - float(np.mean(power_w)))
    return np.asarray(settling_s * (np.sqrt(3.0) * noise_w + unsure_w), dtype=np.float64)


def _centred(series: Series) -> tuple[Series, IntArray, int]:
    """Readings that show a new value, the middle of what each averages over, and the half-range of these times.

    A value that is read more often than it is renewed is kept where it is first seen, and again where it has stood for
    a whole update: between, the same number would be taken for several.
    """
    channel = series.channel
    update_ns, averaging_ns = channel.update_period_ns, channel.averaging_ns
    age_ns = update_ns
    if channel.is_stamped:
        age_ns = 0
    elif series.t_ns.size > 2 and series.period_ns * _OVERSAMPLED <= update_ns:
        series, age_ns = _renewed(series), series.period_ns
    smooth_ns = update_ns if averaging_ns is None and channel.is_stamped else (averaging_ns or 0)
    lag_ns = max(age_ns // 2, update_ns // _STRAYS, smooth_ns // 2 if smooth_ns > update_ns else 0)
    return series, series.t_ns - age_ns // 2 - smooth_ns // 2, lag_ns


def _renewed(series: Series) -> Series:
    """Without readings of a value that was seen before and has not yet stood for an update period."""
    keep = np.append(True, np.diff(series.count) != 0)
    first_ns = series.t_ns[np.maximum.accumulate(np.where(keep, np.arange(keep.size), 0))]
    update_ns = series.channel.update_period_ns
    stood = (series.t_ns - first_ns) // update_ns
    keep |= np.append(False, np.diff(stood) > 0)
    return replace(series, t_ns=series.t_ns[keep], count=series.count[keep])


def _second_differences2(series: Series, power_w: FloatArray) -> tuple[FloatArray, int]:
    """Squared second differences at each reading, and over how many readings they are taken (eq. 7)."""
    spacing_ns = int(np.median(np.diff(series.t_ns))) if series.t_ns.size > 1 else series.period_ns
    stride = max(1, round(series.channel.update_period_ns / max(1, spacing_ns)))
    stride = min(stride, power_w.size)
    padded = np.pad(power_w, stride, mode="edge")
    second2 = (padded[: -2 * stride] - 2 * power_w + padded[2 * stride :]) ** 2
    return np.maximum(second2, np.quantile(second2, _QUIET) / _QUIET_SHARE), stride
