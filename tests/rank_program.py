"""What each rank of a launch runs in tests: opens the launch's run, works in stages, passes marks with the others.

torchrun … rank_program.py RUNS_DIR NVML_LIBRARY SECONDS [--leave-early] [--lag]
"""

from __future__ import annotations

import argparse
import time

import torch.distributed

import stillwatt

_SHORT_S = 1.0


def main() -> None:
    """Measure one stage, with the others of the launch."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs_dir")
    parser.add_argument("nvml", help="path of the simulated NVML")
    parser.add_argument("seconds", type=float)
    parser.add_argument(
        "--leave-early", action="store_true", help="rank 0, which opened the run, ends before the others"
    )
    arguments = parser.parse_args()
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    for turn in range(torch.distributed.get_world_size()):
        if turn == rank:  # rank 0 first, so that it is who claims the cards
            run = _enter(arguments)
        torch.distributed.barrier()
    run.mark("begin")
    with run.stage("train", kind="student_train", labels={"rank": str(rank)}) as stage:
        time.sleep(_SHORT_S if arguments.leave_early and rank == 0 else arguments.seconds)
        stage.add_tokens(100 + rank)
    if not arguments.leave_early:
        torch.distributed.barrier()
        run.mark("end")
    run.__exit__(None, None, None)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def _enter(arguments: argparse.Namespace) -> stillwatt.Run:
    run = stillwatt.Run(
        "launch", runs_dir=arguments.runs_dir, sensors=("nvml",), options={"nvml": {"library": arguments.nvml}}
    )
    return run.__enter__()


if __name__ == "__main__":
    main()
