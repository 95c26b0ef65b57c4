"""Runs as data frames, for notebooks: units in the column names, a missing number null with its reason beside it."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stillwatt.errors import MissingExtraError, MissingInputError, UnknownNameError

if TYPE_CHECKING:
    from stillwatt.records.run import RunRecord

Frame = Literal["pandas", "polars", "arrow"]
FRAMES = ("pandas", "polars", "arrow")


def load(path: str | Path = "runs", *, frame: Frame = "pandas") -> Loaded:
    """Load the runs of a directory, or one run, as data frames.

    Example:
        runs = stillwatt.load("runs")
        runs.stages.groupby("kind")["gross_value_j"].sum()

    Args:
        path: A directory of runs, or the directory of one run.
        frame: What frames are: `pandas`, `polars`, or `arrow` (pyarrow tables, which are always there).

    Raises:
        UnknownNameError: There is no such kind of frame.
        MissingInputError: There is no run at that path.
        MissingExtraError: The library of that frame is not installed.
    """
    if frame not in FRAMES:
        raise UnknownNameError("kind of frame", frame, FRAMES)
    _library(frame)
    place = Path(path)
    from stillwatt.ledger.rundir import MANIFEST

    if (place / MANIFEST).is_file():
        runs_dir, wanted = place.parent, [place.resolve().name]
    elif place.is_dir():
        runs_dir, wanted = place, None
    else:
        raise MissingInputError("runs", str(place), "name a directory of runs, or the directory of one run")
    from stillwatt.workflows.books import list_runs, show_run

    if wanted is None:
        # the ledger lists the newest first; a study reads from the oldest on
        wanted = [line.run_id for line in reversed(list_runs(runs_dir))]
    return Loaded(runs_dir, [show_run(runs_dir, run_id) for run_id in wanted], frame)


class Loaded:
    """Runs and their frames; each frame is made anew when it is asked for.

    A column's unit ends its name (`_j`, `_s`, `_w`, `_ns`). What is not known is null, never 0, and the column
    `…_absent_reason` says why.
    """

    def __init__(self, runs_dir: Path, records: Sequence[RunRecord], frame: Frame) -> None:
        """Hold the runs; `load` makes this."""
        self._runs_dir, self._frame = runs_dir, frame
        self.records = tuple(records)
        """The runs as records, oldest first."""

    @property
    def runs(self) -> Any:
        """One row a run."""
        from stillwatt.ledger.export import run_table

        return self._framed(run_table(self.records))

    @property
    def stages(self) -> Any:
        """One row a stage, gross and net of idle."""
        from stillwatt.ledger.export import stage_table

        return self._framed(stage_table(self.records))

    @property
    def energies(self) -> Any:
        """One row a stage and part of the machine, with its interval and source."""
        from stillwatt.ledger.export import energy_table

        return self._framed(energy_table(self.records))

    @property
    def points(self) -> Any:
        """One row an arm, checkpoint and allocation: what one student took, how good it is, its place."""
        from stillwatt.workflows.points import point_table

        return self._framed(point_table(self.records, runs_dir=self._runs_dir))

    def samples(self, run: str | None = None, *, part: str | None = None) -> Any:
        """One row a reading, in SI: `power_w` of powers, `energy_j` of counters, null in the other.

        Args:
            run: A run's id, the beginning of one or its name; all runs where it is not given.
            part: One part of the machine, such as `gpu0`; all where it is not given.

        Raises:
            UnknownNameError: None of the loaded runs is called so, or none has such a part.
        """
        from stillwatt.workflows.points import reading_table

        chosen = [record for record in self.records if run is None or _is_called(record, run)]
        if run is not None and not chosen:
            raise UnknownNameError("run", run, [record.run_id for record in self.records])
        return self._framed(reading_table([record.run_id for record in chosen], runs_dir=self._runs_dir, part=part))

    def _framed(self, table: Any) -> Any:
        library = _library(self._frame)
        if self._frame == "polars":
            return library.from_arrow(table)
        return table.to_pandas() if self._frame == "pandas" else table

    def __repr__(self) -> str:
        count = len(self.records)
        runs = f"{count} {'run' if count == 1 else 'runs'}"
        return f"<{runs} of {self._runs_dir}: runs, stages, energies, points, samples()>"

    def _repr_html_(self) -> str:
        from stillwatt.records.show import MOST_ROWS, run_html

        shown = [
            f"<details><summary>{html.escape(record.name)}</summary>{run_html(record)}</details>"
            for record in self.records[-MOST_ROWS:]
        ]
        return f"<div>{html.escape(repr(self))}</div>{''.join(shown)}"


def _is_called(record: RunRecord, run: str) -> bool:
    return record.name == run or record.run_id.startswith(run)


def _library(frame: Frame) -> Any:
    """The library of a kind of frame; None for pyarrow's own.

    Raises:
        MissingExtraError: It is not installed.
    """
    if frame == "arrow":
        return None
    import importlib

    try:
        return importlib.import_module(frame)
    except ModuleNotFoundError as err:
        raise MissingExtraError(frame, "notebook") from err
