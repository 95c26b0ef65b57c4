"""The events of both journals as typed records; text from outside is checked here, once.

The format is written down in docs/reference/run-directory.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec

from stillwatt.records.channel import Basis, Boundary, Channel
from stillwatt.records.usage import DeviceInstance, DeviceUse, DeviceUser, ProcessId
from stillwatt.records.window import StageKind

_Time = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
_HalfWidth = Annotated[float, msgspec.Meta(ge=0)]


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    t_ns: _Time


class SessionStarted(_Event, frozen=True, kw_only=True, tag="session_started"):
    """A measured program began; anchors its monotonic clock to the wall clock."""

    utc_ns: _Time
    session: str
    pid: int
    host: str
    boot_id: str
    run_id: str = ""
    stillwatt: str = ""
    python: str = ""
    rank: _Count | None = None
    """This process's number among those of one launch; None for a process on its own."""
    world_size: _Count | None = None
    launch: str = ""
    """The same in all processes of one launch and in no other launch of the run; empty in older journals."""
    local_size: _Count | None = None
    """How many processes of the launch are on this machine, whose cards they all may use; None where nobody says."""


class Forked(_Event, frozen=True, kw_only=True, tag="forked"):
    """A process that the measured program forked writes from here on."""

    pid: int
    parent_pid: int


class StageStarted(_Event, frozen=True, kw_only=True, tag="stage_started"):
    """One attempt of a stage began."""

    stage_id: str
    parent_id: str | None
    name: str
    kind: StageKind
    attempt: int
    labels: dict[str, str] = {}


class Workload(_Event, frozen=True, kw_only=True, tag="workload"):
    """Counts to add to a stage's workload."""

    stage_id: str
    counts: dict[str, int | float]


class Result(_Event, frozen=True, kw_only=True, tag="result"):
    """Results to merge into a stage's."""

    stage_id: str
    results: dict[str, Any]


class StageEnded(_Event, frozen=True, kw_only=True, tag="stage_ended"):
    """A stage came to its end, well or not."""

    stage_id: str
    status: Literal["ended", "failed"]
    error: str | None = None


class Mark(_Event, frozen=True, kw_only=True, tag="mark"):
    """A moment that all ranks of a launch pass together, by which their clocks are compared."""

    name: str
    utc_ns: _Time


class Warned(_Event, frozen=True, kw_only=True, tag="warning"):
    """Something the reader should know."""

    message: str


class SessionEnded(_Event, frozen=True, kw_only=True, tag="session_ended"):
    """A measured program came to its end."""

    utc_ns: _Time
    status: Literal["ended", "failed"]
    cpu_s: float | None = None
    lost_events: _Count = 0


class ProbeLine(msgspec.Struct, frozen=True, kw_only=True):
    """What a driver said of itself."""

    driver: str
    usable: bool
    detail: str
    cure: str


class AbsentLine(msgspec.Struct, frozen=True, kw_only=True):
    """A part that should be read and cannot be."""

    part: str
    boundary: Boundary
    reason: str


class SamplerStarted(_Event, frozen=True, kw_only=True, tag="sampler_started"):
    """The sampling process opened its sensors."""

    pid: int
    period_ns: _Count
    probes: list[ProbeLine]
    channels: list[Channel]
    absent: list[AbsentLine]
    parts: dict[str, str] | None = None
    """Every part that this session's program uses, with its device, whoever counts it; None in older journals."""
    beside: list[str] = []
    """Cards of this machine, measured or absent, that the program cannot use: beside its energy, not in it."""
    parts_reason: str = ""
    """Why these parts: the variable that chooses cards, or why it cannot be understood."""
    program: ProcessId | None = None
    """The measured program, by which its processes and all that descend from them are known on devices."""


class PeriodChanged(_Event, frozen=True, kw_only=True, tag="period_changed"):
    """The sampling process reads at another pace from now on: a lull begins or ends."""

    period_ns: _Time


class ChannelsTaken(_Event, frozen=True, kw_only=True, tag="channels_taken"):
    """The sampling process counts further devices, since whoever counted them has ended."""

    channels: list[Channel]


class DeviceUsers(_Event, frozen=True, kw_only=True, tag="device_users"):
    """Who was on a device at a look that found other than the one that was written before."""

    part: str
    since_ns: _Time
    users: tuple[DeviceUser, ...] | None
    busy_share: float | None = None
    reason: str = ""
    instances: tuple[DeviceInstance, ...] = ()
    slices: _Count | None = None

    def use(self) -> DeviceUse:
        """The look as a record.

        Raises:
            ValueError: its numbers contradict each other.
        """
        return DeviceUse(**{name: getattr(self, name) for name in DeviceUse.__dataclass_fields__})


class Gap(_Event, frozen=True, kw_only=True, tag="gap"):
    """A stream had no readings for a while."""

    stream: str
    start_ns: _Time
    end_ns: _Time
    failed_reads: _Count
    reason: str


class MeterCount(_Event, frozen=True, kw_only=True, tag="meter"):
    """The sampling process's own account so far; cumulative."""

    samples: _Count
    failed_reads: _Count
    skipped_ticks: _Count
    cpu_s: float


class SamplerEnded(_Event, frozen=True, kw_only=True, tag="sampler_ended"):
    """The sampling process's last account."""

    samples: _Count
    failed_reads: _Count
    skipped_ticks: _Count
    cpu_s: float


class ParentLost(_Event, frozen=True, kw_only=True, tag="parent_lost"):
    """The sampling process saw the measured program go without a word."""


class ForkEnded(_Event, frozen=True, kw_only=True, tag="fork_ended"):
    """A process that the measured program forked, and that has a journal, is gone."""

    fork: str
    """Its number and when it was forked, as in its journal's name."""
    since_ns: _Time
    """When it was seen alive last; `t_ns` where it was watched until its end, 0 where it was never seen."""


class ClockStep(_Event, frozen=True, kw_only=True, tag="clock_step"):
    """The machine slept, or somebody set its wall clock, between `start_ns` and `t_ns`."""

    kind: Literal["asleep", "wall_clock_set"]
    start_ns: _Time
    step_s: float


class StatedEnergy(_Event, frozen=True, kw_only=True, tag="stated_energy"):
    """What another tool's file, or the program, says a part drew in a stage, unread here (method.md, eqs. 19, 131)."""

    stage_id: str
    part: str
    device: str
    boundary: Boundary
    value_j: float | None
    """None where the tool says nothing that can be believed; `reason` says why."""
    random_j: _HalfWidth = 0.0
    systematic_low_j: _HalfWidth = 0.0
    systematic_high_j: _HalfWidth = 0.0
    basis: Basis = Basis.ASSUMED
    driver: str = ""
    source: str = ""
    reason: str = ""
    is_elsewhere: bool = False
    """Another machine drew it for this stage: a stage of which nothing is stated has no such part (eq. 131)."""


ProgramEvent = (
    SessionStarted
    | Forked
    | StageStarted
    | Workload
    | Result
    | StageEnded
    | Mark
    | Warned
    | SessionEnded
    | StatedEnergy
)
MeterEvent = (
    SamplerStarted
    | ChannelsTaken
    | PeriodChanged
    | DeviceUsers
    | Gap
    | MeterCount
    | SamplerEnded
    | ParentLost
    | ForkEnded
    | ClockStep
    | StatedEnergy
    | Warned
)
Event = ProgramEvent | MeterEvent


def parse_events(lines: Iterable[Mapping[str, Any]]) -> tuple[tuple[Event, ...], tuple[str, ...]]:
    """The events that can be understood, in order, and what is wrong with the others.

    >>> events, problems = parse_events([{"event": "warning", "t_ns": 1, "message": "hot"}, {"event": "?", "t_ns": 2}])
    >>> events[0].message, len(problems)
    ('hot', 1)
    """
    events: list[Event] = []
    problems: list[str] = []
    for line in lines:
        try:
            events.append(msgspec.convert(line, type=Event))
        except msgspec.ValidationError as err:
            problems.append(f"event {line.get('event')!r} at t_ns {line.get('t_ns')} cannot be understood ({err})")
    return tuple(events), tuple(problems)
