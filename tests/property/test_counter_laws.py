"""Whatever a counter shows for a few readings, no stage's energy moves by more than its interval says."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stillwatt.metering.estimate import estimate_many
from stillwatt.metering.series import Series
from stillwatt.records import Energy
from stillwatt.units import NS_PER_MS
from strategies import EPOCH_NS, FloatArray, channel, power_channel, random_load, step_counter, window

law = settings(deadline=None, max_examples=80)
LENGTH_S, PERIOD_NS = 12.0, 100 * NS_PER_MS
RANGE = 262_143_328
MOST_W = 700.0
STAGES_S = [(0.0, 12.0), (0.0, 1.5), (2.0, 5.0), (5.0, 5.6), (5.6, 9.0), (10.0, 12.0)]
OWNERS = [[window(start_s, end_s)] for start_s, end_s in STAGES_S]


@st.composite
def replaced(draw: st.DrawFn, count: FloatArray) -> tuple[int, FloatArray]:
    """Where some readings in a row are replaced, and by what: anything, or what lies near."""
    num = draw(st.integers(1, 4))
    at = draw(st.integers(0, count.size - num))
    anything = st.integers(0, 2**64 - 1).map(float) | st.sampled_from([0.0, 2.0**32 - 1, 2.0**64 - 1])
    near = st.integers(-(10**6), 10**6).map(lambda apart: max(0.0, float(count[at]) + apart))
    return at, np.array(draw(st.lists(anything | near, min_size=num, max_size=num)))


def energies(counter: Series, witness: Series | None) -> list[Energy | None]:
    found = estimate_many(counter, witness, OWNERS).energies
    return [energy if isinstance(energy, Energy) and not energy.missing_s else None for energy in found]


def may_have_counted_j(count: FloatArray, at: int, values: FloatArray) -> float:
    """What values that lie between those around them may hide: nothing tells these from true ones.

    At an end there is nothing on the other side, and they may hide what could have been drawn.
    """
    end = at + values.size
    if at == 0 or end == count.size:
        return MOST_W * 0.1 * (values.size + 1)
    before, after = count[at - 1], count[end]
    is_between = np.mod(values - before, RANGE) <= np.mod(after - before, RANGE)
    return float(np.mod(after - before, RANGE)) * 0.001 if is_between.any() else 0.0


@law
@given(st.data(), st.integers(0, 99), st.booleans(), st.sampled_from([None, RANGE]))
def test_a_few_readings_of_anything_move_no_energy_beyond_its_interval(
    data: st.DataObject, seed: int, has_witness: bool, modulus: int | None
) -> None:
    """Held against the same readings without those that are replaced: what is not in the interval is missing."""
    rng = np.random.default_rng(seed)
    load = random_load(rng, LENGTH_S)
    t_ns = EPOCH_NS + np.arange(round(LENGTH_S / 0.1) + 1, dtype=np.int64) * PERIOD_NS
    phase_ns = int(rng.integers(PERIOD_NS))
    clean = step_counter(load, t_ns, phase_ns=phase_ns, modulus=modulus, sampling_period_ns=PERIOD_NS)
    count = clean.count if modulus is None else np.mod(clean.count + 10 ** rng.uniform(0, 8), modulus)
    at, values = data.draw(replaced(count))
    shown, is_left = count.copy(), np.ones(count.size, dtype=np.bool_)
    shown[at : at + values.size], is_left[at : at + values.size] = values, False
    witness = Series(power_channel(), t_ns, load.power_w(t_ns)) if has_witness else None
    expected = energies(Series(clean.channel, t_ns[is_left], count[is_left]), witness)
    for without, energy in zip(expected, energies(Series(clean.channel, t_ns, shown), witness), strict=True):
        if energy is None or without is None:
            continue
        hidden_j = may_have_counted_j(count, at, values)
        assert abs(energy.value_j - without.value_j) <= energy.random_j + without.random_j + hidden_j + 0.01


@law
@given(st.integers(1, 400), st.integers(0, 10**7), st.integers(20, 80), st.booleans())
def test_a_counter_that_begins_anew_loses_no_reading(watts: int, before: int, at: int, is_wide: bool) -> None:
    """It goes to 0 and counts on from there: a reset, whatever it stood at before, if that was a second's and more."""
    step = watts * 100
    count = np.floor(before + step * (10.0 + np.arange(100)))
    count[at:] = step * np.arange(100 - at)
    t_ns = EPOCH_NS + np.arange(100, dtype=np.int64) * PERIOD_NS
    told = channel(unit_si=0.001, sampling_period_ns=PERIOD_NS, limit_w=700.0 if is_wide else None)
    (energy,) = estimate_many(Series(told, t_ns, count), None, [[window(1, 9)]]).energies
    assert isinstance(energy, Energy)
    assert energy.failed_reads == 0
    assert abs(energy.value_j + watts * energy.missing_s - 8 * watts) <= energy.random_j + 0.2 * watts
