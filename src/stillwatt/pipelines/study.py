"""The stages of a study, as the runner strings them: what each is called, which labels it carries, what it keeps."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from stillwatt.errors import BudgetError, StillwattError
from stillwatt.metering.meter import Stage
from stillwatt.pipelines import own_prompts, prepare_data, serve
from stillwatt.pipelines.adapters import check_installed
from stillwatt.pipelines.arm import (
    arm_id,
    check_share,
    checkpoint_dir,
    evaluate_folder,
    evaluate_model,
    evaluation_work,
    run_arm,
    start_evaluation,
)
from stillwatt.pipelines.arm_check import check_arms, check_text_only
from stillwatt.pipelines.artifacts import Artifact, replace_dir
from stillwatt.pipelines.bench import Bench
from stillwatt.pipelines.cached_text import cache_dir
from stillwatt.pipelines.corpus import Packed, Prepared, prompts_of
from stillwatt.pipelines.documents import check_corpus
from stillwatt.pipelines.endpoint_client import read_key
from stillwatt.pipelines.endpoint_prompts import check_conversations, check_template
from stillwatt.pipelines.given_cache import NO_TOKENIZER, Models, check_given
from stillwatt.pipelines.harness_check import check_chat, check_harness
from stillwatt.pipelines.judge import check_judge, judge_models, try_judge
from stillwatt.pipelines.judges import TEACHER
from stillwatt.pipelines.model_fit import (
    PRUNED,
    check_adapters,
    check_fit,
    check_kept,
    check_lengths,
    num_tokens,
    output_rows,
    start_of,
)
from stillwatt.pipelines.model_sources import is_ready
from stillwatt.pipelines.models import (
    check_apart,
    choose_layers,
    load_model,
    prune_layers,
    save_model,
    tokenizer_sha256,
)
from stillwatt.pipelines.progress import Task
from stillwatt.pipelines.prompts import check_prompts, count_asked, given_prompts, source_of
from stillwatt.pipelines.ranks import Ranks
from stillwatt.pipelines.spec import ENDPOINT, ArmSpec, PipelineSpec, StudentSpec
from stillwatt.pipelines.study_artifacts import make_artifacts
from stillwatt.records.window import StageKind
from stillwatt.units import seconds

__all__ = [
    "arm_id",
    "check",
    "evaluate_start",
    "evaluate_teacher",
    "fetch_models",
    "judge",
    "make_artifacts",
    "prepare",
    "run_arms",
    "serve_student",
    "serve_teacher",
]


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
    if spec.teacher.endpoint is not None:
        read_key(spec.teacher.endpoint)
    if not spec.teacher.has_weights:
        check_text_only(spec)
    check_judge(spec.evaluate)
    check_harness(spec.evaluate)
    check_arms(spec)
    if spec.train.lora is not None:
        check_installed()
    check_corpus(spec.data)
    if spec.generate is not None:
        check_prompts(spec.generate, spec.data.text_tokens)
        if spec.teacher.endpoint is not None:
            check_conversations(spec.generate, spec.teacher.endpoint)
    if spec.own_text is not None and spec.own_text.has_file:
        count_asked(spec.own_text)


def fetch_models(bench: Bench) -> None:
    """Bring models to this machine, as a stage of its own: what a download costs is no part of any arm."""
    spec = bench.spec
    wanted = [(spec.teacher.source, spec.teacher.revision, False)] if spec.teacher.has_weights else []
    wanted += [(s.source, s.revision, True) for s in spec.students if s.source != PRUNED]
    if spec.evaluate.judge is not None and spec.evaluate.judge.source not in (TEACHER, ENDPOINT):
        wanted.append((spec.evaluate.judge.source, spec.evaluate.judge.revision, False))
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
        check_kept(bench)
        check_lengths(bench)
        check_adapters(bench)
        if spec.teacher.endpoint is not None and spec.generate is not None:
            check_template(spec.generate, bench.tokenizer(), spec.students[0])
        check_chat(spec.evaluate, bench.tokenizer(), _whose_tokenizer(spec))
        results = prepare_data.make(spec.data, spec.evaluate, bench.tokenizer(), bench.data_dir(), task=task)
        prepared = prepare_data.load(bench.data_dir())
        train = prepared.train
        if train.starts_ST is not None:
            check_apart(bench.teacher(), "the teacher")
        text, given = results.pop("names_tokenizer", True), _given_facts(bench, train)
        _warn_of_tokens(bench, text=text, given=given.pop("names_tokenizer", True))
        results |= {**given, **_prompts_facts(bench, prepared)}
        chosen: dict[str, list[int]] = {}
        losses: dict[str, dict[str, float]] = {}
        for student in spec.students:
            if student.source == PRUNED:
                chosen[student.name], losses[student.name] = _prune(bench, student, train)
            else:
                check_fit(bench, student)
        tried = try_judge(bench, lambda: prepare_data.load(bench.data_dir()))
        return {**results, "chosen_layers": chosen, "layer_losses": losses, **tried}

    bench.run_stage("prepare_data", StageKind.PREPARE_DATA, work, total=spec.data.text_tokens)


def _whose_tokenizer(spec: PipelineSpec) -> str:
    """Who has the tokenizer that all models share, for a message."""
    student = spec.students[0]
    return f"the teacher ({spec.teacher.source})" if spec.teacher.has_weights else f"{student.name} ({student.source})"


def _given_facts(bench: Bench, train: Packed) -> dict[str, Any]:
    """What a cache that the recipe names is found to be, once it is known to fit; nothing where none is named."""
    spec = bench.spec
    if spec.given_cache is None:
        return {}
    tokenizer = bench.tokenizer()
    places = {"teacher": bench.teacher_place().directory} if spec.teacher.has_weights else {}
    places |= {s.name: bench.start_dir(s) for s in spec.students if s.source != PRUNED}
    models = Models(
        tokenizer_sha256=tokenizer_sha256(tokenizer),
        num_tokens=num_tokens(tokenizer),
        rows={name: output_rows(directory) for name, directory in places.items()},
        fewest_rows=min(output_rows(start_of(bench, student)) for student in spec.students),
    )
    found = check_given(spec, train, models)
    return {"names_tokenizer": found.pop("names_tokenizer"), "given_cache": found}


def _prompts_facts(bench: Bench, data: Prepared) -> dict[str, Any]:
    """What became of prompts that students begin with; refuses the teacher's where they cannot give the budget."""
    spec, tokenizer = bench.spec, bench.tokenizer()
    if spec.generate is not None and source_of(spec.generate) is not None:
        given_prompts(spec.generate, tokenizer, int(data.train.ids_ST.size), data.bos_ids)
    if spec.own_text is None or not spec.own_text.has_file:
        return {}
    sequences, place = len(data.train.ids_ST) * spec.data.epochs, bench.data_dir()
    found = own_prompts.make(spec.own_text, tokenizer, sequences, place, bos_ids=data.bos_ids, announce=bench.announce)
    return {"own_prompts": found}


def _warn_of_tokens(bench: Bench, *, text: bool, given: bool) -> None:
    """Say, and keep on the books, where nothing shows a cache's tokens to be this recipe's."""
    named, spec = [] if text else [bench.spec.data.source], bench.spec.given_cache
    named += [spec.directory] if spec is not None and not given else []
    for directory in dict.fromkeys(map(cache_dir, named)):
        message = NO_TOKENIZER.format(directory=directory)
        bench.announce(message)
        bench.meter.write("warning", message=message)


def _prune(bench: Bench, student: StudentSpec, train: Packed) -> tuple[list[int], dict[str, float]]:
    num_rows = max(1, student.selection_tokens // train.ids_ST.shape[1])
    ids_ST = torch.from_numpy(_real_text(train, num_rows).astype(np.int64))
    starts_ST = None if train.starts_ST is None else torch.from_numpy(train.starts_ST[:num_rows])
    choice = choose_layers(bench.teacher(), student, ids_ST, starts_ST)
    target = bench.start_dir(student)
    scratch = target.with_name(f".{target.name}.writing")
    start_ns = bench.meter.clock.monotonic_ns()
    save_model(prune_layers(bench.teacher(), choice.start, choice.count), bench.tokenizer(), scratch)
    # a checkpoint is as large: what the first training will take to end is known beforehand
    bench.budgets.habits.note_writing(student.name, float(seconds(bench.meter.clock.monotonic_ns() - start_ns)))
    replace_dir(scratch, target)
    left_out = list(range(choice.start, choice.start + choice.count))
    return left_out, {str(start): loss for start, loss in choice.losses.items()}


def _real_text(train: Packed, num_rows: int) -> npt.NDArray[np.int32]:
    """The first sequences; of such as are padded the longest, cut to what all of them have."""
    if train.lengths_S is None:
        return train.ids_ST[:num_rows]
    longest = np.argsort(-train.lengths_S, kind="stable")[:num_rows]
    return train.ids_ST[longest, : max(2, int(train.lengths_S[longest].min()))]


def evaluate_teacher(bench: Bench) -> None:
    """Score the teacher; its scores are what qualities are relative to. Where there is none here, that is said."""
    if not bench.spec.teacher.has_weights:
        absence = bench.spec.teacher.absence
        bench.announce(f"{absence}: none is evaluated, so quality is relative to the first student as it starts")
        return
    name, labels = "evaluate.teacher", {"arm": "teacher"}

    def work(stage: Stage, task: Task) -> dict[str, Any]:
        return evaluate_model(bench, bench.teacher(), name, labels, stage, task)

    total = evaluation_work(bench.spec)
    bench.run_stage(name, StageKind.EVALUATE, work, labels=labels, total=total, is_shared=True)


def evaluate_start(bench: Bench, student: StudentSpec) -> None:
    """Score a student before any training."""
    name = start_evaluation(bench.spec, student)
    labels = {"arm": "start", "student": student.name}
    evaluate_folder(bench, student, bench.start_dir(student), name, labels)


def run_arms(bench: Bench, artifacts: Mapping[str, Artifact]) -> str | None:
    """Train every arm of every student with every seed; returns why the run's budget left some of it out."""
    spec, begun, over = bench.spec, 0, None
    if bench.ranks.is_first:
        _warn_of_idle_turns(bench)
        for arm in spec.arms:
            check_share(bench, arm, artifacts.get(arm.artifact_kind or ""))
    for student in spec.students:
        for arm in spec.arms:
            for seed in spec.train.seeds:
                name = arm_id(spec, student, arm, seed)
                is_begun = bench.finished(f"train.{name}.{float(spec.train.checkpoints[0])}") is not None
                over = over or (None if is_begun else _over(bench, student, arm, begun))
                if over is not None and not is_begun:
                    bench.announce(f"arm {name} is not trained: {over}")
                    continue
                run_arm(bench, student, arm, seed, artifacts)
                begun += 1
    return over or bench.budgets.over


def _warn_of_idle_turns(bench: Bench) -> None:
    """Say, and keep on the books, that a step's microbatches leave ranks without one: their energy buys nothing."""
    parts, count = bench.spec.train.accumulation_steps, bench.ranks.count
    turns, idle = bench.ranks.turns(parts)
    if not idle:
        return
    spent = "waiting" if bench.spec.sharding == "none" else "on one that counts nothing"
    message = (
        f"train.accumulation_steps = {parts} over {count} ranks: of each step's {turns} turns {idle} "
        f"{'is' if idle == 1 else 'are'} spent {spent}; a multiple of {count} leaves none idle (less train.batch_size "
        "keeps the step as it is)"
    )
    bench.announce(message)
    bench.meter.write("warning", message=message)


def judge(bench: Bench) -> None:
    """Judge what the teacher, the starts and every arm at every checkpoint wrote, where the recipe asks for it."""
    spec = bench.spec
    names = ["evaluate.teacher"] if spec.teacher.has_weights else []
    names += [start_evaluation(spec, student) for student in spec.students]
    names += [
        f"evaluate.{arm_id(spec, student, arm, seed)}.{float(share)}"
        for student in spec.students
        for arm in spec.arms
        for seed in spec.train.seeds
        for share in spec.train.checkpoints
    ]
    judge_models(bench, names)


def _over(bench: Bench, student: StudentSpec, arm: ArmSpec, begun: int) -> str | None:
    """Why no further arm can begin, as the first rank's look at the books says."""
    return bench.ranks.of_first(lambda: bench.budgets.cannot_begin(student.name, arm.budget, begun=begun))


def serve_teacher(bench: Bench) -> None:
    """Measure the teacher under the serving load; one without weights here is not seen, and that is said."""
    if not bench.spec.teacher.has_weights:
        bench.announce(f"{bench.spec.teacher.absence}: its serving is not measured, so there is no T*")
        return
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
        data = bench.data()
        prompts = prompts_of(data.train.ids_ST, load.prompt_tokens, data.train.lengths_S, data.bos_ids)
        end_id = int(bench.tokenizer().eos_token_id)
        return {"generated_tokens": serve.make(model, prompts, load, end_id=end_id, task=task, stage=stage)}

    try:
        bench.run_stage(name, StageKind.SERVE, work, labels=labels, total=load.prompts * load.new_tokens)
    except BudgetError as err:  # of the first rank alone, which works here while the others wait for what it says
        bench.ranks.agree(None)
        bench.announce(f"{name} is left out: {err.detail}")
