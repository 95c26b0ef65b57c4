"""Stages and the windows of time they fill."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from stillwatt.records.kinds import StageKind, StageStatus

__all__ = ["JUDGED_AS", "ONLINE_TEACHER", "RANK", "StageKind", "StageStatus", "StageWindow", "joint_s"]

ONLINE_TEACHER = "online"
"""Label `artifact_kind` of a teacher's work beside one training: it leaves nothing that another could use."""

JUDGED_AS = "judged_as"
"""Label of an evaluation in which a judge read the answers of another one: the name of the score."""

RANK = "rank"
"""The label of a stage that several ranks of a launch worked in, each in one of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageWindow:
    """When one attempt of one stage ran, on the monotonic clock of one session.

    A session is one process of the measured program with its own sampling process and clock anchor; windows
    are joined only with samples of their own session.
    """

    session: str
    stage_id: str
    parent_id: str | None
    start_ns: int
    end_ns: int

    def __post_init__(self) -> None:
        if self.end_ns < self.start_ns:
            raise ValueError(f"stage {self.stage_id}: ends ({self.end_ns}) before it starts ({self.start_ns})")

    @property
    def length_ns(self) -> int:
        """How long the stage ran."""
        return self.end_ns - self.start_ns


def joint_s(lengths: Iterable[tuple[str | None, float]]) -> float:
    """Seconds that stages took one after the other, where ranks work at the same time: those of the longest rank.

    Args:
        lengths: The rank of each stage, None where it is of no rank, and its seconds.

    >>> joint_s([("0", 6.0), ("1", 5.5), (None, 1.0)])
    7.0
    """
    by_rank: dict[str | None, float] = {}
    for rank, length_s in lengths:
        by_rank[rank] = by_rank.get(rank, 0.0) + length_s
    return by_rank.pop(None, 0.0) + max(by_rank.values(), default=0.0)
