"""Idle power where several ranks run on one machine, each with parts of its own and some that all use."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from run_dirs import CPU, GPU, FakeLiveness, SyntheticRun, SyntheticSession, constant_counter, cpu_counter, gpu_counter
from stillwatt.ledger.policy import PolicyView, view_run
from stillwatt.ledger.post import build_record, read_run
from stillwatt.metering.baseline import IdlePower
from stillwatt.metering.policies import Policy
from stillwatt.records import NoTotal, Total
from stillwatt.records.energy import Absent
from stillwatt.records.usage import Rule
from stillwatt.units import J_PER_MJ_MILLI, J_PER_UJ, nanoseconds

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "reference" / "run.schema.json").read_text(encoding="utf-8"))
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


def test_a_rank_that_has_begun_no_stage_hinders_nobody(tmp_path: Path) -> None:
    """A card that only such a rank uses has no rest, and no stage either."""
    run = SyntheticRun(tmp_path)
    resting, waiting = rank_of(run, 0), rank_of(run, 1)
    resting.stage("idle_baseline", 101.0, 111.0, kind="idle_baseline")
    resting.end(140.0)
    waiting.end(140.0)
    found = view(run, Policy.NET)
    assert found.baselines.keys() == {"gpu0", "cpu0"}
    assert power_w(found, "gpu0") == pytest.approx(CARD_W[0], rel=1e-3)


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


def two_machines(
    folder: Path, idle_w: tuple[float, float], *, rests: tuple[bool, bool] = (True, True), host: str = ""
) -> SyntheticRun:
    """A card each, both called gpu0 and of one make: idle at their own powers, and both at 300 W for ten seconds."""
    run = SyntheticRun(folder)
    for rank, own_w in enumerate(idle_w):
        session = run.session(start_s=100.0, host=host or f"node-{rank}", boot=f"boot-{rank}", rank=rank, world_size=2)
        session.prefix = f"r{rank}a"
        session.sampler([gpu_counter()])

        def count(t_s: float, own_w: float = own_w) -> float:
            return float(round((own_w * t_s + (300.0 - own_w) * max(0.0, min(t_s, 122.0) - 112.0)) / J_PER_MJ_MILLI))

        session.samples("gpu0.energy_counter", count, until_s=125.0)
        if rests[rank]:
            session.stage("idle_baseline", 101.0, 111.0, kind="idle_baseline")
        session.stage("train", 112.0, 122.0)
        session.end(125.0)
    return run


@pytest.mark.parametrize("host", ["", "localhost"])
def test_each_node_is_net_of_its_own_idle_power(tmp_path: Path, host: str) -> None:
    """Two boots of one host name at one time are two machines."""
    run = two_machines(tmp_path, (50.0, 90.0), host=host)
    record = build_record(run.path, liveness=FakeLiveness(False))
    net_j = {stage.stage_id: joules(stage.net) for stage in record.stages if stage.name == "train"}
    assert net_j == pytest.approx(dict(zip(net_j, (2500.0, 2100.0), strict=True)), rel=0.01)
    found = view(run, Policy.NET)
    assert {baseline.part for baseline in found.baselines.values()} == {"gpu0"}
    assert len(found.baselines) == 2
    assert sum(joules(found.stages[stage].energy) for stage in net_j) == pytest.approx(4600.0, rel=0.01)
    assert joules(found.total.energy) == pytest.approx(4600.0, rel=0.01)
    assert joules(found.total.energy) + joules(found.total.baseline) == pytest.approx(joules(record.total), rel=1e-12)
    Draft202012Validator(SCHEMA).validate(json.loads(json.dumps(found.to_dict())))


def test_another_machines_idle_power_is_nobodys(tmp_path: Path) -> None:
    run = two_machines(tmp_path, (50.0, 90.0), rests=(True, False))
    record = build_record(run.path, liveness=FakeLiveness(False))
    by_prefix = {stage.stage_id[:2]: stage.net for stage in record.stages if stage.name == "train"}
    assert joules(by_prefix["r0"]) == pytest.approx(2500.0, rel=0.01)
    lone = by_prefix["r1"]
    assert isinstance(lone, NoTotal)
    assert lone.reason.startswith("no idle power for gpu0 (measured on another machine")
    found = view(run, Policy.NET)
    assert isinstance(found.total.energy, NoTotal)
    assert found.baselines.keys() == {"gpu0 on node-0"}


def test_a_machine_that_was_booted_again_is_the_same_machine(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path)
    for number, (start_s, idle) in enumerate(((100.0, True), (1000.0, False))):
        session = run.session(start_s=start_s, boot=f"boot-{number}")
        session.sampler([gpu_counter()])
        session.samples("gpu0.energy_counter", constant_counter(60.0, J_PER_MJ_MILLI), until_s=start_s + 25.0)
        if idle:
            session.stage("idle_baseline", start_s + 1.0, start_s + 11.0, kind="idle_baseline")
        session.stage("train", start_s + 12.0, start_s + 22.0)
        session.end(start_s + 25.0)
    record = build_record(run.path, liveness=FakeLiveness(False))
    assert all(joules(stage.net) == pytest.approx(0.0, abs=1.0) for stage in record.stages)
    assert view(run, Policy.NET).baselines.keys() == {"gpu0"}


def test_another_card_in_its_place_is_another_card(tmp_path: Path) -> None:
    """The slot's name is the same; its idle power is not."""
    run = SyntheticRun(tmp_path)
    for number, start_s in enumerate((100.0, 1000.0)):
        session = run.session(start_s=start_s, boot=f"boot-{number}")
        session.sampler([replace(gpu_counter(), device=f"card {number}")])
        session.samples("gpu0.energy_counter", constant_counter(60.0, J_PER_MJ_MILLI), until_s=start_s + 25.0)
        if number == 0:
            session.stage("idle_baseline", start_s + 1.0, start_s + 11.0, kind="idle_baseline")
        session.stage("train", start_s + 12.0, start_s + 22.0)
        session.end(start_s + 25.0)
    nets = [stage.net for stage in build_record(run.path, liveness=FakeLiveness(False)).stages]
    assert [type(net) for net in nets] == [Total, Total, NoTotal]
