"""Labels that differ in nothing but their seed: repeats of one training, whatever they are called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from stillwatt.analysis.trainings import Label, without_partial


def merge_siblings(labels: Sequence[Label]) -> tuple[Label, ...]:
    """Labels of one method and student whose names end in their own seed, as one label each (method.md, eq. 29).

    `kd-1b-s1` with seed 1 and `kd-1b-s2` with seed 2 are two trainings of `kd-1b`. Where a name that is left over is
    itself a label's, nothing is merged into it.
    """
    if all(_stem(label) == label.name for label in labels):
        return tuple(labels)
    names = {label.name for label in labels}
    stems: dict[tuple[str, str, tuple[tuple[str, float], ...], str], list[Label]] = {}
    for label in labels:
        stem = _stem(label)
        own = stem if stem not in names else label.name
        key = (label.method, label.student, tuple(sorted(label.settings.items())), own)
        stems.setdefault(key, []).append(label)
    merged = []
    for (_, _, _, stem), members in stems.items():
        seeds = [row.seed for label in members for row in label.rows]
        if len(members) > 1 and len(set(seeds)) == len(seeds):
            rows = tuple(replace(row, label=stem) for label in members for row in label.rows)
            merged.append(without_partial(replace(members[0], name=stem, rows=rows)))
        else:
            merged += members
    return tuple(merged)


def _stem(label: Label) -> str:
    """The name without the seed at its end; the name itself where it does not end so."""
    seed = label.rows[0].seed
    if len(label.rows) > 1 or not seed or not label.name.casefold().endswith(seed.casefold()):
        return label.name
    short = re.sub(rf"[\s._/:-]*(?:seed|s)?[\s._=-]*{re.escape(seed)}$", "", label.name, flags=re.IGNORECASE)
    return short or label.name
