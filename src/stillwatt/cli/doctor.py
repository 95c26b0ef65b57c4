"""`stillwatt doctor`: what can be measured here, and what would fix the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Unpack

import click

from stillwatt.cli.calibrate import Given, calibrate_options, refuse_without_log, run_calibration
from stillwatt.cli.options import json_option, runs_option, sensors_option
from stillwatt.cli.screen import columns, say, say_json

if TYPE_CHECKING:
    from stillwatt.workflows.doctor import DoctorFinding


@click.command()
@sensors_option
@calibrate_options
@runs_option
@json_option
@click.pass_context
def doctor(
    context: click.Context,
    sensors: tuple[str, ...] | None,
    calibrate: str | None,
    runs_dir: str,
    as_json: bool,
    **given: Unpack[Given],
) -> None:
    """Say what can be measured on this machine, and what would fix the rest.

    Looks at every instrument, the optional parts that are installed, and the disk. Changes nothing and always
    exits with 0, whatever it finds.

    With --calibrate it compares a run with an external meter's log of the same time instead, and writes the card's
    gain to the user's file of calibrations; it exits with 1 where the log is too weak for that, and writes nothing.
    """
    if calibrate is not None:
        run_calibration(calibrate, runs_dir, given, as_json=as_json)
        return
    refuse_without_log(context, (*given, "runs_dir"))
    from stillwatt.workflows.doctor import examine

    findings = examine(sensors=sensors) if sensors else examine()
    if as_json:
        say_json([asdict(finding) for finding in findings])
        return
    for line in finding_lines(findings):
        say(line)


def finding_lines(findings: Sequence[DoctorFinding]) -> list[str]:
    """Findings as lines: status, subject, detail, and under it what would help."""
    rows = columns([[finding.status, finding.subject, finding.detail] for finding in findings])
    indent = " " * (max((len(finding.status) for finding in findings), default=0) + 2)
    lines: list[str] = []
    for row, finding in zip(rows, findings, strict=True):
        lines.append(row)
        if finding.cure:
            lines.append(f"{indent}to fix: {finding.cure}")
    return lines
