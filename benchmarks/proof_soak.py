"""Hours of sampling and of stages in minutes: does the memory stay flat, on both sides?

    python benchmarks/proof_soak.py [--hours 6] [--save]

The real sampling process's parts (resolved sensors, sampler, close looks, disk, raw files, journal) and the real
in-process meter run at a set time that is moved on as fast as the machine can: eight cards with counter and power at
10 Hz, a stage every seven seconds, a flush a second. Only worker threads are left out, since they would wait in real
time. Exit status 1 where the resident memory grows by more than 1 MiB an hour after the first half hour.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from stillwatt.ledger.disk import Disk
from stillwatt.ledger.journal import JournalWriter
from stillwatt.ledger.recorder import Recorder
from stillwatt.ledger.segments_raw import RECORD, RawWriter, raw_path
from stillwatt.metering.meter import Meter
from stillwatt.sensors.registry import resolve
from stillwatt.sensors.worker import InlineWorker
from stillwatt.units import NS_PER_S

HERE = Path(__file__).resolve().parent
CARDS, TICKS_A_S = 8, 10
STAGE_EVERY_S, LOOK_EVERY_S, WARM_UP_H, MOST_MIB_PER_H = 7, 60, 0.5, 1.0


class SetClock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now_ns = NS_PER_S

    def monotonic_ns(self) -> int:
        """The set time."""
        return self.now_ns

    def utc_ns(self) -> int:
        """The set time, as a label."""
        return self.now_ns + 1_700_000_000 * NS_PER_S


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=6.0)
    parser.add_argument("--save", action="store_true", help="keep a dated summary beside this file")
    arguments = parser.parse_args()
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        summary = soak(Path(folder), arguments.hours)
    found = {**summary, "date": datetime.now(UTC).date().isoformat(), "took_s": round(time.monotonic() - begun_s, 1)}
    print(json.dumps(found, indent=1))
    if arguments.save:
        path = HERE / f"proof-soak-{found['date']}.json"
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0 if summary["growth_mib_per_h"] <= MOST_MIB_PER_H else 1


def soak(run_dir: Path, hours: float) -> dict[str, float]:
    """Sample that long; gives the resident memory after the warm-up, its growth and what was written."""
    clock = SetClock()
    recorder, samples = _recorder(run_dir, clock), 0
    meter = Meter(JournalWriter(run_dir / "journal.s.jsonl"), clock, prefix="a", on_edge=recorder.edge)
    recorder.start()
    seen: list[tuple[float, float]] = []
    for second in range(round(hours * 3600)):
        if second % STAGE_EVERY_S == 0:
            with meter.stage(f"stage-{second}", kind="other") as stage:
                stage.add_tokens(second)
        for _ in range(TICKS_A_S):
            clock.now_ns += NS_PER_S // TICKS_A_S
            recorder.tick()
        recorder.end_closeup(lambda _: None)
        recorder.flush()
        if second % 10 == 0:
            recorder.account()
        if second % LOOK_EVERY_S == 0:
            seen.append((second / 3600, _resident_mib()))
    recorder.finish(is_parent_lost=False)
    samples = sum(path.stat().st_size // RECORD.size for path in (run_dir / "samples").iterdir())
    hour, mib = np.array([one for one in seen if one[0] >= min(WARM_UP_H, hours / 2)]).T
    return {
        "hours": hours,
        "records": samples,
        "resident_mib_first": round(float(mib[0]), 2),
        "resident_mib_last": round(float(mib[-1]), 2),
        "growth_mib_per_h": round(float(np.polyfit(hour, mib, 1)[0]), 4),
    }


def _recorder(run_dir: Path, clock: SetClock) -> Recorder:
    channels = [
        {"part": f"gpu{card}", "quantity": quantity, "role": role, "shape": "square", "watts": 300.0, "low_watts": 80.0}
        for card in range(CARDS)
        for quantity, role in (("energy_counter", "ledger"), ("power", "witness"))
    ]
    resolution = resolve(("synthetic",), clock, {"synthetic": {"channels": channels}})
    disk = Disk(
        JournalWriter(run_dir / "journal.s.meter.jsonl"),
        lambda stream: RawWriter(raw_path(run_dir, "s", stream)),
        clock,
        fsync_journal=None,
    )
    return Recorder(resolution, disk, clock, NS_PER_S // TICKS_A_S, make_worker=InlineWorker)


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


if __name__ == "__main__":
    sys.exit(main())
