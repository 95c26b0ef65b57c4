"""What the ledger's runs teach about costs: each stage that ran as a job with what it took."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillwatt.analysis.words import counted, listed
from stillwatt.records.channel import Basis
from stillwatt.records.energy import Energy, Total
from stillwatt.records.forecast import Device, Job, Outcome
from stillwatt.records.run import RANK
from stillwatt.records.window import StageStatus

if TYPE_CHECKING:
    from stillwatt.config.models import Recipe
    from stillwatt.records.run import RunRecord, StageRecord

__all__ = ["PROBE", "Cost", "History", "costs_of", "device_of", "read_history", "read_runs", "recipe_of", "this_device"]

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
        gone: dict[tuple[str, ...], dict[str, None]] = {}
        for outcome in self.outcomes:
            if outcome.job.device.parts != device.parts:
                gone.setdefault(outcome.job.device.parts, {})[outcome.run_id] = None
        notes = [*self.notes, *(_unlike(runs, parts, device.parts) for parts, runs in gone.items())]
        return replace(self, outcomes=tuple(kept), notes=tuple(notes))


def _unlike(runs: Iterable[str], parts: Sequence[str], wanted: Sequence[str]) -> str:
    """Why nothing is learnt from runs of other parts than those that are wanted."""
    less, more = ([part for part in some if part not in other] for some, other in ((wanted, parts), (parts, wanted)))
    unlike = [f"without {listed(less)}"] if less else []
    unlike += [f"with {listed(more)}"] if more else []
    metered = f"{listed(parts)} {'was' if len(parts) == 1 else 'were'} metered there"
    return (
        f"not learnt from {counted(runs, 'runs')}: {metered}, {' and '.join(unlike)}, and what is predicted covers "
        f"{listed(wanted)}; energies of unlike parts are never compared"
    )


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
    """Every stage of every run that can be learnt from; of those that cannot, one sentence for each reason."""
    outcomes: list[Outcome] = []
    used: list[RunRecord] = []
    left: dict[str, list[str]] = {}
    for run in runs:
        found = _outcomes(run)
        if isinstance(found, str):
            left.setdefault(found, []).append(run.run_id)
        else:
            outcomes += found
            used.append(run)
    said = [f"not learnt from {counted(run_ids, 'runs')}: {reason}" for reason, run_ids in left.items()]
    return History(outcomes=tuple(outcomes), runs=tuple(used), notes=(*notes, *said))


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
        return "no recipe was carried out, so what the stages did is not known"
    spec = recipe.to_spec()
    device = device_of(run, threads=spec.threads)
    if device is None:
        return "no energy of any part is known"
    jobs = {job.name: job for job in jobs_of(spec, device)}
    found = [
        outcome
        for cost in costs_of(run)
        if cost.name in jobs and (outcome := _outcome(run, cost, jobs[cost.name])) is not None
    ]
    return found or "none of its stages ended with a whole energy"


def _outcome(run: RunRecord, cost: Cost, job: Job) -> Outcome | None:
    if not cost.is_whole or cost.is_reused or job.unknown:
        return None
    certain = (job.tokens or 0.0) - job.assumed_tokens
    if cost.tokens is not None and cost.tokens < _WHOLE * certain:
        return None
    if cost.energy_j is None or cost.energy_j <= 0.0 or cost.duration_s < _SHORTEST_S:
        return None
    return Outcome(
        job=job,
        run_id=run.run_id,
        energy_j=cost.energy_j,
        duration_s=cost.duration_s,
        energy_rel=cost.random_j / cost.energy_j,
        is_probe=run.name.startswith(PROBE),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a stage took, without the stages inside it."""

    name: str
    energy_j: float | None
    """None where an energy of it is not whole."""
    duration_s: float
    random_j: float
    """Random half-width of the energy, 95 %."""
    tokens: float | None
    is_whole: bool
    """Whether it ended, and what it lies in too."""
    is_reused: bool


def costs_of(run: RunRecord) -> tuple[Cost, ...]:
    """Every stage of a run; one that was opened again and again inside another is one, and so are all ranks' parts.

    Ranks work at the same time, so what they did together took as long as the longest of them.
    """
    inside: dict[str | None, list[StageRecord]] = {}
    for stage in run.stages:
        inside.setdefault(stage.parent_id, []).append(stage)
    by_id = {stage.stage_id: stage for stage in run.stages}
    opened: dict[tuple[str, ...], list[StageRecord]] = {}
    for stage in run.stages:
        opened.setdefault(_work_of(stage, by_id), []).append(stage)
    return tuple(
        _cost(stages, [inner for stage in stages for inner in inside.get(stage.stage_id, ())], by_id)
        for stages in opened.values()
    )


def _work_of(stage: StageRecord, by_id: Mapping[str, StageRecord]) -> tuple[str, ...]:
    """What stages have in common that are parts of one piece of work."""
    parent = by_id.get(stage.parent_id or "")
    around = stage if parent is None else parent
    # two tries of a stage that lies in nothing are two
    own = ("ranks", around.name, str(around.attempt)) if RANK in around.labels else (around.stage_id,)
    return (stage.name, *own)


def _cost(stages: Sequence[StageRecord], inner: Sequence[StageRecord], by_id: Mapping[str, StageRecord]) -> Cost:
    first = stages[0]
    totals = [(sign, stage.gross) for sign, some in ((1.0, stages), (-1.0, inner)) for stage in some]
    known = [(sign, gross.value_j) for sign, gross in totals if isinstance(gross, Total) and gross.complete]
    tokens = [stage.workload.get("accepted_tokens", stage.workload.get("tokens")) for stage in stages]
    around = [by_id[parent]] if (parent := first.parent_id) is not None and parent in by_id else []
    random = [part.random_j for stage in stages for part in stage.energies if isinstance(part, Energy)]
    return Cost(
        name=first.name,
        energy_j=sum(sign * value_j for sign, value_j in known) if len(known) == len(totals) else None,
        duration_s=max(_own_s(stages, inner).values()),
        random_j=sum(half**2 for half in random) ** 0.5,
        tokens=None if None in tokens else float(sum(seen for seen in tokens if seen is not None)),
        is_whole=all(stage.status is StageStatus.ENDED for stage in (*stages, *around)),
        is_reused="reused_from" in first.labels,
    )


def _own_s(stages: Sequence[StageRecord], inner: Sequence[StageRecord]) -> dict[str, float]:
    """Seconds by rank."""
    found: dict[str, float] = {}
    ranks = {stage.stage_id: stage.labels.get(RANK, "") for stage in stages}
    for stage in stages:
        rank = ranks[stage.stage_id]
        found[rank] = found.get(rank, 0.0) + stage.duration_s
    for stage in inner:
        found[ranks[stage.parent_id or ""]] -= stage.duration_s
    return found


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
