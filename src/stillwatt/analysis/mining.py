"""Statements that a set of trainings supports beyond the chance that many tries give (method.md, eq. 109)."""

from __future__ import annotations

from collections.abc import Sequence

from stillwatt.analysis.cautions import Trained
from stillwatt.analysis.claims import Claim, claims
from stillwatt.analysis.discoveries import discovered
from stillwatt.analysis.trainings import gather_labels
from stillwatt.analysis.words import listed
from stillwatt.records.comparison import Comparison, Observation
from stillwatt.records.rules import MinedRule, RulesMined

MOST_TRIED = 20_000
"""Statements that are tried; of more, the first ones, and it is said."""


def mine(rows: Sequence[Observation], comparison: Comparison, *, rate: float) -> RulesMined:
    """Try every statement that the trainings could support, and keep those that chance does not explain.

    Statements on one seed are not tried, and so are never found.

    Args:
        rows: Trainings; no two with the same label and seed.
        comparison: What `compare` found in the same rows; its warnings go along.
        rate: Share of false ones among those found that is accepted on average.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    trained = Trained.of(gather_labels(rows), comparison.baseline)
    tried: list[Claim] = []
    untried: list[str] = []
    single: dict[str, None] = {}
    beyond = 0
    for entry in claims(trained):
        if isinstance(entry, str):
            untried.append(entry)
        elif entry.seeds < 2:
            single |= dict.fromkeys(entry.labels)
        elif len(tried) < MOST_TRIED:
            tried.append(entry)
        else:
            beyond += 1
    if single:
        untried.append(f"statements on one seed, of {listed(single)}: train them again with other seeds")
    if beyond:
        untried.append(f"{beyond:,} more statements: the first {MOST_TRIED:,} were tried")
    chances = [claim.p for claim in tried]
    places, bound = discovered(chances, rate)
    return RulesMined(
        source=comparison.source,
        baseline=comparison.baseline,
        rate=rate,
        tried=len(tried),
        largest_p=bound,
        untried=tuple(dict.fromkeys(untried)),
        found=tuple(_rule(tried[place], chances[place]) for place in places),
        warnings=comparison.warnings,
    )


def _rule(claim: Claim, p: float) -> MinedRule:
    weakest, beside = claim.weakest, claim.beside
    value, (low, high) = weakest.value, weakest.interval
    return MinedRule(
        kind=claim.kind,
        statement=claim.says,
        scope=claim.scope,
        effect=value,
        low=low,
        high=high,
        unit=claim.unit,
        quality_change=beside.value if beside else None,
        quality_change_half_width=beside.contrast.extra.random if beside else None,
        supporting=claim.labels,
        contradicting=claim.contradicting,
        seeds=claim.seeds,
        p=p,
    )
