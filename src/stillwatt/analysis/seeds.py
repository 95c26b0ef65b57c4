"""From the findings of several runs to trainings that can be compared: one observation an arm, seed and run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stillwatt.analysis.arm_stages import counted_parameters, throughput_of, trained_s
from stillwatt.analysis.armless import UNNAMED_SEED, read_armless
from stillwatt.analysis.arms import checkpoint_of
from stillwatt.analysis.bookings import Bookings, sort_stages
from stillwatt.analysis.judged import is_judged
from stillwatt.analysis.remainder import remainder
from stillwatt.analysis.repeat import increments_of
from stillwatt.analysis.sizes import PARAMETERS
from stillwatt.analysis.teachers import OWN, given_caches, server_of
from stillwatt.analysis.token_budgets import budget_beside_tokens, token_budget
from stillwatt.analysis.words import free_name, listed
from stillwatt.errors import UsageError
from stillwatt.records.channel import Basis, worst_basis
from stillwatt.records.comparison import CardEnergy, Observation, Unbilled
from stillwatt.records.energy import NoTotal
from stillwatt.records.finding import TEACHER_YARDSTICK, ArmPoint, Bill, Quality, ServingRate, Study
from stillwatt.records.run import RunRecord
from stillwatt.records.window import StageKind

NOTHING_TRAINED = "no student was trained: nothing is compared, its energy is listed beside the bills"

_OF_JUDGES = ", and scores of unlike judges or rubrics are scores of unlike tasks"
NODE_IS_COMPONENTS = (
    "node is the sum of the metered boards, CPU packages and DRAM: fans, power supply, network and disks are not in it"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SummedRun:
    """A run with what it shows."""

    run: RunRecord
    study: Study
    cards: Study
    """What its GPUs alone show (`cards_only`)."""


def cards_only(run: RunRecord) -> RunRecord:
    """The run with the energies of its GPUs alone, absent ones among them."""
    return replace(
        run,
        stages=tuple(
            replace(stage, energies=tuple(part for part in stage.energies if part.part.startswith("gpu")))
            for stage in run.stages
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """Observations of several runs."""

    rows: tuple[Observation, ...]
    unbilled: tuple[Unbilled, ...]
    """Energy of the runs that is on no row's bill."""
    warnings: tuple[str, ...]
    complete: bool
    """False where an energy is unknown, or lacks a part."""


def gather_runs(summed: Sequence[SummedRun]) -> Gathered:
    """Every arm of every run at its last checkpoint; runs of one arm are its seeds.

    Arms of one name that were trained differently (method, student, budget, or the arm's own settings) are no repeats
    of each other: the later one is called `arm@run`. A run that names no arm is read by `read_armless`.

    Raises:
        UsageError: The runs measure quality on unlike tasks.
    """
    rows: list[Observation] = []
    unbilled: list[Unbilled] = []
    warnings: list[str] = []
    doubts: list[tuple[str, str]] = []
    trained: dict[str, list[tuple[Any, str]]] = {}
    students: dict[str, list[tuple[Any, str]]] = {}
    complete = True
    for entry in summed:
        run, study = entry.run, entry.study
        if not study.final_points:
            armless = read_armless(run)
            for row, how in armless.trainings:
                rows.append(_distinguished(row, how, run, trained, warnings))
            unbilled += armless.unbilled
            doubts += armless.cautions
            if not armless.trainings:
                doubts.append((NOTHING_TRAINED, run.run_id))
            complete = complete and run.complete
        else:
            bookings = sort_stages(run)
            unbilled += remainder(run, bookings, _billed(bookings, study.final_points))
        for point in study.final_points:
            row = _of_one_model(_observation(entry, point, several=len(summed) > 1), run, point, students, warnings)
            rows.append(_distinguished(row, _how_trained(run, study, point), run, trained, warnings))
            gaps = list(_gaps(point))
            complete = complete and not gaps
            warnings += [f"run {run.run_id}: {gap}" for gap in gaps]
    _check_tasks(summed)
    return Gathered(
        rows=tuple(rows),
        unbilled=tuple(unbilled),
        warnings=(*_yardsticks(summed), *warnings, *_grouped(doubts), *_machines(summed), NODE_IS_COMPONENTS),
        complete=complete,
    )


def _grouped(doubts: Sequence[tuple[str, str]]) -> Iterator[str]:
    """One sentence a doubt, with all whom it is about."""
    about: dict[str, list[str]] = {}
    for doubt, name in doubts:
        about.setdefault(doubt, []).append(name)
    for doubt, names in about.items():
        yield f"{listed(names)}: {doubt}"


def _machines(summed: Sequence[SummedRun]) -> Iterator[str]:
    """What differs between the runs' machines, so that a difference of energies may be theirs."""
    for key, what in (("gpu_model", "GPUs"), ("cpu_model", "CPUs")):
        runs: dict[str, list[str]] = {}
        for entry in summed:
            model = str(entry.run.environment.get(key) or "unknown").removeprefix("1 x ")
            runs.setdefault(model, []).append(entry.run.run_id)
        if len(runs) > 1:
            on = "; ".join(f"{model} in {listed(names)}" for model, names in runs.items())
            yield f"the runs had different {what}, so a difference between them may be the machine's: {on}"


def _distinguished(
    row: Observation,
    how: tuple[Any, ...],
    run: RunRecord,
    trained: dict[str, list[tuple[Any, str]]],
    warnings: list[str],
) -> Observation:
    """The row, under a name of its own where another training has its name; those that were trained alike share one."""
    name, is_new = _name_of(row.label, how, run, trained)
    if is_new:
        warnings.append(f"{row.label} of run {run.run_id} was trained differently: it is {name} here")
    return replace(row, label=name)


def _of_one_model(
    row: Observation, run: RunRecord, point: ArmPoint, students: dict[str, list[tuple[Any, str]]], warnings: list[str]
) -> Observation:
    """The row, its student under a name of its own where another model has its name: that has other baselines."""
    own = _student(run, point)
    if own[0] is None:
        return row
    name, is_new = _name_of(row.student, own, run, students)
    if is_new:
        warnings.append(f"student {row.student} of run {run.run_id} is another model: it is {name} here")
    return replace(row, student=name)


def _name_of(said: str, own: Any, run: RunRecord, names: dict[str, list[tuple[Any, str]]]) -> tuple[str, bool]:
    """The name of what is called so in a run, and whether it is a new one, since something else is called so already.

    `own` is what it is; `names` is what is called how so far, with one entry more where this is new.
    """
    known = names.setdefault(said, [])
    for other, name in known:
        if other == own:
            return name, False
    taken = {name for entries in names.values() for _, name in entries}
    name = said if not known and said not in taken else free_name(f"{said}@{run.run_id}", taken)
    known.append((own, name))
    return name, name != said


def _yardsticks(summed: Sequence[SummedRun]) -> Iterator[str]:
    """Where qualities are relative to unlike models, or were scored on unlike text: they share no axis."""
    found: dict[str, list[str]] = {}
    for entry in summed:
        tables = [_unseeded(entry.run.settings.get(name)) for name in ("teacher", "evaluate")]
        if any(tables) and any(isinstance(point.quality, Quality) for point in entry.study.final_points):
            data = _unseeded(entry.run.settings.get("data")) or {}
            start = None if entry.study.yardstick == TEACHER_YARDSTICK else entry.run.settings.get("students")
            key = json.dumps([*tables, data.get("source"), start and start[0]], sort_keys=True, default=str)
            found.setdefault(key, []).append(entry.run.run_id)
    if len(found) > 1:
        runs = "; ".join(listed(own) for own in found.values())
        yield (
            f"qualities are relative to unlike models, or of unlike text or evaluation: those of {runs} do not stand "
            "on one axis; no frontier, matched quality or gap between them means anything, compare them apart"
        )


def _billed(bookings: Bookings, points: Sequence[ArmPoint]) -> set[str]:
    """Ids of the stages on the bill of some arm at its last checkpoint."""
    last = {point.arm: point.checkpoint for point in points}
    artifacts = {use.artifact for point in points for use in point.artifacts}
    found = {
        stage.stage_id
        for stage in bookings.ended
        if stage.kind is StageKind.PREPARE_DATA
        or (stage.kind is StageKind.STUDENT_TRAIN and stage.labels.get("arm") in last)
        or (stage.kind is StageKind.EVALUATE and last.get(stage.labels.get("arm", "")) == checkpoint_of(stage))
    }
    weights = [bill.weights for name, bill in bookings.artifacts.items() if name in artifacts]
    return found | {stage_id for entry in weights if not isinstance(entry, NoTotal) for stage_id in entry}


def _label(point: ArmPoint) -> str:
    return f"{point.student}.{point.name}" if point.arm.startswith(f"{point.student}.") else point.name


_NUMBERS = {"train": ("learning_rate", "batch_size"), "data": ("sequence_tokens", "epochs")}
"""Settings that all arms of a recipe share."""
_UNSAID = {"epochs": 1}
"""What a recipe means that does not say so."""
_MADE_BY = {"text": "teacher_generate", "logits": "teacher_logits"}
"""The recipe's table behind each kind of artefact."""


def _how_trained(run: RunRecord, study: Study, point: ArmPoint) -> tuple[Any, ...]:
    """All that makes two trainings of one arm no repeats of each other; seeds are not in it."""
    tables = ["data", "train", *([] if not point.artifacts else ["teacher"])]
    tables += [_MADE_BY[use.kind] for use in point.artifacts if use.kind in _MADE_BY]
    others = (server_of(run) if point.artifacts else None, *given_caches(run, point), budget_beside_tokens(run, point))
    shared = (*(_unseeded(run.settings.get(name)) for name in tables), *others)
    return point.method, point.student, _arm(run, point), _student(run, point), shared, _settings(run, study, point)


def _unseeded(table: Any) -> Any:
    if not isinstance(table, Mapping):
        return None
    # where nobody said so, the teacher wrote the cache: records from before that could be said are the same
    said = {name: value for name, value in table.items() if (name, value) != ("source", OWN)}
    return {name: value for name, value in said.items() if name not in ("seed", "seeds")}


def _student(run: RunRecord, point: ArmPoint) -> Any:
    """The student's table of the recipe, with the teacher's where the student is made from it."""
    students = run.settings.get("students")
    named = [one for one in students if isinstance(one, Mapping)] if isinstance(students, list) else []
    own = next((one for one in named if one.get("name") == point.student), None)
    is_pruned = own is not None and own.get("source") == "prune-teacher"
    return own, _unseeded(run.settings.get("teacher")) if is_pruned else None


def _arm(run: RunRecord, point: ArmPoint) -> Mapping[str, Any]:
    """The arm's table of the recipe; empty where there is none."""
    arms = run.settings.get("arms")
    named = [arm for arm in arms if isinstance(arm, Mapping)] if isinstance(arms, list) else []
    return next((arm for arm in named if arm.get("name") == point.name), {})


def _gaps(point: ArmPoint) -> Iterator[str]:
    for what, bill in (
        ("teacher's", point.teacher_energy),
        ("student's", point.student_energy),
        ("other", point.other_energy),
    ):
        if isinstance(bill, NoTotal):
            yield f"the {what} energy of {point.arm} is unknown: {bill.reason}"
        elif not bill.complete:
            yield f"the {what} energy of {point.arm} is incomplete: the true energy is higher"


def _observation(entry: SummedRun, point: ArmPoint, *, several: bool) -> Observation:
    run, study = entry.run, entry.study
    teacher, student, other = point.teacher_energy, point.student_energy, point.other_energy
    own_j, own_random_j = None, 0.0
    if isinstance(student, Bill) and isinstance(other, Bill):
        own_j, own_random_j = student.value_j + other.value_j, math.hypot(student.random_j, other.random_j)
    quality = point.quality if isinstance(point.quality, Quality) else None
    served = {rate.model: rate for rate in study.serving}
    served_by = {"teacher": "teacher", "student": point.student}
    return Observation(
        label=_label(point),
        method=point.method or point.name,
        student=point.student,
        seed=f"{run.run_id}:{point.seed}" if several else point.seed,
        drawn_with=point.seed or UNNAMED_SEED,
        place=f"run {run.run_id}",
        quality=quality.value if quality else None,
        quality_se=quality.own_se if quality else None,
        teacher_j=_value(teacher),
        student_j=_value(student),
        own_j=own_j,
        throughput=throughput_of(run, point.student),
        teacher_tokens=point.tokens if point.artifacts else None,
        artefact=", ".join(sorted(use.artifact for use in point.artifacts)),
        served_teacher_j=_per_token(served, "teacher"),
        served_student_j=_per_token(served, point.student),
        half_widths={
            "teacher_j": teacher.random_j if isinstance(teacher, Bill) else 0.0,
            "student_j": student.random_j if isinstance(student, Bill) else 0.0,
            "own_j": own_random_j,
            **{f"served_{who}_j": _random_per_token(served, model) for who, model in served_by.items()},
        },
        cards=_cards(entry.cards, point),
        increments_j=increments_of(sort_stages(run), point.arm),
        basis=_basis(point),
        whole_j=_whole_j(point),
        student_s=trained_s(run, point.arm),
        tokens=point.tokens,
        settings=_settings(run, study, point),
        otherwise=_otherwise(run, study, point),
    )


def _settings(run: RunRecord, study: Study, point: ArmPoint) -> dict[str, float]:
    """Numbers that the recipe gives the arm, and those of the generation that it draws on."""
    own: dict[str, Any] = {name: _arm(run, point).get(name) for name in ("alpha", "temperature")}
    generate = run.settings.get("teacher_generate")
    if isinstance(generate, Mapping) and any(use.kind == "text" for use in point.artifacts):
        own["max_new_tokens"] = generate.get("max_new_tokens")
    own["train_tokens"] = token_budget(run, study, point)
    own[PARAMETERS] = counted_parameters(run, point.arm)
    for table, names in _NUMBERS.items():
        said = run.settings.get(table)
        own |= {name: said.get(name, _UNSAID.get(name)) for name in names} if isinstance(said, Mapping) else {}
    return {name: float(value) for name, value in own.items() if isinstance(value, int | float)}


def _otherwise(run: RunRecord, study: Study, point: ArmPoint) -> str:
    """All else than numbers that the recipe gives the arm's training: its loss, optimizer, schedule, data, teacher."""
    named = ("name", "alpha", "temperature")
    arm = {key: value for key, value in _arm(run, point).items() if key not in named}
    _, _, _, student, shared, _ = _how_trained(run, study, point)
    return json.dumps([arm, student, _wordless(shared)], sort_keys=True, default=str)


def _wordless(tables: Any) -> list[Any]:
    """The tables without the numbers that are among the settings."""
    known = {name for names in _NUMBERS.values() for name in names} | {"max_new_tokens", "train_tokens"}
    return [
        {key: value for key, value in table.items() if key not in known} if isinstance(table, Mapping) else table
        for table in tables
    ]


def _cards(study: Study, point: ArmPoint) -> CardEnergy | None:
    """The same arm's energies by its GPUs alone; None where no GPU was metered."""
    own = next((other for other in study.final_points if other.arm == point.arm), None)
    if own is None or isinstance(own.student_energy, NoTotal):
        return None
    student_j, other_j = _value(own.student_energy), _value(own.other_energy)
    return CardEnergy(
        teacher_j=_value(own.teacher_energy),
        student_j=student_j,
        own_j=None if student_j is None or other_j is None else student_j + other_j,
    )


def _basis(point: ArmPoint) -> Basis | None:
    """The worst basis of the arm's energies that are known."""
    bills = (point.teacher_energy, point.student_energy, point.other_energy)
    known = [bill.basis for bill in bills if isinstance(bill, Bill) and bill.basis is not None]
    return worst_basis(known) if known else None


def _whole_j(point: ArmPoint) -> tuple[float, float] | None:
    """The interval of all that the arm took, with the whole teacher."""
    bill = point.energy_under("one-off")
    return (bill.low_j, bill.high_j) if isinstance(bill, Bill) else None


def _value(bill: Bill | NoTotal) -> float | None:
    return bill.value_j if isinstance(bill, Bill) else None


def _per_token(served: Mapping[str, ServingRate], model: str) -> float | None:
    rate = served.get(model)
    return rate.energy.value_j / rate.tokens if rate is not None and isinstance(rate.energy, Bill) else None


def _random_per_token(served: Mapping[str, ServingRate], model: str) -> float:
    rate = served.get(model)
    return rate.energy.random_j / rate.tokens if rate is not None and isinstance(rate.energy, Bill) else 0.0


def _check_tasks(summed: Sequence[SummedRun]) -> None:
    first: tuple[str, frozenset[str]] | None = None
    for entry in summed:
        run = entry.run
        for point in entry.study.final_points:
            if isinstance(point.quality, Quality):
                tasks = frozenset(task.task for task in point.quality.tasks)
                if first is None:
                    first = (run.run_id, tasks)
                elif tasks != first[1]:
                    raise UsageError(
                        f"{point.arm} of run {run.run_id} is scored on {', '.join(sorted(tasks))} and run {first[0]} "
                        f"on {', '.join(sorted(first[1]))}: such qualities cannot stand on one axis"
                        f"{_OF_JUDGES if any(map(is_judged, tasks ^ first[1])) else ''}; compare the runs apart"
                    )
