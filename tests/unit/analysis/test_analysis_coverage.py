"""The 95 % intervals hold the truth about as often as they say, on drawn studies.

A short form of `benchmarks/proof_coverage.py`: with 300 studies a share of 95 % has a standard error of 1.3 points, so
91 % is three of them below.
"""

from __future__ import annotations

import pytest

from stillwatt.records.comparison import Ratio
from stillwatt.records.finding import Verdict
from synthetic_studies import SCENARIOS, Scenario, coverage, holds

_FEWEST = 0.91


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_every_interval_holds_the_truth_as_often_as_it_says(scenario: Scenario) -> None:
    found = coverage(scenario, studies=300, seed=20261126)
    assert {"N*", "sweep", "T*", "E(1)", "E(10)"} <= set(found)
    assert {name: share for name, share in found.items() if share < _FEWEST} == {}


def test_an_answer_that_excludes_the_truth_counts_against_it() -> None:
    """The simulation can fail: it calls a wrong interval wrong."""

    def ratio(verdict: Verdict, low: float | None = None, high: float | None = None) -> Ratio:
        return Ratio(verdict=verdict, value=None, low=low, high=high, reason="")

    assert holds(ratio(Verdict.VALUE, 8.0, 12.0), 11.0, 1.1)
    assert not holds(ratio(Verdict.VALUE, 11.0, 12.0), 11.0, 1.1)
    assert not holds(ratio(Verdict.VALUE, 8.0, 9.0), 11.0, 1.1)
    assert not holds(ratio(Verdict.NEVER), 11.0, 1.1)
    assert holds(ratio(Verdict.NEVER), 11.0, -1.1)
    assert holds(ratio(Verdict.UNDETERMINED, 8.0), 11.0, -1.1)
    assert not holds(ratio(Verdict.VALUE, 8.0, 9.0), 11.0, -1.1)
