"""Runs beside each other: what cancels, what does not, and what cannot be said."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from run_records import energy, run_record, stage
from stillwatt.analysis.instruments import Reading, gain_range, mean_reading, read_instruments
from stillwatt.analysis.side_by_side import SideBySide, Times, side_by_side
from stillwatt.records import (
    Absent,
    Basis,
    Boundary,
    Energy,
    NoTotal,
    RunRecord,
    StageKind,
    StageRecord,
    StageSpan,
    StageStatus,
    Total,
    Trace,
    TracePoint,
)
from stillwatt.sensors.host_parameters import IDLE_SHARE, WATTS_PER_THREAD, gain_bounds

HOST = {"host": "node1"}
KEY, OTHER = ("node1", "gpu0", "GPU-1", "nvml"), ("node1", "cpu0", "cpu", "rapl")


def run(name: str, joules: float, *, tokens: float | None = None, run_id: str = "", host: str = "node1") -> RunRecord:
    """One training of that energy at 10 W, between two rests."""
    stages = [
        stage("i1", "idle_baseline", StageKind.IDLE_BASELINE, joules=500.0),
        stage("t1", "train", StageKind.OTHER, joules=joules, tokens=tokens, duration_s=joules / 10.0),
        stage("t2", "inner", StageKind.OTHER, joules=joules / 2.0, parent_id="t1"),
    ]
    return run_record(stages, name=name, run_id=run_id or f"id-{name}", environment={"host": host}, spans=())


def times(found: SideBySide, index: int = 1) -> Times:
    made = found.sides[index].work.times
    assert made is not None
    return made


def test_what_one_instrument_is_off_by_cancels_and_the_repeatability_stays() -> None:
    found = side_by_side([[run("a", 100.0)], [run("b", 200.0)]])
    ratio = times(found)
    assert ratio.value == pytest.approx(2.0)
    # 10 % of repeatability and 2 % of reading on either side, none of the models' 40 %
    assert (ratio.low, ratio.high) == pytest.approx((1.73, 2.31), abs=0.02)
    assert [side.label for side in found.sides] == ["a", "b"]
    assert found.sides[0].work.times is None
    assert found.sides[1].work.duration_s == pytest.approx(20.0)
    assert found.complete
    assert "one run says nothing" in found.warnings[0]


def test_idle_stages_and_stages_inside_others_are_no_work_of_their_own() -> None:
    side = side_by_side([[run("a", 100.0)], [run("b", 200.0)]]).sides[1]
    assert not isinstance(side.work.energy, NoTotal)
    assert side.work.energy.value_j == pytest.approx(200.0)
    assert list(side.stages) == ["train"]


def test_what_instruments_of_unlike_machines_are_off_by_is_in_the_interval() -> None:
    apart = side_by_side([[run("a", 100.0)], [run("b", 200.0, host="node2")]])
    ratio, same = times(apart), times(side_by_side([[run("a", 100.0)], [run("b", 200.0)]]))
    assert ratio.low < 2.0 * 0.6 / 1.4
    assert ratio.high is not None
    assert same.high is not None
    assert ratio.high > 2.0 * 1.4 / 0.6 > same.high
    assert any("unlike instruments" in warning for warning in apart.warnings)


def test_by_token_is_the_ratio_over_the_ratio_of_tokens() -> None:
    found = side_by_side([[run("a", 100.0, tokens=1000.0)], [run("b", 200.0, tokens=4000.0)]])
    per_token = found.sides[1].work.times_per_token
    assert per_token is not None
    assert per_token.value == pytest.approx(0.5)
    assert per_token.low == pytest.approx(times(found).low / 4.0)
    one = side_by_side([[run("a", 100.0)], [run("b", 200.0, tokens=4000.0)]])
    assert one.sides[1].work.times_per_token is None


def test_repeats_bring_their_own_spread() -> None:
    pytest.importorskip("scipy")
    a = [run("a", joules, run_id=f"a{joules}") for joules in (100.0, 101.0, 99.0)]
    b = [run("b", joules, run_id=f"b{joules}") for joules in (150.0, 151.0, 149.0)]
    found = side_by_side([a, b])
    ratio = times(found)
    assert ratio.value == pytest.approx(1.5)
    assert ratio.high is not None
    assert ratio.high - ratio.low < 0.12
    assert found.sides[0].run_ids == ("a100.0", "a101.0", "a99.0")
    assert not any("one run says nothing" in warning for warning in found.warnings)


def test_sides_of_one_name_are_called_by_their_ids() -> None:
    found = side_by_side([[run("train", 1.0, run_id="r1")], [run("train", 2.0, run_id="r2")]])
    assert [side.label for side in found.sides] == ["r1", "r2"]


def test_a_failed_run_and_one_with_remarks_are_named() -> None:
    failed = replace(run("b", 2.0), status=StageStatus.FAILED, warnings=("a gap",))
    found = side_by_side([[run("a", 1.0)], [failed]])
    assert found.warnings[0] == "did not end well, so it may not have done the same work: id-b (failed)"
    assert found.warnings[-1] == "there is more to be known of id-b: `stillwatt ledger show RUN`"


def without() -> RunRecord:
    return run_record([], name="none", run_id="id-none", environment=HOST)


def of(name: str, *energies: Energy, duration_s: float = 10.0) -> RunRecord:
    """One stage of these parts."""
    only = stage("t1", "train", StageKind.OTHER, energies=energies, duration_s=duration_s)
    return run_record([only], name=name, run_id=f"id-{name}", environment=HOST, traces=())


def test_ranks_and_threads_side_by_side_take_their_time_once() -> None:
    """Eight ranks of an hour are an hour; what came after is added, to the milliseconds in which clocks are told."""
    beside = [stage(f"t{rank}", "train", StageKind.OTHER, joules=10.0) for rank in range(8)]
    inside = stage("t8", "step", StageKind.OTHER, joules=10.0, duration_s=2.0)
    after = replace(stage("t9", "save", StageKind.OTHER, joules=1.0), start_utc="2026-03-01T10:00:09.999Z")
    many = run_record([*beside, inside, after], name="b", run_id="id-b", environment=HOST)
    side = side_by_side([[run("a", 100.0)], [many]]).sides[1]
    assert side.work.duration_s == pytest.approx(20.0)
    assert side.stages["train"].duration_s == pytest.approx(10.0)


def test_a_models_error_is_alike_only_as_far_as_the_power_is() -> None:
    """A waiting script against a busy one: the model's idle share is not known, so neither is the ratio of both."""
    busy, waiting = of("a", energy(100.0, gain=0.8)), of("b", energy(20.0, gain=0.8))
    ratio = times(side_by_side([[waiting], [busy]]))
    assert ratio.low < 1.001
    assert ratio.high is not None
    assert ratio.high > 24.0
    longer = times(side_by_side([[busy], [of("b", energy(200.0, gain=0.8), duration_s=20.0)]]))
    assert (longer.low, longer.high) == pytest.approx((1.73, 2.31), abs=0.02)  # the same work, twice
    measured = [replace(energy(joules), basis=Basis.MEASURED, driver="rapl") for joules in (20.0, 100.0)]
    told = times(side_by_side([[of("a", measured[0])], [of("b", measured[1])]]))
    assert told.low > 4.0


@given(
    idle_share=st.floats(IDLE_SHARE.low, IDLE_SHARE.high),
    full_w=st.floats(WATTS_PER_THREAD.low, WATTS_PER_THREAD.high),
    loads=st.tuples(st.floats(0.15, 1.0), st.floats(0.15, 1.0)),
    seconds=st.tuples(st.floats(1.0, 1e4), st.floats(1.0, 1e4)),
)
def test_no_machine_of_the_host_models_range_lies_outside(
    idle_share: float, full_w: float, loads: tuple[float, float], seconds: tuple[float, float]
) -> None:
    """Eq. 8 with idle share and rated power as they may be, from a load of 0.15 on."""
    low_rel, high_rel = gain_bounds(WATTS_PER_THREAD, IDLE_SHARE)

    def reading(load: float, time_s: float) -> Reading:
        return Reading(
            value_j=WATTS_PER_THREAD.value * (IDLE_SHARE.value + (1.0 - IDLE_SHARE.value) * load) * time_s,
            least=1.0 - low_rel,
            most=1.0 + high_rel,
            seconds=time_s,
            is_model=True,
        )

    over, under = (reading(load, time_s) for load, time_s in zip(loads, seconds, strict=True))
    least, most = gain_range({KEY: over}, {KEY: under})
    truth = [full_w * (idle_share + (1.0 - idle_share) * load) * s for load, s in zip(loads, seconds, strict=True)]
    assert least * (1.0 - 1e-9) <= truth[0] / truth[1] <= most * (1.0 + 1e-9)


def test_what_was_drawn_while_an_instrument_was_silent_is_in_the_interval() -> None:
    """Half of a run unread is no saving of half."""
    whole, half = of("a", energy(1000.0, gain=0.0)), of("b", energy(500.0, gain=0.0, missing_s=5.0))
    ratio = times(side_by_side([[whole], [half]]))
    assert (ratio.value, ratio.high) == (0.5, None)
    seen = replace(
        half,
        traces=(
            Trace(session="s", part="cpu0", points=(TracePoint(t_s=0.0, mean_w=100.0, low_w=90.0, high_w=200.0),)),
        ),
    )
    found = side_by_side([[whole], [seen]])
    ratio = times(found)
    assert ratio.high is not None
    assert ratio.high > 1.5  # 1,000 J at the most that was seen
    assert not found.complete
    back = times(side_by_side([[seen], [whole]]))
    assert back.low < 0.67
    assert times(side_by_side([[half], [whole]])).low == 0.0


def test_what_every_machine_has_and_one_side_did_not_read_leaves_no_ratio() -> None:
    """GPUs alone against GPUs with their host were told apart from 1."""
    card = energy(100.0, "gpu0", boundary=Boundary.BOARD)
    both, cards = of("a", card, energy(30.0)), of("b", replace(card, value_j=101.0))
    assert times(side_by_side([[both], [cards]])).reason == "one side lacks what the other has: cpu"
    two = of("c", card, replace(card, part="gpu1"), energy(40.0))
    found = side_by_side([[both], [two]])
    assert times(found).value == pytest.approx(240.0 / 130.0)
    assert any("(gpu1 of one alone)" in warning for warning in found.warnings)


def test_the_hosts_of_one_run_are_machines_of_their_own() -> None:
    metered = replace(energy(100.0), basis=Basis.MEASURED)

    def spread(name: str, hosts: tuple[str, ...]) -> RunRecord:
        stages = [stage(f"t{place}", "train", StageKind.OTHER, energies=[metered]) for place in range(len(hosts))]
        spans = [
            StageSpan(stage_id=f"t{place}", session=f"{host}-12-0a", start_s=0.0, end_s=10.0)
            for place, host in enumerate(hosts)
        ]
        made = run_record(stages, name=name, run_id=f"id-{name}", environment={"host": hosts[0]})
        return replace(made, spans=tuple(spans))

    one, two = spread("a", ("node-1",)), spread("b", ("node-1", "node-2"))
    assert {key[0] for key in read_instruments(two, two.stages)} == {"node-1", "node-2"}
    apart, alike = times(side_by_side([[one], [two]])), times(side_by_side([[one], [spread("c", ("node-1",) * 2)]]))
    assert apart.value == alike.value == pytest.approx(2.0)
    assert apart.high is not None
    assert alike.high is not None
    assert apart.high > 2.5 > alike.high
    log = replace(two, environment={})
    assert {key[0] for key in read_instruments(log, log.stages)} == {"id-b"}


def test_where_nothing_can_be_said_there_is_a_reason() -> None:
    whole = run("a", 100.0)
    gap = Absent(part="gpu0", boundary=Boundary.BOARD, reason="no driver")
    lacking = run_record(
        [stage("t1", "train", StageKind.OTHER, energies=(energy(50.0), gap))], name="c", run_id="c", environment=HOST
    )
    node = energy(80.0, "node0", boundary=Boundary.NODE)
    around = stage("t1", "train", StageKind.OTHER, energies=(node,))
    around = replace(around, gross=replace(total_of(around), boundary=Boundary.NODE))
    plugged = run_record([around], name="d", run_id="d", environment=HOST)
    nothing = run_record(
        [stage("t1", "train", StageKind.OTHER, energies=(energy(0.0), energy(0.0, "dram0")))],
        name="e",
        run_id="e",
        environment=HOST,
    )
    mixed = run_record([around, *run("a", 3.0).stages[1:2]], name="f", run_id="f", environment=HOST)
    mixed = replace(mixed, stages=(replace(around, stage_id="t9"), *mixed.stages[1:]))
    found = side_by_side([[whole], [without()], [lacking], [plugged], [nothing], [mixed]])
    reasons = [times(found, index).reason for index in range(1, 6)]
    assert reasons[0] == "run id-none has no stages, and work is what lies in them: `with run.stage(...)`"
    assert reasons[1].startswith("one side lacks what the other has: gpu0 in train")
    assert reasons[2] == "they are summed at unlike boundaries: components and node"
    assert reasons[3] == "an energy is 0: a ratio of it says nothing"
    assert reasons[4] == "the stages of run f are summed at unlike boundaries"
    assert not found.complete
    back = side_by_side([[without()], [whole]])
    assert times(back).reason == "run id-none has no stages, and work is what lies in them: `with run.stage(...)`"


def total_of(one: StageRecord) -> Total:
    assert isinstance(one.gross, Total)
    return one.gross


def test_the_json_says_who_is_held_against_whom() -> None:
    data = side_by_side([[run("a", 100.0)], [run("b", 200.0)], [without()]]).to_dict()
    assert (data["schema"], data["against"]) == ("stillwatt.side-by-side/1", "a")
    first, second, third = data["sides"]
    assert first["times_the_first"] is None
    assert second["times_the_first"]["value"] == pytest.approx(2.0)
    assert second["energy"]["basis"] == Basis.MODELLED.value
    assert third["energy"] == {
        "absent": "run id-none has no stages, and work is what lies in them: `with run.stage(...)`"
    }
    assert third["times_the_first"] == {
        "absent": "run id-none has no stages, and work is what lies in them: `with run.stage(...)`"
    }
    assert second["stages"]["train"]["energy"]["value_j"] == pytest.approx(200.0)


values = st.floats(min_value=0.01, max_value=1e6)
readings = st.builds(
    lambda value, least, most: Reading(value_j=value, least=least, most=most),
    values,
    st.floats(min_value=0.2, max_value=1.0),
    st.floats(min_value=1.0, max_value=4.0),
)


@given(st.dictionaries(st.sampled_from("abcd"), readings, min_size=1), st.data())
def test_no_gain_that_is_allowed_leads_out_of_the_range(over: dict[str, Reading], data: st.DataObject) -> None:
    keys = {name: ("h", name, name, "d") for name in "abcd"}
    under = {name: replace(one, value_j=data.draw(values)) for name, one in over.items()}
    numerator = {keys[name]: one for name, one in over.items()}
    denominator = {keys[name]: one for name, one in under.items()}
    least, most = gain_range(numerator, denominator)
    gains = {name: data.draw(st.floats(min_value=one.least, max_value=one.most)) for name, one in over.items()}
    ratio = math.fsum(gains[n] * over[n].value_j for n in over) / math.fsum(gains[n] * under[n].value_j for n in over)
    assert least * (1.0 - 1e-9) <= ratio <= most * (1.0 + 1e-9)


def test_a_single_instrument_leaves_nothing_and_two_apart_leave_both() -> None:
    twice = Reading(value_j=2.0, least=0.5, most=2.0)
    once = Reading(value_j=1.0, least=0.5, most=2.0)
    assert gain_range({KEY: twice}, {KEY: once}) == (2.0, 2.0)
    assert gain_range({KEY: twice}, {OTHER: once}) == (0.5, 8.0)
    assert gain_range({KEY: twice}, {OTHER: replace(once, least=0.0)})[1] == math.inf


def test_an_instrument_that_read_nothing_is_off_by_nothing() -> None:
    zero = run_record([stage("t", "t", StageKind.OTHER, energies=(energy(0.0),))], environment={})
    (read,) = read_instruments(zero, zero.stages).values()
    assert read == Reading(value_j=0.0, least=1.0, most=1.0, seconds=10.0, is_model=True)
    mean = mean_reading([{KEY: Reading(value_j=4.0, least=0.9, most=1.1)}, {}])
    assert mean == {KEY: Reading(value_j=2.0, least=0.9, most=1.1)}
