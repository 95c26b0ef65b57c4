"""Quality of a student relative to its teacher, or to the start of one (method.md, eq. 22)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stillwatt.analysis.judged import unlike_judges
from stillwatt.records.finding import TEACHER_YARDSTICK, NoQuality, Quality, Score, TaskRatio
from stillwatt.records.run import StageRecord

_TRAINING_LOSS = re.compile(r"(train|kd|distil)\w*[\W_]*loss|loss[\W_]*(train|kd|distil)")


def is_training_loss(task: str) -> bool:
    """Whether a task is the loss that a training minimised, which ranks no students.

    Unlike weights, temperatures and divergences make it another quantity in every run (method.md, eq. 54): a smaller
    one is no better student. Held-out cross-entropy is the same quantity for all, and a score.

    >>> [is_training_loss(task) for task in ("train_loss", "Training loss", "train/kd_loss", "perplexity", "eval_loss")]
    [True, True, True, False, False]
    """
    return _TRAINING_LOSS.search(task.casefold()) is not None


def all_scores(stages: Iterable[StageRecord]) -> tuple[Score, ...]:
    """The scores of several evaluations of one model: its own and the judge's; of a task scored twice, the latest."""
    by_task = {score.task: score for stage in stages for score in read_scores(stage.results)}
    return tuple(by_task.values())


def read_scores(results: Mapping[str, Any]) -> tuple[Score, ...]:
    """The scores an evaluation stage recorded.

    Left out is an entry without a finite value, and a loss that was trained on (see `unread_scores`).

    >>> read_scores({"scores": [{"task": "perplexity", "value": 9.5, "se": 0.2, "n": 100, "higher_is_better": False}]})
    (Score(task='perplexity', value=9.5, se=0.2, n=100, higher_is_better=False, in_quality=True, beside=''),)
    """
    found = []
    for entry in results.get("scores") or ():
        value, se, n = _number(entry.get("value")), _number(entry.get("se")), _number(entry.get("n"))
        if value is not None and not is_training_loss(_task(entry)):
            found.append(
                Score(
                    task=_task(entry),
                    value=value,
                    se=se,
                    n=None if n is None else int(n),
                    higher_is_better=bool(entry.get("higher_is_better", True)),
                    in_quality=bool(entry.get("in_quality", True)),
                    beside=str(entry.get("beside") or ""),
                )
            )
    return tuple(found)


def unread_scores(results: Mapping[str, Any]) -> tuple[str, ...]:
    """Tasks whose score is in no quality, each with the reason.

    >>> unread_scores({"scores": [{"task": "perplexity", "value": float("inf")}]})
    ('a score of perplexity that is no finite number',)
    """
    found = []
    for entry in results.get("scores") or ():
        if is_training_loss(_task(entry)):
            found.append(f"a score of {_task(entry)}, a loss that was trained on and no evaluation")
        elif _number(entry.get("value")) is None:
            found.append(f"a score of {_task(entry)} that is no finite number")
    return tuple(found)


def unsure_scores(results: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Tasks in the quality whose score has no standard error, and why.

    >>> unsure_scores({"scores": [{"task": "f1", "value": 0.5, "se": None, "se_absent": "nobody knows it"}]})
    (('f1', 'nobody knows it'),)
    """
    return tuple(
        (_task(entry), str(entry["se_absent"]))
        for entry in results.get("scores") or ()
        if entry.get("se_absent") and entry.get("in_quality", True) and _number(entry.get("value")) is not None
    )


def _task(entry: Mapping[str, Any]) -> str:
    return str(entry.get("task", "unnamed"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Yardstick:
    """What quality is relative to: the teacher where it was evaluated, and else the first student as it starts."""

    scores: tuple[Score, ...]
    """Empty where neither was evaluated."""
    student: str = ""
    """Empty for the teacher."""

    @property
    def name(self) -> str:
        """What to call it in a sentence.

        >>> Yardstick(scores=(), student="small").name
        'small as it starts'
        """
        return f"{self.student} as it starts" if self.student else TEACHER_YARDSTICK

    @property
    def word(self) -> str:
        """The same in one word."""
        return "start" if self.student else "teacher"


def relative_quality(student: Sequence[Score], yardstick: Yardstick) -> Quality | NoQuality:
    """Unweighted mean over tasks of student over yardstick, or yardstick over student where lower is better.

        Q = 1/K sum_k r_k ;  r_k = s_k / t_k  (higher is better)   or   t_k / s_k  (lower is better)
        SE(Q) = 1/K sqrt(sum_k SE(r_k)^2), SE(r_k) by first-order propagation                              [1]

    The student's and the yardstick's errors are taken as independent. They answer the same items, so the true error
    of the ratio is mostly smaller.
    """
    if not student or not yardstick.scores:
        return NoQuality(reason="no scores" if not student else "neither teacher nor start was evaluated")
    counted, theirs = ([score for score in scores if score.in_quality] for scores in (student, yardstick.scores))
    if unlike := unlike_judges(counted, theirs, yardstick.word):
        return NoQuality(reason=unlike)
    by_task = {score.task: score for score in theirs}
    ratios: list[tuple[TaskRatio, float | None]] = []
    beside = [score for score in student if not score.in_quality]
    left_out = [f"{score.task}: {score.beside or 'the recipe shows it beside Q'}" for score in beside]
    for score in counted:
        reference = by_task.pop(score.task, None)
        why = _why_no_ratio(score, reference, yardstick.word)
        if reference is not None and not why:
            ratios.append(_ratio(score, reference))
        else:
            left_out.append(f"{score.task}: {why}")
    left_out += [f"{task}: the student has no score" for task in by_task]
    if not ratios:
        return NoQuality(reason="; ".join(left_out))
    return Quality(
        value=math.fsum(task.ratio for task, _ in ratios) / len(ratios),
        se=_mean_se([task.se for task, _ in ratios]),
        own_se=_mean_se([own for _, own in ratios]),
        tasks=tuple(task for task, _ in ratios),
        left_out=tuple(left_out),
    )


def _why_no_ratio(student: Score, teacher: Score | None, word: str) -> str:
    """Why two scores have no ratio; empty where they have one."""
    if teacher is None:
        return f"the {word} has no score"
    if teacher.higher_is_better != student.higher_is_better:
        return f"student and {word} disagree on which way is better"
    if min(student.value, teacher.value) < 0.0:
        return "a score below 0 has no ratio"
    if _denominator(student, teacher) == 0.0:
        return f"the {word if student.higher_is_better else 'student'} scored 0"
    return ""


def _denominator(student: Score, teacher: Score) -> float:
    return teacher.value if student.higher_is_better else student.value


def _ratio(student: Score, teacher: Score) -> tuple[TaskRatio, float | None]:
    """The ratio with its standard error, and the standard error from the student's score alone."""
    if student.higher_is_better:
        ratio = student.value / teacher.value
        by_student, by_teacher = 1.0 / teacher.value, ratio / teacher.value
    else:
        ratio = teacher.value / student.value
        by_student, by_teacher = ratio / student.value, 1.0 / student.value
    own = None if student.se is None else by_student * student.se
    both = None if own is None or teacher.se is None else math.hypot(own, by_teacher * teacher.se)
    return TaskRatio(task=student.task, ratio=ratio, se=both), own


def _mean_se(errors: Sequence[float | None]) -> float | None:
    known = [error for error in errors if error is not None]
    if len(known) < len(errors):
        return None
    return math.hypot(*known) / len(known)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
