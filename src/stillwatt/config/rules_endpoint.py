"""What a teacher that is a server rules out, and what it needs; and what a study without one cannot do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from stillwatt.config.problem import Place, Problem
from stillwatt.config.rules_on_policy import is_online
from stillwatt.config.teachers import is_in_the_clear
from stillwatt.errors import UsageError
from stillwatt.pipelines.endpoint_prompts import CUT_CONVERSATION, NO_CONVERSATION
from stillwatt.pipelines.spec import ABSENCES, DISTILLING, ENDPOINT, NO_TEACHER, LimitKind, Method

if TYPE_CHECKING:
    from stillwatt.config.arms import ArmSettings
    from stillwatt.config.models import GenerateSettings, Recipe
    from stillwatt.config.teachers import EndpointSettings

_TEXT_ONLY = (
    "the teacher is an endpoint, which gives text and no distribution over the student's vocabulary; take method "
    "synthetic_sft, or a teacher on this machine"
)
_NOBODY = (
    "the recipe has no teacher; name one under [teacher], or a cache that is there already: [teacher_logits] source = "
    '"path:DIR"'
)
_NO_TEXT = "text that a teacher writes, and the recipe has none; name a teacher, or take method sft on text of your own"
_SAID_ELSEWHERE = {
    "model": "teacher_endpoint.model",
    "prompt": "[teacher_generate]",
    "messages": "[teacher_generate]",
    "max_tokens": "teacher_generate.max_new_tokens, and how it is called by length_field",
    "max_completion_tokens": "teacher_generate.max_new_tokens, and how it is called by length_field",
    "temperature": "teacher_generate.temperature",
    "top_p": "teacher_generate.top_p",
    "seed": "teacher_generate.seed",
    "n": "no key: each request is for one answer",
    "stream": "no key: each answer is read as a whole",
}
"""Fields of a request that `extra_body` cannot have, and what says them."""


def endpoint(recipe: Recipe) -> Iterator[Problem]:
    """Every broken rule about a teacher that is a server, or that there is none."""
    teacher, server = recipe.teacher, recipe.teacher_endpoint
    if teacher.source != ENDPOINT:
        if teacher.dtype is None and teacher.source != NO_TEACHER:
            yield Problem(place=("teacher", "dtype"), message=f"the teacher {teacher.source!r} needs a dtype")
        if server is not None:
            text = '[teacher_endpoint] needs [teacher] source = "endpoint"; remove the table, or change the source'
            yield Problem(place=("teacher_endpoint",), message=text)
        if teacher.source == NO_TEACHER:
            yield from _nobody(recipe)
        return
    if server is None:
        text = 'source = "endpoint" needs the table [teacher_endpoint] with url, model and api'
        yield Problem(place=("teacher", "source"), message=text)
        return
    if teacher.dtype is not None:
        text = "the weights of an endpoint are not on this machine; remove dtype"
        yield Problem(place=("teacher", "dtype"), message=text)
    yield from server_rules(server, ("teacher_endpoint",), _SAID_ELSEWHERE)
    if recipe.teacher_generate is not None:
        yield from _text(recipe.teacher_generate, server)
    yield from _students(recipe)
    yield from _budgets(recipe)


def _nobody(recipe: Recipe) -> Iterator[Problem]:
    if recipe.teacher.dtype is not None:
        text = "there are no weights where there is no teacher; remove dtype"
        yield Problem(place=("teacher", "dtype"), message=text)
    yield from _students(recipe)
    if recipe.teacher_generate is not None:
        text = "nobody writes text: the recipe has no teacher; remove this table, or name a teacher"
        yield Problem(place=("teacher_generate",), message=text)
    for number, arm in enumerate(recipe.arms):
        if arm.method is Method.SYNTHETIC_SFT:
            text = f"arm {arm.name!r}: method synthetic_sft learns from {_NO_TEXT}"
            yield Problem(place=("arms", number, "method"), message=text)


def server_rules(server: EndpointSettings, table: Place, said: Mapping[str, str]) -> Iterator[Problem]:
    """Every broken rule of one server's table.

    Args:
        server: The table.
        table: Where it stands.
        said: Fields that `extra_body` cannot have, and what says them.
    """
    if server.api_key_env is not None and is_in_the_clear(server.url):
        text = f"the key would go to {server.url} in the clear; use https, or a tunnel that ends on this machine"
        yield Problem(place=(*table, "url"), message=text)
    yield from _extra_fields(server, table, said)
    sizes = {"active_parameters": server.active_parameters, "total_parameters": server.total_parameters}
    given = [name for name, value in (*sizes.items(), ("provider", server.provider)) if value is not None]
    if server.energy == "absent":
        for name in given:
            text = f'{name} without energy = "ecologits" has no effect'
            yield Problem(place=(*table, name), message=text)
        return
    if sorted(given) not in (["provider"], sorted(sizes)):
        text = "ecologits needs either provider, or both active_parameters and total_parameters (in billions)"
        yield Problem(place=(*table, "energy"), message=text)
    elif (server.active_parameters or 0.0) > (server.total_parameters or 0.0):
        text = f"{server.active_parameters:g} billion at work are more than {server.total_parameters:g} billion in all"
        yield Problem(place=(*table, "active_parameters"), message=text)


def _extra_fields(server: EndpointSettings, table: Place, said: Mapping[str, str]) -> Iterator[Problem]:
    place: Place = (*table, "extra_body")
    for name in sorted(said.keys() & server.extra_body.keys()):
        yield Problem(place=(*place, name), message=f"{name} is said by {said[name]}; remove it here")
    try:
        json.dumps(server.extra_body, allow_nan=False)
    except ValueError:
        yield Problem(place=place, message="requests are JSON, which has no infinite numbers; write another")


def _text(generate: GenerateSettings, server: EndpointSettings) -> Iterator[Problem]:
    """What a server cannot be asked for."""
    for key in ("min_mean_logprob", "max_mean_logprob"):
        if getattr(generate, key) is not None:
            text = (
                "the teacher is an endpoint, whose server is not asked how probable its tokens were: what servers call "
                "that differs; remove the bound"
            )
            yield Problem(place=("teacher_generate", key), message=text)
    for key in ("chat", "system"):
        if getattr(generate, key) and server.api == "completions":
            yield Problem(place=("teacher_generate", key), message=f"conversations: {NO_CONVERSATION}")
    if (generate.chat or generate.system is not None) and generate.long_prompts == "cut":
        yield Problem(place=("teacher_generate", "long_prompts"), message=CUT_CONVERSATION)
    if generate.temperature == 0.0 and "temperature" in server.leave_out:
        text = (
            "0 takes the most probable token, and in one round; the server, which is not told so (leave_out), draws as "
            "it likes; set 1.0"
        )
        yield Problem(place=("teacher_generate", "temperature"), message=text)


def _students(recipe: Recipe) -> Iterator[Problem]:
    source = recipe.teacher.source
    absence, why = ABSENCES[source], _NOBODY if source == NO_TEACHER else _TEXT_ONLY
    for number, student in enumerate(recipe.students):
        if student.source == "prune-teacher":
            text = f"student {student.name!r}: {absence}, so there are no layers to leave out"
            yield Problem(place=("students", number, "source"), message=text)
    is_given = recipe.teacher_logits is not None and recipe.teacher_logits.is_given
    for number, arm in enumerate(recipe.arms):
        reads_given = is_given and arm.method is Method.KD and not is_online(arm)
        if arm.method in DISTILLING and not reads_given:
            yield Problem(place=("arms", number, "method"), message=f"arm {arm.name!r}: {_how(arm)}{why}")
    if recipe.teacher_logits is not None and not is_given:
        yield Problem(place=("teacher_logits",), message=why)


def _how(arm: ArmSettings) -> str:
    """What the arm would need of its teacher."""
    if arm.method is Method.GKD:
        return "method gkd runs the teacher beside the student: "
    return "its loss runs the teacher beside the student: " if is_online(arm) else "method kd reads logits: "


def _budgets(recipe: Recipe) -> Iterator[Problem]:
    """A gauge on this machine sees nothing of the server's joules."""
    told: list[tuple[Place, str | None]] = [(("budget",), recipe.budget)]
    told.append((("budgets", "each_arm"), recipe.budgets.each_arm))
    told += [(("arms", number, "budget"), arm.budget) for number, arm in enumerate(recipe.arms)]
    for place, text in told:
        if text is not None and _is_of_energy(recipe, text):
            message = (
                f"a budget of {text} cannot be kept where the teacher is an endpoint, whose energy no gauge here sees; "
                "limit tokens or time"
            )
            yield Problem(place=place, message=message)


def _is_of_energy(recipe: Recipe, text: str) -> bool:
    try:
        return recipe.budgets.limit(text).kind is LimitKind.ENERGY
    except UsageError:  # of carbon or money that cannot be turned into joules: told of by the rules of budgets
        return False
