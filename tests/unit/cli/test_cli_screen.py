"""What commands print fits the terminal: sentences and cells are folded, and nothing of them is lost."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from stillwatt.cli.main import cli
from stillwatt.cli.screen import columns, folded, width

WORDS = st.lists(st.text(alphabet="abc-", min_size=1, max_size=12), min_size=1, max_size=30).map(" ".join)


@given(text=WORDS, most=st.integers(20, 120))
def test_a_folded_sentence_fits_and_keeps_its_words(text: str, most: int) -> None:
    lines = folded(text, most)
    assert " ".join(lines).split() == text.split()
    assert all(len(line) <= most for line in lines)


@given(rows=st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1, max_size=5), most=st.integers(40, 120))
def test_folded_columns_fit_and_keep_their_letters(rows: list[tuple[str, ...]], most: int) -> None:
    lines = columns(rows, most=most)
    assert all(len(line) <= most for line in lines)
    assert sorted("".join(lines).replace(" ", "")) == sorted("".join(map("".join, rows)).replace(" ", ""))


def test_columns_that_fit_stay_as_they_are() -> None:
    rows = [["a", "b b"], ["longer", "c"]]
    assert columns(rows, most=40) == columns(rows)


def test_a_long_cell_does_not_set_the_width_of_its_column_for_all() -> None:
    lines = columns([["training", "quantified"], ["method", "word " * 80]], most=60)
    assert max(map(len, lines)) <= 60
    assert lines[0] == "training  quantified"


@pytest.mark.parametrize(("said", "wide"), [("72", 72), ("7", 40), ("", 100)])
def test_the_width_is_that_of_columns(monkeypatch: pytest.MonkeyPatch, said: str, wide: int) -> None:
    monkeypatch.setenv("COLUMNS", said)
    monkeypatch.setattr("sys.__stdout__", None)
    assert width() == wide


@pytest.mark.parametrize(
    "command", [("literature", "show", "morrison2025"), ("doctor",), ("analyse", "--table", "paper")]
)
def test_prose_is_as_wide_as_the_terminal(monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    lines = CliRunner().invoke(cli, command).stdout.splitlines()
    # of `analyse` the tables keep the width of their numbers
    folds = [line for line in lines if command[0] != "analyse" or "  " not in line.strip()]
    assert max(map(len, folds)) <= 90
