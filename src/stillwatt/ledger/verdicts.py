"""A run with a verdict on each of its stages, from its directory alone (method.md, eq. 16c)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillwatt.ledger.booking import DEFAULT_RULE, BookedPlace, book_run
from stillwatt.ledger.post import RunFacts, booked_record
from stillwatt.ledger.stages import StageFacts
from stillwatt.metering.cells import renewal_ns, teller
from stillwatt.metering.verdict import PartReadings, Verdict, verdict
from stillwatt.records.energy import Energy
from stillwatt.records.run import RunRecord
from stillwatt.records.usage import Rule
from stillwatt.units import seconds


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """A run, and by stage id whether its stages were measured well enough."""

    record: RunRecord
    verdicts: Mapping[str, Verdict]

    def to_dict(self) -> dict[str, Any]:
        """The contract `stillwatt.run/1` with a `verdict` in each stage."""
        whole = self.record.to_dict()
        for stage in whole["stages"]:
            stage["verdict"] = self.verdicts[stage["stage_id"]].to_dict()
        return whole


def judge_run(facts: RunFacts, *, rule: Rule = DEFAULT_RULE) -> Judged:
    """Account for a run that was read, and hold each stage against the rules (method.md, eq. 16c)."""
    booked = book_run(facts.sessions, rule=rule)
    found = {
        stage.stage_id: _verdict(place, stage)
        for place in booked.places
        for session in place.place.sessions
        for stage in session.stages
    }
    return Judged(record=booked_record(facts, booked), verdicts=found)


def _verdict(place: BookedPlace, stage: StageFacts) -> Verdict:
    booked = place.stages[stage.stage_id]
    parts = [_readings(place, stage, energy) for energy in booked.gross if isinstance(energy, Energy)]
    return verdict(float(seconds(stage.end_ns - stage.start_ns)), booked.gross_total, parts)


def _readings(place: BookedPlace, stage: StageFacts, energy: Energy) -> PartReadings:
    """How a part was read during a stage: not at all, where its energy is only stated."""
    if energy.part not in place.series:
        return PartReadings(part=energy.part, readings=0, period_s=0.0, coverage=energy.coverage)
    told = teller(*place.series[energy.part])
    first, last = np.searchsorted(told.t_ns, (stage.start_ns, stage.end_ns))
    return PartReadings(
        part=energy.part,
        readings=int(last - first),
        period_s=float(seconds(renewal_ns(told))),
        coverage=energy.coverage,
    )
