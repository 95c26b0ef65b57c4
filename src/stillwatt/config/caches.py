"""Tables of a recipe that say what the teacher's cache of logits keeps, and how it is coded."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stillwatt.config.settings import Count, Seed, Settings, unit
from stillwatt.pipelines.spec import CacheSpec, LogitsSpec


class CacheSettings(Settings):
    """How the cache of logits is coded: a few tens of bytes a token; needs the `cache` extra."""

    scheme: Literal["topk", "topp", "head_draws", "rs_kd"] = Field(
        description="`topk`: the most probable tokens and a tail. `topp`: as many as reach `mass`, at most `top_k`. "
        "`head_draws`: the most probable ones and draws from the others, unbiased. `rs_kd`: draws alone, unbiased. "
        "Draws are read by the loss `sampled_kl`, `topp` by `top_p_tail`."
    )
    draws: int = Field(
        default=0,
        ge=0,
        description="`head_draws`, `rs_kd`; needed there.",
        json_schema_extra=unit("draws per token"),
    )
    mass: float = Field(default=1.0, gt=0.0, le=1.0, description="`topp` only, needed there: what kept tokens reach.")
    step: float = Field(
        default=0.5, gt=0.0, le=2.0, description="Width of a kept value's levels.", json_schema_extra=unit("nats")
    )
    seed: Seed = Field(default=0, description="Seed of the draws and of rounding by chance.")
    prior: Literal["bigram", "unigram"] = Field(
        default="bigram", description="What is known of a token's likely successors before a row is coded."
    )

    def to_spec(self) -> CacheSpec:
        """The coding, for the runner."""
        return CacheSpec(**self.model_dump())


class LogitsSettings(Settings):
    """What the teacher's cache of logits keeps; needed by arms of method `kd`."""

    top_k: int = Field(
        ge=0,
        le=1_000_000,
        description="Largest logits kept for each token; the rest becomes one tail. 0 with the scheme `rs_kd` alone.",
        json_schema_extra=unit("entries per token"),
    )
    temperature: float = Field(gt=0.0, le=100.0, description="Softmax temperature the cache is made at.")
    batch_size: Count = Field(description="Sequences per forward pass.", json_schema_extra=unit("sequences"))
    engine: Literal["transformers", "vllm"] = Field(
        default="transformers",
        description="What runs the teacher; `vllm` wants that package installed and tells the most probable tokens "
        "alone: fixed rows, `topk` and `topp`, at temperature 1.",
    )

    def to_spec(self, cache: CacheSettings | None = None) -> LogitsSpec:
        """The cache, for the runner, coded as the recipe says."""
        return LogitsSpec(**self.model_dump(), cache=cache.to_spec() if cache else None)
