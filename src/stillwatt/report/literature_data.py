"""Works, figures and comparisons of the corpus as data for programs and as lines for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from stillwatt.literature.compare import Asked, Beside, Comparison, Rank
from stillwatt.literature.convert import Conversion
from stillwatt.literature.corpus import Corpus
from stillwatt.literature.vocabulary import STAGES
from stillwatt.records.factor import Factor
from stillwatt.records.literature import PublishedFigure, Work
from stillwatt.report.format import percent_text, significant, times_text

_TOLD = ("energy_method", "boundary", "pue", "grid_factor", "water_scope", "embodied_method", "uncertainty")
_MOST_REASONS = 8
_LEAST_PLAIN = 0.1
"""Ratios below this are written to two digits, so that none of them reads 0.00."""


def work_dict(work: Work) -> dict[str, Any]:
    """A work with its coding and content hash."""
    return {
        **asdict(work),
        "treatments": {stage.value: treatment.value for stage, treatment in work.treatments},
        "metrics": {stage.value: list(metrics) for stage, metrics in work.metrics},
        "hash": work.content_hash,
    }


def figure_dict(figure: PublishedFigure) -> dict[str, Any]:
    """A published figure with its content hash; `boundary` is how far it reaches."""
    said = asdict(figure)
    said["boundary"] = said.pop("reach")
    return {**said, "stages": [stage.value for stage in figure.stages], "hash": figure.content_hash}


def work_rows(corpus: Corpus) -> list[tuple[str, ...]]:
    """Works as a table."""
    rows: list[tuple[str, ...]] = [("work", "year", "coded from", "quantifies", "title")]
    for work in corpus.works:
        quantified = ", ".join(stage.value for stage, _ in work.metrics) or "no stage"
        rows.append((work.id, str(work.year), work.evidence.value, quantified, work.title))
    return rows


def figure_rows(figures: tuple[PublishedFigure, ...]) -> list[tuple[str, ...]]:
    """Figures as a table."""
    rows: list[tuple[str, ...]] = [("figure", "stage", "metric", "value", "boundary", "method", "seen", "subject")]
    for one in figures:
        stages = "+".join(stage.value for stage in one.stages)
        seen = one.evidence.value + ("" if one.verified else ", not checked")
        reach = one.reach.value if one.reach else "–"
        rows.append((one.id, stages, one.metric, value_text(one), reach, one.method.value, seen, one.subject))
    return rows


def value_text(figure: PublishedFigure) -> str:
    """What the figure says, as printed where that is more than a number."""
    if figure.written:
        return figure.written
    ends = [f"{end:g}" for end in (figure.low, figure.high) if end is not None]
    number = f"{figure.value:g}" if figure.value is not None else " to ".join(ends)
    return f"{number} {figure.unit}" + (f" per {figure.per}" if figure.per else "")


def work_lines(work: Work) -> Iterator[tuple[str, ...]]:
    """The coding of a work, one row a stage and one a method."""
    metrics = dict(work.metrics)
    for stage, treatment in work.treatments:
        yield STAGES[stage].name, treatment.value, ", ".join(metrics.get(stage, ()))
    for name in (*_TOLD, "functional_unit", "open", "note"):
        if text := getattr(work, name):
            yield name.replace("_", " "), text, ""


def comparison_dict(found: Comparison) -> dict[str, Any]:
    """A comparison with every conversion and every refusal."""
    return {
        "asked": _asked_dict(found.asked),
        "beside": [_beside_dict(one) for one in found.beside],
        "refused": [{"figure": one.figure.id, "work": one.figure.work, "reason": one.reason} for one in found.refused],
        "rank": asdict(found.rank) if isinstance(found.rank, Rank) else None,
        "no_rank": None if isinstance(found.rank, Rank) else found.rank.reason,
        "cautions": list(found.cautions),
    }


def _asked_dict(asked: Asked) -> dict[str, Any]:
    said = asdict(asked)
    said["boundary"] = said.pop("reach")
    return said


def _beside_dict(one: Beside) -> dict[str, Any]:
    return {
        "figure": one.figure.id,
        "work": one.work.id,
        "year": one.figure.year,
        "subject": one.figure.subject,
        "value": one.value,
        "low": one.low,
        "high": one.high,
        "boundary": one.at,
        "yours": {"value": one.yours, "low": one.yours_low, "high": one.yours_high},
        "ratio": one.ratio,
        "printed": value_text(one.figure),
        "method": one.figure.method.value,
        "evidence": one.figure.evidence.value,
        "verified": one.figure.verified,
        "converted_by": {"theirs": _conversion_dict(one.theirs_by), "yours": _conversion_dict(one.yours_by)},
    }


def _conversion_dict(by: Conversion) -> list[dict[str, Any]]:
    return [
        {
            "factor": factor.id,
            "quantity": factor.quantity,
            "where": factor.where,
            "value": factor.value,
            "low": factor.low,
            "high": factor.high,
            "source": factor.source,
            "hash": factor.content_hash,
        }
        for factor in by.factors
    ]


def comparison_lines(found: Comparison) -> Iterator[tuple[str, ...]]:
    """The figures beside one's own, a row each, smallest first."""
    if found.beside:
        yield "published", "range", "yours is", "boundary", "method", "coded from", "work and subject"
    for one in found.beside:
        ratio = "–" if one.ratio is None else f"{_times(one.ratio)} ×"
        has_range = one.low != one.high
        yield (
            significant(one.value),
            f"{significant(one.low)} to {significant(one.high)}" if has_range else "–",
            ratio,
            f"{one.at or '–'}{' (converted)' if one.is_converted else ''}",
            one.figure.method.value,
            one.figure.evidence.value + ("" if one.figure.verified else ", not checked"),
            f"{one.work.id}: {one.figure.subject}",
        )


def _times(ratio: float) -> str:
    return times_text(ratio) if ratio >= _LEAST_PLAIN else significant(ratio, 2)


def headline(asked: Asked) -> str:
    """The figure that is compared, in one line."""
    interval = "" if asked.low == asked.high else f" [{asked.low:g}, {asked.high:g}]"
    per = f" per {asked.per.removeprefix('per ')}" if asked.per else ""
    reach = f", {asked.reach.value}" if asked.reach else ""
    counts = f", {asked.counts.value}" if asked.counts else ""
    number = f"{asked.value:g}{interval} {asked.unit}{per}"
    return f"{asked.what}: {number}, {asked.metric} of {asked.stage.value}{reach}{counts}"


def remarks(found: Comparison) -> Iterator[str]:
    """What must be known: conversions with their intervals, the rank, cautions, and what is not compared."""
    for side, by in _conversions(found):
        steps = " × ".join(factor_text(factor) for factor in by.factors)
        yield f"converted, {side} {by.begin} to {by.end}: × {steps}"
    if isinstance(found.rank, Rank):
        rank = found.rank
        spread = f"{percent_text(rank.low)} to {percent_text(rank.high)} with all ranges"
        yield (
            f"rank: larger than {percent_text(rank.share_below)} of what is published ({spread}), "
            f"each of {rank.works} works with one voice"
        )
    else:
        yield f"no rank: {found.rank.reason}"
    yield from (f"note: {caution}" for caution in found.cautions)
    reasons = Counter(one.reason for one in found.refused).most_common()
    if reasons:
        yield f"not compared: {len(found.refused)} figures of the same stage and metric"
    yield from (f"  {count} {reason}" for reason, count in reasons[:_MOST_REASONS])
    if len(reasons) > _MOST_REASONS:
        yield f"  and {len(reasons) - _MOST_REASONS} more reasons (--json lists them)"


def factor_text(factor: Factor) -> str:
    """A factor with its interval, place and source."""
    ours = ", interval assumed" if factor.spread_is_ours else ""
    return (
        f"{factor.quantity} {factor.value:g} [{factor.low:g}, {factor.high:g}{ours}] of {factor.where} "
        f"({factor.id}, {factor.source})"
    )


def _conversions(found: Comparison) -> list[tuple[str, Conversion]]:
    """Each way between boundaries once, in the order in which it is met."""
    seen: dict[tuple[str, object, object], Conversion] = {}
    for one in found.beside:
        for side, by in (("theirs", one.theirs_by), ("yours", one.yours_by)):
            if by.factors:
                seen.setdefault((side, by.begin, by.end), by)
    return [(side, by) for (side, _, _), by in seen.items()]
