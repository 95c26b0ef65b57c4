"""What services call a place: country codes, energy identification codes (EIC); facts, checked by a test."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_TABLE = Path(__file__).resolve().parent / "data" / "zones.csv"


@cache
def zones(source: str) -> Mapping[str, str]:
    """The zone of each place's code, by a service's column of the table.

    >>> zones("entsoe")["FRA"], zones("electricitymaps")["SE3"]
    ('10YFR-RTE------C', 'SE-SE3')
    """
    with _TABLE.open(encoding="utf-8", newline="") as stream:
        return {row["place"]: row[source] for row in csv.DictReader(stream) if row[source]}


def is_eic(code: str) -> bool:
    """Whether a code is an energy identification code: 16 characters, the last of which checks the others.

    >>> is_eic("10YFR-RTE------C"), is_eic("10YFR-RTE------D")
    (True, False)
    """
    letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-"
    if len(code) != 16 or any(mark not in letters for mark in code):
        return False
    weighted = sum(letters.index(mark) * (16 - place) for place, mark in enumerate(code[:15]))
    return code[15] == letters[36 - (weighted - 1) % 37]
