"""What a stage does and how it came to its end: the two words of it that the measured program needs."""

from __future__ import annotations

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


class StageStatus(StrEnum):
    """How a stage came to its end."""

    ENDED = "ended"
    FAILED = "failed"
    """It raised, or its command exited with an error; its energy stays on the books as experimentation."""
    RECOVERED = "recovered"
    """Its process was lost; the end is the last sign of life."""
    RUNNING = "running"
    """Not over yet, as far as the journal tells."""
