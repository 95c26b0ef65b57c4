"""Synthetic run directories for tests: the same files a measured program and its sampling process leave.

    run = SyntheticRun(tmp_path / "runs", name="demo")
    session = run.session(start_s=100.0)
    session.sampler([gpu_counter()])
    session.stage("train", 101.0, 105.0, kind="student_train", workload={"tokens": 512})
    session.samples("gpu0.energy_counter", constant_counter(200.0, 0.001), until_s=106.0)
    session.end(106.0)

Times are seconds on the monotonic clock of a made-up machine; every default is fixed, so the bytes are too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stillwatt.clock import iso_utc
from stillwatt.ledger.journal import JournalWriter
from stillwatt.ledger.rundir import MANIFEST_SCHEMA, settings_hash, write_manifest
from stillwatt.ledger.segments_raw import RECORD, RawWriter, raw_path
from stillwatt.records import Absent, Basis, Boundary, Channel, Quantity, Role
from stillwatt.units import J_PER_MJ_MILLI, J_PER_UJ, NS_PER_MS, nanoseconds

EPOCH_UTC_NS = 1_767_225_600 * 1_000_000_000
"""2026-01-01T00:00:00Z: the wall-clock time at monotonic time 0 of every synthetic session."""
HOST = "synthetic-host"
GPU, CPU = "Synthetic GPU", "Synthetic CPU"
BOOT = "00000000-0000-4000-8000-000000000001"
ENVIRONMENT = {"host": HOST, "platform": "synthetic", "python": "3.11.0", "stillwatt": "0.1.0", "logical_cpus": 2}

Signal = Callable[[float], float]
"""From seconds on the monotonic clock to the count an instrument shows."""


@dataclass(slots=True)
class FakeLiveness:
    """Says the same of every process."""

    alive: bool | None = False

    def is_alive(self, host: str, boot: str, pid: int, seen_ns: int) -> bool | None:
        return self.alive


@dataclass(slots=True)
class FixedClock:
    """Two clocks that stand still until they are moved."""

    now_ns: int = 0
    now_utc_ns: int = EPOCH_UTC_NS

    def monotonic_ns(self) -> int:
        return self.now_ns

    def utc_ns(self) -> int:
        return self.now_utc_ns

    def advance(self, seconds: float) -> None:
        self.now_ns += nanoseconds(seconds)
        self.now_utc_ns += nanoseconds(seconds)


def gpu_counter(part: str = "gpu0") -> Channel:
    """An energy counter in millijoules, as NVML has it."""
    return Channel(
        part=part,
        device=GPU,
        boundary=Boundary.BOARD,
        quantity=Quantity.ENERGY_COUNTER,
        role=Role.LEDGER,
        unit_si=J_PER_MJ_MILLI,
        driver="nvml",
        basis=Basis.MEASURED,
        gain_low_rel=0.05,
        gain_high_rel=0.05,
        update_period_ns=20 * NS_PER_MS,
        source="synthetic counter",
    )


def gpu_power(part: str = "gpu0", *, role: Role = Role.WITNESS) -> Channel:
    """A power reading in watts, beside the counter."""
    return Channel(
        part=part,
        device=GPU,
        boundary=Boundary.BOARD,
        quantity=Quantity.POWER,
        role=role,
        unit_si=1.0,
        driver="nvml",
        basis=Basis.MEASURED,
        gain_low_rel=0.05,
        gain_high_rel=0.05,
        update_period_ns=20 * NS_PER_MS,
        source="synthetic power",
    )


def cpu_counter(part: str = "cpu0", *, modulus: int | None = 262_143_328_850) -> Channel:
    """A wrapping energy counter in microjoules, as powercap has it."""
    return Channel(
        part=part,
        device=CPU,
        boundary=Boundary.CHIP,
        quantity=Quantity.ENERGY_COUNTER,
        role=Role.LEDGER,
        unit_si=J_PER_UJ,
        driver="rapl",
        basis=Basis.MEASURED,
        gain_low_rel=0.03,
        gain_high_rel=0.03,
        update_period_ns=NS_PER_MS,
        modulus=modulus,
        source="synthetic counter",
    )


def dram_model(part: str = "dram0") -> Channel:
    """Modelled power of memory."""
    return Channel(
        part=part,
        device="Synthetic DRAM",
        boundary=Boundary.CHIP,
        quantity=Quantity.POWER,
        role=Role.LEDGER,
        unit_si=1.0,
        driver="host_model",
        basis=Basis.MODELLED,
        gain_low_rel=0.5,
        gain_high_rel=0.5,
        update_period_ns=100 * NS_PER_MS,
        source="synthetic model",
    )


def constant_power(power_w: float) -> Signal:
    """What a power channel in watts shows."""
    return lambda _t_s: power_w


def constant_counter(power_w: float, unit_si: float, *, offset: float = 0.0) -> Signal:
    """What a counter shows under constant power, from monotonic time 0."""
    return lambda t_s: float(round(offset + power_w * t_s / unit_si))


class SyntheticRun:
    """A run directory, written as the real processes write it."""

    def __init__(
        self,
        runs_dir: Path,
        *,
        name: str = "demo",
        number: int = 1,
        settings: Mapping[str, Any] | None = None,
        environment: Mapping[str, Any] | None = None,
        group: str = "",
    ) -> None:
        self.name = name
        self.run_id = f"20260101-{number:06d}-demo-{number:04x}"
        self.path = runs_dir / self.run_id
        (self.path / "samples").mkdir(parents=True)
        self._sessions = 0
        settings = dict(settings or {"sample_period_ms": 100})
        manifest = {
            "schema": MANIFEST_SCHEMA,
            "run_id": self.run_id,
            "name": name,
            "created_utc": iso_utc(EPOCH_UTC_NS + nanoseconds(number)),
            "settings": settings,
            "settings_sha256": settings_hash(settings),
            "environment": dict(environment or ENVIRONMENT),
            **({"group": group} if group else {}),
        }
        write_manifest(self.path, manifest)

    def session(
        self,
        *,
        start_s: float = 100.0,
        pid: int | None = None,
        host: str = HOST,
        boot: str = BOOT,
        anchor: bool = True,
        wall_offset_s: float = 0.0,
        **launch: int | str,
    ) -> SyntheticSession:
        """Begin a session; `anchor=False` leaves its session_started out; `launch` gives it a rank and a world_size."""
        self._sessions += 1
        pid = 1000 + self._sessions if pid is None else pid
        return SyntheticSession(self, self._sessions, start_s, pid, host, boot, anchor, wall_offset_s, launch)


class SyntheticSession:
    """One session: the measured program's journal, the sampling process's, and the segments."""

    def __init__(
        self,
        run: SyntheticRun,
        number: int,
        start_s: float,
        pid: int,
        host: str,
        boot: str,
        anchor: bool,
        wall_offset_s: float = 0.0,
        launch: Mapping[str, int | str] | None = None,
    ) -> None:
        self.run = run
        self.start_s = start_s
        self.name = f"{HOST}-{pid}-{number:04x}"
        self.prefix = chr(ord("a") + number - 1)
        self.program_path = run.path / f"journal.{self.name}.jsonl"
        self.meter_path = run.path / f"journal.{self.name}.meter.jsonl"
        self.period_s = 0.1
        self._pid, self._stages, self._samples = pid, 0, 0
        if anchor:
            self.program(
                "session_started",
                start_s,
                utc_ns=EPOCH_UTC_NS + nanoseconds(start_s + wall_offset_s),
                session=self.name,
                run_id=run.run_id,
                pid=pid,
                host=host,
                boot_id=boot,
                stillwatt="0.1.0",
                python="3.11.0",
                **(launch or {}),
            )

    def program(self, event: str, t_s: float, **fields: Any) -> None:
        """Append to the measured program's journal."""
        _append(self.program_path, {"event": event, "t_ns": nanoseconds(t_s), **fields})

    def meter(self, event: str, t_s: float, **fields: Any) -> None:
        """Append to the sampling process's journal."""
        _append(self.meter_path, {"event": event, "t_ns": nanoseconds(t_s), **fields})

    def sampler(
        self,
        channels: Sequence[Channel],
        *,
        period_s: float = 0.1,
        absent: Sequence[Absent] = (),
        t_s: float | None = None,
        parts: Mapping[str, str] | None = None,
        program: Sequence[int] | None = None,
    ) -> None:
        """Begin the sampling process."""
        self.period_s = period_s
        drivers = sorted({channel.driver for channel in channels})
        self.meter(
            "sampler_started",
            self.start_s if t_s is None else t_s,
            pid=self._pid + 5000,
            period_ns=nanoseconds(period_s),
            probes=[{"driver": driver, "usable": True, "detail": "synthetic", "cure": ""} for driver in drivers],
            channels=[asdict(channel) for channel in channels],
            absent=[asdict(part) for part in absent],
            **({} if parts is None else {"parts": dict(parts)}),
            **({} if program is None else {"program": list(program)}),
        )

    def samples(self, stream: str, signal: Signal, *, until_s: float, from_s: float | None = None) -> None:
        """Store a stream's samples at every period from the session's start."""
        writer = RawWriter(raw_path(self.run.path, self.name, stream))
        first = self.start_s if from_s is None else from_s
        for tick in range(round((until_s - first) / self.period_s) + 1):
            t_s = first + tick * self.period_s
            writer.append(nanoseconds(t_s), signal(t_s))
            self._samples += 1
            if tick % 10 == 0:  # one block a second, as the sampling process writes them
                writer.flush()
        writer.close()

    def stage(
        self,
        name: str,
        start_s: float,
        end_s: float | None,
        *,
        kind: str = "other",
        parent: str | None = None,
        attempt: int = 1,
        labels: Mapping[str, str] | None = None,
        workload: Mapping[str, float] | None = None,
        results: Mapping[str, Any] | None = None,
        status: str = "ended",
        error: str | None = None,
    ) -> str:
        """Write a stage's events, in one go; `end_s=None` leaves it open. Returns its id."""
        stage_id = self.begin(name, start_s, kind=kind, parent=parent, attempt=attempt, labels=labels)
        last_s = start_s if end_s is None else end_s
        if workload:
            self.program("workload", last_s, stage_id=stage_id, counts=dict(workload))
        if results:
            self.program("result", last_s, stage_id=stage_id, results=dict(results))
        if end_s is not None:
            self.finish(stage_id, end_s, status=status, error=error)
        return stage_id

    def begin(
        self,
        name: str,
        t_s: float,
        *,
        kind: str = "other",
        parent: str | None = None,
        attempt: int = 1,
        labels: Mapping[str, str] | None = None,
    ) -> str:
        """Open a stage, for those that hold others."""
        self._stages += 1
        stage_id = f"{self.prefix}{self._stages}"
        self.program(
            "stage_started",
            t_s,
            stage_id=stage_id,
            parent_id=parent,
            name=name,
            kind=kind,
            attempt=attempt,
            labels=dict(labels or {}),
        )
        return stage_id

    def finish(self, stage_id: str, t_s: float, *, status: str = "ended", error: str | None = None) -> None:
        """Close a stage."""
        self.program("stage_ended", t_s, stage_id=stage_id, status=status, error=error)

    def gap(self, stream: str, start_s: float, end_s: float, *, failed_reads: int = 1, reason: str = "lost") -> None:
        """Report a span without readings."""
        self.meter(
            "gap",
            end_s,
            stream=stream,
            start_ns=nanoseconds(start_s),
            end_ns=nanoseconds(end_s),
            failed_reads=failed_reads,
            reason=reason,
        )

    def end(self, t_s: float, *, status: str = "ended", sampler: bool = True, cpu_s: float = 0.25) -> None:
        """End both processes well; `sampler=False` says nothing of the sampling process."""
        utc_ns = EPOCH_UTC_NS + nanoseconds(t_s)
        self.program("session_ended", t_s, utc_ns=utc_ns, status=status, lost_events=0)
        if sampler:
            self.sampler_end(t_s, cpu_s=cpu_s)

    def sampler_end(self, t_s: float, *, cpu_s: float = 0.25) -> None:
        """End the sampling process alone."""
        self.meter("sampler_ended", t_s, samples=self._samples, failed_reads=0, skipped_ticks=0, cpu_s=cpu_s)

    def parent_lost(self, t_s: float) -> None:
        """The measured program was killed; the sampling process saw it and ended."""
        self.meter("parent_lost", t_s)
        self.sampler_end(t_s)


def quick_run(runs_dir: Path, *, number: int = 1, name: str = "demo") -> SyntheticRun:
    """A finished run: 100 W idle, then a teacher at 300 W and a student at 200 W, four seconds each, GPU and CPU."""
    run = SyntheticRun(runs_dir, name=name, number=number)
    session = run.session(start_s=100.0)
    session.sampler([gpu_counter(), gpu_power(), cpu_counter()])
    session.stage("idle_baseline", 101.0, 105.0, kind="idle_baseline")
    session.stage("teacher_logits", 106.0, 110.0, kind="teacher_logits", workload={"tokens": 4096})
    outer = session.begin("train.sft.1.0", 111.0, kind="student_train", labels={"arm": "sft", "method": "sft"})
    session.stage("evaluate.sft.1.0", 113.0, 114.0, kind="evaluate", parent=outer, results={"scores": []})
    session.program("workload", 115.0, stage_id=outer, counts={"tokens": 2048, "steps": 4})
    session.finish(outer, 115.0)
    session.samples("gpu0.energy_counter", lambda t_s: round(_quick_energy_j(t_s) / J_PER_MJ_MILLI), until_s=116.2)
    session.samples("gpu0.power", _quick_power_w, until_s=116.2)
    session.samples("cpu0.energy_counter", constant_counter(20.0, J_PER_UJ), until_s=116.2)
    session.end(116.0)
    return run


_QUICK = (
    (100.0, 106.0, 100.0),
    (106.0, 110.0, 300.0),
    (110.0, 111.0, 100.0),
    (111.0, 115.0, 200.0),
    (115.0, 1e9, 100.0),
)


def _quick_power_w(t_s: float) -> float:
    return next(power_w for start_s, end_s, power_w in _QUICK if start_s <= t_s < end_s)


def _quick_energy_j(t_s: float) -> float:
    return sum(power_w * max(0.0, min(t_s, end_s) - start_s) for start_s, end_s, power_w in _QUICK)


def raw_records(path: Path) -> list[tuple[int, float]]:
    """The samples of a raw file without the seals of its blocks; a torn end is left out."""
    data = path.read_bytes()
    records = RECORD.iter_unpack(data[: len(data) - len(data) % RECORD.size])
    return [(t_ns, count) for t_ns, count in records if t_ns >= 0]


def _append(path: Path, event: Mapping[str, Any]) -> None:
    writer = JournalWriter(path)
    writer.write(event)
    writer.close()
