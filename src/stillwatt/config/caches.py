"""Tables of a recipe that say what the teacher's cache of logits keeps, and how it is coded."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from stillwatt.config.names import OWN_TEACHER, PATH_SCHEME, CacheSource
from stillwatt.config.settings import Count, Seed, Settings, unit
from stillwatt.pipelines.spec import CacheSpec, GivenCacheSpec, LogitsSpec

_MASS_OF_TOPP: JsonDict = {
    "if": {"properties": {"scheme": {"const": "topp"}}},
    "then": {"required": ["mass"], "properties": {"mass": {"exclusiveMaximum": 1.0}}},
}
"""What `pipelines.cache.scheme` asks, for editors: its default is that of the schemes that have no use for it."""


class CacheSettings(Settings):
    """How the cache of logits is coded: a few tens of bytes a token; needs the `cache` extra."""

    model_config = ConfigDict(json_schema_extra=_MASS_OF_TOPP)

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
    mass: float = Field(
        default=1.0,
        gt=0.0,
        le=1.0,
        description="`topp` only, needed there and below 1: what kept tokens reach.",
    )
    step: float = Field(
        default=0.5,
        gt=0.0,
        le=2.0,
        description="Width of a kept value's levels; not with `rs_kd`.",
        json_schema_extra=unit("nats"),
    )
    seed: Seed = Field(default=0, description="`head_draws`, `rs_kd`: seed of the draws and of rounding by chance.")
    prior: Literal["bigram", "unigram"] = Field(
        default="bigram", description="What is known of a token's likely successors before a row is coded."
    )

    def to_spec(self) -> CacheSpec:
        """The coding, for the runner."""
        return CacheSpec(**self.model_dump())


class LogitsSettings(Settings):
    """Where the cache of the teacher's logits comes from and what it keeps; needed by arms of method `kd`."""

    source: CacheSource = Field(
        default=OWN_TEACHER,
        description="`teacher` (this recipe's, which is asked and billed), or `path:DIR`: a sealed cache that is there "
        "already, from any tool (`stillwatt cache convert`) or run. It is read as it is, so nothing below is given.",
    )
    top_k: int | None = Field(
        default=None,
        ge=0,
        le=1_000_000,
        description="Needed where the teacher writes: largest logits kept for each token; the rest becomes one tail. "
        "0 with the scheme `rs_kd` alone.",
        json_schema_extra=unit("entries per token"),
    )
    temperature: float | None = Field(
        default=None,
        gt=0.0,
        le=100.0,
        description="Needed where the teacher writes: softmax temperature the cache is made at.",
    )
    batch_size: Count | None = Field(
        default=None,
        description="Needed where the teacher writes: sequences per forward pass.",
        json_schema_extra=unit("sequences"),
    )
    engine: Literal["transformers", "vllm"] = Field(
        default="transformers",
        description="What runs the teacher; `vllm` wants that package installed and tells the most probable tokens "
        "alone: fixed rows, `topk` and `topp`, at temperature 1.",
    )

    @property
    def is_given(self) -> bool:
        """Whether the cache is there already."""
        return self.source != OWN_TEACHER

    def to_spec(self, cache: CacheSettings | None = None) -> LogitsSpec | None:
        """The cache that is to be written, for the runner, coded as the recipe says; None where one is given."""
        if self.top_k is None or self.temperature is None or self.batch_size is None:
            return None  # one is given, or `config.rules_given` has refused the table
        return LogitsSpec(
            top_k=self.top_k,
            temperature=self.temperature,
            batch_size=self.batch_size,
            engine=self.engine,
            cache=cache.to_spec() if cache else None,
        )

    def to_given(self) -> GivenCacheSpec | None:
        """The cache that is there already, for the runner; None where one is to be written."""
        return GivenCacheSpec(directory=self.source.removeprefix(PATH_SCHEME)) if self.is_given else None
