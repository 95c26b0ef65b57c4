"""What `[evaluate.judge]` demands of the other keys, and they of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from stillwatt.config.judge import LETTERS
from stillwatt.config.problem import Place, Problem
from stillwatt.config.rules_endpoint import server_rules
from stillwatt.errors import StillwattError
from stillwatt.pipelines.rubrics import BUILT_IN, read_rubric
from stillwatt.pipelines.spec import ABSENCES, ENDPOINT
from stillwatt.pipelines.spec_evaluate import BY_PROBABILITIES, BY_TEXT

if TYPE_CHECKING:
    from stillwatt.config.judge import JudgeEndpointSettings, JudgeSettings
    from stillwatt.config.models import Recipe

_TABLE = ("evaluate", "judge")
_SERVER = ("evaluate", "judge_endpoint")
_HOW_READ = "evaluate.judge.verdicts_by"
_SAID_ELSEWHERE = {
    "model": "evaluate.judge_endpoint.model",
    "prompt": "evaluate.judge.rubric",
    "messages": "evaluate.judge.rubric",
    "max_tokens": "evaluate.judge.verdict_tokens, and how it is called by length_field",
    "max_completion_tokens": "evaluate.judge.verdict_tokens, and how it is called by length_field",
    "temperature": _HOW_READ,
    "top_p": _HOW_READ,
    "seed": "evaluate.judge.seed",
    "n": "no key: each request is for one answer",
    "stream": "no key: each answer is read as a whole",
    "logprobs": _HOW_READ,
    "top_logprobs": "evaluate.judge_endpoint.top_logprobs",
}
"""Fields of a request that `extra_body` cannot have, and what says them."""


def judging(recipe: Recipe) -> Iterator[Problem]:
    """Every broken rule of the judge's table."""
    judge = recipe.evaluate.judge
    yield from _server(judge, recipe.evaluate.judge_endpoint)
    if judge is None:
        return
    yield from _engine(judge)
    yield from _against(judge, num_students=len(recipe.students))
    if absence := ABSENCES.get(recipe.teacher.source):
        elsewhere = f"{absence}, so that it neither judges nor answers"
        again = 'name a model of this machine, or the server once more: source = "endpoint"'
        if judge.source == "teacher":
            yield _problem("source", f"{elsewhere}; {again}")
        if judge.against == "teacher":
            yield _problem("against", f"{elsewhere}; take start or text")
    yield from _rubric(judge)
    if judge.revision is not None and not judge.source.startswith("hf:"):
        yield _problem("revision", "only a source hf:ORG/NAME has revisions")
    if recipe.budget is not None:
        text = "answers are judged after all training, and the run's `budget` cannot know beforehand what that takes"
        yield _problem("source", f"{text}; give budgets to the arms instead, or leave the judge out")


def _engine(judge: JudgeSettings) -> Iterator[Problem]:
    """What only one kind of judge takes."""
    if judge.source == ENDPOINT:
        if judge.dtype is not None:
            yield _problem("dtype", "the weights of an endpoint are not on this machine; remove dtype")
    else:
        if judge.dtype is None:
            yield _problem("dtype", f"the judge {judge.source!r} needs a dtype")
        if judge.verdicts_by != BY_PROBABILITIES:
            text = "a judge of this machine is read by its probabilities, which are all there; remove verdicts_by"
            yield _problem("verdicts_by", text)
    if judge.verdicts_by != BY_TEXT and judge.verdict_tokens != type(judge).model_fields["verdict_tokens"].default:
        yield _problem("verdict_tokens", 'verdict_tokens without verdicts_by = "text" has no effect')


def _server(judge: JudgeSettings | None, server: JudgeEndpointSettings | None) -> Iterator[Problem]:
    """The table of the server is there where the judge is one, and there alone."""
    if judge is None or judge.source != ENDPOINT:
        if server is not None:
            text = '[evaluate.judge_endpoint] needs [evaluate.judge] source = "endpoint"; remove it, or change that'
            yield Problem(place=_SERVER, message=text)
    elif server is None:
        text = 'source = "endpoint" needs the table [evaluate.judge_endpoint] with url, model and api'
        yield _problem("source", text)
    else:
        yield from _asked(judge, server)


def _asked(judge: JudgeSettings, server: JudgeEndpointSettings) -> Iterator[Problem]:
    """What a server can be asked for."""
    yield from server_rules(server, _SERVER, _SAID_ELSEWHERE)
    form = "chat" if server.api == "chat" else "plain"
    if judge.form != form:
        yield _problem("form", f'an endpoint whose api is "{server.api}" is asked in form = "{form}"')
    count = len(judge.letters)
    if judge.verdicts_by == BY_TEXT:
        if server.top_logprobs != type(server).model_fields["top_logprobs"].default:
            text = 'top_logprobs has no effect where verdicts_by = "text"'
            yield Problem(place=(*_SERVER, "top_logprobs"), message=text)
    elif server.top_logprobs < count:
        text = f"{server.top_logprobs} tokens cannot hold the {count} verdicts; raise it to {count} or more"
        yield Problem(place=(*_SERVER, "top_logprobs"), message=text)
    if len({letter.strip() for letter in judge.letters}) < count:
        yield _problem("verdicts", "an endpoint's verdicts are told apart without the spaces around them")


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
