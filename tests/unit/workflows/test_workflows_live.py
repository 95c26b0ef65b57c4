"""The public `Run`, with the real sampling process and a made-up instrument."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

import stillwatt
from stillwatt.errors import LedgerError, RunNotFoundError, RunsDirError, UnknownNameError, UsageError
from stillwatt.ledger.post import build_record
from stillwatt.ledger.rundir import list_run_dirs, session_prefix
from stillwatt.metering.meter import MeterWarning
from stillwatt.records import Absent, Energy, NoTotal, RunRecord, StageStatus, Total
from stillwatt.workflows.books import show_run

SYNTHETIC = ("synthetic",)


def test_result_and_ledger_say_the_same(runs_dir: Path) -> None:
    with (
        stillwatt.Run("twice", runs_dir=runs_dir, sensors=SYNTHETIC) as run,
        run.stage("teacher", kind="teacher_generate") as stage,
    ):
        stage.add_tokens(7)
        stage.add_tokens(5)
        stage.record({"note": "ü"})
        time.sleep(0.5)
    shown = subprocess.run(
        [sys.executable, "-m", "stillwatt", "ledger", "show", "latest", "--runs", str(runs_dir), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(shown.stdout) == run.result.to_dict()
    (teacher,) = run.result.stages
    assert teacher.workload == {"tokens": 12}
    assert teacher.results == {"note": "ü"}
    assert teacher.kind is stillwatt.StageKind.TEACHER_GENERATE


def test_books_close(runs_dir: Path) -> None:
    with stillwatt.Run("closing", runs_dir=runs_dir, sensors=SYNTHETIC) as run, run.stage("outer"):
        time.sleep(0.2)
        with run.stage("inner"):
            time.sleep(0.3)
        with run.stage("inner"):
            time.sleep(0.2)
    record = run.result
    outer, first, second = record.stages
    assert (outer.parent_id, first.parent_id, second.parent_id) == (None, outer.stage_id, outer.stage_id)
    assert (first.attempt, second.attempt) == (1, 2)
    assert first.name == second.name == "inner"
    total, unallocated = _value(record.total), _value(record.unallocated)
    assert _value(outer.gross) + unallocated == pytest.approx(total, rel=1e-9)
    assert _value(first.gross) + _value(second.gross) < _value(outer.gross)


def test_an_exception_goes_up_and_its_energy_stays(runs_dir: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        stillwatt.Run("raises", runs_dir=runs_dir, sensors=SYNTHETIC) as run,
        run.stage("breaks"),
    ):
        time.sleep(0.3)
        _ = 1 / 0
    (stage,) = run.result.stages
    assert stage.status is StageStatus.FAILED
    assert _value(stage.gross) > 0
    assert run.result.status is StageStatus.FAILED


def test_unknown_sensor_is_refused_before_anything_is_made(runs_dir: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'nvml'"):
        stillwatt.Run("typo", runs_dir=runs_dir, sensors=("nvmll",))
    assert not runs_dir.exists()


def test_unreadable_gpu_is_absent_and_the_run_goes_on(runs_dir: Path) -> None:
    options = {"nvml": {"library": "/nonexistent/libnvidia-ml.so.1"}}
    with stillwatt.Run("no-gpu", runs_dir=runs_dir, sensors=("nvml", "host_model"), options=options) as run:
        with run.stage("work"):
            time.sleep(0.3)
    (stage,) = run.result.stages
    (absent,) = [energy for energy in stage.energies if isinstance(energy, Absent)]
    assert absent.part == "gpu0"
    assert absent.reason
    assert not run.result.complete
    assert isinstance(stage.gross, Total)
    assert stage.gross.absent == ("gpu0",)


def test_with_nothing_readable_the_host_is_modelled_and_said_so(runs_dir: Path) -> None:
    options = {"rapl": {"root": "/nonexistent"}}
    with stillwatt.Run("no-rapl", runs_dir=runs_dir, sensors=("rapl",), options=options) as run, run.stage("work"):
        time.sleep(0.3)
    (stage,) = run.result.stages
    assert isinstance(stage.gross, Total)
    assert stage.gross.basis is stillwatt.Basis.MODELLED
    (rapl,) = [probe for probe in run.result.probes if probe.driver == "rapl"]
    assert not rapl.usable
    assert "/nonexistent" in rapl.detail


def test_a_run_is_entered_before_it_measures(runs_dir: Path) -> None:
    run = stillwatt.Run("outside", runs_dir=runs_dir)
    with pytest.raises(RuntimeError, match="with"), run.stage("never"):
        pass


def test_a_result_asked_for_too_early_is_not_the_one_that_stays(runs_dir: Path) -> None:
    with stillwatt.Run("early", runs_dir=runs_dir, sensors=SYNTHETIC) as run:
        with run.stage("first"):
            time.sleep(0.2)
        early = run.result
        assert ([stage.name for stage in early.stages], early.status) == (["first"], StageStatus.RUNNING)
        with run.stage("second"):
            time.sleep(0.2)
    assert [stage.name for stage in run.result.stages] == ["first", "second"]
    assert run.result.status is StageStatus.ENDED
    assert run.result is run.result
    with run, run.stage("again"):
        time.sleep(0.2)
    assert [stage.name for stage in run.result.stages] == ["again"]


def test_losing_the_sampler_is_not_an_exception(runs_dir: Path) -> None:
    with pytest.warns(stillwatt.MeterWarning) as caught:
        with stillwatt.Run("lost-sampler", runs_dir=runs_dir, sensors=SYNTHETIC) as run, run.stage("work"):
            time.sleep(0.6)
            assert run._sampler is not None
            sampler = run._sampler.process
            assert sampler is not None
            os.kill(sampler.pid, signal.SIGKILL)
            sampler.wait()
            time.sleep(0.3)
    assert len(caught) == 1
    assert any("the sampling process was lost" in warning for warning in run.result.warnings)
    assert run.result.gaps or not run.result.complete
    assert run.result.warnings


def test_a_sampler_that_cannot_start_is_a_warning(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.warns(stillwatt.MeterWarning, match="cannot be started"):
        with stillwatt.Run("no-sampler", runs_dir=runs_dir, sensors=SYNTHETIC) as run, run.stage("work"):
            pass
    (stage,) = run.result.stages
    assert isinstance(stage.gross, NoTotal)
    assert not run.result.complete


def test_kill_nine_keeps_all_but_the_last_second(runs_dir: Path) -> None:
    script = textwrap.dedent(
        f"""
        import os, signal, time, stillwatt
        with stillwatt.Run("killed", runs_dir={str(runs_dir)!r}, sensors=("synthetic",)) as run:
            with run.stage("done"):
                time.sleep(0.4)
            with run.stage("cut-off") as stage:
                for _ in range(15):
                    time.sleep(0.1)
                    stage.add_tokens(10)
                os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL
    record = _settled(runs_dir, "killed")
    finished, cut = record.stages
    assert finished.status is StageStatus.ENDED
    assert cut.status is StageStatus.RECOVERED
    assert cut.duration_s == pytest.approx(1.5, abs=1.0)
    assert cut.workload["tokens"] >= 50
    energy = cut.energies[0]
    assert isinstance(energy, Energy)
    assert energy.value_j > 0
    assert any("recovered" in warning or "lost" in warning for warning in record.warnings)


def test_a_full_disk_stops_neither_the_program_nor_the_account(runs_dir: Path) -> None:
    """A file-size limit stands in for the full disk: the same write fails the same way."""
    script = textwrap.dedent(
        f"""
        import resource, time, warnings, stillwatt
        warnings.simplefilter("ignore")
        with stillwatt.Run("full", runs_dir={str(runs_dir)!r}, sensors=("synthetic",)) as run:
            with run.stage("before"):
                time.sleep(0.3)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1200, 1200))
            for n in range(40):
                with run.stage(f"after-{{n}}"):
                    pass
        print("program finished", run.meter.lost_events > 0)
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "program finished True\n", done.stderr
    record = _settled(runs_dir, "full")
    assert record.stages[0].name == "before"
    assert record.stages[0].status is StageStatus.ENDED
    assert record.status is StageStatus.RECOVERED, "the session's end could not be written"
    assert record.warnings


def test_whoever_shares_a_word_without_numbers_shares_the_run_however_often_it_comes(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a worker of Ray does that is given one task after the other; the run's account grows with each."""
    monkeypatch.setenv("STILLWATT_RUN_GROUP", "sweep")
    counts = []
    again = stillwatt.Run("task", runs_dir=runs_dir, sensors=("synthetic",))
    for run in (again, again, stillwatt.Run("task", runs_dir=runs_dir, sensors=("synthetic",))):
        with run, run.stage("work"):
            pass
        counts.append((run.run_id, len(run.result.stages), len(again.result.stages)))
    assert counts == [(again.run_id, n, n) for n in (1, 2, 3)]
    record = again.result
    assert record.status is StageStatus.ENDED
    assert not [warning for warning in record.warnings if "stage ids" in warning]
    with stillwatt.Run("other name", runs_dir=runs_dir, sensors=("synthetic",)) as other:
        assert other.run_id != again.run_id


def test_a_further_program_of_a_rank_has_a_run_of_its_own(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `stillwatt measure` opens, called by a rank that has a run."""
    for name, value in {"RUN_GROUP": "job", "RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(f"STILLWATT_{name}", value)
    monkeypatch.setenv("STILLWATT_RANK_PROCESS", "")  # so that it is put back
    call = "import stillwatt, sys\nwith stillwatt.Run('eval', runs_dir=sys.argv[1], sensors=('synthetic',)): pass"
    with stillwatt.Run("train", runs_dir=runs_dir, sensors=("synthetic",)):
        subprocess.run([sys.executable, "-c", call, str(runs_dir)], check=True)
    records = {record.name: record for record in map(build_record, list_run_dirs(runs_dir))}
    assert any("1 of 2 ranks have no journal here (1)" in warning for warning in records["train"].warnings)
    assert records["eval"].complete, records["eval"].warnings


def test_stage_ids_of_sessions_do_not_meet() -> None:
    prefixes = [session_prefix(number) for number in range(1000)]
    assert len(set(prefixes)) == len(prefixes)


def _value(total: Total | NoTotal) -> float:
    assert isinstance(total, Total)
    return total.value_j


def _settled(runs_dir: Path, name: str) -> RunRecord:
    """The record once the orphaned sampling process has written its last line."""
    deadline = time.monotonic() + 10
    while True:
        record = show_run(runs_dir, name)
        journals: list[dict[str, Any]] = []
        for path in (runs_dir / record.run_id).glob("journal.*.meter.jsonl"):
            journals += [json.loads(line) for line in path.read_text().splitlines()]
        if any(event["event"] == "sampler_ended" for event in journals) or time.monotonic() > deadline:
            return show_run(runs_dir, name)
        time.sleep(0.1)


def test_a_sampling_process_that_cannot_measure_says_why(runs_dir: Path) -> None:
    options: dict[str, dict[str, object]] = {"synthetic": {"channels": []}}
    with pytest.warns(MeterWarning, match=r"cannot measure \(sensor 'synthetic': needs channels"):
        with stillwatt.Run("odd", runs_dir=runs_dir, sensors=("synthetic",), options=options) as run:
            pass
    assert not run.result.complete


def test_the_idle_machine_is_measured_at_both_ends_and_where_asked(runs_dir: Path) -> None:
    with stillwatt.Run("idle", runs_dir=runs_dir, sensors=SYNTHETIC, idle_s=0.3) as run:
        with run.stage("work"):
            run.idle(0.0)
        run.idle(0.1)
    stages = [(stage.name, stage.kind.value) for stage in run.result.stages]
    idle = "idle_baseline"
    assert stages == [("idle_baseline", idle), ("work", "other"), ("idle", idle), ("idle_after", idle)]
    assert isinstance(run.result.stages[1].net, Total)


def test_a_run_that_fails_does_not_wait_for_an_idle_machine(runs_dir: Path) -> None:
    with pytest.raises(KeyError), stillwatt.Run("idle", runs_dir=runs_dir, sensors=SYNTHETIC, idle_s=0.1) as run:
        raise KeyError("x")
    assert [stage.name for stage in run.result.stages] == ["idle_baseline"]


@pytest.mark.parametrize(
    "asked",
    [
        {"period_ms": 0},
        {"period_ms": "100"},
        {"period_ms": float("nan")},
        {"period_ms": None},
        {"period_ms": True},
        {"slow_after_s": "3"},
        {"slow_after_s": -1.0},
    ],
)
def test_what_is_no_length_of_time_is_refused_before_anything_runs(asked: dict[str, Any], runs_dir: Path) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(asked))}=.* is no length of time"):
        stillwatt.Run("x", runs_dir=runs_dir, sensors=SYNTHETIC, **asked)


def test_sensors_in_one_text_and_names_that_are_numbers_are_taken(runs_dir: Path) -> None:
    with stillwatt.Run(7, runs_dir=runs_dir, sensors="synthetic") as run, run.stage("work"):  # type: ignore[arg-type]  # as a program without types gives it
        run.mark(3)  # type: ignore[arg-type]  # the same
    assert (run.result.name, [stage.name for stage in run.result.stages]) == ("7", ["work"])
    with pytest.raises(UnknownNameError, match="did you mean 'nvml'"):
        stillwatt.Run("x", runs_dir=runs_dir, sensors="nvlm")


def test_a_run_that_has_not_begun_says_so_when_asked_for_its_result(runs_dir: Path) -> None:
    with pytest.raises(LedgerError, match="'early' has not begun"):
        _ = stillwatt.Run("early", runs_dir=runs_dir).result


def test_a_wait_that_is_interrupted_ends_the_session_and_its_sampling_process(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("stillwatt.workflows.live.rest", interrupted)
    run = stillwatt.Run("idle", runs_dir=runs_dir, sensors=SYNTHETIC, idle_s=0.1)
    with pytest.raises(KeyboardInterrupt), run:
        pass
    assert run.result.status is StageStatus.FAILED


def test_a_start_that_is_interrupted_ends_the_session_and_its_sampling_process(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("stillwatt.workflows.sampling_process.first_line", interrupted)
    run = stillwatt.Run("started", runs_dir=runs_dir, sensors=SYNTHETIC)
    with pytest.raises(KeyboardInterrupt), run:
        pass
    assert run.result.status is StageStatus.FAILED
    assert not any("lost" in warning for warning in run.result.warnings)
    assert run.result.total == NoTotal(reason="it ended before anything was read")


@pytest.mark.parametrize("below", ["", "runs"])
def test_a_folder_that_no_run_can_be_kept_in_is_refused_with_a_cure(tmp_path: Path, below: str) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    with pytest.raises(RunsDirError, match=r"notes\.txt.*`runs_dir`.*`--runs`") as raised:
        stillwatt.Run("nowhere", runs_dir=file / below, sensors=SYNTHETIC).__enter__()
    assert isinstance(raised.value, OSError)
    assert raised.value.errno
    assert file.read_text() == "mine"


def test_a_session_whose_journal_cannot_be_opened_is_refused_with_a_cure(runs_dir: Path) -> None:
    with pytest.raises(RunsDirError, match="gone-1"):
        stillwatt.Run("again", runs_dir=runs_dir, run_id="gone-1", sensors=SYNTHETIC).__enter__()


def test_a_run_whose_directory_goes_away_goes_on(runs_dir: Path) -> None:
    with stillwatt.Run("swept", runs_dir=runs_dir, sensors=SYNTHETIC) as run:
        with run.stage("before") as stage:
            stage.add_tokens(1)
        shutil.rmtree(runs_dir)
        with run.stage("after") as stage:
            stage.add_tokens(1)
            stage.record({"score": 1})
            time.sleep(1.2)
    with pytest.raises(RunNotFoundError):
        _ = run.result


def _said_by(script: str, runs_dir: Path) -> list[str]:
    """What a program of its own prints; it must end well."""
    program = textwrap.dedent(script).replace("RUNS", repr(str(runs_dir)))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("disposition", ["SIG_DFL", "SIG_IGN"])
def test_a_program_that_ends_on_a_broken_pipe_survives_its_sampling_process(runs_dir: Path, disposition: str) -> None:
    script = f"""
        import os, signal, subprocess, sys, warnings, stillwatt
        warnings.simplefilter("ignore")
        signal.signal(signal.SIGPIPE, signal.{disposition})
        sys.stderr = open(os.devnull, "w")
        with stillwatt.Run("p", runs_dir=RUNS, sensors=("synthetic",)) as run:
            os.kill(run._sampler.process.pid, signal.SIGKILL)
            run._sampler.process.stdout.read()
            with run.stage("train"):
                print("training", flush=True)
        assert signal.getsignal(signal.SIGPIPE) == signal.{disposition}
        assert signal.SIGPIPE not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
        assert signal.SIGPIPE not in signal.sigpending()
        print("done")
    """
    assert _said_by(script, runs_dir) == ["training", "done"]


def test_tokens_that_forked_workers_count_are_all_counted(runs_dir: Path) -> None:
    """Workers that end in their own way, that are ended by their pool, and that leave at once."""
    script = """
        import multiprocessing, os, stillwatt
        def work(number):
            for _ in range(10):
                stage.add_tokens(10)
            return number
        context = multiprocessing.get_context("fork")
        with stillwatt.Run("forks", runs_dir=RUNS, sensors=("synthetic",)) as run:
            with run.stage("generate", kind="teacher_generate") as stage:
                workers = [context.Process(target=work, args=(number,)) for number in range(2)]
                for worker in workers:
                    worker.start()
                for worker in workers:
                    worker.join()
                with context.Pool(2) as pool:
                    pool.map(work, range(4), chunksize=1)
                child = os.fork()
                if not child:
                    work(0)
                    os._exit(0)
                os.waitpid(child, 0)
        print(run.result.stages[0].workload)
    """
    assert _said_by(script, runs_dir) == ["{'tokens': 700}"]


def test_what_a_program_should_not_have_handed_over_is_in_the_runs_record(runs_dir: Path) -> None:
    with pytest.warns(MeterWarning), stillwatt.Run("odd", runs_dir=runs_dir, sensors=SYNTHETIC) as run:
        with run.stage("evaluate") as stage:
            stage.record({"scores": object(), "loss": float("nan")})
            stage.add_tokens(-1)
        run.note("the data came twice")
    (record,) = run.result.stages
    assert record.results == {"loss": "nan"}
    told = [warning for warning in run.result.warnings if "left out" in warning or "twice" in warning]
    assert len(told) == 3
    assert run.result.complete
