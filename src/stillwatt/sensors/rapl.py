"""RAPL through Linux powercap: one energy counter per CPU package and per DRAM zone, in microjoules.

Packages become `cpu0`, `cpu1`, …, their DRAM zones `dram0`, `dram1`, … of the same number. Three more kinds are read
where `parts` names them, and added to nothing: `psys`, where the board has it wired, covers the platform that the
packages are part of (boundary `node`); `core` and `uncore` lie inside a package (boundary `rail`). The
`intel-rapl-mmio` tree shows the same packages a second time and is not read. AMD's CPUs show their packages in the
same tree, and as `core` the energy of one core of each, since the counter is a core's own there.

The counters are 32 bits wide in hardware and wrap after 66 or 262 kJ (5 or 22 minutes at 200 W); every counter
is its own channel with its own modulus, so a wrap is found as long as readings are closer than that.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stillwatt.clock import Clock
from stillwatt.errors import SensorUnavailableError, UsageError
from stillwatt.records import Absent, Basis, Boundary, Channel, Quantity, ReadFailure, Reading, Role
from stillwatt.sensors.base import Probe
from stillwatt.units import J_PER_UJ, NS_PER_MS

_PACKAGE = re.compile(r"package-(\d+)(?:-die-(\d+))?")
_ZONE = re.compile(r"intel-rapl:\d+(?::\d+)?")
_PARTS = ("package", "dram", "psys", "core", "uncore")
_UPDATE_PERIOD_NS = NS_PER_MS
"""The hardware refreshes its counters about every millisecond."""
_COUNT_BYTES = 32
_MIRROR_UJ = 1_000_000
"""Two dies of one package whose counters lie within a joule of each other show one and the same counter."""
_CURE_MISSING = (
    "RAPL needs an x86 CPU with the intel_rapl_common and intel_rapl_msr modules (`sudo modprobe intel_rapl_msr`); "
    "virtual machines and most containers do not show it, and the host is modelled instead"
)
_CURE_UNREADABLE = (
    "since 2020 the kernel lets only root read it (CVE-2020-8694); "
    "`sudo chmod a+r {root}/intel-rapl:*/energy_uj` opens it until the next boot, docs/reference/sensors.md has a "
    "udev rule that lasts"
)


@dataclass(slots=True)
class _Counter:
    """One `energy_uj` file, kept open: reading it again at offset 0 costs one system call."""

    path: Path
    channel: Channel
    fd: int = -1

    def read_uj(self) -> int:
        """The count now; opens the file again after a failure, so that a reloaded module is found."""
        if self.fd < 0:
            self.fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return int(os.pread(self.fd, _COUNT_BYTES, 0))
        except (OSError, ValueError):
            self.close()
            raise

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class RaplSensor:
    """CPU packages, DRAM and what else `parts` names, by powercap's energy counters.

    `root` is the powercap tree, `parts` some of `package`, `dram`, `psys`, `core`, `uncore`. `gain_rel` and
    `dram_gain_rel` bound the systematic error of packages and of DRAM; the defaults are wide because no maker states
    one (docs/method.md, section on instruments).
    """

    driver = "rapl"

    def __init__(
        self,
        clock: Clock,
        *,
        root: str | os.PathLike[str] = "/sys/class/powercap",
        parts: Sequence[str] = ("package", "dram"),
        gain_rel: float = 0.05,
        dram_gain_rel: float = 0.2,
    ) -> None:
        unknown = [part for part in parts if part not in _PARTS]
        if unknown or "package" not in parts:
            raise UsageError(f"sensor 'rapl': parts must be package and some of {', '.join(_PARTS)}, not {list(parts)}")
        for name, value in (("gain_rel", gain_rel), ("dram_gain_rel", dram_gain_rel)):
            if not 0.0 <= value < 1.0:
                raise UsageError(f"sensor 'rapl': {name} = {value} must be a fraction from 0 to below 1")
        self._clock = clock
        self._root = Path(root)
        self._parts = tuple(parts)
        self._gain_rel = gain_rel
        self._dram_gain_rel = dram_gain_rel
        self._counters: tuple[_Counter, ...] = ()

    def probe(self) -> Probe:
        """Look for readable counters; says which file is in the way and what opens it."""
        try:
            counters, notes = self._find()
        except SensorUnavailableError as err:
            return Probe(driver=self.driver, usable=False, detail=err.detail, cure=err.cure)
        readable, refused = [], []
        for counter in counters:
            try:
                counter.read_uj()
                readable.append(counter.channel)
            except (OSError, ValueError) as err:
                refused.append((counter, _why(counter.path, err)))
            finally:
                counter.close()
        absent = tuple(
            Absent(part=counter.channel.part, boundary=Boundary.CHIP, reason=f"rapl: {why}") for counter, why in refused
        )
        found = f"{len(readable)} of {len(counters)} energy counters readable in {self._root}"
        return Probe(
            driver=self.driver,
            usable=bool(readable),
            detail="; ".join([found, *(why for _, why in refused), *notes]),
            cure=_CURE_UNREADABLE.format(root=self._root) if refused else "",
            channels=tuple(readable),
            absent=absent,
        )

    def open(self) -> tuple[Channel, ...]:
        """Open every readable counter.

        Raises:
            SensorUnavailableError: there is none.
        """
        if not self._counters:
            probe = self.probe()
            if not probe.usable:
                raise SensorUnavailableError(self.driver, probe.detail, probe.cure)
            streams = {channel.stream for channel in probe.channels}
            self._counters = tuple(counter for counter in self._find()[0] if counter.channel.stream in streams)
        return tuple(counter.channel for counter in self._counters)

    def read(self) -> Sequence[Reading | ReadFailure]:
        """Read every counter; the counts of one reading are not taken at one instant, so each has its own stamp."""
        return [self._read_one(counter) for counter in self._counters]

    def close(self) -> None:
        """Close the counters' files."""
        for counter in self._counters:
            counter.close()
        self._counters = ()

    def _read_one(self, counter: _Counter) -> Reading | ReadFailure:
        stream = counter.channel.stream
        try:
            count_uj = counter.read_uj()
        except (OSError, ValueError) as err:
            return ReadFailure(stream=stream, t_ns=self._clock.monotonic_ns(), reason=_why(counter.path, err))
        return Reading(stream=stream, t_ns=self._clock.monotonic_ns(), count=float(count_uj))

    def _find(self) -> tuple[list[_Counter], list[str]]:
        """Every counter of the tree, readable or not, in the order of package and die; and what was left out."""
        zones = self._zones()
        packages = []
        for zone, name in zones.items():
            match = _PACKAGE.fullmatch(name)
            if match:
                packages.append((int(match[1]), int(match[2] or 0), zone))
        packages, notes = self._without_mirrors(sorted(packages))
        if not packages:
            raise SensorUnavailableError(self.driver, f"no CPU package in {self._root}", _CURE_MISSING)
        counters = [
            self._counter(f"cpu{number}", zone, zones[zone], Boundary.CHIP)
            for number, (_, _, zone) in enumerate(packages)
        ]
        for kind in ("dram", "core", "uncore"):
            boundary = Boundary.CHIP if kind == "dram" else Boundary.RAIL
            for number, (_, _, zone) in enumerate(packages):
                inner = [name for name in zones if name.startswith(f"{zone}:") and zones[name] == kind]
                wanted = inner[:1] if kind in self._parts else []
                counters.extend(self._counter(f"{kind}{number}", name, kind, boundary) for name in wanted)
        return [*counters, *self._platform(zones)], notes

    def _platform(self, zones: Mapping[str, str]) -> list[_Counter]:
        """The platform's counter; one that has not moved since the machine started is not wired."""
        found = [zone for zone, name in zones.items() if name == "psys" and "psys" in self._parts]
        moving = [zone for zone in found if _peek_uj(self._root / zone / "energy_uj") != 0]
        return [self._counter(f"psys{number}", zone, "psys", Boundary.NODE) for number, zone in enumerate(moving)]

    def _zones(self) -> dict[str, str]:
        """Zone directory to zone name, of the MSR tree only."""
        try:
            names = sorted(entry for entry in os.listdir(self._root) if _ZONE.fullmatch(entry))
        except OSError as err:
            raise SensorUnavailableError(self.driver, f"{self._root}: {err.strerror}", _CURE_MISSING) from err
        zones = {}
        for name in names:
            try:
                zones[name] = (self._root / name / "name").read_text(encoding="ascii").strip()
            except (OSError, ValueError):
                continue  # a zone without a name is none of those this driver reads
        return zones

    def _without_mirrors(self, packages: list[tuple[int, int, str]]) -> tuple[list[tuple[int, int, str]], list[str]]:
        """Leave out dies that show the counter of another die of their package once more (some EPYC, Threadripper)."""
        kept: list[tuple[int, int, str]] = []
        counts_uj: dict[str, int] = {}
        notes = []
        for package, die, zone in packages:
            count_uj = _peek_uj(self._root / zone / "energy_uj")
            twin = next(
                (other for number, _, other in kept if number == package and _is_same(count_uj, counts_uj.get(other))),
                None,
            )
            if twin is not None:
                notes.append(f"{zone} left out: it shows the counter of {twin} a second time")
                continue
            if count_uj is not None:
                counts_uj[zone] = count_uj
            kept.append((package, die, zone))
        return kept, notes

    def _counter(self, part: str, zone: str, name: str, boundary: Boundary) -> _Counter:
        gain_rel = self._dram_gain_rel if name == "dram" else self._gain_rel
        path = self._root / zone / "energy_uj"
        range_uj = _peek_uj(self._root / zone / "max_energy_range_uj")
        modulus = range_uj + 1 if range_uj else None
        wrap = f"wraps after {round(modulus * J_PER_UJ)} J" if modulus else "wrap range unknown"
        channel = Channel(
            part=part,
            device=f"{zone}/{name}",
            boundary=boundary,
            quantity=Quantity.ENERGY_COUNTER,
            role=Role.LEDGER,
            unit_si=J_PER_UJ,
            driver=self.driver,
            basis=Basis.MEASURED,
            gain_low_rel=gain_rel,
            gain_high_rel=gain_rel,
            update_period_ns=_UPDATE_PERIOD_NS,
            modulus=modulus,
            source=f"{path} ({name}); {wrap}",
        )
        return _Counter(path=path, channel=channel)


def _peek_uj(path: Path) -> int | None:
    """A whole number in a file, or None where it cannot be read."""
    try:
        return int(path.read_bytes())
    except (OSError, ValueError):
        return None


def _is_same(count_uj: int | None, other_uj: int | None) -> bool:
    """Whether two counters that have both run for a while show the same count."""
    if count_uj is None or other_uj is None or min(count_uj, other_uj) < 100 * _MIRROR_UJ:
        return False
    return abs(count_uj - other_uj) < _MIRROR_UJ


def _why(path: Path, err: OSError | ValueError) -> str:
    """Which file, and what the system said.

    >>> _why(Path("/sys/x/energy_uj"), PermissionError(13, "Permission denied"))
    '/sys/x/energy_uj: Permission denied (readable by root only)'
    """
    if isinstance(err, PermissionError):
        return f"{path}: {err.strerror} (readable by root only)"
    return f"{path}: {err.strerror if isinstance(err, OSError) else f'not a number ({err})'}"
