"""What the two papers state, beside what the corpus gives: where they agree, where they do not, and why.

Of the review (arXiv 2605.05416) only the abstract was to hand: it prints no counts there, so its statements are set
beside the map as statements. Of the paper on distillation (arXiv 2605.13981) published sums and break-evens are
computed again from the figures of the corpus.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from stillwatt.literature.corpus import Corpus
from stillwatt.literature.coverage import CoverageMap, coverage_map
from stillwatt.records.impact import LifeStage
from stillwatt.records.literature import Method, Treatment

_LITTLE = 0.25
"""Fewer than this share of the works that quantify CO2e is little attention, by our reading."""
REVIEW = "arXiv 2605.05416 (abstract)"
DISTILLATION = "arXiv 2605.13981 (through secondary accounts)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement of a paper, and what the corpus says."""

    source: str
    says: str
    ours: str
    agrees: bool
    why: str = ""
    """Where they differ, or why the two are not quite the same thing."""


def statements(corpus: Corpus) -> tuple[Statement, ...]:
    """Every statement that the corpus can be held against."""
    drawn = coverage_map(corpus)
    return (*_of_review(corpus, drawn), *_of_distillation(corpus))


def _of_review(corpus: Corpus, drawn: CoverageMap) -> tuple[Statement, ...]:
    carbon, energy, water, materials, primary = (
        drawn.metric_works(metric) for metric in ("co2e", "energy", "water", "adpe", "primary_energy")
    )
    coarse, operational = _coarse_carbon(corpus)
    works = len(drawn.works)
    return (
        _of_stages(drawn),
        Statement(
            source=REVIEW,
            says="reporting rests predominantly on CO2e",
            ours=f"{carbon} works quantify CO2e and {energy} energy",
            agrees=carbon > energy,
            why="ours differs: the corpus took in many works that measure the energy of inference and stop there, and "
            "which works the review counted is not known",
        ),
        Statement(
            source=REVIEW,
            says="CO2e is derived from coarse proxies",
            ours=f"of the figures of operational CO2e, {coarse} of {operational} are estimated, modelled or stated "
            "without a method",
            agrees=2 * coarse > operational,
            why="counted over figures, not works: one work with many rows weighs more",
        ),
        Statement(
            source=REVIEW,
            says="little attention to water",
            ours=f"{water} of {works} works quantify water",
            agrees=water < carbon * _LITTLE,
        ),
        Statement(
            source=REVIEW,
            says="little attention to manufacturing of materials and to several impacts at once",
            ours=f"{materials} of {works} works quantify ADPe at any stage, {primary} primary energy",
            agrees=materials < carbon * _LITTLE,
        ),
    )


def _of_stages(drawn: CoverageMap) -> Statement:
    count = {cover.stage: cover.of(Treatment.QUANTIFIED) for cover in drawn.stages}
    training, deployment = count[LifeStage.TRAINING], count[LifeStage.DEPLOYMENT]
    others = max(n for stage, n in count.items() if stage not in (LifeStage.TRAINING, LifeStage.DEPLOYMENT))
    return Statement(
        source=REVIEW,
        says="some studies look at training and inference alone, others at more",
        ours=f"{training} works quantify training, {deployment} deployment; of the other six stages none is quantified "
        f"by more than {others}",
        agrees=min(training, deployment) > others,
    )


def _coarse_carbon(corpus: Corpus) -> tuple[int, int]:
    """Figures of operational CO2e that no instrument stands behind, and all of them."""
    coarse = {Method.ESTIMATED, Method.MODELLED, Method.REPORTED, Method.DERIVED, Method.SURVEY}
    operational = [one for one in corpus.figures if one.metric == "co2e" and one.counts is not None]
    return sum(one.method in coarse for one in operational), len(operational)


_PUBLISHED_BREAK_EVENS = (
    ("kd", "1b", 9.5, 10.5, "about 10"),
    ("kd", "13b", 3.5, 4.5, "4"),
    ("synthetic-sft", "1b", 10.5, 11.5, "about 11"),
    ("synthetic-sft", "13b", 2.0, 3.0, "2-3"),
)
_PIPELINES = (("baseline-sft", "1b"), ("baseline-sft", "13b"), ("kd", "1b"), ("kd", "13b"), ("synthetic-sft", "13b"))


def _of_distillation(corpus: Corpus) -> tuple[Statement, ...]:
    values = {
        one.id.removeprefix("lambert2026-"): one.value
        for one in corpus.figures
        if one.work == "lambert2026" and one.value is not None
    }
    if not values:
        return ()
    sums = [_sum_statement(values, arm, size) for arm, size in _PIPELINES]
    return (*sums, *(_break_even(values, *published) for published in _PUBLISHED_BREAK_EVENS))


def _sum_statement(values: Mapping[str, float], arm: str, size: str) -> Statement:
    total = values[f"{arm}-{size}-total"]
    parts = math.fsum(values.get(f"{arm}-{size}-{part}", 0.0) for part in ("pre", "teacher", "student", "eval"))
    return Statement(
        source=DISTILLATION,
        says=f"{arm} {size}: {total:g} kWh in all",
        ours=f"its stages add up to {parts:g} kWh",
        agrees=math.isclose(parts, total, abs_tol=0.005),
    )


def _break_even(values: Mapping[str, float], arm: str, size: str, low: float, high: float, said: str) -> Statement:
    saved = values[f"baseline-sft-{size}-student"] - values[f"{arm}-{size}-student"]
    reuse = values[f"{arm}-{size}-teacher"] / saved
    return Statement(
        source=DISTILLATION,
        says=f"{arm} {size}: break-even by reuse at {said} students",
        ours=f"{reuse:.2f} from its rounded figures",
        agrees=low <= reuse <= high,
    )
