"""The logits stage on a tiny random Llama.

Shapes: B sequences, S tokens of a sequence, T = S - 1 positions with a successor, V vocabulary, K kept tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from stillwatt.errors import ArtifactError
from stillwatt.pipelines import teacher_logits
from stillwatt.pipelines.logit_cache import LogitCache
from stillwatt.pipelines.losses import cached_kd_head, full_kl
from stillwatt.pipelines.spec import LogitsSpec
from tiny_models import Tally

VOCABULARY = 64
SPEC = LogitsSpec(top_k=8, temperature=1.0, batch_size=2)


@pytest.fixture(scope="module")
def teacher() -> Any:
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        initializer_range=0.8,
        attention_dropout=0.5,
    )
    return LlamaForCausalLM(config)


def sequences_of(lengths: tuple[int, ...]) -> list[list[int]]:
    rng = torch.Generator().manual_seed(3)
    return [torch.randint(0, VOCABULARY, (n,), generator=rng).tolist() for n in lengths]


def make(
    teacher: Any, sequences: list[list[int]], directory: Path, spec: LogitsSpec = SPEC
) -> tuple[dict[str, Any], Tally]:
    tally = Tally()
    results = teacher_logits.make(teacher, sequences, spec, directory, task=tally, stage=tally)
    return results, tally


def test_row_t_predicts_token_t_plus_one(teacher: Any, tmp_path: Path) -> None:
    # greedy text: if rows are aligned, the most probable token of row t is the text's token t + 1
    tokens = (
        teacher.eval()
        .generate(
            torch.tensor([[5, 9]]),
            attention_mask=torch.ones(1, 2),
            max_new_tokens=20,
            do_sample=False,
            eos_token_id=None,
        )[0]
        .tolist()
    )
    make(teacher, [tokens], tmp_path)
    best_T = LogitCache.open(tmp_path).sequence(0).ids_TK[:, 0].tolist()
    assert len(best_T) == len(tokens) - 1
    assert best_T[1:] == tokens[2:]
    assert best_T[:-1] != tokens[2:]  # the same text one place off does not fit


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_cache_holds_the_teachers_distribution(teacher: Any, tmp_path: Path, temperature: float) -> None:
    sequences = sequences_of((12, 9, 12, 12, 1))
    make(teacher, sequences, tmp_path, LogitsSpec(top_k=8, temperature=temperature, batch_size=2))
    cache = LogitCache.open(tmp_path)
    for index, sequence in enumerate(sequences):
        with torch.inference_mode():
            logits_TV = teacher.eval()(input_ids=torch.tensor([sequence])).logits[0, :-1].double()
        p_TV = torch.softmax(logits_TV / temperature, -1)
        found = cache.sequence(index)
        kept_TK = p_TV.gather(-1, found.ids_TK)
        assert found.ids_TK.shape == (len(sequence) - 1, 8)
        torch.testing.assert_close(found.logp_TK.double().exp(), kept_TK, rtol=5e-3, atol=1e-6)
        torch.testing.assert_close(found.tail_logmass_T.double().exp(), 1 - kept_TK.sum(-1), rtol=1e-4, atol=1e-6)


def test_a_student_that_is_the_teacher_has_no_divergence(teacher: Any, tmp_path: Path) -> None:
    sequences = sequences_of((12, 12))
    make(teacher, sequences, tmp_path)
    batch = LogitCache.open(tmp_path).batch([0, 1])
    tokens_BS = torch.tensor(sequences)
    with torch.no_grad():
        hidden_BSD = teacher.eval().model(input_ids=tokens_BS).last_hidden_state

    def divergence(positions: slice) -> float:
        loss = cached_kd_head(
            hidden_BSD[:, positions].flatten(0, 1),
            teacher.lm_head.weight,
            tokens_BS[:, 1:].flatten(),
            batch.ids_BTK.flatten(0, 1),
            batch.logp_BTK.flatten(0, 1),
            batch.tail_logmass_BT.flatten(),
            alpha=0.0,
            temperature=1.0,
        )
        return loss.sum.item() / loss.count

    assert divergence(slice(0, -1)) < 1e-5  # rounding of fp16 only
    assert divergence(slice(1, None)) > 0.1  # one place off


def test_whole_vocabulary_kept_is_the_full_divergence(teacher: Any, tmp_path: Path) -> None:
    sequences = sequences_of((10,))
    results, _ = make(teacher, sequences, tmp_path, LogitsSpec(top_k=VOCABULARY, temperature=1.0, batch_size=1))
    assert results["kept_mass"] == pytest.approx(1.0)
    cached = LogitCache.open(tmp_path).sequence(0)
    assert torch.isneginf(cached.tail_logmass_T).all()
    with torch.inference_mode():
        teacher_TV = teacher.eval()(input_ids=torch.tensor(sequences)).logits[0, :-1]
    student_TV = torch.zeros_like(teacher_TV)
    log_q_TK = torch.log_softmax(student_TV, -1).gather(-1, cached.ids_TK)
    found_T = (cached.logp_TK.exp() * (cached.logp_TK - log_q_TK)).sum(-1)
    torch.testing.assert_close(found_T, full_kl(teacher_TV, student_TV, temperature=1.0), rtol=1e-3, atol=1e-4)


def test_results_and_bills(teacher: Any, tmp_path: Path) -> None:
    sequences = sequences_of((12, 9, 12, 12, 1))
    results, tally = make(teacher, sequences, tmp_path)
    cache = LogitCache.open(tmp_path)
    assert results == {
        "artifact_sha256": cache.sha256,
        "bytes": cache.bytes,
        "bytes_per_token": cache.bytes_per_token,
        "kept_mass": cache.kept_mass,
        "tokens": 46,
        "positions": 41,
    }
    assert tally.counts.pop("write_s") > 0.0
    assert tally.counts == {"tokens": 46}
    assert tally.progress == 46
    assert 0.0 < results["kept_mass"] < 1.0


def test_dropout_is_off(teacher: Any, tmp_path: Path) -> None:
    sequences = sequences_of((12, 12))
    teacher.train()
    first, _ = make(teacher, sequences, tmp_path / "a")
    teacher.train()
    second, _ = make(teacher, sequences, tmp_path / "b")
    assert first == second


class KilledError(RuntimeError):
    """Stands for the end of the process."""


@dataclass
class DyingTeacher:
    """A teacher whose process dies at a given call."""

    inner: Any
    calls_left: int

    @property
    def config(self) -> Any:
        return self.inner.config

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def eval(self) -> Any:
        return self.inner.eval()

    def __call__(self, **inputs: Any) -> Any:
        if not self.calls_left:
            raise KilledError
        self.calls_left -= 1
        return self.inner(**inputs)


def test_a_killed_attempt_is_continued_and_billed_once(
    teacher: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences = sequences_of((12,) * 7)
    whole, _ = make(teacher, sequences, tmp_path / "whole")
    monkeypatch.setattr("stillwatt.pipelines.logit_cache.SHARD_ROWS", 30)  # three sequences, not a whole batch
    with pytest.raises(KilledError):
        make(DyingTeacher(teacher, calls_left=2), sequences, tmp_path / "broken")
    results, tally = make(teacher, sequences, tmp_path / "broken")
    assert tally.counts.pop("write_s") > 0.0
    assert tally.counts == {
        "tokens": 12 * 5,
        "taken_over_tokens": 12 * 2,
    }  # the first batch is taken over, the second has one sealed sequence
    assert tally.progress == 12 * 7
    assert results["tokens"] == whole["tokens"]
    one, other = LogitCache.open(tmp_path / "whole"), LogitCache.open(tmp_path / "broken")
    for index in range(7):
        assert one.sequence(index).logp_TK.equal(other.sequence(index).logp_TK)


def test_a_complete_cache_is_taken_as_it_is(teacher: Any, tmp_path: Path) -> None:
    sequences = sequences_of((12, 9))
    first, _ = make(teacher, sequences, tmp_path)
    again, tally = make(DyingTeacher(teacher, calls_left=0), sequences, tmp_path)
    assert again == first
    assert tally.counts.pop("write_s") > 0.0
    assert tally.counts == {"taken_over_tokens": 21}
    assert tally.progress == 21


def test_a_cache_of_other_text_is_not_continued(teacher: Any, tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        make(DyingTeacher(teacher, calls_left=0), sequences_of((12, 12)), tmp_path)
    with pytest.raises(ArtifactError, match="inputs"):
        make(teacher, sequences_of((12, 11)), tmp_path)


def test_sequences_without_tokens_are_refused(teacher: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sequence 1 has no tokens"):
        make(teacher, [[1, 2], []], tmp_path)


def test_more_kept_tokens_than_there_are_is_refused(teacher: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="top_k"):
        make(teacher, [[1, 2]], tmp_path, LogitsSpec(top_k=VOCABULARY + 1, temperature=1.0, batch_size=1))


def test_no_gradient_and_no_inference_tensor_leaves(teacher: Any, tmp_path: Path) -> None:
    make(teacher, sequences_of((6,)), tmp_path)
    found = LogitCache.open(tmp_path).sequence(0)
    assert not found.logp_TK.is_inference()
    weight = torch.ones(1, requires_grad=True)
    (found.logp_TK * weight).sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
