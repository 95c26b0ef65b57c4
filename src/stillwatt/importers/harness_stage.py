"""One stage of the published distillation harness as a session: its samples put in time, its words bounded."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from stillwatt.errors import ConfigError
from stillwatt.importers import bounds, power_csv
from stillwatt.importers.bounds import Bound
from stillwatt.importers.cards import power_window
from stillwatt.importers.harness_file import Stage
from stillwatt.importers.intake import LogFile, left_with
from stillwatt.importers.model import ImportedSession, ImportedStage, LeftOut, Statement, Trace
from stillwatt.importers.tables import read_table
from stillwatt.importers.traces import CARD_GAIN, Instrument, hole_remarks, make_trace
from stillwatt.records.channel import Basis, Boundary
from stillwatt.records.window import StageKind, StageStatus
from stillwatt.sensors.nvml_windows import Field, Window
from stillwatt.units import NS_PER_MS, NS_PER_S, KilowattHours, from_kwh, nanoseconds

_SAME = 0.000_001
_MAX_OVERHANG = 1.5
"""CodeCarbon's figure of a stage that is not mostly of the time around it."""
_MAX_MISSED = 0.02
"""Readings short of what the polling interval makes; beyond it some were skipped, and nobody knows where."""
_KINDS = (
    (re.compile(r"generation|synthetic_gen"), StageKind.TEACHER_GENERATE),
    (re.compile(r"logit"), StageKind.TEACHER_LOGITS),
    (re.compile(r"preprocess"), StageKind.PREPARE_DATA),
    (re.compile(r"^(kd|sft)_"), StageKind.STUDENT_TRAIN),
)


def imported_session(
    stage: Stage, machine: Mapping[str, Any], config: Mapping[str, Any], power_log: LogFile | None
) -> tuple[ImportedSession, list[str], list[LeftOut]]:
    """A stage as a session of its own, what had to be said of it, and rows of its power log that were left out."""
    said: list[str] = []
    end_ns = stage.start_utc_ns + nanoseconds(stage.duration_s)
    traces, left_out = _traces(stage, machine, power_log, end_ns, said)
    stated = tuple(_statements(stage, machine, traces, said))
    kind, why = _kind(stage)
    said.append(f"stage {stage.stage_id!r}: its kind, {kind.value}, is inferred from {why}")
    workload, results = _workload(stage, said)
    is_snapshot = stage.rank == 2
    if is_snapshot:
        said.append(f"stage {stage.stage_id!r}: only a snapshot is left; the run never wrote its end")
    result = ImportedStage(
        name=stage.stage_id,
        kind=kind,
        start_utc_ns=stage.start_utc_ns,
        end_utc_ns=end_ns,
        status=StageStatus.RECOVERED if is_snapshot else StageStatus.ENDED,
        labels=_labels(stage, config),
        workload=workload,
        results=results,
        stated=stated,
    )
    session = ImportedSession(stages=(result,), traces=traces, start_utc_ns=stage.start_utc_ns, end_utc_ns=end_ns)
    return session, said, left_out


def _traces(
    stage: Stage, machine: Mapping[str, Any], power_log: LogFile | None, end_ns: int, said: list[str]
) -> tuple[tuple[Trace, ...], list[LeftOut]]:
    """The GPU's power: with times from the power log where there is one, else the samples of the stage's file."""
    left_out: list[LeftOut] = []
    if power_log is not None:
        try:
            found, remarks, left_out = power_csv.read_traces(power_log, read_table(power_log))
        except ConfigError as err:
            found, left_out = (), [left_with(power_log, err)]
        inside = [_clipped(_described(trace, machine), stage.start_utc_ns, end_ns) for trace in found]
        own = tuple(trace for trace in inside if trace is not None)
        if own:
            said += [*remarks, *(remark for trace in own for remark in hole_remarks(trace))]
            return own, left_out
        if found:
            reason = "none of its rows lies in the stage it stands beside"
            left_out.append(LeftOut(name=power_log.name, reason=reason))
    trace = _from_samples(stage, machine, said)
    return ((trace,) if trace else ()), left_out


def _described(trace: Trace, machine: Mapping[str, Any]) -> Trace:
    """A trace of the power log with what the environment file tells of its card."""
    known = _window(machine)
    channel = replace(trace.channel, device=card(machine)[0], driver="harness-nvml")
    if known is not None:
        channel = replace(channel, update_period_ns=known.update_ns, averaging_ns=known.averaging_ns)
    return replace(trace, channel=channel)


def _clipped(trace: Trace, start_ns: int, end_ns: int) -> Trace | None:
    """The readings of one stage: the harness appends to a log that an earlier attempt began."""
    slack_ns = 2 * (trace.channel.sampling_period_ns or NS_PER_S)
    keep = [place for place, at in enumerate(trace.utc_ns) if start_ns - slack_ns <= at <= end_ns + slack_ns]
    if not keep:
        return None
    gaps = tuple(gap for gap in trace.gaps if gap.start_ns >= start_ns - slack_ns and gap.end_ns <= end_ns + slack_ns)
    times, powers = tuple(trace.utc_ns[p] for p in keep), tuple(trace.power_w[p] for p in keep)
    return Trace(channel=trace.channel, utc_ns=times, power_w=powers, gaps=gaps)


def _from_samples(stage: Stage, machine: Mapping[str, Any], said: list[str]) -> Trace | None:
    """Samples without times, put at equal distances: the first at the start, the last half a period before the end."""
    count = len(stage.samples_w)
    if not count:
        return None
    step_s = stage.duration_s / (count - 0.5)
    asked_s = stage.number("nvml_poll_interval_ms") * NS_PER_MS / NS_PER_S
    times = [stage.start_utc_ns + nanoseconds(place * step_s) for place in range(count)]
    said.append(
        f"stage {stage.stage_id!r}: its {count} power samples carry no times; they are put {step_s:.4g} s apart, which "
        f"may move its energy by {_spacing_j(stage):.3g} J"
    )
    expected = stage.duration_s / asked_s if asked_s else 0.0
    if expected - count > max(2.0, _MAX_MISSED * expected):
        said.append(
            f"stage {stage.stage_id!r}: {expected:.0f} samples were due every {asked_s:g} s and {count} are there; the "
            "harness skips a failed reading without a word, so where the others are missing is not known"
        )
    name, num_gpus = card(machine)
    mean_w = math.fsum(stage.samples_w) / count
    instrument = Instrument(
        part="gpu0" if num_gpus == 1 else "gpu",
        device=name,
        boundary=Boundary.BOARD,
        driver="harness-nvml",
        source="nvmlDeviceGetPowerUsage, polled by the harness, summed over its GPUs; times made up from the duration",
        gain_rel=math.hypot(CARD_GAIN, min(1.0, _spacing_j(stage) / (mean_w * stage.duration_s)) if mean_w else 0.0),
        window=_window(machine),
    )
    trace, remarks = make_trace(instrument, list(zip(times, stage.samples_w, strict=True)))
    said += remarks
    return trace


def _spacing_j(stage: Stage) -> float:
    """What not knowing when samples were taken can do to the energy (method.md, eq. 19).

    A reading follows the one before it by at least the interval asked for; the time that is left over, failed readings
    included, may lie at any one of them. The ends are known to a step.
    """
    count = len(stage.samples_w)
    if not count:
        return 0.0
    step_s = stage.duration_s / (count - 0.5)
    asked_s = stage.number("nvml_poll_interval_ms") * NS_PER_MS / NS_PER_S
    left_s = max(0.0, stage.duration_s - (count - 1) * asked_s) if asked_s else stage.duration_s
    mean_w = math.fsum(stage.samples_w) / count
    return max(left_s, step_s) * max(max(stage.samples_w) - mean_w, mean_w - min(stage.samples_w))


def card(machine: Mapping[str, Any]) -> tuple[str, int]:
    """Name and number of the GPUs that the environment file lists; none where there is no such file."""
    gpus = machine.get("gpus")
    names = [str(gpu.get("name", "")) for gpu in gpus if isinstance(gpu, Mapping)] if isinstance(gpus, list) else []
    return " + ".join(dict.fromkeys(names)), len(names)


def _window(machine: Mapping[str, Any]) -> Window | None:
    name, _ = card(machine)
    gpus = machine.get("gpus")
    first = gpus[0] if isinstance(gpus, list) and gpus and isinstance(gpus[0], Mapping) else {}
    return power_window(name, str(first.get("driver_version") or ""), Field.USAGE) if name else None


def _statements(stage: Stage, machine: Mapping[str, Any], traces: Sequence[Trace], said: list[str]) -> list[Statement]:
    """What the file says of GPU, CPU and memory. The GPU's is booked only where there are no samples."""
    lines = [_cpu(stage, said), _ram(stage)]
    if _overhang(stage) > _MAX_OVERHANG:
        reason = (
            f"CodeCarbon's window around this stage of {stage.duration_s:.3g} s holds {_overhang(stage):.3g} times the "
            "GPU energy of the stage, so its figure is mostly of the time around it"
        )
        is_copied = [line.driver == "codecarbon-ram" or line.basis is Basis.ASSUMED for line in lines]
        lines = [
            replace(line, value_j=None, reason=line.reason or reason) if copied else line
            for line, copied in zip(lines, is_copied, strict=True)
        ]
    if len(traces) > 1:
        said.append(f"stage {stage.stage_id!r}: its GPU figure is the sum of {len(traces)} cards and kept as a result")
    else:
        lines.insert(0, _gpu(stage, machine, traces))
    said += [f"{line.part} in stage {stage.stage_id!r}: {line.reason}" for line in lines if line.reason]
    total_j = stage.number("total_codecarbon_energy_kwh")
    if total_j:
        said.append(
            f"stage {stage.stage_id!r}: CodeCarbon's total ({total_j:.6g} kWh) covers the same GPU and CPU again; it "
            "is kept as a result and never added"
        )
    return lines


def _overhang(stage: Stage) -> float:
    """How much more GPU energy CodeCarbon saw than the stage holds: its tracker starts before and ends after it."""
    codecarbon_j = from_kwh(KilowattHours(stage.number("codecarbon_gpu_energy_kwh")))
    return codecarbon_j / stage.gpu_j if stage.gpu_j > 0 else 0.0


def _gpu(stage: Stage, machine: Mapping[str, Any], traces: Sequence[Trace]) -> Statement:
    name, num_gpus = card(machine)
    window = _window(machine)
    is_smoothed = window is not None and (window.averaging_ns or 0) >= NS_PER_S
    bound = bounds.COUNTER if is_smoothed else bounds.POLLED_HALF_S
    why = "power averaged over a second by the card, polled twice a second: gain 5 %" if is_smoothed else bound.why
    part = traces[0].channel.part if len(traces) == 1 else ("gpu0" if num_gpus == 1 else "gpu")
    is_lost = stage.gpu_j == 0
    return Statement(
        part=part,
        device=name,
        boundary=Boundary.BOARD,
        value_j=None if is_lost else stage.gpu_j,
        low_rel=bound.low_rel,
        high_rel=bound.high_rel,
        random_j=_spacing_j(stage),
        basis=Basis.MEASURED,
        driver="harness-nvml",
        source=f"gpu_energy_joules of the harness: {why}",
        reason="the file says 0 J of GPU energy, as the harness does where NVML failed" if is_lost else "",
    )


def _cpu(stage: Stage, said: list[str]) -> Statement:
    """RAPL where it could be read, else CodeCarbon's figure under another name: told apart by their being equal."""
    value_j = stage.number("cpu_energy_joules")
    codecarbon_j = float(from_kwh(KilowattHours(stage.number("codecarbon_cpu_energy_kwh"))))
    is_copy = math.isclose(value_j, codecarbon_j, rel_tol=_SAME)
    bound: Bound = bounds.CPU_UNKNOWN if is_copy else bounds.CPU_RAPL
    how = "CodeCarbon's CPU figure (process share)" if is_copy else "RAPL, since it is not CodeCarbon's figure"
    if value_j > 0:
        said.append(f"cpu in stage {stage.stage_id!r}: the file does not say what was read; by its value it is {how}")
    return Statement(
        part="cpu",
        device="",
        boundary=Boundary.CHIP,
        value_j=value_j if value_j > 0 else None,
        low_rel=bound.low_rel,
        high_rel=bound.high_rel,
        basis=Basis.ASSUMED if is_copy else Basis.MEASURED,
        driver="harness-cpu",
        source=f"cpu_energy_joules of the harness, {how}: {bound.why}",
        reason="" if value_j > 0 else _no_cpu(stage, value_j),
    )


def _no_cpu(stage: Stage, value_j: float) -> str:
    if stage.document.get("cpu_energy_joules") is None:
        return "the file has no energy of the CPU"
    return f"the file says {value_j:g} J of CPU energy, which no CPU draws"


def _ram(stage: Stage) -> Statement:
    kwh = stage.number("codecarbon_ram_energy_kwh")
    bound = bounds.RAM_MODEL
    return Statement(
        part="dram",
        device="",
        boundary=Boundary.CHIP,
        value_j=float(from_kwh(KilowattHours(kwh))) if kwh > 0 else None,
        low_rel=bound.low_rel,
        high_rel=bound.high_rel,
        basis=Basis.MODELLED,
        driver="codecarbon-ram",
        source=f"codecarbon_ram_energy_kwh, which the harness leaves out of its own total: {bound.why}",
        reason="" if kwh > 0 else _no_ram(kwh),
    )


def _no_ram(kwh: float) -> str:
    return f"the file says {kwh:g} kWh of memory's energy" if kwh else "the file has no energy of memory"


def _workload(stage: Stage, said: list[str]) -> tuple[dict[str, float], dict[str, Any]]:
    """Tokens where they were counted, and what the file worked out of them, kept as a result."""
    tokens = stage.number("tokens_processed")
    results: dict[str, Any] = {
        "harness_gpu_energy_j": stage.gpu_j,
        "harness_total_energy_j": stage.number("total_energy_joules"),
        "codecarbon_total_kwh": stage.number("total_codecarbon_energy_kwh"),
        "codecarbon_gpu_kwh": stage.number("codecarbon_gpu_energy_kwh"),
    }
    if tokens > 0:
        results["harness_j_per_token"] = stage.number("joules_per_token")
    kept = {key: value for key, value in results.items() if value > 0}  # 0 is what the harness does not know
    if tokens <= 0:
        said.append(f"stage {stage.stage_id!r}: tokens_processed is 0; the count is absent, and so is J/token")
        return {}, kept
    said.append(
        f"stage {stage.stage_id!r}: its own J/token rests on GPU + CPU and on tokens_processed = {tokens:.0f}, which "
        "in some stages of the harness counts examples"
    )
    return {"tokens": tokens}, kept


def _kind(stage: Stage) -> tuple[StageKind, str]:
    """By the stage's name, or the folder's, since the harness overwrites the kind that its programs give."""
    folder = stage.file.name.rsplit("/", 2)[-2] if "/" in stage.file.name else ""
    for text, what in ((stage.stage_id, "its name"), (folder, f"its folder's name, {folder!r}")):
        for pattern, kind in _KINDS[:3]:
            if pattern.search(text):
                return kind, what
    if _KINDS[3][0].search(stage.stage_id):
        return _KINDS[3][1], "its name"
    return StageKind.OTHER, "no name that tells it"


def _labels(stage: Stage, config: Mapping[str, Any]) -> dict[str, str]:
    """What the configuration says the stage belongs to."""
    model = config.get("model")
    data = config.get("data")
    labels = {"file": stage.file.name, "pipeline": config.get("pipeline")}
    if isinstance(model, Mapping):
        labels |= {"teacher": model.get("teacher"), "student": model.get("student")}
    if isinstance(data, Mapping):
        labels["dataset"] = data.get("dataset_choice")
    return {key: str(value) for key, value in labels.items() if value not in (None, "", "None")}


def inner(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A mapping inside another; empty where there is none."""
    value = document.get(key)
    return value if isinstance(value, Mapping) else {}
