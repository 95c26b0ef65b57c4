"""Run directories: making them, naming them, finding them and the journals inside; standard library only.

A run directory is the truth of one run (docs/reference/run-directory.md). It counts as one as soon as its
manifest is there, and the manifest appears whole or not at all.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stillwatt.clock import Clock, iso_utc
from stillwatt.errors import LedgerError, UsageError
from stillwatt.ledger.environment import host_name
from stillwatt.units import NS_PER_MS

MANIFEST = "manifest.json"
MANIFEST_SCHEMA = "stillwatt.manifest/1"
NODES_DIR = "nodes"
"""Where the manifests of other nodes lie whose journals were brought in, `<run id there>.json` each."""

_HASH = "manifest_sha256"
_ATTEMPTS = 16
_MAX_SLUG = 48
_MAX_HOST = 40
_FORK = ".fork-"
_JOURNAL_SUFFIX = ".jsonl"
_UNSAFE = re.compile(r"[^A-Za-z0-9]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
# compiled when a run directory is first read: the measured program reads none
_PROGRAM_JOURNAL = r"journal\.([A-Za-z0-9_-]+)\.jsonl"
_METER_JOURNAL = r"journal\.([A-Za-z0-9_-]+)\.meter\.jsonl"
_FORK_JOURNAL = r"journal\.([A-Za-z0-9_-]+)\.fork-[0-9a-f-]+\.jsonl"


class JournalPaths(NamedTuple):
    """The journals of one session, as far as they exist."""

    program: Path | None
    """The measured program's; None where it is lost."""
    meter: Path | None
    """The sampling process's."""
    forks: tuple[Path, ...] = ()
    """Those of processes that the program forked and that wrote something."""


def create_run_dir(
    runs_dir: Path,
    name: str,
    *,
    clock: Clock,
    settings: Mapping[str, Any],
    environment: Mapping[str, Any],
    group: str = "",
) -> str:
    """Make a new run directory with its manifest; returns the run's id.

    The id sorts by time and ends in four random digits: `20261122-225501-quickstart-3f2a`. The name is kept as
    given in the manifest, on one line; only letters, digits and `-` of it reach the path. `group` is the same in the
    directories of nodes that measure one launch.

    Raises:
        UsageError: `settings` or `environment` hold what JSON cannot (a set, NaN).
        OSError: the directory cannot be made.
    """
    utc_ns = clock.utc_ns()
    label = one_line(name) or "run"
    manifest: dict[str, Any] = {
        "schema": MANIFEST_SCHEMA,
        "run_id": "",
        "name": label,
        "created_utc": iso_utc(utc_ns),
        "settings": dict(settings),
        "settings_sha256": settings_hash(settings),
        "environment": dict(environment),
        **({"group": group} if group else {}),
    }
    _to_json(manifest, "the environment")
    run_id = _make_directory(Path(runs_dir), f"{_stamp(utc_ns)}-{slug(label)}")
    run_dir = Path(runs_dir) / run_id
    (run_dir / "samples").mkdir()
    write_manifest(run_dir, {**manifest, "run_id": run_id})
    return run_id


def write_manifest(run_dir: Path, manifest: Mapping[str, Any]) -> None:
    """Write a run's manifest whole, with the hash of all the rest as its last key.

    Raises:
        OSError: it cannot be written.
    """
    hashed = {**manifest, _HASH: settings_hash(manifest)}
    write_whole(run_dir / MANIFEST, json.dumps(hashed, ensure_ascii=False, allow_nan=False, indent=1) + "\n")


def change_settings(run_dir: Path, settings: Mapping[str, Any]) -> None:
    """Put other settings in the place of a run's, where they differ; what was changed stays in the manifest too.

    A manifest that is not as it was written stays as it is: that it is damaged must not be forgotten.

    Raises:
        LedgerError: there is no manifest.
        OSError: it cannot be written.
    """
    manifest = read_manifest(run_dir)
    if manifest["settings_sha256"] == settings_hash(settings) or not is_sound_manifest(manifest):
        return
    del manifest[_HASH]
    had = {key: value for key, value in manifest["settings"].items() if settings.get(key) != value}
    before = [*manifest.get("settings_before", ()), {"settings_sha256": manifest["settings_sha256"], "settings": had}]
    own = {"settings": dict(settings), "settings_sha256": settings_hash(settings), "settings_before": before}
    write_manifest(run_dir, {**manifest, **own})


def is_sound_manifest(manifest: Mapping[str, Any]) -> bool:
    """Whether a manifest is as it was written."""
    rest = {key: value for key, value in manifest.items() if key != _HASH}
    return bool(manifest.get(_HASH) == settings_hash(rest))


def _make_directory(runs_dir: Path, stem: str) -> str:
    """Make `<stem>-<4 hex>` with digits that are not taken yet."""
    runs_dir.mkdir(parents=True, exist_ok=True)
    for _ in range(_ATTEMPTS):
        run_id = f"{stem}-{os.urandom(2).hex()}"
        try:
            (runs_dir / run_id).mkdir()
        except FileExistsError:
            continue
        return run_id
    raise FileExistsError(f"no free run id of the form {runs_dir / stem}-xxxx after {_ATTEMPTS} tries")


def session_name(clock: Clock) -> str:
    """A name for a new session, `<host>-<pid>-<hex>`: safe as a file name, distinct on a shared disk.

    The hex is the wall clock in milliseconds and two random bytes, since containers share host names and pids.
    """
    host = slug(host_name(), longest=_MAX_HOST) or "host"
    return f"{host}-{os.getpid()}-{clock.utc_ns() // NS_PER_MS:011x}{os.urandom(2).hex()}"


def slug(name: str, *, longest: int = _MAX_SLUG) -> str:
    """The letters, digits and single dashes of a name, in lower case: never a path, never empty.

    >>> slug("My distillation: ../../etc/passwd")
    'my-distillation-etc-passwd'
    >>> slug("..")
    'run'
    """
    return _UNSAFE.sub("-", name).strip("-").lower()[:longest].strip("-") or "run"


def one_line(text: str) -> str:
    r"""The text with runs of control characters and line ends replaced by one space.

    >>> one_line("two\nlines\x1b[31m ")
    'two lines [31m'
    """
    return _CONTROL.sub(" ", text).strip()


def settings_hash(settings: Mapping[str, Any]) -> str:
    """SHA-256 of the settings as compact JSON with sorted keys, in UTF-8: equal settings, equal hash.

    Raises:
        UsageError: the settings hold what JSON cannot.

    >>> settings_hash({"a": 1, "b": [2]}) == settings_hash({"b": [2], "a": 1})
    True
    """
    import hashlib

    return hashlib.sha256(_to_json(settings, "settings").encode("utf-8", "replace")).hexdigest()


def list_run_dirs(runs_dir: Path) -> tuple[Path, ...]:
    """Every directory with a manifest below `runs_dir`, in order of run id (oldest first); empty if there is none."""
    try:
        with os.scandir(runs_dir) as entries:
            found = [Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return tuple(sorted((path for path in found if (path / MANIFEST).is_file()), key=lambda path: path.name))


def names_run(runs_dir: Path, run_id: str) -> bool:
    """Whether a name that somebody wrote down is that of a run here; a path that leads elsewhere is none.

    >>> names_run(Path("/"), "../etc"), names_run(Path("/"), "..")
    (False, False)
    """
    return run_id == Path(run_id).name and not run_id.startswith(".") and (Path(runs_dir) / run_id).is_dir()


def read_manifest(run_dir: Path) -> dict[str, Any]:
    """A run's manifest.

    Raises:
        LedgerError: it cannot be read, or is not a manifest of this schema.
    """
    return read_manifest_file(Path(run_dir) / MANIFEST)


def read_manifest_file(path: Path) -> dict[str, Any]:
    """The manifest in a file.

    Raises:
        LedgerError: it cannot be read, or is not a manifest of this schema.
    """
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise LedgerError(f"{path} cannot be read ({err}); the run cannot be posted without it") from err
    if not isinstance(manifest, dict) or manifest.get("schema") != MANIFEST_SCHEMA:
        found = manifest.get("schema") if isinstance(manifest, dict) else type(manifest).__name__
        raise LedgerError(f"{path} is not a {MANIFEST_SCHEMA} manifest (found {found!r}); is it of a newer version?")
    for key, kind in _MANIFEST_FIELDS.items():
        if not isinstance(manifest.get(key), kind):
            raise LedgerError(f"{path}: {key!r} is missing or not a {kind.__name__}")
    return manifest


def node_manifests(run_dir: Path) -> tuple[Path, ...]:
    """Manifests of nodes that were brought in, in order of file name."""
    return tuple(sorted((Path(run_dir) / NODES_DIR).glob("[!.]*.json")))


_MANIFEST_FIELDS: dict[str, type] = {
    "run_id": str,
    "name": str,
    "created_utc": str,
    "settings": dict,
    "settings_sha256": str,
    "environment": dict,
}


def program_journals(run_dir: Path) -> tuple[Path, ...]:
    """The measured programs' journals of a run and those of their forks, in order of file name."""
    return tuple(path for pattern in (_PROGRAM_JOURNAL, _FORK_JOURNAL) for _, path in _journals(run_dir, pattern))


def meter_journals(run_dir: Path) -> tuple[Path, ...]:
    """The sampling processes' journals of a run, one a session, in order of file name."""
    return tuple(path for _, path in _journals(run_dir, _METER_JOURNAL))


def fork_journal(run_dir: Path, session: str, clock: Clock) -> Path:
    """Where a process that a session's program forked writes what it does: a file of its own."""
    return Path(run_dir) / f"journal.{session}{_FORK}{os.getpid()}-{clock.monotonic_ns():x}{_JOURNAL_SUFFIX}"


def fork_name(path: Path) -> str:
    """What a forked process is called by its sampling process: its number and when it was forked.

    >>> fork_name(Path("runs/r1/journal.host-12-ab.fork-77-5f3a.jsonl"))
    '77-5f3a'
    """
    return path.name.rpartition(_FORK)[2].removesuffix(_JOURNAL_SUFFIX)


def fork_names(run_dir: Path, session: str) -> list[str]:
    """Forked processes of a session that have a journal, in the order the directory has them; `fork_name` of each.

    Raises:
        OSError: the directory cannot be listed.
    """
    begin = f"journal.{session}{_FORK}"
    found = [name for name in os.listdir(run_dir) if name.startswith(begin) and name.endswith(_JOURNAL_SUFFIX)]
    return [fork_name(Path(name)) for name in found]


def sessions(run_dir: Path) -> dict[str, JournalPaths]:
    """A run's sessions by name, each with the journals that it has."""
    programs = dict(_journals(run_dir, _PROGRAM_JOURNAL))
    meters = dict(_journals(run_dir, _METER_JOURNAL))
    forks = _journals(run_dir, _FORK_JOURNAL)
    return {
        name: JournalPaths(
            program=programs.get(name),
            meter=meters.get(name),
            forks=tuple(path for session, path in forks if session == name),
        )
        for name in sorted({*programs, *meters, *(session for session, _ in forks)})
    }


def _journals(run_dir: Path, pattern: str) -> list[tuple[str, Path]]:
    paths = sorted(Path(run_dir).glob("journal.*.jsonl"))
    matches = ((re.fullmatch(pattern, path.name), path) for path in paths)
    return [(match.group(1), path) for match, path in matches if match]


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all: a temporary file beside it, synced, then renamed over it.

    Raises:
        OSError: it cannot be written; an earlier file of that name is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _stamp(utc_ns: int) -> str:
    """`20261122-225501` of a wall-clock time."""
    day, _, moment = iso_utc(utc_ns).partition("T")
    return f"{day.replace('-', '')}-{moment[:8].replace(':', '')}"


def _to_json(value: Mapping[str, Any], what: str) -> str:
    try:
        return json.dumps(dict(value), sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as err:
        raise UsageError(f"{what} must hold JSON values only: {err}") from err


def session_prefix(number: int) -> str:
    """The prefix of stage ids in a run's n-th session, counted like a spreadsheet's columns.

    >>> [session_prefix(n) for n in (0, 1, 25, 26)]
    ['a', 'b', 'z', 'aa']
    """
    letters = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("a") + rest) + letters
    return letters
