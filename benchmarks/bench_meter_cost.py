"""What the meter costs: import, stage marks, the sampling process, and a busy loop with and without it.

    python benchmarks/bench_meter_cost.py [--save]

Prints a table and, with --save, keeps a dated JSON beside this file.
"""

import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

IMPORT = """
import resource, time
before_kib, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
import {module}
{touch}
cpu_s = time.process_time() - start
print(cpu_s, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024)
"""
BUSY = """
import time
wall, cpu, n = time.perf_counter(), time.process_time(), 0
for i in range(15_000_000):
    n += i & 7
print("BUSY", time.perf_counter() - wall, time.process_time() - cpu, flush=True)
"""
CROWD = """
import subprocess, sys
crowd = [subprocess.Popen([sys.executable, "-c", sys.argv[2]]) for _ in range(int(sys.argv[1]))]
sys.exit(max(one.wait() for one in crowd))
"""


def import_cost(module: str, touch: str = "") -> dict[str, float]:
    """CPU seconds and MiB of importing a module in a fresh interpreter: medians of seven."""
    runs = []
    for _ in range(7):
        script = IMPORT.format(module=module, touch=touch)
        out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        runs.append([float(word) for word in out.split()])
    return {"cpu_s": statistics.median(r[0] for r in runs), "rss_mib": statistics.median(r[1] for r in runs)}


def stage_cost() -> dict[str, float]:
    """Microseconds to begin and end one stage, journal included: median and 99th percentile of 5,000."""
    import stillwatt

    spans = []
    with (
        tempfile.TemporaryDirectory() as folder,
        stillwatt.Run("bench", runs_dir=folder, sensors=("synthetic",)) as run,
    ):
        for _ in range(5_000):
            start = time.perf_counter()
            with run.stage("s"):
                pass
            spans.append((time.perf_counter() - start) * 1e6)
    spans.sort()
    return {"median_us": statistics.median(spans), "p99_us": spans[int(len(spans) * 0.99)]}


def sampler_cost(seconds: float = 20.0) -> dict[str, float]:
    """CPU seconds a minute and resident MiB of the sampling process at 10 Hz with the host's own sensors."""
    import psutil

    import stillwatt

    with tempfile.TemporaryDirectory() as folder, stillwatt.Run("bench", runs_dir=folder, period_ms=100) as run:
        process = psutil.Process(run._sampler.pid)
        start_s = sum(process.cpu_times()[:2])
        time.sleep(seconds)
        used_s = sum(process.cpu_times()[:2]) - start_s
        rss_mib = process.memory_info().rss / 2**20
    return {"cpu_s_per_min": used_s * 60 / seconds, "rss_mib": rss_mib}


def sampler_cost_8gpu(seconds: float = 30.0) -> dict[str, float]:
    """The same with eight simulated cards, counter and power of each: 16 streams at 10 Hz through NVML's interface."""
    import psutil

    import stillwatt

    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
    from nvml_simulator_build import ENVIRONMENT, build

    with tempfile.TemporaryDirectory() as folder:
        library = build(Path(folder))
        os.environ[ENVIRONMENT] = ";".join(["gpu random=7 watts=700 low=50"] * 8)
        with stillwatt.Run(
            "bench", runs_dir=folder, sensors=("nvml",), options={"nvml": {"library": str(library)}}
        ) as run:
            process = psutil.Process(run._sampler.pid)
            time.sleep(2.0)
            start_s = sum(process.cpu_times()[:2])
            time.sleep(seconds)
            used_s = sum(process.cpu_times()[:2]) - start_s
            rss_mib = process.memory_info().rss / 2**20
        del os.environ[ENVIRONMENT]
    return {"cpu_s_per_min": used_s * 60 / seconds, "rss_mib": rss_mib}


def slow_down(pairs: int = 24, workers: int = 1) -> dict[str, float]:
    """Ratio of a busy program's own wall and CPU seconds, measured to bare, with 95 % intervals of the median.

    The program times itself, so that neither interpreter start nor the account after it counts. Pairs alternate
    their order (bare first, measured first, ...): what drifts or warms up falls on both alike. `workers` programs run
    side by side; with one for each core the sampler has no idle core to hide on.
    """
    ratios: dict[str, list[float]] = {"wall": [], "cpu": []}
    for index in range(pairs):
        order = (False, True) if index % 2 == 0 else (True, False)
        spans = {measured: busy_seconds(measured, workers) for measured in order}
        for which in ratios:
            ratios[which].append(spans[True][which] / spans[False][which])
    result: dict[str, float] = {"pairs": pairs, "workers": workers}
    for which, found in ratios.items():
        result[f"{which}_ratio_median"] = statistics.median(found)
        result[f"{which}_ratio_low"], result[f"{which}_ratio_high"] = median_interval(found)
    return result


def busy_seconds(measured: bool, workers: int) -> dict[str, float]:
    """Wall and CPU seconds of the busy loop as the program itself saw them, mean over the workers."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", CROWD, str(workers), BUSY]
        if measured:
            command = [sys.executable, "-m", "stillwatt", "measure", "--runs", folder, "--", *command]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = [line.split()[1:] for line in out.splitlines() if line.startswith("BUSY ")]
    if len(lines) != workers:
        raise RuntimeError(f"{workers} busy programs ran, {len(lines)} told their time: {out!r}")
    return {
        "wall": statistics.fmean(float(wall) for wall, _ in lines),
        "cpu": statistics.fmean(float(cpu) for _, cpu in lines),
    }


def median_interval(values: list[float]) -> tuple[float, float]:
    """Order statistics that hold the median with at least 95 % (binomial, no assumption about the shape)."""
    ordered, n = sorted(values), len(values)
    below, tail = 0, 0.5**n
    while below < n // 2 and tail <= 0.025:
        below += 1
        tail += math.comb(n, below) * 0.5**n
    k = max(below - 1, 0)
    return ordered[k], ordered[n - 1 - k]


def main() -> None:
    """Run every part and print it."""
    report = {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
        "import stillwatt": import_cost("stillwatt"),
        "import and reach Run": import_cost("stillwatt", "stillwatt.Run"),
        "import pyarrow (for scale)": import_cost("pyarrow"),
        "stage begin + end": stage_cost(),
        "sampling process, 10 Hz": sampler_cost(),
        "sampling process, 8 GPUs, 10 Hz": sampler_cost_8gpu(),
        "busy program, measured to bare": slow_down(),
        "one on each core, measured to bare": slow_down(workers=os.cpu_count() or 1),
        "this process, peak MiB": {"rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024},
    }
    for name, figures in report.items():
        text = "  ".join(f"{k} {v:.4g}" for k, v in figures.items()) if isinstance(figures, dict) else figures
        print(f"{name:40s} {text}")
    if "--save" in sys.argv:
        path = Path(__file__).with_name(f"meter-cost-{report['date']}.json")
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
