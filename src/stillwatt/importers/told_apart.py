"""Rows of several instruments in one table: told apart by a column, or refused where their times show that they are.

Rows of two cards that are taken for one have half the energy of both, and nothing in the result would show it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from stillwatt.importers.intake import LogFile
from stillwatt.importers.numbers import MAX_S, is_missing
from stillwatt.importers.tables import Row, Table
from stillwatt.units import NS_PER_MS, NS_PER_S, S_PER_DAY, S_PER_MIN, seconds

_OWN = (
    "index",
    "gpu_index",
    "pci.bus_id",
    "gpu_bus_id",
    "uuid",
    "gpu_uuid",
    "gpu",
    "serial",
    "gpu_serial",
)
"""Columns of which two cards never have the same cell, best first."""
CARD_COLUMNS = frozenset(_OWN) - {"index", "serial"}
"""Of these, those that can be of nothing but cards."""
_NAMES = ("name", "gpu_name")
_DEVICES = ("device", "card", "deviceid")
"""Names of cards, as rocm-smi and xpu-smi call them, where the power is of cards; a plug is a device, too."""
_MOST_TOGETHER = 16
"""Cards in the largest node."""
_CLOSE_SHARE = 10
_CLOSE_NS = 50 * NS_PER_MS
"""A logger that asks its cards one after another is done with each in less."""
_MOSTLY = 2 / 3
_SET_BACK_S = (25 * S_PER_MIN, 65 * S_PER_MIN)
"""Clocks go back by an hour, or half of one; the first row after it is a period later."""
_SURE = 10


class Cards:
    """Which part a row is of, by the cell that tells its card."""

    def __init__(self, table: Table, *, is_query: bool, is_of_cards: bool) -> None:
        """Find the column that tells cards apart.

        Args:
            table: The rows.
            is_query: Whether the power is nvidia-smi's `power.draw`; else `index` may be the number of the row.
            is_of_cards: Whether the power's name says that it is of cards.
        """
        own = [name for name in _OWN if name in table.header and (is_query or not _is_count(table, name))]
        filled = {name: sum(not is_missing(row.get(name)) for row in table.rows) for name in own}
        whole = (name for name in own if filled[name] == len(table.rows))
        self.column = next(whole, max(own, key=lambda name: filled[name], default=""))
        if self.column and not filled[self.column]:
            self.column = ""
        self.is_by_name = False
        if not self.column:
            told = (*(_DEVICES if is_of_cards else ()), *_NAMES)
            names = (n for n in told if len({row.get(n) for row in table.rows if not is_missing(row.get(n))}) > 1)
            self.column = next(names, "")
            self.is_by_name = bool(self.column)
        self._parts: dict[str, str] = {}

    def part(self, row: Row) -> str:
        """The part of a row, `gpu0` where no column tells.

        Raises:
            ValueError: its cell is empty.
        """
        if not self.column:
            return "gpu0"
        card = row.get(self.column)
        if is_missing(card):
            raise ValueError(f"{self.column} is empty, so which card this row is of is not known")
        if card not in self._parts:
            part = f"gpu{re.sub(r'[^A-Za-z0-9]+', '-', card).strip('-') or '0'}"
            while part in self._parts.values():  # two cells that differ in other signs only
                part += "-2"
            self._parts[card] = part
        return self._parts[card]


def _is_count(table: Table, name: str) -> bool:
    """Whether `index` numbers the rows: no cell of it comes twice."""
    return name == "index" and len({row.get(name) for row in table.rows}) == len(table.rows)


def check_times(
    file: LogFile, column: str, times: Sequence[tuple[int, int]], *, is_one: bool, is_whole: bool, is_zoned: bool
) -> None:
    """Refuse a table whose rows of one part cannot be of one instrument, or of one stretch of time.

    Args:
        file: The table.
        column: The power's.
        times: Time and line of each row of the part, as they stand.
        is_one: Whether the table says that they are of one instrument.
        is_whole: Whether a machine has one such part, so that rows of one time are readings under a coarse clock.
        is_zoned: Whether the times say their zone.

    Raises:
        ConfigError: they are not; says how to log them.
    """
    (first_ns, first), (last_ns, last) = min(times), max(times)
    if last_ns - first_ns > MAX_S * NS_PER_S:
        years = seconds(last_ns - first_ns) / S_PER_DAY / 365
        what = f"its times span {years:.0f} years, from line {first} to line {last}; mend or delete the wrong ones"
        raise file.wrong(what, last)
    if place := runs_over_itself([at for at, _ in times]):
        (before, _), (after, line) = times[place - 1], times[place]
        back_s = seconds(before - after)
        is_set_back = not is_zoned and _SET_BACK_S[0] <= back_s <= _SET_BACK_S[1]
        why = "as where clocks are set back" if is_set_back else "as where another log was appended"
        raise file.wrong(
            f"{column}: from here on times are {back_s:.6g} s earlier and run again over rows that are there already, "
            f"{why}; log times with their zone (or in UTC), or cut the file in two before this line",
            line,
        )
    together = 1 if is_one else num_together([*{at for at, _ in times}] if is_whole else [at for at, _ in times])
    if together > 1:
        raise file.wrong(
            f"{column}: {together} rows stand at every time, or very nearly, as of {together} cards that no column "
            "tells apart, and one would be taken for all; log the column index or uuid too (nvidia-smi "
            "--query-gpu=timestamp,index,power.draw), or give each card a column of its own (gpu0_w, gpu1_w); if it is "
            "one card, log finer times",
            min(times, key=lambda row: row[1])[1],
        )


def num_together(times_ns: Sequence[int]) -> int:
    """How many readings come together again and again, much closer than one such group to the next; 1 if they do not.

    >>> num_together([0, 2_000_000, 1_000_000_000, 1_002_000_000, 2_000_000_000, 2_003_000_000])
    2
    >>> num_together([0, 1_000_000_000, 2_000_000_000, 602_000_000_000, 603_000_000_000])
    1
    """
    ordered = sorted(times_ns)
    steps = [b - a for a, b in pairwise(ordered)]
    by_size = sorted(steps)
    if not by_size or not by_size[-1]:
        return max(1, len(ordered))
    for together in range(2, min(_MOST_TOGETHER, len(ordered)) + 1):
        period_ns = by_size[int(len(steps) * (1 - 1 / (2 * together)))]
        close_ns = min(period_ns // _CLOSE_SHARE, _CLOSE_NS)
        num_close = bisect_right(by_size, close_ns)
        if num_close < _MOSTLY * (len(ordered) - num_close) * (together - 1):
            continue
        sizes = _sizes(steps, close_ns)
        is_sure = len(sizes) > 2 or not by_size[num_close - 1]
        if is_sure and sizes.count(together) >= _MOSTLY * len(sizes):
            return together
    return 1


def _sizes(steps: Sequence[int], close_ns: int) -> list[int]:
    sizes = [1]
    for step in steps:
        if step <= close_ns:
            sizes[-1] += 1
        else:
            sizes.append(1)
    return sizes


def runs_over_itself(times_ns: Sequence[int]) -> int:
    """The place of the first row after which times go back and run once more over a stretch that has rows; 0 if none.

    Rows that are a little out of order, a table in reverse, or a late block that fills a hole do not run over anything.

    >>> runs_over_itself([0, 10, 20, 30, 40, 5, 15, 25, 35, 45])
    5
    >>> runs_over_itself([40, 30, 20, 10, 0]), runs_over_itself([0, 10, 40, 50, 20, 30, 60])
    (0, 0)
    """
    begins = [0, *(place for place, (a, b) in enumerate(pairwise(times_ns), start=1) if b < a)]
    if len(begins) == 1:
        return 0
    run_of = [bisect_right(begins, place) - 1 for place in range(len(times_ns))]
    order = sorted(range(len(times_ns)), key=lambda place: times_ns[place])
    inside = [0] * len(begins)
    for place, now in enumerate(order):
        around = [order[p] for p in (place - 1, place + 1) if 0 <= p < len(order)]
        foreign = [other for other in around if run_of[other] != run_of[now]]
        if len(foreign) == 2 or any(times_ns[other] == times_ns[now] for other in foreign):
            inside[run_of[now]] += 1
    enough = max(2, min(_SURE, len(times_ns) // 2 - 1))
    return next((begins[run] for run in range(1, len(begins)) if inside[run] >= enough), 0)
