"""The stages of one session with their ends decided.

A stage whose end is not in the journal ends with the nearest ended stage it lies in, else with the session's
last sign of life; it is recovered if the session is over, and running if it is not. One that was begun in a forked
process ends with that process at the latest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from stillwatt.ledger.events import Event, Result, StageEnded, StageStarted, Workload
from stillwatt.ledger.fork_ends import ForkEnd
from stillwatt.metering.meter import INTERRUPTED
from stillwatt.records.window import StageKind, StageStatus
from stillwatt.units import seconds

_EXACT = 1 << 53


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFacts:
    """One attempt of one stage, on its session's monotonic clock."""

    stage_id: str
    parent_id: str | None
    name: str
    kind: StageKind
    attempt: int
    labels: Mapping[str, str]
    start_ns: int
    end_ns: int
    latest_end_ns: int
    """When it had ended at the latest: `end_ns`, but where its process was not watched all the time."""
    is_end_known: bool
    """Whether it did not go on after `latest_end_ns`; False where its session was lost and nobody saw when."""
    status: StageStatus
    workload: Mapping[str, float]
    results: Mapping[str, Any]


class _End(NamedTuple):
    status: StageStatus
    t_ns: int
    latest_ns: int
    is_with_fork: bool = False
    is_sessions: bool = False
    """Whether it is the session's own end, or its last sign of life."""


def stage_facts(
    program: Sequence[Event],
    status: StageStatus,
    session_end_ns: int,
    forks: Mapping[str, ForkEnd] = MappingProxyType({}),
    *,
    is_seen: bool = True,
) -> tuple[tuple[StageFacts, ...], list[str]]:
    """The session's stages in the order they began, each with an end, and what was odd about them.

    Args:
        program: The measured program's events, in order.
        status: The session's own status.
        session_end_ns: The session's end, or its last sign of life.
        forks: By stage, the end of the forked process that it was begun in, where that is gone.
        is_seen: Whether a sampling process was there to the end; a session that was lost unseen may have gone on after
            its last sign of life.
    """
    started, warnings = _started(program)
    ended: dict[str, StageEnded] = {}
    for event in program:
        if isinstance(event, StageEnded):
            ended.setdefault(event.stage_id, event)
    workloads, results = _workloads(program), _results(program)
    strangers = {e.stage_id for e in program if isinstance(e, Workload | Result | StageEnded)} - started.keys()
    warnings += [f"events of stage {stage_id}, whose start is not in the journal" for stage_id in sorted(strangers)]
    facts = []
    for stage_id, start in started.items():
        end = _stage_end(start, started, ended, status, session_end_ns)
        if stage_id not in ended and stage_id in forks:
            end = _end_with_fork(end, forks[stage_id])
        warnings += _stage_warnings(start, ended.get(stage_id), end)
        facts.append(
            StageFacts(
                stage_id=stage_id,
                parent_id=start.parent_id,
                name=start.name,
                kind=start.kind,
                attempt=start.attempt,
                labels=dict(start.labels),
                start_ns=start.t_ns,
                end_ns=max(start.t_ns, end.t_ns),
                latest_end_ns=max(start.t_ns, end.latest_ns),
                is_end_known=is_seen or not (end.is_sessions and status is StageStatus.RECOVERED),
                status=end.status,
                workload=workloads.get(stage_id, {}),
                results=results.get(stage_id, {}),
            )
        )
    return tuple(facts), warnings


def _started(program: Sequence[Event]) -> tuple[dict[str, StageStarted], list[str]]:
    """The stages by id, in the order they began; none lies in a stage that began after it, or in itself."""
    started: dict[str, StageStarted] = {}
    warnings: list[str] = []
    for event in program:
        if isinstance(event, StageStarted) and started.setdefault(event.stage_id, event) is not event:
            warnings.append(f"stage id {event.stage_id} was given twice; its second stage {event.name!r} is left out")
    order = {stage_id: number for number, stage_id in enumerate(started)}
    for stage_id, event in started.items():
        if event.parent_id is not None and order.get(event.parent_id, -1) >= order[stage_id]:
            warnings.append(f"stage {event.name!r} ({stage_id}) began before {event.parent_id}; it does not lie in it")
            started[stage_id] = msgspec.structs.replace(event, parent_id=None)
    return started, warnings


def _stage_end(
    stage: StageStarted,
    started: Mapping[str, StageStarted],
    ended: Mapping[str, StageEnded],
    session_status: StageStatus,
    session_end_ns: int,
) -> _End:
    """A stage's own end; where it has none, that of the nearest ended parent; else the session's."""
    if stage.stage_id in ended:
        own = ended[stage.stage_id]
        return _End(StageStatus(own.status), own.t_ns, own.t_ns)
    above = stage.parent_id
    while above is not None and above in started:
        if above in ended:
            end_ns = min(ended[above].t_ns, session_end_ns)
            return _End(StageStatus.RECOVERED, end_ns, end_ns)
        above = started[above].parent_id
    is_over = session_status is not StageStatus.RUNNING
    status = StageStatus.RECOVERED if is_over else StageStatus.RUNNING
    return _End(status, session_end_ns, session_end_ns, is_sessions=True)


def _end_with_fork(end: _End, fork: ForkEnd) -> _End:
    """The end of a stage that nobody wrote down: that of its process, if that came first."""
    if fork.last_ns >= end.t_ns:
        return end
    return _End(StageStatus.RECOVERED, fork.last_ns, min(fork.gone_ns, end.t_ns), is_with_fork=True)


def _stage_warnings(stage: StageStarted, told: StageEnded | None, end: _End) -> list[str]:
    warnings = []
    if end.is_with_fork:
        doubt_s = float(seconds(end.latest_ns - end.t_ns))
        doubt = f", and at most {doubt_s:.2g} s after that" if doubt_s else ""
        who = f"stage {stage.name!r} ({stage.stage_id})"
        warnings.append(f"{who} was cut off; it ended with the forked process that it was begun in{doubt}")
    elif end.status is StageStatus.RECOVERED:
        warnings.append(f"stage {stage.name!r} ({stage.stage_id}) was cut off; its end is the last sign of life")
    if end.status is StageStatus.FAILED and told is not None and _is_cut_rest(stage, told):
        rested_s = max(float(seconds(end.t_ns - stage.t_ns)), 0.0)
        who = f"idle stage {stage.name!r} ({stage.stage_id})"
        warnings.append(f"{who} was interrupted after {rested_s:.3g} s, before the time asked for was over")
    elif end.status is StageStatus.FAILED and told is not None:
        warnings.append(f"stage {stage.name!r} ({stage.stage_id}) failed: {told.error or 'no reason given'}")
    if end.t_ns < stage.t_ns:
        warnings.append(f"stage {stage.name!r} ({stage.stage_id}) ends before it starts; it is held to have no length")
    return warnings


def _is_cut_rest(stage: StageStarted, end: StageEnded) -> bool:
    """Whether somebody lost patience with a machine at rest, where nothing went wrong."""
    # an earlier version wrote the exception down
    is_interrupted = end.error == INTERRUPTED or (end.error or "").startswith("KeyboardInterrupt:")
    return stage.kind is StageKind.IDLE_BASELINE and is_interrupted


def _workloads(program: Sequence[Event]) -> dict[str, dict[str, float]]:
    """Counts summed over each stage's events; whole where they are whole and a float can hold them exactly."""
    totals: dict[str, dict[str, float]] = {}
    for event in program:
        if isinstance(event, Workload):
            stage = totals.setdefault(event.stage_id, {})
            for name, amount in event.counts.items():
                stage[name] = stage.get(name, 0) + amount
    for stage in totals.values():
        stage.update({name: float(total) for name, total in stage.items() if abs(total) >= _EXACT})
    return totals


def _results(program: Sequence[Event]) -> dict[str, dict[str, Any]]:
    """Each stage's results, later ones over earlier ones of the same name."""
    merged: dict[str, dict[str, Any]] = {}
    for event in program:
        if isinstance(event, Result):
            merged.setdefault(event.stage_id, {}).update(event.results)
    return merged
