"""Which spans lie in which, and which cross: what a search through all pairs finds, for any spans."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from stillwatt.importers.nesting import Span, crossing, innermost_around


def _placed(spans: list[tuple[int, int]]) -> list[Span]:
    """In the order they begin, longest first."""
    return sorted((Span(start, start + length) for start, length in spans), key=lambda s: (s.start_ns, -s.end_ns))


def _cut_up(cuts: list[tuple[int, int, int]]) -> list[Span]:
    """Spans inside spans: each lies in one that was there before, or is that one once more."""
    spans = [Span(0, 1 << 20)]
    for which, from_left, from_right in cuts:
        outer = spans[which % len(spans)]
        left, right = (share * outer.length_ns // 8 for share in (from_left, from_right))
        spans.append(Span(outer.start_ns + left, max(outer.start_ns + left, outer.end_ns - right)))
    return sorted(spans, key=lambda s: (s.start_ns, -s.end_ns))


any_spans = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 12)), max_size=24).map(_placed)
nested_spans = st.lists(st.tuples(st.integers(0, 99), st.integers(0, 4), st.integers(0, 4)), max_size=24).map(_cut_up)


def _around_by_search(spans: Sequence[Span]) -> list[int | None]:
    found: list[int | None] = []
    for place, span in enumerate(spans):
        around = [p for p in range(place) if spans[p].end_ns >= span.end_ns and spans[p].end_ns > span.start_ns]
        found.append(min(around, key=lambda p: (spans[p].length_ns, -p), default=None))
    return found


def _crossing_by_search(spans: Sequence[Span]) -> dict[int, int]:
    kept: list[int] = []
    found: dict[int, int] = {}
    for place in sorted(range(len(spans)), key=lambda p: (-spans[p].length_ns, p)):
        one = spans[place]
        cut = (other for other in kept if _overlaps(one, spans[other]) and not _is_inside(one, spans[other]))
        longest = next(cut, None)
        if longest is None:
            kept.append(place)
        else:
            found[place] = longest
    return found


def _overlaps(one: Span, other: Span) -> bool:
    return one.start_ns < other.end_ns and other.start_ns < one.end_ns


def _is_inside(one: Span, other: Span) -> bool:
    return other.start_ns <= one.start_ns and one.end_ns <= other.end_ns


@given(spans=any_spans | nested_spans)
def test_the_shortest_around_is_what_a_search_finds(spans: list[Span]) -> None:
    assert innermost_around(spans) == _around_by_search(spans)


@given(spans=any_spans | nested_spans)
def test_what_crosses_a_longer_one_is_what_a_search_finds(spans: list[Span]) -> None:
    assert crossing(spans) == _crossing_by_search(spans)


@given(spans=any_spans)
def test_what_is_kept_crosses_nothing_that_is_kept(spans: list[Span]) -> None:
    kept = [span for place, span in enumerate(spans) if place not in crossing(spans)]
    for one in kept:
        for other in kept:
            assert not _overlaps(one, other) or _is_inside(one, other) or _is_inside(other, one)


@given(spans=nested_spans)
def test_nested_spans_cross_nothing_unless_they_were_cut_across(spans: list[Span]) -> None:
    is_crossed = any(
        _overlaps(one, other) and not _is_inside(one, other) and not _is_inside(other, one)
        for one in spans
        for other in spans
    )
    assert bool(crossing(spans)) == is_crossed
