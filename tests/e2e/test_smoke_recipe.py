"""The smoke recipe from end to end, as a person runs it: tiny models, the real sampling process, real files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from stillwatt.records.window import ONLINE_TEACHER
from stillwatt.report.format import significant

pytest.importorskip("torch", reason="the distill extra is not installed")

RECIPE = "smoke_cpu"
ARMS = {"sft", "kd", "synthetic", "gkd"}
LOSSES = Path(__file__).parents[1] / "golden" / "losses" / "smoke_cpu.json"
"""Loss of every step of every arm; made anew from a smoke run's record by `tests/golden/losses/regenerate.py`."""

pytestmark = pytest.mark.slow


def stillwatt(*arguments: str, runs: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stillwatt", *arguments, "--runs", str(runs)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished smoke run, shared by the tests that only look at it."""
    runs = tmp_path_factory.mktemp("smoke")
    done = stillwatt("run", RECIPE, runs=runs)
    assert done.returncode == 0, done.stdout + done.stderr
    (runs / "stdout.txt").write_text(done.stdout, encoding="utf-8")
    return runs


def shown(runs: Path, reference: str = "latest") -> dict[str, Any]:
    done = stillwatt("ledger", "show", reference, "--json", runs=runs)
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def test_every_stage_of_every_arm_is_on_the_books(finished: Path) -> None:
    record = shown(finished)
    kinds = {stage["kind"] for stage in record["stages"]}
    assert kinds >= {
        "idle_baseline", "prepare_data", "teacher_logits", "teacher_generate", "student_train", "evaluate", "serve",
    }  # fmt: skip
    trained = {stage["labels"]["arm"] for stage in record["stages"] if stage["kind"] == "student_train"}
    assert trained == ARMS
    assert all(stage["status"] == "ended" for stage in record["stages"])
    assert all(stage["gross_j"]["value_j"] > 0 for stage in record["stages"])


def test_arms_see_the_same_budget(finished: Path) -> None:
    tokens: dict[str, float] = {}
    for stage in shown(finished)["stages"]:
        if stage["kind"] == "student_train":
            arm = stage["labels"]["arm"]
            tokens[arm] = tokens.get(arm, 0) + stage["workload"]["tokens"]
    assert len(tokens) == len(ARMS)
    assert max(tokens.values()) <= 1.1 * min(tokens.values()), tokens


def test_books_close_to_the_joule(finished: Path) -> None:
    record = shown(finished)
    stages = sum(stage["gross_j"]["value_j"] for stage in record["stages"] if stage["parent_id"] is None)
    assert stages + record["unallocated_j"]["value_j"] == pytest.approx(record["total_j"]["value_j"], rel=1e-9)


def test_rebuilt_ledger_is_equal(finished: Path) -> None:
    before = shown(finished)
    (finished / "ledger.sqlite").unlink()
    assert stillwatt("ledger", "rebuild", runs=finished).returncode == 0
    assert shown(finished) == before


def test_report_is_made_again_to_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    record = shown(finished)
    first = finished / record["run_id"]
    done = stillwatt("report", "latest", "--out", str(tmp_path), runs=finished)
    assert done.returncode == 0, done.stderr
    for name in ("report.html", "report.json"):
        assert (tmp_path / name).read_bytes() == (first / name).read_bytes()


def test_the_answer_is_on_the_terminal(finished: Path) -> None:
    text = (finished / "stdout.txt").read_text(encoding="utf-8")
    for word in (*ARMS, "N*", "T*", "per token", "95 %", "modelled", "report.html"):
        assert word in text


def test_losses_go_down_the_curve_that_is_committed(finished: Path) -> None:
    """Another arithmetic than the recipe's shows here before it shows in a score; rounding differs between machines."""
    told = {
        stage["name"]: stage["results"]["loss_curve"]
        for stage in shown(finished)["stages"]
        if stage["kind"] == "student_train"
    }
    golden = json.loads(LOSSES.read_text(encoding="utf-8"))
    assert told.keys() == golden.keys()
    for name, losses in golden.items():
        # text that a model draws may turn at one token by another machine's rounding, and go on differently
        is_drawn = name.split(".")[1] in {"synthetic", "gkd"}
        assert told[name] == pytest.approx(losses, rel=0.25 if is_drawn else 2e-4), name


def test_storage_is_a_row_of_the_account(finished: Path) -> None:
    (row,) = shown(finished)["caches"]
    (folder,) = (finished / "artifacts").glob("logits-*")
    assert row["artifact"] == folder.name
    assert row["kl_to_full"] > 0
    for key in ("made_j_per_token", "write_j_per_token", "read_j_per_token"):
        # a stage of milliseconds lies between two readings: its interval may begin at nothing
        assert 0 <= row[key]["low_j"] <= row[key]["value_j"] <= row[key]["high_j"], key
        assert row[key]["value_j"] > 0, key
        assert row[key]["basis"] == "modelled"
    assert row["write_j_per_token"]["value_j"] < row["made_j_per_token"]["value_j"]
    text = stillwatt("ledger", "show", "latest", runs=finished).stdout
    assert f"{significant(row['kl_to_full'], 3)} over {row['kl_positions']}" in text
    command = [sys.executable, "-m", "stillwatt", "cache", "info", str(folder), "--json"]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert told["account"] == {"run_id": shown(finished)["run_id"], **row}


def test_verify_finds_nothing_wrong(finished: Path) -> None:
    done = stillwatt("ledger", "verify", "--json", runs=finished)
    assert done.returncode == 0, done.stdout
    assert not [finding for finding in json.loads(done.stdout) if finding["severity"] == "error"]


def test_a_second_run_reuses_the_teachers_work(finished: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(finished, runs)  # for others the first stays the latest
    first = shown(runs)
    done = stillwatt("run", RECIPE, runs=runs)
    assert done.returncode == 0, done.stdout + done.stderr
    second = shown(runs)
    assert second["run_id"] != first["run_id"]
    made = [stage for stage in second["stages"] if stage["kind"] in ("teacher_logits", "teacher_generate")]
    # a teacher beside an on-policy student reads what was never written before: nothing of that can be used again
    reused = [stage for stage in made if stage["labels"].get("artifact_kind") != ONLINE_TEACHER]
    assert {stage["labels"].get("reused_from") for stage in reused} == {first["run_id"]}
    billed = [stage for stage in second["stages"] if stage["kind"] == "student_train"]
    assert billed


def test_kill_and_resume(tmp_path: Path) -> None:
    """Killed while an arm trains: the rest goes on from there, and the lost attempt keeps its energy."""
    command = [sys.executable, "-m", "stillwatt", "run", RECIPE, "--runs", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    _wait_for_stage(tmp_path, "train.kd", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    done = stillwatt("run", RECIPE, runs=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    record = shown(tmp_path)
    assert len(list(tmp_path.glob("*/manifest.json"))) == 1
    by_name: dict[str, list[dict[str, Any]]] = {}
    for stage in record["stages"]:
        by_name.setdefault(stage["name"], []).append(stage)
    assert [len(by_name[name]) for name in ("idle_baseline", "prepare_data", "teacher_logits")] == [1, 1, 1]
    lost = [stage for stage in record["stages"] if stage["status"] == "recovered"]
    assert len(lost) == 1
    again = by_name[lost[0]["name"]]
    assert [(s["attempt"], s["status"]) for s in again] == [(1, "recovered"), (2, "ended")]
    assert lost[0]["gross_j"]["value_j"] > 0
    assert stillwatt("report", "latest", "--out", str(tmp_path / "out"), runs=tmp_path).returncode == 0
    assert "experimentation" in (tmp_path / "out" / "report.json").read_text(encoding="utf-8")


def _wait_for_stage(runs: Path, prefix: str, process: subprocess.Popen[bytes]) -> None:
    """Until a stage of that name has begun; its journal line is on disk at once."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it could be killed"
        for journal in runs.glob("*/journal.*.jsonl"):
            if f'"name":"{prefix}' in journal.read_text(encoding="utf-8"):
                return
        time.sleep(0.02)
    raise AssertionError(f"no stage {prefix}* within four minutes")
