"""What to run next: options from the ledger's runs or from a table, judged within limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from stillwatt.analysis.words import listed
from stillwatt.config.amounts import Amount
from stillwatt.errors import StillwattError, UsageError
from stillwatt.records.advice import Advice, Limits
from stillwatt.records.channel import Boundary
from stillwatt.units import Joules, to_kwh

if TYPE_CHECKING:
    from stillwatt.analysis.advice import Drawn
    from stillwatt.records.advice import Option

__all__ = ["Judged", "Request", "advise_from_runs", "advise_from_table", "limits_of"]

DRAWS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for."""

    limits: Limits
    students: int = 1
    """Students that are made, and share the teacher's work."""
    tokens_served: float = 0.0
    """By all of them, or by what stands in their place."""
    kgco2e_per_kwh: float | None = None
    """Of a metered kWh, with all that lies between meter and grid in it."""
    region: str = ""
    """Where it would run, instead: any name that the factors know."""
    runs_dir: str = "runs"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.region and self.kgco2e_per_kwh is not None:
            raise UsageError("--region and --kgco2e-per-kwh both say what a kWh emits; give one of the two")
        if self.limits.kgco2e is not None and self.kgco2e_per_kwh is None and not self.region:
            raise UsageError(
                "a limit in kgCO2e needs a place: --region FRA takes its factors, --kgco2e-per-kwh X a figure of your "
                "own for a metered kWh"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Options with their draws, before they are ranked."""

    options: tuple[Option, ...]
    drawn: Drawn
    left_out: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    boundary: Boundary = Boundary.COMPONENTS
    """What the energies cover."""


def limits_of(budgets: Sequence[Amount], *, quality: float | None = None) -> Limits:
    """Limits from amounts as they were written: energies, kgCO2e, lengths of time, tokens; of one kind the least.

    Raises:
        UsageError: A quality is not a finite number.

    >>> limits_of([Amount(7.2e6, "J"), Amount(3.6e6, "J"), Amount(60.0, "s")])
    Limits(energy_j=3600000.0, kgco2e=None, duration_s=60.0, tokens=None, quality=None)
    """
    if quality is not None and not math.isfinite(quality):
        raise UsageError(f"--quality {quality} is not a number that a quality can reach")
    least: dict[str, float] = {}
    for budget in budgets:
        least[budget.unit] = min(budget.value, least.get(budget.unit, math.inf))
    return Limits(
        energy_j=least.get("J"),
        kgco2e=least.get("kgCO2e"),
        duration_s=least.get("s"),
        tokens=least.get("tokens"),
        quality=quality,
    )


def advise_from_table(table: str | Path, request: Request) -> Advice:
    """Advise from the trainings of a CSV table: each label at the budget it was trained with.

    Raises:
        MissingInputError: There is no such file.
        ConfigError: The table cannot be used; names the line.
        StillwattError: No row of it has both an energy and a quality.
    """
    from stillwatt.workflows.advise_table import judge_table

    return _ranked(judge_table(table, request), request)


def advise_from_runs(request: Request) -> Advice:
    """Advise from the ledger's runs: each way of training that was tried, at budgets around those that were.

    Raises:
        StillwattError: No run has an arm whose quality is known, or tokens are served and no serving was measured.
    """
    from stillwatt.workflows.advise_runs import judge_runs

    return _ranked(judge_runs(request), request)


def _ranked(judged: Judged, request: Request) -> Advice:
    from stillwatt.analysis.advice import advise

    if not judged.options:
        reasons = dict.fromkeys(reason for _, reason in judged.left_out)
        why = [f"{listed(name for name, told in judged.left_out if told == reason)}: {reason}" for reason in reasons]
        its = "its quality and its serving" if request.tokens_served else "its quality"
        raise StillwattError(
            f"nothing can be advised: {'; '.join(why or judged.notes or ('there is no training',))}; measure a "
            f"training with {its} first (`stillwatt run quickstart` is one), or give figures of your own with "
            "--table FILE"
        )
    drawn, said = _with_carbon(judged, request)
    limits, notes = request.limits, [*judged.notes, *said]
    for what, limit, known in (
        ("time", limits.duration_s, drawn.duration_s),
        ("tokens in training", limits.tokens, drawn.tokens),
    ):
        if limit is not None and known is None:
            raise UsageError(f"a limit on {what} needs runs: a table does not say how much of it a training takes")
    found = advise(judged.options, drawn, limits, seed=request.seed)
    return replace(found, left_out=judged.left_out, notes=tuple(notes))


def _with_carbon(judged: Judged, request: Request) -> tuple[Drawn, tuple[str, ...]]:
    """The draws with kgCO2e where it is said what a kWh emits, and what it rests on (method.md, eq. 118)."""
    drawn = judged.drawn
    energy_kwh = drawn.energy_j * to_kwh(Joules(1.0))
    if request.region:
        from stillwatt.workflows.advise_carbon import carbon_at

        carbon = carbon_at(request.region, judged.boundary, count=len(energy_kwh), seed=request.seed)
        return replace(drawn, kgco2e=energy_kwh * carbon.draws[:, None]), (carbon.note,)
    if request.kgco2e_per_kwh is not None:
        note = f"carbon: {request.kgco2e_per_kwh:.6g} kgCO2e per metered kWh as given, taken as exact"
        return replace(drawn, kgco2e=energy_kwh * request.kgco2e_per_kwh), (note,)
    return drawn, ()
