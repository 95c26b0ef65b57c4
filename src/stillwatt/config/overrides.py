"""Changes to a recipe from the command line: `--set train.seeds=[1,2]`."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, time
from typing import Any

from stillwatt.errors import ConfigError, suggest

Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """One `--set`, with the place it changed."""

    text: str
    place: Place

    @property
    def origin(self) -> str:
        """How an error names it."""
        return f"--set {self.text}"


def apply_override(settings: dict[str, Any], text: str) -> Override:
    """Change `settings` in place as `KEY.KEY=VALUE` says.

    The value is TOML; a text that is no TOML value stands for itself, so that `teacher.source=tiny-random` needs no
    quotes. Entries of an array are named by number from 0, or by their `name`: `arms.kd.alpha=0.3`.

    Raises:
        ConfigError: there is no `=`, or the place cannot be reached.

    >>> settings = {"arms": [{"name": "kd", "alpha": 0.5}]}
    >>> apply_override(settings, "arms.kd.alpha=0.3").place, settings["arms"][0]["alpha"]
    (('arms', 0, 'alpha'), 0.3)
    """
    keys, equals, value = text.partition("=")
    parts = [part.strip() for part in keys.split(".")]
    if not equals or not all(parts):
        raise ConfigError(f"--set {text}", "is not of the form KEY.KEY=VALUE, for example train.seeds=[1,2]")
    at: Any = settings
    place: Place = ()
    for part in parts[:-1]:
        step = _step(at, part, text, place)
        if isinstance(at, dict):
            at.setdefault(step, {})
        at, place = at[step], (*place, step)
    step = _step(at, parts[-1], text, place)
    at[step] = _value(value)
    return Override(text=text, place=(*place, step))


def parse_sensor_options(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Options of single drivers as `DRIVER.KEY=VALUE` says; values as for `apply_override`, a later one winning.

    A value that is a date stands for its text: no driver has an option of a date, and files may be called after one.

    Raises:
        ConfigError: it is not of that form.

    >>> parse_sensor_options(["smart_plug.url=http://10.0.0.7", "smart_plug.outlet=1"])
    {'smart_plug': {'url': 'http://10.0.0.7', 'outlet': 1}}
    """
    options: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, equals, given = text.partition("=")
        driver, _, key = (part.strip() for part in name.partition("."))
        if not (equals and driver and key) or "." in key:
            raise ConfigError(
                f"--sensor-option {text}",
                "is not of the form DRIVER.KEY=VALUE, for example smart_plug.url=http://10.0.0.7",
            )
        value = _value(given)
        options.setdefault(driver, {})[key] = given.strip() if isinstance(value, date | time) else value
    return options


def _step(at: Any, part: str, text: str, place: Place) -> str | int:
    """The key or number that `part` means in `at`."""
    if isinstance(at, dict):
        return part
    where = ".".join(str(step) for step in place)
    if not isinstance(at, list):
        raise ConfigError(f"--set {text}", f"{where} is a value, so it has no key {part!r}")
    names = [str(entry["name"]) for entry in at if isinstance(entry, dict) and "name" in entry]
    if part.isdecimal() and int(part) < len(at):
        return int(part)
    if part in names:
        return next(n for n, entry in enumerate(at) if isinstance(entry, dict) and entry.get("name") == part)
    near = suggest(part, names)
    known = f"names: {', '.join(names)}; numbers: 0 to {len(at) - 1}" if at else "the array is empty"
    raise ConfigError(
        f"--set {text}", f"{where} has no entry {part!r}; " + (f"did you mean {near!r}?" if near else known)
    )


def _value(text: str) -> Any:
    try:
        document = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # no TOML, or a number of thousands of digits, brackets by the thousand
        return text
    # a line break could smuggle in further keys: then the text is no value
    return document["value"] if set(document) == {"value"} else text
