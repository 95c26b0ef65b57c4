"""Small made-up corpora, and any corpus at all."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from stillwatt.literature.corpus import Corpus, make_corpus
from stillwatt.literature.vocabulary import CODED_METRICS
from stillwatt.records.impact import LifeStage
from stillwatt.records.literature import (
    Counts,
    Evidence,
    Method,
    PublishedFigure,
    Reach,
    Treatment,
    Work,
    WorkKind,
)


def make_work(name: str = "a2024", **more: Any) -> Work:
    """A work of which only training is quantified, unless told otherwise."""
    metrics = more.pop("metrics", {LifeStage.TRAINING: ("energy",)})
    treatments = dict.fromkeys(LifeStage, Treatment.UNKNOWN) | dict.fromkeys(metrics, Treatment.QUANTIFIED)
    treatments |= more.pop("treatments", {})
    said: dict[str, Any] = {
        "id": name,
        "title": f"A work called {name}",
        "authors": "A; B",
        "year": 2024,
        "kind": WorkKind.PAPER,
        "source": f"https://example.org/{name}",
        "treatments": tuple(treatments.items()),
        "metrics": tuple(metrics.items()),
        "evidence": Evidence.FULL_TEXT,
        "verified": True,
    }
    return Work(**(said | more))


def make_figure(name: str = "f", **more: Any) -> PublishedFigure:
    """100 kWh of training at the facility, unless told otherwise."""
    said: dict[str, Any] = {
        "id": name,
        "work": "a2024",
        "subject": "a model",
        "stages": (LifeStage.TRAINING,),
        "metric": "energy",
        "value": 100.0,
        "low": None,
        "high": None,
        "written": "",
        "unit": "kWh",
        "per": "",
        "reach": Reach.FACILITY,
        "counts": None,
        "method": Method.MEASURED,
        "year": 2024,
        "evidence": Evidence.FULL_TEXT,
        "verified": True,
    }
    return PublishedFigure(**(said | more))


@st.composite
def corpora(draw: st.DrawFn) -> Corpus:
    """Up to four works, each with up to three figures."""
    works, figures = [], []
    for number in range(draw(st.integers(0, 4))):
        name = f"w{number}"
        coded = draw(st.lists(st.sampled_from(LifeStage), unique=True, max_size=3))
        metrics = {
            stage: tuple(sorted(draw(st.sets(st.sampled_from(CODED_METRICS), min_size=1, max_size=3))))
            for stage in LifeStage
            if stage in coded
        }
        others = st.sampled_from([one for one in Treatment if one is not Treatment.QUANTIFIED])
        works.append(
            make_work(
                name,
                metrics=metrics,
                treatments={stage: draw(others) for stage in LifeStage if stage not in coded},
                year=draw(st.integers(2019, 2026)),
                evidence=draw(st.sampled_from(Evidence)),
                verified=draw(st.booleans()),
            )
        )
        for index in range(draw(st.integers(0, 3))):
            figures.append(draw(figures_of(name, f"{name}-{index}")))
    return make_corpus(works, figures)


@st.composite
def figures_of(draw: st.DrawFn, work: str, name: str) -> PublishedFigure:
    """Any figure of energy or CO2e."""
    metric = draw(st.sampled_from(["energy", "co2e"]))
    return make_figure(
        name,
        work=work,
        subject=draw(st.sampled_from(["Llama", "OLMo", "w1 again"])),
        stages=tuple(sorted(draw(st.sets(st.sampled_from(LifeStage), min_size=1, max_size=2)))),
        metric=metric,
        value=draw(st.floats(0.001, 1e6)),
        unit={"energy": "kWh", "co2e": "kg"}[metric],
        reach=draw(st.sampled_from(Reach)),
        counts=None if metric == "energy" else draw(st.sampled_from([Counts.LOCATION, Counts.MARKET])),
        method=draw(st.sampled_from(Method)),
        year=draw(st.integers(2019, 2026)),
        evidence=draw(st.sampled_from(Evidence)),
        verified=draw(st.booleans()),
    )
