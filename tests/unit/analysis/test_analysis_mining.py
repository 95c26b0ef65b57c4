"""Mined statements: none in worlds without effects, planted ones found, nothing on one seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from observations import observation, seeds
from rule_studies import World, blank, draw_rows, mined
from rule_worlds import KINDS, MIXED_WORLDS, NULL_WORLDS, RuleWorld, mined_share
from stillwatt.analysis import claims, mining
from stillwatt.analysis.discoveries import discovered
from stillwatt.analysis.mining import mine
from stillwatt.records.comparison import Observation
from stillwatt.records.rules import MinedRule

PLANTED = World(seeds=4, teacher=1.5, saving=0.3, better=0.15, alpha_quality=0.2, length_energy=1.0, length_quality=0.2)


def found_of(rules: tuple[MinedRule, ...], kind: str, *words: str) -> list[MinedRule]:
    return [rule for rule in rules if rule.kind == kind and all(w in f"{rule.statement} {rule.scope}" for w in words)]


@settings(deadline=None, max_examples=150)
@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30), st.sampled_from([0.01, 0.05, 0.2]))
def test_the_step_up_procedure_is_scipys(chances: list[float], rate: float) -> None:
    taken, bound = discovered(chances, rate)
    adjusted = stats.false_discovery_control(chances)
    sure = {place for place, value in enumerate(adjusted) if value < rate * (1.0 - 1e-9)}
    maybe = {place for place, value in enumerate(adjusted) if value <= rate * (1.0 + 1e-9)}
    assert sure <= set(taken) <= maybe
    assert (bound is None) == (not taken)
    assert [chances[place] for place in taken] == sorted(chances[place] for place in taken)


def test_nothing_tried_is_nothing_found() -> None:
    assert discovered([], 0.05) == ((), None)


@pytest.mark.parametrize("num_seeds", [2, 3])
def test_without_effects_hardly_anything_is_mined(num_seeds: int) -> None:
    """In a world without effects a false discovery rate of 5 % is a chance of 5 % that anything is found."""
    stream = np.random.default_rng(2026)
    studies = 60
    world = World(seeds=num_seeds)
    hits = sum(bool(mined(draw_rows(world, stream)).found) for _ in range(studies))
    # 7 of 60 or fewer in 98 % of all tries at 5 %
    assert hits <= 7


def test_among_planted_effects_the_false_ones_are_few() -> None:
    stream = np.random.default_rng(7)
    shares = []
    for _ in range(25):
        found = mined(draw_rows(PLANTED, stream)).found
        # temperature does nothing in this world, and neither does alpha to energies
        false = [
            r for r in found if "temperature" in r.statement or ("alpha" in r.statement and "energy" in r.statement)
        ]
        shares.append(len(false) / len(found))
    assert float(np.mean(shares)) <= 0.05


def test_planted_effects_are_found() -> None:
    found = mined(draw_rows(PLANTED, np.random.default_rng(3))).found
    assert found_of(found, "method", "kd takes", "with all of the teacher's work", "kd-1B")
    assert found_of(found, "method", "kd is better than sft", "students of 13B parameters and fewer")
    assert found_of(found, "matched", "kd beats sft at matched energy", "students of")
    (energy,) = found_of(found, "setting", "max_new_tokens from 256 to 1024", "energy with all")
    assert energy.unit == "times"
    assert energy.low is not None
    assert energy.high is not None
    # 7 J less a saving of 30 %, 1 J beside it, and a teacher of 10.5 J that doubles
    truth = (4.9 + 1.0 + 21.0) / (4.9 + 1.0 + 10.5)
    assert energy.low <= truth <= energy.high
    assert energy.quality_change == pytest.approx(0.25, abs=0.04)
    assert found_of(found, "setting", "alpha from 0.3 to 0.8", "quality")
    assert found_of(found, "monotone", "the quality rises with alpha")
    assert not found_of(found, "monotone", "falls with alpha")


def test_every_mined_rule_has_its_evidence() -> None:
    rows = draw_rows(PLANTED, np.random.default_rng(3))
    labels = {row.label for row in rows}
    answer = mined(rows)
    assert answer.tried > len(answer.found) > 0
    for rule in answer.found:
        assert rule.supporting
        assert set(rule.supporting) <= labels
        assert rule.seeds == 4
        assert answer.largest_p is not None
        assert rule.p <= answer.largest_p <= answer.rate


def test_the_order_of_the_rows_changes_nothing() -> None:
    rows = draw_rows(PLANTED, np.random.default_rng(3))
    one, two = mined(rows), mined(rows[::-1])
    assert {(r.statement, r.scope) for r in one.found} == {(r.statement, r.scope) for r in two.found}


def test_nothing_is_mined_from_one_seed() -> None:
    rows = [row for row in draw_rows(PLANTED, np.random.default_rng(3)) if row.seed == "0"]
    answer = mined(rows)
    assert (answer.tried, answer.found, answer.largest_p) == (0, (), None)
    assert any(reason.startswith("statements on one seed, of kd-1B") for reason in answer.untried)


def test_one_run_repeated_with_one_seed_is_one_seed() -> None:
    rows = [replace(row, drawn_with="7") for row in draw_rows(PLANTED, np.random.default_rng(3))]
    assert mined(rows).found == ()


def test_what_cannot_be_tried_is_said() -> None:
    rows = [
        *seeds("kd-1b", [5.0, 5.1], quality=None),
        *seeds("sft-1b", [6.0, 6.2], quality=[0.7, 0.71]),
        *seeds("kd-7b", [9.0, 9.5], quality=[0.8, 0.82]),
        *seeds("syn-1b", [5.0, 5.1], quality=None, teacher_j=None, settings={"alpha": 1.0}),
    ]
    untried = mined(rows).untried
    assert "quality of kd-1b against sft-1b: the quality of kd-1b is unknown" in untried
    assert "one_off_energy of syn-1b against sft-1b: the teacher's energy of syn-1b is unknown" in untried
    assert "kd-7b: no baseline has student '7b'" in untried
    assert "alpha: no two labels differ in it alone" in untried


def test_settings_whose_outcome_is_unknown_are_said() -> None:
    rows: list[Observation] = []
    for alpha in (0.1, 0.5, 0.9):
        rows += seeds("kd-1b", [5.0, 5.1], label=f"kd-{alpha}", quality=None, settings={"alpha": alpha})
    untried = mined(rows).untried
    assert any(reason.startswith("quality by alpha 0.1 to 0.5: the quality of kd-") for reason in untried)


def test_many_statements_are_cut_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = draw_rows(PLANTED, np.random.default_rng(3))
    monkeypatch.setattr(mining, "MOST_TRIED", 5)
    monkeypatch.setattr(claims, "_MOST_LABELS", 2)
    answer = mine(rows, blank(rows), rate=0.05)
    assert answer.tried == 5
    assert any("more statements: the first 5 were tried" in reason for reason in answer.untried)
    assert any("methods are tried on the first 2 of 12 distilled labels" in reason for reason in answer.untried)
    assert any("by size of student: 3 labels of 3 sizes are too many to try" in reason for reason in answer.untried)


def test_a_ladder_of_several_students_is_tried_together() -> None:
    rows: list[Observation] = []
    stream = np.random.default_rng(0)
    for student in ("1b", "7b"):
        for alpha in (0.1, 0.9):
            quality = [0.5 + 0.3 * alpha + float(stream.normal(0.0, 0.01)) for _ in range(4)]
            joules = [5.0 + float(stream.normal(0.0, 0.1)) for _ in range(4)]
            label = f"kd-{student}-{alpha}"
            rows += seeds(f"kd-{student}", joules, label=label, quality=quality, settings={"alpha": alpha})
    (rule,) = found_of(mined(rows).found, "setting", "alpha from 0.1 to 0.9", "quality", "student 1b and 7b")
    assert rule.effect == pytest.approx(0.24, abs=0.03)


def test_a_single_training_is_mined_from_nothing() -> None:
    assert mined([observation("kd-1b")]).found == ()


def test_two_ladders_of_one_method_are_told_apart() -> None:
    """Alpha is climbed at two temperatures: two statements, each with its own scope."""
    found = found_of(
        mined(draw_rows(PLANTED, np.random.default_rng(3))).found, "monotone", "the quality rises with alpha"
    )
    assert sorted(rule.scope for rule in found) == [
        "kdsweep, student 1B, temperature 1 held",
        "kdsweep, student 1B, temperature 4 held",
    ]
    assert len({(rule.statement, rule.scope) for rule in found}) == 2


@pytest.mark.parametrize("world", NULL_WORLDS, ids=lambda world: str(world.name))
def test_little_that_is_mined_is_false(world: RuleWorld) -> None:
    """A small version of benchmarks/proof_rules.py, which has a thousand studies of each world."""
    share = mined_share(world, studies=8, seed=1)
    # nothing is true here, so a study that finds anything is wrong: 3 of 8 or fewer in 99.97 % of all tries at 5 %
    assert share.power == {}
    assert share.with_anything <= 3 / 8


def test_what_is_true_in_a_world_is_known_and_found() -> None:
    planted = next(world for world in MIXED_WORLDS if world.name == "planted effects, five seeds")
    share = mined_share(planted, studies=6, seed=1)
    assert share.false_share <= 0.1
    assert min(share.power[kind] for kind in KINDS) > 0.9
    assert max(share.power.values()) <= 1.0


def test_a_false_statement_is_called_false() -> None:
    """Otherwise the bench would prove nothing: without any correction half of all null worlds find something."""
    (world,) = (world for world in NULL_WORLDS if world.name == "no effect, three seeds")
    careless = mined_share(world, studies=8, seed=1, rate=0.9)
    assert careless.false_share == careless.with_false == careless.with_anything > 0.0
