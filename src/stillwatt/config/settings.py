"""What all tables of a recipe have in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
"""A number of things, at least one."""
Seed = Annotated[int, Field(ge=0, lt=2**31)]
"""Start of a random sequence."""


class Settings(BaseModel):
    """What every table of a recipe has in common: unknown keys, other types and infinite numbers are refused."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


def unit(name: str) -> dict[str, Any]:
    """The unit of a key, for its page."""
    return {"unit": name}
