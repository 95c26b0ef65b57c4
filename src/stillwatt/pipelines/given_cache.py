"""A logit cache that a recipe names in stead of having its teacher write one: whether it fits, and what it cost.

What is in its header is looked at before anything is spent; every byte, the models and the text when the data are
prepared. Which cache it was is kept by hash, so that another one in its place is no way to go on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from stillwatt.errors import ArtifactError, MissingInputError, StillwattError
from stillwatt.pipelines.artifacts import file_sha256
from stillwatt.pipelines.cached_rows import CachedReader
from stillwatt.pipelines.cached_text import cache_dir, open_given
from stillwatt.pipelines.caches import CODED_SCHEMA, check_tokenizer
from stillwatt.pipelines.logit_cache import LogitCache
from stillwatt.pipelines.logit_headers import INDEX_NAME
from stillwatt.pipelines.logit_shards import read_index
from stillwatt.pipelines.logit_text import sequences_sha256
from stillwatt.pipelines.spec import PipelineSpec, held_by

if TYPE_CHECKING:
    from stillwatt.pipelines.cache.reader import CodedCache
    from stillwatt.pipelines.corpus import Packed
    from stillwatt.pipelines.objectives.registry import Source
    from stillwatt.pipelines.spec import GivenCacheSpec

__all__ = ["NO_TOKENIZER", "Head", "Models", "check_given", "check_length", "given_sha256", "read_head"]

_KEY = "teacher_logits.source"
_MAKE = "let [teacher_logits] have the teacher write one"
NO_TOKENIZER = (
    "{directory} does not name its tokenizer, so nothing here shows that its ids are this recipe's tokens; convert its "
    "table with --tokenizer-sha256 to have it checked"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a cache says of itself, before its bytes are read."""

    temperature: float
    source: Source
    """What a loss finds in it."""
    sequences: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """What a cache must fit."""

    tokenizer_sha256: str
    num_tokens: int
    """One more than the tokenizer's greatest id."""
    rows: Mapping[str, int]
    """Rows of the output layers, by model."""
    fewest_rows: int
    """Rows of the student that has fewest."""


def read_head(given: GivenCacheSpec) -> Head:
    """Read what a cache says of itself; its rows are not looked at.

    Raises:
        MissingInputError: There is no such folder.
        StillwattError: It is no cache, damaged, or its writer was never done.
    """
    directory = cache_dir(given.directory)
    if not directory.is_dir():
        cure = f"name the folder of a sealed cache, bring a table in with `stillwatt cache convert`, or {_MAKE}"
        raise MissingInputError(f"the logit cache of {_KEY}", str(directory), cure)
    try:
        index = _index(directory)
    except ArtifactError as err:
        cure = f"`stillwatt cache verify {directory}` says more; copy it again, or {_MAKE}"
        raise StillwattError(f"{_KEY}: {directory} is no sealed logit cache: {err.detail}; {cure}") from err
    if not index["is_complete"]:
        cure = "let what writes it finish (a conversion that is begun again goes on)"
        raise StillwattError(
            f"{_KEY}: the logit cache {directory} is not sealed: its writing was not completed; {cure}"
        )
    return Head(
        temperature=float(index["temperature"]),
        source=held_by(index["scheme"]["name"] if "scheme" in index else None),
        sequences=sum(int(shard["sequences"]) for shard in index["shards"]),
    )


def _index(directory: Path) -> dict[str, Any]:
    try:
        schema = json.loads((directory / INDEX_NAME).read_text(encoding="utf-8")).get("schema")
    except (OSError, ValueError, AttributeError):
        schema = None  # told by the reader
    if schema == CODED_SCHEMA:
        from stillwatt.pipelines.cache.files import read_coded_index

        return read_coded_index(directory)
    return read_index(directory)


def given_sha256(given: GivenCacheSpec) -> str | None:
    """The hash that stands for the whole cache as it lies there now; None where it is gone."""
    path = cache_dir(given.directory) / INDEX_NAME
    return file_sha256(path) if path.is_file() else None


def check_given(spec: PipelineSpec, train: Packed, models: Models) -> dict[str, Any]:
    """Check every byte of the cache, and that it is of these models' tokens and of this text.

    Returns:
        What a stage that writes a cache tells of it (`artifact_sha256`, `bytes`, `bytes_per_token`, `kept_mass`,
        `positions`), and `names_tokenizer`: whether its tokens could be checked.

    Raises:
        StillwattError: It is damaged, or of another vocabulary, tokenizer or text; or it does not know its text.
    """
    assert spec.given_cache is not None  # the caller has seen to it
    directory = cache_dir(spec.given_cache.directory)
    cache = open_given(directory, _KEY)
    check_tokenizer(f"{_KEY}: {directory}", cache.inputs, models.tokenizer_sha256)
    names_tokenizer = "tokenizer_sha256" in cache.inputs
    _check_vocabulary(cache.vocab_size, models, directory, is_same=names_tokenizer)
    _check_text(cache, train, spec, directory)
    _check_rows(cache, train, models, directory)
    return {
        "artifact_sha256": cache.sha256,
        "bytes": cache.bytes,
        "bytes_per_token": cache.bytes_per_token,
        "kept_mass": cache.kept_mass,
        "positions": cache.num_rows,
        "names_tokenizer": names_tokenizer,
    }


def _check_vocabulary(size: int, models: Models, directory: Path, *, is_same: bool) -> None:
    """Output layers are padded each its own way: sizes may differ where the tokenizer is known to be the same one."""
    alike = {models.num_tokens, *models.rows.values()}
    if size >= models.num_tokens and (is_same or size in alike):
        return
    told = ", ".join(f"{model} {rows}" for model, rows in models.rows.items())
    raise StillwattError(
        f"{_KEY}: {directory} is of a vocabulary of {size}, and here the tokenizer has {models.num_tokens} tokens "
        f"(output rows: {told}); give a cache of these tokens, or name their hash on converting (--tokenizer-sha256) "
        "where only padding differs"
    )


def _check_text(cache: LogitCache | CodedCache, train: Packed, spec: PipelineSpec, directory: Path) -> None:
    """Rows are used by the numbers of their sequences, so the sequences must be the same, from the first on."""
    sequences, order = [train.row(number) for number in range(len(train.ids_ST))], cache.sequence_indices
    if len(order) < len(sequences):
        raise StillwattError(_too_few(directory, len(order), len(sequences)))
    wanted = sequences_sha256(sequences)
    found = cache.inputs.get("sequences_sha256")
    if cache.holds_text:
        found = sequences_sha256(cache.text(index).tokens_T for index in order[: len(sequences)])
    if found is None:
        raise StillwattError(
            f"{_KEY}: {directory} says nothing of the text it is about, so its rows cannot be set against any; convert "
            "its table anew with this release, which keeps the text"
        )
    if found != wanted:
        raise StillwattError(
            f"{_KEY}: the text of {directory} has the hash {found}, and data.source {spec.data.source!r} gives "
            f"{len(sequences)} sequences with {wanted}; {_cure(cache, directory)}"
        )
    _check_packing(cache, train, directory)


def _cure(cache: LogitCache | CodedCache, directory: Path) -> str:
    if cache.holds_text:
        return f'train on its own text with data.source = "cache:{directory}", or {_MAKE}'
    return f"bring back the text, sequence_tokens and train_tokens that it was made with, or {_MAKE}"


def _check_rows(cache: LogitCache | CodedCache, train: Packed, models: Models, directory: Path) -> None:
    """A teacher with more rows of padding may have kept one of them: a student has none to set against it."""
    if cache.vocab_size <= models.fewest_rows:
        return
    reader = CachedReader(cache, is_even=True)
    for number in range(len(train.ids_ST)):
        ids_NK = reader.read([number], torch.ones(1, len(train.row(number)) - 1, dtype=torch.bool)).ids_NK
        if ids_NK.numel() and int(ids_NK.max()) >= models.fewest_rows:
            raise StillwattError(
                f"{_KEY}: {directory} keeps output row {int(ids_NK.max())} of its teacher in sequence {number}, and a "
                f"student has {models.fewest_rows}: no token has that row, and no student here learns it; {_MAKE}, "
                "which leaves such rows out"
            )


def _check_packing(cache: LogitCache | CodedCache, train: Packed, directory: Path) -> None:
    positions_ST = train.positions_ST
    wanted = None if positions_ST is None else sequences_sha256(positions_ST)
    found = cache.inputs.get("positions_sha256")
    if found != wanted:
        raise StillwattError(
            f"{_KEY}: {directory} was made with {_packing(found)}, and data.packing gives {_packing(wanted)}; set it "
            f"as the cache has it, or {_MAKE}"
        )


def _packing(positions_sha256: str | None) -> str:
    return "packing 'stream'" if positions_sha256 is None else f"packing 'documents', positions {positions_sha256}"


def _too_few(directory: Path, found: int, wanted: int) -> str:
    return (
        f"{_KEY}: {directory} holds {found} sequences, and data.train_tokens asks for {wanted}; lower it, raise "
        "data.epochs (passes over them), or give a larger cache"
    )


def check_length(head: Head, given: GivenCacheSpec, sequences: int) -> None:
    """Refuse a cache of too few sequences.

    Raises:
        StillwattError: With both numbers.
    """
    if head.sequences < sequences:
        raise StillwattError(_too_few(cache_dir(given.directory), head.sequences, sequences))
