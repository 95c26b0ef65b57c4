"""What every writer of the teacher's text owes: each engine that is installed, on the same tiny model."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psutil
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from stillwatt.pipelines.sampling import Writer, end_ids
from stillwatt.pipelines.spec import GenerateSpec
from stillwatt.pipelines.vllm_writer import VllmWriter, end_ids_of_folder

END = 2
GREEDY = GenerateSpec(
    prompt_tokens=16,
    max_new_tokens=24,
    min_new_tokens=1,
    max_repeat_share=1.0,
    temperature=0.0,
    top_p=1.0,
    batch_size=8,
    max_rounds=1,
    seed=1,
    engine="vllm",
)
SAMPLED = replace(GREEDY, temperature=1.0, top_p=0.95)
ALL_BUT_EQUAL = 1e-4
"""Of logits in float32; those of this model are several units apart as a rule."""
PROMPTS = [[5, 6], [7, 8, 9, 10, 11, 12, 13], [20], [21, 22, 23], [24, 25], list(range(30, 46))]


@dataclass(frozen=True)
class Ends:
    """What a writer asks of a tokenizer."""

    eos_token_id: int = END
    pad_token_id: int = 0


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=END,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()  # type: ignore[no-untyped-call]  # transformers leaves it untyped


@pytest.fixture(
    scope="module",
    params=[
        "transformers",
        pytest.param(
            "vllm",
            marks=pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
        ),
    ],
)
def writer(request: pytest.FixtureRequest, model: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One writer for all tests of an engine: starting vLLM takes its time."""
    if request.param == "transformers":
        yield Writer(model, Ends(), GREEDY, end_ids(model, Ends()))
        return
    directory = tmp_path_factory.mktemp("model")
    model.save_pretrained(directory)
    made = VllmWriter(directory, "float32", GREEDY, end_ids_of_folder(directory, END), threads=2)
    yield made
    running = [psutil.Process(made.engine.pid)] if made.engine.pid is not None else []
    running += [child for process in running for child in process.children(recursive=True)]
    made.close()
    assert not any(process.is_running() for process in running)  # nothing of it is left


def write(writer: Any, prompts: Sequence[Sequence[int]], seed: int, spec: GenerateSpec = SAMPLED) -> list[list[int]]:
    if isinstance(writer, Writer):
        return replace(writer, spec=spec).write(prompts, seed)
    writer.spec = spec  # the engine that runs is used on
    completions: list[list[int]] = writer.write(prompts, seed)
    return completions


def greedy_alone(model: Any, prompt: Sequence[int]) -> list[int]:
    """The reference: one prompt at a time through plain forward passes, no padding and no cache."""
    tokens = list(prompt)
    for _ in range(GREEDY.max_new_tokens):
        with torch.inference_mode():
            tokens.append(int(model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax()))
        if tokens[-1] == END:
            break
    return tokens[len(prompt) :]


def test_greedy_text_is_the_most_probable_token_each_time(writer: Any, model: Any) -> None:
    assert write(writer, PROMPTS, 3, GREEDY) == [greedy_alone(model, prompt) for prompt in PROMPTS]


def test_greedy_text_parts_from_plain_passes_only_where_two_tokens_are_all_but_equal(writer: Any, model: Any) -> None:
    draw = torch.Generator().manual_seed(11)
    lengths = torch.randint(1, 17, (32,), generator=draw).tolist()
    prompts = [torch.randint(3, 64, (length,), generator=draw).tolist() for length in lengths]
    for prompt, found in zip(prompts, write(writer, prompts, 3, GREEDY), strict=True):
        plain = greedy_alone(model, prompt)
        if found != plain:
            at = next(at for at, pair in enumerate(zip(found, plain, strict=False)) if pair[0] != pair[1])
            with torch.inference_mode():
                logits_V = model(input_ids=torch.tensor([prompt + plain[:at]])).logits[0, -1]
            assert abs(float(logits_V[found[at]] - logits_V[plain[at]])) < ALL_BUT_EQUAL


def test_the_same_seed_gives_the_same_text_whatever_was_written_before(writer: Any) -> None:
    first = write(writer, PROMPTS, 3)
    other = write(writer, PROMPTS, 4)
    assert write(writer, PROMPTS, 3) == first
    assert other != first


def test_a_text_ends_at_its_end_token_or_is_as_long_as_it_may_be(writer: Any) -> None:
    for completion in write(writer, PROMPTS * 4, 5):
        assert END not in completion[:-1]
        assert completion[-1] == END or len(completion) == SAMPLED.max_new_tokens


def test_equal_prompts_of_a_batch_are_drawn_apart(writer: Any) -> None:
    texts = write(writer, [[5, 6]] * 6, 7)
    assert len({tuple(text) for text in texts}) > 1


def test_tokens_are_drawn_from_the_whole_vocabulary_at_a_high_temperature(writer: Any) -> None:
    texts = write(writer, PROMPTS * 8, 8, replace(SAMPLED, temperature=2.0, top_p=1.0))
    assert len({token for text in texts for token in text}) > 50
