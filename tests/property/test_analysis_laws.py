"""What must hold for any set of trainings: order, scale, beaten points, allocations, intervals."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import published_schemas
from observations import observation
from stillwatt.analysis.compare import compare
from stillwatt.records.comparison import Comparison, Front, Observation
from stillwatt.records.finding import Verdict
from stillwatt.report.comparison import comparison_dict

law = settings(deadline=None, max_examples=60)

energies = st.one_of(st.none(), st.integers(0, 40).map(lambda n: n / 4.0))
qualities = st.one_of(st.none(), st.integers(0, 8).map(lambda n: n / 8.0))
errors = st.one_of(st.none(), st.integers(1, 4).map(lambda n: n / 100.0))


@st.composite
def tables(draw: st.DrawFn) -> list[Observation]:
    """Baselines and distilled labels of few students, one seed or several, with anything unknown."""
    rows: list[Observation] = []
    for number in range(draw(st.integers(1, 5))):
        method = draw(st.sampled_from(["sft", "kd", "syn"]))
        student = draw(st.sampled_from(["1b", "7b"]))
        for seed in range(draw(st.integers(1, 3))):
            rows.append(
                observation(
                    f"{method}-{student}",
                    label=f"{method}-{student}-{'abcde'[number]}",
                    seed=str(seed),
                    teacher_j=0.0 if method == "sft" else draw(energies),
                    student_j=draw(energies),
                    quality=draw(qualities),
                    quality_se=draw(errors),
                    throughput=draw(energies),
                    teacher_tokens=draw(energies),
                )
            )
    return rows


def compared(rows: Sequence[Observation], **options: Any) -> Comparison:
    return compare(rows, source="drawn", draws=200, **options)


def fronts(found: Comparison) -> dict[str, Front]:
    return {front.allocation: front for front in found.fronts}


@law
@given(tables())
def test_any_table_has_an_answer_in_whole_numbers_of_labels(rows: list[Observation]) -> None:
    """Nothing is lost: each label is placed or left out with a reason, under every allocation."""
    found = compared(rows)
    labels = list(dict.fromkeys(row.label for row in rows))
    for front in found.fronts:
        assert sorted([p.label for p in front.placed] + [name for name, _ in front.left_out]) == sorted(labels)
        assert all(reason for _, reason in front.left_out)
        assert set(front.labels) <= {p.label for p in front.placed}
        assert bool(front.labels) == bool(front.placed)
    text = json.dumps(comparison_dict(found), allow_nan=False)
    assert json.loads(text)["baseline"] == "sft"
    published_schemas.check("comparison", json.loads(text))


@law
@given(tables())
def test_a_frontier_point_is_beaten_by_none_and_any_other_by_one(rows: list[Observation]) -> None:
    for front in compared(rows).fronts:
        for point in front.placed:
            beaten = any(
                other.energy_j <= point.energy_j
                and other.quality >= point.quality
                and (other.energy_j, other.quality) != (point.energy_j, point.quality)
                for other in front.placed
            )
            assert point.is_on_frontier == (not beaten)


@law
@given(tables(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(rows: list[Observation], random: Any) -> None:
    turned = list(rows)
    random.shuffle(turned)
    first, second = compared(rows), compared(turned)
    for name, front in fronts(first).items():
        other = fronts(second)[name]
        assert sorted(front.labels) == sorted(other.labels)
        assert {p.label: p.probability for p in front.placed} == pytest.approx(
            {p.label: p.probability for p in other.placed}
        )
    mine = {entry.label: entry for entry in first.n_star}
    for entry in second.n_star:
        assert entry.found.verdict == mine[entry.label].found.verdict
        assert entry.found.value == pytest.approx(mine[entry.label].found.value)


@law
@given(tables())
def test_a_beaten_label_that_joins_changes_no_frontier_and_no_hypervolume(rows: list[Observation]) -> None:
    before = compared(rows)
    worst = observation("sft-zz", label="worst", teacher_j=0.0, student_j=99.0, quality=-1.0, quality_se=None)
    after = compared([*rows, worst])
    for name, front in fronts(before).items():
        if front.placed:
            assert fronts(after)[name].labels == front.labels
        # where a plane was empty the newcomer is its frontier, and moves the reference of all
        if all(other.placed for other in before.fronts):
            assert fronts(after)[name].hypervolume == pytest.approx(front.hypervolume)


@law
@given(tables(), st.sampled_from([0.001, 7.0, 1000.0]))
def test_another_unit_of_energy_scales_energies_and_nothing_else(rows: list[Observation], factor: float) -> None:
    def times(energy_j: float | None) -> float | None:
        return None if energy_j is None else energy_j * factor

    scaled = [
        replace(row, teacher_j=times(row.teacher_j), student_j=times(row.student_j), own_j=times(row.own_j))
        for row in rows
    ]
    first, second = compared(rows), compared(scaled)
    for mine, other in zip(first.fronts, second.fronts, strict=True):
        assert mine.labels == other.labels
    for one, two in zip(first.n_star, second.n_star, strict=True):
        assert (one.found.verdict, one.found.reason) == (two.found.verdict, two.found.reason)
        assert two.found.value == pytest.approx(one.found.value)
    for m, o in zip(first.matched, second.matched, strict=True):
        assert (m.as_good, m.as_cheap) == (o.as_good, o.as_cheap)
        assert o.energy_ratio == pytest.approx(m.energy_ratio)


@law
@given(tables())
def test_every_break_even_is_the_formula_inside_its_interval_and_never_negative(rows: list[Observation]) -> None:
    found = compared(rows)
    for entry in (*found.n_star, *found.n_star_matched):
        ratio = entry.found
        if ratio.value is not None:
            assert entry.extra_j is not None
            assert entry.saving_j is not None
            assert ratio.value == pytest.approx(max(entry.extra_j, 0.0) / entry.saving_j)
            assert ratio.low is not None
            assert 0.0 <= ratio.low <= ratio.value * (1 + 1e-9) + 1e-12
            assert ratio.high is None or ratio.value <= ratio.high * (1 + 1e-9) + 1e-12
        if ratio.verdict is Verdict.NEVER:
            assert (ratio.value, ratio.low, ratio.high) == (None, None, None)
            assert entry.saving_j is not None
            assert entry.saving_j <= 0.0
        if ratio.verdict is Verdict.VALUE:
            assert ratio.high is not None
        if ratio.verdict is Verdict.ALWAYS:
            assert ratio.high is not None
            assert ratio.high <= 1.0


@law
@given(tables(), st.integers(2, 30))
def test_an_allocation_bears_between_all_and_none_of_the_teacher(rows: list[Observation], students: int) -> None:
    found = fronts(compared(rows, reuse_counts=[students]))
    by = {name: {p.label: p.energy_j for p in front.placed} for name, front in found.items()}
    for label, most in by["one-off"].items():
        shared, least = by[f"reuse:{students}"][label], by["marginal"].get(label)
        if least is not None and {r.label: r.teacher_j for r in rows if r.label == label}[label] is not None:
            known = all(None not in (r.teacher_j, r.student_j, r.quality) for r in rows if r.label == label)
            if known:
                assert least <= shared * (1 + 1e-9)
                assert shared <= most * (1 + 1e-9)
                assert shared == pytest.approx(least + (most - least) / students)


@law
@given(tables())
def test_nothing_is_significant_on_one_seed(rows: list[Observation]) -> None:
    seeds: dict[str, set[str]] = {}
    for row in rows:
        seeds.setdefault(row.label, set()).add(row.seed)
    found = compared(rows)
    for entry in found.n_star:
        if entry.is_significant:
            assert min(len(seeds[entry.label]), len(seeds[entry.baseline])) > 1
    for match in found.matched:
        if match.is_significant:
            assert min(len(seeds[match.label]), len(seeds[match.as_cheap])) > 1


@law
@given(tables())
def test_probabilities_are_shares_of_draws_and_some_label_is_always_on_the_frontier(rows: list[Observation]) -> None:
    for front in compared(rows).fronts:
        known = [p.probability for p in front.placed if p.probability is not None]
        assert all(0.0 <= p <= 1.0 for p in known)
        if known and len(known) == len(front.placed):
            assert math.fsum(known) >= 1.0 - 1e-9
