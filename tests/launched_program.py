"""What each rank of a launcher's job runs in tests: measures one stage on simulated cards. No torch, no MPI library.

LAUNCHER … launched_program.py RUNS_DIR NVML_LIBRARY SECONDS [--without RANK]
"""

from __future__ import annotations

import argparse
import os
import sys
import time

import stillwatt
from stillwatt.ledger.group import launch_group


def main() -> None:
    """Measure one stage, and say which launch this process takes itself for a part of."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs_dir")
    parser.add_argument("nvml", help="path of the simulated NVML")
    parser.add_argument("seconds", type=float)
    parser.add_argument("--without", type=int, help="the rank that ends before it measures anything")
    arguments = parser.parse_args()
    group = launch_group(os.environ)
    assert group is not None, sorted(name for name in os.environ if name.startswith(("OMPI", "PMI", "SLURM", "MPI")))
    # one write, so that the lines of all ranks stay whole
    sys.stdout.write(f"{group.launcher} {group.rank} of {group.world_size}\n")
    if group.rank == arguments.without:
        return
    options = {"nvml": {"library": arguments.nvml}}
    with stillwatt.Run("launch", runs_dir=arguments.runs_dir, sensors=("nvml",), options=options) as run:
        with run.stage("train", kind="student_train", labels={"rank": str(group.rank)}) as stage:
            time.sleep(arguments.seconds)
            stage.add_tokens(100 + (group.rank or 0))


if __name__ == "__main__":
    main()
