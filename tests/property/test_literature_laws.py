"""Laws of the corpus: order means nothing, choices compose, counts add up, comparisons do not hang on the unit."""

from __future__ import annotations

import math
import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from literature_corpora import corpora, make_figure, make_work
from stillwatt.factors.catalog import build_catalog
from stillwatt.factors.places import find_place
from stillwatt.literature.compare import Asked, NoRank, Rank, compare
from stillwatt.literature.corpus import Corpus, make_corpus
from stillwatt.literature.coverage import coverage_map, map_dict
from stillwatt.literature.select import Choice, select
from stillwatt.literature.vocabulary import CODED_METRICS, parse_per
from stillwatt.records.impact import LifeStage
from stillwatt.records.literature import Evidence, Method, Reach, Treatment
from stillwatt.units import SCALES, convert

CATALOG = build_catalog()
WORLD = find_place("world")
FEW = settings(max_examples=25)
"""A corpus takes a while to make."""


def _some(words: st.SearchStrategy[object]) -> st.SearchStrategy[frozenset[object]]:
    return st.frozensets(words, max_size=2)


choices = st.builds(
    Choice,
    stages=_some(st.sampled_from(LifeStage)),
    metrics=_some(st.sampled_from(CODED_METRICS)),
    methods=_some(st.sampled_from(Method)),
    evidence=_some(st.sampled_from(Evidence)),
    first_year=st.none() | st.integers(2019, 2026),
    last_year=st.none() | st.integers(2019, 2026),
    is_verified=st.booleans(),
    subject=st.sampled_from(["", "llama", "w1", "zz"]),
)


def shuffled(corpus: Corpus, seed: int) -> Corpus:
    works, figures = list(corpus.works), list(corpus.figures)
    random.Random(seed).shuffle(works)
    random.Random(seed + 1).shuffle(figures)
    return make_corpus(works, figures)


@FEW
@given(corpora(), st.integers(0, 99))
def test_order_means_nothing(corpus: Corpus, seed: int) -> None:
    other = shuffled(corpus, seed)
    assert other.content_hash == corpus.content_hash
    assert map_dict(coverage_map(other)) == map_dict(coverage_map(corpus))


@FEW
@given(corpora(), choices)
def test_a_choice_made_twice_is_the_choice(corpus: Corpus, choice: Choice) -> None:
    once = select(corpus, choice)
    assert select(once, choice) == once
    assert set(once.works) <= set(corpus.works)
    assert set(once.figures) <= set(corpus.figures)


@FEW
@given(corpora(), choices)
def test_a_choice_is_its_parts_one_after_the_other(corpus: Corpus, choice: Choice) -> None:
    parts = (
        Choice(stages=choice.stages, metrics=choice.metrics),
        Choice(evidence=choice.evidence, first_year=choice.first_year),
        Choice(last_year=choice.last_year, is_verified=choice.is_verified),
        Choice(methods=choice.methods, subject=choice.subject),
    )
    narrowed = corpus
    for part in parts:
        narrowed = select(narrowed, part)
    assert narrowed == select(corpus, choice)


@FEW
@given(corpora())
def test_counts_add_up(corpus: Corpus) -> None:
    drawn = coverage_map(corpus)
    assert sum(count for _, count in drawn.by_evidence) == len(corpus.works)
    for cover in drawn.stages:
        assert cover.works == len(corpus.works)
        share = cover.share
        assert (share is None) == (not corpus.works)
        if share is not None:
            assert 0.0 <= share.low <= share.high <= 1.0
        for metric in CODED_METRICS:
            assert drawn.cell(metric, cover.stage).works <= cover.of(Treatment.QUANTIFIED)
    for metric in CODED_METRICS:
        cells = [drawn.cell(metric, stage).works for stage in LifeStage]
        assert max(cells) <= drawn.metric_works(metric) <= sum(cells)


@FEW
@given(corpora(), st.integers(0, 99))
def test_maps_of_two_halves_add_up_to_the_map(corpus: Corpus, seed: int) -> None:
    rng = random.Random(seed)
    left = [work for work in corpus.works if rng.random() < 0.5]
    right = [work for work in corpus.works if work not in left]
    whole, parts = coverage_map(corpus), [coverage_map(make_corpus(half, ())) for half in (left, right)]
    for cover, *halves in zip(whole.stages, *(part.stages for part in parts), strict=True):
        for treatment in Treatment:
            assert cover.of(treatment) == sum(half.of(treatment) for half in halves)


@FEW
@given(corpora(), st.floats(0.01, 1e5), st.sampled_from(["J", "MJ", "MWh"]), st.sampled_from(Reach))
def test_a_comparison_does_not_hang_on_the_unit(corpus: Corpus, value: float, unit: str, reach: Reach) -> None:
    asked = Asked(
        value=value, low=value, high=value, unit="kWh", per="", stage=LifeStage.TRAINING, metric="energy", reach=reach
    )
    in_other = convert(value, "kWh", unit)
    other = replace(asked, value=in_other, low=in_other, high=in_other, unit=unit)
    found, again = (compare(one, corpus, CATALOG, WORLD) for one in (asked, other))
    assert {one.figure.id for one in found.beside} == {one.figure.id for one in again.beside}
    ratios = {one.figure.id: one.ratio for one in again.beside}
    for one in found.beside:
        assert math.isclose(one.ratio or 0.0, ratios[one.figure.id] or 0.0, rel_tol=0.000_000_1)
        assert one.low <= one.value <= one.high
        assert one.yours_low <= one.yours <= one.yours_high
    alike = [f for f in corpus.figures if f.metric == "energy" and LifeStage.TRAINING in f.stages]
    assert len(found.beside) + len(found.refused) == len(alike)


@FEW
@given(st.integers(1, 9), st.integers(1, 6), st.floats(0.1, 1000.0))
def test_no_rank_under_five_works_however_many_figures(works: int, each: int, value: float) -> None:
    made = [make_work(f"w{number}") for number in range(works)]
    figures = [make_figure(f"{work.id}-{index}", work=work.id) for work in made for index in range(each)]
    asked = Asked(
        value=value,
        low=value,
        high=value,
        unit="kWh",
        per="",
        stage=LifeStage.TRAINING,
        metric="energy",
        reach=Reach.FACILITY,
    )
    rank = compare(asked, make_corpus(made, figures), CATALOG, WORLD).rank
    assert isinstance(rank, Rank if works >= 5 else NoRank)
    if isinstance(rank, Rank):
        assert rank.works == works
        assert rank.low <= rank.share_below <= rank.high


@given(st.sampled_from(sorted(SCALES)), st.sampled_from(sorted(SCALES)), st.floats(0.001, 1e6))
def test_units_go_there_and_back(unit: str, other: str, value: float) -> None:
    if SCALES[unit].dimension == SCALES[other].dimension:
        assert math.isclose(convert(convert(value, unit, other), other, unit), value, rel_tol=0.000_000_1)


@given(st.integers(1, 100_000), st.sampled_from(["request", "image", "output token"]))
def test_a_functional_unit_reads_its_count(count: int, noun: str) -> None:
    assert parse_per(f"{count:,} {noun}s") == parse_per(f"per {count} {noun}")
    assert parse_per(f"{count} {noun}").count == count
