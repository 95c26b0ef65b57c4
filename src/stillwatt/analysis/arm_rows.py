"""One arm of a run as one observation among those of other runs: its energies, its quality, and how it was made."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from stillwatt.analysis.arm_stages import cards_of, counted_parameters, throughput_of, trained_s, trainings_of
from stillwatt.analysis.armless import UNNAMED_SEED
from stillwatt.analysis.bookings import sort_stages
from stillwatt.analysis.breakeven import left_nothing
from stillwatt.analysis.repeat import increments_of
from stillwatt.analysis.sizes import PARAMETERS
from stillwatt.analysis.teachers import OWN, given_caches, server_of
from stillwatt.analysis.token_budgets import budget_beside_tokens, token_budget
from stillwatt.records.channel import Basis, worst_basis
from stillwatt.records.comparison import CardEnergy, Observation
from stillwatt.records.energy import NoTotal
from stillwatt.records.finding import ArmPoint, Bill, Quality, ServingRate, Study
from stillwatt.records.run import RunRecord

_NUMBERS = {"train": ("learning_rate", "batch_size"), "data": ("sequence_tokens", "epochs")}
"""Settings that all arms of a recipe share."""
_UNSAID = {"epochs": 1}
"""What a recipe means that does not say so."""
_MADE_BY = {"text": "teacher_generate", "logits": "teacher_logits"}
"""The recipe's table behind each kind of artefact."""


def observe(run: RunRecord, study: Study, cards: Study, point: ArmPoint, *, several: bool) -> Observation:
    """An arm at its last checkpoint as one observation.

    Args:
        run: The arm's run.
        study: What it shows.
        cards: What its GPUs alone show.
        point: The arm.
        several: Whether it stands beside those of other runs, which may have used the same seeds.
    """
    # what a teacher takes beside the training, every further student takes anew
    student_j, _ = _sum(point.student_energy, point.online_energy)
    own_j, _ = _sum(point.student_energy, point.online_energy, point.other_energy)
    quality = point.quality if isinstance(point.quality, Quality) else None
    served = {rate.model: rate for rate in study.serving}
    return Observation(
        label=_label(point),
        method=point.method or point.name,
        student=point.student,
        seed=f"{run.run_id}:{point.seed}" if several else point.seed,
        drawn_with=point.seed or UNNAMED_SEED,
        place=f"run {run.run_id}",
        quality=quality.value if quality else None,
        quality_se=quality.own_se if quality else None,
        teacher_j=_value(point.artifact_energy),
        student_j=student_j,
        own_j=own_j,
        online_j=_value(point.online_energy) or 0.0,
        throughput=throughput_of(run, point.student),
        teacher_tokens=point.tokens if point.artifacts and not left_nothing(point) else None,
        artefact=", ".join(sorted(use.artifact for use in point.artifacts)),
        served_teacher_j=_per_token(served, "teacher"),
        served_student_j=_per_token(served, point.student),
        half_widths=_half_widths(point, served),
        cards=_cards(cards, point),
        increments_j=increments_of(sort_stages(run), point.arm),
        basis=_basis(point),
        whole_j=_whole_j(point),
        student_s=trained_s(run, point.arm),
        devices=_devices(run, point),
        gains_j=_gains(cards, point),
        steps=point.steps,
        stop=point.stop,
        tokens=point.tokens,
        settings=_settings(run, study, point),
        otherwise=_otherwise(run, study, point),
    )


def how_trained(run: RunRecord, study: Study, point: ArmPoint) -> tuple[Any, ...]:
    """All that makes two trainings of one arm no repeats of each other; seeds are not in it."""
    tables = ["data", "train", *([] if not point.artifacts else ["teacher"])]
    tables += [_MADE_BY[use.kind] for use in point.artifacts if use.kind in _MADE_BY]
    others = (server_of(run) if point.artifacts else None, *given_caches(run, point), budget_beside_tokens(run, point))
    shared = (*(unseeded(run.settings.get(name)) for name in tables), *others)
    return point.method, point.student, _arm(run, point), student_of(run, point), shared, _settings(run, study, point)


def unseeded(table: Any) -> Any:
    """A table of the recipe without its seeds; None where it is none."""
    if not isinstance(table, Mapping):
        return None
    # where nobody said so, the teacher wrote the cache: records from before that could be said are the same
    said = {name: value for name, value in table.items() if (name, value) != ("source", OWN)}
    return {name: value for name, value in said.items() if name not in ("seed", "seeds")}


def student_of(run: RunRecord, point: ArmPoint) -> Any:
    """The student's table of the recipe, with the teacher's where the student is made from it."""
    students = run.settings.get("students")
    named = [one for one in students if isinstance(one, Mapping)] if isinstance(students, list) else []
    own = next((one for one in named if one.get("name") == point.student), None)
    is_pruned = own is not None and own.get("source") == "prune-teacher"
    return own, unseeded(run.settings.get("teacher")) if is_pruned else None


def _label(point: ArmPoint) -> str:
    return f"{point.student}.{point.name}" if point.arm.startswith(f"{point.student}.") else point.name


def _arm(run: RunRecord, point: ArmPoint) -> Mapping[str, Any]:
    """The arm's table of the recipe; empty where there is none."""
    arms = run.settings.get("arms")
    named = [arm for arm in arms if isinstance(arm, Mapping)] if isinstance(arms, list) else []
    return next((arm for arm in named if arm.get("name") == point.name), {})


def _half_widths(point: ArmPoint, served: Mapping[str, ServingRate]) -> dict[str, float]:
    """The meter's random half-widths of its energies."""
    return {
        "teacher_j": _sum(point.artifact_energy)[1],
        "student_j": _sum(point.student_energy, point.online_energy)[1],
        "own_j": _sum(point.student_energy, point.online_energy, point.other_energy)[1],
        "served_teacher_j": _random_per_token(served, "teacher"),
        "served_student_j": _random_per_token(served, point.student),
    }


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
    _, _, _, student, shared, _ = how_trained(run, study, point)
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
    return CardEnergy(
        teacher_j=_value(own.artifact_energy),
        student_j=_sum(own.student_energy, own.online_energy)[0],
        own_j=_sum(own.student_energy, own.online_energy, own.other_energy)[0],
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


def _devices(run: RunRecord, point: ArmPoint) -> dict[str, frozenset[str]]:
    """Cards that the arm was trained on, and its teacher worked on."""
    own, teacher = cards_of(trainings_of(run, point.arm)), point.teacher_cards
    return {
        **({"student_j": own, "own_j": own} if own else {}),
        **({"teacher_j": teacher} if teacher else {}),
    }


def _gains(cards: Study, point: ArmPoint) -> dict[str, float]:
    """How far the cards' gain may move the arm's energies."""
    return {
        name: math.fsum(max(bill.systematic_low_j, bill.systematic_high_j) for bill in parts if isinstance(bill, Bill))
        for own in cards.final_points
        if own.arm == point.arm
        for name, parts in (
            ("teacher_j", (own.artifact_energy,)),
            ("student_j", (own.student_energy, own.online_energy)),
            ("own_j", (own.student_energy, own.online_energy, own.other_energy)),
        )
    }


def _sum(*bills: Bill | NoTotal) -> tuple[float | None, float]:
    """Energies of stages that share nothing, with the random half-width; None where one of them is unknown."""
    known = [bill for bill in bills if isinstance(bill, Bill)]
    if len(known) < len(bills):
        return None, 0.0
    return math.fsum(bill.value_j for bill in known), math.hypot(*(bill.random_j for bill in known))


def _value(bill: Bill | NoTotal) -> float | None:
    return bill.value_j if isinstance(bill, Bill) else None


def _per_token(served: Mapping[str, ServingRate], model: str) -> float | None:
    rate = served.get(model)
    return rate.energy.value_j / rate.tokens if rate is not None and isinstance(rate.energy, Bill) else None


def _random_per_token(served: Mapping[str, ServingRate], model: str) -> float:
    rate = served.get(model)
    return rate.energy.random_j / rate.tokens if rate is not None and isinstance(rate.energy, Bill) else 0.0
