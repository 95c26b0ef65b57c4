"""What a live run has spent so far, against a run whose joules are known; and the process that keeps looking."""

from __future__ import annotations

import io
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stillwatt
from fakes import fake_channel
from run_dirs import SyntheticRun, constant_counter, cpu_counter, gpu_counter
from stillwatt.clock import SystemClock
from stillwatt.ledger.gauge import LiveGauge
from stillwatt.ledger.spent import Spent, _power_w, spent_so_far, watch
from stillwatt.metering.series import Series
from stillwatt.units import J_PER_MJ_MILLI, J_PER_UJ, NS_PER_S, seconds

_OPTIONS = {"synthetic": {"channels": [{"watts": 100.0}]}}


def test_it_tells_what_the_books_will_say(tmp_path: Path) -> None:
    clock = SystemClock()
    with stillwatt.Run("live", runs_dir=tmp_path, sensors=("synthetic",), options=_OPTIONS, period_ms=20) as run:
        with LiveGauge(run.run_dir) as gauge, run.stage("train.sft", kind="student_train", labels={"arm": "sft"}):
            start_ns = clock.monotonic_ns()
            seen: Spent | None = None
            deadline_ns = start_ns + 20_000_000_000
            while (seen is None or seen.arms.get("sft", (0.0, 0.0))[1] < 1.5) and clock.monotonic_ns() < deadline_ns:
                time.sleep(0.05)
                seen = gauge.latest()
            assert seen is not None
            looking = [gauge.is_looking]
            arm_j, arm_s = seen.arms["sft"]
            assert arm_j == pytest.approx(100.0 * arm_s, rel=0.05)
            assert arm_s == pytest.approx(float(seconds(seen.t_ns - start_ns)), abs=0.05)
            assert seen.power_w == pytest.approx(100.0, rel=0.1)
            assert not seen.is_measured
        looking.append(gauge.is_looking)
    assert looking == [True, False]
    total, found = run.result.total, spent_so_far(run.run_dir)
    assert isinstance(total, stillwatt.records.Total)
    assert found.energy_j == pytest.approx(total.value_j, rel=1e-6)
    assert found.stages["train.sft"] == pytest.approx(found.arms["sft"])


def test_stages_inside_a_training_are_in_its_joules_and_cost_a_look_nothing(tmp_path: Path) -> None:
    with stillwatt.Run("live", runs_dir=tmp_path, sensors=("synthetic",), options=_OPTIONS, period_ms=20) as run:
        with run.stage("train.gkd", kind="student_train", labels={"arm": "gkd"}):
            for _ in range(5):
                with run.stage("student_generate"), run.stage("deep"):
                    time.sleep(0.02)
        with run.stage("evaluate.gkd", kind="evaluate"), run.stage("task"):
            time.sleep(0.1)
    record = run.result
    found = spent_so_far(run.run_dir)
    books = {stage.name: stage for stage in record.stages}
    assert len(record.stages) == 13
    assert isinstance(books["train.gkd"].gross, stillwatt.records.Total)
    assert found.arms["gkd"] == pytest.approx((books["train.gkd"].gross.value_j, books["train.gkd"].duration_s))
    assert isinstance(record.total, stillwatt.records.Total)
    assert found.energy_j == pytest.approx(record.total.value_j)
    assert set(found.stages) == {"train.gkd", "evaluate.gkd", "task"}


def test_a_stage_of_several_ranks_took_what_they_took_together(tmp_path: Path) -> None:
    with stillwatt.Run("live", runs_dir=tmp_path, sensors=("synthetic",), options=_OPTIONS, period_ms=20) as run:
        for rank, length_s in (("0", 0.2), ("1", 0.1)):
            with run.stage("evaluate.sft", kind="evaluate", labels={"rank": rank}):
                time.sleep(length_s)
    found = spent_so_far(run.run_dir)
    first, second = run.result.stages
    assert isinstance(first.gross, stillwatt.records.Total)
    assert isinstance(second.gross, stillwatt.records.Total)
    together_j = first.gross.value_j + second.gross.value_j
    assert found.stages["evaluate.sft"] == pytest.approx((together_j, first.duration_s))


def test_an_arm_that_ranks_train_has_trained_for_as_long_as_they_did(tmp_path: Path) -> None:
    """Two ranks side by side have used up their seconds once, all of their joules, and none of a lost try."""
    run = SyntheticRun(tmp_path)
    session = run.session(start_s=100.0)
    session.sampler([cpu_counter()])
    for attempt, status, begin_s in ((1, "failed", 101.0), (2, "ended", 111.0)):
        for rank, length_s in (("0", 4.0), ("1", 3.0)):
            ended = status if rank == "0" else "ended"
            own: dict[str, Any] = {"attempt": attempt, "status": ended, "labels": {"arm": "sft", "rank": rank}}
            session.stage("train.sft.1.0", begin_s, begin_s + length_s, kind="student_train", **own)
    session.samples("cpu0.energy_counter", constant_counter(50.0, J_PER_UJ), until_s=120.0)
    session.end(119.0)
    assert spent_so_far(run.path).arms["sft"] == pytest.approx((50.0 * 4.0, 4.0), rel=0.01)


@pytest.mark.parametrize(
    ("until_s", "period_s", "said"),
    [
        (160.0, 0.1, ""),
        (145.0, 0.1, "gpu0 has not been read for 14 s"),
        (155.0, 0.1, ""),
        (130.0, 10.0, ""),
        (None, 0.1, "gpu0: no readings of gpu0.energy_counter in this session"),
    ],
)
def test_a_part_that_nobody_reads_any_more_is_told_of(
    tmp_path: Path, until_s: float | None, period_s: float, said: str
) -> None:
    """Its joules would be carried on at a power that nobody sees; one that is read rarely is not taken for it."""
    run = SyntheticRun(tmp_path)
    session = run.session(start_s=100.0)
    session.sampler([cpu_counter(), gpu_counter()])
    session.samples("cpu0.energy_counter", constant_counter(50.0, J_PER_UJ), until_s=160.0)
    if until_s is not None:
        counts = constant_counter(300.0, J_PER_MJ_MILLI)
        session.period_s = period_s
        session.samples("gpu0.energy_counter", counts, until_s=until_s)
    session.end(159.0)
    assert spent_so_far(run.path).unread == said


def test_a_server_that_nobody_reads_is_no_part_that_went_silent(tmp_path: Path) -> None:
    said = {"device": "big at a server", "boundary": "node", "value_j": None, "reason": "read by nobody here"}
    with stillwatt.Run("live", runs_dir=tmp_path, sensors=("synthetic",), options=_OPTIONS, period_ms=20) as run:
        with run.stage("teacher_generate") as stage:
            stage.state_energy("endpoint", **said)
            time.sleep(0.1)
    found = spent_so_far(run.run_dir)
    assert isinstance(run.result.total, stillwatt.records.Total)
    assert (run.result.total.absent, found.unread) == (("endpoint",), "")


def test_a_looking_process_that_something_ended_is_started_again(tmp_path: Path) -> None:
    class Later:
        now_ns = 0

        def monotonic_ns(self) -> int:
            return self.now_ns

        def utc_ns(self) -> int:
            return self.now_ns

    clock = Later()
    with LiveGauge(tmp_path, clock) as gauge:
        first = gauge._process
        assert first is not None
        first.kill()
        first.wait()
        looking = []
        for now_ns in (0, 6 * NS_PER_S):
            clock.now_ns = now_ns
            gauge.latest()
            looking.append(gauge.is_looking)
        assert looking == [False, True], "not at once: it may end at once, too"


def test_a_run_that_cannot_be_read_says_why_and_the_looking_ends_with_its_program(tmp_path: Path) -> None:
    reading, writing = os.pipe()

    class Out(io.StringIO):
        def flush(self) -> None:
            os.close(writing)  # the measured program is gone

    out = Out()
    with os.fdopen(reading) as told:
        watch(tmp_path / "nowhere", told, out, SystemClock())
    (line,) = out.getvalue().splitlines()
    found = Spent.from_line(line)
    assert found.energy_j is None
    assert "nowhere" in found.why_not


def test_who_asks_has_a_look_taken(tmp_path: Path) -> None:
    reading, writing = os.pipe()

    class Out(io.StringIO):
        def flush(self) -> None:
            if self.getvalue().count("\n") < 3:
                os.write(writing, b"\n")
            else:
                os.close(writing)

    out = Out()
    with os.fdopen(reading) as told:
        watch(tmp_path / "nowhere", told, out, SystemClock())
    assert len(out.getvalue().splitlines()) == 3


def test_nobody_is_asked_twice_before_an_answer(tmp_path: Path) -> None:
    class Still:
        now_ns = NS_PER_S

        def monotonic_ns(self) -> int:
            return self.now_ns

        def utc_ns(self) -> int:
            return self.now_ns

    gauge = LiveGauge(tmp_path, Still())
    gauge.ask()  # nobody looks yet
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        gauge._process = process  # stands in for the looking process: gives back what it is told
        for _ in range(3):
            gauge.ask()
        assert process.stdin is not None
        process.stdin.close()
        assert process.stdout is not None
        assert process.stdout.read() == b"\n"


def test_lines_that_are_none_are_refused() -> None:
    for line in ("", "7", '{"arms": 3}', '{"arms": {}, "t_ns": 1}'):
        with pytest.raises(ValueError, match=r"no line|Expecting"):
            Spent.from_line(line)
    line = json.dumps(
        {"t_ns": 1, "energy_j": None, "power_w": 0.0, "duration_s": 0.0, "arms": {"a": [1, 2]}, "why_not": "x"}
    )
    assert Spent.from_line(line).arms == {"a": (1.0, 2.0)}


def test_power_is_that_since_the_look_before_and_of_two_seconds_at_least() -> None:
    t_ns = np.arange(0, 12 * NS_PER_S + 1, NS_PER_S // 10)
    series = Series(fake_channel(), t_ns, np.where(t_ns < 10 * NS_PER_S, 100.0, 200.0))
    assert _power_w(series, None) == pytest.approx(200.0, rel=0.01)
    assert _power_w(series, 11 * NS_PER_S) == pytest.approx(200.0, rel=0.01)
    assert _power_w(series, 4 * NS_PER_S) == pytest.approx(125.0, rel=0.01)
    assert _power_w(series, -NS_PER_S) == pytest.approx(100.0 + 200.0 / 12.0, rel=0.01)
