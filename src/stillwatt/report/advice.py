"""Advice in words: a ranked table, what would settle the doubt, and what to beware of."""

from __future__ import annotations

from collections.abc import Iterator

from stillwatt.analysis.words import listed
from stillwatt.records.advice import Advice
from stillwatt.report.forecasts import carbon_text, energy_text, time_text
from stillwatt.report.format import energy_value_text, interval_text, percent_text

__all__ = ["advice_rows", "advice_sentences"]

_MOST_ROWS = 10


def advice_rows(advice: Advice) -> list[list[str]]:
    """The best options: what each takes, gives, and how likely it meets the limits."""
    has_carbon = any(entry.kgco2e is not None for entry in advice.ranked)
    carbon = ["carbon"] if has_carbon else []
    rows = [["", "option", "energy", "time", *carbon, "quality", "chance", "evidence"]]
    for place, entry in enumerate(advice.ranked[:_MOST_ROWS], start=1):
        quality = entry.quality
        rows.append(
            [
                str(place),
                entry.option.name,
                energy_text(entry.energy_j),
                time_text(entry.duration_s),
                *([carbon_text(entry.kgco2e)] if has_carbon else []),
                interval_text(quality.value, quality.low, quality.high),
                percent_text(entry.chance),
                "; ".join(filter(None, (listed(entry.option.evidence), entry.option.remark))),
            ]
        )
    return rows


def advice_sentences(advice: Advice) -> Iterator[str]:
    """What the ranking means, and what to do about its doubt."""
    yield f"ranked by {advice.objective}; intervals are 95 %"
    tried = advice.experiment
    if tried is not None:
        yield (
            "the order is in doubt: with all energies and qualities known for certain, the option chosen would be "
            f"better by {tried.doubt:.2g} on average (on the scale that ranks them); one training of "
            f"{tried.option.name} ({energy_value_text(tried.energy_j)}) is expected to bring {tried.worth:.2g} of "
            "that, the most per joule"
        )
    else:
        yield "no training that is on the list would change the choice enough to be worth its energy"
    if len(advice.ranked) > _MOST_ROWS:
        yield f"shown are the best {_MOST_ROWS}; --json gives {len(advice.ranked)}"
    for reason in dict.fromkeys(reason for _, reason in advice.left_out):
        yield f"left out: {listed(name for name, why in advice.left_out if why == reason)}: {reason}"
    for note in advice.notes:
        yield f"note: {note}"
