"""What `nvidia-smi dmon` prints, with blanks or commas, its head again and again, and without a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from import_files import Import, only_record, total_j
from stillwatt.errors import UsageError


def dmon(path: Path, *, comma: str = "", times: bool = True, odd: str = "") -> Path:
    """Eleven seconds of two cards, 300 and 100 W, of which the second does not tell one power."""
    date, units = ("Date Time ", "YYYYMMDD HH:MM:SS ") if times else ("", "")
    head = [f"#{date}gpu pwr gtemp mtemp", f"#{units}Idx W C C"]
    lines = []
    for second in range(11):
        lines += head if second % 5 == 0 else []
        for card, watts in ((0, "300"), (1, "-" if second == 4 else "100")):
            at = f"20260125 10:00:{second:02d} " if times else ""
            lines.append(f" {at}{card} {watts} 40 -")
    text = "\n".join([*lines, odd]) + "\n"
    path.write_text(text.replace(" ", f"{comma} ").replace(f"{comma} ", " ", 1) if comma else text.replace(" ", "    "))
    return path


@pytest.mark.parametrize("comma", ["", ","])
def test_its_cards_are_booked(tmp_path: Path, run_import: Import, comma: str) -> None:
    record = only_record(run_import(dmon(tmp_path / "dmon.log", comma=comma)))
    assert {entry.part for entry in record.stages[0].energies} == {"gpu0", "gpu1"}
    assert total_j(record) == pytest.approx(4000.0, rel=0.01)
    assert record.duration_s == 10.0
    assert any("gpu1: 1 row has no usable power" in warning for warning in record.warnings)


def test_a_row_that_breaks_off_is_left_out(tmp_path: Path, run_import: Import) -> None:
    report = run_import(dmon(tmp_path / "dmon.log", odd="20260125 10:00:1"))
    (left,) = report.left_out
    assert "2 cells under a header of 6" in left.reason
    assert total_j(only_record(report)) == pytest.approx(4000.0, rel=0.01)


def test_rows_without_a_time_are_refused_with_the_command_that_writes_it(tmp_path: Path, run_import: Import) -> None:
    with pytest.raises(UsageError, match="no date and time; log them with `nvidia-smi dmon -s p -o DT`"):
        run_import(dmon(tmp_path / "dmon.log", times=False))
