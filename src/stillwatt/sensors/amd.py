"""AMD GPUs through `amdsmi`: the energy accumulator as ledger where it moves, socket power beside it.

The accumulator is known to stand still, or to give nonsense, on some cards and drivers (MI100 and MI210 among them:
ROCm/amdsmi issue 38). It is therefore tried at `open` against the card's own power over some updates, and power is
booked instead where the two do not fit; the channel's source says so. While it is read, the account checks counter
against power again (docs/method.md, eq. 7b).

One socket is one part, whatever partitions it is in. Of a card with two dies (MI250) the library lists both, and the
second shows 0 W and 0 J: its energy is in the first's. An APU's power holds its CPU's, so it is a CPU package's part.

`import amdsmi` without ROCm prints and raises KeyError as well as ImportError; both are caught and its words kept back.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stillwatt.clock import Clock
from stillwatt.errors import SensorUnavailableError, UsageError
from stillwatt.records import (
    Absent,
    Basis,
    Boundary,
    Card,
    Channel,
    DeviceUse,
    DeviceUser,
    Quantity,
    ReadFailure,
    Reading,
    Role,
)
from stillwatt.sensors.amd_sockets import Socket, as_hip_counts, num_cards_seen, sockets
from stillwatt.sensors.base import Probe
from stillwatt.sensors.processes import Processes
from stillwatt.units import J_PER_UJ, NS_PER_MS, seconds

_UPDATE_NS = 100 * NS_PER_MS
"""At most: the accumulator is renewed about every millisecond to tens of them, power about every 100 ms."""
_TRIAL_NS = 3 * _UPDATE_NS
_LEAST_W = 5.0
"""A card that draws more must move its counter within the trial; one that draws less is held to draw up to this."""
_LEAST_RATIO, _MOST_RATIO = 0.2, 5.0
"""Counter over power in the trial: beyond these the counter is not energy in the unit that it states."""
_RESOLUTION_UJ = 15.3
"""Microjoules of one count where the driver does not tell."""
_POWERS = ("current_socket_power", "average_socket_power", "socket_power")
_CURE_MISSING = "install ROCm's AMD SMI library, then: pip install amdsmi (of your ROCm's version)"
_CURE_ACCESS = "let this user read /dev/kfd and /dev/dri/renderD* (group `render`), and load the amdgpu module"


@dataclass(slots=True)
class _Card:
    part: str
    device: str
    socket: Socket
    looked_ns: int | None = None
    """When it was last looked at who is on it."""
    resolution_uj: float = _RESOLUTION_UJ
    channels: list[tuple[Channel, Callable[[], float]]] = field(default_factory=list)

    @property
    def handle(self) -> Any:
        """Of its first partition, which is the one that always shows the socket's power and energy."""
        return self.socket.handles[0]


class AmdSensor:
    """Energy accumulator and power of every AMD GPU.

    `devices` limits it to some, by index. `gain_rel` bounds the systematic error, which AMD does not state. `sleep`
    waits during the counter's trial; tests pass one that moves their clock. `kfd_root` is where the kernel would show
    that there are cards although the library cannot be used, `pci_root` where it shows devices by their addresses.
    """

    driver = "amdsmi"

    def __init__(
        self,
        clock: Clock,
        *,
        devices: Sequence[int] | None = None,
        gain_rel: float = 0.05,
        sleep: Callable[[float], object] = time.sleep,
        kfd_root: str = "/sys/class/kfd/kfd/topology/nodes",
        pci_root: str = "/sys/bus/pci/devices",
    ) -> None:
        if not 0.0 <= gain_rel < 1.0:
            raise UsageError(f"sensor 'amdsmi': gain_rel = {gain_rel} must be a fraction from 0 to below 1")
        self._clock = clock
        self._wanted = None if devices is None else tuple(devices)
        self._gain_rel = gain_rel
        self._sleep = sleep
        self._kfd_root, self._pci_root = Path(kfd_root), Path(pci_root)
        self._processes = Processes(device_prefix="/dev/kfd")
        self._smi: Any = None
        self._cards: list[_Card] = []
        self._absent: list[Absent] = []
        self._notes: list[str] = []
        """What is left out without being missed."""
        self._shown_by: dict[str, str] = {}
        """Of second dies, the part that shows what they draw."""

    def probe(self) -> Probe:
        """List the cards and what can be read of each."""
        was_open = self._smi is not None
        try:
            channels = self.open()
        except SensorUnavailableError as err:
            absent = tuple(self._absent) or self._seen_cards(err.detail)
            return Probe(driver=self.driver, usable=False, detail=err.detail, cure=err.cure, absent=absent)
        about = [f"{card.part} {card.device}: {card.channels[0][0].quantity.value}" for card in self._cards]
        detail = "; ".join([*about, *(absent.reason for absent in self._absent), *self._notes])
        absent = tuple(self._absent)
        if not was_open:
            self.close()
        return Probe(driver=self.driver, usable=True, detail=detail, channels=channels, absent=absent)

    def open(self) -> tuple[Channel, ...]:
        """Initialise the library, find the cards and try their counters.

        Raises:
            SensorUnavailableError: no binding, no library, no card, or no card with power or energy.
        """
        if self._smi is None:
            self._absent, self._notes, self._shown_by = [], [], {}
            smi = _load()
            try:
                smi.amdsmi_init()
                self._smi = smi
                self._find_cards()
            except smi.AmdSmiException as err:
                self.close()
                raise SensorUnavailableError(self.driver, f"amdsmi: {err}", _CURE_ACCESS) from err
            if not self._cards:
                detail = "; ".join(absent.reason for absent in self._absent) or "amdsmi: no AMD GPU"
                self.close()
                raise SensorUnavailableError(self.driver, detail, _CURE_ACCESS)
        return tuple(channel for card in self._cards for channel, _ in card.channels)

    def read(self) -> Sequence[Reading | ReadFailure]:
        """Read every stream; the library's errors become failures in its own words."""
        return [self._read_one(channel, read) for card in self._cards for channel, read in card.channels]

    def cards(self) -> tuple[Card, ...]:
        """Every card that the library lists; a partition is one that HIP counts, and its socket's part."""
        smi = self._smi
        if smi is None:
            return ()
        try:
            found = sockets(smi, smi.amdsmi_get_processor_handles(), self._pci_root)
        except smi.AmdSmiException:
            return ()
        names = [self._shown_by.get(name, name) for name in _names(found)]
        return tuple(as_hip_counts(smi, found, names))

    def users(self, parts: Container[str]) -> tuple[DeviceUse, ...]:
        """The processes on these cards with their memory; AMD states no share of time by process."""
        smi = self._smi  # another thread may close this sensor meanwhile
        wanted = [card for card in self._cards if card.part in parts and not card.socket.holds_cpu]
        return () if smi is None else tuple(self._look(smi, card) for card in wanted)

    def _look(self, smi: Any, card: _Card) -> DeviceUse:
        now_ns = self._clock.monotonic_ns()
        since_ns, card.looked_ns = now_ns if card.looked_ns is None else card.looked_ns, now_ns
        users, reason = None, "amdsmi_get_gpu_process_list: no share of time by process"
        try:
            found = [one for handle in card.socket.handles for one in smi.amdsmi_get_gpu_process_list(handle)]
            memory = {int(entry["pid"]): entry.get("memory_usage") for entry in found}
            users = tuple(self._user(pid, used) for pid, used in memory.items())
        except (smi.AmdSmiException, AttributeError, KeyError, TypeError, ValueError) as err:
            reason = f"amdsmi_get_gpu_process_list: {err or type(err).__name__}"
        return DeviceUse(part=card.part, since_ns=since_ns, t_ns=now_ns, users=users, reason=reason)

    def _user(self, pid: int, memory: Any) -> DeviceUser:
        used = memory.get("vram_mem") if isinstance(memory, dict) else None
        return DeviceUser(
            pid=pid,
            chain=self._processes.chain(pid),
            memory_bytes=used if isinstance(used, int) else None,
            same_user=self._processes.is_same_user(pid),
        )

    def close(self) -> None:
        """Shut the library down."""
        if self._smi is not None:
            with contextlib.suppress(self._smi.AmdSmiException):
                self._smi.amdsmi_shut_down()
        self._smi, self._cards = None, []

    def _read_one(self, channel: Channel, read: Callable[[], float]) -> Reading | ReadFailure:
        begun_ns = self._clock.monotonic_ns()
        try:
            count = read()
        except (self._smi.AmdSmiException, ValueError, KeyError, TypeError) as err:
            reason = f"amdsmi: {err or type(err).__name__}"
            return ReadFailure(stream=channel.stream, t_ns=self._clock.monotonic_ns(), reason=reason)
        return Reading(stream=channel.stream, t_ns=(begun_ns + self._clock.monotonic_ns()) // 2, count=count)

    def _find_cards(self) -> None:
        handles = self._smi.amdsmi_get_processor_handles()
        chosen = [socket for socket in sockets(self._smi, handles, self._pci_root) if socket.has(self._wanted)]
        names = _names(chosen)
        cards = [
            _Card(part=name, device=self._ask("amdsmi_get_gpu_device_uuid", socket.handles[0]), socket=socket)
            for socket, name in zip(chosen, names, strict=True)
        ]
        for index in self._wanted or ():
            if index >= len(handles):
                reason = f"amdsmi: no device {index}, there are {len(handles)}"
                self._absent.append(Absent(part=f"gpu_amd{index}", boundary=Boundary.BOARD, reason=reason))
        verdicts = self._try_counters(cards)
        for card, verdict in zip(cards, verdicts, strict=True):
            self._describe(card, verdict)

    def _try_counters(self, cards: Sequence[_Card]) -> list[str]:
        """What is wrong with each card's counter; empty where it may be booked. All cards are tried at once."""
        before = [(self._maybe(self._energy_j, card), self._clock.monotonic_ns()) for card in cards]
        if any(energy_j is not None for energy_j, _ in before):
            self._sleep(seconds(_TRIAL_NS))
        verdicts = []
        for card, (energy_j, begun_ns) in zip(cards, before, strict=True):
            after_j, power_w = self._maybe(self._energy_j, card), self._maybe(self._power_w, card)
            if energy_j is None or after_j is None:
                verdicts.append("no energy accumulator")
                continue
            mean_w = (after_j - energy_j) / seconds(self._clock.monotonic_ns() - begun_ns)
            verdicts.append(_verdict(mean_w, power_w))
        return verdicts

    def _describe(self, card: _Card, verdict: str) -> None:
        power_w = self._maybe(self._power_w, card)
        if power_w == 0.0 and self._maybe(self._count, card) == 0.0:
            self._leave_out(card)
            return
        has_power = power_w is not None
        if not verdict:
            channel = self._channel(card, Quantity.ENERGY_COUNTER, Role.LEDGER, "amdsmi_get_energy_count")
            card.channels.append((channel, lambda: self._count(card)))
        if has_power:
            role = Role.LEDGER if verdict else Role.WITNESS
            note = f"; not the counter: {verdict}" if verdict else ""
            channel = self._channel(card, Quantity.POWER, role, f"amdsmi_get_power_info{note}")
            card.channels.append((channel, lambda: self._power_w(card)))
        if card.channels:
            self._cards.append(card)
        else:
            reason = f"amdsmi: {card.part}: {verdict}, no power"
            self._absent.append(Absent(part=card.part, boundary=Boundary.BOARD, reason=reason))

    def _leave_out(self, card: _Card) -> None:
        """Note a second die; it is missed where the die that shows what both draw is not the one listed before it."""
        reason = f"{card.part} shows 0 W and 0 J, as the second die of a card does whose first shows what both draw"
        if self._cards and self._cards[-1].socket.index == card.socket.index - 1:
            self._notes.append(f"{reason}: left out")
            self._shown_by[card.part] = self._cards[-1].part
        else:
            self._absent.append(Absent(part=card.part, boundary=Boundary.BOARD, reason=f"amdsmi: {reason}"))

    def _channel(self, card: _Card, quantity: Quantity, role: Role, call: str) -> Channel:
        is_counter = quantity is Quantity.ENERGY_COUNTER
        return Channel(
            part=card.part,
            device=card.device,
            boundary=Boundary.CHIP if card.socket.holds_cpu else Boundary.BOARD,
            quantity=quantity,
            role=role,
            unit_si=card.resolution_uj * J_PER_UJ if is_counter else 1.0,
            driver=self.driver,
            basis=Basis.MEASURED,
            gain_low_rel=self._gain_rel,
            gain_high_rel=self._gain_rel,
            update_period_ns=_UPDATE_NS,
            source=f"{call}{_covers(card.socket)}",
        )

    def _count(self, card: _Card) -> float:
        found = self._smi.amdsmi_get_energy_count(card.handle)
        # older bindings call it power
        return float(found["energy_accumulator"] if "energy_accumulator" in found else found["power"])

    def _energy_j(self, card: _Card) -> float:
        found = self._smi.amdsmi_get_energy_count(card.handle)
        card.resolution_uj = float(found.get("counter_resolution") or _RESOLUTION_UJ)
        return self._count(card) * card.resolution_uj * J_PER_UJ

    def _power_w(self, card: _Card) -> float:
        """Socket power; fields that a card does not fill say `N/A`, or 65535 on older bindings."""
        found = self._smi.amdsmi_get_power_info(card.handle)
        for name in _POWERS:
            value = found.get(name)
            if isinstance(value, (int, float)) and value not in (0xFFFF, 0xFFFF_FFFF):
                return float(value)
        raise ValueError("no socket power in amdsmi_get_power_info")

    def _maybe(self, read: Callable[[_Card], float], card: _Card) -> float | None:
        try:
            return read(card)
        except (self._smi.AmdSmiException, ValueError, KeyError, TypeError):
            return None

    def _seen_cards(self, detail: str) -> tuple[Absent, ...]:
        """Cards that the kernel knows and that cannot be read."""
        return tuple(
            Absent(part=f"gpu_amd{index}", boundary=Boundary.BOARD, reason=f"amdsmi: {detail}")
            for index in range(num_cards_seen(self._kfd_root, self._pci_root))
        )

    def _ask(self, call: str, handle: Any) -> str:
        try:
            return str(getattr(self._smi, call)(handle))
        except (self._smi.AmdSmiException, AttributeError):
            return "AMD GPU"


def _names(chosen: Sequence[Socket]) -> list[str]:
    """Parts: an APU is a CPU package, by its place among them; a card is named by the library's index."""
    packages = [socket.index for socket in chosen if socket.holds_cpu]
    return [f"cpu{packages.index(socket.index)}" if socket.holds_cpu else f"gpu_amd{socket.index}" for socket in chosen]


def _covers(socket: Socket) -> str:
    """What a reading holds beyond a card."""
    partitions = f"; the whole socket, {len(socket.handles)} partitions together" if len(socket.handles) > 1 else ""
    return f"{partitions}; an APU: its CPU is in it" if socket.holds_cpu else partitions


def _verdict(mean_w: float, power_w: float | None) -> str:
    """What speaks against booking a counter that grew by `mean_w` a second while the card said `power_w`.

    >>> _verdict(0.0, 80.0)
    'it stands still while the card draws 80 W'
    >>> _verdict(79.0, 80.0)
    ''
    """
    if mean_w < 0.0:
        return "it goes back"
    if power_w is None or power_w < _LEAST_W:
        if mean_w == 0.0:
            return "it stands still, and no power says whether it should"
        is_energy = power_w is None or mean_w <= _MOST_RATIO * _LEAST_W
    else:
        if mean_w == 0.0:
            return f"it stands still while the card draws {power_w:.3g} W"
        is_energy = _LEAST_RATIO <= mean_w / power_w <= _MOST_RATIO
    if not is_energy:
        return f"it says {mean_w:.3g} W while the card says {power_w:.3g} W"
    return ""


def _load() -> Any:
    """The binding, with what it prints on import kept back.

    Raises:
        SensorUnavailableError: it is not installed, or finds no ROCm.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            import amdsmi
    except (ImportError, KeyError, OSError, AttributeError) as err:
        detail = f"the AMD SMI binding is missing or finds no ROCm ({type(err).__name__}: {err})"
        raise SensorUnavailableError("amdsmi", detail, _CURE_MISSING) from err
    return amdsmi
