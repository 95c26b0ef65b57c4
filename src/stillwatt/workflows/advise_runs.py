"""Options from the ledger's runs: every way of training that was tried, at budgets around those that were."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stillwatt.analysis.advice import Drawn
from stillwatt.analysis.costs.model import CostModel
from stillwatt.analysis.costs.posterior import Floats
from stillwatt.analysis.learning import Asked, LearningCurve, why_undetermined
from stillwatt.analysis.words import counted, listed
from stillwatt.config.jobs import jobs_of
from stillwatt.records.advice import Answer, Option, Scored
from stillwatt.records.channel import Boundary
from stillwatt.records.finding import TEACHER_YARDSTICK, NoQuality, Quality
from stillwatt.records.window import StageKind
from stillwatt.workflows.advise import DRAWS, Judged
from stillwatt.workflows.advise_untrained import with_untrained
from stillwatt.workflows.history import PROBE, device_of, read_history, read_runs, recipe_of
from stillwatt.workflows.publish import summarise_run

if TYPE_CHECKING:
    from stillwatt.config.models import Recipe
    from stillwatt.pipelines.spec import PipelineSpec
    from stillwatt.records.finding import ArmPoint, Study
    from stillwatt.records.forecast import Device, Job, LeftOut, Outcome
    from stillwatt.records.run import RunRecord
    from stillwatt.workflows.advise import Request

__all__ = ["judge_runs"]

_BUDGETS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Of the budget that was tried."""
_GIVEN = "its cache of logits was there already, and what the teacher's side of another takes cannot be told from it"
_UNLIKE = (
    "its teacher (or its first student, where no teacher was evaluated), text or evaluation is another: unlike "
    "qualities are not mixed"
)
_MADE_BY_TEACHERS = (StageKind.TEACHER_LOGITS, StageKind.TEACHER_GENERATE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """One way of training that some run tried."""

    recipe: Recipe
    arm: str
    student: str
    settings: dict[str, str]
    device: Device
    artifact: Path | None
    """The teacher's artefact that it used, where it is still there."""
    runs: tuple[str, ...]
    tried: tuple[int, ...] = ()
    """Budgets that some training of it came to the end of, rising [tokens]."""

    @property
    def method(self) -> str:
        """How it trains."""
        return self.settings["method"]

    @property
    def key(self) -> str:
        """Its settings as one line."""
        return json.dumps(self.settings, sort_keys=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """A way at a budget, with its stages."""

    option: Option
    way: _Way
    tokens: int
    once: tuple[Job, ...]
    """Stages that all students share."""
    each: tuple[Job, ...]
    """Stages of every student."""


def judge_runs(request: Request) -> Judged:
    """Draws of every way of training at budgets around those tried, anew and with what the teacher left."""
    runs, said = read_runs(request.runs_dir)
    studies = [run for run in runs if not run.name.startswith(PROBE)]
    comparable, left_out = _comparable(studies, request.runs_dir)
    ways: dict[str, _Way] = {}
    scores: list[Scored] = []
    for run, recipe, study in comparable:
        for point in study.arms:
            if _reads_given(recipe, point):
                left_out.append((f"{point.key} of {run.run_id}", _GIVEN))
                continue
            way = _way(run, recipe, point, request.runs_dir)
            if way is None or isinstance(point.quality, NoQuality) or not point.tokens:
                why = point.quality.reason if isinstance(point.quality, NoQuality) else "its tokens are not known"
                left_out.append((f"{point.key} of {run.run_id}", why))
                continue
            known = ways.setdefault(way.key, way)
            ways[way.key] = _with_run(known, run.run_id, _budget_tried(recipe, study, point))
            scores.append(_score(run, way, point))
    left_out += [(f"{way.method}, {way.student}", why) for way in ways.values() if (why := _not_foretold(way))]
    plans = [plan for way in ways.values() for plan in _plans(way)]
    if not plans:
        return Judged(options=(), drawn=Drawn.nothing(DRAWS), left_out=tuple(left_out), notes=said)
    history = read_history([run for run in runs if recipe_of(run)], said).like(plans[0].way.device)
    drawn, off = _draw(plans, scores, history.outcomes, request)
    alike = _metered_alike(comparable, plans[0].way.device)
    every = with_untrained([plan.option for plan in plans], drawn, alike, request)
    yardstick = next(study.yardstick for _, _, study in comparable if _has_quality(study))
    return Judged(
        options=every.options,
        drawn=every.drawn,
        left_out=(*left_out, *every.left_out),
        notes=(
            f"qualities are relative to {yardstick}, whose own is 1 (eq. 22)",
            *every.notes,
            *history.notes,
            *_cost_notes(off),
            *_notes(scores),
        ),
        boundary=Boundary.BOARD if plans[0].way.device.parts == ("gpu",) else Boundary.COMPONENTS,
    )


def _metered_alike(runs: Sequence[tuple[RunRecord, Recipe, Study]], device: Device) -> list[tuple[RunRecord, Study]]:
    """Runs whose energies cover the kinds of parts that the device's do, as far as they have any."""
    found = []
    for run, recipe, study in runs:
        own = device_of(run, threads=recipe.run.threads)
        if own is None or own.parts == device.parts:
            found.append((run, study))
    return found


def _comparable(
    runs: Sequence[RunRecord], runs_dir: str
) -> tuple[list[tuple[RunRecord, Recipe, Study]], list[tuple[str, str]]]:
    """Runs whose qualities mean the same as the newest one's; the others are named."""
    found: list[tuple[RunRecord, Recipe, Study]] = []
    left_out: list[tuple[str, str]] = []
    without: list[str] = []
    first = yardstick = ""
    for run in runs:
        recipe = recipe_of(run)
        if recipe is None:
            without.append(run.run_id)
            continue
        told = recipe.resolved()
        server = recipe.teacher_endpoint
        who = [told["teacher"], server and [server.url, server.model, server.api, server.leave_out, server.extra_body]]
        what = json.dumps([who, told["evaluate"], told["data"]["source"]], sort_keys=True)
        first = first or what
        study = summarise_run(run, runs_dir=runs_dir) if what == first else None
        own = "" if study is None or not _has_quality(study) else _yardstick(study, told)
        yardstick = yardstick or own
        if study is not None and own in ("", yardstick):
            found.append((run, recipe, study))
        else:
            left_out.append((run.run_id, _UNLIKE))
    if without:
        left_out.append((counted(without, "runs"), "no recipe was carried out"))
    return found, left_out


def _has_quality(study: Study) -> bool:
    return any(isinstance(point.quality, Quality) for point in study.arms)


def _yardstick(study: Study, told: Mapping[str, Any]) -> str:
    """What tells the model that qualities are relative to from others; the teacher is told from others already."""
    start = None if study.yardstick == TEACHER_YARDSTICK else told["students"][0]
    return json.dumps([study.yardstick, start], sort_keys=True)


def _reads_given(recipe: Recipe, point: ArmPoint) -> bool:
    """Whether an arm's teacher is a cache that was there already."""
    arm = next((arm for arm in recipe.arms if arm.name == point.name), None)
    is_given = recipe.teacher_logits is not None and recipe.teacher_logits.is_given
    return is_given and arm is not None and arm.to_spec().artifact_kind == "logits"


def _way(run: RunRecord, recipe: Recipe, point: ArmPoint, runs_dir: str) -> _Way | None:
    arm = next((arm for arm in recipe.arms if arm.name == point.name), None)
    device = device_of(run, threads=recipe.run.threads)
    if arm is None or device is None:
        return None
    told = arm.model_dump(mode="json")
    settings = {
        key: f"{value:g}" if isinstance(value, float) else str(value)
        for key, value in told.items()
        if value is not None
    }
    settings.pop("name")
    reads = arm.to_spec().artifact_kind
    if reads == "logits" and recipe.teacher_logits is not None:
        settings["top_k"] = str(recipe.teacher_logits.top_k)
    if reads == "text" and recipe.teacher_generate is not None:
        settings["max_new_tokens"] = str(recipe.teacher_generate.max_new_tokens)
    if arm.own_text_share and recipe.student_generate is not None:
        settings["own max_new_tokens"] = str(recipe.student_generate.max_new_tokens)
    if recipe.train.lora is not None:
        settings["lora"] = recipe.train.lora.to_spec().said
    if recipe.data.epochs > 1:
        # as many tokens of text that comes again teach something else than tokens that are all new
        settings["passes"] = str(recipe.data.epochs)
    settings["student"] = point.student or recipe.students[0].name
    there = [Path(runs_dir) / "artifacts" / use.artifact for use in point.artifacts]
    return _Way(
        recipe=recipe,
        arm=arm.name,
        student=settings["student"],
        settings=settings,
        device=device,
        artifact=next((path for path in there if path.is_dir()), None),
        runs=(run.run_id,),
    )


def _with_run(way: _Way, run_id: str, budget: int) -> _Way:
    """The way, tried in that run too."""
    return replace(way, runs=tuple(dict.fromkeys((*way.runs, run_id))), tried=tuple(sorted({*way.tried, budget} - {0})))


def _budget_tried(recipe: Recipe, study: Study, point: ArmPoint) -> int:
    """The budget that an arm came to the end of, in whole sequences; 0 of a checkpoint on the way there.

    Its share of the recipe's tokens; where a budget of joules or time ended it, what its seeds came to in the mean.
    """
    if not point.is_final:
        return 0
    tokens, sequence = recipe.data.train_tokens * point.budget_share, recipe.data.sequence_tokens
    if point.stop is not None:
        same = (p for p in study.final_points if (p.name, p.student) == (point.name, point.student))
        tokens = statistics.fmean(other.tokens for other in same if other.tokens)
    return max(1, round(tokens / sequence)) * sequence


def _score(run: RunRecord, way: _Way, point: ArmPoint) -> Scored:
    assert not isinstance(point.quality, NoQuality)  # the caller has seen to it
    return Scored(
        method=way.method,
        student=way.student,
        settings=way.key,
        tokens=float(point.tokens or 0.0),
        quality=point.quality.value,
        se=point.quality.own_se,
        place=run.run_id,
    )


def _plans(way: _Way) -> Iterator[_Plan]:
    given = way.recipe.data.train_tokens
    least = way.recipe.data.sequence_tokens * way.recipe.data.epochs  # as often over more or less text
    tried = {max(least, tokens // least * least) for tokens in way.tried}
    around = {max(least, int(max(tried, default=given) * share) // least * least) for share in _BUDGETS}
    for tokens in sorted({*around, *tried}):
        is_tried = tokens in tried
        once, each = _stages(_spec_at(way, tokens), way)
        if not _unknown(once, each):
            yield _plan(way, tokens, once, each, is_reused=False, is_tried=is_tried)
        kept = tuple(job for job in once if job.kind not in _MADE_BY_TEACHERS)
        # what the teacher left is enough for the recipe's tokens, however many of them were trained on
        if way.artifact is not None and tokens <= given and not _unknown(kept, each):
            yield _plan(way, tokens, kept, each, is_reused=True, is_tried=is_tried)


def _not_foretold(way: _Way) -> str:
    """Why a way has no option in which everything is made anew; empty where it has one."""
    once, each = _stages(_spec_at(way, way.recipe.data.train_tokens), way)
    return _unknown(once, each)


def _unknown(once: Sequence[Job], each: Sequence[Job]) -> str:
    """Why what these stages take cannot be told: a stage that nothing is known of is no stage for nothing."""
    return next((f"{job.name}: {job.unknown}" for job in (*once, *each) if job.unknown), "")


def _spec_at(way: _Way, tokens: int) -> PipelineSpec:
    """The study with one arm, one student, one seed, one checkpoint and that budget."""
    spec = way.recipe.to_spec()
    (arm,) = (arm for arm in spec.arms if arm.name == way.arm)
    return replace(
        spec,
        data=replace(spec.data, train_tokens=tokens),
        arms=(arm,),
        students=tuple(student for student in spec.students if student.name == way.student),
        train=replace(spec.train, checkpoints=(1.0,), seeds=spec.train.seeds[:1]),
        logits=spec.logits if arm.artifact_kind == "logits" else None,
        given_cache=None,
        generate=spec.generate if arm.artifact_kind == "text" else None,
        serve=None,
    )


def _stages(spec: PipelineSpec, way: _Way) -> tuple[tuple[Job, ...], tuple[Job, ...]]:
    """Stages that are run once for all students, and those of each."""
    jobs = jobs_of(spec, way.device)
    evaluations = [f"{verb}.{way.arm}.1.0" for verb in ("evaluate", "answer", "judge")]
    each = tuple(job for job in jobs if job.labels.get("arm") == way.arm or job.name in evaluations)
    shared = (StageKind.PREPARE_DATA, *_MADE_BY_TEACHERS)
    return tuple(job for job in jobs if job.kind in shared and job not in each), each


def _plan(
    way: _Way, tokens: int, once: tuple[Job, ...], each: tuple[Job, ...], *, is_reused: bool, is_tried: bool
) -> _Plan:
    shown = {key: value for key, value in way.settings.items() if key not in ("method", "student")}
    generate = way.recipe.teacher_generate
    if "max_new_tokens" in shown and generate is not None:
        text_tokens = tokens // way.recipe.data.epochs
        shown["prompts"] = str(-(-text_tokens // (generate.prompt_tokens + generate.max_new_tokens)))
    words = ", ".join([way.method, way.student, *(f"{key} {value}" for key, value in shown.items())])
    answer = Answer.TRAIN_PLAINLY if way.method == "sft" else Answer.REUSE if is_reused else Answer.DISTIL
    option = Option(
        name=f"{words}, {tokens:,} tokens" + (", cache that is there" if is_reused else ""),
        answer=answer,
        method=way.method,
        student=way.student,
        settings=shown,
        tokens=float(tokens),
        evidence=way.runs,
        remark="" if is_tried else "this budget was not tried: both figures are read off the models",
    )
    return _Plan(option=option, way=way, tokens=tokens, once=once, each=each)


def _draw(
    plans: Sequence[_Plan], scores: Sequence[Scored], outcomes: Sequence[Outcome], request: Request
) -> tuple[Drawn, LeftOut | None]:
    """The draws, and how far energies are off on stages that were left out."""
    jobs = [job for plan in plans for job in (*plan.once, *plan.each)]
    places = iter(range(len(jobs)))
    spans = [([next(places) for _ in plan.once], [next(places) for _ in plan.each]) for plan in plans]
    columns, off = {}, None
    for name, in_joules in (("energy", True), ("duration", False)):
        model = CostModel(outcomes, jobs, in_joules=in_joules)
        drawn = model.draws(seed=request.seed, count=DRAWS)
        off = off or model.leave_one_out()
        once = np.stack([drawn[:, shared].sum(axis=1) for shared, _ in spans], axis=1)
        each = np.stack([drawn[:, own].sum(axis=1) for _, own in spans], axis=1)
        columns[name] = (once + request.students * each, once + each)
    quality, means = _qualities(plans, scores, request.seed)
    tokens = np.array([float(plan.tokens * request.students) for plan in plans])
    found = Drawn(
        energy_j=columns["energy"][0],
        quality=quality,
        mean_quality=means,
        trial_j=columns["energy"][1],
        duration_s=columns["duration"][0],
        tokens=np.broadcast_to(tokens, quality.shape),
    )
    return found, off


def _qualities(plans: Sequence[_Plan], scores: Sequence[Scored], seed: int) -> tuple[Floats, Floats]:
    drawn, means = np.empty((DRAWS, len(plans))), np.empty((DRAWS, len(plans)))
    for method in dict.fromkeys(plan.way.method for plan in plans):
        own = [place for place, plan in enumerate(plans) if plan.way.method == method]
        asked = [
            Asked(student=plans[p].way.student, settings=plans[p].way.key, tokens=float(plans[p].tokens)) for p in own
        ]
        curve = LearningCurve([score for score in scores if score.method == method], asked)
        drawn[:, own], means[:, own] = curve.draws(seed=seed, count=DRAWS)
    return drawn, means


def _cost_notes(off: LeftOut | None) -> Iterator[str]:
    if off is None:
        return
    what = "where its run is" if off.median_total_error is not None else "where it is"
    yield (
        f"energy of a stage: off by {100.0 * off.median_error:.0f} % in the median {what} left out; "
        f"{100.0 * off.coverage:.0f} % of {off.stages} lay in their intervals"
    )


def _notes(scores: Sequence[Scored]) -> Iterator[str]:
    for method in dict.fromkeys(score.method for score in scores):
        own = [score for score in scores if score.method == method]
        why = why_undetermined(own)
        if why:
            yield f"quality of {method} against tokens is {why}; other budgets rest on the prior"
            continue
        error = LearningCurve(own, []).leave_one_out()
        if error is not None:
            yield (
                f"quality of {method} against tokens: off by {error.median_error:.3g} in the median where one of "
                f"{error.points} scores is left out; {100.0 * error.coverage:.0f} % of them lay in their intervals"
            )
    places = list(dict.fromkeys(score.place for score in scores))
    if len(places) == 1:
        yield f"all evidence is one run, {listed(places)}: another may lie elsewhere"
