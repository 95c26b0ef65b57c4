"""Two versions of the coded cache's writer in turns, beside one teacher: what a change of the code is worth.

    python benchmarks/cache_writers.py --before COMMIT [--sequences 24] [--prior 140] [--learned DIR] [--threads 1]
        [--only SCHEME ..] [--save FILE]

Teacher and text are those of `bench_cache.py`. Each sequence goes through the teacher once; then every scheme is cut
and coded by the writer of COMMIT and by that of this checkout, in turns, the first one now this, now that. A share is
processor seconds of writing over those of the teacher at the same sequence, closing the cache included; given are the
median and the quartiles over the sequences, and those of the ratio of the two. A machine that others use makes seconds
longer, and not of all work alike: the ratio suffers least. Shards of both are compared byte by byte; where draws fall
within rounding of a boundary they may differ. COMMIT's writer must read today's format.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from bench_cache import LENGTH, SCHEMES, Bench
from bench_clock import cpu_s

from stillwatt.pipelines.models import quieten

PACKAGE, COPY = "stillwatt.pipelines.cache", "cache_before"
ROOT = Path(__file__).parents[1]


class Version(NamedTuple):
    """The modules of one version."""

    cut: Any
    reader: Any
    writer: Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, help="commit of the other version")
    parser.add_argument("--sequences", type=int, default=24)
    parser.add_argument("--prior", type=int, default=140, help="sequences the priors are learned from")
    parser.add_argument("--learned", type=Path, help="where learned priors are kept; made anew unless they are there")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=list(SCHEMES), default=list(SCHEMES))
    parser.add_argument("--save", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    quieten()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        rows = run(arguments, Path(scratch))
    if arguments.save:
        about = {"before": arguments.before, "threads": arguments.threads, "load": [load, os.getloadavg()[0]]}
        arguments.save.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def run(arguments: Namespace, scratch: Path) -> list[dict[str, Any]]:
    """All rows, printed as they come."""
    versions = {"before": earlier(arguments.before, scratch), "after": version(PACKAGE)}
    bench = Bench(Namespace(prior=arguments.prior, held_out=arguments.sequences, gradient=0))
    learned = learn(bench, arguments.learned or scratch / "learned")
    writers = {
        (name, side): open_writer(versions[side], learned[name], scratch / side / str(n), bench.vocab_size)
        for n, name in enumerate(arguments.only)
        for side in versions
    }
    teacher_s: list[float] = []
    own_s: dict[tuple[str, str], list[float]] = {key: [] for key in writers}
    for index, tokens in enumerate(bench.held_out):
        start_s = cpu_s()
        logits_TV = bench.logits(tokens)
        teacher_s.append(cpu_s() - start_s)
        for name in arguments.only:
            for side in list(versions)[:: 1 if index % 2 else -1]:
                writer, scheme = writers[name, side]
                start_s = cpu_s()
                cut = versions[side].cut.cut_logits(logits_TV, scheme, temperature=1.0, sequence_index=index)
                writer.add(index, tokens, cut)
                own_s[name, side].append(cpu_s() - start_s)
    rows = []
    for n, name in enumerate(arguments.only):
        seconds = {side: closed(writers[name, side][0], own_s[name, side]) for side in versions}
        files = [b"".join(p.read_bytes() for p in sorted((scratch / side / str(n)).glob("*.bin"))) for side in versions]
        rows.append(row(name, seconds, np.array(teacher_s), is_same=files[0] == files[1]))
        print(json.dumps(rows[-1]), flush=True)
    return rows


def version(package: str) -> Version:
    return Version(*(importlib.import_module(f"{package}.{name}") for name in ("cut", "reader", "writer")))


def earlier(commit: str, scratch: Path) -> Version:
    """The package as it was, under another name."""
    path = f"src/{PACKAGE.replace('.', '/')}"
    packed = subprocess.run(["git", "archive", commit, path], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(scratch / "tree", filter="data")
    (scratch / "code").mkdir()
    copy = (scratch / "tree" / path).rename(scratch / "code" / COPY)
    for file in copy.glob("*.py"):
        file.write_text(file.read_text(encoding="utf-8").replace(f"{PACKAGE}.", f"{COPY}."), encoding="utf-8")
    sys.path.insert(0, str(scratch / "code"))
    return version(COPY)


def learn(bench: Bench, folder: Path) -> dict[str, Path]:
    """Caches of training text, for their priors."""
    if not folder.exists():
        (folder / "caches").mkdir(parents=True)
        bench.learn(folder / "caches", SCHEMES)
    return {name: folder / "caches" / f"train-{n}" for n, name in enumerate(SCHEMES)}


def open_writer(code: Version, learned: Path, folder: Path, vocab_size: int) -> tuple[Any, Any]:
    codec = code.reader.CodedCache.open(learned).codec
    writer = code.writer.CodedCacheWriter(
        folder, scheme=codec.scheme, vocab_size=vocab_size, temperature=1.0, inputs={}, prior=codec
    )
    return writer, codec.scheme


def closed(writer: Any, own_s: list[float]) -> Any:
    """Seconds at each sequence, with its part of closing the cache."""
    start_s = cpu_s()
    writer.close()
    return np.array(own_s) + (cpu_s() - start_s) / len(own_s)


def row(name: str, seconds: dict[str, Any], teacher_s: Any, *, is_same: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"bench": "cache-writers", "name": name, "sequences": len(teacher_s)}
    for side, own_s in seconds.items():
        low, middle, high = np.quantile(own_s / teacher_s, (0.25, 0.5, 0.75))
        found[f"write_share_{side}"] = round(middle, 4)
        found[f"write_share_{side}_quartiles"] = [round(low, 4), round(high, 4)]
        found[f"write_us_per_position_{side}"] = round(float(np.median(own_s)) / (LENGTH - 1) * 1e6, 1)
    low, middle, high = np.quantile(seconds["after"] / seconds["before"], (0.25, 0.5, 0.75))
    found["ratio"], found["ratio_quartiles"] = round(middle, 3), [round(low, 3), round(high, 3)]
    found["teacher_us_per_position"] = round(float(np.median(teacher_s)) / (LENGTH - 1) * 1e6)
    found["same_bytes"] = is_same
    return found


if __name__ == "__main__":
    main()
