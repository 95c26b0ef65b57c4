"""Numbers as other tools write them: the one reader of all importers, and the bounds of what can be meant.

The bounds are not those of a likely machine but of none at all. What lies beyond them is a slip of a unit, a separator
or a digit: a file or row with it is refused with its place, never booked.
"""

from __future__ import annotations

import math
import re

from stillwatt.units import S_PER_DAY, KilowattHours, from_kwh

MAX_W = 1_000_000.0
"""No node draws a megawatt; a power above it, or an energy above it times its length, is in another unit."""
MAX_S = 10 * 365 * S_PER_DAY
"""Ten years: no run, stage or log is longer."""
MAX_COUNT = 1e18
"""Ten thousand times the tokens of the largest training sets."""
_LEAST = 1e-30
"""Nothing is measured so finely: it is 0, and no product of it falls among the floats that databases lose digits of."""
_LONGEST = 100
"""Characters; the longest way to write a float exactly enough has 24."""
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_MISSING = frozenset(
    {"", "nan", "n/a", "na", "none", "null", "[n/a]", "[not supported]", "not supported", "inf", "-inf"}
)


def is_missing(text: str) -> bool:
    """Whether a cell says that it holds nothing.

    >>> is_missing(" [N/A] "), is_missing("0")
    (True, False)
    """
    return text.strip().lower() in _MISSING


def is_number(text: str) -> bool:
    """Whether a text is written as a number, in ASCII and not endlessly."""
    return len(text) <= _LONGEST and _NUMBER.fullmatch(text) is not None


def number(text: str) -> float | None:
    """A cell as a number, a decimal comma allowed; None for a cell that says there is none.

    Raises:
        ValueError: it is neither, or is too large for a number.

    >>> number("1,5"), number("2e3"), number("[N/A]")
    (1.5, 2000.0, None)
    """
    if is_missing(text):
        return None
    bare = text.strip()
    if len(bare) <= _LONGEST and _DECIMAL_COMMA.fullmatch(bare):
        bare = bare.replace(",", ".")
    if not _NUMBER.fullmatch(bare):
        raise ValueError(f"{text[:40]!r} is not a number")
    value = float(bare)
    if not is_number(bare) or not math.isfinite(value):
        raise ValueError(f"{text[:40]!r} is too large for a number")
    return value if abs(value) >= _LEAST else 0.0


def needed(text: str, what: str) -> float:
    """A number that has to be there, with its name in the error.

    Raises:
        ValueError: it is missing or no number.
    """
    try:
        value = number(text)
    except ValueError as err:
        raise ValueError(f"{what}: {err}") from None
    if value is None:
        raise ValueError(f"{what} = {text.strip()[:40] or 'nothing'} is not a number")
    return value


def of_json(value: object, what: str) -> float:
    """A JSON value as a number; 0 for null.

    Raises:
        ValueError: it is no number, or too large for one.

    >>> of_json(None, "tokens"), of_json(3, "tokens")
    (0.0, 3.0)
    """
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{what} = {str(value)[:40]!r} is not a number")
    try:
        found = float(value)
    except OverflowError:
        raise ValueError(f"{what} is too large for a number") from None
    if not math.isfinite(found):
        raise ValueError(f"{what} = {value} is not a number")
    return found if abs(found) >= _LEAST else 0.0


def length_s(value: float, what: str) -> float:
    """A length that can be meant: above 0, and no more than MAX_S.

    Raises:
        ValueError: it is not one.
    """
    if not 0 < value <= MAX_S:
        raise ValueError(f"{what} = {value:g} s cannot be meant: a length is above 0 s and at most ten years")
    return value


def energy_j(value: float, what: str, over_s: float) -> float:
    """An energy in joules that a machine can draw, or give back, in so many seconds.

    Raises:
        ValueError: it is more than MAX_W all the time.
    """
    if not abs(value) <= MAX_W * over_s:
        raise ValueError(f"{what} = {value:g} J in {over_s:g} s cannot be meant: no machine draws a megawatt")
    return value


def energy_kwh(value: float, what: str, over_s: float) -> float:
    """An energy in kilowatt-hours, held to the same bound.

    Raises:
        ValueError: it is more than MAX_W all the time.
    """
    if not abs(from_kwh(KilowattHours(value))) <= MAX_W * over_s:
        raise ValueError(f"{what} = {value:g} kWh in {over_s:g} s cannot be meant: no machine draws a megawatt")
    return value


def count(value: float, what: str) -> float:
    """A count: not negative and no more than MAX_COUNT.

    Raises:
        ValueError: it is not one.
    """
    if not 0 <= value <= MAX_COUNT:
        raise ValueError(f"{what} = {value:g} cannot be meant: a count is at least 0 and at most {MAX_COUNT:g}")
    return value
