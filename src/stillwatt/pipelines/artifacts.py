"""Teacher artefacts: folders named by what went into them, checked by what is in them.

An artefact's id is `<kind>-<first 12 hex digits of the sha256 of its inputs>`, so that a second run with the same
teacher, text and settings finds it. It is written beside its place and moved there whole; `artifact.json` keeps
the inputs, a hash of every file, and the stage that paid for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from stillwatt.errors import ArtifactError

__all__ = [
    "RECORD_NAME",
    "Artifact",
    "artifact_id",
    "file_sha256",
    "find_artifact",
    "open_artifact",
    "publish_dir",
    "read_record",
    "remove_unfinished",
    "seal_artifact",
    "whole_file",
]

ARTIFACT_SCHEMA = "stillwatt.artifact/1"
RECORD_NAME = "artifact.json"
_BLOCK_BYTES = 1 << 20
_UNFINISHED = ".unfinished"
"""How the name of a file ends that does not have its own yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One checked artefact."""

    artifact_id: str
    kind: str
    """`logits` or `text`."""
    directory: Path
    sha256: str
    """One hash over all of its files."""
    bytes: int
    made_by: Mapping[str, str]
    """`run_id` and `stage_id`: where its energy is booked; empty where that is nowhere."""
    results: Mapping[str, Any]
    """What its making stage found."""


def artifact_id(kind: str, inputs: Mapping[str, Any]) -> str:
    """Name an artefact by its inputs; the order of keys does not matter.

    >>> artifact_id("logits", {"a": 1, "b": 2}) == artifact_id("logits", {"b": 2, "a": 1})
    True
    """
    return f"{kind}-{hashlib.sha256(canonical_json(inputs).encode()).hexdigest()[:12]}"


def canonical_json(value: Any) -> str:
    """JSON that is the same for equal values: keys sorted, no spaces, no NaN.

    >>> canonical_json({"b": 1, "a": [1.5, None]})
    '{"a":[1.5,null],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def seal_artifact(
    directory: Path,
    target: Path,
    *,
    kind: str,
    inputs: Mapping[str, Any],
    results: Mapping[str, Any],
    made_by: Mapping[str, str],
) -> Artifact:
    """Hash a finished folder, write its `artifact.json`, and move it to its place in one step.

    What a killed attempt had written there and not yet given its name is no part of it.
    """
    remove_unfinished(directory)
    files = _hash_files(directory)
    record = {
        "schema": ARTIFACT_SCHEMA,
        "kind": kind,
        "inputs": dict(inputs),
        "files": files,
        "sha256": _sum_of(files),
        "bytes": sum(path.stat().st_size for path in _content(directory)),
        "results": dict(results),
        "made_by": dict(made_by),
    }
    write_json(directory / RECORD_NAME, record)
    publish_dir(directory, target)
    return _from_record(target, record)


def find_artifact(target: Path) -> Artifact | None:
    """The artefact at that place, or None where there is none.

    Raises:
        ArtifactError: There is one and it fails its check; it has been set aside.
    """
    return open_artifact(target) if target.exists() else None


def open_artifact(target: Path) -> Artifact:
    """Open an artefact and check every file against its hash.

    Raises:
        ArtifactError: A file is missing, changed or extra; the folder has been renamed to `<name>.bad`.
    """
    try:
        record = json.loads((target / RECORD_NAME).read_text(encoding="utf-8"))
        expected, kind = dict(record["files"]), str(record["kind"])
        name = artifact_id(kind, record["inputs"])
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise _set_aside(target, f"its {RECORD_NAME} cannot be read ({type(err).__name__})") from None
    if name != target.name:
        raise _set_aside(target, f"its inputs belong to {name}")
    found = _hash_files(target)
    for path in sorted(expected.keys() | found.keys()):
        if path not in found:
            raise _set_aside(target, f"{path} is missing")
        if expected.get(path) != found[path]:
            raise _set_aside(target, f"{path} has changed since it was written")
    return _from_record(target, record)


def read_record(directory: Path) -> dict[str, Any] | None:
    """What is written in an artefact's folder about it, unchecked; None where that is nothing that can be read."""
    try:
        record = json.loads((directory / RECORD_NAME).read_text(encoding="utf-8"))
        return dict(record) if isinstance(record["made_by"]["run_id"], str) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def publish_dir(directory: Path, target: Path) -> None:
    """Move a finished folder to its place; if another process was faster, theirs stays and this one is dropped."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.replace(directory, target)
    except OSError:
        if not target.is_dir():
            raise
        shutil.rmtree(directory, ignore_errors=True)


def replace_dir(directory: Path, target: Path) -> None:
    """Move a finished folder to its place, in stead of whatever is there."""
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(directory, target)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file so that a reader sees the old one or the new one, never half of one."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(f"{text}\n".encode())


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to, whose name appears only once all of it is on disk; a kill leaves one that has none."""
    descriptor, unfinished = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_UNFINISHED, dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)


def remove_unfinished(directory: Path) -> None:
    """Remove what a killed writer had not yet given its name."""
    for unfinished in [*directory.rglob(f".*{_UNFINISHED}")]:
        unfinished.unlink()


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _content(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file() and path.name != RECORD_NAME)


def _hash_files(directory: Path) -> dict[str, str]:
    return {path.relative_to(directory).as_posix(): file_sha256(path) for path in _content(directory)}


def _sum_of(files: Mapping[str, str]) -> str:
    return hashlib.sha256(canonical_json(dict(files)).encode()).hexdigest()


def _from_record(directory: Path, record: Mapping[str, Any]) -> Artifact:
    return Artifact(
        artifact_id=directory.name,
        kind=str(record["kind"]),
        directory=directory,
        sha256=str(record["sha256"]),
        bytes=int(record["bytes"]),
        made_by=record["made_by"],
        results=record["results"],
    )


def _set_aside(target: Path, detail: str) -> ArtifactError:
    aside = target.with_name(f"{target.name}.bad")
    if target.exists():
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(target, aside)
    return ArtifactError(str(target), f"{detail}; set aside as {aside.name}")
