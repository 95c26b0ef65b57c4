"""What must hold for every trace, every window and every journal."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillwatt.metering.account import SessionInput, account_session
from stillwatt.metering.attribute import WeightedSpan, WeightedWindow, exclusive_windows
from stillwatt.metering.baseline import IdlePower, idle_power, net_energy
from stillwatt.metering.estimate import estimate, estimate_many
from stillwatt.metering.series import Series
from stillwatt.metering.totals import combine, sum_part
from stillwatt.metering.trace import trace_points
from stillwatt.metering.unwrap import unwrap
from stillwatt.records import Absent, Basis, Energy, Quantity, StageWindow, Total
from stillwatt.units import NS_PER_MS, NS_PER_S
from strategies import EPOCH_NS, channel, cuts, power_channel, stage_trees, traces

law = settings(deadline=None, max_examples=80)
"""No deadline: the machine may be busy, and nothing here is about time."""


def joules(energy: Energy | Absent) -> float:
    return energy.value_j if isinstance(energy, Energy) else 0.0


def missing_seconds(energy: Energy | Absent, length_s: float) -> float:
    return energy.missing_s if isinstance(energy, Energy) else length_s


@law
@given(traces(), st.data())
def test_cutting_a_window_conserves_energy_and_seconds(series: Series, data: st.DataObject) -> None:
    marks = data.draw(cuts(series))
    pieces = [WeightedWindow(start, end) for start, end in pairwise(marks)]
    whole = WeightedWindow(marks[0], marks[-1])
    *parts, total, joined = estimate_many(series, None, [*([piece] for piece in pieces), [whole], pieces]).energies
    if isinstance(total, Absent):
        assert all(isinstance(part, Absent) for part in parts)
        return
    assert isinstance(joined, Energy)
    assert joined == total
    scale_j = max(abs(joules(part)) for part in [total, *parts])
    assert math.fsum(map(joules, parts)) == pytest.approx(total.value_j, rel=1e-9, abs=1e-9 * scale_j + 1e-9)
    lengths_s = [(piece.end_ns - piece.start_ns) / NS_PER_S for piece in pieces]
    missing_s = math.fsum(missing_seconds(part, length_s) for part, length_s in zip(parts, lengths_s, strict=True))
    assert missing_s == pytest.approx(total.missing_s, rel=1e-9, abs=1e-9)
    covered_s = [part.coverage * s for part, s in zip(parts, lengths_s, strict=True) if isinstance(part, Energy)]
    assert math.fsum(covered_s) == pytest.approx(total.coverage * math.fsum(lengths_s), rel=1e-9, abs=1e-9)
    if all(isinstance(part, Energy) for part in parts):
        assert sum(part.failed_reads for part in parts if isinstance(part, Energy)) == total.failed_reads


@law
@given(traces(), st.data(), st.floats(0.01, 1.0))
def test_the_weight_of_a_window_scales_its_energy(series: Series, data: st.DataObject, weight: float) -> None:
    start, *_, end = data.draw(cuts(series))
    whole = estimate(series, None, [WeightedWindow(start, end)])
    share = estimate(series, None, [WeightedWindow(start, end, weight)])
    assert isinstance(whole, Energy) == isinstance(share, Energy)
    if isinstance(whole, Energy) and isinstance(share, Energy):
        for name in ("value_j", "random_j", "estimated_j", "missing_s"):
            assert getattr(share, name) == pytest.approx(weight * getattr(whole, name), rel=1e-6, abs=1e-6), name
        assert share.coverage == pytest.approx(whole.coverage, rel=1e-6)


@law
@given(traces(), st.data())
def test_energy_is_never_negative_and_never_more_than_the_largest_power_allows(
    series: Series, data: st.DataObject
) -> None:
    marks = data.draw(cuts(series))
    owners = [[WeightedWindow(start, end)] for start, end in pairwise(marks)]
    for energy, (start, end) in zip(estimate_many(series, None, owners).energies, pairwise(marks), strict=True):
        if isinstance(energy, Absent):
            continue
        assert energy.value_j >= -1e-6
        assert -1e-6 <= energy.estimated_j <= energy.value_j + 1e-6
        assert energy.missing_s <= (end - start) / NS_PER_S + 1e-9
        if series.channel.quantity is Quantity.POWER:
            assert energy.value_j <= float(series.count.max()) * (end - start) / NS_PER_S + 1e-6


@law
@given(st.floats(1.0, 500.0), st.integers(2, 60), st.data())
def test_constant_power_is_measured_exactly_by_both_kinds(watts: float, count: int, data: st.DataObject) -> None:
    """A counter that is always up to date and a power reading agree with watts times seconds."""
    t_ns = EPOCH_NS + np.arange(count, dtype=np.int64) * 100 * NS_PER_MS
    counter = Series(channel(update_period_ns=1), t_ns, watts * (t_ns - EPOCH_NS) / NS_PER_S)
    power = Series(power_channel(), t_ns, np.full(count, watts))
    last_ms = (count - 1) * 100
    start_ms = data.draw(st.integers(0, last_ms - 1))
    end_ms = data.draw(st.integers(start_ms + 1, last_ms))
    window = WeightedWindow(EPOCH_NS + start_ms * NS_PER_MS, EPOCH_NS + end_ms * NS_PER_MS)
    for series in (counter, power):
        energy = estimate(series, None, [window])
        assert isinstance(energy, Energy)
        assert energy.value_j == pytest.approx(watts * (end_ms - start_ms) * NS_PER_MS / NS_PER_S, rel=1e-6)
        assert energy.coverage == pytest.approx(1.0)
        assert energy.missing_s == 0.0


@law
@given(st.lists(st.integers(0, 999), min_size=2, max_size=50), st.integers(1_000, 5_000))
def test_unwrapping_gives_back_the_distance(steps: list[int], modulus: int) -> None:
    true = np.cumsum(steps)
    t_ns = EPOCH_NS + np.arange(len(steps), dtype=np.int64) * NS_PER_S
    found = unwrap(Series(channel(modulus=modulus), t_ns, (true % modulus).astype(np.float64)))
    assert np.all(found.increments >= 0)
    if found.resets.size == 0:
        assert found.increments.sum() == true[-1] - true[0]


@law
@given(stage_trees(), st.integers(0, 50), st.integers(50, 120))
def test_weighted_windows_partition_the_session(stages: list[StageWindow], start: int, end: int) -> None:
    owned = exclusive_windows(stages, start, end)
    assert set(owned) == {None, *(stage.stage_id for stage in stages)}
    length = sum(
        Fraction(window.weight).limit_denominator(100) * (window.end_ns - window.start_ns)
        for windows in owned.values()
        for window in windows
    )
    assert length == end - start
    for stage in stages:
        for window in owned[stage.stage_id]:
            assert max(stage.start_ns, start) <= window.start_ns < window.end_ns <= min(stage.end_ns, end)
            assert 0 < window.weight <= 1


@law
@given(stage_trees())
def test_each_moment_belongs_to_the_innermost_stages_that_run(stages: list[StageWindow]) -> None:
    """Against the definition, nanosecond by nanosecond."""
    owned = exclusive_windows(stages, 0, 100)
    parents = {stage.stage_id: stage.parent_id for stage in stages}
    for t in range(0, 100, 7):
        active = {stage.stage_id for stage in stages if stage.start_ns <= t < stage.end_ns}
        above: set[str] = set()
        for stage_id in active:
            seen, parent = {stage_id}, parents[stage_id]
            while parent is not None and parent in parents and parent not in seen:
                seen.add(parent)
                above.add(parent)
                parent = parents[parent]
        expected: set[str | None] = set(active - above) or {None}
        holders = {
            owner: window.weight
            for owner, windows in owned.items()
            for window in windows
            if window.start_ns <= t < window.end_ns
        }
        assert holders == dict.fromkeys(expected, 1.0 / len(expected))


@law
@given(traces(), stage_trees(broken=False), st.booleans())
def test_children_and_unallocated_add_up_to_the_session(
    series: Series, stages: list[StageWindow], has_witness: bool
) -> None:
    span = int(series.t_ns[-1] - series.t_ns[0])

    def place(moment: int) -> int:
        return int(series.t_ns[0]) + span * moment // 100

    windows = [
        StageWindow(
            session="one",
            stage_id=stage.stage_id,
            parent_id=stage.parent_id,
            start_ns=place(stage.start_ns),
            end_ns=place(stage.end_ns),
        )
        for stage in stages
    ]
    witness = Series(power_channel(), series.t_ns, np.full(series.t_ns.size, 50.0)) if has_witness else None
    account = account_session(
        SessionInput(windows=windows, start_ns=place(0), end_ns=place(100), series={"gpu0": (series, witness)})
    )
    total_j = joules(account.total["gpu0"])
    tolerance_j = 1e-9 * max(1.0, abs(total_j))
    children: dict[str | None, float] = {}
    seconds: dict[str | None, float] = {}
    for stage in windows:
        stage_account = account.stages[stage.stage_id]
        children[stage.parent_id] = children.get(stage.parent_id, 0.0) + joules(stage_account.gross["gpu0"])
        seconds[stage.parent_id] = seconds.get(stage.parent_id, 0.0) + stage_account.gross_s["gpu0"]
    for stage in windows:
        stage_account = account.stages[stage.stage_id]
        own_and_below_j = joules(stage_account.self_energies["gpu0"]) + children.get(stage.stage_id, 0.0)
        assert own_and_below_j == pytest.approx(joules(stage_account.gross["gpu0"]), rel=1e-9, abs=tolerance_j)
    assert children.get(None, 0.0) + joules(account.unallocated["gpu0"]) == pytest.approx(
        total_j, rel=1e-9, abs=tolerance_j
    )
    assert seconds.get(None, 0.0) + account.unallocated_s["gpu0"] == pytest.approx(account.total_s["gpu0"], abs=1e-9)


energies = st.builds(
    Energy,
    part=st.sampled_from(["gpu0", "gpu1", "cpu0"]),
    device=st.just("x"),
    boundary=st.just(channel().boundary),
    value_j=st.floats(-1e3, 1e6),
    random_j=st.floats(0, 1e3),
    systematic_low_j=st.floats(0, 1e3),
    systematic_high_j=st.floats(0, 1e3),
    basis=st.sampled_from(list(Basis)),
    method=st.just("counter"),
    coverage=st.floats(0, 1),
    failed_reads=st.integers(0, 5),
    estimated_j=st.floats(0, 10),
    missing_s=st.just(0.0),
    driver=st.sampled_from(["nvml", "rapl"]),
    source=st.just(""),
)


@law
@given(st.lists(energies, min_size=1, max_size=3, unique_by=lambda energy: energy.part))
def test_a_total_does_not_depend_on_the_order_of_its_parts(parts: list[Energy]) -> None:
    total, backwards = combine(parts), combine(parts[::-1])
    assert isinstance(total, Total)
    assert isinstance(backwards, Total)
    assert total.value_j == backwards.value_j
    assert total.high_j == pytest.approx(backwards.high_j)
    assert dict(total.share_by_basis) == pytest.approx(dict(backwards.share_by_basis))
    widest = max(math.hypot(part.random_j, part.systematic_high_j) for part in parts)
    assert total.high_j - total.value_j >= widest * (1 - 1e-9) - 1e-9
    assert math.fsum(share for _, share in total.share_by_basis) == pytest.approx(1.0) or not total.share_by_basis


def uncut_low_j(value_j: float, random_j: list[float], by_driver_j: dict[str, float]) -> float:
    return value_j - math.hypot(*random_j, *by_driver_j.values())


@law
@given(energies, st.floats(0, 1e6))
def test_what_can_be_lies_in_the_interval_as_before_it_was_cut(energy: Energy, truth_j: float) -> None:
    uncut_j = uncut_low_j(energy.value_j, [energy.random_j], {"": energy.systematic_low_j})
    assert energy.low_j <= energy.value_j <= energy.high_j
    assert energy.low_j >= min(energy.value_j, 0.0)
    assert (energy.low_j <= truth_j <= energy.high_j) == (uncut_j <= truth_j <= energy.high_j)
    assert replace(energy, is_net=True).low_j == uncut_j


@law
@given(st.lists(energies, min_size=1, max_size=3, unique_by=lambda energy: energy.part))
def test_a_sum_is_cut_after_it_was_added(parts: list[Energy]) -> None:
    total = combine(parts)
    assert isinstance(total, Total)
    by_driver: dict[str, float] = defaultdict(float)
    for part in parts:
        by_driver[part.driver] += part.systematic_low_j
    uncut_j = uncut_low_j(total.value_j, [part.random_j for part in parts], by_driver)
    assert total.low_j == pytest.approx(min(total.value_j, max(uncut_j, 0.0)), abs=1e-6)
    above = combine([replace(part, is_net=True) for part in parts])
    assert isinstance(above, Total)
    assert (above.value_j, above.high_j) == (total.value_j, total.high_j)
    assert above.low_j == pytest.approx(uncut_j, abs=1e-6)


@law
@given(st.lists(energies.map(lambda energy: replace(energy, part="gpu0")), min_size=2, max_size=4))
def test_a_sum_of_sums_ends_where_the_sum_of_all_does(stages: list[Energy]) -> None:
    at_once = sum_part(stages, [1.0] * len(stages))
    *some, last = stages
    inner = sum_part(some, [1.0] * len(some))
    in_turns = sum_part([inner, last], [float(len(some)), 1.0])
    assert isinstance(at_once, Energy)
    assert isinstance(in_turns, Energy)
    assert in_turns.low_j == pytest.approx(at_once.low_j, abs=1e-6)
    assert in_turns.high_j == pytest.approx(at_once.high_j, abs=1e-6)


@law
@given(energies, st.floats(0, 1e3), st.floats(0.1, 1e3))
def test_net_is_never_cut_and_idle_power_is(gross: Energy, idle_w: float, length_s: float) -> None:
    idle = idle_power(replace(gross, value_j=idle_w * length_s), length_s)
    assert isinstance(idle, IdlePower)
    assert 0.0 <= idle.low_w <= idle.value_w
    above = net_energy(gross, idle, length_s)
    total = combine([above])
    assert isinstance(total, Total)
    below_j = math.hypot(above.random_j, above.systematic_low_j)
    assert above.low_j == total.low_j == above.value_j - below_j


@law
@given(energies, st.integers(1, 9))
def test_repeats_shrink_the_random_part_and_never_the_systematic(energy: Energy, repeats: int) -> None:
    total = sum_part([energy] * repeats, [1.0] * repeats)
    assert isinstance(total, Energy)
    assert total.random_j == pytest.approx(math.sqrt(repeats) * energy.random_j)
    assert total.systematic_high_j == pytest.approx(repeats * energy.systematic_high_j)
    assert total.coverage == pytest.approx(energy.coverage)


@law
@given(traces(), st.integers(1, 50))
def test_a_drawing_stays_between_its_extremes_and_within_its_points(series: Series, max_points: int) -> None:
    points = trace_points(series, int(series.t_ns[0]), max_points=max_points)
    assert len(points) <= max_points
    assert [point.t_s for point in points] == sorted(point.t_s for point in points)
    for point in points:
        assert point.low_w - 1e-6 <= point.mean_w <= point.high_w + 1e-6


@st.composite
def sessions_and_shares(draw: st.DrawFn) -> tuple[list[StageWindow], list[WeightedSpan]]:
    """Stages of three sessions, and steps in which some of them are told to have shares."""
    stages = []
    for number in range(draw(st.integers(1, 8))):
        start = draw(st.integers(0, 90))
        session = draw(st.sampled_from(["one", "two", "three"]))
        end = draw(st.integers(start, 100))
        stages.append(StageWindow(session=session, stage_id=f"s{number}", parent_id=None, start_ns=start, end_ns=end))
    marks = sorted(draw(st.lists(st.integers(-10, 110), max_size=6, unique=True)))
    weights = st.lists(st.tuples(st.sampled_from(["one", "two", "stranger"]), st.floats(0, 5)), max_size=3)
    shares = [
        WeightedSpan(a, b, tuple(dict(draw(weights)).items())) for a, b in zip(marks[::2], marks[1::2], strict=False)
    ]
    return stages, shares


@given(sessions_and_shares())
def test_whatever_sessions_are_told_to_share_every_moment_is_divided_once(
    drawn: tuple[list[StageWindow], list[WeightedSpan]],
) -> None:
    stages, shares = drawn
    owned = exclusive_windows(stages, 0, 100, shares)
    moments = [0.0] * 100
    for windows in owned.values():
        for window in windows:
            for moment in range(window.start_ns, window.end_ns):
                moments[moment] += window.weight
    assert moments == pytest.approx([1.0] * 100)
    for stage in stages:
        assert all(stage.start_ns <= w.start_ns and w.end_ns <= stage.end_ns for w in owned[stage.stage_id])


@given(sessions_and_shares())
def test_a_session_on_its_own_gets_all_whatever_it_was_told(
    drawn: tuple[list[StageWindow], list[WeightedSpan]],
) -> None:
    stages, shares = drawn
    lone = [stage for stage in stages if stage.session == "one"]
    told, untold = exclusive_windows(lone, 0, 100, shares), exclusive_windows(lone, 0, 100)
    for stage in lone:
        assert sum(w.weight * (w.end_ns - w.start_ns) for w in told[stage.stage_id]) == pytest.approx(
            sum(w.weight * (w.end_ns - w.start_ns) for w in untold[stage.stage_id])
        )
