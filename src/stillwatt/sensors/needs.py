"""Options that a driver cannot do without, and where somebody gives them; known without importing the driver."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stillwatt.errors import UsageError

_NEEDS = {"redfish": ("url",), "smart_plug": ("url", "csv"), "replay": ("path",)}
"""Of each driver the options of which it needs one; installed drivers say theirs by arguments without a default."""


def how_to_give(driver: str, key: str) -> str:
    """Where an option of a driver is written: on the command line, in a recipe, in Python.

    >>> how_to_give("redfish", "url").partition(", ")[0]
    '`--sensor-option redfish.url=…`'
    """
    return (
        f"`--sensor-option {driver}.{key}=…`, `{key} = …` in a recipe's [meter.options.{driver}], or "
        f"Run(options={{'{driver}': {{'{key}': …}}}})"
    )


def lacks(driver: str, key: str, *others: str) -> UsageError:
    """The error of a driver that was not given what it needs."""
    either = " or ".join(repr(one) for one in (key, *others))
    return UsageError(f"sensor {driver!r}: it needs the option {either}; give it as {how_to_give(driver, key)}")


def check_needs(names: Iterable[str], options: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Refuse a driver that was named and has nothing to ask; a run would go on without it, and nobody would know.

    Raises:
        UsageError: it lacks an option; names the option, and where it is given.
    """
    for name in names:
        needed = _NEEDS.get(name, ())
        given = (options or {}).get(name, {})
        if needed and not any(given.get(key) for key in needed):
            raise lacks(name, *needed)
