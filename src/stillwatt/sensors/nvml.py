"""NVIDIA GPUs through NVML: the energy counter as ledger, power beside it as witness.

One physical card is one part (`gpu0`, `gpu1`, … in NVML's order), whatever CUDA_VISIBLE_DEVICES says: what a
process may use and what its node draws are different questions. NVML has no power of MIG instances; a card in
MIG mode is measured whole and its source says so.

What a power reading averages over depends on chip, field and driver (`nvml_windows`), so a channel's source names all
three. A witness is read from the field nearest to instantaneous, because it shows the levels beside a stage's edge;
where power is the ledger, a field that sees all of the time is preferred, and of those the one that smooths least,
because a sensor that looks at 25 of every 100 ms aliases with loads that repeat. Where the driver keeps a buffer of
such readings with their times, the buffer is read instead, so that nothing falls between two polls.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Sequence
from dataclasses import replace
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
    Quantity,
    ReadFailure,
    Role,
)
from stillwatt.sensors import nvml_library, nvml_users
from stillwatt.sensors.base import Probe, Result, Urgency
from stillwatt.sensors.nvml_buffer import PowerBuffer
from stillwatt.sensors.nvml_cards import ReadCard, Stream, Turn, seen_cards, turn
from stillwatt.sensors.nvml_sources import COUNTER_EVERY_NS, Chip, Source, counter_source, module_source, power_sources
from stillwatt.sensors.nvml_windows import Field, window
from stillwatt.sensors.processes import Processes
from stillwatt.sensors.runs import Row
from stillwatt.units import J_PER_MJ_MILLI, NS_PER_MS, NS_PER_S, NS_PER_US, W_PER_MW_MILLI

_COUNTER_UPDATE_NS = 100 * NS_PER_MS
"""At most: 20 to 100 ms were seen, and which it is shows in the readings (method.md, eq. 3)."""
_LEAST_SAMPLING_NS = 10 * NS_PER_MS
_BEFORE_US = 5_000
"""So long before the newest value of a witness's buffer reading begins: the first reading has one."""
_REOPEN_NS = 5 * NS_PER_S
_REOPEN_MAX_NS = 320 * NS_PER_S
_TRIES = 3
"""How often a call is tried at `open` before a passing error is taken for a lasting one."""


class NvmlSensor:
    """Energy counter and power of every NVIDIA card of the machine.

    `devices` limits it to some cards, by NVML index or by UUID. `library` is the path of an NVML to load instead
    of the system's. `gain_rel` bounds the card's systematic error, about 5 % where cards were compared with
    shunts; give your card's own where you know it. `device_root` is where device files would show that there are
    cards although NVML cannot be used.
    """

    driver = "nvml"

    def __init__(
        self,
        clock: Clock,
        *,
        devices: Sequence[int | str] | None = None,
        library: str | None = None,
        gain_rel: float = 0.05,
        device_root: str = "/dev",
    ) -> None:
        if not 0.0 <= gain_rel < 1.0:
            raise UsageError(f"sensor 'nvml': gain_rel = {gain_rel} must be a fraction from 0 to below 1")
        self._clock = clock
        self._wanted = None if devices is None else tuple(devices)
        self._library = library
        self._gain_rel = gain_rel
        self._device_root = Path(device_root)
        self._users = nvml_users.NvmlUsers(clock, Processes(device_prefix=f"{device_root}/nvidia"))
        self.urgency = Urgency.IN_TURN
        self._nvml: Any = None
        self._cards: list[ReadCard] = []
        self._turns: list[Turn] = []
        """What is read, in order."""
        self._streams: tuple[str, ...] = ()
        self._absent: list[Absent] = []
        self._driver_version = ""
        self._reopen_at_ns: int | None = None
        self._reopen_wait_ns = _REOPEN_NS

    def probe(self) -> Probe:
        """List the cards and what can be read of each."""
        was_open = self._nvml is not None
        try:
            channels = self.open()
        except SensorUnavailableError as err:
            absent = tuple(self._absent) or seen_cards(self._device_root, err.detail)
            return Probe(driver=self.driver, usable=False, detail=err.detail, cure=err.cure, absent=absent)
        parts = ", ".join(f"{card.part} {card.uuid}" for card in self._cards if card.channels)
        detail = "; ".join([f"driver {self._driver_version}: {parts}", *(item.reason for item in self._absent)])
        absent = tuple(self._absent)
        if not was_open:
            self.close()
        return Probe(driver=self.driver, usable=True, detail=detail, channels=channels, absent=absent)

    def open(self) -> tuple[Channel, ...]:
        """Initialise NVML and find out what each card gives.

        Raises:
            SensorUnavailableError: no binding, no library, no driver, no card, or no card with power or energy.
        """
        if self._nvml is None:
            self._absent = []
            nvml = nvml_library.load(self._library)
            try:
                nvml.nvmlInit()
            except nvml.NVMLError as err:
                raise self._unavailable(err) from err
            self._nvml = nvml
            try:
                self._find_cards()
            except nvml.NVMLError as err:
                self.close()
                raise self._unavailable(err) from err
            except SensorUnavailableError:
                self.close()
                raise
        return tuple(channel for card in self._cards for channel, _ in card.channels)

    def read(self) -> Sequence[Result]:
        """Read every stream; an error of NVML becomes a failure in its own words, and a lost NVML is tried again."""
        if self._nvml is None:
            return []
        if self._reopen_at_ns is not None:
            self._reopen_when_due(self._reopen_at_ns)
        now_ns, plain = self._clock.monotonic_ns, nvml_library.UNSIGNED
        t_ns = now_ns()
        flat: list[Any] = [t_ns]
        value: Any
        for function, arguments, seen, stream in self._turns:
            # at ten readings a second this loop runs with cold caches, so that each call in it costs microseconds
            if function is None:
                value = self._take(stream, t_ns)
            else:
                code = function(*arguments)
                is_number = not code and not seen.code and seen.value_type == plain
                value = seen.number if is_number else self._answer(stream.source, code, t_ns)
            t_ns = now_ns()
            flat += value, t_ns
        return Row(self._streams, flat)

    @property
    def rests_ns(self) -> int:
        """For how long after a reading no stream has anything new."""
        return min((source.every_ns for card in self._cards for _, source in card.channels), default=0)

    def cards(self) -> tuple[Card, ...]:
        """Every card that NVML lists."""
        nvml = self._nvml
        return () if nvml is None else tuple(nvml_users.cards(nvml))

    def users(self, parts: Container[str]) -> tuple[DeviceUse, ...]:
        """The processes on these cards."""
        nvml = self._nvml  # another thread may close this sensor meanwhile
        wanted = [(card.part, card.handle) for card in self._cards if card.part in parts]
        return () if nvml is None else self._users.look(nvml, wanted)

    def close(self) -> None:
        """Shut NVML down; its own errors no longer matter then."""
        if self._nvml is not None:
            self._shutdown()
        self._nvml, self._cards, self._turns = None, [], []
        self._reopen_at_ns, self._reopen_wait_ns = None, _REOPEN_NS

    def _take(self, stream: Stream, t_ns: int) -> Any:
        """What is more than a call: a buffer, or what has its turns."""
        card, source = stream.card, stream.source
        if source.every_ns and not source.is_due(t_ns, self.urgency):
            return stream.not_due
        try:
            return card.buffer.read(self._nvml, card.handle) if source.is_buffer else source.read(card.handle)
        except self._nvml.NVMLError as err:
            return self._failure(source, err, t_ns)

    def _answer(self, source: Source, code: int, t_ns: int) -> Any:
        """What a bare call brought that is no plain number."""
        assert isinstance(source.read, nvml_library.Reader)
        try:
            return source.read.answer(code)
        except self._nvml.NVMLError as err:
            return self._failure(source, err, t_ns)

    def _failure(self, source: Source, err: Any, begun_ns: int) -> ReadFailure:
        if err.value in nvml_library.REOPEN and self._reopen_at_ns is None:
            self._reopen_at_ns = begun_ns + self._reopen_wait_ns
        return ReadFailure(stream=source.stream, t_ns=self._clock.monotonic_ns(), reason=f"{source.call}: {err}")

    def _reopen_when_due(self, due_ns: int) -> None:
        """Initialise NVML again some seconds after it was lost, then ever more rarely: it takes long on big nodes."""
        if self._clock.monotonic_ns() < due_ns:
            return
        self._shutdown()
        with contextlib.suppress(self._nvml.NVMLError):  # the reads that follow report it in NVML's words
            self._nvml.nvmlInit()
        for card in self._cards:
            with contextlib.suppress(self._nvml.NVMLError):
                card.handle = self._nvml.nvmlDeviceGetHandleByUUID(card.uuid)
        self._plan()
        self._reopen_at_ns = None
        self._reopen_wait_ns = min(2 * self._reopen_wait_ns, _REOPEN_MAX_NS)

    def _shutdown(self) -> None:
        with contextlib.suppress(self._nvml.NVMLError):  # nothing to shut down any more
            self._nvml.nvmlShutdown()

    def _find_cards(self) -> None:
        nvml = self._nvml
        self._driver_version = nvml.nvmlSystemGetDriverVersion()
        found: set[int | str] = set()
        for index in range(nvml.nvmlDeviceGetCount()):
            part = f"gpu{index}"
            found.add(index)
            try:
                handle = self._patiently(nvml.nvmlDeviceGetHandleByIndex, index)
                card = ReadCard(
                    part=part,
                    uuid=self._patiently(nvml.nvmlDeviceGetUUID, handle),
                    handle=handle,
                    buffer=PowerBuffer(self._clock),
                )
            except nvml.NVMLError as err:
                if self._is_wanted(index, None):
                    self._absent.append(Absent(part=part, boundary=Boundary.BOARD, reason=f"nvml: {part}: {err}"))
                continue
            found.add(card.uuid)
            if self._is_wanted(index, card.uuid):
                self._describe(card)
        self._check_found(found)
        self._plan()
        self._streams = tuple(turn.stream.source.stream for turn in self._turns)

    def _plan(self) -> None:
        """Put down what is read in which order, with the calls made ready for the cards' handles."""
        self._turns = [turn(card, source) for card in self._cards for _, source in card.channels]

    def _check_found(self, found: set[int | str]) -> None:
        """Note devices that were asked for and are not there; refuse to open when nothing can be read."""
        for wanted in self._wanted or ():
            if wanted not in found:
                part = f"gpu{wanted}" if isinstance(wanted, int) else wanted
                reason = f"nvml: driver {self._driver_version} has no device {wanted}"
                self._absent.append(Absent(part=part, boundary=Boundary.BOARD, reason=reason))
        if any(card.channels for card in self._cards):
            return
        reasons = "; ".join(item.reason for item in self._absent)
        detail = reasons or f"driver {self._driver_version}: no NVIDIA GPU"
        raise SensorUnavailableError(self.driver, detail, "`nvidia-smi -L` lists the cards")

    def _is_wanted(self, index: int, uuid: str | None) -> bool:
        return self._wanted is None or index in self._wanted or uuid in self._wanted

    def _describe(self, card: ReadCard) -> None:
        """Find the card's counter and its best power reading."""
        reasons: list[str] = []
        counter = self._first_readable(card, [counter_source(self._nvml)], reasons)
        ask = self._ask
        chip = (
            ask(self._nvml.nvmlDeviceGetArchitecture, card.handle),
            str(ask(self._nvml.nvmlDeviceGetName, card.handle)),
        )
        power = self._first_readable(
            card, power_sources(self._nvml, chip, self._driver_version, is_witness=counter is not None), reasons
        )
        if power is not None and power.is_buffer:
            card.buffer.begin(power.read(card.handle) - _BEFORE_US)
            if counter is not None:
                counter.every_ns = COUNTER_EVERY_NS
        elif power is not None and counter is None:
            power = self._with_buffer(card, power)
        about = self._about(card)
        for source in filter(None, (counter, power)):
            role = Role.WITNESS if counter is not None and source is power else Role.LEDGER
            channel = self._channel(card, source, role, about, chip)
            source.stream = channel.stream
            card.channels.append((channel, source))
        if card.channels:
            self._add_module(card, about, chip)
            self._cards.append(card)
        else:
            reason = f"nvml: {card.part}: {'; '.join(reasons)}"
            self._absent.append(Absent(part=card.part, boundary=Boundary.BOARD, reason=reason))

    def _add_module(self, card: ReadCard, about: str, chip: Chip) -> None:
        """Power of the module around a card: it holds the card and a CPU, so it stands beside their sum.

        Its part is not called `module0`, which is what hwmon calls the same module in the order of its sockets.
        """
        source = module_source(self._nvml, chip)
        if source is None or self._first_readable(card, [source], []) is None:
            return
        channel = replace(
            self._channel(card, source, Role.LEDGER, about, chip),
            part=f"gpu_module{card.part.removeprefix('gpu')}",
            boundary=Boundary.NODE,
            averaging_ns=None,  # nobody has measured what the module's sensor averages over
            limit_w=None,  # the card's is not the module's
            sampling_period_ns=None,
        )
        source.stream = channel.stream
        card.channels.append((channel, source))

    def _channel(self, card: ReadCard, source: Source, role: Role, about: str, chip: Chip) -> Channel:
        is_counter = source.quantity is Quantity.ENERGY_COUNTER
        seen = window(*chip, self._driver_version, source.field)
        often_ns = max(seen.update_ns // 2, _LEAST_SAMPLING_NS)
        is_booked_power = role is Role.LEDGER and not is_counter and not source.is_buffer
        return Channel(
            part=card.part,
            device=card.uuid,
            boundary=Boundary.BOARD,
            quantity=source.quantity,
            role=role,
            unit_si=J_PER_MJ_MILLI if is_counter else W_PER_MW_MILLI,
            driver=self.driver,
            basis=Basis.MEASURED,
            gain_low_rel=self._gain_rel,
            gain_high_rel=self._gain_rel,
            update_period_ns=_COUNTER_UPDATE_NS if is_counter else seen.update_ns,
            averaging_ns=None if is_counter else seen.averaging_ns,
            settling_ns=None if is_counter else seen.settling_ns,
            # power that is booked is read twice an update, so that no value is missed and its age is known
            sampling_period_ns=source.every_ns
            if is_counter and source.every_ns
            else often_ns
            if is_booked_power
            else None,
            is_stamped=source.is_buffer,
            # 64 bits of millijoules outlast the machine: a count that goes back was reset, it did not wrap
            modulus=None,
            limit_w=self._limit_w(card),
            source=f"{source.call}; {about}{source.pace}",
        )

    def _limit_w(self, card: ReadCard) -> float | None:
        limit_mw = self._ask(self._nvml.nvmlDeviceGetEnforcedPowerLimit, card.handle)
        return limit_mw * W_PER_MW_MILLI if limit_mw else None

    def _about(self, card: ReadCard) -> str:
        name = self._ask(self._nvml.nvmlDeviceGetName, card.handle) or "unnamed card"
        mode = self._ask(self._nvml.nvmlDeviceGetMigMode, card.handle)
        whole = "; MIG mode: the whole card, all instances together" if mode and mode[0] == 1 else ""
        return f"{name}; driver {self._driver_version}{whole}"

    def _with_buffer(self, card: ReadCard, power: Source) -> Source:
        """The driver's own buffer of plain power readings, where it has one and that field is the one to read."""
        if power.field is not Field.USAGE:
            return power
        try:
            times_us, _ = nvml_library.power_samples(self._nvml, card.handle, 0)
        except self._nvml.NVMLError:
            return power
        card.buffer.begin(max(times_us, default=self._clock.utc_ns() // NS_PER_US))
        return replace(power, call="nvmlDeviceGetSamples(NVML_TOTAL_POWER_SAMPLES)", is_buffer=True)

    def _first_readable(self, card: ReadCard, sources: Sequence[Source], reasons: list[str]) -> Source | None:
        for source in sources:
            try:
                self._patiently(source.read, card.handle)
            except self._nvml.NVMLError as err:
                reasons.append(f"{source.call}: {err}")
            else:
                return source
        return None

    def _patiently(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Call NVML, again where the error may pass: one bad answer must not cost a run its counter."""
        for _ in range(_TRIES - 1):
            try:
                return call(*arguments)
            except self._nvml.NVMLError as err:
                if err.value in nvml_library.LASTING:
                    raise
        return call(*arguments)

    def _ask(self, call: Callable[[Any], Any], handle: Any) -> Any:
        """What a card says of itself, or None where it does not: it decides nothing, so it may be missing."""
        try:
            return self._patiently(call, handle)
        except self._nvml.NVMLError:
            return None

    def _unavailable(self, err: Any) -> SensorUnavailableError:
        return SensorUnavailableError(
            self.driver, str(err), nvml_library.CURES.get(err.value, "`nvidia-smi` may say more")
        )
