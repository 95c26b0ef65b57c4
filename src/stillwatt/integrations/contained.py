"""Keeps a hook's own errors out of the program it hooks into: a warning, once, and the program goes on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from stillwatt.metering.meter import warn_user
from stillwatt.metering.values import json_values

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Contained:
    """Warns once, whatever happens and however often.

    Example:
        class Hook(Contained):
            @contained
            def on_step(self) -> None: ...
    """

    _num_warnings = 0

    def warn(self, message: str) -> None:
        """Warn of the first thing; later ones are only counted."""
        self._num_warnings += 1
        if self._num_warnings == 1:
            warn_user(f"{type(self).__name__}: {message}", stacklevel=4)


def contained(method: Callable[_P, _R]) -> Callable[_P, _R | None]:
    """A method of a `Contained` whose errors become one warning of its object; it returns None then."""

    @functools.wraps(method)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R | None:
        try:
            return method(*args, **kwargs)
        except Exception as err:  # noqa: BLE001 - whatever it is, it is not the measured program's
            owner = args[0]
            assert isinstance(owner, Contained)
            told = f"{type(err).__name__}: {err}"
            owner.warn(f"{method.__name__} failed ({told}); the work goes on, the record has a gap")
            return None

    return call


def json_numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers and texts among some values, as JSON has them; a number that is not finite becomes its name.

    >>> json_numbers({"loss": 1.5, "steps": 3, "worst": float("nan"), "model": object()})
    {'loss': 1.5, 'steps': 3, 'worst': 'nan'}
    """
    kept, _ = json_values(values)
    return {name: value for name, value in kept.items() if isinstance(value, (bool, int, float, str))}
