"""Drivers are named, not imported: a lazy table plus entry points, and the choice that `auto` stands for.

An installed package adds a driver with an entry point in the group `stillwatt.sensors`, whose value is
`module:Class`. A driver of this table cannot be replaced by one of the same name.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from stillwatt.clock import Clock
from stillwatt.errors import SensorUnavailableError, UnknownNameError, UsageError
from stillwatt.records import Absent, Boundary, Channel, Role
from stillwatt.sensors.base import Probe, Sensor
from stillwatt.sensors.calibration import RECALIBRATE, apply_calibrations, read_calibrations
from stillwatt.sensors.needs import check_needs, lacks

AUTO = "auto"
GROUP = "stillwatt.sensors"
Options = Mapping[str, Mapping[str, Any]]

_DRIVERS = {
    "nvml": "stillwatt.sensors.nvml:NvmlSensor",
    "amdsmi": "stillwatt.sensors.amd:AmdSensor",
    "intel_gpu": "stillwatt.sensors.intel_gpu:IntelGpuSensor",
    "apple": "stillwatt.sensors.apple:AppleSensor",
    "jetson": "stillwatt.sensors.jetson:JetsonSensor",
    "rapl": "stillwatt.sensors.rapl:RaplSensor",
    "hwmon": "stillwatt.sensors.hwmon:HwmonSensor",
    "ipmi": "stillwatt.sensors.ipmi:IpmiSensor",
    "redfish": "stillwatt.sensors.redfish:RedfishSensor",
    "smart_plug": "stillwatt.sensors.smart_plug:SmartPlugSensor",
    "host_model": "stillwatt.sensors.host_model:HostModelSensor",
    "synthetic": "stillwatt.sensors.synthetic:SyntheticSensor",
    "replay": "stillwatt.sensors.replay:ReplaySensor",
}
_MEASURING = ("nvml", "rapl", "amdsmi", "intel_gpu", "apple", "jetson", "hwmon")
"""What `auto` takes, the better of two before the other: RAPL counts what an APU's power only samples."""
_TOLD = ("nvml", "rapl", "host_model")
"""Drivers whose not being here is told in every record; of the others only where something of theirs is here."""
BY_NAME = ("ipmi", "redfish", "smart_plug")
"""Drivers that ask somebody else for their numbers: they need an address or a command, and are used when named."""
_SUMMED = (Boundary.CHIP, Boundary.BOARD)
MODEL = "host_model"
_MODELLED_KINDS = ("cpu", "dram")
_HOLDS = {
    "jetson": (re.compile("INA3221 .*"), frozenset({"cpu", "dram", "gpu"})),
    "hwmon": (re.compile(r"power_meter/Grace Power Socket \d+"), frozenset({"dram"})),
}
"""Drivers some of whose devices hold more than their part's name says, with the kinds of parts that are inside them: a
Jetson's supplies feed all of its module, a Grace socket is metered with its memory."""
_ON_CHIP = {"gpu0"}
"""The only card that a module with a GPU on its chip shows to NVML; it has no power of its own."""
_EXPECTED = {
    "nvml": ("gpu0", Boundary.BOARD),
    "amdsmi": ("gpu_amd0", Boundary.BOARD),
    "intel_gpu": ("gpu_intel0", Boundary.BOARD),
    "apple": ("cpu0", Boundary.CHIP),
    "jetson": ("module0", Boundary.BOARD),
    "rapl": ("cpu0", Boundary.CHIP),
    "hwmon": ("node0", Boundary.NODE),
    MODEL: ("cpu0", Boundary.CHIP),
}
"""The part that is missing when a driver was asked for by name and does not know what there would be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSensor:
    """A sensor that was opened, with the channels it will be booked under."""

    sensor: Sensor
    channels: tuple[Channel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """What the names came to on this machine."""

    opened: tuple[OpenSensor, ...]
    probes: tuple[Probe, ...]
    """Every driver that was considered and says something of this machine, usable or not."""
    absent: tuple[Absent, ...]
    """Parts that should have an energy and have no channel."""

    @property
    def channels(self) -> tuple[Channel, ...]:
        """All channels of all opened sensors."""
        return tuple(channel for opened in self.opened for channel in opened.channels)

    def close(self) -> None:
        """Close every sensor."""
        for opened in self.opened:
            opened.sensor.close()


def known_names() -> tuple[str, ...]:
    """Every name that `make_sensor` understands: this package's drivers, then installed ones."""
    return (*_DRIVERS, *(name for name in sorted(_plugins()) if name not in _DRIVERS))


def check_names(names: Iterable[str]) -> None:
    """Refuse a name that is neither a driver nor `auto`; opens nothing.

    Raises:
        UnknownNameError: with the nearest known name.
    """
    for name in names:
        if name != AUTO and name not in _DRIVERS and name not in _plugins():
            raise UnknownNameError("sensor", name, (AUTO, *known_names()))


def check_sensors(names: Sequence[str], options: Options, clock: Clock) -> None:
    """Refuse names and options that cannot be meant together; imports the drivers that are named, opens nothing.

    Raises:
        UnknownNameError: a name or an option that does not exist.
        UsageError: an option is lacking, is one of a sensor that is not read, or has a value that cannot be meant.
    """
    check_names([*names, *options])
    check_needs(names, options)
    read = {*names, *((*_MEASURING, MODEL) if AUTO in names else ())}
    for name in options:
        if name not in read:
            named = ",".join([*names, name])
            raise UsageError(f"sensor {name!r} has an option and is not read; name it too: --sensors {named}")
    for name in dict.fromkeys([*names, *options]):
        if name != AUTO:
            make_sensor(name, clock, **options.get(name, {}))


def make_sensor(name: str, clock: Clock, **options: Any) -> Sensor:
    """Make the driver of that name; imports its module, opens nothing.

    Raises:
        UnknownNameError: no such driver, or the driver has no such option.
        UsageError: an option's value cannot be meant, or an installed driver's class cannot be loaded.
    """
    check_names([name])
    if name == AUTO:
        raise UsageError(f"{AUTO!r} stands for several sensors; use resolve")
    factory = _load(name)
    parameters = inspect.signature(factory).parameters
    known = [key for key in parameters if key not in ("self", "clock")]
    for key in options:
        if key not in known:
            raise UnknownNameError(f"option of sensor {name!r}:", key, known)
    for key in known:
        one = parameters[key]
        if one.kind is one.KEYWORD_ONLY and one.default is one.empty and key not in options:
            raise lacks(name, key)
    try:
        sensor: Sensor = factory(clock, **options)
    except (TypeError, ValueError, AttributeError) as err:
        raise UsageError(f"sensor {name!r}: an option's value cannot be used ({err})") from err
    return sensor


def probe_all(clock: Clock, options: Options | None = None) -> tuple[Probe, ...]:
    """Probe every driver that reads something of this machine, installed ones included; opens nothing.

    The simulated and replayed instruments are left out: they say nothing of the machine. So are those that need an
    address, unless they have options.
    """
    chosen = options or {}
    names = [name for name in known_names() if name not in ("synthetic", "replay", *BY_NAME) or name in chosen]
    return tuple(make_sensor(name, clock, **chosen.get(name, {})).probe() for name in names)


def held_kinds(channels: Iterable[Channel]) -> frozenset[str]:
    """Kinds of parts (`cpu`, `dram`, `gpu`) that lie inside what these meter, so that a model counts them twice."""
    held: frozenset[str] = frozenset()
    for channel in channels:
        device, kinds = _HOLDS.get(channel.driver, (None, held))
        if device and channel.role is Role.LEDGER and channel.boundary in _SUMMED and device.fullmatch(channel.device):
            held |= kinds
    return held


def says_something(probe: Probe) -> bool:
    """Whether a driver that nobody asked for has something to tell of this machine, or is one that most have."""
    return probe.usable or bool(probe.absent) or probe.driver in _TOLD or probe.driver not in _DRIVERS


def resolve(
    names: Sequence[str], clock: Clock, options: Options | None = None, *, calibration: Path | None = None
) -> Resolution:
    """Open what the names stand for; what cannot be used is Absent, never an error.

    `auto` takes every instrument of the machine itself that is usable, and the host model for CPU and DRAM where
    none gives them. A driver named explicitly and not usable leaves its parts Absent; when nothing at all is readable
    the host is modelled instead. A part belongs to the sensor named first; a later one stands beside it as witness, and
    where both give the same stream of it, takes the place of what only `auto` chose.

    Channels that the file `calibration` knows carry its gain; one that was made with another driver is told of in the
    probe's detail and not used.

    Raises:
        UnknownNameError: a name or an option that does not exist; nothing is left open.
        UsageError: an option's value cannot be meant, or two sensors give the same stream.
    """
    check_names(names)
    work = _Resolver(clock, options or {})
    try:
        for name in names:
            if name == AUTO:
                work.add_auto()
            else:
                work.add(name, is_wanted=True)
        if not work.opened:
            work.add_model(_MODELLED_KINDS)
    except BaseException:
        work.finish().close()
        raise
    return _calibrated(work.finish(), calibration)


def _calibrated(found: Resolution, path: Path | None) -> Resolution:
    if path is None or not path.exists():
        return found
    calibrations, problem = read_calibrations(path)
    opened, notes = [], [problem] if problem else []
    for each in found.opened:
        channels, said = apply_calibrations(each.channels, calibrations)
        opened.append(replace(each, channels=channels))
        notes += said
    probes = found.probes
    if notes:
        probes += (Probe(driver="calibration", usable=not problem, detail="; ".join(notes), cure=RECALIBRATE),)
    return replace(found, opened=tuple(opened), probes=probes)


class _Resolver:
    """Collects sensors, probes and absent parts while names are worked off."""

    def __init__(self, clock: Clock, options: Options) -> None:
        self._clock = clock
        self._options = options
        self._considered: set[str] = set()
        self._unasked: set[str] = set()
        """Drivers that `auto` chose."""
        self.opened: list[OpenSensor] = []
        self._probes: list[Probe] = []
        self._absent: list[Absent] = []

    def add_auto(self) -> None:
        """Take what this machine has, and model the rest of the host."""
        self._unasked.update(name for name in _MEASURING if name not in self._considered)
        for name in _MEASURING:
            self.add(name, is_wanted=False)
        channels = self.finish().channels
        given = {channel.part for channel in channels} | held_kinds(channels)
        self.add_model([kind for kind in _MODELLED_KINDS if not any(part.startswith(kind) for part in given)])

    def add_model(self, kinds: Sequence[str]) -> None:
        """Model those kinds of part."""
        if kinds:
            self.add(MODEL, is_wanted=False, defaults={"parts": list(kinds)})

    def add(self, name: str, *, is_wanted: bool, defaults: Mapping[str, Any] | None = None) -> None:
        """Probe and open one driver; a name that came before is not taken twice."""
        if name in self._considered:
            return
        self._considered.add(name)
        sensor = make_sensor(name, self._clock, **{**(defaults or {}), **self._options.get(name, {})})
        probe = sensor.probe()
        if probe.usable:
            try:
                self._take(OpenSensor(sensor=sensor, channels=sensor.open()), is_wanted=is_wanted)
            except SensorUnavailableError as err:
                probe = replace(probe, usable=False, detail=err.detail, cure=err.cure, channels=())
        if is_wanted or says_something(probe) or name in self._options:
            self._probes.append(probe)
        self._absent.extend(probe.absent)
        if is_wanted and not probe.usable and not probe.absent:
            part, boundary = _EXPECTED.get(name, (name, Boundary.COMPONENTS))
            self._absent.append(Absent(part=part, boundary=boundary, reason=f"{name}: {probe.detail}"))

    def finish(self) -> Resolution:
        """What came of it; a part that some sensor gives is not absent, and a model of what one holds is left out."""
        self._leave_out_held()
        channels = [channel for opened in self.opened for channel in opened.channels]
        parts = {channel.part for channel in channels}
        modelled = {kind_of(one.part) for one in channels if one.driver == MODEL and one.role is Role.LEDGER}
        absent = {
            item.part: item
            for item in reversed(self._absent)
            if item.part not in parts
            and kind_of(item.part) not in modelled  # a model stands for all packages of the host
        }
        if "gpu" in held_kinds(channels) and {part for part in absent if part.startswith("gpu")} == _ON_CHIP:
            del absent["gpu0"]
        return Resolution(
            opened=tuple(self.opened),
            probes=tuple(self._probes),
            absent=tuple(absent[part] for part in sorted(absent)),
        )

    def _leave_out_held(self) -> None:
        """Drop models of parts that lie inside what an instrument meters, and say so: they would be added twice."""
        channels = [channel for opened in self.opened for channel in opened.channels]
        held = held_kinds(channels)
        inside = [one for one in channels if one.driver == MODEL and kind_of(one.part) in held]
        if inside:
            self._drop(lambda one: one in inside)
            holders = " and ".join(sorted({one.driver for one in channels if held_kinds([one])}))
            note = f"; left out, as metered by {holders}: {', '.join(sorted({one.part for one in inside}))}"
            self._probes = [
                replace(probe, detail=probe.detail + note) if probe.driver == MODEL else probe for probe in self._probes
            ]

    def _give_way(self, streams: set[str]) -> None:
        """Drop what `auto` chose of these streams: they were asked of somebody else by name."""
        self._drop(lambda one: one.driver in self._unasked and one.stream in streams)

    def _drop(self, is_dropped: Callable[[Channel], bool]) -> None:
        """Drop channels; a sensor that has none left is closed."""
        kept = []
        for opened in self.opened:
            left = tuple(one for one in opened.channels if not is_dropped(one))
            if left:
                kept.append(replace(opened, channels=left))
            else:
                opened.sensor.close()
        self.opened = kept

    def _take(self, fresh: OpenSensor, *, is_wanted: bool) -> None:
        if is_wanted:
            self._give_way({channel.stream for channel in fresh.channels})
        taken = [channel for opened in self.opened for channel in opened.channels]
        fresh = replace(fresh, channels=tuple(one for one in fresh.channels if not _is_twice(one, taken)))
        owner = {channel.stream: channel.driver for channel in taken}
        booked = {channel.part for channel in taken if channel.role is Role.LEDGER}
        if not is_wanted:  # chosen by `auto`: of what it gives, the parts that no better instrument gives already
            fresh = replace(fresh, channels=tuple(one for one in fresh.channels if one.part not in booked))
        if not fresh.channels:
            fresh.sensor.close()
            return
        for channel in fresh.channels:
            if channel.stream in owner:
                fresh.sensor.close()
                raise UsageError(
                    f"sensors {owner[channel.stream]!r} and {channel.driver!r} both give {channel.stream}; name one"
                )
        channels = tuple(
            replace(channel, role=Role.WITNESS) if channel.part in booked else channel for channel in fresh.channels
        )
        self.opened.append(OpenSensor(sensor=fresh.sensor, channels=channels))


def kind_of(part: str) -> str:
    """What a part is, without its number.

    >>> kind_of("cpu0"), kind_of("gpu_amd12")
    ('cpu', 'gpu_amd')
    """
    return part.rstrip("0123456789")


def _is_twice(fresh: Channel, taken: Sequence[Channel]) -> bool:
    """Whether a model of the whole host and an instrument of one of its packages would both be booked."""
    rivals = {
        one.part
        for one in taken
        if one.role is Role.LEDGER
        and kind_of(one.part) == kind_of(fresh.part)
        and (one.driver == MODEL) != (fresh.driver == MODEL)
    }
    return bool(rivals) and fresh.part not in rivals


def _load(name: str) -> Any:
    target = _DRIVERS.get(name) or _plugins()[name]
    module, _, attribute = target.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as err:
        raise UsageError(f"sensor {name!r}: its entry point {target!r} cannot be loaded ({err})") from err


def _plugins() -> dict[str, str]:
    from importlib.metadata import entry_points  # costs a megabyte or two, and most runs need no plug-in

    return {point.name: point.value for point in entry_points(group=GROUP)}
