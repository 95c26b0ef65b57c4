"""What every engine of a teacher's logits owes: the cache is that of the teacher in this process."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from stillwatt.pipelines import teacher_logits
from stillwatt.pipelines.caches import open_cache
from stillwatt.pipelines.logit_cache import LogitCache
from stillwatt.pipelines.spec import CacheSpec, LogitsSpec
from stillwatt.pipelines.vllm_teacher import VllmTeacher, vllm_teacher
from tiny_models import Tally

VOCABULARY = 100
"""No multiple of 64, to which vLLM fills its output layer up."""
USED = 90
"""Tokens that texts have; the others are rows of the output layer alone, as padded checkpoints have them."""
LONGEST = 48
FIXED = LogitsSpec(top_k=16, temperature=1.0, batch_size=3)
WHOLE = replace(FIXED, top_k=VOCABULARY)
TOP_K = replace(FIXED, cache=CacheSpec(scheme="topk", step=0.25))
TOP_P = replace(FIXED, cache=CacheSpec(scheme="topp", mass=0.9, step=0.25))
LENGTHS = (LONGEST, 12, 12, 12, 12, 1, 2, 30)
NATS = 1e-3


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=LONGEST,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).eval()  # type: ignore[no-untyped-call]  # transformers leaves it untyped


@pytest.fixture(scope="module")
def sequences() -> list[list[int]]:
    draw = torch.Generator().manual_seed(3)
    return [torch.randint(0, USED, (length,), generator=draw).tolist() for length in LENGTHS]


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
def teacher(
    request: pytest.FixtureRequest,
    model: Any,
    sequences: Sequence[Sequence[int]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Any]:
    """One teacher for all tests of an engine: starting vLLM takes its time."""
    if request.param == "transformers":
        yield model
        return
    directory = tmp_path_factory.mktemp("model")
    model.save_pretrained(directory)
    # of what is asked below, a whole vocabulary is the most
    with vllm_teacher(directory, "float32", WHOLE, sequences, threads=2, stage=Tally()) as made:
        yield made
        running = [psutil.Process(made.engine.pid)] if made.engine.pid is not None else []
        running += [child for process in running for child in process.children(recursive=True)]
    assert not any(process.is_running() for process in running)  # nothing of it is left


def made(teacher: Any, sequences: Sequence[Sequence[int]], spec: LogitsSpec, out_dir: Path) -> Any:
    tally = Tally()
    teacher_logits.make(teacher, sequences, spec, out_dir, task=tally, stage=tally)
    assert tally.counts["tokens"] == sum(LENGTHS)
    return open_cache(out_dir)


def logp(model: Any, sequence: Sequence[int]) -> Tensor:
    """The reference: a plain forward pass by itself, and a softmax in double precision."""
    with torch.inference_mode():
        logits_TV = model(input_ids=torch.tensor([list(sequence)])).logits[0, :-1].double()
    return torch.log_softmax(logits_TV, -1)


def assert_most_probable(ids_TK: Tensor, reference_TV: Tensor) -> None:
    """The same tokens in the same order, but where two are as probable as each other to what is asked."""
    best_TK = reference_TV.topk(ids_TK.shape[1], dim=-1).values
    torch.testing.assert_close(reference_TV.gather(-1, ids_TK), best_TK, atol=NATS, rtol=0.0)
    assert (ids_TK.sort(-1).values.diff(dim=-1) > 0).all()  # none twice


def test_fixed_rows_hold_the_teachers_distribution(
    teacher: Any, model: Any, sequences: list[list[int]], tmp_path: Path
) -> None:
    cache = made(teacher, sequences, FIXED, tmp_path / "cache")
    assert isinstance(cache, LogitCache)
    assert (cache.vocab_size, cache.num_rows) == (VOCABULARY, sum(LENGTHS) - len(LENGTHS))
    for index, sequence in enumerate(sequences):
        found, reference_TV = cache.sequence(index), logp(model, sequence)
        assert_most_probable(found.ids_TK, reference_TV)
        kept_TK = reference_TV.gather(-1, found.ids_TK)
        # what float16 rounds comes on top
        torch.testing.assert_close(found.logp_TK.double(), kept_TK, atol=NATS, rtol=2.0**-10)
        tail_T = torch.log(-torch.expm1(kept_TK.logsumexp(-1)))
        torch.testing.assert_close(found.tail_logmass_T.double(), tail_T, atol=NATS, rtol=0.0)


def test_rows_that_no_token_has_are_part_of_the_distribution(
    teacher: Any, model: Any, sequences: list[list[int]], tmp_path: Path
) -> None:
    cache = made(teacher, sequences, WHOLE, tmp_path / "cache")
    found, reference_TV = cache.sequence(0), logp(model, sequences[0])
    assert found.tail_logmass_T.isneginf().all()
    assert (found.ids_TK.sort(-1).values == torch.arange(VOCABULARY)).all()
    beyond_T = torch.where(found.ids_TK >= USED, found.logp_TK.double().exp(), 0.0).sum(-1)
    torch.testing.assert_close(beyond_T, reference_TV[:, USED:].exp().sum(-1), atol=NATS, rtol=1e-3)
    assert beyond_T.max() > 0.1


@pytest.mark.parametrize("spec", [TOP_K, TOP_P], ids=["topk", "topp"])
def test_coded_rows_hold_the_teachers_distribution(
    teacher: Any, model: Any, sequences: list[list[int]], tmp_path: Path, spec: LogitsSpec
) -> None:
    cache = made(teacher, sequences, spec, tmp_path / "cache")
    assert spec.cache is not None
    for index in (0, 7):
        kept, reference_TV = cache.batch([index]), logp(model, sequences[index])
        ids_TK, logp_TK, tail_T = kept.ids_BTK[0], kept.logp_BTK[0], kept.tail_logmass_BT[0]
        is_kept_TK = logp_TK > -torch.inf
        best_TK = reference_TV.topk(16, dim=-1).values
        # as many as the scheme says, and of the most probable ones; the order within a level is by id
        before_TK = best_TK.exp().cumsum(-1) - best_TK.exp()
        wanted_T = (before_TK < spec.cache.mass).sum(-1)
        assert ((is_kept_TK.sum(-1) - wanted_T).abs() <= 1).all()
        assert (is_kept_TK.sum(-1) == wanted_T).double().mean() > 0.95  # others lie at the very edge of the mass
        kept_TK = reference_TV.gather(-1, ids_TK.clamp(min=0))
        off_TK = (logp_TK.double() - kept_TK)[is_kept_TK]
        assert off_TK.abs().max() < 0.3  # half a step, and what scaling to a sum of 1 does
        left_T = 1.0 - torch.where(is_kept_TK, kept_TK.exp(), 0.0).sum(-1)
        torch.testing.assert_close(tail_T.double().exp(), left_T, rtol=0.15, atol=1e-3)


def test_an_engine_is_a_teacher_of_most_probable_tokens_alone(teacher: Any) -> None:
    assert isinstance(teacher, teacher_logits.TopTeacher) == isinstance(teacher, VllmTeacher)
