"""Stillwatt: where the joules of a distillation went, teacher side included, and whether it was worth it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stillwatt.errors import StillwattError
    from stillwatt.metering.measured import measured
    from stillwatt.metering.meter import MeterWarning, Stage
    from stillwatt.records import Absent, Basis, Boundary, Energy, NoTotal, RunRecord, StageKind, StageRecord, Total
    from stillwatt.workflows.live import Run
    from stillwatt.workflows.notebook import load

__version__ = "0.1.0"

__all__ = [
    "Absent",
    "Basis",
    "Boundary",
    "Energy",
    "MeterWarning",
    "NoTotal",
    "Run",
    "RunRecord",
    "Stage",
    "StageKind",
    "StageRecord",
    "StillwattError",
    "Total",
    "__version__",
    "load",
    "measured",
]

_HOMES = {
    "MeterWarning": "stillwatt.metering.meter",
    "Run": "stillwatt.workflows.live",
    "Stage": "stillwatt.metering.meter",
    "StillwattError": "stillwatt.errors",
    "load": "stillwatt.workflows.notebook",
    "measured": "stillwatt.metering.measured",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for, so that `import stillwatt` costs next to nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'stillwatt' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, "stillwatt.records")), name)


def __dir__() -> list[str]:
    return sorted(__all__)
