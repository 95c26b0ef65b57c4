"""`stillwatt validate`: whether a life-cycle report is one, and where it is not."""

from __future__ import annotations

from dataclasses import asdict

import click

from stillwatt.cli.options import json_option
from stillwatt.cli.screen import say, say_json


@click.command()
@click.argument("file", metavar="FILE")
@json_option
@click.pass_context
def validate(context: click.Context, file: str, as_json: bool) -> None:
    """Check a life-cycle report, whoever wrote it: its schema, then sums, statuses, intervals, factors, coverage.

    Prints each fault with its JSON path, then how far the report keeps the protocol and what stands before the next
    level; exits with 1 where there is a fault.
    """
    from stillwatt.report.conformance import conformance_dict, conformance_lines
    from stillwatt.workflows.validate import validate as look_at

    found = look_at(file)
    if as_json:
        faults = [asdict(fault) for fault in found.faults]
        level = conformance_dict(found.conformance)
        say_json({"file": file, "valid": not faults, "faults": faults, "conformance": level})
    else:
        for fault in found.faults:
            say(f"{fault.path}: {fault.message} ({fault.rule})")
        count = len(found.faults)
        say(f"{file}: {count} fault{'' if count == 1 else 's'}" if count else f"{file}: no fault")
        for line in conformance_lines(found.conformance):
            say(line)
    context.exit(1 if found.faults else 0)
