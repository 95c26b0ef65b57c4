from __future__ import annotations

import numpy as np
import pytest

from stillwatt.metering.account import SessionInput, account_session
from stillwatt.metering.series import Series
from stillwatt.records import Absent, Boundary, Energy, StageWindow
from stillwatt.units import NS_PER_MS, NS_PER_S
from strategies import EPOCH_NS, StepLoad, poll_times, power_channel, step_counter


def stage(stage_id: str, start_s: float, end_s: float, parent_id: str | None = None) -> StageWindow:
    start_ns, end_ns = (EPOCH_NS + round(s * NS_PER_S) for s in (start_s, end_s))
    return StageWindow(session="one", stage_id=stage_id, parent_id=parent_id, start_ns=start_ns, end_ns=end_ns)


def joules(energy: Energy | Absent) -> float:
    assert isinstance(energy, Energy)
    return energy.value_j


def constant(watts: float, part: str, seconds: int) -> Series:
    t_ns = EPOCH_NS + np.arange(seconds * 10 + 1) * 100 * NS_PER_MS
    return Series(power_channel(part=part, update_period_ns=1), t_ns, np.full(t_ns.size, watts))


def test_a_session_closes_part_by_part() -> None:
    dead = Absent(part="dram0", boundary=Boundary.CHIP, reason="not readable")
    account = account_session(
        SessionInput(
            windows=[stage("a", 1, 9), stage("b", 2, 5, "a"), stage("c", 4, 6, "a")],
            start_ns=EPOCH_NS,
            end_ns=EPOCH_NS + 10 * NS_PER_S,
            series={"gpu0": (constant(100.0, "gpu0", 10), None), "cpu0": (constant(20.0, "cpu0", 10), None)},
            absent=(dead,),
        )
    )
    a, b, c = (account.stages[stage_id] for stage_id in "abc")
    for part, watts in (("gpu0", 100.0), ("cpu0", 20.0)):
        assert (a.self_s[part], a.gross_s[part]) == pytest.approx((4.0, 8.0))
        assert (b.self_s[part], c.self_s[part]) == pytest.approx((2.5, 1.5))
        assert joules(a.self_energies[part]) == pytest.approx(4 * watts)
        assert joules(a.gross[part]) == pytest.approx(8 * watts)
        assert joules(b.gross[part]) == pytest.approx(2.5 * watts)
        assert joules(account.unallocated[part]) == pytest.approx(2 * watts)
        assert joules(account.total[part]) == pytest.approx(10 * watts)
    assert a.gross["dram0"] is account.total["dram0"] is dead
    assert account.unallocated_s == pytest.approx(dict.fromkeys(("gpu0", "cpu0", "dram0"), 2.0))
    assert account.total_s == pytest.approx(dict.fromkeys(("gpu0", "cpu0", "dram0"), 10.0))


def test_a_parents_gross_has_no_edges_where_its_children_meet() -> None:
    """Two children back to back: the edge between them cancels, so the parent is as sharp as one window."""
    load = StepLoad(np.array([EPOCH_NS]), np.array([200.0]))
    t_ns = EPOCH_NS + np.arange(101) * 100 * NS_PER_MS
    series = step_counter(load, t_ns, phase_ns=30 * NS_PER_MS)
    windows = [stage("a", 1, 9), *(stage(f"b{k}", 1 + k, 2 + k, "a") for k in range(8))]
    account = account_session(
        SessionInput(
            windows=windows, start_ns=EPOCH_NS, end_ns=EPOCH_NS + 10 * NS_PER_S, series={"gpu0": (series, None)}
        )
    )
    gross, child = account.stages["a"].gross["gpu0"], account.stages["b3"].gross["gpu0"]
    assert isinstance(gross, Energy)
    assert isinstance(child, Energy)
    assert gross.random_j == pytest.approx(child.random_j, rel=0.01)
    own = account.stages["a"].self_energies["gpu0"]
    assert isinstance(own, Energy)
    assert (own.value_j, own.random_j, own.coverage) == (0.0, 0.0, 1.0)


def test_resets_are_in_the_notes() -> None:
    load = StepLoad(np.array([EPOCH_NS]), np.array([200.0]))
    t_ns = EPOCH_NS + np.arange(101) * 100 * NS_PER_MS
    series = step_counter(load, t_ns)
    counts = series.count.copy()
    counts[50:] -= counts[50]
    broken = Series(series.channel, t_ns, counts)
    account = account_session(
        SessionInput(windows=[], start_ns=EPOCH_NS, end_ns=EPOCH_NS + 10 * NS_PER_S, series={"gpu0": (broken, None)})
    )
    assert len(account.notes) == 1
    assert account.notes[0].startswith("gpu0.energy_counter: the counter's distance after the reading at 5004.900 s")


def test_a_part_cannot_be_read_and_absent() -> None:
    with pytest.raises(ValueError, match="gpu0: both read and absent"):
        account_session(
            SessionInput(
                windows=[],
                start_ns=0,
                end_ns=1,
                series={"gpu0": (constant(1.0, "gpu0", 1), None)},
                absent=(Absent(part="gpu0", boundary=Boundary.BOARD, reason="x"),),
            )
        )


def test_many_stages_over_many_samples_close() -> None:
    """A thousand steps over ten thousand readings, in one pass."""
    rng = np.random.default_rng(3)
    levels = rng.uniform(50, 500, size=1001)
    load = StepLoad(EPOCH_NS + np.arange(1001, dtype=np.int64) * NS_PER_S, levels)
    series = step_counter(load, poll_times(rng, 1000.0))
    windows = [stage("train", 1, 999), *(stage(f"s{k}", k, k + 0.9, "train") for k in range(1, 999))]
    account = account_session(
        SessionInput(
            windows=windows, start_ns=EPOCH_NS, end_ns=EPOCH_NS + 1000 * NS_PER_S, series={"gpu0": (series, None)}
        )
    )
    steps_j = sum(joules(account.stages[f"s{k}"].gross["gpu0"]) for k in range(1, 999))
    train = account.stages["train"]
    assert steps_j + joules(train.self_energies["gpu0"]) == pytest.approx(joules(train.gross["gpu0"]), rel=1e-9)
    outside_j = joules(account.unallocated["gpu0"])
    assert joules(train.gross["gpu0"]) + outside_j == pytest.approx(joules(account.total["gpu0"]), rel=1e-9)
    assert joules(account.total["gpu0"]) == pytest.approx(load.window_j(EPOCH_NS, EPOCH_NS + 1000 * NS_PER_S), rel=1e-3)


def test_two_stages_of_one_id_are_refused() -> None:
    with pytest.raises(ValueError, match="two stages of one account have the same id"):
        account_session(
            SessionInput(
                windows=[stage("a", 0, 1), stage("a", 1, 2)], start_ns=EPOCH_NS, end_ns=EPOCH_NS + 1, series={}
            )
        )
