"""Numbers that cannot be meant: refused with file and line, never a traceback, and the files beside are imported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_files import START_S, Import, carbon_row, harness_stage, only_record, write_carbon, write_table
from stillwatt.importers.numbers import is_number, number, of_json
from stillwatt.importers.tables import moment
from stillwatt.workflows.books import verify
from stillwatt.workflows.import_logs import ImportReport

HUGE = "9" * 400
ENDLESS = "9" * 5000


def zeus(path: Path, elapsed: str = "10", energy: str = "1000") -> Path:
    header = ["start_time", "window_name", "elapsed_time", "gpu0_energy"]
    return write_table(path, header, [[START_S, "fine", 10, 500], [START_S + 60, "odd", elapsed, energy]])


def stage(path: Path, old: str = "", new: str = "") -> Path:
    text = json.dumps(harness_stage(), indent=1)
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


def beside_a_good_one(run_import: Import, folder: Path, make: Callable[[Path], object]) -> ImportReport:
    folder.mkdir()
    write_carbon(folder / "good.csv", [carbon_row("good")])
    make(folder)
    report = run_import(folder)
    assert "good.csv" in {Path(source.name).name for line in report.lines for source in line.found.sources}
    return report


@pytest.mark.parametrize("text", ["²", "1e", "1_000", "0x10", "٣", HUGE, ENDLESS, "1e400", "--1", "1,2,3"])
def test_what_is_no_number_is_an_error_of_value(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a number|is too large"):
        number(text)


@given(st.text(max_size=40))
def test_any_text_is_a_finite_number_nothing_or_an_error_of_value(text: str) -> None:
    try:
        value = number(text)
    except ValueError:
        return
    assert value is None or abs(value) < float("inf")
    assert value is None or is_number(text.strip().replace(",", "."))


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5), st.lists))
def test_any_json_value_is_a_finite_number_or_an_error_of_value(value: object) -> None:
    try:
        found = of_json(value, "x")
    except ValueError:
        return
    assert abs(found) < float("inf")
    assert found == pytest.approx(value or 0, abs=1e-30)


def test_a_trace_of_all_but_nothing_is_kept_by_the_ledger(tmp_path: Path, run_import: Import) -> None:
    rows = [[START_S + second, "1e-320" if second == 5 else "-0" if second == 6 else 300] for second in range(20)]
    record = only_record(run_import(write_table(tmp_path / "log.csv", ["timestamp", "gpu0_w"], rows)))
    assert record.complete


@pytest.mark.parametrize("text", [f"{'0' * 5000}1769299160", "0001-01-01T00:00:00+23:59", ENDLESS])
def test_no_time_is_an_error_of_value(text: str) -> None:
    with pytest.raises(ValueError, match=r"time|outside"):
        moment(text)


@pytest.mark.parametrize("elapsed", ["1e12", "1e300", "nan", "0", "-1", "1e", "²", ENDLESS])
def test_a_window_of_no_length_that_can_be_meant(tmp_path: Path, run_import: Import, elapsed: str) -> None:
    report = beside_a_good_one(run_import, tmp_path / "logs", lambda f: zeus(f / "zeus.csv", elapsed))
    (left,) = report.left_out
    assert left.place == "logs/zeus.csv:3"
    assert "elapsed_time" in left.reason
    assert len(report.lines) == 2
    assert not [finding for finding in verify(tmp_path / "runs") if finding.severity.value == "error"]


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('"tokens_processed": 1000', f'"tokens_processed": {HUGE}', "too large for a number"),
        ('"nvml_poll_interval_ms": 500', f'"nvml_poll_interval_ms": {ENDLESS}', "too large for a number"),
        ('"tokens_processed": 1000', '"tokens_processed": 1e30', "tokens_processed = 1e+30 cannot be meant"),
        ('"tokens_processed": 1000', '"tokens_processed": "many"', "tokens_processed = 'many' is not a number"),
        ('"cpu_energy_joules": 360.0', '"cpu_energy_joules": 1e300', "cpu_energy_joules = 1e+300 J"),
        (
            '"codecarbon_ram_energy_kwh": 0.0002',
            '"codecarbon_ram_energy_kwh": 1e300',
            "codecarbon_ram_energy_kwh = 1e+300 kWh",
        ),
        ('"nvml_poll_interval_ms": 500', '"nvml_poll_interval_ms": 1e300', "nvml_poll_interval_ms = 1e+300"),
        ('"duration_seconds": 19.75', '"duration_seconds": 1e12', "duration_seconds = 1e+12 s cannot be meant"),
    ],
)
def test_a_stage_with_a_number_that_cannot_be_meant(
    tmp_path: Path, run_import: Import, old: str, new: str, what: str
) -> None:
    report = beside_a_good_one(run_import, tmp_path / "logs", lambda f: stage(f / "s.json", old, new))
    (left,) = report.left_out
    lines = (tmp_path / "logs" / "s.json").read_text().splitlines()
    assert left.name == "logs/s.json"
    assert left.line is not None
    assert old.partition(":")[0] in lines[left.line - 1]
    assert what in left.reason


def test_below_0_is_not_said_to_be_0(tmp_path: Path, run_import: Import) -> None:
    path = stage(tmp_path / "s.json", '"cpu_energy_joules": 360.0', '"cpu_energy_joules": -7.0')
    assert any("the file says -7 J of CPU energy" in warning for warning in only_record(run_import(path)).warnings)


def test_codecarbons_energy_of_no_machine(tmp_path: Path, run_import: Import) -> None:
    rows = [carbon_row("absurd", gpu_energy=100.0), carbon_row("fine")]
    report = run_import(write_carbon(tmp_path / "emissions.csv", rows))
    assert [line.found.identity for line in report.lines] == ["fine"]
    (left,) = report.left_out
    assert left.place == "emissions.csv:2"
    assert "gpu energy = 100 kWh in 100 s cannot be meant: no machine draws a megawatt" in left.reason


@pytest.mark.parametrize(
    ("tokens", "what"),
    [
        ("²", "is not a number"),
        (HUGE, "is too large"),
        ("1e30", "cannot be meant"),
        ("-3", "cannot"),
        ("0", "no count"),
    ],
)
def test_a_stage_is_taken_without_a_count_that_is_none(
    tmp_path: Path, run_import: Import, tokens: str, what: str
) -> None:
    folder = tmp_path / "logs"
    write_table(folder / "log.csv", ["timestamp", "gpu0_w"], [[START_S + second, 300] for second in range(21)])
    header = ["name", "start", "end", "kind", "tokens"]
    write_table(folder / "log.stages.csv", header, [["train", START_S, START_S + 20, "sport", tokens]])
    report = run_import(folder)
    (named,) = only_record(report).stages
    assert (named.name, dict(named.workload)) == ("train", {})
    by_reason = {left.reason: left.place for left in report.left_out}
    assert set(by_reason.values()) == {"logs/log.stages.csv:2"}
    assert any(what in reason and "tokens" in reason for reason in by_reason)
    assert any("kind 'sport' is not known" in reason for reason in by_reason)


@pytest.mark.parametrize("end", ["1e300", "nan", "²", "-1"])
def test_a_mark_at_no_time(tmp_path: Path, run_import: Import, end: str) -> None:
    folder = tmp_path / "logs"
    write_table(folder / "log.csv", ["t_s", "gpu0_w"], [[second, 300] for second in range(21)])
    write_table(folder / "log.stages.csv", ["name", "start", "end"], [["odd", 0, end], ["fine", 0, 10]])
    report = run_import(folder)
    assert [named.name for named in only_record(report).stages] == ["fine"]
    (left,) = report.left_out
    assert left.place == "logs/log.stages.csv:2"
    assert "neither a time nor seconds" in left.reason


def test_seconds_of_no_log_are_left_out(tmp_path: Path, run_import: Import) -> None:
    rows = [[second, 300] for second in (*range(21), 1e300)]
    report = run_import(write_table(tmp_path / "log.csv", ["t_s", "gpu0_w"], rows))
    (left,) = report.left_out
    assert left.place == "log.csv:23"
    assert "t_s = 1e+300 s cannot be meant" in left.reason
