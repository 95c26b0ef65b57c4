"""Carries out a pipeline: every stage in order, each measured, each kept once it is done.

The only place where stages meet. A run that was killed is started again with the same run directory: finished
stages are skipped, the one that was cut off runs again from its own beginning (a logit cache or generated text
from its last sealed piece), and its first attempt stays on the books.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from stillwatt.metering.meter import Meter
from stillwatt.pipelines import study
from stillwatt.pipelines.bench import Bench, OnScored, device_sync
from stillwatt.pipelines.budget import Gauge
from stillwatt.pipelines.models import quieten
from stillwatt.pipelines.progress import Progress, Task
from stillwatt.pipelines.spec import PipelineSpec
from stillwatt.pipelines.state import RunState
from stillwatt.records.window import StageKind

__all__ = ["run_pipeline"]

_OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")


def run_pipeline(
    spec: PipelineSpec,
    *,
    meter: Meter,
    run_id: str,
    run_dir: Path,
    artifacts_dir: Path,
    progress: Progress,
    announce: Callable[[str], None],
    gauge: Gauge | None = None,
    on_scored: OnScored | None = None,
) -> None:
    """Run a whole study, or what is left of it.

    Args:
        spec: The study.
        meter: Marks the stages; its `sync` is set where a GPU does the work.
        run_id: The run that pays for artefacts made now.
        run_dir: The run's directory; `state/` in it says what is finished.
        artifacts_dir: Where teacher artefacts are kept and found, across runs.
        progress: Draws bars.
        announce: Told one line about what is going on, now and then.
        gauge: Tells what the run has spent; needed where the study has a budget.
        on_scored: Told of each arm's scores at each checkpoint; what it raises ends the run.

    Raises:
        StillwattError: A stage cannot be carried out; it is marked failed and what came before it is kept.
    """
    study.check(spec)
    bench = Bench(
        spec,
        meter=meter,
        run_id=run_id,
        state=RunState(run_dir),
        artifacts_dir=artifacts_dir,
        progress=progress,
        announce=announce,
        gauge=gauge,
        on_scored=on_scored,
    )
    if bench.ranks.is_first and (name := bench.state.take_over()) is not None:
        announce(f"{name} came to its end just before the run was cut short; it is not run again")
    _measured(bench)


def _measured(bench: Bench) -> None:
    """The idle machine, the study, and the idle machine once more."""
    spec = bench.spec
    # before anything is loaded, and before a GPU is first touched: a CUDA context raises a GPU's idle power
    _measure_idle(bench, "idle_baseline", spec.idle_baseline_s)
    if spec.threads is not None:
        torch.set_num_threads(spec.threads)
    bench.meter.sync = device_sync()
    with _offline_where_local(spec):
        quieten()
        with _libraries_set_aside():
            _stages(bench)
            bench.drop_teacher()
    # nothing is loaded any more, but the CUDA context stays and the cards are warm: what differs shows as drift
    _measure_idle(bench, "idle_after", spec.idle_after_s)


def _stages(bench: Bench) -> None:
    """The whole study, in order."""
    spec = bench.spec
    study.fetch_models(bench)
    study.prepare(bench)
    study.evaluate_teacher(bench)
    for student in spec.students:
        study.evaluate_start(bench, student)
    artifacts = study.make_artifacts(bench)
    bench.drop_teacher()
    bench.settle()
    over = study.run_arms(bench, artifacts)
    study.judge(bench)
    if over is not None:
        bench.announce(f"{over}; the serving load is left out")
    elif spec.serve is not None:
        study.serve_teacher(bench)
        bench.drop_teacher()
        for student in spec.students:
            study.serve_student(bench, student)


def _measure_idle(bench: Bench, name: str, seconds: float) -> None:
    if seconds <= 0:
        return

    def work(_stage: object, task: Task) -> dict[str, float]:
        for _ in range(max(1, round(seconds))):
            time.sleep(seconds / max(1, round(seconds)))
            task.advance(seconds / max(1, round(seconds)))
        return {f"{name}_s": seconds}

    bench.run_stage(name, StageKind.IDLE_BASELINE, work, total=seconds, unit="seconds")


@contextmanager
def _libraries_set_aside() -> Iterator[None]:
    """What is loaded before any model stays for good: it is not looked through each time that a stage clears up.

    The training stack is four hundred thousand objects, a quarter of a second of every stage on a slow core.
    """
    if gc.get_freeze_count():
        yield  # the caller has done the same, and knows when to undo it
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _offline_where_local(spec: PipelineSpec) -> Iterator[None]:
    """Keep the hub libraries off the network where nothing of the study comes from it."""
    sources = [spec.teacher.source, spec.data.source, *(student.source for student in spec.students)]
    sources += [spec.evaluate.judge.source] if spec.evaluate.judge else []
    needs_hub = any(source.startswith("hf:") for source in sources)
    needs_hub = needs_hub or bool(spec.evaluate.lm_eval_tasks and not spec.evaluate.lm_eval_include_path)
    if needs_hub:
        yield
        return
    before = {name: os.environ.get(name) for name in _OFFLINE_VARIABLES}
    os.environ.update(dict.fromkeys(_OFFLINE_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
