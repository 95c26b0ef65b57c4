"""Idle power where several ranks run on one machine, each with parts of its own and some that all use."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from run_dirs import CPU, GPU, FakeLiveness, SyntheticRun, SyntheticSession, constant_counter, cpu_counter, gpu_counter
from stillwatt.ledger.policy import PolicyView, view_run
from stillwatt.ledger.post import build_record, read_run
from stillwatt.metering.baseline import IdlePower
from stillwatt.metering.policies import Policy
from stillwatt.records import NoTotal, Total
from stillwatt.records.energy import Absent
from stillwatt.records.usage import Rule
from stillwatt.units import J_PER_MJ_MILLI, J_PER_UJ, nanoseconds

CARD_W, CPU_W = (60.0, 80.0), 40.0


def rank_of(run: SyntheticRun, rank: int, *, own_card: bool = True) -> SyntheticSession:
    """A rank with a card of its own, or none; the first one reads the host's CPU."""
    session = run.session(start_s=100.0, rank=rank, world_size=2)
    session.prefix = f"r{rank}a"
    card = gpu_counter(f"gpu{rank}")
    channels = [*([card] if own_card else []), *([cpu_counter()] if rank == 0 else [])]
    session.sampler(channels, parts={**({card.part: GPU} if own_card else {}), "cpu0": CPU})
    if own_card:
        session.samples(f"{card.part}.energy_counter", constant_counter(CARD_W[rank], J_PER_MJ_MILLI), until_s=140.0)
    if rank == 0:
        session.samples("cpu0.energy_counter", constant_counter(CPU_W, J_PER_UJ), until_s=140.0)
    return session


def two_ranks(folder: Path, idle_s: tuple[tuple[float, float], tuple[float, float]]) -> SyntheticRun:
    """Both rest at their own times, both work from second 120 to 130, and wait for each other before."""
    run = SyntheticRun(folder)
    for rank in range(2):
        session = rank_of(run, rank)
        session.stage("idle_baseline", *idle_s[rank], kind="idle_baseline")
        session.stage("load", 113.0, 114.0)
        session.stage("train", 120.0, 130.0)
        session.end(140.0)
    return run


def view(run: SyntheticRun, policy: Policy, rule: Rule = Rule.PROCESS) -> PolicyView:
    return view_run(read_run(run.path, liveness=FakeLiveness(False)), policy, rule=rule)


def joules(total: Total | NoTotal) -> float:
    assert isinstance(total, Total), total
    return total.value_j


def power_w(found: PolicyView, part: str) -> float:
    power = found.baselines[part].power
    assert isinstance(power, IdlePower), power
    return power.value_w


def test_ranks_that_rest_side_by_side_do_not_disturb_each_other_and_count_seconds_once(tmp_path: Path) -> None:
    found = view(two_ranks(tmp_path, ((101.0, 111.0), (102.0, 112.0))), Policy.NET)
    assert all(baseline.notes == () for baseline in found.baselines.values())
    lengths_s = {part: sum(rest.length_s for rest in each.rests) for part, each in found.baselines.items()}
    assert lengths_s == pytest.approx({"gpu0": 10.0, "gpu1": 10.0, "cpu0": 11.0})
    assert [power_w(found, part) for part in ("gpu0", "gpu1", "cpu0")] == pytest.approx([*CARD_W, CPU_W], rel=1e-3)


def test_the_same_rest_of_two_ranks_is_one(tmp_path: Path) -> None:
    found = view(two_ranks(tmp_path, ((101.0, 111.0), (101.0, 111.0))), Policy.NET)
    (rest,) = found.baselines["cpu0"].rests
    assert rest.length_s == pytest.approx(10.0)
    assert rest.problems == ()


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("rule", list(Rule))
def test_the_account_of_ranks_closes_under_every_policy_and_rule(tmp_path: Path, policy: Policy, rule: Rule) -> None:
    found = view(two_ranks(tmp_path, ((101.0, 111.0), (102.0, 112.0))), policy, rule)
    gross_j = joules(found.record.total)
    assert gross_j == pytest.approx(40.0 * (CPU_W + sum(CARD_W)), rel=1e-3)
    assert joules(found.total.energy) + joules(found.total.baseline) == pytest.approx(gross_j, rel=1e-12)
    own_j = [joules(found.stages[stage.stage_id].energy) for stage in found.record.stages]
    assert math.fsum([*own_j, joules(found.unallocated.energy)]) == pytest.approx(
        joules(found.total.energy), rel=1e-9, abs=1e-6
    )


def test_net_of_a_rank_is_net_of_its_own_card_and_its_share_of_the_host(tmp_path: Path) -> None:
    record = build_record(two_ranks(tmp_path, ((101.0, 111.0), (102.0, 112.0))).path, liveness=FakeLiveness(False))
    for stage in record.stages:
        assert joules(stage.net) == pytest.approx(0.0, abs=0.02 * joules(stage.gross))


def test_another_rank_at_work_disturbs_only_the_parts_that_both_use(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path)
    resting, working = rank_of(run, 0), rank_of(run, 1)
    resting.stage("idle_baseline", 101.0, 111.0, kind="idle_baseline")
    working.stage("train", 100.5, 130.0)
    resting.end(140.0)
    working.end(140.0)
    found = view(run, Policy.NET)
    assert found.baselines["gpu0"].notes == ()
    assert power_w(found, "gpu0") == pytest.approx(CARD_W[0], rel=1e-3)
    power = found.baselines["cpu0"].power
    assert isinstance(power, Absent)
    assert power.reason == "other stages ran during all of the idle stage"
    assert "gpu1" not in found.baselines
    assert isinstance(found.total.energy, NoTotal)
    assert "no baseline power for gpu1" in found.total.energy.reason


def test_standing_power_is_that_of_each_parts_own_pauses(tmp_path: Path) -> None:
    """Rank 0 waits from second 114 to 120; rank 1 works all the time, so that the CPU never waits."""
    run = SyntheticRun(tmp_path)
    waiting, working = rank_of(run, 0), rank_of(run, 1)
    waiting.stage("load", 113.0, 114.0)
    waiting.stage("train", 120.0, 130.0)
    working.stage("train", 110.0, 130.0)
    waiting.end(140.0)
    working.end(140.0)
    found = view(run, Policy.MARGINAL)
    assert found.baselines.keys() == {"gpu0"}
    assert power_w(found, "gpu0") == pytest.approx(CARD_W[0], rel=1e-3)
    assert isinstance(found.total.energy, NoTotal)


def test_a_stranger_on_the_card_contaminates_the_rest(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path)
    session = run.session(start_s=100.0)
    session.sampler([gpu_counter()], parts={"gpu0": GPU}, program=[2001, 10])
    session.samples("gpu0.energy_counter", constant_counter(60.0, J_PER_MJ_MILLI), until_s=130.0)
    stranger = {"pid": 666, "chain": [[666, 30]], "sm_share": 0.4, "memory_bytes": 1, "instance": None}
    session.meter(
        "device_users", 103.0, part="gpu0", since_ns=nanoseconds(100.0), users=[{**stranger, "same_user": False}]
    )
    session.stage("idle_baseline", 101.0, 111.0, kind="idle_baseline")
    session.end(130.0)
    (note,) = view(run, Policy.NET).baselines["gpu0"].notes
    assert note.startswith("gpu0: idle power before the work contaminated: shared: ")
