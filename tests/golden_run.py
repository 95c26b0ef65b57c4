"""The run whose directory and record are committed in tests/golden/run_contract."""

from __future__ import annotations

from pathlib import Path

from run_dirs import (
    SyntheticRun,
    SyntheticSession,
    constant_counter,
    constant_power,
    dram_model,
    gpu_counter,
    gpu_power,
)
from stillwatt.ledger.segments_raw import raw_path
from stillwatt.records import Absent, Boundary
from stillwatt.units import J_PER_MJ_MILLI


def golden_run(runs_dir: Path) -> SyntheticRun:
    """A run with everything in it: killed and resumed, failed and cut-off stages, a gap, an absent part, torn ends.

    Committed in tests/golden/run_contract with the record it gives. Times are whole eighths of a second, so that no
    sum depends on its order and the record is the same to the byte on every machine.
    """
    run = SyntheticRun(runs_dir, name="golden \u00fc", number=7, settings={"sample_period_ms": 125, "seed": 1})
    channels = [gpu_counter(), gpu_power(), dram_model()]
    absent = [Absent(part="cpu0", boundary=Boundary.CHIP, reason="energy_uj is readable by root only")]

    first = run.session(start_s=100.0)
    first.sampler(channels, absent=absent, period_s=0.125)
    first.stage("idle_baseline", 100.5, 102.5, kind="idle_baseline")
    first.stage(
        "teacher_logits",
        103.0,
        105.0,
        kind="teacher_logits",
        labels={"artifact": "logits-0123456789ab", "artifact_kind": "logits"},
        workload={"tokens": 4096},
        results={"kept_mass": 0.97, "bytes": 12288},
    )
    first.stage("train.kd.1.0", 105.5, None, kind="student_train", labels={"arm": "kd"}, workload={"tokens": 512})
    first.gap("dram0.power", 103.5, 103.75, failed_reads=2, reason="read timed out")
    _golden_samples(first, until_s=107.0)
    first.parent_lost(106.875)
    with raw_path(run.path, first.name, "gpu0.power").open("ab") as file:
        file.write(b"torn")
    with first.program_path.open("ab") as file:
        file.write(b'{"event":"workload","t_ns":1068')

    second = run.session(start_s=200.0)
    second.sampler(channels, absent=absent, period_s=0.125)
    outer = second.begin("train.kd.1.0", 200.5, kind="student_train", attempt=2, labels={"arm": "kd"})
    second.stage("checkpoint", 202.0, 202.5, parent=outer)
    second.program("workload", 203.0, stage_id=outer, counts={"tokens": 2048, "steps": 4})
    second.finish(outer, 203.0)
    second.stage(
        "evaluate.kd.1.0",
        203.5,
        204.0,
        kind="evaluate",
        status="failed",
        error="RuntimeError: out of memory",
        results={"scores": [{"task": "perplexity", "value": 9.5, "se": 0.25, "n": 64, "higher_is_better": False}]},
    )
    _golden_samples(second, until_s=205.0)
    second.end(204.75, status="failed")
    return run


def _golden_samples(session: SyntheticSession, *, until_s: float) -> None:
    counter = constant_counter(200.0, J_PER_MJ_MILLI, offset=1_000_000.0)
    session.samples("gpu0.energy_counter", counter, until_s=until_s)
    session.samples("gpu0.power", constant_power(200.0), until_s=until_s)
    session.samples("dram0.power", constant_power(3.0), until_s=until_s)
