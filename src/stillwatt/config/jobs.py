"""A recipe's stages as counts of what they ask of a machine, in the order and by the names they would run under."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from stillwatt.analysis.costs.counts import loaded, read, saved, written
from stillwatt.config.jobs_judge import (
    ASSUMED_RUBRIC_TOKENS,
    answer_counts,
    judge_counts,
    judge_tokens,
    size_of_judge,
)
from stillwatt.config.jobs_train import LOGIT_BYTES, TrainedText, reading_counts, text_of, training_counts
from stillwatt.config.model_size import LINEAR_LAYERS, adapter_weights, size_of_student, size_of_teacher
from stillwatt.config.plan import PlannedStage, cache_bytes_of, judged_models, plan, sequences_at
from stillwatt.pipelines.spec import ArmSpec, PipelineSpec, StudentSpec
from stillwatt.records.forecast import Counts, Device, Job, ModelSize
from stillwatt.records.window import StageKind

__all__ = ["ASSUMED_QUESTION_TOKENS", "jobs_of", "remarks_on"]

ASSUMED_QUESTION_TOKENS, _ASSUMED_QUESTIONS = 500, 1_000
"""Of a task of lm-evaluation-harness, whose text is not looked at."""
_SELECTION_BATCH = 2
"""Sequences a pass in which the layers to leave out are chosen."""
_TOKENS_PER_PASS = 200.0
"""Text that is tokenised in the time of one layer's pass."""
_KIB = 1024.0
_ANY_DTYPE = "float32"
"""Of a teacher whose weights are elsewhere: no count of its work is made."""
_ELSEWHERE = "the teacher is an endpoint: how long its server takes, and what it draws, is not predicted"


_JUDGED_ELSEWHERE = "the judge is an endpoint: what its server takes is not predicted, and is not nothing"
_GIVEN = "the cache of logits is there already: what making it took is not predicted, and is not nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sizes:
    """Shapes of everything in a study; None where one is not known."""

    teacher: ModelSize | None
    students: dict[str, ModelSize | None]


def jobs_of(spec: PipelineSpec, device: Device) -> tuple[Job, ...]:
    """Every stage of a study as a job, idle stretches included; a job whose model's size is not known says so."""
    sizes = _Sizes(
        teacher=size_of_teacher(spec),
        students={student.name: size_of_student(spec, student) for student in spec.students},
    )
    made = {job.name: job for job in _jobs(spec, sizes, device)}
    if spec.teacher.endpoint is not None and "teacher_generate" in made:
        made["teacher_generate"] = replace(made["teacher_generate"], unknown=_ELSEWHERE)
    if spec.given_cache is not None:
        kind = StageKind.TEACHER_LOGITS
        made["teacher_logits"] = Job(name="teacher_logits", kind=kind, counts=Counts(), device=device, unknown=_GIVEN)
    return tuple(made[stage.name] if stage.name in made else _other(stage, device) for stage in plan(spec).stages)


def remarks_on(spec: PipelineSpec) -> tuple[str, ...]:
    """What was assumed of a study that its recipe does not say."""
    said = []
    named = {"teacher": size_of_teacher(spec)}
    named |= {f"student {student.name}": size_of_student(spec, student) for student in spec.students}
    for who, size in named.items():
        if size is not None and size.is_guess:
            said.append(
                f"the size of the {who} is a guess from {size.source}: {size.parameters:.3g} parameters; fetch the "
                "model to have it exactly"
            )
    kept = (("teacher_logits", spec.logits), ("teacher_generate", spec.generate))
    if in_vllm := [name for name, told in kept if told is not None and told.engine == "vllm"]:
        verb = "run in vLLM, and are" if len(in_vllm) > 1 else "runs in vLLM, and is"
        said.append(
            f"{' and '.join(in_vllm)} {verb} taken to cost what transformers would: an assumption, which knows nothing "
            "of vLLM's start and of its speed"
        )
    if spec.evaluate.lm_eval_tasks:
        said.append(
            f"each task of lm-evaluation-harness is taken as {_questions(spec):,} questions of "
            f"{ASSUMED_QUESTION_TOKENS} tokens, and each example that is shown as one more: an assumption"
        )
    if spec.evaluate.judge is not None:
        said.append(
            f"a judge's rubric is taken as {ASSUMED_RUBRIC_TOKENS} tokens, and no answer as shorter than it may be: an "
            "assumption"
        )
    if any(arm.own_text_share for arm in spec.arms):
        said.append(
            "students that write their own text are taken to do so in the expected number of steps and never to end "
            "before [student_generate] max_new_tokens: the most it can be"
        )
    if spec.train.lora is not None:
        said.append(
            "the number of LoRA's weights is reckoned from the students' width and a layer's weights, as if it had "
            f"{LINEAR_LAYERS:.0f} linear layers: a guess, of a part that costs little"
        )
    return tuple(said)


def _other(stage: PlannedStage, device: Device) -> Job:
    reason = "what a download takes is the network's, and is not predicted"
    return Job(name=stage.name, kind=stage.kind, counts=Counts(), device=device, unknown=reason)


def _jobs(spec: PipelineSpec, sizes: _Sizes, device: Device) -> Iterator[Job]:
    for name, waited_s in (("idle_baseline", spec.idle_baseline_s), ("idle_after", spec.idle_after_s)):
        counts = Counts(stages=0.0, waited_s=waited_s)
        yield Job(name=name, kind=StageKind.IDLE_BASELINE, counts=counts, device=device)
    yield _preparation(spec, sizes, device)
    yield from _evaluation(spec, "teacher", sizes.teacher, device, spec.teacher.dtype or _ANY_DTYPE)
    yield from _artifacts(spec, sizes, device)
    several, seeds = len(spec.students) > 1, spec.train.seeds
    for student in spec.students:
        size, suffix = sizes.students[student.name], f".{student.name}" if several else ""
        yield from _evaluation(spec, f"start{suffix}", size, device, student.dtype)
        yield _serving(spec, f"serve.student{suffix}", size, device, student.dtype)
        for arm in spec.arms:
            for seed in seeds:
                arm_id = (f"{student.name}." if several else "") + arm.name + (f".s{seed}" if len(seeds) > 1 else "")
                yield from _arm(spec, arm, arm_id, student, sizes, device)
    yield from _judging(spec, device)
    yield _serving(spec, "serve.teacher", sizes.teacher, device, spec.teacher.dtype or _ANY_DTYPE)


def _job(
    name: str,
    kind: StageKind,
    size: ModelSize | None,
    counts: Counts | None,
    device: Device,
    dtype: str,
    *,
    method: str = "",
    tokens: float | None = None,
    disk_bytes: tuple[float, float] = (0.0, 0.0),
    labels: dict[str, str] | None = None,
) -> Job:
    unknown = "" if size is not None else "the model's size is not known: its configuration is not on this machine"
    return Job(
        name=name,
        kind=kind,
        counts=counts or Counts(),
        device=device,
        method=method,
        # a student's weights are float32 on a CPU, whatever its recipe says (docs/reference/recipe.md)
        dtype=dtype if device.is_gpu else "float32",
        tokens=tokens,
        disk_bytes=disk_bytes if size is not None else (0.0, 0.0),
        labels=labels or {},
        unknown=unknown,
    )


def _preparation(spec: PipelineSpec, sizes: _Sizes, device: Device) -> Job:
    counts, size, is_known = Counts(passes=spec.data.text_tokens / _TOKENS_PER_PASS), sizes.teacher, True
    disk = 0.0
    for student in spec.students:
        if student.source != "prune-teacher":
            continue
        own = sizes.students[student.name]
        is_known = own is not None
        if own is None or size is None:
            continue
        tried = len(student.candidate_starts) * max(student.selection_tokens, spec.data.sequence_tokens)
        counts += read(own, tokens=tried, sequence=spec.data.sequence_tokens, batch=_SELECTION_BATCH)
        counts += loaded(size) + saved(own, with_optimizer=False)
        disk += saved(own, with_optimizer=False).stored_bytes
    # where nothing is pruned no model is needed, and none has to be known
    shape = (
        size
        if is_known and size is not None
        else ModelSize(parameters=0.0, active=0.0, layers=0.0, width=0.0, vocabulary=0.0, source="no model")
    )
    return _job(
        "prepare_data",
        StageKind.PREPARE_DATA,
        shape if is_known else None,
        counts,
        device,
        spec.teacher.dtype or _ANY_DTYPE,
        disk_bytes=(disk, disk),
    )


def _questions(spec: PipelineSpec) -> int:
    return spec.evaluate.lm_eval_limit or _ASSUMED_QUESTIONS


def _evaluation(spec: PipelineSpec, model: str, size: ModelSize | None, device: Device, dtype: str) -> Iterator[Job]:
    told, sequence = spec.evaluate, spec.data.sequence_tokens
    counts, tokens = None, float(told.perplexity_tokens)
    item = told.choice_context_tokens + 4 * told.choice_continuation_tokens
    length = ASSUMED_QUESTION_TOKENS * (1 + (told.lm_eval_few_shot or 0))
    harness = len(told.lm_eval_tasks) * _questions(spec) * length
    if size is not None:
        counts = loaded(size) + read(size, tokens=tokens, sequence=sequence, batch=told.batch_size)
        for more, each in ((told.choice_items * item, item), (harness, length)):
            if more:
                counts += read(size, tokens=more, sequence=each, batch=told.batch_size)
        tokens += told.choice_items * item + harness
        counts += Counts(streamed_bytes=tokens * size.vocabulary * LOGIT_BYTES)
    # the teacher is evaluated first of all, and its evaluation pays for loading the software
    method = "first" if model == "teacher" else ""
    job = _job(f"evaluate.{model}", StageKind.EVALUATE, size, counts, device, dtype, method=method, tokens=tokens)
    yield job if size is None else replace(job, assumed_tokens=float(harness))
    if told.judge is not None:
        counts = None if size is None else answer_counts(told.judge, size, batch=told.batch_size)
        yield _job(f"answer.{model}", StageKind.OTHER, size, counts, device, dtype, method="answers")


def _judging(spec: PipelineSpec, device: Device) -> Iterator[Job]:
    size, judge, is_first = size_of_judge(spec), spec.evaluate.judge, True
    for model in judged_models(spec):
        assert judge is not None  # or there were none
        is_idle = model == judge.against
        counts = None if size is None else Counts() if is_idle else judge_counts(judge, size, is_first=is_first)
        is_first = is_first and is_idle
        tokens = 0.0 if is_idle else float(judge_tokens(judge))
        dtype = judge.dtype or _ANY_DTYPE
        job = _job(f"judge.{model}", StageKind.EVALUATE, size, counts, device, dtype, method="judge", tokens=tokens)
        # what its server takes nobody can foretell, and it is not nothing
        yield job if judge.endpoint is None else replace(job, unknown="" if is_idle else _JUDGED_ELSEWHERE)


def _artifacts(spec: PipelineSpec, sizes: _Sizes, device: Device) -> Iterator[Job]:
    size, data = sizes.teacher, spec.data
    if spec.logits is not None:
        counts, cache = None, (0.0, 0.0)
        if size is not None:
            cache = cache_bytes_of(spec.logits.top_k, data.text_tokens, size.vocabulary)
            counts = read(size, tokens=data.text_tokens, sequence=data.sequence_tokens, batch=spec.logits.batch_size)
            streamed = data.text_tokens * size.vocabulary * LOGIT_BYTES
            counts += Counts(streamed_bytes=streamed, stored_bytes=cache[1])
        yield _job(
            "teacher_logits",
            StageKind.TEACHER_LOGITS,
            size,
            counts,
            device,
            spec.teacher.dtype or _ANY_DTYPE,
            tokens=data.text_tokens,
            disk_bytes=cache,
            labels={"artifact_kind": "logits"},
        )
    if spec.generate is not None:
        told, counts = spec.generate, None
        texts = math.ceil(data.text_tokens / (told.shown_prompt_tokens + told.max_new_tokens))
        if size is not None:
            counts = written(
                size, texts=texts, prompt=told.prompt_tokens, new=told.max_new_tokens, batch=told.batch_size
            )
            counts += Counts(streamed_bytes=texts * told.max_new_tokens * size.vocabulary * LOGIT_BYTES)
        yield _job(
            "teacher_generate",
            StageKind.TEACHER_GENERATE,
            size,
            counts,
            device,
            spec.teacher.dtype or _ANY_DTYPE,
            tokens=data.text_tokens,
            disk_bytes=(4.0 * data.text_tokens, 16.0 * data.text_tokens + _KIB),
            labels={"artifact_kind": "text"},
        )


def _arm(
    spec: PipelineSpec, arm: ArmSpec, arm_id: str, student: StudentSpec, sizes: _Sizes, device: Device
) -> Iterator[Job]:
    size, teacher = sizes.students[student.name], sizes.teacher
    labels = {"arm": arm_id, "student": student.name, "method": arm.method.value}
    if arm.artifact_kind:
        labels["artifact_kind"] = arm.artifact_kind
    done = 0
    for share in spec.train.checkpoints:
        reached = sequences_at(share, spec.data, spec.train)
        text, is_last = text_of(spec, arm, reached - done), share >= 1.0
        adapters = None if size is None else adapter_weights(size, spec.train.lora)
        kept = None if size is None else saved(size, with_optimizer=False, adapters=adapters)
        disk = kept.stored_bytes if kept is not None and is_last else 0.0
        if text.own_texts:
            yield _writing(spec, text, f"student_generate.{arm_id}.{share}", size, device, student.dtype, labels)
        yield _job(
            f"train.{arm_id}.{share}",
            StageKind.STUDENT_TRAIN,
            size,
            None if size is None else training_counts(spec, size, text, is_first=not done, is_last=is_last),
            device,
            student.dtype,
            method=_way_of(spec, arm),
            tokens=text.tokens,
            disk_bytes=(disk, 1.05 * disk),
            labels=labels,
        )
        if arm.is_online:
            yield _job(
                f"teacher_online.{arm_id}.{share}",
                StageKind.TEACHER_LOGITS,
                teacher,
                None if teacher is None else reading_counts(spec, teacher, text),
                device,
                spec.teacher.dtype or _ANY_DTYPE,
                method="online",
                tokens=text.tokens,
                labels={**labels, "artifact_kind": "online"},
            )
        yield from _evaluation(spec, f"{arm_id}.{share}", size, device, student.dtype)
        done = reached


def _way_of(spec: PipelineSpec, arm: ArmSpec) -> str:
    """What trainings have in common beyond their counts: those of weights say little of adapters', and the reverse."""
    way = f"{arm.method.value}/{arm.loss}" if arm.loss else arm.method.value
    return way if spec.train.lora is None else f"{way}+lora"


def _writing(
    spec: PipelineSpec,
    text: TrainedText,
    name: str,
    size: ModelSize | None,
    device: Device,
    dtype: str,
    labels: dict[str, str],
) -> Job:
    """A student that writes its own training text, all sequences of a step at once."""
    counts, told = None, spec.own_text
    if size is not None and told is not None:
        batch = spec.train.batch_size * spec.train.accumulation_steps
        counts = written(size, texts=text.own_texts, prompt=told.prompt_tokens, new=told.max_new_tokens, batch=batch)
        counts += Counts(streamed_bytes=text.own_texts * told.max_new_tokens * size.vocabulary * LOGIT_BYTES)
    return _job(name, StageKind.OTHER, size, counts, device, dtype, method="own_text", labels=labels)


def _serving(spec: PipelineSpec, name: str, size: ModelSize | None, device: Device, dtype: str) -> Job:
    told, counts, tokens = spec.serve, None, 0.0
    if size is not None and told is not None:
        tokens = float(told.prompts * told.new_tokens)
        counts = loaded(size) + written(
            size, texts=told.prompts, prompt=told.prompt_tokens, new=told.new_tokens, batch=told.batch_size
        )
    return _job(name, StageKind.SERVE, size, counts, device, dtype, tokens=tokens)
