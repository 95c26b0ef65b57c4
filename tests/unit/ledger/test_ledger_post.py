"""Posting: which stages ended how, what is whole, and what is said of the rest."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from run_dirs import (
    BOOT,
    EPOCH_UTC_NS,
    HOST,
    FakeLiveness,
    SyntheticRun,
    SyntheticSession,
    constant_counter,
    constant_power,
    cpu_counter,
    dram_model,
    gpu_counter,
    gpu_power,
    quick_run,
)
from stillwatt.clock import iso_utc
from stillwatt.errors import LedgerError
from stillwatt.ledger.post import build_record
from stillwatt.ledger.segments import seal
from stillwatt.ledger.segments_raw import raw_path
from stillwatt.records import Absent, Boundary, Energy, NoTotal, RunRecord, StageStatus, Total
from stillwatt.units import J_PER_MJ_MILLI, J_PER_UJ, NS_PER_S

DEAD, ALIVE, UNKNOWN = FakeLiveness(False), FakeLiveness(True), FakeLiveness(None)


def _gpu_session(run: SyntheticRun, *, start_s: float = 100.0, until_s: float = 120.0) -> SyntheticSession:
    """A session whose GPU draws 200 W throughout."""
    session = run.session(start_s=start_s)
    session.sampler([gpu_counter()])
    session.samples("gpu0.energy_counter", constant_counter(200.0, J_PER_MJ_MILLI), until_s=until_s)
    return session


def _gross_j(record: RunRecord, stage_id: str) -> float:
    gross = next(stage.gross for stage in record.stages if stage.stage_id == stage_id)
    assert isinstance(gross, Total)
    return gross.value_j


def test_a_finished_run(runs_dir: Path) -> None:
    record = build_record(quick_run(runs_dir).path, liveness=DEAD)
    assert [stage.name for stage in record.stages] == [
        "idle_baseline",
        "teacher_logits",
        "train.sft.1.0",
        "evaluate.sft.1.0",
    ]
    assert record.status is StageStatus.ENDED
    assert (record.complete, record.warnings, record.gaps) == (True, (), 0)
    # 120 W idle; 320 W for the teacher; 220 W for the student: GPU and CPU together, 4 s each
    assert math.isclose(_gross_j(record, "a1"), 480.0, abs_tol=5.0)
    assert math.isclose(_gross_j(record, "a2"), 1280.0, abs_tol=5.0)
    assert math.isclose(_gross_j(record, "a3"), 880.0, abs_tol=5.0)
    assert math.isclose(_gross_j(record, "a4"), 220.0, abs_tol=5.0)
    net = [stage.net for stage in record.stages]
    assert [round(each.value_j, -1) if isinstance(each, Total) else None for each in net] == [0.0, 800.0, 400.0, 100.0]
    assert isinstance(record.total, Total)
    assert isinstance(record.unallocated, Total)
    outermost_j = sum(_gross_j(record, stage_id) for stage_id in ("a1", "a2", "a3"))
    assert math.isclose(outermost_j + record.unallocated.value_j, record.total.value_j, rel_tol=1e-12)
    assert record.stages[2].workload == {"tokens": 2048, "steps": 4}
    assert record.stages[3].parent_id == "a3"
    assert record.start_utc == iso_utc(EPOCH_UTC_NS + 100 * 10**9)
    assert record.stages[1].start_utc == iso_utc(EPOCH_UTC_NS + 106 * 10**9)
    assert record.meter["sessions"] == 1
    assert {trace.part for trace in record.traces} == {"gpu0", "cpu0"}
    assert [(span.start_s, span.end_s) for span in record.spans][:2] == [(1.0, 5.0), (6.0, 10.0)]


def test_without_an_idle_stage_there_is_no_net(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    session = _gpu_session(run)
    session.stage("train", 101.0, 105.0)
    session.end(119.0)
    (stage,) = build_record(run.path, liveness=DEAD).stages
    assert isinstance(stage.net, NoTotal)
    assert "idle_baseline" in stage.net.reason


def test_the_sampling_process_starting_late_is_no_missing_time(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    session = run.session(start_s=90.0)
    session.sampler([gpu_counter()], t_s=99.9)
    session.samples("gpu0.energy_counter", constant_counter(200.0, J_PER_MJ_MILLI), from_s=100.0, until_s=110.0)
    session.stage("train", 101.0, 105.0)
    session.end(109.0)
    record = build_record(run.path, liveness=DEAD)
    assert record.complete
    assert record.duration_s == 19.0
    assert isinstance(record.total, Total)
    assert math.isclose(record.total.value_j, 200.0 * 9.0, abs_tol=1.0)


def test_a_stage_before_the_first_sample_is_not_complete(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    session = run.session(start_s=90.0)
    session.sampler([gpu_counter()], t_s=99.9)
    session.samples("gpu0.energy_counter", constant_counter(200.0, J_PER_MJ_MILLI), from_s=100.0, until_s=110.0)
    session.stage("train", 91.0, 105.0)
    session.end(109.0)
    record = build_record(run.path, liveness=DEAD)
    assert not record.complete
    (energy,) = record.stages[0].energies
    assert isinstance(energy, Energy)
    assert energy.missing_s > 7.9


def test_kill_of_the_program_alone(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    session = _gpu_session(run)
    outer = session.begin("outer", 101.0)
    session.stage("done", 102.0, 103.0, parent=outer)
    session.stage("cut", 104.0, None, parent=outer)
    session.parent_lost(115.0)
    record = build_record(run.path, liveness=DEAD)
    assert [stage.status.value for stage in record.stages] == ["recovered", "ended", "recovered"]
    assert record.status is StageStatus.RECOVERED
    assert [stage.duration_s for stage in record.stages] == [14.0, 1.0, 11.0]
    assert record.complete, "the sampling process saw it to the end"
    assert any("lost" in warning for warning in record.warnings)
    assert math.isclose(_gross_j(record, "a1"), 2800.0, abs_tol=1.0)


def test_kill_of_both_processes_ends_at_the_last_sign_of_life(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    session = _gpu_session(run, until_s=112.0)
    session.stage("train", 101.0, None)
    session.program("workload", 111.0, stage_id="a1", counts={"tokens": 7})
    session.program("workload", 111.5, stage_id="a1", counts={"tokens": 0.5})
    record = build_record(run.path, liveness=DEAD)
    (stage,) = record.stages
    assert stage.status is StageStatus.RECOVERED
    assert math.isclose(stage.duration_s, 11.0)
    assert stage.workload == {"tokens": 7.5}
    assert any("sampling process was lost" in warning for warning in record.warnings)


@pytest.mark.parametrize("liveness", [ALIVE, UNKNOWN])
def test_a_session_that_lives_is_running(runs_dir: Path, liveness: FakeLiveness) -> None:
    run = SyntheticRun(runs_dir)
    session = _gpu_session(run, until_s=112.0)
    session.stage("done", 101.0, 102.0)
    session.stage("train", 103.0, None)
    record = build_record(run.path, liveness=liveness)
    assert [stage.status for stage in record.stages] == [StageStatus.ENDED, StageStatus.RUNNING]
    assert record.status is StageStatus.RUNNING
    assert not record.complete
    assert bool(record.warnings) is (liveness is UNKNOWN)


def test_a_child_left_open_ends_with_its_parent(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    session = _gpu_session(run)
    outer = session.begin("outer", 101.0)
    middle = session.begin("middle", 102.0, parent=outer)
    session.begin("inner", 103.0, parent=middle)
    session.finish(outer, 106.0, status="failed", error="ValueError: no")
    session.end(119.0, status="failed")
    record = build_record(run.path, liveness=DEAD)
    assert [stage.status.value for stage in record.stages] == ["failed", "recovered", "recovered"]
    assert [stage.duration_s for stage in record.stages] == [5.0, 4.0, 3.0]
    assert record.status is StageStatus.FAILED
    assert any("ValueError: no" in warning for warning in record.warnings)


def test_a_resumed_run_adds_its_sessions(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    first = _gpu_session(run, until_s=112.0)
    first.stage("idle", 100.5, 104.5, kind="idle_baseline")
    first.stage("train", 105.0, None, kind="student_train")
    first.parent_lost(111.0)
    second = _gpu_session(run, start_s=500.0, until_s=512.0)
    second.stage("train", 501.0, 509.0, kind="student_train", attempt=2)
    second.end(511.0)
    record = build_record(run.path, liveness=DEAD)
    assert [(stage.stage_id, stage.attempt, stage.status.value) for stage in record.stages] == [
        ("a1", 1, "ended"),
        ("a2", 1, "recovered"),
        ("b1", 2, "ended"),
    ]
    assert record.status is StageStatus.ENDED
    assert record.duration_s == 22.0
    assert record.meter["sessions"] == 2
    assert isinstance(record.total, Total)
    assert math.isclose(record.total.value_j, 200.0 * 22.0, abs_tol=1.0)
    assert isinstance(record.stages[2].net, Total), "the idle stage of the first session serves the second"
    assert math.isclose(record.stages[2].net.value_j, 0.0, abs_tol=2.0)
    assert all("session 1 of 2" in warning for warning in record.warnings)


def test_stage_ids_taken_twice_stay_apart(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    for start_s in (100.0, 500.0):
        session = _gpu_session(run, start_s=start_s, until_s=start_s + 12)
        session.prefix = "a"
        outer = session.begin("outer", start_s + 1)
        session.stage("inner", start_s + 2, start_s + 3, parent=outer)
        session.finish(outer, start_s + 4)
        session.end(start_s + 11)
    record = build_record(run.path, liveness=DEAD)
    ids = [stage.stage_id for stage in record.stages]
    assert len(set(ids)) == 4
    assert record.stages[3].parent_id == ids[2]
    assert any("reuses stage ids" in warning for warning in record.warnings)


def test_absent_parts_are_absent_and_named(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    session = run.session()
    session.sampler(
        [gpu_power("gpu1"), cpu_counter()],
        absent=[Absent(part="dram0", boundary=Boundary.CHIP, reason="no counter for it")],
    )
    session.samples("cpu0.energy_counter", constant_counter(20.0, J_PER_UJ), until_s=112.0)
    session.samples("gpu1.power", constant_power(50.0), until_s=112.0)
    session.stage("train", 101.0, 105.0)
    session.end(111.0)
    record = build_record(run.path, liveness=DEAD)
    by_part = {energy.part: energy for energy in record.stages[0].energies}
    assert isinstance(by_part["cpu0"], Energy)
    assert by_part["dram0"] == Absent(part="dram0", boundary=Boundary.CHIP, reason="no counter for it")
    witness_only = by_part["gpu1"]
    assert isinstance(witness_only, Absent)
    assert "witness" in witness_only.reason
    assert isinstance(record.total, Total)
    assert set(record.total.absent) == {"dram0", "gpu1"}
    assert not record.complete


def test_a_channel_without_samples_is_absent_not_zero(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    session = _gpu_session(run)
    session.sampler([gpu_counter(), dram_model()])
    session.stage("train", 101.0, 105.0)
    session.end(119.0)
    record = build_record(run.path, liveness=DEAD)
    assert [type(energy) for energy in record.stages[0].energies] == [Energy, Absent]
    assert not record.complete


def test_no_sampling_process_at_all(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    session = run.session()
    session.stage("train", 101.0, 105.0)
    session.end(111.0, sampler=False)
    record = build_record(run.path, liveness=DEAD)
    assert isinstance(record.total, NoTotal)
    assert isinstance(record.stages[0].gross, NoTotal)
    assert not record.complete
    assert "cpu_s" not in record.meter
    assert any("no sampling process" in warning for warning in record.warnings)


def test_a_directory_with_nothing_but_a_manifest(runs_dir: Path) -> None:
    record = build_record(SyntheticRun(runs_dir).path, liveness=DEAD)
    assert (record.stages, record.complete, record.status) == ((), False, StageStatus.RECOVERED)
    assert isinstance(record.total, NoTotal)
    assert record.warnings


def test_a_lost_program_journal_keeps_the_energy(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    session = _gpu_session(run, until_s=112.0)
    session.sampler_end(111.0)
    session.program_path.unlink()
    record = build_record(run.path, liveness=DEAD)
    assert isinstance(record.unallocated, Total)
    assert math.isclose(record.unallocated.value_j, 200.0 * 12.0, abs_tol=1.0)
    assert any("no start of session" in warning for warning in record.warnings)


def test_a_lost_anchor_is_replaced_by_the_end_of_the_session(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    session = run.session(anchor=False)
    session.sampler([gpu_counter()])
    session.samples("gpu0.energy_counter", constant_counter(200.0, J_PER_MJ_MILLI), until_s=112.0)
    session.stage("train", 101.0, 105.0)
    session.end(111.0)
    (stage,) = build_record(run.path, liveness=DEAD).stages
    assert stage.start_utc == iso_utc(EPOCH_UTC_NS + 101 * 10**9)


def test_results_merge_and_unknown_stages_are_named(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    session = _gpu_session(run)
    stage_id = session.stage("train", 101.0, 105.0, results={"a": 1, "b": [1, {"c": None}]})
    session.program("result", 106.0, stage_id=stage_id, results={"a": 2})
    session.program("workload", 106.0, stage_id="nobody", counts={"tokens": 1})
    session.program("warning", 107.0, message="two\nlines")
    session.program("future_event", 108.0)
    session.end(119.0)
    record = build_record(run.path, liveness=DEAD)
    assert record.stages[0].results == {"a": 2, "b": [1, {"c": None}]}
    assert any("nobody" in warning for warning in record.warnings)
    assert "two lines" in record.warnings
    assert any("future_event" in warning for warning in record.warnings)


def test_sleep_and_a_set_clock_are_said_and_change_no_length(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir, name="slept")
    session = _gpu_session(run)
    stage_id = session.stage("train", 101.0, 105.0)
    session.meter("clock_step", 103.1, kind="asleep", start_ns=103 * NS_PER_S, step_s=3600.0)
    session.meter("clock_step", 104.0, kind="wall_clock_set", start_ns=103 * NS_PER_S, step_s=-5.0)
    session.end(106.0)
    record = build_record(run.path, liveness=DEAD)
    assert _gross_j(record, stage_id) == pytest.approx(800.0, rel=0.01)
    slept, was_set = record.warnings
    assert "slept for 3600 s, 3 s after the session's start" in slept
    assert "set back by 5.0 s" in was_set


def test_gaps_are_summed_up_by_stream(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    session = _gpu_session(run)
    session.gap("gpu0.energy_counter", 103.0, 103.5, failed_reads=2, reason="timed out")
    session.gap("gpu0.energy_counter", 104.0, 104.5, failed_reads=3, reason="other")
    session.stage("train", 101.0, 105.0)
    session.end(119.0)
    record = build_record(run.path, liveness=DEAD)
    assert record.gaps == 2
    (warning,) = record.warnings
    assert "2 gaps of 1 s in all, 5 failed reads; first reason: timed out" in warning
    (energy,) = record.stages[0].energies
    assert isinstance(energy, Energy)
    assert energy.failed_reads == 5


def test_a_torn_tail_is_said_and_the_same_after_sealing(runs_dir: Path) -> None:
    run = quick_run(runs_dir)
    (name,) = {path.name.split(".")[1] for path in run.path.glob("journal.*.jsonl")}
    with raw_path(run.path, name, "gpu0.power").open("ab") as file:
        file.write(b"torn")
    with (run.path / f"journal.{name}.jsonl").open("ab") as file:
        file.write(b'{"event":"warn')
    before = build_record(run.path, liveness=DEAD)
    assert sum("torn" in warning for warning in before.warnings) == 2
    assert len(seal(run.path, name, {"gpu0.power": gpu_power(), "cpu0.energy_counter": cpu_counter()})) == 2
    assert build_record(run.path, liveness=DEAD) == before


def test_a_renamed_directory_goes_by_its_new_name(runs_dir: Path) -> None:
    run = quick_run(runs_dir)
    record = build_record(run.path.rename(runs_dir / "other"), liveness=DEAD)
    assert record.run_id == "other"
    assert any("renamed" in warning for warning in record.warnings)


@pytest.mark.parametrize("created", ["yesterday", "2026-13-01T00:00:00Z"])
def test_a_manifest_without_a_time_is_refused(runs_dir: Path, created: str) -> None:
    run = quick_run(runs_dir)
    manifest = run.path / "manifest.json"
    manifest.write_text(manifest.read_text().replace("2026-01-01T00:00:01.000Z", created))
    with pytest.raises(LedgerError, match="created_utc"):
        build_record(run.path, liveness=DEAD)


def test_the_real_host_calls_a_foreign_session_unknown(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    session = run.session(host=HOST, boot=BOOT)
    session.sampler([gpu_counter()])
    session.samples("gpu0.energy_counter", constant_counter(200.0, J_PER_MJ_MILLI), until_s=112.0)
    record = build_record(run.path)
    assert record.status is StageStatus.RUNNING
    assert any("cannot be told" in warning for warning in record.warnings)


@pytest.mark.parametrize("error", ["interrupted", "KeyboardInterrupt: "])  # the second by earlier versions
def test_a_rest_that_was_cut_short_is_told_in_a_sentence_and_other_stages_failed(runs_dir: Path, error: str) -> None:
    run = SyntheticRun(runs_dir)
    session = _gpu_session(run)
    rest_id = session.stage("idle_before", 101.0, 103.25, kind="idle_baseline", status="failed", error=error)
    work_id = session.stage("train", 104.0, 105.0, status="failed", error=error)
    session.end(120.0)
    told = build_record(run.path).warnings
    rest = f"idle stage 'idle_before' ({rest_id}) was interrupted after 2.25 s, before the time asked for was over"
    assert [line for line in told if "idle_before" in line] == [rest]
    assert [line for line in told if "train" in line] == [f"stage 'train' ({work_id}) failed: {error.strip()}"]
