"""What is no repeat: a seed run again, an artefact made once, noise of floats, and runs that were made otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observations import seeds
from rule_studies import judged, mined
from run_records import quickstart
from stillwatt.analysis.compare import compare
from stillwatt.analysis.effects import Effect, effect_of
from stillwatt.analysis.ladders import OUTCOMES, ladders
from stillwatt.analysis.seeds import SummedRun, cards_only, gather_runs
from stillwatt.analysis.study import summarise
from stillwatt.analysis.trainings import Term, gather_labels
from stillwatt.records.comparison import Matched, Observation
from stillwatt.records.rules import RulesMined, RulesTested

REL = 0.03


def gap(rows: list[Observation], outcome: str = "quality") -> Effect:
    """The outcome of the first label less that of the second."""
    one, two = gather_labels(rows)
    less = {name: -weight for name, weight in OUTCOMES[outcome].items()}
    found = effect_of(
        [Term(label=one, numerator=OUTCOMES[outcome]), Term(label=two, numerator=less)], REL, is_ratio=False
    )
    assert isinstance(found, Effect)
    return found


def ratio(rows: list[Observation], outcome: str) -> Effect:
    one, two = gather_labels(rows)
    terms = [Term(label=one, numerator=OUTCOMES[outcome]), Term(label=two, denominator=OUTCOMES[outcome])]
    found = effect_of(terms, REL, is_ratio=True)
    assert isinstance(found, Effect)
    return found


def run_again(rows: list[Observation], *changes_j: float) -> list[Observation]:
    """Every row once a run, with the same seed and quality, and energies that differ by those changes."""
    return [
        replace(row, seed=f"r{run}:{row.seed}", drawn_with=row.seed, student_j=(row.student_j or 0.0) + change_j)
        for run, change_j in enumerate(changes_j)
        for row in rows
    ]


TWO_SEEDS = [
    *seeds("kd-1b", [5.0, 5.1], quality=[0.74, 0.78]),
    *seeds("sft-1b", [6.0, 6.3], quality=[0.70, 0.71]),
]


def test_a_seed_that_is_run_again_is_no_second_draw() -> None:
    once, again = gap(TWO_SEEDS), gap(run_again(TWO_SEEDS, -0.01, 0.0, 0.01))
    assert again.seeds == once.seeds == 2
    assert again.value == pytest.approx(once.value)
    assert again.interval == pytest.approx(once.interval)
    assert again.p_above(0.0) == pytest.approx(once.p_above(0.0))


def test_energies_of_a_seed_that_is_run_again_are_averaged() -> None:
    rows = run_again(TWO_SEEDS, 0.0, 0.2)
    means = [replace(row, student_j=(row.student_j or 0.0) + 0.1) for row in TWO_SEEDS]
    assert ratio(rows, "student_energy").interval == pytest.approx(ratio(means, "student_energy").interval)


def matched(rows: list[Observation]) -> Matched:
    return next(entry for entry in compare(rows, source="drawn", draws=10).matched if entry.allocation == "marginal")


def test_runs_of_the_same_seeds_make_no_quality_gap_significant() -> None:
    rows = [
        replace(row, teacher_j=0.0, student_j=9.0 + (row.student_j or 0.0), own_j=20.0 if row.method == "kd" else 10.0)
        for row in TWO_SEEDS
    ]
    once, again = matched(rows), matched(run_again(rows, -0.01, 0.0, 0.01))
    assert (once.as_cheap, once.is_significant) == ("sft-1b", False)
    assert again.is_significant is False
    assert again.difference_half_width == pytest.approx(once.difference_half_width)
    # six seeds of their own would tell
    other = [replace(row, drawn_with="") for row in run_again(rows, -0.01, 0.0, 0.01)]
    assert matched(other).is_significant is True


def artefacts(one_j: float, two_j: float) -> list[Observation]:
    """Two labels of three seeds, each on one artefact, whose students repeat to a thousandth."""
    return [
        *seeds("kd-1b", [2.0, 2.001, 2.002], teacher_j=one_j),
        *seeds("syn-1b", [2.001, 2.0, 2.003], teacher_j=two_j),
    ]


def test_one_run_of_a_teacher_makes_nothing_significant_within_what_it_repeats_to() -> None:
    """Three seeds of the student say nothing of how well the teacher's work repeats."""
    found = ratio(artefacts(102.0, 100.0), "one_off_energy")
    assert found.seeds == 3
    assert found.p_above(1.0) > 0.025
    low, high = found.interval
    assert low is not None
    assert high is not None
    assert found.value is not None
    assert low < 1.0 < found.value < high
    # beyond it, it does
    assert ratio(artefacts(112.0, 100.0), "one_off_energy").p_above(1.0) < 0.025


def test_labels_that_drew_on_one_artefact_share_its_error() -> None:
    rows = artefacts(100.0, 100.0)
    rows = [replace(row, own_j=3.0 * (row.own_j or 0.0)) if row.method == "syn" else row for row in rows]
    assert ratio(rows, "one_off_energy").p_below(1.0) < 0.025


two_decimals = st.integers(10, 99).map(lambda n: n / 100.0)


@settings(deadline=None, max_examples=200)
@given(st.lists(two_decimals, min_size=2, max_size=4), st.integers(-9, 9).map(lambda n: n / 100.0))
def test_rounded_seeds_that_differ_by_the_same_are_no_certainty(values: list[float], shift: float) -> None:
    """0.33 - 0.30 is not 0.73 - 0.70 in floats: that spread is no evidence of anything."""
    count = [float(number) for number in range(len(values))]
    rows = [
        *seeds("kd-1b", [7.0 + value + shift for value in values], quality=[value + shift for value in values]),
        *seeds("sft-1b", [7.0 + value for value in values], quality=values),
    ]
    rows = [replace(row, teacher_j=count[int(row.seed) - 1]) for row in rows]
    assert gap(rows).seeds == 1
    assert ratio(rows, "student_energy").seeds == 1


def test_seeds_that_are_equal_but_for_noise_are_no_certainty() -> None:
    """0.1 + 0.2 is not 0.3 in floats."""
    rows = [
        *seeds("kd-1b", [5.0, 5.5], quality=[0.1 + 0.2, 0.1 + 0.7]),
        *seeds("sft-1b", [6.0, 6.6], quality=[0.3, 0.8]),
    ]
    assert len({row.quality for row in rows}) == 4
    assert gap(rows).seeds == 1


def sweep() -> list[Observation]:
    """Several labels of one size, and two whose settings are the same."""
    stream = np.random.default_rng(1)
    made: list[Observation] = []
    for student, share in (("1B", 1.0), ("7B", 3.0)):
        for name, method, quality, joules, own in (
            ("sft", "sft", 0.50, 5.0, {}),
            ("kd-a", "kd", 0.55, 4.0, {"alpha": 0.3, "temperature": 1.0}),
            ("kd-b", "kd", 0.60, 3.0, {"alpha": 0.8, "temperature": 1.0}),
            ("kd-twin", "kd", 0.52, 4.5, {"alpha": 0.8, "temperature": 1.0}),
            ("kd-c", "kd", 0.58, 3.5, {"alpha": 0.8, "temperature": 2.0}),
        ):
            energies = [share * joules + float(stream.normal(0.0, 0.05)) for _ in range(3)]
            made += seeds(
                f"{method}-{student}",
                energies,
                label=f"{name}-{student}",
                quality=[quality + float(stream.normal(0.0, 0.005)) for _ in range(3)],
                teacher_j=0.0 if method == "sft" else [6.0 * share + float(stream.normal(0.0, 0.05)) for _ in range(3)],
                settings=own,
            )
    return made


def verdicts(found: RulesTested) -> dict[str, Any]:
    return {
        entry.rule.name: (
            entry.status,
            [
                (part.status, sorted((case.about, round(case.effect or 0.0, 9)) for case in part.cases))
                for part in entry.tests
            ],
        )
        for entry in found.rules
    }


def statements(found: RulesMined) -> tuple[int, list[tuple[str, str, float]]]:
    return found.tried, sorted((rule.statement, rule.scope, round(rule.p, 9)) for rule in found.found)


def rungs(rows: list[Observation]) -> list[list[str]]:
    return [[label.name for label in ladder.labels] for ladder in ladders(gather_labels(rows), "temperature")]


def test_the_order_of_a_tables_rows_changes_no_ladder_no_verdict_and_no_mined_rule() -> None:
    rows = sweep()
    # alpha 0.8 has two labels at temperature 1, so neither stands for it
    assert rungs(rows) == []
    single = [row for row in rows if "twin" not in row.label]
    assert rungs(single) == [["kd-b-1B", "kd-c-1B"], ["kd-b-7B", "kd-c-7B"]] == rungs(single[::-1])
    tested, rules = verdicts(judged(rows)), statements(mined(rows))
    assert any(cases for _, tests in tested.values() for _, cases in tests)
    assert rules[1]
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(rows)).tolist()
        turned = [rows[place] for place in order]
        assert verdicts(judged(turned)) == tested
        assert statements(mined(turned)) == rules


def names(*changes: dict[str, Any]) -> set[str]:
    """Labels of runs with those settings."""
    runs = [quickstart(run_id=f"r{number}", settings=own) for number, own in enumerate(changes, start=1)]
    summed = [
        SummedRun(run=run, study=summarise(run, reuse=()), cards=summarise(cards_only(run), reuse=())) for run in runs
    ]
    return {row.label for row in gather_runs(summed).rows}


PRUNED = {"name": "pruned", "source": "prune-teacher", "drop_layers": 10}


@pytest.mark.parametrize(
    ("one", "two", "apart"),
    [
        ({"teacher": {"source": "A"}}, {"teacher": {"source": "B"}}, {"kd", "synthetic"}),
        ({"data": {"source": "x"}}, {"data": {"source": "y"}}, {"sft", "kd", "synthetic"}),
        ({"students": [PRUNED]}, {"students": [PRUNED | {"drop_layers": 20}]}, {"sft", "kd", "synthetic"}),
        (
            {"students": [PRUNED], "teacher": {"source": "A"}},
            {"students": [PRUNED], "teacher": {"source": "B"}},
            {"sft", "kd", "synthetic"},
        ),
        ({"teacher_logits": {"top_k": 8}}, {"teacher_logits": {"top_k": 512}}, {"kd"}),
        ({"teacher_generate": {"temperature": 0.1}}, {"teacher_generate": {"temperature": 1.5}}, {"synthetic"}),
        ({"train": {"learning_rate": 1e-4}}, {"train": {"learning_rate": 1e-2}}, {"sft", "kd", "synthetic"}),
    ],
    ids=["teacher", "data", "students", "pruned teacher", "top_k", "temperature", "learning rate"],
)
def test_runs_that_were_made_otherwise_are_no_repeats(
    one: dict[str, Any], two: dict[str, Any], apart: set[str]
) -> None:
    assert names(one, two) == {"sft", "kd", "synthetic"} | {f"{label}@r2" for label in apart}


def test_runs_that_are_unlike_in_seeds_alone_are_repeats() -> None:
    one, two = (
        {
            "data": {"source": "x", "seed": seed},
            "train": {"seeds": [seed], "learning_rate": 1e-4},
            "teacher": {"source": "A", "seed": seed},
            "teacher_generate": {"temperature": 1.0, "seed": seed},
        }
        for seed in (1, 2)
    )
    assert names(one, two) == {"sft", "kd", "synthetic"}
