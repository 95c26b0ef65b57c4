"""What the user says of a model for an export: `KEY=VALUE`, checked where it is typed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from stillwatt.errors import ConfigError, UnknownNameError
from stillwatt.records.export import Details

_NUMBERS = ("parameters", "training_flop", "inference_flop")
_INFRASTRUCTURES = ("publicCloud", "privateCloud", "onPremise", "other")
KEYS = tuple(field.name for field in fields(Details) if field.name != "created_utc")


def parse_details(texts: Sequence[str], *, created_utc: str = "") -> Details:
    """Details from texts as `model=my-model`, `parameters=135e6`.

    Raises:
        ConfigError: no `=`, or a value that cannot be meant.
        UnknownNameError: no such key.

    >>> parse_details(["parameters=135e6"]).parameters
    135000000.0
    """
    said: dict[str, Any] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        key = key.strip()
        if not sign:
            raise ConfigError("--detail", f"{text!r} has no '='; write KEY=VALUE, e.g. model=my-model")
        if key not in KEYS:
            raise UnknownNameError("detail", key, KEYS, place="--detail")
        said[key] = _number(key, value) if key in _NUMBERS else value.strip()
    infrastructure = said.get("infrastructure", "")
    if infrastructure and infrastructure not in _INFRASTRUCTURES:
        raise UnknownNameError("infrastructure", infrastructure, _INFRASTRUCTURES, place="--detail")
    return Details(created_utc=created_utc, **said)


def _number(key: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0.0):
        raise ConfigError("--detail", f"{key}={text!r} is no number above 0")
    return number
