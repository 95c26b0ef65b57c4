"""Keys of `[teacher_generate]` that say what the teacher goes on from, and which of its text is kept."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from stillwatt.config.settings import Seed, Settings, unit
from stillwatt.pipelines.spec_text import CORPUS


def check_file(source: str) -> str:
    """Refuse what names no file.

    Raises:
        PydanticCustomError: It is not written `path:FILE.jsonl`.
    """
    if not source.startswith("path:") or source == "path:":
        raise PydanticCustomError("source", "a file is written path:FILE.jsonl")
    return source


def check_prompts(source: str) -> str:
    """Refuse what is neither the corpus nor a file.

    Raises:
        PydanticCustomError: It is none of both.
    """
    if source != CORPUS and (not source.startswith("path:") or source == "path:"):
        raise PydanticCustomError("source", "known: {corpus} or path:FILE.jsonl", {"corpus": CORPUS})
    return source


class TextSettings(Settings):
    """Prompts and filters; each has a default that leaves things as they are without it."""

    prompts: Annotated[str, AfterValidator(check_prompts)] = Field(
        default=CORPUS,
        description="`corpus` (the teacher continues training text) or `path:FILE.jsonl`, with a `prompt` or the "
        "`messages` of a conversation in each row.",
    )
    template: str | None = Field(
        default=None,
        description="What stands around each `prompt` (its place is `{prompt}`) or each seed (its place is `{text}`); "
        "a seed is followed by an empty line where it is left out.",
    )
    chat: bool = Field(
        default=False,
        description="A `prompt` is the user's message of a conversation, which goes through the tokenizer's chat "
        "template as `messages` always do.",
    )
    system: str | None = Field(
        default=None, description="System message of conversations that do not begin with one of their own."
    )
    seeds: Annotated[str, AfterValidator(check_file)] | None = Field(
        default=None,
        description="`path:FILE.jsonl` with a `text` in each row: each prompt shows some of them, and the teacher "
        "writes another. Those shown are no part of the student's text.",
    )
    shots: int = Field(
        default=0, ge=0, description="Seeds shown in a prompt; needed with `seeds`.", json_schema_extra=unit("seeds")
    )
    shots_seed: Seed = Field(default=0, description="Seed of the choice of those shown.")
    long_prompts: Literal["refuse", "cut"] = Field(
        default="refuse",
        description="What becomes of a prompt of more than `prompt_tokens`: left out, or cut from the left (which may "
        "take a conversation's beginning with it). Both are counted.",
    )
    reject_unfinished: bool = Field(
        default=False,
        description="Continuations that reach `max_new_tokens` without an end are rejected, and billed.",
    )
    near_duplicate: float | None = Field(
        default=None,
        gt=0.0,
        le=1.0,
        description="Continuations at least this near to a kept one are rejected, and billed: 5-grams of tokens that "
        "both have over those that either has (method.md, eq. 134).",
    )
    min_mean_logprob: float | None = Field(
        default=None,
        le=0.0,
        description="Continuations whose tokens' mean log-probability, by the teacher itself at temperature 1, is "
        "below this are rejected, and billed.",
        json_schema_extra=unit("nats"),
    )
    max_mean_logprob: float | None = Field(
        default=None, le=0.0, description="The same, above this.", json_schema_extra=unit("nats")
    )
    blocklist: tuple[str, ...] = Field(
        default=(),
        description="Regular expressions (Python's); continuations in which one is found are rejected, and billed.",
    )
