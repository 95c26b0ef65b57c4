"""Options that train nothing, and what serving adds to those that do: "don't distil" is an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from stillwatt.analysis.advice import Drawn
from stillwatt.analysis.contrast import Z_95
from stillwatt.analysis.costs.posterior import Floats
from stillwatt.analysis.repeat import ASSUMED_REL
from stillwatt.records.advice import Answer, Option
from stillwatt.records.finding import Bill, Quality

if TYPE_CHECKING:
    from stillwatt.records.finding import Study
    from stillwatt.records.run import RunRecord
    from stillwatt.workflows.advise import Request

__all__ = ["with_untrained"]

_REPEATS = ASSUMED_REL / Z_95
"""How far one serving lies from another, where none was repeated (method.md, eq. 28)."""


def with_untrained(
    options: Sequence[Option], drawn: Drawn, run: RunRecord, study: Study, request: Request
) -> tuple[tuple[Option, ...], Drawn]:
    """Add the teacher as it is and each student as it starts; where tokens are served, add what that takes.

    An option whose serving was not measured is left as it was only where nothing is served; its energy is unknown
    otherwise, and it is given no chance.
    """
    rates = {rate.model: rate.energy.value_j / rate.tokens for rate in study.serving if isinstance(rate.energy, Bill)}
    rng = np.random.default_rng([request.seed, len(options)])
    count = len(drawn.energy_j)

    def served(model: str) -> Floats:
        if not request.tokens_served:
            return np.zeros(count)
        draws: Floats = np.exp(_REPEATS * rng.standard_normal(count))
        return request.tokens_served * rates.get(model, np.inf) * draws

    energies = [drawn.energy_j[:, place] + served(option.student) for place, option in enumerate(options)]
    qualities = [drawn.quality[:, place] for place in range(len(options))]
    means = [drawn.mean_quality[:, place] for place in range(len(options))]
    found = list(options)
    for model in study.references:
        is_teacher = model.model == "teacher"
        if not isinstance(model.quality, Quality) or (is_teacher and not request.tokens_served):
            continue
        what = "serve the teacher as it is" if is_teacher else f"use {model.student} as it starts"
        found.append(_untrained(what, "" if is_teacher else model.student, run.run_id))
        energies.append(served("teacher" if is_teacher else model.student))
        error = 0.0 if is_teacher else model.quality.own_se or 0.0
        qualities.append(model.quality.value + error * rng.standard_normal(count))
        means.append(qualities[-1])
    return tuple(found), _widened(drawn, energies, qualities, means)


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


def _widened(drawn: Drawn, energies: list[Floats], qualities: list[Floats], means: list[Floats]) -> Drawn:
    """The draws with columns for what trains nothing: no time, no tokens, and no experiment."""
    more = len(energies) - drawn.energy_j.shape[1]
    nothing = np.zeros((len(drawn.energy_j), more))

    def longer(columns: Floats | None, filled: Floats) -> Floats | None:
        return None if columns is None else np.hstack([columns, filled])

    return replace(
        drawn,
        energy_j=np.stack(energies, axis=1),
        quality=np.stack(qualities, axis=1),
        mean_quality=np.stack(means, axis=1),
        trial_j=np.hstack([drawn.trial_j, np.full_like(nothing, np.nan)]),
        duration_s=longer(drawn.duration_s, nothing),
        tokens=longer(drawn.tokens, nothing),
    )
