"""Run folders of the published distillation harness (arXiv 2605.13981): stages with power samples, and their repeats.

A stage is counted once, from the best file that has it: its own JSON, else the summary, else the last snapshot. The
GPU's energy is estimated from the samples, CPU and memory are the tool's word; its CodeCarbon total is never added.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from stillwatt.errors import ConfigError
from stillwatt.importers import harness_about, harness_file
from stillwatt.importers.harness_file import Stage
from stillwatt.importers.harness_stage import imported_session
from stillwatt.importers.intake import LogFile, left_with
from stillwatt.importers.model import Found, ImportedRun, LeftOut

FORM = "energy-harness"
_STAGE_KEYS = frozenset({"stage_id", "start_time", "duration_seconds", "gpu_energy_joules"})
_SUMMARY_KEYS = frozenset({"experiment_id", "stages", "total_gpu_energy_joules"})
_POWER_LOG = "power_log.csv"


@dataclass(slots=True)
class _Folder:
    """What lies around the stages."""

    configs: dict[str, LogFile] = field(default_factory=dict)
    environments: dict[str, LogFile] = field(default_factory=dict)
    power_logs: dict[str, LogFile] = field(default_factory=dict)
    """By folder."""


def recognises(file: LogFile) -> bool:
    """Whether a file is one of the harness's: stage, summary, snapshot, configuration, environment, power log."""
    base = PurePosixPath(file.name).name
    if base == _POWER_LOG:
        return b"total_power_w" in file.data[:400]
    if not base.endswith(".json"):
        return False
    head = file.data[:4096]
    if base.startswith(("config_", "environment_")):
        return b'"stage_id"' in head or b'"git_info"' in file.data or b'"gpus"' in head
    return (b'"stage_id"' in head and b'"gpu_energy_joules"' in head) or b'"experiment_id"' in head


def read(files: Sequence[LogFile]) -> Found:
    """One run an experiment, one session a stage of it.

    A file that cannot be read is left out with the reason; the others are read.
    """
    folder, left_out = _Folder(), []
    candidates: list[Stage] = []
    experiments: dict[str, str] = {}
    for file in files:
        base = PurePosixPath(file.name).name
        try:
            if base == _POWER_LOG:
                folder.power_logs[_parent(file)] = file
            elif base.startswith("config_"):
                folder.configs[_stage_of(base, "config_")] = file
            elif base.startswith("environment_"):
                folder.environments[_stage_of(base, "environment_")] = file
            else:
                candidates += _stages(file, file.json_object(), experiments)
        except ConfigError as err:
            left_out.append(left_with(file, err))
    best, repeats = _best(candidates)
    left_out += repeats
    used: set[str] = set()
    runs = [_run(stages, folder, used, left_out) for stages in _by_experiment(best, experiments)]
    left_out += _unused(folder, used)
    return Found(runs=tuple(runs), left_out=tuple(left_out))


def _stage_of(base: str, prefix: str) -> str:
    """The stage id in `config_<name>__<id>.json`."""
    stem = base.removeprefix(prefix).removesuffix(".json")
    half = (len(stem) - 2) // 2
    if stem[:half] == stem[half + 2 :] and stem[half : half + 2] == "__":
        return stem[:half]
    return stem.partition("__")[2] or stem


def _parent(file: LogFile) -> str:
    return PurePosixPath(file.name).parent.as_posix()


def _stages(file: LogFile, document: Mapping[str, Any], experiments: dict[str, str]) -> Iterator[Stage]:
    """The stages that a JSON file tells of.

    Raises:
        ConfigError: it is neither a stage nor a summary, or a number in it cannot be meant.
    """
    if document.keys() >= _SUMMARY_KEYS and isinstance(document["stages"], Mapping):
        for inner in document["stages"].values():
            if not isinstance(inner, Mapping) or not inner.keys() >= _STAGE_KEYS:
                raise file.wrong("a stage of the summary lacks its id, times or energy", 1)
            stage = harness_file.parse(file, inner, rank=1)
            experiments[stage.identity] = str(document["experiment_id"])
            yield stage
        return
    if not document.keys() >= _STAGE_KEYS:
        missing = ", ".join(sorted(_STAGE_KEYS - document.keys()))
        raise file.wrong(f"neither a stage nor a summary of the harness: {missing} missing", 1)
    yield harness_file.parse(file, document, rank=2 if document.get("snapshot") else 0)


def _best(candidates: Sequence[Stage]) -> tuple[list[Stage], list[LeftOut]]:
    """Each stage once: own file before summary before snapshot, the longest of a kind."""
    best: dict[str, Stage] = {}
    for stage in sorted(candidates, key=lambda s: (s.rank, -s.duration_s, s.file.name)):
        best.setdefault(stage.identity, stage)
    left_out = []
    for stage in candidates:
        chosen = best[stage.identity]
        if stage is chosen or stage.file.name == chosen.file.name:
            continue
        what = ("the same stage", "a summary that repeats the stage", "a snapshot of the stage")[stage.rank]
        differs = "" if stage.gpu_j == chosen.gpu_j or stage.rank == 2 else f", with {stage.gpu_j:g} J of GPU energy"
        reason = f"{what} {stage.stage_id}{differs}; it is counted from {chosen.file.name}"
        left_out.append(LeftOut(name=stage.file.name, reason=reason))
    return sorted(best.values(), key=lambda s: (s.start_utc_ns, s.stage_id)), left_out


def _by_experiment(stages: Sequence[Stage], experiments: Mapping[str, str]) -> list[list[Stage]]:
    """Stages of one experiment together, as far as a summary tells; others stand alone."""
    groups: dict[str, list[Stage]] = {}
    for stage in stages:
        groups.setdefault(experiments.get(stage.identity, stage.identity), []).append(stage)
    return list(groups.values())


def _run(stages: Sequence[Stage], folder: _Folder, used: set[str], left_out: list[LeftOut]) -> ImportedRun:
    sources: dict[str, LogFile] = {}
    sessions, warnings = [], []
    environment: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    for stage in stages:
        own = _beside(stage, folder)
        sources[stage.file.name] = stage.file
        sources |= {file.name: file for file in own.values()}
        used |= {file.name for file in own.values()}
        told = _document(own.get("environment"), left_out)
        config = _document(own.get("config"), left_out).get("config")
        config = config if isinstance(config, Mapping) else {}
        environment = environment or harness_about.environment(told)
        settings[stage.stage_id] = harness_about.settings(stage, config)
        session, said, faults = imported_session(stage, told, config, own.get("power_log"))
        sessions.append(session)
        warnings += said
        left_out += faults
    first = stages[0]
    return ImportedRun(
        form=FORM,
        tool="distillation energy harness (arXiv 2605.13981)",
        tool_version=str(environment.get("git_commit") or ""),
        identity=first.identity,
        name=first.stage_name,
        host=str(environment.get("host") or ""),
        sessions=tuple(sessions),
        sources=tuple(sources[name].source for name in sorted(sources)),
        warnings=tuple(dict.fromkeys(warnings)),
        environment=environment,
        settings={"stages": settings},
    )


def _beside(stage: Stage, folder: _Folder) -> dict[str, LogFile]:
    """The configuration, environment and power log of a stage, where they are."""
    key = re.sub(r"__step_\w+$|__partial$", "", stage.stage_id)
    found = {"config": folder.configs.get(key), "environment": folder.environments.get(key)}
    place = next((PurePosixPath(file.name).parent.as_posix() for file in found.values() if file), _parent(stage.file))
    found["power_log"] = folder.power_logs.get(place)
    return {name: file for name, file in found.items() if file is not None}


def _document(file: LogFile | None, left_out: list[LeftOut]) -> Mapping[str, Any]:
    if file is None:
        return {}
    try:
        return file.json_object()
    except ConfigError as err:
        left_out.append(left_with(file, err))
        return {}


def _unused(folder: _Folder, used: set[str]) -> Iterator[LeftOut]:
    files = (*folder.configs.values(), *folder.environments.values(), *folder.power_logs.values())
    for file in files:
        if file.name not in used:
            reason = "no stage with an energy is here for it: the run was stopped before it wrote one"
            yield LeftOut(name=file.name, reason=reason)
