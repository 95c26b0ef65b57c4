"""Published accounts: which come out the same, and that the others stay with a reason."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from stillwatt.workflows.reproduction import Reproduction
from stillwatt.workflows.reproductions import reproductions, reproductions_markdown

CASES = reproductions()
with (Path(__file__).resolve().parents[2] / "data" / "published_totals.csv").open(
    encoding="utf-8", newline=""
) as lines:
    TOTALS = list(csv.DictReader(lines))
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


def test_what_does_not_come_out_stays() -> None:
    gone = [case for case in CASES if not case.is_reproduced]
    assert len(gone) >= 5
    assert all(case.what in reproductions_markdown() for case in gone)


def test_a_wrong_figure_is_not_called_the_same() -> None:
    case = Reproduction(source="x", what="y", inputs="z", unit="t", theirs=1.0, ours=1.3, within=0.1, why="wrong")
    assert not case.is_reproduced
    assert case.deviation == pytest.approx(0.3)


@pytest.mark.parametrize("row", TOTALS, ids=[row["key"] for row in TOTALS])
def test_every_published_total_is_answered_by_one_case_that_has_its_value(row: dict[str, str]) -> None:
    (case,) = [case for case in CASES if case.key == row["key"]]
    digits = len(row["value"].partition(".")[2])
    assert f"{case.theirs:.{digits}f}" == row["value"]
    assert row["source_url"] in case.source
    if case.ours is None:
        assert any(word in case.why for word in ("public", "lacking"))


def test_a_case_answers_a_total_that_is_in_the_table_and_no_other() -> None:
    keys = [case.key for case in CASES if case.key]
    assert sorted(keys) == sorted(row["key"] for row in TOTALS)


def test_the_page_counts_what_fits_backwards_and_what_cannot_be_computed() -> None:
    text = reproductions_markdown()
    same = [case for case in CASES if case.is_reproduced]
    backwards = [case for case in same if case.is_backwards]
    assert {case.what for case in backwards} == {
        "energy of idle nodes and network",
        "development, 1B group, GWP",
        "development, 1B group, water",
        "whole development, energy",
        "energy of a prompt",
    }
    assert text.count("| yes, backwards |") == len(backwards)
    assert f"{len(same)} of {len(CASES)} figures come out the same, {len(backwards)} of them backwards" in text
    assert f"{sum(case.ours is None for case in CASES)} cannot be computed at all" in text
    assert text.count("| **") == len(TOTALS)
    assert (len(same), len(CASES)) == (49, 75)
    assert len({(case.source, case.what) for case in CASES}) == len(CASES)


def test_olmo_comes_out_once_its_groups_are_booked_where_they_ran() -> None:
    ours = {case.key: case for case in CASES if case.key.startswith("olmo/")}
    assert ours["olmo/development_gwp"].ours == pytest.approx(343 * 0.332 + 116 * 1.12 * 0.351)
    parts = [ours[f"olmo/{stage}_gwp"].ours or 0.0 for stage in ("manufacturing", "development", "training")]
    assert ours["olmo/total_gwp"].ours == pytest.approx(sum(parts))
    assert ours["olmo/total_gwp"].is_reproduced
    assert not ours["olmo/training_energy_13b"].is_reproduced
