"""What readings of a sensor brought, stream by stream, and a form for it that costs next to nothing to fill in.

The sampling process reads ten times a second and books once a second. What it does at each reading it does with cold
caches, at several times the price of doing the same for ten readings in a row: so a driver may hand over a `Row` of
bare numbers and times, and rows become samples together.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Any, NamedTuple, overload

from stillwatt.records import NotDue, ReadFailure, Reading, Readings
from stillwatt.records.sample import MOST_COUNT
from stillwatt.sensors.base import Result
from stillwatt.units import NS_PER_US

_NUMBERS = {int, float}


class Buffered(NamedTuple):
    """What a driver's buffer had that was new, at the driver's own wall-clock times."""

    times_us: Sequence[int]
    numbers: Sequence[float]
    wall_less_monotonic_ns: int


class Row(Sequence[Result]):
    """One reading of every stream: `flat` has the time before the first, then each one's value and the time after it.

    A value is a number, a `Buffered`, or a result of its own (not due, failed). Of a number it is known that it was
    taken between the times beside it, so it stands in their middle, which is off by no more than half their distance.

    >>> Row(("a", "b"), [10, 5, 14, NotDue(stream="b"), 15])[0]
    Reading(stream='a', t_ns=12, count=5.0)
    """

    __slots__ = ("flat", "streams")

    def __init__(self, streams: tuple[str, ...], flat: list[Any]) -> None:
        self.streams, self.flat = streams, flat

    def __len__(self) -> int:
        return len(self.streams)

    @overload
    def __getitem__(self, place: int) -> Result: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Result]: ...
    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return [self[index] for index in range(len(self))[place]]
        at = 2 * range(len(self))[place]
        begun_ns, value, ended_ns = self.flat[at : at + 3]
        return _result(self.streams[place], begun_ns, value, ended_ns)


def joined(batches: Sequence[Sequence[Result]], streams: Set[str], now_ns: int) -> Iterator[Readings | ReadFailure]:
    """Each stream's readings together, up to a failure of that stream, which follows them.

    Args:
        batches: what each reading of the sensor brought, oldest first.
        streams: those to hand on; one of which a batch says nothing has failed in it.
        now_ns: the time of failures that have none of their own.

    >>> [*joined([[Reading("a", 1, 5.0)], [Reading("a", 2, 6.0)]], {"a"}, 3)]
    [Readings(stream='a', times_ns=[1, 2], counts=[5.0, 6.0])]
    """
    names: tuple[str, ...] = ()
    rows = []
    for batch in batches:
        if isinstance(batch, Row) and batch.streams == (names or batch.streams):
            names = batch.streams
            rows.append(batch.flat)
    if len(rows) == len(batches) and streams <= set(names):
        return _of_rows(names, rows, streams)
    return _of_results(batches, streams, now_ns)


def singles(readings: Readings) -> Iterator[Readings]:
    """The same, one by one."""
    for t_ns, count in zip(readings.times_ns, readings.counts, strict=True):
        yield Readings(readings.stream, (t_ns,), (count,))


def are_numbers(readings: Readings) -> bool:
    """Whether all counts are numbers that an instrument can mean: finite, and no larger than `MOST_COUNT`."""
    counts = readings.counts
    try:
        are_finite = all(map(math.isfinite, counts))
    except (OverflowError, TypeError):  # a whole number too big for a float, or no number at all
        return False
    return are_finite and max(counts) <= MOST_COUNT and min(counts) >= -MOST_COUNT


def follow(readings: Readings, last_ns: int | None) -> bool:
    """Whether each time is after the one before, and the first after that of the last reading taken."""
    times_ns = readings.times_ns
    return (last_ns is None or times_ns[0] > last_ns) and all(
        map(operator.lt, times_ns, itertools.islice(times_ns, 1, None))
    )


def _of_rows(names: tuple[str, ...], rows: list[list[Any]], streams: Set[str]) -> Iterator[Readings | ReadFailure]:
    before_ns = [row[0] for row in rows]
    for place, stream in enumerate(names):
        values, after_ns = [row[2 * place + 1] for row in rows], [row[2 * place + 2] for row in rows]
        if stream not in streams:
            pass
        elif _NUMBERS.issuperset(map(type, values)):
            times_ns = [(begun + ended) // 2 for begun, ended in zip(before_ns, after_ns, strict=True)]
            yield Readings(stream, times_ns, _floats(values))
        else:
            found = map(_result, itertools.repeat(stream), before_ns, values, after_ns)
            yield from _of_results([[one] for one in found], {stream}, after_ns[-1])
        before_ns = after_ns


def _result(stream: str, begun_ns: int, value: Any, ended_ns: int) -> Result:
    """What a value in a row means."""
    if isinstance(value, Buffered):
        if not value.times_us:
            return NotDue(stream=stream)
        offset_ns = value.wall_less_monotonic_ns
        return Readings(stream, [t_us * NS_PER_US - offset_ns for t_us in value.times_us], _floats(value.numbers))
    if type(value) in _NUMBERS:
        return Reading(stream, (begun_ns + ended_ns) // 2, *_floats([value]))
    result: Result = value
    return result


def _floats(numbers: Sequence[float]) -> list[float]:
    """The same as floats; a whole number too big for one is infinite, and so no count."""
    try:
        return [*map(float, numbers)]
    except OverflowError:
        return [float(number) if abs(number) <= MOST_COUNT else math.inf for number in numbers]


def _of_results(
    batches: Iterable[Sequence[Result]], streams: Set[str], now_ns: int
) -> Iterator[Readings | ReadFailure]:
    runs: dict[str, tuple[list[int], list[float]]] = {}
    for results in batches:
        seen = set()
        for result in results:
            if result.stream in streams:
                seen.add(result.stream)
                if isinstance(result, ReadFailure):
                    yield from _taken(runs, result.stream)
                    yield result
                else:
                    _add(runs, result)
        for stream in sorted(streams - seen) if len(seen) < len(streams) else ():
            yield from _taken(runs, stream)
            yield ReadFailure(stream=stream, t_ns=now_ns, reason="the driver gave no reading")
    for stream in list(runs):
        yield from _taken(runs, stream)


def _add(runs: dict[str, tuple[list[int], list[float]]], result: Reading | Readings | NotDue) -> None:
    if isinstance(result, NotDue):
        return
    times_ns, counts = runs.get(result.stream) or runs.setdefault(result.stream, ([], []))
    if isinstance(result, Reading):
        times_ns.append(result.t_ns)
        counts.append(result.count)
    else:
        times_ns += result.times_ns
        counts += result.counts


def _taken(runs: dict[str, tuple[list[int], list[float]]], stream: str) -> Iterator[Readings]:
    if stream in runs:
        yield Readings(stream, *runs.pop(stream))
