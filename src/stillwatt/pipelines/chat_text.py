"""Conversations as text, and which of a document's tokens are the assistant's own.

Shapes: T tokens of a document.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stillwatt.errors import StillwattError
from stillwatt.pipelines.documents import Document, check_answered

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["answer_tokens", "chat_text", "special_ids"]

_MARKER = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
"""Where a template says that what follows is the assistant's."""
_CURE = 'or set data.predict = "all"'


def chat_text(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, Any]], place: str, *, opens_turn: bool = False
) -> str:
    """A conversation in the tokenizer's chat template; with `opens_turn`, as the assistant is asked to go on.

    Raises:
        StillwattError: There is no template, or it refuses the messages.
    """
    return str(_applied(tokenizer, messages, place, tokenize=False, add_generation_prompt=opens_turn))


def _applied(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, Any]], place: str, **how: Any) -> Any:
    from jinja2.exceptions import TemplateError

    if getattr(tokenizer, "chat_template", None) is None:
        raise StillwattError(
            f"{place}: the tokenizer has no chat template, so `messages` cannot be made text; give `text`, or "
            "models with a template"
        )
    try:
        return tokenizer.apply_chat_template([dict(said) for said in messages], **how)
    except (TemplateError, TypeError, ValueError) as err:
        raise StillwattError(f"{place}: the chat template refuses the messages ({err})") from err


def special_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Tokens that stand for no text: ends of turns and of texts, and the like."""
    added = (index for index, token in tokenizer.added_tokens_decoder.items() if token.special)
    return frozenset((*tokenizer.all_special_ids, *added))


def answer_tokens(
    tokenizer: PreTrainedTokenizerBase, document: Document
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Token ids of a document, and which of them are the assistant's: `ids_T`, `answered_T`.

    Of a completion every token that holds some of it. Of a conversation what the template itself marks with
    `{% generation %}`; else what a message of the assistant's adds to the messages before it, with the assistant's turn
    already opened. The token that ends the turn is the assistant's; a line's end that a template writes behind it is
    not.

    Raises:
        StillwattError: The document does not say what is the assistant's, or it cannot be told in the template's text.
    """
    check_answered(document)
    if document.messages is None:
        text = document.text or ""
        ids_T, starts_T, ends_T = _encoded(tokenizer, text, document.place)
        return ids_T, _within(starts_T, ends_T, document.asked or 0, len(text))
    return _conversation(tokenizer, document, document.messages)


def _conversation(
    tokenizer: PreTrainedTokenizerBase, document: Document, messages: Sequence[Mapping[str, Any]]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    place, first = document.place, document.asked or 0
    whole = chat_text(tokenizer, messages, place)
    ids_T, starts_T, ends_T = _encoded(tokenizer, whole, place)
    turns = [n for n, said in enumerate(messages) if n >= first and said["role"] == "assistant"]
    if not turns:
        return ids_T, np.zeros(len(ids_T), dtype=np.bool_)
    if _MARKER.search(str(tokenizer.get_chat_template())):
        border = _shared(tokenizer, messages[:first], whole, place) if first else 0
        return ids_T, _marked(tokenizer, messages, place) & (starts_T >= border)
    answered_T = np.zeros(len(ids_T), dtype=np.bool_)
    ends = special_ids(tokenizer)
    texts = [whole[start:end] for start, end in zip(starts_T, ends_T, strict=True)]
    for number in turns:
        turn_T = _within(starts_T, ends_T, *_turn(tokenizer, messages, number, whole, place))
        answered_T |= _without_line_end(turn_T, ids_T, texts, ends)
    return ids_T, answered_T


def _encoded(
    tokenizer: PreTrainedTokenizerBase, text: str, place: str
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Token ids, and where in the text each begins and ends."""
    if not tokenizer.is_fast:
        raise StillwattError(
            f"{place}: {type(tokenizer).__name__} does not tell where its tokens stand in a text, so those of the "
            f"assistant cannot be found; take models with a fast tokenizer (tokenizer.json), {_CURE}"
        )
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    borders_T2 = np.asarray(found["offset_mapping"], dtype=np.int64).reshape(-1, 2)
    return np.asarray(found["input_ids"], dtype=np.int32), borders_T2[:, 0], borders_T2[:, 1]


def _within(
    starts_T: npt.NDArray[np.int64], ends_T: npt.NDArray[np.int64], start: int, end: int
) -> npt.NDArray[np.bool_]:
    """Tokens that hold some of the text between two places.

    >>> _within(np.array([0, 2, 5]), np.array([2, 5, 7]), 3, 5).tolist()
    [False, True, False]
    """
    return (ends_T > start) & (starts_T < end)


def _shared(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, Any]], whole: str, place: str) -> int:
    """How many characters of a conversation its first messages take."""
    asked = chat_text(tokenizer, messages, place)
    if not whole.startswith(asked):
        raise StillwattError(_unlike(place, len(messages)))
    return len(asked)


def _turn(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, Any]], number: int, whole: str, place: str
) -> tuple[int, int]:
    """Where a message of the assistant's stands in the text of the whole conversation."""
    if number == 0:
        raise StillwattError(
            f"{place}: the conversation begins with the assistant, and a template opens its turn behind other messages "
            f"only; begin with a message of the system's or the user's, {_CURE}"
        )
    before = chat_text(tokenizer, messages[:number], place, opens_turn=True)
    after = chat_text(tokenizer, messages[: number + 1], place)
    if not (after.startswith(before) and whole.startswith(after)):
        raise StillwattError(_unlike(place, number + 1))
    return len(before), len(after)


def _unlike(place: str, number: int) -> str:
    return (
        f"{place}: the chat template writes message {number} or those before it otherwise when more follow (templates "
        "that drop the thoughts of earlier turns do so), so what is the assistant's cannot be told; give each answer a "
        "row of its own (`prompt` and `completion`, lists of messages), take a template with {% generation %} markers, "
        f"{_CURE}"
    )


def _marked(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, Any]], place: str
) -> npt.NDArray[np.bool_]:
    found = _applied(tokenizer, messages, place, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
    marked_T = np.asarray(found["assistant_masks"], dtype=np.bool_)
    if not marked_T.any():
        raise StillwattError(
            f"{place}: the chat template's {{% generation %}} markers enclose nothing of the assistant's messages; "
            f"correct the template, {_CURE}"
        )
    return marked_T


def _without_line_end(
    turn_T: npt.NDArray[np.bool_], ids_T: npt.NDArray[np.int32], texts: Sequence[str], ends: frozenset[int]
) -> npt.NDArray[np.bool_]:
    """A turn up to its last special token, where nothing but space stands behind that.

    >>> turn_T = np.array([False, True, True, True])
    >>> _without_line_end(turn_T, np.array([5, 6, 9, 7]), ["a", "b", "<end>", " "], frozenset({9})).tolist()
    [False, True, True, False]
    """
    for place in reversed(np.flatnonzero(turn_T).tolist()):
        if int(ids_T[place]) in ends:
            return turn_T & (np.arange(len(turn_T)) <= place)
        if not texts[place].isspace():
            break
    return turn_T
