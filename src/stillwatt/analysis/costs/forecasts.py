"""Every stage of a recipe predicted, and their sum, with what each figure rests on (method.md, eqs. 93 and 94)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from stillwatt.analysis.costs.machines import GPU_NAMES, find_machine
from stillwatt.analysis.costs.model import CostModel, figure
from stillwatt.analysis.words import listed
from stillwatt.errors import suggest
from stillwatt.records.forecast import Figure, Forecast, Job, LeftOut, Outcome

__all__ = ["Forecasts", "forecast"]

_MOST_NAMED = 2
"""Runs that a stage's evidence names; of more it says how many."""
FIRST_PRINCIPLES = "first principles alone: nothing like it was measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecasts:
    """What a list of jobs would take."""

    stages: tuple[Forecast, ...]
    energy_j: Figure | None
    """All stages whose cost can be predicted; None where there is none."""
    duration_s: Figure | None
    energy_error: LeftOut | None
    duration_error: LeftOut | None
    notes: tuple[str, ...]


def forecast(outcomes: Sequence[Outcome], jobs: Sequence[Job], *, seed: int = 0) -> Forecasts:
    """Predict jobs from stages that ran, or from first principles where none did (method.md, eq. 93).

    Stages of one run share what that run does to all of them, so the interval of the sum is drawn, not added.

    >>> from stillwatt.records.forecast import Counts, Device
    >>> from stillwatt.records.kinds import StageKind
    >>> job = Job(name="train", kind=StageKind.STUDENT_TRAIN, counts=Counts(flops=1e15),
    ...           device=Device(name="NVIDIA H100", is_gpu=True), dtype="bfloat16")
    >>> forecast([], [job]).stages[0].evidence
    'first principles alone: nothing like it was measured'
    """
    known = [job for job in jobs if not job.unknown]
    if not known:
        return _nothing(jobs)
    energy = CostModel(outcomes, known, in_joules=True)
    duration = CostModel(outcomes, known, in_joules=False)
    energies, durations = energy.draws(seed=seed), duration.draws(seed=seed)
    places = {id(job): place for place, job in enumerate(known)}
    stages = []
    for job in jobs:
        found = _unknown(job)
        if (place := places.get(id(job))) is not None:
            found = replace(
                found,
                energy_j=figure(energies[:, place]),
                duration_s=figure(durations[:, place]),
                evidence=_evidence(job, outcomes),
            )
        stages.append(found)
    return Forecasts(
        stages=tuple(stages),
        energy_j=figure(energies.sum(axis=1)),
        duration_s=figure(durations.sum(axis=1)),
        energy_error=energy.leave_one_out(),
        duration_error=duration.leave_one_out(),
        notes=tuple(_notes(jobs, outcomes)),
    )


def _unknown(job: Job) -> Forecast:
    """A stage without figures."""
    return Forecast(
        name=job.name,
        kind=job.kind,
        energy_j=None,
        duration_s=None,
        disk_bytes=job.disk_bytes,
        tokens=job.tokens,
        evidence="",
        reason=job.unknown,
    )


def _nothing(jobs: Sequence[Job]) -> Forecasts:
    """No job's cost can be predicted."""
    return Forecasts(
        stages=tuple(_unknown(job) for job in jobs),
        energy_j=None,
        duration_s=None,
        energy_error=None,
        duration_error=None,
        notes=tuple(_notes(jobs, ())),
    )


def _evidence(job: Job, outcomes: Sequence[Outcome]) -> str:
    """The nearest measured stages: same work on the same device, else the same work, else what is left."""
    alike = [o for o in outcomes if o.job.kind is job.kind and o.job.method == job.method]
    here = [o for o in alike if o.job.device.name == job.device.name]
    for found, where in ((here, ""), (alike, " on another device")):
        if found:
            runs = list(dict.fromkeys(o.run_id for o in found))
            stages = "1 stage" if len(found) == 1 else f"{len(found)} stages"
            kind = " (probe)" if all(o.is_probe for o in found) else ""
            named = listed(runs) if len(runs) <= _MOST_NAMED else f"{len(runs)} runs"
            return f"{stages} like it{where}, in {named}{kind}"
    if any(o.job.device.name == job.device.name for o in outcomes):
        return "first principles, with what other stages showed of this device"
    return FIRST_PRINCIPLES


def _notes(jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> Iterator[str]:
    unknown = [job.name for job in jobs if job.unknown]
    if unknown:
        yield f"not in the total: {listed(unknown)}"
    for device in dict.fromkeys(job.device for job in jobs):
        if not find_machine(device).is_known:
            near = suggest(device.name, GPU_NAMES)
            hint = f" (did you mean {near!r}?)" if near else ""
            yield (
                f"no GPU called {device.name!r} is known here{hint}: an average one's peak rates stand in, and the "
                "intervals begin wide"
            )
        if not any(o.job.device.name == device.name for o in outcomes):
            yield f"nothing was measured on {device.name} yet: figures rest on first principles and on other devices"
    if any(job.kind.value.startswith("teacher") and not job.unknown for job in jobs):
        yield (
            "the teacher's artefacts are made anew in these figures; where those of these very settings are there "
            "already, they are used again and cost nothing"
        )
