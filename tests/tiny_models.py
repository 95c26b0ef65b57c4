"""A whole study on tiny random models, in seconds; and the plain fakes that pipeline tests share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stillwatt.metering.meter import Meter, Stage
from stillwatt.pipelines.spec import (
    ArmSpec,
    GenerateSpec,
    LogitsSpec,
    Method,
    PipelineSpec,
    StudentSpec,
    TeacherSpec,
    TrainSpec,
)
from stillwatt.pipelines.spec_data import DataSpec
from stillwatt.pipelines.spec_evaluate import EvaluateSpec, ServeSpec
from stillwatt.units import NS_PER_MS


class TickClock:
    """A clock that moves on by a millisecond at every look."""

    def __init__(self) -> None:
        self._now_ns = 0

    def monotonic_ns(self) -> int:
        self._now_ns += NS_PER_MS
        return self._now_ns

    def utc_ns(self) -> int:
        return self._now_ns


@dataclass
class ListJournal:
    """Keeps events in a list."""

    events: list[dict[str, Any]] = field(default_factory=list)

    def write(self, event: Mapping[str, Any]) -> None:
        self.events.append(dict(event))

    def of(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == name]

    def stages(self) -> list[str]:
        return [event["name"] for event in self.of("stage_started")]

    def status(self) -> dict[str, str]:
        """How the last attempt of each stage ended."""
        names = {event["stage_id"]: event["name"] for event in self.of("stage_started")}
        return {names[event["stage_id"]]: event["status"] for event in self.of("stage_ended")}

    def labels(self, name: str) -> dict[str, str]:
        return [dict(event["labels"]) for event in self.of("stage_started") if event["name"] == name][-1]

    def workload(self, name: str) -> dict[str, float]:
        """Counts of all attempts of a stage, summed."""
        ids = {event["stage_id"] for event in self.of("stage_started") if event["name"] == name}
        totals: dict[str, float] = {}
        for event in self.of("workload"):
            if event["stage_id"] in ids:
                for key, amount in event["counts"].items():
                    totals[key] = totals.get(key, 0) + amount
        return totals

    def results(self, name: str) -> dict[str, Any]:
        ids = {event["stage_id"] for event in self.of("stage_started") if event["name"] == name}
        merged: dict[str, Any] = {}
        for event in self.of("result"):
            if event["stage_id"] in ids:
                merged.update(event["results"])
        return merged


def list_meter(prefix: str = "a") -> tuple[Meter, ListJournal]:
    """A meter that writes to a list."""
    journal = ListJournal()
    return Meter(journal, TickClock(), prefix=prefix), journal


class CountingStage(Stage):
    """A stage outside any run, for calling a stage's work directly."""

    def __init__(self) -> None:
        self.meter, self.journal = list_meter()
        super().__init__(self.meter, "x1", "x")
        self.counts: dict[str, float] = {}

    def add(self, **counts: float) -> None:
        for key, amount in counts.items():
            self.counts[key] = self.counts.get(key, 0) + amount


@dataclass
class Tally:
    """A stage and a bar that keep what they are told."""

    counts: dict[str, float] = field(default_factory=dict)
    progress: float = 0.0

    def add(self, **counts: float) -> None:
        for name, amount in counts.items():
            self.counts[name] = self.counts.get(name, 0) + amount

    def advance(self, amount: float = 1) -> None:
        self.progress += amount


class CountingTask:
    """A bar that only counts."""

    def __init__(self) -> None:
        self.done = 0.0

    def advance(self, amount: float = 1) -> None:
        self.done += amount


def smoke_spec(**changes: Any) -> PipelineSpec:
    """The smallest study with all three methods; `changes` replace whole fields of the `PipelineSpec`."""
    spec = PipelineSpec(
        name="smoke",
        teacher=TeacherSpec(source="tiny-random", revision=None, dtype="float32"),
        students=(
            StudentSpec(
                name="pruned",
                source="prune-teacher",
                revision=None,
                dtype="float32",
                drop_layers=2,
                candidate_starts=(0, 1, 2),
                selection_tokens=64,
            ),
        ),
        data=DataSpec(source="random-words", sequence_tokens=32, train_tokens=512, held_out_share=0.25, seed=1),
        logits=LogitsSpec(top_k=8, temperature=1.0, batch_size=4),
        generate=GenerateSpec(
            prompt_tokens=8,
            max_new_tokens=24,
            min_new_tokens=1,
            max_repeat_share=1.0,
            temperature=1.0,
            top_p=1.0,
            batch_size=8,
            max_rounds=4,
            seed=1,
        ),
        train=TrainSpec(
            optimizer="adamw",
            learning_rate=1e-2,
            warmup_steps=1,
            schedule="cosine",
            max_grad_norm=1.0,
            batch_size=2,
            accumulation_steps=1,
            checkpoints=(0.5, 1.0),
            seeds=(1,),
        ),
        arms=(
            ArmSpec(name="sft", method=Method.SFT, alpha=None, temperature=None),
            ArmSpec(name="kd", method=Method.KD, alpha=0.5, temperature=1.0),
            ArmSpec(name="synthetic", method=Method.SYNTHETIC_SFT, alpha=None, temperature=None),
        ),
        evaluate=EvaluateSpec(
            perplexity_tokens=128,
            choice_items=8,
            choice_context_tokens=8,
            choice_continuation_tokens=4,
            batch_size=4,
            lm_eval_tasks=(),
            lm_eval_include_path=None,
            lm_eval_limit=None,
            seed=1,
        ),
        serve=ServeSpec(prompts=3, prompt_tokens=8, new_tokens=8, batch_size=2),
        idle_baseline_s=0.0,
        idle_after_s=0.0,
        threads=1,
    )
    return dataclasses.replace(spec, **changes)


def files_below(directory: Path) -> set[str]:
    """Paths of all files in a folder, relative to it."""
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}
