"""Fakes in plain code: a clock that is set, a sensor that does as it is told, a powercap tree on disk."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stillwatt.errors import SensorUnavailableError
from stillwatt.records import Basis, Boundary, Channel, NotDue, Quantity, ReadFailure, Reading, Readings, Role
from stillwatt.sensors import Probe
from stillwatt.sensors.base import Result
from stillwatt.units import NS_PER_MS, NS_PER_S

DEFAULT_RANGE_UJ = 262_143_328_850
"""What most server packages state as `max_energy_range_uj`."""


@dataclass(slots=True)
class FakeClock:
    """A clock that stands still until it is advanced; both of its times move together."""

    now_ns: int = NS_PER_S
    utc_offset_ns: int = 1_700_000_000 * NS_PER_S

    def monotonic_ns(self) -> int:
        """The set time."""
        return self.now_ns

    def utc_ns(self) -> int:
        """The set time, as a label."""
        return self.now_ns + self.utc_offset_ns

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now_ns += round(seconds * NS_PER_S)


def fake_channel(
    part: str = "gpu0",
    quantity: Quantity = Quantity.POWER,
    *,
    role: Role = Role.LEDGER,
    driver: str = "fake",
    modulus: int | None = None,
    boundary: Boundary = Boundary.BOARD,
    basis: Basis = Basis.MEASURED,
    unit_si: float = 1.0,
    gain_rel: float = 0.05,
    update_period_ns: int = 100 * NS_PER_MS,
) -> Channel:
    """A channel with everything filled in."""
    return Channel(
        part=part,
        device="fake-device",
        boundary=boundary,
        quantity=quantity,
        role=role,
        unit_si=unit_si,
        driver=driver,
        basis=basis,
        gain_low_rel=gain_rel,
        gain_high_rel=gain_rel,
        update_period_ns=update_period_ns,
        modulus=modulus,
        source="a test",
    )


Outcome = float | str | BaseException
"""What a reading comes to: a count, the reason of a failure, or an exception that the driver lets out."""


@dataclass
class FakeSensor:
    """A sensor that gives the counts it is told, in turn, and the last one from then on.

    `before_read` runs at the start of every reading, e.g. to advance the clock or to hang.
    """

    clock: FakeClock
    channels: Sequence[Channel] = field(default_factory=lambda: (fake_channel(),))
    outcomes: Mapping[str, Sequence[Outcome]] = field(default_factory=dict)
    driver: str = "fake"
    unavailable: str = ""
    before_read: Callable[[], object] = lambda: None
    reads: int = 0
    is_open: bool = False
    closes: int = 0

    def probe(self) -> Probe:
        """Usable unless told otherwise."""
        if self.unavailable:
            return Probe(driver=self.driver, usable=False, detail=self.unavailable, cure="none: it is a fake")
        return Probe(driver=self.driver, usable=True, detail="a fake", channels=tuple(self.channels))

    def open(self) -> tuple[Channel, ...]:
        """Open, or say why not."""
        if self.unavailable:
            raise SensorUnavailableError(self.driver, self.unavailable, "none: it is a fake")
        self.is_open = True
        return tuple(self.channels)

    def read(self) -> Sequence[Reading | ReadFailure]:
        """The next outcome of every stream."""
        self.before_read()
        self.reads += 1
        results: list[Reading | ReadFailure] = []
        for channel in self.channels:
            told = self.outcomes.get(channel.stream, (1.0,))
            outcome = told[min(self.reads, len(told)) - 1]
            if isinstance(outcome, BaseException):
                raise outcome
            t_ns = self.clock.monotonic_ns()
            if isinstance(outcome, str):
                results.append(ReadFailure(stream=channel.stream, t_ns=t_ns, reason=outcome))
            else:
                results.append(Reading(stream=channel.stream, t_ns=t_ns, count=outcome))
        return results

    def close(self) -> None:
        """Close."""
        self.is_open = False
        self.closes += 1


def single(results: Sequence[Result]) -> list[Reading | ReadFailure | NotDue]:
    """Results of one reading, those that came together taken apart."""
    found: list[Reading | ReadFailure | NotDue] = []
    for result in results:
        if isinstance(result, Readings):
            pairs = zip(result.times_ns, result.counts, strict=True)
            found += [Reading(result.stream, t_ns, count) for t_ns, count in pairs]
        else:
            found.append(result)
    return found


@dataclass(frozen=True, slots=True)
class FakePowercap:
    """A powercap tree of plain files, laid out flat as /sys/class/powercap is."""

    root: Path

    def zone(
        self, zone: str, name: str, *, energy_uj: int | str | None = 0, range_uj: int | None = DEFAULT_RANGE_UJ
    ) -> None:
        """Add a zone, or write it anew; None leaves a file out."""
        folder = self.root / zone
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "name").write_text(f"{name}\n", encoding="ascii")
        for file, value in (("energy_uj", energy_uj), ("max_energy_range_uj", range_uj)):
            if value is not None:
                (folder / file).write_text(f"{value}\n", encoding="ascii")

    def set_uj(self, zone: str, energy_uj: int | str) -> None:
        """Set a zone's counter."""
        (self.root / zone / "energy_uj").write_text(f"{energy_uj}\n", encoding="ascii")


def fake_powercap(
    tmp_path: Path, *, packages: int = 2, with_dram: bool = True, energy_uj: int = 5_000_000
) -> FakePowercap:
    """A tree as a server shows it: packages with core and DRAM zones, psys, and the MMIO tree's duplicates."""
    tree = FakePowercap(tmp_path / "powercap")
    tree.root.mkdir(parents=True, exist_ok=True)
    (tree.root / "intel-rapl").mkdir(exist_ok=True)
    for number in range(packages):
        tree.zone(f"intel-rapl:{number}", f"package-{number}", energy_uj=energy_uj + number)
        tree.zone(f"intel-rapl:{number}:0", "core", energy_uj=energy_uj // 2)
        if with_dram:
            tree.zone(f"intel-rapl:{number}:1", "dram", energy_uj=energy_uj // 4, range_uj=65_712_999_613)
        tree.zone(f"intel-rapl-mmio:{number}", f"package-{number}", energy_uj=energy_uj + number)
    tree.zone(f"intel-rapl:{packages}", "psys", energy_uj=10 * energy_uj)
    return tree


def fake_proc(folder: Path, *, num_cpus: int = 4, memory_kib: int = 16 * 1024 * 1024) -> Path:
    """A /proc with CPU times of 0; `set_cpu_ticks` moves them on."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "meminfo").write_text(f"MemTotal:       {memory_kib} kB\nMemFree:        1 kB\n", encoding="ascii")
    set_cpu_ticks(folder, busy=0, idle=0, num_cpus=num_cpus)
    return folder


def set_cpu_ticks(folder: Path, *, busy: int, idle: int, num_cpus: int = 4, steal: int = 0) -> None:
    """Write the summed CPU times since boot; `busy` goes to user time."""
    lines = [f"cpu  {busy} 0 0 {idle} 0 0 0 {steal} 0 0"]
    lines += [f"cpu{number} {busy // num_cpus} 0 0 {idle // num_cpus} 0 0 0 0 0 0" for number in range(num_cpus)]
    (folder / "stat").write_text("\n".join([*lines, "intr 1 2 3", ""]), encoding="ascii")


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Run the block as a user who may not read what belongs to root; root is put back afterwards."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder that every user may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)
