"""The meter on a real NVIDIA card: what its sensors do, what the meter makes of real kernels, what it costs them.

    python benchmarks/gpu_check.py [--out FOLDER] [--only sensors,calls,buffer,repeats,cost,users,losses,heads,study]

Part by part: a part that fails says so and the others go on. There is no shunt beside the card, so nothing here tells
its gain; what can be told is whether readings come as the driver table says (`sensors`, `buffer`), what each call costs
(`calls`), whether stages of equal work come out equal, within their intervals (`repeats`), what work loses to the meter
(`cost`), whose processes the driver names (`users`), whether the losses are exact there (`losses`) and what they take
beside other tools' (`heads`), and whether a whole study closes its books (`study`).
Writes gpu-check.json and gpu-check.txt into the folder (benchmarks/latest by default).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gpu_sensors
import gpu_stages
import numpy as np
from gpu_card import Load
from gpu_stages import OPTIONS, gaps
from meter_cost_pairs import paired_blocks, sampler_pid

import stillwatt

HERE = Path(__file__).resolve().parent
Part = Callable[[Path], dict[str, Any]]
PARTS: dict[str, Part] = {
    "sensors": gpu_sensors.sensors,
    "calls": gpu_sensors.calls,
    "buffer": gpu_sensors.buffer,
    "repeats": gpu_stages.repeats,
}


def part(work: Part) -> Part:
    PARTS[work.__name__] = work
    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "latest")
    parser.add_argument("--only", help="parts, by commas")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    wanted = arguments.only.split(",") if arguments.only else list(PARTS)
    report: dict[str, Any] = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "card": card()}
    print(json.dumps(report), flush=True)
    for name in wanted:
        begun_s = time.monotonic()
        try:
            report[name] = PARTS[name](arguments.out)
        except Exception:  # noqa: BLE001 - one part's failure is a finding; the others go on
            report[name] = {"failed": traceback.format_exc().splitlines()[-12:]}
        report[name]["took_s"] = round(time.monotonic() - begun_s, 1)
        print(name, json.dumps(report[name], default=float), flush=True)
        (arguments.out / "gpu-check.json").write_text(json.dumps(report, indent=1, default=float) + "\n", "utf-8")
    (arguments.out / "gpu-check.txt").write_text("\n".join(lines(report)) + "\n", "utf-8")
    print("\n".join(lines(report)))
    sys.exit(any("failed" in report[name] for name in wanted))


def card() -> dict[str, Any]:
    """Name, driver and what the meter would read."""
    from stillwatt.clock import SystemClock
    from stillwatt.sensors.nvml import NvmlSensor

    sensor = NvmlSensor(SystemClock())
    probe = sensor.probe()
    channels = [
        [one.stream, one.role.value, one.source, one.averaging_ns, one.update_period_ns] for one in probe.channels
    ]
    return {"usable": probe.usable, "detail": probe.detail, "cure": probe.cure, "channels": channels}


@part
def cost(out: Path) -> dict[str, Any]:
    """What the sampling process takes from work on the card: blocks with it running and stopped, in turns."""
    load, found = Load(), {}
    with tempfile.TemporaryDirectory() as folder:
        with stillwatt.Run("cost", runs_dir=folder, sensors=("nvml",), options=OPTIONS) as run:
            time.sleep(0.5)
            for label, work in (("launches", load.launches), ("products", lambda s: _count_products(load, s))):
                found[label] = paired_blocks(work, sampler_pid(run), pairs=32, block_s=0.25)
        meter = run.result.to_dict()["meter"]
        with stillwatt.Run("steady", runs_dir=folder, sensors=("nvml",), options=OPTIONS) as run:
            time.sleep(10.0)
        steady = run.result.to_dict()["meter"] | {"gaps": gaps(run.run_dir)}
    return {"speed, meter running to stopped": found, "meter": meter, "ten quiet seconds": steady}


def _count_products(load: Load, seconds: float) -> int:
    done, end_s = 0, time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        load.products(4)
        done += 4
    return done


@part
def users(out: Path) -> dict[str, Any]:
    """Whom the driver names while this process keeps the card busy."""
    load = Load()
    with tempfile.TemporaryDirectory() as folder:
        with stillwatt.Run("users", runs_dir=folder, sensors=("nvml",), options=OPTIONS) as run, run.stage("busy"):
            load.burn(3.0)
        events = [
            json.loads(line)
            for path in sorted(run.run_dir.glob("*.jsonl"))
            for line in path.read_text("utf-8").splitlines()
            if '"device_users"' in line
        ]
        record = run.result.to_dict()
    return {"events": events[-2:], "own_pid": os.getpid(), "channels": record["stages"][0]["channels"]}


@part
def losses(out: Path) -> dict[str, Any]:
    """Our heads on the card in fp32 and bf16 against fp64 on the host: value and gradients."""
    import torch

    from stillwatt.pipelines.losses import cached_kd_head

    torch.manual_seed(0)
    n, d, v, k = 512, 128, 49_152, 64
    hidden, weight = torch.randn(n, d, dtype=torch.float64), torch.randn(v, d, dtype=torch.float64) * 0.05
    targets = torch.randint(0, v, (n,))
    ids = (torch.randperm(v)[:k] + torch.randint(0, v, (n, 1))) % v
    kept = torch.log_softmax(torch.randn(n, k, dtype=torch.float64) * 3.0, -1) + np.log(0.9)
    tail = torch.full((n,), 0.1, dtype=torch.float64).log()

    def passed(device: str, dtype: Any) -> tuple[Any, Any, Any]:
        h = hidden.to(device, dtype, copy=True).requires_grad_()
        w = weight.to(device, dtype, copy=True).requires_grad_()
        teacher = (ids.to(device), kept.to(device, torch.float32), tail.to(device, torch.float32))
        if dtype == torch.float64:
            teacher = (ids, kept, tail)
        head = cached_kd_head(h, w, targets.to(device), *teacher, alpha=0.5, temperature=1.0)
        loss = head.sum / head.count
        slopes = torch.autograd.grad(loss, (h, w))
        return loss.detach().double().cpu(), slopes[0].double().cpu(), slopes[1].double().cpu()

    want = passed("cpu", torch.float64)
    found = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        got = passed("cuda", dtype)
        found[name] = [float((one - true).norm() / true.norm()) for one, true in zip(got, want, strict=True)]
    return {"relative error of loss, d hidden, d weight": found}


@part
def heads(out: Path) -> dict[str, Any]:
    """Our heads against plain cross-entropy, naive losses and other tools: seconds and peak memory, 2,048 positions."""
    from gpu_heads import timed_heads

    return {dtype: timed_heads("cuda", dtype, 2048, 49_152) for dtype in ("float32", "bfloat16")}


@part
def study(out: Path) -> dict[str, Any]:
    """A whole study on the card: the smoke recipe through the command, from cached logits to the report."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "stillwatt", "run", "smoke_cpu", "--runs", folder]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        show = [sys.executable, "-m", "stillwatt", "ledger", "show", "latest", "--runs", folder, "--json"]
        shown = subprocess.run(show, capture_output=True, text=True, timeout=60, check=False)
        (out / "gpu-study.txt").write_text(done.stdout + done.stderr + shown.stderr, "utf-8")
        record = json.loads(shown.stdout) if shown.stdout.startswith("{") else {}
        (out / "gpu-study.json").write_text(json.dumps(record, indent=1), "utf-8")
    basis = {stage["name"]: stage["gross_j"].get("basis") for stage in record.get("stages", [])}
    return {
        "status": done.returncode,
        "shown": shown.returncode,
        "stages": len(basis),
        "basis": basis,
        **{name: record.get(name) for name in ("total_j", "unallocated_j", "complete")},
    }


def lines(report: dict[str, Any]) -> list[str]:
    """The report as text, one figure a line."""

    def walk(prefix: str, value: Any) -> list[str]:
        if isinstance(value, dict):
            return [line for key, one in value.items() for line in walk(f"{prefix}{key}: ", one)]
        if isinstance(value, float):
            value = f"{value:.5g}"
        return [f"{prefix}{value}"]

    return [line for key, value in report.items() for line in walk(f"{key}: ", value)]


if __name__ == "__main__":
    main()
