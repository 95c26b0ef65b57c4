"""Lulls: spans in which a session read more rarely, from its journal to its account."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from run_dirs import SyntheticRun, gpu_counter
from stillwatt.ledger.events import Event, PeriodChanged, SamplerStarted
from stillwatt.ledger.samplers import lulls
from stillwatt.ledger.segments_raw import RawWriter, raw_path
from stillwatt.metering.series import Series
from stillwatt.records import Energy, Lull
from stillwatt.units import NS_PER_S, nanoseconds
from stillwatt.workflows.books import show_run
from strategies import channel

STARTED = SamplerStarted(t_ns=0, pid=1, period_ns=NS_PER_S // 10, probes=[], channels=[], absent=[])


def changes(*events: tuple[int, int]) -> list[Event]:
    return [STARTED, *(PeriodChanged(t_ns=t_s * NS_PER_S, period_ns=period_ns) for t_s, period_ns in events)]


def test_lulls_begin_and_end_with_the_pace() -> None:
    slow, usual = NS_PER_S, NS_PER_S // 10
    found = lulls(changes((5, slow), (9, usual), (20, slow)))
    assert [(lull.start_ns // NS_PER_S, lull.period_ns) for lull in found] == [(5, slow), (20, slow)]
    assert found[0].end_ns == 9 * NS_PER_S
    assert found[1].end_ns > 10**18  # its end is not on record: it lasts
    assert lulls(changes((3, usual))) == ()


def test_a_lull_that_says_it_begins_twice_is_two() -> None:
    found = lulls(changes((5, NS_PER_S), (7, 2 * NS_PER_S), (6, NS_PER_S // 10)))
    assert [(lull.start_ns // NS_PER_S, lull.end_ns // NS_PER_S) for lull in found] == [(5, 7), (7, 7)]


def test_a_lull_that_ends_before_it_begins_is_none() -> None:
    with pytest.raises(ValueError, match="no lull"):
        Lull(start_ns=5, end_ns=4, period_ns=1)


def test_seconds_between_readings_are_covered_in_a_lull_and_a_gap_outside() -> None:
    t_s = np.array([0.0, 0.1, 0.2, 1.2, 2.2, 3.2, 3.3, 4.3])
    described = channel(sampling_period_ns=NS_PER_S // 10)
    lull = Lull(start_ns=NS_PER_S // 5, end_ns=round(3.2 * NS_PER_S), period_ns=NS_PER_S)
    series = Series(described, np.round(t_s * NS_PER_S).astype(np.int64), t_s * 100, lulls=(lull,))
    is_gap = np.diff(series.t_ns) > series.allowed_ns
    assert is_gap.tolist() == [False, False, False, False, False, False, True]


@pytest.mark.parametrize("is_told", [True, False])
def test_a_run_with_a_lull_is_covered_because_its_journal_says_so(tmp_path: Path, is_told: bool) -> None:
    run = SyntheticRun(tmp_path, name="long")
    session = run.session(start_s=100.0)
    session.sampler([gpu_counter()])
    t_s = np.concatenate((np.arange(100.0, 105.0, 0.1), np.arange(105.0, 130.0, 1.0), np.arange(130.0, 140.05, 0.1)))
    writer = RawWriter(raw_path(run.path, session.name, "gpu0.energy_counter"))
    for at_s in t_s.tolist():
        writer.append(nanoseconds(at_s), round((at_s - 100.0) * 200.0 * 1e3))
    writer.flush()
    writer.close()
    session._samples = t_s.size
    if is_told:
        session.meter("period_changed", 105.0, period_ns=NS_PER_S)
        session.meter("period_changed", 130.0, period_ns=NS_PER_S // 10)
    session.stage("train", 100.5, 139.5)
    session.end(140.0)
    record = show_run(tmp_path, run.run_id)
    (energy,) = record.stages[0].energies
    assert isinstance(energy, Energy)
    assert energy.value_j == pytest.approx(39 * 200.0, rel=1e-3)
    assert (energy.coverage > 0.999) == is_told
    assert record.meter["energy_j"] == pytest.approx(0.25 * 3.75)
