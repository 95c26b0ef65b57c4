"""Builds the NVML simulator and drives it from Python: known traces behind the real `pynvml` binding.

Import the fixture `nvml_simulator` into a test module or a conftest to use it.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fakes import FakeClock

SOURCES = sorted((Path(__file__).parent / "nvml_simulator").glob("*.c"))
FILE_NAME = "libnvidia-ml.so.1"
SONAME = "libnvidia-ml-simulator.so.1"
"""Not the file's name: else a process that holds the simulator would be handed it for the system's NVML."""
ENVIRONMENT = "NVML_SIMULATOR"
"""Name of the variable that configures a simulator in another process."""


def build(folder: Path, *, omit: Sequence[str] = ()) -> Path:
    """Compile the library into a folder, leaving some symbols out; skips the test where there is no gcc."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("no gcc on this machine: the NVML simulator is compiled from C")
    target = folder / FILE_NAME
    flags = [f"-DOMIT_{name}" for name in omit]
    command = [gcc, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-Wl,-soname,{SONAME}"]
    subprocess.run([*command, *flags, "-o", str(target), *map(str, SOURCES), "-lm"], check=True, timeout=60)
    return target


class NvmlSimulator:
    """One loaded simulator; `path` is what to give to the sensor's option `library`."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._lib = ctypes.CDLL(self.path)
        self._lib.sim_true_energy_j.restype = ctypes.c_double
        self._lib.sim_true_energy_j.argtypes = [ctypes.c_uint, ctypes.c_int64, ctypes.c_int64]
        self._lib.sim_origin_ns.restype = ctypes.c_int64
        self._lib.sim_set_time_ns.argtypes = [ctypes.c_int64]
        self._lib.sim_now_ns.restype = ctypes.c_int64
        self._lib.sim_set_wall_offset_ns.argtypes = [ctypes.c_int64]

    def configure(self, text: str, *, now_ns: int | None = None) -> None:
        """Start the trace described in the C file's head; at a set time, or in real time for None."""
        self.set_time_ns(now_ns)
        self._lib.sim_configure(text.encode())

    def set_time_ns(self, now_ns: int | None) -> None:
        """Move the simulator's clock there, or back to the machine's monotonic clock."""
        self._lib.sim_set_time_ns(-1 if now_ns is None else now_ns)

    @property
    def now_ns(self) -> int:
        """The simulator's time: calls that take time move it on."""
        return int(self._lib.sim_now_ns())

    def set_wall_offset_ns(self, offset_ns: int) -> None:
        """Wall clock less monotonic clock, for the times in the driver's buffer."""
        self._lib.sim_set_wall_offset_ns(offset_ns)

    @property
    def origin_ns(self) -> int:
        """The monotonic time at which the trace began."""
        return int(self._lib.sim_origin_ns())

    def true_energy_j(self, gpu: int, start_ns: int, end_ns: int) -> float:
        """The exact energy of a card between two monotonic times, without the sensor's gain."""
        return float(self._lib.sim_true_energy_j(gpu, start_ns, end_ns))


class SimulatedClock(FakeClock):
    """The simulator's time, which moves on while a call of it takes time."""

    def __init__(self, simulator: NvmlSimulator) -> None:
        super().__init__()
        self._simulator = simulator
        self.set_ns(self.now_ns)

    def set_ns(self, now_ns: int) -> None:
        """Move both clocks there."""
        self.now_ns = now_ns
        self._simulator.set_time_ns(now_ns)

    def monotonic_ns(self) -> int:
        """What the simulator has come to."""
        self.now_ns = self._simulator.now_ns
        return self.now_ns

    def utc_ns(self) -> int:
        """The same, as a label."""
        return self.monotonic_ns() + self.utc_offset_ns


@pytest.fixture(scope="session")
def nvml_simulator_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled library."""
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def nvml_simulator(nvml_simulator_path: Path) -> Iterator[NvmlSimulator]:
    """A simulator with one constant card, in real time; put back when the test is over."""
    simulator = NvmlSimulator(nvml_simulator_path)
    simulator.configure("gpu watts=100")
    yield simulator
    simulator.configure("")
