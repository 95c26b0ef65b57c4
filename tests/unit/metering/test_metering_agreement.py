"""Counter against witness: which of them is off, and an interval that holds both (method.md, eqs. 7b and 141)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stillwatt.metering.attribute import WeightedWindow
from stillwatt.metering.estimate import estimate_many
from stillwatt.metering.series import Series
from stillwatt.records import Energy, Role
from stillwatt.units import NS_PER_MS, NS_PER_S
from strategies import EPOCH_NS, StepLoad, poll_times, power_channel, random_load, step_counter, window

LENGTH_S = 40.0
STAGES = [window(5, 15), window(16, 17), window(20, 35)]
BOUND: dict[str, Any] = {"gain_low_rel": 0.05, "gain_high_rel": 0.05}
CONSTANT = StepLoad(np.array([EPOCH_NS]), np.array([65.0]))


def square(frequency_hz: float, *, rests: bool = False) -> StepLoad:
    """400 over 80 W, half of each period; 60 W before 4 s and after 36 s where it rests."""
    halves = np.arange(int(2 * frequency_hz * (LENGTH_S + 2)))
    steps_ns = EPOCH_NS + (halves * (NS_PER_S / frequency_hz / 2)).astype(np.int64)
    levels_w = np.where(halves % 2 == 0, 400.0, 80.0)
    since_s = (steps_ns - EPOCH_NS) / NS_PER_S
    return StepLoad(steps_ns, np.where(rests & ((since_s < 4) | (since_s > 36)), 60.0, levels_w))


def on_two_instruments(
    load: StepLoad, *, counts: float = 1.0, shows: float = 1.0, averaging_ms: int = 25, length_s: float = LENGTH_S
) -> tuple[Series, Series]:
    """A counter that counts a share of the truth, and power that shows another, renewed 30 ms later."""
    t_ns = poll_times(np.random.default_rng(3), length_s)
    counter = step_counter(load, t_ns, **BOUND)
    counter = Series(counter.channel, t_ns, np.floor(counter.count * counts))
    ends_ns = EPOCH_NS + (t_ns - EPOCH_NS - 30 * NS_PER_MS) // (100 * NS_PER_MS) * (100 * NS_PER_MS) + 30 * NS_PER_MS
    averaging_ns = averaging_ms * NS_PER_MS
    watts = (load.energy_j(ends_ns) - load.energy_j(ends_ns - averaging_ns)) / (averaging_ns / NS_PER_S) * shows
    return counter, Series(power_channel(averaging_ns=averaging_ns, role=Role.WITNESS, **BOUND), t_ns, watts)


def energies(load: StepLoad, stages: list[WeightedWindow] = STAGES, **instruments: Any) -> list[Energy]:
    found = estimate_many(*on_two_instruments(load, **instruments), [[stage] for stage in stages]).energies
    assert all(isinstance(one, Energy) for one in found)
    return [one for one in found if isinstance(one, Energy)]


def words(found: list[Energy]) -> list[str]:
    return [flag.partition(":")[0] for one in found for flag in one.flags]


def held(load: StepLoad, found: list[Energy], stages: list[WeightedWindow] = STAGES) -> list[bool]:
    return [
        one.low_j <= load.window_j(stage.start_ns, stage.end_ns) <= one.high_j
        for one, stage in zip(found, stages, strict=True)
    ]


def varied(dwell_s: tuple[float, float]) -> Callable[[int], StepLoad]:
    return lambda seed: random_load(np.random.default_rng(seed), LENGTH_S + 2, dwell_s=dwell_s)


@pytest.mark.parametrize("averaging_ms", [25, 100])
@pytest.mark.parametrize("share", [0.57, 0.8, 1.3])
def test_a_counter_that_is_off_is_not_blamed_on_the_witness(averaging_ms: int, share: float) -> None:
    """187 J by the counter of an A100 at rest, 327 J by its power, which looks at 25 of 100 ms: nothing beats there."""
    found = energies(CONSTANT, counts=share, averaging_ms=averaging_ms)
    assert words(found) == ["witness-disagrees"] * 3
    assert all(held(CONSTANT, found))
    assert f"all along the session the one gives {share:.3g} of the other" in found[0].flags[0]


@pytest.mark.parametrize("dwell_s", [(0.2, 3.0), (0.05, 0.3), (0.01, 0.1)])
@pytest.mark.parametrize("share", [0.57, 0.8])
def test_nor_is_it_where_the_load_swings(dwell_s: tuple[float, float], share: float) -> None:
    for seed in range(3):
        load = varied(dwell_s)(seed)
        found = energies(load, counts=share)
        assert words(found) == ["witness-disagrees"] * 3
        assert all(held(load, found))


def test_a_stage_too_short_to_tell_shares_what_all_of_the_session_tells() -> None:
    stages = [window(1, 39), window(17.0, 17.1)]
    long, short = energies(varied((0.01, 0.1))(1), stages, counts=0.8)
    assert "further apart than" in long.flags[0]
    assert "further apart than" not in short.flags[0]
    assert short.flags[0].startswith("witness-disagrees: the counter gives ")


@pytest.mark.parametrize("frequency_hz", [10.02, 10.05, 9.98])
@pytest.mark.parametrize("rests", [False, True])
def test_what_comes_and_goes_with_the_load_is_the_witness(frequency_hz: float, rests: bool) -> None:
    load = square(frequency_hz, rests=rests)
    found = energies(load)
    assert set(words(found)) == {"aliased"}
    assert all(held(load, found))


def test_a_load_locked_to_the_witness_is_held_whichever_is_right() -> None:
    """Power stands at one level all along, as a counter that is off would have it: both are told, both are held."""
    load = square(10.0)
    found = energies(load)
    assert words(found) == ["witness-disagrees"] * 3
    assert all(held(load, found))
    assert all(held(load, energies(square(10.0, rests=True))))


def test_instruments_that_agree_are_never_flagged() -> None:
    flags: Counter[str] = Counter()
    for dwell_s in ((0.2, 3.0), (0.05, 0.3), (0.01, 0.1)):
        for seed in range(4):
            flags.update(words(energies(varied(dwell_s)(seed))))
    assert not flags


@pytest.mark.parametrize("shows", [0.96, 1.04])
@pytest.mark.parametrize("averaging_ms", [25, 100])
def test_the_interval_holds_all_that_the_witness_may_mean(shows: float, averaging_ms: int) -> None:
    """The witness is within its ±5 %, the counter is broken: the truth lies beyond the witness's own number."""
    for seed in range(4):
        load = varied((0.5, 3.0))(seed)
        found = energies(load, counts=0.5, shows=shows, averaging_ms=averaging_ms)
        assert words(found) == ["witness-disagrees"] * 3
        assert all(held(load, found))


def test_a_difference_that_no_swing_explains_in_a_session_too_short_to_compare_pieces_of() -> None:
    (found,) = energies(CONSTANT, [window(0.5, 3.0)], counts=0.57, length_s=3.5)
    assert found.flags[0].startswith("witness-disagrees: the counter gives ")
    assert found.flags[0].endswith("gpu0.power looks at 25 of every 100 ms, which does not explain it")
    assert found.high_j >= 65.0 * 2.5


def test_joules_that_only_the_counter_saw_have_no_ratio() -> None:
    """Power of 0 W over all of a session is no number to be a share of."""
    counter, _ = on_two_instruments(CONSTANT)
    dark = Series(power_channel(averaging_ns=100 * NS_PER_MS, role=Role.WITNESS), counter.t_ns, 0.0 * counter.count)
    (found,) = estimate_many(counter, dark, [[window(5, 15)]]).energies
    assert isinstance(found, Energy)
    assert found.flags[0].startswith("witness-disagrees: the counter gives 650 J and power 0 J, further apart")
    assert found.low_j == pytest.approx(0.0, abs=1.0)
