"""Idle and standing power of run directories, and runs under a policy computed from them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from run_dirs import FakeLiveness, Signal, SyntheticRun, SyntheticSession, dram_model, gpu_counter, gpu_power
from stillwatt.ledger.booking import book_run
from stillwatt.ledger.idle import idle_baselines
from stillwatt.ledger.policy import PolicyView, view_run
from stillwatt.ledger.post import booked_record, build_record, read_run
from stillwatt.metering.baseline import IdlePower
from stillwatt.metering.idle import When
from stillwatt.metering.policies import Policy
from stillwatt.records import Basis, Boundary, Channel, NoTotal, Quantity, Role, Total
from stillwatt.records.energy import Absent
from stillwatt.units import NS_PER_MS

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "reference" / "run.schema.json").read_text(encoding="utf-8"))
Level = tuple[float, float]
"""From that second on, that power in W."""


def steps(*levels: Level) -> Signal:
    """What a power channel in watts shows."""
    return lambda t_s: [power_w for from_s, power_w in levels if from_s <= t_s + 1e-9][-1]


def counted(*levels: Level) -> Signal:
    """What a counter in millijoules shows of the same."""

    def count(t_s: float) -> float:
        ends = [*(from_s for from_s, _ in levels[1:]), math.inf]
        spans = zip(levels, ends, strict=True)
        return sum(max(0.0, min(t_s, end_s) - start_s) * power_w for (start_s, power_w), end_s in spans) * 1000.0

    return count


def loaded(
    run: SyntheticRun, *levels: Level, until_s: float, start_s: float = 100.0, witness: bool = False
) -> SyntheticSession:
    session = run.session(start_s=start_s)
    session.sampler([gpu_counter(), gpu_power()] if witness else [gpu_counter()])
    session.samples("gpu0.energy_counter", counted(*levels), until_s=until_s)
    if witness:
        session.samples("gpu0.power", steps(*levels), until_s=until_s)
    return session


def before_and_after(tmp_path: Path, after_w: float = 60.0) -> SyntheticRun:
    """Idle for 10 s at 60 W, work at 300 W for 10 s, idle again for 10 s."""
    run = SyntheticRun(tmp_path)
    session = loaded(run, (0.0, 60.0), (112.0, 300.0), (122.0, after_w), until_s=135.0)
    session.stage("idle_baseline", 101.0, 111.0, kind="idle_baseline")
    session.stage("train", 112.0, 122.0, kind="student_train")
    session.stage("idle_after", 124.0, 134.0, kind="idle_baseline")
    session.end(135.0)
    return run


def view(run: SyntheticRun, policy: Policy) -> PolicyView:
    return view_run(read_run(run.path, liveness=FakeLiveness(False)), policy)


def value_j(total: Total | NoTotal) -> float:
    assert isinstance(total, Total), total
    return total.value_j


def test_idle_before_and_after_are_kept_apart(tmp_path: Path) -> None:
    found = view(before_and_after(tmp_path), Policy.NET).baselines["gpu0"]
    assert [rest.when for rest in found.rests] == [When.BEFORE, When.AFTER]
    assert all(rest.pieces >= 40 and rest.clean == rest.pieces for rest in found.rests)
    assert found.drift_w == pytest.approx(0.0, abs=0.01)
    assert found.agrees
    assert found.notes == ()


def test_a_warm_machine_after_the_work_is_said_with_both_numbers_and_covered(tmp_path: Path) -> None:
    run = before_and_after(tmp_path, after_w=80.0)
    record = build_record(run.path, liveness=FakeLiveness(False))
    (note,) = [warning for warning in record.warnings if "idle power differs" in warning]
    assert "60 ± " in note
    assert "80 ± " in note
    train = record.stages[1]
    assert isinstance(train.net, Total)
    assert train.net.value_j == pytest.approx(10 * 230.0, rel=0.01)
    assert train.net.low_j <= 10 * 220.0 <= 10 * 240.0 <= train.net.high_j


@pytest.mark.parametrize("policy", list(Policy))
def test_every_policy_closes_to_the_gross_energy(tmp_path: Path, policy: Policy) -> None:
    run = SyntheticRun(tmp_path)
    session = loaded(run, (0.0, 60.0), (112.0, 300.0), (122.0, 100.0), (132.0, 300.0), (142.0, 70.0), until_s=160.0)
    session.stage("idle_baseline", 101.0, 111.0, kind="idle_baseline")
    outer = session.begin("serve", 112.0)
    session.stage("inner", 113.0, 115.0, parent=outer)
    session.finish(outer, 122.0)
    session.stage("serve", 132.0, 142.0, attempt=2)
    session.stage("idle_after", 145.0, 155.0, kind="idle_baseline")
    session.end(160.0)
    found = view(run, policy)
    gross_j = value_j(found.record.total)
    assert value_j(found.total.energy) + value_j(found.total.baseline) == pytest.approx(gross_j, rel=1e-12)
    outermost = [stage for stage in found.record.stages if stage.parent_id is None]
    energies_j = [value_j(found.stages[stage.stage_id].energy) for stage in outermost]
    assert math.fsum([*energies_j, value_j(found.unallocated.energy)]) == pytest.approx(
        value_j(found.total.energy), rel=1e-9, abs=1e-6
    )
    for stage in found.record.stages:
        split = found.stages[stage.stage_id]
        assert value_j(split.energy) + value_j(split.baseline) == pytest.approx(value_j(stage.gross), rel=1e-12)


def test_gross_is_what_was_posted_and_net_what_was_stored(tmp_path: Path) -> None:
    run = before_and_after(tmp_path)
    record = build_record(run.path, liveness=FakeLiveness(False))
    gross, net = view(run, Policy.GROSS), view(run, Policy.NET)
    assert gross.record == record
    assert gross.total.energy == record.total
    assert gross.unallocated.energy == record.unallocated
    for stage in record.stages:
        assert gross.stages[stage.stage_id].energy == stage.gross
        assert net.stages[stage.stage_id].energy == stage.net


def test_marginal_is_above_what_a_loaded_server_draws_while_it_waits(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path)
    session = loaded(run, (0.0, 60.0), (112.0, 300.0), (122.0, 100.0), (132.0, 300.0), (142.0, 70.0), until_s=150.0)
    session.stage("idle_baseline", 101.0, 111.0, kind="idle_baseline")
    session.stage("serve", 112.0, 122.0)
    session.stage("serve", 132.0, 142.0, attempt=2)
    session.end(150.0)
    found = view(run, Policy.MARGINAL)
    power = found.baselines["gpu0"].power
    assert isinstance(power, IdlePower)
    assert power.value_w == pytest.approx(100.0, rel=0.001)
    serve = found.record.stages[1]
    assert value_j(found.stages[serve.stage_id].energy) == pytest.approx(10 * 200.0, rel=0.01)
    idle = found.record.stages[0]
    assert value_j(found.stages[idle.stage_id].energy) == pytest.approx(-10 * 40.0, rel=0.01)


def test_without_time_between_stages_there_is_no_marginal_energy_and_the_reason(tmp_path: Path) -> None:
    found = view(before_and_after(tmp_path), Policy.MARGINAL)
    assert found.total.energy == NoTotal(reason="the run has no 5 s between its stages, in pauses of a second and more")
    assert all(isinstance(split.energy, NoTotal) for split in found.stages.values())
    empty = SyntheticRun(tmp_path / "empty")
    loaded(empty, (0.0, 60.0), until_s=110.0).end(110.0)
    assert isinstance(view(empty, Policy.MARGINAL).total.energy, NoTotal)


def test_without_an_idle_stage_there_is_no_net_and_the_reason(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path)
    session = loaded(run, (0.0, 60.0), until_s=110.0)
    session.stage("train", 101.0, 109.0)
    session.end(110.0)
    assert view(run, Policy.NET).total.energy == NoTotal(reason="no idle_baseline stage in this run")


def test_a_contaminated_idle_stage_is_on_the_record_and_its_clean_pieces_are_used(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path)
    session = loaded(run, (0.0, 60.0), (105.0, 120.0), (107.0, 60.0), (112.0, 300.0), until_s=123.0, witness=True)
    session.stage("idle_baseline", 101.0, 111.0, kind="idle_baseline")
    session.stage("train", 112.0, 122.0)
    session.end(123.0)
    record = build_record(run.path, liveness=FakeLiveness(False))
    (note,) = [warning for warning in record.warnings if "contaminated" in warning]
    assert note.startswith("gpu0: idle power before the work contaminated: something worked in ")
    net = record.stages[1].net
    assert isinstance(net, Total)
    assert net.value_j == pytest.approx(10 * 240.0, rel=0.01)


def test_an_idle_stage_beside_another_stage_counts_only_while_it_is_alone(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path)
    session = loaded(run, (0.0, 60.0), (108.0, 300.0), until_s=123.0)
    session.stage("idle_baseline", 101.0, 111.0, kind="idle_baseline")
    session.stage("train", 108.0, 122.0)
    session.end(123.0)
    found = view(run, Policy.NET).baselines["gpu0"]
    assert "other stages ran during 3 s of it, which are left out" in found.notes[0]
    assert isinstance(found.power, IdlePower)
    assert found.power.value_w == pytest.approx(60.0, rel=0.01)


def test_an_idle_stage_that_was_never_alone_gives_no_idle_power(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path)
    session = loaded(run, (0.0, 60.0), until_s=123.0)
    session.stage("train", 100.5, 122.0)
    session.stage("idle_baseline", 101.0, 111.0, kind="idle_baseline")
    session.end(123.0)
    found = view(run, Policy.NET)
    assert isinstance(found.baselines["gpu0"].power, Absent)
    assert isinstance(found.total.energy, NoTotal)
    assert "other stages ran during all of the idle stage" in found.total.energy.reason


def test_a_stage_around_everything_does_not_tell_when_the_work_is(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path)
    session = loaded(run, (0.0, 60.0), (112.0, 300.0), (118.0, 60.0), (130.0, 300.0), (138.0, 60.0), until_s=152.0)
    outer = session.begin("study", 100.5)
    session.stage("idle_baseline", 101.0, 111.0, kind="idle_baseline", parent=outer)
    session.stage("train", 112.0, 118.0, parent=outer)
    session.stage("idle", 119.0, 129.0, kind="idle_baseline", parent=outer)
    session.stage("train", 130.0, 138.0, parent=outer)
    session.stage("idle_after", 140.0, 150.0, kind="idle_baseline", parent=outer)
    session.finish(outer, 151.0)
    session.end(152.0)
    assert [rest.when for rest in view(run, Policy.NET).baselines["gpu0"].rests] == list(When)


def test_rests_of_several_sessions_are_placed_by_the_wall_clock(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path)
    first = loaded(run, (0.0, 60.0), (112.0, 300.0), until_s=123.0)
    first.stage("idle_baseline", 101.0, 111.0, kind="idle_baseline")
    first.stage("train", 112.0, 122.0)
    first.end(123.0)
    second = loaded(run, (0.0, 62.0), until_s=215.0, start_s=200.0)
    second.stage("idle_after", 201.0, 211.0, kind="idle_baseline")
    second.end(215.0)
    found = view(run, Policy.NET)
    assert found.baselines["gpu0"].drift_w == pytest.approx(2.0, abs=0.05)
    assert value_j(found.total.energy) + value_j(found.total.baseline) == pytest.approx(value_j(found.record.total))


def test_a_busy_machine_shows_in_its_modelled_cpu_power(tmp_path: Path) -> None:
    """2 logical CPUs of 3.75 W, 40 % busy throughout: no burst, no trend, and yet no rest."""
    model = Channel(
        part="cpu0", device="host model", boundary=Boundary.CHIP, quantity=Quantity.POWER, role=Role.LEDGER,
        unit_si=1.0, driver="host_model", basis=Basis.MODELLED, gain_low_rel=0.5, gain_high_rel=0.5,
        update_period_ns=150 * NS_PER_MS,
        source="model: 2 logical CPUs x 3.75 W x (0.2 + 0.8 x utilisation), /proc/stat",
    )  # fmt: skip
    run = SyntheticRun(tmp_path)
    session = run.session(start_s=100.0)
    session.sampler([model, dram_model()])
    session.samples("cpu0.power", steps((0.0, 7.5 * (0.2 + 0.8 * 0.4))), until_s=115.0)
    session.samples("dram0.power", steps((0.0, 1.0)), until_s=115.0)
    session.stage("idle_baseline", 101.0, 111.0, kind="idle_baseline")
    session.end(115.0)
    found = view(run, Policy.NET).baselines
    assert found["cpu0"].notes == (
        "cpu0: idle power before the work contaminated: the machine's CPUs were 40 % busy in what is used of it",
    )
    assert found["dram0"].notes == ()


def test_the_views_json_is_plain_json_with_the_runs_own_keys(tmp_path: Path) -> None:
    run = before_and_after(tmp_path, after_w=80.0)
    plain = build_record(run.path, liveness=FakeLiveness(False)).to_dict()
    for policy in Policy:
        whole = json.loads(json.dumps(view(run, policy).to_dict(), allow_nan=False))
        Draft202012Validator(SCHEMA).validate(whole)
        assert whole["policy"]["name"] == policy.value
        assert {key: value for key, value in whole.items() if key not in ("policy", "stages")} == {
            key: value for key, value in plain.items() if key != "stages"
        }
        assert all({"energy_j", "baseline_j"} <= stage.keys() for stage in whole["stages"])
    net = view(run, Policy.NET).to_dict()["policy"]["baselines"][0]
    assert net["drift_w"] == pytest.approx(20.0, rel=0.01)
    assert net["agrees"] is False
    assert [rest["when"] for rest in net["rests"]] == ["before", "after"]


def test_parts_of_one_name_with_two_boundaries_have_no_sum(tmp_path: Path) -> None:
    run = before_and_after(tmp_path)
    second = run.session(start_s=200.0)
    second.sampler([replace(gpu_counter(), boundary=Boundary.NODE)])
    second.samples("gpu0.energy_counter", counted((0.0, 60.0)), until_s=205.0)
    second.end(205.0)
    assert isinstance(view(run, Policy.NET).total.energy, NoTotal)


def test_booked_runs_tell_their_baselines(tmp_path: Path) -> None:
    facts = read_run(before_and_after(tmp_path).path, liveness=FakeLiveness(False))
    booked = book_run(facts.sessions)
    assert booked.idle.found.keys() == {"gpu0"}
    assert booked_record(facts, booked).run_id == facts.run_id
    assert idle_baselines([]).found == {}


def test_energies_that_a_file_states_are_divided_like_those_that_were_read(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path)
    session = run.session(start_s=100.0)
    idle = session.stage("idle", 101.0, 111.0, kind="idle_baseline")
    train = session.stage("train", 112.0, 122.0)
    for stage, drawn_j in ((idle, 600.0), (train, 3000.0)):
        session.meter(
            "stated_energy", 130.0, stage_id=stage, part="gpu0", device="GPU", boundary="board", value_j=drawn_j,
            random_j=0.0, systematic_low_j=0.06 * drawn_j, systematic_high_j=0.06 * drawn_j, basis="measured",
            driver="zeus", source="a file",
        )  # fmt: skip
    session.end(130.0)
    found = view(run, Policy.NET)
    assert value_j(found.stages[train].energy) == pytest.approx(2400.0)
    assert value_j(found.stages[train].baseline) == pytest.approx(600.0)
    above = found.stages[train].energy
    assert isinstance(above, Total)
    # what a file states of both is off by more than a gain that they share, so their bounds do not cancel
    assert above.high_j - above.value_j == pytest.approx(0.06 * math.hypot(3000.0, 600.0))
    whole, left = view(run, Policy.GROSS).total, found.total
    assert value_j(left.energy) + value_j(left.baseline) == pytest.approx(value_j(whole.energy)) == 3600.0
    assert found.baselines["gpu0"].rests[0].pieces == 0
    assert isinstance(found.unallocated.energy, NoTotal)
    marginal = view(run, Policy.MARGINAL).stages[train].energy
    assert isinstance(marginal, NoTotal)
