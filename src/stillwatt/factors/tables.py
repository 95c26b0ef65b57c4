"""The project's own tables, which come with the package: cited facts, each with its source and licence.

`data/SOURCES.md` says where each comes from; `hardware_cc_by_sa.csv` is share-alike and stands apart with its notice.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from stillwatt.errors import ConfigError
from stillwatt.factors.making import make_factor
from stillwatt.records.factor import Factor

DATA = Path(__file__).resolve().parent / "data"
FACTOR_TABLES = (
    "grid",
    "grid_by_source",
    "water",
    "primary_energy",
    "datacentre",
    "hardware",
    "hardware_cc_by_sa",
    "host",
    "network",
    "end_of_life",
    "lifetime",
    "building",
)
"""Tables of factors, in the order in which they are listed."""


def rows(table: str) -> Iterator[dict[str, str]]:
    """Rows of a shipped table, by column name."""
    with (DATA / f"{table}.csv").open(encoding="utf-8", newline="") as stream:
        yield from _whole(csv.DictReader(stream), table)


def _whole(read: csv.DictReader[str], table: str) -> Iterator[dict[str, str]]:
    for row in read:
        # a comma that no quotes hold cuts a sentence in two, and its end would be lost
        if None in row or None in row.values():
            raise ConfigError(f"{table}.csv", f"{row}: more or fewer cells than columns", line=read.line_num)
        yield row


@cache
def shipped_factors() -> tuple[Factor, ...]:
    """Every factor that comes with Stillwatt."""
    return tuple(make_factor(row) for table in FACTOR_TABLES for row in rows(table))
