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
from stillwatt.records import Absent, Basis, Boundary, NoTotal, RunRecord, StageKind, StageRecord, StageStatus, Total

HOST = {"host": "node1"}
KEY, OTHER = ("node1", "gpu0", "GPU-1", "nvml"), ("node1", "cpu0", "cpu", "rapl")


def run(name: str, joules: float, *, tokens: float | None = None, run_id: str = "", host: str = "node1") -> RunRecord:
    """One training of that energy, between two rests."""
    stages = [
        stage("i1", "idle_baseline", StageKind.IDLE_BASELINE, joules=500.0),
        stage("t1", "train", StageKind.OTHER, joules=joules, tokens=tokens),
        stage("t2", "inner", StageKind.OTHER, joules=joules / 2.0, parent_id="t1"),
    ]
    return run_record(stages, name=name, run_id=run_id or f"id-{name}", environment={"host": host})


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
        [stage("t1", "train", StageKind.OTHER, energies=(energy(0.0),))], name="e", run_id="e", environment=HOST
    )
    mixed = run_record([around, *run("a", 3.0).stages[1:2]], name="f", run_id="f", environment=HOST)
    mixed = replace(mixed, stages=(replace(around, stage_id="t9"), *mixed.stages[1:]))
    found = side_by_side([[whole], [without()], [lacking], [plugged], [nothing], [mixed]])
    reasons = [times(found, index).reason for index in range(1, 6)]
    assert reasons[0] == "run id-none did nothing of the kind"
    assert reasons[1].startswith("one side lacks what the other has: gpu0 in train")
    assert reasons[2] == "they are summed at unlike boundaries: components and node"
    assert reasons[3] == "an energy is 0: a ratio of it says nothing"
    assert reasons[4] == "the stages of run f are summed at unlike boundaries"
    assert not found.complete
    back = side_by_side([[without()], [whole]])
    assert times(back).reason == "run id-none did nothing of the kind"


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
    assert third["energy"] == {"absent": "run id-none did nothing of the kind"}
    assert third["times_the_first"] == {"absent": "run id-none did nothing of the kind"}
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
    assert read == Reading(value_j=0.0, least=1.0, most=1.0)
    mean = mean_reading([{KEY: Reading(value_j=4.0, least=0.9, most=1.1)}, {}])
    assert mean == {KEY: Reading(value_j=2.0, least=0.9, most=1.1)}
