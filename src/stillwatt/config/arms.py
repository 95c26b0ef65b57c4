"""The table `[[arms]]`: ways of making the student."""

from __future__ import annotations

from typing import Annotated, Literal

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
    method: Method = Field(description="`sft`, `kd`, `synthetic_sft` or `gkd`.")
    alpha: float | None = Field(
        default=None,
        ge=0.0,
        le=1.0,
        description="`kd` and `gkd` only, needed there: weight of the cross-entropy on given text; the rest goes to "
        "the divergence. On a student's own text the divergence stands alone.",
    )
    temperature: float | None = Field(
        default=None,
        gt=0.0,
        description="`kd` and `gkd` only, needed there: temperature of the divergence; must be that of "
        "`[teacher_logits]` where the loss reads the cache.",
    )
    loss: LossName | None = Field(
        default=None,
        description="`kd` and `gkd` only, needed by `gkd`: which divergence, by its name in `stillwatt recipe losses`; "
        f"for `kd` `{DEFAULT_LOSS}` where not given. Losses of the whole vocabulary run the teacher beside the "
        "student and need no cache.",
    )
    loss_parameter: float | None = Field(
        default=None,
        description="`kd` and `gkd` only: beta of `jsd`, alpha of `skew_kl` and `skew_reverse_kl`, needed there; "
        "between 0 and 1, ends excluded.",
    )
    own_text_share: float | None = Field(
        default=None,
        ge=0.0,
        le=1.0,
        description="`gkd` only, needed there: probability that a step trains on what the student itself writes; at 0 "
        "the arm is `kd` with the teacher beside the student.",
    )
    text: Literal["corpus", "teacher"] | None = Field(
        default=None,
        description="`gkd` only: what the other steps train on, the corpus or text the teacher wrote "
        "(`[teacher_generate]`); the corpus where not given.",
    )

    def to_spec(self) -> ArmSpec:
        """The arm, for the runner."""
        return ArmSpec(**self.model_dump())
