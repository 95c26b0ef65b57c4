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

    Prints each fault with its JSON path, and exits with 1 where there is one.
    """
    from stillwatt.workflows.validate import validate as faults_of

    faults = faults_of(file)
    if as_json:
        say_json({"file": file, "valid": not faults, "faults": [asdict(fault) for fault in faults]})
    else:
        for fault in faults:
            say(f"{fault.path}: {fault.message} ({fault.rule})")
        say(f"{file}: {len(faults)} fault{'' if len(faults) == 1 else 's'}" if faults else f"{file}: no fault")
    context.exit(1 if faults else 0)
