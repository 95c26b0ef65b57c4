"""`stillwatt serve-metrics [RUN]`: live numbers for Prometheus."""

from __future__ import annotations

import signal
import threading
from types import FrameType

import click

from stillwatt.cli.options import json_option, runs_option
from stillwatt.cli.screen import say, say_json


@click.command("serve-metrics")
@click.argument("run", required=False)
@runs_option
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=9861,
    show_default=True,
    help="Port to listen on; 0 takes any that is free.",
)
@click.option(
    "--host",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    help="Address of this machine to listen on; 0.0.0.0 lets other machines read.",
)
@click.option(
    "--once", is_flag=True, help="Print the metrics once and end, e.g. for node_exporter's textfile collector."
)
@json_option
def serve_metrics(run: str | None, runs_dir: str, port: int, host: str, once: bool, as_json: bool) -> None:
    """Show a run, or all that are being recorded, to Prometheus until interrupted.

    Reads the run directories from outside: the measured program does nothing for it and does not notice.
    """
    from stillwatt.workflows import serve_metrics as workflow

    if once:
        text = workflow.metrics_text(runs_dir, run)
        if as_json:
            say_json({"metrics": text})
        else:
            click.echo(text, nl=False)
        return
    endpoint = workflow.serve_metrics(runs_dir, run, port=port, host=host)
    try:
        if as_json:
            say_json({"url": endpoint.url, "host": endpoint.host, "port": endpoint.port})
        else:
            say(f"serving {endpoint.url}; Ctrl-C ends it")
        _wait_for_a_signal()
    finally:
        endpoint.close()


def _wait_for_a_signal() -> None:
    """Until somebody asks to end; being asked is how this command ends well."""
    asked = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        asked.set()

    handlers = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        asked.wait()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
