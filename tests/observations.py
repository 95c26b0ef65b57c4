"""Made-up trainings for tests of comparisons."""

from __future__ import annotations

from typing import Any

from stillwatt.records.comparison import Observation


def observation(kind: str, /, **changes: Any) -> Observation:
    """One training; `kd-1b` is method kd of student 1b, and `own_j` is the student's energy and 1 J more."""
    method, _, student = kind.partition("-")
    fields: dict[str, Any] = {
        "label": kind,
        "method": method,
        "student": student,
        "seed": "1",
        "place": "drawn",
        "quality": 0.7,
        "quality_se": None,
        "teacher_j": 0.0 if method == "sft" else 11.0,
        "student_j": 6.0 if method == "sft" else 5.0,
    }
    fields.update(changes)
    if "own_j" not in fields:
        fields["own_j"] = None if fields["student_j"] is None else fields["student_j"] + 1.0
    return Observation(**fields)


def seeds(kind: str, students_j: list[float], *, first: int = 1, **changes: Any) -> list[Observation]:
    """Several seeds of one label, with these student energies; lists among the changes are taken seed by seed."""
    return [
        observation(
            kind,
            seed=str(first + i),
            student_j=student_j,
            **{name: value[i] if isinstance(value, list) else value for name, value in changes.items()},
        )
        for i, student_j in enumerate(students_j)
    ]
