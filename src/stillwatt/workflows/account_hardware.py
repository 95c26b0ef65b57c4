"""Which devices the runs held and which bytes they left, as ledger and disk tell; what they do not tell is said."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from stillwatt.config.account_options import GivenDevice
from stillwatt.errors import UnknownNameError, suggest
from stillwatt.factors.catalog import Catalog, choose_for_device
from stillwatt.factors.devices import SERVER, device_code, device_names
from stillwatt.factors.host import Host, host_of, making_of_host, mass_of_host
from stillwatt.factors.parametric import making_of
from stillwatt.impact.embodied import EMBODIED, END_OF_LIFE
from stillwatt.impact.end_of_life import PER_KG, per_device
from stillwatt.records.channel import Boundary
from stillwatt.records.energy import Energy
from stillwatt.records.factor import Choice
from stillwatt.records.impact import LifeStage
from stillwatt.records.lifecycle import Found, Held, Kept, Lack, Role, TimeShare
from stillwatt.records.run import RunRecord, StageRecord
from stillwatt.records.window import ONLINE_TEACHER, StageKind, StageStatus
from stillwatt.units import BYTES_PER_GB

CARDS_PER_SERVER = 8
"""Of the server whose eighth is taken where a host is not named."""
_ON_SERVERS = frozenset({"h100-sxm", "h200-sxm", "a100-sxm", "b200"})
_TRADE_MARK = re.compile(r"\((?:R|TM)\)", re.IGNORECASE)
_MAKING = tuple(dict.fromkeys(EMBODIED.values()))
_ENDING = tuple(name for name in END_OF_LIFE.values() if name != "eol_water")
DRIVES: Mapping[str, str] = {"ssd": "SSD average", "hdd": "HDD average"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What was held and kept, and what is not known of it."""

    held: tuple[Held, ...]
    kept: tuple[Kept, ...]
    lacks: tuple[Lack, ...]


def hardware_of(
    runs: Sequence[RunRecord],
    catalog: Catalog,
    *,
    given: Sequence[GivenDevice] = (),
    time_share: TimeShare = TimeShare.CALENDAR,
    machine: Host | None = None,
) -> Hardware:
    """Devices of all runs.

    Args:
        runs: the runs.
        catalog: where factors are looked up.
        given: what the user names; it stands in for what the ledger says of the same role.
        time_share: which time is charged.
        machine: what the user says of the hosts, in place of what the records hold.
    """
    held: list[Held] = []
    lacks: dict[Lack, None] = {}
    for run in runs:
        time_s = held_s(run, time_share)
        found = held_in(run, catalog, time_s, given=given, machine=machine)
        held += found
        lacks.update(dict.fromkeys(_lacks(run, {one.role for one in found})))
    return Hardware(held=tuple(held), kept=(), lacks=tuple(lacks))


def held_in(
    run: RunRecord,
    catalog: Catalog,
    time_s: float,
    *,
    given: Sequence[GivenDevice] = (),
    machine: Host | None = None,
) -> list[Held]:
    """What a run held for so long: what the user names, and what the record tells of other roles."""
    return [*_given(run, given, catalog, time_s), *_told(run, given, catalog, time_s, machine)]


def held_s(run: RunRecord, time_share: TimeShare) -> float:
    """For how long a run held its machine, in seconds; sessions side by side count once (method.md, eq. 71)."""
    roots = [stage for stage in run.stages if stage.parent_id is None]
    if time_share is TimeShare.BUSY:
        roots = [stage for stage in roots if stage.kind is not StageKind.IDLE_BASELINE]
        return _union_s([_span(stage) for stage in roots])
    if run.meter.get("sessions", 1.0) <= 1.0 or not roots:
        return run.duration_s
    spans = [_span(stage) for stage in roots]
    return min(run.duration_s, max(end for _, end in spans) - min(start for start, _ in spans))


def storage_of(
    runs: Sequence[RunRecord],
    runs_dir: Path,
    catalog: Catalog,
    *,
    drive: str = "ssd",
    days: float,
    given: Sequence[tuple[str, float]] = (),
) -> Hardware:
    """Bytes that the runs left: teacher's artefacts, checkpoints, records.

    Args:
        runs: the runs.
        runs_dir: where their directories are.
        catalog: where factors are looked up.
        drive: `ssd` or `hdd`.
        days: how long they are kept.
        given: names and gigabytes that the user adds.
    """
    technology = DRIVES[drive]
    making = choose_for_device(catalog, f"{drive}_gwp", technology)
    sizes = [entry for run in runs for entry in _sizes(run, runs_dir)]
    sizes += [("given", name, size * BYTES_PER_GB) for name, size in given]
    kept = tuple(
        Kept(run=run, what=what, size_bytes=size, days=days, technology=technology, found=making)
        for run, what, size in sizes
        if size is not None
    )
    lacks = tuple(
        Lack(stage=LifeStage.HARDWARE, reason=f"drives for {what} of {run}: its size is not known, give --stored")
        for run, what, size in sizes
        if size is None
    )
    return Hardware(held=(), kept=kept, lacks=lacks)


def hold(
    run: str, role: Role, name: str, device: str, count: float, time_s: float, catalog: Catalog, caution: str = ""
) -> Held:
    """A device with every factor of its making and its end."""
    found: dict[str, Found] = {name: making_of(catalog, name, device) for name in (*_MAKING, *_ENDING)}
    if role is Role.ACCELERATOR:
        for quantity, per_kg in PER_KG.items():
            if not isinstance(found[quantity], Choice):
                made = per_device(choose_for_device(catalog, per_kg, "graphics card"), found["ewaste_mass"], quantity)
                found[quantity] = Choice(factor=made) if made else found[quantity]
    cautions = (caution,) if caution else ()
    return Held(
        run=run, role=role, name=name, device=device, count=count, time_s=time_s, found=found, cautions=cautions
    )


def accelerators(run: RunRecord) -> dict[str, int]:
    """Boards of a run by the name that their driver gives, with how many there are."""
    boards = {
        (energy.part, energy.device)
        for stage in run.stages
        for energy in stage.energies
        if isinstance(energy, Energy) and energy.boundary is Boundary.BOARD and energy.device
    }
    names: dict[str, int] = {}
    for _, device in sorted(boards):
        names[device] = names.get(device, 0) + 1
    model, count = run.environment.get("gpu_model"), run.environment.get("gpu_count")
    if model and isinstance(count, int) and count > 0:
        names = {str(model): count}  # a log of several cards may have put them into one part
    return names


def check_known(given: Sequence[GivenDevice], catalog: Catalog) -> None:
    """Refuse a device that no factor and no table knows: an account of it would lack all that it asks for.

    Raises:
        UnknownNameError: nothing is known of it; says the nearest name, and how a figure of one's own is given.
    """
    about = {*_MAKING, *_ENDING}
    known = {*device_names(), *(factor.where for factor in catalog.factors if factor.quantity in about)}
    for name in (one.name for one in given if device_code(one.name) not in known):
        cure = f"or say what making one takes: --factor 'embodied_gwp@{name}=150kgCO2e/device'"
        told = known if suggest(name, known) else ("those of `stillwatt factors list --quantity embodied_gwp`",)
        raise UnknownNameError("device", name, told, place="--device", cure=cure)


def _given(run: RunRecord, given: Sequence[GivenDevice], catalog: Catalog, time_s: float) -> Iterator[Held]:
    for one in given:
        yield hold(run.run_id, one.role, one.name, device_code(one.name), one.count, time_s, catalog)


def _told(
    run: RunRecord, given: Sequence[GivenDevice], catalog: Catalog, time_s: float, machine: Host | None
) -> Iterator[Held]:
    roles = {one.role for one in given}
    cards = 0
    if Role.ACCELERATOR not in roles:
        for name, count in accelerators(run).items():
            device = device_code(name)
            cards += count if device in _ON_SERVERS else 0
            yield hold(run.run_id, Role.ACCELERATOR, name, device, count, time_s, catalog)
    if Role.HOST in roles:
        return
    if not machine and cards and isinstance(choose_for_device(catalog, "embodied_gwp", SERVER), Choice):
        caution = f"its host is not named: an eighth of a server for {CARDS_PER_SERVER} cards is taken for each card"
        share = cards / CARDS_PER_SERVER
        yield hold(run.run_id, Role.HOST, SERVER, SERVER, share, time_s, catalog, caution)
        return
    host = host_of(run.environment)
    if machine or host.processor:
        yield _host(run, machine or host, time_s, catalog)


def _host(run: RunRecord, host: Host, time_s: float, catalog: Catalog) -> Held:
    """The host by its processor's name, where somebody gives a figure for that; else from what is recorded of it."""
    name = host.processor or host.called
    codes = (device_code(_TRADE_MARK.sub("", name)), host.called)
    *_, held = tries = [hold(run.run_id, Role.HOST, name, code, 1.0, time_s, catalog) for code in codes]
    for one in tries:
        if isinstance(one.found["embodied_gwp"], Choice):
            return one
    found = {"embodied_gwp": making_of_host(catalog, host)}
    if not isinstance(held.found["ewaste_mass"], Choice):
        found["ewaste_mass"] = mass_of_host(catalog, host)
    return replace(held, name=host.called, device=host.called, found={**held.found, **found})


def _lacks(run: RunRecord, roles: set[Role]) -> Iterator[Lack]:
    stages = (LifeStage.HARDWARE, LifeStage.END_OF_LIFE)
    if Role.HOST not in roles:
        for stage in stages:
            yield Lack(stage=stage, reason=f"host of {run.run_id}: not in its record, give --device host:NAME*SHARE")
    if Role.NETWORK not in roles:
        for stage in stages:
            yield Lack(stage=stage, reason="network: no switch or card is known, give --device network:NAME*SHARE")
    if Role.ACCELERATOR not in roles and _may_have_boards(run):
        for stage in stages:
            yield Lack(stage=stage, reason=f"accelerators of {run.run_id}: not in its record, give --device NAME*COUNT")


def _may_have_boards(run: RunRecord) -> bool:
    """Whether a board was there and could not be read; a machine without one lacks none."""
    return any(part.boundary is Boundary.BOARD for stage in run.stages for part in stage.energies)


def _sizes(run: RunRecord, runs_dir: Path) -> Iterator[tuple[str, str, float | None]]:
    for stage in run.stages:
        artifact = stage.labels.get("artifact")
        makes = stage.kind in (StageKind.TEACHER_LOGITS, StageKind.TEACHER_GENERATE)
        if not artifact or not makes or "reused_from" in stage.labels or stage.status is not StageStatus.ENDED:
            continue
        if stage.labels.get("artifact_kind") == ONLINE_TEACHER:  # it spoke beside one training, and left nothing
            continue
        what = "the logit cache" if stage.kind is StageKind.TEACHER_LOGITS else "the teacher's text"
        size = stage.results.get("bytes")
        is_name = Path(artifact).name == artifact  # a label is free text: nothing outside the folder is looked at
        on_disk = folder_bytes(runs_dir / "artifacts" / artifact) if is_name else None
        yield run.run_id, what, float(size) if isinstance(size, int | float) else on_disk
    if any(stage.kind is StageKind.STUDENT_TRAIN for stage in run.stages):
        yield run.run_id, "checkpoints", folder_bytes(runs_dir / run.run_id / "state" / "checkpoints")


def folder_bytes(folder: Path) -> float | None:
    """Bytes of the files in a folder; None where there is no such folder."""
    if not folder.is_dir():
        return None
    return float(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))


def _span(stage: StageRecord) -> tuple[float, float]:
    start_s = datetime.fromisoformat(stage.start_utc).timestamp()
    return start_s, start_s + stage.duration_s


def _union_s(spans: Sequence[tuple[float, float]]) -> float:
    """Length of what spans cover together.

    >>> _union_s([(0.0, 2.0), (1.0, 3.0), (5.0, 6.0)])
    4.0
    """
    covered, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        covered += max(end - max(start, reached), 0.0)
        reached = max(reached, end)
    return covered
