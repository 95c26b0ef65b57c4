"""Published accounts: which come out the same, and that the others stay with a reason."""

from __future__ import annotations

import pytest

from stillwatt.workflows.reproductions import Reproduction, reproductions, reproductions_markdown

CASES = reproductions()
SAME = {
    "training, dynamic power": 24.69,
    "idle nodes and network": 14.63,
    "making of GPUs and servers": 11.20,
    "total": 50.52,
    "OLMo 2 7B, GWP": 52.12,
    "OLMo 2 7B, water": 202.5,
    "whole development, water": 15867.0,
    "water at the site of a prompt": 0.2532,
}


@pytest.mark.parametrize("what", SAME)
def test_these_come_out_the_same(what: str) -> None:
    (case,) = [case for case in CASES if case.what == what]
    assert case.is_reproduced
    assert case.ours == pytest.approx(SAME[what], rel=1e-3)


def test_each_of_the_five_accounts_is_there_and_every_row_says_why() -> None:
    for account in ("BLOOM", "OLMo", "A100", "Mistral", "Gemini"):
        assert any(account in case.source for case in CASES)
    assert all(case.why and case.inputs for case in CASES)


def test_what_does_not_come_out_stays() -> None:
    gone = [case for case in CASES if not case.is_reproduced]
    assert len(gone) >= 5
    assert all(case.what in reproductions_markdown() for case in gone)


def test_a_wrong_figure_is_not_called_the_same() -> None:
    case = Reproduction(source="x", what="y", inputs="z", unit="t", theirs=1.0, ours=1.3, within=0.1, why="wrong")
    assert not case.is_reproduced
    assert case.deviation == pytest.approx(0.3)
