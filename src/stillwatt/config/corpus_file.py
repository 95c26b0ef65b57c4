"""What can be said of a corpus that is a file on this machine, with no tokenizer at hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stillwatt.errors import StillwattError

if TYPE_CHECKING:
    from stillwatt.pipelines.documents import Corpus
    from stillwatt.pipelines.spec_data import DataSpec

__all__ = ["check_size", "read_corpus"]

_PATH = "path:"
_MOST_BYTES = 64_000_000
"""Of a file that is read as a recipe is checked; of a larger one its size is looked at alone."""


def read_corpus(data: DataSpec) -> Corpus | None:
    """The documents of a file; None where the corpus is no file, or too large a one to be read for a check.

    Raises:
        MissingInputError: It is not there.
        StillwattError: It is empty, or a row is no document.
    """
    from stillwatt.pipelines.documents import load_corpus

    if not data.source.startswith(_PATH):
        return None
    path = Path(data.source.removeprefix(_PATH)).expanduser()
    if path.is_file() and path.stat().st_size > _MOST_BYTES:
        return None
    return load_corpus(data.source, seed=data.seed)


def check_size(data: DataSpec, corpus: Corpus) -> None:
    """Refuse documents with fewer tokens than a pass of the budget whatever the tokenizer: a token is a byte or more.

    Conversations are let be, since what a chat template writes around them is not known here.

    Raises:
        StillwattError: With both figures.
    """
    from stillwatt.pipelines.documents import split_documents
    from stillwatt.pipelines.passes import budget_text, settings_reaching

    train, _ = split_documents(corpus.names, held_out_share=data.held_out_share, seed=data.seed)
    documents = [corpus.read(index) for index in train]
    if any(document.messages is not None for document in documents):
        return
    # some tokenizers put one before a text, and an end token stands behind each
    most = sum(len((document.text or "").encode()) + 2 for document in documents)
    if most < data.text_tokens:
        length = data.sequence_tokens
        more = settings_reaching(most // length, places=data.train_tokens // length, length=length)
        raise StillwattError(
            f"the {len(documents):,} documents of {data.source} that are trained on hold {most:,} tokens at most, and "
            f"{budget_text(data.train_tokens, data.epochs)}: {f'set {more} or more, ' if more else ''}lower "
            "data.train_tokens, or bring more text"
        )
