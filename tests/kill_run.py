"""A measured program, or a posting, that is killed at a random moment, and what the books say afterwards.

The program measures a made-up instrument of constant power, so that every stage's energy is known from its length.
It tells of each stage once its end is behind it; what was told before the kill must be in the record, intact.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from run_dirs import quick_run
from stillwatt.ledger.journal import read_journal
from stillwatt.ledger.post import build_record
from stillwatt.ledger.rundir import list_run_dirs
from stillwatt.ledger.segments import read_segment
from stillwatt.ledger.store import LedgerStore
from stillwatt.records import Energy, RunRecord, StageStatus
from stillwatt.units import NS_PER_S

WATTS = 200.0
PROGRAM = """
import sys, time
import stillwatt
channel = {"part": "gpu0", "quantity": "energy_counter", "shape": "constant", "watts": 200.0, "gain_bound_rel": 0.0}
options = {"synthetic": {"channels": [channel]}}
with stillwatt.Run("killed", runs_dir=sys.argv[1], sensors=("synthetic",), options=options) as run:
    for number in range(1000):
        with run.stage(f"work-{number}") as stage:
            begun_s = time.monotonic()
            stage.add_tokens(100 + number)
            time.sleep(float(sys.argv[2]))
            ended_s = time.monotonic()
        print(number, begun_s, ended_s, flush=True)
"""
STAGE_S = 0.2


@dataclass(slots=True)
class Kill:
    """What one kill cost."""

    victim: str
    stages_told: int
    lost_s: float
    """From the last sample that was kept to the kill."""
    faults: list[str] = field(default_factory=list)


def kill_sampling(folder: Path, chance: random.Random) -> Kill:
    """Kill a measured program, its sampling process, or both, after a random time; look at what was kept."""
    victim = chance.choice(["program", "sampler", "both"])
    runs_dir = folder / "runs"
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(runs_dir), str(STAGE_S)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert program.stdout is not None
    told = [program.stdout.readline()]  # the sampling process is up once a stage has ended
    time.sleep(chance.uniform(0.0, 4.0))
    killed_s = time.monotonic()
    sampler = _sampler(runs_dir)
    if victim in ("sampler", "both"):
        os.kill(sampler, signal.SIGKILL)
    if victim == "sampler":
        time.sleep(1.0)  # the program must go on without its meter, and end well or badly as it likes
    program.kill()
    told += program.stdout.read().splitlines()
    program.wait()
    program.stdout.close()
    if victim == "program":
        _wait_gone(sampler)
    return _judge(runs_dir, victim, killed_s, [line for line in told if line.count(" ") == 2])


def _judge(runs_dir: Path, victim: str, killed_s: float, told: list[str]) -> Kill:
    (run_dir,) = list_run_dirs(runs_dir)
    record = build_record(run_dir)
    stages = {stage.name: stage for stage in record.stages}
    (session,) = {path.name.split(".")[1] for path in run_dir.glob("journal.*.jsonl")}
    last_ns = int(read_segment(run_dir, session, "gpu0.energy_counter").t_ns[-1])
    kill = Kill(victim=victim, stages_told=len(told), lost_s=killed_s - last_ns / NS_PER_S)
    if record.status is not StageStatus.RECOVERED:
        kill.faults.append(f"the record's status is {record.status}")
    for line in told:
        number, begun_s, ended_s = line.split()
        stage = stages.get(f"work-{number}")
        if stage is None:
            kill.faults.append(f"stage {number} was told and is not in the record")
        elif stage.workload != {"tokens": 100 + int(number)} or stage.status is not StageStatus.ENDED:
            kill.faults.append(f"stage {number} has workload {dict(stage.workload)}, status {stage.status}")
        elif float(ended_s) < last_ns / NS_PER_S:
            kill.faults += _energy_faults(record, f"work-{number}", float(begun_s), float(ended_s))
    return kill


def _energy_faults(record: RunRecord, name: str, begun_s: float, ended_s: float) -> list[str]:
    """A stage that was sampled to its end has its known energy in its interval, whole."""
    stage = next(stage for stage in record.stages if stage.name == name)
    (energy,) = stage.energies
    true_j = WATTS * (ended_s - begun_s)
    slack_j = WATTS * 0.01  # the program takes its own times a little inside the stage's
    if not isinstance(energy, Energy):
        return [f"{name}: {energy}"]
    if not energy.low_j - slack_j <= true_j <= energy.high_j + slack_j or energy.missing_s:
        return [f"{name}: {energy.value_j} J [{energy.low_j}, {energy.high_j}], truly {true_j} J"]
    return []


def kill_posting(folder: Path, chance: random.Random, *, slowest_s: float) -> list[str]:
    """Kill a posting after a random time; the next one must give what an undisturbed one gives. Gives the faults."""
    runs_dir = folder / "runs"
    run_ids = [quick_run(runs_dir, number=number + 1).run_id for number in range(6)]
    whole = {run_id: build_record(runs_dir / run_id) for run_id in run_ids}
    posting = subprocess.Popen(
        [sys.executable, "-m", "stillwatt", "ledger", "list", "--runs", str(runs_dir)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(chance.uniform(0.0, slowest_s))
    posting.kill()
    posting.wait()
    with LedgerStore(runs_dir) as store:
        problems = [problem.message for problem in store.refresh().problems]
        found = {run_id: store.get(run_id) for run_id in run_ids}
    shutil.rmtree(runs_dir)
    return problems + [
        f"{run_id} differs after a killed posting" for run_id in run_ids if found[run_id] != whole[run_id]
    ]


def _sampler(runs_dir: Path) -> int:
    """The number of the one sampling process."""
    (journal,) = runs_dir.glob("*/*.meter.jsonl")
    (started,) = [event for event in read_journal(journal).events if event["event"] == "sampler_started"]
    return int(started["pid"])


def _wait_gone(pid: int, patience_s: float = 10.0) -> None:
    limit_s = time.monotonic() + patience_s
    while time.monotonic() < limit_s:
        with contextlib.suppress(FileNotFoundError):
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                time.sleep(0.02)
                continue
        return
    raise AssertionError("the sampling process outlives the program it measures")
