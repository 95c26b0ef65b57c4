"""Stages and the windows of time they fill."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class StageKind(StrEnum):
    """What a stage of a pipeline does; any user-named stage maps to one of these."""

    IDLE_BASELINE = "idle_baseline"
    PREPARE_DATA = "prepare_data"
    TEACHER_GENERATE = "teacher_generate"
    TEACHER_LOGITS = "teacher_logits"
    STUDENT_TRAIN = "student_train"
    EVALUATE = "evaluate"
    SERVE = "serve"
    OTHER = "other"


ONLINE_TEACHER = "online"
"""Label `artifact_kind` of a teacher's work beside one training: it leaves nothing that another could use."""


class StageStatus(StrEnum):
    """How a stage came to its end."""

    ENDED = "ended"
    FAILED = "failed"
    """It raised, or its command exited with an error; its energy stays on the books as experimentation."""
    RECOVERED = "recovered"
    """Its process was lost; the end is the last sign of life."""
    RUNNING = "running"
    """Not over yet, as far as the journal tells."""


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
