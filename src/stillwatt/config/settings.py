"""What all tables of a recipe have in common."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
"""A number of things, at least one."""
Share = Annotated[float, Field(gt=0.0, le=1.0)]
"""A part of a whole, more than nothing."""
Seed = Annotated[int, Field(ge=0, lt=2**31)]
"""Start of a random sequence."""


class Settings(BaseModel):
    """What every table of a recipe has in common: unknown keys, other types and infinite numbers are refused."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)
    later_keys: ClassVar[frozenset[str]] = frozenset()
    """Keys that came when runs had been made without them: at their defaults they are no part of resolved settings, so
    that a recipe that does not use them keeps its hash and its runs can be gone on with."""


def at_defaults(settings: Settings) -> dict[str, Any]:
    """Later keys that stand at their defaults, in the form in which pydantic is told what to leave out."""
    found: dict[str, Any] = {}
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if name in settings.later_keys and value == field.get_default(call_default_factory=True):
            found[name] = True
        elif inner := _inside(value):
            found[name] = inner
    return found


def _inside(value: Any) -> dict[Any, Any]:
    if isinstance(value, Settings):
        return at_defaults(value)
    if not isinstance(value, tuple):
        return {}
    parts = ((number, _inside(each)) for number, each in enumerate(value))
    return {number: part for number, part in parts if part}


def unit(name: str) -> dict[str, Any]:
    """The unit of a key, for its page."""
    return {"unit": name}
