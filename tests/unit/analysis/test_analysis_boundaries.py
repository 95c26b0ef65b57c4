"""Bills at the boundary at which a run is summed: components, or what a meter around them reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from run_records import energy, quickstart, stage
from stillwatt.analysis.bills import price
from stillwatt.analysis.seeds import Gathered, SummedRun, cards_only, gather_runs
from stillwatt.analysis.study import summarise
from stillwatt.metering.totals import combine, sum_part
from stillwatt.records import Absent, Boundary, Energy, NoTotal, RunRecord, StageKind, StageRecord, Total
from stillwatt.records.finding import Bill, BreakEvenKind
from stillwatt.report.scope import not_counted

SUMMED = [Boundary.COMPONENTS, Boundary.NODE, Boundary.WALL, Boundary.FACILITY]
GONE = Absent(part="dram0", boundary=Boundary.CHIP, reason="not readable")


def gross_j(entry: StageRecord) -> float:
    return math.fsum(part.value_j for part in entry.energies if isinstance(part, Energy))


def at(entry: StageRecord, boundary: Boundary, *beside: Absent) -> StageRecord:
    """The stage with all its energy on one part, as an importer or a meter around the machine states it."""
    part = energy(gross_j(entry), "all", boundary=boundary, driver="smart_plug", source="")
    return replace(entry, energies=(part, *beside), gross=combine([part, *beside]))


def run_at(boundary: Boundary, *beside: Absent, **changes: object) -> RunRecord:
    run = quickstart()
    stages = [at(entry, boundary, *beside) for entry in run.stages]
    loose = energy(20.0, "all", boundary=boundary, driver="smart_plug", source="")
    parts = [entry.energies[0] for entry in stages]
    whole = sum_part([*parts, loose], [1.0] * (len(parts) + 1))
    return replace(run, stages=tuple(stages), total=combine([whole]), unallocated=combine([loose]), **changes)  # type: ignore[arg-type]  # any field of a record


def gathered(*runs: RunRecord) -> Gathered:
    study = [
        SummedRun(run=run, study=summarise(run, reuse=()), cards=summarise(cards_only(run), reuse=())) for run in runs
    ]
    return gather_runs(study)


def values(bills: Sequence[Bill | NoTotal]) -> list[float]:
    known = [bill.value_j for bill in bills if isinstance(bill, Bill)]
    assert len(known) == len(bills)
    return known


@pytest.mark.parametrize("boundary", SUMMED)
@pytest.mark.parametrize("beside", [(), (GONE,)], ids=["alone", "beside what is absent inside it"])
def test_bills_are_those_of_the_boundary_that_is_summed(boundary: Boundary, beside: tuple[Absent, ...]) -> None:
    wanted, found = summarise(quickstart(), reuse=(10,)), summarise(run_at(boundary, *beside), reuse=(10,))
    for label in ("one-off", "reuse:10", "marginal"):
        bills = values([point.energy_under(label) for point in found.arms])
        assert bills == pytest.approx(values([point.energy_under(label) for point in wanted.arms]))
    assert found.table.closes
    rows = values([row.energy for row in found.table.rows])
    assert rows == pytest.approx([gross for gross in values([row.energy for row in wanted.table.rows])])
    for kind in BreakEvenKind:
        one, other = (study.break_even(kind, study.final_points[-2]) for study in (found, wanted))
        assert one is not None
        assert other is not None
        assert one.extra_j == pytest.approx(other.extra_j)
    assert not any("covers other parts" in text or "does not close" in text for text in found.warnings)
    is_whole = all(isinstance(bill, Bill) and bill.complete for bill in (row.energy for row in found.table.rows))
    # what is absent inside a meter around the machine is in that meter's reading
    assert is_whole is (not beside or boundary is not Boundary.COMPONENTS)


def test_a_wall_meter_beside_components_is_in_no_bill_and_said_to_be() -> None:
    run = quickstart()
    wall = energy(900.0, "wall0", boundary=Boundary.WALL)
    both = replace(run, stages=tuple(replace(entry, energies=(*entry.energies, wall)) for entry in run.stages))
    assert values([row.energy for row in summarise(both, reuse=()).table.rows]) == pytest.approx(
        values([row.energy for row in summarise(run, reuse=()).table.rows])
    )
    assert "wall0 (wall) covers other parts again and is in no bill" in summarise(both, reuse=()).warnings


def test_a_stage_of_a_machine_that_is_summed_otherwise_has_no_energy_in_the_run_s_bills() -> None:
    run = quickstart()
    elsewhere = replace(run, stages=tuple(at(e, Boundary.WALL) if e.name == "train.kd.1.0" else e for e in run.stages))
    point = next(p for p in summarise(elsewhere, reuse=()).arms if (p.arm, p.checkpoint) == ("kd", "1.0"))
    assert isinstance(point.student_energy, NoTotal)
    assert f"it is summed at the boundary wall and run {run.run_id} at components" in point.student_energy.reason


def test_a_stage_without_a_total_has_no_bill_whatever_was_read_around_it() -> None:
    lost = Absent(part="gpu0", boundary=Boundary.BOARD, reason="no usable reading")
    wall = energy(9.0, "wall0", boundary=Boundary.WALL)
    entry = replace(stage("a1", "late", StageKind.OTHER, energies=[lost, wall]), gross=NoTotal(reason="gpu0: lost"))
    assert price({"a1": entry}, {"a1": 1.0}) == NoTotal(reason="late has no energy (gpu0: no usable reading)")


@pytest.mark.parametrize(
    ("boundary", "covers", "words"),
    [
        (Boundary.COMPONENTS, "node", "node is the sum of the metered boards"),
        (Boundary.WALL, "node", "node is what a meter around the whole machine reads (wall)"),
        (Boundary.NODE, "node", "node is what a meter around the whole machine reads (node)"),
        (Boundary.FACILITY, "facility", "the energies are those of a meter around the facility"),
    ],
)
def test_what_a_comparison_of_runs_covers_is_said(boundary: Boundary, covers: str, words: str) -> None:
    found = gathered(run_at(boundary))
    assert found.boundary == covers
    assert any(text.startswith(words) for text in found.warnings)
    assert found.complete


def test_runs_that_are_summed_at_unlike_boundaries_are_said_first() -> None:
    found = gathered(run_at(Boundary.COMPONENTS), run_at(Boundary.WALL, run_id="plugged"))
    assert found.boundary == ""
    assert found.warnings[0].startswith("the runs' energies are summed at unlike boundaries (components in ")
    assert "wall in plugged" in found.warnings[0]
    unknown = gathered(replace(run_at(Boundary.WALL), total=NoTotal(reason="lost")))
    assert unknown.boundary == "node"


@pytest.mark.parametrize(
    ("boundary", "has_node", "has_cooling"),
    [(Boundary.COMPONENTS, True, True), (Boundary.WALL, False, True), (Boundary.FACILITY, False, False)],
)
def test_what_a_meter_around_the_machine_reads_is_counted(
    boundary: Boundary, has_node: bool, has_cooling: bool
) -> None:
    said = " ".join(entry["what"] for entry in not_counted(run_at(boundary)))
    assert ("The rest of the node" in said) is has_node
    assert ("Cooling and other overhead" in said) is has_cooling


def test_the_total_and_its_boundary_stay_what_the_ledger_says() -> None:
    total = run_at(Boundary.WALL).total
    assert isinstance(total, Total)
    assert total.boundary is Boundary.WALL
