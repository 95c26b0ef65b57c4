"""Published accounts: which come out the same, and that the others stay with a reason."""

from __future__ import annotations

import pytest

from stillwatt.workflows.reproduction import Reproduction
from stillwatt.workflows.reproductions import reproductions, reproductions_markdown

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
    "electricity of a prompt, GWP by contract": 0.02256,
    "making, all hardware": 21.79,
    "water of making, all hardware": 4.828,
    "development by its groups, GWP": 159.5,
    "development, 13B group, water": 402.8,
    "all stages, GWP": 493.05,
    "all stages, water": 2854.1,
    "BLOOM-175B, recomputed by others": 183.4,
    "32B Think, post-training, GWP": 32.69,
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


def test_every_figure_of_the_reference_results_is_there_whether_it_comes_out_or_not() -> None:
    theirs = {case.theirs for case in CASES}
    published = {0.96, 0.85, 0.81, 493.0, 2769.0, 22.0, 159.0, 312.0, 4251.0, 15887.0, 20400.0, 281000.0, 660.0, 1.14}
    published |= {45.0, 0.16, 0.855, 0.91, 24.7, 14.6, 50.5, 0.023, 0.033, 0.26}
    assert published <= theirs
    assert len({(case.source, case.what) for case in CASES}) == len(CASES)
    assert sum(case.is_reproduced for case in CASES) == 41
    assert len(CASES) == 68


def test_what_does_not_come_out_stays() -> None:
    gone = [case for case in CASES if not case.is_reproduced]
    assert len(gone) >= 5
    assert all(case.what in reproductions_markdown() for case in gone)


def test_a_wrong_figure_is_not_called_the_same() -> None:
    case = Reproduction(source="x", what="y", inputs="z", unit="t", theirs=1.0, ours=1.3, within=0.1, why="wrong")
    assert not case.is_reproduced
    assert case.deviation == pytest.approx(0.3)
