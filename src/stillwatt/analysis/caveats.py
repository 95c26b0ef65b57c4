"""What a reader must know before believing a number: one sentence each, worst first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stillwatt.analysis.arm_stages import cards_of, maker_cards
from stillwatt.analysis.bookings import Bookings, artifacts_of
from stillwatt.analysis.quality import Yardstick
from stillwatt.analysis.words import listed
from stillwatt.records.channel import Basis, Boundary, is_summed
from stillwatt.records.energy import Absent, Energy, NoTotal, Total
from stillwatt.records.finding import (
    ArmPoint,
    Bill,
    Quality,
    ServingRate,
    StageTable,
)
from stillwatt.records.run import RunRecord, StageRecord
from stillwatt.records.window import StageKind

_FEW_ITEMS = 1000
"""Below this many items a proportion near one half has a standard error above 1.5 points."""
_GAINS = (
    "each card's gain is its own, and the intervals of ratios and N* here leave it out; `stillwatt analyse RUN` has it "
    "in them"
)


def find_caveats(
    run: RunRecord,
    points: Sequence[ArmPoint],
    yardstick: Yardstick,
    serving: Sequence[ServingRate],
    table: StageTable,
    baseline_arm: str,
) -> tuple[str, ...]:
    """Everything to beware of in a run's findings."""
    return (
        *_energy_caveats(run, table),
        *(_arm_caveats(points, yardstick, serving, baseline_arm) if points else ()),
    )


def card_caveats(bookings: Bookings) -> Iterator[str]:
    """Arms of one run that were trained on unlike cards, or whose teacher worked on others, after a move perhaps."""
    stages: dict[str, list[StageRecord]] = {}
    for stage in bookings.ended:
        if stage.kind is StageKind.STUDENT_TRAIN and "arm" in stage.labels:
            stages.setdefault(stage.labels["arm"], []).append(stage)
    by_cards: dict[frozenset[str], list[str]] = {}
    for arm, trained in stages.items():
        if cards := cards_of(trained):
            by_cards.setdefault(cards, []).append(arm)
    if len(by_cards) > 1:
        on = "; ".join(f"{listed(arms)} on {', '.join(sorted(cards))}" for cards, arms in by_cards.items())
        yield f"trained on unlike cards ({on}): {_GAINS}"
    used = {name for trained in stages.values() for stage in trained for name in artifacts_of(stage)}
    made = maker_cards(bookings, used)
    if made and len(by_cards) == 1 and made not in by_cards:
        on = listed(card for cards in by_cards for card in sorted(cards))
        yield f"the teacher worked on {listed(sorted(made))}, and the arms were trained on {on}: {_GAINS}"


def _energy_caveats(run: RunRecord, table: StageTable) -> Iterator[str]:
    if isinstance(table.total, NoTotal):
        yield f"the run has no total: {table.total.reason}"
    elif not table.total.complete:
        absent = f" ({', '.join(dict.fromkeys(table.total.absent))} absent)" if table.total.absent else ""
        yield f"the total is incomplete{absent}: the true energy is higher"
    if table.closes is False:
        yield f"the stage table does not close: {table.residual_j:.6g} J are in the total and in no row"
    energies = [part for stage in run.stages for part in stage.energies]
    for basis in (Basis.MODELLED, Basis.ASSUMED):
        parts = sorted({e.part for e in energies if isinstance(e, Energy) and e.basis is basis})
        sources = sorted({e.source for e in energies if isinstance(e, Energy) and e.basis is basis} - {""})
        if parts:
            how = f": {'; '.join(sources)}" if sources else ""
            yield f"energy of {', '.join(parts)} is {basis.value}, not measured{how}"
    boundary = table.total.boundary if isinstance(table.total, Total) else Boundary.COMPONENTS
    unsummed = sorted({f"{part.part} ({part.boundary.value})" for part in energies if _is_outside(part, boundary)})
    if unsummed:
        yield f"{', '.join(unsummed)} covers other parts again and is in no bill"


def _is_outside(part: Energy | Absent, total: Boundary) -> bool:
    """Whether a part's energy is in no bill; what is absent inside a reading around it is in that reading's."""
    is_inside = isinstance(part, Absent) and total is not Boundary.COMPONENTS
    return not is_summed(part.boundary, total) and not is_inside


def _arm_caveats(
    points: Sequence[ArmPoint],
    yardstick: Yardstick,
    serving: Sequence[ServingRate],
    baseline_arm: str,
) -> Iterator[str]:
    if len({point.arm for point in points}) > 1 and len({point.seed for point in points}) == 1:
        yield "one seed: each arm was trained once, so a difference between arms is not a significance"
    yield from _quality_caveats(points, yardstick)
    yield from _adapter_caveats(points)
    if baseline_arm not in {point.name for point in points}:
        yield f"no arm is called {baseline_arm!r}: there is no baseline, so no N*"
    if not any(rate.is_teacher for rate in serving) or all(rate.is_teacher for rate in serving):
        yield "serving was not measured for both teacher and student: there is no T*"
    drivers = {
        name for point in points if isinstance(point.student_energy, Bill) for name in point.student_energy.drivers
    }
    if len(drivers) > 1:
        yield (
            f"energies rest on {', '.join(sorted(drivers))}: their gain errors cancel in N* and T* only as far as "
            "stages draw on them in the same proportion"
        )
    short = sorted({point.key for point in points if _is_incomplete(point)})
    if short:
        yield f"bills are incomplete for {', '.join(short)}: parts are absent or seconds are missing"


def _adapter_caveats(points: Sequence[ArmPoint]) -> Iterator[str]:
    """Which arms' weights stayed as they were: a report must not be taken to be of whole students that were trained."""
    sizes = {point.adapters: point.student for point in points if point.adapters is not None}
    for size, student in sizes.items():
        arms = ", ".join(dict.fromkeys(point.arm for point in points if point.adapters == size))
        share = size.trained_parameters / size.parameters
        yield (
            f"{arms}: trained by LoRA, which is {size.trained_parameters:,} weights of adapters ({share:.2g} of the "
            f"{size.parameters:,} of student {student}, which stayed as they were)"
        )


def _is_incomplete(point: ArmPoint) -> bool:
    return any(isinstance(entry.energy, Bill) and not entry.energy.complete for entry in point.allocated)


def _quality_caveats(points: Sequence[ArmPoint], yardstick: Yardstick) -> Iterator[str]:
    if not yardstick.scores:
        yield "neither a teacher nor a start was evaluated: there is no quality Q"
    elif yardstick.student:
        yield f"no teacher was evaluated: quality Q is relative to {yardstick.name}, which is 1"
    counted = [score for point in points for score in point.scores if score.in_quality]
    items = {score.task: score.n for score in counted if score.n is not None}
    few = {task: n for task, n in items.items() if n < _FEW_ITEMS}
    if few:
        listed = ", ".join(f"{n} items of {task}" for task, n in sorted(few.items()))
        yield f"quality rests on {listed}: small differences in Q are noise"
    qualities = [point.quality for point in points if isinstance(point.quality, Quality)]
    left_out = sorted({gap for quality in qualities for gap in quality.left_out})
    if left_out:
        yield f"Q leaves out {'; '.join(left_out)}"
