"""CarbonTracker's logs: mean power by epoch and component, and a total that its PUE is multiplied into.

The standard log's powers carry no PUE and are taken; the output log's total does, and is divided by it, used where
there is no standard log, and held against the epochs where there is.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from stillwatt.importers import bounds
from stillwatt.importers.bounds import Bound
from stillwatt.importers.carbontracker_log import Epoch, Log, is_one_reading, read_output, read_standard
from stillwatt.importers.intake import LogFile
from stillwatt.importers.model import Found, ImportedRun, ImportedSession, ImportedStage, LeftOut, Statement
from stillwatt.records.channel import Basis, Boundary
from stillwatt.records.window import StageKind
from stillwatt.units import NS_PER_S, Joules, KilowattHours, from_kwh, nanoseconds, to_kwh

FORM = "carbontracker"
_OUTPUT, _STANDARD, _ERRORS = "_carbontracker_output.log", "_carbontracker.log", "_carbontracker_err.log"
_UNTOLD_PUE = " (the constant of releases since 2024; the file does not tell its own)"
_DEFAULT_PUE = 1.58
"""What releases since 2024 multiply by, always; older ones say theirs in the standard log."""
_SLACK = 0.02
_SUM_SLACK_S = 1.0
"""The output log writes whole seconds."""
_END_SLACK_NS = 120 * NS_PER_S
"""Between an epoch's end and its total the tool may ask a service for the grid's carbon intensity."""


def recognises(file: LogFile) -> bool:
    """Whether a file is named as CarbonTracker names its logs."""
    return file.name.endswith((_OUTPUT, _STANDARD, _ERRORS))


def read(files: Sequence[LogFile]) -> Found:
    """One run a pair of logs (standard and output of the same name before their endings).

    Raises:
        ConfigError: a file is no text.
    """
    pairs: dict[tuple[Path, str], list[LogFile]] = {}
    left_out = []
    for file in files:
        if file.name.endswith(_ERRORS):
            left_out.append(LeftOut(name=file.name, reason="CarbonTracker's messages of errors; no energies in it"))
        else:
            stem = re.sub(r"_carbontracker(_output)?\.log$", "", PurePosixPath(file.name).name)
            pairs.setdefault((file.path.parent, stem), []).append(file)
    runs = []
    for (_, stem), pair in pairs.items():
        run, faults = _read_pair(stem, pair)
        left_out += faults
        if run is not None:
            runs.append(run)
    return Found(runs=tuple(runs), left_out=tuple(left_out))


def _read_pair(stem: str, pair: Sequence[LogFile]) -> tuple[ImportedRun | None, list[LeftOut]]:
    log = Log()
    for file in pair:
        (read_output if file.name.endswith(_OUTPUT) else read_standard)(file, log)
    warnings: list[str] = []
    stages = list(_epoch_stages(log, warnings)) or list(_total_stage(log, warnings))
    if not stages:
        told = {left.name for left in log.faults}
        reason = "no epoch that ended and no total: CarbonTracker writes them when an epoch ends"
        return None, [*log.faults, *(LeftOut(name=file.name, reason=reason) for file in pair if file.name not in told)]
    warnings += _total_warnings(log)
    run = ImportedRun(
        form=FORM,
        tool="CarbonTracker",
        tool_version=log.version,
        identity=_identity(log),
        name=stem,
        host="",
        sessions=(ImportedSession(stages=tuple(stages)),),
        sources=tuple(file.source for file in pair),
        warnings=(
            "times are CarbonTracker's local ones, to the second and without a zone; they are taken for UTC",
            *dict.fromkeys(warnings),
        ),
        settings={"pue": log.pue, "log": _STANDARD if _timed(log) else _OUTPUT, "sums": _sums(log)},
    )
    return run, log.faults


def _timed(log: Log) -> list[Epoch]:
    return [epoch for epoch in log.epochs if epoch.duration_s > 0]


def _identity(log: Log) -> str:
    """A hash of the first thing that is booked: a log that goes on, is copied or is renamed is the same run."""
    epoch = next(iter(_timed(log)), None)
    if epoch is None:
        first: object = asdict(log.totals[0])
    else:
        powers_w = {name: power for name, power in epoch.powers_w.items() if not isinstance(power, str)}
        first = [epoch.number, epoch.end_ns, epoch.duration_s, powers_w]
    return hashlib.sha256(json.dumps([log.devices, first], sort_keys=True).encode()).hexdigest()


def _sums(log: Log) -> list[list[float]]:
    """Number of epochs, seconds and end after the first and the last one, in which a run's two logs agree."""
    if epochs := _timed(log):
        whole_s = math.fsum(epoch.duration_s for epoch in epochs)
        found = [[1, epochs[0].duration_s, epochs[0].end_ns], [len(epochs), whole_s, epochs[-1].end_ns]]
    else:
        found = [[total.epochs, total.length_s, total.end_ns] for total in (log.totals[0], log.totals[-1])]
    return found


def is_total_alone(told: Mapping[str, Any]) -> bool:
    """Whether a run's settings are of an output log without epochs, which tells less than the standard log."""
    return told.get("log") == _OUTPUT


def is_other_log(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two runs' settings are of the standard log and of the output log of one run, found apart.

    Args:
        one: `ImportedRun.settings`, or what a manifest keeps of them.
        other: likewise.
    """
    if {one.get("log"), other.get("log")} != {_STANDARD, _OUTPUT}:
        return False
    return any(
        a[0] == b[0] and abs(a[1] - b[1]) <= _SUM_SLACK_S and abs(a[2] - b[2]) <= _END_SLACK_NS
        for a in one.get("sums", ())
        for b in other.get("sums", ())
    )


def _epoch_stages(log: Log, warnings: list[str]) -> Iterator[ImportedStage]:
    """An epoch a stage; ends are written to the second, so a start within a second of the end before is that end."""
    before_ns = 0
    for epoch in log.epochs:
        if epoch.duration_s <= 0:
            warnings.append(
                f"epoch {epoch.number} has no duration that can be used (line {epoch.line}); it is left out"
            )
            continue
        start_ns = epoch.end_ns - nanoseconds(epoch.duration_s)
        if abs(start_ns - before_ns) <= NS_PER_S:
            start_ns = before_ns
        end_ns = start_ns + nanoseconds(epoch.duration_s)
        before_ns = end_ns
        stated = tuple(
            _epoch_statement(log, epoch, name, warnings) for name in dict.fromkeys([*log.devices, *epoch.powers_w])
        )
        yield ImportedStage(
            name=f"epoch {epoch.number}",
            kind=StageKind.OTHER,
            start_utc_ns=start_ns,
            end_utc_ns=end_ns,
            labels={"epoch": str(epoch.number)},
            stated=stated,
        )


def _epoch_statement(log: Log, epoch: Epoch, name: str, warnings: list[str]) -> Statement:
    powers_w = epoch.powers_w.get(name, "CarbonTracker wrote no power of it in this epoch")
    devices = log.devices.get(name, ())
    value_j, reason = None, ""
    if isinstance(powers_w, str):
        reason = powers_w
    elif not any(powers_w):
        reason = "CarbonTracker wrote 0 W, as it does where it may not read"
    else:
        value_j = math.fsum(powers_w) * _factor(name, devices, powers_w, warnings) * epoch.duration_s
    if reason:
        warnings.append(f"{name} in epoch {epoch.number}: {reason}")
    return _statement(name, " + ".join(devices), value_j, reason)


def _factor(name: str, devices: Sequence[str], powers_w: Sequence[float], warnings: list[str]) -> int:
    """What a mean power over several devices is multiplied by, with a word."""
    if len(powers_w) > 1 or is_one_reading(devices):
        return 1
    warnings.append(
        f"{name}: CarbonTracker lists {len(devices)} devices and writes one mean power (2.4.7 takes the mean over "
        f"them for their sum); it is multiplied by {len(devices)} here, and the tool's own total lacks that"
    )
    return len(devices)


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


def _total_stage(log: Log, warnings: list[str]) -> Iterator[ImportedStage]:
    """Without a standard log: one stage from the last total, with the PUE divided out."""
    if not log.totals:
        return
    total = log.totals[-1]
    pue = log.pue or _DEFAULT_PUE
    warnings.append(
        f"no epochs by component: the total of {total.kwh:g} kWh for {total.epochs} epochs is all there is; its PUE of "
        f"{pue:g} is divided out{'' if log.pue else _UNTOLD_PUE}"
    )
    value_j = from_kwh(KilowattHours(total.kwh)) / pue or None
    bound = bounds.CPU_UNKNOWN
    yield ImportedStage(
        name=f"{total.epochs} epochs",
        kind=StageKind.OTHER,
        start_utc_ns=total.end_ns - nanoseconds(total.length_s),
        end_utc_ns=total.end_ns,
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


def _total_warnings(log: Log) -> Iterator[str]:
    if log.is_interrupted:
        yield "training ended before all epochs were monitored; those that ended are here, predictions are not taken"
    if not log.totals or not log.epochs:
        return
    pue, kwh = log.pue or _DEFAULT_PUE, log.totals[-1].kwh
    own_j = math.fsum(
        math.fsum(powers) * epoch.duration_s
        for epoch in log.epochs
        for powers in epoch.powers_w.values()
        if not isinstance(powers, str)
    )
    stated_j = from_kwh(KilowattHours(kwh)) / pue
    yield f"CarbonTracker's total of {kwh:.6g} kWh holds a PUE of {pue:g}; energies here do not"
    if own_j and abs(stated_j - own_j) > _SLACK * own_j:
        yield (
            f"without the PUE its total is {to_kwh(Joules(stated_j)):.6g} kWh, and its epochs' mean powers times their "
            f"durations make {to_kwh(Joules(own_j)):.6g} kWh; the epochs are booked"
        )
