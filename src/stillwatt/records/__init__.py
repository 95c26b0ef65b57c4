"""Room 0: the vocabulary. Frozen records, no I/O; the other rooms meet in these nouns."""

from stillwatt.records.channel import Basis, Boundary, Channel, Quantity, Role, worst_basis
from stillwatt.records.energy import Absent, Energy, NoTotal, Total
from stillwatt.records.run import ProbeRecord, RunRecord, StageRecord, StageSpan, Trace, TracePoint
from stillwatt.records.sample import NotDue, ReadFailure, Reading, SampleGap
from stillwatt.records.usage import Card, DeviceInstance, DeviceUse, DeviceUser, ProcessId, Rule
from stillwatt.records.window import StageKind, StageStatus, StageWindow

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
    "NoTotal",
    "NotDue",
    "ProbeRecord",
    "ProcessId",
    "Quantity",
    "ReadFailure",
    "Reading",
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
