"""`[data]`: the text that is trained on, and that models are judged by."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from stillwatt.config.names import DataSource
from stillwatt.config.settings import Count, Seed, Settings, unit
from stillwatt.pipelines.spec_data import ALL, DataSpec, Predict


class DataSettings(Settings):
    """The text, its split and its packing."""

    later_keys: ClassVar[frozenset[str]] = frozenset({"predict", "config", "split", "revision", "epochs"})

    source: DataSource = Field(
        description="`pydoc-topics` (the help texts of this Python), `random-words`, `path:FILE.jsonl`, `hf:ORG/NAME` "
        "or `cache:DIR`, the sequences that a logit cache holds, as they are."
    )
    sequence_tokens: int = Field(
        ge=8,
        description="Length of one packed sequence; of a cache's, the most one may have.",
        json_schema_extra=unit("tokens"),
    )
    train_tokens: Count = Field(
        description="Budget of every arm: tokens that go through the student, padding excluded, in all passes; a "
        "multiple of `sequence_tokens` times `epochs`. Of a cache, so many sequences as that makes, however short they "
        "are.",
        json_schema_extra=unit("tokens"),
    )
    held_out_share: float = Field(
        gt=0.0,
        lt=1.0,
        description="Share of the documents kept for evaluation and never trained on; of a cache, of its sequences, "
        "the last ones.",
    )
    seed: Seed = Field(description="Seed of the split and of the order.")
    packing: Literal["stream", "documents"] = Field(
        default="stream",
        description="Documents that share a sequence: `stream` lets each see those before it, `documents` keeps them "
        "apart, in training, in the teacher's logits and in the perplexity.",
    )
    predict: Predict = Field(
        default=ALL,
        description="Tokens that training predicts and that the perplexity counts: `all`, or those of the `assistant` "
        "in rows of `messages`, or of `prompt` and `completion`, the end of each turn included.",
    )
    config: str | None = Field(
        default=None,
        min_length=1,
        description="Configuration of a hub data set, needed where it has several; `hf:` only.",
    )
    split: str = Field(
        default="train",
        min_length=1,
        description="Split of a hub data set, or a part of one such as `train[:10%]`; `hf:` only. Held-out documents "
        "are taken out of it.",
    )
    revision: str | None = Field(default=None, description="Hub revision: a commit, tag or branch; `hf:` only.")
    epochs: Count = Field(
        default=1,
        description="Passes over the text, each in an order of its own: `train_tokens` over `epochs` is the text that "
        "is needed, and all that the teacher reads or writes for its cache or text.",
        json_schema_extra=unit("passes"),
    )

    def to_spec(self) -> DataSpec:
        """The corpus, for the runner."""
        return DataSpec(**self.model_dump())
