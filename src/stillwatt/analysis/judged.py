"""Judged scores: which judge gave them, and what a reader must know of it (method.md, section 13)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stillwatt.analysis.bookings import Bookings
from stillwatt.records.finding import Score
from stillwatt.records.window import JUDGED_AS

_PREFIX = "judge:"
_FIGURES = ("value", "se", "n")
_TWO_SIDED = 1.96
"""Standard errors of a 95 % interval."""
_HALF = 0.5
"""A judge that tosses coins changes its winner in half of the questions."""


def is_judged(task: str) -> bool:
    """Whether a judge gave the score.

    >>> is_judged("judge:win_vs_teacher@0a1b2c3d"), is_judged("perplexity")
    (True, False)
    """
    return task.startswith(_PREFIX)


def unlike_judges(student: Sequence[Score], teacher: Sequence[Score], word: str) -> str | None:
    """Why the scores of unlike judges, or by unlike rubrics, cannot be set in relation; None where they are alike.

    >>> given = [Score(task=f"judge:win_vs_text@{who}", value=0.4, se=0.1, n=9, higher_is_better=True) for who in "ab"]
    >>> unlike_judges(given[:1], given[:1], "teacher")
    >>> unlike_judges(given[:1], given[1:], "teacher")[:66]
    'judged as judge:win_vs_text@a, and the teacher as judge:win_vs_tex'
    """
    own, theirs = ({score.task for score in scores if is_judged(score.task)} for scores in (student, teacher))
    if not own or not theirs or own & theirs:
        return None
    return (
        f"judged as {', '.join(sorted(own))}, and the {word} as {', '.join(sorted(theirs))}: scores of unlike judges "
        "or rubrics are not compared"
    )


def judged_caveats(bookings: Bookings) -> Iterator[str]:
    """What to beware of in the judged scores of a run."""
    told = list(_told(bookings))
    yield from dict.fromkeys(str(each["caution"]) for _, each in told if each.get("caution"))
    planted = [each for _, each in told if each.get("planted") and each["value"] is not None]
    yield from (_no_better_than_a_coin(each) for each in planted if not _tells(each))
    for judge in dict.fromkeys(each.get("judge") for _, each in told):
        yield from _of_one_judge(str(judge), [(name, each) for name, each in told if each.get("judge") == judge])
    empty = [f"{each['own_empty']} of {each['n']} of {name}" for name, each in told if each.get("own_empty")]
    if empty:
        yield f"answers are empty, and judged as they are: {', '.join(empty)}"


def _of_one_judge(judge: str, told: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    flips = {name: each["position_flip_share"] for name, each in told if _is_over(each, "position_flip_share")}
    if flips:
        yield (
            f"judge {judge} changes its winner with the order of the answers in {_span(flips)} of the questions on "
            f"{', '.join(flips)}: what it prefers is a position, and a win rate near 1/2 says little of the answers"
        )
    silent = {name: each for name, each in told if each.get("no_verdict") or each.get("refused")}
    if silent:
        asked, *why = (sum(each[key] for each in silent.values()) for key in ("asked_prompts", "no_verdict", "refused"))
        yield (
            f"judge {judge} gave no verdict on {sum(why)} of {asked} prompts ({why[0]} answered otherwise, {why[1]} "
            f"refused) on {', '.join(silent)}: their questions are in no score"
        )
    if cut := {name: each["cut_off"] / max(1, each["asked_prompts"]) for name, each in told if each.get("cut_off")}:
        yield (
            f"judge {judge} was not told to the last verdict in {_span(cut)} of the prompts on {', '.join(cut)}: what "
            "is not among the most probable tokens counts as 0; raise evaluate.judge_endpoint.top_logprobs"
        )
    masses = {name: each["verdict_mass"] for name, each in told if not _is_over(each, "verdict_mass", none=True)}
    if masses:
        yield (
            f"judge {judge} gives all verdicts together {_span(masses)} of its probability on {', '.join(masses)}: it "
            "would not have answered what it was asked"
        )


def _no_better_than_a_coin(told: Mapping[str, Any]) -> str:
    share, half_width = 100.0 * told["value"], 100.0 * _TWO_SIDED * told["se"]
    return (
        f"judge {told['judge']} prefers what was really written to its own words shuffled in {share:.0f} ± "
        f"{half_width:.0f} % of {told['n']} questions, no better than a coin: its scores say nothing of the answers"
    )


def _told(bookings: Bookings) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for stage in bookings.ended:
        if JUDGED_AS not in stage.labels:
            continue
        for entry in stage.results.get("scores") or ():
            if isinstance(told := entry.get("judged"), Mapping):
                yield stage.name.removeprefix("judge."), {**told, **{key: entry.get(key) for key in _FIGURES}}


def _tells(told: Mapping[str, Any]) -> bool:
    """Whether a judge that was tried tells the better sides better than a coin: its interval lies above a half."""
    return bool(told["value"] - _TWO_SIDED * told["se"] > _HALF)


def _is_over(told: Mapping[str, Any], key: str, *, none: bool = False) -> bool:
    """Whether a share is a half or more; `none` where it was not taken."""
    value = told.get(key)
    return none if value is None else value >= _HALF


def _span(values: Mapping[str, float]) -> str:
    """The least and the greatest of some shares.

    >>> _span({"a": 0.5, "b": 0.75}), _span({"a": 0.001})
    ('50.0 to 75.0 %', '0.1 %')
    """
    low, high = (100.0 * found(values.values()) for found in (min, max))
    return f"{high:.1f} %" if f"{low:.1f}" == f"{high:.1f}" else f"{low:.1f} to {high:.1f} %"
