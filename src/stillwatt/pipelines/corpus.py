"""Token sequences of one length, and how documents and generated samples are packed into them without padding.

Shapes: S sequences, T tokens of a sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stillwatt.errors import StillwattError
from stillwatt.pipelines.bos import begins_with_bos, with_bos
from stillwatt.pipelines.document_tokens import DocumentTokens
from stillwatt.pipelines.passes import budget_text, settings_reaching

__all__ = ["Cut", "Packed", "Prepared", "cut_stream", "pack_documents", "pack_samples", "positions_of", "prompts_of"]


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
    """Over all token ids, training and held-out, and what else is kept of them."""
    held_out_predicted: tuple[npt.NDArray[np.bool_], ...] | None = None
    """Which tokens of each held-out document, and of the end token behind it, count in the perplexity; None: all."""
    bos_ids: tuple[int, ...] = ()
    """What the tokenizer puts before every text, and so every document, prompt and question here begins with."""


def positions_of(starts_ST: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Places of tokens in their own documents, from where these start.

    >>> positions_of(np.array([[True, False, True, False, False]])).tolist()
    [[0, 1, 0, 1, 2]]
    """
    places_T = np.arange(starts_ST.shape[1])
    return places_T - np.maximum.accumulate(np.where(starts_ST, places_T, 0), axis=1)


def pack_documents(
    documents: Iterator[DocumentTokens],
    *,
    end_id: int,
    length: int,
    sequences: int,
    is_apart: bool = False,
    bos_ids: tuple[int, ...] = (),
    epochs: int = 1,
) -> Packed:
    """Join documents with an end token after each, and cut the stream into whole sequences.

    Documents are taken only until there are enough sequences for one of the `epochs` passes. Where they are kept apart,
    the first token of each is not to be predicted: nothing stands before it. What a sequence's edge cuts off of a
    document stands in the next sequence as a document of its own, so that there is no padding. Where there is a BOS,
    which documents bring, every sequence begins with it (`cut_stream`).

    Raises:
        StillwattError: The documents end before that, or no token of the sequences is to be predicted.

    >>> given = map(DocumentTokens.whole, [np.array([1, 2]), np.array([3, 4, 5])])
    >>> packed = pack_documents(given, end_id=0, length=3, sequences=2)
    >>> packed.ids_ST.tolist(), packed.dropped_tokens
    ([[1, 2, 0], [3, 4, 5]], 1)
    """
    pieces: list[npt.NDArray[np.int32]] = []
    predicted: list[npt.NDArray[np.bool_]] = []
    total, starts = 0, list[int]()
    for document in documents:
        starts.append(total)
        pieces += [document.ids_T, np.array([end_id], dtype=np.int32)]
        predicted.append(document.predicted_E)
        total += len(document.predicted_E)
        if total >= length * sequences:
            break
    packed = _cut(
        np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int32),
        np.concatenate(predicted) if predicted else np.empty(0, dtype=np.bool_),
        starts if is_apart else None,
        length=length,
        sequences=sequences,
        if_short=lambda tokens, have: _too_little(tokens, have, sequences, length, epochs),
        bos_ids=bos_ids,
    )
    if not packed.supervised_ST.any():
        raise StillwattError(
            "no token of the training text is to be predicted: bring documents in which the assistant speaks, "
            "of more than one token"
        )
    return packed


def pack_samples(
    sequences: Sequence[Sequence[int]],
    prompt_lengths: Sequence[int],
    *,
    end_id: int,
    length: int,
    count: int,
    is_apart: bool = False,
    bos_ids: tuple[int, ...] = (),
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
        if_short=lambda tokens, _: (
            f"the generated text holds {tokens:,} tokens and {length * count:,} are needed; lower data.train_tokens, "
            "or reject less"
        ),
        bos_ids=bos_ids,
    )


def _cut(
    stream: npt.NDArray[np.int32],
    supervised: npt.NDArray[np.bool_],
    starts: Sequence[int] | None,
    *,
    length: int,
    sequences: int,
    if_short: Callable[[int, int], str],
    bos_ids: tuple[int, ...],
) -> Packed:
    is_start = np.zeros(len(stream), dtype=np.bool_)
    is_start[list(starts or ())] = True
    cut = cut_stream(stream, supervised, is_start, length=length, most=sequences, bos_ids=bos_ids)
    if len(cut.ids_ST) < sequences:
        raise StillwattError(if_short(len(stream), len(cut.ids_ST)))
    return Packed(
        ids_ST=cut.ids_ST,
        supervised_ST=cut.predicted_ST if starts is None else cut.predicted_ST & ~cut.starts_ST,
        dropped_tokens=len(stream) - cut.used,
        starts_ST=None if starts is None else cut.starts_ST,
    )


def _too_little(tokens: int, have: int, sequences: int, length: int, epochs: int) -> str:
    """What is said of text that does not make the sequences of a pass."""
    places = sequences * epochs
    more, budget = settings_reaching(have, places=places, length=length), budget_text(places * length, epochs)
    return (
        f"the training text holds {tokens:,} tokens and {budget}: {f'set {more}, ' if more else ''}lower "
        "data.train_tokens, or bring more text"
    )


class Cut(NamedTuple):
    """A stream of tokens as sequences of one length."""

    ids_ST: npt.NDArray[np.int32]
    predicted_ST: npt.NDArray[np.bool_]
    """Which of them are to be predicted; the first of a sequence never is, nor the first behind a BOS put there."""
    starts_ST: npt.NDArray[np.bool_]
    """The first token of each document, and of what a sequence's edge cut off of one."""
    used: int
    """Tokens of the stream in these sequences."""


def cut_stream(
    stream: npt.NDArray[np.int32],
    predicted: npt.NDArray[np.bool_],
    is_start: npt.NDArray[np.bool_],
    *,
    length: int,
    most: int | None = None,
    bos_ids: tuple[int, ...] = (),
) -> Cut:
    """Cut a stream into whole sequences, `most` of them at most.

    One that begins within a document begins with the BOS all the same, as models that know it give next to nothing
    where it is absent. That BOS says of what follows that it begins a document, which it does not: so its first token
    is not to be predicted.

    >>> ids = np.array([1, 7, 8, 9, 0, 1, 5, 0], dtype=np.int32)
    >>> cut = cut_stream(ids, ids > 1, np.arange(8) % 5 == 0, length=4, bos_ids=(1,))
    >>> cut.ids_ST.tolist(), cut.predicted_ST.tolist(), cut.used
    ([[1, 7, 8, 9], [1, 0, 1, 5]], [[False, True, True, True], [False, False, False, True]], 7)
    """
    places_ST = _places(stream, length, len(stream) if most is None else most, bos_ids)
    is_put_ST, places_ST = places_ST < 0, places_ST.clip(0)
    ids_ST, predicted_ST, starts_ST = stream[places_ST], predicted[places_ST], is_start[places_ST]
    if bos_ids:
        is_cut_S = is_put_ST[:, 0]
        ids_ST[is_cut_S, : len(bos_ids)] = bos_ids
        predicted_ST[is_cut_S, : len(bos_ids) + 1] = starts_ST[is_cut_S, : len(bos_ids)] = False
    predicted_ST[:, 0] = False
    starts_ST[:, 0] = True
    return Cut(ids_ST, predicted_ST, starts_ST, int(places_ST[-1, -1]) + 1 if len(places_ST) else 0)


def _places(stream: npt.NDArray[np.int32], length: int, most: int, bos_ids: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Where in the stream each sequence's tokens stand; negative where a BOS is put before them."""
    if not bos_ids:
        count = min(most, len(stream) // length)
        return np.arange(count * length).reshape(count, length)
    rows, start = list[npt.NDArray[np.int64]](), 0
    while len(rows) < most:
        put = 0 if begins_with_bos(stream[start : start + len(bos_ids)].tolist(), bos_ids) else len(bos_ids)
        if start + length - put > len(stream):
            break
        rows.append(np.concatenate([np.full(put, -1), np.arange(start, start + length - put)]))
        start += length - put
    return np.array(rows, dtype=np.int64).reshape(len(rows), length)


def prompts_of(
    ids_ST: npt.NDArray[np.int32],
    prompt_tokens: int,
    lengths_S: npt.NDArray[np.int64] | None = None,
    bos_ids: tuple[int, ...] = (),
) -> list[list[int]]:
    """Prompts for generation and serving: how each sequence begins, then its half, then its other quarters.

    Prompts do not overlap; parts shorter than a prompt give none, and none reaches behind a sequence's length. Where
    there is a BOS each begins with it, as the first of its tokens.

    >>> ids_ST = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], dtype=np.int32)
    >>> prompts_of(ids_ST, 2)
    [[1, 2], [5, 6], [3, 4], [7, 8]]
    >>> prompts_of(ids_ST, 2, np.array([4, 3]))
    [[1, 2], [5, 6], [3, 4]]
    >>> prompts_of(ids_ST, 2, bos_ids=(1,))
    [[1, 2], [1, 5], [1, 3], [1, 7]]
    """
    quarter = ids_ST.shape[1] // 4
    starts = [0, 2 * quarter, quarter, 3 * quarter]
    if prompt_tokens > quarter:
        starts = starts[:2] if prompt_tokens <= 2 * quarter else starts[:1]
    ends = [ids_ST.shape[1]] * len(ids_ST) if lengths_S is None else lengths_S.tolist()
    return [
        with_bos(row[start : start + prompt_tokens].tolist(), bos_ids)[:prompt_tokens]
        for start in starts
        for row, end in zip(ids_ST, ends, strict=True)
        if start + min(prompt_tokens, row.size - start) <= end
    ]
