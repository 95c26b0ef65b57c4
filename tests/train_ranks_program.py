"""One rank under torchrun, or the only process: trains a tiny student by LoRA, in two increments, and notes its losses.

train_ranks_program.py FOLDER NAME SHARDING
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import torch

from stillwatt.pipelines.models import device
from stillwatt.pipelines.spec_lora import LoraSpec
from tiny_trainings import TRAIN, job_of, run_training, start


def main(folder: Path, name: str, sharding: str) -> None:
    """KD from a cache, by adapters with dropout and by weights, layers computed again, weights decaying."""
    torch.set_num_threads(1)
    device()  # begins the process group, where there is a launch
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    lora = LoraSpec(rank=4, alpha=8.0, dropout=0.2, target_modules="all-linear", use_rslora=False)
    # AdamW's first steps are the signs of gradients, rounding and all, so the rate is small
    settings = dataclasses.replace(
        TRAIN, batch_size=1, accumulation_steps=3, learning_rate=1e-3, weight_decay=0.1, gradient_checkpointing=True
    )
    ways = {
        "lora": dataclasses.replace(settings, lora=lora),
        "weights": settings,
        "adafactor": dataclasses.replace(settings, optimizer="adafactor"),
    }
    told = {}
    for way, train in ways.items():
        wanted = job_of("kd", folder, train=train, sharding=sharding, base_dir=start() if way == "lora" else None)
        half, out = folder / f"{name}.{way}.half", folder / f"{name}.{way}"
        told[way] = [
            run_training(wanted, half, shares=(0.0, 0.5)),
            run_training(wanted, out, begin=half, shares=(0.5, 1.0)),
        ]
    (folder / f"{name}.{rank}.json").write_text(json.dumps(told), encoding="utf-8")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
