"""What the meter costs: import, stage marks, the sampling process, and a busy loop with and without it.

    python benchmarks/bench_meter_cost.py [--save]

Prints a table and, with --save, keeps a dated JSON beside this file.
"""

import json
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
BUSY = "n = 0\nfor i in range(30_000_000):\n    n += i & 7\n"


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


def slow_down(pairs: int = 7) -> dict[str, float]:
    """Ratio of a busy program's CPU and wall seconds measured to bare, pair by pair."""
    walls, cpus = [], []
    for _ in range(pairs):
        with tempfile.TemporaryDirectory() as folder:
            measured = ["-m", "stillwatt", "measure", "--runs", folder, "--", sys.executable, "-c", BUSY]
            spans = [child_seconds(["-c", BUSY]), child_seconds(measured)]
            record = json.loads(
                subprocess.run(
                    [sys.executable, "-m", "stillwatt", "ledger", "show", "latest", "--runs", folder, "--json"],
                    capture_output=True,
                    check=True,
                ).stdout
            )
        # the command's own length, as its stage recorded it, against the same command bare
        walls.append(record["stages"][0]["duration_s"] / spans[0])
        cpus.append(spans[1] - spans[0])
    return {"command_wall_ratio_median": statistics.median(walls), "start_and_account_wall_s": statistics.median(cpus)}


def child_seconds(arguments: list[str]) -> float:
    """Wall seconds of one child interpreter."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


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
        "busy command, measured against bare": slow_down(),
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
