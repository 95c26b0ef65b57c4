"""Recipes that train on a cache that is there already, run as a person runs them: books, exit status, ranks, sweeps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the distill extra is not installed")

from given_tables import RECIPE, rows_of, write_harness
from stillwatt.ledger.post import build_record
from stillwatt.ledger.rundir import list_run_dirs
from stillwatt.records import Absent, RunRecord, StageRecord, Total

pytestmark = pytest.mark.slow

LENGTHS = (20, 32, 9, 15, 32, 11, 28, 7, 30, 32, 32, 24, 32, 31)
VOCAB = 257
_OWN = "top_k = 20\ntemperature = 1.0\nbatch_size = 4\n"
SWEEP = """
[sweep]
recipe = "{recipe}"
arm = "kd"
method = "grid"
seed = 1
objectives = ["quality"]
[sweep.parameters]
"arms.kd.alpha" = {{ choices = [0.1, 0.5] }}
"""


def stillwatt(folder: Path, *arguments: str, status: int, launcher: tuple[str, ...] = ()) -> str:
    told = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "STILLWATT_HOME": str(folder / "home")}
    command = [sys.executable, *launcher, "-m", "stillwatt", *arguments]
    done = subprocess.run(command, cwd=folder, env=told, capture_output=True, text=True, timeout=300, check=False)
    # a launcher tells of any status of its processes by 1
    assert done.returncode == (1 if launcher and status else status), done.stderr[-3000:] + done.stdout[-2000:]
    return done.stdout


def converted(folder: Path) -> str:
    """A harness-style table, brought in by the command line; by a path that hangs on where the program runs."""
    write_harness(folder / "table", rows_of(VOCAB, LENGTHS))
    how = ("--scheme", "rows", "--top-k", "20", "--vocab-size", str(VOCAB), "--temperature", "1")
    stillwatt(folder, "cache", "convert", "table", "cache", *how, status=0)
    return "cache"


def write_recipe(folder: Path, cache: str, text: str, name: str = "recipe.toml") -> Path:
    (folder / name).write_text(RECIPE.format(cache=cache, text=text), encoding="utf-8")
    return folder / name


def records(folder: Path, runs: str = "runs") -> list[RunRecord]:
    return [build_record(path) for path in list_run_dirs(folder / runs)]


def stage(record: RunRecord, name: str) -> StageRecord:
    """The first rank's, which has the results, whichever rank began first."""
    return next(each for each in record.stages if each.name == name and each.labels.get("rank", "0") == "0")


def report(folder: Path, record: RunRecord, runs: str = "runs") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / runs / record.run_id / "report.json").read_text(encoding="utf-8"))
    return found


def test_what_a_brought_in_cache_took_is_absent_on_the_books_and_the_run_exits_with_3(tmp_path: Path) -> None:
    cache = converted(tmp_path)
    write_recipe(tmp_path, cache, f"cache:{cache}")
    said = stillwatt(tmp_path, "run", "recipe.toml", status=3)
    assert "Distilling took more than is said here, and nobody knows how much: logit_cache in teacher_logits" in said
    (record,) = records(tmp_path)
    (part,) = [each for each in stage(record, "teacher_logits").energies if each.part == "logit_cache"]
    assert isinstance(part, Absent)
    assert "brought in" in part.reason
    assert isinstance(record.total, Total)
    assert not record.total.complete
    assert "logit_cache" in record.total.absent
    assert any("does not name its tokenizer" in warning for warning in record.warnings)
    (row,) = record.to_dict()["caches"]
    assert "brought in" in row["made_j_per_token"]["absent"]
    assert isinstance(row["read_j_per_token"]["value_j"], float)
    plan = stillwatt(tmp_path, "plan", "recipe.toml", status=0)
    assert "not in the total: teacher_logits" in plan
    advice = stillwatt(tmp_path, "advise", "--budget", "5 kJ", status=0)
    assert "its cache of logits was there already" in advice
    assert "not whole" in stillwatt(tmp_path, "account", "latest", "--region", "FRA", status=3)


def test_a_cache_that_a_run_beside_it_made_is_pointed_to_and_the_run_is_whole(tmp_path: Path) -> None:
    own = write_recipe(tmp_path, "none", "random-words", "own.toml")
    own.write_text(own.read_text().replace('source = "path:none"\n', _OWN), encoding="utf-8")
    stillwatt(tmp_path, "run", "own.toml", status=0)
    (cache,) = (tmp_path / "runs" / "artifacts").iterdir()
    write_recipe(tmp_path, f"runs/artifacts/{cache.name}", "random-words")
    stillwatt(tmp_path, "run", "recipe.toml", status=0)
    maker, reader = sorted(
        records(tmp_path), key=lambda record: "reused_from" in stage(record, "teacher_logits").labels
    )
    assert stage(reader, "teacher_logits").labels["reused_from"] == maker.run_id
    assert stage(reader, "teacher_logits").labels["artifact"] == cache.name
    assert isinstance(reader.total, Total)
    assert reader.total.complete
    for name in ("train.kd.0.5", "train.kd.1.0"):
        assert stage(reader, name).results["loss_last"] == stage(maker, name).results["loss_last"]
    # the maker's joules are on the reader's bill of the arm
    made = stage(maker, "teacher_logits").gross
    point = next(arm for arm in report(tmp_path, reader)["arms"] if arm["arm"] == "kd" and arm["is_final"])
    assert isinstance(made, Total)
    assert point["teacher"]["value_j"] == pytest.approx(made.value_j, rel=1e-6)


def test_a_run_that_is_killed_goes_on_to_the_same_student(tmp_path: Path) -> None:
    cache = converted(tmp_path)
    write_recipe(tmp_path, cache, f"cache:{cache}")
    stillwatt(tmp_path, "run", "recipe.toml", "--runs", "whole", status=3)
    told = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "STILLWATT_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "stillwatt", "run", "recipe.toml", "--runs", "cut"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=told, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("train.kd.1.0"):
                process.kill()
                break
    assert process.returncode == -signal.SIGKILL
    stillwatt(tmp_path, "run", "recipe.toml", "--runs", "cut", status=3)
    (record,) = records(tmp_path, "cut")
    assert isinstance(record.total, Total)
    assert "logit_cache" in record.total.absent
    weights = [next((tmp_path / runs).glob("2*/state/checkpoints/kd/1.0/*.safetensors")) for runs in ("whole", "cut")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_two_ranks_read_their_own_rows_and_come_to_the_same_losses(tmp_path: Path) -> None:
    cache = converted(tmp_path)
    write_recipe(tmp_path, cache, f"cache:{cache}")
    stillwatt(tmp_path, "run", "recipe.toml", "--runs", "one", "--set", "train.accumulation_steps=2", status=3)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    more = ("--runs", "two", "--set", "train.accumulation_steps=2")
    stillwatt(tmp_path, "run", "recipe.toml", *more, status=3, launcher=launcher)
    (one,), (two,) = records(tmp_path, "one"), records(tmp_path, "two")
    for name in ("train.kd.0.5", "train.kd.1.0"):
        for key in ("loss_first", "loss_last"):
            assert stage(two, name).results[key] == pytest.approx(stage(one, name).results[key], rel=1e-5)
    absent = [part for each in two.stages for part in each.energies if part.part == "logit_cache"]
    assert len(absent) == 1


def test_a_sweep_over_it_has_the_same_cache_in_every_trial(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="the sweep extra is not installed")
    cache = converted(tmp_path)
    write_recipe(tmp_path, cache, f"cache:{cache}")
    (tmp_path / "sweep.toml").write_text(SWEEP.format(recipe="recipe.toml"), encoding="utf-8")
    stillwatt(tmp_path, "sweep", "sweep.toml", status=3)
    (folder,) = [path.parent for path in tmp_path.rglob("trials")] or [tmp_path / "runs"]
    trials = [build_record(path) for path in list_run_dirs(folder)]
    assert len(trials) == 2
    assert len({stage(trial, "teacher_logits").labels["artifact"] for trial in trials}) == 1
