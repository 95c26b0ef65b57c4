"""What is known of an NVIDIA card by its name alone: how its power readings average (method.md, section 2)."""

from __future__ import annotations

import re

from stillwatt.sensors.nvml_windows import Field, Window, window

_PASCAL, _VOLTA, _TURING, _AMPERE, _ADA, _HOPPER = range(4, 10)
_BY_NAME = (
    (re.compile(r"\b(H100|H200|H800|H20|GH200)\b"), _HOPPER),
    (re.compile(r"\b(L4|L20|L40S?)\b|\bAda\b|\bRTX 40\d\d\b"), _ADA),
    (re.compile(r"\b(A100X?|A800|A30X?|A10G?|A16|A2|A40)\b|\bRTX (30\d\d|A\d{4})\b"), _AMPERE),
    (re.compile(r"\bT4\b|\bRTX 20\d\d\b|\bGTX 16\d\d\b|\bTITAN RTX\b|\bQuadro RTX\b"), _TURING),
    (re.compile(r"\b(V100|TITAN V)\b"), _VOLTA),
    (re.compile(r"\b(P100|P40|P4)\b|\bGTX 10\d\d\b|\bTITAN X"), _PASCAL),
)


def power_window(name: str, driver_version: str, field: Field) -> Window | None:
    """How often a field of a card is renewed and over how long it averages; None where name or driver are not known.

    >>> power_window("NVIDIA H100 80GB HBM3", "570.195.03", Field.USAGE).averaging_ns
    1000000000
    >>> power_window("some card", "570", Field.USAGE) is None
    True
    """
    bare = name.replace("-", " ")
    architecture = next((number for pattern, number in _BY_NAME if pattern.search(bare)), None)
    if architecture is None or not driver_version:
        return None
    return window(architecture, bare, driver_version, field)
