"""Fakes of instruments that no test machine has: file trees, Python bindings, a controller's web server, a command."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest


def write_tree(root: Path, files: dict[str, str | int]) -> Path:
    """Write files below a folder, one line each; gives the folder."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", encoding="utf-8")
    return root


def grace_tree(root: Path, *, microwatts: int = 90_000_000) -> Path:
    """Two ACPI power meters of a Grace Hopper module."""
    return write_tree(
        root,
        {
            "hwmon2/name": "power_meter",
            "hwmon2/power1_oem_info": "Grace Power Socket 0",
            "hwmon2/power1_average": microwatts,
            "hwmon2/power1_average_interval": 50,
            "hwmon10/name": "power_meter",
            "hwmon10/power1_oem_info": "Module Power Socket 0",
            "hwmon10/power1_average": 5 * microwatts,
            "hwmon3/name": "nvme",
            "hwmon3/temp1_input": 40_000,
        },
    )


def jetson_tree(root: Path, *, labels: tuple[str, ...] = ("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC")) -> Path:
    """The three channels of an INA3221: 5 V and 1 to 3 A."""
    place = "ina3221/1-0040/hwmon/hwmon1"
    files: dict[str, str | int] = {}
    for number, label in enumerate(labels, start=1):
        files |= {
            f"{place}/in{number}_label": label,
            f"{place}/in{number}_input": 5000,
            f"{place}/curr{number}_input": 1000 * number,
        }
    return write_tree(root, files)


def intel_tree(root: Path, *, driver: str = "i915", labels: tuple[str, ...] = ("",)) -> Path:
    """One card with as many counters as labels; the first counts 7 J."""
    files: dict[str, str | int] = {"hwmon4/name": driver}
    for number, label in enumerate(labels, start=1):
        files[f"hwmon4/energy{number}_input"] = 7_000_000 * number
        if label:
            files[f"hwmon4/energy{number}_label"] = label
    return write_tree(root, files)


@dataclass
class FakeAmd:
    """The `amdsmi` binding over made-up cards of constant power; time is told by a function."""

    seconds: Callable[[], float]
    watts: tuple[float, ...] = (200.0, 100.0)
    stuck: frozenset[int] = frozenset()
    """Cards whose accumulator stands still."""
    no_energy: frozenset[int] = frozenset()
    no_power: frozenset[int] = frozenset()
    energy_key: str = "energy_accumulator"
    counts_a_joule: float = 1e6 / 15.3
    processes: Any = ()
    """What `amdsmi_get_gpu_process_list` gives; a text is its error."""
    addresses: tuple[str, ...] = ()
    """On the bus; none where the binding does not tell."""
    partition_ids: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    hip: tuple[tuple[Any, Any], ...] = ()
    """Number and UUID under which HIP knows each; none where the binding does not tell."""
    error: str = ""
    inits: int = 0
    is_initialised: bool = False

    def _listed(self, error: type[Exception]) -> Any:
        self._check(error)
        if isinstance(self.processes, str):
            raise error(self.processes)
        return self.processes

    def module(self) -> types.ModuleType:
        """A module to put in the place of the real one."""
        module = types.ModuleType("amdsmi")

        class AmdSmiException(Exception):
            pass

        def init() -> None:
            if self.error:
                raise AmdSmiException(self.error)
            self.inits += 1
            self.is_initialised = True

        def shut_down() -> None:
            self.is_initialised = False

        def energy(handle: int) -> dict[str, float]:
            self._check(AmdSmiException)
            if handle in self.no_energy:
                raise AmdSmiException("not supported")
            seconds = 0.0 if handle in self.stuck else self.seconds()
            since_boot = 1000 if self.watts[handle] else 0  # a second die counts nothing at all
            counts = int(since_boot + seconds * self.watts[handle] * self.counts_a_joule)
            return {self.energy_key: counts, "counter_resolution": 15.3, "timestamp": 1}

        def power(handle: int) -> dict[str, Any]:
            self._check(AmdSmiException)
            told: Any = "N/A" if handle in self.no_power else self.watts[handle]
            return {"current_socket_power": "N/A", "average_socket_power": told, "gfx_voltage": 0}

        members: dict[str, Any] = {
            "AmdSmiException": AmdSmiException,
            "amdsmi_get_gpu_process_list": lambda _handle: self._listed(AmdSmiException),
            "amdsmi_init": init,
            "amdsmi_shut_down": shut_down,
            "amdsmi_get_processor_handles": lambda: list(range(len(self.watts))),
            "amdsmi_get_gpu_device_uuid": lambda handle: f"uuid-{handle}",
            "amdsmi_get_energy_count": energy,
            "amdsmi_get_power_info": power,
        }
        members |= self._told()
        for name, member in members.items():
            setattr(module, name, member)
        return module

    def _told(self) -> dict[str, Any]:
        """The calls by which a binding tells more of cards, those that it has."""
        told = {
            "amdsmi_get_gpu_device_bdf": self.addresses,
            "amdsmi_get_gpu_kfd_info": [{"current_partition_id": number} for number in self.partition_ids],
            "amdsmi_get_gpu_asic_info": [{"market_name": name} for name in self.names],
            "amdsmi_get_gpu_enumeration_info": [{"hip_id": number, "hip_uuid": uuid} for number, uuid in self.hip],
        }
        return {call: answers.__getitem__ for call, answers in told.items() if answers}

    def _check(self, error: type[Exception]) -> None:
        if self.error or not self.is_initialised:
            raise error(self.error or "not initialised")


@dataclass
class FakeApple:
    """The `zeus_apple_silicon` binding over a chip of constant power."""

    seconds: Callable[[], float]
    missing: frozenset[str] = frozenset({"ane_mj"})
    error: str = ""

    def module(self) -> types.ModuleType:
        """A module to put in the place of the real one."""
        fake, module = self, types.ModuleType("zeus_apple_silicon")
        watts = {"cpu_total_mj": 10.0, "gpu_mj": 20.0, "dram_mj": 2.0, "ane_mj": 1.0}

        class AppleEnergyMonitor:
            def get_cumulative_energy(self) -> types.SimpleNamespace:
                if fake.error:
                    raise RuntimeError(fake.error)
                told = {k: None if k in fake.missing else int(w * fake.seconds() * 1e3) for k, w in watts.items()}
                return types.SimpleNamespace(**told)

        module.AppleEnergyMonitor = AppleEnergyMonitor  # type: ignore[attr-defined]
        return module


def put_module(monkeypatch: pytest.MonkeyPatch, module: types.ModuleType) -> None:
    """Let `import` find the fake."""
    monkeypatch.setitem(sys.modules, module.__name__, module)


@dataclass
class FakeServer:
    """A web server on this machine whose answers are set: a document, text, a status, or silence by path."""

    url: str = ""
    answers: dict[str, Any] = field(default_factory=dict)
    wanted_authorization: str = ""
    asked: list[str] = field(default_factory=list)
    redirects: dict[str, str] = field(default_factory=dict)
    """Where a path is said to be instead."""
    drips_s: float = 0.0
    """Seconds between two bytes of an answer."""
    challenge: str = ""
    """What it answers to who comes without a digest that names its nonce."""
    authorizations: list[str] = field(default_factory=list)

    def answer(self, path: str, authorization: str) -> tuple[int, bytes]:
        """Status and body for a path."""
        self.asked.append(path)
        self.authorizations.append(authorization)
        if self.challenge and not (authorization.startswith("Digest ") and self._nonce() in authorization):
            return 401, b"{}"
        if self.wanted_authorization and authorization != self.wanted_authorization:
            return 401, b"{}"
        found = self.answers.get(path)
        if found is None:
            return 404, b"{}"
        if isinstance(found, int):
            return found, b"{}"
        return 200, found if isinstance(found, bytes) else json.dumps(found).encode()

    def _nonce(self) -> str:
        return self.challenge.partition("nonce=")[2].split(",")[0]


@contextlib.contextmanager
def serving() -> Iterator[FakeServer]:
    """A fake server for as long as it is needed."""
    fake = FakeServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = fake.answer(self.path, self.headers.get("Authorization", ""))
            elsewhere = fake.redirects.get(self.path)
            self.send_response(308 if elsewhere else status)
            if elsewhere:
                self.send_header("Location", elsewhere)
            if status == 401 and fake.challenge:
                self.send_header("WWW-Authenticate", fake.challenge)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # whoever asked may have lost patience
                for byte in body if fake.drips_s else ():
                    self.wfile.write(bytes([byte]))
                    time.sleep(fake.drips_s)
                self.wfile.write(b"" if fake.drips_s else body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


IPMI_ANSWER = """
    Instantaneous power reading:                   220 Watts
    Minimum during sampling period:                 41 Watts
    Maximum during sampling period:                446 Watts
    Average power reading over sample period:      213 Watts
    Power reading state is:                   activated
"""


def fake_ipmitool(folder: Path, *, answer: str = IPMI_ANSWER, status: int = 0, sleep_s: float = 0.0) -> Path:
    """A command that answers as ipmitool does, if it is asked as it should be."""
    path = folder / "ipmitool"
    (folder / "answer").write_text(answer, encoding="utf-8")
    path.write_text(
        "#!/bin/sh\n"
        f"sleep {sleep_s}\n"
        'case "$*" in *"dcmi power reading") ;; *) echo "Invalid command: $*" >&2; exit 1;; esac\n'
        f'cat "{folder}/answer"\nexit {status}\n',
        encoding="utf-8",
    )
    path.chmod(0o755)
    return path
