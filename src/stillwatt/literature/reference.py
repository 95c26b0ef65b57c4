"""The generated page on the corpus: its words, its columns, and the numbers of the map as it is shipped."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from stillwatt.literature.corpus import shipped_corpus
from stillwatt.literature.coverage import CoverageMap, coverage_map
from stillwatt.literature.rows import ADDED_COLUMNS
from stillwatt.literature.stated import statements
from stillwatt.literature.vocabulary import CODED_METRICS, METRICS, STAGES
from stillwatt.records.impact import LifeStage
from stillwatt.records.literature import Counts, Evidence, Method, Reach, Treatment
from stillwatt.units import SCALES

_MEANS = {
    "title": "the work's title; required",
    "authors": "`Name A; Name B`",
    "year": "year of publication, four digits; required",
    "kind": "paper, report, model_card or lca; paper if empty",
    "source": "an address, or journal, volume and page; required",
    "subject": "what the figure is of; required",
    "stage": "one of the eight stages, or several as `a|b` where the source does not part them; required",
    "metric": "one of the metrics below; required",
    "value": "a plain number; may be left out where low and high are given",
    "low": "lower end of a range, as printed",
    "high": "upper end of a range, as printed",
    "unit": "one of the units below, of the metric's dimension; required",
    "per": "per what: `request`, `1000 requests`; empty for a total",
    "boundary": "how far it reaches; required for energy, CO2e, water, ADPe and primary energy",
    "counts": "which carbon or water, where the metric comes in kinds",
    "method": "how it came about; reported if empty",
    "evidence": "what you read; required",
    "verified": "yes if you have seen the figure there yourself",
    "note": "anything that must be known, in your own words",
}
_WORDS: tuple[tuple[str, type[StrEnum]], ...] = (
    ("What a coding rests on (`evidence`)", Evidence),
    ("What a work does with a stage", Treatment),
    ("How far a figure reaches (`boundary`)", Reach),
    ("Which carbon or water it counts (`counts`)", Counts),
    ("How it came about (`method`)", Method),
)


def literature_markdown() -> str:
    """The page of the corpus, generated."""
    corpus = shipped_corpus()
    drawn = coverage_map(corpus)
    lines = [
        "# The corpus of published figures",
        "",
        "Written by `make golden`; do not edit. How to use it: [how-to](../how-to/literature.md). Where it comes from:",
        "`src/stillwatt/literature/data/SOURCES.md`.",
        "",
        f"{len(drawn.works)} works, {drawn.figures} figures; content hash `{drawn.content_hash}`.",
        "",
        *_stage_lines(drawn),
        *_metric_lines(drawn),
        "## What the papers state, and what this corpus gives",
        "",
        "Of the review only the abstract was to hand, which prints no counts: its statements are set beside the map.",
        "",
        "| source | states | here | agrees |",
        "|---|---|---|---|",
    ]
    for one in statements(corpus):
        why = f"; {one.why}" if one.why else ""
        lines.append(f"| {one.source} | {one.says} | {one.ours}{why} | {'yes' if one.agrees else '**no**'} |")
    lines += ["", *_column_lines(), *_word_lines()]
    return "\n".join(lines).rstrip("\n") + "\n"


def _stage_lines(drawn: CoverageMap) -> Iterator[str]:
    yield "## Stages"
    yield ""
    yield "Names are the review's (arXiv 2605.05416). **Where a stage begins and ends is this project's own**"
    yield "definition, as the review's was not to hand. A share is a range: works that are seen to quantify the stage,"
    yield "to those together with the ones in which that was not visible; beside it, among works read whole."
    yield ""
    yield "| stage | ours | " + " | ".join(treatment.value for treatment in Treatment) + " | share | read whole |"
    yield "|---|---|" + "---:|" * (len(Treatment) + 2)
    for cover in drawn.stages:
        counts = " | ".join(str(cover.of(treatment)) for treatment in Treatment)
        meaning = STAGES[cover.stage]
        shares = " | ".join(
            "–" if share is None else f"{share.low:.1%} to {share.high:.1%}"
            for share in (cover.share, cover.share_read_whole)
        )
        yield f"| `{cover.stage.value}`: {meaning.name} | {meaning.ours} | {counts} | {shares} |"
    yield ""
    yield "Works coded from: " + ", ".join(f"{kind.value} {count}" for kind, count in drawn.by_evidence) + "."
    yield ""


def _metric_lines(drawn: CoverageMap) -> Iterator[str]:
    yield "## Works that quantify a metric at a stage"
    yield ""
    yield "Behind the slash: those coded from the abstract alone."
    yield ""
    yield "| metric | " + " | ".join(f"`{stage.value}`" for stage in LifeStage) + " | any |"
    yield "|---|" + "---:|" * (len(LifeStage) + 1)
    for metric in CODED_METRICS:
        cells = [drawn.cell(metric, stage) for stage in LifeStage]
        texts = [f"{cell.works}/{cell.abstract_only}" if cell.works else "0" for cell in cells]
        yield f"| {METRICS[metric].title} | {' | '.join(texts)} | {drawn.metric_works(metric)} |"
    yield ""


def _column_lines() -> Iterator[str]:
    yield "## A row of your own"
    yield ""
    yield "| column | holds |"
    yield "|---|---|"
    yield from (f"| `{name}` | {_MEANS[name]} |" for name in ADDED_COLUMNS)
    yield ""
    yield "Metrics: " + ", ".join(f"`{name}`" for name in METRICS) + "."
    yield ""
    yield "Units: " + ", ".join(f"`{name}`" for name in SCALES) + "."
    yield ""


def _word_lines() -> Iterator[str]:
    for title, words in _WORDS:
        yield f"## {title}"
        yield ""
        yield ", ".join(f"`{word.value}`" for word in words) + "."
        yield ""
