"""Options that train nothing, and what serving adds to those that do: "don't distil" is an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from stillwatt.analysis.advice import Drawn
from stillwatt.analysis.costs.posterior import Floats
from stillwatt.records.advice import Answer, Option
from stillwatt.records.finding import Quality
from stillwatt.workflows.advise_serving import TEACHER, Serving

if TYPE_CHECKING:
    from stillwatt.records.finding import ReferenceModel, Study
    from stillwatt.records.run import RunRecord
    from stillwatt.workflows.advise import Request

__all__ = ["Untrained", "with_untrained"]


def with_untrained(
    options: Sequence[Option], drawn: Drawn, studies: Sequence[tuple[RunRecord, Study]], request: Request
) -> Untrained:
    """Add the teacher as it is and each student as it starts; where tokens are served, add what that takes.

    Where tokens are served, what uses a model whose serving none of the runs measured is left out: its energy and its
    time are unknown.

    Args:
        options: What was trained.
        drawn: Their draws.
        studies: Runs whose qualities and energies mean the same, the newest first.
        request: What is asked for.
    """
    serving = Serving(studies, request, count=len(drawn.energy_j), seed=len(options))
    kept = [place for place, option in enumerate(options) if serving.is_known(option.student)]
    drawn = _only(drawn, kept)
    found = [options[place] for place in kept]
    energies = [drawn.energy_j[:, place] + serving.energy_j(option.student) for place, option in enumerate(found)]
    served_s = [serving.duration_s(option.student) for option in found]
    qualities = [drawn.quality[:, place] for place in range(len(found))]
    means = [drawn.mean_quality[:, place] for place in range(len(found))]
    for run_id, model in _references(studies):
        is_teacher = model.model == TEACHER
        served = TEACHER if is_teacher else model.student
        if is_teacher and not request.tokens_served:
            continue
        assert isinstance(model.quality, Quality)  # of the others none is among them
        if not serving.is_known(served):
            continue
        what = "serve the teacher as it is" if is_teacher else f"use {model.student} as it starts"
        found.append(_untrained(what, "" if is_teacher else model.student, run_id))
        energies.append(serving.energy_j(served))
        served_s.append(serving.duration_s(served))
        error = 0.0 if is_teacher else model.quality.own_se or 0.0
        qualities.append(model.quality.value + error * serving.rng.standard_normal(len(drawn.energy_j)))
        means.append(qualities[-1])
    return Untrained(
        options=tuple(found),
        drawn=_widened(drawn, energies, qualities, means, served_s) if found else drawn,
        left_out=tuple((f"what serves {model}", serving.why_unknown()) for model in serving.unknown),
        notes=tuple(serving.notes()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Untrained:
    """Options with their draws, what was left out of them, and what serving rests on."""

    options: tuple[Option, ...]
    drawn: Drawn
    left_out: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def _references(studies: Sequence[tuple[RunRecord, Study]]) -> list[tuple[str, ReferenceModel]]:
    """Models that nobody trained, each from the newest run that knows its quality, and that run."""
    found: dict[tuple[str, str], tuple[str, ReferenceModel]] = {}
    for run, study in studies:
        for model in study.references:
            if isinstance(model.quality, Quality):
                found.setdefault((model.model, model.student), (run.run_id, model))
    return list(found.values())


def _only(drawn: Drawn, places: Sequence[int]) -> Drawn:
    """The draws of some of the options."""

    def some(columns: Floats | None) -> Floats | None:
        return None if columns is None else columns[:, list(places)]

    return replace(
        drawn,
        energy_j=drawn.energy_j[:, list(places)],
        quality=drawn.quality[:, list(places)],
        mean_quality=drawn.mean_quality[:, list(places)],
        trial_j=drawn.trial_j[:, list(places)],
        duration_s=some(drawn.duration_s),
        kgco2e=some(drawn.kgco2e),
        tokens=some(drawn.tokens),
    )


def _untrained(name: str, student: str, run_id: str) -> Option:
    return Option(
        name=name,
        answer=Answer.DO_NOT_DISTIL,
        method="",
        student=student,
        settings={},
        tokens=0.0,
        evidence=(run_id,),
        remark="nothing is trained",
    )


def _widened(
    drawn: Drawn, energies: list[Floats], qualities: list[Floats], means: list[Floats], served_s: list[Floats]
) -> Drawn:
    """The draws with columns for what trains nothing: no time but that of serving, no tokens, and no experiment."""
    more = len(energies) - drawn.energy_j.shape[1]
    nothing = np.zeros((len(drawn.energy_j), more))

    def longer(columns: Floats | None, filled: Floats) -> Floats | None:
        return None if columns is None else np.hstack([columns, filled])

    trained_s = longer(drawn.duration_s, nothing)
    return replace(
        drawn,
        energy_j=np.stack(energies, axis=1),
        quality=np.stack(qualities, axis=1),
        mean_quality=np.stack(means, axis=1),
        trial_j=np.hstack([drawn.trial_j, np.full_like(nothing, np.nan)]),
        duration_s=None if trained_s is None else trained_s + np.stack(served_s, axis=1),
        tokens=longer(drawn.tokens, nothing),
    )
