"""Choosing works and figures. Two choices one after the other are the choice of both at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from stillwatt.literature.corpus import Corpus
from stillwatt.records.impact import LifeStage
from stillwatt.records.literature import Evidence, Method, PublishedFigure, Treatment, Work

_TREATED = frozenset({Treatment.QUANTIFIED, Treatment.QUALITATIVE, Treatment.MENTIONED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What is wanted; what is left empty chooses nothing away."""

    stages: frozenset[LifeStage] = frozenset()
    metrics: frozenset[str] = frozenset()
    methods: frozenset[Method] = frozenset()
    evidence: frozenset[Evidence] = frozenset()
    first_year: int | None = None
    last_year: int | None = None
    is_verified: bool = False
    subject: str = ""
    """Part of a figure's subject or of a work's title or authors, in any case."""


def select(corpus: Corpus, choice: Choice) -> Corpus:
    """The part of the corpus that is wanted.

    A work is chosen by its own coding: year, what that rests on, stages it treats, metrics it quantifies. A figure is
    chosen by what it says itself. Where a method is asked for, which only figures have, a work needs such a figure.
    """
    figures = tuple(one for one in corpus.figures if _is_wanted(one, corpus.work_of(one), choice))
    with_figures = {one.work for one in figures}
    works = tuple(work for work in corpus.works if _work_is_wanted(work, choice, work.id in with_figures))
    return replace(corpus, works=works, figures=figures)


def _is_wanted(figure: PublishedFigure, work: Work, choice: Choice) -> bool:
    return all(
        (
            not choice.stages or bool(choice.stages & set(figure.stages)),
            not choice.metrics or figure.metric in choice.metrics,
            not choice.methods or figure.method in choice.methods,
            not choice.evidence or figure.evidence in choice.evidence,
            _is_in_years(figure.year, choice),
            figure.verified or not choice.is_verified,
            choice.subject.casefold() in figure.subject.casefold() or _is_named(work, choice),
        )
    )


def _work_is_wanted(work: Work, choice: Choice, has_figure: bool) -> bool:
    return all(
        (
            not choice.stages or any(work.treatment(stage) in _TREATED for stage in choice.stages),
            not choice.metrics or bool(choice.metrics & set(_metrics_at(work, choice.stages))),
            not choice.evidence or work.evidence in choice.evidence,
            _is_in_years(work.year, choice),
            work.verified or not choice.is_verified,
            has_figure or not choice.methods,
            has_figure or _is_named(work, choice),
        )
    )


def _metrics_at(work: Work, stages: frozenset[LifeStage]) -> Iterator[str]:
    """What it quantifies, at the stages asked for or at any."""
    for stage, metrics in work.metrics:
        if not stages or stage in stages:
            yield from metrics


def _is_in_years(year: int, choice: Choice) -> bool:
    return (choice.first_year is None or choice.first_year <= year) and (
        choice.last_year is None or year <= choice.last_year
    )


def _is_named(work: Work, choice: Choice) -> bool:
    """Whether what is looked for is in a work's title, authors or id; nothing looked for is in every one."""
    wanted = choice.subject.casefold()
    return any(wanted in text.casefold() for text in (work.title, work.authors, work.id))
