"""From the findings of several runs to trainings that can be compared: one observation an arm, seed and run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stillwatt.analysis.arm_rows import how_trained, observe, student_of, unseeded
from stillwatt.analysis.armless import read_armless
from stillwatt.analysis.arms import checkpoint_of
from stillwatt.analysis.bookings import Bookings, sort_stages
from stillwatt.analysis.judged import is_judged
from stillwatt.analysis.remainder import remainder
from stillwatt.analysis.words import free_name, listed
from stillwatt.errors import UsageError
from stillwatt.records.channel import Boundary
from stillwatt.records.comparison import Observation, Unbilled
from stillwatt.records.energy import NoTotal, Total
from stillwatt.records.finding import TEACHER_YARDSTICK, ArmPoint, Quality, Study
from stillwatt.records.run import RunRecord
from stillwatt.records.window import StageKind

NOTHING_TRAINED = "no student was trained: nothing is compared, its energy is listed beside the bills"

_OF_JUDGES = ", and scores of unlike judges or rubrics are scores of unlike tasks"
NODE_IS_COMPONENTS = (
    "node is the sum of the metered boards, CPU packages and DRAM: fans, power supply, network and disks are not in it"
)
NODE_IS_AROUND = "node is what a meter around the whole machine reads ({boundary}): all that is in the machine is in it"
FACILITY_IS_READ = "the energies are those of a meter around the facility: cooling is in them"


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
    boundary: str = "node"
    """What the energies cover: `node` or `facility`; empty where the runs are not summed alike."""


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
            observed = observe(run, study, entry.cards, point, several=len(summed) > 1)
            row = _of_one_model(observed, run, point, students, warnings)
            rows.append(_distinguished(row, how_trained(run, study, point), run, trained, warnings))
            gaps = list(_gaps(point))
            complete = complete and not gaps
            warnings += [f"run {run.run_id}: {gap}" for gap in gaps]
    _check_tasks(summed)
    boundary, covered = _covered(summed)
    alike, unlike = ((covered,), ()) if boundary else ((), (covered,))
    return Gathered(
        rows=tuple(rows),
        unbilled=tuple(unbilled),
        warnings=(*unlike, *_yardsticks(summed), *warnings, *_grouped(doubts), *_between(rows, summed), *alike),
        complete=complete,
        boundary=boundary,
    )


def _between(rows: Sequence[Observation], summed: Sequence[SummedRun]) -> Iterator[str]:
    """What keeps runs from being compared as they stand."""
    yield from _called_apart(rows, summed)
    yield from _machines(summed)


def _called_apart(rows: Sequence[Observation], summed: Sequence[SummedRun]) -> Iterator[str]:
    """Trainings that share a label by their stage's name alone, in runs that somebody called differently."""
    names = {f"run {entry.run.run_id}": entry.run.name for entry in summed if not entry.study.final_points}
    called: dict[str, dict[str, None]] = {}
    for row in rows:
        if row.place in names:
            called.setdefault(row.label, {})[names[row.place]] = None
    for label, own in called.items():
        if len(own) > 1:
            yield (
                f"{label} stands for the runs {listed(own)}, whose stages are called alike: they are taken as repeats "
                "of one training. Where they are not, `stillwatt ledger compare` holds them against each other, and "
                "`measure --stage NAME` gives the next ones names of their own"
            )


def _covered(summed: Sequence[SummedRun]) -> tuple[str, str]:
    """What the energies of all runs cover, and that in words; an empty boundary where they are not summed alike."""
    found: dict[Boundary, list[str]] = {}
    for entry in summed:
        if isinstance(entry.run.total, Total):
            found.setdefault(entry.run.total.boundary, []).append(entry.run.run_id)
    if len(found) > 1:
        each = "; ".join(f"{boundary.value} in {listed(runs)}" for boundary, runs in found.items())
        return "", f"the runs' energies are summed at unlike boundaries ({each}): no ratio between them means anything"
    boundary = next(iter(found), Boundary.COMPONENTS)
    if boundary is Boundary.FACILITY:
        return "facility", FACILITY_IS_READ
    is_sum = boundary is Boundary.COMPONENTS
    return "node", NODE_IS_COMPONENTS if is_sum else NODE_IS_AROUND.format(boundary=boundary.value)


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
    own = student_of(run, point)
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
        tables = [unseeded(entry.run.settings.get(name)) for name in ("teacher", "evaluate")]
        if any(tables) and any(isinstance(point.quality, Quality) for point in entry.study.final_points):
            data = unseeded(entry.run.settings.get("data")) or {}
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
