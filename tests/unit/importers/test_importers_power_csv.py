"""A CSV of power: any logger's columns, units and times; energies from our own estimator, with what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from import_files import Import, energy_of, only_record, total_j, write_table
from run_dirs import FixedClock
from stillwatt.errors import ConfigError, UsageError
from stillwatt.metering.attribute import WeightedWindow
from stillwatt.metering.estimate import estimate_many
from stillwatt.metering.series import Series
from stillwatt.records import Boundary, Energy
from stillwatt.workflows.books import rebuild, show_run, verify
from stillwatt.workflows.import_logs import Outcome, import_logs

START_S = 1_767_225_600


def power_csv(
    path: Path, watts: Sequence[float], *, every_s: float = 0.5, column: str = "gpu0_w", scale: float = 1
) -> Path:
    rows = [[f"{START_S + place * every_s:.3f}", f"{value * scale:.6f}"] for place, value in enumerate(watts)]
    return write_table(path, ["timestamp", column], rows)


def test_a_constant_load(tmp_path: Path, run_import: Import) -> None:
    report = run_import(power_csv(tmp_path / "log.csv", [300.0] * 41))
    record = only_record(report)
    gpu = energy_of(record, "gpu0")
    assert (gpu.method, gpu.boundary) == ("power_trapezoid", Boundary.BOARD)
    assert gpu.value_j == pytest.approx(6000.0)
    assert record.complete
    assert record.name == "log"
    assert "no stages were given: all of the file is one stage" in record.warnings


@settings(max_examples=20, deadline=None)
@given(
    watts=st.lists(st.floats(20.0, 700.0), min_size=20, max_size=60),
    every_s=st.sampled_from([0.1, 0.5, 1.0]),
    data=st.data(),
)
def test_an_imported_trace_has_the_energies_of_its_samples(
    tmp_path_factory: pytest.TempPathFactory, watts: list[float], every_s: float, data: st.DataObject
) -> None:
    """Round trip: what the estimator makes of the samples is what the run says, stage by stage."""
    folder = tmp_path_factory.mktemp("power")
    power_csv(folder / "log.csv", watts, every_s=every_s)
    last = (len(watts) - 1) * every_s
    start = data.draw(st.floats(0.0, last / 2))
    end = data.draw(st.floats(start, last))
    marks: list[list[Any]] = [
        ["all", START_S, f"{START_S + last:.3f}"],
        ["part", f"{START_S + start:.3f}", f"{START_S + end:.3f}"],
    ]
    write_table(folder / "log.stages.csv", ["name", "start", "end"], marks)
    report = import_logs([folder], runs_dir=folder / "runs", clock=FixedClock())
    record = only_record(report)
    by_name = {stage.name: stage for stage in record.stages}
    channel = _channel(folder / "runs" / record.run_id)
    t_ns = np.array([round((START_S + place * every_s) * 1000) * 1_000_000 for place in range(len(watts))])
    series = Series(channel, t_ns, np.array([float(f"{value:.6f}") for value in watts]))
    for name in ("all", "part"):
        mark = next(mark for mark in marks if mark[0] == name)
        window = WeightedWindow(*(round(float(text) * 1000) * 1_000_000 for text in mark[1:]))
        if window.end_ns == window.start_ns:
            continue
        (ours,) = estimate_many(series, None, [[window]]).energies
        (theirs,) = by_name[name].energies
        assert isinstance(ours, Energy)
        assert isinstance(theirs, Energy)
        assert theirs.value_j == pytest.approx(ours.value_j, rel=1e-6, abs=1e-3)


def _channel(run_dir: Path) -> Any:
    from stillwatt.ledger.liveness import ThisHost
    from stillwatt.ledger.post import read_run

    (session,) = read_run(run_dir, liveness=ThisHost()).sessions
    (channel,) = session.channels.values()
    return channel


@pytest.mark.parametrize(
    ("column", "scale", "part", "boundary"),
    [
        ("GPU 1 power [mW]", 1000, "gpu1", Boundary.BOARD),
        ("package_0_watts", 1, "cpu0", Boundary.CHIP),
        ("wall power (kW)", 0.001, "wall", Boundary.WALL),
        ("node_power_w", 1, "node", Boundary.NODE),
    ],
)
def test_columns_are_told_by_their_names(
    tmp_path: Path, run_import: Import, column: str, scale: float, part: str, boundary: Boundary
) -> None:
    energy = energy_of(
        only_record(run_import(power_csv(tmp_path / "x.csv", [100.0] * 21, column=column, scale=scale))), part
    )
    assert energy.value_j == pytest.approx(1000.0)
    assert energy.boundary is boundary


def test_nvidia_smis_own_table(tmp_path: Path, run_import: Import) -> None:
    """Units in the cells, local times with slashes, a row for each card, cells that say [N/A]."""
    header = ["timestamp", " index", " name", " driver_version", " power.draw [W]", " power.limit [W]"]
    rows = []
    for second in range(11):
        for card, watts in enumerate((250.0, 120.0)):
            power = f" {watts:.2f} W" if second != 5 else " [N/A]"
            rows.append(
                [
                    f"2026/01/01 00:00:{second:02d}.000",
                    f" {card}",
                    " NVIDIA A100-SXM4-80GB",
                    " 550.54",
                    power,
                    " 400.00 W",
                ]
            )
    record = only_record(run_import(write_table(tmp_path / "smi.csv", header, rows)))
    assert {entry.part for entry in record.stages[0].energies} == {"gpu0", "gpu1"}
    assert total_j(record) == pytest.approx(3700.0, rel=0.01)


def test_semicolons_and_decimal_commas(tmp_path: Path, run_import: Import) -> None:
    rows = [[f"2026-01-01T00:00:{second:02d}+02:00", "150,5"] for second in range(11)]
    path = write_table(tmp_path / "eu.csv", ["Zeit", "time", "power_w"][1:], rows, separator=";")
    record = only_record(run_import(path))
    assert total_j(record) == pytest.approx(1505.0)
    assert record.start_utc.startswith("2025-12-31T22:00:00")


def test_joules_in_a_hole_are_estimated_and_said_to_be(tmp_path: Path, run_import: Import) -> None:
    rows = [[START_S + second, "" if 20 <= second < 40 else "200"] for second in range(61)]
    record = only_record(run_import(write_table(tmp_path / "h.csv", ["timestamp", "gpu0_w"], rows)))
    energy = energy_of(record, "gpu0")
    assert energy.coverage == pytest.approx(39 / 60, abs=0.02)
    assert energy.estimated_j == pytest.approx(200.0 * 21, rel=0.01)
    assert any("gap" in warning for warning in record.warnings)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("-5", "cannot be meant"),
        ("1e9", "cannot be meant"),
        ("much", "not a number"),
        ("200 mW", "not in the column's unit"),
    ],
)
def test_cells_that_cannot_be_meant_are_left_out_with_their_line(
    tmp_path: Path, run_import: Import, cell: str, reason: str
) -> None:
    rows = [[START_S + second, "200"] for second in range(31)]
    rows[7][1] = cell
    report = run_import(write_table(tmp_path / "odd.csv", ["timestamp", "gpu0_w"], rows))
    (left,) = report.left_out
    assert left.place == "odd.csv:9"
    assert reason in left.reason
    assert total_j(only_record(report)) == pytest.approx(6000.0, rel=1e-3)


def test_a_sum_beside_what_it_sums_is_not_counted(tmp_path: Path, run_import: Import) -> None:
    rows = [[START_S + second, 100, 50, 150] for second in range(11)]
    path = write_table(tmp_path / "sum.csv", ["timestamp", "gpu0_w", "gpu1_w", "total_w"], rows)
    record = only_record(run_import(path))
    assert total_j(record) == pytest.approx(1500.0)
    assert any("total_w: the sum of other columns is not counted" in warning for warning in record.warnings)


def test_the_same_file_again_is_no_second_run(tmp_path: Path, run_import: Import) -> None:
    path = power_csv(tmp_path / "log.csv", [300.0] * 20)
    first = run_import(path)
    copy = tmp_path / "copy.csv"
    copy.write_bytes(path.read_bytes())
    for again in (run_import(path), run_import(copy)):
        assert [line.outcome for line in again.lines] == [Outcome.ALREADY_THERE]
        assert again.lines[0].run_id == first.lines[0].run_id


def test_a_dry_run_writes_nothing(tmp_path: Path, run_import: Import) -> None:
    report = run_import(power_csv(tmp_path / "log.csv", [300.0] * 20), is_dry=True)
    assert [line.outcome for line in report.lines] == [Outcome.WOULD_IMPORT]
    assert not (tmp_path / "runs").exists()


def test_everything_downstream_works(tmp_path: Path, run_import: Import) -> None:
    record = only_record(run_import(power_csv(tmp_path / "log.csv", [300.0] * 20)))
    assert show_run(tmp_path / "runs", "log") == record
    assert not [finding for finding in verify(tmp_path / "runs") if finding.severity.value == "error"]
    assert rebuild(tmp_path / "runs") == 1
    assert show_run(tmp_path / "runs", "log") == record


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "empty"),
        ("a,b\n1,2\n", "not a log"),
        ("timestamp,gpu0_w\n", "no row with a time"),
    ],
)
def test_what_is_no_log_is_refused_with_its_name(tmp_path: Path, run_import: Import, text: str, error: str) -> None:
    path = tmp_path / "what.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=error):
        run_import(path)


def test_a_named_format_that_does_not_fit_says_so(tmp_path: Path, run_import: Import) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"\xff\xfe\x00bad")
    with pytest.raises((UsageError, ConfigError), match=r"x\.csv"):
        run_import(path, form="power-csv")
