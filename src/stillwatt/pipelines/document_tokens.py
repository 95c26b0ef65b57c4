"""How a document becomes token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stillwatt.errors import StillwattError
from stillwatt.pipelines.documents import Document

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["tokenise"]


def tokenise(tokenizer: PreTrainedTokenizerBase, document: Document) -> npt.NDArray[np.int32]:
    """Token ids of one document, without special tokens; conversations go through the chat template.

    Raises:
        StillwattError: It is a conversation, and there is no template or the template refuses it.
    """
    text = _chat_text(tokenizer, document) if document.messages is not None else document.text or ""
    # long documents are cut into sequences afterwards, so a warning about their length would be beside the point
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return np.asarray(ids, dtype=np.int32)


def _chat_text(tokenizer: PreTrainedTokenizerBase, document: Document) -> str:
    from jinja2.exceptions import TemplateError

    if getattr(tokenizer, "chat_template", None) is None:
        raise StillwattError(
            f"{document.place}: the tokenizer has no chat template, so `messages` cannot be made text; give `text`, or "
            "models with a template"
        )
    try:
        return str(tokenizer.apply_chat_template([dict(said) for said in document.messages or ()], tokenize=False))
    except (TemplateError, TypeError) as err:
        raise StillwattError(f"{document.place}: the chat template refuses the messages ({err})") from err
