"""What arms that train on the student's own text need, and no other takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from stillwatt.config.problem import Problem
from stillwatt.config.rules_text import OF_CONVERSATIONS, place_faults
from stillwatt.pipelines.objectives.registry import DEFAULT_LOSS, OBJECTIVES
from stillwatt.pipelines.prompts import PROMPT_PLACE
from stillwatt.pipelines.spec import Method
from stillwatt.pipelines.spec_text import CORPUS

if TYPE_CHECKING:
    from stillwatt.config.arms import ArmSettings
    from stillwatt.config.models import Recipe
    from stillwatt.config.own_text import OwnTextSettings

_NEEDED = ("alpha", "temperature", "loss", "own_text_share")
_OF_GKD_ALONE = ("own_text_share", "text")


def is_online(arm: ArmSettings) -> bool:
    """Whether the arm's loss needs the teacher beside the student."""
    objective = OBJECTIVES.get(arm.loss or DEFAULT_LOSS)
    return objective is not None and objective.is_online


def on_policy(recipe: Recipe) -> Iterator[Problem]:
    """Every broken rule about students' own text."""
    for number, arm in enumerate(recipe.arms):
        yield from _gkd(number, arm) if arm.method is Method.GKD else _no_gkd(number, arm)
    yield from _settings(recipe)


def _gkd(number: int, arm: ArmSettings) -> Iterator[Problem]:
    for key in _NEEDED:
        if getattr(arm, key) is None:
            yield Problem(place=("arms", number, key), message=f"arm {arm.name!r}: method gkd needs {key}")
    if arm.loss in OBJECTIVES and not is_online(arm):
        whole = ", ".join(name for name, objective in OBJECTIVES.items() if objective.is_online)
        text = f"arm {arm.name!r}: no cache holds what the student has yet to write; for gkd take one of {whole}"
        yield Problem(place=("arms", number, "loss"), message=text)


def _no_gkd(number: int, arm: ArmSettings) -> Iterator[Problem]:
    for key in _OF_GKD_ALONE:
        if getattr(arm, key) is not None:
            text = f"arm {arm.name!r}: method {arm.method.value} takes no {key}; only gkd does"
            yield Problem(place=("arms", number, key), message=text)


def _settings(recipe: Recipe) -> Iterator[Problem]:
    users = [arm.name for arm in recipe.arms if arm.method is Method.GKD]
    settings = recipe.student_generate
    if settings is None:
        if users:
            text = f"arm {users[0]!r}: method gkd needs the table [student_generate]"
            yield Problem(place=("student_generate",), message=text)
        return
    if not users:
        text = "no arm uses [student_generate]; remove the table or add an arm of method gkd"
        yield Problem(place=("student_generate",), message=text)
    yield from (Problem(place=("student_generate", key), message=text) for key, text in _prompts(settings))
    if recipe.data.packing == "documents" and settings.prompts == CORPUS:
        text = (
            "a student goes on from beginnings of packed sequences, which may hold several documents, so own text "
            'cannot be kept apart; set packing = "stream", name a file of prompts, or leave out arms of method gkd'
        )
        yield Problem(place=("data", "packing"), message=text)
    length = recipe.data.sequence_tokens
    if settings.prompt_tokens + settings.max_new_tokens > length:
        text = (
            f"{settings.prompt_tokens} + {settings.max_new_tokens} tokens are longer than a sequence, {length}; "
            "a step on own text would be larger than one on given text"
        )
        yield Problem(place=("student_generate", "max_new_tokens"), message=text)


def _prompts(settings: OwnTextSettings) -> Iterator[tuple[str, str]]:
    if settings.prompts == CORPUS:
        for key, default in {**OF_CONVERSATIONS, "template": None}.items():
            if getattr(settings, key) != default:
                yield key, f'only prompts = "path:FILE.jsonl" takes {key}'
    elif settings.template is not None:
        yield from (("template", text) for text in place_faults(settings.template, PROMPT_PLACE))
