"""Under torchrun two ranks train and cache logits as one process does, and the machine's energy counts once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the distill extra is not installed")

from safetensors.torch import load_file

from stillwatt.ledger.rundir import list_run_dirs, sessions
from stillwatt.records import Total
from stillwatt.workflows.books import show_run

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).parent.parent / "train_program.py"
LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def launch(folder: Path, name: str, *before: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "CUDA_VISIBLE_DEVICES": ""}
    paths = [str(PROGRAM.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    command = [sys.executable, *before, str(PROGRAM), str(folder), name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def check_scores(one: dict[str, Any], first: dict[str, Any], second: dict[str, Any]) -> None:
    """Each rank scored some of the questions, and the first one has all of one process's scores."""
    names = [score["task"] for score in one["scores"]]
    assert names[:2] == ["perplexity", "choice4"]
    assert [name.partition("[")[0] for name in names[2:]] == [
        "lm_eval:choices:acc", "lm_eval:writes:exact_match", "lm_eval:single:acc",
    ]  # fmt: skip
    for ours, theirs in zip(first["scores"], one["scores"], strict=True):
        is_harness = theirs["task"].startswith("lm_eval")  # it makes batches of its own, of other questions
        assert ours["value"] == (pytest.approx(theirs["value"], rel=1e-6) if is_harness else theirs["value"])
        assert {**ours, "value": 0, "se": 0} == {**theirs, "value": 0, "se": 0}
    assert [score["n"] for score in one["scores"]][2:] == [13, 5, 1]
    assert [score["task"] for score in second["scores"]] == names[:2]

    assert len(one["texts"]) == 5
    assert (first["texts"], first["kept"]) == (one["texts"], one["kept"])
    assert (second["texts"], second["kept"]) == ([], {})
    assert [rank["here"]["samples"] for rank in (one, first, second)] == [5, 2, 3]
    for count, total in one["here"].items():
        assert first["here"][count] + second["here"][count] == total
    assert 0.5 * one["bar"] < first["bar"] < 1.5 * one["bar"]


def test_two_ranks_do_what_one_process_does(tmp_path: Path) -> None:
    launch(tmp_path, "one")
    launch(tmp_path, "two", *LAUNCH)
    one, first, second = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("one.0", "two.0", "two.1"))
    assert (one["world"], first["world"]) == (1, 2)
    assert len(one["losses"]) == 8  # two passes over 23 sequences, in steps of six: one has an end and a beginning
    assert first["losses"] == pytest.approx(one["losses"], abs=1e-5)
    assert second["losses"] == first["losses"]
    whole, shared = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, values in whole.items():
        assert float((values - shared[name]).abs().max()) < 1e-4, name

    # the cache is the same to the byte, and each rank's teacher read its part: four batches are two for each
    names = sorted(path.name for path in (tmp_path / "one.cache").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "two.cache").iterdir())
    for name in names:
        assert (tmp_path / "two.cache" / name).read_bytes() == (tmp_path / "one.cache" / name).read_bytes(), name
    assert [rank["cached"].pop("tokens_here") for rank in (first, second)] == [24 + 12, 24 + 18]
    assert one["cached"].pop("tokens_here") == 78
    assert first["cached"] == second["cached"] == one["cached"]

    for scheme in ("topk", "head_draws"):
        names = sorted(path.name for path in (tmp_path / f"one.{scheme}").iterdir())
        assert len(names) > 3  # an index, a prior and several shards
        assert names == sorted(path.name for path in (tmp_path / f"two.{scheme}").iterdir())
        for name in names:
            ours, theirs = (tmp_path / f"{which}.{scheme}" / name for which in ("two", "one"))
            assert ours.read_bytes() == theirs.read_bytes(), (scheme, name)
        assert [rank["coded"][scheme].pop("tokens_here") for rank in (first, second)] == [24 + 12, 24 + 18]
        assert first["coded"][scheme] == second["coded"][scheme]

    # the teacher's text too, of which each rank wrote some; the first one judged it all
    for place in (tmp_path / "one.text").iterdir():
        assert (tmp_path / "two.text" / place.name).read_bytes() == place.read_bytes(), place.name
    alone, *ranks = [told["text"].pop("here") for told in (one, first, second)]
    assert first["text"] == second["text"] == one["text"]
    assert 200 <= one["text"]["tokens"] < 200 + 2 * 14  # no more than a batch beyond what is needed
    for count, total in alone.items():
        assert sum(rank[count] for rank in ranks) == total
    assert all(rank["generated_tokens"] > 20 for rank in ranks)
    assert ranks[1]["accepted_tokens"] == ranks[1]["rejected_samples"] == 0

    check_scores(*(told["scored"] for told in (one, first, second)))

    # the launch is one run, with a session for each rank; the one machine's 100 W are on it once
    runs = {len(sessions(path)): path for path in list_run_dirs(tmp_path / "runs")}
    record = show_run(tmp_path / "runs", runs[2].name)
    assert isinstance(record.total, Total)
    spans = [span for span in record.spans]
    union_s = max(span.end_s for span in spans) - min(span.start_s for span in spans)
    trained = [stage for stage in record.stages if stage.kind == "student_train"]
    assert sum(stage.workload["tokens"] for stage in trained) == 2 * 23 * 16
    drawn = sum(stage.gross.value_j for stage in trained if isinstance(stage.gross, Total))
    assert drawn == pytest.approx(100.0 * union_s, rel=0.1)
    assert drawn <= record.total.value_j <= 1.05 * 100.0 * record.duration_s
    beside = [stage for stage in record.stages if stage.kind == "teacher_logits"]
    assert sum(stage.workload["tokens"] for stage in beside) == 2 * 23 * 16
