"""Run records made by hand: a small study with three arms, and a single measured command."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from stillwatt.records import (
    Absent,
    Basis,
    Boundary,
    Energy,
    NoTotal,
    ProbeRecord,
    RunRecord,
    StageKind,
    StageRecord,
    StageSpan,
    StageStatus,
    Total,
    Trace,
    TracePoint,
)

FORMULA = "idle_w + utilisation * (busy_w - idle_w) per package, from /proc/stat; busy_w 65 W from the CPU's TDP"
DRAM_FORMULA = "0.375 W per GiB of installed DRAM"
IDLE_BASELINE = NoTotal(reason="no idle baseline was measured")


def energy(
    value_j: float, part: str = "cpu0", *, random_j: float | None = None, gain: float = 0.4, **changes: Any
) -> Energy:
    """A modelled energy; the systematic part is `gain` of the value on both sides."""
    made = Energy(
        part=part,
        device="2 cores of an x86-64 package" if part.startswith("cpu") else "8 GiB DRAM",
        boundary=Boundary.CHIP,
        value_j=value_j,
        random_j=0.02 * abs(value_j) if random_j is None else random_j,
        systematic_low_j=gain * abs(value_j),
        systematic_high_j=gain * abs(value_j),
        basis=Basis.MODELLED,
        method="model",
        coverage=1.0,
        failed_reads=0,
        estimated_j=0.0,
        missing_s=0.0,
        driver="host_model",
        source=FORMULA if part.startswith("cpu") else DRAM_FORMULA,
    )
    return replace(made, **changes)


def total(energies: Sequence[Energy | Absent]) -> Total | NoTotal:
    """A plain sum with one driver's interval, as the ledger would give it."""
    known = [entry for entry in energies if isinstance(entry, Energy)]
    absent = tuple(dict.fromkeys(entry.part for entry in energies if isinstance(entry, Absent)))
    if not known:
        return NoTotal(reason="every part is absent")
    value = math.fsum(entry.value_j for entry in known)
    random = math.hypot(*(entry.random_j for entry in known))
    low = math.fsum(entry.systematic_low_j for entry in known)
    high = math.fsum(entry.systematic_high_j for entry in known)
    return Total(
        value_j=value,
        low_j=value - math.hypot(random, low),
        high_j=value + math.hypot(random, high),
        basis=Basis.MODELLED,
        complete=not absent,
        absent=absent,
        share_by_basis=((Basis.MODELLED, 1.0),),
    )


def stage(
    stage_id: str,
    name: str,
    kind: StageKind,
    *,
    joules: float | None = None,
    energies: Sequence[Energy | Absent] | None = None,
    duration_s: float = 10.0,
    tokens: float | None = None,
    labels: Mapping[str, str] | None = None,
    results: Mapping[str, Any] | None = None,
    status: StageStatus = StageStatus.ENDED,
    parent_id: str | None = None,
    attempt: int = 1,
    workload: Mapping[str, float] | None = None,
) -> StageRecord:
    """A stage whose energy is `joules`, nine tenths of it CPU and one tenth DRAM."""
    if energies is None:
        energies = () if joules is None else (energy(0.9 * joules), energy(0.1 * joules, "dram0"))
    return StageRecord(
        stage_id=stage_id,
        parent_id=parent_id,
        name=name,
        kind=kind,
        attempt=attempt,
        status=status,
        start_utc="2026-03-01T10:00:00.000Z",
        duration_s=duration_s,
        workload={**({} if tokens is None else {"tokens": tokens}), **(workload or {})},
        labels=dict(labels or {}),
        results=dict(results or {}),
        energies=tuple(energies),
        gross=total(energies),
        net=IDLE_BASELINE,
    )


def scores(perplexity: float, accuracy: float, *, items: int = 32) -> dict[str, Any]:
    """What an evaluation stage records."""
    return {
        "scores": [
            {"task": "perplexity", "value": perplexity, "se": 0.011 * perplexity, "n": 4096, "higher_is_better": False},
            {
                "task": "choice4",
                "value": accuracy,
                "se": math.sqrt(accuracy * (1.0 - accuracy) / items),
                "n": items,
                "higher_is_better": True,
            },
        ]
    }


def run_record(
    stages: Sequence[StageRecord], *, unallocated_j: float = 20.0, name: str = "quickstart", **changes: Any
) -> RunRecord:
    """A run of those stages, whose ledger closes."""
    roots = [entry for entry in stages if entry.parent_id is None]
    loose = (energy(0.9 * unallocated_j), energy(0.1 * unallocated_j, "dram0"))
    everything = [part for entry in roots for part in entry.energies] + list(loose)
    duration_s = sum(entry.duration_s for entry in roots) + 2.0
    made = RunRecord(
        run_id="20260301T100000-quickstart-5e1f0c",
        name=name,
        status=StageStatus.ENDED,
        start_utc="2026-03-01T10:00:00.000Z",
        duration_s=duration_s,
        complete=True,
        stages=tuple(stages),
        unallocated=total(loose),
        total=total(everything),
        meter={"cpu_s": 1.9, "samples": 11400.0, "failed_reads": 0.0, "sessions": 1.0},
        environment={"cpu": "Xeon", "cores": 2, "memory_bytes": 8 << 30, "python": "3.11.9", "torch": "2.13.0"},
        settings={"name": name, "analysis": {"reuse": [10], "baseline_arm": "sft"}},
        settings_sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        probes=(
            ProbeRecord(driver="nvml", usable=False, detail="no NVIDIA driver on this machine", cure=""),
            ProbeRecord(
                driver="rapl",
                usable=False,
                detail="/sys/class/powercap/intel-rapl:0 does not exist",
                cure="run on the host, not in a virtual machine",
            ),
            ProbeRecord(driver="host_model", usable=True, detail="2 cores, 8 GiB", cure=""),
        ),
        gaps=0,
        warnings=(),
        traces=_traces(stages),
        spans=_spans(stages),
    )
    return replace(made, **changes)


def arm_stages(
    first_id: int,
    arm: str,
    method: str,
    joules: tuple[float, float],
    found: tuple[dict[str, Any], dict[str, Any]],
    *,
    artifact: str | None = None,
    student: str = "pruned",
    seed: str = "1",
) -> list[StageRecord]:
    """Training and evaluation of one arm at half and full budget."""
    made = []
    for index, checkpoint in enumerate(("0.5", "1.0")):
        labels = {"arm": arm, "method": method, "student": student, "seed": seed, "checkpoint": checkpoint}
        made.append(
            stage(
                f"a{first_id + 2 * index}",
                f"train.{arm}.{checkpoint}",
                StageKind.STUDENT_TRAIN,
                joules=joules[index],
                duration_s=joules[index] / 31.0,
                tokens=16384,
                workload={"supervised_tokens": 16352, "steps": 16},
                labels=labels | ({"artifact": artifact} if artifact else {}),
            )
        )
        made.append(
            stage(
                f"a{first_id + 2 * index + 1}",
                f"evaluate.{arm}.{checkpoint}",
                StageKind.EVALUATE,
                joules=420.0,
                duration_s=13.6,
                tokens=7168,
                labels={"arm": arm, "student": student, "checkpoint": checkpoint},
                results=found[index],
            )
        )
    return made


def by_lora(run: RunRecord, *, trained: int = 5120) -> RunRecord:
    """The same run, had its arms trained so many weights of adapters beside a student's million."""
    told = {"parameters": 1_000_000, "trained_parameters": trained}
    stages = [
        replace(entry, results={**entry.results, **told}) if entry.kind is StageKind.STUDENT_TRAIN else entry
        for entry in run.stages
    ]
    return replace(run, stages=tuple(stages))


def quickstart(**changes: Any) -> RunRecord:
    """A small study on two cores: SFT, logit KD and synthetic SFT, two checkpoints each, all energies modelled."""
    logits, text = "logits-0a1b2c3d4e5f", "text-5f4e3d2c1b0a"
    stages = [
        stage("a1", "idle_baseline", StageKind.IDLE_BASELINE, joules=55.0, duration_s=5.0),
        stage("a2", "prepare_data", StageKind.PREPARE_DATA, joules=560.0, duration_s=19.0, tokens=40960),
        stage(
            "a3",
            "evaluate.teacher",
            StageKind.EVALUATE,
            joules=690.0,
            duration_s=22.0,
            tokens=7168,
            labels={"arm": "teacher"},
            results=scores(14.1, 0.8125),
        ),
        stage(
            "a4",
            "evaluate.start.pruned",
            StageKind.EVALUATE,
            joules=415.0,
            duration_s=13.4,
            tokens=7168,
            labels={"arm": "start", "student": "pruned"},
            results=scores(61.0, 0.5625),
        ),
        stage(
            "a5",
            "teacher_logits",
            StageKind.TEACHER_LOGITS,
            joules=1890.0,
            duration_s=61.0,
            tokens=32768,
            labels={"artifact": logits, "artifact_kind": "logits"},
            results={"bytes": 13_400_000, "bytes_per_token": 409.0, "kept_mass": 0.957, "tokens": 32768},
        ),
        stage(
            "a6",
            "teacher_generate",
            StageKind.TEACHER_GENERATE,
            joules=4350.0,
            duration_s=148.0,
            tokens=44032,
            workload={"generated_tokens": 36100, "accepted_tokens": 33000},
            labels={"artifact": text, "artifact_kind": "text"},
        ),
        *arm_stages(7, "sft", "sft", (3310.0, 3280.0), (scores(30.9, 0.6875), scores(25.2, 0.71875))),
        *arm_stages(11, "kd", "kd", (3490.0, 3505.0), (scores(25.9, 0.71875), scores(21.7, 0.75)), artifact=logits),
        *arm_stages(
            15,
            "synthetic",
            "synthetic_sft",
            (3240.0, 3255.0),
            (scores(35.5, 0.65625), scores(31.9, 0.6875)),
            artifact=text,
        ),
        stage(
            "a19",
            "serve.teacher",
            StageKind.SERVE,
            joules=880.0,
            duration_s=29.0,
            tokens=2048,
            labels={"arm": "teacher"},
        ),
        stage(
            "a20",
            "serve.student.pruned",
            StageKind.SERVE,
            joules=610.0,
            duration_s=20.0,
            tokens=2048,
            labels={"student": "pruned"},
        ),
    ]
    return run_record(stages, **changes)


def measured_command(**changes: Any) -> RunRecord:
    """What `stillwatt measure -- COMMAND` leaves: one stage, no arms."""
    stages = [stage("a1", "python train.py", StageKind.OTHER, joules=312.0, duration_s=12.5)]
    return run_record(stages, name="python train.py", unallocated_j=4.0, **changes)


def _spans(stages: Sequence[StageRecord]) -> tuple[StageSpan, ...]:
    spans, at_s = [], 0.5
    for entry in stages:
        if entry.parent_id is None:
            spans.append(
                StageSpan(stage_id=entry.stage_id, session="host-1-a", start_s=at_s, end_s=at_s + entry.duration_s)
            )
            at_s += entry.duration_s
    return tuple(spans)


def _traces(stages: Sequence[StageRecord]) -> tuple[Trace, ...]:
    """Power about each stage's mean, with a made-up ripple."""
    spans = {span.stage_id: span for span in _spans(stages)}
    end_s = max((span.end_s for span in spans.values()), default=1.0) + 1.5
    bucket_s = end_s / 400
    traces = []
    for part in ("cpu0", "dram0"):
        points = []
        for number in range(400):
            t_s = number * bucket_s
            watts = _stage_power(stages, spans, part, t_s)
            ripple = 0.06 * math.sin(number * 1.7) + 0.03 * math.sin(number * 0.31)
            points.append(
                TracePoint(
                    t_s=t_s,
                    mean_w=watts * (1.0 + ripple),
                    low_w=watts * (0.88 + ripple),
                    high_w=watts * (1.09 + ripple),
                )
            )
        traces.append(Trace(session="host-1-a", part=part, points=tuple(points)))
    return tuple(traces)


def _stage_power(stages: Sequence[StageRecord], spans: Mapping[str, StageSpan], part: str, t_s: float) -> float:
    for entry in stages:
        span = spans.get(entry.stage_id)
        if span and span.start_s <= t_s < span.end_s and entry.duration_s > 0.0:
            return sum(e.value_j for e in entry.energies if isinstance(e, Energy) and e.part == part) / entry.duration_s
    return 9.0 if part == "cpu0" else 1.0
