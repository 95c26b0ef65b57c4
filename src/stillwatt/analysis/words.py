"""Names in sentences."""

from __future__ import annotations

from collections.abc import Iterable

_MOST_NAMES = 6


def listed(names: Iterable[str]) -> str:
    """Names in a sentence; of many the first and how many more.

    >>> listed(["a", "b", "c"]), listed("abcdefgh")
    ('a, b and c', 'a, b, c, d, e, f and 2 more')
    """
    known = list(names)
    if len(known) > _MOST_NAMES:
        return f"{', '.join(known[:_MOST_NAMES])} and {len(known) - _MOST_NAMES:,} more"
    return f"{', '.join(known[:-1])} and {known[-1]}" if len(known) > 1 else "".join(known)
