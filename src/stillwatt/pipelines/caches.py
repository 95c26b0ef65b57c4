"""Opens a logit cache of either format; the coded one is imported only where there is one to read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillwatt.errors import UsageError
from stillwatt.pipelines.logit_cache import LogitCache
from stillwatt.pipelines.logit_shards import INDEX_NAME

if TYPE_CHECKING:
    from stillwatt.pipelines.cache.reader import CodedCache

__all__ = ["CODED_SCHEMA", "check_tokenizer", "open_cache"]

CODED_SCHEMA = "stillwatt.logit_cache/2"


def open_cache(directory: Path, *, tokenizer_sha256: str | None = None) -> LogitCache | CodedCache:
    """Open a cache of either format, every byte checked.

    Raises:
        ArtifactError: It is unfinished or damaged.
        UsageError: It is of another tokenizer.
        MissingExtraError: It is a coded one, and the extra `cache` is not installed.
    """
    try:
        schema = json.loads((directory / INDEX_NAME).read_text(encoding="utf-8")).get("schema")
    except (OSError, ValueError, AttributeError):
        schema = None  # told by the reader
    cache: LogitCache | CodedCache
    if schema == CODED_SCHEMA:
        from stillwatt.pipelines.cache.reader import CodedCache

        cache = CodedCache.open(directory)
    else:
        cache = LogitCache.open(directory)
    if tokenizer_sha256 is not None:
        check_tokenizer(str(directory), cache.inputs, tokenizer_sha256)
    return cache


def check_tokenizer(place: str, inputs: Mapping[str, Any], wanted: str) -> None:
    """Refuse a cache of another tokenizer; one that does not say is taken.

    Raises:
        UsageError: With both hashes.
    """
    found = inputs.get("tokenizer_sha256")
    if found is not None and found != wanted:
        raise UsageError(
            f"{place}: its teacher's tokenizer has the hash {found}, and {wanted} is wanted; ids mean other tokens "
            "there: make the cache with this tokenizer"
        )
