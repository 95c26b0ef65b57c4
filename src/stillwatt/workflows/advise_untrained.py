"""Options that train nothing, and what serving adds to those that do: "don't distil" is an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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

__all__ = ["Untrained", "with_untrained"]

_TEACHER = "teacher"
_REPEATS = ASSUMED_REL / Z_95
"""How far one serving lies from another, where none was repeated (method.md, eq. 28)."""


def with_untrained(
    options: Sequence[Option], drawn: Drawn, run: RunRecord, study: Study, request: Request
) -> Untrained:
    """Add the teacher as it is and each student as it starts; where tokens are served, add what that takes.

    Where tokens are served, what uses a model whose serving `run` did not measure is left out: its energy is unknown.
    """
    serving = _Serving(study, request, count=len(drawn.energy_j), seed=len(options))
    kept = [place for place, option in enumerate(options) if serving.is_known(option.student)]
    drawn = _only(drawn, kept)
    found = [options[place] for place in kept]
    energies = [drawn.energy_j[:, place] + serving.draws(option.student) for place, option in enumerate(found)]
    qualities = [drawn.quality[:, place] for place in range(len(found))]
    means = [drawn.mean_quality[:, place] for place in range(len(found))]
    for model in study.references:
        is_teacher = model.model == _TEACHER
        served = _TEACHER if is_teacher else model.student
        if not isinstance(model.quality, Quality) or (is_teacher and not request.tokens_served):
            continue
        if not serving.is_known(served):
            continue
        what = "serve the teacher as it is" if is_teacher else f"use {model.student} as it starts"
        found.append(_untrained(what, "" if is_teacher else model.student, run.run_id))
        energies.append(serving.draws(served))
        error = 0.0 if is_teacher else model.quality.own_se or 0.0
        qualities.append(model.quality.value + error * serving.rng.standard_normal(len(drawn.energy_j)))
        means.append(qualities[-1])
    return Untrained(
        options=tuple(found),
        drawn=_widened(drawn, energies, qualities, means) if found else drawn,
        left_out=tuple((f"what serves {model}", _unserved(run)) for model in serving.unknown),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Untrained:
    """Options with their draws, and what was left out of them."""

    options: tuple[Option, ...]
    drawn: Drawn
    left_out: tuple[tuple[str, str], ...]


class _Serving:
    """Draws of what serving takes, by model."""

    def __init__(self, study: Study, request: Request, *, count: int, seed: int) -> None:
        self.rng = np.random.default_rng([request.seed, seed])
        self.unknown: dict[str, None] = {}
        """Models that were asked for and not measured."""
        self._count, self._tokens = count, request.tokens_served
        self._rates = {
            rate.model: rate.energy.value_j / rate.tokens for rate in study.serving if isinstance(rate.energy, Bill)
        }

    def is_known(self, model: str) -> bool:
        """Whether the energy of serving it is: always where nothing is served."""
        known = not self._tokens or model in self._rates
        if not known:
            self.unknown["the teacher" if model == _TEACHER else model] = None
        return known

    def draws(self, model: str) -> Floats:
        """Joules for all tokens that are served."""
        if not self._tokens:
            return np.zeros(self._count)
        draws: Floats = np.exp(_REPEATS * self.rng.standard_normal(self._count))
        return self._tokens * self._rates[model] * draws


def _unserved(run: RunRecord) -> str:
    return (
        f"what serving it takes is not known (run {run.run_id} has no finished serve stage of it; a recipe with a "
        "[serve] table has one)"
    )


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
