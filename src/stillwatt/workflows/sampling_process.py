"""The sampling process as the measured program has it: started, told of edges, stopped. Lets no error of its own out.

Runs inside the measured program: standard library only.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from stillwatt.workflows.sampler_start import first_line, sampler_environment, sigpipe_held

if TYPE_CHECKING:
    import subprocess

_READY_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 10.0


class SamplingProcess:
    """Samples one session.

    Args:
        config: what it is told (`ledger.recorder.parse_config`).
        warn: takes what went wrong with it, as what a sentence says of it.
    """

    def __init__(self, config: Mapping[str, Any], warn: Callable[[str], object]) -> None:
        self._config = dict(config)
        self._warn = warn
        self.process: subprocess.Popen[bytes] | None = None
        """None before it was started, and where it cannot be."""
        self._words_fd = -1

    def start(self) -> None:
        """Start it, and wait until it has read every stream once."""
        try:
            answer = self._first_word()
        except OSError as err:
            self._warn(f"cannot be started ({err}); this run's energy will be absent")
            return
        if answer != "ready":
            why = f"cannot measure ({answer.removeprefix('failed ')})" if answer else "did not answer"
            self._warn(f"{why}; this run's energy will be absent or incomplete")

    def say(self, word: str) -> None:
        """Tell it something; one write that never waits."""
        if self._words_fd < 0:
            return
        try:
            with sigpipe_held():
                os.write(self._words_fd, word.encode() + b"\n")
        except BlockingIOError:
            return  # it has more words to listen to than it can
        except OSError:
            self._words_fd = -1  # it is gone; the end of the run says so

    def go_on_forked(self) -> None:
        """In a forked process: it is the parent's child, which nothing here waits for or ends; words still reach it.

        What is held here of it stays: were its pipe closed, its number would soon be that of a file of the program's.
        """
        if self.process is not None:
            self.process.returncode = 0

    def stop(self) -> None:
        """Let it take its last reading, and wait for its end."""
        process = self.process
        if process is None:
            return
        import subprocess

        if self._words_fd >= 0:
            os.set_blocking(self._words_fd, True)
            self._words_fd = -1
        try:
            with sigpipe_held():
                process.communicate(b"stop\n", timeout=_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            self._warn("did not stop by itself and was ended; its last second may be lost")
        except (OSError, ValueError) as err:
            self._warn(f"was lost ({err}); see `stillwatt ledger verify`")
        if process.stdout is not None:
            process.stdout.close()
        if process.returncode:
            self._warn(f"was lost (status {process.returncode}); this run has a gap")

    def _first_word(self) -> str:
        """Start the process and tell it what to do; gives its answer, empty where none comes."""
        import subprocess

        self.process = subprocess.Popen(
            [sys.executable, "-m", "stillwatt.ledger.recorder"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=sampler_environment(),
            start_new_session=True,
        )
        stdin = self.process.stdin
        assert stdin is not None
        with sigpipe_held():
            stdin.write(json.dumps(self._config).encode() + b"\n")
            stdin.flush()
        answer = first_line(self.process, _READY_TIMEOUT_S)
        if answer == "ready":
            os.set_blocking(stdin.fileno(), False)
            self._words_fd = stdin.fileno()
        return answer
