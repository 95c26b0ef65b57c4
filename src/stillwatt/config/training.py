"""The table `[train]`: how every arm trains."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from stillwatt.config.settings import Count, Seed, Settings, Share, unit
from stillwatt.pipelines.spec import TrainSpec
from stillwatt.pipelines.spec_lora import LoraSpec

Beta = Annotated[float, Field(ge=0.0, lt=1.0)]
"""How much of a running mean is kept at a step."""


class LoraSettings(Settings):
    """Adapters of low rank (LoRA) that are trained in the place of the students' weights; needs the `lora` extra."""

    rank: Count = Field(description="Rank of each adapter.")
    alpha: float = Field(gt=0.0, description="What adapters are scaled by: alpha / rank.")
    dropout: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="Probability that an input of an adapter is left out in training."
    )
    target_modules: Literal["all-linear"] | Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description="Which layers get one: names, or ends of names, of linear layers, such as `q_proj`, or "
        "`all-linear`: all but the output layer, and but those whose matrices state-space mixers (Mamba) read past "
        "them."
    )
    use_rslora: bool = Field(default=False, description="Scale by alpha / sqrt(rank), which suits high ranks.")

    def to_spec(self) -> LoraSpec:
        """The adapters, for the runner."""
        return LoraSpec(**self.model_dump())


class TrainSettings(Settings):
    """How every arm trains: the same for all, so that only the method differs."""

    later_keys: ClassVar[frozenset[str]] = frozenset(
        {"decay_share", "final_rate_share", "weight_decay", "betas", "gradient_checkpointing", "lora"}
    )

    optimizer: Literal["adamw", "adafactor"] = Field(description="Which optimiser.")
    learning_rate: float = Field(gt=0.0, le=1.0, description="Learning rate after the warm-up.")
    warmup_steps: int = Field(
        ge=0, description="Steps over which the rate rises from 0.", json_schema_extra=unit("steps")
    )
    schedule: Literal["constant", "cosine", "linear", "wsd"] = Field(
        description="The learning rate after the warm-up; `wsd` (warm-up, stable, decay) stays, and falls along a line "
        "in the last steps."
    )
    decay_share: float | None = Field(
        default=None,
        gt=0.0,
        lt=1.0,
        description="`wsd` only, needed there: in how large a share of all steps, the last ones, the rate falls.",
    )
    final_rate_share: float = Field(
        default=0.0,
        ge=0.0,
        lt=1.0,
        description="All but `constant`: to which share of `learning_rate` the rate comes down after the last step.",
    )
    weight_decay: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="How much of a weight a step takes away, times the learning rate, apart from its gradient; biases "
        "and norms (parameters of one dimension) are left alone.",
    )
    betas: Annotated[tuple[Beta, ...], Field(min_length=2, max_length=2)] = Field(
        default=(0.9, 0.999),
        description="`adamw` only: how much of the running means of gradients and of their squares a step keeps.",
    )
    max_grad_norm: float = Field(gt=0.0, description="Gradients are scaled down to this norm.")
    batch_size: Count = Field(description="Sequences per forward pass.", json_schema_extra=unit("sequences"))
    accumulation_steps: Count = Field(
        description="Forward passes per optimiser step.", json_schema_extra=unit("passes")
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="Keep no activations inside layers and compute them again for the gradients: less memory, a "
        "forward pass more, the same result.",
    )
    checkpoints: tuple[Share, ...] = Field(
        min_length=1,
        description="Shares of the token budget at which the student is evaluated; ascending, the last is 1.0.",
    )
    seeds: tuple[Seed, ...] = Field(min_length=1, description="One training of every arm for each seed.")

    lora: LoraSettings | None = Field(
        default=None, description="Adapters that are trained in the place of the weights; none where absent."
    )

    def to_spec(self) -> TrainSpec:
        """The training, for the runner."""
        lora = self.lora.to_spec() if self.lora else None
        return TrainSpec(**self.model_dump(exclude={"lora"}), lora=lora)
