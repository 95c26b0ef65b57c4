"""Sampling processes that were lost: with their program, whose end nobody saw, or without it, so that another came."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import pytest

from run_dirs import FakeLiveness, SyntheticRun, SyntheticSession, constant_counter, gpu_counter
from stillwatt.ledger.post import build_record, read_run
from stillwatt.ledger.verify import verify
from stillwatt.records import Absent, Energy, NoTotal, Total
from stillwatt.units import J_PER_MJ_MILLI, NS_PER_S, nanoseconds

DEAD = FakeLiveness()
STREAM = "gpu0.energy_counter"


def _session(run: SyntheticRun, until_s: float, rank: int | None = None) -> SyntheticSession:
    session = run.session(start_s=100.0) if rank is None else run.session(start_s=100.0, rank=rank, world_size=2)
    session.sampler([gpu_counter()])
    session.samples(STREAM, constant_counter(200.0, J_PER_MJ_MILLI), until_s=until_s)
    return session


def test_where_nobody_saw_the_end_nothing_is_complete(runs_dir: Path) -> None:
    """The sampling process may have gone long before the program: 300 J are what is known, and not what was drawn."""
    run = SyntheticRun(runs_dir)
    session = _session(run, 112.0)
    session.stage("done", 100.5, 101.0)
    session.begin("train", 102.0)
    record = build_record(run.path, liveness=DEAD)
    done, train = record.stages
    assert isinstance(done.gross, Total)
    assert done.gross.complete
    assert isinstance(train.gross, Total)
    assert math.isclose(train.gross.value_j, 2000.0, rel_tol=0.01)
    assert not train.gross.complete
    assert isinstance(record.total, Total)
    assert not record.total.complete
    assert not record.complete
    assert any("nobody saw when the program ended" in warning for warning in record.warnings)


def test_a_stage_of_no_known_length_has_no_energy(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    session = _session(run, 110.0)
    session.begin("train", 112.0)
    record = build_record(run.path, liveness=DEAD)
    (train,) = record.stages
    (absent,) = train.energies
    assert isinstance(absent, Absent)
    assert "nobody saw how long it lasted" in absent.reason
    assert isinstance(train.gross, NoTotal)
    assert isinstance(train.net, NoTotal)
    assert not record.complete
    assert not [finding for finding in verify(runs_dir, liveness=DEAD) if finding.severity.value == "error"]


def test_who_ends_before_the_others_takes_nothing_from_their_total(runs_dir: Path) -> None:
    """A rank that is lost whole leaves its stage open; the cards were read to the end by another."""
    run = SyntheticRun(runs_dir)
    reader = _session(run, 116.2, rank=0)
    reader.stage("train", 101.0, 115.0)
    reader.end(116.0)
    killed = run.session(start_s=100.0, rank=1, world_size=2)
    killed.sampler([])
    killed.begin("train", 101.0)
    killed.meter("meter", 105.0, samples=0, failed_reads=0, skipped_ticks=0, cpu_s=0.1)
    record = build_record(run.path, liveness=DEAD)
    assert isinstance(record.total, Total)
    assert record.total.complete
    assert [stage.gross.complete for stage in record.stages if isinstance(stage.gross, Total)] == [True, False]
    assert not record.complete


def test_a_stage_whose_parent_ended_ended_with_it(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    session = _session(run, 112.0)
    outer = session.begin("outer", 101.0)
    session.begin("inner", 102.0, parent=outer)
    session.finish(outer, 104.0)
    record = build_record(run.path, liveness=DEAD)
    assert [stage.gross.complete for stage in record.stages if isinstance(stage.gross, Total)] == [True, True]
    assert not record.complete


class Replaced:
    """A sampling process that is lost at 104 s, after 40 samples, and another that begins at 106 s."""

    def __init__(self, runs_dir: Path) -> None:
        self.run = SyntheticRun(runs_dir)
        self.session = self.run.session(start_s=100.0)
        self.session.sampler([gpu_counter()])
        counter = constant_counter(200.0, J_PER_MJ_MILLI)
        self.session.samples(STREAM, counter, until_s=104.0)
        self.account(103.0, samples=30)
        self.session.stage("train", 101.0, 109.0)
        self.session._samples = 0
        self.session.sampler([gpu_counter()], t_s=106.0)
        self.session.samples(STREAM, counter, from_s=106.1, until_s=110.1)

    def account(self, t_s: float, samples: int) -> None:
        self.session.meter("meter", t_s, samples=samples, failed_reads=1, skipped_ticks=2, cpu_s=0.5)


def test_between_two_sampling_processes_is_a_gap_over_which_a_counter_counted(runs_dir: Path) -> None:
    replaced = Replaced(runs_dir)
    replaced.session.end(110.0)
    record = build_record(replaced.run.path, liveness=DEAD)
    assert record.gaps == 1
    assert any("1 gap of 2.1 s" in warning and "another took its place" in warning for warning in record.warnings)
    (energy,) = record.stages[0].energies
    assert isinstance(energy, Energy)
    assert energy.low_j <= 1600.0 <= energy.high_j
    assert not any("no samples after its last flush" in warning for warning in record.warnings)
    assert (record.meter["samples"], record.meter["cpu_s"]) == (82, 0.75)
    assert (record.meter["failed_reads"], record.meter["skipped_ticks"]) == (1, 2)
    assert not [finding for finding in verify(runs_dir, liveness=DEAD) if finding.severity.value == "error"]


def test_what_another_rank_took_in_between_has_no_gap(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    session = _session(run, 104.0)
    session.sampler([], t_s=106.0)
    session.meter("channels_taken", 107.0, channels=[asdict(gpu_counter())])
    session.samples(STREAM, constant_counter(200.0, J_PER_MJ_MILLI), from_s=107.1, until_s=110.1)
    session.end(110.0)
    (facts,) = read_run(run.path, liveness=DEAD).sessions
    assert facts.gaps == ()


def test_samples_of_the_last_one_are_missed_and_the_lost_ones_own_are_not_counted_for_them(runs_dir: Path) -> None:
    replaced = Replaced(runs_dir)
    replaced.session._samples += 5
    replaced.session.end(110.0)
    (session,) = read_run(replaced.run.path, liveness=DEAD).sessions
    assert session.lost_samples == 5
    assert session.is_damaged


@pytest.mark.parametrize("alive", [True, False])
def test_the_last_one_decides_whether_one_is_left(runs_dir: Path, alive: bool) -> None:
    replaced = Replaced(runs_dir)
    replaced.session.end(110.0, sampler=False)
    (session,) = read_run(replaced.run.path, liveness=FakeLiveness(alive)).sessions
    assert session.is_sampler_lost is not alive
    assert session.is_sealable is not alive
    assert session.is_end_known


def test_a_lull_ends_with_the_process_that_was_in_it(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    session = run.session(start_s=100.0)
    session.sampler([gpu_counter()])
    session.meter("period_changed", 102.0, period_ns=NS_PER_S)
    session.sampler([gpu_counter()], t_s=106.0)
    session.end(110.0)
    (facts,) = read_run(run.path, liveness=DEAD).sessions
    assert [(lull.start_ns, lull.end_ns) for lull in facts.lulls] == [(nanoseconds(102.0), nanoseconds(106.0))]
    assert facts.gaps == ()
