"""What a sampling process is started with, and its first word. Standard library only."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess


def sampler_environment() -> dict[str, str]:
    """The program's own environment, less what would make the sampling process heavy or noisy."""
    environment = dict(os.environ)
    for name in ("PYTHONWARNINGS", "PYTHONPROFILEIMPORTTIME", "COVERAGE_PROCESS_START", "LD_PRELOAD"):
        environment.pop(name, None)
    return environment


def first_line(sampler: subprocess.Popen[bytes], timeout_s: float) -> str:
    """Wait for the sampling process's first line; empty when it dies or stays silent."""
    answer: list[bytes] = []
    stdout = sampler.stdout
    assert stdout is not None
    reader = threading.Thread(target=lambda: answer.append(stdout.readline()), daemon=True)
    reader.start()
    reader.join(timeout_s)
    return answer[0].decode("utf-8", "replace").strip() if answer else ""
