"""Which run a recipe goes on with, and what is said of those that it does not.

`description`, `[analysis]` and `[sweep]` change nothing of what `stillwatt run` measures, and a run's `budget` nothing
of what it has done: runs that differ in these alone are the same work, and the newest of them that was cut short is
gone on with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillwatt.clock import iso_utc
from stillwatt.errors import AmbiguousRunError, RunNotFoundError, StillwattError
from stillwatt.ledger.journal import read_journal
from stillwatt.ledger.liveness import ThisHost
from stillwatt.ledger.references import resolve
from stillwatt.ledger.rundir import list_run_dirs, program_journals, read_manifest, sessions, settings_hash

__all__ = ["Found", "Unfinished", "Wish", "find_unfinished"]

_UNMEASURED = frozenset({"description", "analysis", "sweep", "budget"})
"""Of a recipe. The run's budget ends the work and alters nothing of what was done before: who raises it goes on."""
_MOST_NEAR = 3
"""Keys in which another run of the same name may differ to be spoken of: more is another study."""
_MOST_TOLD = 5

_Events = tuple[dict[str, Any], ...]
"""Of one session, in the order in which they were written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """A run of the same recipe that was cut short."""

    run_id: str
    sessions: int
    attempts: dict[str, int]
    """How often each stage was started so far, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for; by itself, the newest run that is known to be dead."""

    run: str | None = None
    """That run and no other: an id, its unique beginning, a name (its newest run), or `latest`."""
    takes_over: bool = False
    """Whether a run whose last process was on another host, where it cannot be seen, is taken for dead."""
    is_trial: bool = False
    """Whether it is a sweep's trial: its neighbours are other trials, and its sweep goes on by an option of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What there is."""

    run: Unfinished | None = None
    said: tuple[str, ...] = ()
    """Of runs that are left as they are, for whoever began this one."""
    refusal: str | None = None
    """Why the run that was asked for cannot be gone on with."""


def find_unfinished(runs_dir: Path, settings: Mapping[str, Any], wish: Wish | None = None) -> Found:
    """The run to go on with: the newest of the same work that was cut short, if no newer one reached its end.

    A run whose last process lives is left alone, and so is one of another host of which that cannot be told: two
    writers would be worse.

    Args:
        runs_dir: Where runs are.
        settings: The recipe's, resolved.
        wish: What was asked for.
    """
    wish = wish or Wish()
    if wish.run is not None:
        return _named(runs_dir, settings, wish.run)
    exact, work = settings_hash(settings), settings_hash(_measured(settings))
    said: list[str] = []
    is_done_since, near = False, ""
    for run_dir, manifest in _manifests(runs_dir):
        is_same = manifest["settings_sha256"] == exact
        if not is_same and settings_hash(_measured(manifest["settings"])) != work:
            near = near or _near_line(run_dir, manifest, settings)
            continue
        found = _Sessions.read(run_dir)
        if found.is_over and is_same:
            break
        is_done_since = is_done_since or found.is_over
        if found.is_over or found.count == 0 or (is_done_since and not is_same):
            continue
        living = found.last_of_living()
        if living is None or (wish.takes_over and not living.is_here):
            return Found(run=found.unfinished(), said=tuple(said))
        said.append(living.line("`--resume`" if wish.is_trial else f"`--resume {run_dir.name}`"))
    return Found(said=(*said, *([near] if near and not wish.is_trial else [])))


def _named(runs_dir: Path, settings: Mapping[str, Any], reference: str) -> Found:
    """The run of that name, where it can be gone on with by these settings."""
    try:
        run_dir, manifest = _resolved(runs_dir, reference)
    except (RunNotFoundError, AmbiguousRunError) as err:
        return Found(refusal=f"--resume {reference}: {err}")
    what, other = f"--resume {reference}: run {run_dir.name}", _differing(manifest["settings"], settings)
    found = _Sessions.read(run_dir)
    living = found.last_of_living()
    if other:
        keys = ", ".join(other[:_MOST_TOLD]) + (f" and {len(other) - _MOST_TOLD} more" if other[_MOST_TOLD:] else "")
        return Found(refusal=f"{what} has other settings: it differs in {keys}; give the recipe that it began with")
    if found.is_over:
        return Found(refusal=f"{what} reached its end; leave --resume out to carry the recipe out once more")
    if found.count == 0:
        return Found(refusal=f"{what} has no session to go on from; leave --resume out")
    if living is not None and living.is_here:
        return Found(refusal=f"{what} is under way here (process {living.pid}); end that, or wait for it")
    return Found(run=found.unfinished())


def _manifests(runs_dir: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Runs, the newest first; one whose manifest cannot be read is told of by `ledger verify`."""
    for run_dir in sorted(list_run_dirs(runs_dir), reverse=True):
        try:
            yield run_dir, read_manifest(run_dir)
        except StillwattError:
            continue


def _resolved(runs_dir: Path, reference: str) -> tuple[Path, dict[str, Any]]:
    """The run that is meant, as `ledger show` takes it; nothing is posted for it."""
    known = {run_dir.name: (run_dir, manifest) for run_dir, manifest in _manifests(runs_dir)}
    return known[
        resolve(reference, [(run_id, manifest["name"]) for run_id, (_, manifest) in known.items()], str(runs_dir))
    ]


def _measured(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What of a recipe bears on the measured work."""
    return {key: value for key, value in settings.items() if key not in _UNMEASURED}


def _near_line(run_dir: Path, manifest: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """What is said of a run that is nearly the same work; nothing of one that is over, may live, or is far from it."""
    if manifest["name"] != settings.get("name"):
        return ""
    keys = _differing(manifest["settings"], settings)
    if len(keys) > _MOST_NEAR:
        return ""
    found = _Sessions.read(run_dir)
    if found.is_over or found.count == 0 or found.last_of_living() is not None:
        return ""
    return f"unfinished run {run_dir.name} differs in {', '.join(keys)}; it is left as it is"


def _differing(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """Keys of the measured work in which two recipes differ, as `--set` takes them."""
    return sorted(_keys(_measured(theirs), _measured(ours), ""))


def _keys(theirs: Any, ours: Any, place: str) -> Iterator[str]:
    """Where two values differ.

    >>> list(_keys({"a": 1, "arms": [{"name": "kd", "x": 1}]}, {"a": 1, "arms": [{"name": "kd", "x": 2}]}, ""))
    ['arms.kd.x']
    """
    if theirs == ours:
        return
    sides = [_by_name(side) for side in (theirs, ours)]
    if not all(isinstance(side, Mapping) for side in sides):
        yield place
        return
    for key in {**sides[0], **sides[1]}:
        yield from _keys(sides[0].get(key), sides[1].get(key), f"{place}.{key}".lstrip("."))


def _by_name(value: Any) -> Any:
    """The entries of an array of tables by their names; anything else as it is."""
    if isinstance(value, Sequence) and value and all(isinstance(each, Mapping) and "name" in each for each in value):
        return {str(each["name"]): each for each in value}
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class _Living:
    """A session that is at work, or may be."""

    run_id: str
    host: str
    pid: int
    seen_utc: str
    is_here: bool
    """Known to live, on this host."""

    def line(self, option: str) -> str:
        """What is said of it."""
        if self.is_here:
            return f"run {self.run_id} of these settings is under way here (process {self.pid}); this is another one"
        return (
            f"run {self.run_id} of these settings was last seen on host {self.host} at {self.seen_utc} and may still "
            f"live there; {option} goes on with it"
        )


@dataclass(frozen=True, slots=True)
class _Sessions:
    """The sessions of a run by their ranks, each rank's in the order in which they began."""

    run_dir: Path
    of_ranks: dict[int, list[_Events]]

    @classmethod
    def read(cls, run_dir: Path) -> _Sessions:
        """Read the measured programs' journals."""
        journals = [read_journal(path).events for path in program_journals(run_dir)]
        started = [events for events in journals if events and events[0]["event"] == "session_started"]
        found = cls(run_dir, {})
        for events in sorted(started, key=lambda events: int(events[0]["utc_ns"])):
            found.of_ranks.setdefault(events[0].get("rank") or 0, []).append(events)
        return found

    @property
    def count(self) -> int:
        """Sessions of all ranks."""
        return sum(map(len, self.of_ranks.values()))

    @property
    def is_over(self) -> bool:
        """Whether the run reached its end; the first rank ends last and is the only one with all stages."""
        ends = (e for events in self.of_ranks.get(0, ()) for e in events if e["event"] == "session_ended")
        return any(end["status"] == "ended" for end in ends)

    def unfinished(self) -> Unfinished:
        """As whoever goes on is told of it."""
        return Unfinished(run_id=self.run_dir.name, sessions=self.count, attempts=_attempts(self.of_ranks.values()))

    def last_of_living(self) -> _Living | None:
        """A rank's last session that lives or may live, one that is known to before others; None if all are dead."""
        found = [living for each in self.of_ranks.values() if (living := self._living(each[-1])) is not None]
        return min(found, key=lambda living: not living.is_here, default=None)

    def _living(self, events: _Events) -> _Living | None:
        first, last = events[0], events[-1]
        if last["event"] == "session_ended":
            return None
        is_alive = ThisHost().is_alive(first["host"], first["boot_id"], first["pid"], last["t_ns"])
        beside = self._beside(first["session"])
        # of another host's process only what was beside it, and outlives it by a moment, can tell
        if is_alive is False or (is_alive is None and any(event["event"] == "parent_lost" for event in beside)):
            return None
        seen_ns = max(event["t_ns"] for event in (*events, *beside))
        return _Living(
            run_id=self.run_dir.name,
            host=first["host"],
            pid=first["pid"],
            seen_utc=iso_utc(first["utc_ns"] + seen_ns - first["t_ns"]),
            is_here=is_alive is True,
        )

    def _beside(self, session: str) -> _Events:
        """What a session's sampling process wrote."""
        paths = sessions(self.run_dir).get(session)
        return () if paths is None or paths.meter is None else tuple(read_journal(paths.meter).events)


def _attempts(of_ranks: Iterable[list[_Events]]) -> dict[str, int]:
    """How often each stage was begun; the ranks of a launch begin one together."""
    most: Counter[str] = Counter()
    for of_rank in of_ranks:
        most |= Counter(e["name"] for events in of_rank for e in events if e["event"] == "stage_started")
    return dict(most)
