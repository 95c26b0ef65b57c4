"""What keys of `[teacher_generate]` demand of each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from stillwatt.config.problem import Problem
from stillwatt.pipelines.prompts import PROMPT_PLACE, SEED_PLACE, seed_template
from stillwatt.pipelines.spec_text import CORPUS

if TYPE_CHECKING:
    from stillwatt.config.models import GenerateSettings, Recipe

OF_CONVERSATIONS = {"chat": False, "system": None}
"""Keys that only prompts of a file have a use for, each with its default."""


def teacher_text(recipe: Recipe) -> Iterator[Problem]:
    """Every broken rule about prompts and filters."""
    generate = recipe.teacher_generate
    if generate is None:
        return
    yield from (_problem(key, text) for key, text in _prompts(generate))
    yield from (_problem("template", text) for text in _template(generate))
    yield from (_problem(key, text) for key, text in _filters(generate))
    if continues_corpus(recipe):
        yield from _enough(recipe, generate)


def continues_corpus(recipe: Recipe) -> bool:
    """Whether the teacher's prompts are beginnings of training text."""
    generate = recipe.teacher_generate
    return generate is not None and generate.prompts == CORPUS and generate.seeds is None


def _problem(key: str, text: str) -> Problem:
    return Problem(place=("teacher_generate", key), message=text)


def _prompts(generate: GenerateSettings) -> Iterator[tuple[str, str]]:
    if generate.min_new_tokens > generate.max_new_tokens:
        text = f"at least {generate.min_new_tokens} and at most {generate.max_new_tokens} new tokens cannot both hold"
        yield "min_new_tokens", text
    if generate.seeds is not None and generate.prompts != CORPUS:
        yield "seeds", "prompts come from a file of prompts or from seeds, not from both; remove one"
    if generate.seeds is not None and not generate.shots:
        yield "shots", "seeds needs shots: how many of them each prompt shows"
    if generate.seeds is None and generate.shots:
        yield "shots", "shots says how many seeds a prompt shows, and there are no seeds"
    if generate.prompts == CORPUS:
        for key, default in OF_CONVERSATIONS.items():
            if getattr(generate, key) != default:
                yield key, f'only prompts = "path:FILE.jsonl" takes {key}'


def _template(generate: GenerateSettings) -> Iterator[str]:
    template = generate.template
    if template is None:
        return
    if generate.seeds is None and generate.prompts == CORPUS:
        yield "beginnings of training text take no template; it is for prompts of a file and for seeds"
        return
    place = PROMPT_PLACE if generate.seeds is None else SEED_PLACE
    yield from place_faults(template, place)
    if template.count(place) == 1 and generate.seeds is not None and not seed_template(template)[1].strip(" "):
        yield f"nothing stands behind {SEED_PLACE}, so nothing would tell where a new sample ends; add a line's end"


def place_faults(template: str, place: str) -> Iterator[str]:
    """What is wrong with a template that has a place."""
    if template.count(place) != 1:
        yield f"the template has the place {place} {template.count(place)} times; it needs it once"


def _filters(generate: GenerateSettings) -> Iterator[tuple[str, str]]:
    low, high = generate.min_mean_logprob, generate.max_mean_logprob
    if low is not None and high is not None and low >= high:
        yield "max_mean_logprob", f"no mean lies above {low} and below {high}"
    for pattern in generate.blocklist:
        try:
            re.compile(pattern)
        except re.error as err:
            yield "blocklist", f"{pattern!r} cannot be read as a regular expression: {err}"


def _enough(recipe: Recipe, generate: GenerateSettings) -> Iterator[Problem]:
    rounds = generate.to_spec().rounds
    data = recipe.data.to_spec()
    prompts = data.sequences
    most = prompts * rounds * (generate.prompt_tokens + generate.max_new_tokens)
    if most < data.text_tokens:
        over = "" if data.epochs == 1 else f" over data.epochs = {data.epochs}"
        text = (
            f"{prompts} prompts in {rounds} rounds give {most} tokens at most, fewer than "
            f"data.train_tokens = {data.train_tokens}{over}; raise max_new_tokens or max_rounds"
        )
        yield _problem("max_new_tokens", text)
