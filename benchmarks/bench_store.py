"""How fast samples are posted, and how soon a stage's energy is there afterwards.

    python benchmarks/bench_store.py [--rows 100000000] [--save]

Writes a run of eight cards, counter and power at 10 Hz, with an hourly stage, in the files that the sampling process
leaves; posts it (checks, accounts, seals) in a process of its own; then asks for one stage in a new process. 97 million
rows are a week.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from run_dirs import SyntheticRun, gpu_counter, gpu_power  # noqa: E402
from stillwatt.ledger.segments_raw import RECORD, SEAL, block_checksum, raw_path  # noqa: E402

CARDS, PERIOD_NS, BLOCK, STAGE_S, START_S = 8, 100_000_000, 10, 3600.0, 100.0
POST = "from stillwatt.ledger.store import LedgerStore; import sys\nwith LedgerStore(sys.argv[1]) as s: s.refresh()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--save", action="store_true", help="keep a dated summary beside this file")
    arguments = parser.parse_args()
    summary = measure(arguments.rows)
    print(json.dumps(summary, indent=1))
    if arguments.save:
        path = HERE / f"store-{summary['date']}.json"
        path.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


def measure(rows: int) -> dict[str, Any]:
    """Post that many rows; gives seconds, rows a second and the memory it took."""
    with tempfile.TemporaryDirectory() as folder:
        runs_dir = Path(folder) / "runs"
        run_id, written = write_run(runs_dir, rows)
        begun_s = time.monotonic()
        subprocess.run([sys.executable, "-c", POST, str(runs_dir)], check=True)
        post_s = time.monotonic() - begun_s
        peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        begun_s = time.monotonic()
        show = [sys.executable, "-m", "stillwatt", "ledger", "show", run_id, "--runs", str(runs_dir), "--json"]
        shown = json.loads(subprocess.run(show, check=True, stdout=subprocess.PIPE).stdout)
        query_s = time.monotonic() - begun_s
        assert shown["meter"]["samples"] == written
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "rows": written,
        "post_s": round(post_s, 2),
        "post_rows_per_s": round(written / post_s),
        "peak_mib": round(peak_mib),
        "query_s": round(query_s, 2),
    }


def write_run(runs_dir: Path, rows: int) -> tuple[str, int]:
    """A finished run with that many rows in sixteen streams; gives its id and how many there are."""
    run = SyntheticRun(runs_dir, name="week")
    session = run.session(start_s=START_S)
    session.sampler([make(f"gpu{card}") for card in range(CARDS) for make in (gpu_counter, gpu_power)])
    blocks = max(1, rows // (2 * CARDS * BLOCK))
    end_s = START_S + blocks * BLOCK * PERIOD_NS / 1e9
    random = np.random.default_rng(1)
    for card in range(CARDS):
        watts = 250.0 + 100.0 * np.repeat(random.uniform(-1.0, 1.0, size=blocks), BLOCK)
        energy_mj = np.floor(np.cumsum(watts) * (PERIOD_NS / 1e6))
        for stream, counts in (("energy_counter", energy_mj), ("power", watts)):
            write_raw(raw_path(run.path, session.name, f"gpu{card}.{stream}"), counts)
    begin_s = START_S
    while begin_s + STAGE_S < end_s:
        session.stage("train", begin_s, begin_s + STAGE_S, workload={"tokens": 1000})
        begin_s += STAGE_S
    written = 2 * CARDS * blocks * BLOCK
    session._samples = written
    session.end(end_s)
    return run.run_id, written


def write_raw(path: Path, counts: np.ndarray[Any, Any]) -> None:
    """A stream's file in blocks of a second, each with its seal."""
    blocks = counts.size // BLOCK
    records = np.zeros((blocks, BLOCK + 1), dtype=[("t_ns", "<i8"), ("count", "<f8")])
    times = round(START_S * 1e9) + PERIOD_NS * np.arange(counts.size, dtype=np.int64)
    records["t_ns"][:, :BLOCK] = times.reshape(blocks, BLOCK)
    records["count"][:, :BLOCK] = counts.reshape(blocks, BLOCK)
    data, running = bytearray(records.tobytes()), 0
    size = RECORD.size * (BLOCK + 1)
    for number in range(blocks):
        begin, end = size * number, size * number + RECORD.size * BLOCK
        running = zlib.crc32(data[begin:end], running)
        checksum = block_checksum(data[begin:end], number * (BLOCK + 1))
        SEAL.pack_into(data, end, -BLOCK, checksum, running)
        running = zlib.crc32(data[end : end + RECORD.size], running)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


if __name__ == "__main__":
    main()
