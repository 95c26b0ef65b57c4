"""Storage as a row of the account: what a logit cache takes, keeps and costs (method.md, eqs. 46, 121 to 123)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stillwatt.records.channel import Basis, worst_basis
from stillwatt.records.energy import NoTotal, Total
from stillwatt.records.window import StageKind, StageStatus

if TYPE_CHECKING:
    from stillwatt.records.run import StageRecord

__all__ = ["CacheRow", "PerToken", "cache_rows"]

LOGITS = "logits"
"""The label `artifact_kind` of a stage that makes a logit cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PerToken:
    """Joules a token, with their interval."""

    value_j: float
    low_j: float
    high_j: float
    basis: Basis

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"value_j": self.value_j, "low_j": self.low_j, "high_j": self.high_j, "basis": self.basis.value}


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRow:
    """One logit cache that a run made or used."""

    artifact: str
    positions: int | None
    bytes: int | None
    bytes_per_token: float | None
    kept_mass: float | None
    kl_to_full: float | None
    """Mean divergence from the teacher over `kl_positions`, in nats."""
    kl_positions: int | None
    kl_why_not: str
    """Why there is no divergence; empty where there is."""
    made_j: PerToken | NoTotal
    """To make: the teacher's reading and the writing, for each position."""
    write_j: PerToken | NoTotal
    """To write alone, by its share of the stage's seconds (eq. 122)."""
    read_j: PerToken | NoTotal
    """To read, for each token trained on, by the share of the trainings' seconds (eq. 123)."""

    def to_dict(self) -> dict[str, Any]:
        """The row's part of the contract `stillwatt.run/1`."""
        return {
            "artifact": self.artifact,
            "positions": self.positions,
            "bytes": self.bytes,
            "bytes_per_token": self.bytes_per_token,
            "kept_mass": self.kept_mass,
            "kl_to_full": {"absent": self.kl_why_not} if self.kl_to_full is None else self.kl_to_full,
            "kl_positions": self.kl_positions,
            "made_j_per_token": _told(self.made_j),
            "write_j_per_token": _told(self.write_j),
            "read_j_per_token": _told(self.read_j),
        }


def cache_rows(stages: Sequence[StageRecord]) -> tuple[CacheRow, ...]:
    """A row for each logit cache that stages of a run made, or found made; in the order of their names."""
    ended = [stage for stage in stages if stage.status is StageStatus.ENDED]
    makers: dict[str, list[StageRecord]] = {}
    for stage in ended:
        if stage.kind is StageKind.TEACHER_LOGITS and stage.labels.get("artifact_kind") == LOGITS:
            makers.setdefault(stage.labels.get("artifact", ""), []).append(stage)
    return tuple(_row(artifact, makers[artifact], ended) for artifact in sorted(makers))


def _row(artifact: str, made: Sequence[StageRecord], ended: Sequence[StageRecord]) -> CacheRow:
    found: dict[str, Any] = {key: value for stage in made for key, value in stage.results.items()}
    read = [s for s in ended if s.kind is StageKind.STUDENT_TRAIN and s.labels.get("artifact") == artifact]
    kl = found.get("kl_to_full")
    why_not = "" if kl is not None else str(found.get("kl_absent", "it was made before fidelity was measured"))
    made_j, write_j = _making(made, found.get("positions"))
    return CacheRow(
        artifact=artifact,
        positions=found.get("positions"),
        bytes=found.get("bytes"),
        bytes_per_token=found.get("bytes_per_token"),
        kept_mass=found.get("kept_mass"),
        kl_to_full=kl,
        kl_positions=found.get("kl_positions"),
        kl_why_not=why_not,
        made_j=made_j,
        write_j=write_j,
        read_j=_per_token(read, "read_s", sum(stage.workload.get("tokens", 0.0) for stage in read)),
    )


def _making(made: Sequence[StageRecord], positions: Any) -> tuple[PerToken | NoTotal, PerToken | NoTotal]:
    """Joules of making and of writing alone, for each position."""
    unknown = next((stage.results["making_absent"] for stage in made if "making_absent" in stage.results), None)
    if unknown is not None:
        nowhere = NoTotal(reason=str(unknown))
        return nowhere, nowhere
    earlier = next((stage.labels["reused_from"] for stage in made if "reused_from" in stage.labels), None)
    if earlier is not None:
        elsewhere = NoTotal(reason=f"run {earlier} made it; its own rows have the joules")
        return elsewhere, elsewhere
    if any(stage.attempt > 1 for stage in made):
        torn = NoTotal(reason="an attempt that was cut off made part of it; its joules are not those of whole tokens")
        return torn, torn
    return _per_token(made, None, float(positions or 0)), _per_token(made, "write_s", float(positions or 0))


def _per_token(stages: Iterable[StageRecord], count: str | None, tokens: float) -> PerToken | NoTotal:
    """Joules of stages over tokens; of one kind of work in them by its share of their seconds, which is modelled."""
    parts = list(stages)
    if not parts or not tokens:
        return NoTotal(reason="its tokens were not counted" if parts else "no stage of this run did it")
    if count is not None and any(count not in stage.workload for stage in parts):
        return NoTotal(reason=f"its stages did not count {count}")
    totals = [stage.gross for stage in parts]
    known = [total for total in totals if isinstance(total, Total)]
    if len(known) < len(totals):
        return next(total for total in totals if isinstance(total, NoTotal))
    shares = [1.0 if count is None else _share(stage, count) for stage in parts]
    own = [] if count is None else [Basis.MODELLED]
    return PerToken(
        value_j=sum(total.value_j * share for total, share in zip(known, shares, strict=True)) / tokens,
        low_j=sum(total.low_j * share for total, share in zip(known, shares, strict=True)) / tokens,
        high_j=sum(total.high_j * share for total, share in zip(known, shares, strict=True)) / tokens,
        basis=worst_basis([*own, *(total.basis for total in known)]),
    )


def _share(stage: StageRecord, count: str) -> float:
    return min(stage.workload[count] / stage.duration_s, 1.0) if stage.duration_s > 0 else 0.0


def _told(energy: PerToken | NoTotal) -> dict[str, Any]:
    return {"absent": energy.reason} if isinstance(energy, NoTotal) else energy.to_dict()
