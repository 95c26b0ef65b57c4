"""The teacher artefacts of a study: its logits and its text, made once, found again, and who paid for them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stillwatt.errors import ArtifactError, StillwattError
from stillwatt.metering.meter import Stage
from stillwatt.pipelines import teacher_generate, teacher_logits
from stillwatt.pipelines.arm import arm_id
from stillwatt.pipelines.arm_resume import training_name
from stillwatt.pipelines.artifacts import Artifact, artifact_id, find_artifact, seal_artifact
from stillwatt.pipelines.bench import Bench, found_or_announced
from stillwatt.pipelines.cache_fidelity import measure_fidelity
from stillwatt.pipelines.caches import open_cache
from stillwatt.pipelines.corpus import Packed, Prepared, prompts_of
from stillwatt.pipelines.endpoint_prompts import said_sha256, unlike_tokens
from stillwatt.pipelines.given_artifact import given_artifact, point_to_maker
from stillwatt.pipelines.logit_text import sequences_sha256
from stillwatt.pipelines.model_fit import cut_rows, num_tokens, shared_output_rows
from stillwatt.pipelines.models import tokenizer_sha256
from stillwatt.pipelines.progress import Task
from stillwatt.pipelines.prompt_bounds import check_enough
from stillwatt.pipelines.prompts import PromptSet, Said, given_prompts, prompts_identity, source_of
from stillwatt.pipelines.spec import GenerateSpec, LogitsSpec
from stillwatt.pipelines.text_writers import open_writer
from stillwatt.pipelines.vllm_teacher import vllm_teacher
from stillwatt.records.window import StageKind

__all__ = ["make_artifacts"]

_CUT = "output_rows"


def make_artifacts(bench: Bench) -> dict[str, Artifact]:
    """Make, or find from an earlier run, the teacher artefacts that the arms consume; by kind."""
    wanted, given = {arm.artifact_kind for arm in bench.spec.arms}, bench.spec.given_cache
    if given is not None and "logits" in wanted:
        found = {"logits": given_artifact(bench, given)}
        return {**found, **({"text": _make_artifact(bench, _text_maker(bench))} if "text" in wanted else {})}
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
    is_shared: bool = True
    """Whether all ranks of a launch make it together; else the first one does."""


def _logits_maker(bench: Bench) -> _Maker:
    settings, train = bench.spec.logits, bench.data().train
    assert settings is not None  # `check` has seen to it

    def make(out_dir: Path, stage: Stage, task: Task) -> dict[str, Any]:
        sequences = [train.row(number) for number in range(len(train.ids_ST))]
        with _logits_teacher(bench, settings, sequences, stage, rows) as teacher:
            found = teacher_logits.make(
                teacher,
                sequences,
                settings,
                out_dir,
                task=task,
                stage=stage,
                inputs=known,
                positions=positions,
                is_shared=is_shared,
                rows=rows,
            )
        return {**found, **_fidelity(bench, out_dir, sequences, positions)}

    positions = train.positions_ST
    is_shared = settings.engine == "transformers"  # two engines of vLLM would take one card
    known, rows = _teacher_inputs(bench), shared_output_rows(bench)
    inputs = {**known, "text_sha256": _ids_sha256(train), "settings": settings.identity, **_cut(bench, rows)}
    if positions is not None:
        inputs["positions_sha256"] = hashlib.sha256(np.ascontiguousarray(positions, dtype="<i8").tobytes()).hexdigest()
    return _Maker(
        kind="logits",
        stage_kind=StageKind.TEACHER_LOGITS,
        inputs=inputs,
        make=make,
        total=train.num_tokens,
        is_shared=is_shared,
    )


@contextmanager
def _logits_teacher(
    bench: Bench, settings: LogitsSpec, sequences: Sequence[Sequence[int]], stage: Stage, rows: int | None
) -> Iterator[teacher_logits.Teacher | teacher_logits.TopTeacher]:
    """Whoever reads the corpus; its model is loaded in the stage that asks, and billed to it."""
    if settings.engine == "transformers":
        yield bench.teacher()
        return
    bench.drop_teacher()  # the engine loads the teacher once more, beside this process
    directory, dtype = bench.teacher_place().directory, bench.spec.teacher.dtype or "float32"
    threads = bench.spec.threads
    with vllm_teacher(directory, dtype, settings, sequences, threads=threads, stage=stage, rows=rows) as teacher:
        yield teacher


def _fidelity(
    bench: Bench, cache_dir: Path, sequences: Sequence[Sequence[int]], positions: teacher_logits.Positions
) -> dict[str, Any]:
    """How near the cache comes to the teacher, on a sample; billed by itself inside the cache's own stage."""
    if not bench.ranks.is_first:
        return {}
    with bench.meter.stage("cache_fidelity", kind=StageKind.OTHER) as stage:
        return measure_fidelity(open_cache(cache_dir), bench.teacher(), sequences, stage, positions)


def _text_maker(bench: Bench) -> _Maker:
    settings, data = bench.spec.generate, bench.data()
    assert settings is not None  # `check` has seen to it
    needed = int(data.train.ids_ST.size)
    # an endpoint is as quick whoever asks it, and two engines of vLLM would take one card
    is_shared = bench.spec.teacher.endpoint is None and settings.engine == "transformers"

    def make(out_dir: Path, stage: Stage, task: Task) -> dict[str, Any]:
        given = _prompts(bench, settings, data)
        is_complete = given.sample.is_complete if given.sample else None
        with open_writer(bench, settings, is_complete=is_complete) as writer:
            found = teacher_generate.make(
                writer,
                given.ids,
                settings,
                needed,
                out_dir,
                task=task,
                stage=stage,
                sample=given.sample,
                decode=lambda tokens: str(bench.tokenizer().decode(list(tokens))),
                said=_said(bench, given),
                is_shared=is_shared,
            )
        if found["shortfall_tokens"]:
            raise StillwattError(
                f"the teacher's kept text holds {found['tokens']} tokens and the budget is {needed} (rejected samples: "
                f"{_rejects_text(found['rejects'])}); raise teacher_generate.max_rounds, or reject less (that is "
                "another text, and the teacher writes all of it again)"
            )
        return {**found, **({"prompts": dict(given.counts)} if given.counts else {})}

    return _Maker(
        kind="text",
        stage_kind=StageKind.TEACHER_GENERATE,
        inputs={**_teacher_inputs(bench), **_prompts_inputs(bench, settings, data), "needed_tokens": needed},
        make=make,
        total=needed,
        is_shared=is_shared,
    )


def _prompts_inputs(bench: Bench, settings: GenerateSpec, data: Prepared) -> dict[str, Any]:
    """What tells one text of a teacher from another."""
    tokenizer = bench.tokenizer()
    own: dict[str, Any] = {"settings": settings.identity, **({"bos_ids": list(data.bos_ids)} if data.bos_ids else {})}
    own |= _cut(bench, num_tokens(tokenizer))
    if source_of(settings) is None:
        return {"text_sha256": _ids_sha256(data.train), **own}
    found = {"prompts": prompts_identity(settings, tokenizer), **own}
    said = _said(bench, _prompts(bench, settings, data)) if bench.spec.teacher.endpoint is not None else ()
    return {**found, "said_sha256": said_sha256(said)} if said else found


def _said(bench: Bench, given: PromptSet) -> tuple[Said | None, ...]:
    """What a server is sent where the prompts' tokens do not say the same."""
    return () if bench.spec.teacher.endpoint is None else unlike_tokens(given, bench.tokenizer())


def _prompts(bench: Bench, settings: GenerateSpec, data: Prepared) -> PromptSet:
    train = data.train
    if source_of(settings) is None:
        ids = tuple(
            tuple(prompt) for prompt in prompts_of(train.ids_ST, settings.prompt_tokens, train.lengths_S, data.bos_ids)
        )
        check_enough(settings, int(train.ids_ST.size), len(ids), sum(map(len, ids)))
        return PromptSet(ids=ids, counts={})
    return given_prompts(settings, bench.tokenizer(), int(train.ids_ST.size), data.bos_ids)


def _teacher_inputs(bench: Bench) -> dict[str, Any]:
    endpoint = bench.spec.teacher.endpoint
    if endpoint is not None:
        return {"teacher": endpoint.identity, "tokenizer_sha256": tokenizer_sha256(bench.tokenizer())}
    return {
        "teacher": bench.teacher_place().identity,
        "dtype": bench.spec.teacher.dtype,
        "tokenizer_sha256": tokenizer_sha256(bench.tokenizer()),
    }


def _cut(bench: Bench, rows: int | None) -> dict[str, int]:
    """The first rows of the teacher's output, to which an artefact is cut; named only where that leaves some out."""
    cut = cut_rows(bench, rows)
    return {} if cut is None else {_CUT: cut}


def _ids_sha256(packed: Packed) -> str:
    if packed.lengths_S is not None:
        return sequences_sha256(packed.row(number) for number in range(len(packed.ids_ST)))
    return hashlib.sha256(np.ascontiguousarray(packed.ids_ST, dtype="<i4").tobytes()).hexdigest()


def _uncut(bench: Bench, name: str, maker: _Maker) -> Artifact | None:
    """What an earlier release made for this run without leaving rows out, where arms were trained on it since.

    They go on with it: half of a training on another artefact would be no arm of any recipe.
    """
    spec, inputs = bench.spec, {key: value for key, value in maker.inputs.items() if key != _CUT}
    if _CUT not in maker.inputs or bench.state.finished(name) is None:
        return None
    begun = [
        training_name(arm_id(spec, student, arm, seed), spec.train.checkpoints[0])
        for student in spec.students
        for arm in spec.arms
        for seed in spec.train.seeds
        if arm.artifact_kind == maker.kind
    ]
    if all(bench.state.finished(training) is None for training in begun):
        return None
    return find_artifact(bench.artifacts_dir / artifact_id(maker.kind, inputs))


def _make_artifact(bench: Bench, maker: _Maker) -> Artifact:
    name = f"teacher_{'logits' if maker.kind == 'logits' else 'generate'}"
    target = bench.artifacts_dir / artifact_id(maker.kind, maker.inputs)
    labels = {"artifact": target.name, "artifact_kind": maker.kind}
    found: Artifact | None = bench.ranks.of_first(
        lambda: found_or_announced(lambda: find_artifact(target) or _uncut(bench, name, maker), bench.announce)
    )
    if found is not None:
        point_to_maker(bench, name, maker.stage_kind, labels, found)
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

    bench.run_stage(name, maker.stage_kind, work, labels=labels, total=maker.total, is_shared=maker.is_shared)
    return bench.ranks.of_first(lambda: sealed[0])


def _rejects_text(rejects: Mapping[str, int]) -> str:
    """Rejected samples by reason, most first; a reason that none has is not named.

    >>> _rejects_text({"duplicate": 0, "improbable": 3, "near_duplicate": 13}), _rejects_text({"empty": 0})
    ('13 near duplicate, 3 improbable', 'none')
    """
    by_number = sorted(((number, reason) for reason, number in rejects.items() if number), reverse=True)
    return ", ".join(f"{number:,} {reason.replace('_', ' ')}" for number, reason in by_number) or "none"
