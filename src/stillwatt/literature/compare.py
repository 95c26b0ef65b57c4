"""One's own figure beside published ones of the same stage, metric and boundary.

Unlike figures are listed with the reason why they are not compared. A rank is given among works, not among figures, so
that a work with seventy rows has one voice; under five works there is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from stillwatt.factors.catalog import Catalog
from stillwatt.literature.convert import Conversion, Refusal, conversion, nearest_common
from stillwatt.literature.corpus import Corpus
from stillwatt.literature.vocabulary import METRICS, Per, parse_per
from stillwatt.records.factor import Place
from stillwatt.records.impact import LifeStage
from stillwatt.records.literature import Counts, PublishedFigure, Reach, Work
from stillwatt.units import convert

LEAST_WORKS = 5
"""Works, at least, before anything is said of a rank among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The figure to be set beside published ones."""

    value: float
    low: float
    high: float
    unit: str
    per: str
    stage: LifeStage
    metric: str
    reach: Reach | None
    counts: Counts | None = None
    what: str = "yours"
    """How it is called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """A published figure in one's own unit, at a boundary that both share."""

    figure: PublishedFigure
    work: Work
    value: float
    low: float
    high: float
    """Range as printed, widened by the interval of each factor that brought it here."""
    yours: float
    yours_low: float
    yours_high: float
    """One's own figure at the same boundary."""
    at: Reach | None
    theirs_by: Conversion
    yours_by: Conversion

    @property
    def ratio(self) -> float | None:
        """One's own over the published; None where that is 0."""
        return self.yours / self.value if self.value else None

    @property
    def is_converted(self) -> bool:
        """Whether a factor had a part in it."""
        return bool(self.theirs_by.factors or self.yours_by.factors)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A figure of the same stage and metric that is not compared, and why."""

    figure: PublishedFigure
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """Where one's figure stands among works."""

    works: int
    share_below: float
    """Mean over works of the share of a work's figures that lie below."""
    low: float
    """The same, counting only figures that lie below with their whole range and one's own whole interval."""
    high: float
    """The same, counting every figure that may lie below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoRank:
    """Why nothing is said of a rank."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What stands beside the figure, what does not, and the rank."""

    asked: Asked
    beside: tuple[Beside, ...]
    refused: tuple[Refused, ...]
    rank: Rank | NoRank
    cautions: tuple[str, ...]


def compare(asked: Asked, corpus: Corpus, catalog: Catalog, place: Place) -> Comparison:
    """Set a figure beside the published ones.

    Args:
        asked: the figure; its unit is one of `stillwatt.units.SCALES`, of its metric's dimension.
        corpus: where to look; choose from it first to look among fewer.
        catalog: factors for boundaries that differ.
        place: where those factors are looked for.
    """
    beside: list[Beside] = []
    refused: list[Refused] = []
    for figure in corpus.figures:
        if figure.metric != asked.metric or asked.stage not in figure.stages:
            continue
        found = _set_beside(asked, figure, corpus.work_of(figure), catalog, place)
        if isinstance(found, Beside):
            beside.append(found)
        else:
            refused.append(Refused(figure=figure, reason=found.reason))
    beside.sort(key=lambda one: (one.value, one.figure.id))
    refused.sort(key=lambda one: (one.reason, one.figure.id))
    return Comparison(
        asked=asked,
        beside=tuple(beside),
        refused=tuple(refused),
        rank=_rank(beside),
        cautions=tuple(_cautions(asked, beside)),
    )


def _set_beside(asked: Asked, figure: PublishedFigure, work: Work, catalog: Catalog, place: Place) -> Beside | Refusal:
    per, theirs = parse_per(asked.per), parse_per(figure.per)
    reason = _unlike(asked, figure, per, theirs)
    middle = figure.middle
    if reason or middle is None:
        return Refusal(reason=reason or "its source gives no single number")
    ways = _ways(figure.reach, asked, catalog, place)
    if isinstance(ways, Refusal):
        return ways
    theirs_by, yours_by = ways
    scale = per.count / theirs.count
    low, high = (middle if end is None else end for end in (figure.low, figure.high))
    printed = [convert(number * scale, figure.unit, asked.unit) for number in (middle, low, high)]
    value, low, high = theirs_by.apply(printed[0], printed[1], printed[2])
    yours, yours_low, yours_high = yours_by.apply(asked.value, asked.low, asked.high)
    return Beside(
        figure=figure,
        work=work,
        value=value,
        low=low,
        high=high,
        yours=yours,
        yours_low=yours_low,
        yours_high=yours_high,
        at=theirs_by.end,
        theirs_by=theirs_by,
        yours_by=yours_by,
    )


def _ways(reach: Reach | None, asked: Asked, catalog: Catalog, place: Place) -> tuple[Conversion, Conversion] | Refusal:
    """How the published figure and one's own come to one boundary; as they stand where the metric has none."""
    if reach is None or asked.reach is None:
        return Conversion(begin=reach, end=reach), Conversion(begin=asked.reach, end=reach)
    end = (reach if reach is asked.reach else nearest_common(reach, asked.reach)) or asked.reach
    theirs = conversion(reach, end, asked.metric, catalog, place)
    yours = conversion(asked.reach, end, asked.metric, catalog, place)
    if isinstance(theirs, Refusal):
        return theirs
    return yours if isinstance(yours, Refusal) else (theirs, yours)


def _unlike(asked: Asked, figure: PublishedFigure, per: Per, theirs: Per) -> str:
    if len(figure.stages) > 1:
        return f"covers several stages together: {', '.join(figure.stages)}"
    if per.noun != theirs.noun:
        return f"is per {theirs.noun}" if theirs.noun else "is a total, per nothing"
    allowed = METRICS[asked.metric].counts
    if allowed and figure.counts is not asked.counts:
        return f"counts {figure.counts or 'embodied only'}, and yours {asked.counts or 'is embodied only'}"
    return ""


def _rank(beside: Iterable[Beside]) -> Rank | NoRank:
    """Among works whose figures were seen in what they rest on."""
    by_work: dict[str, list[Beside]] = {}
    for one in beside:
        if one.figure.verified:
            by_work.setdefault(one.work.id, []).append(one)
    if len(by_work) < LEAST_WORKS:
        count = len(by_work)
        works = f"{count} work has" if count == 1 else f"{count} works have"
        return NoRank(reason=f"{works} a like figure that was seen; a rank needs {LEAST_WORKS}")
    groups = list(by_work.values())
    return Rank(
        works=len(groups),
        share_below=_mean_share(groups, lambda one: one.value < one.yours),
        low=_mean_share(groups, lambda one: one.high < one.yours_low),
        high=_mean_share(groups, lambda one: one.low < one.yours_high),
    )


def _mean_share(groups: Sequence[Sequence[Beside]], lies_below: Callable[[Beside], bool]) -> float:
    return math.fsum(sum(map(lies_below, group)) / len(group) for group in groups) / len(groups)


def _cautions(asked: Asked, beside: list[Beside]) -> Iterable[str]:
    if beside and not asked.per:
        yield "totals hang on the size of the job: a figure per token, request or hour says more"
    if parse_per(asked.per).noun == "request":
        yield "queries, prompts and requests are taken as one unit; their lengths differ from work to work"
    said = {caution for one in beside for by in (one.theirs_by, one.yours_by) for caution in by.cautions}
    yield from sorted(said)
    if unseen := sum(not one.figure.verified for one in beside):
        yield f"{unseen} of these figures were not seen in their source; they stand here and have no part in the rank"
