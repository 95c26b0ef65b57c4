"""Made-up sweeps: trainings of several students, methods and settings around known truths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stillwatt.analysis.compare import compare
from stillwatt.analysis.design_rules import try_rules
from stillwatt.analysis.mining import mine
from stillwatt.records.comparison import Comparison, Observation
from stillwatt.records.rules import RulesMined, RulesTested, TestFinding
from stillwatt.workflows.rules import list_rules


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What is true; at its defaults nothing makes any difference to anything."""

    seeds: int = 3
    teacher: float = 0.0
    """The teacher's energy, as a share of a student's."""
    saving: float = 0.0
    """What distilling saves of a student's energy, as a share of it."""
    better: float = 0.0
    """Quality that distilling adds."""
    alpha_quality: float = 0.0
    """Quality from the lowest to the highest alpha."""
    length_energy: float = 0.0
    """Share that the teacher's energy, and so all of it, grows by from the shortest to the longest answers."""
    length_quality: float = 0.0
    """Quality over the first half of the lengths; the second half adds a quarter of it."""
    energy_sd: float = 0.02
    """Relative, from seed to seed."""
    quality_sd: float = 0.01


STUDENTS = {"1B": 7.0, "7B": 20.0, "13B": 35.0}
ALPHAS, TEMPERATURES = (0.3, 0.5, 0.8), (1.0, 4.0)
LENGTHS = (256.0, 512.0, 1024.0)


def draw_rows(world: World, stream: np.random.Generator) -> list[Observation]:
    """A baseline and a kd arm of every student; a sweep of alpha and temperature, and one of answer lengths, at 1B."""
    rows: list[Observation] = []
    for student in STUDENTS:
        rows += _label(world, stream, f"sft-{student}", "sft", student, {}, quality=0.7)
        rows += _label(world, stream, f"kd-{student}", "kd", student, {}, quality=0.7 + world.better)
    for alpha in ALPHAS:
        for temperature in TEMPERATURES:
            quality = 0.7 + world.alpha_quality * ALPHAS.index(alpha) / 2.0
            settings = {"alpha": alpha, "temperature": temperature}
            rows += _label(world, stream, f"kd-{alpha}-{temperature}", "kdsweep", "1B", settings, quality=quality)
    for place, length in enumerate(LENGTHS):
        quality = 0.7 + world.length_quality * (0.0, 1.0, 1.25)[place]
        settings = {"max_new_tokens": length}
        more = 1.0 + world.length_energy * place / 2.0
        rows += _label(world, stream, f"syn-{length:g}", "synthetic", "1B", settings, quality=quality, more=more)
    return rows


def _label(
    world: World,
    stream: np.random.Generator,
    name: str,
    method: str,
    student: str,
    settings: dict[str, float],
    *,
    quality: float,
    more: float = 1.0,
) -> list[Observation]:
    is_distilled = method != "sft"
    rows = []
    for seed in range(world.seeds):
        mean_j = STUDENTS[student] * (1.0 - (world.saving if is_distilled else 0.0))
        student_j = mean_j * (1.0 + stream.normal(0.0, world.energy_sd))
        teacher_j = world.teacher * STUDENTS["1B"] * more * (1.0 + stream.normal(0.0, world.energy_sd))
        rows.append(
            Observation(
                label=name,
                method=method,
                student=student,
                seed=str(seed),
                place="drawn",
                quality=quality + stream.normal(0.0, world.quality_sd),
                quality_se=None,
                teacher_j=teacher_j if is_distilled else 0.0,
                student_j=student_j,
                own_j=student_j + 1.0,
                student_s=100.0 * student_j * (1.0 + stream.normal(0.0, 0.005)),
                settings=settings,
            )
        )
    return rows


def compared(rows: Sequence[Observation]) -> Comparison:
    return compare(rows, source="drawn", draws=100)


def blank(rows: Sequence[Observation]) -> Comparison:
    """A comparison without findings, for many studies in a row."""
    return compare([row for row in rows if row.student == "none"], source="drawn", draws=1)


def mined(rows: Sequence[Observation], *, rate: float = 0.05) -> RulesMined:
    return mine(rows, blank(rows), rate=rate)


def judged(rows: Sequence[Observation]) -> RulesTested:
    return try_rules(list_rules(), rows, compared(rows))


def parts(found: RulesTested, name: str) -> tuple[TestFinding, ...]:
    return next(finding.tests for finding in found.rules if finding.rule.name == name)
