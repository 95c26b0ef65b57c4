"""The `stillwatt` command: its verbs, and one clean sentence for every error that is not a bug.

Exit status: 0 done; 1 failed; 2 asked for something that cannot be meant; 3 done, but the energy is incomplete;
130 interrupted. `measure` exits with the status of the measured command.
"""

from __future__ import annotations

import errno
from contextlib import suppress
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
from stillwatt.cli.screen import note, prepare_streams, say_json, show_meter_warnings_plainly
from stillwatt.cli.serve_metrics import serve_metrics
from stillwatt.cli.sweep import sweep
from stillwatt.cli.validate import validate
from stillwatt.errors import StillwattError, UsageError

INTERRUPTED = 130
"""128 + SIGINT, as shells say it."""
_ERROR = "error: "
_WANTS_JSON = "stillwatt.wants_json"


class Verbs(click.Group):
    """A group that turns Stillwatt's own errors into one message and their exit status.

    Where an answer as JSON was asked for, an error is one, too, so that a program that reads stdout is never left with
    nothing.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Remember what was asked for before the commands take it apart."""
        ctx.meta[_WANTS_JSON] = _wants_json(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except click.ClickException as err:
            _say_error(ctx, err, err.format_message(), err.exit_code)
            raise
        except (StillwattError, OSError, KeyboardInterrupt) as err:
            if ctx.params.get("debug") or _is_closed_pipe(err):
                raise
            message, status = _explain(err)
            _say_error(ctx, err, message.removeprefix(_ERROR), status)
            note(message)
            ctx.exit(status)


def _wants_json(args: list[str]) -> bool:
    """Whether stdout is to hold JSON; that of a measured command is its own, whatever was asked for."""
    own = args[: args.index("--")] if "--" in args else args
    return "--json" in own and next((one for one in own if not one.startswith("-")), "") != measure.name


def _say_error(ctx: click.Context, err: BaseException, message: str, status: int) -> None:
    """The error for programs; stderr has it for people."""
    if ctx.meta[_WANTS_JSON]:
        kind = UsageError if isinstance(err, click.UsageError) else type(err)
        with suppress(OSError):
            say_json({"error": {"kind": kind.__name__, "message": message, "exit_status": status}})


def _is_closed_pipe(err: BaseException) -> bool:
    """Whether the reader of our output has gone (`stillwatt ledger list | head`); click ends quietly then."""
    return isinstance(err, OSError) and err.errno == errno.EPIPE


def _explain(err: BaseException) -> tuple[str, int]:
    if isinstance(err, KeyboardInterrupt):
        return str(err) or "interrupted", INTERRUPTED
    if isinstance(err, StillwattError):
        return f"{_ERROR}{err}", err.exit_code
    if isinstance(err, OSError) and err.strerror:
        return f"{_ERROR}{err.strerror}" + (f": {err.filename}" if err.filename else ""), 1
    return f"{_ERROR}{err}", 1


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
