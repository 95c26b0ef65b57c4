"""What a run has spent so far, read from its directory while it goes on; and the process that keeps looking.

`python -m stillwatt.ledger.spent RUN_DIR` writes one line of JSON for each look until its standard input ends, which
means that the measured program is gone; what comes there before asks for a look at once. It reads what the sampling
process wrote and books it as the ledger will, so what a budget is held against is what the account will say. The
measured program reads the lines and pays for nothing else; the looking itself is on its machine's meter, and takes at
most a twentieth of one core where nobody asks.
"""

from __future__ import annotations

import json
import os
import select
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TextIO

import numpy as np

from stillwatt.clock import Clock, SystemClock
from stillwatt.errors import StillwattError
from stillwatt.ledger.booking import BookedPlace, BookedRun, book_run
from stillwatt.ledger.liveness import Liveness, ThisHost
from stillwatt.ledger.post import read_run
from stillwatt.ledger.sessions import SessionFacts
from stillwatt.ledger.stages import StageFacts
from stillwatt.metering.series import Series
from stillwatt.metering.totals import in_sum
from stillwatt.metering.trace import trace_points
from stillwatt.records.channel import Basis
from stillwatt.records.energy import Absent, Energy, NoTotal, Total
from stillwatt.records.kinds import StageKind, StageStatus
from stillwatt.records.run import RANK, fates
from stillwatt.units import NS_PER_S, seconds

_LOOK_EVERY_S = 0.25
_REST_PER_LOOK = 20.0
"""Seconds of rest for each second that a look took."""
_POWER_SPAN_NS = 2 * NS_PER_S
_UNREAD_S = 10.0
"""So long may a part go unread and be carried on at its power; a rarely read one for several of its own intervals."""
_UNREAD_INTERVALS = 5
_NICER = 5
_BLOCK_BYTES = 1 << 12
_LOST = (StageStatus.FAILED, StageStatus.RECOVERED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a run has spent up to one moment."""

    t_ns: int
    """The moment, on this machine's monotonic clock."""
    energy_j: float | None
    """Of the whole run, lost attempts among it; None where it is not known, and `why_not` says why."""
    power_w: float
    """Of all parts together, since the look before, over the last two seconds at least."""
    duration_s: float
    """Of all sessions together."""
    arms: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By arm: joules and seconds of its training, and of all inside it; lost attempts are not the arm's."""
    stages: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By name: joules and seconds of the latest attempt that ended, of all ranks where each has a part in it; not of
    stages inside a training."""
    is_measured: bool = False
    """Whether every joule is; else some are modelled or assumed."""
    why_not: str = ""
    unread: str = ""
    """Which parts are in the sum with less than they drew, and why; empty where all are read. Of servers, whose joules
    nobody reads here, it says nothing."""

    @classmethod
    def from_line(cls, line: str) -> Spent:
        """Read a line of the looking process.

        Raises:
            ValueError: It is no such line.
        """
        try:
            given = json.loads(line)
            arms, stages = _pairs(given.pop("arms")), _pairs(given.pop("stages", {}))
            return cls(arms=arms, stages=stages, **given)
        except (TypeError, KeyError, AttributeError) as err:
            raise ValueError(f"no line of what a run has spent: {err}") from err


def _pairs(given: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, float]]:
    return {name: (float(pair[0]), float(pair[1])) for name, pair in given.items()}


def spent_so_far(run_dir: Path, *, liveness: Liveness | None = None, since_ns: int | None = None) -> Spent:
    """Look at a run once.

    Args:
        run_dir: Its directory.
        liveness: Tells whether its programs are alive.
        since_ns: The moment of the look before: what is carried on until the next one is no power of two seconds
            alone, in which perhaps that look was at work.

    Raises:
        LedgerError: Its manifest cannot be read.
        OSError: A file cannot be read.
    """
    sessions = read_run(run_dir, liveness=liveness or ThisHost()).sessions
    booked = book_run([_less_insides(session) for session in sessions])
    total, place = booked.total, booked.places[-1] if booked.places else None
    return Spent(
        t_ns=0 if place is None else place.place.end_ns,
        energy_j=total.value_j + _tail_j(place) if isinstance(total, Total) and place is not None else None,
        power_w=0.0 if place is None else sum(_powers(place, since_ns).values()),
        duration_s=sum(float(seconds(each.place.end_ns - each.place.start_ns)) for each in booked.places),
        arms=_arms(booked),
        stages=_by_name(booked),
        is_measured=isinstance(total, Total) and total.basis is Basis.MEASURED,
        why_not=total.reason if isinstance(total, NoTotal) else "" if place else "nothing has been measured yet",
        unread="" if place is None or isinstance(total, NoTotal) else "; ".join(_unread(place, total)),
    )


def _less_insides(session: SessionFacts) -> SessionFacts:
    """The session less the stages inside trainings: their joules are in the training's, and they may be thousands."""
    if session.stated:
        return session  # of single stages perhaps
    insides: set[str] = set()
    for stage in session.stages:  # in the order in which they began: a stage begins after the one it lies in
        if stage.kind is StageKind.STUDENT_TRAIN or stage.parent_id in insides:
            insides.add(stage.stage_id)
    left = tuple(stage for stage in session.stages if stage.parent_id not in insides)
    return replace(session, stages=left)


def _arms(booked: BookedRun) -> dict[str, tuple[float, float]]:
    """Training by arm; that which still runs goes to the last sign of life."""
    joules: dict[str, float] = defaultdict(float)
    lengths_s: dict[str, dict[tuple[str, int], float]] = defaultdict(dict)
    tails: set[tuple[str, int]] = set()
    fate = fates(stage for _, stage in _stages(booked))
    for place, stage in _stages(booked):
        arm = stage.labels.get("arm", "")
        total = place.stages[stage.stage_id].gross_total
        is_own = stage.kind is StageKind.STUDENT_TRAIN and arm and fate[stage.stage_id] not in _LOST
        if not is_own or isinstance(total, NoTotal):
            continue
        joules[arm] += total.value_j
        if stage.status is StageStatus.RUNNING and (arm, id(place)) not in tails:
            tails.add((arm, id(place)))  # of all ranks there
            joules[arm] += _tail_j(place)
        work = stage.name, stage.attempt
        lengths_s[arm][work] = max(lengths_s[arm].get(work, 0.0), _length_s(stage))  # ranks work at the same time
    return {arm: (joules[arm], sum(lengths_s[arm].values())) for arm in joules}


def _ended(booked: BookedRun) -> Iterator[tuple[StageFacts, Total]]:
    for place, stage in _stages(booked):
        total = place.stages[stage.stage_id].gross_total
        if stage.status is StageStatus.ENDED and isinstance(total, Total):
            yield stage, total


def _by_name(booked: BookedRun) -> dict[str, tuple[float, float]]:
    parts: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    for stage, total in _ended(booked):
        parts[stage.name][stage.labels.get(RANK, "")] = total.value_j, _length_s(stage)
    # ranks work at the same time
    return {
        name: (sum(value_j for value_j, _ in own.values()), max(length_s for _, length_s in own.values()))
        for name, own in parts.items()
    }


def _length_s(stage: StageFacts) -> float:
    return float(seconds(stage.end_ns - stage.start_ns))


def _stages(booked: BookedRun) -> Iterator[tuple[BookedPlace, StageFacts]]:
    for place in booked.places:
        for session in place.place.sessions:
            for stage in session.stages:
                yield place, stage


def _tail_j(place: BookedPlace | None) -> float:
    """What is missing between a part's last reading and the last sign of life: a second's at most, at its power."""
    if place is None:
        return 0.0
    powers, missing_j = _powers(place), 0.0
    for part, energy in place.account.total.items():
        if isinstance(energy, Energy) and part in powers:
            series = place.series[part][0]
            behind_s = float(seconds(max(0, place.place.end_ns - int(series.t_ns[-1]))))
            missing_j += powers[part] * min(behind_s, energy.missing_s)
    return missing_j


def _unread(place: BookedPlace, total: Total) -> Iterator[str]:
    """Parts of the sum that nobody reads, or reads any more."""
    stated = {said.part for session in place.place.sessions for said in session.stated}
    for part in in_sum([*place.account.total.values()], total.boundary):
        if isinstance(part, Absent):
            if part.part not in stated:
                yield f"{part.part}: {part.reason}"
        elif part.part in place.series:
            t_ns = place.series[part.part][0].t_ns
            behind_s = float(seconds(place.place.end_ns - int(t_ns[-1])))
            usual_s = float(seconds(int(np.median(np.diff(t_ns[-_UNREAD_INTERVALS:]))))) if t_ns.size > 1 else 0.0
            if behind_s > max(_UNREAD_S, _UNREAD_INTERVALS * usual_s):
                yield f"{part.part} has not been read for {behind_s:.0f} s"


def _powers(place: BookedPlace, since_ns: int | None = None) -> dict[str, float]:
    """Mean power of each part that is in the sum, over the seconds before its latest reading."""
    parts = [part for part in place.series if part in place.account.total]
    found = {part: _power_w(place.series[part][0], since_ns) for part in parts}
    return {part: power_w for part, power_w in found.items() if power_w is not None}


def _power_w(series: Series, since_ns: int | None) -> float | None:
    if series.t_ns.size < 2:
        return None
    start_ns = int(series.t_ns[-1]) - _POWER_SPAN_NS
    if since_ns is not None:
        start_ns = min(start_ns, since_ns)
    first = min(int((series.t_ns < start_ns).sum()), series.t_ns.size - 2)
    last = Series(series.channel, series.t_ns[first:], series.count[first:])
    points = trace_points(last, start_ns=int(last.t_ns[0]), max_points=1)
    return points[0].mean_w if points else None


def watch(run_dir: Path, told: TextIO, out: TextIO, clock: Clock) -> None:
    """Look until `told` ends, and write a line for each look: in its turn, and when something comes there."""
    wait_s, before_ns = 0.0, None
    while not select.select([told], [], [], wait_s)[0] or os.read(told.fileno(), _BLOCK_BYTES):
        start_ns = clock.monotonic_ns()
        try:
            found = spent_so_far(run_dir, since_ns=before_ns)
            line, before_ns = json.dumps(asdict(found)), found.t_ns or None
        except (StillwattError, OSError, ValueError) as err:
            empty = Spent(t_ns=0, energy_j=None, power_w=0.0, duration_s=0.0, why_not=f"{type(err).__name__}: {err}")
            line = json.dumps(asdict(empty))
        try:
            out.write(f"{line}\n")
            out.flush()
        except (BrokenPipeError, ValueError):
            return
        wait_s = max(_LOOK_EVERY_S, _REST_PER_LOOK * float(seconds(clock.monotonic_ns() - start_ns)))


if __name__ == "__main__":
    os.nice(_NICER)
    watch(Path(sys.argv[1]), sys.stdin, sys.stdout, SystemClock())
