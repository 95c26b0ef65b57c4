"""Run directories of whole studies without a training: every stage of a recipe lasts as long as a known law says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from run_dirs import SyntheticRun, cpu_counter
from stillwatt.config.bundled import find_recipe
from stillwatt.config.jobs import jobs_of
from stillwatt.config.load import load_recipe
from stillwatt.config.models import Recipe
from stillwatt.records.forecast import Device, Job
from stillwatt.records.kinds import StageKind
from stillwatt.units import J_PER_UJ

POWER_W = 20.0
_ENDED = {"stopped_by": "its budget of 6 J: 5.98 J"}
_DEVICE = Device(name="any", is_gpu=False, count=2)


def smoke(*changes: str) -> Recipe:
    """The smoke recipe, changed."""
    return load_recipe(find_recipe("smoke_cpu"), list(changes))


def lasting(job: Job) -> float:
    """Seconds of a stage: a beginning, and its work at rates that lie off the priors."""
    if job.counts.waited_s:
        return job.counts.waited_s
    return 0.5 + 5e-4 * job.counts.passes + job.counts.flops / 3e9


def study_run(
    runs_dir: Path,
    recipe: Recipe,
    *,
    number: int = 1,
    times: float = 1.0,
    quality: float = 1.0,
    reused: bool = False,
    without: tuple[str, ...] = (),
    environment: Mapping[str, Any] | None = None,
    ended_at: int = 0,
) -> SyntheticRun:
    """A finished run of a recipe; `times` its law's seconds, scores that grow with the share of the budget.

    Where `ended_at` says so, every training was ended by its own budget of joules after so many tokens.
    """
    run = SyntheticRun(runs_dir, name=recipe.name, number=number, settings=recipe.resolved(), environment=environment)
    session = run.session(start_s=100.0)
    session.sampler([cpu_counter()])
    now_s = 101.0
    for job in jobs_of(recipe.to_spec(), _DEVICE):
        if job.name in without:
            continue
        tokens = ended_at if ended_at and job.kind is StageKind.STUDENT_TRAIN else job.tokens
        length_s = 0.01 if reused and job.name.startswith("teacher_") else lasting(job) * times
        session.stage(
            job.name,
            now_s,
            now_s + length_s,
            kind=job.kind.value,
            labels=_labels(job, reused=reused),
            workload={"tokens": tokens, "supervised_tokens": tokens, "steps": 4} if tokens else {},
            results={**_results(job, recipe, quality), **(_ENDED if tokens != job.tokens else {})},
        )
        now_s += length_s + 0.05
    session.samples("cpu0.energy_counter", _counter, until_s=now_s + 1.0)
    session.end(now_s + 0.5)
    return run


def _counter(t_s: float) -> int:
    return round(POWER_W * t_s / J_PER_UJ) % 262_143_328_850


def _labels(job: Job, *, reused: bool) -> dict[str, str]:
    name = job.name.split(".")
    if job.kind is StageKind.EVALUATE and len(name) == 2:
        return {"arm": name[1], "student": "tiny"} if name[1] == "start" else {"arm": name[1]}
    if job.name.startswith("serve"):
        return {"arm": "teacher"} if job.name == "serve.teacher" else {"student": "tiny"}
    if job.name.startswith("teacher_"):
        kind = job.labels["artifact_kind"]
        return {"artifact": f"{kind}-1", "artifact_kind": kind, **({"reused_from": "an earlier run"} if reused else {})}
    if len(name) >= 3:
        arm = name[1]
        method = {"synthetic": "synthetic_sft"}.get(arm, arm)
        found = {"arm": arm, "method": method, "student": "tiny", "seed": "1", "checkpoint": ".".join(name[2:])}
        artifact = {"kd": "logits-1", "synthetic": "text-1", "gkd": "online-1"}.get(arm)
        return {**found, **({"artifact": artifact} if artifact else {})}
    return {}


def _results(job: Job, recipe: Recipe, quality: float) -> dict[str, Any]:
    if job.kind is not StageKind.EVALUATE:
        return {}
    what = job.name.split(".", 2)
    value = {"teacher": 1.0, "start": 0.3}.get(what[1])
    if value is None:
        tokens = float(what[2]) * recipe.data.train_tokens
        bonus = {"sft": 0.0, "kd": 0.06, "synthetic": 0.02, "gkd": 0.01}[what[1]]
        value = quality * (0.9 + bonus - 0.3 * (tokens / 512.0) ** -0.4)
    if math.isnan(value):
        value = 0.0
        return {"scores": [{"task": "choice4", "value": None, "se": None, "n": 8, "higher_is_better": True}]}
    return {"scores": [{"task": "choice4", "value": value, "se": 0.01, "n": 800, "higher_is_better": True}]}
