"""What a program hands over as counts and results, as a journal can hold it: other libraries' numbers among them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any


def plain_number(value: Any) -> Any:
    """The number in an array or tensor of one element; anything else as it is."""
    numel = getattr(value, "numel", None)
    count = numel() if callable(numel) else getattr(value, "size", None)
    return value.item() if count == 1 else value


def json_values(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Results as JSON has them, and of those it has no form for the kind, by name.

    A number that is not finite becomes its name, an array its list, a path its text.

    >>> json_values({"loss": float("nan"), "sizes": (1, 2), "model": object()})
    ({'loss': 'nan', 'sizes': [1, 2]}, {'model': 'object'})
    """
    kept: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    for name, value in values.items():
        try:
            kept[str(name)] = _json_value(value)
        except Exception:  # noqa: BLE001 - a stranger's object may raise anything, and the program goes on
            left_out[str(name)] = type(value).__name__
    return kept, left_out


def _json_value(value: Any) -> Any:
    """Raises whatever the object does, and TypeError where there is no form for it."""
    plain = plain_number(value)
    if plain is None or isinstance(plain, (bool, int, str)):
        return plain
    if isinstance(plain, float):
        return plain if math.isfinite(plain) else str(plain)
    if isinstance(plain, Mapping):
        return {str(key): _json_value(item) for key, item in plain.items()}
    if isinstance(plain, (list, tuple)):
        return [_json_value(item) for item in plain]
    if isinstance(plain, os.PathLike):
        return os.fspath(plain)
    if callable(getattr(plain, "tolist", None)):
        return _json_value(plain.tolist())
    raise TypeError(type(plain).__name__)
