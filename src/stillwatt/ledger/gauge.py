"""The measured program's view of what it has spent: lines of a process that looks for it, read without waiting."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType

from stillwatt.clock import Clock, SystemClock
from stillwatt.ledger.spent import Spent
from stillwatt.units import NS_PER_S

_PATIENCE_S = 5.0
_BLOCK_BYTES = 1 << 16
_ASKING = b"\n"
_ASK_AGAIN_NS = NS_PER_S // 5
_START_AGAIN_NS = 5 * NS_PER_S
"""So long after a start may the looking process be started again, where something ended it."""


class LiveGauge(AbstractContextManager["LiveGauge"]):
    """Starts the looking process and gives its latest line.

    Args:
        run_dir: The run that is under way.
        clock: Says how old a look is.
    """

    def __init__(self, run_dir: Path, clock: Clock | None = None) -> None:
        self._run_dir, self._clock = run_dir, clock or SystemClock()
        self._asked_ns: int | None = None
        self._seen_ns = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""
        self._latest: Spent | None = None
        self._started_ns = 0

    def __enter__(self) -> LiveGauge:
        self._start()
        return self

    def _start(self) -> None:
        self._started_ns, self._asked_ns, self._rest = self._clock.monotonic_ns(), None, b""
        command = [sys.executable, "-m", "stillwatt.ledger.spent", str(self._run_dir.resolve())]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
        )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process is not None:
            self._let_go(process)

    def _let_go(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def latest(self) -> Spent | None:
        """What the last look found; None before the first one. Never waits.

        A looking process that something ended is started again: carried on for hours, its last look would say nothing.
        """
        if self._process is not None and self._process.stdout is not None:
            self._take(self._process.stdout.fileno())
            if not self.is_looking and self._clock.monotonic_ns() - self._started_ns >= _START_AGAIN_NS:
                self._let_go(self._process)
                self._start()
        return self._latest

    def ask(self) -> None:
        """Have a look taken now, unless one was asked for or came a moment ago. Never waits."""
        process, now_ns = self._process, self._clock.monotonic_ns()
        is_early = self._asked_ns is not None or now_ns - self._seen_ns < _ASK_AGAIN_NS
        if is_early or process is None or process.stdin is None:
            return
        self._asked_ns = now_ns
        with suppress(OSError):
            os.write(process.stdin.fileno(), _ASKING)

    @property
    def is_looking(self) -> bool:
        """Whether the looking process lives."""
        return self._process is not None and self._process.poll() is None

    def _take(self, descriptor: int) -> None:
        while True:
            try:
                block = os.read(descriptor, _BLOCK_BYTES)
            except BlockingIOError:
                return
            if not block:
                return
            *lines, self._rest = (self._rest + block).split(b"\n")
            for line in lines:
                self._seen_ns, self._asked_ns = self._clock.monotonic_ns(), None
                with suppress(ValueError):
                    self._latest = Spent.from_line(line.decode("utf-8", "replace"))
