"""One job at a time in a thread of its own, so that a call which hangs holds up nobody else."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Protocol, runtime_checkable

Job = Callable[[], None]


class WorkerLike(Protocol):
    """What all workers have in common."""

    @property
    def error(self) -> BaseException | None:
        """What the last job raised."""
        ...

    def ask(self) -> bool:
        """Run the job; False where that cannot be done now."""
        ...

    def wait(self, timeout_s: float) -> bool:
        """Wait for the job; False where it has not returned in that time."""
        ...

    def close(self) -> None:
        """Take no more."""
        ...


@runtime_checkable
class AtOnce(Protocol):
    """A worker that can do its job in the calling thread, with nothing around it."""

    @property
    def is_trusted(self) -> bool:
        """Whether it may be called that way now: the job has proved quick, and this is the thread to do it in."""
        ...

    def do_at_once(self) -> bool:
        """Run the job; False where it failed."""
        ...


class Worker:
    """Runs the same job again and again, each time it is asked to, in a daemon thread.

    A job that never returns keeps its thread and nothing more: `ask` says no, `wait` gives up, and a process
    that ends does not wait for it. An exception of the job is kept in `error` until the next run. `ask`, `wait` and
    `close` belong to one thread.
    """

    def __init__(self, name: str, job: Job) -> None:
        self.error: BaseException | None = None
        self._job = job
        self._is_busy = False
        self._is_closed = False
        self._asked: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._returned: queue.SimpleQueue[None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def ask(self) -> bool:
        """Run the job now; False where the run before has not returned yet, or the worker is closed."""
        if self._is_closed or not self.wait(0.0):
            return False
        self._is_busy = True
        self._asked.put(True)
        return True

    def wait(self, timeout_s: float) -> bool:
        """Wait until the job has returned; False where it has not in that time."""
        if self._is_busy:
            try:
                self._returned.get(timeout=timeout_s)
            except queue.Empty:
                return False
            self._is_busy = False
        return True

    def close(self) -> None:
        """End the thread once its job returns; does not wait for it."""
        if not self._is_closed:
            self._is_closed = True
            self._asked.put(False)

    def _run(self) -> None:
        while self._asked.get():
            try:
                self.error = None
                self._job()
            except BaseException as err:  # noqa: BLE001 - handed to whoever asked; the thread must live on
                self.error = err
            self._returned.put(None)


class InlineWorker:
    """The same doors without a thread: `ask` runs the job before it returns. For tests at a set time."""

    is_trusted = True

    def __init__(self, name: str, job: Job) -> None:
        self.name = name
        self.error: BaseException | None = None
        self._job = job

    def ask(self) -> bool:
        """Run the job."""
        try:
            self.error = None
            self._job()
        except BaseException as err:  # noqa: BLE001 - as in Worker
            self.error = err
        return True

    def do_at_once(self) -> bool:
        """Run the job."""
        return self.ask() and self.error is None

    def wait(self, timeout_s: float) -> bool:
        """Nothing is ever left to wait for."""
        return True

    def close(self) -> None:
        """Nothing to end."""
