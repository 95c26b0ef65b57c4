"""What two instruments of one part, or one instrument's own readings, give away about an energy (eqs. 7b, 7c, 141)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillwatt.metering.agreement import Told, apart, common_ratio, may_have_missed
from stillwatt.metering.halfwidth import Evaluation, evaluate
from stillwatt.metering.series import FloatArray, Series
from stillwatt.metering.windows import Profile
from stillwatt.records.channel import Channel, Quantity
from stillwatt.records.energy import Energy
from stillwatt.units import NS_PER_MS, NS_PER_S

ALIASED, DISAGREES, ESTIMATED = "aliased", "witness-disagrees", "estimated"
"""The words that flags begin with."""
_TELLING = 0.05
"""Share of an energy from which on it is told that it was estimated, where nothing was read for as large a share of
the time."""
_LEAST_TOLD_NS = NS_PER_S // 2
"""Less than this is what a short session has before its first and after its last reading."""
_LEAST_CHANGES = 6
_CONTEXT_NS = 10 * NS_PER_S
"""A beat is looked for this long before and after a window: a short window may lie in one of its lulls."""
_FARTHEST = 1.3
"""How far, in standard deviations of a beat's readings, the mean of a few of them may lie from that of all."""
_LEAST_SWING = 0.2
"""Readings that swing by less than this share of their mean cannot be far off, aliased or not."""
_LAGS = (1, 2, 4)
"""Over more than one reading, so that the scatter of the instrument's own times does not hide a slow flank."""
_SMOOTH = 0.3
"""Neighbouring changes go the same way by this much or more where a load is seen in slow motion (eq. 7c)."""
_NOISE_W = 3.0
_PART_TIME = 0.67
"""An instrument that averages over less than this share of its update period looks away for part of the time."""


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """Per owner: flags, and what to add to the random half-width for them."""

    flags: tuple[tuple[str, ...], ...]
    extra_j: FloatArray


def against_witness(booked: Told, found: Evaluation, witness: Told, windows: Profile) -> Checked:
    """Flag energies that the booked stream and its witness give beyond both intervals (eqs. 7b and 141).

    Which of the two is right is not known, so both numbers are told and the interval is widened to hold both; and where
    they stand in one ratio all along the session, so are those of all its stages. But where the witness looks away for
    part of the time and its swing explains that they differ, a load faster than the booked stream's steps is the likely
    cause: there the witness is off, and the edges of all stages are as uncertain as such a load makes them, by half a
    step of that stream times the witness's swing.
    """
    seen = evaluate(witness.curve, windows)
    apart_j, joint_j = apart(found, seen, booked.gain, witness.gain)
    is_whole = (seen.missing_s == 0) & (found.missing_s == 0) & (found.total_s > 0)
    is_off = is_whole & (apart_j > joint_j)
    ratio = common_ratio(booked, witness) if np.any(is_off) else None
    is_aliased = np.zeros(is_off.size, dtype=np.bool_)
    if ratio is not None:
        is_off = is_whole
    elif looks_away(witness.series.channel):
        is_aliased = is_off & may_have_missed(booked, found, witness)
    said = _Said(booked.series.channel, witness.series.channel, ratio)
    flags = [
        (said.flag(*(float(number) for number in numbers), is_aliased=bool(aliased)),) if off else ()
        for off, aliased, *numbers in zip(is_off, is_aliased, found.value_j, seen.value_j, joint_j, strict=True)
    ]
    reach_j = apart_j + interval_j(seen.random_j, witness.gain * np.abs(seen.value_j))
    extra_j = np.where(is_off & ~is_aliased, np.maximum(reach_j - found.random_j, 0.0), 0.0)
    if np.any(is_aliased):
        count, unit_si = witness.series.count, witness.series.channel.unit_si
        swing_w = float(np.max(count) - np.min(count)) * unit_si
        extra_j += swing_w * booked.series.channel.update_period_ns / NS_PER_S / 2
    return Checked(tuple(flags), extra_j)


def interval_j(random_j: FloatArray, systematic_j: FloatArray) -> FloatArray:
    """Half-width of an interval from its random and its systematic part (eq. 9)."""
    return np.asarray(np.hypot(random_j, systematic_j), dtype=np.float64)


def doubts(energy: Energy) -> tuple[str, ...]:
    """Flags by which two instruments, or one's own readings, contradict the energy."""
    return tuple(flag for flag in energy.flags if flag.startswith((ALIASED, DISAGREES)))


def unread(found: Evaluation) -> list[tuple[str, ...]]:
    """Flag energies of which much was drawn while nothing was read (eq. 5)."""
    unread_s = found.total_s - found.covered_s - found.missing_s
    is_told = found.estimated_j > _TELLING * np.abs(found.value_j)
    is_told &= (unread_s > _TELLING * found.total_s) & (unread_s * NS_PER_S > _LEAST_TOLD_NS)
    return [
        (f"{ESTIMATED}: {estimated_j:.4g} of {value_j:.4g} J are for {gone_s:.3g} of {all_s:.3g} s without a reading",)
        if told
        else ()
        for told, estimated_j, value_j, gone_s, all_s in zip(
            is_told, found.estimated_j, found.value_j, unread_s, found.total_s, strict=True
        )
    ]


def own_readings(ledger: Series, windows: Profile) -> Checked:
    """Flag and widen energies from a part-time instrument whose readings look like a load in slow motion (eq. 7c)."""
    flags: list[tuple[str, ...]] = [()] * windows.num_owners
    extra_j = np.zeros(windows.num_owners)
    if not looks_away(ledger.channel) or not ledger.t_ns.size:
        return Checked(tuple(flags), extra_j)
    power_w, seconds = ledger.count * ledger.channel.unit_si, windows.seconds
    for owner in np.unique(windows.owner):
        own = windows.owner == owner
        start_ns, end_ns = int(windows.start_ns[own].min()), int(windows.end_ns[own].max())
        around = slice(*np.searchsorted(ledger.t_ns, [start_ns - _CONTEXT_NS, end_ns + _CONTEXT_NS]))
        inside = slice(*np.searchsorted(ledger.t_ns, [start_ns, end_ns]))
        half_w = beat_half_w(power_w[around], power_w[inside])
        if half_w is not None:
            extra_j[owner] = half_w * seconds[owner]
            flags[owner] = (
                f"{ALIASED}: {_looks(ledger.channel)}, and the readings swing slowly as those of a faster load would; "
                f"widened by {half_w:.3g} W",
            )
    return Checked(tuple(flags), extra_j)


def looks_away(channel: Channel) -> bool:
    """Whether the instrument is known to look only part of the time."""
    return channel.averaging_ns is not None and 0 < channel.averaging_ns < _PART_TIME * channel.update_period_ns


def beat_half_w(around_w: FloatArray, inside_w: FloatArray) -> float | None:
    """Half-range of the mean of readings that swing as a beat does, or None where they do not.

    A step of load is one jump between two readings of a part-time instrument. A load that repeats a little faster or
    slower than the readings shows as a slow wave whose flanks take several readings, all in one direction.

    Args:
        around_w: readings in and around the window, which show whether there is a beat.
        inside_w: readings in the window; every whole swing in it averages the beat out.

    >>> beat = np.tile([400.0] * 8 + [300.0, 200.0, 100.0] + [80.0] * 8 + [180.0, 280.0], 4)
    >>> beat_half_w(beat, beat[:6]) is None
    False
    >>> steps = np.tile([400.0] * 9 + [80.0] * 9, 4)
    >>> beat_half_w(steps, steps) is None
    True
    """
    renewed_w = around_w[np.append(True, np.diff(around_w) != 0)] if around_w.size else around_w
    if np.count_nonzero(np.abs(np.diff(renewed_w)) > _NOISE_W) < _LEAST_CHANGES:
        return None
    swing_w = float(np.quantile(around_w, 0.95) - np.quantile(around_w, 0.05))
    if swing_w < _LEAST_SWING * float(np.mean(around_w)):
        return None
    if max(_smoothness(renewed_w, lag) for lag in _LAGS) < _SMOOTH:
        return None
    swings = int(np.count_nonzero(np.diff(inside_w > float(np.mean(around_w))))) // 2
    return _FARTHEST * float(np.std(around_w)) / float(np.sqrt(1.0 + swings))


def _smoothness(power_w: FloatArray, lag: int) -> float:
    """How far changes over `lag` readings go on over the next `lag`: 0 for jumps, up to 1 for slow flanks."""
    if power_w.size <= 2 * lag:
        return 0.0
    changes_w = power_w[lag:] - power_w[:-lag]
    square = float(np.sum(changes_w**2))
    return float(np.sum(changes_w[lag:] * changes_w[:-lag])) / square if square > 0 else 0.0


@dataclass(frozen=True, slots=True)
class _Said:
    """What is told of two streams that differ."""

    booked: Channel
    witness: Channel
    ratio: float | None
    """In which they stand all along the session."""

    def flag(self, value_j: float, other_j: float, joint_j: float, *, is_aliased: bool) -> str:
        first, second = _called(self.booked, self.witness), _called(self.witness, self.booked)
        both = f"{first} gives {value_j:.4g} J and {second} {other_j:.4g} J"
        if abs(value_j - other_j) > joint_j:
            both = f"{both}, further apart than {joint_j:.3g} J"
        if is_aliased:
            return f"{ALIASED}: {both}; {_looks(self.witness)}, and the load may beat with it"
        if self.ratio is not None:
            return f"{DISAGREES}: {both}; all along the session the one gives {self.ratio:.3g} of the other"
        if looks_away(self.witness):
            return f"{DISAGREES}: {both}; {_looks(self.witness)}, which does not explain it"
        return f"{DISAGREES}: {both}"


def _called(channel: Channel, other: Channel) -> str:
    """What a stream is, as far as it takes to tell it from another one of the same part."""
    name = "the counter" if channel.quantity is Quantity.ENERGY_COUNTER else "power"
    return name if channel.quantity is not other.quantity else f"{name} of {channel.driver}"


def _looks(channel: Channel) -> str:
    seen_ms, update_ms = (channel.averaging_ns or 0) / NS_PER_MS, channel.update_period_ns / NS_PER_MS
    return f"{channel.stream} looks at {seen_ms:g} of every {update_ms:g} ms"
