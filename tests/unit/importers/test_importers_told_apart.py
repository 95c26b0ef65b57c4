"""Rows of several instruments, hours that come twice, holes: told apart, refused or said, never halved in silence."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_files import START_S, Import, energy_of, harness_stage, only_record, total_j, write_harness, write_table
from stillwatt.errors import UsageError
from stillwatt.importers.told_apart import num_together, runs_over_itself

A100 = "NVIDIA A100-SXM4-80GB"
SMI = "power.draw [W]"


def smi(path: Path, cards: Sequence[tuple[Any, float]], *, column: str = "", apart_s: float = 0.002) -> Path:
    """Eleven seconds of a query of several cards, with a column that says something of each, or none."""
    header = ["timestamp", *([column] if column else []), SMI]
    rows = []
    for second in range(11):
        for place, (told, watts) in enumerate(cards):
            at = f"{START_S + second + place * apart_s:.3f}"
            rows.append([at, *([told] if column else []), f"{watts:.2f} W"])
    return write_table(path, header, rows)


@pytest.mark.parametrize("column", ["index", "uuid", "pci.bus_id", "gpu_uuid", "serial", "name"])
@pytest.mark.parametrize("apart_s", [0.0, 0.002])
def test_cards_are_told_apart_by_what_their_rows_say(
    tmp_path: Path, run_import: Import, column: str, apart_s: float
) -> None:
    path = smi(tmp_path / "smi.csv", [("A 1", 300.0), ("B 2", 100.0)], column=column, apart_s=apart_s)
    record = only_record(run_import(path))
    assert {entry.part for entry in record.stages[0].energies} == {"gpuA-1", "gpuB-2"}
    assert total_j(record) == pytest.approx(4000.0, rel=0.01)
    assert any("by their names alone" in warning for warning in record.warnings) == (column == "name")


@pytest.mark.parametrize("apart_s", [0.0, 0.002])
def test_cards_of_rocm_smi_are_told_apart_by_their_device(tmp_path: Path, run_import: Import, apart_s: float) -> None:
    path = smi(tmp_path / "smi.csv", [("card0", 300.0), ("card1", 100.0)], column="device", apart_s=apart_s)
    path.write_text(path.read_text().replace(SMI, "Current Socket Graphics Package Power (W)"))
    record = only_record(run_import(path))
    assert {entry.part for entry in record.stages[0].energies} == {"gpucard0", "gpucard1"}
    assert total_j(record) == pytest.approx(4000.0, rel=0.01)


def test_devices_of_a_power_that_is_not_of_cards_are_no_cards(tmp_path: Path, run_import: Import) -> None:
    path = smi(tmp_path / "smi.csv", [("plug 1", 300.0), ("plug 2", 100.0)], column="device", apart_s=0.0)
    path.write_text(path.read_text().replace(SMI, "power_w"))
    with pytest.raises(UsageError, match="2 rows stand at every time"):
        run_import(path)


def test_cells_that_differ_in_signs_only_are_two_cards(tmp_path: Path, run_import: Import) -> None:
    record = only_record(run_import(smi(tmp_path / "smi.csv", [("a:1", 300.0), ("a.1", 100.0)], column="uuid")))
    assert total_j(record) == pytest.approx(4000.0, rel=0.01)


def test_a_row_that_does_not_say_its_card_is_left_out(tmp_path: Path, run_import: Import) -> None:
    path = smi(tmp_path / "smi.csv", [(0, 300.0), (1, 100.0)], column="index")
    lines = path.read_text().splitlines()
    lines[-1] = lines[-1].replace(",1,", ",,")
    path.write_text("\n".join(lines))
    report = run_import(path)
    assert total_j(only_record(report)) == pytest.approx(3000.0 + 1000.0, rel=0.05)
    (left,) = report.left_out
    assert left.place == "smi.csv:23"
    assert "index is empty" in left.reason


@pytest.mark.parametrize("apart_s", [0.0, 0.002, 0.02])
@pytest.mark.parametrize("num_cards", [2, 3, 8])
@pytest.mark.parametrize("column", ["", "name"])
def test_cards_that_nothing_tells_apart_are_refused(
    tmp_path: Path, run_import: Import, num_cards: int, apart_s: float, column: str
) -> None:
    cards = [(A100, 300.0 - 10 * place) for place in range(num_cards)]
    folder = tmp_path / "logs"
    smi(folder / "smi.csv", cards, column=column, apart_s=apart_s)
    write_table(folder / "smi.stages.csv", ["name", "start", "end"], [["all", START_S, START_S + 10]])
    write_table(folder / "good.csv", ["timestamp", "gpu0_w"], [[START_S + second, 200] for second in range(11)])
    report = run_import(folder)
    assert total_j(only_record(report)) == pytest.approx(2000.0)
    left, marks = report.left_out
    assert left.place == "logs/smi.csv:2"
    assert marks.reason == "stages of logs/smi.csv, which is left out"
    assert f"{num_cards} rows stand at every time" in left.reason
    assert "log the column index or uuid" in left.reason


def test_two_of_three_cards_have_one_name(tmp_path: Path, run_import: Import) -> None:
    path = smi(tmp_path / "smi.csv", [(A100, 300.0), (A100, 200.0), ("T4", 70.0)], column="name")
    with pytest.raises(UsageError, match="2 rows stand at every time"):
        run_import(path)


@pytest.mark.parametrize("power", ["power_w", "gpu_power_w", "cpu_w", "wall_w"])
def test_any_loggers_rows_of_two_instruments_are_refused(tmp_path: Path, run_import: Import, power: str) -> None:
    rows = [[f"{START_S + second + late:.3f}", w] for second in range(11) for late, w in ((0, 300), (0.002, 100))]
    path = write_table(tmp_path / "two.csv", ["timestamp", power], rows)
    with pytest.raises(UsageError, match="2 rows stand at every time"):
        run_import(path)


def test_any_loggers_cards_are_told_apart_by_a_column(tmp_path: Path, run_import: Import) -> None:
    rows = [[START_S + second, card, w] for second in range(11) for card, w in ((0, 300), (1, 100))]
    path = write_table(tmp_path / "two.csv", ["timestamp", "index", "power_w"], rows)
    record = only_record(run_import(path))
    assert energy_of(record, "gpu0").value_j == pytest.approx(3000.0)
    assert energy_of(record, "gpu1").value_j == pytest.approx(1000.0)


def test_an_index_that_numbers_the_rows_is_no_card(tmp_path: Path, run_import: Import) -> None:
    path = write_table(
        tmp_path / "p.csv", ["index", "timestamp", "power_w"], [[s, START_S + s, 300] for s in range(11)]
    )
    assert total_j(only_record(run_import(path))) == pytest.approx(3000.0)


def test_readings_of_one_plug_under_a_coarse_clock_are_kept(tmp_path: Path, run_import: Import) -> None:
    rows = [[START_S + half // 2, 300] for half in range(21)]
    record = only_record(run_import(write_table(tmp_path / "w.csv", ["timestamp", "wall_w"], rows)))
    assert energy_of(record, "wall").value_j == pytest.approx(3000.0)
    assert any("repeat a time" in warning for warning in record.warnings)


@given(
    steps=st.lists(st.integers(50, 150), min_size=3, max_size=60),
    holes=st.lists(st.integers(0, 59), max_size=3),
    swaps=st.lists(st.integers(0, 57), max_size=2, unique_by=lambda place: place // 20),
)
def test_one_instrument_is_never_taken_for_several(steps: list[int], holes: list[int], swaps: list[int]) -> None:
    """Jitter of half a period, holes of any length and rows that are a place out of order."""
    times, now = [], 0
    for place, step in enumerate(steps):
        now += step + 60_000 * holes.count(place)
        times.append(now * 1_000_000)
    assert num_together(times) == 1
    for place in swaps:
        if len(times) > 20 and place + 1 < len(times):
            times[place], times[place + 1] = times[place + 1], times[place]
    assert runs_over_itself(times) == 0
    assert runs_over_itself(sorted(times, reverse=True)) == 0


@given(
    num_cards=st.integers(2, 16),
    groups=st.integers(3, 30),
    late_ns=st.integers(0, 2_000_000),
    lost=st.integers(0, 89),
)
def test_several_are_seen_for_what_they_are(num_cards: int, groups: int, late_ns: int, lost: int) -> None:
    """Cards are read one after another in every period; one row may be lost."""
    times = [group * 1_000_000_000 + card * late_ns for group in range(groups) for card in range(num_cards)]
    del times[lost % len(times)]
    assert num_together(times) == num_cards or len(times) < 3 * num_cards


def clock_set_back(path: Path, *, every_s: int = 10, zone: bool = False, offset_s: int = 0) -> Path:
    """Two hours of 300 W over the end of daylight saving, in local time."""
    begin = datetime(2025, 10, 26, 0, 30, tzinfo=UTC)
    rows = []
    for tick in range(0, 7200, every_s):
        is_summer = tick < 1800
        at = begin + timedelta(seconds=tick + (0 if is_summer else offset_s), hours=2 if is_summer else 1)
        suffix = ("+02:00" if is_summer else "+01:00") if zone else ""
        rows.append([f"{at:%Y-%m-%d %H:%M:%S}{suffix}", 300])
    return write_table(path, ["time", "power_w"], rows)


@pytest.mark.parametrize("offset_s", [0, 3])
def test_an_hour_that_comes_twice_is_refused(tmp_path: Path, run_import: Import, offset_s: int) -> None:
    path = clock_set_back(tmp_path / "dst.csv", offset_s=offset_s)
    with pytest.raises(UsageError, match=r"dst\.csv:182: .*run again over rows .*clocks are set back; .* their zone"):
        run_import(path)


def test_the_same_hour_with_its_zone_is_whole(tmp_path: Path, run_import: Import) -> None:
    record = only_record(run_import(clock_set_back(tmp_path / "dst.csv", zone=True)))
    assert total_j(record) == pytest.approx(300.0 * 7190)


def test_a_log_of_another_card_behind_the_first_is_refused(tmp_path: Path, run_import: Import) -> None:
    rows = [[START_S + second, watts] for watts in (300, 100) for second in range(600)]
    path = write_table(tmp_path / "cat.csv", ["timestamp", "gpu0_w"], rows)
    with pytest.raises(UsageError, match=r"cat\.csv:602: .* another log was appended; .* cut the file in two"):
        run_import(path)


def test_a_table_in_reverse_is_put_in_order(tmp_path: Path, run_import: Import) -> None:
    rows = [[START_S + second, 300] for second in reversed(range(31))]
    assert total_j(only_record(run_import(write_table(tmp_path / "r.csv", ["timestamp", "gpu0_w"], rows)))) == 9000.0


def test_a_time_of_another_age_is_no_stretch_of_seventy_years(tmp_path: Path, run_import: Import) -> None:
    rows = [[START_S + second, 300.0] for second in range(31)]
    rows.append([4_000_000_000.0, 300.0])
    path = write_table(tmp_path / "slip.csv", ["timestamp", "gpu0_w"], rows)
    with pytest.raises(UsageError, match=r"slip\.csv:33: its times span 71 years, from line 2 to line 33"):
        run_import(path)


def test_holes_are_said(tmp_path: Path, run_import: Import) -> None:
    seconds = [s for s in range(1000) if not 30 < s < 630 and not 700 < s < 720]
    rows = [[START_S + s, "" if s == 650 else 300] for s in seconds]
    report = run_import(write_table(tmp_path / "h.csv", ["timestamp", "gpu0_w"], rows))
    said = [warning for warning in report.lines[0].found.warnings if warning.startswith("gpu0:")]
    assert "gpu0: 1 row has no usable power" in said
    (hole,) = (warning for warning in said if "holes" in warning)
    assert hole.startswith(
        "gpu0: 2 holes of 620 s without readings, the longest of 600 s from 2026-01-25T12:00:30.000Z"
    )
    assert hole.endswith("counted as estimated")
    assert energy_of(only_record(report), "gpu0").estimated_j == pytest.approx(300.0 * 620)


def test_a_trace_without_holes_says_none(tmp_path: Path, run_import: Import) -> None:
    rows = [[START_S + s + 0.4 * (s % 2), 300] for s in range(60)]
    report = run_import(write_table(tmp_path / "h.csv", ["timestamp", "gpu0_w"], rows))
    assert not any("hole" in warning for warning in report.lines[0].found.warnings)


def test_holes_of_a_power_log_are_said_of_the_stage_they_are_in(tmp_path: Path, run_import: Import) -> None:
    own = write_harness(tmp_path / "h", harness_stage())
    rows = [[START_S - 500 + place, 50.0, 50.0] for place in range(3)]
    rows += [[START_S + 0.5 * place, 300.0, 300.0] for place in range(-1, 42) if not 10 < place < 20]
    write_table(own.parent / "power_log.csv", ["timestamp", "gpu_0_power_w", "total_power_w"], rows)
    report = run_import(tmp_path / "h")
    assert next(w for w in report.lines[0].found.warnings if "hole" in w).startswith("gpu0: a hole of 5 s")


def test_a_power_log_that_runs_over_itself_is_left_out_and_the_samples_are_taken(
    tmp_path: Path, run_import: Import
) -> None:
    own = write_harness(tmp_path / "h", harness_stage())
    rows = [[START_S + 0.5 * place, 300.0, 300.0] for _ in range(2) for place in range(-1, 42)]
    write_table(own.parent / "power_log.csv", ["timestamp", "gpu_0_power_w", "total_power_w"], rows)
    report = run_import(tmp_path / "h")
    assert any("run again over rows" in left.reason for left in report.left_out)
    assert energy_of(only_record(report), "gpu0").method == "power_trapezoid"
