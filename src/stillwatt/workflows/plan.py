"""What a recipe would take, before a joule is spent on it; and what it took, held against what was predicted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from stillwatt.errors import UsageError
from stillwatt.records.energy import Total
from stillwatt.records.forecast import Device, Figure, Forecast, Held, Prediction, PredictionCheck
from stillwatt.workflows.history import (
    Cost,
    History,
    costs_of,
    device_of,
    read_history,
    read_runs,
    recipe_of,
    this_device,
)
from stillwatt.workflows.predictions import load_prediction, save_prediction

if TYPE_CHECKING:
    from stillwatt.analysis.costs.forecasts import Forecasts
    from stillwatt.config.models import Recipe
    from stillwatt.pipelines.progress import Progress
    from stillwatt.records.run import RunRecord

__all__ = ["Planned", "Probing", "compare_with_prediction", "compare_with_run", "find_device", "plan_recipe"]

_CARBON_DRAWS = 2_000
_LEAST_SHARE = 0.002
"""Of a run's energy: what is less is not worth a word."""
MODELLED = (
    "energies were modelled, not measured: the figures say what the same model would say after the run, and its own "
    "error comes on top"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probing:
    """A dry run of a few steps before the prediction."""

    seconds: float
    progress: Progress
    announce: Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A prediction, and what it was made from."""

    prediction: Prediction
    saved_to: Path | None
    """Where it was kept for the run that may follow; None where there is no folder of runs."""


def plan_recipe(
    recipe: Recipe,
    *,
    runs_dir: str | Path = "runs",
    device_name: str = "",
    region: str = "",
    probing: Probing | None = None,
) -> Planned:
    """Predict every stage of a recipe, from the ledger, a probe, or first principles.

    Args:
        recipe: What would be run.
        runs_dir: Runs to learn from; the prediction is kept there for the run that may follow.
        device_name: Another device than this machine's: a GPU's name.
        region: Where it would run, for kgCO2e; any name that the factors know.
        probing: Try a few steps first.

    Raises:
        UnknownNameError: There is no such region.
        MissingExtraError: A probe is asked for and the training stack is not installed.
    """
    notes: tuple[str, ...] = ()
    if probing is not None:
        from stillwatt.workflows.probe import probe_recipe

        if device_name:
            raise UsageError("--probe tries this machine and --device names another; give one of the two")
        notes = probe_recipe(recipe, runs_dir=runs_dir, probing=probing)
    runs, said = read_runs(runs_dir)
    history = read_history(runs, (*notes, *said))
    device = find_device(history.runs, device_name, threads=recipe.run.threads)
    prediction = predict(recipe, history.like(device), device, region=region)
    saved_to = save_prediction(prediction, runs_dir) if Path(runs_dir).is_dir() else None
    return Planned(prediction=prediction, saved_to=saved_to)


def find_device(runs: Sequence[RunRecord], name: str, *, threads: int | None) -> Device:
    """This machine, or a GPU by name; what is metered there is taken to be what is metered here, and its boards."""
    here = this_device(runs, threads=threads)
    if not name:
        return here
    return Device(name=name, is_gpu=True, count=1, parts=tuple(sorted({*here.parts, "gpu"})))


def predict(recipe: Recipe, history: History, device: Device, *, region: str = "") -> Prediction:
    """Predict a recipe from a history that was cut to what the device's energies cover."""
    from stillwatt.analysis.costs.forecasts import forecast
    from stillwatt.config.jobs import jobs_of, remarks_on

    spec = recipe.to_spec()
    found = forecast(history.outcomes, jobs_of(spec, device))
    stages, total, reason = _carbon(found, device, region)
    modelled = (MODELLED,) if not device.is_gpu and history.is_modelled else ()
    return Prediction(
        recipe=recipe.name,
        settings_sha256=recipe.settings_sha256,
        device=device.name,
        stages=stages,
        energy_j=found.energy_j,
        duration_s=found.duration_s,
        disk_bytes=(sum(s.disk_bytes[0] for s in stages), sum(s.disk_bytes[1] for s in stages)),
        kgco2e=total,
        kgco2e_reason=reason,
        learnt_from=history.run_ids,
        energy_error=found.energy_error,
        duration_error=found.duration_error,
        notes=(*history.notes, *remarks_on(spec), *found.notes, *modelled),
    )


def _carbon(found: Forecasts, device: Device, region: str) -> tuple[tuple[Forecast, ...], Figure | None, str]:
    """Stages and total with kgCO2e where a place is named and its factors are known (method.md, eqs. 64 to 68)."""
    if not region:
        return found.stages, None, "no place was named (--region)"
    from stillwatt.factors.places import find_place
    from stillwatt.impact.operational import Operational
    from stillwatt.impact.site import site_at
    from stillwatt.records.channel import Basis, Boundary
    from stillwatt.records.energy import NoTotal
    from stillwatt.records.impact import Impact, LifeStage, Use
    from stillwatt.workflows.factors import open_catalog

    site = site_at(open_catalog(), find_place(region))
    boundary = Boundary.BOARD if device.parts == ("gpu",) else Boundary.COMPONENTS
    wanted = {stage.name: stage.energy_j for stage in found.stages} | {"": found.energy_j}

    def kgco2e(name: str) -> Figure | str:
        energy = wanted[name]
        if energy is None:
            return "the energy is not known"
        total = Total(
            value_j=energy.value,
            low_j=energy.low,
            high_j=energy.high,
            basis=Basis.MODELLED,
            complete=True,
            boundary=boundary,
        )
        use = Use(run=name, stage=LifeStage.POST_TRAINING, energy=total, meter="forecast")
        value = Operational([use], site, draws=_CARBON_DRAWS).run_interval(name, Impact.GWP_LOCATION)
        return value.reason if isinstance(value, NoTotal) else Figure(value=value[0], low=value[1], high=value[2])

    stages = tuple(
        replace(stage, kgco2e=figure if isinstance(figure := kgco2e(stage.name), Figure) else None)
        for stage in found.stages
    )
    total = kgco2e("")
    return stages, *((None, total) if isinstance(total, str) else (total, ""))


def compare_with_run(reference: str, *, runs_dir: str | Path = "runs", recipe: Recipe | None = None) -> PredictionCheck:
    """Hold a run against its prediction: the one made before it, else one made from all other runs.

    Raises:
        RunNotFoundError: There is no such run.
        UsageError: It carried out no recipe, or another one.
    """
    from stillwatt.workflows.books import show_run

    run = show_run(runs_dir, reference)
    own = recipe_of(run)
    if own is None:
        raise UsageError(f"run {run.run_id} carried out no recipe: there is nothing to predict it from")
    if recipe is not None and recipe.settings_sha256 != run.settings_sha256:
        raise UsageError(f"run {run.run_id} carried out {own.name!r} with other settings than this recipe's")
    found = compare_with_prediction(run, runs_dir=runs_dir)
    if found is not None:
        return found
    runs, said = read_runs(runs_dir)
    history = read_history([other for other in runs if other.run_id != run.run_id], said)
    device = device_of(run, threads=own.run.threads) or this_device(runs, threads=own.run.threads)
    prediction = predict(own, history.like(device), device)
    note = "no prediction was made before the run; this one is made from the other runs alone"
    return _compared(run, replace(prediction, notes=(note, *prediction.notes)), is_from_before=False)


def compare_with_prediction(run: RunRecord, *, runs_dir: str | Path) -> PredictionCheck | None:
    """Hold a run against the prediction that was made before it; None where none was."""
    prediction = load_prediction(Path(runs_dir) / run.run_id)
    return None if prediction is None else _compared(run, prediction, is_from_before=True)


def _compared(run: RunRecord, prediction: Prediction, *, is_from_before: bool) -> PredictionCheck:
    costs = costs_of(run)
    last = {cost.name: cost for cost in costs}
    energy, duration = _held(prediction, last)
    total = run.total if isinstance(run.total, Total) else None
    return PredictionCheck(
        run_id=run.run_id,
        is_from_before=is_from_before,
        energy=energy,
        duration=duration,
        notes=prediction.notes,
        basis=None if total is None else total.basis,
        whole_j=None if total is None else total.value_j,
        uncompared={} if total is None else _uncompared(total.value_j, energy, costs),
    )


def _uncompared(whole_j: float, energy: Sequence[Held], costs: Sequence[Cost]) -> dict[str, float]:
    """The run's joules beside its predicted stages, by what they went into; both together are the run's total."""
    named, last = {held.name for held in energy if held.predicted is not None}, {cost.name: cost for cost in costs}
    found = dict.fromkeys(("attempts that were cut off or failed", "stages that were not predicted"), 0.0)
    again, unnamed = found
    spent_j = 0.0
    for cost in costs:
        energy_j = cost.energy_j or 0.0  # one that is not known stays in the rest, which says so
        spent_j += energy_j
        if cost.name not in named:
            found[unnamed] += energy_j
        elif cost is not last[cost.name]:
            found[again] += energy_j
    unknown = ", and in those whose energy is not whole" if any(cost.energy_j is None for cost in costs) else ""
    found[f"what lies between stages{unknown}"] = whole_j - spent_j
    return {what: energy_j for what, energy_j in found.items() if energy_j > _LEAST_SHARE * whole_j}


def _held(prediction: Prediction, last: Mapping[str, Cost]) -> tuple[tuple[Held, ...], tuple[Held, ...]]:
    energy, duration = [], []
    for stage in prediction.stages:
        ran = last.get(stage.name)
        if ran is None:
            reason = "it did not run"
            energy.append(Held(name=stage.name, predicted=stage.energy_j, measured=None, reason=reason))
            duration.append(Held(name=stage.name, predicted=stage.duration_s, measured=None, reason=reason))
            continue
        again = "its artefact was there already" if ran.is_reused else stage.reason
        reason = again or ("" if ran.energy_j is not None else "its energy is not whole")
        energy.append(Held(name=stage.name, predicted=stage.energy_j, measured=ran.energy_j, reason=reason))
        duration.append(Held(name=stage.name, predicted=stage.duration_s, measured=ran.duration_s, reason=again))
    return (*energy, _total(energy, prediction.energy_j)), (*duration, _total(duration, prediction.duration_s))


def _total(held: Sequence[Held], predicted: Figure | None) -> Held:
    """The sum of what was predicted; none where a predicted stage did not run, or made nothing anew."""
    whole = [entry for entry in held if entry.predicted is not None]
    known = [entry.measured for entry in whole if entry.measured is not None and not entry.reason]
    if len(known) < len(whole) or not whole:
        return Held(name="total", predicted=predicted, measured=None, reason="not every predicted stage ran whole")
    return Held(name="total", predicted=predicted, measured=sum(known))
