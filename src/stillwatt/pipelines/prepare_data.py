"""Stage: tokenise, split by document, pack, and keep the result with its hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from stillwatt.errors import StillwattError
from stillwatt.pipelines.bos import bos_ids_of
from stillwatt.pipelines.cached_text import CachedCorpus, is_cached, load_cached
from stillwatt.pipelines.corpus import Packed, Prepared, pack_documents
from stillwatt.pipelines.document_tokens import DocumentTokens, tokenise
from stillwatt.pipelines.documents import Corpus, load_corpus, split_documents
from stillwatt.pipelines.judge_answers import needed_tokens
from stillwatt.pipelines.models import disk_errors, tokenizer_sha256
from stillwatt.pipelines.progress import Task
from stillwatt.pipelines.spec_data import ALL, DataSpec, Predict
from stillwatt.pipelines.spec_evaluate import EvaluateSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["load", "make", "num_sequences"]

_FILE = "tokens.safetensors"


def num_sequences(data: DataSpec) -> int:
    """How many sequences of text the token budget is, each of which goes through a student in every pass.

    Raises:
        StillwattError: The budget is not a whole number of sequences a pass, so arms could not keep to it.
    """
    a_pass = data.sequence_tokens * data.epochs
    count, rest = divmod(data.train_tokens, a_pass)
    if rest or not count:
        times = "" if data.epochs == 1 else f" times data.epochs = {data.epochs}"
        raise StillwattError(
            f"data.train_tokens = {data.train_tokens} is not a multiple of data.sequence_tokens = "
            f"{data.sequence_tokens}{times}; the nearest is {max(count, 1) * a_pass}"
        )
    return count


def make(
    data: DataSpec, evaluate: EvaluateSpec, tokenizer: PreTrainedTokenizerBase, out_dir: Path, *, task: Task
) -> dict[str, Any]:
    """Prepare the corpus in `out_dir` and return what was found.

    No more is tokenised than the budget and the evaluation need.

    Raises:
        StillwattError: The corpus is too small for the budget.
    """
    count = num_sequences(data)
    bos_ids = bos_ids_of(tokenizer)
    if is_cached(data.source):
        found = _from_cache(load_cached(data, count, tokenizer_sha256(tokenizer)), bos_ids, out_dir, task)
        return {**found, **_passes(data)}
    corpus = load_corpus(data.source, seed=data.seed, config=data.config, split=data.split, revision=data.revision)
    train, held_out = split_documents(corpus.names, held_out_share=data.held_out_share, seed=data.seed)
    used: list[int] = []
    packed = pack_documents(
        _tokenised(corpus, train, tokenizer, task, used, data.predict, bos_ids),
        end_id=int(tokenizer.eos_token_id),
        length=data.sequence_tokens,
        sequences=count,
        is_apart=data.packing == "documents",
        bos_ids=bos_ids,
        epochs=data.epochs,
    )
    documents = list(_enough_held_out(corpus, held_out, tokenizer, bos_ids, task, data=data, evaluate=evaluate))
    sha256 = _save(out_dir, packed, documents, bos_ids)
    return {
        "train_documents": len(used),
        "train_documents_available": len(train),
        "held_out_documents": len(documents),
        "held_out_documents_available": len(held_out),
        "train_tokens": int(packed.ids_ST.size),
        "dropped_tokens": packed.dropped_tokens,
        "held_out_tokens": int(sum(len(document.ids_T) for document in documents)),
        "corpus_sha256": sha256,
        **({"bos_ids": list(bos_ids)} if bos_ids else {}),
        **({} if data.predict == ALL else {"supervised_tokens": int(packed.supervised_ST.sum())}),
        **_passes(data),
    }


def _from_cache(found: CachedCorpus, bos_ids: tuple[int, ...], out_dir: Path, task: Task) -> dict[str, Any]:
    """Keep the sequences of a cache as they are; each stands for a document."""
    task.advance(found.train.ids_ST.size)
    return {
        "train_documents": len(found.train.ids_ST),
        "train_documents_available": found.num_train,
        "held_out_documents": len(found.held_out),
        "held_out_documents_available": len(found.held_out),
        "train_tokens": found.train.num_tokens,
        "dropped_tokens": 0,
        "held_out_tokens": int(sum(len(ids) for ids in found.held_out)),
        "corpus_sha256": _save(out_dir, found.train, [DocumentTokens.whole(ids) for ids in found.held_out], bos_ids),
        **({"bos_ids": list(bos_ids)} if bos_ids else {}),
        "names_tokenizer": found.names_tokenizer,
    }


def _passes(data: DataSpec) -> dict[str, int]:
    """How often students will see the text; nothing where it is once."""
    return {} if data.epochs == 1 else {"epochs": data.epochs}


def load(out_dir: Path) -> Prepared:
    """Read what `make` wrote.

    Raises:
        StillwattError: It is gone, or cut short.
    """
    try:
        arrays = load_file(out_dir / _FILE)
    except (OSError, SafetensorError) as err:
        raise StillwattError(f"{out_dir / _FILE}: the prepared tokens cannot be read ({err}); begin a new run") from err
    lengths = arrays["held_out_lengths"]
    starts_ST = arrays["train_starts"].astype(np.bool_) if "train_starts" in arrays else None
    supervised_ST = _by_default(arrays["train_ids"].shape, starts_ST)
    if "train_supervised" in arrays:
        supervised_ST = arrays["train_supervised"].astype(np.bool_)
    predicted = None
    if "held_out_predicted" in arrays:
        predicted = tuple(np.split(arrays["held_out_predicted"].astype(np.bool_), np.cumsum(lengths + 1)[:-1]))
    bos_ids = tuple(arrays["bos_ids"].tolist()) if "bos_ids" in arrays else ()
    packed = Packed(
        ids_ST=arrays["train_ids"],
        supervised_ST=supervised_ST,
        dropped_tokens=int(arrays["dropped_tokens"][0]),
        starts_ST=starts_ST,
        lengths_S=arrays.get("train_lengths"),
    )
    documents = tuple(np.split(arrays["held_out_ids"], np.cumsum(lengths)[:-1]))
    return Prepared(
        train=packed,
        held_out_documents=documents,
        sha256=_hash(packed.ids_ST, documents, _beside(packed, predicted, bos_ids)),
        held_out_predicted=predicted,
        bos_ids=bos_ids,
    )


def _tokenised(
    corpus: Corpus,
    indices: list[int],
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    used: list[int],
    predict: Predict,
    bos_ids: tuple[int, ...],
) -> Iterator[DocumentTokens]:
    for index in indices:
        document = tokenise(tokenizer, corpus.read(index), predict=predict, bos_ids=bos_ids)
        used.append(index)
        task.advance(len(document.ids_T))
        yield document


def _enough_held_out(
    corpus: Corpus,
    indices: list[int],
    tokenizer: PreTrainedTokenizerBase,
    bos_ids: tuple[int, ...],
    task: Task,
    *,
    data: DataSpec,
    evaluate: EvaluateSpec,
) -> Iterator[DocumentTokens]:
    """Held-out documents until perplexity, twice the choice items and the judge have text; distractors want a few."""
    per_item = evaluate.choice_context_tokens + evaluate.choice_continuation_tokens
    wanted = evaluate.perplexity_tokens + data.sequence_tokens + 2 * evaluate.choice_items * per_item
    wanted = max(wanted, needed_tokens(evaluate.judge) if evaluate.judge else 0)
    total, num_documents = 0, 0
    for document in _tokenised(corpus, indices, tokenizer, task, [], data.predict, bos_ids):
        yield document
        total, num_documents = total + len(document.ids_T), num_documents + 1
        if total >= wanted and num_documents >= 8:
            return


def _by_default(shape: tuple[int, ...], starts_ST: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.bool_]:
    """What is to be predicted where nothing else is kept: all but the first token of a sequence, or of a document."""
    if starts_ST is not None:
        return ~starts_ST
    supervised_ST = np.ones(shape, dtype=np.bool_)
    supervised_ST[:, 0] = False
    return supervised_ST


def _save(out_dir: Path, packed: Packed, documents: Sequence[DocumentTokens], bos_ids: tuple[int, ...]) -> str:
    out_dir.mkdir(parents=True, exist_ok=True)
    ids = [document.ids_T for document in documents]
    predicted = tuple(document.predicted_E for document in documents)
    beside = _beside(packed, None if all(each.all() for each in predicted) else predicted, bos_ids)
    arrays: dict[str, npt.NDArray[Any]] = {
        "train_ids": packed.ids_ST,
        "dropped_tokens": np.asarray([packed.dropped_tokens], dtype=np.int64),
        "held_out_ids": np.concatenate(ids),
        "held_out_lengths": np.asarray([len(each) for each in ids], dtype=np.int64),
        **beside,
    }
    with disk_errors(out_dir / _FILE):
        save_file(arrays, out_dir / _FILE)
    return _hash(packed.ids_ST, ids, beside)


def _beside(
    packed: Packed, predicted: tuple[npt.NDArray[np.bool_], ...] | None, bos_ids: tuple[int, ...]
) -> dict[str, npt.NDArray[Any]]:
    """What is kept beside the tokens; nothing where all of plain text is to be predicted."""
    found: dict[str, npt.NDArray[Any]] = {}
    if packed.starts_ST is not None:
        found["train_starts"] = packed.starts_ST.astype(np.uint8)
    if packed.lengths_S is not None:
        found["train_lengths"] = packed.lengths_S
    is_plain = np.array_equal(packed.supervised_ST, _by_default(packed.ids_ST.shape, packed.starts_ST))
    if packed.lengths_S is not None or not is_plain:
        found["train_supervised"] = packed.supervised_ST.astype(np.uint8)
    if predicted is not None:
        found["held_out_predicted"] = np.concatenate(predicted).astype(np.uint8)
    if bos_ids:
        found["bos_ids"] = np.asarray(bos_ids, dtype=np.int32)
    return found


def _hash(
    ids_ST: npt.NDArray[np.int32], documents: Sequence[npt.NDArray[np.int32]], beside: Mapping[str, npt.NDArray[Any]]
) -> str:
    digest = hashlib.sha256()
    for ids in (ids_ST, *documents, *beside.values()):
        digest.update(f"{ids.shape}".encode())
        digest.update(np.ascontiguousarray(ids, dtype="<i4").tobytes())
    return digest.hexdigest()
