"""What an importer makes of a file, before anything is written: runs, and what was left out with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stillwatt.records.channel import Basis, Boundary, Channel
from stillwatt.records.energy import Absent
from stillwatt.records.sample import SampleGap
from stillwatt.records.window import StageKind, StageStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file that something was taken from: how it was named below what was asked for, and its content's hash."""

    name: str
    sha256: str
    num_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A file, or a line of one, that was not taken, and why."""

    name: str
    reason: str
    line: int | None = None
    is_in_ledger: bool = False
    """Whether a run of the ledger has its work."""

    @property
    def place(self) -> str:
        """`file` or `file:line`."""
        return self.name if self.line is None else f"{self.name}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a tool says that a part drew in a stage; `value_j` None with the reason where it says nothing usable."""

    part: str
    device: str
    boundary: Boundary
    value_j: float | None
    low_rel: float
    """How far below the value the truth may lie, as a share of the value (method.md, eq. 19)."""
    high_rel: float
    basis: Basis
    driver: str
    source: str
    random_j: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A part's power over a session, in watts at wall-clock times."""

    channel: Channel
    utc_ns: tuple[int, ...]
    power_w: tuple[float, ...]
    gaps: tuple[SampleGap, ...] = ()
    """Spans without readings, at wall-clock times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedStage:
    """One stage with what is stated of it; times are wall-clock."""

    name: str
    kind: StageKind
    start_utc_ns: int
    end_utc_ns: int
    parent: int | None = None
    """Place in the session's stages of the one it lies in; always an earlier one."""
    status: StageStatus = StageStatus.ENDED
    """RECOVERED for a stage whose log stops before its end."""
    error: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    workload: Mapping[str, float] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)
    stated: tuple[Statement, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedSession:
    """One process that was measured: its stages in the order they began, parents first."""

    stages: tuple[ImportedStage, ...]
    traces: tuple[Trace, ...] = ()
    absent: tuple[Absent, ...] = ()
    start_utc_ns: int | None = None
    """None: where the first stage begins."""
    end_utc_ns: int | None = None

    @property
    def span_utc_ns(self) -> tuple[int, int]:
        """First and last nanosecond of the session."""
        start_ns, end_ns = self.start_utc_ns, self.end_utc_ns
        if start_ns is None:
            start_ns = min(stage.start_utc_ns for stage in self.stages)
        if end_ns is None:
            end_ns = max(stage.end_utc_ns for stage in self.stages)
        return start_ns, end_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedRun:
    """One run of another tool."""

    form: str
    tool: str
    tool_version: str
    """Empty where the file does not tell."""
    identity: str
    """What makes it the same run in any file: the tool's own id where it has one, else the content's hash."""
    name: str
    host: str
    sessions: tuple[ImportedSession, ...]
    sources: tuple[SourceFile, ...]
    warnings: tuple[str, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What else the file says of how it was measured."""

    @property
    def start_utc_ns(self) -> int:
        """When its first session began."""
        return min(session.span_utc_ns[0] for session in self.sessions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """All that one importer found in the files it was given."""

    runs: tuple[ImportedRun, ...]
    left_out: tuple[LeftOut, ...]
