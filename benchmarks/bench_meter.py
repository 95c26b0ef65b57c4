"""How right the meter is: simulated cards with known energy against what it says, with its interval.

    python benchmarks/bench_meter.py [--rounds 6] [--save] [--no-overhead]

Every scenario plays random traces on eight simulated cards at a time through the real NVML driver, sampler, recorder
deadlines and estimator (see meter_scenarios.py). `peer` is the difference of the counter's readings at both edges, as
meters without edge placing take it. Gain is switched off here: it is a term of its own (docs/method.md, eq. 9).
Writes benchmarks/latest/meter.json; with --save a dated table and summary beside this file.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from meter_faults import faults
from meter_loads import FAST, SLOW, added_up, beats, bursts, periodic, random_steps
from meter_scenarios import COUNTERLESS, SENSORS, Measured, Rig, load_simulator

from stillwatt.records import Absent, Energy

HERE = Path(__file__).resolve().parent
ROUNDING_J = 2e-3
"""A counter tells whole millijoules, at both edges."""
BUCKETS = {"100 ms": (0.0, 0.5), "1-2 s": (1.0, 2.0), ">= 2 s": (2.0, math.inf)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6, help="sessions of eight cards a scenario and sensor")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save", action="store_true", help="keep a dated table and summary beside this file")
    parser.add_argument("--no-overhead", action="store_true", help="leave out what the meter costs (a minute)")
    arguments = parser.parse_args()
    rig = Rig(load_simulator(), np.random.default_rng(arguments.seed))
    rows: list[dict[str, Any]] = []
    num_traces = 0
    for scenario, sensor, traces in scenarios(rig, arguments.rounds):
        num_traces += len(traces)
        rows += [row(scenario, sensor, one) for trace in traces for one in trace]
    table = list(tabulate(rows))
    text = "\n".join(render(table))
    print(text)
    summary = summarise(rows, num_traces) | ({} if arguments.no_overhead else overhead())
    print(json.dumps(summary, indent=1))
    (HERE / "latest").mkdir(exist_ok=True)
    payload = {"rows": rows, "summary": summary}
    (HERE / "latest" / "meter.json").write_text(json.dumps(payload) + "\n", encoding="utf-8")
    if arguments.save:
        date = datetime.now(UTC).date().isoformat()
        kept = {"date": date, "rounds": arguments.rounds, "seed": arguments.seed, "summary": summary, "table": table}
        (HERE / f"meter-{date}.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        (HERE / f"meter-{date}.txt").write_text(text + "\n", encoding="utf-8")


def scenarios(rig: Rig, rounds: int) -> Iterator[tuple[str, str, list[list[Measured]]]]:
    """Every scenario over every sensor it is meant for."""
    for sensor, card in SENSORS.items():
        yield "random steps, 0.2-3 s", sensor, random_steps(rig, card, rounds, SLOW)
        yield "random steps, 0.05-0.3 s", sensor, random_steps(rig, card, rounds, FAST)
        found = bursts(rig, card, 2 * rounds)
        yield "ten 100-ms bursts, each a stage", sensor, found
        yield "ten 100-ms bursts, added up", sensor, [[added_up(trace)] for trace in found]
    for sensor, card in COUNTERLESS.items():
        yield "random steps, 0.2-3 s", sensor, random_steps(rig, card, rounds, SLOW)
        yield "periodic 0.5-5 Hz or constant", sensor, periodic(rig, card, rounds)
    a100 = "arch=7 name=NVIDIA-A100-SXM4-80GB average=0"
    yield "beats: 10 Hz and a little", "A100 100/25, true counter", beats(rig, a100, rounds)
    yield "beats: 10 Hz and a little", "A100 100/25, no counter", beats(rig, f"{a100} counter=0", rounds)
    yield from faults(rig, rounds)


def row(scenario: str, sensor: str, one: Measured) -> dict[str, Any]:
    """One stage of one card as the contract has it, and a little more."""
    base = {"scenario": scenario, "sensor": sensor, "true_j": one.true_j, "length_s": one.length_s}
    if isinstance(one.energy, Absent):
        gone = dict.fromkeys(("value_j", "low_j", "high_j", "error_pct", "peer_error_pct"))
        return base | gone | {"covered": None, "absent": one.energy.reason}
    energy: Energy = one.energy
    return base | {
        "value_j": energy.value_j,
        "low_j": energy.low_j,
        "high_j": energy.high_j,
        "error_pct": 100 * (energy.value_j - one.true_j) / one.true_j,
        "covered": bool(energy.low_j - ROUNDING_J <= one.true_j <= energy.high_j + ROUNDING_J),
        "peer_error_pct": None if math.isnan(one.peer_j) else 100 * (one.peer_j - one.true_j) / one.true_j,
        "missing_s": energy.missing_s,
        "flags": [flag.partition(":")[0] for flag in energy.flags],
    }


def tabulate(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Errors, coverage and half-widths by scenario, sensor and length of stage."""
    keys = dict.fromkeys((one["scenario"], one["sensor"]) for one in rows)
    for scenario, sensor in keys:
        for bucket, (low_s, high_s) in BUCKETS.items():
            chosen = [
                one
                for one in rows
                if (one["scenario"], one["sensor"]) == (scenario, sensor) and low_s <= one["length_s"] < high_s
            ]
            if chosen:
                yield {"scenario": scenario, "sensor": sensor, "stages": bucket} | figures(chosen)


def figures(chosen: list[dict[str, Any]]) -> dict[str, Any]:
    """Of whole stages; those with missing seconds or no energy are counted apart."""
    whole = [one for one in chosen if one["value_j"] is not None and not one["missing_s"]]
    found: dict[str, Any] = {"n": len(chosen), "absent_or_partly_missing": len(chosen) - len(whole)}
    if not whole:
        return found
    errors = np.abs([one["error_pct"] for one in whole])
    peers = np.abs([one["peer_error_pct"] for one in whole if one["peer_error_pct"] is not None])
    half = [50 * (one["high_j"] - one["low_j"]) / one["true_j"] for one in whole]
    found |= {
        "error_median_pct": round(float(np.median(errors)), 3),
        "error_p95_pct": round(float(np.quantile(errors, 0.95)), 3),
        "covered_pct": round(100 * float(np.mean([one["covered"] for one in whole])), 2),
        "halfwidth_median_pct": round(float(np.median(half)), 3),
        "flagged_pct": round(100 * float(np.mean([bool(one["flags"]) for one in whole])), 1),
    }
    if peers.size:
        found |= {
            "peer_median_pct": round(float(np.median(peers)), 3),
            "peer_p95_pct": round(float(np.quantile(peers, 0.95)), 3),
        }
    return found


def render(table: list[dict[str, Any]]) -> Iterator[str]:
    """Lines for people."""
    yield (
        f"{'scenario':36s}{'sensor':41s}{'stages':8s}{'n':>6s}{'gone':>6s}{'median':>8s}{'p95':>8s}{'covered':>9s}"
        f"{'half':>8s}{'flagged':>9s}{'peer':>8s}{'p95':>8s}"
    )
    for one in table:
        numbers = [
            f"{one[name]:{width}.2f}" if name in one else " " * (width - 1) + "-"
            for name, width in (
                ("error_median_pct", 8),
                ("error_p95_pct", 8),
                ("covered_pct", 9),
                ("halfwidth_median_pct", 8),
                ("flagged_pct", 9),
                ("peer_median_pct", 8),
                ("peer_p95_pct", 8),
            )
        ]
        counts = f"{one['n']:6d}{one['absent_or_partly_missing']:6d}"
        yield f"{one['scenario']:36s}{one['sensor']:41s}{one['stages']:8s}{counts}{''.join(numbers)}"


def summarise(rows: list[dict[str, Any]], num_traces: int) -> dict[str, Any]:
    """Over all scenarios, faults included; half-widths of stages of at least 2 s with a counter."""
    whole = [one for one in rows if one["value_j"] is not None and not one["missing_s"]]
    counter = [one for one in whole if one["length_s"] >= 2 and one["sensor"] in SENSORS]
    half = [50 * (one["high_j"] - one["low_j"]) / one["true_j"] for one in counter]
    return {
        "traces": num_traces,
        "stages": len(rows),
        "covered_pct": round(100 * float(np.mean([one["covered"] for one in whole])), 2),
        "median_halfwidth_pct": round(float(np.median(half)), 3),
    }


def overhead() -> dict[str, Any]:
    """What the meter costs, from the other benches."""
    from bench_meter_cost import RECORDED, import_cost, sampler_cost_8gpu, stage_cost
    from bench_store import measure

    imported, sampler = import_cost("stillwatt", "stillwatt.Run"), sampler_cost_8gpu()
    return {
        "import_cpu_s": imported["cpu_s"],
        "import_rss_mb": imported["rss_mib"] * 1.048576,
        "stage_us": stage_cost()["median_us"],
        "cpu_s_per_min_8gpu_10hz": sampler["cpu_s_per_min"],
        "cpu_s_per_min_8gpu_record": sampler_cost_8gpu(card=RECORDED)["cpu_s_per_min"],
        "sampler_rss_mb": sampler["rss_mib"] * 1.048576,
        "post_rows_per_s": measure(20_000_000)["post_rows_per_s"],
    }


if __name__ == "__main__":
    main()
