"""Nodes with disks, names, boots and clocks of their own: brought together into one run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from stillwatt.records import RunRecord, Total
from stillwatt.workflows import books

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).parent.parent / "node_program.py"
WALL_OFFSETS_S = (0.0, 3.2)
MONOTONIC_OFFSETS_S = (0, 5000)
SETTLE = "mount --bind {boot} /proc/sys/kernel/random/boot_id && hostname {host} && exec {command}"


def can_be_nodes() -> bool:
    """Whether this machine lets us make namespaces with clocks of their own."""
    if shutil.which("unshare") is None or os.geteuid() != 0:
        return False
    command = ["unshare", "--uts", "--net", "--mount", "--time", "--monotonic", "10", "sh", "-c", "hostname other"]
    return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0


def run_nodes(tmp_path: Path) -> list[Path]:
    """Two nodes measure one launch at once; gives their folders of runs."""
    if not can_be_nodes():
        pytest.skip("network, host name and time namespaces cannot be made here (root on Linux 5.6 and later can)")
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    folders, running = [], []
    for rank, (wall_s, monotonic_s) in enumerate(zip(WALL_OFFSETS_S, MONOTONIC_OFFSETS_S, strict=True)):
        folder, boot = tmp_path / f"disk-{rank}", tmp_path / f"boot-{rank}"
        boot.write_text(f"{rank:08d}-2222-4333-8444-555555555555\n")
        program = f"{sys.executable} {PROGRAM} {folder} {meeting} {rank} {len(WALL_OFFSETS_S)} {wall_s}"
        script = SETTLE.format(boot=boot, host=f"node-{rank}", command=program)
        command = [
            "unshare",
            "--uts",
            "--net",
            "--mount",
            "--time",
            "--monotonic",
            str(monotonic_s),
            "sh",
            "-c",
            script,
        ]
        running.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        folders.append(folder)
    for node in running:
        _, errors = node.communicate(timeout=120)
        assert node.returncode == 0, errors
    return folders


def joules(record: RunRecord) -> float:
    assert isinstance(record.total, Total)
    return record.total.value_j


def seconds_of(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_nodes_come_together_in_one_run(tmp_path: Path) -> None:
    folders = run_nodes(tmp_path)
    alone = [books.show_run(folder, "nodes") for folder in folders]
    assert not any(record.complete for record in alone)
    assert "1 of 2 ranks have no journal here (1)" in alone[0].warnings[0]
    runs = tmp_path / "runs"
    (first,) = books.post(runs, [folders[0]])
    assert first.is_new
    (second,) = books.post(runs, [folders[1]])
    assert (second.run_id, second.is_new) == (first.run_id, False)
    record = books.show_run(runs, "nodes")
    assert record.complete
    assert joules(record) == pytest.approx(sum(map(joules, alone)), rel=1e-9)
    assert sum(stage.workload["tokens"] for stage in record.stages) == 60
    assert set(record.environment["nodes"]) == {alone[1].run_id}
    # the wall clock that ran ahead is put right by the marks; both nodes' steps then begin together
    (said,) = [warning for warning in record.warnings if "wall clock" in warning]
    assert said.startswith("the wall clock of node-1 was ")
    assert float(said.split()[6]) == pytest.approx(WALL_OFFSETS_S[1], abs=0.1)
    assert "3 shared marks" in said
    starts = sorted(seconds_of(stage.start_utc) for stage in record.stages)
    for ours, theirs in zip(starts[::2], starts[1::2], strict=True):
        assert abs(theirs - ours) < 0.2
    assert record.duration_s < max(each.duration_s for each in alone) + 1.0
    again = books.post(runs, folders)
    assert [each.files for each in again] == [(), ()]
    assert not [finding for finding in books.verify(runs) if finding.severity.value == "error"]
    books.rebuild(runs)
    assert books.show_run(runs, "nodes") == record
