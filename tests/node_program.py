"""What a node of a launch without a shared disk runs in tests: two stages, with marks passed by files between nodes.

node_program.py RUNS_DIR MEETING_DIR RANK WORLD_SIZE WALL_OFFSET_S [--die]
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import stillwatt
from stillwatt.clock import SystemClock
from stillwatt.units import nanoseconds

_PATIENCE_S = 60.0


class WrongClock(SystemClock):
    """The wall clock of a node that nobody set."""

    def __init__(self, offset_s: float) -> None:
        self._offset_ns = nanoseconds(offset_s)

    def utc_ns(self) -> int:
        return super().utc_ns() + self._offset_ns


def main() -> None:
    """Measure with the others, as far as the files that nodes leave each other allow."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs_dir")
    parser.add_argument("meeting_dir", type=Path)
    parser.add_argument("rank", type=int)
    parser.add_argument("world_size", type=int)
    parser.add_argument("wall_offset_s", type=float)
    arguments = parser.parse_args()
    os.environ.update(
        STILLWATT_RUN_GROUP="job 7", STILLWATT_RANK=str(arguments.rank), STILLWATT_WORLD_SIZE=str(arguments.world_size)
    )
    clock = WrongClock(arguments.wall_offset_s)
    with stillwatt.Run("nodes", runs_dir=arguments.runs_dir, sensors=("synthetic",), clock=clock) as run:
        for step in range(3):
            meet(arguments, f"step-{step}")
            run.mark("step")
            with run.stage("train", kind="student_train") as stage:
                time.sleep(0.4)
                stage.add_tokens(10)


def meet(arguments: argparse.Namespace, name: str) -> None:
    """Go on when every rank is here."""
    (arguments.meeting_dir / f"{name}.{arguments.rank}").touch()
    until = time.monotonic() + _PATIENCE_S
    while len(list(arguments.meeting_dir.glob(f"{name}.*"))) < arguments.world_size:
        assert time.monotonic() < until, f"the other nodes did not come to {name}"
        time.sleep(0.001)


if __name__ == "__main__":
    main()
