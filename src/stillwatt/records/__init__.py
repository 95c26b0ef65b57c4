"""Room 0: the vocabulary. Frozen records, no I/O; the other rooms meet in these nouns.

A record is imported when it is first asked for: the measured program needs few of them, and making all takes longer
than everything else that it imports.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stillwatt.records.channel import Basis, Boundary, Channel, Quantity, Role, worst_basis
    from stillwatt.records.energy import Absent, Energy, NoTotal, Total
    from stillwatt.records.kinds import StageKind, StageStatus
    from stillwatt.records.run import ProbeRecord, RunRecord, StageRecord, StageSpan, Trace, TracePoint
    from stillwatt.records.sample import Lull, NotDue, ReadFailure, Reading, Readings, SampleGap
    from stillwatt.records.usage import Card, DeviceInstance, DeviceUse, DeviceUser, ProcessId, Rule
    from stillwatt.records.window import StageWindow

__all__ = [
    "Absent",
    "Basis",
    "Boundary",
    "Card",
    "Channel",
    "DeviceInstance",
    "DeviceUse",
    "DeviceUser",
    "Energy",
    "Lull",
    "NoTotal",
    "NotDue",
    "ProbeRecord",
    "ProcessId",
    "Quantity",
    "ReadFailure",
    "Reading",
    "Readings",
    "Role",
    "Rule",
    "RunRecord",
    "SampleGap",
    "StageKind",
    "StageRecord",
    "StageSpan",
    "StageStatus",
    "StageWindow",
    "Total",
    "Trace",
    "TracePoint",
    "worst_basis",
]

_HOMES = {
    "Absent": "energy",
    "Basis": "channel",
    "Boundary": "channel",
    "Card": "usage",
    "Channel": "channel",
    "DeviceInstance": "usage",
    "DeviceUse": "usage",
    "DeviceUser": "usage",
    "Energy": "energy",
    "Lull": "sample",
    "NoTotal": "energy",
    "NotDue": "sample",
    "ProbeRecord": "run",
    "ProcessId": "usage",
    "Quantity": "channel",
    "ReadFailure": "sample",
    "Reading": "sample",
    "Readings": "sample",
    "Role": "channel",
    "Rule": "usage",
    "RunRecord": "run",
    "SampleGap": "sample",
    "StageKind": "kinds",
    "StageRecord": "run",
    "StageSpan": "run",
    "StageStatus": "kinds",
    "StageWindow": "window",
    "Total": "energy",
    "Trace": "run",
    "TracePoint": "run",
    "worst_basis": "channel",
}


def __getattr__(name: str) -> Any:
    """A record from its module; kept here from then on."""
    if name not in _HOMES:
        raise AttributeError(f"module 'stillwatt.records' has no attribute {name!r}")
    found = getattr(importlib.import_module(f"stillwatt.records.{_HOMES[name]}"), name)
    globals()[name] = found
    return found
