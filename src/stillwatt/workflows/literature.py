"""Use case: the coverage map of published works, and one's own figure beside published ones."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from stillwatt.errors import ConfigError, NoSuchInputError, UnknownNameError, UsageError
from stillwatt.factors.catalog import Catalog
from stillwatt.factors.places import find_place
from stillwatt.literature.compare import Asked, Comparison, compare
from stillwatt.literature.corpus import Corpus, load_corpus
from stillwatt.literature.select import Choice, select
from stillwatt.literature.vocabulary import METRICS, OPERATION, STAGE_NAMES, Metric, parse_per
from stillwatt.records.channel import Boundary
from stillwatt.records.impact import VALUED, Impact, LifeStage
from stillwatt.records.literature import Counts, Evidence, Method, PublishedFigure, Reach, Work
from stillwatt.units import SCALES

Found = TypeVar("Found")
_REACH_OF: Mapping[str, Reach] = {
    **{reach.value: reach for reach in Reach},
    Boundary.CHIP.value: Reach.BOARD,
    Boundary.WALL.value: Reach.NODE,
}
_METRIC_OF: Mapping[Impact, tuple[str, Reach | None, Counts | None]] = {
    Impact.ENERGY_METERED: ("energy", None, None),
    Impact.ENERGY_NODE: ("energy", Reach.NODE, None),
    Impact.ENERGY_FACILITY: ("energy", Reach.FACILITY, None),
    Impact.PRIMARY_ENERGY: ("primary_energy", Reach.FACILITY, None),
    Impact.GWP_LOCATION: ("co2e", Reach.FACILITY, Counts.LOCATION),
    Impact.GWP_MARKET: ("co2e", Reach.FACILITY, Counts.MARKET),
    Impact.WATER_ONSITE: ("water", Reach.FACILITY, Counts.ONSITE),
    Impact.WATER_OFFSITE: ("water", Reach.FACILITY, Counts.OFFSITE),
}
"""Which published figures each impact of an account may stand beside; embodied impacts are compared by --value."""
_UNIT_OF = {"kgCO2e": "kg"}
_VALUED = frozenset(status.value for status in VALUED)
_OPERATIONAL = frozenset(
    {LifeStage.DATA, LifeStage.EXPERIMENTATION, LifeStage.TRAINING, LifeStage.POST_TRAINING, LifeStage.DEPLOYMENT}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncompared:
    """A cell of an account that has nothing to be set beside published figures, and why."""

    cell: str
    reason: str


def open_corpus(files: Sequence[str] = (), choice: Choice | None = None) -> Corpus:
    """The shipped corpus with one's own files on top, and of that what is wanted.

    Raises:
        ConfigError: a file is not as it should be.
        NoSuchInputError: there is no such file.
    """
    corpus = load_corpus(files)
    return corpus if choice is None else select(corpus, choice)


def make_choice(
    *,
    stages: Sequence[str] = (),
    metrics: Sequence[str] = (),
    methods: Sequence[str] = (),
    evidence: Sequence[str] = (),
    years: str = "",
    is_verified: bool = False,
    subject: str = "",
) -> Choice:
    """A choice from words.

    Args:
        stages: life-cycle stages, as the account or the review calls them.
        metrics: metrics of the corpus.
        methods: how figures came about.
        evidence: what codings and figures rest on.
        years: `2024`, or `2022-2024`, of which either end may be left out.
        is_verified: only what has been checked.
        subject: part of a subject, title or author.

    Raises:
        UnknownNameError: a word that is none of these.
        UsageError: years that are no years.
    """
    first, last = _years(years)
    return Choice(
        stages=frozenset(_known("stage", name, STAGE_NAMES) for name in stages),
        metrics=frozenset(_known("metric", name, {one: one for one in METRICS}) for name in metrics),
        methods=frozenset(_known("method", name, {one.value: one for one in Method}) for name in methods),
        evidence=frozenset(_known("evidence", name, {one.value: one for one in Evidence}) for name in evidence),
        first_year=first,
        last_year=last,
        is_verified=is_verified,
        subject=subject,
    )


def find_work(corpus: Corpus, name: str) -> tuple[Work, tuple[PublishedFigure, ...]]:
    """A work by its id or the id of one of its figures, with its figures.

    Raises:
        UnknownNameError: there is neither.
    """
    by_figure = {figure.id: figure.work for figure in corpus.figures}
    found = corpus.index.get(by_figure.get(name, name))
    if found is None:
        raise UnknownNameError("work", name, [*corpus.index, *by_figure])
    return found, tuple(figure for figure in corpus.figures if figure.work == found.id)


def ask(
    *,
    value: float,
    low: float | None = None,
    high: float | None = None,
    unit: str,
    per: str = "",
    stage: str,
    metric: str,
    boundary: str = "",
    counts: str = "",
    what: str = "yours",
) -> Asked:
    """The figure to be compared, from words.

    Raises:
        UnknownNameError: a stage, metric, unit, boundary or kind that is not known.
        UsageError: words that do not fit each other, or a number that is none.
    """
    known = METRICS[_known("metric", metric, {one: one for one in METRICS})]
    ends = (value if low is None else low, value, value if high is None else high)
    if not all(math.isfinite(number) and number >= 0.0 for number in ends) or sorted(ends) != list(ends):
        raise UsageError(f"{what}: {value:g} [{ends[0]:g}, {ends[2]:g}] is no figure of 0 or more in its interval")
    dimension = _known("unit", unit, SCALES).dimension
    if known.dimension and dimension != known.dimension:
        raise UsageError(f"{unit} is a unit of {dimension}, and {metric} is {known.dimension}")
    if known.has_reach and not boundary:
        raise UsageError(f"{metric} needs --boundary: one of {', '.join(_REACH_OF)}")
    if parse_per(per).count == 0.0:
        raise UsageError(f"--per {per!r} is per nothing at all; leave it out for a total")
    return Asked(
        value=value,
        low=ends[0],
        high=ends[2],
        unit=unit,
        per=per,
        stage=_known("stage", stage, STAGE_NAMES),
        metric=metric,
        reach=_known("boundary", boundary, _REACH_OF) if boundary else None,
        counts=_kind(known, counts, boundary),
        what=what,
    )


def _kind(metric: Metric, counts: str, boundary: str) -> Counts | None:
    """Which kind of CO2e or water is meant; of what is embodied there is one alone, and none need be named."""
    allowed = {one.value: one for one in metric.counts}
    if counts and not allowed:
        raise UsageError(f"{metric.name} comes in one kind; leave out --counts")
    if allowed and not counts and _REACH_OF.get(boundary) in OPERATION:
        raise UsageError(f"{metric.name} at {boundary} needs --counts: one of {', '.join(allowed)}")
    return _known("kind", counts, allowed) if counts else None


def compare_figure(asked: Asked, corpus: Corpus, catalog: Catalog, region: str = "world") -> Comparison:
    """Set a figure beside published ones.

    Raises:
        UnknownNameError: no such place.
    """
    return compare(asked, corpus, catalog, find_place(region))


def asked_of_account(path: str | Path) -> tuple[list[Asked], list[Uncompared]]:
    """Every cell of a life-cycle account that published figures may stand beside.

    Args:
        path: JSON with `cells`, as `stillwatt account --json` prints it, or a life-cycle report that holds such.

    Raises:
        NoSuchInputError: there is no such file.
        ConfigError: it is not JSON, or holds no cells.
    """
    try:
        said = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NoSuchInputError("life-cycle account", str(path), "`stillwatt account RUN --json` makes one") from None
    except OSError as err:
        raise ConfigError(str(path), f"cannot be read: {err.strerror}; name a JSON file") from err
    except ValueError as err:
        raise ConfigError(str(path), f"is not JSON: {err}") from err
    cells = list(_cells(said))
    if not cells:
        raise ConfigError(str(path), "holds no cells of stage and impact")
    asked: list[Asked] = []
    uncompared: list[Uncompared] = []
    for cell in cells:
        found = _asked_of_cell(cell, str(path))
        if isinstance(found, Asked):
            asked.append(found)
        else:
            uncompared.append(found)
    return asked, uncompared


def _cells(said: Any) -> Iterator[Mapping[str, Any]]:
    """The cells of an account, wherever in the document their list stands."""
    if not isinstance(said, dict):
        return
    for key, part in said.items():
        if key == "cells" and isinstance(part, list):
            yield from (cell for cell in part if isinstance(cell, dict) and {"stage", "impact", "value"} <= set(cell))
        else:
            yield from _cells(part)


def _asked_of_cell(cell: Mapping[str, Any], path: str) -> Asked | Uncompared:
    name = f"{cell['stage']}/{cell['impact']}"
    known = {one.value: one for one in Impact}
    impact = known.get(str(cell["impact"]))
    if impact is None or impact not in _METRIC_OF or STAGE_NAMES.get(str(cell["stage"])) not in _OPERATIONAL:
        return Uncompared(cell=name, reason="no published figure of the same boundary is coded")
    if cell.get("status", "measured") not in _VALUED or cell["value"] is None:
        return Uncompared(cell=name, reason=str(cell.get("reason") or cell.get("status") or "it has no value"))
    numbers = [cell["value"], cell.get("low"), cell.get("high")]
    if any(isinstance(one, bool) or not isinstance(one, int | float | None) for one in numbers):
        raise ConfigError(path, f"cell {name}: value, low and high are numbers or null; see `stillwatt validate`")
    metric, reach, counts = _METRIC_OF[impact]
    boundary = reach.value if reach else str(cell.get("boundary") or "")
    if not boundary:
        return Uncompared(cell=name, reason="its boundary is not stated")
    unit = str(cell.get("unit", ""))
    try:
        return ask(
            value=float(cell["value"]),
            low=cell.get("low"),
            high=cell.get("high"),
            unit=_UNIT_OF.get(unit, unit),
            stage=str(cell["stage"]),
            metric=metric,
            boundary=boundary,
            counts=counts.value if counts else "",
            what=name,
        )
    except UsageError as err:
        raise ConfigError(path, f"cell {name}: {err}") from err


def _years(text: str) -> tuple[int | None, int | None]:
    if not text:
        return None, None
    first, dash, last = text.partition("-")
    ends = [int(end) if end.isdecimal() else None for end in (first, last)]
    if any(end and not end.isdecimal() for end in (first, last)) or ends == [None, None]:
        raise UsageError(f"years {text!r}: write 2024, 2022-2024, 2022- or -2024")
    if ends[0] is not None and ends[1] is not None and ends[0] > ends[1]:
        raise UsageError(f"years {text!r}: the last one comes before the first; write {last}-{first}")
    return ends[0], (ends[1] if dash else ends[0])


def _known(kind: str, name: str, known: Mapping[str, Found]) -> Found:
    if name not in known:
        raise UnknownNameError(kind, name, known)
    return known[name]
