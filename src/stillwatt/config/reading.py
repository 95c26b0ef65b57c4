"""The tables `[analysis]` and `[run]`: what changes no measurement, and the process that does the work."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stillwatt.config.names import Name
from stillwatt.config.settings import Count, Settings, unit


class AnalysisSettings(Settings):
    """How the arms are compared; changes no measurement."""

    baseline_arm: Name = Field(default="sft", description="Arm the others are compared with; its method is `sft`.")
    reuse: tuple[Count, ...] = Field(
        default=(10,), description="Numbers of students a teacher artefact is shared by, for the shared-cost columns."
    )


class RunSettings(Settings):
    """The process that does the work."""

    threads: int | None = Field(
        default=None,
        ge=1,
        description="CPU threads of the training stack; its own choice where not given.",
        json_schema_extra=unit("threads"),
    )
    sharding: Literal["none", "fsdp"] = Field(
        default="none",
        description="Under `torchrun`: whether each rank holds the whole student, or `fsdp` spreads its weights, "
        "gradients and optimiser state over the ranks.",
    )
