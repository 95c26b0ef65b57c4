"""The table `[[arms]]`: ways of making the student."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from stillwatt.config.names import Name
from stillwatt.config.settings import Settings
from stillwatt.pipelines.objectives.registry import DEFAULT_LOSS, OBJECTIVES
from stillwatt.pipelines.spec import ArmSpec, Method

LossName = Annotated[str, Field(json_schema_extra={"enum": list(OBJECTIVES)})]
"""A loss of the register; a name that is not in it gets the nearest one (`config.rules`)."""


class ArmSettings(Settings):
    """One way of making the student."""

    name: Name = Field(description="What the arm is called in stages and figures.")
    method: Method = Field(description="`sft`, `kd` or `synthetic_sft`.")
    alpha: float | None = Field(
        default=None,
        ge=0.0,
        le=1.0,
        description="`kd` only, needed there: weight of the cross-entropy; the rest goes to the divergence.",
    )
    temperature: float | None = Field(
        default=None,
        gt=0.0,
        description="`kd` only, needed there: temperature of the divergence; must be that of `[teacher_logits]` where "
        "the loss reads the cache.",
    )
    loss: LossName | None = Field(
        default=None,
        description=f"`kd` only: which divergence, by its name in `stillwatt recipe losses`; `{DEFAULT_LOSS}` where "
        "not given. Losses of the whole vocabulary run the teacher beside the student and need no cache.",
    )
    loss_parameter: float | None = Field(
        default=None,
        description="`kd` only: beta of `jsd`, alpha of `skew_kl` and `skew_reverse_kl`, needed there; between 0 and "
        "1, ends excluded.",
    )

    def to_spec(self) -> ArmSpec:
        """The arm, for the runner."""
        return ArmSpec(**self.model_dump())
