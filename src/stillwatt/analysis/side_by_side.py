"""Measured runs beside each other: what each took, and how many times the first one's (method.md, section 4)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from stillwatt.analysis.bills import lacking, price
from stillwatt.analysis.bookings import weights_of
from stillwatt.analysis.contrast import Evidence, combine, ratio_of
from stillwatt.analysis.instruments import (
    Instruments,
    gain_range,
    mean_reading,
    read_instruments,
    unread_share,
    work_s,
)
from stillwatt.analysis.repeat import ASSUMED_REL
from stillwatt.analysis.words import listed
from stillwatt.records.channel import Boundary, worst_basis
from stillwatt.records.energy import NoTotal, Total
from stillwatt.records.finding import Bill
from stillwatt.records.run import RunRecord, StageRecord
from stillwatt.records.window import StageKind, StageStatus

SCHEMA = "stillwatt.side-by-side/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How many times the first side's energy; `value` None where that cannot be said, for the reason."""

    value: float | None
    low: float = 0.0
    high: float | None = None
    """None without an upper end."""
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        if self.value is None:
            return {"absent": self.reason}
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One side's work, or one stage of it: the mean of its runs."""

    energy: Bill | NoTotal
    duration_s: float
    tokens: float | None
    """None where a run counted none."""
    times: Times | None
    """Against the first side's; None for that one itself."""
    times_per_token: Times | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        one = self.energy
        energy = (
            {"absent": one.reason}
            if isinstance(one, NoTotal)
            else {
                "value_j": one.value_j,
                "low_j": one.low_j,
                "high_j": one.high_j,
                "basis": one.basis.value if one.basis else None,
                "complete": one.complete,
            }
        )
        return {
            "energy": energy,
            "duration_s": self.duration_s,
            "tokens": self.tokens,
            "times_the_first": self.times and self.times.to_dict(),
            "per_token_times_the_first": self.times_per_token and self.times_per_token.to_dict(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Runs that are taken to be repeats of each other."""

    label: str
    run_ids: tuple[str, ...]
    work: Entry
    """All top-level stages but idle ones."""
    stages: dict[str, Entry]
    """The same, by stage name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SideBySide:
    """Two sides or more, the first one the yardstick."""

    sides: tuple[Side, ...]
    warnings: tuple[str, ...]
    complete: bool
    """False where an energy is unknown, or lacks a part."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "schema": SCHEMA,
            "against": self.sides[0].label,
            "complete": self.complete,
            "sides": [
                {
                    "label": side.label,
                    "runs": list(side.run_ids),
                    **side.work.to_dict(),
                    "stages": {name: entry.to_dict() for name, entry in side.stages.items()},
                }
                for side in self.sides
            ],
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """Some stages of one run."""

    bill: Bill | NoTotal
    duration_s: float
    tokens: float
    boundary: Boundary | None
    instruments: Instruments


def side_by_side(sides: Sequence[Sequence[RunRecord]]) -> SideBySide:
    """Hold runs against the first of them (method.md, eqs. 28 to 30).

    What is compared is each run's work: its top-level stages but for idle ones, failed ones too. What the instruments
    that both sides were read by may be off by moves both alike.

    Args:
        sides: The runs of each side, at least one; several are repeats, and their spread is in the intervals.

    Raises:
        MissingExtraError: A side has several runs, and SciPy is not installed.
    """
    labels = _labels(sides)
    names = list(dict.fromkeys(stage.name for runs in sides for run in runs for stage in _work_of(run)))
    columns = [_column(runs, names) for runs in sides]
    made = [
        Side(
            label=label,
            run_ids=tuple(run.run_id for run in runs),
            work=_entry(column[None], columns[0][None] if index else None),
            stages={
                name: _entry(column[name], columns[0][name] if index else None)
                for name in names
                if any(_work_of(run, name) for run in runs)
            },
        )
        for index, (label, runs, column) in enumerate(zip(labels, sides, columns, strict=True))
    ]
    energies = [side.work.energy for side in made]
    return SideBySide(
        sides=tuple(made),
        warnings=tuple(_warnings(sides, labels, columns)),
        complete=all(isinstance(one, Bill) and one.complete for one in energies),
    )


_Column = dict[str | None, list[_Work]]
"""One side's runs by stage name; None: all of their work."""


def _column(runs: Sequence[RunRecord], names: Sequence[str]) -> _Column:
    return {name: [_read(run, _work_of(run, name)) for run in runs] for name in (None, *names)}


def _labels(sides: Sequence[Sequence[RunRecord]]) -> list[str]:
    """The runs' name where it tells the sides apart, else the first run's id."""
    called = [runs[0].name for runs in sides]
    alone = [len({run.name for run in runs}) == 1 and called.count(runs[0].name) == 1 for runs in sides]
    return [name if is_clear else runs[0].run_id for name, is_clear, runs in zip(called, alone, sides, strict=True)]


def _work_of(run: RunRecord, name: str | None = None) -> list[StageRecord]:
    tops = (stage for stage in run.stages if stage.parent_id is None and stage.kind is not StageKind.IDLE_BASELINE)
    return [stage for stage in tops if name is None or stage.name == name]


def _read(run: RunRecord, stages: Sequence[StageRecord]) -> _Work:
    boundaries = {stage.gross.boundary for stage in stages if isinstance(stage.gross, Total)}
    bill = price({stage.stage_id: stage for stage in stages}, weights_of(stages))
    if not stages:
        bill = NoTotal(reason=_why_no_work(run))
    elif len(boundaries) > 1:
        bill = NoTotal(reason=f"the stages of run {run.run_id} are summed at unlike boundaries")
    return _Work(
        bill=bill,
        duration_s=work_s(stages),
        tokens=math.fsum(stage.workload.get("tokens", 0.0) for stage in stages),
        boundary=next(iter(boundaries), None),
        instruments=read_instruments(run, stages),
    )


def _why_no_work(run: RunRecord) -> str:
    if run.stages or not isinstance(run.total, Total):
        return f"run {run.run_id} did nothing of the kind"
    return f"run {run.run_id} has no stages, and work is what lies in them: `with run.stage(...)`"


def _entry(works: Sequence[_Work], first: Sequence[_Work] | None) -> Entry:
    count = len(works)
    tokens = [work.tokens for work in works]
    times = None if first is None else _times(works, first)
    return Entry(
        energy=_mean(works),
        duration_s=math.fsum(work.duration_s for work in works) / count,
        tokens=math.fsum(tokens) / count if all(tokens) else None,
        times=times,
        times_per_token=None if first is None or times is None else _per_token(times, works, first),
    )


def _mean(works: Sequence[_Work]) -> Bill | NoTotal:
    """The mean of the runs; the systematic part is not shrunk by repeats."""
    bills = [work.bill for work in works if isinstance(work.bill, Bill)]
    if len(bills) < len(works):
        return next(work.bill for work in works if isinstance(work.bill, NoTotal))
    count = len(bills)
    return Bill(
        value_j=math.fsum(bill.value_j for bill in bills) / count,
        random_j=math.hypot(*(bill.random_j for bill in bills)) / count,
        systematic_low_j=math.fsum(bill.systematic_low_j for bill in bills) / count,
        systematic_high_j=math.fsum(bill.systematic_high_j for bill in bills) / count,
        basis=worst_basis(bases) if (bases := [bill.basis for bill in bills if bill.basis]) else None,
        complete=all(bill.complete for bill in bills),
        absent=tuple(dict.fromkeys(text for bill in bills for text in bill.absent)),
    )


def _times(works: Sequence[_Work], first: Sequence[_Work]) -> Times:
    over, under = _mean(works), _mean(first)
    if isinstance(over, NoTotal):
        return Times(value=None, reason=over.reason)
    if isinstance(under, NoTotal):
        return Times(value=None, reason=under.reason)
    boundaries = {work.boundary.value for work in (*works, *first) if work.boundary is not None}
    if len(boundaries) > 1:
        return Times(value=None, reason=f"they are summed at unlike boundaries: {listed(sorted(boundaries))}")
    lacks = (*lacking(over, under), *lacking(under, over), *_unread(works, first))
    if lacks:
        return Times(value=None, reason=f"one side lacks what the other has: {listed(lacks)}")
    if min(over.value_j, under.value_j) <= 0.0:
        return Times(value=None, reason="an energy is 0: a ratio of it says nothing")
    return _interval(over.value_j / under.value_j, works, first)


_ALWAYS_THERE = ("cpu", "dram")
"""Kinds of parts that every machine has: where one has no reading, it was not read."""


def _unread(*sides: Sequence[_Work]) -> list[str]:
    """Such parts that some runs were read in and others not; of a whole machine at once, all are."""
    kinds = [
        {key[1].partition("-")[0].rstrip("0123456789") for key in work.instruments} for side in sides for work in side
    ]
    return [kind for kind in _ALWAYS_THERE if len({kind in found for found in kinds}) > 1]


def _interval(ratio: float, works: Sequence[_Work], first: Sequence[_Work]) -> Times:
    """Fieller's set (eq. 30) and what the instruments leave, joined as factors in quadrature of their logarithms."""
    scatter = ratio_of(combine([_evidence(works, is_over=True), _evidence(first, is_over=False)]))
    over, under = (mean_reading([work.instruments for work in some]) for some in (works, first))
    least, most = gain_range(over, under)
    low, high = (0.0, None) if scatter is None else (scatter.low, scatter.high)
    low = ratio * math.exp(-math.hypot(_log(ratio, low), _log(ratio, least))) / (1.0 + unread_share(under))
    if high is None or math.isinf(most * (1.0 + unread_share(over))):
        return Times(value=ratio, low=low, high=None)
    high = ratio * math.exp(math.hypot(_log(high, ratio), _log(most, ratio))) * (1.0 + unread_share(over))
    return Times(value=ratio, low=low, high=high)


def _log(larger: float, smaller: float) -> float:
    """Logarithm of the factor between them; infinity where the smaller one is 0."""
    return max(math.log(larger / smaller), 0.0) if smaller > 0.0 else math.inf


def _evidence(works: Sequence[_Work], *, is_over: bool) -> Evidence:
    bills = [work.bill for work in works if isinstance(work.bill, Bill)]
    pairs = tuple((bill.value_j, 0.0) if is_over else (0.0, bill.value_j) for bill in bills)
    known = 0.0
    if len(bills) == 1:
        known = bills[0].random_j ** 2 + (ASSUMED_REL * bills[0].value_j) ** 2
    return Evidence(pairs=pairs, known_nn=known if is_over else 0.0, known_dd=0.0 if is_over else known)


def _per_token(times: Times, works: Sequence[_Work], first: Sequence[_Work]) -> Times | None:
    """The same by token; None where a run counted none."""
    own, theirs = [work.tokens for work in works], [work.tokens for work in first]
    if times.value is None or not (all(own) and all(theirs)):
        return None
    shrink = (math.fsum(theirs) / len(theirs)) / (math.fsum(own) / len(own))
    high = None if times.high is None else times.high * shrink
    return Times(value=times.value * shrink, low=times.low * shrink, high=high)


def _warnings(sides: Sequence[Sequence[RunRecord]], labels: Sequence[str], columns: Sequence[_Column]) -> Iterator[str]:
    runs = [run for side in sides for run in side]
    bad = [f"{run.run_id} ({run.status.value})" for run in runs if run.status is not StageStatus.ENDED]
    if bad:
        yield f"did not end well, so it may not have done the same work: {listed(bad)}"
    single = [label for label, side in zip(labels, sides, strict=True) if len(side) == 1]
    if single:
        yield (
            f"{listed(single)}: one run says nothing of how far the next would lie from it; each is taken to repeat "
            f"within ±{ASSUMED_REL:.0%} (assumed): run each three times, and join repeats by commas (a1,a2,a3)"
        )
    read_by = [{key for work in column[None] for key in work.instruments} for column in columns]
    for label, keys in zip(labels, read_by, strict=True):
        if keys and read_by[0] and keys != read_by[0]:
            alone = sorted({key[1] for key in keys} ^ {key[1] for key in read_by[0]})
            yield (
                f"{label} and {labels[0]} were read by unlike instruments, or on unlike machines"
                f"{f' ({listed(alone)} of one alone)' if alone else ''}: what these may be off by does not cancel, and "
                "is in the interval"
            )
    if any(run.warnings for run in runs):
        noted = listed(run.run_id for run in runs if run.warnings)
        yield f"there is more to be known of {noted}: `stillwatt ledger show RUN`"
