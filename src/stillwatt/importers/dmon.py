"""What `nvidia-smi dmon` prints, as a table of nvidia-smi's query.

Its columns are set apart by blanks (or commas), their names and units stand in lines that begin with `#` and come again
every so often, and `-` is what a card does not tell.
"""

from __future__ import annotations

from collections.abc import Sequence

from stillwatt.importers.intake import LogFile
from stillwatt.importers.tables import Row, Table

_NAMES = {"pwr": "power.draw [w]"}
"""Columns that go by another name in nvidia-smi's queries."""
_NEEDED = frozenset({"gpu", "pwr"})
_COMMAND = "nvidia-smi dmon -s p -o DT"


def is_dmon(file: LogFile) -> bool:
    """Whether a file begins as dmon does, with powers of cards in it."""
    lines = file.text.lstrip().splitlines()[:2]
    return len(lines) > 1 and all(line.startswith("#") for line in lines) and set(_cells(lines[0])) >= _NEEDED


def read_dmon(file: LogFile) -> Table:
    """The file as a table of nvidia-smi's query: `timestamp`, `gpu`, `power.draw [w]` and the other columns.

    Raises:
        ConfigError: its rows do not say when they were read.
    """
    names: list[str] = []
    header: tuple[str, ...] = ()
    rows: list[Row] = []
    misfits: list[tuple[int, str]] = []
    for line, text in enumerate(file.text.splitlines(), start=1):
        cells = _cells(text)
        if text.lstrip().startswith("#"):
            if "gpu" in cells:  # not that of the units
                names = cells
                if not {"date", "time"} <= set(names):
                    raise file.wrong(f"its rows have no date and time; log them with `{_COMMAND}`", line)
                header = header or _header(names)
        elif cells and len(cells) != len(names):
            misfits.append((line, f"{len(cells)} cells under a header of {len(names)}"))
        elif cells:
            rows.append(Row(line, _named(names, cells)))
    return Table(header, tuple(rows), tuple(misfits))


def _cells(text: str) -> list[str]:
    return text.replace(",", " ").lstrip(" #").lower().split()


def _header(names: Sequence[str]) -> tuple[str, ...]:
    return ("timestamp", *(_NAMES.get(name, name) for name in names if name not in ("date", "time")))


def _named(names: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    told = {name: "" if cell == "-" else cell for name, cell in zip(names, cells, strict=True)}
    date, time = told.pop("date"), told.pop("time")
    return {"timestamp": f"{date[:4]}-{date[4:6]}-{date[6:]} {time}"} | {
        _NAMES.get(name, name): cell for name, cell in told.items()
    }
