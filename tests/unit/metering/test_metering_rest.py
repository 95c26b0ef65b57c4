"""Contamination of idle stages: what is clean is not flagged, what works is, and what is used then is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatt.metering.baseline import IdlePower
from stillwatt.metering.idle import When, baseline
from stillwatt.metering.rest import CONTAMINATED, Rest, examine, find_work
from stillwatt.metering.series import Series
from stillwatt.records import Absent, Boundary, Energy, Quantity
from stillwatt.units import NS_PER_MS, NS_PER_S
from strategies import EPOCH_NS, FloatArray, channel, power_channel, window


def noisy(rng: np.random.Generator, level_w: float, noise_rel: float, seconds: float = 10.0) -> FloatArray:
    return level_w * (1.0 + noise_rel * rng.standard_normal(round(10 * seconds) + 1))


def counter(power_w: FloatArray, **changes: Any) -> Series:
    """A counter read every 100 ms that shows the sum of powers held until then; a second more each way."""
    power_w = np.pad(power_w, 10, mode="edge")
    t_ns = EPOCH_NS + (np.arange(power_w.size) - 10) * 100 * NS_PER_MS
    counts = np.append(0.0, np.cumsum(power_w[:-1] * 0.1))
    return Series(channel(Quantity.ENERGY_COUNTER, **changes), t_ns, counts)


def power(power_w: FloatArray, **changes: Any) -> Series:
    t_ns = EPOCH_NS + np.arange(power_w.size) * 100 * NS_PER_MS
    return Series(power_channel(**({"update_period_ns": NS_PER_MS} | changes)), t_ns, power_w)


def mean_w(rest: Rest) -> float:
    assert isinstance(rest.energy, Energy)
    return rest.energy.value_j / rest.used_s


@pytest.mark.parametrize(("noise_rel", "most"), [(0.005, 0), (0.02, 2), (0.05, 12)])
def test_clean_noise_is_hardly_ever_flagged(noise_rel: float, most: int) -> None:
    """Of 1000 idle stages of 10 s with independent noise: none at 0.5 %, two at most at 2 %, twelve at 5 %."""
    rng = np.random.default_rng(7)
    found = [find_work(50.0 * (1.0 + noise_rel * rng.standard_normal(50))) for _ in range(1000)]
    assert sum(bool(work.is_dirty.any() or work.change_w) for work in found) <= most


@given(
    level_w=st.floats(5.0, 200.0),
    rise=st.floats(0.2, 5.0),
    share=st.floats(0.1, 0.7),
    place=st.floats(0.0, 1.0),
    noise_rel=st.floats(0.0, 0.01),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_burst_of_a_fifth_over_a_tenth_of_the_time_is_flagged(
    level_w: float, rise: float, share: float, place: float, noise_rel: float, seed: int
) -> None:
    power_w = noisy(np.random.default_rng(seed), level_w, noise_rel)
    first = round(place * (1.0 - share) * 100)
    power_w[first : first + round(share * 100) + 1] *= 1.0 + rise
    rest = examine(counter(power_w), None, [window(0, 10)])
    assert any(problem.startswith(CONTAMINATED) for problem in rest.problems)


@given(level_w=st.floats(5.0, 200.0), rise=st.floats(0.2, 5.0), first_s=st.floats(0.5, 6.0), seed=st.integers(0, 999))
def test_clean_pieces_give_the_power_at_rest(level_w: float, rise: float, first_s: float, seed: int) -> None:
    power_w = noisy(np.random.default_rng(seed), level_w, 0.005)
    first = round(first_s * 10)
    power_w[first : first + 30] *= 1.0 + rise
    rest = examine(counter(power_w), None, [window(0, 10)])
    assert rest.clean < rest.pieces
    assert rest.used_s == pytest.approx(7.0, abs=0.8)
    assert mean_w(rest) == pytest.approx(level_w, rel=0.01)
    assert rest.widened_w == 0.0
    assert "the rest of it is used" in rest.problems[0]


def test_too_few_clean_pieces_widen_the_whole_down_to_its_level() -> None:
    power_w = np.where(np.arange(101) < 30, 50.0, 80.0)
    rest = examine(counter(power_w), None, [window(0, 10)])
    assert rest.used_s == 10.0
    assert mean_w(rest) == pytest.approx(71.0, rel=0.01)
    assert rest.widened_w == pytest.approx(21.0, rel=0.01)
    assert "only 14 are clean, so all of it is used" in rest.problems[0]


@pytest.mark.parametrize(("first_w", "last_w", "way"), [(80.0, 72.0, "falls"), (50.0, 54.5, "rises")])
def test_a_trend_is_flagged_and_widens_by_half_of_it(first_w: float, last_w: float, way: str) -> None:
    rng = np.random.default_rng(3)
    power_w = np.linspace(first_w, last_w, 101) + 0.2 * rng.standard_normal(101)
    rest = examine(counter(power_w), None, [window(0, 10)])
    assert rest.widened_w == pytest.approx(abs(last_w - first_w) / 2, rel=0.1)
    (problem,) = rest.problems
    assert f"power {way} by" in problem


def test_a_witness_shows_a_burst_that_a_coarse_counter_smears() -> None:
    seen_w = np.full(101, 50.0)
    seen_w[40:50] = 90.0
    smeared_w = np.full(101, 54.0)
    rest = examine(counter(smeared_w), power(seen_w), [window(0, 10)])
    assert rest.clean < rest.pieces == 50


def rarely_read(power_w: FloatArray) -> tuple[Series, Series]:
    """A counter renewed every 100 ms and read every 0.9 s, and the driver's record of power: a value every 20 ms."""
    fine_w = np.repeat(power_w, 5)
    energy_j = np.append(0.0, np.cumsum(fine_w * 0.02))
    times_s = np.arange(fine_w.size + 1) * 0.02
    read_s = np.arange(0.05, times_s[-1], 0.9)
    described = channel(Quantity.ENERGY_COUNTER, update_period_ns=100 * NS_PER_MS, sampling_period_ns=900 * NS_PER_MS)
    shown_j = np.interp(np.floor(read_s * 10) / 10, times_s, energy_j)
    witness = power_channel(update_period_ns=20 * NS_PER_MS, averaging_ns=25 * NS_PER_MS, is_stamped=True)
    return (
        Series(described, EPOCH_NS + (read_s * NS_PER_S).astype(np.int64), shown_j),
        Series(witness, EPOCH_NS + (times_s[1:] * NS_PER_S).astype(np.int64), fine_w),
    )


def test_a_record_of_power_shows_what_a_counter_read_once_a_second_cannot() -> None:
    power_w = np.full(120, 60.0)
    power_w[60:68] = 150.0
    seen = examine(*rarely_read(power_w), [window(1.0, 11.0)])
    assert seen.pieces >= 40
    assert 4 <= seen.pieces - seen.clean <= 6
    assert mean_w(seen) == pytest.approx(60.0, rel=0.02)
    alone = examine(rarely_read(power_w)[0], None, [window(1.0, 11.0)])
    assert alone.pieces == 0


def test_a_quiet_card_with_a_record_of_power_is_clean() -> None:
    rng = np.random.default_rng(11)
    found = [examine(*rarely_read(noisy(rng, 60.0, 0.02, 12.0)), [window(1.0, 11.0)]) for _ in range(50)]
    assert sum(bool(rest.problems) for rest in found) <= 1
    assert all(rest.pieces >= 40 for rest in found)


def test_counter_and_power_that_disagree_are_flagged_and_both_held_once() -> None:
    """187 J by the counter and 327 J by power over the same idle seconds: both are told, neither is believed."""
    bound = {"gain_low_rel": 0.05, "gain_high_rel": 0.05}
    rest = examine(counter(np.full(101, 37.0), **bound), power(np.full(101, 65.0), **bound), [window(0, 10)])
    assert "contaminated: witness-disagrees: the counter gives 370 J and power 650 J" in rest.problems[0]
    idle = baseline("gpu0", {When.BEFORE: [rest]}).power
    assert isinstance(idle, IdlePower)
    assert 65.0 * 1.05 <= idle.value_w + idle.random_w <= 65.0 * 1.05 + 3.0


def test_a_rest_whose_clean_pieces_do_not_tell_is_as_wide_as_all_of_it() -> None:
    """Cut up, the counter is known too badly to be held against power; it is off all the same."""
    power_w = np.full(101, 40.0)
    power_w[20:30] = 90.0
    power_w[60:70] = 90.0
    seen_w = np.where(power_w > 50.0, 92.0, 48.0)
    rest = examine(counter(power_w), power(seen_w, averaging_ns=NS_PER_MS // 4), [window(0, 10)])
    assert any("something worked" in problem for problem in rest.problems)
    assert rest.clean < rest.pieces
    assert isinstance(rest.energy, Energy)
    assert mean_w(rest) + rest.energy.random_j / rest.used_s + rest.widened_w >= 48.0 - 1.0


def test_a_flagged_energy_whose_witness_has_gone_is_not_widened() -> None:
    whole = examine(counter(np.full(101, 37.0)), power(np.full(101, 65.0)), [window(0, 10)]).energy
    far = Series(power_channel(), np.array([0]), np.array([1.0]))
    for witness in (None, far):
        assert examine(counter(np.full(101, 37.0)), witness, [window(0, 10)], whole=whole).widened_w == 0.0


def test_a_short_rest_is_not_looked_at() -> None:
    rest = examine(counter(np.full(101, 37.0)), None, [window(0, 1)])
    assert (rest.pieces, rest.clean, rest.problems) == (0, 0, ())
    assert mean_w(rest) == pytest.approx(37.0)
    assert find_work(np.array([])).level_w == 0.0


def test_an_absent_part_has_no_rest() -> None:
    gone = Absent(part="gpu0", boundary=Boundary.BOARD, reason="gone")
    assert examine(counter(np.full(101, 37.0)), None, [window(0, 10)], whole=gone).energy is gone


def test_pieces_without_readings_are_not_clean_or_dirty() -> None:
    rest = examine(power(noisy(np.random.default_rng(1), 50.0, 0.01, 5.0)), None, [window(0, 10)])
    assert isinstance(rest.energy, Energy)
    assert rest.energy.missing_s == pytest.approx(4.0)
    assert not rest.problems
    assert mean_w(rest) == pytest.approx(50.0 * 0.6, rel=0.02)


def test_few_clean_pieces_show_no_trend() -> None:
    assert find_work(np.array([50.0, 51.0, 52.0, 53.0, 54.0, 90.0, 91.0, 92.0])).change_w == 0.0


def test_several_windows_are_one_rest() -> None:
    power_w = np.where((np.arange(201) // 50) % 2 == 0, 60.0, 300.0)
    rest = examine(counter(power_w), None, [window(0.5, 4.5), window(10.5, 14.5)])
    assert mean_w(rest) == pytest.approx(60.0)
    assert rest.used_s == 8.0
    assert len(rest.blocks_w) == 8
    assert not rest.problems


def test_lengths_are_those_of_the_windows() -> None:
    rest = examine(counter(np.full(101, 37.0)), None, [window(1, 9)])
    assert rest.used_s * NS_PER_S == 8 * NS_PER_S


@pytest.mark.parametrize("burst_s", [2.0, 5.0, 9.0])
def test_a_rest_of_few_pieces_that_differ_reaches_down_to_the_least(burst_s: float) -> None:
    """Read once a second, 15 s have seven pieces: a burst is not told from rest, but the idle power must hold it."""
    at_s = np.arange(21.0)
    busy_j = 60.0 * np.clip(at_s - 6.0, 0.0, burst_s)
    t_ns = EPOCH_NS + (at_s * NS_PER_S).astype(np.int64)
    series = Series(channel(Quantity.ENERGY_COUNTER, sampling_period_ns=NS_PER_S), t_ns, 1.0 + 40.0 * at_s + busy_j)
    rest = examine(series, None, [window(3.0, 18.0)])
    power_w = baseline("gpu0", {When.BEFORE: [rest]}).power
    assert isinstance(power_w, IdlePower)
    assert power_w.value_w - power_w.random_w <= 40.0 < power_w.value_w
    assert rest.pieces == 0
    (problem,) = rest.problems
    assert problem.startswith(f"{CONTAMINATED}: power lies between 40 and ")
    assert "too few" in problem


def test_a_rest_of_few_pieces_that_agree_is_as_it_was() -> None:
    at_s = np.arange(21.0)
    t_ns = EPOCH_NS + (at_s * NS_PER_S).astype(np.int64)
    series = Series(channel(Quantity.ENERGY_COUNTER, sampling_period_ns=NS_PER_S), t_ns, 1.0 + 40.0 * at_s)
    rest = examine(series, None, [window(3.0, 18.0)])
    assert rest.problems == ()
    assert rest.widened_w == 0.0
