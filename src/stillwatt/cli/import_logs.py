"""`stillwatt import`: logs of other tools as run directories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from stillwatt.cli.options import json_option, runs_option
from stillwatt.cli.screen import say, say_json

if TYPE_CHECKING:
    from stillwatt.workflows.import_logs import ImportLine, ImportReport

_FORMATS = ("auto", "carbontracker", "codecarbon", "energy-harness", "power-csv", "zeus")
_WORDS = {
    "imported": "imported",
    "already_there": "already there, not imported again",
    "changed": "left as it is: {reason}; delete the run directory to import it anew",
    "would_import": "would be imported",
}


@click.command("import")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("--format", "form", type=click.Choice(_FORMATS), default="auto", show_default=True, help="Kind of logs.")
@click.option("--name", metavar="NAME", help="What to call the run, where there is one.")
@runs_option
@click.option("--dry-run", "is_dry", is_flag=True, help="Only say what would be taken and what left out, and why.")
@json_option
@click.pass_context
def import_logs(
    context: click.Context,
    paths: tuple[str, ...],
    form: str,
    name: str | None,
    runs_dir: str,
    is_dry: bool,
    as_json: bool,
) -> None:
    """Import logs of other tools as run directories.

    PATH is a log or a folder of logs of CodeCarbon, Zeus, CarbonTracker or the published distillation harness, or a
    CSV of power over time. What is already there is not imported again. Exits with 1 where a file has changed since
    it was imported, with 3 where an energy is incomplete.
    """
    from stillwatt.workflows.import_logs import import_logs as run_import

    report = run_import(paths, runs_dir=runs_dir, form=form, name=name, is_dry=is_dry)
    if as_json:
        say_json(report_dict(report))
    else:
        for line in report_lines(report):
            say(line)
    context.exit(1 if report.has_changed else 0 if report.is_complete else 3)


def report_dict(report: ImportReport) -> dict[str, Any]:
    """The answer for programs."""
    return {
        "runs": [_line_dict(line) for line in report.lines],
        "left_out": [{"name": left.name, "line": left.line, "reason": left.reason} for left in report.left_out],
    }


def _line_dict(line: ImportLine) -> dict[str, Any]:
    from stillwatt.records.run import total_dict

    return {
        "outcome": line.outcome.value,
        "reason": line.reason or None,
        "run_id": line.run_id,
        "name": line.found.name,
        "format": line.found.form,
        "tool": line.found.tool,
        "tool_version": line.found.tool_version or None,
        "sources": [{"name": source.name, "sha256": source.sha256} for source in line.found.sources],
        "complete": None if line.record is None else line.record.complete,
        "total_j": None if line.record is None else total_dict(line.record.total),
        "checks": [
            {
                "stage": check.stage,
                "channel": check.check.part,
                "ours_j": check.check.ours.value_j,
                "random_j": check.check.ours.random_j,
                "stated_j": check.check.stated_j,
                "difference_rel": check.check.difference_rel,
                "is_inside": check.check.is_inside,
            }
            for check in line.checks
        ],
        "warnings": list(line.found.warnings if line.record is None else line.record.warnings),
    }


def report_lines(report: ImportReport) -> list[str]:
    """The answer for people: each run, its energies beside the file's own, what to know; then what was left out."""
    lines: list[str] = []
    for line in report.lines:
        lines += _run_lines(line)
    if report.left_out:
        lines.append("left out:")
        lines += [f"  {left.place}: {left.reason}" for left in report.left_out]
    return lines


def _run_lines(line: ImportLine) -> list[str]:
    version = f" {line.found.tool_version}" if line.found.tool_version else ""
    files = ", ".join(source.name for source in line.found.sources)
    lines = [
        f"{line.run_id or line.found.name}  {_WORDS[line.outcome.value].format(reason=line.reason)}",
        f"  from {files} ({line.found.tool}{version})",
    ]
    if line.record is not None:
        from stillwatt.cli.account import total_text

        lines.append(f"  total {total_text(line.record.total)}")
    for check in line.checks:
        lines.append(f"  {check.check.sentence(check.stage)}")
    if line.outcome.value in ("imported", "would_import"):
        lines += [f"  note: {warning}" for warning in line.found.warnings]
    return lines
