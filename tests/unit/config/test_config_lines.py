"""Every key is found, on the line it was written on, whatever the layout."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatt.config.lines import Place, key_lines, line_of

_KEYS = st.sampled_from(["a", "b1", "c-d", "9", '"q.uoted = ["', "'si # ngle'", "e_f"])
_FILLER = st.sampled_from(["", "# [not.a.table]", '# "', "   # '''", "\t"])
_SCALARS = st.sampled_from(
    [
        "1",
        "-2.5e3",
        "true",
        "inf",
        "1979-05-27T07:32:00Z",
        '"text"',
        '"with ] } # and \\" inside"',
        "'literal \\'",
        '""',
        "''",
        '"""multi\n# not a comment\n[nor] = "a" table\n"""',
        '"""ends in a quote"""""',
        '"""escaped \\""" quote"""',
        "'''multi\n'' = 1\n'''",
        "''''quoted''''",
    ]
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: "[" + ", ".join(parts) + "]"),
        st.lists(inner, max_size=3).map(lambda parts: "[\n  # ] \n" + "".join(f"  {p}, # ,\n" for p in parts) + "]"),
        st.lists(st.tuples(_KEYS, inner), max_size=2, unique_by=lambda pair: pair[0].strip("\"'")).map(
            lambda pairs: "{ " + ", ".join(f"{key} = {value}" for key, value in pairs) + " }"
        ),
    ),
    max_leaves=4,
)


class Page:
    """Writes TOML and remembers the line of each key it writes."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.expected: dict[Place, int] = {}

    def write(self, text: str, *places: Place) -> None:
        for place in places:
            self.expected.setdefault(place, len(self.lines) + 1)
        self.lines.extend(text.split("\n"))

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


def _plain(key: str) -> str:
    return next(iter(tomllib.loads(f"{key} = 0")))


@st.composite
def pages(draw: st.DrawFn) -> Page:
    page = Page()
    _body(draw, page, ())
    for number in range(draw(st.integers(0, 3))):
        page.write(draw(_FILLER))
        header = f"t{number}"
        if draw(st.booleans()):
            page.write(f"[{header} . {draw(st.just('sub'))}] # header", (header,), (header, "sub"))
            _body(draw, page, (header, "sub"))
            continue
        for entry in range(draw(st.integers(1, 3))):
            page.write(f"[[{header}]]", (header,), (header, entry))
            _body(draw, page, (header, entry))
            if draw(st.booleans()):
                page.write(f"[{header}.deep.er]", (header, entry, "deep"), (header, entry, "deep", "er"))
                _body(draw, page, (header, entry, "deep", "er"))
    return page


def _body(draw: st.DrawFn, page: Page, table: Place) -> None:
    for key in draw(st.lists(_KEYS, max_size=3, unique_by=_plain)):
        page.write(draw(_FILLER))
        value = draw(_VALUES)
        if draw(st.booleans()):
            page.write(f"  {key}\t= {value} # end", (*table, _plain(key)))
        else:
            page.write(f"{key} . x={value}", (*table, _plain(key)), (*table, _plain(key), "x"))


def _places(value: Any, at: Place = ()) -> set[Place]:
    found = {at} if at else set()
    entries: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in entries:
        found |= _places(inner, (*at, step))
    return found


@given(pages())
def test_every_key_is_on_the_line_it_was_written_on(page: Page) -> None:
    found = key_lines(page.text)
    assert {place: found.get(place) for place in page.expected} == page.expected


@given(pages(), st.booleans())
def test_what_is_found_is_what_the_standard_reader_finds(page: Page, has_windows_line_ends: bool) -> None:
    text = page.text.replace("\n", "\r\n") if has_windows_line_ends else page.text
    assert set(key_lines(text)) == _places(tomllib.loads(text))


def test_entries_of_an_array_over_several_lines_have_their_own_line() -> None:
    lines = key_lines("a = [\n  1,\n  [2,\n   3],\n  {b = 1},\n]\n")
    assert lines == {("a",): 1, ("a", 0): 2, ("a", 1): 3, ("a", 1, 0): 3, ("a", 1, 1): 4, ("a", 2): 5, ("a", 2, "b"): 5}


@pytest.mark.parametrize(
    ("place", "line"),
    [(("a", "b"), 3), (("a", "zzz"), 2), (("a", "b", 7), 3), (("none",), None), ((), None)],
)
def test_a_place_that_is_not_written_has_the_line_of_what_is_around_it(place: Place, line: int | None) -> None:
    assert line_of(place, key_lines("# top\n[a]\nb = 1\n")) == line
