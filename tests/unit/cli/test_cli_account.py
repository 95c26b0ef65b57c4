"""Accounts as text: no number without its interval and basis, nothing missing shown as 0."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from run_records import run_record, stage
from stillwatt.cli.account import record_lines, total_text
from stillwatt.metering.totals import sum_stages
from stillwatt.records import Basis, NoTotal, RunRecord, StageKind, StageStatus, Total
from stillwatt.report.format import pick_unit


def test_a_run_as_lines(make_record: Callable[..., RunRecord]) -> None:
    lines = record_lines(make_record())
    assert lines[0] == "run 20261122-225501-demo-3f2a  demo: ended, 13.5 s"
    assert lines[2].startswith("teacher_logits  teacher_logits  ended")
    assert "8,192" in lines[2]
    assert "1,500 J [1,400, 1,600] 80 % measured, 20 % modelled" in lines[2]
    assert "outside any stage  not known: nothing ran outside stages" in lines
    assert "gpu0  not known: the driver is not installed" in lines
    assert "cpu0  measured by rapl (/sys/class/powercap), device of cpu0" in lines
    assert "dram0  modelled by rapl (/sys/class/powercap), device of dram0" in lines
    assert lines[-1] == "note: one line of a journal was torn"


def test_what_repeats_inside_one_stage_is_one_line() -> None:
    """A training that writes its own text 45 times filled the screen, each writing said to be a new attempt."""
    train = stage("t", "train", StageKind.STUDENT_TRAIN, joules=900.0, duration_s=100.0)
    steps = [
        stage(
            f"s{step}", "own_text", StageKind.OTHER, joules=10.0, duration_s=2.0, tokens=64, parent_id="t", attempt=step
        )
        for step in range(1, 46)
    ]
    lost = stage("l", "probe", StageKind.OTHER, joules=1.0, status=StageStatus.FAILED)
    again = stage("p", "probe", StageKind.OTHER, joules=2.0, attempt=2)
    lines = record_lines(run_record([train, *steps, lost, again]))
    shown = sum_stages(steps)
    assert isinstance(shown, Total)
    assert shown.complete
    assert shown.value_j == pytest.approx(450.0)
    assert lines[3].startswith("  own_text (45 times) ")
    for told in ("1 min 30 s", "2,880", total_text(shown, pick_unit([900.0, 10.0, 1.0, 2.0]))):
        assert told in lines[3]
    assert lines[4].startswith("probe ")
    assert lines[5].startswith("probe (attempt 2) ")


@given(st.floats(0, 1e12), st.floats(0, 1e6), st.floats(0, 1e6), st.sampled_from(Basis), st.booleans())
def test_a_total_always_says_its_interval_basis_and_holes(
    value: float, below: float, above: float, basis: Basis, complete: bool
) -> None:
    total = Total(
        value_j=value,
        low_j=value - below,
        high_j=value + above,
        basis=basis,
        complete=complete,
        absent=() if complete else ("gpu0", "dram0"),
    )
    text = total_text(total)
    assert "[" in text
    assert basis.value in text
    assert ("incomplete, without gpu0, dram0" in text) == (not complete)


def test_seconds_without_readings_are_incomplete_too() -> None:
    total = Total(value_j=1.0, low_j=1.0, high_j=1.0, basis=Basis.MEASURED, complete=False)
    assert total_text(total).endswith("measured; incomplete")


@pytest.mark.parametrize(
    ("value_j", "shown"),
    [(17.1, "17.10 J"), (36.0, "= 0.01 Wh"), (1500.0, "= 0.417 Wh"), (3.5e5, "= 97.2 Wh"), (3.6e6, "1.000 kWh")],
)
def test_a_whole_total_is_told_in_watt_hours_where_that_can_be_read(
    make_record: Callable[..., RunRecord], value_j: float, shown: str
) -> None:
    total = Total(value_j=value_j, low_j=value_j, high_j=value_j, basis=Basis.MEASURED, complete=True)
    (line,) = [line for line in record_lines(replace(make_record(), total=total)) if line.startswith("total  ")]
    assert shown in line
    assert ("Wh" in shown) == ("Wh" in line)
    assert "e-" not in line
    part = replace(total, complete=False, absent=("gpu0",))
    (line,) = [line for line in record_lines(replace(make_record(), total=part)) if line.startswith("total  ")]
    assert line.endswith("incomplete, without gpu0")  # and no figure behind the part's name


def test_an_unknown_total_is_not_a_number() -> None:
    assert not any(character.isdigit() for character in total_text(NoTotal(reason="no reading")))
