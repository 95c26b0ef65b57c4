"""Calibrate a card by an external meter: a run, the meter's log of the same time, one gain per stream."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from stillwatt.clock import Clock, iso_utc
from stillwatt.config.tomlvalue import toml_value
from stillwatt.errors import CalibrationError, UsageError
from stillwatt.metering.calibrate import GainFit, Refused, fit_gain
from stillwatt.metering.cells import teller
from stillwatt.metering.cumulate import cumulate
from stillwatt.metering.curve import Curve
from stillwatt.metering.series import Series
from stillwatt.records.channel import Boundary, Channel, Role
from stillwatt.sensors.calibration import (
    CALIBRATION_SCHEMA,
    Calibration,
    base_source,
    driver_version,
    has_uuid,
    read_calibrations,
)
from stillwatt.units import nanoseconds, seconds
from stillwatt.workflows.meter_log import ReadLog, read_meter_log

if TYPE_CHECKING:
    from stillwatt.ledger.places import Place
    from stillwatt.ledger.post import RunFacts

METER_BOUNDARIES = (Boundary.BOARD.value, Boundary.NODE.value, Boundary.WALL.value)
DEFAULT_ACCURACY = 0.01
DEFAULT_MAX_OFFSET_S = 120.0
_DEFAULT_GAIN_REL = 0.05
"""What a card that nobody calibrated is held to; a calibration must say more than that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterFacts:
    """What the user says of the meter."""

    boundary: str
    """What it measures: the card's own supplies (`board`), the node, or the wall."""
    name: str = ""
    accuracy_rel: float = DEFAULT_ACCURACY
    """Its own systematic error; it joins the gain's interval."""
    efficiency: tuple[float, float] | None = None
    """Range of the share of its power that reaches the card's supplies; needed for everything but `board`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationOutcome:
    """What was found and written."""

    part: str
    path: Path
    calibrations: tuple[Calibration, ...]
    notes: tuple[str, ...]


def calibrate(
    csv_path: Path,
    meter: MeterFacts,
    *,
    part: str,
    runs_dir: Path,
    run: str,
    max_offset_s: float = DEFAULT_MAX_OFFSET_S,
    out: Path,
    clock: Clock,
) -> CalibrationOutcome:
    """Find the gain of one part's streams against a meter's log of the same time, and write it down (eq. 16b).

    Raises:
        MissingInputError: there is no such log.
        ConfigError: the log cannot be read; or the file of calibrations is broken, and would be lost.
        UsageError: what is said of the meter cannot be meant.
        RunNotFoundError: no such run.
        CalibrationError: the data are too weak; nothing was written.
    """
    from stillwatt.ledger.liveness import ThisHost
    from stillwatt.ledger.post import read_run
    from stillwatt.ledger.store import LedgerStore

    _check(meter)
    read = read_meter_log(csv_path)
    with LedgerStore(runs_dir) as store:
        store.refresh()
        run_id = store.resolve(run)
    facts = read_run(runs_dir / run_id, liveness=ThisHost())
    reading = _longest(str(csv_path), part, facts)
    meter = replace(meter, name=meter.name or csv_path.stem)
    work = _Work(str(csv_path), read, meter, run_id, max_offset_s, iso_utc(clock.utc_ns()))
    found, notes = work.streams(reading)
    _write(out, found)
    return CalibrationOutcome(part=part, path=out, calibrations=found, notes=tuple(dict.fromkeys(notes)))


@dataclass(frozen=True, slots=True, eq=False)
class _Reading:
    place: Place
    streams: tuple[Series, Series | None]
    """What is booked, and its witness."""


@dataclass(frozen=True, slots=True)
class _Work:
    path: str
    read: ReadLog
    meter: MeterFacts
    run_id: str
    max_offset_s: float
    date: str

    def streams(self, reading: _Reading) -> tuple[tuple[Calibration, ...], list[str]]:
        """Calibrations of the booked stream and of its witness; one of the witness alone would be of no use."""
        found, notes = [], []
        ledger, witness = reading.streams
        for series in filter(None, reading.streams):
            fit = self._fit(series, witness if series is ledger else None, reading.place)
            reasons = fit.reasons if isinstance(fit, Refused) else ()
            calibration = None if isinstance(fit, Refused) else self._calibration(series, fit)
            if calibration is not None and _half_rel(calibration) >= _DEFAULT_GAIN_REL:
                reasons = (
                    f"the interval of its gain, {calibration.gain_low:.4g} to {calibration.gain_high:.4g}, is no "
                    f"narrower than the ±{_DEFAULT_GAIN_REL:.0%} that holds without",
                )
            if calibration is None or reasons:
                if series.channel.role is Role.LEDGER:
                    raise CalibrationError(self.path, series.channel.stream, reasons, "nothing was written")
                notes.append(f"{series.channel.stream} is left as it was: {'; '.join(reasons)}")
                continue
            found.append(calibration)
            if isinstance(fit, GainFit) and fit.averaging_s:
                notes.append(
                    f"{series.channel.stream}: each of the meter's readings averages over about {fit.averaging_s:.2g} "
                    "s, longer than they are apart; it was held against as much of the card's power"
                )
            notes += self._notes(series, calibration)
        return tuple(found), notes

    def _fit(self, series: Series, witness: Series | None, place: Place) -> GainFit | Refused:
        curve = _curve(_uncalibrated(series, place), witness and _uncalibrated(witness, place))
        if isinstance(curve, str):
            return Refused(reasons=(curve,))
        log, max_shift_s = self.read.log, self.max_offset_s
        origin_ns = place.start_ns - place.start_utc_ns
        if not self.read.is_wall_clock:
            log = replace(log, t_s=log.t_s - log.t_s[0])
            origin_ns = int(series.t_ns[0])
            # it counts from its own beginning, which may lie anywhere as long as the two overlap
            max_shift_s = max(float(log.t_s[-1]), float(seconds(int(series.t_ns[-1] - series.t_ns[0]))))
        else:
            begin_ns = nanoseconds(float(log.t_s[0]))
            log, origin_ns = replace(log, t_s=log.t_s - log.t_s[0]), origin_ns + begin_ns
        return fit_gain(curve, origin_ns, log, max_shift_s=max_shift_s)

    def _calibration(self, series: Series, fit: GainFit) -> Calibration:
        channel, (low, high) = series.channel, self.meter.efficiency or (1.0, 1.0)
        share = (low + high) / 2
        gain = fit.gain * share
        # an offset that is no chance acts on joules as much as it weighs against the mean of the span
        beyond_w = max(0.0, abs(fit.offset_w) - fit.offset_half_w) * (self.meter.boundary == channel.boundary.value)
        half_rel = math.hypot(
            fit.gain_half / fit.gain,
            self.meter.accuracy_rel,
            (high - low) / (high + low),
            beyond_w / (fit.gain * (fit.low_w + fit.high_w) / 2),
        )
        return Calibration(
            device=channel.device,
            quantity=channel.quantity.value,
            driver=channel.driver,
            source=base_source(channel.source),
            driver_version=driver_version(channel.source),
            meter=self.meter.name,
            boundary=self.meter.boundary,
            date=self.date,
            gain=gain,
            gain_low=gain * (1.0 - half_rel),
            gain_high=gain * (1.0 + half_rel),
            offset_w=fit.offset_w,
            offset_half_w=fit.offset_half_w,
            readings=fit.readings,
            length_s=fit.length_s,
            low_w=fit.low_w,
            high_w=fit.high_w,
            residual_w=fit.residual_w,
            correlation=fit.correlation,
            shift_s=fit.shift_s,
            run=self.run_id,
        )

    def _notes(self, series: Series, found: Calibration) -> Iterator[str]:
        yield (
            f"the meter's own accuracy is taken as {self.meter.accuracy_rel:.2%}, and is in the interval; "
            "--meter-accuracy says otherwise"
        )
        if self.meter.boundary != series.channel.boundary.value:
            yield (
                f"the meter measures the {self.meter.boundary}: whatever else in it works harder when the card does is "
                "in this gain and not in its interval; measure at the card where you can"
            )
        elif abs(found.offset_w) > found.offset_half_w:
            yield (
                f"{series.channel.stream}: the meter reads {found.offset_w:+.3g} ± {found.offset_half_w:.2g} W where "
                "the card says 0 W; no offset is applied, and the gain's interval is wider for it"
            )


def _half_rel(found: Calibration) -> float:
    return (found.gain_high - found.gain_low) / (2 * found.gain)


def _check(meter: MeterFacts) -> None:
    if meter.boundary not in METER_BOUNDARIES:
        raise UsageError(
            "say what the meter measures with --boundary: `board` is the card's own supplies (slot and cables), and a "
            "meter at the node or the wall sees the rest of the machine as well"
        )
    if not 0.0 <= meter.accuracy_rel < 1.0:
        raise UsageError(f"--meter-accuracy {meter.accuracy_rel:g} is no fraction from 0 to below 1")
    if meter.boundary == Boundary.BOARD.value:
        if meter.efficiency is not None:
            raise UsageError(
                "--efficiency is for a meter at the node or the wall; at the board nothing is lost between"
            )
    elif meter.efficiency is None:
        raise UsageError(
            f"a meter at the {meter.boundary} reads the card's power divided by what the supply passes on; give the "
            "supply's efficiency at this load as --efficiency LOW HIGH (80 PLUS lists them), or measure at the board"
        )
    elif not 0.0 < meter.efficiency[0] <= meter.efficiency[1] <= 1.0:
        raise UsageError(f"--efficiency {meter.efficiency[0]:g} {meter.efficiency[1]:g} is no range of shares up to 1")


def _curve(series: Series, witness: Series | None) -> Curve | str:
    """The stream's own energy; its shape from the card's record of power, where a counter is read rarely (eq. 3b)."""
    if witness is None or teller(series, witness) is series:
        return cumulate(series)
    beside = cumulate(witness)
    return cumulate(series, beside, witness) if isinstance(beside, Curve) else cumulate(series)


def _uncalibrated(series: Series, place: Place) -> Series:
    return Series(_raw(series.channel, place), series.t_ns, series.count, series.gaps)


def _raw(channel: Channel, place: Place) -> Channel:
    """A channel as its driver described it, without the gain of an earlier calibration."""
    described = (each for session in place.sessions for each in session.channels.values())
    found = next(each for each in described if (each.device, each.quantity) == (channel.device, channel.quantity))
    return replace(channel, unit_si=found.unit_si)


def _longest(path: str, part: str, facts: RunFacts) -> _Reading:
    """The streams of the place that read the part for longest."""
    from stillwatt.ledger.places import place_series, places

    by_place = [(place, place_series(place)[0]) for place in places(facts.sessions)]
    having = [_Reading(place, series[part]) for place, series in by_place if part in series]
    if not having:
        parts = ", ".join(sorted({name for _, series in by_place for name in series})) or "none"
        raise CalibrationError(path, part, [f"run {facts.run_id} has no readings of it; it read: {parts}"])
    longest = max(having, key=lambda each: _span_ns(each.streams[0]))
    device = longest.streams[0].channel.device
    if not has_uuid(device):
        reason = f"its device, {device!r}, is not the name of one piece of hardware, so a gain could land on another"
        raise CalibrationError(path, part, [reason], "cards with a UUID can be calibrated")
    return longest


def _span_ns(series: Series) -> int:
    """Nanoseconds from the first to the last reading."""
    return int(series.t_ns[-1] - series.t_ns[0]) if series.t_ns.size else 0


def _write(path: Path, found: Sequence[Calibration]) -> None:
    """Put calibrations into the file in place of earlier ones of the same streams, in one step."""
    kept: tuple[Calibration, ...] = ()
    if path.exists():
        kept, problem = read_calibrations(path)
        if problem:
            raise CalibrationError(str(path), "any card", [problem], "mend or move the file, so that nothing is lost")
    fresh = {(c.device, c.quantity, c.source) for c in found}
    entries = [*(c for c in kept if (c.device, c.quantity, c.source) not in fresh), *found]
    lines = [f"schema = {toml_value(CALIBRATION_SCHEMA)}"]
    for entry in entries:
        lines += ["", "[[calibrations]]"]
        lines += [f"{name} = {toml_value(value)}" for name, value in dataclasses.asdict(entry).items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh_path = path.with_name(f".{path.name}.{os.getpid()}")
    fresh_path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.replace(fresh_path, path)
