"""What the command line's tests share: a way to run it, and a small made-up account."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest
from click.testing import CliRunner, Result

import published_schemas
from stillwatt.cli.main import cli
from stillwatt.records import (
    Absent,
    Basis,
    Boundary,
    Energy,
    NoTotal,
    ProbeRecord,
    RunRecord,
    StageKind,
    StageRecord,
    StageStatus,
    Total,
)
from stillwatt.records.finding import StageTable, Study


@pytest.fixture
def stillwatt() -> Callable[..., Result]:
    """Run the command line in this process; stdout and stderr are kept apart.

    Whatever `analyse --json` prints in any test is held against its published schema.
    """

    def run(*arguments: str) -> Result:
        done = CliRunner().invoke(cli, list(arguments), prog_name="stillwatt")
        if arguments[:1] == ("analyse",) and "--json" in arguments and done.exit_code in (0, 3):
            published_schemas.check("comparison", json.loads(done.stdout))
        return done

    return run


def _energy(part: str, value_j: float, basis: Basis) -> Energy:
    return Energy(
        part=part,
        device=f"device of {part}",
        boundary=Boundary.CHIP,
        value_j=value_j,
        random_j=1.0,
        systematic_low_j=2.0,
        systematic_high_j=2.0,
        basis=basis,
        method="counter",
        coverage=1.0,
        failed_reads=0,
        estimated_j=0.0,
        missing_s=0.0,
        driver="rapl",
        source="/sys/class/powercap",
    )


@pytest.fixture
def make_record() -> Callable[..., RunRecord]:
    """A run of one stage: a measured CPU, a modelled DRAM, and a GPU nobody could read."""

    def make(
        *, run_id: str = "20261122-225501-demo-3f2a", complete: bool = True, absent: Sequence[str] = ()
    ) -> RunRecord:
        total = Total(
            value_j=1500.0,
            low_j=1400.0,
            high_j=1600.0,
            basis=Basis.MODELLED,
            complete=complete,
            absent=tuple(absent),
            share_by_basis=((Basis.MEASURED, 0.8), (Basis.MODELLED, 0.2)),
        )
        stage = StageRecord(
            stage_id="a1",
            parent_id=None,
            name="teacher_logits",
            kind=StageKind.TEACHER_LOGITS,
            attempt=2,
            status=StageStatus.ENDED,
            start_utc="2026-11-22T22:55:01.000Z",
            duration_s=12.25,
            workload={"tokens": 8192.0},
            labels={},
            results={},
            energies=(
                _energy("cpu0", 1200.0, Basis.MEASURED),
                _energy("dram0", 300.0, Basis.MODELLED),
                Absent(part="gpu0", boundary=Boundary.BOARD, reason="the driver is not installed"),
            ),
            gross=total,
            net=NoTotal(reason="no idle baseline"),
        )
        return RunRecord(
            run_id=run_id,
            name="demo",
            status=StageStatus.ENDED,
            start_utc="2026-11-22T22:55:01.000Z",
            duration_s=13.5,
            complete=complete,
            stages=(stage,),
            unallocated=NoTotal(reason="nothing ran outside stages"),
            total=total,
            meter={"cpu_s": 0.5},
            environment={},
            settings={},
            settings_sha256="0" * 64,
            probes=(ProbeRecord(driver="rapl", usable=True, detail="", cure=""),),
            gaps=0,
            warnings=("one line of a journal was torn",),
        )

    return make


@pytest.fixture
def make_study() -> Callable[[RunRecord], Study]:
    """What such a run shows: nothing but its stage table."""

    def make(record: RunRecord) -> Study:
        table = StageTable(rows=(), unallocated=record.unallocated, total=record.total, residual_j=None, closes=None)
        return Study(
            run_id=record.run_id,
            baseline_arm="sft",
            allocations=(),
            table=table,
            arms=(),
            references=(),
            serving=(),
            frontier=(),
            rejected=(),
            break_evens=(),
            experimentation=NoTotal(reason="nothing failed"),
            warnings=("no arms",),
        )

    return make
