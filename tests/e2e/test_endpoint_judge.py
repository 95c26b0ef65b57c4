"""A recipe whose judge is a server, as a person runs it: incomplete totals, exit code 3, and no key in any file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from endpoint_server import EndpointServer, endpoint_server
from judge_server import judging

pytest.importorskip("torch", reason="the distill extra is not installed")

pytestmark = pytest.mark.slow

KEY = "sk-never-to-be-seen-0123456789"
JUDGE = (
    'evaluate.judge={source="endpoint", mode="pairwise", against="text", rubric="continuation-pairwise-1", '
    'form="chat", prompts=4, prompt_tokens=8, answer_tokens=6, temperature=0.0, batch_size=6, seed=1, in_quality=true}'
)
SMALL = (
    'arms=[{name="sft", method="sft"}]', "train.checkpoints=[1.0]", "meter.idle_baseline_s=0.0",
    "evaluate.choice_items=0", "evaluate.perplexity_tokens=64",
)  # fmt: skip


def run(directory: Path, server: EndpointServer) -> subprocess.CompletedProcess[str]:
    text = (Path(__file__).parents[2] / "recipes" / "smoke_cpu.toml").read_text(encoding="utf-8")
    for table in ("teacher_logits", "teacher_generate", "student_generate", "serve"):
        start = text.index(f"[{table}]")
        text = text[:start] + text[text.index("\n[", start) + 1 :]
    (directory / "judged.toml").write_text(text, encoding="utf-8")
    asked = f'evaluate.judge_endpoint={{url="{server.url}", model="judge", api="chat", api_key_env="JUDGE_KEY"}}'
    overrides = [part for setting in (JUDGE, asked, *SMALL) for part in ("--set", setting)]
    command = [sys.executable, "-m", "stillwatt", "run", str(directory / "judged.toml"), *overrides]
    env = {**os.environ, "JUDGE_KEY": KEY}
    return subprocess.run(
        [*command, "--runs", str(directory / "runs")],
        capture_output=True, text=True, check=False, timeout=300, env=env,
    )  # fmt: skip


def test_a_servers_verdicts_are_scores_and_its_joules_are_missed(tmp_path: Path) -> None:
    with endpoint_server(judging(lambda prompt: 0.25)) as server:
        done = run(tmp_path, server)
        asked = list(server.asked)
    assert done.returncode == 3, done.stdout + done.stderr
    assert len(asked) == 4 * 8
    assert {each.headers["Authorization"] for each in asked} == {f"Bearer {KEY}"}
    (run_dir,) = [path for path in (tmp_path / "runs").iterdir() if (path / "report.json").exists()]
    report: dict[str, Any] = json.loads((run_dir / "report.json").read_text(encoding="utf-8"))
    (point,) = report["arms"]
    score = next(score for score in point["scores"] if score["task"].startswith("judge:win_vs_text@"))
    assert (score["value"], score["n"]) == (pytest.approx(0.5), 4)
    page = (run_dir / "report.html").read_text(encoding="utf-8")
    assert "judge at 127.0.0.1" in page
    assert "changes its winner with the order of the answers in 100.0 %" in page
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY.encode() not in kept + done.stdout.encode() + done.stderr.encode()
