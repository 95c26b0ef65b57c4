"""Seeds of one recipe are repeats, however far each came; what tells trainings apart is what the recipe gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from run_records import arm_stages, quickstart, run_record, scores
from stillwatt.analysis.compare import compare
from stillwatt.analysis.seeds import Gathered, SummedRun, cards_only, gather_runs
from stillwatt.analysis.study import summarise
from stillwatt.analysis.words import free_name
from stillwatt.records import RunRecord, StageKind
from stillwatt.records.comparison import Observation
from stillwatt.report.comparison import comparison_dict

RECIPE = {"data": {"source": "random-words", "train_tokens": 512}, "train": {"checkpoints": [0.5, 1.0]}}
SIX_JOULES = {"budgets": {"each_arm": "6 J", "teacher_share": "marginal"}}


def gathered(*runs: RunRecord) -> Gathered:
    return gather_runs(
        [SummedRun(run=run, study=summarise(run, reuse=()), cards=summarise(cards_only(run), reuse=())) for run in runs]
    )


def seeds(
    tokens: Sequence[float],
    *,
    settings: Mapping[str, Any] = RECIPE,
    ended_by: str = "",
    arm: str = "gkd",
    last: Mapping[int, str] | None = None,
    **changes: Any,
) -> RunRecord:
    """A run of one arm whose seeds came to so many tokens, and of a baseline."""
    found = (scores(30.0, 0.6), scores(25.0, 0.7))
    stages = []
    for number, own in enumerate(tokens, start=1):
        for name, first in ((arm, 0), ("sft", 100)):
            made = arm_stages(first + 10 * number, f"{name}.s{number}", name, (300.0, 310.0), found, seed=str(number))
            count = own if name == arm else 512.0
            results = {"stopped_by": ended_by} if ended_by and name == arm else {}
            kept = [
                replace(one, workload={**one.workload, "tokens": count / 2.0}, results={**results, **one.results})
                if one.kind is StageKind.STUDENT_TRAIN
                else one
                for one in made
            ]
            stages += kept[:2] if name == arm and (last or {}).get(number) == "0.5" else kept
    return run_record(stages, settings=dict(settings), **changes)


def labels(found: Gathered) -> list[str]:
    return sorted({row.label for row in found.rows})


def of(found: Gathered, label: str) -> list[Observation]:
    return [row for row in found.rows if row.label == label]


def test_seeds_whose_text_ends_early_are_repeats() -> None:
    found = gathered(seeds([506.0, 494.0, 512.0]))
    assert labels(found) == ["gkd", "sft"]
    assert [row.tokens for row in of(found, "gkd")] == [506.0, 494.0, 512.0]
    assert {row.settings["train_tokens"] for row in found.rows} == {512.0}
    assert not any("trained differently" in warning for warning in found.warnings)


def test_what_they_came_to_is_an_outcome_with_its_range() -> None:
    found = compare(gathered(seeds([506.0, 494.0, 512.0])).rows, source="run")
    assert any("gkd 504 (494 to 512)" in warning and "sft" not in warning for warning in found.warnings)
    stage = {entry["label"]: entry for entry in comparison_dict(found)["stages"]}
    assert [stage["gkd"][name] for name in ("tokens", "tokens_least", "tokens_most")] == [504.0, 494.0, 512.0]
    assert [stage["sft"][name] for name in ("tokens", "tokens_least", "tokens_most")] == [512.0] * 3
    assert not any(
        "unlike numbers of tokens" in w for w in compare(gathered(seeds([512.0, 512.0])).rows, source="").warnings
    )


def test_the_sweep_has_no_axis_of_what_seeds_came_to() -> None:
    settings = comparison_dict(compare(gathered(seeds([506.0, 494.0, 512.0])).rows, source="run"))["settings"]
    assert {own["train_tokens"] for own in settings.values()} == {512.0}


def test_seeds_that_one_budget_of_joules_ended_are_repeats() -> None:
    """Wherever between two checkpoints each of them ended."""
    settings = {**RECIPE, **SIX_JOULES}
    run = seeds([256.0, 64.0, 192.0], settings=settings, ended_by="its budget of 6 J: 5.8 J", last={2: "0.5"})
    found = gathered(run)
    assert labels(found) == ["gkd", "sft"]
    assert {row.settings["train_tokens"] for row in of(found, "gkd")} == {512.0}


@pytest.mark.parametrize(
    "other",
    [
        {**RECIPE, "budgets": {"each_arm": "12 J", "teacher_share": "marginal"}},
        {**RECIPE, "budgets": {"each_arm": "6 J", "teacher_share": "one-off"}},
        {**RECIPE, **SIX_JOULES, "arms": [{"name": "gkd", "budget": "9 J"}]},
        RECIPE,
    ],
)
def test_another_budget_of_joules_is_another_training(other: Mapping[str, Any]) -> None:
    one = seeds([256.0, 64.0], settings={**RECIPE, **SIX_JOULES}, run_id="r1")
    assert "gkd@r2" in labels(gathered(one, seeds([256.0, 64.0], settings=other, run_id="r2")))


def test_budgets_that_limit_nothing_tell_nothing_apart() -> None:
    """Runs from before the table of budgets say the same as such as have it empty."""
    empty = {**RECIPE, "budgets": {"each_arm": None, "teacher_share": None}, "arms": "nonsense"}
    found = gathered(seeds([512.0], run_id="r1"), seeds([500.0], settings=empty, run_id="r2"))
    assert labels(found) == ["gkd", "sft"]


def test_a_seed_that_the_runs_budget_cut_short_is_no_repeat() -> None:
    whole = seeds([512.0, 512.0], run_id="r1")
    cut = seeds([300.0, 310.0], ended_by="the run's budget of 1 kJ: 999 J with the evaluation to come", run_id="r2")
    found = gathered(whole, cut)
    assert labels(found) == ["gkd", "gkd@r2", "gkd@r2#2", "sft"]
    assert of(found, "gkd@r2")[0].settings["train_tokens"] == 300.0


def test_unlike_trainings_of_one_run_have_names_of_their_own() -> None:
    """One that was lost after half its text is another training; so is what differs from both."""
    run = seeds([512.0, 512.0, 512.0], last={2: "0.5"}, run_id="r1")
    found = gathered(run)
    assert labels(found) == ["gkd", "gkd@r1", "sft"]
    assert of(found, "gkd@r1")[0].settings["train_tokens"] == 256.0
    said = [warning for warning in found.warnings if "trained differently" in warning]
    assert said == ["gkd of run r1 was trained differently: it is gkd@r1 here"]
    assert free_name("gkd@r1", {"gkd@r1", "gkd@r1#2"}) == "gkd@r1#3"


def test_an_arm_that_has_the_name_of_another_ones_alias_is_not_taken_for_it() -> None:
    unlike = seeds([512.0], settings={**RECIPE, "data": {"source": "x", "train_tokens": 512}}, run_id="r2")
    found = gathered(seeds([512.0], run_id="r1"), unlike, seeds([512.0], arm="gkd@r2", run_id="r3"))
    assert len({row.label for row in found.rows if row.method.startswith("gkd")}) == 3


def test_without_a_recipe_the_budget_is_what_the_arms_trainings_came_to() -> None:
    found = gathered(seeds([506.0, 494.0], settings={"train": {}}, run_id="r1"))
    assert {row.settings["train_tokens"] for row in of(found, "gkd")} == {500.0}
    other = gathered(seeds([500.0], settings={}, run_id="r1"), seeds([99.0], settings={}, run_id="r2"))
    assert labels(other) == ["gkd", "gkd@r2", "sft"]
    run = quickstart()
    uncounted = tuple(replace(one, workload={}) if one.kind is StageKind.STUDENT_TRAIN else one for one in run.stages)
    assert all("train_tokens" not in row.settings for row in gathered(replace(run, stages=uncounted)).rows)


def test_a_recipe_without_checkpoints_ends_with_all_its_text() -> None:
    settings = {"data": {"train_tokens": 512}, **SIX_JOULES}
    run = seeds([256.0, 64.0], settings=settings, ended_by="its budget of 6 J: 5.8 J")
    assert {row.settings["train_tokens"] for row in of(gathered(run), "gkd")} == {512.0}
