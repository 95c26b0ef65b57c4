"""Readings of several boundaries in one run: what lies around the components stands beside their sum, everywhere."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from run_dirs import FakeLiveness, SyntheticRun, constant_counter, constant_power, gpu_counter, gpu_power
from stillwatt.ledger.conservation import conservation_findings
from stillwatt.ledger.policy import view_run
from stillwatt.ledger.post import build_record, read_run
from stillwatt.metering.policies import Policy
from stillwatt.records import Boundary, Channel, NoTotal, Role, Total
from stillwatt.units import J_PER_MJ_MILLI

GPU_W, WALL_W = 100.0, 250.0


def plug() -> Channel:
    """A meter in the wall's socket."""
    return replace(gpu_power(role=Role.LEDGER), part="wall0", device="plug", boundary=Boundary.WALL, driver="plug")


def lost_card(tmp_path: Path) -> SyntheticRun:
    """A card that is lost in second 134, and a plug that is read from second 113 on."""
    run = SyntheticRun(tmp_path)
    session = run.session(start_s=100.0)
    session.sampler([gpu_counter(), plug()])
    session.stage("idle_baseline", 101.0, 111.0, kind="idle_baseline")
    session.stage("train", 112.0, 132.0)
    session.stage("late", 140.0, 160.0)
    session.samples("gpu0.energy_counter", constant_counter(GPU_W, J_PER_MJ_MILLI), until_s=134.0)
    session.samples("wall0.power", constant_power(WALL_W), from_s=113.0, until_s=165.0)
    session.end(165.0)
    return run


def joules(total: Total | NoTotal) -> float:
    assert isinstance(total, Total), total
    return total.value_j


def test_a_stage_whose_components_are_lost_has_no_total_and_not_the_walls(tmp_path: Path) -> None:
    record = build_record(lost_card(tmp_path).path, liveness=FakeLiveness(False))
    _idle, train, late = record.stages
    assert joules(train.gross) == pytest.approx(20 * GPU_W)
    for total in (late.gross, late.net):
        assert isinstance(total, NoTotal)
        assert total.reason.startswith("gpu0: no usable reading")
    assert isinstance(record.total, Total)
    assert record.total.boundary is Boundary.COMPONENTS
    assert list(conservation_findings(record)) == []


def test_a_reading_beside_the_sum_needs_no_idle_power(tmp_path: Path) -> None:
    """The plug was not read while the machine rested."""
    run = lost_card(tmp_path)
    train = build_record(run.path, liveness=FakeLiveness(False)).stages[1]
    found = view_run(read_run(run.path, liveness=FakeLiveness(False)), Policy.NET)
    assert found.stages[train.stage_id].energy == train.net
    assert joules(train.net) == pytest.approx(0.0, abs=5.0)


@pytest.mark.parametrize("policy", list(Policy))
def test_a_machine_that_is_summed_at_another_boundary_leaves_the_run_incomplete(tmp_path: Path, policy: Policy) -> None:
    run = SyntheticRun(tmp_path)
    for rank, channel in enumerate((gpu_counter(), plug())):
        session = run.session(start_s=100.0, host=f"node-{rank}", boot=f"boot-{rank}", rank=rank, world_size=2)
        session.prefix = f"r{rank}a"
        session.sampler([channel], parts={channel.part: channel.device})
        session.stage("idle_baseline", 101.0, 111.0, kind="idle_baseline")
        session.stage("load", 112.0, 113.0)
        session.stage("train", 120.0, 140.0)
        signal = constant_power(WALL_W) if rank else constant_counter(GPU_W, J_PER_MJ_MILLI)
        session.samples(channel.stream, signal, until_s=150.0)
        session.end(150.0)
    record = build_record(run.path, liveness=FakeLiveness(False))
    by_rank = {stage.stage_id[:2]: stage.gross for stage in record.stages if stage.name == "train"}
    assert {rank: joules(total) for rank, total in by_rank.items()} == pytest.approx({"r0": 2000.0, "r1": 5000.0})
    assert isinstance(record.total, Total)
    assert (record.total.complete, record.total.absent) == (False, ("wall0",))
    assert joules(record.total) == pytest.approx(50 * GPU_W)
    assert not record.complete
    assert list(conservation_findings(record)) == []
    found = view_run(read_run(run.path, liveness=FakeLiveness(False)), policy)
    sums_j = math.fsum((joules(found.total.energy), joules(found.total.baseline)))
    assert sums_j == pytest.approx(joules(record.total))
    if policy is Policy.GROSS:
        assert found.total.energy == record.total
        assert found.unallocated.energy == record.unallocated
