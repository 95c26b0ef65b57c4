from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import single
from stillwatt.records import NotDue, ReadFailure, Reading, Readings
from stillwatt.sensors.base import Result
from stillwatt.sensors.runs import Buffered, Row, are_numbers, follow, joined, singles

STREAMS = ("a", "b", "c")
OFFSET_NS = 5_000_000

value = st.one_of(
    st.integers(0, 2**53),
    st.floats(allow_nan=False),
    st.just("failed"),
    st.just("not due"),
    st.lists(st.integers(0, 999), max_size=3).map(lambda found: Buffered(sorted(found), found, OFFSET_NS)),
)


def _value(told: Any, stream: str, t_ns: int) -> Any:
    if told == "failed":
        return ReadFailure(stream=stream, t_ns=t_ns, reason=f"at {t_ns}")
    return NotDue(stream=stream) if told == "not due" else told


def _rows(told: list[list[Any]]) -> list[Row]:
    rows = []
    for number, values in enumerate(told):
        flat: list[Any] = [1_000 * number]
        for place, (stream, one) in enumerate(zip(STREAMS, values, strict=True)):
            flat += [_value(one, stream, flat[-1]), 1_000 * number + 3 * place + 1]
        rows.append(Row(STREAMS, flat))
    return rows


def _taken_apart(found: list[Readings | ReadFailure], stream: str) -> list[Any]:
    return single([one for one in found if one.stream == stream])


@given(st.lists(st.lists(value, min_size=3, max_size=3), max_size=6), st.sets(st.sampled_from(STREAMS)))
def test_rows_together_are_what_their_results_one_by_one_are(told: list[list[Any]], wanted: set[str]) -> None:
    rows = _rows(told)
    expected = [one for row in rows for one in single(list(row)) if not isinstance(one, NotDue)]
    together, apart = list(joined(rows, wanted, 9)), list(joined([list(row) for row in rows], wanted, 9))
    for stream in STREAMS:
        here = [one for one in expected if one.stream == stream and stream in wanted]
        assert _taken_apart(together, stream) == here
        assert _taken_apart(apart, stream) == here


def test_a_whole_number_too_big_for_a_float_is_no_count_and_costs_no_other_reading() -> None:
    row = Row(("a", "b"), [100, 10**400, 110, 8, 130])
    assert _taken_apart(list(joined([row], {"b"}, 9)), "b") == [Reading("b", 120, 8.0)]
    for batch in (row, list(row)):
        assert [are_numbers(found) for found in joined([batch], {"a"}, 9) if isinstance(found, Readings)] == [False]


def test_a_number_stands_between_the_times_beside_it() -> None:
    row = Row(("a", "b"), [100, 7, 110, 8, 130])
    assert list(row) == [Reading("a", 105, 7.0), Reading("b", 120, 8.0)]
    assert (len(row), row[-1], row[0:1]) == (2, Reading("b", 120, 8.0), [Reading("a", 105, 7.0)])
    with pytest.raises(IndexError):
        row[2]


def test_what_a_buffer_had_stands_at_its_own_times_on_the_monotonic_clock() -> None:
    row = Row(("a", "b"), [0, Buffered([7_000, 8_000], [1, 2], OFFSET_NS), 1, Buffered([], [], OFFSET_NS), 2])
    assert list(row) == [Readings("a", [2_000_000, 3_000_000], [1.0, 2.0]), NotDue(stream="b")]


def test_readings_of_a_stream_come_together_up_to_its_failures() -> None:
    failure = ReadFailure(stream="a", t_ns=3, reason="gone")
    batches: list[list[Result]] = [
        [Reading("a", 1, 1.0), Reading("b", 1, 10.0)],
        [Readings("a", [2, 3], [2.0, 3.0]), Reading("b", 2, 11.0)],
        [failure, Reading("b", 3, 12.0)],
        [Reading("a", 4, 4.0), NotDue(stream="b")],
    ]
    assert list(joined(batches, {"a", "b"}, 9)) == [
        Readings("a", [1, 2, 3], [1.0, 2.0, 3.0]),
        failure,
        Readings("b", [1, 2, 3], [10.0, 11.0, 12.0]),
        Readings("a", [4], [4.0]),
    ]


def test_a_stream_that_rows_say_nothing_of_has_failed() -> None:
    found = list(joined([Row(("a",), [0, 5, 2])], {"a", "b"}, 9))
    assert ReadFailure(stream="b", t_ns=9, reason="the driver gave no reading") in found
    assert Readings("a", [1], [5.0]) in found


def test_rows_of_other_streams_than_the_first_are_not_mixed_up() -> None:
    rows = [Row(("a", "b"), [0, 1, 2, 2, 4]), Row(("b", "a"), [10, 3, 12, 4, 14])]
    assert list(joined(rows, {"a", "b"}, 99)) == [
        Readings("a", [1, 13], [1.0, 4.0]),
        Readings("b", [3, 11], [2.0, 3.0]),
    ]


@pytest.mark.parametrize("count", [math.nan, math.inf, -math.inf])
def test_one_that_is_no_number_spoils_them_all(count: float) -> None:
    assert are_numbers(Readings("a", [1, 2], [0.0, 1.0]))
    assert not are_numbers(Readings("a", [1, 2], [0.0, count]))


@given(st.lists(st.integers(0, 20), min_size=1, max_size=6), st.none() | st.integers(0, 20))
def test_times_follow_if_none_is_at_or_before_the_one_before(times: list[int], last: int | None) -> None:
    one_by_one = [last, *times] if last is not None else times
    expected = all(earlier < later for earlier, later in itertools.pairwise(one_by_one))
    assert follow(Readings("a", times, [0.0] * len(times)), last) is expected


def test_one_by_one_they_are_the_same() -> None:
    assert list(singles(Readings("a", [1, 2], [3.0, 4.0]))) == [
        Readings("a", (1,), (3.0,)),
        Readings("a", (2,), (4.0,)),
    ]
