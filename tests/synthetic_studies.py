"""Studies drawn from known truths, and how often the analysis' intervals hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stillwatt.analysis.allocation import ONE_OFF
from stillwatt.analysis.matching import curves, match
from stillwatt.analysis.pairing import assign_roles
from stillwatt.analysis.reuse import quality_gap, reuse_findings, serving_findings, sweep_findings
from stillwatt.analysis.sheet import make_sheet, place, shares_of
from stillwatt.analysis.trainings import Label, gather_labels, repeat_rel
from stillwatt.records.comparison import Observation, Ratio
from stillwatt.records.finding import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """The truth behind a study: a baseline and a distilled label of each of two students."""

    name: str
    baseline_seeds: int = 3
    distilled_seeds: int = 3
    teacher_j: float = 11.0
    saving_j: float = 1.1
    """What the student of the distilled label saves, of the 6.3 J of its baseline."""
    teacher_sd: float = 0.3
    baseline_sd: float = 0.2
    distilled_sd: float = 0.2
    shared_sd: float = 0.0
    """What a seed does to every label alike; seeds are paired where they are named alike."""
    are_paired: bool = True
    has_one_cache: bool = False
    """One artefact for all seeds: what it took is known."""
    quality_sd: float = 0.02
    item_sd: float = 0.0
    """Item errors: shared by all seeds of a label, and told as its standard error."""


SCENARIOS = (
    Scenario(name="3 paired seeds"),
    Scenario(name="2 paired seeds", baseline_seeds=2, distilled_seeds=2),
    Scenario(name="5 paired seeds, a strong effect of the seed", baseline_seeds=5, distilled_seeds=5, shared_sd=1.0),
    Scenario(name="3 paired seeds, small denominator", saving_j=0.1),
    Scenario(name="2 paired seeds, small denominator", saving_j=0.05, baseline_seeds=2, distilled_seeds=2),
    Scenario(name="3 paired seeds, nothing saved", saving_j=0.0),
    Scenario(name="3 paired seeds, negative saving", saving_j=-0.3),
    Scenario(name="3 seeds, one cache, unpaired", are_paired=False, has_one_cache=True),
    Scenario(name="3 and 3 seeds, unpaired, unequal variances", are_paired=False, baseline_sd=0.5, distilled_sd=0.02),
    Scenario(name="2 and 5 seeds, unequal variances", baseline_seeds=2, distilled_seeds=5, baseline_sd=0.5),
    Scenario(name="5 and 2 seeds, unequal variances", baseline_seeds=5, distilled_seeds=2, baseline_sd=0.1),
    Scenario(name="2 and 3 seeds, small denominator", baseline_seeds=2, distilled_seeds=3, saving_j=0.1),
    Scenario(name="1 and 3 seeds", baseline_seeds=1),
    Scenario(name="1 and 1 seed", baseline_seeds=1, distilled_seeds=1),
    Scenario(name="3 paired seeds, item errors", item_sd=0.03),
    Scenario(
        name="2 unpaired seeds, item errors, noisy quality",
        are_paired=False,
        baseline_seeds=2,
        item_sd=0.02,
        distilled_seeds=2,
        quality_sd=0.05,
    ),
)

_BASELINE_J, _OTHER_J, _QUALITY = 6.3, 0.7, {"sft": 0.69, "kd": 0.70}
_SERVED_TEACHER_J, _SERVED_STUDENT_J, _SERVED_SD = 1.0, 0.6, 0.02
_STUDENTS = {"small": 1.0, "large": 3.0}
"""The large student's energies are these times the small one's; the cache is the same."""


def draw_study(scenario: Scenario, stream: np.random.Generator) -> list[Observation]:
    """One study's rows."""
    seeds = max(scenario.baseline_seeds, scenario.distilled_seeds)
    shared = stream.normal(0.0, scenario.shared_sd, seeds) if scenario.shared_sd else np.zeros(seeds)
    cache = scenario.teacher_j + stream.normal(0.0, scenario.teacher_sd, seeds)
    if scenario.has_one_cache:
        cache[:] = scenario.teacher_j
    rows = []
    for student, size in _STUDENTS.items():
        for method, count in (("sft", scenario.baseline_seeds), ("kd", scenario.distilled_seeds)):
            is_kd = method == "kd"
            mean_j = (_BASELINE_J - (scenario.saving_j if is_kd else 0.0)) * size
            sd = scenario.distilled_sd if is_kd else scenario.baseline_sd
            item = stream.normal(0.0, scenario.item_sd) if scenario.item_sd else 0.0
            for seed in range(count):
                student_j = mean_j + size * (shared[seed] + stream.normal(0.0, sd))
                rows.append(
                    Observation(
                        label=f"{method}-{student}",
                        method=method,
                        student=student,
                        seed=str(seed) if scenario.are_paired else f"{method}{seed}",
                        place="drawn",
                        quality=_QUALITY[method] + item + stream.normal(0.0, scenario.quality_sd),
                        quality_se=scenario.item_sd or None,
                        teacher_j=float(cache[seed]) if is_kd else 0.0,
                        student_j=student_j,
                        own_j=student_j + _OTHER_J,
                        served_teacher_j=_SERVED_TEACHER_J + stream.normal(0.0, _SERVED_SD),
                        served_student_j=_SERVED_STUDENT_J + stream.normal(0.0, _SERVED_SD),
                    )
                )
    return rows


def coverage(scenario: Scenario, *, studies: int, seed: int) -> dict[str, float]:
    """Share of studies whose intervals hold the truth, by kind of interval."""
    stream = np.random.default_rng(seed)
    held: dict[str, list[bool]] = {}
    for _ in range(studies):
        for name, is_held in _hits(scenario, draw_study(scenario, stream)):
            held.setdefault(name, []).append(is_held)
    return {name: float(np.mean(hits)) for name, hits in held.items()}


def _hits(scenario: Scenario, rows: list[Observation]) -> list[tuple[str, bool]]:
    labels = gather_labels(rows)
    roles, rel = assign_roles(labels, "sft"), repeat_rel(labels)
    by_name = {label.name: label for label in labels}
    kd, sft = by_name["kd-small"], by_name["sft-small"]
    found = [("N*", holds(reuse_findings(roles, rel)[0].found, scenario.teacher_j, scenario.saving_j))]
    for sweep in sweep_findings(roles, rel):
        found.append(("sweep", holds(sweep.found, scenario.teacher_j, scenario.saving_j * sum(_STUDENTS.values()))))
    own_j = _BASELINE_J - scenario.saving_j + _OTHER_J
    served = next(entry for entry in serving_findings(roles, rel) if entry.label == "kd-small")
    found.append(("T*", holds(served.found, scenario.teacher_j + own_j, _SERVED_TEACHER_J - _SERVED_STUDENT_J)))
    for point in curves(roles, 2, rel)[0].points:
        if point.students in (1, 10):
            truth = scenario.teacher_j / point.students + own_j
            found.append((f"E({point.students})", abs(point.energy_j - truth) <= point.half_width_j))
    gap, half_width, _ = quality_gap(kd, sft, rel)
    if gap is not None and half_width is not None:
        found.append(("gap", abs(gap - (_QUALITY["kd"] - _QUALITY["sft"])) <= half_width))
    found += _ratio_hits(scenario, labels, rel)
    return found


def _ratio_hits(scenario: Scenario, labels: Sequence[Label], rel: float) -> list[tuple[str, bool]]:
    sheet = make_sheet(labels)
    roles = assign_roles(labels, "sft")
    truth = {
        f"{method}-{student}": (_BASELINE_J - (scenario.saving_j if method == "kd" else 0.0)) * size
        + _OTHER_J
        + (scenario.teacher_j if method == "kd" else 0.0)
        for student, size in _STUDENTS.items()
        for method in ("sft", "kd")
    }
    found = []
    for entry in match(place(sheet, ONE_OFF), shares_of(sheet, ONE_OFF).tolist(), "one-off", roles, rel):
        if entry.energy_ratio is not None and entry.ratio_low is not None:
            ratio = truth[entry.label] / truth[entry.as_good]
            found.append(
                ("ratio", entry.ratio_low <= ratio and (entry.ratio_high is None or ratio <= entry.ratio_high))
            )
        if entry.quality_difference is not None and entry.difference_half_width is not None:
            difference = _QUALITY["kd"] - _QUALITY["sft"]
            found.append(("difference", abs(entry.quality_difference - difference) <= entry.difference_half_width))
    return found


def holds(found: Ratio, extra: float, saving: float) -> bool:
    """Whether the answer allows the truth."""
    if saving <= 0.0:
        return found.verdict is Verdict.NEVER or found.high is None
    truth = extra / saving
    if found.verdict is Verdict.NEVER or found.low is None:
        return False
    return found.low <= truth and (found.high is None or truth <= found.high)
