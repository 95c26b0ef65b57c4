"""What the ledger's runs teach about costs: each stage that ran as a job with what it took."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillwatt.analysis.words import listed
from stillwatt.records.channel import Basis
from stillwatt.records.energy import Energy, Total
from stillwatt.records.forecast import Device, Job, Outcome
from stillwatt.records.window import StageStatus

if TYPE_CHECKING:
    from stillwatt.config.models import Recipe
    from stillwatt.records.run import RunRecord, StageRecord

__all__ = ["PROBE", "History", "device_of", "own_cost", "read_history", "read_runs", "recipe_of", "this_device"]

PROBE = "probe-"
"""What the name of a run begins with that was made to try the costs of a recipe; its energy is experimentation."""
MOST_RUNS = 60
"""The newest runs that are learnt from."""
_WHOLE = 0.9
"""Share of the planned tokens that a stage must have seen: less was gone on with from an earlier attempt."""
_SHORTEST_S = 0.02
"""Stages that are shorter are edges and little else."""
_CPU_BUILD = "+cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Stages that ran, and what was left out of them."""

    outcomes: tuple[Outcome, ...]
    runs: tuple[RunRecord, ...]
    """The runs behind them, newest first."""
    notes: tuple[str, ...]

    @property
    def is_modelled(self) -> bool:
        """Whether an energy of it rests on a model of the host."""
        return not self.runs or any(
            isinstance(run.total, Total) and run.total.basis is not Basis.MEASURED for run in self.runs
        )

    @property
    def run_ids(self) -> tuple[str, ...]:
        """Ids of the runs behind the outcomes, newest first."""
        return tuple(dict.fromkeys(outcome.run_id for outcome in self.outcomes))

    def like(self, device: Device) -> History:
        """The part whose energies cover the same kinds of parts as the device's; what is left out is said."""
        kept = [outcome for outcome in self.outcomes if outcome.job.device.parts == device.parts]
        gone = dict.fromkeys(o.run_id for o in self.outcomes if o.job.device.parts != device.parts)
        notes = list(self.notes)
        if gone:
            notes.append(
                f"not learnt from {listed(gone)}: metered were other parts than {listed(device.parts)}, and energies "
                "of unlike boundaries are never compared"
            )
        return replace(self, outcomes=tuple(kept), notes=tuple(notes))


def read_runs(runs_dir: str | Path) -> tuple[tuple[RunRecord, ...], tuple[str, ...]]:
    """The newest runs of a ledger, and one sentence for each that cannot be read; none where there is no ledger."""
    from stillwatt.errors import LedgerError
    from stillwatt.ledger.store import LedgerStore

    if not Path(runs_dir).is_dir():
        return (), (f"there is no ledger in {runs_dir}",)
    found, notes = [], []
    with LedgerStore(Path(runs_dir)) as store:
        notes += [f"run {problem.run_id}: {problem.message}" for problem in store.refresh().problems]
        lines = store.runs()
        for line in lines[:MOST_RUNS]:
            try:
                found.append(store.get(line.run_id))
            except LedgerError as err:
                notes.append(str(err))
    if len(lines) > MOST_RUNS:
        notes.append(f"learnt from the newest {MOST_RUNS} of {len(lines):,} runs")
    return tuple(found), tuple(notes)


def read_history(runs: Sequence[RunRecord], notes: Sequence[str] = ()) -> History:
    """Every stage of every run that can be learnt from; a run that cannot says why."""
    outcomes: list[Outcome] = []
    said = list(notes)
    used = []
    for run in runs:
        found = _outcomes(run)
        if isinstance(found, str):
            said.append(f"not learnt from {run.run_id}: {found}")
        else:
            outcomes += found
            used.append(run)
    return History(outcomes=tuple(outcomes), runs=tuple(used), notes=tuple(said))


def recipe_of(run: RunRecord) -> Recipe | None:
    """The recipe that a run carried out; None where it carried out none."""
    from pydantic import ValidationError

    from stillwatt.config.models import Recipe

    try:
        return Recipe.model_validate_json(json.dumps(dict(run.settings)))
    except ValidationError:
        return None


def _outcomes(run: RunRecord) -> list[Outcome] | str:
    from stillwatt.config.jobs import jobs_of

    recipe = recipe_of(run)
    if recipe is None:
        return "it carried out no recipe, so what its stages did is not known"
    spec = recipe.to_spec()
    device = device_of(run, threads=spec.threads)
    if device is None:
        return "no energy of any part is known"
    jobs = {job.name: job for job in jobs_of(spec, device)}
    found = [
        outcome
        for stage in run.stages
        if stage.name in jobs and (outcome := _outcome(run, stage, jobs[stage.name])) is not None
    ]
    return found or "none of its stages ended with a whole energy"


def _outcome(run: RunRecord, stage: StageRecord, job: Job) -> Outcome | None:
    if stage.status is not StageStatus.ENDED or "reused_from" in stage.labels or job.unknown:
        return None
    seen = stage.workload.get("accepted_tokens", stage.workload.get("tokens"))
    if seen is not None and job.tokens and seen < _WHOLE * job.tokens:
        return None
    energy_j, duration_s, random_j = own_cost(run, stage)
    if energy_j is None or energy_j <= 0.0 or duration_s < _SHORTEST_S:
        return None
    return Outcome(
        job=job,
        run_id=run.run_id,
        energy_j=energy_j,
        duration_s=duration_s,
        energy_rel=random_j / energy_j,
        is_probe=run.name.startswith(PROBE),
    )


def own_cost(run: RunRecord, stage: StageRecord) -> tuple[float | None, float, float]:
    """Energy, seconds and random half-width of a stage without the stages inside it."""
    inside = [other for other in run.stages if other.parent_id == stage.stage_id]
    energy_j, duration_s = 0.0, stage.duration_s - sum(other.duration_s for other in inside)
    for sign, one in ((1.0, stage), *((-1.0, other) for other in inside)):
        if not isinstance(one.gross, Total) or not one.gross.complete:
            return None, duration_s, 0.0
        energy_j += sign * one.gross.value_j
    random_j = sum(part.random_j**2 for part in stage.energies if isinstance(part, Energy)) ** 0.5
    return energy_j, duration_s, random_j


def device_of(run: RunRecord, *, threads: int | None) -> Device | None:
    """What a run's work ran on, and which kinds of parts were metered; None where no energy is known."""
    energies = [part for stage in run.stages for part in stage.energies if isinstance(part, Energy)]
    parts = {part.part.rstrip("0123456789") for part in energies}
    if not energies:
        return None
    cards = {part.part: part.device for part in energies if part.part.startswith("gpu")}
    return _device(run.environment, cards, tuple(sorted(parts)), threads, is_cpu_build=_is_cpu(run.environment))


def _device(
    environment: Mapping[str, Any],
    cards: Mapping[str, str],
    parts: tuple[str, ...],
    threads: int | None,
    *,
    is_cpu_build: bool,
) -> Device:
    if cards and not is_cpu_build:
        return Device(name=next(iter(cards.values())), is_gpu=True, count=len(cards), parts=parts)
    count = threads or int(environment.get("usable_cpus") or environment.get("logical_cpus") or 1)
    cpu = str(environment.get("cpu_model") or "an unnamed CPU")
    return Device(name=f"{cpu}, {count} threads", is_gpu=False, count=count, parts=parts)


def this_device(runs: Sequence[RunRecord], *, threads: int | None) -> Device:
    """This machine: as its newest run saw it, else its processor with a modelled host."""
    from stillwatt.ledger.environment import capture_environment

    here = capture_environment()
    for run in runs:
        if (run.environment.get("host"), run.environment.get("cpu_model")) == (here["host"], here["cpu_model"]):
            device = device_of(run, threads=threads)
            if device is not None:
                return device
    cards = _cards()
    parts = ("cpu", "dram", "gpu") if cards else ("cpu", "dram")
    return _device(here, cards, parts, threads, is_cpu_build=_is_cpu(here))


def _is_cpu(environment: Mapping[str, Any]) -> bool:
    return str((environment.get("packages") or {}).get("torch") or "").endswith(_CPU_BUILD)


def _cards() -> dict[str, str]:
    """GPUs of this machine that can be read, by part."""
    from stillwatt.clock import SystemClock
    from stillwatt.sensors.registry import make_sensor

    channels = make_sensor("nvml", SystemClock()).probe().channels
    return {channel.part: channel.device for channel in channels if channel.part.startswith("gpu")}
