from __future__ import annotations

from dataclasses import replace

from fakes import FakeClock
from stillwatt.records import Basis, Boundary, Channel, Quantity, Role
from stillwatt.sensors.beat import Beat
from stillwatt.sensors.closeup import CloseUp
from stillwatt.units import NS_PER_MS, NS_PER_S


def counter(part: str = "gpu0", update_ms: float = 100.0, quantity: Quantity = Quantity.ENERGY_COUNTER) -> Channel:
    return Channel(
        part=part,
        device="x",
        boundary=Boundary.BOARD,
        quantity=quantity,
        role=Role.LEDGER,
        unit_si=1.0,
        driver="x",
        basis=Basis.MEASURED,
        gain_low_rel=0.0,
        gain_high_rel=0.0,
        update_period_ns=round(update_ms * NS_PER_MS),
    )


def test_only_counters_whose_steps_are_worth_it_are_looked_at() -> None:
    channels = [counter("a", 100), counter("b", 1), counter("c", 1_000), counter("d", 100, Quantity.POWER)]
    look = CloseUp(channels, 0)
    assert look.streams == {"a.energy_counter"}
    assert look.period_ns == 4 * NS_PER_MS
    assert look.most_readings >= 125


def test_a_counter_that_is_read_rarely_because_it_costs_much_is_not_looked_at() -> None:
    paced = replace(counter("a", 100), sampling_period_ns=870 * NS_PER_MS)
    assert CloseUp([paced], 0).streams == set()


def test_without_such_counters_an_edge_is_read_once_and_no_more() -> None:
    look = CloseUp([counter("b", 1)], 0)
    assert look.begin(NS_PER_S)
    assert not look.is_on
    assert look.most_readings == 0


def test_a_look_ends_when_every_counter_has_stepped() -> None:
    look = CloseUp([counter("a"), counter("b")], 0)
    assert look.begin(NS_PER_S)
    for stream in ("a.energy_counter", "b.energy_counter"):
        look.saw(stream, 1.0)
    look.saw("a.energy_counter", 2.0)
    look.spent(NS_PER_S, NS_PER_S + 1)
    assert look.is_on
    look.saw("b.energy_counter", 1.0)
    look.saw("b.energy_counter", 3.0)
    look.saw("c.power", 3.0)
    look.spent(NS_PER_S, NS_PER_S + 1)
    assert not look.is_on


def test_a_look_at_a_counter_that_stands_ends_with_its_time() -> None:
    look = CloseUp([counter()], 0)
    look.begin(NS_PER_S)
    look.spent(NS_PER_S, NS_PER_S + 100 * NS_PER_MS)
    assert look.is_on
    look.spent(NS_PER_S + 100 * NS_PER_MS, NS_PER_S + 126 * NS_PER_MS)
    assert not look.is_on


def test_a_sessions_first_look_goes_on_over_several_steps() -> None:
    look = CloseUp([counter()], 0)
    look.begin(NS_PER_S, is_first=True)
    look.saw("gpu0.energy_counter", 1.0)
    look.saw("gpu0.energy_counter", 2.0)
    look.spent(NS_PER_S, NS_PER_S + 1)
    assert look.is_on
    look.spent(NS_PER_S, NS_PER_S + 501 * NS_PER_MS)
    assert not look.is_on


def test_stages_in_a_hurry_share_one_reading_and_then_run_out_of_budget() -> None:
    look = CloseUp([counter()], 0)
    assert look.begin(NS_PER_S)
    assert not look.begin(NS_PER_S + 10_000)
    now_ns, allowed = NS_PER_S, 0
    for _ in range(3_000):
        now_ns += 2 * NS_PER_MS
        if look.begin(now_ns):
            allowed += 1
            look.spent(now_ns, now_ns + NS_PER_MS)
    assert 900 < allowed < 1_100
    assert not look.is_on
    assert look.begin(now_ns + 60 * NS_PER_S)


def test_a_beat_keeps_its_grid_and_counts_what_it_missed() -> None:
    clock = FakeClock()
    missed: list[int] = []
    beat = Beat(100, missed.append)
    start_ns = clock.now_ns
    assert beat.due_ns(start_ns) == start_ns + 100
    beat.keep(start_ns + 99)
    beat.keep(start_ns + 100)
    beat.keep(start_ns + 350)
    assert missed == [0, 1]
    assert beat.due_ns(start_ns + 351) == start_ns + 400


def test_a_beat_that_is_off_starts_anew() -> None:
    is_on = False
    reads: list[int] = []
    beat = Beat(100, reads.append, is_on=lambda: is_on)
    assert beat.due_ns(5) is None
    beat.keep(5)
    is_on = True
    assert beat.due_ns(1_000) == 1_100
    is_on = False
    assert beat.due_ns(1_050) is None
    is_on = True
    assert beat.due_ns(2_000) == 2_100
    assert reads == []


def test_a_beat_that_may_come_early_comes_with_others_and_never_later_than_a_period() -> None:
    read: list[int] = []
    now_ns = 0
    beat = Beat(100, lambda _missed: read.append(now_ns), early_ns=20)
    beat.keep(1)
    for now_ns in (80, 81, 90, 150, 165, 270):
        beat.keep(now_ns)
    assert read == [81, 165, 270]
    assert beat.deadline_ns == 365  # 270 was late for 265
