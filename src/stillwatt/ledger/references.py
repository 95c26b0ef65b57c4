"""Which run is meant by what a user writes: an id, its unique beginning, a name, `latest`, or a path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stillwatt.errors import AmbiguousRunError, RunNotFoundError


def resolve(reference: str, runs: Sequence[tuple[str, str]], place: str) -> str:
    """The run id meant by an id, `latest`, a name (its latest run) or a unique prefix of an id.

    A path to a run directory means the run of that name, where no run is called like the path itself.

    Args:
        reference: What was written.
        runs: Ids with names, the newest first.
        place: Where these runs are, for the message.

    Raises:
        RunNotFoundError: Nothing fits.
        AmbiguousRunError: A prefix fits several runs.

    >>> runs = [("20261128-b-2", "b"), ("20261127-a-1", "org/a")]
    >>> [resolve(one, runs, "runs") for one in ("latest", "org/a", "runs/20261127-a-1/", "20261127")]
    ['20261128-b-2', '20261127-a-1', '20261127-a-1', '20261127-a-1']
    """
    wanted = reference
    if "/" in reference and all(name != reference for _, name in runs):  # names may look like `org/model`
        wanted = Path(reference).name
    ids = [run_id for run_id, _ in runs]
    if wanted in ids:
        return wanted
    if wanted == "latest" and ids:
        return ids[0]
    named = [run_id for run_id, name in runs if name == wanted]
    if named:
        return named[0]
    fitting = sorted(run_id for run_id in ids if wanted and run_id.startswith(wanted))
    if len(fitting) > 1:
        raise AmbiguousRunError(reference, fitting)
    if not fitting:
        raise RunNotFoundError(reference, place, [*ids, *(name for _, name in runs)])
    return fitting[0]
