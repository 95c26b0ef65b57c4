"""Headers of logit caches, `index.json`: sealed with a hash of themselves, and read as nothing but what they must be.

Rows and shards have their hashes in the header; what the header says of vocabulary, temperature, scheme and inputs has
none but its own (`header_sha256`), and that of the `artifact.json` which a run puts beside a cache.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from stillwatt.errors import ArtifactError
from stillwatt.pipelines.artifacts import RECORD_NAME, canonical_json, file_sha256, write_json

__all__ = [
    "INDEX_NAME",
    "MOST_TOKENS",
    "Rule",
    "Rules",
    "broken",
    "check_complete",
    "check_fields",
    "is_count",
    "is_hash",
    "is_number",
    "is_table",
    "not_vouched_for",
    "read_header",
    "write_header",
]

INDEX_NAME = "index.json"
MOST_TOKENS = 1 << 22
"""The largest vocabulary: many times those in use, and what its tables take is still memory that machines have."""
_OWN_HASH = "header_sha256"
_HASH_DIGITS = 64
_CURE = "copy the folder again from where it was whole, or remove it and let what wrote it make it again"
_UNKNOWN = (
    f"what its {INDEX_NAME} says of vocabulary, temperature, scheme and inputs: it was written before headers had a "
    "hash, so only what the rows contradict is found"
)


class Rule(NamedTuple):
    """What one value of a header must be."""

    fits: Callable[[Any], bool]
    what: str


Rules = Mapping[str, Rule]


def broken(directory: Path, detail: str) -> ArtifactError:
    """The error of a cache that contradicts itself, with what to do about it."""
    return ArtifactError(str(directory), detail, _CURE)


def is_count(value: Any) -> bool:
    """Whether it is a whole number of at least 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_number(value: Any) -> bool:
    """Whether it is a number; NaN is none."""
    return (
        isinstance(value, float | int)
        and not isinstance(value, bool)
        and not (isinstance(value, float) and math.isnan(value))
    )


def is_table(value: Any) -> bool:
    """Whether it has values by name."""
    return isinstance(value, dict)


def is_hash(value: Any) -> bool:
    """Whether it looks like a sha256 in hex."""
    return isinstance(value, str) and len(value) == _HASH_DIGITS and set(value) <= set("0123456789abcdef")


_RULES: Rules = {
    "vocab_size": Rule(lambda v: is_count(v) and 1 <= v <= MOST_TOKENS, f"a whole number from 1 to {MOST_TOKENS}"),
    "temperature": Rule(lambda v: is_number(v) and 0 < v <= sys.float_info.max, "a number above 0"),
    "inputs": Rule(is_table, "a table"),
    "is_complete": Rule(lambda v: isinstance(v, bool), "true or false"),
    "shards": Rule(lambda v: isinstance(v, list) and all(map(is_table, v)), "a list of tables"),
}


def write_header(directory: Path, index: Mapping[str, Any]) -> None:
    """Write a header with the hash of all else in it, in one step."""
    values = {key: value for key, value in index.items() if key != _OWN_HASH}
    write_json(directory / INDEX_NAME, {**values, _OWN_HASH: _sha256(values)})


def read_header(directory: Path, schema: str, rules: Rules, shard_rules: Rules) -> dict[str, Any]:
    """Read a cache's header and check it: its hash, that of `artifact.json` where there is one, keys and types.

    Args:
        directory: The cache.
        schema: The format it must be of.
        rules: What the format has beside what all formats have.
        shard_rules: What it says of each shard.

    Raises:
        ArtifactError: It is missing, unreadable, of another format, changed, or not what a header must be.
    """
    try:
        text = (directory / INDEX_NAME).read_text(encoding="utf-8")
        index = json.loads(text, parse_constant=_refuse)
        found = index["schema"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as err:
        raise broken(directory, f"its {INDEX_NAME} cannot be read ({type(err).__name__}: {err})") from err
    if found != schema:
        raise broken(directory, f"its format is {found!r}, not {schema!r}")
    check_fields(directory, f"its {INDEX_NAME}", index, {**_RULES, **rules})
    for number, shard in enumerate(index["shards"]):
        check_fields(directory, f"its {INDEX_NAME}, shard {number},", shard, shard_rules)
    said = index.get(_OWN_HASH)
    if said is not None and said != _sha256({key: value for key, value in index.items() if key != _OWN_HASH}):
        raise broken(directory, f"its {INDEX_NAME} has changed since it was sealed: it does not have its own hash")
    _check_record(directory)
    return dict(index)


def check_complete(directory: Path, index: Mapping[str, Any], next_shard: Path) -> None:
    """Refuse a cache that is still being written, or that has a shard its header does not name.

    Args:
        directory: The cache.
        index: Its header.
        next_shard: Where a shard would lie if there were one more.

    Raises:
        ArtifactError: Says which of the two.
    """
    if not index["is_complete"]:
        raise ArtifactError(str(directory), "its writing was never completed")
    if next_shard.exists():
        detail = f"its {INDEX_NAME} names {len(index['shards'])} shards, and {next_shard.name} lies there too"
        raise broken(directory, detail)


def not_vouched_for(directory: Path, index: Mapping[str, Any]) -> str | None:
    """What of a cache that was opened no hash speaks for; None where all of it is under one."""
    return None if _OWN_HASH in index or (directory / RECORD_NAME).is_file() else _UNKNOWN


def check_fields(directory: Path, place: str, values: Mapping[str, Any], rules: Rules) -> None:
    """Refuse what lacks a value, or has one of another kind.

    Raises:
        ArtifactError: With the value's name, what it is and what it must be.
    """
    missing = [name for name in rules if name not in values]
    if missing:
        raise broken(directory, f"{place} lacks {', '.join(missing)}")
    for name, rule in rules.items():
        if not rule.fits(values[name]):
            raise broken(directory, f"{place} says {name} = {_short(values[name])}, which must be {rule.what}")


def _check_record(directory: Path) -> None:
    """Hold a header against the hash in the record of the run that made the cache."""
    path = directory / RECORD_NAME
    if not path.is_file():
        return
    try:
        said = json.loads(path.read_text(encoding="utf-8"))["files"][INDEX_NAME]
    except (OSError, ValueError, KeyError, TypeError) as err:
        detail = f"its {RECORD_NAME} cannot be read or has no hash of {INDEX_NAME} ({type(err).__name__})"
        raise broken(directory, detail) from err
    if said != file_sha256(directory / INDEX_NAME):
        raise broken(directory, f"its {INDEX_NAME} has changed since the run that made it hashed it ({RECORD_NAME})")


def _sha256(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(dict(values)).encode()).hexdigest()


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number that JSON has")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _HASH_DIGITS else f"{text[:_HASH_DIGITS]}…"
