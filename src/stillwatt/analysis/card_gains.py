"""Gains of single cards in comparisons between cards (method.md, section 1, rule 3, and eqs. 29 and 30).

One card's gain moves all its energies together and cancels in a ratio of them. Trainings on two cards have a gain each,
which no number of repeats shrinks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from stillwatt.analysis.contrast import Evidence
from stillwatt.analysis.words import listed
from stillwatt.records.comparison import Observation

Weighted = tuple[Mapping[str, float], Mapping[str, float], Sequence[Observation]]
"""Weights of a label's fields in a numerator and in a denominator, and its rows."""


def gain_evidence(weighted: Iterable[Weighted]) -> Iterator[Evidence]:
    """What the gains of unlike cards add to a numerator and a denominator; nothing where all ran on one set of cards.

        h_xy = sum_c (sum_i w_xi g_i) (sum_i w_yi g_i),  c a set of cards, i the energies read on it         [J^2]

    Cards that two sets share are taken as two: that errs on the wide side.

    Args:
        weighted: Each label's part, its rows as one mean.
    """
    sums: dict[frozenset[str], list[float]] = {}
    for numerator, denominator, rows in weighted:
        for row in rows:
            for name in {*numerator, *denominator} & row.devices.keys():
                gain_j = row.gains_j.get(name, 0.0) / len(rows)
                pair = sums.setdefault(row.devices[name], [0.0, 0.0])
                pair[0] += numerator.get(name, 0.0) * gain_j
                pair[1] += denominator.get(name, 0.0) * gain_j
    if len(sums) > 1:
        for n_j, d_j in sums.values():
            yield Evidence(pairs=((0.0, 0.0),), known_nn=n_j * n_j, known_nd=n_j * d_j, known_dd=d_j * d_j)


def card_caution(rows: Iterable[Observation]) -> Iterator[str]:
    """What is said where trainings ran on unlike cards."""
    by_cards: dict[frozenset[str], dict[str, None]] = {}
    widest = 0.0
    for row in rows:
        if "student_j" in row.devices:
            by_cards.setdefault(row.devices["student_j"], {})[row.label] = None
            widest = max(widest, row.gains_j.get("student_j", 0.0) / row.student_j if row.student_j else 0.0)
    if len(by_cards) > 1:
        on = "; ".join(f"{listed(labels)} on {', '.join(sorted(cards))}" for cards, labels in by_cards.items())
        yield (
            f"trained on unlike cards ({on}): each card's gain is its own (here up to ±{widest:.0%} of the energy), so "
            f"ratios and N* between them have both gains in their intervals, about ±{math.sqrt(2.0) * widest:.0%}; "
            "probabilities on the frontier and the ± of single energies leave them out"
        )
