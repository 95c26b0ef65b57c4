"""Writes an imported run as an ordinary run directory, as a measured program and its sampling process would have.

The directory is built under a hidden name beside the others and renamed when it is whole, so that an import that is
cut off leaves no run.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stillwatt.clock import Clock
from stillwatt.importers.model import ImportedRun, ImportedSession, ImportedStage, Statement, Trace
from stillwatt.ledger.environment import version
from stillwatt.ledger.journal import JournalWriter
from stillwatt.ledger.rundir import create_run_dir, one_line, settings_hash
from stillwatt.ledger.segments_raw import RawWriter, raw_path
from stillwatt.records.window import StageStatus

IMPORT_KEY = "import"
_HOST = "imported"
_VERSION = version("stillwatt")
_BLOCK = 4096
"""Samples a block: what damage of one byte can cost."""


def content_hash(run: ImportedRun) -> str:
    """SHA-256 of what a run's files say, whatever they are called and however an importer words and bounds it."""
    return settings_hash({"sessions": [_facts(session) for session in run.sessions]})


def write_run(run: ImportedRun, runs_dir: Path, *, clock: Clock) -> str:
    """Write a run's directory; returns its id.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    runs_dir = Path(runs_dir)
    runs_dir.mkdir(parents=True, exist_ok=True)
    staging = runs_dir / f".import-{os.getpid()}-{os.urandom(4).hex()}"
    staging.mkdir()
    try:
        run_id = create_run_dir(staging, run.name, clock=clock, settings=_settings(run), environment=_environment(run))
        for number, session in enumerate(run.sessions):
            _SessionWriter(staging / run_id, run, session, number).write()
        os.rename(staging / run_id, runs_dir / run_id)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return run_id


def _facts(session: ImportedSession) -> dict[str, Any]:
    stages = [
        [
            stage.name,
            stage.start_utc_ns,
            stage.end_utc_ns,
            stage.parent,
            stage.status.value,
            dict(stage.workload),
            [[line.part, line.value_j] for line in stage.stated],
        ]
        for stage in session.stages
    ]
    traces = [[trace.channel.stream, trace.utc_ns, trace.power_w] for trace in session.traces]
    return {"stages": stages, "traces": traces, "absent": [part.part for part in session.absent]}


def _settings(run: ImportedRun) -> dict[str, Any]:
    told = {
        "form": run.form,
        "tool": run.tool,
        "tool_version": run.tool_version or None,
        "identity": run.identity,
        "content_sha256": content_hash(run),
        "sources": [asdict(source) for source in run.sources],
        "importer": f"stillwatt {_VERSION}",
        **_plain(run.settings),
    }
    return {IMPORT_KEY: told}


def _environment(run: ImportedRun) -> dict[str, Any]:
    """The measured machine's, as far as the file tells; never this one's."""
    unknown = ("host", "platform", "python", "cpu_model", "logical_cpus", "memory_bytes", "git_commit")
    return {**dict.fromkeys(unknown), "stillwatt": _VERSION, **_plain(run.environment)}


class _SessionWriter:
    """The journals and samples of one session. Its monotonic clock begins with the earliest thing it holds."""

    def __init__(self, run_dir: Path, run: ImportedRun, session: ImportedSession, number: int) -> None:
        self._run_dir, self._run, self._session, self._number = run_dir, run, session, number
        self.name = f"{_HOST}-{number + 1:04d}"
        self._start_ns, self._end_ns = session.span_utc_ns
        first = [trace.utc_ns[0] for trace in session.traces if trace.utc_ns]
        self._zero_ns = min([self._start_ns, *first])
        self._ids = [f"{_letters(number)}{place + 1}" for place in range(len(session.stages))]

    def write(self) -> None:
        """Write both journals and all samples."""
        self._journal(f"journal.{self.name}.jsonl", self._program())
        self._journal(f"journal.{self.name}.meter.jsonl", self._meter())
        for trace in self._session.traces:
            self._samples(trace)

    def _at(self, utc_ns: int) -> int:
        return utc_ns - self._zero_ns

    def _journal(self, name: str, events: Iterator[dict[str, Any]]) -> None:
        writer = JournalWriter(self._run_dir / name)
        try:
            for event in events:
                writer.write(event)
            writer.fsync()
        finally:
            writer.close()

    def _program(self) -> Iterator[dict[str, Any]]:
        yield {
            "event": "session_started",
            "t_ns": self._at(self._start_ns),
            "utc_ns": self._start_ns,
            "session": self.name,
            "run_id": self._run_dir.name,
            "pid": 0,
            "host": one_line(self._run.host) or _HOST,
            # a clock of its own: times of one session of a file say nothing of another's
            "boot_id": f"imported {self.name}",
            "stillwatt": _VERSION,
            "python": "",
        }
        if self._number == 0:
            for message in self._run.warnings:
                yield {"event": "warning", "t_ns": self._at(self._start_ns), "message": one_line(message)}
        for stage_id, stage in zip(self._ids, self._session.stages, strict=True):
            yield from self._stage(stage_id, stage)
        if not self._is_cut_off:
            yield {
                "event": "session_ended",
                "t_ns": self._at(self._end_ns),
                "utc_ns": self._end_ns,
                "status": "failed" if any(s.status is StageStatus.FAILED for s in self._session.stages) else "ended",
            }

    @property
    def _is_cut_off(self) -> bool:
        return any(stage.status is StageStatus.RECOVERED for stage in self._session.stages)

    def _stage(self, stage_id: str, stage: ImportedStage) -> Iterator[dict[str, Any]]:
        start_ns, end_ns = self._at(stage.start_utc_ns), self._at(stage.end_utc_ns)
        yield {
            "event": "stage_started",
            "t_ns": start_ns,
            "stage_id": stage_id,
            "parent_id": None if stage.parent is None else self._ids[stage.parent],
            "name": one_line(stage.name) or "stage",
            "kind": stage.kind.value,
            "attempt": 1,
            "labels": {key: one_line(value) for key, value in stage.labels.items()},
        }
        if stage.workload:
            yield {"event": "workload", "t_ns": end_ns, "stage_id": stage_id, "counts": dict(stage.workload)}
        if stage.results:
            yield {"event": "result", "t_ns": end_ns, "stage_id": stage_id, "results": _plain(stage.results)}
        if stage.status is not StageStatus.RECOVERED:
            yield {
                "event": "stage_ended",
                "t_ns": end_ns,
                "stage_id": stage_id,
                "status": stage.status.value,
                "error": stage.error or None,
            }

    def _meter(self) -> Iterator[dict[str, Any]]:
        start_ns, end_ns = self._at(self._start_ns), self._at(self._end_ns)
        traces = self._session.traces
        yield {
            "event": "sampler_started",
            "t_ns": start_ns,
            "pid": 0,
            "period_ns": max((trace.channel.sampling_period_ns or 0 for trace in traces), default=0),
            "probes": [self._probe()],
            "channels": [_plain(asdict(trace.channel)) for trace in traces],
            "absent": [_plain(asdict(part)) for part in self._session.absent],
        }
        for trace in traces:
            for gap in trace.gaps:
                yield {
                    "event": "gap",
                    "t_ns": self._at(gap.end_ns),
                    "stream": gap.stream,
                    "start_ns": self._at(gap.start_ns),
                    "end_ns": self._at(gap.end_ns),
                    "failed_reads": gap.failed_reads,
                    "reason": one_line(gap.reason),
                }
        for stage_id, stage in zip(self._ids, self._session.stages, strict=True):
            for line in stage.stated:
                yield {
                    "event": "stated_energy",
                    "t_ns": self._at(stage.end_utc_ns),
                    "stage_id": stage_id,
                    **_stated(line),
                }
        if self._is_cut_off:
            yield {"event": "parent_lost", "t_ns": end_ns}
        yield {
            "event": "sampler_ended",
            "t_ns": end_ns,
            "samples": sum(len(trace.utc_ns) for trace in traces),
            "failed_reads": sum(gap.failed_reads for trace in traces for gap in trace.gaps),
            "skipped_ticks": 0,
            "cpu_s": 0.0,
        }

    def _probe(self) -> dict[str, Any]:
        version = f" {self._run.tool_version}" if self._run.tool_version else ", version unknown"
        files = ", ".join(source.name for source in self._run.sources)
        return {
            "driver": self._run.form,
            "usable": True,
            "detail": one_line(
                f"IMPORTED from {files}, written by {self._run.tool}{version}; not measured by Stillwatt"
            ),
            "cure": "",
        }

    def _samples(self, trace: Trace) -> None:
        writer = RawWriter(raw_path(self._run_dir, self.name, trace.channel.stream))
        try:
            for number, (utc_ns, power_w) in enumerate(zip(trace.utc_ns, trace.power_w, strict=True), start=1):
                writer.append(self._at(utc_ns), power_w / trace.channel.unit_si)
                if number % _BLOCK == 0:
                    writer.flush()
            writer.flush()
            writer.fsync()
        finally:
            writer.close()


def _stated(line: Statement) -> dict[str, Any]:
    value_j = line.value_j or 0.0
    return {
        "part": line.part,
        "device": one_line(line.device),
        "boundary": line.boundary.value,
        "value_j": line.value_j,
        "random_j": line.random_j,
        "systematic_low_j": line.low_rel * value_j,
        "systematic_high_j": line.high_rel * value_j,
        "basis": line.basis.value,
        "driver": line.driver,
        "source": one_line(line.source),
        "reason": one_line(line.reason),
    }


def _plain(value: Any) -> Any:
    """Mappings and sequences as JSON has them, texts on one line."""
    if isinstance(value, Mapping):
        return {one_line(str(key)): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return one_line(value) if isinstance(value, str) else value


def _letters(number: int) -> str:
    """a, b, …, z, ba, bb, …: what the ids of a session's stages begin with."""
    letters = ""
    while True:
        number, place = divmod(number, 26)
        letters = chr(ord("a") + place) + letters
        if not number:
            return letters
