"""What `[evaluate.judge]` demands of the other keys, and they of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from stillwatt.config.judge import LETTERS
from stillwatt.config.problem import Place, Problem
from stillwatt.errors import StillwattError
from stillwatt.pipelines.rubrics import BUILT_IN, read_rubric
from stillwatt.pipelines.spec import ABSENCES

if TYPE_CHECKING:
    from stillwatt.config.judge import JudgeSettings
    from stillwatt.config.models import Recipe

_TABLE = ("evaluate", "judge")


def judging(recipe: Recipe) -> Iterator[Problem]:
    """Every broken rule of the judge's table."""
    judge = recipe.evaluate.judge
    if judge is None:
        return
    yield from _against(judge, num_students=len(recipe.students))
    if absence := ABSENCES.get(recipe.teacher.source):
        elsewhere = f"{absence}, so that it neither judges nor answers"
        if judge.source == "teacher":
            yield _problem("source", f"{elsewhere}; name a model of this machine")
        if judge.against == "teacher":
            yield _problem("against", f"{elsewhere}; take start or text")
    yield from _rubric(judge)
    if judge.revision is not None and not judge.source.startswith("hf:"):
        yield _problem("revision", "only a source hf:ORG/NAME has revisions")
    if recipe.budget is not None:
        text = "answers are judged after all training, and the run's `budget` cannot know beforehand what that takes"
        yield _problem("source", f"{text}; give budgets to the arms instead, or leave the judge out")


def _against(judge: JudgeSettings, *, num_students: int) -> Iterator[Problem]:
    if judge.mode == "pairwise" and judge.against is None:
        yield _problem("against", "mode pairwise needs it: teacher, start or text")
    if judge.mode == "score" and judge.against is not None:
        yield _problem("against", "mode score takes none: a grade is given to one answer alone")
    if judge.against == "start" and num_students > 1:
        text = "students with starts of their own would each be held against another one, and such rates say nothing"
        yield _problem("against", f"{text} of each other; take teacher or text")


def _rubric(judge: JudgeSettings) -> Iterator[Problem]:
    letters = tuple(letter.strip() for letter in judge.letters)
    if len(set(judge.letters)) < len(judge.letters) or (judge.mode == "pairwise" and len(judge.letters) != 2):
        what = "two verdicts" if judge.mode == "pairwise" else "verdicts"
        yield _problem("verdicts", f"{list(judge.letters)}: mode {judge.mode} takes {what} that differ")
    elif judge.rubric in BUILT_IN and letters != LETTERS[judge.mode]:
        asked = ", ".join(LETTERS[judge.mode])
        yield _problem("verdicts", f"{judge.rubric} asks for {asked}, and not for {', '.join(letters)}")
    if judge.rubric.startswith("path:"):
        return  # like other files, it is looked at where the work is done
    try:
        read_rubric(judge.rubric, judge.mode)
    except StillwattError as err:
        yield _problem("rubric", str(err))


def _problem(key: str, message: str) -> Problem:
    place: Place = (*_TABLE, key)
    return Problem(place=place, message=message)
