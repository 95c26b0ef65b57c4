"""What is typed for an account: devices, a serving scenario, a share of pre-training; errors say what to write."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from stillwatt.errors import ConfigError, UnknownNameError
from stillwatt.factors.host import Host
from stillwatt.records.channel import Boundary
from stillwatt.records.impact import LifeStage
from stillwatt.records.lifecycle import Role
from stillwatt.units import J_PER_KWH, KWH_PER_MWH

_NUMBER = r"\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"(?P<low>{_NUMBER})(?:\.\.(?P<high>{_NUMBER}))?\s*(?P<unit>[A-Za-z]*)")
_DEVICE = re.compile(r"(?:(?P<role>\w+):)?(?P<name>[^*]+?)(?:\*(?P<count>[\d.eE+-]+))?")
_ENERGY_J = {"J": 1.0, "kWh": float(J_PER_KWH), "MWh": J_PER_KWH * KWH_PER_MWH}
_BOUNDARIES = {one.value: one for one in (Boundary.BOARD, Boundary.COMPONENTS, Boundary.NODE, Boundary.FACILITY)}
_MOST_SOCKETS = 4
"""Servers with more are in no maker's list that is used here."""
PRETRAINING_FORM = "ENERGY,use:N|tokens:A/B,BOUNDARY, e.g. 230MWh,use:100,facility"
SERVING_FORM = "TOKENS_PER_DAY,DAYS[,ledger|0.4J,BOUNDARY|ecologits:ACTIVE/TOTAL], e.g. 1e6,365"


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A number with its ends."""

    low: float
    value: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenDevice:
    """A device that the user names."""

    role: Role
    name: str
    count: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretraining:
    """Energy of making the teacher, and the share of it that is this study's (method.md, eq. 77)."""

    energy_j: Range
    share: float
    rule: str
    boundary: Boundary


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A serving scenario (method.md, eq. 77)."""

    tokens_per_day: float
    days: float
    token_j: Range | None = None
    """Given energy of a token; None where the ledger or a model says it."""
    boundary: Boundary = Boundary.NODE
    model: tuple[float, float] | None = None
    """Active and all parameters in billions, for a modelled energy."""

    @property
    def tokens(self) -> float:
        """Tokens of the whole scenario."""
        return self.tokens_per_day * self.days


def parse_range(text: str, units: Sequence[str], option: str) -> tuple[Range, str]:
    """A number or `LOW..HIGH` with its unit.

    Raises:
        ConfigError: it is no number, is not above 0, or its unit is none of these.

    >>> parse_range("200..260MWh", ("MWh",), "--x")[0].value
    230.0
    """
    found = _RANGE.fullmatch(text.strip())
    if found is None or found["unit"] not in units:
        raise ConfigError(option, f"{text!r} is no number or LOW..HIGH in {' or '.join(units) or 'no unit'}")
    low = _number(found["low"], option)
    high = _number(found["high"], option) if found["high"] else low
    if low > high:
        raise ConfigError(option, f"{text!r}: its low end is above its high end")
    return Range(low=low, value=(low + high) / 2.0, high=high), found["unit"]


def parse_device(text: str) -> GivenDevice:
    """`[ROLE:]NAME[*COUNT]`.

    Raises:
        ConfigError: no name, or a count that is not above 0.
        UnknownNameError: no such role.

    >>> parse_device("host:dell-r750*0.5").count
    0.5
    """
    found = _DEVICE.fullmatch(text.strip())
    if found is None:
        raise ConfigError("--device", f"{text!r}: write [ROLE:]NAME[*COUNT], e.g. host:dgx-h100*0.125")
    roles = {role.value: role for role in Role}
    role = found["role"] or Role.ACCELERATOR.value
    if role not in roles:
        raise UnknownNameError("role of a device", role, roles, place="--device")
    return GivenDevice(role=roles[role], name=found["name"].strip(), count=_number(found["count"] or "1", "--device"))


def parse_pretraining(text: str) -> Pretraining | None:
    """`ENERGY,SHARE,BOUNDARY`; None for `excluded`.

    Raises:
        ConfigError: it cannot be meant.

    >>> parse_pretraining("230MWh,use:100,facility").share
    0.01
    """
    if text.strip() == "excluded":
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 3:
        raise ConfigError("--pretraining", f"{text!r}: write excluded, or {PRETRAINING_FORM}")
    energy, unit = parse_range(parts[0], tuple(_ENERGY_J), "--pretraining")
    scale = _ENERGY_J[unit]
    return Pretraining(
        energy_j=Range(low=energy.low * scale, value=energy.value * scale, high=energy.high * scale),
        share=_share(parts[1]),
        rule=parts[1],
        boundary=_boundary(parts[2], "--pretraining"),
    )


def parse_serving(text: str) -> Serving:
    """`TOKENS_PER_DAY,DAYS[,SOURCE[,BOUNDARY]]`.

    Raises:
        ConfigError: it cannot be meant.

    >>> parse_serving("1e6,365").tokens
    365000000.0
    """
    parts = [part.strip() for part in text.split(",")]
    if not 2 <= len(parts) <= 4:
        raise ConfigError("--serving", f"{text!r}: write {SERVING_FORM}")
    per_day, days = (_number(part, "--serving") for part in parts[:2])
    source = parts[2] if len(parts) > 2 else "ledger"
    if len(parts) == 4 and (source == "ledger" or source.startswith("ecologits:")):
        raise ConfigError("--serving", f"{text!r}: {source} has its own boundary, so {parts[3]!r} is one part too many")
    if source == "ledger":
        return Serving(tokens_per_day=per_day, days=days)
    if source.startswith("ecologits:"):
        active, _, total = source.removeprefix("ecologits:").partition("/")
        both = (_number(active, "--serving"), _number(total or active, "--serving"))
        return Serving(tokens_per_day=per_day, days=days, model=both)
    if len(parts) != 4:
        raise ConfigError("--serving", f"{text!r}: a given energy of a token needs its boundary: {SERVING_FORM}")
    energy, _ = parse_range(source, ("J",), "--serving")
    return Serving(tokens_per_day=per_day, days=days, token_j=energy, boundary=_boundary(parts[3], "--serving"))


def parse_stage(text: str) -> tuple[str, LifeStage]:
    """`NAME=STAGE`.

    Raises:
        ConfigError: no `=`.
        UnknownNameError: no such stage of a life cycle.

    >>> parse_stage("train_all=training")
    ('train_all', <LifeStage.TRAINING: 'training'>)
    """
    name, equals, stage = (part.strip() for part in text.rpartition("="))
    if not name or not equals:
        raise ConfigError("--stage", f"{text!r}: write NAME=STAGE, e.g. train_all=training")
    stages = {one.value: one for one in LifeStage}
    if stage not in stages:
        raise UnknownNameError("stage of a life cycle", stage, stages, place="--stage")
    return name, stages[stage]


def parse_stored(text: str) -> tuple[str, float]:
    """`NAME=GB`, in gigabytes.

    Raises:
        ConfigError: it cannot be meant.

    >>> parse_stored("checkpoints=12.5")
    ('checkpoints', 12.5)
    """
    return _size(text, "--stored", "checkpoints=12.5")


def parse_downloaded(text: str) -> tuple[str, float]:
    """`NAME=GB`, in gigabytes.

    Raises:
        ConfigError: it cannot be meant.

    >>> parse_downloaded("hf:org/teacher=14.5")
    ('hf:org/teacher', 14.5)
    """
    return _size(text, "--downloaded", "hf:org/teacher=14.5")


def _size(text: str, option: str, example: str) -> tuple[str, float]:
    name, equals, size = (part.strip() for part in text.rpartition("="))
    if not name or not equals:
        raise ConfigError(option, f"{text!r}: write NAME=GIGABYTES, e.g. {example}")
    return name, _number(size.removesuffix("GB"), option)


def parse_machine(text: str) -> Host:
    """`sockets=N[,memory=GB][,disk=GB]`.

    Raises:
        ConfigError: it cannot be meant.

    >>> parse_machine("sockets=2,memory=512").memory_gb
    512.0
    """
    parts = dict(part.strip().partition("=")[::2] for part in text.split(","))
    if "sockets" not in parts or set(parts) - {"sockets", "memory", "disk"}:
        raise ConfigError("--machine", f"{text!r}: write sockets=2,memory=512,disk=2000 (gigabytes)")
    sockets = _number(parts["sockets"], "--machine")
    if sockets != int(sockets) or sockets > _MOST_SOCKETS:
        raise ConfigError("--machine", f"{parts['sockets']} sockets are no whole number of 1 to {_MOST_SOCKETS}")
    sizes = {name: _number(parts[name].removesuffix("GB"), "--machine") for name in ("memory", "disk") if name in parts}
    return Host(sockets=int(sockets), memory_gb=sizes.get("memory"), disk_gb=sizes.get("disk"))


def parse_positive(number: float, option: str) -> float:
    """A number above 0.

    Raises:
        ConfigError: it is not.

    >>> parse_positive(365.0, "--keep-days")
    365.0
    """
    return _number(str(number), option)


def _share(text: str) -> float:
    rule, _, rest = text.partition(":")
    if rule == "use":
        share = 1.0 / _number(rest, "--pretraining")
    elif rule == "tokens":
        ours, _, all_of_them = rest.partition("/")
        share = _number(ours, "--pretraining") / _number(all_of_them, "--pretraining")
    else:
        raise ConfigError("--pretraining", f"{text!r}: a share is use:N (one of N uses) or tokens:A/B")
    if share > 1.0:
        raise ConfigError("--pretraining", f"{text!r} is a share of {share:g}, more than all of it")
    return share


def _boundary(text: str, option: str) -> Boundary:
    if text not in _BOUNDARIES:
        raise UnknownNameError("boundary", text, _BOUNDARIES, place=option)
    return _BOUNDARIES[text]


def _number(text: str, option: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ConfigError(option, f"{text!r} is not a number") from None
    if not math.isfinite(number) or number <= 0.0:
        raise ConfigError(option, f"{text} is not above 0")
    return number
