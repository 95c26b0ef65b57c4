"""Posting what no healthy run leaves behind: doubled parts, circles, resets, times that run backwards."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from run_dirs import (
    FakeLiveness,
    SyntheticRun,
    SyntheticSession,
    constant_counter,
    constant_power,
    gpu_counter,
    gpu_power,
)
from stillwatt.ledger.conservation import conservation_findings
from stillwatt.ledger.post import build_record
from stillwatt.records import Absent, Boundary, Energy, NoTotal, Role, Total
from stillwatt.units import J_PER_MJ_MILLI

DEAD, ALIVE, UNKNOWN = FakeLiveness(False), FakeLiveness(True), FakeLiveness(None)


def _gpu_session(run: SyntheticRun, *, start_s: float = 100.0, until_s: float = 120.0) -> SyntheticSession:
    """A session whose GPU draws 200 W throughout."""
    session = run.session(start_s=start_s)
    session.sampler([gpu_counter()])
    session.samples("gpu0.energy_counter", constant_counter(200.0, J_PER_MJ_MILLI), until_s=until_s)
    return session


def test_a_part_booked_twice_or_read_though_absent_is_booked_once(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    session = run.session()
    gone = Absent(part="gpu0", boundary=Boundary.BOARD, reason="no permission")
    session.sampler([gpu_counter(), gpu_power(role=Role.LEDGER)], absent=[gone])
    session.samples("gpu0.energy_counter", constant_counter(200.0, J_PER_MJ_MILLI), until_s=112.0)
    session.samples("gpu0.power", constant_power(999.0), until_s=112.0)
    session.stage("train", 101.0, 105.0)
    session.end(111.0)
    record = build_record(run.path, liveness=DEAD)
    (energy,) = record.stages[0].energies
    assert isinstance(energy, Energy)
    assert math.isclose(energy.value_j, 800.0, abs_tol=1.0)
    assert any("already has" in warning for warning in record.warnings)
    assert any("no permission" in warning for warning in record.warnings)


def test_a_part_of_another_boundary_in_another_session_is_not_added(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    for start_s, boundary in ((100.0, Boundary.BOARD), (500.0, Boundary.CHIP)):
        session = run.session(start_s=start_s)
        session.sampler([replace(gpu_counter(), boundary=boundary)])
        session.samples("gpu0.energy_counter", constant_counter(200.0, J_PER_MJ_MILLI), until_s=start_s + 12.0)
        session.end(start_s + 11.0)
    record = build_record(run.path, liveness=DEAD)
    assert isinstance(record.total, NoTotal)
    assert not record.complete


def test_a_counter_reset_is_told(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    session = run.session()
    session.sampler([gpu_counter()])
    counter = constant_counter(200.0, J_PER_MJ_MILLI)
    session.samples("gpu0.energy_counter", lambda t_s: counter(t_s if t_s < 105.0 else t_s - 105.0), until_s=112.0)
    session.stage("train", 101.0, 110.0)
    session.end(111.0)
    record = build_record(run.path, liveness=DEAD)
    assert any("reset" in warning for warning in record.warnings)
    assert not record.complete


def test_an_idle_stage_that_was_cut_off_still_tells_idle_power(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    first = _gpu_session(run, until_s=112.0)
    first.stage("idle", 101.0, None, kind="idle_baseline")
    first.parent_lost(111.0)
    second = _gpu_session(run, start_s=500.0, until_s=512.0)
    second.stage("train", 501.0, 509.0)
    second.end(511.0)
    record = build_record(run.path, liveness=DEAD)
    assert isinstance(record.stages[1].net, Total)


def test_a_parent_that_names_itself_or_a_stranger_does_no_harm(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    session = _gpu_session(run)
    session.begin("own", 101.0, parent="a1")
    session.begin("later", 101.5, parent="a3")
    session.begin("strange", 102.0, parent="zz")
    session.parent_lost(115.0)
    record = build_record(run.path, liveness=DEAD)
    assert [stage.parent_id for stage in record.stages] == [None, None, "zz"]
    assert [stage.duration_s for stage in record.stages] == [14.0, 13.5, 13.0]
    assert list(conservation_findings(record)) == []


def test_a_stage_that_ends_before_it_starts_has_no_length(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    session = _gpu_session(run)
    session.stage("odd", 105.0, 104.0)
    session.end(119.0)
    record = build_record(run.path, liveness=DEAD)
    assert record.stages[0].duration_s == 0.0
    assert any("before it starts" in warning for warning in record.warnings)
    assert list(conservation_findings(record)) == []


def test_a_sampler_still_writing_after_the_program_ended(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    session = _gpu_session(run)
    session.end(119.0, sampler=False)
    assert build_record(run.path, liveness=ALIVE).warnings == ()
    assert any("sampling process was lost" in w for w in build_record(run.path, liveness=DEAD).warnings)
