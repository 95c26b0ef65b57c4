"""The same work on several pieces at once, where the pieces are large: array operations let other threads run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_A = TypeVar("_A")
_B = TypeVar("_B")

_MOST_THREADS = 8


def map_large(function: Callable[[_A], _B], pieces: Iterable[_A], *, are_large: bool) -> list[_B]:
    """The function's results in order of the pieces; in threads where the pieces are large, else one after the other.

    Raises:
        Exception: what the function raised for the first piece, in order, that failed.

    >>> map_large(abs, [-1, 2], are_large=True)
    [1, 2]
    """
    given = list(pieces)
    threads = min(len(given), os.cpu_count() or 1, _MOST_THREADS)
    if not are_large or threads < 2:
        return [function(piece) for piece in given]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, given))
