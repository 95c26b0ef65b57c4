"""What a program asks of a `Run`, looked at before it begins: a day's work is not to end without its energy.

Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from stillwatt.errors import UsageError


def sensor_names(said: Sequence[str]) -> tuple[str, ...]:
    """Names of sensors; one text is a name, or several with commas between them, as on the command line.

    >>> sensor_names("nvml,rapl"), sensor_names(["nvml"])
    (('nvml', 'rapl'), ('nvml',))
    """
    if isinstance(said, str):
        return tuple(name.strip() for name in said.split(",") if name.strip())
    return tuple(said)


def check_lengths(period_ms: object, slow_after_s: object) -> None:
    """Refuse what is no length of time.

    Raises:
        UsageError: it is no number, is 0 or below, or not finite; names it.
    """
    for name, value, example in (("period_ms", period_ms, "100"), ("slow_after_s", slow_after_s, "3600 or None")):
        is_length = isinstance(value, (int, float)) and value is not True and 0.0 < value < math.inf
        if not is_length and (value is not None or name == "period_ms"):
            raise UsageError(f"{name}={value!r} is no length of time; give a number above 0, such as {example}")
