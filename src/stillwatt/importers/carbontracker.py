"""CarbonTracker's logs: mean power by epoch and component, and a total that its PUE is multiplied into.

The standard log's powers carry no PUE and are taken; the output log's total does, and is divided by it, used where
there is no standard log, and held against the epochs where there is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from stillwatt.importers import bounds
from stillwatt.importers.bounds import Bound
from stillwatt.importers.intake import LogFile
from stillwatt.importers.model import Found, ImportedRun, ImportedSession, ImportedStage, LeftOut, Statement
from stillwatt.importers.tables import moment
from stillwatt.records.channel import Basis, Boundary
from stillwatt.records.window import StageKind
from stillwatt.units import NS_PER_S, Joules, KilowattHours, from_kwh, nanoseconds, to_kwh

FORM = "carbontracker"
_OUTPUT, _STANDARD, _ERRORS = "_carbontracker_output.log", "_carbontracker.log", "_carbontracker_err.log"
_LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) - (.*)")
_VERSION = re.compile(r"carbontracker version (\S+)")
_PUE = re.compile(r"PUE\s+coefficient of (\d+(?:\.\d+)?)")
_COMPONENT = re.compile(r" (\S+?) with device\(s\) (.*?)\.(?= \S+ with device|$)")
_EPOCH = re.compile(r"Epoch (\d+):")
_DURATION = re.compile(r"Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)")
_POWER = re.compile(r"Average power usage \(W\) for (\S+): (.+)")
_ACTUAL = re.compile(
    r"Actual consumption(?: for (\d+) epoch\(s\))?:\s*\n\s*Time:\s*(\d+):(\d\d):(\d\d)\s*\n"
    r"\s*Energy:\s*([0-9.eE+-]+) kWh"
)
_DEFAULT_PUE = 1.58
"""What releases since 2024 multiply by, always; older ones say theirs in the standard log."""
_SLACK = 0.02
_MAX_W = 1_000_000.0


@dataclass(slots=True)
class _Epoch:
    number: int
    line: int
    end_ns: int
    duration_s: float = 0.0
    powers_w: dict[str, tuple[float, ...] | None] = field(default_factory=dict)


@dataclass(slots=True)
class _Log:
    """What a pair of logs says."""

    version: str = ""
    pue: float | None = None
    devices: dict[str, tuple[str, ...]] = field(default_factory=dict)
    epochs: list[_Epoch] = field(default_factory=list)
    is_interrupted: bool = False
    actual: tuple[int, float, float] | None = None
    """Epochs, seconds and kWh of the output log's total."""
    last_ns: int = 0
    first_ns: int = 0


def recognises(file: LogFile) -> bool:
    """Whether a file is named as CarbonTracker names its logs."""
    return file.name.endswith((_OUTPUT, _STANDARD, _ERRORS))


def read(files: Sequence[LogFile]) -> Found:
    """One run a pair of logs (standard and output of the same name before their endings).

    Raises:
        ConfigError: a file is no text.
    """
    pairs: dict[str, list[LogFile]] = {}
    left_out = []
    for file in files:
        if file.name.endswith(_ERRORS):
            left_out.append(LeftOut(name=file.name, reason="CarbonTracker's messages of errors; no energies in it"))
        else:
            pairs.setdefault(re.sub(r"_carbontracker(_output)?\.log$", "", file.name), []).append(file)
    runs = []
    for stem, pair in sorted(pairs.items()):
        run, faults = _read_pair(stem, pair)
        left_out += faults
        if run is not None:
            runs.append(run)
    return Found(runs=tuple(runs), left_out=tuple(left_out))


def _read_pair(stem: str, pair: Sequence[LogFile]) -> tuple[ImportedRun | None, list[LeftOut]]:
    log = _Log()
    left_out: list[LeftOut] = []
    for file in pair:
        if file.name.endswith(_OUTPUT):
            _read_output(file, log)
        else:
            left_out += _read_standard(file, log)
    warnings: list[str] = []
    stages = list(_epoch_stages(log, warnings)) or list(_total_stage(log, warnings))
    if not stages:
        reason = "no epoch that ended and no total: CarbonTracker writes them when an epoch ends"
        return None, [*left_out, *(LeftOut(name=file.name, reason=reason) for file in pair)]
    warnings += _total_warnings(log)
    run = ImportedRun(
        form=FORM,
        tool="CarbonTracker",
        tool_version=log.version,
        identity=stem.rpartition("/")[2],
        name=stem.rpartition("/")[2],
        host="",
        sessions=(ImportedSession(stages=tuple(stages)),),
        sources=tuple(file.source for file in pair),
        warnings=(
            "times are CarbonTracker's local ones, to the second and without a zone; they are taken for UTC",
            *dict.fromkeys(warnings),
        ),
        settings={"pue": log.pue},
    )
    return run, left_out


def _read_standard(file: LogFile, log: _Log) -> list[LeftOut]:
    left_out = []
    for line, text in enumerate(file.text.splitlines(), start=1):
        match = _LINE.fullmatch(text.strip())
        if not match:
            continue
        try:
            _take(log, line, _stamp(match.group(1), log), match.group(2))
        except ValueError as err:
            left_out.append(LeftOut(name=file.name, line=line, reason=str(err)))
    return left_out


def _stamp(text: str, log: _Log) -> int:
    utc_ns = moment(text).utc_ns
    log.first_ns = log.first_ns or utc_ns
    log.last_ns = utc_ns
    return utc_ns


def _take(log: _Log, line: int, utc_ns: int, message: str) -> None:
    """One message of the standard log."""
    if match := _VERSION.search(message):
        log.version = match.group(1)
    if match := _PUE.search(message):
        log.pue = float(match.group(1))
    if "The following components were found:" in message and not log.devices:
        found = _COMPONENT.findall(message.partition("found:")[2])
        log.devices = {name.lower(): tuple(d.strip() for d in devices.split(",")) for name, devices in found}
    log.is_interrupted = log.is_interrupted or "Training was interrupted" in message
    if match := _EPOCH.fullmatch(message):
        log.epochs.append(_Epoch(int(match.group(1)), line, utc_ns))
    elif log.epochs and (match := _DURATION.fullmatch(message)):
        log.epochs[-1].duration_s = _seconds(*match.groups())
    elif log.epochs and (match := _POWER.fullmatch(message)):
        log.epochs[-1].powers_w[match.group(1).lower()] = _powers(match.group(2))


def _powers(text: str) -> tuple[float, ...] | None:
    """`None`, a number, or numbers in brackets as numpy prints them."""
    if text.strip() == "None":
        return None
    powers = tuple(float(word) for word in re.sub(r"[\[\],]", " ", text).split())
    if not powers or any(not 0 <= power <= _MAX_W for power in powers):
        raise ValueError(f"a power of {text[:40]} W cannot be meant")
    return powers


def _seconds(hours: str, minutes: str, rest: str) -> float:
    return (int(hours) * 60 + int(minutes)) * 60 + float(rest)


def _read_output(file: LogFile, log: _Log) -> None:
    for text in file.text.splitlines():
        if match := _LINE.match(text):
            _stamp(match.group(1), log)
    totals = _ACTUAL.findall(file.text)
    if totals:
        epochs, hours, minutes, rest, kwh = totals[-1]
        log.actual = (int(epochs or 1), _seconds(hours, minutes, rest), float(kwh))


def _epoch_stages(log: _Log, warnings: list[str]) -> Iterator[ImportedStage]:
    """An epoch a stage; ends are written to the second, so a start within a second of the end before is that end."""
    before_ns = 0
    for epoch in log.epochs:
        if epoch.duration_s <= 0:
            warnings.append(f"epoch {epoch.number} has no duration (line {epoch.line}); it is left out")
            continue
        start_ns = epoch.end_ns - nanoseconds(epoch.duration_s)
        if abs(start_ns - before_ns) <= NS_PER_S:
            start_ns = before_ns
        end_ns = start_ns + nanoseconds(epoch.duration_s)
        before_ns = end_ns
        stated = tuple(_epoch_statement(log, epoch, name, warnings) for name in log.devices or epoch.powers_w)
        yield ImportedStage(
            name=f"epoch {epoch.number}",
            kind=StageKind.OTHER,
            start_utc_ns=start_ns,
            end_utc_ns=end_ns,
            labels={"epoch": str(epoch.number)},
            stated=stated,
        )


def _epoch_statement(log: _Log, epoch: _Epoch, name: str, warnings: list[str]) -> Statement:
    powers_w = epoch.powers_w.get(name)
    devices = log.devices.get(name, ())
    factor = 1
    if powers_w is not None and len(powers_w) == 1 and len(devices) > 1:
        factor = len(devices)
        warnings.append(
            f"{name}: CarbonTracker lists {factor} devices and writes one mean power (2.4.7 takes the mean over "
            f"them for their sum); it is multiplied by {factor} here, and the tool's own total lacks that"
        )
    value_j = None if powers_w is None else math.fsum(powers_w) * factor * epoch.duration_s
    reason = ""
    if powers_w is None:
        reason = "the epoch was too short for a reading"
    elif value_j == 0:
        reason, value_j = "CarbonTracker wrote 0 W, as it does where it may not read", None
    if reason:
        warnings.append(f"{name} in epoch {epoch.number}: {reason}")
    return _statement(name, " + ".join(devices), value_j, reason)


def _statement(name: str, device: str, value_j: float | None, reason: str) -> Statement:
    is_gpu = name == "gpu"
    bound: Bound = bounds.POLLED_1S if is_gpu else bounds.CPU_UNKNOWN
    return Statement(
        part={"gpu": "gpu", "cpu": "cpu"}.get(name, re.sub(r"[^a-z0-9]", "", name) or "part"),
        device=device,
        boundary=Boundary.BOARD if is_gpu else Boundary.CHIP,
        value_j=value_j,
        low_rel=bound.low_rel,
        high_rel=bound.high_rel,
        basis=Basis.MEASURED if is_gpu else Basis.ASSUMED,
        driver=f"carbontracker-{'gpu' if is_gpu else 'cpu'}",
        source=f"CarbonTracker, mean power times duration: {bound.why}",
        reason=reason,
    )


def _total_stage(log: _Log, warnings: list[str]) -> Iterator[ImportedStage]:
    """Without a standard log: one stage from the total, with the PUE divided out."""
    if log.actual is None or log.actual[1] <= 0:
        return
    epochs, seconds, kwh = log.actual
    pue = log.pue or _DEFAULT_PUE
    warnings.append(
        f"no epochs by component: the total of {kwh:g} kWh for {epochs} epochs is all there is; its PUE of {pue:g} is "
        f"divided out{'' if log.pue else ' (the constant of releases since 2024; the file does not tell its own)'}"
    )
    value_j = from_kwh(KilowattHours(kwh)) / pue or None
    bound = bounds.CPU_UNKNOWN
    yield ImportedStage(
        name=f"{epochs} epochs",
        kind=StageKind.OTHER,
        start_utc_ns=log.last_ns - nanoseconds(seconds),
        end_utc_ns=log.last_ns,
        stated=(
            Statement(
                part="machine",
                device="",
                boundary=Boundary.COMPONENTS,
                value_j=value_j,
                low_rel=bound.low_rel,
                high_rel=bound.high_rel,
                basis=Basis.ASSUMED,
                driver="carbontracker",
                source="CarbonTracker's total over the components it found, PUE divided out; it does not say which",
                reason="" if value_j else "CarbonTracker wrote 0 kWh",
            ),
        ),
    )


def _total_warnings(log: _Log) -> Iterator[str]:
    if log.is_interrupted:
        yield "training ended before all epochs were monitored; those that ended are here, predictions are not taken"
    if log.actual is None or not log.epochs:
        return
    pue = log.pue or _DEFAULT_PUE
    own_j = math.fsum(
        math.fsum(powers) * epoch.duration_s for epoch in log.epochs for powers in epoch.powers_w.values() if powers
    )
    stated_j = from_kwh(KilowattHours(log.actual[2])) / pue
    yield f"CarbonTracker's total of {log.actual[2]:.6g} kWh holds a PUE of {pue:g}; energies here do not"
    if own_j and abs(stated_j - own_j) > _SLACK * own_j:
        yield (
            f"without the PUE its total is {to_kwh(Joules(stated_j)):.6g} kWh, and its epochs' mean powers times their "
            f"durations make {to_kwh(Joules(own_j)):.6g} kWh; the epochs are booked"
        )
