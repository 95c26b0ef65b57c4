"""A loop that reads quick sensors itself, and another thread that goes on with it where such a reading hangs.

Handing each reading to a thread and waking up for its answer costs the sampling process more than the reading. So the
loop reads in its own thread those sensors that have proved quick, and somebody looks, a few times a second, whether it
is still there. Where it is not, the sensor that holds it up is left to the thread that hangs in it, and a new thread
goes on with the same loop. A sensor that was slow once has to be quick for long before the loop trusts it again.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from stillwatt.clock import Clock
from stillwatt.sensors.worker import Job, Worker
from stillwatt.units import NS_PER_MS, seconds

_T = TypeVar("_T")

_QUICK_NS = 10 * NS_PER_MS
"""A reading that takes less holds up nobody who reads ten times a second."""
_HUNG_NS = 150 * NS_PER_MS
"""A reading that takes longer than this is left alone with its thread."""
_LOOK_NS = 500 * NS_PER_MS
_QUICK_READINGS = 20
"""Quick readings in a row, in a thread of their own, before the loop reads a sensor itself."""
_STRIKE = 16
"""A sensor that was trusted and was slow needs so many times more of them."""


class Overtaken(Exception):  # no error: it ends a thread whose work another took over
    """Raised in a thread that comes back from a reading that hung: the loop goes on elsewhere."""


class Relay:
    """Runs a loop, and starts it anew in another thread where one of its readings hangs.

    `worker` makes the workers of the sensors that the loop reads. The loop must bear being left in the middle of a
    reading and started again; the thread that was left behind ends when its reading returns.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._lock = threading.Lock()
        self._runner: int | None = None
        self._inside: QuickWorker | None = None
        self._since_ns = 0

    def worker(self, name: str, job: Job) -> QuickWorker:
        """A worker whose job the loop does itself while that is quick."""
        return QuickWorker(name, job, self)

    def run(self, loop: Callable[[], _T]) -> _T:
        """Run the loop until it returns, in as many threads as it takes; gives what it returns.

        Raises:
            BaseException: what the loop raised.
        """
        ended: queue.SimpleQueue[_Ended[_T]] = queue.SimpleQueue()
        self._start(loop, ended)
        while True:
            try:
                outcome = ended.get(timeout=seconds(_LOOK_NS))
            except queue.Empty:
                if self._leave_behind():
                    self._start(loop, ended)
            else:
                self._runner = None
                return outcome.get()

    @property
    def is_here(self) -> bool:
        """Whether the calling thread is the one that runs the loop."""
        return threading.get_ident() == self._runner

    def do(self, worker: QuickWorker) -> int:
        """Do a worker's job in the loop's thread; gives the nanoseconds it took.

        Raises:
            Overtaken: the loop has gone on without this thread.
        """
        self._since_ns = self.clock.monotonic_ns()
        self._inside = worker
        try:
            worker.error_here = None
            worker.job()
        except BaseException as err:  # noqa: BLE001 - kept for whoever asks: drivers raise anything, the loop lives
            worker.error_here = err
        with self._lock:
            if worker.is_left_behind:
                worker.come_back()
                raise Overtaken
            self._inside = None
        return self.clock.monotonic_ns() - self._since_ns

    def _leave_behind(self) -> bool:
        """Whether the loop hangs in a job, which is then left to its thread."""
        with self._lock:
            worker = self._inside
            if worker is None or self.clock.monotonic_ns() - self._since_ns < _HUNG_NS:
                return False
            worker.stay_behind()
            self._inside = None
            return True

    def _start(self, loop: Callable[[], _T], ended: queue.SimpleQueue[_Ended[_T]]) -> None:
        has_begun = threading.Event()

        def run() -> None:
            self._runner = threading.get_ident()
            has_begun.set()
            try:
                ended.put(_Ended(loop(), None))
            except Overtaken:
                return
            except BaseException as err:  # noqa: BLE001 - handed to whoever runs the relay
                ended.put(_Ended(None, err))

        threading.Thread(target=run, name="sample", daemon=True).start()
        has_begun.wait()


class QuickWorker:
    """A `WorkerLike` that does its job in the loop's thread once it has proved quick, and else in one of its own."""

    def __init__(self, name: str, job: Job, relay: Relay) -> None:
        self.is_left_behind = False
        """Whether a job that the loop was in has hung, and has not returned yet."""
        self.job = job
        self._name, self._relay = name, relay
        self._apart: Worker | None = None
        self._is_apart = False
        """Whether the last job was done in the other thread."""
        self.error_here: BaseException | None = None
        """What the last job raised that was done in the loop's thread."""
        self._returned = threading.Event()
        self._quick_readings, self._needed = 0, _QUICK_READINGS

    @property
    def error(self) -> BaseException | None:
        """What the last job raised."""
        return self._apart.error if self._is_apart and self._apart is not None else self.error_here

    def ask(self) -> bool:
        """Do the job, here or in the other thread; False where that cannot be done now."""
        if self.is_left_behind:
            return False
        self._is_apart = self._quick_readings < self._needed or not self._relay.is_here
        if self._is_apart:
            if self._apart is None:
                self._apart = Worker(self._name, self._time)
            return self._apart.ask()
        self._judge(self._relay.do(self))
        return True

    @property
    def is_trusted(self) -> bool:
        """Whether the next job will be done in the loop's thread, and this is that thread."""
        return self._quick_readings >= self._needed and not self.is_left_behind and self._relay.is_here

    def do_at_once(self) -> bool:
        """Do the job of a worker that is trusted, as `ask` does, with less around it; False where it failed."""
        self._is_apart = False
        if self._relay.do(self) >= _QUICK_NS:
            self._lose_trust()
        return self.error_here is None

    def wait(self, timeout_s: float) -> bool:
        """Wait until the job has returned; False where it has not in that time."""
        if self.is_left_behind:
            return self._returned.wait(timeout_s)
        return self._apart.wait(timeout_s) if self._is_apart and self._apart is not None else True

    def close(self) -> None:
        """End the other thread once its job returns; does not wait for it."""
        if self._apart is not None:
            self._apart.close()

    def stay_behind(self) -> None:
        """The loop goes on without the thread that is in this job."""
        self._returned.clear()
        self.is_left_behind = True

    def come_back(self) -> None:
        """The job has returned after all."""
        self._lose_trust()
        self.is_left_behind = False
        self._returned.set()

    def _time(self) -> None:
        begun_ns = self._relay.clock.monotonic_ns()
        try:
            self.job()
        finally:
            self._judge(self._relay.clock.monotonic_ns() - begun_ns)

    def _judge(self, took_ns: int) -> None:
        if took_ns < _QUICK_NS:
            self._quick_readings += 1
        else:
            self._lose_trust()

    def _lose_trust(self) -> None:
        if self._quick_readings >= self._needed:
            self._needed *= _STRIKE
        self._quick_readings = 0


class _Ended(Generic[_T]):
    """How a loop ended."""

    def __init__(self, result: _T | None, error: BaseException | None) -> None:
        self._result, self._error = result, error

    def get(self) -> _T:
        """What it returned, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # only None where the loop returns that
