"""Who is on the cards now, how they are cut into instances, and which of them a program started here would use."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from stillwatt.analysis.words import listed
from stillwatt.errors import SensorUnavailableError
from stillwatt.records import Card, DeviceUse, DeviceUser
from stillwatt.sensors.base import SeesUsers, Sensor
from stillwatt.sensors.choice import shown
from stillwatt.sensors.intel_gpu import IntelGpuSensor
from stillwatt.sensors.processes import Processes
from stillwatt.sensors.visible import used_parts
from stillwatt.units import BYTES_PER_GIB
from stillwatt.workflows.doctor_finding import DoctorFinding, Health

_IDLE_SHARE = 0.005
_BUSY_SHARE = 0.05
_NAMESPACE_CURE = (
    "start the container in the host's process namespace: `docker run --pid=host`, `hostPID: true` in a pod"
)
_TENANT_CURE = (
    "measure on a card of your own, or wait: what others draw cannot be taken out of its energy, only flagged"
)
_INTEL_MASK = "ZE_AFFINITY_MASK"
_CHOICE_CURES = {
    "cuda": "name the cards by UUID (`nvidia-smi -L`) in CUDA_VISIBLE_DEVICES",
    "hip": "ROCm 6.4 and newer tell how HIP counts the cards (`amd-smi list -e`)",
}


def user_findings(
    sensors: Sequence[Sensor], environment: Mapping[str, str], processes: Processes | None = None
) -> list[DoctorFinding]:
    """A finding for every card whose users can be asked for, and one for the choice of cards where one was made."""
    found: list[DoctorFinding] = []
    own = processes or Processes()
    for sensor in sensors:
        if not isinstance(sensor, SeesUsers):
            found += _intel_findings(sensor, environment)
            continue
        try:
            channels = sensor.open()
        except SensorUnavailableError:
            continue  # it was usable a moment ago; the sensor's own finding says what is wrong now
        cards, uses = sensor.cards(), sensor.users({channel.part for channel in channels})
        sensor.close()
        found += [_use_finding(use, own) for use in uses]
        found += _choice_findings(cards, environment)
    return found


def _use_finding(use: DeviceUse, own: Processes) -> DoctorFinding:
    status, detail, cure = _who(use, own)
    return DoctorFinding(
        subject=f"{use.part} users",
        status=status,
        detail="; ".join([*_instances(use), detail]),
        cure=cure,
    )


def _who(use: DeviceUse, own: Processes) -> tuple[Health, str, str]:
    """Health, what is there, and what would help."""
    if use.users is None:
        cure = "other programs on this card will not be noticed; a newer driver may list them"
        return Health.DEGRADED, f"who is on it cannot be seen ({use.reason})", cure
    unknown = [user for user in use.users if user.is_unknown]
    if unknown:
        words = f"{_count(len(unknown))} on it that cannot be told ({use.reason})"
        return Health.DEGRADED, words, "" if own.is_host and all(user.pid for user in unknown) else _NAMESPACE_CURE
    ours = set(own.chain(os.getpid()))
    others = [user for user in use.users if user.chain[:1] == () or user.chain[0] not in ours]
    if not others and not use.users and use.busy_share is not None and use.busy_share > _BUSY_SHARE:
        words = f"no process is listed although it is busy for {100 * use.busy_share:.0f} % of the time"
        return Health.DEGRADED, words, _NAMESPACE_CURE
    if not others:
        return Health.OK, "no other process on it", ""
    words = f"{_count(len(others))} on it: {', '.join(map(_process, others))}"
    is_idle = all(user.sm_share is not None and user.sm_share < _IDLE_SHARE for user in others)
    return (Health.OK, words, "") if is_idle else (Health.DEGRADED, words, _TENANT_CURE)


def _process(user: DeviceUser) -> str:
    whose = {True: "yours", False: "another user's", None: "owner unknown"}[user.same_user]
    share = None if user.sm_share is None else f"{100 * user.sm_share:.0f} % of the multiprocessors"
    memory = None if user.memory_bytes is None else f"{user.memory_bytes / BYTES_PER_GIB:.1f} GiB"
    place = None if user.instance is None else f"instance {user.instance}"
    return f"{user.pid} ({', '.join(filter(None, (whose, place, share, memory)))})"


def _instances(use: DeviceUse) -> Iterator[str]:
    if use.instances:
        whole = f" of {use.slices}" if use.slices else ""
        parts = ", ".join(f"{instance.name} ({instance.slices}{whole} slices)" for instance in use.instances)
        yield f"MIG mode, {len(use.instances)} instances: {parts}; power is that of the whole card"


def _choice_findings(cards: Sequence[Card], environment: Mapping[str, str]) -> Iterator[DoctorFinding]:
    used = used_parts(environment, cards)
    if cards and used.is_chosen:
        yield DoctorFinding(
            subject="cards to use",
            status=Health.OK if used.is_certain else Health.DEGRADED,
            detail=f"{used.reason}: a program started here uses {', '.join(sorted(used.parts)) or 'none'} of"
            f" {len({card.part for card in cards})}; the others are reported beside its energy",
            cure="" if used.is_certain else _CHOICE_CURES[cards[0].runtime],
        )


def _intel_findings(sensor: Sensor, environment: Mapping[str, str]) -> Iterator[DoctorFinding]:
    """Level Zero counts tiles or cards, integrated GPUs too, in an order of its own: its mask is not followed."""
    mask = environment.get(_INTEL_MASK)
    if sensor.driver != IntelGpuSensor.driver or not mask:
        return
    parts = [channel.part for channel in sensor.probe().channels]
    if len(parts) > 1:
        yield DoctorFinding(
            subject="cards to use",
            status=Health.DEGRADED,
            detail=f"{_INTEL_MASK}={shown(mask)} is not followed: a program started here is billed for all of"
            f" {listed(parts)}",
            cure="name the cards it uses: [meter.options.intel_gpu] devices = [NUMBER or ADDRESS, …]",
        )


def _count(number: int) -> str:
    return "1 process" if number == 1 else f"{number} processes"
