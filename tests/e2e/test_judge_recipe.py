"""A recipe with a judge from end to end, as a person runs it: from TOML to ledger, report and comparison."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the distill extra is not installed")

pytestmark = pytest.mark.slow

JUDGE = (
    'evaluate.judge={source="teacher", dtype="float32", mode="pairwise", against="text", '
    'rubric="continuation-pairwise-1", form="plain", prompts=6, prompt_tokens=8, answer_tokens=6, temperature=0.0, '
    "batch_size=6, seed=1, in_quality=true}"
)
SMALL = (
    'arms=[{name="sft", method="sft"}]', "train.checkpoints=[1.0]", "meter.idle_baseline_s=0.0",
    "evaluate.choice_items=0", "evaluate.perplexity_tokens=64",
)  # fmt: skip


LAUNCH = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def stillwatt(*arguments: str, runs: Path, launch: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *launch, "-m", "stillwatt", *arguments, "--runs", str(runs)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment |= {"PYTHONWARNINGS": "ignore"} if launch else {}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)


def run_judged(directory: Path, *, launch: tuple[str, ...] = ()) -> Path:
    """A short recipe: one arm, no serving load, a judge."""
    text = (Path(__file__).parents[2] / "recipes" / "smoke_cpu.toml").read_text(encoding="utf-8")
    for table in ("teacher_logits", "teacher_generate", "student_generate", "serve"):
        start = text.index(f"[{table}]")
        text = text[:start] + text[text.index("\n[", start) + 1 :]
    recipe = directory / "judged.toml"
    recipe.write_text(text, encoding="utf-8")
    overrides = [part for setting in (JUDGE, *SMALL) for part in ("--set", setting)]
    done = stillwatt("run", str(recipe), *overrides, runs=directory / "runs", launch=launch)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the judge is the teacher that was distilled" in done.stdout + done.stderr
    return directory / "runs"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_judged(tmp_path_factory.mktemp("judged"))


@pytest.fixture(scope="module")
def record(runs: Path) -> dict[str, Any]:
    done = stillwatt("ledger", "show", "latest", "--json", runs=runs)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_books_with_a_judge_close_to_the_joule(record: dict[str, Any]) -> None:
    by_name = {stage["name"]: stage for stage in record["stages"]}
    judged = [name for name in by_name if name.startswith("judge.")]
    assert judged == ["judge.planted", "judge.teacher", "judge.start", "judge.sft.1.0"]
    assert all(by_name[name]["gross_j"]["value_j"] > 0 and by_name[name]["workload"]["tokens"] > 0 for name in judged)
    roots = sum(stage["gross_j"]["value_j"] for stage in record["stages"] if stage["parent_id"] is None)
    assert roots + record["unallocated_j"]["value_j"] == pytest.approx(record["total_j"]["value_j"], rel=1e-9)
    assert by_name["load_judge"]["parent_id"] == by_name["judge.planted"]["stage_id"]


def test_the_score_is_in_the_report_and_on_the_arms_bill(runs: Path, record: dict[str, Any]) -> None:
    (run_dir,) = [path for path in runs.iterdir() if (path / "report.json").exists()]
    report = json.loads((run_dir / "report.json").read_text(encoding="utf-8"))
    (point,) = report["arms"]
    score = next(score for score in point["scores"] if score["task"].startswith("judge:win_vs_text@"))
    assert 0.0 <= score["value"] <= 1.0
    assert score["n"] == 6
    assert score["task"] in {task["task"] for task in point["quality"]["tasks"]}
    rows = {row["label"]: row for row in report["stage_table"]["rows"] if row["arm"] == "sft"}
    evaluated = sum(
        stage["gross_j"]["value_j"] for stage in record["stages"]
        if stage["name"] in ("evaluate.sft.1.0", "judge.sft.1.0")
    )  # fmt: skip
    assert point["evaluation"]["value_j"] == pytest.approx(evaluated)
    assert rows["judge"]["energy"]["value_j"] > 0
    assert report["stage_table"]["closes"] is True
    page = (run_dir / "report.html").read_text(encoding="utf-8")
    assert "Judged answers" in page
    assert score["task"].removeprefix("judge:") in page


def test_ranks_of_a_launch_share_the_judges_questions_and_read_what_one_process_reads(
    runs: Path, record: dict[str, Any], tmp_path: Path
) -> None:
    shared = run_judged(tmp_path, launch=LAUNCH)
    done = stillwatt("ledger", "show", "latest", "--json", runs=shared)
    assert done.returncode == 0, done.stderr
    stages = json.loads(done.stdout)["stages"]
    alone = {stage["name"]: stage for stage in record["stages"]}
    (one,), (two,) = ([path for path in folder.iterdir() if (path / "state").is_dir()] for folder in (runs, shared))
    # what was trained differs by the order of additions, and its answers may
    for name in ("planted", "teacher", "start"):
        ranks = [stage for stage in stages if stage["name"] == f"judge.{name}"]
        assert sorted(stage["labels"]["rank"] for stage in ranks) == ["0", "1"]
        for count in ("tokens", "samples"):
            read = [stage["workload"][count] for stage in ranks]
            assert min(read) > 0
            assert sum(read) == alone[f"judge.{name}"]["workload"][count]
        kept = f"state/judgements/{name}.json"
        assert (two / kept).read_bytes() == (one / kept).read_bytes()
        told = {stage["labels"]["rank"]: stage["results"] for stage in ranks}
        assert told["0"]["scores"] == alone[f"judge.{name}"]["results"]["scores"]
        assert not told["1"]
    loaded = [stage for stage in stages if stage["name"] == "load_judge"]
    assert sorted(stage["labels"]["rank"] for stage in loaded) == ["0", "1"]
    report = json.loads((two / "report.json").read_text(encoding="utf-8"))
    assert [score["task"] for point in report["arms"] for score in point["scores"]].count("perplexity") == 1
    assert report["stage_table"]["closes"] is True
