"""What the journals of one session say: its stages with their ends decided, its channels, its troubles.

A session is one process of the measured program with its own sampling process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from stillwatt.ledger.events import (
    ChannelsTaken,
    DeviceUsers,
    Event,
    Mark,
    ParentLost,
    SamplerEnded,
    SamplerStarted,
    SessionEnded,
    SessionStarted,
    StatedEnergy,
    Warned,
    parse_events,
)
from stillwatt.ledger.fork_ends import ForkEnd, fork_ends
from stillwatt.ledger.journal import read_journal
from stillwatt.ledger.life import last_life_ns, life_path
from stillwatt.ledger.liveness import Liveness
from stillwatt.ledger.rundir import JournalPaths, fork_name
from stillwatt.ledger.samplers import gaps, is_closed, last_sampler, lost_samples, lulls, meter_account
from stillwatt.ledger.segments import Segment, read_segments
from stillwatt.ledger.stages import StageFacts, stage_facts
from stillwatt.ledger.troubles import clock_warnings, segment_warnings
from stillwatt.records.channel import Channel
from stillwatt.records.energy import Absent
from stillwatt.records.run import ProbeRecord
from stillwatt.records.sample import Lull, SampleGap
from stillwatt.records.usage import DeviceUse, ProcessId
from stillwatt.records.window import StageStatus

_E = TypeVar("_E", bound=Event)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a session ran, and as which process of a launch."""

    machine: str
    """The boot of the machine it ran on, from which its monotonic clock counts; the host's name where the boot is not
    known, empty where neither is."""
    host: str
    """Name of the machine; empty where the journal does not tell."""
    rank: int | None
    """Its number among the processes of a launch."""
    world_size: int | None
    launch: str = ""
    """Which launch it belongs to; empty where the journal does not tell."""
    local_size: int | None = None
    """How many of the launch are on its machine, whose cards they all may use; None where the journal does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramFacts:
    """The measured program and what it may use, as its sampling process found them at its start."""

    process: ProcessId | None
    """By which the program and its children are known on devices."""
    parts: Mapping[str, str] | None
    """The parts that it uses, with their devices, whoever reads them; None where the journal does not tell."""
    beside: frozenset[str]
    """Parts of this machine that it cannot use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFacts:
    """One session as its journals and segments tell it."""

    session: str
    origin: Origin
    program: ProgramFacts
    uses: tuple[DeviceUse, ...]
    """Who was seen on the devices that its sampling process read."""
    marks: Mapping[str, int]
    """Wall-clock time, by this session's anchor, at which it passed each mark."""
    status: StageStatus
    """ENDED or FAILED as it said itself; RECOVERED where it was lost; RUNNING where it is not over."""
    start_ns: int
    end_ns: int
    start_utc_ns: int
    stages: tuple[StageFacts, ...]
    channels: Mapping[str, Channel]
    """By stream."""
    segments: Mapping[str, Segment]
    """By stream; one for each channel."""
    absent: tuple[Absent, ...]
    probes: tuple[ProbeRecord, ...]
    gaps: tuple[SampleGap, ...]
    lulls: tuple[Lull, ...]
    """In which its sampling process read more rarely."""
    meter: Mapping[str, float]
    """`samples`, `failed_reads`, `skipped_ticks`, `cpu_s`: the sampling process's last account."""
    has_sampler: bool
    """Whether a sampling process ever wrote to this session's journal."""
    is_sampler_lost: bool
    """Whether the sampling process went without a word."""
    is_live: bool
    """Whether the session or its sampling process may still write, as far as can be told."""
    is_sealable: bool
    """Whether session and sampling process are certainly gone, so that nobody appends to its segments."""
    lost_samples: int
    """Samples that the sampling process took, and that are neither here nor in a gap it wrote down itself."""
    is_damaged: bool
    """Whether a line or samples had to be left out because they were changed or cannot be read: something is lost that
    a kill does not explain, and no number of the session is known to be whole."""
    warnings: tuple[str, ...]
    stated: tuple[StatedEnergy, ...] = ()
    """Energies that an imported file states, in the order written."""

    @property
    def is_end_known(self) -> bool:
        """False where the program was lost and its sampling process as well, so that nobody saw when."""
        return not (self.status is StageStatus.RECOVERED and self.is_sampler_lost)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Journals:
    program: tuple[Event, ...]
    meter: tuple[Event, ...]
    forks: Mapping[str, ForkEnd]
    """By stage, the end of the forked process that it was begun in, where that is gone."""
    life_ns: int
    """The last sign of life that the sampling process left for want of samples; 0 where there is none."""
    is_damaged: bool
    warnings: tuple[str, ...]


def read_session(
    run_dir: Path, session: str, paths: JournalPaths, *, liveness: Liveness, created_utc_ns: int
) -> SessionFacts:
    """Read one session's journals and segments.

    Args:
        run_dir: The run's directory.
        session: The session's name.
        paths: Its journals.
        liveness: Tells whether the session's processes are still there.
        created_utc_ns: Wall-clock time to fall back on where the journal has no anchor left.

    Raises:
        OSError: a journal or a segment cannot be read.
    """
    journals = _read_journals(paths, life_path(run_dir, session))
    started, sampler = _first(journals.program, SessionStarted), _first(journals.meter, SamplerStarted)
    channels, problems = _channels(journals.meter)
    segments = read_segments(run_dir, session, channels)
    start_ns = started.t_ns if started else _first_sign(journals, segments)
    status, end_ns = _session_status(journals, started, _last_sign(journals, segments), liveness)
    is_sampler_alive = _is_sampler_alive(journals, started, liveness)
    is_sampler_lost = is_sampler_alive is not True and _is_sampler_lost(journals, status)
    stages, stage_warnings = stage_facts(journals.program, status, end_ns, journals.forks, is_seen=not is_sampler_lost)
    missing_samples = lost_samples(journals.meter, segments)
    start_utc_ns = _start_utc_ns(journals.program, start_ns, created_utc_ns)
    problems += _loss_warnings(journals, status, started, liveness, is_sampler_lost=is_sampler_lost)
    troubles = [*segment_warnings(segments, missing_samples), *clock_warnings(journals.meter, start_ns)]
    return SessionFacts(
        session=session,
        origin=_origin(started),
        program=_program(sampler),
        uses=_uses(journals.meter, problems),
        marks=_marks(journals.program, start_ns, start_utc_ns),
        status=status,
        start_ns=start_ns,
        end_ns=max(start_ns, end_ns),
        start_utc_ns=start_utc_ns,
        stages=stages,
        channels=channels,
        segments=segments,
        absent=_absent(sampler),
        probes=_probes(sampler),
        gaps=gaps(journals.meter, segments),
        lulls=lulls(journals.meter),
        meter=meter_account(journals.meter),
        has_sampler=sampler is not None,
        is_sampler_lost=is_sampler_lost,
        is_live=status is StageStatus.RUNNING or is_sampler_alive is True,
        is_sealable=status is not StageStatus.RUNNING and is_sampler_alive is False,
        lost_samples=missing_samples,
        is_damaged=journals.is_damaged or missing_samples > 0 or any(map(_is_damaged, segments.values())),
        warnings=(*journals.warnings, *problems, *stage_warnings, *troubles),
        stated=(*_all(journals.meter, StatedEnergy), *_last_stated(journals.program)),
    )


def _origin(started: SessionStarted | None) -> Origin:
    if started is None:
        return Origin(machine="", host="", rank=None, world_size=None)
    return Origin(
        machine=started.boot_id or started.host,
        host=started.host,
        rank=started.rank,
        world_size=started.world_size,
        launch=started.launch,
        local_size=started.local_size,
    )


def _program(sampler: SamplerStarted | None) -> ProgramFacts:
    if sampler is None:
        return ProgramFacts(process=None, parts=None, beside=frozenset())
    return ProgramFacts(process=sampler.program, parts=sampler.parts, beside=frozenset(sampler.beside))


def _read_journals(paths: JournalPaths, life: Path) -> _Journals:
    warnings: list[str] = []
    program, meter, *forks = [_read_journal(path, warnings) for path in (paths.program, paths.meter, *paths.forks)]
    # what a forked process did is the program's: one clock, one order
    told = sorted((*program[0], *(event for fork in forks for event in fork[0])), key=lambda event: event.t_ns)
    warnings += [event.message for event in (*_all(told, Warned), *_all(meter[0], Warned))]
    return _Journals(
        program=tuple(told) if forks else program[0],
        meter=meter[0],
        forks=fork_ends({fork_name(path): fork[0] for path, fork in zip(paths.forks, forks, strict=True)}, meter[0]),
        life_ns=last_life_ns(life),
        is_damaged=any(read[1] for read in (program, meter, *forks)),
        warnings=tuple(warnings),
    )


def _read_journal(path: Path | None, warnings: list[str]) -> tuple[tuple[Event, ...], bool]:
    """A journal's events, and whether lines of it are damaged."""
    if path is None:
        return (), False
    journal = read_journal(path)
    events, problems = parse_events(journal.events)
    warnings += [f"{path.name}: {problem}" for problem in (*journal.problems, *problems)]
    if journal.torn_bytes:
        warnings.append(f"{path.name}: the last line was torn off ({journal.torn_bytes} bytes) and is left out")
    return events, bool(journal.problems)


def _all(events: Sequence[Event], kind: type[_E]) -> Iterator[_E]:
    return (event for event in events if isinstance(event, kind))


def _last_stated(program: Sequence[Event]) -> tuple[StatedEnergy, ...]:
    """What the program said last of each part of each stage: it says sums while they grow."""
    return tuple({(line.stage_id, line.part): line for line in _all(program, StatedEnergy)}.values())


def _first(events: Sequence[Event], kind: type[_E]) -> _E | None:
    return next(_all(events, kind), None)


def _channels(meter: Sequence[Event]) -> tuple[dict[str, Channel], list[str]]:
    """The channels by stream; a stream named twice is a fault of the sampling process and counts once."""
    channels: dict[str, Channel] = {}
    problems = []
    for event in meter:
        for channel in event.channels if isinstance(event, SamplerStarted | ChannelsTaken) else ():
            if channels.setdefault(channel.stream, channel) != channel:
                problems.append(f"stream {channel.stream} is described twice; the first description is used")
    return channels, problems


def _first_sign(journals: _Journals, segments: Mapping[str, Segment]) -> int:
    """The earliest time at which anything of the session was written; 0 where nothing was."""
    samples = [int(segment.t_ns[0]) for segment in segments.values() if segment.t_ns.size]
    openings = [event.t_ns for event in _all(journals.meter, SamplerStarted)]
    return min([event.t_ns for event in journals.program] + openings + samples, default=0)


def _last_sign(journals: _Journals, segments: Mapping[str, Segment]) -> int:
    """The latest time at which anything of the session was written; 0 where nothing was."""
    samples = [int(segment.t_ns[-1]) for segment in segments.values() if segment.t_ns.size]
    return max([journals.life_ns, *(event.t_ns for event in (*journals.program, *journals.meter)), *samples])


def _session_status(
    journals: _Journals, started: SessionStarted | None, last_ns: int, liveness: Liveness
) -> tuple[StageStatus, int]:
    """How the session came to its end, and when."""
    ended = _first(journals.program, SessionEnded)
    if ended is not None:
        return StageStatus(ended.status), ended.t_ns
    lost = _first(journals.meter, ParentLost)
    if lost is not None:
        return StageStatus.RECOVERED, max([lost.t_ns, *(event.t_ns for event in journals.program)])
    if started is None:
        return StageStatus.RECOVERED, last_ns
    if liveness.is_alive(started.host, started.boot_id, started.pid, started.t_ns) is False:
        return StageStatus.RECOVERED, last_ns
    return StageStatus.RUNNING, last_ns


def _running_warnings(status: StageStatus, started: SessionStarted | None, liveness: Liveness) -> list[str]:
    if status is not StageStatus.RUNNING or started is None:
        return []
    if liveness.is_alive(started.host, started.boot_id, started.pid, started.t_ns):
        return []
    return [f"session {started.session} has no end and runs on {started.host}; from here it cannot be told if it lives"]


def _is_sampler_alive(journals: _Journals, started: SessionStarted | None, liveness: Liveness) -> bool | None:
    """Whether a sampling process may still append; None where it cannot be told from here."""
    sampler, own = last_sampler(journals.meter)
    if sampler is None or _first(own, SamplerEnded) is not None:
        return False
    if started is None:
        return None
    return liveness.is_alive(started.host, started.boot_id, sampler.pid, sampler.t_ns)


def _is_sampler_lost(journals: _Journals, status: StageStatus) -> bool:
    """Whether the last sampling process of a session that is over began and never said that it ended."""
    has_begun = last_sampler(journals.meter)[0] is not None
    return has_begun and not is_closed(journals.meter) and status is not StageStatus.RUNNING


def _loss_warnings(
    journals: _Journals,
    status: StageStatus,
    started: SessionStarted | None,
    liveness: Liveness,
    *,
    is_sampler_lost: bool,
) -> list[str]:
    """What was lost of the session's two processes, or cannot be told of them from here."""
    warnings = _running_warnings(status, started, liveness)
    if _first(journals.program, SessionStarted) is None:
        warnings.append("the journal has no start of session; the wall-clock times of its stages are not certain")
    if status is StageStatus.RECOVERED:
        warnings.append("the measured program was lost; open stages end at its last sign of life")
    if _first(journals.meter, SamplerStarted) is None and status is not StageStatus.RUNNING:
        warnings.append("no sampling process wrote to this session; its energy is not known")
    if is_sampler_lost:
        warnings.append("the sampling process was lost; no samples after its last flush")
    if is_sampler_lost and status is StageStatus.RECOVERED:
        warnings.append("nobody saw when the program ended; what was drawn after the last sign of life is in no number")
    ended = _first(journals.program, SessionEnded)
    if ended is not None and ended.lost_events:
        warnings.append(f"{ended.lost_events} journal events could not be written; stages may be missing or too long")
    return warnings


def _is_damaged(segment: Segment) -> bool:
    return bool(segment.damaged) or segment.problem is not None


def _absent(sampler: SamplerStarted | None) -> tuple[Absent, ...]:
    lines = sampler.absent if sampler else ()
    return tuple(Absent(part=line.part, boundary=line.boundary, reason=line.reason) for line in lines)


def _probes(sampler: SamplerStarted | None) -> tuple[ProbeRecord, ...]:
    lines = sampler.probes if sampler else ()
    return tuple(
        ProbeRecord(driver=line.driver, usable=line.usable, detail=line.detail, cure=line.cure) for line in lines
    )


def _start_utc_ns(program: Sequence[Event], start_ns: int, created_utc_ns: int) -> int:
    """The wall-clock time of the session's start, by whichever anchor is left."""
    for event in program:
        if isinstance(event, SessionStarted | SessionEnded):
            return event.utc_ns - (event.t_ns - start_ns)
    return created_utc_ns


def _uses(meter: Sequence[Event], problems: list[str]) -> tuple[DeviceUse, ...]:
    uses = []
    for event in _all(meter, DeviceUsers):
        try:
            uses.append(event.use())
        except ValueError as err:
            problems.append(f"a look at who uses {event.part} is left out: {err}")
    return tuple(uses)


def _marks(program: Sequence[Event], start_ns: int, start_utc_ns: int) -> dict[str, int]:
    """Marks by name and number, so that the n-th of a name is compared with the n-th of another rank."""
    times: dict[str, int] = {}
    counts: Counter[str] = Counter()
    for event in _all(program, Mark):
        counts[event.name] += 1
        times[f"{event.name} {counts[event.name]}"] = start_utc_ns + event.t_ns - start_ns
    return times
