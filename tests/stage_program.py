"""Carries small studies out, each in processes of its own that may be killed at any moment.

Everything is imported once and each study is then forked off: what a kill is to hit is the study's own work, not the
seconds in which libraries load. On standard input comes a line of JSON for each study (`runs_dir`, `recipe`, `losses`,
`ranks`); on standard output go the numbers of its processes and, once they are over, how they ended (negative: by
which signal). Several ranks find the environment that `torchrun` sets.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import json
import os
import random
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import torch

from stillwatt.config.load import load_recipe
from stillwatt.pipelines import logit_cache, runner
from stillwatt.pipelines.cache import reader, writer
from stillwatt.pipelines.model_sources import resolve_model
from stillwatt.pipelines.models import load_model, load_tokenizer, quieten
from stillwatt.pipelines.optimizers import make_optimizer
from stillwatt.pipelines.progress import SilentProgress
from stillwatt.pipelines.spec import TrainSpec
from stillwatt.pipelines.student_train import _Loop
from stillwatt.workflows import pipeline

SHARD_ROWS = 128
"""So that a cache of some thousand rows has many shards."""


def main() -> None:
    """Fork a study for each line."""
    torch.set_num_threads(1)
    logit_cache.SHARD_ROWS = writer.SHARD_ROWS = writer.PRIOR_ROWS = SHARD_ROWS
    _warm_up()
    assert threading.active_count() == 1, threading.enumerate()
    for line in sys.stdin:
        told = json.loads(line)
        port, pids = _free_port(), []
        for rank in range(told["ranks"]):
            pids.append(os.fork())
            if pids[-1] == 0:
                if told["ranks"] > 1:
                    os.environ |= _as_torchrun_sets(rank, told["ranks"], port)
                _carry_out(Path(told["runs_dir"]), Path(told["recipe"]), Path(told["losses"]))
        _say(json.dumps(pids))
        _say(json.dumps(_ends_of(pids)))


def _ends_of(pids: list[int]) -> list[int]:
    """How each ended; as a launcher does, what is left is ended as soon as one has failed."""
    ends: dict[int, int] = {}
    while len(ends) < len(pids):
        pid, status = os.wait()
        ends[pid] = os.waitstatus_to_exitcode(status)
        if ends[pid] != 0:
            for left in set(pids) - set(ends):
                os.kill(left, signal.SIGKILL)
    return [ends[pid] for pid in pids]


def _as_torchrun_sets(rank: int, ranks: int, port: int) -> dict[str, str]:
    """What tells a process of the launch that it belongs to."""
    local = {"LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": ranks, "GROUP_RANK": 0, "GROUP_WORLD_SIZE": 1}
    own = {"RANK": rank, "WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    launch = {"TORCHELASTIC_RUN_ID": "stages", "TORCHELASTIC_RESTART_COUNT": 0}
    return {name: str(value) for name, value in {**local, **own, **launch}.items()}


def _free_port() -> int:
    """A port that nobody is given who asks for any: between its choice and its use, another test may."""
    while True:
        port = random.randrange(10_000, 30_000)
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


def _say(text: object) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _warm_up() -> None:
    """Have everything imported that a study imports on its way, and leave it to no study to clear away."""
    assert runner is not None
    assert reader is not None
    quieten()  # a bar would begin a thread, and a fork takes no other thread along
    for is_student in (False, True):
        directory = resolve_model("tiny-random", revision=None, announce=_say, is_student=is_student).directory
        model, tokenizer = load_model(directory, dtype="float32"), load_tokenizer(directory)
        model.generate(torch.ones(1, 2, dtype=torch.long), max_new_tokens=2, pad_token_id=tokenizer.pad_token_id)
        model(input_ids=torch.ones(1, 2, dtype=torch.long)).logits.sum().backward()
        _step(list(model.parameters()))
    gc.collect()
    gc.freeze()


def _step(parameters: list[torch.nn.Parameter]) -> None:
    from accelerate import Accelerator  # what the loop imports as it begins

    assert Accelerator is not None
    spec = TrainSpec(
        optimizer="adamw", learning_rate=1e-3, warmup_steps=0, schedule="constant", max_grad_norm=1.0, batch_size=1,
        accumulation_steps=1, checkpoints=(1.0,), seeds=(1,),
    )  # fmt: skip
    make_optimizer(spec, parameters).step()


def _carry_out(runs_dir: Path, recipe: Path, losses: Path) -> None:
    """What `stillwatt run` does, less the drawing of its report; never returns."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    said = os.open(runs_dir.with_suffix(".said"), os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
    for descriptor, place in ((0, nothing), (1, said), (2, said)):
        os.dup2(place, descriptor)
    faulthandler.register(signal.SIGUSR1)  # whoever has waited too long for the study asks where it stands
    keep_losses(losses)
    # a page for people, made of what is on disk by then: it takes longer than all of a small study
    pipeline._outcome = _no_report  # type: ignore[assignment]  # a stand-in that returns nothing
    try:
        pipeline.run_recipe(
            load_recipe(recipe, []), runs_dir=runs_dir, fresh=False, progress=SilentProgress(), announce=_say
        )
    except BaseException as err:  # noqa: BLE001 - told of by the status; the fork must not go on as its parent
        _say(f"{type(err).__name__}: {err}")
        os._exit(1)
    os._exit(0)


def _no_report(_run_id: str, _root: Path, **_more: Any) -> None:
    """Leave the report out."""


def keep_losses(path: Path) -> None:
    """Append each step's loss to a file, as it is found; one write a step, so that a kill tears no line."""
    step = _Loop.step

    def watched(loop: Any, batches: Any, number: int, steps: int) -> float:
        loss = step(loop, batches, number, steps)
        line = json.dumps({"arm": loop._job.arm_id, "step": number, "loss": loss}) + "\n"
        descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
        os.write(descriptor, line.encode())
        os.close(descriptor)
        return loss

    # a watch from outside, as the loop tells of its first and last step alone
    _Loop.step = watched  # type: ignore[assignment, method-assign]  # the real step, with its loss written down


if __name__ == "__main__":
    main()
