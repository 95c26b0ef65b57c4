"""Names in sentences."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable

_MOST_NAMES = 6
_MOST_EXAMPLES = 2


def listed(names: Iterable[str]) -> str:
    """Names in a sentence; of many the first and how many more.

    >>> listed(["a", "b", "c"]), listed("abcdefgh")
    ('a, b and c', 'a, b, c, d, e, f and 2 more')
    """
    known = list(names)
    if len(known) > _MOST_NAMES:
        return f"{', '.join(known[:_MOST_NAMES])} and {len(known) - _MOST_NAMES:,} more"
    return f"{', '.join(known[:-1])} and {known[-1]}" if len(known) > 1 else "".join(known)


def counted(names: Iterable[str], what: str) -> str:
    """Few names as they are; of many how many there are, and two of them.

    >>> counted(["a", "b"], "runs"), counted("abcd", "runs")
    ('a and b', '4 runs (a, b and 2 more)')
    """
    known = list(names)
    if len(known) <= _MOST_EXAMPLES:
        return listed(known)
    examples = ", ".join(known[:_MOST_EXAMPLES])
    return f"{len(known):,} {what} ({examples} and {len(known) - _MOST_EXAMPLES:,} more)"


def free_name(wanted: str, taken: Collection[str]) -> str:
    """The name, or the first of it with a number behind that nothing has yet.

    >>> free_name("kd@r1", {"kd"}), free_name("kd@r1", {"kd@r1", "kd@r1#2"})
    ('kd@r1', 'kd@r1#3')
    """
    numbered = (f"{wanted}#{number}" for number in itertools.count(2))
    return next(name for name in itertools.chain([wanted], numbered) if name not in taken)
