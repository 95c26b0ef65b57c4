"""How the ranks of a launch agree on one run; standard library only."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stillwatt.clock import Clock, SystemClock
from stillwatt.ledger.rundir import names_run, slug
from stillwatt.units import seconds

_FOLDER = ".groups"
_POLL_S = 0.05
_PATIENCE_S = 20.0
_OVER_S = 2.0
"""A launch that gave no sign for so long before this process began is an earlier one."""


def join_run(
    runs_dir: Path,
    key: str,
    member: str | None,
    create: Callable[[], str],
    *,
    world_size: int = 0,
    began_s: float | None = None,
    sleep: Callable[[float], object] = time.sleep,
    patience_s: float = _PATIENCE_S,
) -> str:
    """The run id that all with this key agree on: created by the first, read by the others.

    The n-th time that a member joins under one key is the n-th run of that key: a program that measures one name twice,
    or a launch that cannot be told from an earlier one, gets a new run and never adds to a finished one. A member that
    an earlier launch lost, or never had, passes over that launch's runs: those of another size, and those whose last
    sign of life is from before it began. Where the first dies before it has created the run, a later one waits
    `patience_s` and creates one in its place.

    Members that nobody can tell apart have one run, whenever they come and how often: of a worker that is used again,
    and of one that takes its place, nobody knows how many times it should have come.

    Args:
        runs_dir: where runs are kept; the agreement lies in a hidden folder there.
        key: launch and name of the run (`LaunchGroup.key`).
        member: who asks, by rank and restart; None where there are no ranks.
        create: makes a run directory and gives its id.
        world_size: how many ranks the launch has; 0 where nobody says.
        began_s: when this process began, by the wall clock; None for one that a launch has started anew, which goes on
            with what others have done before it began.
        sleep: waits that many seconds.
        patience_s: how long to wait for whoever came first.

    Raises:
        OSError: the folder cannot be written.
    """
    folder = Path(runs_dir) / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    if member is not None:
        number = next(
            n
            for n in itertools.count()
            if _is_first(mine := folder / f"{key}.{n}.{slug(member)}")
            and not _is_of_another_launch(runs_dir, folder / f"{key}.{n}.json", mine, world_size, began_s)
        )
    agreed = folder / f"{key}.{number}.json"
    run_id, turn = _agreed(runs_dir, agreed), 0
    while run_id is None:
        if _is_first(agreed.with_suffix(_claim(agreed, turn))):
            # by then another may have made one, which the claim would take for one that is gone
            run_id = _agreed(runs_dir, agreed)
            if run_id is None:
                run_id = create()
                _write(agreed, {"run_id": run_id, **({"world_size": world_size} if world_size else {})})
        else:
            run_id, turn = _awaited(runs_dir, agreed, sleep, patience_s), turn + 1
    return run_id


def _claim(agreed: Path, turn: int) -> str:
    """Which file whoever makes the run has to make first: another one for each run that was there and is gone."""
    gone = str(_read(agreed).get("run_id", ""))
    return f".{slug(gone)}.{turn}.claim" if turn and gone else f".{turn}.claim" if turn else ".claim"


def _awaited(runs_dir: Path, agreed: Path, sleep: Callable[[float], object], patience_s: float) -> str | None:
    """What the others agree on meanwhile; None where nobody has made a run for so long."""
    with contextlib.suppress(OSError):
        if _read(agreed) and seconds(SystemClock().utc_ns()) - agreed.stat().st_mtime > patience_s:
            return None  # made long ago, and gone since: nobody is at it
    waited_s = 0.0
    while (run_id := _agreed(runs_dir, agreed)) is None and waited_s < patience_s:
        sleep(_POLL_S)
        waited_s += _POLL_S
    return run_id


def _is_of_another_launch(runs_dir: Path, agreed: Path, mine: Path, world_size: int, began_s: float | None) -> bool:
    """Whether what was agreed on was agreed on by ranks of a launch that was over when this process began."""
    run_id = _agreed(runs_dir, agreed)
    if run_id is None or began_s is None:
        return False
    size = _read(agreed).get("world_size")
    if size and world_size and size != world_size:
        return True
    # the disk may have a clock of its own: what was written just now tells by how much it differs
    ahead_s = mine.stat().st_mtime - seconds(SystemClock().utc_ns())
    return _last_sign_s(Path(runs_dir) / run_id) - ahead_s < began_s - _OVER_S


def _last_sign_s(run_dir: Path) -> float:
    """When something of a run was last written; a session that is measured writes every second."""
    times_s = [run_dir.stat().st_mtime]
    for pattern in ("journal.*", "samples/*"):
        for path in run_dir.glob(pattern):
            with contextlib.suppress(OSError):  # a file that is being put into the books
                times_s.append(path.stat().st_mtime)
    return max(times_s)


def began_s(clock: Clock) -> float | None:
    """When this process began, by the wall clock; None where the kernel does not tell."""
    try:
        ticks = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace").rsplit(")", 1)[1].split()[19]
        age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - int(ticks) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError, AttributeError):
        return None
    return seconds(clock.utc_ns()) - age_s


def _is_first(path: Path) -> bool:
    """Whether this call made the file; just one call of all processes does."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    except FileExistsError:
        return False
    return True


def _agreed(runs_dir: Path, path: Path) -> str | None:
    """What was agreed on, if that run is still there."""
    run_id = str(_read(path).get("run_id", ""))
    return run_id if run_id and names_run(runs_dir, run_id) else None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, document: Mapping[str, Any]) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(document) + "\n", encoding="utf-8")
    os.replace(temporary, path)
