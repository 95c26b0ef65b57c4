"""The in-process half of the meter: stages that nest, counts, results; everything goes to a journal.

This module runs inside the measured program, so it imports nothing heavy and lets no error of its own out:
a journal that cannot be written is warned of once and counted (`Meter.lost_events`), and what a program hands over
that is no count or no result is left out, warned of, and named in the run's record.
"""

from __future__ import annotations

import contextvars
import errno
import itertools
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from stillwatt.clock import Clock
from stillwatt.errors import UnknownNameError
from stillwatt.metering.thread_parents import parent_in
from stillwatt.records.kinds import StageKind
from stillwatt.units import NS_PER_S

_WORKLOAD_EVERY_NS = NS_PER_S // 2
"""Counts are journalled at most this often, so that a kill loses less than a second of them."""

_MOST_WARNINGS = 20
"""Different things that are warned of; a program that does all wrong must not be flooded."""
_MOST = 1e100
"""More than anybody counts, and no sum of counts below it is too big for a float."""


class Journal(Protocol):
    """Where events go."""

    def write(self, event: Mapping[str, Any]) -> None:
        """Append one event; may raise OSError."""
        ...


INTERRUPTED = "interrupted"
"""Why a stage failed that Ctrl-C, or whoever else sent a SIGINT, put an end to."""


class MeterWarning(UserWarning):
    """The meter could not do something; the measured program goes on."""


def _why(err: BaseException) -> str:
    return INTERRUPTED if isinstance(err, KeyboardInterrupt) else f"{type(err).__name__}: {err}"[:500]


class Stage:
    """One running stage; made by `Meter.stage`."""

    def __init__(self, meter: Meter, stage_id: str, name: str, parent: Stage | None = None) -> None:
        self._meter = meter
        self.parent = parent
        self._lock = threading.Lock()
        self._pending: dict[str, float] = {}
        self._written_ns = meter.clock.monotonic_ns()
        self._is_closed = False
        self.stage_id = stage_id
        self.name = name
        self.thread = threading.current_thread()
        self.threads_before: frozenset[threading.Thread] = frozenset()
        self._pid = os.getpid()

    @property
    def is_own(self) -> bool:
        """Whether this process began the stage; one that was forked inside it may count for it, and does not end it."""
        return self._pid == os.getpid()

    @property
    def is_open(self) -> bool:
        """Whether it has not ended yet."""
        return not self._is_closed

    def forget_pending(self) -> None:
        """After a fork: what is pending is the parent's to write."""
        self._lock = threading.Lock()
        self._pending = {}

    def add(self, **counts: float) -> None:
        """Add to the stage's workload, by name.

        What is no count (not a number, below 0, not finite or beyond 1e100) is left out, with a warning that the run
        keeps. In a forked process each call is written at once: count batches there rather than single tokens.
        """
        now_ns = self._meter.clock.monotonic_ns()
        left_out: dict[str, Any] = {}
        with self._lock:
            for key, amount in counts.items():
                count = amount if isinstance(amount, (int, float)) else _other_number(amount)
                if count is not None and 0 <= count <= _MOST:  # of a NaN no comparison holds
                    self._pending[key] = self._pending.get(key, 0) + count
                else:
                    left_out[key] = amount
            # what comes after the end, as from a stream that is read later, has nobody to write it but itself; a forked
            # process may end without leaving the block, or be ended
            if self._is_closed or now_ns - self._written_ns >= _WORKLOAD_EVERY_NS or not self.is_own:
                self._flush(now_ns)
        for key, amount in left_out.items():
            self._refuse(key, amount)

    def _refuse(self, key: str, amount: Any) -> None:
        from stillwatt.records.sample import shown_count  # a program that counts well never pays for it

        message = f"stage {self.name!r}: {key}={shown_count(amount)} is no count; left out"
        self._meter.note(message, about=f"count {self.name} {key}", stacklevel=6)

    def add_tokens(self, count: int) -> None:
        """Add tokens that the stage processed (docs/glossary.md: token)."""
        self.add(tokens=count)

    def record(self, results: Mapping[str, Any]) -> None:
        """Keep what the stage found (scores, sizes, hashes), as JSON has it.

        Numbers of numpy and torch are numbers, those that are not finite are kept by their names. What JSON has no form
        for is left out, with a warning that the run keeps.
        """
        from stillwatt.metering.values import json_values

        given: object = results  # by a program without types it may be anything
        if not isinstance(given, Mapping):
            message = f"stage {self.name!r}: results are names with values, as in record({{'score': 0.7}}); left out"
            self._meter.note(message, about=f"results {self.name}", stacklevel=5)
            return
        kept, left_out = json_values(given)
        for name, kind in left_out.items():
            message = f"stage {self.name!r}: the result {name!r} is of type {kind}, which is no JSON value; left out"
            self._meter.note(message, about=f"result {self.name} {name}", stacklevel=5)
        if kept or not left_out:
            self._meter.write("result", stage_id=self.stage_id, results=kept)

    def state_energy(self, part: str, **said: Any) -> None:
        """Say what another machine drew for this stage, or why nobody knows: no instrument here sees it.

        What is said last of a part counts, so that a sum may be said while it grows.

        Args:
            part: Its name in the account.
            said: `device`, `boundary`, `value_j` (None with a `reason`), `systematic_low_j`, `systematic_high_j`,
                `basis`, `driver`, `source` (docs/reference/run-directory.md).
        """
        self._meter.write("stated_energy", stage_id=self.stage_id, part=part, is_elsewhere=True, **said)

    def close(self) -> None:
        """Write what is still pending; what is added from now on is written at once."""
        with self._lock:
            self._is_closed = True
            self.threads_before = frozenset()
            self._flush(self._meter.clock.monotonic_ns())

    def _flush(self, now_ns: int) -> None:
        if self._pending:
            self._meter.write("workload", stage_id=self.stage_id, counts=dict(self._pending))
            self._pending.clear()
        self._written_ns = now_ns


class Meter:
    """Writes stage marks to a journal; knows nothing of sensors.

    `sync` is called at both ends of a stage, before the mark is taken, so that queued device work is billed
    to the stage that queued it (pass `torch.cuda.synchronize`). `on_edge` is called right after each mark is taken, so
    that somebody may look at the instruments there; it must take no time and raise nothing.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        *,
        prefix: str = "s",
        earlier_attempts: Mapping[str, int] | None = None,
        sync: Callable[[], object] | None = None,
        on_edge: Callable[[], object] | None = None,
    ) -> None:
        self.clock = clock
        self.sync = sync
        self._on_edge = on_edge or _nobody
        self.lost_events = 0
        self._journal = journal
        self._prefix = prefix
        self._attempts = dict(earlier_attempts or {})
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._warned: set[str] = set()
        self._open: weakref.WeakSet[Stage] = weakref.WeakSet()
        self._home = threading.current_thread()
        self._current: contextvars.ContextVar[Stage | None] = contextvars.ContextVar("stage", default=None)

    @property
    def current_stage(self) -> Stage | None:
        """The innermost stage that this thread or task has open; None outside any."""
        return self._current.get()

    @property
    def only_stage(self) -> Stage | None:
        """The stage that work of this thread lies in, where it has none open itself and one can be told.

        That in which a stage would lie that it begins (`thread_parents.parent_in`), and else the innermost open stage
        of all threads, where there is just one.
        """
        stages = self._open_stages()
        lies_in = None if self._current.get() else parent_in(threading.current_thread(), self._home, stages)
        outer = {stage.parent for stage in stages}
        inner = [stage for stage in stages if stage not in outer]
        return lies_in or (inner[0] if len(inner) == 1 else None)

    def _open_stages(self) -> list[Stage]:
        with self._lock:
            return [stage for stage in self._open if stage.is_open]

    @contextmanager
    def stage(
        self, name: str, *, kind: StageKind | str = StageKind.OTHER, labels: Mapping[str, str] | None = None
    ) -> Iterator[Stage]:
        """Measure the block as a stage; stages nest, and an exception marks the stage failed and goes on up.

        A kind that there is not is warned of and booked as `other`: it may come up hours into a training.
        """
        # a name that is a number, as in `for epoch in range(3)`, is its text: a reader drops a stage that has no name
        name = str(name)
        stage = self._start(name, self._known_kind(name, kind), self._label_texts(name, labels))
        token = self._current.set(stage)
        status, error = "ended", None
        try:
            yield stage
        except BaseException as err:
            status, error = "failed", _why(err)
            raise
        finally:
            with suppress(ValueError):
                # ended in another context than it began in (the event loop closed a generator): nothing to restore
                self._current.reset(token)
            self._synchronise()
            t_ns = self.clock.monotonic_ns()
            self._on_edge()
            stage.close()
            if stage.is_own:
                self.write("stage_ended", t_ns=t_ns, stage_id=stage.stage_id, status=status, error=error)

    def go_on_forked(self, journal: Journal, prefix: str) -> None:
        """Go on in a forked process, with a journal and stage ids of its own, inside the stage it was forked in.

        Locks are made anew, since another thread of the parent may have held them at the fork.
        """
        self._journal, self._prefix = journal, prefix
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._home = threading.current_thread()
        self.lost_events, self._warned = 0, set()
        for stage in self._open:
            stage.forget_pending()

    def write(self, event: str, *, t_ns: int | None = None, **fields: Any) -> None:
        """Append an event; a failure is counted and warned of once, never raised."""
        stamp_ns = self.clock.monotonic_ns() if t_ns is None else t_ns
        try:
            self._journal.write({"event": event, "t_ns": stamp_ns, **fields})
        except (OSError, TypeError, ValueError) as err:
            self.lost_events += 1
            if isinstance(err, OSError) and err.errno == errno.EBADF:
                self.warn(f"the run has ended; what it is told now ({event}) is not kept", about="ended")
            else:
                told = f"the journal cannot be written ({err}); the energy of this run will have gaps"
                self.warn(told, about="journal")

    def warn(self, message: str, *, about: str = "", stacklevel: int = 4) -> bool:
        """Warn once of one thing (by default of what the message says); gives whether this was the first time."""
        if (about or message) in self._warned or len(self._warned) >= _MOST_WARNINGS:
            return False
        self._warned.add(about or message)
        warn_user(message, stacklevel=stacklevel)
        return True

    def note(self, message: str, *, about: str = "", stacklevel: int = 5) -> None:
        """Warn once of one thing, and keep the warning in the run's record."""
        if self.warn(message, about=about, stacklevel=stacklevel):
            self.write("warning", message=message)

    def _start(self, name: str, kind: StageKind, labels: Mapping[str, str]) -> Stage:
        parent = self._current.get() or self._parent_in_thread(name)
        with self._lock:
            self._attempts[name] = self._attempts.get(name, 0) + 1
            attempt = self._attempts[name]
            stage = Stage(self, f"{self._prefix}{next(self._numbers)}", name, parent)
            if stage.thread is self._home:  # the only one whose stages hold other threads' work
                stage.threads_before = frozenset(threading.enumerate())
            self._open.add(stage)
        self._synchronise()
        t_ns = self.clock.monotonic_ns()
        self._on_edge()
        self.write(
            "stage_started",
            t_ns=t_ns,
            stage_id=stage.stage_id,
            parent_id=parent.stage_id if parent else None,
            name=name,
            kind=kind.value,
            attempt=attempt,
            labels=labels,
        )
        return stage

    def _known_kind(self, name: str, kind: StageKind | str) -> StageKind:
        try:
            return parse_kind(kind)
        except UnknownNameError as err:
            self.note(f"stage {name!r}: {err}; booked as {StageKind.OTHER.value!r}", about=f"kind {kind}", stacklevel=6)
            return StageKind.OTHER

    def _label_texts(self, name: str, labels: object) -> Mapping[str, str]:
        """Labels as texts; what is no mapping is left out, with a warning that the run keeps."""
        if isinstance(labels, Mapping):
            return {str(key): str(value) for key, value in labels.items()}
        if labels is not None:
            message = f"stage {name!r}: labels are names with values, as in labels={{'arm': 'kd'}}; left out"
            self.note(message, about=f"labels {name}", stacklevel=6)
        return {}

    def _parent_in_thread(self, name: str) -> Stage | None:
        """Where a stage lies that a thread begins which has none open; says once that it lies in none beside others."""
        thread = threading.current_thread()
        if thread is self._home:
            return None
        stages = self._open_stages()
        parent = parent_in(thread, self._home, stages)
        others = [stage.name for stage in stages if stage.thread is not thread]
        if parent is None and others:
            self.note(
                f"stage {name!r} began in a thread of its own while {others[0]!r} was open in another: it stands "
                "beside it, not in it; run the thread's work by contextvars.copy_context().run to have it inside",
                about="threads beside each other",
                stacklevel=7,
            )
        return parent

    def _synchronise(self) -> None:
        if self.sync is None:
            return
        try:
            self.sync()
        except Exception as err:  # noqa: BLE001 - the device library's own errors; the measured program must go on
            self.warn(f"device synchronisation failed ({err}); stage edges may be early")


def warn_user(message: str, *, stacklevel: int = 3) -> None:
    """Show a `MeterWarning`, and never raise it."""
    with warnings.catch_warnings():
        # a user's `-W error` must not turn the meter's warning into the exception it promises not to raise
        warnings.simplefilter("default", MeterWarning)
        warnings.warn(message, MeterWarning, stacklevel=stacklevel)


def _other_number(amount: Any) -> float | None:
    """The number that another library's number is; None for what is none."""
    from stillwatt.metering.values import plain_number

    try:
        plain = plain_number(amount)
    except Exception:  # noqa: BLE001 - a stranger's object may raise anything, and the program goes on
        return None
    return plain if isinstance(plain, (int, float)) else None


def _nobody() -> None:
    """Nobody looks."""


def parse_kind(kind: StageKind | str) -> StageKind:
    """The stage kind of that name.

    >>> parse_kind("evaluate")
    <StageKind.EVALUATE: 'evaluate'>
    """
    try:
        return StageKind(kind)
    except ValueError:
        raise UnknownNameError("stage kind", str(kind), [k.value for k in StageKind]) from None
