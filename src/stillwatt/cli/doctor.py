"""`stillwatt doctor`: what can be measured here, and what would fix the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Unpack

import click

from stillwatt.cli.calibrate import Given, calibrate_options, refuse_without_log, run_calibration
from stillwatt.cli.options import json_option, runs_option, sensor_option, sensors_option
from stillwatt.cli.screen import columns, folded, say, say_json, width

if TYPE_CHECKING:
    from stillwatt.workflows.doctor import DoctorFinding


_LEAST_ROOM = 30
"""Columns for a detail, at least."""


@click.command()
@sensors_option
@sensor_option
@calibrate_options
@runs_option
@json_option
@click.pass_context
def doctor(
    context: click.Context,
    sensors: tuple[str, ...] | None,
    sensor_options: dict[str, dict[str, Any]],
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

    findings = examine(sensors=sensors or (), options=sensor_options)
    if as_json:
        say_json([asdict(finding) for finding in findings])
        return
    for line in finding_lines(findings, most=width()):
        say(line)


def finding_lines(findings: Sequence[DoctorFinding], *, most: int | None = None) -> list[str]:
    """Findings as lines: status, subject, detail, and under it what would help; folded at so many columns."""
    names = columns([[finding.status, finding.subject, ""] for finding in findings])
    widths = [max((len(getattr(one, key)) for one in findings), default=0) for key in ("status", "subject")]
    indent, start = " " * (widths[0] + 2), sum(widths) + 4
    lines: list[str] = []
    for name, finding in zip(names, findings, strict=True):
        room = None if most is None else max(most - start, _LEAST_ROOM)
        first, *rest = [finding.detail] if room is None else folded(finding.detail, room)
        lines.append(f"{name.ljust(start)}{first}".rstrip())
        lines += [" " * start + line.lstrip() for line in rest]
        if finding.cure:
            cure = f"{indent}to fix: {finding.cure}"
            lines += [cure] if most is None else folded(cure, max(most, _LEAST_ROOM))
    return lines
