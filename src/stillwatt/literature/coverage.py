"""The coverage map: which works treat which stage, which metrics they quantify there, and what that rests on.

A share of works is a range, since a coding from an abstract does not show what the work leaves out: from those that
are seen to quantify a stage, to those together with the ones in which it could not be seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from stillwatt.literature.corpus import Corpus
from stillwatt.literature.vocabulary import CODED_METRICS, METRICS, STAGES
from stillwatt.records.impact import LifeStage
from stillwatt.records.literature import READ_WHOLE, Evidence, Treatment, Work


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkRow:
    """One work of the map."""

    id: str
    title: str
    year: int
    evidence: Evidence
    treatments: tuple[tuple[LifeStage, Treatment], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCover:
    """How works treat one stage."""

    stage: LifeStage
    counts: tuple[tuple[Treatment, tuple[tuple[Evidence, int], ...]], ...]
    """Each treatment, with how many works of each kind of evidence; together they are all works."""

    def of(self, treatment: Treatment, evidence: Iterable[Evidence] = tuple(Evidence)) -> int:
        """Works that treat the stage so, of these kinds of evidence."""
        wanted = set(evidence)
        return sum(count for kind, count in dict(self.counts)[treatment] if kind in wanted)

    @property
    def works(self) -> int:
        """All works of the map."""
        return sum(self.of(treatment) for treatment in Treatment)

    @property
    def share(self) -> ShareRange | None:
        """Works that quantify the stage; None where there are no works."""
        quantified, unseen = self.of(Treatment.QUANTIFIED), self.of(Treatment.UNKNOWN)
        if not self.works:
            return None
        return ShareRange(low=quantified / self.works, high=(quantified + unseen) / self.works)

    @property
    def share_read_whole(self) -> ShareRange | None:
        """The same among works that were read whole; None where none was."""
        read = sum(self.of(treatment, READ_WHOLE) for treatment in Treatment)
        if not read:
            return None
        quantified, unseen = self.of(Treatment.QUANTIFIED, READ_WHOLE), self.of(Treatment.UNKNOWN, READ_WHOLE)
        return ShareRange(low=quantified / read, high=(quantified + unseen) / read)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareRange:
    """A share that is known to lie between two ends."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricCell:
    """How many works quantify one metric at one stage, and how many figures of it the corpus holds."""

    metric: str
    stage: LifeStage
    by_evidence: tuple[tuple[Evidence, int], ...]
    figures: int

    @property
    def works(self) -> int:
        """Works that quantify it."""
        return sum(count for _, count in self.by_evidence)

    @property
    def abstract_only(self) -> int:
        """Of those, works of which nothing but the abstract was read."""
        return dict(self.by_evidence)[Evidence.ABSTRACT]


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageMap:
    """Work by stage and metric by stage."""

    works: tuple[WorkRow, ...]
    by_evidence: tuple[tuple[Evidence, int], ...]
    stages: tuple[StageCover, ...]
    metrics: tuple[MetricCell, ...]
    metric_totals: tuple[tuple[str, tuple[tuple[Evidence, int], ...]], ...]
    """Each metric with the works that quantify it at any stage; one that does so at three counts once."""
    figures: int
    content_hash: str

    def cell(self, metric: str, stage: LifeStage) -> MetricCell:
        """One cell of metric by stage."""
        return next(cell for cell in self.metrics if cell.metric == metric and cell.stage is stage)

    def metric_works(self, metric: str) -> int:
        """Works that quantify a metric at any stage."""
        return sum(count for _, count in dict(self.metric_totals)[metric])


def coverage_map(corpus: Corpus) -> CoverageMap:
    """The map of a corpus; the order of its works and figures changes nothing."""
    works = sorted(corpus.works, key=lambda work: (work.year, work.id))
    rows = tuple(
        WorkRow(id=work.id, title=work.title, year=work.year, evidence=work.evidence, treatments=work.treatments)
        for work in works
    )
    return CoverageMap(
        works=rows,
        by_evidence=_by_evidence(works),
        stages=tuple(_stage(stage, works) for stage in LifeStage),
        metrics=tuple(_metric(metric, stage, works, corpus) for metric in CODED_METRICS for stage in LifeStage),
        metric_totals=tuple((metric, _by_evidence(_quantifying(metric, works))) for metric in CODED_METRICS),
        figures=len(corpus.figures),
        content_hash=corpus.content_hash,
    )


def _stage(stage: LifeStage, works: Iterable[Work]) -> StageCover:
    return StageCover(
        stage=stage,
        counts=tuple(
            (treatment, _by_evidence(work for work in works if work.treatment(stage) is treatment))
            for treatment in Treatment
        ),
    )


def _metric(metric: str, stage: LifeStage, works: Iterable[Work], corpus: Corpus) -> MetricCell:
    quantifying = (work for work in works if metric in dict(work.metrics).get(stage, ()))
    figures = sum(one.metric == metric and stage in one.stages for one in corpus.figures)
    return MetricCell(metric=metric, stage=stage, by_evidence=_by_evidence(quantifying), figures=figures)


def _quantifying(metric: str, works: Iterable[Work]) -> list[Work]:
    return [work for work in works if any(metric in names for _, names in work.metrics)]


def _by_evidence(works: Iterable[Work]) -> tuple[tuple[Evidence, int], ...]:
    counts = dict.fromkeys(Evidence, 0)
    for work in works:
        counts[work.evidence] += 1
    return tuple(counts.items())


def map_dict(drawn: CoverageMap) -> dict[str, object]:
    """The map for programs."""
    return {
        "corpus_hash": drawn.content_hash,
        "works": len(drawn.works),
        "figures": drawn.figures,
        "by_evidence": _counts(drawn.by_evidence),
        "stages": [_stage_dict(cover) for cover in drawn.stages],
        "metrics": [
            {
                "metric": cell.metric,
                "title": METRICS[cell.metric].title,
                "stage": cell.stage.value,
                "works": cell.works,
                "by_evidence": _counts(cell.by_evidence),
                "figures": cell.figures,
            }
            for cell in drawn.metrics
        ],
        "metric_totals": {metric: _counts(counts) for metric, counts in drawn.metric_totals},
        "work_by_stage": [
            {
                "id": row.id,
                "title": row.title,
                "year": row.year,
                "evidence": row.evidence.value,
                "stages": {stage.value: treatment.value for stage, treatment in row.treatments},
            }
            for row in drawn.works
        ],
    }


def _stage_dict(cover: StageCover) -> dict[str, object]:
    meaning = STAGES[cover.stage]
    return {
        "stage": cover.stage.value,
        "name": meaning.name,
        "name_of": "arXiv 2605.05416",
        "definition": meaning.ours,
        "definition_of": "Stillwatt",
        "treatments": {treatment.value: _counts(counts) for treatment, counts in cover.counts},
        "works_quantifying": cover.of(Treatment.QUANTIFIED),
        "share": _range(cover.share),
        "share_read_whole": _range(cover.share_read_whole),
    }


def _range(share: ShareRange | None) -> dict[str, float] | None:
    return None if share is None else {"low": share.low, "high": share.high}


def _counts(counts: Iterable[tuple[Evidence, int]]) -> dict[str, int]:
    return {evidence.value: count for evidence, count in counts}
