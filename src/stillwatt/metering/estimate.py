"""Energies of windows from a ledger stream and its witness (method.md, eqs. 2 to 7 and 9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stillwatt.metering.agreement import Told
from stillwatt.metering.attribute import WeightedWindow
from stillwatt.metering.checks import against_witness, own_readings, unread
from stillwatt.metering.cumulate import cumulate
from stillwatt.metering.curve import Curve, hold_ns
from stillwatt.metering.halfwidth import Evaluation, evaluate
from stillwatt.metering.rejection import REASON
from stillwatt.metering.series import IntArray, Series
from stillwatt.metering.windows import Profile, profile
from stillwatt.records.channel import Basis, Channel, Quantity
from stillwatt.records.energy import Absent, Energy
from stillwatt.records.sample import SampleGap
from stillwatt.units import NS_PER_S

_ALL_MISSING = 1.0 - 2.0**-40
"""A window of which this share is missing holds nothing but rounding."""
_NO_JOULES_J = 2.0**-30
"""What rounding leaves of joules; a knot moved by its lag can put more behind the last reading."""


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """Energies of several owners of windows, from one part's streams.

    Attributes:
        energies: one per owner.
        notes: what the reader of the record should know: resets, readings left out.
    """

    energies: tuple[Energy | Absent, ...]
    notes: tuple[str, ...]


def estimate(
    ledger: Series, witness: Series | None, windows: Sequence[WeightedWindow], *, marks_ns: Sequence[int] = ()
) -> Energy | Absent:
    """Energy of one set of windows with its interval (method.md, eqs. 3 to 9).

    Args:
        ledger: the stream that is booked.
        witness: a stream of the same part beside it; used where the ledger is a counter.
        windows: may touch or overlap; overlapping weights add.
        marks_ns: when stages began or ended; energies add up over windows that are estimated with the same marks.

    Returns:
        The energy, or Absent where there is no reading to estimate from: never 0 for "don't know".

    >>> from stillwatt.records import Boundary, Role
    >>> channel = Channel(part="gpu0", device="x", boundary=Boundary.BOARD, quantity=Quantity.POWER, unit_si=1.0,
    ...                   role=Role.LEDGER, driver="nvml", basis=Basis.MEASURED, gain_low_rel=0.05,
    ...                   gain_high_rel=0.05, update_period_ns=1)
    >>> series = Series(channel, np.arange(5) * NS_PER_S, np.full(5, 100.0))
    >>> energy = estimate(series, None, [WeightedWindow(NS_PER_S, 3 * NS_PER_S)])
    >>> energy.value_j, energy.random_j, energy.systematic_high_j
    (200.0, 0.0, 10.0)
    """
    return estimate_many(ledger, witness, [windows], marks_ns=marks_ns).energies[0]


def estimate_many(
    ledger: Series,
    witness: Series | None,
    owners: Sequence[Sequence[WeightedWindow]],
    *,
    marks_ns: Sequence[int] = (),
) -> Estimates:
    """Energies of many owners at once; one pass over the readings (method.md, eqs. 3 to 9)."""
    return estimate_profile(ledger, witness, profile(owners), marks_ns=marks_ns)


def estimate_profile(
    ledger: Series, witness: Series | None, windows: Profile, *, marks_ns: Sequence[int] = ()
) -> Estimates:
    """`estimate_many` for windows that are already laid out as arrays."""
    channel = ledger.channel
    beside = cumulate(witness, marks_ns=marks_ns) if witness is not None else None
    if isinstance(beside, Curve):
        curve = cumulate(ledger, beside, witness, marks_ns)
    else:
        curve = cumulate(ledger, marks_ns=marks_ns)
    notes = _dropped(ledger) + (() if witness is None else _dropped(witness))
    if isinstance(curve, str) and witness is not None and isinstance(beside, Curve) and witness.t_ns.size > 1:
        return _from_witness(witness, windows, curve, marks_ns)
    if isinstance(curve, str):
        absent = Absent(part=channel.part, boundary=channel.boundary, reason=curve)
        return Estimates((absent,) * windows.num_owners, notes)
    found = evaluate(curve, windows)
    checked = own_readings(ledger, windows)
    if witness is not None and isinstance(beside, Curve):
        checked = against_witness(Told(ledger, curve), found, Told(witness, beside), windows)
    # what two instruments, or a beat, leave open is one and the same in all stages: a bias (eq. 140)
    found = replace(found, random_j=found.random_j + checked.extra_j, placing_j=found.placing_j + checked.extra_j)
    failed = _failed_reads((*ledger.gaps, *curve.failed), windows)
    stood, guessed = _stood(channel, curve, windows), unread(found)
    energies = tuple(
        _energy(ledger, found, owner, int(failed[owner]), (*checked.flags[owner], *stood[owner], *guessed[owner]))
        for owner in range(windows.num_owners)
    )
    return Estimates(energies, notes + _rejected(channel, curve) + _resets(channel, curve))


def _from_witness(witness: Series, windows: Profile, reason: str, marks_ns: Sequence[int]) -> Estimates:
    """Energies from power where the counter that is booked tells nothing at all: power is an instrument too."""
    found = estimate_profile(witness, None, windows, marks_ns=marks_ns)
    flag = f"counter-silent: {reason}; what power showed is booked"
    energies = tuple(
        replace(energy, flags=(flag, *energy.flags)) if isinstance(energy, Energy) else energy
        for energy in found.energies
    )
    return Estimates(energies, found.notes)


def _stood(channel: Channel, curve: Curve, windows: Profile) -> list[tuple[str, ...]]:
    """Flags of each owner that holds some of a time in which the counter stood still."""
    flags: list[tuple[str, ...]] = [()] * windows.num_owners
    for stand in curve.stands:
        if stand.is_told:
            inside = (windows.start_ns < stand.end_ns) & (windows.end_ns > stand.start_ns)
            for owner in np.unique(windows.owner[inside]):
                flags[owner] = (*flags[owner], stand.said(channel.stream))
    return flags


def _energy(
    ledger: Series, found: Evaluation, owner: int, failed_reads: int, flags: tuple[str, ...]
) -> Energy | Absent:
    channel = ledger.channel
    total_s, missing_s = float(found.total_s[owner]), float(found.missing_s[owner])
    has_joules = abs(float(found.value_j[owner])) > _NO_JOULES_J
    if total_s > 0 and missing_s >= total_s * _ALL_MISSING and not has_joules:
        reach_s = hold_ns(ledger) / NS_PER_S
        reason = f"no usable reading of {channel.stream} within {reach_s:.3g} s of these {total_s:.3g} s"
        return Absent(part=channel.part, boundary=channel.boundary, reason=reason)
    value_j = float(found.value_j[owner])
    return Energy(
        part=channel.part,
        device=channel.device,
        boundary=channel.boundary,
        value_j=value_j,
        random_j=float(found.random_j[owner]),
        systematic_low_j=channel.gain_low_rel * abs(value_j),
        systematic_high_j=channel.gain_high_rel * abs(value_j),
        basis=channel.basis,
        method=_method(channel),
        coverage=float(found.covered_s[owner]) / total_s if total_s > 0 else 1.0,
        failed_reads=failed_reads,
        estimated_j=float(found.estimated_j[owner]),
        missing_s=missing_s,
        driver=channel.driver,
        source=channel.source,
        flags=flags,
        placing_j=float(found.placing_j[owner]),
        in_step_cos_j=float(found.in_step_cos_j[owner]),
        in_step_sin_j=float(found.in_step_sin_j[owner]),
    )


def _method(channel: Channel) -> str:
    if channel.basis is not Basis.MEASURED:
        return "model"
    return "counter" if channel.quantity is Quantity.ENERGY_COUNTER else "power_trapezoid"


def _failed_reads(gaps: Sequence[SampleGap], windows: Profile) -> IntArray:
    """Failed reads inside each owner's windows: those of a gap lie at equal distances inside it (eq. 5)."""
    failed_ns = np.sort(
        np.concatenate(
            [np.array([], dtype=np.int64)]
            + [
                gap.start_ns
                + (2 * np.arange(gap.failed_reads) + 1) * (gap.end_ns - gap.start_ns) // (2 * gap.failed_reads)
                for gap in gaps
                if gap.failed_reads > 0
            ]
        )
    )
    inside = np.searchsorted(failed_ns, windows.end_ns) - np.searchsorted(failed_ns, windows.start_ns)
    return np.round(windows.per_owner(inside.astype(np.float64))).astype(np.int64)


def _dropped(series: Series) -> tuple[str, ...]:
    if not series.dropped:
        return ()
    return (f"{series.channel.stream}: {series.dropped} readings left out (no number, or two at one time)",)


def _rejected(channel: Channel, curve: Curve) -> tuple[str, ...]:
    """One line for all readings that were left out, however many."""
    count = sum(gap.failed_reads for gap in curve.failed)
    if not count:
        return ()
    readings = "a reading" if count == 1 else f"{count} readings"
    between = f"between {curve.failed[0].start_ns / NS_PER_S:.3f} and {curve.failed[-1].end_ns / NS_PER_S:.3f} s"
    return (f"{channel.stream}: {readings} {between} gave {REASON}; left out as failed",)


def _resets(channel: Channel, curve: Curve) -> tuple[str, ...]:
    """One line for all distances that are missing, and one for all that the witness stands in for."""
    is_missing = np.isnan(curve.repaired_j)
    notes = []
    for t_ns, joules in (
        (curve.resets_ns[is_missing], None),
        (curve.resets_ns[~is_missing], float(np.sum(curve.repaired_j[~is_missing]))),
    ):
        if t_ns.size:
            cure = "its joules are missing" if joules is None else f"{joules:.3g} J from the witness stand in"
            what = f"{channel.stream}: the counter's distance after {_readings(t_ns)} is unknown"
            notes.append(f"{what} (reset, jump or unseen wrap); {cure}")
    return tuple(notes)


def _readings(t_ns: IntArray) -> str:
    if t_ns.size == 1:
        return f"the reading at {t_ns[0] / NS_PER_S:.3f} s"
    return f"{t_ns.size} readings from {t_ns[0] / NS_PER_S:.3f} to {t_ns[-1] / NS_PER_S:.3f} s"
