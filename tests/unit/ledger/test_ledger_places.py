"""Sessions side by side on one machine: one account, and each device in it once, whoever reads it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from run_dirs import CPU, GPU, FakeLiveness, SyntheticRun, SyntheticSession, constant_counter, cpu_counter, gpu_counter
from stillwatt.ledger.conservation import conservation_findings
from stillwatt.ledger.post import build_record
from stillwatt.records import Absent, Boundary, Energy, RunRecord, StageRecord, Total
from stillwatt.units import J_PER_MJ_MILLI, J_PER_UJ

GPU_W, CPU_W = 250.0, 40.0


def record_of(run: SyntheticRun) -> RunRecord:
    record = build_record(run.path, liveness=FakeLiveness())
    assert list(conservation_findings(record)) == []
    return record


def joules(total: object) -> float:
    assert isinstance(total, Total), total
    return total.value_j


def part_j(stage: StageRecord, part: str) -> float:
    (energy,) = [energy for energy in stage.energies if energy.part == part]
    assert isinstance(energy, Energy), energy
    return energy.value_j


def reads(session: SyntheticSession, part: str, from_s: float, until_s: float) -> None:
    """This session's sampling process reads a card from one time to another."""
    watts = GPU_W * (1 + int(part[-1]))
    signal = constant_counter(watts, J_PER_MJ_MILLI)
    session.samples(f"{part}.energy_counter", signal, from_s=from_s, until_s=until_s)


@settings(max_examples=25, deadline=None)
@given(
    ranks=st.integers(1, 6),
    edges=st.lists(st.tuples(st.integers(0, 80), st.integers(1, 40)), min_size=6, max_size=6),
    hand_over_s=st.integers(20, 90),
)
def test_a_card_counts_once_at_any_number_of_ranks(ranks: int, edges: list[tuple[int, int]], hand_over_s: int) -> None:
    """Stages anywhere; the card read by one, from some moment on by another."""
    with TemporaryDirectory() as folder:
        run = SyntheticRun(Path(folder))
        for rank in range(ranks):
            session = run.session(start_s=100.0, rank=rank, world_size=ranks)
            session.prefix = f"r{rank}a"
            mine = {0: (100.0, 100.0 + (hand_over_s if ranks > 1 else 120)), 1: (100.1 + hand_over_s, 220.0)}.get(rank)
            session.sampler([gpu_counter()] if mine else [], parts={"gpu0": GPU})
            start_s, length_s = edges[rank]
            session.stage("train", 100.0 + start_s, 100.0 + start_s + length_s)
            if mine:
                reads(session, "gpu0", *mine)
            session.end(220.0)
        record = record_of(run)
        assert joules(record.total) == pytest.approx(GPU_W * 120, rel=1e-6)
        busy = set().union(*(range(start, start + length) for start, length in edges[:ranks]))
        assert sum(part_j(stage, "gpu0") for stage in record.stages) == pytest.approx(GPU_W * len(busy), rel=1e-3)
        assert record.complete
        assert record.duration_s == pytest.approx(120.0)


def test_ranks_with_a_card_each_share_the_rest_of_the_host(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path)
    for rank in range(2):
        session = run.session(start_s=100.0, rank=rank, world_size=2)
        session.prefix = f"r{rank}a"
        card = gpu_counter(f"gpu{rank}")
        session.sampler([card, *([cpu_counter()] if rank == 0 else [])], parts={card.part: GPU, "cpu0": CPU})
        session.stage("idle", 100.0, 104.0, kind="idle_baseline")
        session.stage("train", 105.0, 115.0)
        reads(session, card.part, 100.0, 120.0)
        if rank == 0:
            session.samples("cpu0.energy_counter", constant_counter(CPU_W, J_PER_UJ), until_s=120.0)
        session.end(120.0)
    record = record_of(run)
    for rank, stage in enumerate(stage for stage in record.stages if stage.name == "train"):
        assert {energy.part for energy in stage.energies} == {f"gpu{rank}", "cpu0"}
        assert part_j(stage, f"gpu{rank}") == pytest.approx(GPU_W * (1 + rank) * 10, rel=1e-3)
        assert part_j(stage, "cpu0") == pytest.approx(CPU_W * 10 / 2, rel=1e-3)
        # idle power is per part, and taken off for the seconds of it that are the stage's own
        assert joules(stage.net) == pytest.approx(0.0, abs=3.0)
    assert joules(record.total) == pytest.approx((3 * GPU_W + CPU_W) * 20, rel=1e-3)


def test_what_no_program_uses_is_in_no_sum_and_said(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path)
    session = run.session()
    session.sampler([gpu_counter("gpu0"), gpu_counter("gpu1")], parts={"gpu0": GPU})
    session.stage("train", 101.0, 109.0)
    reads(session, "gpu0", 100.0, 110.0)
    reads(session, "gpu1", 100.0, 110.0)
    session.end(110.0)
    record = record_of(run)
    assert joules(record.total) == pytest.approx(GPU_W * 10, rel=1e-3)
    assert record.complete
    assert record.warnings == ("gpu1: measured, and used by no program of this run; it is in no sum",)
    assert {trace.part for trace in record.traces} == {"gpu0", "gpu1"}


def test_one_after_the_other_keep_accounts_of_their_own(tmp_path: Path) -> None:
    """A run that was gone on with: the time between is nobody's."""
    run = SyntheticRun(tmp_path)
    for start_s in (100.0, 150.0):
        session = run.session(start_s=start_s)
        session.sampler([gpu_counter()])
        reads(session, "gpu0", start_s, start_s + 10)
        session.end(start_s + 10)
    record = record_of(run)
    assert joules(record.total) == pytest.approx(GPU_W * 20, rel=1e-3)
    assert len({span.session for span in record.traces}) == 2
    assert record.duration_s == pytest.approx(20.0)


def test_containers_with_a_card_of_one_name_each(tmp_path: Path) -> None:
    """Both are on one machine and call their card gpu0: two devices, two parts."""
    run = SyntheticRun(tmp_path)
    for number, host in enumerate(("box-a", "box-b")):
        session = run.session(start_s=100.0, host=host)
        session.sampler([replace(gpu_counter(), device=f"GPU-{number}")], parts={"gpu0": f"GPU-{number}"})
        session.stage("train", 102.0, 108.0)
        session.samples("gpu0.energy_counter", constant_counter(100.0 * (number + 1), J_PER_MJ_MILLI), until_s=110.0)
        session.end(110.0)
    record = record_of(run)
    assert joules(record.total) == pytest.approx(3000.0, rel=1e-3)
    first, second = record.stages
    assert part_j(first, "gpu0") == joules(first.gross) == pytest.approx(600.0, rel=1e-3)
    assert part_j(second, "gpu0-2") == joules(second.gross) == pytest.approx(1200.0, rel=1e-3)
    assert any("gpu0-2: another device (GPU-1) that its session calls gpu0 too" in said for said in record.warnings)


def test_a_part_that_one_rank_cannot_read_is_missing_in_its_stages_only(tmp_path: Path) -> None:
    gone = Absent(part="gpu1", boundary=Boundary.BOARD, reason="no permission")
    run = SyntheticRun(tmp_path)
    for rank in range(2):
        session = run.session(start_s=100.0, rank=rank, world_size=2)
        session.prefix = f"r{rank}a"
        session.sampler([gpu_counter()] if rank == 0 else [], parts={"gpu0": GPU}, absent=[gone] if rank else [])
        session.stage("train", 101.0, 109.0)
        if rank == 0:
            reads(session, "gpu0", 100.0, 110.0)
        session.end(110.0)
    record = record_of(run)
    absent = {stage.stage_id: [e.part for e in stage.energies if isinstance(e, Absent)] for stage in record.stages}
    assert absent == {"r0a1": [], "r1a1": ["gpu1"]}
    assert not record.complete
