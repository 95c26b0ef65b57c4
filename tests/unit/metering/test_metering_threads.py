"""Stages that threads begin: which lie in a stage of the thread that opened the run, and which beside it."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.pool import ThreadPool
from typing import Any

import pytest

from fakes import FakeClock
from stillwatt.metering.meter import Meter, MeterWarning


class MemoryJournal:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[Mapping[str, Any]] = []

    def write(self, event: Mapping[str, Any]) -> None:
        self.events.append(event)

    def named(self, name: str) -> list[Mapping[str, Any]]:
        return [event for event in self.events if event["event"] == name]


@pytest.fixture
def journal() -> MemoryJournal:
    return MemoryJournal()


@pytest.fixture
def meter(journal: MemoryJournal) -> Meter:
    return Meter(journal, FakeClock())


def parents(journal: MemoryJournal) -> dict[str, str | None]:
    """Each stage's name with that of the stage it lies in."""
    begun = journal.named("stage_started")
    names = {event["stage_id"]: event["name"] for event in begun}
    return {event["name"]: names.get(event["parent_id"]) for event in begun}


def begin(meter: Meter, *names: str) -> None:
    """Stages inside each other."""
    if names:
        with meter.stage(names[0]):
            begin(meter, *names[1:])


class Worker:
    """A thread that does what it is told, one thing after the other."""

    def __init__(self) -> None:
        self._told: list[Callable[[], None]] = []
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def __call__(self, what: Callable[[], Any]) -> None:
        self._told.append(what)
        self._go.release()
        assert self._done.acquire(timeout=60)

    def _work(self) -> None:
        while self._go.acquire(timeout=60):
            self._told.pop()()
            self._done.release()


@contextmanager
def stage_of(worker: Worker, meter: Meter, name: str) -> Iterator[None]:
    """A stage that another thread has open."""
    block = meter.stage(name)
    worker(block.__enter__)
    yield
    worker(lambda: block.__exit__(None, None, None))


@pytest.mark.parametrize("make_pool", [ThreadPoolExecutor, ThreadPool])
def test_what_a_pool_does_lies_in_the_stage_that_it_is_done_for(
    meter: Meter, journal: MemoryJournal, make_pool: Callable[[int], Any]
) -> None:
    """All at once, with stages within each other, and by the same threads for the next stage."""
    together = threading.Barrier(3, timeout=60)

    def request(name: str) -> None:
        with meter.stage(name):
            together.wait()
            begin(meter, f"{name} inner")
            together.wait()

    with make_pool(3) as pool:
        for stage in ("teacher", "student"):
            with meter.stage("all"), meter.stage(stage):
                list(pool.map(request, [f"{stage} {number}" for number in range(3)]))
    found = parents(journal)
    for stage in ("teacher", "student"):
        for number in range(3):
            assert found[f"{stage} {number}"] == stage
            assert found[f"{stage} {number} inner"] == f"{stage} {number}"
    assert not journal.named("warning")


def test_a_thread_works_in_the_innermost_stage_in_which_it_began(meter: Meter, journal: MemoryJournal) -> None:
    with meter.stage("outer"):
        old = Worker()
        with meter.stage("inner"):
            new = Worker()
            old(lambda: begin(meter, "of the old one"))
            new(lambda: begin(meter, "of the new one"))
        new(lambda: begin(meter, "of the new one, later"))
    assert parents(journal) == {
        "outer": None,
        "inner": "outer",
        "of the old one": "outer",
        "of the new one": "inner",
        "of the new one, later": "outer",
    }


def test_workers_beside_each_other_are_in_no_stage_of_each_other(meter: Meter, journal: MemoryJournal) -> None:
    """Whichever began first, also where the second thread is younger than the first one's stage."""
    teacher = Worker()
    with pytest.warns(MeterWarning, match="'student' began in a thread of its own while 'teacher' was open") as seen:
        with stage_of(teacher, meter, "teacher"):
            student = Worker()
            student(lambda: begin(meter, "student", "step"))
            student(lambda: begin(meter, "student again"))
            with meter.stage("of the run's own thread"):
                teacher(lambda: begin(meter, "batch"))
    assert parents(journal) == {
        "teacher": None,
        "student": None,
        "step": "student",
        "student again": None,
        "of the run's own thread": None,
        "batch": "teacher",
    }
    assert len(seen) == len(journal.named("warning")) == 1


def test_a_thread_that_is_older_than_the_stage_stands_beside_it(meter: Meter, journal: MemoryJournal) -> None:
    other = Worker()
    other(lambda: begin(meter, "alone"))
    with meter.stage("train"), pytest.warns(MeterWarning, match="it stands beside it, not in it"):
        other(lambda: begin(meter, "generate"))
        other(lambda: contextvars.copy_context().run(begin, meter, "generate too"))
        here = contextvars.copy_context()
        other(lambda: here.run(begin, meter, "told to be inside"))
    assert parents(journal) == {
        "alone": None,
        "train": None,
        "generate": None,
        "generate too": None,
        "told to be inside": "train",
    }


def test_what_tasks_hand_to_threads_lies_in_what_all_of_them_lie_in(meter: Meter, journal: MemoryJournal) -> None:
    async def task(name: str, both: asyncio.Barrier) -> None:
        with meter.stage(name):
            await both.wait()
            await asyncio.get_running_loop().run_in_executor(None, begin, meter, f"{name} in a thread")
            await asyncio.to_thread(begin, meter, f"{name} with its context")
            await both.wait()

    async def tasks() -> None:
        both = asyncio.Barrier(2)
        await asyncio.gather(task("a", both), task("b", both))

    with meter.stage("all"):
        asyncio.run(tasks())
    found = parents(journal)
    for name in "ab":
        assert found[name] == "all"
        assert found[f"{name} in a thread"] == "all"
        assert found[f"{name} with its context"] == name


def test_tasks_beside_each_other_hold_no_thread_s_work(meter: Meter, journal: MemoryJournal) -> None:
    async def task(name: str, both: asyncio.Barrier) -> None:
        with meter.stage(name):
            await both.wait()
            await asyncio.get_running_loop().run_in_executor(None, begin, meter, f"{name} in a thread")
            await both.wait()

    async def tasks() -> None:
        both = asyncio.Barrier(2)
        await asyncio.gather(task("a", both), task("b", both))

    with pytest.warns(MeterWarning, match="stands beside it"):
        asyncio.run(tasks())
    assert set(parents(journal).values()) == {None}


def test_a_forked_process_has_a_thread_of_its_own_to_go_by(meter: Meter, journal: MemoryJournal) -> None:
    """As in the child of a fork that another thread made: that thread is its first one."""
    childs = MemoryJournal()
    forks = Worker()

    def child() -> None:
        meter.go_on_forked(childs, "f")
        with meter.stage("child"), ThreadPoolExecutor(1) as pool:
            pool.submit(begin, meter, "of the child's pool").result()

    with meter.stage("outer"):
        forks(child)
    assert parents(childs)["of the child's pool"] == "child"
