"""What an average over a second hides of a load that repeats in it (method.md, eq. 7a)."""

from __future__ import annotations

import numpy as np
import pytest

from stillwatt.metering.estimate import estimate
from stillwatt.metering.series import Series
from stillwatt.records import Energy
from stillwatt.units import NS_PER_MS, seconds
from strategies import EPOCH_NS, StepLoad, power_channel, window

AVERAGING_NS = 1_000 * NS_PER_MS


@pytest.mark.parametrize("period_ms", [1_000, 988, 520, 500, 333])
@pytest.mark.parametrize("start_s", [3.0, 3.1, 3.25, 3.37, 3.6])
def test_a_load_that_repeats_in_the_averaging_time_is_inside_the_interval(period_ms: int, start_s: float) -> None:
    edges_ms = np.arange(0, 12_000, period_ms / 2)
    load = StepLoad(
        np.asarray(EPOCH_NS + edges_ms * NS_PER_MS, dtype=np.int64),
        np.where(np.arange(edges_ms.size) % 2 == 0, 400.0, 90.0),
    )
    t_ns = EPOCH_NS + np.arange(1_200, 11_500, 100, dtype=np.int64) * NS_PER_MS
    shown_w = [load.window_j(t - AVERAGING_NS, t) / seconds(AVERAGING_NS) for t in t_ns.tolist()]
    channel = power_channel(averaging_ns=AVERAGING_NS, update_period_ns=100 * NS_PER_MS)
    series = Series(channel, t_ns, np.array(shown_w))
    asked = window(start_s, start_s + 2.25)
    found = estimate(series, None, [asked])
    assert isinstance(found, Energy)
    true_j = load.window_j(asked.start_ns, asked.end_ns)
    assert abs(found.value_j - true_j) <= found.random_j
    assert found.random_j < 0.25 * true_j
