"""Bring the run directories of several nodes together: journals and samples of one launch into one directory.

Nodes that share no disk each have a directory of the launch's run, with the same `group` in its manifest. Gathering
copies what a node has into the first of them that this ledger knows, and keeps the node's manifest beside it; the
result is an ordinary run directory, from which the ledger is posted and rebuilt. Gathering again changes nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stillwatt.errors import LedgerError, NoSuchInputError
from stillwatt.ledger.life import last_life_ns, life_signs
from stillwatt.ledger.rundir import MANIFEST, NODES_DIR, is_sound_manifest, list_run_dirs, read_manifest, slug
from stillwatt.ledger.segments import PARQUET_SUFFIX, stored_streams
from stillwatt.ledger.segments_raw import RAW_SUFFIX, SAMPLES_DIR

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What became of one run directory that was brought in."""

    source: Path
    run_id: str
    """The run of this ledger that it went to."""
    is_new: bool
    """Whether that run was not here before."""
    files: tuple[str, ...]
    """Files that were new or had grown, by name within the run directory."""
    problems: tuple[str, ...]
    """Files that were left out, and why."""


def gather(runs_dir: Path, sources: Sequence[Path]) -> tuple[Gathered, ...]:
    """Bring run directories, or all of those in folders of runs, into `runs_dir`.

    Raises:
        NoSuchInputError: a source is neither a run directory nor a folder of runs.
        LedgerError: a source's manifest cannot be read or was changed, or its run id is taken by another run here.
        OSError: a file cannot be read or written; what was copied before stays, and the next call goes on.
    """
    found = [run_dir for source in sources for run_dir in _run_dirs(Path(source))]
    Path(runs_dir).mkdir(parents=True, exist_ok=True)
    return tuple(_bring(Path(runs_dir), run_dir) for run_dir in found)


def _run_dirs(source: Path) -> tuple[Path, ...]:
    if (source / MANIFEST).is_file():
        return (source,)
    found = list_run_dirs(source)
    if not found:
        cure = "name a run directory (it holds manifest.json) or the folder that a node kept its runs in"
        raise NoSuchInputError("run directories", str(source), cure)
    return found


def _bring(runs_dir: Path, source: Path) -> Gathered:
    manifest = read_manifest(source)
    if not is_sound_manifest(manifest):
        raise LedgerError(f"{source / MANIFEST} does not have the hash written in it; copy it from its node again")
    target, is_new = _target(runs_dir, manifest)
    if target.resolve() == source.resolve():
        return Gathered(source=source, run_id=target.name, is_new=False, files=(), problems=())
    (target / SAMPLES_DIR).mkdir(parents=True, exist_ok=True)
    problems: list[str] = []
    files = [*_bring_journals(source, target, problems), *_bring_samples(source, target)]
    # the manifest last: a directory counts as a run as soon as it has one
    if not (target / MANIFEST).exists():
        files += _copy(source / MANIFEST, target / MANIFEST)
    elif read_manifest(target) != manifest:
        (target / NODES_DIR).mkdir(exist_ok=True)
        beside = target / NODES_DIR / f"{slug(str(manifest['run_id']))}.json"
        if not beside.exists() or beside.read_bytes() != (source / MANIFEST).read_bytes():
            files += _copy(source / MANIFEST, beside)
    names = tuple(str(path.relative_to(target)) for path in files)
    return Gathered(source=source, run_id=target.name, is_new=is_new, files=names, problems=tuple(problems))


def _target(runs_dir: Path, manifest: Mapping[str, object]) -> tuple[Path, bool]:
    """The directory here that a run belongs in, and whether it is to be made."""
    run_id, group = str(manifest["run_id"]), manifest.get("group")
    for run_dir in list_run_dirs(runs_dir):
        here = read_manifest(run_dir)
        if group and here.get("group") == group:
            return run_dir, False
        if here["run_id"] == run_id:
            if here != manifest:
                raise LedgerError(f"{run_dir} is another run with the id {run_id}; rename one of the two directories")
            return run_dir, False
    if run_id != slug(run_id, longest=len(run_id)):
        raise LedgerError(f"run id {run_id!r} cannot be a directory's name; it was changed after the run was made")
    return runs_dir / run_id, True


def _bring_journals(source: Path, target: Path, problems: list[str]) -> Iterator[Path]:
    for path in sorted(source.glob("journal.*.jsonl")):
        if path.is_symlink() or not path.is_file():
            problems.append(f"{path.name}: not a plain file; left out")
            continue
        here = target / path.name
        if not here.exists() or _has_grown(path, here):
            yield from _copy(path, here)
        elif not _has_grown(here, path) and path.read_bytes() != here.read_bytes():
            problems.append(f"{path.name}: differs from the one here; the one here is kept")
    for path in life_signs(source):
        if last_life_ns(path) > last_life_ns(target / path.name):
            yield from _copy(path, target / path.name)


def _has_grown(path: Path, here: Path) -> bool:
    """Whether a journal begins with all that an earlier copy of it holds, and goes on."""
    length = here.stat().st_size
    if path.stat().st_size <= length:
        return False
    with path.open("rb") as longer, here.open("rb") as shorter:
        while block := shorter.read(_BLOCK_BYTES):
            if longer.read(len(block)) != block:
                return False
    return True


def _bring_samples(source: Path, target: Path) -> Iterator[Path]:
    """Streams that are not here, or of which the source holds more records, in whatever form it has them."""
    here = stored_streams(target)
    for stem, records in stored_streams(source).items():
        if records <= here.get(stem, -1):
            continue
        for suffix in (PARQUET_SUFFIX, RAW_SUFFIX):
            path = source / SAMPLES_DIR / f"{stem}{suffix}"
            if path.is_file() and not path.is_symlink():
                yield from _copy(path, target / SAMPLES_DIR / path.name)


def _copy(path: Path, to: Path) -> Iterable[Path]:
    """Copy a file whole or not at all."""
    temporary = to.with_name(f".{to.name}.{os.getpid()}.tmp")
    try:
        shutil.copyfile(path, temporary, follow_symlinks=False)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, to)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return (to,)
