"""What text is written from, and how a student writes its own; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["CORPUS", "Asking", "OwnTextSpec"]

CORPUS = "corpus"
"""Where prompts come from unless a file is named: the beginnings of training sequences."""


class Asking(Protocol):
    """What is made of a file's prompts; `GenerateSpec` and `OwnTextSpec` are such."""

    @property
    def table(self) -> str:
        """Where these settings stand in a recipe, for messages."""
        ...

    @property
    def prompts(self) -> str:
        """`path:FILE.jsonl`."""
        ...

    @property
    def prompt_tokens(self) -> int:
        """The most a prompt may have."""
        ...

    @property
    def long_prompts(self) -> str:
        """What becomes of longer ones: `refuse`, or `cut` from the left."""
        ...

    @property
    def template(self) -> str | None:
        """What stands around a plain prompt."""
        ...

    @property
    def chat(self) -> bool:
        """Whether a plain prompt is the user's message of a conversation."""
        ...

    @property
    def system(self) -> str | None:
        """The system message of conversations that bring none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTextSpec:
    """How a student writes its own training text."""

    prompt_tokens: int
    """Of training text; of a file's prompts, the most one may have: longer ones are left out."""
    max_new_tokens: int
    temperature: float
    top_p: float
    prompts: str = CORPUS
    """`corpus`, or `path:FILE.jsonl` with rows of `prompt` or `messages`."""
    template: str | None = None
    """What stands around a plain prompt, whose place is `{prompt}`."""
    chat: bool = False
    """A plain prompt is the user's message of a conversation."""
    system: str | None = None
    """The system message of conversations that bring none."""

    @property
    def table(self) -> str:
        """Where these settings stand in a recipe."""
        return "student_generate"

    @property
    def long_prompts(self) -> str:
        """A prompt is begun with whole or not at all."""
        return "refuse"

    @property
    def has_file(self) -> bool:
        """Whether the prompts are those of a file."""
        return self.prompts != CORPUS
