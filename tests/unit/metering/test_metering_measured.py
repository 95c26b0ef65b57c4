"""Functions and blocks as stages: every kind of function, at once and inside one another, and no run at all."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import AsyncIterator, Coroutine, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

import stillwatt
from stillwatt.errors import UnknownNameError
from stillwatt.metering.measured import Measured, note_closed, note_open, open_run
from stillwatt.metering.meter import Meter, MeterWarning
from tiny_models import ListJournal, list_meter


class MeterRun:
    """A run with a meter that writes to a list."""

    def __init__(self) -> None:
        self.meter, self.journal = list_meter()
        self.stage = self.meter.stage

    @property
    def current_stage(self) -> stillwatt.Stage | None:
        return self.meter.current_stage

    def mark(self, name: str) -> None:
        self.meter.write("mark", name=name, utc_ns=0)


@pytest.fixture
def run() -> Iterator[MeterRun]:
    opened = MeterRun()
    note_open(opened)
    yield opened
    note_closed(opened)


def nesting(journal: ListJournal) -> list[tuple[str, str | None]]:
    """Names of stages with the names of those they lie in, in order of their beginning."""
    names = {event["stage_id"]: event["name"] for event in journal.of("stage_started")}
    return [(event["name"], names.get(event["parent_id"])) for event in journal.of("stage_started")]


def is_closed(journal: ListJournal) -> bool:
    """Whether every stage that began has ended once."""
    began = sorted(event["stage_id"] for event in journal.of("stage_started"))
    return began == sorted(event["stage_id"] for event in journal.of("stage_ended"))


def test_a_call_is_a_stage_and_the_function_keeps_what_it_is(run: MeterRun) -> None:
    @stillwatt.measured("generate", kind="teacher_generate", labels={"arm": "kd"})
    def generate(count: int) -> int:
        """Write texts."""
        return count + 1

    assert generate(2) == 3
    assert (generate.__name__, generate.__doc__) == ("generate", "Write texts.")
    (started,) = run.journal.of("stage_started")
    assert (started["kind"], started["labels"]) == ("teacher_generate", {"arm": "kd"})
    assert is_closed(run.journal)


def test_without_a_name_the_function_gives_its_own(run: MeterRun) -> None:
    @stillwatt.measured()
    def tidy() -> None: ...

    tidy()
    with stillwatt.measured():
        pass
    assert [name.rpartition(".")[2] for name, _ in nesting(run.journal)] == ["tidy", "measured"]


@given(depth=st.integers(0, 12))
def test_recursion_nests_as_deep_as_it_goes(depth: int) -> None:
    run = MeterRun()

    @Measured("turn", run=run)
    def turn(left: int) -> int:
        return 0 if left == 0 else 1 + turn(left - 1)

    assert turn(depth) == depth
    assert nesting(run.journal) == [("turn", "turn" if level else None) for level in range(depth + 1)]
    assert is_closed(run.journal)


def test_an_exception_goes_up_and_marks_the_stage_failed(run: MeterRun) -> None:
    @stillwatt.measured("breaks")
    def breaks() -> None:
        raise ZeroDivisionError("by zero")

    with pytest.raises(ZeroDivisionError):
        breaks()
    with pytest.raises(KeyError), stillwatt.measured("block"):
        raise KeyError("x")
    assert [event["status"] for event in run.journal.of("stage_ended")] == ["failed", "failed"]


def test_tasks_at_once_lie_in_their_callers_stage_and_not_in_each_other(run: MeterRun) -> None:
    @stillwatt.measured("inner")
    async def inner(value: int) -> int:
        await asyncio.sleep(0)
        return value

    @stillwatt.measured("outer")
    async def outer() -> list[int]:
        return list(await asyncio.gather(*(inner(value) for value in range(3))))

    assert inspect.iscoroutinefunction(outer)
    assert asyncio.run(outer()) == [0, 1, 2]
    assert nesting(run.journal) == [("outer", None), *[("inner", "outer")] * 3]
    assert is_closed(run.journal)


def test_one_block_object_is_entered_by_many_at_once(run: MeterRun) -> None:
    shared = stillwatt.measured("shared")

    async def task(hold_s: float) -> None:
        with shared, shared:
            await asyncio.sleep(hold_s)

    async def together() -> None:
        await asyncio.gather(task(0.02), task(0.0), task(0.01))

    asyncio.run(together())
    assert sorted(nesting(run.journal), key=str) == [("shared", "shared")] * 3 + [("shared", None)] * 3
    assert is_closed(run.journal)


def test_what_a_pool_of_threads_does_lies_in_the_stage_around_it(run: MeterRun) -> None:
    @stillwatt.measured("work")
    def work() -> None: ...

    with stillwatt.measured("outer"), ThreadPoolExecutor(4) as pool:
        for _ in range(8):
            pool.submit(work)
    assert nesting(run.journal) == [("outer", None), *[("work", "outer")] * 8]
    assert is_closed(run.journal)


def test_a_generator_is_measured_only_while_it_runs(run: MeterRun) -> None:
    @stillwatt.measured("make")
    def make() -> Generator[int, int, str]:
        got = yield 1
        yield got + 1
        return "done"

    running = make()
    assert not run.journal.events
    assert next(running) == 1
    assert run.current_stage is None
    with stillwatt.measured("consume"):
        assert running.send(10) == 11
    with pytest.raises(StopIteration) as stopped:
        next(running)
    assert stopped.value.value == "done"
    assert nesting(run.journal) == [("make", None), ("consume", None), ("make", "consume"), ("make", None)]
    assert is_closed(run.journal)


def test_a_generator_takes_errors_and_closing_like_the_bare_one(run: MeterRun) -> None:
    closed: list[str] = []

    @stillwatt.measured("make")
    def make() -> Iterator[int]:
        try:
            yield 1
        except KeyError:
            yield 2
        finally:
            closed.append("tidied")
        raise OSError("late")

    running = make()
    assert next(running) == 1
    assert isinstance(running, Generator)
    assert running.throw(KeyError("x")) == 2
    with pytest.raises(OSError, match="late"):
        next(running)
    again = make()
    next(again)
    assert isinstance(again, Generator)
    again.close()
    assert closed == ["tidied", "tidied"]
    assert [event["status"] for event in run.journal.of("stage_ended")] == ["ended"] * 2 + ["failed"] + ["ended"] * 2


def test_an_async_generator_is_measured_only_while_it_runs(run: MeterRun) -> None:
    @stillwatt.measured("make")
    async def make() -> AsyncIterator[int]:
        for value in range(3):
            try:
                yield value
            except KeyError:
                yield -1

    async def drain() -> list[int]:
        found = [value async for value in make()]
        running = make()
        found.append(await anext(running))
        assert run.current_stage is None
        found.append(await running.athrow(KeyError("x")))  # type: ignore[attr-defined]
        await running.aclose()  # type: ignore[attr-defined]
        return found

    assert asyncio.run(drain()) == [0, 1, 2, 0, -1]
    assert len(run.journal.of("stage_started")) == 4 + 3
    assert is_closed(run.journal)


def test_a_stage_that_ends_in_another_context_is_no_exception() -> None:
    meter, journal = list_meter()
    block = meter.stage("wanders")
    contextvars.copy_context().run(block.__enter__)
    block.__exit__(None, None, None)
    assert is_closed(journal)


def test_a_block_left_in_another_thread_is_warned_of(run: MeterRun) -> None:
    shared = stillwatt.measured("shared")
    shared.__enter__()
    thread = threading.Thread(target=shared.__exit__, args=(None, None, None))
    with pytest.warns(MeterWarning, match="another thread"):
        thread.start()
        thread.join()
    shared.__exit__(None, None, None)
    assert is_closed(run.journal)


def test_without_a_run_the_function_runs_as_ever_and_one_warning_says_so() -> None:
    assert open_run() is None

    @stillwatt.measured("alone")
    def alone() -> str:
        return "done"

    with pytest.warns(MeterWarning, match=r"'alone' runs unmeasured: no stillwatt.Run is open") as caught:
        assert (alone(), alone()) == ("done", "done")
    assert len(caught) == 1
    with pytest.warns(MeterWarning, match="block"), stillwatt.measured("block") as stage:
        stage.add(files=1)
        stage.add_tokens(2)
        stage.record({"a": 1})


def test_a_run_that_was_not_entered_measures_nothing_and_stops_nothing() -> None:
    run = stillwatt.Run("never")

    @run.measured("work")
    def work() -> int:
        return 1

    with pytest.warns(MeterWarning, match="enter it first"):
        assert work() == 1
    assert run.current_stage is None


def test_the_run_opened_last_is_the_one(run: MeterRun) -> None:
    inner = MeterRun()
    note_open(inner)
    with stillwatt.measured("in the inner"):
        pass
    note_closed(inner)
    note_closed(inner)
    with stillwatt.measured("in the outer") as stage:
        assert run.current_stage is stage
    assert (inner.journal.stages(), run.journal.stages()) == (["in the inner"], ["in the outer"])


def test_a_kind_that_does_not_exist_is_refused_at_once() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'evaluate'"):
        stillwatt.measured("x", kind="evaluat")


def test_a_meter_knows_its_current_stage(run: MeterRun) -> None:
    assert isinstance(run.meter, Meter)
    with run.stage("outer") as outer:
        with run.stage("inner") as inner:
            assert run.current_stage is inner
        assert run.current_stage is outer
    assert run.current_stage is None


def test_without_brackets_it_measures_too(run: MeterRun) -> None:
    @stillwatt.measured
    def double(count: int) -> int:
        return 2 * count

    assert double(4) == 8
    assert [name for name, _ in nesting(run.journal)] == [double.__qualname__]
    assert is_closed(run.journal)


def test_methods_of_a_class_are_measured_above_and_below_what_makes_them(run: MeterRun) -> None:
    class Teacher:
        @stillwatt.measured("a")
        @classmethod
        def above(cls) -> str:
            return cls.__name__

        @classmethod
        @stillwatt.measured("b")
        def below(cls) -> str:
            return cls.__name__

        @stillwatt.measured("c")
        @staticmethod
        def alone(number: int) -> int:
            return number

    assert [Teacher.above(), Teacher().above(), Teacher.below()] == ["Teacher"] * 3
    assert [Teacher.alone(1), Teacher().alone(2)] == [1, 2]
    assert [event["name"] for event in run.journal.of("stage_started")] == ["a", "a", "b", "c", "c"]


def test_an_object_that_is_called_is_measured_as_what_its_method_is(run: MeterRun) -> None:
    class Asker:
        async def __call__(self) -> str:
            with stillwatt.measured("inside"):
                return "asked"

    async def main() -> str:
        return await stillwatt.measured("ask")(Asker())()

    assert asyncio.run(main()) == "asked"
    assert nesting(run.journal) == [("ask", None), ("inside", "ask")]


def test_work_that_a_function_only_hands_on_is_said_to_be_unmeasured(run: MeterRun) -> None:
    async def ask() -> str:
        return "asked"

    @stillwatt.measured("hand on")
    def hand_on() -> Coroutine[None, None, str]:
        return ask()

    with pytest.warns(MeterWarning, match="'hand on' returned a coroutine: its work is done later") as told:
        assert asyncio.run(hand_on()) == "asked"
        assert asyncio.run(hand_on()) == "asked"
    assert len(told) == 1
