"""What another machine drew for a stage: in that stage, in the sums above it, and nowhere else (method.md, eq. 131)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from run_dirs import (
    FakeLiveness,
    SyntheticRun,
    SyntheticSession,
    constant_counter,
    constant_power,
    gpu_counter,
    gpu_power,
)
from stillwatt.analysis.bills import price
from stillwatt.ledger.conservation import conservation_findings
from stillwatt.ledger.post import build_record
from stillwatt.records import Boundary, NoTotal, RunRecord, StageRecord, Total
from stillwatt.records.energy import Absent, Energy
from stillwatt.records.finding import Bill

LOCAL_W = 100.0
REASON = "the server is read by nobody here"


def session_of(run: SyntheticRun, *, start_s: float = 100.0, until_s: float = 200.0) -> SyntheticSession:
    session = run.session(start_s=start_s)
    session.sampler([gpu_counter()])
    session.samples("gpu0.energy_counter", constant_counter(LOCAL_W, 0.001), until_s=until_s)
    return session


def state(session: SyntheticSession, t_s: float, stage: str, value_j: float | None, **said: Any) -> None:
    known = {"systematic_low_j": 0.75 * (value_j or 0.0), "systematic_high_j": 3.0 * (value_j or 0.0)}
    known |= {"basis": "modelled", "driver": "ecologits", "source": "a model"}  # type: ignore[dict-item]  # texts beside numbers
    session.program(
        "stated_energy", t_s, stage_id=stage, part="endpoint", device="big at host", boundary="node", value_j=value_j,
        is_elsewhere=True, **(known if value_j is not None else {"reason": REASON}), **said,
    )  # fmt: skip


def record_of(run: SyntheticRun) -> RunRecord:
    record = build_record(run.path, liveness=FakeLiveness(False))
    assert list(conservation_findings(record)) == []
    return record


def endpoint_of(stage: StageRecord) -> Energy | Absent | None:
    return next((energy for energy in stage.energies if energy.part == "endpoint"), None)


def total_j(total: Total | NoTotal) -> float:
    assert isinstance(total, Total), total
    return total.value_j


def test_what_is_said_last_counts_and_only_the_stage_and_the_run_have_it(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path)
    session = session_of(run)
    session.stage("before", 101.0, 111.0)
    stage = session.begin("teacher_generate", 112.0, kind="teacher_generate")
    for t_s, value_j in ((113.0, 0.0), (115.0, 40.0), (117.0, 400.0)):
        state(session, t_s, stage, value_j)
    session.finish(stage, 122.0)
    session.end(200.0)
    record = record_of(run)
    before, made = record.stages
    assert endpoint_of(before) is None
    assert total_j(before.gross) == pytest.approx(10 * LOCAL_W, rel=1e-3)
    energy = endpoint_of(made)
    assert isinstance(energy, Energy)
    assert (energy.value_j, energy.boundary, energy.coverage) == (400.0, Boundary.BOARD, 0.0)
    assert total_j(made.gross) == pytest.approx(10 * LOCAL_W + 400.0, rel=1e-3)
    bill = price({stage.stage_id: stage for stage in record.stages}, {made.stage_id: 1.0})
    assert isinstance(bill, Bill)
    assert isinstance(made.gross, Total)
    assert made.gross.complete
    assert bill.complete
    assert bill.value_j == pytest.approx(made.gross.value_j)
    assert made.gross.low_j == pytest.approx(made.gross.value_j - 300.0, abs=60.0)
    assert made.gross.high_j == pytest.approx(made.gross.value_j + 1200.0, abs=60.0)
    assert isinstance(record.total, Total)
    assert record.total.complete
    assert record.total.value_j == pytest.approx(100 * LOCAL_W + 400.0, rel=1e-3)


def test_what_nobody_knows_makes_the_stage_and_the_run_incomplete_and_no_other_stage(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path)
    session = session_of(run)
    session.stage("before", 101.0, 111.0)
    stage = session.begin("teacher_generate", 112.0, kind="teacher_generate")
    state(session, 113.0, stage, None)
    session.finish(stage, 122.0)
    session.end(200.0)
    record = record_of(run)
    before, made = record.stages
    assert endpoint_of(made) == Absent(part="endpoint", boundary=Boundary.BOARD, reason=REASON)
    assert isinstance(before.gross, Total)
    assert before.gross.complete
    bill = price({stage.stage_id: stage for stage in record.stages}, {made.stage_id: 1.0, before.stage_id: 1.0})
    assert isinstance(bill, Bill)
    assert bill.absent == (f"endpoint in teacher_generate: {REASON}",)
    for total in (made.gross, record.total):
        assert isinstance(total, Total)
        assert (total.complete, total.absent) == (False, ("endpoint",))
    assert total_j(made.gross) == pytest.approx(10 * LOCAL_W, rel=1e-3)


def test_a_stage_that_holds_the_one_that_asked_has_it_too(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path)
    session = session_of(run)
    outer = session.begin("outer", 101.0)
    session.stage("beside", 102.0, 105.0, parent=outer)
    inner = session.begin("teacher_generate", 112.0, parent=outer)
    state(session, 113.0, inner, 400.0)
    session.finish(inner, 122.0)
    state(session, 130.0, outer, 50.0)
    session.finish(outer, 150.0)
    session.end(200.0)
    record = record_of(run)
    found = {stage.name: endpoint_of(stage) for stage in record.stages}
    assert found["beside"] is None
    values = {name: each.value_j for name, each in found.items() if isinstance(each, Energy)}
    assert values == {"outer": 450.0, "teacher_generate": 400.0}
    assert total_j(record.total) == pytest.approx(100 * LOCAL_W + 450.0, rel=1e-3)


def test_a_killed_attempt_keeps_what_it_had_said_and_the_next_adds_its_own(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path)
    first = session_of(run, until_s=120.0)
    stage = first.begin("teacher_generate", 110.0, kind="teacher_generate")
    state(first, 111.0, stage, 0.0)
    state(first, 115.0, stage, 30.0)
    first.parent_lost(120.0)
    first.sampler_end(120.0)
    second = session_of(run, start_s=300.0, until_s=330.0)
    stage = second.begin("teacher_generate", 310.0, kind="teacher_generate", attempt=2)
    state(second, 311.0, stage, 12.0)
    second.finish(stage, 320.0)
    second.end(330.0)
    record = record_of(run)
    values = [each.value_j for stage in record.stages if isinstance(each := endpoint_of(stage), Energy)]
    assert values == [30.0, 12.0]
    assert isinstance(record.total, Total)
    assert record.total.value_j == pytest.approx(50 * LOCAL_W + 42.0, rel=1e-2)


def test_sessions_that_took_the_same_ids_keep_what_each_had_said(tmp_path: Path) -> None:
    """Workers without ranks are told apart by process numbers, which two nodes may give out alike."""
    run = SyntheticRun(tmp_path)
    for number, value_j in enumerate((30.0, 12.0)):
        session = run.session(start_s=100.0, host=f"node-{number}", boot=f"boot-{number}")
        session.prefix = "p7a"
        session.sampler([gpu_counter()])
        session.samples("gpu0.energy_counter", constant_counter(LOCAL_W, 0.001), until_s=130.0)
        stage = session.begin("teacher_generate", 110.0, kind="teacher_generate")
        state(session, 111.0, stage, value_j)
        session.finish(stage, 120.0)
        session.end(130.0)
    record = record_of(run)
    values = [each.value_j for stage in record.stages if isinstance(each := endpoint_of(stage), Energy)]
    assert values == [30.0, 12.0]
    assert total_j(record.total) == pytest.approx(60 * LOCAL_W + 42.0, rel=1e-3)


def test_it_stands_at_the_boundary_of_this_machines_own_sum(tmp_path: Path) -> None:
    """A meter at the node stays in the sum: what a server drew is added to it, and never takes its place."""
    run = SyntheticRun(tmp_path)
    session = run.session(start_s=100.0)
    session.sampler([replace(gpu_power(), part="node0", boundary=Boundary.NODE, role=gpu_counter().role)])
    session.samples("node0.power", constant_power(LOCAL_W), until_s=200.0)
    stage = session.begin("teacher_generate", 110.0)
    state(session, 111.0, stage, 400.0)
    session.finish(stage, 120.0)
    session.end(200.0)
    record = record_of(run)
    assert isinstance(record.total, Total)
    assert record.total.boundary is Boundary.NODE
    assert record.total.value_j == pytest.approx(100 * LOCAL_W + 400.0, rel=1e-3)


def test_net_of_idle_is_not_known_where_a_server_worked_since_nobody_knows_its_idle_power(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path)
    session = session_of(run)
    session.stage("idle_baseline", 101.0, 111.0, kind="idle_baseline")
    stage = session.begin("teacher_generate", 112.0)
    state(session, 113.0, stage, 400.0)
    session.finish(stage, 122.0)
    session.end(200.0)
    _idle, made = record_of(run).stages
    assert made.net == NoTotal(reason="no idle power for endpoint")
