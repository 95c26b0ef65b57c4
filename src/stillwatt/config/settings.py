"""What all tables of a recipe have in common."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

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
    """Keys that came after runs had been made without them: left out of the resolved settings where they are at their
    default, so that a recipe that does not name them has the hash it always had, and its runs are gone on with."""

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        fields = type(self).model_fields
        at_default = {
            key for key in self.later_keys if getattr(self, key) == fields[key].get_default(call_default_factory=True)
        }
        return {key: value for key, value in values.items() if key not in at_default}


def unit(name: str) -> dict[str, Any]:
    """The unit of a key, for its page."""
    return {"unit": name}
