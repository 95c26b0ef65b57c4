"""Where text comes from, how it is split by document, and how token sequences are packed without padding.

Shapes: S sequences, T tokens of a sequence.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stillwatt.errors import MissingInputError, StillwattError, UnknownNameError
from stillwatt.pipelines.jsonl import read_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "SOURCES",
    "Corpus",
    "Document",
    "Packed",
    "Prepared",
    "load_corpus",
    "pack_documents",
    "pack_samples",
    "positions_of",
    "prompts_of",
    "split_documents",
    "tokenise",
]

SOURCES = ("pydoc-topics", "random-words", "path:FILE.jsonl", "hf:ORG/NAME")
"""The forms that a source of documents can take; `pipelines.cached_text` has the one of sequences."""

_RANDOM_DOCUMENTS = 64
_RANDOM_WORDS = 150


@dataclass(frozen=True, slots=True)
class Document:
    """One document: plain text, or the messages of a conversation."""

    name: str
    text: str | None
    messages: Sequence[Mapping[str, Any]] | None = None
    place: str = ""
    """File and line, for messages; empty where nobody wrote it."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents by name; their text is read when it is needed."""

    names: Sequence[str]
    read: Callable[[int], Document]


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """Token sequences of one length, with what they leave out."""

    ids_ST: npt.NDArray[np.int32]
    supervised_ST: npt.NDArray[np.bool_]
    """Which tokens are to be predicted; the first of a sequence never is."""
    dropped_tokens: int
    """Tokens after the last whole sequence; padding them up would train on padding."""
    starts_ST: npt.NDArray[np.bool_] | None = None
    """Where documents are kept apart: the first token of each, and of what a sequence's edge cut off of one; None
    where a document sees those before it in its sequence."""
    lengths_S: npt.NDArray[np.int64] | None = None
    """Tokens of each sequence, where they come as they are: what stands behind is padding. None where all are full."""

    @property
    def num_tokens(self) -> int:
        """Tokens of all sequences, without padding."""
        return int(self.ids_ST.size if self.lengths_S is None else self.lengths_S.sum())

    def row(self, number: int) -> list[int]:
        """A sequence's tokens, without padding."""
        end = None if self.lengths_S is None else int(self.lengths_S[number])
        return [int(token) for token in self.ids_ST[number, :end]]

    @property
    def positions_ST(self) -> npt.NDArray[np.int64] | None:
        """Each token's place in its own document; None where documents are not kept apart.

        A model that is given these and no mask lets no token see another document.
        """
        return None if self.starts_ST is None else positions_of(self.starts_ST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What `prepare_data` leaves for the other stages."""

    train: Packed
    held_out_documents: tuple[npt.NDArray[np.int32], ...]
    sha256: str
    """Over all token ids, training and held-out."""


def load_corpus(source: str, *, seed: int) -> Corpus:
    """Open a corpus.

    Args:
        source: One of `SOURCES`.
        seed: For `random-words` only.

    Raises:
        MissingInputError: The file or data set is not there.
        UnknownNameError: The source has none of the known forms.
    """
    if source == "pydoc-topics":
        from pydoc_data.topics import topics

        return _in_memory([Document(name, topics[name]) for name in sorted(topics)])
    if source == "random-words":
        return _in_memory(list(_random_documents(seed)))
    if source.startswith("path:"):
        return _in_memory(_jsonl(Path(source.removeprefix("path:")).expanduser()))
    if source.startswith("hf:"):
        return _hub(source.removeprefix("hf:"))
    raise UnknownNameError("corpus source", source, SOURCES)


def split_documents(names: Sequence[str], *, held_out_share: float, seed: int) -> tuple[list[int], list[int]]:
    """Split documents into training and held-out ones, whole documents only; returns their indices.

    Documents are ordered by the sha256 of seed and name, and the first `held_out_share` of them are held out. The
    same name lands on the same side in every process and at every place in the file; the order is the training order.

    Raises:
        StillwattError: One side would be empty.

    >>> train, held_out = split_documents(["a", "b", "c", "d"], held_out_share=0.25, seed=1)
    >>> len(train), len(held_out), set(train) & set(held_out)
    (3, 1, set())
    """
    order = sorted(range(len(names)), key=lambda i: hashlib.sha256(f"{seed}:{names[i]}".encode()).digest())
    num_held_out = math.ceil(held_out_share * len(names))
    if not 0 < num_held_out < len(names):
        raise StillwattError(
            f"{num_held_out} of {len(names)} documents would be held out; training and evaluation both need some: "
            "change data.held_out_share or bring more documents"
        )
    return order[num_held_out:], order[:num_held_out]


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


def positions_of(starts_ST: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Places of tokens in their own documents, from where these start.

    >>> positions_of(np.array([[True, False, True, False, False]])).tolist()
    [[0, 1, 0, 1, 2]]
    """
    places_T = np.arange(starts_ST.shape[1])
    return places_T - np.maximum.accumulate(np.where(starts_ST, places_T, 0), axis=1)


def pack_documents(
    documents: Iterator[npt.NDArray[np.int32]], *, end_id: int, length: int, sequences: int, is_apart: bool = False
) -> Packed:
    """Join documents with an end token after each, and cut the stream into whole sequences.

    Documents are taken only until there are enough sequences. Where they are kept apart, the first token of each is
    not to be predicted: nothing stands before it. What a sequence's edge cuts off of a document stands in the next
    sequence as a document of its own, so that there is no padding.

    Raises:
        StillwattError: The documents end before that.

    >>> packed = pack_documents(iter([np.array([1, 2]), np.array([3, 4, 5])]), end_id=0, length=3, sequences=2)
    >>> packed.ids_ST.tolist(), packed.dropped_tokens
    ([[1, 2, 0], [3, 4, 5]], 1)
    """
    pieces: list[npt.NDArray[np.int32]] = []
    total, starts = 0, list[int]()
    for ids in documents:
        starts.append(total)
        pieces += [ids.astype(np.int32), np.array([end_id], dtype=np.int32)]
        total += len(ids) + 1
        if total >= length * sequences:
            break
    stream = np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int32)
    return _cut(
        stream,
        np.ones(len(stream), dtype=np.bool_),
        starts if is_apart else None,
        length=length,
        sequences=sequences,
        what="training text",
    )


def pack_samples(
    sequences: Sequence[Sequence[int]],
    prompt_lengths: Sequence[int],
    *,
    end_id: int,
    length: int,
    count: int,
    is_apart: bool = False,
) -> Packed:
    """Pack generated samples as documents are packed; only the teacher's own tokens are supervised.

    A prompt is not the teacher's text and the end token put after a completion that was cut short is ours, so neither
    is predicted; both go through the student and count as processed tokens.

    Raises:
        StillwattError: The samples hold fewer than `count` sequences of `length` tokens.

    >>> packed = pack_samples([[7, 1, 2], [8, 3, 0]], [1, 1], end_id=0, length=3, count=2)
    >>> packed.ids_ST.tolist(), packed.supervised_ST.tolist(), packed.dropped_tokens
    ([[7, 1, 2], [0, 8, 3]], [[False, True, True], [False, False, True]], 1)
    """
    ids: list[int] = []
    supervised: list[bool] = []
    starts: list[int] = []
    for sequence, prompt_length in zip(sequences, prompt_lengths, strict=True):
        starts.append(len(ids))
        ids += sequence
        supervised += [index >= prompt_length for index in range(len(sequence))]
        if sequence[-1] != end_id:
            ids.append(end_id)
            supervised.append(False)
    return _cut(
        np.asarray(ids, dtype=np.int32),
        np.asarray(supervised, dtype=np.bool_),
        starts if is_apart else None,
        length=length,
        sequences=count,
        what="generated text",
    )


def _cut(
    stream: npt.NDArray[np.int32],
    supervised: npt.NDArray[np.bool_],
    starts: Sequence[int] | None,
    *,
    length: int,
    sequences: int,
    what: str,
) -> Packed:
    wanted = length * sequences
    if len(stream) < wanted:
        raise StillwattError(
            f"the {what} holds {len(stream)} tokens and the budget is {wanted}; every token is used at most once: "
            "lower data.train_tokens" + (", or bring more text" if what == "training text" else " or reject less")
        )
    supervised_ST = supervised[:wanted].reshape(sequences, length).copy()
    supervised_ST[:, 0] = False
    starts_ST = None
    if starts is not None:
        is_start = np.zeros(len(stream), dtype=np.bool_)
        is_start[list(starts)] = True
        starts_ST = is_start[:wanted].reshape(sequences, length).copy()
        starts_ST[:, 0] = True
        supervised_ST &= ~starts_ST
    return Packed(
        ids_ST=stream[:wanted].reshape(sequences, length).copy(),
        supervised_ST=supervised_ST,
        dropped_tokens=len(stream) - wanted,
        starts_ST=starts_ST,
    )


def prompts_of(
    ids_ST: npt.NDArray[np.int32], prompt_tokens: int, lengths_S: npt.NDArray[np.int64] | None = None
) -> list[list[int]]:
    """Prompts for generation and serving: how each sequence begins, then its half, then its other quarters.

    Prompts do not overlap; parts shorter than a prompt give none, and none reaches behind a sequence's length.

    >>> ids_ST = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], dtype=np.int32)
    >>> prompts_of(ids_ST, 2)
    [[1, 2], [5, 6], [3, 4], [7, 8]]
    >>> prompts_of(ids_ST, 2, np.array([4, 3]))
    [[1, 2], [5, 6], [3, 4]]
    """
    quarter = ids_ST.shape[1] // 4
    starts = [0, 2 * quarter, quarter, 3 * quarter]
    if prompt_tokens > quarter:
        starts = starts[:2] if prompt_tokens <= 2 * quarter else starts[:1]
    ends = [ids_ST.shape[1]] * len(ids_ST) if lengths_S is None else lengths_S.tolist()
    return [
        row[start : start + prompt_tokens].tolist()
        for start in starts
        for row, end in zip(ids_ST, ends, strict=True)
        if start + min(prompt_tokens, row.size - start) <= end
    ]


def _in_memory(documents: Sequence[Document]) -> Corpus:
    return Corpus([document.name for document in documents], lambda index: documents[index])


def _random_documents(seed: int) -> Iterator[Document]:
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefghij", k=rng.randint(1, 6))) for _ in range(40)]
    for index in range(_RANDOM_DOCUMENTS):
        yield Document(f"random-{index}", " ".join(rng.choices(words, k=_RANDOM_WORDS)))


def _jsonl(path: Path) -> list[Document]:
    rows = read_rows(path, "the corpus", 'one {"text": ...} or {"messages": [...]} a line')
    return [_document(f"{number}", row, place=f"{path}:{number}") for number, row in rows]


def _document(name: str, row: Mapping[str, Any], *, place: str) -> Document:
    if isinstance(row.get("text"), str):
        return Document(name, row["text"], place=place)
    messages = row.get("messages")
    if isinstance(messages, list):
        if not all(isinstance(said, Mapping) and isinstance(said.get("role"), str) for said in messages):
            raise StillwattError(
                f'{place}: `messages` must be objects with a `role`, such as {{"role": "user", "content": "..."}}'
            )
        return Document(name, None, messages, place=place)
    raise StillwattError(f"{place}: neither `text` (a string) nor `messages` (a list); found {', '.join(sorted(row))}")


def _hub(name: str) -> Corpus:
    from stillwatt.errors import MissingExtraError

    try:
        import datasets
    except ImportError as err:
        raise MissingExtraError("datasets", "distill") from err
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    try:
        rows = datasets.load_dataset(name, split="train")
    except (OSError, ValueError) as err:
        cure = f"check the name and the network, or `hf download --repo-type dataset {name}` beforehand"
        raise MissingInputError("a hub data set", f"hf:{name}", cure) from err
    return Corpus(
        [str(index) for index in range(len(rows))],
        lambda index: _document(str(index), rows[index], place=f"hf:{name} row {index}"),
    )
