"""What an arm's stages tell of its training beside its energy: time, weights, speed when served."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from stillwatt.analysis.bookings import Bookings, sort_stages
from stillwatt.records.adapters import AdapterSize
from stillwatt.records.channel import Boundary
from stillwatt.records.energy import Energy, NoTotal
from stillwatt.records.run import RunRecord, StageRecord
from stillwatt.records.window import ONLINE_TEACHER, RANK, StageKind, joint_s

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}|GPU-[0-9a-f]{16}", re.IGNORECASE)
"""What the name of a card has in it where it is that card's alone."""


def trained_s(run: RunRecord, arm: str) -> float | None:
    """How long the arm was trained up to its last checkpoint."""
    lengths = [(stage.labels.get(RANK), stage.duration_s) for stage in trainings_of(run, arm)]
    return joint_s(lengths) if lengths else None


def counted_parameters(run: RunRecord, arm: str) -> Any:
    """Weights of the arm's student, as its training counted them."""
    counted = [stage.results.get("parameters") for stage in trainings_of(run, arm)]
    return counted[-1] if counted else None


def adapter_size(trained: Sequence[StageRecord]) -> AdapterSize | None:
    """How much of a student these increments trained, where that was adapters beside its weights."""
    for stage in reversed(trained):
        own, whole = stage.results.get("trained_parameters"), stage.results.get("parameters")
        if isinstance(own, int) and isinstance(whole, int):
            return AdapterSize(trained_parameters=own, parameters=whole)
    return None


def throughput_of(run: RunRecord, student: str) -> float | None:
    """Generated tokens a second under the run's serving load, for a student that was served."""
    for stage in run.stages:
        is_student = stage.labels.get("arm") != "teacher" and stage.labels.get("student", "") == student
        if stage.kind is StageKind.SERVE and is_student and stage.workload.get("tokens") and stage.duration_s > 0.0:
            return stage.workload["tokens"] / stage.duration_s
    return None


def trainings_of(run: RunRecord, arm: str) -> list[StageRecord]:
    """The arm's finished increments, in their order."""
    return [
        stage
        for stage in sort_stages(run).ended
        if stage.kind is StageKind.STUDENT_TRAIN and stage.labels.get("arm") == arm
    ]


def cards_of(stages: Iterable[StageRecord]) -> frozenset[str]:
    """Accelerators that the stages' energies were read on, by what tells one from all others; of some nobody says."""
    parts = [part for stage in stages for part in stage.energies if isinstance(part, Energy)]
    return frozenset(
        card
        for part in parts
        if part.boundary is Boundary.BOARD
        for card in part.device.split(" + ")
        if _UUID.search(card)
    )


def maker_cards(bookings: Bookings, artifacts: Iterable[str]) -> frozenset[str]:
    """Accelerators that these artefacts were made on, in whatever run; a teacher beside a training made none."""
    bills = [bookings.artifacts[name] for name in artifacts if name in bookings.artifacts]
    shared = [bill.weights for bill in bills if bill.kind != ONLINE_TEACHER]
    known = [weights for weights in shared if not isinstance(weights, NoTotal)]
    return cards_of(bookings.book[key] for weights in known for key in weights)
