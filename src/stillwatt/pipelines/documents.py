"""Where documents come from, and how they are split into those that are trained on and those that are held out."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillwatt.errors import MissingInputError, StillwattError, UnknownNameError
from stillwatt.pipelines.jsonl import read_rows
from stillwatt.pipelines.spec_data import ASSISTANT, DataSpec

__all__ = ["SOURCES", "Corpus", "Document", "check_answered", "check_corpus", "load_corpus", "split_documents"]

SOURCES = ("pydoc-topics", "random-words", "path:FILE.jsonl", "hf:ORG/NAME")
"""The forms that a source of documents can take; `pipelines.cached_text` has the one of sequences."""

_RANDOM_DOCUMENTS = 64
_RANDOM_WORDS = 150


@dataclass(frozen=True, slots=True)
class Document:
    """One document: plain text, a prompt with its completion, or the messages of a conversation."""

    name: str
    text: str | None
    messages: Sequence[Mapping[str, Any]] | None = None
    place: str = ""
    """File and line, for error messages; empty where nobody wrote it."""
    asked: int | None = None
    """How many characters of `text`, or of `messages` how many, are the prompt; None where that is not said."""


def check_answered(document: Document) -> None:
    """Refuse a document that does not say what is the assistant's.

    Raises:
        StillwattError: It is plain text.
    """
    if document.messages is None and document.asked is None:
        raise StillwattError(
            f"{document.place or document.name}: a `text` row does not say what is the assistant's, and data.predict = "
            '"assistant" predicts nothing else; give `messages`, or `prompt` and `completion`, or set data.predict = '
            '"all"'
        )


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents by name; their text is read when it is needed."""

    names: Sequence[str]
    read: Callable[[int], Document]


def load_corpus(
    source: str, *, seed: int, config: str | None = None, split: str = "train", revision: str | None = None
) -> Corpus:
    """Open a corpus.

    Args:
        source: One of `SOURCES`.
        seed: For `random-words` only.
        config: Which of a hub data set's configurations.
        split: Which of its splits.
        revision: Its branch, tag or commit.

    Raises:
        MissingInputError: The file or data set is not there.
        StillwattError: The data set has several configurations, or not that one, or not that split.
        UnknownNameError: The source has none of the known forms.
    """
    if source == "pydoc-topics":
        from pydoc_data.topics import topics

        return _in_memory([Document(name, topics[name]) for name in sorted(topics)])
    if source == "random-words":
        return _in_memory(list(_random_documents(seed)))
    if source.startswith("path:"):
        return _in_memory(_jsonl(_file(source)))
    if source.startswith("hf:"):
        return _hub(source.removeprefix("hf:"), config, split, revision)
    raise UnknownNameError("corpus source", source, SOURCES)


def check_corpus(data: DataSpec) -> None:
    """Refuse, before anything is spent, a file whose rows cannot be trained on as the recipe asks.

    Raises:
        MissingInputError: It is not there.
        StillwattError: It is empty, a row is not as it should be, or does not say what is the assistant's.
    """
    if not data.source.startswith("path:"):
        return
    for document in _jsonl(_file(data.source)):
        if data.predict == ASSISTANT:
            check_answered(document)


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


def _in_memory(documents: Sequence[Document]) -> Corpus:
    return Corpus([document.name for document in documents], lambda index: documents[index])


def _random_documents(seed: int) -> Iterator[Document]:
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefghij", k=rng.randint(1, 6))) for _ in range(40)]
    for index in range(_RANDOM_DOCUMENTS):
        yield Document(f"random-{index}", " ".join(rng.choices(words, k=_RANDOM_WORDS)))


def _file(source: str) -> Path:
    return Path(source.removeprefix("path:")).expanduser()


def _jsonl(path: Path) -> list[Document]:
    form = 'one {"text": ...}, {"messages": [...]} or {"prompt": ..., "completion": ...} a line'
    rows = read_rows(path, "the corpus", form)
    return [_document(f"{number}", row, place=f"{path}:{number}") for number, row in rows]


def _document(name: str, row: Mapping[str, Any], *, place: str) -> Document:
    if isinstance(row.get("text"), str):
        return Document(name, row["text"], place=place)
    messages = row.get("messages")
    if isinstance(messages, list):
        return Document(name, None, _said(messages, "messages", place), place=place)
    if "prompt" in row and "completion" in row:
        return _asked(name, row["prompt"], row["completion"], place)
    raise StillwattError(
        f"{place}: neither `text` (a string), `messages` (a list) nor `prompt` and `completion`; "
        f"found {', '.join(sorted(row))}"
    )


def _said(messages: list[Any], key: str, place: str) -> list[Any]:
    if not all(isinstance(said, Mapping) and isinstance(said.get("role"), str) for said in messages):
        raise StillwattError(
            f'{place}: `{key}` must be objects with a `role`, such as {{"role": "user", "content": "..."}}'
        )
    return messages


def _asked(name: str, prompt: Any, completion: Any, place: str) -> Document:
    if isinstance(prompt, str) and isinstance(completion, str) and completion:
        return Document(name, prompt + completion, place=place, asked=len(prompt))
    if isinstance(prompt, list) and isinstance(completion, list) and prompt:
        messages = [*_said(prompt, "prompt", place), *_said(completion, "completion", place)]
        if any(said["role"] == "assistant" for said in messages[len(prompt) :]):
            return Document(name, None, messages, place=place, asked=len(prompt))
    raise StillwattError(
        f"{place}: `prompt` and `completion` are both strings, or both lists of messages, of which the assistant's are "
        "in the completion; neither may be empty"
    )


def _hub(name: str, config: str | None, split: str, revision: str | None) -> Corpus:
    from stillwatt.errors import MissingExtraError

    try:
        import datasets
    except ImportError as err:
        raise MissingExtraError("datasets", "distill") from err
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    try:
        rows = datasets.load_dataset(name, config, split=split, revision=revision)
    except OSError as err:
        cure = f"check the name and the network, or `hf download --repo-type dataset {name}` beforehand"
        raise MissingInputError(f"a hub data set ({_words(err)})", f"hf:{name}", cure) from err
    except (ValueError, RuntimeError, datasets.exceptions.DatasetsError) as err:
        cure = "data.config names one of its configurations, data.split one of its splits"
        raise StillwattError(f"data.source: hf:{name} cannot be read: {_words(err)}; {cure}") from err
    return Corpus(
        [str(index) for index in range(len(rows))],
        lambda index: _document(str(index), rows[index], place=f"hf:{name} row {index}"),
    )


def _words(err: Exception) -> str:
    r"""An error's own words on one line, those of what it came from behind them.

    >>> _words(ValueError("Config name is missing.\nPick one of ['main', 'socratic']"))
    "Config name is missing. Pick one of ['main', 'socratic']"
    """
    said = " ".join(str(err).split()) or type(err).__name__
    return f"{said}: {_words(err.__cause__)}" if isinstance(err.__cause__, Exception) else said
