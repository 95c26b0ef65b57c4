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

from meter_cost_pairs import paired_blocks, sampler_pid

IMPORT = """
import time
def resident():  # not the peak: a fresh interpreter inherits that of the process it was started from
    return int(open("/proc/self/statm").read().split()[1]) * 4096
before, start = resident(), time.process_time()
import {module}
{touch}
cpu_s = time.process_time() - start
print(cpu_s, (resident() - before) / 2**20)
"""
ENTER = """
import atexit
run = stillwatt.Run("bench", runs_dir={folder!r}).__enter__()
atexit.register(run.__exit__, None, None, None)
"""
ENDLESS = """
while True:
    pass
"""


def import_cost(module: str, touch: str = "") -> dict[str, float]:
    """CPU seconds and MiB of importing a module in a fresh interpreter: medians of fifteen.

    Bytecode is there, as after an installation; the first start, which makes it, does not count.
    """
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": f"{folder}/bytecode"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        script = IMPORT.format(module=module, touch=touch.format(folder=folder))
        for _ in range(16):
            command = [sys.executable, "-c", script]
            out = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
            runs.append([float(word) for word in out.split()])
    return {"cpu_s": statistics.median(r[0] for r in runs[1:]), "rss_mib": statistics.median(r[1] for r in runs[1:])}


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
        process = psutil.Process(sampler_pid(run))
        start_s = sum(process.cpu_times()[:2])
        time.sleep(seconds)
        used_s = sum(process.cpu_times()[:2]) - start_s
        rss_mib = process.memory_info().rss / 2**20
    return {"cpu_s_per_min": used_s * 60 / seconds, "rss_mib": rss_mib}


POLLED = "gpu arch=8 random=7 watts=700 low=50"
RECORDED = "gpu arch=9 samples=1 samples_ms=20 samples_window_ms=25 random=7 watts=700 low=50"
"""A card whose driver keeps a record of power, as Hopper's does."""


def sampler_cost_8gpu(seconds: float = 30.0, *, card: str = POLLED) -> dict[str, float]:
    """The same with eight simulated cards, through NVML's interface.

    Counter and power of each are read ten times a second, or, where the driver keeps a record of power, that record in
    one go (docs/decisions/0018).
    """
    import psutil

    import stillwatt

    environment, library = simulated_cards()
    with tempfile.TemporaryDirectory() as folder:
        os.environ[environment] = ";".join([card] * 8)
        with stillwatt.Run("bench", runs_dir=folder, sensors=("nvml",), options={"nvml": {"library": library}}) as run:
            process = psutil.Process(sampler_pid(run))
            time.sleep(2.0)
            start_s = sum(process.cpu_times()[:2])
            time.sleep(seconds)
            used_s = sum(process.cpu_times()[:2]) - start_s
            rss_mib = process.memory_info().rss / 2**20
        del os.environ[environment]
    return {"cpu_s_per_min": used_s * 60 / seconds, "rss_mib": rss_mib}


def simulated_cards() -> tuple[str, str]:
    """The variable that configures the simulator of cards, and the library; built once."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
    from nvml_simulator_build import ENVIRONMENT, build

    folder = Path(tempfile.gettempdir()) / f"stillwatt-bench-{os.getpid()}"
    folder.mkdir(exist_ok=True)
    library = folder / "libnvidia-ml.so.1"
    return ENVIRONMENT, str(library if library.exists() else build(folder))


def slow_down(pairs: int = 120, workers: int = 1) -> dict[str, float]:
    """Speed of a busy program with the sampling process running over its speed with that stopped, in turns.

    With one worker for each core the sampler has no idle core to hide on. Eight simulated cards are read meanwhile.
    """
    import stillwatt

    environment, library = simulated_cards()
    with tempfile.TemporaryDirectory() as folder:
        os.environ[environment] = ";".join([POLLED] * 8)
        crowd = [subprocess.Popen([sys.executable, "-c", ENDLESS]) for _ in range(workers - 1)]
        try:
            with stillwatt.Run("bench", runs_dir=folder, options={"nvml": {"library": library}}) as run:
                time.sleep(2.0)
                return {"workers": workers, **paired_blocks(count, sampler_pid(run), pairs=pairs, block_s=0.4)}
        finally:
            for one in crowd:
                one.kill()
                one.wait()
            del os.environ[environment]


def count(seconds: float) -> int:
    """Count in a loop for so long."""
    n, end_s = 0, time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        for _ in range(2_000):
            n += 1
    return n


def main() -> None:
    """Run every part and print it."""
    report = {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
        "import stillwatt": import_cost("stillwatt"),
        "import and reach Run": import_cost("stillwatt", "stillwatt.Run"),
        "import and enter a Run": import_cost("stillwatt", ENTER),
        "import pyarrow (for scale)": import_cost("pyarrow"),
        "stage begin + end": stage_cost(),
        "sampling process, 10 Hz": sampler_cost(),
        "sampling process, 8 GPUs, 10 Hz": sampler_cost_8gpu(),
        "sampling process, 8 GPUs, record of power": sampler_cost_8gpu(card=RECORDED),
        "busy program, speed with the sampler to without": slow_down(),
        "the same, all cores busy": slow_down(workers=os.cpu_count() or 1),
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
