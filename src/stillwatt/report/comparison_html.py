"""A comparison as one self-contained page: its answer, its warnings, its figures, and the tables behind them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from stillwatt.records.comparison import Comparison
from stillwatt.report import comparison_tables, verdicts
from stillwatt.report.comparison import comparison_dict
from stillwatt.report.comparison_figures import comparison_figures
from stillwatt.report.data import writable
from stillwatt.report.figure_tornado import SWING
from stillwatt.report.format import MISSING, percent_text
from stillwatt.report.html import render_page

_MOST_FIRST = 4
"""Sentences that stand at the top; the others have their own section."""
_SURE = 0.95
_METHOD = (
    (
        "20",
        "What one student takes: k times the teacher's work, its training, and the rest; k is 1, 1/N, by tokens, or 0.",
    ),
    ("25", "N* = the teacher's work over what each student saves in training against its baseline."),
    ("29", "Means over seeds, with Student's t; a single training is taken to repeat within the stated share."),
    ("30", "N* is a ratio of noisy energies: its interval holds where the saving may be 0, and may have no end."),
    ("32", "E(N): the teacher's work over N, and the rest, with its interval at each N."),
    ("38", "How sure a place on the frontier is: seeds and known errors drawn anew, seeds paired between labels."),
)


def comparison_html(found: Comparison) -> str:
    """The page of a comparison; the same comparison gives the same bytes.

    Raises:
        MissingExtraError: The template engine is not installed.
        MissingInputError: A drawing runtime is damaged.
    """
    data = writable(comparison_dict(found))
    sentences = [*verdicts.sentences(found), *verdicts.view_sentences(found)]
    return render_page(
        "comparison.html.j2",
        comparison_figures(data),
        data,
        title=verdicts.whole_title(found),
        first=sentences[:_MOST_FIRST],
        further=sentences[_MOST_FIRST:],
        numbers=_key_numbers(found, data),
        tables={
            "frontier": comparison_tables.frontier_table(data),
            "stages": comparison_tables.stages_table(data),
            "reuse": comparison_tables.reuse_table(data),
            "impacts": comparison_tables.impact_tables(data),
            "unbilled": comparison_tables.unbilled_table(data),
        },
        method=_METHOD,
        swing=percent_text(SWING),
    )


def _key_numbers(found: Comparison, data: Mapping[str, Any]) -> list[dict[str, str]]:
    """What was compared, in four numbers."""
    front = found.fronts[0]
    on = [point for point in front.placed if point.is_on_frontier]
    sure = sum(1 for point in on if point.seeds > 1 and (point.probability or 0.0) >= _SURE)
    repaid, matched = (
        sum(entry["verdict"] in ("value", "always") for entry in data[key])
        for key in ("n_star", "n_star_matched_quality")
    )
    seeds = sorted({point.seeds for point in front.placed})
    several = f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else str(seeds[0]) if seeds else MISSING
    missing = len(dict(itertools.chain.from_iterable(entry.left_out for entry in found.fronts)))
    return [
        {"label": "Labels compared", "value": f"{found.num_labels:,}", "note": f"seeds of each: {several}"},
        {"label": "On the frontier", "value": f"{len(on):,}", "note": f"{sure} of them sure, under {front.allocation}"},
        {
            "label": "Repay their teacher",
            "value": f"{matched} of {len(data['n_star'])}" if data["n_star"] else MISSING,
            "note": f"at matched quality, with enough students sharing; {repaid} at an equal token budget",
        },
        {"label": "Could not be placed", "value": f"{missing:,}", "note": "under one allocation or more"},
    ]
