"""What serving a model takes, from runs that measured it: joules with their whole interval, and time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stillwatt.analysis.contrast import Z_95
from stillwatt.analysis.costs.posterior import Floats
from stillwatt.analysis.words import counted
from stillwatt.records.finding import Bill
from stillwatt.report.format import duration_text, energy_text

if TYPE_CHECKING:
    from stillwatt.records.finding import ServingRate, Study
    from stillwatt.records.run import RunRecord
    from stillwatt.workflows.advise import Request

__all__ = ["TEACHER", "Serving"]

TEACHER = "teacher"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """One finished serving stage, and the run that it is of."""

    rate: ServingRate
    energy: Bill
    run_id: str
    repeat_rel: float
    """How far one serving lies from another, as that run shows (method.md, eq. 28)."""


class Serving:
    """Draws of what serving takes, by model: of each, the newest run that has finished serving it.

    Its energy is drawn from the serving stage's own interval, with the run's repeatability: random parts for each model
    alone, and one draw of what an instrument or a model of the machine is off by for all (method.md, eq. 97).
    """

    def __init__(self, studies: Sequence[tuple[RunRecord, Study]], request: Request, *, count: int, seed: int) -> None:
        """Look up what was served; `studies` are in their order, the newest first."""
        self.rng = np.random.default_rng([request.seed, seed])
        self.unknown: dict[str, None] = {}
        """Models that were asked for and not measured."""
        self._count, self._tokens = count, request.tokens_served
        self._runs = [run.run_id for run, _ in studies]
        self._measured: dict[str, _Measured] = {}
        for run, study in studies:
            own = {rate.model: rate for rate in study.serving if isinstance(rate.energy, Bill)}
            for model, rate in own.items():
                assert isinstance(rate.energy, Bill)  # as was just asked
                found = _Measured(rate=rate, energy=rate.energy, run_id=run.run_id, repeat_rel=study.repeat_rel)
                self._measured.setdefault(model, found)
        self._alike = self.rng.standard_normal(count)
        self._drawn: dict[str, tuple[Floats, Floats]] = {}

    def is_known(self, model: str) -> bool:
        """Whether what serving it takes is known: always where nothing is served."""
        known = not self._tokens or model in self._measured
        if not known:
            self.unknown[_who(model)] = None
        return known

    def energy_j(self, model: str) -> Floats:
        """Joules for all tokens that are served."""
        return self._draws(model)[0]

    def duration_s(self, model: str) -> Floats:
        """Seconds for all tokens that are served, at the pace of the serving stage."""
        return self._draws(model)[1]

    def why_unknown(self) -> str:
        """Why what serves some models is left out."""
        return (
            f"what serving it takes is not known (no finished serve stage of it in {counted(self._runs, 'runs')}; a "
            "recipe with a [serve] table has one)"
        )

    def notes(self) -> Iterator[str]:
        """What the figures of the models that were drawn rest on."""
        for model in self._drawn if self._tokens else ():
            found = self._measured[model]
            bill, rate = found.energy, found.rate
            per_token = {
                "value_j": bill.value_j / rate.tokens,
                "low_j": bill.low_j / rate.tokens,
                "high_j": bill.high_j / rate.tokens,
            }
            basis = f" {bill.basis.value}" if bill.basis else ""
            last_s = self._tokens * rate.duration_s / rate.tokens
            yield (
                f"serving {_who(model)}: {energy_text(per_token)}{basis} a token, as {rate.tokens:,.0f} tokens in "
                f"{duration_text(rate.duration_s)} of run {found.run_id} took; {self._tokens:,.0f} tokens last "
                f"{duration_text(last_s)} at that pace, which is in the time and counts against a deadline"
            )

    def _draws(self, model: str) -> tuple[Floats, Floats]:
        if not self._tokens:
            return np.zeros(self._count), np.zeros(self._count)
        if model not in self._drawn:
            self._drawn[model] = self._new_draws(self._measured[model])
        return self._drawn[model]

    def _new_draws(self, found: _Measured) -> tuple[Floats, Floats]:
        bill, rate, alike = found.energy, found.rate, self._alike / Z_95
        random_j = float(np.hypot(bill.random_j, found.repeat_rel * bill.value_j))
        off_j = alike * np.where(alike > 0.0, bill.systematic_high_j, bill.systematic_low_j)
        drawn_j = bill.value_j + off_j + random_j / Z_95 * self.rng.standard_normal(self._count)
        pace = np.exp(found.repeat_rel / Z_95 * self.rng.standard_normal(self._count))
        share = self._tokens / rate.tokens
        return share * np.maximum(drawn_j, 0.0), share * rate.duration_s * pace


def _who(model: str) -> str:
    return "the teacher" if model == TEACHER else model
