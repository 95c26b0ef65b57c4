"""Rules by which a teacher's work goes on the accounts of students (method.md, eq. 20)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class AllocationKind(StrEnum):
    """Whose account the teacher's work goes on (method.md, eq. 20)."""

    ONE_OFF = "one-off"
    """All of it on this student."""
    REUSE = "reuse"
    """1/N of it: N students use the artefact."""
    TOKENS = "tokens"
    """By tokens consumed, over the students of this run that use the artefact."""
    MARGINAL = "marginal"
    """None of it: the artefact was there anyway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """One rule for the teacher's work; `students` is N and belongs to `reuse` alone."""

    kind: AllocationKind
    students: int | None = None

    def __post_init__(self) -> None:
        if (self.kind is AllocationKind.REUSE) != (self.students is not None):
            raise ValueError(f"allocation {self.kind.value!r} with N = {self.students}: N belongs to 'reuse' alone")
        if self.students is not None and self.students < 1:
            raise ValueError(f"an artefact is used by at least one student, not by {self.students}")

    @property
    def label(self) -> str:
        """`one-off`, `reuse:10`, `tokens` or `marginal`."""
        return self.kind.value if self.students is None else f"{self.kind.value}:{self.students}"
