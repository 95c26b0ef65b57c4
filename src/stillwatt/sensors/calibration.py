"""Gains of single cards against an external meter: the user's file of them, and what they do to channels.

A gain belongs to one card (its UUID), one quantity and one way of reading it: the call, the card's name and the
driver's version, which is what a channel's source says. With another driver the same card may read otherwise, so its
gain is not used then, and that is said.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from stillwatt.records import Channel

CALIBRATION_SCHEMA = "stillwatt.calibration/1"
RECALIBRATE = "`stillwatt doctor --calibrate CSV` makes a new one; docs/how-to/idle-and-calibration.md"
_KINDS: Mapping[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float)}
_SAID = "; calibrated by "
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_PACE = re.compile(r"; read every [^;]+")
_DRIVER = re.compile(r"\bdriver ([^;\s]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """One card's gain, by one way of reading it, and how it was found."""

    device: str
    quantity: str
    driver: str
    source: str
    """The channel's source when it was calibrated: call, card, driver version."""
    driver_version: str
    meter: str
    boundary: str
    """What the meter measured."""
    date: str
    gain: float
    gain_low: float
    """Lower end of the 95 % interval, the meter's own accuracy included."""
    gain_high: float
    offset_w: float
    offset_half_w: float
    readings: int
    length_s: float
    low_w: float
    high_w: float
    residual_w: float
    correlation: float
    shift_s: float
    run: str

    def __post_init__(self) -> None:
        if not (0.0 < self.gain_low <= self.gain <= self.gain_high < math.inf and self.gain_high < 2.0 * self.gain):
            raise ValueError(f"gain {self.gain} with an interval of {self.gain_low} to {self.gain_high} is none")


def read_calibrations(path: Path) -> tuple[tuple[Calibration, ...], str]:
    """The calibrations of a file, and what is wrong with it; one that cannot be understood is left out and told of."""
    import tomllib  # most machines have no such file, and the sampling process stays small

    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        return (), f"{path} cannot be read ({err}); no card is calibrated"
    if document.get("schema") != CALIBRATION_SCHEMA:
        return (
            (),
            f"{path}: its schema is {document.get('schema')!r}, not {CALIBRATION_SCHEMA!r}; no card is calibrated",
        )
    found, problems = [], []
    entries = document.get("calibrations", [])
    for number, entry in enumerate(entries if isinstance(entries, list) else [None], start=1):
        try:
            found.append(_calibration(entry))
        except (KeyError, TypeError, ValueError) as err:
            problems.append(f"{path}: calibration {number} cannot be understood ({err}) and is left out")
    return tuple(found), "; ".join(problems)


def apply_calibrations(
    channels: Sequence[Channel], calibrations: Sequence[Calibration]
) -> tuple[tuple[Channel, ...], list[str]]:
    """Channels with their gains, and what is to be said of calibrations that fit a card and are not used."""
    applied, notes = [], []
    for channel in channels:
        of_card = [c for c in calibrations if (c.device, c.quantity) == (channel.device, channel.quantity.value)]
        fitting = [c for c in of_card if (c.driver, c.source) == (channel.driver, base_source(channel.source))]
        if fitting:
            applied.append(_with_gain(channel, fitting[-1]))
            continue
        applied.append(channel)
        notes += [
            f"{channel.stream}: the calibration of {c.date} is ignored, since it was made with {c.source!r} and this "
            f"is {channel.source!r}"
            for c in of_card
        ]
    return tuple(applied), notes


def base_source(source: str) -> str:
    """What a gain belongs to: a channel's source without what a calibration added, and without how often it is read.

    That may differ from one version of this program to the next, and changes no reading.

    >>> base_source("call; card; driver 1; calibrated by meter on 2026-01-01")
    'call; card; driver 1'
    >>> base_source("call; card; driver 1; read every 1 s")
    'call; card; driver 1'
    """
    return _PACE.sub("", source.partition(_SAID)[0])


def driver_version(source: str) -> str:
    """The driver's version that a channel's source names; empty where it names none.

    >>> driver_version("nvmlDeviceGetPowerUsage; NVIDIA A100; driver 580.65.06; MIG mode: the whole card")
    '580.65.06'
    """
    found = _DRIVER.search(source)
    return found[1] if found else ""


def has_uuid(device: str) -> bool:
    """Whether a device's name is that of one piece of hardware and no other.

    >>> has_uuid("GPU-5c1a8f0e-0000-4000-8000-0123456789ab"), has_uuid("package-0")
    (True, False)
    """
    return _UUID.search(device) is not None


def _with_gain(channel: Channel, found: Calibration) -> Channel:
    return replace(
        channel,
        gain=found.gain,
        gain_low_rel=1.0 - found.gain_low / found.gain,
        gain_high_rel=found.gain_high / found.gain - 1.0,
        source=f"{channel.source}{_SAID}{found.meter} on {found.date[:10]}",
    )


def _calibration(entry: Mapping[str, Any]) -> Calibration:
    values: dict[str, Any] = {}
    for field in fields(Calibration):
        value: Any = entry[field.name]
        is_of_kind = isinstance(value, _KINDS[str(field.type)]) and not isinstance(value, bool)
        if not is_of_kind:
            raise TypeError(f"{field.name} = {value!r} is not of type {field.type}")
        values[field.name] = float(value) if field.type == "float" else value
    return Calibration(**values)
