"""The table `[student_generate]`: how students write their own training text, and from what."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from stillwatt.config.settings import Count, Settings, Share, unit
from stillwatt.config.texts import check_prompts
from stillwatt.pipelines.spec_text import CORPUS, OwnTextSpec


class OwnTextSettings(Settings):
    """How a student writes its own training text; needed by arms of method `gkd`."""

    later_keys: ClassVar[frozenset[str]] = frozenset({"prompts", "template", "chat", "system"})

    prompt_tokens: Count = Field(
        description="Tokens of training text the student continues; of other prompts, how many they have at most: "
        "longer ones are left out, and counted.",
        json_schema_extra=unit("tokens"),
    )
    max_new_tokens: Count = Field(description="Longest continuation.", json_schema_extra=unit("tokens"))
    temperature: float = Field(
        ge=0.0,
        le=100.0,
        description="Sampling temperature, of the writing alone; at 0 the most probable token is always taken.",
    )
    top_p: Share = Field(description="Nucleus sampling: the smallest set of tokens with this probability.")
    prompts: Annotated[str, AfterValidator(check_prompts)] = Field(
        default=CORPUS,
        description="`corpus` (the student continues training text) or `path:FILE.jsonl`, with a `prompt` or the "
        "`messages` of a conversation in each row: own text then begins with a whole prompt.",
    )
    template: str | None = Field(
        default=None, description="What stands around each `prompt` of a file; its place is `{prompt}`."
    )
    chat: bool = Field(
        default=False,
        description="A `prompt` of a file is the user's message of a conversation, which goes through the tokenizer's "
        "chat template as `messages` always do.",
    )
    system: str | None = Field(
        default=None, description="System message of conversations that do not begin with one of their own."
    )

    def to_spec(self) -> OwnTextSpec:
        """The student's writing, for the runner."""
        return OwnTextSpec(**self.model_dump())
