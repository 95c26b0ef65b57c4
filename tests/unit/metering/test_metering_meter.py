"""The in-process half of the meter: it writes marks, and never troubles the measured program."""

from __future__ import annotations

import json
import math
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stillwatt.ledger.journal import JournalWriter
from stillwatt.metering.meter import Meter, MeterWarning, Stage, parse_kind
from stillwatt.records import StageKind
from stillwatt.units import NS_PER_MS, NS_PER_S


@dataclass
class SteppingClock:
    """A clock that moves when told to."""

    now_ns: int = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def utc_ns(self) -> int:
        return self.now_ns

    def advance(self, span_ns: int) -> None:
        self.now_ns += span_ns


@dataclass
class MemoryJournal:
    """Keeps what it is given, as JSON would; refuses when the disk is full."""

    events: list[dict[str, Any]] = field(default_factory=list)
    is_full: bool = False

    def write(self, event: Mapping[str, Any]) -> None:
        if self.is_full:
            raise OSError("no space left on device")
        self.events.append(json.loads(json.dumps(event)))

    def named(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == name]


@pytest.fixture
def clock() -> SteppingClock:
    return SteppingClock()


@pytest.fixture
def journal() -> MemoryJournal:
    return MemoryJournal()


@pytest.fixture
def meter(journal: MemoryJournal, clock: SteppingClock) -> Meter:
    return Meter(journal, clock, prefix="a")


def test_a_stage_is_two_marks(meter: Meter, journal: MemoryJournal, clock: SteppingClock) -> None:
    clock.advance(5)
    with meter.stage("train", kind="student_train", labels={"seed": "3"}):
        clock.advance(10)
    assert journal.events == [
        {"event": "stage_started", "t_ns": 5, "stage_id": "a1", "parent_id": None, "name": "train",
         "kind": "student_train", "attempt": 1, "labels": {"seed": "3"}},
        {"event": "stage_ended", "t_ns": 15, "stage_id": "a1", "status": "ended", "error": None},
    ]  # fmt: skip


def test_counts_after_the_end_are_written_at_once(meter: Meter, journal: MemoryJournal) -> None:
    with meter.stage("ask") as stage:
        stage.add(requests=1)
    stage.add(tokens=7)
    assert [event["counts"] for event in journal.named("workload")] == [{"requests": 1}, {"tokens": 7}]


def test_stages_nest_and_siblings_do_not(meter: Meter, journal: MemoryJournal) -> None:
    with meter.stage("outer"):
        with meter.stage("first"):
            pass
        with meter.stage("second"):
            pass
    started = {event["name"]: event for event in journal.named("stage_started")}
    assert started["outer"]["parent_id"] is None
    assert started["first"]["parent_id"] == started["second"]["parent_id"] == started["outer"]["stage_id"]


def test_a_stage_of_a_thread_that_began_in_one_lies_in_it(meter: Meter, journal: MemoryJournal) -> None:
    def work() -> None:
        with meter.stage("other"):
            pass

    with meter.stage("main"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    main, other = journal.named("stage_started")
    assert (main["parent_id"], other["parent_id"]) == (None, main["stage_id"])


def test_an_exception_marks_the_stage_failed_and_goes_on_up(meter: Meter, journal: MemoryJournal) -> None:
    with pytest.raises(RuntimeError, match="out of memory"), meter.stage("train"):
        raise RuntimeError("out of memory")
    ended = journal.named("stage_ended")[0]
    assert (ended["status"], ended["error"]) == ("failed", "RuntimeError: out of memory")


def test_an_interrupt_is_a_failure_too_and_the_next_stage_has_no_lost_parent(
    meter: Meter, journal: MemoryJournal
) -> None:
    with pytest.raises(KeyboardInterrupt), meter.stage("train"):
        raise KeyboardInterrupt
    with meter.stage("next"):
        pass
    ended = journal.named("stage_ended")[0]
    assert (ended["status"], ended["error"]) == ("failed", "interrupted")
    assert journal.named("stage_started")[1]["parent_id"] is None


def test_attempts_are_counted_by_name_and_go_on_from_earlier_sessions(
    journal: MemoryJournal, clock: SteppingClock
) -> None:
    meter = Meter(journal, clock, earlier_attempts={"train": 2})
    for name in ("train", "train", "serve"):
        with meter.stage(name):
            pass
    assert [event["attempt"] for event in journal.named("stage_started")] == [3, 4, 1]


def test_an_unknown_kind_stops_no_training(meter: Meter, journal: MemoryJournal) -> None:
    with (
        pytest.warns(MeterWarning, match=r"stage 'x': .*did you mean 'evaluate'.*booked as 'other'"),
        meter.stage("x", kind="evaluat"),
    ):
        pass
    assert journal.named("stage_started")[0]["kind"] == "other"
    assert parse_kind(StageKind.SERVE) is StageKind.SERVE


@pytest.mark.parametrize("name", [0, None, 2.5])
def test_a_name_that_is_no_text_is_its_text(name: Any, meter: Meter, journal: MemoryJournal) -> None:
    with meter.stage(name):
        pass
    assert journal.named("stage_started")[0]["name"] == str(name)


@pytest.mark.parametrize("labels", ["kd", ["kd"], 5])
def test_labels_that_are_none_are_left_out_with_a_warning(labels: Any, meter: Meter, journal: MemoryJournal) -> None:
    with pytest.warns(MeterWarning, match=r"labels=\{'arm': 'kd'\}"), meter.stage("train", labels=labels):
        pass
    assert journal.named("stage_started")[0]["labels"] == {}
    assert "left out" in journal.named("warning")[0]["message"]


@pytest.mark.parametrize("results", [5, None, [0.7], [("score", 0.7)]])
def test_results_without_names_are_left_out_with_a_warning(results: Any, meter: Meter, journal: MemoryJournal) -> None:
    with pytest.warns(MeterWarning, match="results are names with values"), meter.stage("evaluate") as stage:
        stage.record(results)
    assert journal.named("result") == []
    assert journal.named("stage_ended")[0]["status"] == "ended"


def test_counts_are_summed_and_written_twice_a_second_at_most(
    meter: Meter, journal: MemoryJournal, clock: SteppingClock
) -> None:
    with meter.stage("train") as stage:
        for _ in range(100):
            stage.add(tokens=10, steps=1)
            clock.advance(10 * NS_PER_MS)
        stage.add_tokens(7)
    counts = [event["counts"] for event in journal.named("workload")]
    assert len(counts) <= 4
    assert sum(count.get("tokens", 0) for count in counts) == 1007
    assert sum(count.get("steps", 0) for count in counts) == 100


def test_pending_counts_stand_before_the_end_of_their_stage(meter: Meter, journal: MemoryJournal) -> None:
    with meter.stage("train") as stage:
        stage.add_tokens(7)
    assert [event["event"] for event in journal.events] == ["stage_started", "workload", "stage_ended"]


def test_counts_of_many_threads_are_all_there(meter: Meter, journal: MemoryJournal, clock: SteppingClock) -> None:
    with meter.stage("train") as stage:

        def count() -> None:
            for _ in range(500):
                clock.advance(NS_PER_MS)
                stage.add_tokens(1)

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(event["counts"]["tokens"] for event in journal.named("workload")) == 2000


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        ("12", "'12'"),
        (-100, "-100"),
        (-0.5, "-0.5"),
        (10**400, "a number of 1329 bits"),
        (10**5000, "a number of 16610 bits"),
        (1e300, "1e.300"),
        (Unprintable(), "<Unprintable>"),
        ([0] * 1000, r"\[0, 0, 0"),
    ],
    ids=["nan", "inf", "text", "negative", "below 0", "400 digits", "5000 digits", "huge", "unprintable", "long"],
)
def test_what_cannot_be_a_count_is_left_out_with_a_warning(
    meter: Meter, journal: MemoryJournal, amount: Any, words: str
) -> None:
    with (
        meter.stage("train") as stage,
        pytest.warns(MeterWarning, match=f"tokens={words}.*is no count; left out") as seen,
    ):
        stage.add(tokens=amount, steps=1)
        stage.add_tokens(amount)
        stage.add_tokens(3)
    assert journal.named("workload")[0]["counts"] == {"steps": 1, "tokens": 3}
    assert len(str(seen[0].message)) < 200


def test_no_count_and_large_ones_are_counts(meter: Meter, journal: MemoryJournal) -> None:
    with meter.stage("train") as stage:
        stage.add(tokens=0, flops=1e24, bytes=2**80)
    assert journal.named("workload")[0]["counts"] == {"tokens": 0, "flops": 1e24, "bytes": 2**80}


def test_results_are_kept(meter: Meter, journal: MemoryJournal) -> None:
    with meter.stage("evaluate") as stage:
        stage.record({"scores": [1, 2]})
    assert journal.named("result")[0]["results"] == {"scores": [1, 2]}


def test_a_full_disk_costs_events_but_never_an_exception(meter: Meter, journal: MemoryJournal) -> None:
    journal.is_full = True
    with pytest.warns(MeterWarning, match="no space left"), meter.stage("train") as stage:
        stage.add_tokens(1)
    assert meter.lost_events == 3
    assert journal.events == []


def test_what_comes_after_the_runs_end_is_no_gap_in_its_energy(clock: SteppingClock, tmp_path: Path) -> None:
    journal = JournalWriter(tmp_path / "journal.jsonl")
    meter = Meter(journal, clock)
    with meter.stage("ask") as stage:
        pass
    journal.close()
    with pytest.warns(MeterWarning, match="the run has ended; what it is told now .workload. is not kept"):
        stage.add_tokens(1)
    assert meter.lost_events == 1


def test_a_result_that_is_no_json_costs_itself_alone_and_the_run_says_so(meter: Meter, journal: MemoryJournal) -> None:
    class Odd:
        def item(self) -> float:
            raise RuntimeError("on another device")

        size = 1

    told = "stage 'evaluate': the result 'scores' is of type object, which is no JSON value; left out"
    with warnings.catch_warnings(record=True) as seen, meter.stage("evaluate") as stage:
        warnings.simplefilter("always")
        for _ in range(2):
            stage.record({"scores": object(), "n": 3})
        stage.record({"odd": Odd()})
    assert str(seen[0].message) == told
    assert [one.filename for one in seen] == [__file__] * 2
    assert journal.named("warning")[0]["message"] == told
    assert len(journal.named("warning")) == 2
    assert [event["results"] for event in journal.named("result")] == [{"n": 3}, {"n": 3}]
    assert meter.lost_events == 0


class _Gone:
    """As an array is whose device is lost."""

    def numel(self) -> int:
        raise RuntimeError("device lost")


class _Tensor:
    """As a tensor of one element is."""

    def __init__(self, number: float) -> None:
        self._number = number

    def numel(self) -> int:
        return 1

    def item(self) -> float:
        return self._number


def test_results_are_kept_as_json_has_them(meter: Meter, journal: MemoryJournal) -> None:
    results = {
        "accuracy": np.float32(0.5),
        "count": np.int64(3),
        "one": _Tensor(2.5),
        "curve": np.array([1.0, math.nan]),
        "loss": math.inf,
        "nested": {"path": Path("a/b"), 3: (True, None)},
    }
    with meter.stage("evaluate") as stage:
        stage.record(results)
    (event,) = journal.named("result")
    assert json.loads(json.dumps(event["results"], allow_nan=False)) == {
        "accuracy": 0.5,
        "count": 3,
        "one": 2.5,
        "curve": [1.0, "nan"],
        "loss": "inf",
        "nested": {"path": "a/b", "3": [True, None]},
    }


def test_other_libraries_numbers_count_and_what_is_none_is_on_the_record(meter: Meter, journal: MemoryJournal) -> None:
    several: Any = np.array([1, 2])
    three: Any = _Tensor(3)
    gone: Any = _Gone()
    with pytest.warns(MeterWarning) as seen, meter.stage("train") as stage:
        stage.add_tokens(np.array([5, 7, 9]).sum())
        stage.add(examples=three, tokens=np.float64(1.0))
        for _ in range(3):
            stage.add(examples=several, losses=math.nan, batches=gone)
    counts = [event["counts"] for event in journal.named("workload")]
    assert sum(each.get("tokens", 0) for each in counts) == 22
    assert sum(each.get("examples", 0) for each in counts) == 3
    told = [str(one.message) for one in seen]
    assert len(told) == 3
    assert all("is no count; left out" in message for message in told)
    assert [event["message"] for event in journal.named("warning")] == told


def test_a_program_that_does_all_wrong_is_not_flooded(meter: Meter) -> None:
    with pytest.warns(MeterWarning) as seen, meter.stage("train") as stage:
        for number in range(100):
            stage.add(**{f"count{number}": -1})
    assert len(seen) == 20


def test_the_only_stage_is_the_innermost_of_the_one_chain_that_is_open(meter: Meter) -> None:
    def only() -> Stage | None:
        return meter.only_stage

    found: list[Any] = []
    assert only() is None
    with meter.stage("outer") as outer:
        assert only() is outer
        with meter.stage("inner") as inner:
            assert only() is inner
            _in_a_thread(lambda: found.append((meter.current_stage, only())))
        with meter.stage("beside"):
            _in_a_thread(lambda: found.append(_in_a_stage(meter)))
        assert only() is outer
    assert only() is None
    assert found == [(None, inner), "of another thread"]


def _in_a_thread(what: Callable[[], None]) -> None:
    thread = threading.Thread(target=what)
    thread.start()
    thread.join()


def _in_a_stage(meter: Meter) -> object:
    with meter.stage("of another thread"):
        return meter.only_stage and meter.only_stage.name


def test_the_meter_warns_once_and_counts_the_rest(meter: Meter, journal: MemoryJournal) -> None:
    journal.is_full = True
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(3):
            with meter.stage("train"):
                pass
    assert len(seen) == 1
    assert meter.lost_events == 6


def test_a_warning_stays_a_warning_where_warnings_are_errors(meter: Meter, journal: MemoryJournal) -> None:
    journal.is_full = True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.warns(MeterWarning), meter.stage("train"):
            pass


def test_queued_device_work_is_finished_before_each_mark(journal: MemoryJournal, clock: SteppingClock) -> None:
    meter = Meter(journal, clock, sync=lambda: clock.advance(NS_PER_S))
    with meter.stage("train"):
        pass
    assert [event["t_ns"] for event in journal.events] == [NS_PER_S, 2 * NS_PER_S]


def test_a_failing_synchronisation_is_warned_of_and_the_stage_goes_on(
    journal: MemoryJournal, clock: SteppingClock
) -> None:
    def broken() -> None:
        raise RuntimeError("CUDA error: device lost")

    meter = Meter(journal, clock, sync=broken)
    with pytest.warns(MeterWarning, match="stage edges may be early"), meter.stage("train"):
        pass
    assert [event["event"] for event in journal.events] == ["stage_started", "stage_ended"]


def test_a_forked_process_goes_on_with_a_journal_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the child of a fork, where every object is there twice and the stage belongs to the parent."""
    parents, childs, clock = MemoryJournal(), MemoryJournal(), SteppingClock()
    meter = Meter(parents, clock, prefix="a")
    with meter.stage("outer") as outer:
        outer.add_tokens(5)
        monkeypatch.setattr("stillwatt.metering.meter.os.getpid", lambda: -1)
        meter.go_on_forked(childs, "af1x")
        assert not outer.is_own
        outer.add_tokens(7)
        with meter.stage("inner"):
            pass
    assert [event["event"] for event in parents.events] == ["stage_started"]
    assert [(event["event"], event["stage_id"]) for event in childs.events] == [
        ("workload", "a1"),
        ("stage_started", "af1x1"),
        ("stage_ended", "af1x1"),
    ]
    assert childs.events[0]["counts"] == {"tokens": 7}
    assert childs.events[1]["parent_id"] == "a1"


def test_a_stage_says_what_another_machine_drew_for_it(clock: SteppingClock, journal: MemoryJournal) -> None:
    with Meter(journal, clock).stage("ask") as stage:
        stage.state_energy("endpoint", value_j=None, boundary="node", device="big at host", reason="nobody reads it")
    assert journal.named("stated_energy") == [
        {
            "event": "stated_energy", "t_ns": 0, "stage_id": stage.stage_id, "part": "endpoint", "is_elsewhere": True,
            "value_j": None, "boundary": "node", "device": "big at host", "reason": "nobody reads it",
        }
    ]  # fmt: skip
