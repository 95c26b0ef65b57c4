"""`stillwatt doctor`: what can be measured here, and what would fix the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from stillwatt.cli.options import json_option, sensors_option
from stillwatt.cli.screen import columns, say, say_json

if TYPE_CHECKING:
    from stillwatt.workflows.doctor import DoctorFinding


@click.command()
@sensors_option
@json_option
def doctor(sensors: tuple[str, ...] | None, as_json: bool) -> None:
    """Say what can be measured on this machine, and what would fix the rest.

    Looks at every instrument, the optional parts that are installed, and the disk. Changes nothing and always
    exits with 0, whatever it finds.
    """
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
