"""A run as the ledger knows it: stages, their workload, energies, totals; and its published JSON form.

`RunRecord.to_dict()` is the contract `stillwatt.run/1` (docs/reference/run.schema.json); it is what
`stillwatt ledger show RUN --json` prints and what `run.result.to_dict()` returns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from stillwatt.records.budget_rows import budget_rows
from stillwatt.records.cache_rows import cache_rows
from stillwatt.records.energy import Absent, Energy, NoTotal, Total
from stillwatt.records.window import RANK as RANK
from stillwatt.records.window import StageKind, StageStatus

RUN_SCHEMA = "stillwatt.run/1"
FIRST_RANK = "0"
TAKEN_OVER = "taken_over_tokens"
"""The count of a stage's tokens that earlier attempts had done, and that were not done again."""
DOES_OVER = "does_over"
"""The label of an attempt that does an earlier one's work once more, since what that one left is lost; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeRecord:
    """What a driver said of itself when the run began."""

    driver: str
    usable: bool
    detail: str
    cure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRecord:
    """One attempt of one stage."""

    stage_id: str
    parent_id: str | None
    name: str
    kind: StageKind
    attempt: int
    status: StageStatus
    start_utc: str
    duration_s: float
    workload: Mapping[str, float]
    """Counts by name: `tokens` (those the stage processed), `supervised_tokens`, `steps`, …"""
    labels: Mapping[str, str]
    """What the stage belongs to: `arm`, `method`, `checkpoint`, `artifact`, …"""
    results: Mapping[str, Any]
    """What the stage found, e.g. scores; JSON values."""
    energies: tuple[Energy | Absent, ...]
    gross: Total | NoTotal
    net: Total | NoTotal
    """Gross minus idle power times duration; NoTotal where no idle baseline was measured."""

    def to_dict(self) -> dict[str, Any]:
        """The stage's part of the contract."""
        return {
            "stage_id": self.stage_id,
            "parent_id": self.parent_id,
            "name": self.name,
            "kind": self.kind.value,
            "attempt": self.attempt,
            "status": self.status.value,
            "start_utc": self.start_utc,
            "duration_s": self.duration_s,
            "workload": dict(self.workload),
            "labels": dict(self.labels),
            "results": dict(self.results),
            "channels": [channel_dict(energy) for energy in self.energies],
            "gross_j": total_dict(self.gross),
            "net_j": total_dict(self.net),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TracePoint:
    """One bucket of a part's power over time, for drawing: time since the session's start, mean and extremes."""

    t_s: float
    mean_w: float
    low_w: float
    high_w: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A part's power over one session, reduced for drawing; the samples themselves stay in the run directory."""

    session: str
    part: str
    points: tuple[TracePoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSpan:
    """Where a stage lies on its session's time axis, in seconds since the session's start."""

    stage_id: str
    session: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """Everything the ledger holds of one run."""

    run_id: str
    name: str
    status: StageStatus
    start_utc: str
    duration_s: float
    """Sum of the sessions' lengths; the time between a kill and its resume is not in it."""
    complete: bool
    stages: tuple[StageRecord, ...]
    unallocated: Total | NoTotal
    total: Total | NoTotal
    meter: Mapping[str, float]
    """The meter's own account: `cpu_s`, `samples`, `failed_reads`, `sessions`; `energy_j` with `energy_low_j` and
    `energy_high_j`, modelled from `cpu_s` (method.md, eq. 20)."""
    environment: Mapping[str, Any]
    settings: Mapping[str, Any]
    settings_sha256: str
    probes: tuple[ProbeRecord, ...]
    gaps: int
    warnings: tuple[str, ...]
    """What the reader should know: torn journal lines, gaps, resets, lost sessions."""
    traces: tuple[Trace, ...] = field(default=(), repr=False)
    spans: tuple[StageSpan, ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The contract `stillwatt.run/1`, ready for JSON."""
        return {
            "schema": RUN_SCHEMA,
            "run_id": self.run_id,
            "name": self.name,
            "status": self.status.value,
            "start_utc": self.start_utc,
            "duration_s": self.duration_s,
            "complete": self.complete,
            "stages": [stage.to_dict() for stage in self.stages],
            **({"caches": [row.to_dict() for row in caches]} if (caches := cache_rows(self.stages)) else {}),
            **(
                {"budgets": [row.to_dict() for row in budgets]}
                if (budgets := budget_rows(self, fates(self.stages)))
                else {}
            ),
            "unallocated_j": total_dict(self.unallocated),
            "total_j": total_dict(self.total),
            "meter": dict(self.meter),
            "sensors": [
                {"driver": p.driver, "usable": p.usable, "detail": p.detail, "cure": p.cure} for p in self.probes
            ],
            "environment": dict(self.environment),
            "settings_sha256": self.settings_sha256,
            "warnings": list(self.warnings),
        }

    def _repr_html_(self) -> str:
        from stillwatt.records import show

        return show.run_html(self)


class Attempt(Protocol):
    """What every record of a stage's attempt has."""

    @property
    def stage_id(self) -> str:
        """Its id."""
        ...

    @property
    def name(self) -> str:
        """The stage's."""
        ...

    @property
    def attempt(self) -> int:
        """Which one it is."""
        ...

    @property
    def labels(self) -> Mapping[str, str]:
        """What it belongs to."""
        ...

    @property
    def status(self) -> StageStatus:
        """How it ended itself."""
        ...


def fates(stages: Iterable[Attempt]) -> dict[str, StageStatus]:
    """What became of the work of each attempt, by its id: a rank's part goes the way of the first rank's.

    The first rank keeps what all made together. Where it was lost, parts that others had ended are done again; where it
    ended, a part that was lost a moment later had done its work. An attempt that ended is lost where a later one
    `does_over` its work.
    """
    known = list(stages)
    over = {_work(stage): stage.attempt for stage in known if DOES_OVER in stage.labels}  # the latest, of each
    first = {_joint(stage): stage.status for stage in known if stage.labels.get(RANK) == FIRST_RANK}
    is_over = {key: status for key, status in first.items() if status is not StageStatus.RUNNING}
    return {
        stage.stage_id: StageStatus.RECOVERED
        if stage.attempt < over.get(_work(stage), 0)
        else is_over.get(_joint(stage), stage.status)
        if RANK in stage.labels
        else stage.status
        for stage in known
    }


def _work(stage: Attempt) -> tuple[str, str | None]:
    return stage.name, stage.labels.get("arm")


def _joint(stage: Attempt) -> tuple[str, str | None, int]:
    return stage.name, stage.labels.get("artifact"), stage.attempt


def made_with(stages: Sequence[StageRecord], stage_id: str) -> list[StageRecord]:
    """A stage, what the other ranks of its launch did in theirs, and the lost attempts whose work it took over.

    Nothing where there is no such stage.
    """
    found = next((stage for stage in stages if stage.stage_id == stage_id), None)
    if found is None:
        return []
    own = (found.name, found.labels.get("artifact"))
    same = [stage for stage in stages if (stage.name, stage.labels.get("artifact")) == own]
    is_shared = RANK in found.labels
    beside = [s for s in same if s is found or (is_shared and RANK in s.labels and s.attempt == found.attempt)]
    if not any(stage.workload.get(TAKEN_OVER) for stage in beside):
        return beside
    lost = (StageStatus.FAILED, StageStatus.RECOVERED)
    return [*beside, *(stage for stage in same if stage.attempt < found.attempt and stage.status in lost)]


def channel_dict(energy: Energy | Absent) -> dict[str, Any]:
    """One entry of a stage's `channels`."""
    if isinstance(energy, Absent):
        return {"channel": energy.part, "boundary": energy.boundary.value, "absent": energy.reason}
    in_step_j = energy.in_step_cos_j, energy.in_step_sin_j
    return {
        "channel": energy.part,
        "device": energy.device,
        "boundary": energy.boundary.value,
        "energy": {
            "value_j": energy.value_j,
            "low_j": energy.low_j,
            "high_j": energy.high_j,
            "basis": energy.basis.value,
            "method": energy.method,
            "coverage": energy.coverage,
            "failed_reads": energy.failed_reads,
            "random_j": energy.random_j,
            "systematic_low_j": energy.systematic_low_j,
            "systematic_high_j": energy.systematic_high_j,
            "estimated_j": energy.estimated_j,
            "missing_s": energy.missing_s,
            "driver": energy.driver,
            "source": energy.source,
            **({"flags": list(energy.flags)} if energy.flags else {}),
            **({"placing_j": energy.placing_j} if energy.placing_j else {}),
            **({"in_step_j": list(in_step_j)} if any(in_step_j) else {}),
        },
    }


def total_dict(total: Total | NoTotal) -> dict[str, Any]:
    """A total, or the reason there is none."""
    if isinstance(total, NoTotal):
        return {"absent": total.reason}
    return {
        "value_j": total.value_j,
        "low_j": total.low_j,
        "high_j": total.high_j,
        "basis": total.basis.value,
        "complete": total.complete,
        "boundary": total.boundary.value,
        "absent_channels": list(total.absent),
        "share_by_basis": {basis.value: share for basis, share in total.share_by_basis},
    }
