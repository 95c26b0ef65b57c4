"""Options from a table of trainings: every label as it was trained, its teacher shared by as many as asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stillwatt.analysis.advice import Drawn
from stillwatt.analysis.contrast import Z_95
from stillwatt.analysis.costs.posterior import Floats
from stillwatt.analysis.learning import Asked, LearningCurve
from stillwatt.analysis.trainings import gather_labels, repeat_rel
from stillwatt.records.advice import Answer, Option, Scored
from stillwatt.records.channel import Boundary
from stillwatt.workflows.advise import DRAWS, Judged
from stillwatt.workflows.table import read_table

if TYPE_CHECKING:
    from stillwatt.analysis.trainings import Label
    from stillwatt.records.comparison import Observation
    from stillwatt.workflows.advise import Request
    from stillwatt.workflows.table import Table

__all__ = ["judge_table"]

_BASELINE = "sft"
_BOUNDARIES = {
    "gpu": Boundary.BOARD,
    "node": Boundary.NODE,
    "facility": Boundary.FACILITY,
    "": Boundary.COMPONENTS,
}
_ONE_BUDGET = 1.0
"""Tokens of every training: a table does not say, and no other budget is offered."""
_RELATIVE_MOST = 1.5
"""Qualities above it are not relative to the teacher's."""


def judge_table(table: str | Path, request: Request) -> Judged:
    """Draws of every label that has energies and a quality, once anew and once with the cache that is there."""
    read = read_table(table)
    labels = gather_labels(read.rows)
    rel = repeat_rel(labels)
    usable, left_out = [], []
    for label in labels:
        why = _why_not(label, request)
        if why:
            left_out.append((label.name, why))
        else:
            usable.append(label)
    qualities = _qualities(usable, request.seed)
    columns: list[tuple[Option, Floats, Floats, Floats, Floats]] = []
    for place, label in enumerate(usable):
        rng = np.random.default_rng([request.seed, place])
        own = _energy(label.rows, "own_j", rel, rng)
        teacher = _energy(label.rows, "teacher_j", rel, rng)
        serving = request.tokens_served * (label.mean("served_student_j") or 0.0)
        quality, mean = qualities[label.name]
        total = request.students * own + serving
        columns.append((_option(label, Answer.DISTIL), total + teacher, quality, mean, own + teacher))
        if float(teacher.max()) > 0.0:
            columns.append((_option(label, Answer.REUSE), total, quality, mean, own))
    columns += _teacher(usable, request)
    if not columns:
        return Judged(options=(), drawn=Drawn.nothing(DRAWS), left_out=tuple(left_out), notes=read.warnings)
    options, energy, quality_all, means, trials = zip(*columns, strict=True)
    drawn = Drawn(
        energy_j=np.stack(energy, axis=1),
        quality=np.stack(quality_all, axis=1),
        mean_quality=np.stack(means, axis=1),
        trial_j=np.stack(trials, axis=1),
    )
    return Judged(
        options=tuple(options),
        drawn=drawn,
        left_out=tuple(left_out),
        notes=_notes(usable, read, request),
        boundary=_BOUNDARIES[read.boundary],
    )


def _why_not(label: Label, request: Request) -> str:
    if label.mean("quality") is None:
        return "its quality is not known"
    if label.mean("own_j") is None or label.mean("teacher_j") is None:
        return "an energy of it is not known"
    if request.tokens_served and label.mean("served_student_j") is None:
        return "what serving it takes is not known (serving_student_j_per_token)"
    return ""


def _qualities(labels: Sequence[Label], seed: int) -> dict[str, tuple[Floats, Floats]]:
    """Draws of each label's quality, with the noise of a training and without; a method's labels together."""
    found: dict[str, tuple[Floats, Floats]] = {}
    for method in dict.fromkeys(label.method for label in labels):
        own = [label for label in labels if label.method == method]
        scores = [
            Scored(
                method=method,
                student=label.student,
                settings=label.name,
                tokens=_ONE_BUDGET,
                quality=row.quality,
                se=row.quality_se,
                place=label.name,
            )
            for label in own
            for row in label.rows
            if row.quality is not None
        ]
        asked = [Asked(student=label.student, settings=label.name, tokens=_ONE_BUDGET) for label in own]
        drawn, means = LearningCurve(scores, asked).draws(seed=seed, count=DRAWS)
        found |= {label.name: (drawn[:, place], means[:, place]) for place, label in enumerate(own)}
    return found


def _energy(rows: Sequence[Observation], field: str, rel: float, rng: np.random.Generator) -> Floats:
    """Draws of what one more training would take: the seeds' mean, with repeatability and the mean's own error."""
    values = [value for row in rows if (value := getattr(row, field)) is not None]
    mean = sum(values) / len(values)
    spread = rel / Z_95 * (1.0 + 1.0 / len(values)) ** 0.5
    found: Floats = mean * np.exp(spread * rng.standard_normal(DRAWS))
    return found


def _option(label: Label, answer: Answer) -> Option:
    is_plain = label.method == _BASELINE
    kind = Answer.TRAIN_PLAINLY if is_plain else answer
    name = f"{label.name}, if its cache is there already" if answer is Answer.REUSE else label.name
    evidence = tuple(dict.fromkeys(row.place for row in label.rows))
    return Option(
        name=name,
        answer=kind,
        method=label.method,
        student=label.student,
        settings={},
        tokens=None,
        evidence=(label.name, *evidence),
        remark="one seed: its spread is assumed" if len(label.rows) == 1 else "",
    )


def _teacher(labels: Sequence[Label], request: Request) -> list[tuple[Option, Floats, Floats, Floats, Floats]]:
    """Serving the teacher as it is, where tokens are served and its cost is known; its quality is 1 by definition."""
    rates = [rate for label in labels if (rate := label.mean("served_teacher_j")) is not None]
    qualities = [quality for label in labels if (quality := label.mean("quality")) is not None]
    if not request.tokens_served or not rates or max(qualities) > _RELATIVE_MOST:
        return []
    option = Option(
        name="serve the teacher as it is",
        answer=Answer.DO_NOT_DISTIL,
        method="",
        student="",
        settings={},
        tokens=None,
        evidence=("serving_teacher_j_per_token",),
        remark="its quality is 1 by definition, where qualities are relative to the teacher's",
    )
    sure = np.ones(DRAWS)
    energy = request.tokens_served * sum(rates) / len(rates) * sure
    return [(option, energy, sure, sure, np.full(DRAWS, np.nan))]


def _notes(labels: Sequence[Label], read: Table, request: Request) -> tuple[str, ...]:
    said = list(read.warnings)
    if request.region and not read.boundary:
        said.append("the table does not say what its energies cover: carbon takes them as boards, CPUs and DRAM")
    said.append("a table does not say how much each was trained: labels are offered at their own budgets alone")
    if any(label.mean("teacher_j") for label in labels):
        said.append("a table does not say either which caches are still there: their reuse is offered for each")
    if all(len(label.rows) == 1 for label in labels):
        said.append("no training was repeated: how far a second one would lie from it is assumed")
    return tuple(said)
