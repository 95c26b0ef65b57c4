"""What every test gets: a home of its own, no environment from outside, no network but loopback."""

from __future__ import annotations

import gc
import ipaddress
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# machines are shared, so no example has a deadline; on CI the same examples each time, elsewhere new ones
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

# models here are tiny: a second thread of torch waits more than it works, and takes the core of a test beside this one
os.environ.setdefault("OMP_NUM_THREADS", "1")

_MANY_MODULES = 50
_imported = 0
_REAL_CONNECT = socket.socket.connect


def _guarded_connect(self: socket.socket, address: Any) -> None:
    if self.family in (socket.AF_INET, socket.AF_INET6):
        host = str(address[0])
        try:
            is_local = ipaddress.ip_address(host).is_loopback
        except ValueError:
            is_local = host == "localhost"
        if not is_local:
            raise RuntimeError(f"a test tried to reach {host}; tests use loopback only")
    _REAL_CONNECT(self, address)


@pytest.fixture(autouse=True)
def _imports_set_aside() -> None:
    """What is imported by now stays for good: collections, of which a study makes one a stage, need not look at it."""
    global _imported
    if len(sys.modules) > _imported + _MANY_MODULES:
        gc.collect()
        gc.freeze()
        _imported = len(sys.modules)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", _guarded_connect)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test sees the user's home, settings or job, and child processes stay offline too."""
    for name in list(os.environ):
        if name.startswith(("STILLWATT_", "HF_", "WANDB_", "CUDA_VISIBLE", "SLURM_", "OMPI_", "PMI")):
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("STILLWATT_HOME", str(home / "stillwatt"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    """Where a test's runs go."""
    return tmp_path / "runs"
