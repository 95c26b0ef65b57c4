"""What a check of the books found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding matters, worst first."""

    ERROR = "error"
    """A number may be wrong, or a file was changed."""
    WARNING = "warning"
    """Something was lost, and the record says so."""
    INFO = "info"
    """Worth knowing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be, and where."""

    severity: Severity
    code: str
    """A word for programs: `torn-line`, `conservation`, …"""
    where: str
    """Run, and the file, session, stage or stream in it."""
    message: str
