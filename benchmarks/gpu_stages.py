"""Stages on a real card: the same kernels again and again, a stage each, as the meter tells them and as peers do.

Equal work draws nearly equal energy, so the scatter over stages is the meter's own. The peer is the difference of the
counter's readings at both edges, which is what meters without edge placing take. Both see the same card's counter, so
its gain is in neither's scatter, and is left out of the intervals here.
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from gpu_card import MJ_PER_J, Load, readers_of

import stillwatt

SEED = 20261126
OPTIONS = {"nvml": {"gain_rel": 0.0}}
WORK = (("about 100 ms", 70, 40), ("about 1 s", 700, 12), ("about 2.3 s", 1_400, 6))
"""Name, matrix products in a stage, stages."""


def repeats(out: Path) -> dict[str, Any]:
    """Scatter, half-width and level of stages of equal work, by the meter and by the peer."""
    from stillwatt.sensors import nvml_library

    nvml = nvml_library.load(None)
    nvml.nvmlInit()
    handle, read = nvml.nvmlDeviceGetHandleByIndex(0), readers_of(nvml)["counter"]
    rng, load, found = np.random.default_rng(SEED), Load(), {}
    for label, products, times in WORK:
        load.products(products)
        peers: list[float] = []
        with tempfile.TemporaryDirectory() as folder:
            with stillwatt.Run("repeats", runs_dir=folder, sensors=("nvml",), options=OPTIONS) as run:
                time.sleep(0.5)
                whole_mj = -read(handle)
                for index in range(times):
                    before_mj = read(handle)
                    with run.stage(f"r{index}"):
                        load.products(products)
                    peers.append((read(handle) - before_mj) / MJ_PER_J)
                    time.sleep(0.2 + float(rng.uniform(0, 0.2)))
                whole_mj += read(handle)
            record = run.result.to_dict()
            shutil.make_archive(str(out / f"gpu-repeats-{products}"), "gztar", folder)
            found[label] = figures(record, peers) | {
                "counter_first_to_last_j": whole_mj / MJ_PER_J,
                "run_total_j": record["total_j"]["value_j"],
                "gaps": gaps(run.run_dir),
                "meter_cpu_s": record["meter"]["cpu_s"],
            }
    return found


def figures(record: dict[str, Any], peers: list[float]) -> dict[str, Any]:
    """Of one kind of stage."""
    energies = [next(one["energy"] for one in stage["channels"] if "energy" in one) for stage in record["stages"]]
    values = [energy["value_j"] for energy in energies]
    halves = [(energy["high_j"] - energy["low_j"]) / 2 for energy in energies]
    middle, peer = statistics.median(values), statistics.median(peers)
    return {
        "stages": len(values),
        "duration_s_median": statistics.median(stage["duration_s"] for stage in record["stages"]),
        "value_j_median": middle,
        "scatter_sd_pct": 100 * statistics.stdev(values) / middle,
        "halfwidth_pct_median": 100 * statistics.median(halves) / middle,
        "median_inside": sum(abs(v - middle) <= h for v, h in zip(values, halves, strict=True)),
        "peer_j_median": peer,
        "peer_scatter_sd_pct": 100 * statistics.stdev(peers) / peer if peer > 0 else None,
    }


def gaps(run_dir: Path) -> list[Any]:
    """Failed reads of a run: stream, how many, over how many milliseconds, and why."""
    lines = [line for path in sorted(run_dir.glob("*.jsonl")) for line in path.read_text("utf-8").splitlines()]
    events = [json.loads(line) for line in lines if '"gap"' in line]
    return [
        [one["stream"], one["failed_reads"], (one["end_ns"] - one["start_ns"]) / 1e6, one["reason"]] for one in events
    ]
