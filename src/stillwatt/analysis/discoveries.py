"""Which of many tests may be believed: the false discovery rate under control (method.md, eq. 109)."""

from __future__ import annotations

from collections.abc import Sequence


def discovered(chances: Sequence[float], rate: float) -> tuple[tuple[int, ...], float | None]:
    """Benjamini and Hochberg's step-up procedure.

        k = max { i : p_(i) <= i rate / m };  the k smallest are taken

    Args:
        chances: A tail probability for every test that was made, whatever came out.
        rate: Share of false ones among those taken that is accepted on average.

    Returns:
        Places of those taken, by rising probability, and the bound that they met; None where nothing is taken.

    >>> discovered([0.001, 0.9, 0.02, 0.04], 0.05)
    ((0, 2), 0.025)
    """
    order = sorted(range(len(chances)), key=lambda place: chances[place])
    taken = 0
    for rank, place in enumerate(order, start=1):
        if chances[place] <= rank * rate / len(chances):
            taken = rank
    return tuple(order[:taken]), (taken * rate / len(chances) if taken else None)
