"""Whether a run directory has changed since it was posted: a cheap look first, the contents only if it differs."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from stillwatt.ledger.life import life_signs
from stillwatt.ledger.rundir import MANIFEST, NODES_DIR, meter_journals, node_manifests, program_journals
from stillwatt.ledger.segments import stored_streams
from stillwatt.ledger.segments_raw import SAMPLES_DIR


def stat_signature(run_dir: Path) -> str:
    """Hash of names, sizes and times of change of manifest, journals and segments; reads none of them.

    Raises:
        OSError: the directory cannot be listed.
    """
    digest = hashlib.sha256()
    for folder in (run_dir, run_dir / SAMPLES_DIR, run_dir / NODES_DIR):
        if not folder.is_dir():
            continue
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if not _matters(entry, in_samples=folder is not run_dir):
                    continue
                try:
                    stat = entry.stat()
                except FileNotFoundError:
                    continue  # another process has just sealed it; the next look finds the sealed file
                digest.update(f"{entry.name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode("utf-8", "replace"))
    return digest.hexdigest()


def data_fingerprint(run_dir: Path) -> str:
    """Hash of what the manifest and journals say and of how many records each stream holds.

    A segment counts the same before and after it is sealed, and a copy of a directory the same as the directory.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in (
        run_dir / MANIFEST,
        *node_manifests(run_dir),
        *program_journals(run_dir),
        *meter_journals(run_dir),
        *life_signs(run_dir),
    ):
        digest.update(f"{path.name}\0".encode("utf-8", "replace"))
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    for stem, records in sorted(stored_streams(run_dir).items()):
        digest.update(f"{stem}\0{records}\n".encode("utf-8", "replace"))
    return digest.hexdigest()


def _matters(entry: os.DirEntry[str], *, in_samples: bool) -> bool:
    if entry.name.startswith(".") or not entry.is_file():
        return False
    return in_samples or entry.name == MANIFEST or entry.name.startswith("journal.")
