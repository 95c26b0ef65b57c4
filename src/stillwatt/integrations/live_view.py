"""Runs seen from outside while they are recorded: energies so far, power now, what cannot be read.

Reads run directories and writes nothing, so the measured program pays nothing for being looked at. What a look costs
grows with the run's samples; a folder is looked at no more often than `min_interval_s`, however often it is asked.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stillwatt.clock import Clock, SystemClock
from stillwatt.errors import StillwattError, UsageError
from stillwatt.ledger.booking import BookedPlace, BookedRun, book_run
from stillwatt.ledger.fingerprint import stat_signature
from stillwatt.ledger.liveness import ThisHost
from stillwatt.ledger.post import RunFacts, read_run
from stillwatt.ledger.rundir import list_run_dirs
from stillwatt.ledger.sessions import SessionFacts
from stillwatt.ledger.stages import StageFacts
from stillwatt.metering.series import Series
from stillwatt.metering.totals import sum_part
from stillwatt.metering.trace import trace_points
from stillwatt.records.channel import Basis, Boundary
from stillwatt.records.energy import Absent, Energy
from stillwatt.records.window import StageStatus
from stillwatt.units import NS_PER_S, seconds

UNALLOCATED = "unallocated"
"""Stands for the stage of energy that lies in no stage (docs/glossary.md)."""

_POWER_SPAN_NS = 5 * NS_PER_S
_STALE_NS = 10 * NS_PER_S
_UNSETTLED_NS = 1 * NS_PER_S
"""Before the latest reading, for so long may readings still to come move what an edge divides."""
_QUIET_NS = 600 * NS_PER_S
"""A sampling process writes each second; a folder where nothing was written for longer holds no live run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergySoFar:
    """Energy of one part while a stage ran and none of its sub-stages did; all of them add up to the run."""

    stage: str
    kind: str
    energy: Energy


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsentSoFar:
    """A part that a stage has no energy of, and why."""

    stage: str
    part: str
    boundary: Boundary
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerNow:
    """Mean power of one part over the last seconds before its latest reading."""

    host: str
    """The machine it is in: parts of several nodes have the same names."""
    part: str
    device: str
    boundary: Boundary
    basis: Basis
    power_w: float
    read_utc_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StageNow:
    """The latest attempt of a stage, of each rank where a launch has several."""

    stage: str
    kind: str
    stage_id: str
    parent: str
    """Name of the stage it lies in; empty where it lies in none."""
    attempt: int
    status: StageStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """What can be said of one run at one moment."""

    run_id: str
    name: str
    is_live: bool
    energies: tuple[EnergySoFar, ...]
    absent: tuple[AbsentSoFar, ...]
    powers: tuple[PowerNow, ...]
    stages: tuple[StageNow, ...]
    workload: tuple[tuple[str, str, str, float], ...]
    """Stage, kind, name of the count, count."""
    samples: int
    failed_reads: int
    gaps: tuple[tuple[str, int], ...]
    """Stream, number of gaps."""
    missing_ranks: int
    """Ranks of the launch of which nothing is here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A run directory that cannot be read now, and why."""

    run_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at a folder."""

    runs: tuple[RunView, ...]
    unreadable: tuple[Unreadable, ...]


def view_run(run_dir: Path) -> RunView:
    """Look at one run.

    Raises:
        LedgerError: its manifest cannot be read.
        OSError: a file cannot be read.
    """
    facts = read_run(run_dir, liveness=ThisHost())
    booked = book_run(_settled(facts.sessions))
    energies, absent = _energies(booked)
    meters = [session.meter for session in facts.sessions]
    gaps: dict[str, int] = defaultdict(int)
    for session in facts.sessions:
        for gap in session.gaps:
            gaps[gap.stream] += 1
    return RunView(
        run_id=facts.run_id,
        name=str(facts.manifest["name"]),
        is_live=facts.is_live,
        energies=energies,
        absent=absent,
        powers=tuple(_powers(booked)),
        stages=tuple(_stages(facts)),
        workload=tuple(_workload(facts)),
        samples=sum(int(segment.t_ns.size) for session in facts.sessions for segment in session.segments.values()),
        failed_reads=sum(int(meter.get("failed_reads", 0)) for meter in meters),
        gaps=tuple(sorted(gaps.items())),
        missing_ranks=len(facts.missing_ranks),
    )


def _settled(sessions: Sequence[SessionFacts]) -> list[SessionFacts]:
    """The sessions as far as their readings have arrived: what is not read yet would be guessed, and corrected later.

    On a machine where something is live, everything ends a little before the latest reading that all streams have that
    have not fallen silent.
    """
    ends_ns: dict[str, int] = {}
    for machine in {session.origin.machine for session in sessions if session.is_live and not session.is_sampler_lost}:
        here = [session for session in sessions if session.origin.machine == machine]
        now_ns = max(session.end_ns for session in here)
        last_ns = [int(seg.t_ns[-1]) for each in here for seg in each.segments.values() if seg.t_ns.size]
        fresh_ns = [t_ns for t_ns in last_ns if now_ns - t_ns <= _STALE_NS]
        if fresh_ns:
            ends_ns[machine] = min(fresh_ns) - _UNSETTLED_NS
    return [
        _until(session, ends_ns[session.origin.machine]) if session.origin.machine in ends_ns else session
        for session in sessions
    ]


def _until(session: SessionFacts, end_ns: int) -> SessionFacts:
    """A session as if it had ended then, if it did not end before."""
    stages = [replace(stage, end_ns=min(stage.end_ns, end_ns)) for stage in session.stages if stage.start_ns < end_ns]
    return replace(session, end_ns=max(session.start_ns, min(session.end_ns, end_ns)), stages=tuple(stages))


def _energies(booked: BookedRun) -> tuple[tuple[EnergySoFar, ...], tuple[AbsentSoFar, ...]]:
    """Exclusive energies by stage, part and basis, over all attempts, ranks and nodes; and what is absent."""
    found: dict[tuple[str, str, str, Boundary, Basis], list[tuple[Energy, float]]] = defaultdict(list)
    absent: dict[tuple[str, str, Boundary], str] = {}
    for place in booked.places:
        for stage, kind, energy, length_s in _exclusive(place):
            if isinstance(energy, Energy):
                found[stage, kind, energy.part, energy.boundary, energy.basis].append((energy, length_s))
            else:
                absent[stage, energy.part, energy.boundary] = energy.reason
    summed = []
    for (stage, kind, *_), entries in found.items():
        energy = sum_part([energy for energy, _ in entries], [length_s for _, length_s in entries])
        if isinstance(energy, Energy):
            summed.append(EnergySoFar(stage=stage, kind=kind, energy=energy))
    missing = [
        AbsentSoFar(stage=stage, part=part, boundary=boundary, reason=reason)
        for (stage, part, boundary), reason in absent.items()
    ]
    return tuple(summed), tuple(missing)


def _exclusive(booked: BookedPlace) -> Iterator[tuple[str, str, Energy | Absent, float]]:
    for session in booked.place.sessions:
        for stage in session.stages:
            account = booked.account.stages[stage.stage_id]
            for part, energy in account.self_energies.items():
                yield stage.name, stage.kind.value, energy, account.self_s[part]
    for part, energy in booked.account.unallocated.items():
        yield UNALLOCATED, "", energy, booked.account.unallocated_s[part]


def _powers(booked: BookedRun) -> Iterator[PowerNow]:
    """Power of what is read at this moment: a session that is over, or a stream that has fallen silent, has none."""
    hosts = _host_names(booked)
    for each in booked.places:
        if not any(session.is_live and not session.is_sampler_lost for session in each.place.sessions):
            continue
        for part, (ledger, _) in each.series.items():
            # a part that is in no sum, since no program of the run uses it, has no power here either
            is_used = part in each.account.total
            if not is_used or ledger.t_ns.size < 2 or each.place.end_ns - int(ledger.t_ns[-1]) > _STALE_NS:
                continue
            power_w = _mean_power_w(ledger)
            if power_w is None:
                continue
            read_utc_ns = each.place.start_utc_ns + int(ledger.t_ns[-1]) - each.place.start_ns
            channel = ledger.channel
            yield PowerNow(
                host=hosts[each.place.name],
                part=part,
                device=channel.device,
                boundary=channel.boundary,
                basis=channel.basis,
                power_w=power_w,
                read_utc_s=float(seconds(read_utc_ns)),
            )


def _host_names(booked: BookedRun) -> dict[str, str]:
    """By place, its machine's name, with more of it where two machines have the same."""
    machines: dict[str, str] = {}
    names = {}
    for each in booked.places:
        origin = each.place.sessions[0].origin
        is_taken = machines.setdefault(origin.host, origin.machine) != origin.machine
        names[each.place.name] = f"{origin.host} ({origin.machine})" if is_taken else origin.host
    return names


def _mean_power_w(series: Series) -> float | None:
    """Mean power between the readings of the last seconds; None where a reset or a gap fills them."""
    first = int((series.t_ns < series.t_ns[-1] - _POWER_SPAN_NS).sum())
    first = min(first, series.t_ns.size - 2)
    last = Series(series.channel, series.t_ns[first:], series.count[first:])
    points = trace_points(last, start_ns=int(last.t_ns[0]), max_points=1)
    return points[0].mean_w if points else None


def _stages(facts: RunFacts) -> Iterator[StageNow]:
    names = {stage.stage_id: stage.name for stage in _all_stages(facts)}
    latest = {
        (session.origin.rank, stage.name, stage.kind): stage for session in facts.sessions for stage in session.stages
    }
    for stage in latest.values():
        yield StageNow(
            stage=stage.name,
            kind=stage.kind.value,
            stage_id=stage.stage_id,
            parent=names.get(stage.parent_id or "", ""),
            attempt=stage.attempt,
            status=stage.status,
        )


def _workload(facts: RunFacts) -> Iterator[tuple[str, str, str, float]]:
    counts: dict[tuple[str, str, str], float] = defaultdict(float)
    for stage in _all_stages(facts):
        for name, count in stage.workload.items():
            counts[stage.name, stage.kind.value, name] += count
    for key, count in counts.items():
        yield (*key, count)


def _all_stages(facts: RunFacts) -> Iterator[StageFacts]:
    for session in facts.sessions:
        yield from session.stages


class RunFolder:
    """A folder of runs to look at: the named ones, or all that are live or were when they were last looked at.

    Safe to ask from several threads; they share one look.

    Raises:
        UsageError: `run_ids` is one text and no list of them.
    """

    def __init__(
        self,
        runs_dir: Path,
        run_ids: Iterable[str] | None = None,
        *,
        min_interval_s: float = 1.0,
        clock: Clock | None = None,
    ) -> None:
        if isinstance(run_ids, str):
            raise UsageError(f"run_ids is one text, {run_ids!r}; give a list of run ids, such as [{run_ids!r}]")
        self.runs_dir = Path(runs_dir)
        self._run_ids = None if run_ids is None else tuple(run_ids)
        self._min_interval_ns = round(min_interval_s * NS_PER_S)
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._views: dict[str, tuple[str, RunView]] = {}
        # runs that were live once: their last numbers stay, or a dashboard would lose what came after its last visit
        self._seen: set[str] = set()
        self._look: Look | None = None
        self._looked_ns = 0

    def look(self) -> Look:
        """What can be said of the runs now; what was said last, where that is less than `min_interval_s` ago."""
        with self._lock:
            now_ns = self._clock.monotonic_ns()
            if self._look is None or now_ns - self._looked_ns >= self._min_interval_ns:
                self._look = self._take()
                self._looked_ns = now_ns
            return self._look

    def _take(self) -> Look:
        unreadable = []
        for run_dir in self._candidates():
            try:
                self._renew(run_dir)
            except (StillwattError, OSError, ValueError) as err:
                unreadable.append(Unreadable(run_id=run_dir.name, reason=f"{type(err).__name__}: {err}"))
        gone = [run_id for run_id in self._views if not (self.runs_dir / run_id).is_dir()]
        for run_id in gone:
            del self._views[run_id]
        is_chosen = self._run_ids is not None
        shown = [view for _, view in self._views.values() if is_chosen or view.is_live or view.run_id in self._seen]
        self._seen.update(view.run_id for view in shown)
        return Look(runs=tuple(shown), unreadable=tuple(unreadable))

    def _renew(self, run_dir: Path) -> None:
        """Look at a run again, unless it is over and nothing of it has changed."""
        signature = stat_signature(run_dir)
        known = self._views.get(run_dir.name)
        if known is None or known[0] != signature or known[1].is_live:
            self._views[run_dir.name] = (signature, view_run(run_dir))

    def _candidates(self) -> Sequence[Path]:
        if self._run_ids is not None:
            return [self.runs_dir / run_id for run_id in self._run_ids]
        return [path for path in list_run_dirs(self.runs_dir) if path.name in self._views or self._may_be_live(path)]

    def _may_be_live(self, run_dir: Path) -> bool:
        """A cheap look that spares reading every run of a long year: was anything written there lately?"""
        try:
            written_ns = max(path.stat().st_mtime_ns for path in (run_dir, *run_dir.glob("journal.*")))
        except OSError:
            return True
        return self._clock.utc_ns() - written_ns < _QUIET_NS
