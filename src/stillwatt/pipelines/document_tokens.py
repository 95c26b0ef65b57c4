"""How a document becomes token ids, and which of them are to be predicted.

Shapes: T tokens of a document, E = T + 1 with the end token that is put behind them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stillwatt.pipelines.bos import with_bos
from stillwatt.pipelines.chat_text import answer_tokens, chat_text, special_ids
from stillwatt.pipelines.documents import Document
from stillwatt.pipelines.spec_data import ALL, Predict

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["DocumentTokens", "tokenise"]


@dataclass(frozen=True, slots=True)
class DocumentTokens:
    """A document's tokens, without the end token that packing puts behind them."""

    ids_T: npt.NDArray[np.int32]
    predicted_E: npt.NDArray[np.bool_]
    """Which of them are to be predicted, and whether the end token is."""

    @classmethod
    def whole(cls, ids_T: npt.NDArray[np.integer]) -> DocumentTokens:
        """A document all of which is to be predicted.

        >>> DocumentTokens.whole(np.array([5, 6])).predicted_E.tolist()
        [True, True, True]
        """
        return cls(ids_T.astype(np.int32), np.ones(len(ids_T) + 1, dtype=np.bool_))


def tokenise(
    tokenizer: PreTrainedTokenizerBase, document: Document, *, predict: Predict = ALL, bos_ids: tuple[int, ...] = ()
) -> DocumentTokens:
    """Tokens of one document; conversations go through the chat template.

    Args:
        tokenizer: Whose tokens.
        document: The document.
        predict: `all`, or `assistant`: only the assistant's own tokens are to be predicted, the end of each turn
            included. The end token behind the document is then one of them where the assistant's text reaches it
            without a special token of its own.
        bos_ids: The tokenizer's BOS (`bos.bos_ids_of`): no other special token is put before the text, and this only
            where the chat template has not. It is never to be predicted.

    Raises:
        StillwattError: It is a conversation, and there is no template or the template refuses it; or what is the
            assistant's cannot be told.
    """
    if predict == ALL:
        text = document.text or ""
        if document.messages is not None:
            text = chat_text(tokenizer, document.messages, document.place)
        # long documents are cut into sequences afterwards, so a warning about their length would be beside the point
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return _begun(DocumentTokens.whole(np.asarray(ids, dtype=np.int32)), bos_ids)
    ids_T, answered_T = answer_tokens(tokenizer, document)
    is_open = bool(len(ids_T) and answered_T[-1]) and int(ids_T[-1]) not in special_ids(tokenizer)
    return _begun(DocumentTokens(ids_T, np.append(answered_T, is_open)), bos_ids)


def _begun(document: DocumentTokens, bos_ids: tuple[int, ...]) -> DocumentTokens:
    ids_T = np.asarray(with_bos(document.ids_T.tolist(), bos_ids), dtype=np.int32)
    predicted_E = np.append(np.zeros(len(ids_T) - len(document.ids_T), dtype=np.bool_), document.predicted_E)
    predicted_E[: len(bos_ids)] = False
    return DocumentTokens(ids_T, predicted_E)
