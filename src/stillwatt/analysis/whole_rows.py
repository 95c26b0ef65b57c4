"""Which trainings of a label are in its means: the same ones in all of them, and every other is named (eq. 145)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from stillwatt.records.comparison import Observation

COMPARED = ("quality", "teacher_j", "student_j", "own_j")
"""What a mean is taken of wherever labels are compared."""


def split_whole(rows: Sequence[Observation]) -> tuple[tuple[Observation, ...], tuple[Observation, ...]]:
    """A label's trainings that are in its means, and those that are in none (method.md, eq. 145).

    A mean of one quantity over some seeds beside a mean of another over others is no training's. So all means are
    over the trainings that know the most of what is compared; of several such sets over the larger, then the first.
    """
    known = [_known(row) for row in rows]
    sets = Counter(known)
    if len(sets) == 1:
        return tuple(rows), ()
    most = max(sets, key=lambda names: (len(names), sets[names]))
    return (
        tuple(row for row, names in zip(rows, known, strict=True) if names == most),
        tuple(row for row, names in zip(rows, known, strict=True) if names != most),
    )


def lacks_of(row: Observation, kept: Sequence[Observation]) -> tuple[str, ...]:
    """What a training that was left out lacks of what the kept ones know; what it must lack besides is not said."""
    missing = [name for name in COMPARED if name in _known(kept[0]) and getattr(row, name) is None]
    return tuple(name for name in missing if name != "own_j" or "student_j" not in missing)


def name_of(row: Observation) -> str:
    """A training in a sentence.

    >>> from stillwatt.records.comparison import Observation
    >>> names = ("quality", "quality_se", "teacher_j", "student_j", "own_j")
    >>> unknown = dict.fromkeys(names) | {"label": "kd", "method": "kd", "student": "1b"}
    >>> name_of(Observation(**unknown, seed="r1:2", drawn_with="2", place="run r1"))
    'kd, seed 2 (run r1)'
    """
    seed = row.drawn_with or row.seed
    return f"{row.label}, seed {seed} ({row.place})" if seed else f"{row.label} ({row.place})"


def _known(row: Observation) -> frozenset[str]:
    return frozenset(name for name in COMPARED if getattr(row, name) is not None)
