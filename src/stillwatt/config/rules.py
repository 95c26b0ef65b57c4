"""What one key of a recipe demands of another; each rule names the key to change.

Rules see a recipe whose keys are right one by one. They stand apart from the models so that each can be read,
tested and given a place in the file.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from stillwatt.clock import SystemClock
from stillwatt.config.plan import sequences_at
from stillwatt.config.problem import Place, Problem
from stillwatt.config.rules_budget import budgets
from stillwatt.config.rules_data import data, whole_passes
from stillwatt.config.rules_endpoint import endpoint
from stillwatt.config.rules_given import given_cache
from stillwatt.config.rules_harness import harness
from stillwatt.config.rules_judge import judging
from stillwatt.config.rules_on_policy import is_online, on_policy
from stillwatt.config.rules_text import continues_corpus, teacher_text
from stillwatt.config.rules_training import training
from stillwatt.config.rules_vllm import vllm
from stillwatt.errors import UnknownNameError, UsageError, suggest
from stillwatt.pipelines.cache.scheme import Scheme
from stillwatt.pipelines.objectives.registry import DEFAULT_LOSS, OBJECTIVES, Source, check_parameter, find_objective
from stillwatt.pipelines.spec import DISTILLING, Method
from stillwatt.pipelines.spec_text import CORPUS
from stillwatt.sensors.needs import check_needs
from stillwatt.sensors.registry import check_names, make_sensor

if TYPE_CHECKING:
    from stillwatt.config.arms import ArmSettings
    from stillwatt.config.models import Recipe

RESERVED_ARMS = ("teacher", "start")
"""Labels the study itself gives to the models that no arm made."""


def problems(recipe: Recipe) -> Iterator[Problem]:
    """Every broken rule, in the order of the file's tables."""
    yield from _meter(recipe)
    yield from _names(recipe)
    yield from _sources(recipe)
    yield from data(recipe)
    yield from endpoint(recipe)
    yield from given_cache(recipe)
    yield from _budget(recipe)
    yield from teacher_text(recipe)
    yield from vllm(recipe)
    yield from training(recipe)
    yield from _checkpoints(recipe)
    yield from _arms(recipe)
    yield from on_policy(recipe)
    yield from _losses(recipe)
    yield from _cache(recipe)
    yield from _artifacts(recipe)
    yield from budgets(recipe)
    yield from judging(recipe)
    yield from harness(recipe)
    yield from _comparison(recipe)


def _meter(recipe: Recipe) -> Iterator[Problem]:
    """A driver's name or option that does not exist would otherwise show only in the sampling process."""
    for number, name in enumerate(recipe.meter.sensors):
        try:
            check_names([name])
            check_needs([name], recipe.meter.options)
        except UsageError as err:
            yield Problem(place=("meter", "sensors", number), message=str(err))
    for driver, options in recipe.meter.options.items():
        try:
            make_sensor(driver, SystemClock(), **options)
        except UsageError as err:
            yield Problem(place=("meter", "options", driver), message=str(err))


def _names(recipe: Recipe) -> Iterator[Problem]:
    for table, names in (
        ("students", [student.name for student in recipe.students]),
        ("arms", [arm.name for arm in recipe.arms]),
    ):
        for name, times in Counter(names).items():
            if times > 1:
                last = len(names) - 1 - names[::-1].index(name)
                yield Problem(place=(table, last, "name"), message=f"the name {name!r} is used {times} times")
    for number, arm in enumerate(recipe.arms):
        if arm.name in RESERVED_ARMS:
            yield Problem(place=("arms", number, "name"), message=f"{arm.name!r} is a name the study uses itself")


def _sources(recipe: Recipe) -> Iterator[Problem]:
    if recipe.teacher.revision is not None and not recipe.teacher.source.startswith("hf:"):
        yield Problem(place=("teacher", "revision"), message="only a source hf:ORG/NAME has revisions")
    for number, student in enumerate(recipe.students):
        if student.revision is not None and not student.source.startswith("hf:"):
            yield Problem(place=("students", number, "revision"), message="only a source hf:ORG/NAME has revisions")
        prunes = student.source == "prune-teacher"
        for key in ("drop_layers", "candidate_starts", "selection_tokens"):
            is_set = bool(getattr(student, key))
            if prunes and not is_set:
                text = f"student {student.name!r}: prune-teacher needs {key}"
                yield Problem(place=("students", number, key), message=text)
            if is_set and not prunes:
                text = f'student {student.name!r}: only source = "prune-teacher" takes {key}'
                yield Problem(place=("students", number, key), message=text)


def _budget(recipe: Recipe) -> Iterator[Problem]:
    length = recipe.data.sequence_tokens
    yield from whole_passes(recipe)
    if recipe.evaluate.perplexity_tokens < 2 * length:
        text = f"must be at least two sequences of {length} tokens, or the perplexity would have no standard error"
        yield Problem(place=("evaluate", "perplexity_tokens"), message=text)
    for table in ("teacher_generate", "student_generate", "serve"):
        settings = getattr(recipe, table)
        if table == "teacher_generate" and not continues_corpus(recipe):
            continue
        if table == "student_generate" and settings is not None and settings.prompts != CORPUS:
            continue  # held against a sequence together with what is written
        if settings is not None and settings.prompt_tokens > length:
            text = f"prompts are cut from sequences of {length} tokens, so {settings.prompt_tokens} cannot be had"
            yield Problem(place=(table, "prompt_tokens"), message=text)


def _checkpoints(recipe: Recipe) -> Iterator[Problem]:
    place: Place = ("train", "checkpoints")
    checkpoints = recipe.train.checkpoints
    if any(later <= earlier for earlier, later in itertools.pairwise(checkpoints)):
        yield Problem(place=place, message=f"{list(checkpoints)} must ascend")
    elif checkpoints[-1] != 1.0:
        yield Problem(place=place, message=f"the last must be 1.0, the whole budget, not {checkpoints[-1]}")
    elif _falls_into_one_step(recipe):
        text = "two checkpoints, or the first and the start, fall into one optimiser step; space them, or train longer"
        yield Problem(place=place, message=text)
    if len(set(recipe.train.seeds)) < len(recipe.train.seeds):
        yield Problem(place=("train", "seeds"), message=f"{list(recipe.train.seeds)} repeats a seed")


def _falls_into_one_step(recipe: Recipe) -> bool:
    spec = recipe.train.to_spec()
    ends = [0, *(sequences_at(share, recipe.data.to_spec(), spec) for share in recipe.train.checkpoints)]
    return any(later == earlier for earlier, later in itertools.pairwise(ends))


def _arms(recipe: Recipe) -> Iterator[Problem]:
    for number, arm in enumerate(recipe.arms):
        for key in ("alpha", "temperature", "loss", "loss_parameter"):
            is_set = getattr(arm, key) is not None
            if arm.method is Method.KD and not is_set and not key.startswith("loss"):
                yield Problem(place=("arms", number, key), message=f"arm {arm.name!r}: method kd needs {key}")
            if arm.method not in DISTILLING and is_set:
                text = f"arm {arm.name!r}: method {arm.method.value} takes no {key}; only kd and gkd do"
                yield Problem(place=("arms", number, key), message=text)
        cache = recipe.teacher_logits
        told = cache and cache.temperature  # None where the cache is there already and says its own
        if told is not None and arm.temperature not in (None, told) and not is_online(arm):
            text = (
                f"arm {arm.name!r}: temperature {arm.temperature} is not the cache's, {told} "
                "([teacher_logits]); a cut-off cache cannot be brought to another temperature"
            )
            yield Problem(place=("arms", number, "temperature"), message=text)


def _losses(recipe: Recipe) -> Iterator[Problem]:
    for number, arm in enumerate(recipe.arms):
        if arm.method not in DISTILLING:
            continue
        try:
            objective = find_objective(arm.loss or DEFAULT_LOSS)
        except UnknownNameError as err:
            yield Problem(place=("arms", number, "loss"), message=f"arm {arm.name!r}: {err}")
            continue
        try:
            check_parameter(objective, arm.loss_parameter)
        except UsageError as err:
            yield Problem(place=("arms", number, "loss_parameter"), message=f"arm {arm.name!r}: {err}")
        written = _written(recipe)
        if written is not None and not objective.is_online and objective.source is not written:
            fitting = ", ".join(one.name for one in OBJECTIVES.values() if one.source is written)
            text = (
                f"arm {arm.name!r}: loss {objective.name!r} reads a {objective.source.value}, and [teacher_logits] "
                f"writes a {written.value}: use {fitting}, or a loss of the whole vocabulary"
            )
            yield Problem(place=("arms", number, "loss"), message=text)


def _written(recipe: Recipe) -> Source | None:
    """What a loss finds in the cache; None where that one is there already, and says it itself."""
    logits = recipe.teacher_logits
    if logits is not None and logits.is_given:
        return None
    spec = logits.to_spec(recipe.logit_cache) if logits else None
    return spec.source if spec else Source.TOP_K


def _cache(recipe: Recipe) -> Iterator[Problem]:
    logits, coding = recipe.teacher_logits, recipe.logit_cache
    if coding is None:
        if logits is not None and logits.top_k == 0:
            yield Problem(place=("teacher_logits", "top_k"), message="fixed rows keep at least one token")
        return
    if logits is None:
        text = "[logit_cache] says how [teacher_logits] is coded, and there is no such table; remove it or add that one"
        yield Problem(place=("logit_cache",), message=text)
        return
    if logits.top_k is None:
        return  # told of by the rules of where the cache comes from
    how = coding.model_dump()
    try:
        scheme = Scheme(name=how.pop("scheme"), top_k=logits.top_k, **how)
    except UsageError as err:
        yield Problem(place=("logit_cache",), message=str(err))
        return
    # told by their values, as the settings that a run keeps state every key; not by `Scheme`, which reads old caches
    for key, has_meaning in (("seed", scheme.is_unbiased), ("step", scheme.has_head)):
        if not has_meaning and how[key] != type(coding).model_fields[key].default:
            text = f"cache scheme {scheme.name}: {key} {how[key]} has no meaning here; leave it out"
            yield Problem(place=("logit_cache", key), message=text)


def _uses(arm: ArmSettings, method: Method) -> bool:
    """Whether an arm consumes the artefact that is made for that method."""
    is_writing = method is Method.SYNTHETIC_SFT
    return (arm.method is method and not is_online(arm)) or (is_writing and arm.text == "teacher")


def _artifacts(recipe: Recipe) -> Iterator[Problem]:
    for table, method in (("teacher_logits", Method.KD), ("teacher_generate", Method.SYNTHETIC_SFT)):
        users = [n for n, arm in enumerate(recipe.arms) if _uses(arm, method)]
        if users and getattr(recipe, table) is None:
            user = recipe.arms[users[0]]
            text = f"arm {user.name!r}: method {user.method.value} needs the table [{table}]"
            yield Problem(place=("arms", users[0], "method"), message=text)
        if not users and getattr(recipe, table) is not None:
            text = (
                f"no arm uses [{table}], so the teacher would work for nothing; "
                f"remove the table or add an arm of method {method.value}"
            )
            text += " with a loss that reads it" if method is Method.KD else ""
            yield Problem(place=(table,), message=text)


def _comparison(recipe: Recipe) -> Iterator[Problem]:
    place: Place = ("analysis", "baseline_arm")
    names = {arm.name: arm.method for arm in recipe.arms}
    wanted = recipe.analysis.baseline_arm
    if wanted not in names:
        near = suggest(wanted, names)
        hint = f"did you mean {near!r}?" if near else f"arms: {', '.join(names)}"
        yield Problem(place=place, message=f"the baseline {wanted!r} is not an arm; {hint}")
    elif names[wanted] is not Method.SFT:
        yield Problem(place=place, message=f"the baseline {wanted!r} must be of method sft, not {names[wanted].value}")
    if any(later <= earlier for earlier, later in itertools.pairwise(recipe.analysis.reuse)):
        yield Problem(place=("analysis", "reuse"), message=f"{list(recipe.analysis.reuse)} must ascend")
