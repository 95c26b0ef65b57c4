"""The `stillwatt` command: its verbs, and one clean sentence for every error that is not a bug.

Exit status: 0 done; 1 failed; 2 asked for something that cannot be meant; 3 done, but the energy is incomplete;
130 interrupted. `measure` exits with the status of the measured command.
"""

from __future__ import annotations

import errno
from typing import Any

import click

from stillwatt import __version__
from stillwatt.cli.advise import advise
from stillwatt.cli.analyse import analyse
from stillwatt.cli.cache import cache
from stillwatt.cli.doctor import doctor
from stillwatt.cli.export import export
from stillwatt.cli.factors import factors
from stillwatt.cli.figures import figures
from stillwatt.cli.import_logs import import_logs
from stillwatt.cli.ledger import ledger
from stillwatt.cli.lifecycle import account
from stillwatt.cli.literature import literature
from stillwatt.cli.measure import measure
from stillwatt.cli.plan import plan
from stillwatt.cli.recipe import recipe
from stillwatt.cli.report import report
from stillwatt.cli.rules import rules
from stillwatt.cli.run import run
from stillwatt.cli.screen import note, prepare_streams, show_meter_warnings_plainly
from stillwatt.cli.serve_metrics import serve_metrics
from stillwatt.cli.sweep import sweep
from stillwatt.cli.validate import validate
from stillwatt.errors import StillwattError

INTERRUPTED = 130
"""128 + SIGINT, as shells say it."""


class Verbs(click.Group):
    """A group that turns Stillwatt's own errors into one message and their exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except (StillwattError, OSError, KeyboardInterrupt) as err:
            if ctx.params.get("debug") or _is_closed_pipe(err):
                raise
            message, status = _explain(err)
            note(message)
            ctx.exit(status)


def _is_closed_pipe(err: BaseException) -> bool:
    """Whether the reader of our output has gone (`stillwatt ledger list | head`); click ends quietly then."""
    return isinstance(err, OSError) and err.errno == errno.EPIPE


def _explain(err: BaseException) -> tuple[str, int]:
    if isinstance(err, KeyboardInterrupt):
        return "interrupted", INTERRUPTED
    if isinstance(err, StillwattError):
        return f"error: {err}", err.exit_code
    if isinstance(err, OSError) and err.strerror:
        return f"error: {err.strerror}" + (f": {err.filename}" if err.filename else ""), 1
    return f"error: {err}", 1


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="stillwatt", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Where did the joules of this distillation go, teacher side included, and was it worth it?"""


VERBS = (
    doctor,
    measure,
    plan,
    run,
    sweep,
    recipe,
    cache,
    ledger,
    import_logs,
    analyse,
    advise,
    figures,
    rules,
    factors,
    literature,
    account,
    validate,
    export,
    report,
    serve_metrics,
)
for verb in VERBS:
    cli.add_command(verb)


def main() -> None:
    """Entry point of the console script."""
    prepare_streams()
    show_meter_warnings_plainly()
    cli(prog_name="stillwatt")
