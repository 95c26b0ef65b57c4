"""Whether stages were measured well enough, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from stillwatt.metering.verdict import LEAST_COVERAGE, LEAST_READINGS, MOST_HALF_REL, Outcome
from stillwatt.records.repeats import titles

if TYPE_CHECKING:
    from stillwatt.ledger.verdicts import Judged


def verdict_lines(judged: Judged) -> Iterator[str]:
    """How many stages were measured by the rules, and what each of the others lacks."""
    stages, found = judged.record.stages, judged.verdicts
    names = titles(stages)
    if not stages:
        return
    met = sum(found[stage.stage_id].outcome is Outcome.MEETS for stage in stages)
    yield (
        f"verdict  {met} of {len(stages)} {'stage' if len(stages) == 1 else 'stages'} measured by the rules: a "
        f"reading a second, {LEAST_READINGS} of them, {LEAST_COVERAGE:.0%} covered, interval within "
        f"±{MOST_HALF_REL:.0%}"
    )
    for stage in stages:
        verdict = found[stage.stage_id]
        if verdict.outcome is Outcome.MEETS:
            continue
        yield f"  {names[stage.stage_id]} ({stage.stage_id}): {verdict.outcome.value}"
        yield from (f"    {reason}" for reason in verdict.reasons)
