"""Runs that were measured on one machine at the same time: what its parts drew then is in each of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from stillwatt.analysis.words import listed
from stillwatt.records.energy import Energy

if TYPE_CHECKING:
    from stillwatt.ledger.store import LedgerStore, RunLine
    from stillwatt.records.run import RunRecord

__all__ = ["counted_twice", "measured_beside"]

_LEAST_S = 0.5
"""Runs that follow each other overlap by the end of the one and the beginning of the other."""
_LEAST_SHARE = 0.01


def measured_beside(store: LedgerStore, record: RunRecord) -> tuple[str, ...]:
    """What to say of each other run of the ledger that measured the same parts while this one did.

    Only the ledger's own runs are seen. A run that was gone on with counts from its beginning, for as long as it was
    measured.
    """
    others = (line.run_id for line in store.runs() if line.run_id != record.run_id and _both_s(record, line))
    return tuple(said for run_id in others if (said := _said(record, store.get(run_id))))


def counted_twice(runs: Sequence[RunRecord]) -> Iterator[str]:
    """The same of runs that are added up here, each pair once."""
    for run, other in itertools.combinations(runs, 2):
        if said := _said(run, other):
            yield f"run {run.run_id} and the other are added up: {said}"


def _said(record: RunRecord, other: RunRecord) -> str:
    """What is in both runs; empty where nothing is."""
    both_s, boot = _both_s(record, other), record.environment.get("boot_id")
    shared = sorted(part for part, device in _parts(record) & _parts(other) if device)
    if not both_s or not boot or other.environment.get("boot_id") != boot or not shared:
        return ""
    return (
        f"run {other.run_id} measured {listed(shared)} of this machine too, for {both_s:.3g} s at the same time: what "
        "they drew then is in both runs, and adding the two up counts it twice (one STILLWATT_RUN_GROUP for both has "
        "it divided between them)"
    )


def _both_s(record: RunRecord, other: RunRecord | RunLine) -> float:
    """How long both were measured; 0 for no longer than one run takes to follow another."""
    own, its = _span_s(record), _span_s(other)
    if own is None or its is None:
        return 0.0
    both_s = min(own[1], its[1]) - max(own[0], its[0])
    return both_s if both_s >= max(_LEAST_S, _LEAST_SHARE * record.duration_s) else 0.0


def _span_s(run: RunRecord | RunLine) -> tuple[float, float] | None:
    try:
        start_s = datetime.fromisoformat(run.start_utc).timestamp()
    except ValueError:
        return None
    return start_s, start_s + run.duration_s


def _parts(record: RunRecord) -> set[tuple[str, str]]:
    return {(part.part, part.device) for stage in record.stages for part in stage.energies if isinstance(part, Energy)}
