"""The writer's own side of vLLM, with a plain stand-in for what the real one cannot be made to do at will.

The real library is met in `tests/contract/test_text_writers.py`.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file, save_file

from stillwatt.errors import MissingInputError, StillwattError
from stillwatt.pipelines.model_sources import resolve_model
from stillwatt.pipelines.spec import GenerateSpec
from stillwatt.pipelines.vllm_engine import config_of_folder, kv_cache_bytes
from stillwatt.pipelines.vllm_writer import VllmWriter, end_ids_of_folder
from tiny_models import Tally
from vllm_stand_in import CONFIG, install, model_folder

SPEC = GenerateSpec(
    prompt_tokens=8,
    max_new_tokens=10,
    min_new_tokens=1,
    max_repeat_share=1.0,
    temperature=0.5,
    top_p=0.9,
    batch_size=3,
    max_rounds=3,
    seed=7,
    engine="vllm",
)


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for vLLM, and a model's folder."""
    install(tmp_path / "site", monkeypatch)
    model_folder(tmp_path / "unreadable")
    return model_folder(tmp_path / "model")


def writer_of(directory: Path) -> VllmWriter:
    return VllmWriter(directory, "float32", SPEC, frozenset({2}), threads=1)


def test_prompts_go_out_and_completions_come_back_in_order_with_seeds_of_their_own(stand_in: Path) -> None:
    writer = writer_of(stand_in)
    try:
        texts = writer.write([[5], [5], [6, 7]], 1)
        assert [text[:-3] for text in texts] == [[5], [5], [6, 7]]
        assert [text[-2:] for text in texts] == [[0, 2]] * 3  # top_k off
        assert texts[0] != texts[1]
        assert writer.write([[5], [5], [6, 7]], 1) == texts != writer.write([[5], [5], [6, 7]], 2)
    finally:
        writer.close()


def test_the_engine_starts_with_the_first_batch_and_is_gone_after_close(stand_in: Path) -> None:
    writer = writer_of(stand_in)
    writer.close()
    assert writer.engine.pid is None  # nothing runs yet
    writer.write([[5]], 1)
    process = psutil.Process(writer.engine.pid)
    writer.close()
    assert not process.is_running()
    writer.close()


def test_starting_is_told_to_the_stage_once(stand_in: Path) -> None:
    tally = Tally()
    writer = replace(writer_of(stand_in), stage=tally)
    try:
        writer.write([[5]], 1)
        started_s = tally.counts["engine_start_s"]
        writer.write([[6]], 1)
    finally:
        writer.close()
    assert tally.counts == {"engine_start_s": started_s}
    assert started_s > 0.0


@pytest.mark.parametrize(
    ("prompt", "words"), [(13, "its process has ended; its last words:\n.*out of luck"), (14, "RuntimeError: out of")]
)
def test_an_engine_that_fails_is_named_and_ended(stand_in: Path, prompt: int, words: str) -> None:
    writer = writer_of(stand_in)
    writer.write([[5]], 1)
    with pytest.raises(StillwattError, match=f"(?s)vLLM, with the teacher at .*model: .*{words}"):
        writer.write([[prompt]], 1)
    assert writer.engine.pid is None
    assert writer.write([[5]], 1)  # a second try starts anew
    writer.close()


def test_a_teacher_that_cannot_be_loaded_is_named(stand_in: Path) -> None:
    with pytest.raises(StillwattError, match="unreadable: ValueError: no such architecture"):
        writer_of(stand_in.parent / "unreadable").write([[5]], 1)


def test_a_teacher_without_some_of_its_tensors_is_refused_before_the_engine_starts(stand_in: Path) -> None:
    directory = resolve_model("tiny-random", revision=None, announce=lambda _: None).directory
    shutil.copytree(directory, stand_in, dirs_exist_ok=True)
    weights = stand_in / "model.safetensors"
    tensors = load_file(weights)
    tensors.pop("model.norm.weight")
    save_file(tensors, weights, metadata={"format": "pt"})
    writer = writer_of(stand_in)
    with pytest.raises(StillwattError, match=r"model: lacks 1 tensor \(model\.norm\.weight\)"):
        writer.write([[5]], 1)
    assert writer.engine.pid is None


def test_the_engine_dies_with_the_one_who_asked(stand_in: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; sys.path[:0] = sys.argv[2:]\n"
        "from test_vllm_writer import writer_of\n"
        "w = writer_of(Path(sys.argv[1])); w.write([[5]], 1); print(w.engine.pid, flush=True); time.sleep(60)"
    )
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    command = [sys.executable, "-c", script, str(stand_in), *folders]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as asking:
        assert asking.stdout is not None
        engine = psutil.Process(int(asking.stdout.readline()))
        asking.send_signal(signal.SIGKILL)
    for _ in range(300):
        if not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.1)
    pytest.fail("the engine outlived the process that asked for it")


def test_without_vllm_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(MissingInputError, match=r"vLLM not found at .*; pip install vllm"):
        writer_of(tmp_path).write([[5]], 1)


def test_the_text_of_another_engine_is_another_artefact() -> None:
    assert SPEC.identity["engine"] == "vllm"
    assert "engine" not in replace(SPEC, engine="transformers").identity  # as it was before there was a choice


@pytest.mark.parametrize(
    ("settings", "tokenizer", "ends"), [({"eos_token_id": [3, 4]}, 2, {2, 3, 4}), ({"eos_token_id": 3}, None, {3})]
)
def test_end_tokens_are_those_of_the_folder_and_of_the_tokenizer(
    tmp_path: Path, settings: dict[str, object], tokenizer: int | None, ends: set[int]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"text_config": settings}), encoding="utf-8")
    assert end_ids_of_folder(tmp_path, tokenizer) == ends
    (tmp_path / "generation_config.json").write_text("{}", encoding="utf-8")
    assert end_ids_of_folder(tmp_path, 9) == {9}


def test_key_value_memory_by_hand() -> None:
    # 2 x 2 layers x 2 heads x 16 wide x 4 bytes = 512 a token; a text of 18 takes one block of 128 and a spare one
    assert kv_cache_bytes(CONFIG, 18, 10_000) == 512 * 2 * 128 * 10_000
    assert kv_cache_bytes(CONFIG, 18, 1) == 256 * 2**20


def test_a_shape_has_what_a_nested_configuration_leaves_to_its_class(tmp_path: Path) -> None:
    text = {"hidden_size": 64, "num_hidden_layers": 2, "model_type": "gemma3_text"}
    config = {"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "text_config": text}
    (tmp_path / "config.json").write_text(json.dumps(config))
    shape = config_of_folder(tmp_path)
    assert (shape["vocab_size"], shape["num_attention_heads"], shape["hidden_size"]) == (262_208, 8, 64)
    assert kv_cache_bytes(shape, 100, 1) == 256 * 2**20


def test_a_shape_has_the_names_that_most_models_have(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_layer": 3, "n_head": 4, "n_embd": 32}))
    shape = config_of_folder(tmp_path)
    assert (shape["num_hidden_layers"], shape["num_attention_heads"], shape["hidden_size"]) == (3, 4, 32)
