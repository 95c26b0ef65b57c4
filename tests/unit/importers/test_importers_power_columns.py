"""Which columns of a power log are booked, and as what: whole words of their names, and whether they hold numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from import_files import Import, energy_of, only_record, total_j, write_table
from stillwatt.importers.power_columns import columns_of
from stillwatt.records import Boundary, RunRecord

START_S = 1_767_225_600
AMD_SMI = [
    *("timestamp", "gpu", "socket_power", "gfx_voltage", "soc_voltage", "mem_voltage"),
    *("throttle_status", "power_management"),
]


def wide(path: Path, columns: dict[str, Any]) -> Path:
    """Eleven rows, a second apart, each column constant."""
    rows = [[START_S + second, *columns.values()] for second in range(11)]
    return write_table(path, ["timestamp", *columns], rows)


def by_card(path: Path, header: Sequence[str], *cells: Any, num_cards: int = 4) -> Path:
    """Cards of 100 W, 200 W, … in rows, for ten seconds; other cells are the same in all rows."""
    rows = [[START_S + second, card, 100 * (card + 1), *cells] for second in range(11) for card in range(num_cards)]
    return write_table(path, header, rows)


def energies_j(record: RunRecord) -> dict[str, float]:
    return {entry.part: energy_of(record, entry.part).value_j for entry in record.stages[0].energies}


@pytest.mark.parametrize(
    "name",
    [
        "cpu power consumption (w)",
        "cpu consumption [W]",
        "summer_cpu_w",
        "cpu_power_captured_w",
        "cpu_escape_power_w",
        "cpu_minute_power_w",
        "cpu_maxwell_power_w",
        "admin_cpu_w",
        "futile_cpu_w",
    ],
)
def test_a_word_inside_a_word_says_nothing(tmp_path: Path, run_import: Import, name: str) -> None:
    record = only_record(run_import(wide(tmp_path / "x.csv", {name: 100, "GPU power (W)": 300})))
    assert energies_j(record) == pytest.approx({"cpu": 1000.0, "gpu0": 3000.0})
    assert not any("the sum of other columns" in warning for warning in record.warnings)


@pytest.mark.parametrize(
    "name",
    [
        *("power.limit [w]", "power_cap_w", "powercap_w", "gpu_max_power_w", "min power (w)", "power.default_limit"),
        *("enforced.power.limit [w]", "maxpower_w", "energy_w", "utilization_w", "gpu util w", "power_management"),
    ],
)
def test_limits_and_extremes_are_no_powers(name: str) -> None:
    assert columns_of(["timestamp", name]) == []


@pytest.mark.parametrize("name", ["total_w", "Total power (W)", "totalpower_w", "sum_w", "power sum [W]", "gputotal_w"])
def test_sums_are_not_counted_beside_what_they_sum(tmp_path: Path, run_import: Import, name: str) -> None:
    record = only_record(run_import(wide(tmp_path / "x.csv", {"gpu0_w": 100, "gpu1_w": 50, name: 150})))
    assert energies_j(record) == pytest.approx({"gpu0": 1000.0, "gpu1": 500.0})
    assert any("the sum of other columns is not counted" in warning for warning in record.warnings)


@pytest.mark.parametrize(
    ("columns", "left", "booked"),
    [
        ({"package-0_w": 100, "core-0_w": 60, "dram-0_w": 10}, "core-0_w", {"cpu0": 1000.0, "dram0": 100.0}),
        ({"power_w": 400, "gpu0_w": 300}, "power_w", {"gpu0": 3000.0}),
        ({"cpu_w": 150, "cpu0_w": 100, "cpu1_w": 50}, "cpu_w", {"cpu0": 1000.0, "cpu1": 500.0}),
        ({"gpu_w": 150, "gpu0_w": 100, "gpu1_w": 50}, "gpu_w", {"gpu0": 1000.0, "gpu1": 500.0}),
        ({"gpu0_w": 100, "gpu1_w": 50, "gpu_w": 150}, "gpu_w", {"gpu0": 1000.0, "gpu1": 500.0}),
        ({"dram_w": 30, "dram-0_w": 10, "dram-1_w": 20}, "dram_w", {"dram0": 100.0, "dram1": 200.0}),
    ],
)
def test_what_may_hold_others_or_lie_in_them_is_not_counted_beside_them(
    tmp_path: Path, run_import: Import, columns: dict[str, Any], left: str, booked: dict[str, float]
) -> None:
    record = only_record(run_import(wide(tmp_path / "x.csv", columns)))
    assert energies_j(record) == pytest.approx(booked)
    assert any(f"{left}: by its name it may hold, or lie in," in warning for warning in record.warnings)


@pytest.mark.parametrize(
    ("columns", "booked"),
    [
        ({"cpu_w": 100, "gpu0_w": 300}, {"cpu": 1000.0, "gpu0": 3000.0}),
        ({"power_w": 100, "wall_w": 400}, {"machine": 1000.0, "wall": 4000.0}),
        ({"gpu_w": 100, "gpu1_w": 300}, {"gpu0": 1000.0, "gpu1": 3000.0}),
    ],
)
def test_what_lies_beside_others_is_counted(
    tmp_path: Path, run_import: Import, columns: dict[str, Any], booked: dict[str, float]
) -> None:
    assert energies_j(only_record(run_import(wide(tmp_path / "x.csv", columns)))) == pytest.approx(booked)


def test_a_total_of_what_no_other_column_holds_is_booked(tmp_path: Path, run_import: Import) -> None:
    columns = {"total gpu power (w)": 300, "cpu_total_w": 100, "dram_w": 20}
    record = only_record(run_import(wide(tmp_path / "x.csv", columns)))
    assert energies_j(record) == pytest.approx({"gpu0": 3000.0, "cpu": 1000.0, "dram": 200.0})


def test_numbered_sockets_are_cpus(tmp_path: Path, run_import: Import) -> None:
    columns = {
        "socket0_power_w": 150,
        "socket_1_power_w": 160,
        "socket0_dram_w": 10,
        "socket1_dram_w": 20,
        "gpu0_power_w": 300,
    }
    record = only_record(run_import(wide(tmp_path / "x.csv", columns)))
    found = {"cpu0": 1500.0, "cpu1": 1600.0, "dram0": 100.0, "dram1": 200.0, "gpu0": 3000.0}
    assert energies_j(record) == pytest.approx(found)
    assert energy_of(record, "cpu1").boundary is Boundary.CHIP


@pytest.mark.parametrize(
    ("name", "part", "boundary"),
    [
        ("socket_power_w", "machine", Boundary.COMPONENTS),
        ("wall socket (W)", "wall", Boundary.WALL),
        ("smart_socket_w", "wall", Boundary.WALL),
        ("outlet 3 [W]", "wall", Boundary.WALL),
        ("plugin_power_w", "machine", Boundary.COMPONENTS),
        ("program_power_w", "machine", Boundary.COMPONENTS),
        ("Current Socket Graphics Package Power (W)", "gpu0", Boundary.BOARD),
    ],
)
def test_what_a_name_tells(name: str, part: str, boundary: Boundary) -> None:
    (column,) = columns_of(["timestamp", name.lower()])
    assert (column.part, column.boundary) == (part, boundary)


@pytest.mark.parametrize("cards", ["gpu", "uuid", "gpu_index"])
def test_a_socket_beside_a_card_is_that_card(tmp_path: Path, run_import: Import, cards: str) -> None:
    record = only_record(run_import(by_card(tmp_path / "x.csv", ["timestamp", cards, "socket_power"])))
    assert energies_j(record) == pytest.approx({f"gpu{card}": 1000.0 * (card + 1) for card in range(4)})
    assert energy_of(record, "gpu3").boundary is Boundary.BOARD
    assert not any("repeat a time" in warning for warning in record.warnings)


def test_all_of_amd_smis_table(tmp_path: Path, run_import: Import) -> None:
    path = by_card(tmp_path / "amd.csv", AMD_SMI, "N/A", "N/A", "N/A", "UNTHROTTLED", "ENABLED")
    record = only_record(run_import(path))
    assert total_j(record) == pytest.approx(10_000.0)
    assert {entry.part for entry in record.stages[0].energies} == {"gpu0", "gpu1", "gpu2", "gpu3"}


def test_of_two_readings_of_a_card_the_one_that_holds_numbers_is_booked(tmp_path: Path, run_import: Import) -> None:
    header = ["timestamp", "gpu", "average_socket_power", "current_socket_power"]
    record = only_record(run_import(by_card(tmp_path / "x.csv", header, "N/A")))
    assert total_j(record) == pytest.approx(10_000.0)
    assert any("current_socket_power: no row has a power" in warning for warning in record.warnings)


def test_a_column_of_rows_counted_is_no_column_of_cards(tmp_path: Path, run_import: Import) -> None:
    rows = [
        [START_S + second, 2 * second + card, card, 100] for second in range(11) for card in range(2)
    ]  # its index counts rows
    path = write_table(tmp_path / "x.csv", ["timestamp", "index", "gpu", "socket_power"], rows)
    assert energies_j(only_record(run_import(path))) == pytest.approx({"gpu0": 1000.0, "gpu1": 1000.0})


def test_a_column_without_numbers_is_no_power(tmp_path: Path, run_import: Import) -> None:
    columns = {"power mode w": "balanced", "cpu_w": "[N/A]", "gpu0_w": 300}
    record = only_record(run_import(wide(tmp_path / "x.csv", columns)))
    assert energies_j(record) == pytest.approx({"gpu0": 3000.0})
    assert any("cpu_w: no row has a power" in warning for warning in record.warnings)


def test_a_column_in_another_unit_than_its_cells_is_still_said_line_by_line(tmp_path: Path, run_import: Import) -> None:
    report = run_import(wide(tmp_path / "x.csv", {"gpu0_w": 300, "gpu1_w": "200 mW"}))
    assert energies_j(only_record(report)) == pytest.approx({"gpu0": 3000.0})
    assert "not in the column's unit" in report.left_out[0].reason
