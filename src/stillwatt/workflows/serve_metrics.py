"""Show runs to Prometheus while they are recorded, from a process of its own that writes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stillwatt.errors import NoSuchInputError
from stillwatt.integrations.live_view import RunFolder

if TYPE_CHECKING:
    from stillwatt.integrations.prometheus import Endpoint


def serve_metrics(runs_dir: str | Path, reference: str | None = None, *, port: int, host: str) -> Endpoint:
    """Answer scrapes in threads of their own; the caller closes the endpoint.

    Args:
        runs_dir: The folder of runs.
        reference: One run, by id, unique prefix, name or `latest`; all that are live where None.
        port: Where to listen; 0 for any free port.
        host: Which address of this machine to listen on.

    Raises:
        NoSuchInputError: There is no such folder.
        RunNotFoundError: No such run.
        AmbiguousRunError: The prefix fits several.
        MissingExtraError: prometheus-client is not installed.
        PortError: The address cannot be listened on.
    """
    from stillwatt.integrations.prometheus import serve

    return serve(_folder(runs_dir, reference), port=port, host=host)


def metrics_text(runs_dir: str | Path, reference: str | None = None) -> str:
    """The metrics once, as Prometheus' text. Arguments and errors as for `serve_metrics`."""
    from stillwatt.integrations.prometheus import exposition

    return exposition(_folder(runs_dir, reference))


def _folder(runs_dir: str | Path, reference: str | None) -> RunFolder:
    runs_dir = Path(runs_dir)
    if not runs_dir.is_dir():
        raise NoSuchInputError("run directories", str(runs_dir), "name their folder with --runs")
    if reference is None:
        return RunFolder(runs_dir)
    from stillwatt.ledger.store import LedgerStore

    with LedgerStore(runs_dir, read_only=True) as store:
        store.refresh()
        return RunFolder(runs_dir, [store.resolve(reference)])
