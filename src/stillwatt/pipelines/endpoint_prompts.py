"""What a server is sent for a prompt: the text or the messages themselves, which the student's tokens are made from.

The student's chat template writes conversations into the student's text alone; the server's model has its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from stillwatt.errors import StillwattError
from stillwatt.pipelines.artifacts import canonical_json
from stillwatt.pipelines.prompts import PromptSet, Said, first_conversation
from stillwatt.pipelines.spec import GenerateSpec, StudentSpec
from stillwatt.pipelines.spec_endpoint import EndpointSpec

__all__ = [
    "CUT_CONVERSATION",
    "NO_CONVERSATION",
    "Decoder",
    "Prompt",
    "check_conversations",
    "check_template",
    "decoded",
    "said_sha256",
    "unlike_tokens",
]

NO_CONVERSATION = (
    'api "completions" goes on from a text, and how the server\'s model is shown a conversation is not known here; set '
    'teacher_endpoint.api = "chat", or write the turns into teacher_generate.template and give plain `prompt` rows'
)
CUT_CONVERSATION = (
    "a server is sent whole messages, so that a conversation cannot lose its beginning in tokens; set "
    'teacher_generate.long_prompts = "refuse"'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A prompt for whoever is asked in words."""

    ids: Sequence[int]
    """In the student's tokens, as it stands in the student's text."""
    said: Said | None = None
    """What is sent; what the tokens say where None."""


class Decoder(Protocol):
    """The part of a tokenizer that is used here."""

    def decode(self, ids: list[int], /, *, skip_special_tokens: bool) -> str | list[str]:
        """Tokens as text: one, of one list of them."""
        ...


def decoded(tokenizer: Decoder, ids: Sequence[int]) -> str:
    """What tokens say to whoever has others: their text without special tokens."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=True))


def unlike_tokens(found: PromptSet, tokenizer: Decoder) -> tuple[Said | None, ...]:
    """What each prompt says, where its tokens do not say the same; empty where all of them do.

    Conversations never do; of texts those that a tokenizer does not give back as they were.
    """
    said = tuple(
        None if words == decoded(tokenizer, ids) else words for ids, words in zip(found.ids, found.said, strict=False)
    )
    return said if any(words is not None for words in said) else ()


def said_sha256(said: Sequence[Said | None]) -> str:
    """Hash of what is sent, message by message."""
    kept: list[Any] = [words if words is None or isinstance(words, str) else [*map(dict, words)] for words in said]
    return hashlib.sha256(canonical_json(kept).encode()).hexdigest()


def check_conversations(spec: GenerateSpec, endpoint: EndpointSpec) -> None:
    """Refuse, before anything is spent, rows that cannot be put to the server as what they are.

    Raises:
        MissingInputError: The file of prompts is not there.
        StillwattError: It holds a conversation, and the server takes texts alone, or conversations are to be cut.
    """
    if endpoint.api != "completions" and spec.long_prompts != "cut":
        return
    place = first_conversation(spec)
    if place is not None:
        reason = NO_CONVERSATION if endpoint.api == "completions" else CUT_CONVERSATION
        raise StillwattError(f"{place}: a conversation, and {reason}")


def check_template(spec: GenerateSpec, tokenizer: Any, student: StudentSpec) -> None:
    """Refuse conversations that the student's text cannot be written from.

    Args:
        spec: Where the prompts are.
        tokenizer: The student's.
        student: Whose it is.

    Raises:
        StillwattError: There are conversations, and the student's tokenizer has no chat template.
    """
    place = first_conversation(spec)
    if place is not None and getattr(tokenizer, "chat_template", None) is None:
        raise StillwattError(
            f"{place}: a conversation stands in the student's text as its own tokenizer's chat template writes it, and "
            f"the tokenizer of student {student.name!r} ({student.source}) has none; save one with it "
            "(tokenizer.chat_template), take a student that was trained to chat, or give plain `prompt` rows with "
            "teacher_generate.chat = false, each of which the server is sent as one user message"
        )
