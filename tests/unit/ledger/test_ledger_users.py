"""Looks at who is on the devices: what is written of them, and that they hold nothing up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import FakeClock, FakeSensor, fake_channel
from nvml_simulator_build import nvml_simulator_path
from stillwatt.ledger.disk import Disk
from stillwatt.ledger.events import DeviceUsers, SamplerStarted, parse_events
from stillwatt.ledger.journal import JournalWriter, read_journal
from stillwatt.ledger.recorder import Recorder
from stillwatt.ledger.segments_raw import RawWriter, raw_path
from stillwatt.ledger.users import UserWatch, is_news, parts_of_program, use_event
from stillwatt.records import Absent, Boundary, Card, DeviceUse, DeviceUser, ProcessId, Quantity
from stillwatt.sensors.processes import Processes
from stillwatt.sensors.registry import OpenSensor, Resolution
from stillwatt.sensors.worker import InlineWorker, Worker
from stillwatt.units import NS_PER_S

__all__ = ["nvml_simulator_path"]
PATIENCE_S = 30.0


@dataclass
class FakeSight(FakeSensor):
    """A sensor that sees the users it is told."""

    who: dict[str, tuple[DeviceUser, ...]] = field(default_factory=dict)
    listed: tuple[Card, ...] = ()
    error: Exception | None = None
    before_look: threading.Event | None = None
    last_ns: int | None = None
    looks: int = 0

    def cards(self) -> tuple[Card, ...]:
        return self.listed

    def users(self, parts: Container[str]) -> tuple[DeviceUse, ...]:
        self.looks += 1
        if self.before_look is not None:
            self.before_look.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error
        now_ns = self.clock.monotonic_ns()
        since_ns, self.last_ns = now_ns if self.last_ns is None else self.last_ns, now_ns
        return tuple(
            DeviceUse(part=part, since_ns=since_ns, t_ns=now_ns, users=users)
            for part, users in self.who.items()
            if part in parts
        )


def user(pid: int, share: float | None = None) -> DeviceUser:
    return DeviceUser(pid=pid, chain=(ProcessId(pid, 10 * pid), ProcessId(1, 1)), sm_share=share)


def resolution(sensor: FakeSensor, *absent: str) -> Resolution:
    missing = tuple(Absent(part=part, boundary=Boundary.BOARD, reason="lost") for part in absent)
    opened = OpenSensor(sensor=sensor, channels=sensor.open())
    return Resolution(opened=(opened,), probes=(sensor.probe(),), absent=missing)


class Rig:
    """A watch at a set time, with what it writes."""

    def __init__(self, sensor: FakeSight) -> None:
        self.sensor, self.clock = sensor, sensor.clock
        self.events: list[Mapping[str, Any]] = []
        self.watch = UserWatch(resolution(sensor), self.events.append, self.clock, InlineWorker)

    def looks(self, number: int, seconds: float = 1.0) -> None:
        for _ in range(number):
            self.watch.tick()
            self.clock.advance(seconds)

    def written(self) -> list[DeviceUse]:
        self.watch.finish()
        events, problems = parse_events(json.loads(json.dumps(event)) for event in self.events)
        assert problems == ()
        return [event.use() for event in events if isinstance(event, DeviceUsers)]


def _rig(**who: tuple[DeviceUser, ...]) -> Rig:
    clock = FakeClock()
    return Rig(FakeSight(clock, channels=[fake_channel(part) for part in who], who=who))


def test_what_stays_the_same_is_written_once() -> None:
    rig = _rig(gpu0=(user(7, 0.5),), gpu1=())
    rig.looks(30)
    uses = rig.written()
    assert [(use.part, use.users) for use in uses] == [("gpu0", (user(7, 0.5),)), ("gpu1", ())]
    assert rig.sensor.looks == 30


def test_sampling_processes_use_nothing(tmp_path: Path) -> None:
    """They open drivers, and are nobody's children: they would be taken for tenants."""
    for pid, command in ((7, b"python\0-m\0stillwatt.ledger.apart\0"), (8, b"python\0train.py\0")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cmdline").write_bytes(command)
    rig = _rig(gpu0=(user(7), user(8)), gpu1=(user(9),))
    rig.watch._processes = Processes(root=str(tmp_path))
    rig.looks(2)
    assert [(use.part, use.users) for use in rig.written()] == [("gpu0", (user(8),)), ("gpu1", (user(9),))]


def test_who_comes_and_goes_is_written_with_the_look_before() -> None:
    rig = _rig(gpu0=())
    rig.looks(3)
    rig.sensor.who["gpu0"] = (user(7),)
    rig.looks(3)
    rig.sensor.who["gpu0"] = ()
    rig.looks(1)
    uses = rig.written()
    starts = [(use.since_ns - NS_PER_S, use.t_ns - NS_PER_S, len(use.users or ())) for use in uses]
    assert starts == [(0, 0, 0), (2 * NS_PER_S, 3 * NS_PER_S, 1), (5 * NS_PER_S, 6 * NS_PER_S, 0)]


def test_shares_are_written_each_second_where_several_share() -> None:
    rig = _rig(gpu0=(user(7, 0.5), user(8, 0.5)))
    for step in range(10):
        rig.sensor.who["gpu0"] = (user(7, 0.5 + 0.02 * step), user(8, 0.5))
        rig.looks(1)
    shares = [use.users[0].sm_share for use in rig.written() if use.users]
    assert shares == pytest.approx([0.5, 0.56, 0.62, 0.68])


def test_the_share_of_a_lone_process_is_written_every_ten_seconds_at_most() -> None:
    rig = _rig(gpu0=(user(7, 0.0),))
    for step in range(40):
        rig.sensor.who["gpu0"] = (user(7, step % 2 * 0.9),)
        rig.looks(1)
    assert len(rig.written()) <= 5


@given(st.permutations([user(7, 0.5), user(8, 0.2), DeviceUser(pid=0), replace(user(9), instance="1/0")]))
def test_the_order_in_a_drivers_list_is_no_news(users: list[DeviceUser]) -> None:
    use = DeviceUse(part="gpu0", since_ns=1, t_ns=2, users=tuple(users))
    assert not is_news(use, replace(use, users=tuple(sorted(users, key=lambda one: one.pid))))


@pytest.mark.parametrize(
    ("change", "news"),
    [
        ({"users": None, "reason": "refused"}, True),
        ({"users": ()}, True),
        ({"users": (user(7, None), user(8, 0.1))}, True),
        ({"users": (user(7, 0.54), user(8, 0.1))}, False),
        ({"users": (user(7, 0.56), user(8, 0.1))}, True),
        ({"users": (replace(user(7, 0.5), chain=(ProcessId(7, 99),)), user(8, 0.1))}, True),
        ({"users": (replace(user(7, 0.5), chain=(ProcessId(7, 70),), memory_bytes=5), user(8, 0.1))}, False),
        ({"busy_share": 0.9, "reason": "other words"}, False),
        ({"slices": 7}, True),
    ],
)
def test_what_is_news(change: dict[str, Any], news: bool) -> None:
    use = DeviceUse(part="gpu0", since_ns=1, t_ns=2, users=(user(7, 0.5), user(8, 0.1)))
    assert is_news(replace(use, **change), use) is news


def test_an_unseen_user_shows_in_how_busy_the_card_is() -> None:
    idle = DeviceUse(part="gpu0", since_ns=1, t_ns=2, users=(), busy_share=0.0)
    assert is_news(replace(idle, busy_share=0.9), idle)
    assert not is_news(replace(idle, busy_share=0.04), idle)


def test_a_mistake_in_a_look_is_said_once_and_looks_go_on() -> None:
    rig = _rig(gpu0=(user(7),))
    rig.sensor.error = ZeroDivisionError("by zero")
    rig.looks(5)
    rig.sensor.error = None
    rig.looks(2)
    assert [event["message"] for event in rig.events if event["event"] == "warning"] == [
        "who uses the devices cannot be seen: ZeroDivisionError: by zero"
    ]
    assert len([event for event in rig.events if event["event"] == "device_users"]) == 1
    assert all(event["t_ns"] >= NS_PER_S for event in rig.events)


def test_only_parts_that_this_process_counts_are_looked_at() -> None:
    rig = _rig(gpu0=(user(7),), gpu1=(user(8),))
    rig.watch.keep_only({"gpu1"})
    rig.looks(2)
    assert [use.part for use in rig.written()] == ["gpu1"]
    rig.watch.keep_only(())
    assert not rig.watch.is_needed
    before = rig.sensor.looks
    rig.looks(2)
    assert rig.sensor.looks == before


def test_a_sensor_that_sees_nobody_is_left_alone() -> None:
    watch = UserWatch(resolution(FakeSensor(FakeClock())), lambda _: None, FakeClock(), InlineWorker)
    watch.tick()
    watch.finish()
    assert not watch.is_needed


def test_a_look_that_hangs_holds_nothing_up() -> None:
    clock, gate = FakeClock(), threading.Event()
    sensor = FakeSight(clock, who={"gpu0": (user(7),)}, before_look=gate)
    events: list[Mapping[str, Any]] = []
    watch = UserWatch(resolution(sensor), events.append, clock, Worker)
    for _ in range(5):
        watch.tick()
    assert events == []
    gate.set()
    watch.finish()
    assert [event["event"] for event in events] == ["device_users"]
    assert sensor.looks == 1


CARDS = (
    Card(part="gpu0", index=0, uuid="GPU-a"),
    Card(part="gpu1", index=1, uuid="GPU-b"),
    Card(part="gpu2", index=2, uuid="GPU-c"),
)


def _parts(environment: dict[str, str], cards: tuple[Card, ...] = CARDS) -> dict[str, Any]:
    channels = [fake_channel(part) for part in ("gpu0", "gpu1", "cpu0")]
    channels.append(fake_channel("gpu0", Quantity.ENERGY_COUNTER))
    found = parts_of_program(
        resolution(FakeSight(FakeClock(), channels=channels, listed=cards), "gpu2", "dram0"), environment
    )
    devices = {channel.part: channel.device for channel in channels}
    assert found["parts"] == {part: devices[part] for part in found["parts"]}
    return {**found, "parts": list(found["parts"])}


def test_the_programs_parts_are_those_it_may_use() -> None:
    assert _parts({}) == {
        "parts": ["gpu0", "gpu1", "cpu0"],
        "beside": [],
        "parts_reason": "CUDA_VISIBLE_DEVICES is not set",
    }
    assert _parts({"CUDA_VISIBLE_DEVICES": "1"}) == {
        "parts": ["gpu1", "cpu0"],
        "beside": ["gpu0", "gpu2"],
        "parts_reason": "CUDA_VISIBLE_DEVICES='1'",
    }
    assert _parts({"CUDA_VISIBLE_DEVICES": ""})["parts"] == ["cpu0"]
    assert _parts({"CUDA_VISIBLE_DEVICES": "GPU-"})["parts"] == ["gpu0", "gpu1", "cpu0"]
    assert _parts({"CUDA_VISIBLE_DEVICES": "1"}, ())["parts"] == ["gpu0", "gpu1", "cpu0"]


def test_an_event_is_read_back_as_it_was(tmp_path: Path) -> None:
    one = replace(user(7, 0.5), memory_bytes=5, instance="1/0", same_user=False)
    use = DeviceUse(
        part="gpu0", since_ns=1, t_ns=2, users=(one, DeviceUser(pid=0)), busy_share=0.5, reason="why", slices=7
    )
    writer = JournalWriter(tmp_path / "journal.jsonl")
    writer.write(use_event(use))
    writer.write(use_event(replace(use, users=None)))
    writer.close()
    events, problems = parse_events(read_journal(tmp_path / "journal.jsonl").events)
    assert problems == ()
    assert [event.use() for event in events if isinstance(event, DeviceUsers)] == [use, replace(use, users=None)]


def test_the_recorder_writes_who_is_there_from_its_start(tmp_path: Path) -> None:
    clock = FakeClock()
    sensor = FakeSight(clock, who={"gpu0": (user(7),)}, listed=CARDS)
    path = tmp_path / "journal.s.meter.jsonl"
    disk = Disk(JournalWriter(path), lambda stream: RawWriter(raw_path(tmp_path, "s", stream)), clock)
    recorder = Recorder(resolution(sensor), disk, clock, NS_PER_S // 10, make_worker=InlineWorker)
    recorder.start()
    looks = [beat for beat in recorder.beats() if beat.period_ns == NS_PER_S]
    assert len(looks) == 1
    clock.advance(1.0)
    looks[0].read(0)
    recorder.finish(is_parent_lost=False)
    events, _ = parse_events(read_journal(path).events)
    started = next(event for event in events if isinstance(event, SamplerStarted))
    assert started.program == Processes().process(os.getppid())
    assert (started.parts, started.beside) == ({"gpu0": "fake-device"}, [])
    assert [event.users for event in events if isinstance(event, DeviceUsers)] == [(user(7),)]


MEASURED = """
import os, subprocess, sys, time
from stillwatt import Run
runs_dir, library, stranger = sys.argv[1:]
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
os.environ["NVML_SIMULATOR"] = (
    f"gpu watts=300 proc={os.getpid()}:1000:0:0:inf proc={child.pid}:500:70:0:inf proc={stranger}:500:20:0:inf"
    ";gpu watts=50"
)
os.environ["CUDA_VISIBLE_DEVICES"] = "0"
with Run("users", sensors=["nvml"], options={"nvml": {"library": library}}, runs_dir=runs_dir) as run:
    with run.stage("train"):
        time.sleep(1.5)
child.kill()
child.wait()
print(run.run_dir, os.getpid(), child.pid)
"""


@pytest.fixture
def stranger() -> Iterator[int]:
    """A process that descends from nobody of the run."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        yield process.pid
        process.kill()


def test_a_run_knows_its_own_processes_from_strangers(tmp_path: Path, nvml_simulator_path: Path, stranger: int) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", MEASURED, str(tmp_path), str(nvml_simulator_path), str(stranger)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    folder, program, child = done.stdout.split()
    (path,) = Path(folder).glob("journal.*.meter.jsonl")
    events, problems = parse_events(read_journal(path).events)
    assert problems == ()
    (started,) = [event for event in events if isinstance(event, SamplerStarted)]
    assert started.program is not None
    assert started.program.pid == int(program)
    assert (started.parts, started.beside) == ({"gpu0": started.channels[0].device}, ["gpu1"])
    uses = {event.part: event.use() for event in events if isinstance(event, DeviceUsers)}
    assert uses["gpu1"].users == ()
    chains = {one.pid: one.chain for one in uses["gpu0"].users or ()}
    if not Processes().is_host:
        pytest.skip("this test runs in a container of its own, where numbers are not believed")
    assert started.program in chains[int(child)]
    assert chains[int(program)][0] == started.program
    assert started.program not in chains[stranger]
    assert len(chains[stranger]) > 1
