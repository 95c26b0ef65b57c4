"""From the ledger to report.html and report.json: the same ledger gives the same bytes."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillwatt.errors import LedgerError, StillwattError
from stillwatt.workflows.books import show_run
from stillwatt.workflows.outputs import refuse_no_folder, refuse_taken
from stillwatt.workflows.plan import compare_with_prediction

if TYPE_CHECKING:
    from stillwatt.records.finding import Study
    from stillwatt.records.forecast import PredictionCheck
    from stillwatt.records.run import RunRecord

REPORT_TITLE = " · Stillwatt energy report"
"""What the title of such a page ends in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportPaths:
    """Where a report was written, and what it says."""

    html: Path
    json: Path
    record: RunRecord
    study: Study
    comparison: PredictionCheck | None = None
    """With what was predicted before it; None where nothing was."""


def write_report(
    reference: str, *, runs_dir: str | Path = "runs", out_dir: str | Path | None = None, is_forced: bool = False
) -> ReportPaths:
    """Write both forms of a run's report; into the run's own directory where `out_dir` is not given.

    Args:
        reference: the run.
        runs_dir: where it is.
        out_dir: the folder.
        is_forced: whether files that are there, and are no such reports, are written over.

    Raises:
        RunNotFoundError: No such run.
        FileExistsAlreadyError: Somebody else's file stands there; nothing is written.
        ConfigError: A folder stands where a file is to be, or a file where a folder is to be.
        MissingExtraError: The template engine is not installed.
    """
    from stillwatt.report.data import REPORT_SCHEMA, report_dict, report_json
    from stillwatt.report.html import report_html

    record = show_run(runs_dir, reference)
    study = summarise_run(record, runs_dir=runs_dir)
    comparison = compare_with_prediction(record, runs_dir=runs_dir)
    data = report_dict(record, study, comparison)
    folder = Path(out_dir) if out_dir is not None else Path(runs_dir) / record.run_id
    paths = ReportPaths(
        html=folder / "report.html",
        json=folder / "report.json",
        record=record,
        study=study,
        comparison=comparison,
    )
    for path, own in ((paths.json, REPORT_SCHEMA), (paths.html, REPORT_TITLE)):
        refuse_taken(path, is_forced=is_forced, option="--out", own=own)
    refuse_no_folder(folder, option="--out")
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(paths.json, report_json(data).encode())
    write_whole(paths.html, report_html(data).encode())
    return paths


def summarise_run(
    record: RunRecord, *, runs_dir: str | Path, seen: Callable[[RunRecord], RunRecord] | None = None
) -> Study:
    """What the run shows, by the choices its own settings made; artefacts of earlier runs are billed from theirs.

    Args:
        record: The run.
        runs_dir: Where the earlier runs are.
        seen: What to see of each run, where that is not all of it.
    """
    from stillwatt.analysis.study import summarise

    settings: dict[str, Any] = dict(record.settings.get("analysis", {}))
    look = seen or (lambda run: run)
    return summarise(
        look(record),
        reuse=tuple(settings.get("reuse", (10,))),
        baseline_arm=str(settings.get("baseline_arm", "sft")),
        others=tuple(look(maker) for maker in _makers(record, runs_dir)),
    )


def _makers(record: RunRecord, runs_dir: str | Path) -> tuple[RunRecord, ...]:
    """The runs that made what this one used again; one that is gone, or damaged, is said so by the analysis."""
    wanted = sorted({stage.labels["reused_from"] for stage in record.stages if "reused_from" in stage.labels})
    found = []
    for run_id in wanted:
        try:
            found.append(show_run(runs_dir, run_id))
        except LedgerError:
            continue
    return tuple(found)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        StillwattError: It cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.exists() and not path.is_file():  # a pipe, or `/dev/stdout`: nothing can take its place
            path.write_bytes(content)
            return
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as err:
        with suppress(OSError):  # a disk that takes nothing gives nothing up either
            temporary.unlink(missing_ok=True)
        raise StillwattError(f"nothing can be written to {path}: {err.strerror or err}") from err
