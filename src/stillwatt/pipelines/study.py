"""The stages of a study, as the runner strings them: what each is called, which labels it carries, what it keeps."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stillwatt.errors import ArtifactError, StillwattError
from stillwatt.metering.meter import Stage
from stillwatt.pipelines import evaluate, prepare_data, serve, student_train, teacher_generate, teacher_logits
from stillwatt.pipelines.arm import arm_id, check_share, checkpoint_dir, evaluate_folder, run_arm, start_evaluation
from stillwatt.pipelines.artifacts import Artifact, artifact_id, find_artifact, replace_dir, seal_artifact
from stillwatt.pipelines.bench import Bench, found_or_announced
from stillwatt.pipelines.cache_fidelity import measure_fidelity
from stillwatt.pipelines.caches import open_cache
from stillwatt.pipelines.corpus import Packed, prompts_of
from stillwatt.pipelines.model_sources import is_ready
from stillwatt.pipelines.models import (
    choose_layers,
    load_model,
    load_tokenizer,
    prune_layers,
    save_model,
    tokenizer_sha256,
)
from stillwatt.pipelines.objectives.vocabulary import shared_rows
from stillwatt.pipelines.progress import Task
from stillwatt.pipelines.ranks import Ranks
from stillwatt.pipelines.spec import PipelineSpec, StudentSpec
from stillwatt.pipelines.text_writers import open_writer
from stillwatt.records.window import StageKind
from stillwatt.units import seconds

__all__ = [
    "arm_id",
    "check",
    "evaluate_start",
    "evaluate_teacher",
    "fetch_models",
    "make_artifacts",
    "prepare",
    "run_arms",
    "serve_student",
    "serve_teacher",
]

PRUNED = "prune-teacher"
"""The student source that is made from the teacher."""


def check(spec: PipelineSpec) -> None:
    """Refuse, before anything is spent, a study that cannot be carried out.

    Raises:
        StillwattError: Processes of one launch that are not joined, a budget that is not whole sequences, or an arm
            without its settings.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 == Ranks().count:
        raise StillwattError(
            "the processes of this launch know nothing of each other; begin with `pipelines.ranks.join_launch()`, as "
            "`torchrun -m stillwatt run RECIPE` does"
        )
    prepare_data.num_sequences(spec.data)
    for arm in spec.arms:
        student_train.check_arm(arm, *((spec.logits.temperature, spec.logits.source) if spec.logits else (None,)))
        settings = {"logits": spec.logits, "text": spec.generate}.get(arm.artifact_kind or "", spec)
        if settings is None:
            raise StillwattError(f"arm {arm.name!r}: method {arm.method.value} needs settings for its teacher artefact")
        if arm.own_text_share is not None and spec.own_text is None:
            raise StillwattError(f"arm {arm.name!r}: method {arm.method.value} needs settings for the student's text")


def fetch_models(bench: Bench) -> None:
    """Bring models to this machine, as a stage of its own: what a download costs is no part of any arm."""
    spec = bench.spec
    wanted = [(spec.teacher.source, spec.teacher.revision, False)]
    wanted += [(s.source, s.revision, True) for s in spec.students if s.source != PRUNED]
    if bench.ranks.of_first(lambda: all(is_ready(source) for source, _, _ in wanted)):
        return

    def work(_stage: Stage, task: Task) -> dict[str, Any]:
        models, sizes = {}, {}
        for source, revision, is_student in wanted:
            place = bench.place(source, revision, is_student=is_student)
            models[source] = place.identity
            if place.fetched_bytes:
                sizes[source] = place.fetched_bytes
            task.advance()
        return {"models": models, "fetched_bytes": sizes}

    bench.run_stage("fetch_models", StageKind.OTHER, work, total=len(wanted), unit="models")


def prepare(bench: Bench) -> None:
    """Prepare the text, check that the models fit together, and make the pruned students' starts."""
    spec = bench.spec

    def work(_stage: Stage, task: Task) -> dict[str, Any]:
        results = prepare_data.make(spec.data, spec.evaluate, bench.tokenizer(), bench.data_dir(), task=task)
        train = prepare_data.load(bench.data_dir()).train
        chosen: dict[str, list[int]] = {}
        losses: dict[str, dict[str, float]] = {}
        for student in spec.students:
            if student.source == PRUNED:
                chosen[student.name], losses[student.name] = _prune(bench, student, train)
            else:
                _check_fit(bench, student)
        return {**results, "chosen_layers": chosen, "layer_losses": losses}

    bench.run_stage("prepare_data", StageKind.PREPARE_DATA, work, total=spec.data.train_tokens)


def _prune(bench: Bench, student: StudentSpec, train: Packed) -> tuple[list[int], dict[str, float]]:
    num_rows = max(1, student.selection_tokens // train.ids_ST.shape[1])
    ids_ST = torch.from_numpy(train.ids_ST[:num_rows].astype(np.int64))
    choice = choose_layers(bench.teacher(), student, ids_ST)
    target = bench.start_dir(student)
    scratch = target.with_name(f".{target.name}.writing")
    start_ns = bench.meter.clock.monotonic_ns()
    save_model(prune_layers(bench.teacher(), choice.start, choice.count), bench.tokenizer(), scratch)
    # a checkpoint is as large: what the first training will take to end is known beforehand
    bench.budgets.note_writing(float(seconds(bench.meter.clock.monotonic_ns() - start_ns)))
    replace_dir(scratch, target)
    left_out = list(range(choice.start, choice.start + choice.count))
    return left_out, {str(start): loss for start, loss in choice.losses.items()}


def _check_fit(bench: Bench, student: StudentSpec) -> None:
    from transformers import AutoConfig

    sizes = [
        int(AutoConfig.from_pretrained(str(directory), local_files_only=True).get_text_config().vocab_size)
        for directory in (bench.teacher_place().directory, bench.start_dir(student))
    ]
    tokenizer = bench.tokenizer()
    same = tokenizer_sha256(load_tokenizer(bench.start_dir(student))) == tokenizer_sha256(tokenizer)
    num_tokens = max(tokenizer.get_vocab().values()) + 1
    shared_rows(*sizes, num_tokens=num_tokens, same_tokens=same, student=student.name)


def evaluate_teacher(bench: Bench) -> None:
    """Score the teacher; its scores are what qualities are relative to."""

    def work(_stage: Stage, task: Task) -> dict[str, Any]:
        scores = evaluate.make(bench.teacher(), bench.tokenizer(), bench.data(), bench.spec.evaluate, task=task)
        return {"scores": scores}

    total = evaluate.total_work(bench.spec.evaluate)
    bench.run_stage("evaluate.teacher", StageKind.EVALUATE, work, labels={"arm": "teacher"}, total=total)


def evaluate_start(bench: Bench, student: StudentSpec) -> None:
    """Score a student before any training."""
    name = start_evaluation(bench.spec, student)
    labels = {"arm": "start", "student": student.name}
    evaluate_folder(bench, student, bench.start_dir(student), name, labels)


def run_arms(bench: Bench, artifacts: Mapping[str, Artifact]) -> str | None:
    """Train every arm of every student with every seed; returns why the run's budget left some of it out."""
    spec, begun, over = bench.spec, 0, None
    if bench.ranks.is_first:
        for arm in spec.arms:
            check_share(bench, arm, artifacts.get(arm.artifact_kind or ""))
    for student in spec.students:
        for arm in spec.arms:
            for seed in spec.train.seeds:
                name = arm_id(spec, student, arm, seed)
                is_begun = bench.finished(f"train.{name}.{float(spec.train.checkpoints[0])}") is not None
                over = over or (None if is_begun else _over(bench, start_evaluation(spec, student), begun))
                if over is not None and not is_begun:
                    bench.announce(f"arm {name} is not trained: {over}")
                    continue
                run_arm(bench, student, arm, seed, artifacts)
                begun += 1
    return over or bench.budgets.over


def _over(bench: Bench, evaluation: str, begun: int) -> str | None:
    """Why no further arm can begin, as the first rank's look at the books says."""
    return bench.ranks.of_first(lambda: bench.budgets.run_is_over(evaluation, begun=begun))


def make_artifacts(bench: Bench) -> dict[str, Artifact]:
    """Make, or find from an earlier run, the teacher artefacts that the arms consume; by kind."""
    wanted = {arm.artifact_kind for arm in bench.spec.arms}
    makers = {"logits": _logits_maker, "text": _text_maker}
    return {kind: _make_artifact(bench, make(bench)) for kind, make in makers.items() if kind in wanted}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Maker:
    """How one kind of teacher artefact is made."""

    kind: str
    stage_kind: StageKind
    inputs: Mapping[str, Any]
    make: Callable[[Path, Stage, Task], Mapping[str, Any]]
    """Called with (out_dir, stage, task); returns the stage's results."""
    total: int


def _logits_maker(bench: Bench) -> _Maker:
    settings, train = bench.spec.logits, bench.data().train
    assert settings is not None  # `check` has seen to it

    def make(out_dir: Path, stage: Stage, task: Task) -> dict[str, Any]:
        sequences = [row.tolist() for row in train.ids_ST]
        found = teacher_logits.make(bench.teacher(), sequences, settings, out_dir, task=task, stage=stage, inputs=known)
        return {**found, **_fidelity(bench, out_dir, sequences)}

    known = _teacher_inputs(bench) if settings.cache else None
    inputs = {**_teacher_inputs(bench), "text_sha256": _ids_sha256(train), "settings": settings.identity}
    return _Maker(
        kind="logits", stage_kind=StageKind.TEACHER_LOGITS, inputs=inputs, make=make, total=int(train.ids_ST.size)
    )


def _fidelity(bench: Bench, cache_dir: Path, sequences: Sequence[Sequence[int]]) -> dict[str, Any]:
    """How near the cache comes to the teacher, on a sample; billed by itself inside the cache's own stage."""
    if not bench.ranks.is_first:
        return {}
    with bench.meter.stage("cache_fidelity", kind=StageKind.OTHER) as stage:
        return measure_fidelity(open_cache(cache_dir), bench.teacher(), sequences, stage)


def _text_maker(bench: Bench) -> _Maker:
    settings, train = bench.spec.generate, bench.data().train
    assert settings is not None  # `check` has seen to it
    needed = int(train.ids_ST.size)

    def make(out_dir: Path, stage: Stage, task: Task) -> dict[str, Any]:
        prompts = prompts_of(train.ids_ST, settings.prompt_tokens)
        with open_writer(bench, settings) as writer:
            found = teacher_generate.make(writer, prompts, settings, needed, out_dir, task=task, stage=stage)
        if found["shortfall_tokens"]:
            raise StillwattError(
                f"the teacher's kept text holds {found['tokens']} tokens and the budget is {needed} (rejected samples: "
                f"{found['rejects']}); raise teacher_generate.max_rounds, or reject less"
            )
        return found

    inputs = {**_teacher_inputs(bench), "text_sha256": _ids_sha256(train), "settings": settings.identity}
    return _Maker(
        kind="text",
        stage_kind=StageKind.TEACHER_GENERATE,
        inputs={**inputs, "needed_tokens": needed},
        make=make,
        total=needed,
    )


def _teacher_inputs(bench: Bench) -> dict[str, Any]:
    return {
        "teacher": bench.teacher_place().identity,
        "dtype": bench.spec.teacher.dtype,
        "tokenizer_sha256": tokenizer_sha256(bench.tokenizer()),
    }


def _ids_sha256(packed: Packed) -> str:
    return hashlib.sha256(np.ascontiguousarray(packed.ids_ST, dtype="<i4").tobytes()).hexdigest()


def _make_artifact(bench: Bench, maker: _Maker) -> Artifact:
    name = f"teacher_{'logits' if maker.kind == 'logits' else 'generate'}"
    target = bench.artifacts_dir / artifact_id(maker.kind, maker.inputs)
    labels = {"artifact": target.name, "artifact_kind": maker.kind}
    found: Artifact | None = bench.ranks.of_first(
        lambda: found_or_announced(lambda: find_artifact(target), bench.announce)
    )
    if found is not None:
        _point_to_maker(bench, name, maker.stage_kind, labels, found)
        return found
    if bench.ranks.is_first:
        bench.state.forget(name)
    scratch = bench.artifacts_dir / f".making.{bench.run_id}.{target.name}"
    sealed: list[Artifact] = []

    def work(stage: Stage, task: Task) -> Mapping[str, Any]:
        try:
            results = maker.make(scratch, stage, task)
        except ArtifactError as err:
            # what an attempt left behind is damaged, or complete but never put in its place: begin again
            bench.announce(str(err))
            if bench.ranks.is_first:
                shutil.rmtree(scratch, ignore_errors=True)
            results = maker.make(scratch, stage, task)
        made_by = {"run_id": bench.run_id, "stage_id": stage.stage_id}
        if bench.ranks.is_first:
            sealed.append(
                seal_artifact(scratch, target, kind=maker.kind, inputs=maker.inputs, results=results, made_by=made_by)
            )
        return results

    # text is judged batch by batch, and what is asked for next hangs on it: one rank writes
    is_shared = maker.kind == "logits"
    bench.run_stage(name, maker.stage_kind, work, labels=labels, total=maker.total, is_shared=is_shared)
    return bench.ranks.of_first(lambda: sealed[0])


def _point_to_maker(bench: Bench, name: str, kind: StageKind, labels: Mapping[str, str], found: Artifact) -> None:
    """A stage of no length that says which run paid for an artefact found on disk."""
    if bench.finished(name) is not None:
        return
    bench.announce(f"{name}: {found.artifact_id} was made by run {found.made_by['run_id']}; used again")

    def work(_stage: Stage, _task: Task) -> dict[str, Any]:
        bill = {"energy_run_id": found.made_by["run_id"], "energy_stage_id": found.made_by["stage_id"]}
        return {**found.results, **bill}

    pointing = {**labels, "reused_from": found.made_by["run_id"]}
    bench.run_stage(name, kind, work, labels=pointing, total=1, unit="artefacts")


def serve_teacher(bench: Bench) -> None:
    """Measure the teacher under the serving load."""
    _serve(bench, "serve.teacher", {"arm": "teacher"}, None, None)


def serve_student(bench: Bench, student: StudentSpec) -> None:
    """Measure a student under the same load; all its arms have one shape, so one of them stands for all."""
    spec = bench.spec
    name = "serve.student" if len(spec.students) == 1 else f"serve.student.{student.name}"
    first = arm_id(spec, student, spec.arms[0], spec.train.seeds[0])
    directory = checkpoint_dir(bench, first, spec.train.checkpoints[-1])
    _serve(bench, name, {"student": student.name}, directory, student.dtype)


def _serve(bench: Bench, name: str, labels: Mapping[str, str], directory: Path | None, dtype: str | None) -> None:
    load = bench.spec.serve
    assert load is not None  # the runner asks only where there is one

    def work(stage: Stage, task: Task) -> dict[str, Any]:
        model = bench.teacher() if directory is None else load_model(directory, dtype=dtype or "float32")
        prompts = prompts_of(bench.data().train.ids_ST, load.prompt_tokens)
        end_id = int(bench.tokenizer().eos_token_id)
        return {"generated_tokens": serve.make(model, prompts, load, end_id=end_id, task=task, stage=stage)}

    bench.run_stage(name, StageKind.SERVE, work, labels=labels, total=load.prompts * load.new_tokens)
