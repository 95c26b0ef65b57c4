"""Documents that share a sequence and do not see each other: the law, on a tiny Llama, and what carries it.

Shapes: S sequences, T tokens of a sequence.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from byte_tokenizer import byte_tokenizer
from stillwatt.errors import StillwattError
from stillwatt.pipelines import teacher_logits
from stillwatt.pipelines.arm_check import check_arms
from stillwatt.pipelines.caches import open_cache
from stillwatt.pipelines.corpus import Packed, pack_documents, pack_samples, positions_of
from stillwatt.pipelines.document_tokens import DocumentTokens
from stillwatt.pipelines.evaluate import perplexity_score
from stillwatt.pipelines.losses import cross_entropy_head
from stillwatt.pipelines.models import check_apart, head_weight, hidden_states
from stillwatt.pipelines.on_policy import given_batch
from stillwatt.pipelines.progress import SilentProgress
from stillwatt.pipelines.runner import run_pipeline
from stillwatt.pipelines.spec import ArmSpec, LogitsSpec, Method
from stillwatt.pipelines.spec_text import OwnTextSpec
from stillwatt.pipelines.student_train import TrainJob, train
from stillwatt.pipelines.teacher_online import OnlineTeacher
from stillwatt.records.window import StageKind
from tiny_models import CountingStage, CountingTask, list_meter, smoke_spec

VOCABULARY = 40
DOCUMENTS = [[5, 6, 7, 8, 9], [10, 11], [12, 13, 14, 15, 16, 17, 18], [19], [20, 21, 22, 23, 24, 25, 26, 27]]


def llama(how: str = "sdpa") -> Any:
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, initializer_range=0.5,
    )  # fmt: skip
    model: Any = LlamaForCausalLM(config)
    model.set_attn_implementation(how)
    return model


def packed(documents: list[list[int]], length: int = 14, sequences: int = 2) -> Packed:
    given = [DocumentTokens.whole(np.asarray(document)) for document in documents]
    return pack_documents(iter(given), end_id=0, length=length, sequences=sequences, is_apart=True)


def pieces(text: Packed) -> list[list[int]]:
    """Each document, or what a sequence's edge left of it, by itself."""
    assert text.starts_ST is not None
    return [
        piece.tolist()
        for row, starts in zip(text.ids_ST, text.starts_ST, strict=True)
        for piece in np.split(row, np.flatnonzero(starts)[1:])
    ]


def test_edges_cut_documents_and_first_tokens_are_not_predicted() -> None:
    text = packed([[1, 2, 3], [4, 5, 6, 7], [8]], length=5, sequences=2)
    assert text.ids_ST.tolist() == [[1, 2, 3, 0, 4], [5, 6, 7, 0, 8]]
    assert text.positions_ST is not None
    assert text.positions_ST.tolist() == [[0, 1, 2, 3, 0], [0, 1, 2, 3, 0]]
    assert text.supervised_ST.tolist() == [[False, True, True, True, False], [False, True, True, True, False]]
    samples = pack_samples([[7, 1, 2], [8, 3, 0]], [1, 0], end_id=0, length=3, count=2, is_apart=True)
    assert samples.ids_ST.tolist() == [[7, 1, 2], [0, 8, 3]]
    assert samples.supervised_ST.tolist() == [[False, True, True], [False, False, True]]
    document = DocumentTokens.whole(np.arange(9))
    assert pack_documents(iter([document]), end_id=0, length=5, sequences=2).positions_ST is None


@given(st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=9), min_size=4, max_size=9), st.integers(2, 7))
@settings(deadline=None)
def test_apart_or_not_the_tokens_are_the_same_and_each_piece_counts_from_0(
    documents: list[list[int]], length: int
) -> None:
    given = [DocumentTokens.whole(np.asarray(document)) for document in documents]
    stream = pack_documents(iter(given), end_id=0, length=length, sequences=1)
    apart = packed(documents, length, 1)
    assert stream.ids_ST.tolist() == apart.ids_ST.tolist()
    assert apart.positions_ST is not None
    assert [p for row in apart.positions_ST.tolist() for p in row] == [i for p in pieces(apart) for i in range(len(p))]
    assert int(apart.supervised_ST.sum()) == sum(len(piece) - 1 for piece in pieces(apart))


def loss_and_gradients(model: Any, batches: list[tuple[Tensor, Tensor, Tensor | None]]) -> tuple[float, list[Tensor]]:
    """Summed cross-entropy over all of them."""
    model.zero_grad()
    total = torch.zeros(())
    for ids_BT, predicted_BT, positions_BT in batches:
        states_BTD = hidden_states(model, ids_BT, positions_BT)[:, :-1]
        found = cross_entropy_head(states_BTD[predicted_BT], head_weight(model), ids_BT[:, 1:][predicted_BT])
        torch.autograd.backward(found.sum)
        total += found.sum.detach()
    return float(total), [weights.grad.clone() for weights in model.parameters()]


@pytest.mark.parametrize("how", ["sdpa", "eager"])
def test_a_packed_batch_has_the_loss_and_gradients_of_its_documents_one_by_one(how: str) -> None:
    model, text = llama(how).train(), packed(DOCUMENTS)
    batch = given_batch(text, [0, 1])
    together = loss_and_gradients(model, [(batch.ids_BT, batch.predicted_BT, batch.positions_BT)])
    alone = [torch.tensor([piece]) for piece in pieces(text) if len(piece) > 1]
    assert len(alone) >= 4
    one_by_one = loss_and_gradients(
        model, [(ids, torch.ones_like(ids[:, 1:], dtype=torch.bool), None) for ids in alone]
    )
    assert together[0] == pytest.approx(one_by_one[0], rel=1e-5)
    for mine, other in zip(together[1], one_by_one[1], strict=True):
        assert (mine - other).norm() <= 1e-5 * other.norm() + 1e-7
    # the comparison means something: seeing other documents gives another loss
    seen = loss_and_gradients(model, [(batch.ids_BT, batch.predicted_BT, None)])
    assert abs(seen[0] - together[0]) > 1e-3 * together[0]


def test_changing_a_document_changes_nothing_of_anothers() -> None:
    model = llama().eval()
    texts = [packed(DOCUMENTS), packed([DOCUMENTS[0], [30, 31], *DOCUMENTS[2:]])]
    batches = [given_batch(text, [0, 1]) for text in texts]
    one, other = (hidden_states(model, batch.ids_BT, batch.positions_BT) for batch in batches)
    differs_ST = (one - other).abs().amax(-1) > 1e-6
    assert differs_ST[0, 6:9].all()  # the document's two tokens and its end
    assert differs_ST.sum() == 3


def test_a_model_that_takes_no_notice_of_positions_is_refused() -> None:
    class Blind(LlamaForCausalLM):
        def get_decoder(self) -> Any:
            inner = super().get_decoder()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
            return lambda input_ids, use_cache, **_ignored: inner(input_ids=input_ids, use_cache=use_cache)

    check_apart(llama(), "the teacher")
    torch.manual_seed(5)
    with pytest.raises(StillwattError, match=r"the teacher \(Blind\) does not keep documents apart: a document's"):
        check_apart(Blind(llama().config), "the teacher")


def test_the_teachers_logits_are_those_of_each_document_alone_and_the_cache_says_so(tmp_path: Path) -> None:
    model, text = llama(), packed(DOCUMENTS)
    spec = LogitsSpec(top_k=VOCABULARY, temperature=1.0, batch_size=2)
    rows = [row.tolist() for row in text.ids_ST]
    teacher_logits.make(
        model, rows, spec, tmp_path, task=CountingTask(), stage=CountingStage(), positions=text.positions_ST
    )
    cache = open_cache(tmp_path)
    kept = cache.batch([0, 1])
    logp_BTV = torch.zeros_like(kept.logp_BTK).scatter(-1, kept.ids_BTK, kept.logp_BTK)
    assert text.starts_ST is not None
    for row, starts in enumerate(text.starts_ST):
        edges = [*np.flatnonzero(starts).tolist(), text.ids_ST.shape[1]]
        for start, end in itertools.pairwise(edges):
            with torch.inference_mode():
                alone_TV = model(input_ids=torch.tensor([rows[row][start:end]])).logits[0, :-1].log_softmax(-1)
            assert torch.allclose(logp_BTV[row, start : end - 1], alone_TV, atol=1e-2)  # kept in half precision
    assert '"packing": "documents"' in (tmp_path / "index.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("how", ["sft", "online", "cached"])
def test_what_a_training_minimises_is_of_each_document_alone(tmp_path: Path, how: str) -> None:
    teacher, student, text = llama(), llama(), packed(DOCUMENTS)
    with torch.no_grad():
        for weights in student.parameters():
            weights.add_(0.1 * torch.randn_like(weights))
    student.save_pretrained(tmp_path / "start")
    byte_tokenizer().save_pretrained(tmp_path / "start")
    cache, online = None, None
    if how == "cached":
        spec = LogitsSpec(top_k=VOCABULARY, temperature=1.0, batch_size=2)
        rows, task, stage = [row.tolist() for row in text.ids_ST], CountingTask(), CountingStage()
        at = text.positions_ST
        teacher_logits.make(teacher, rows, spec, tmp_path / "cache", task=task, stage=stage, positions=at)
        cache = open_cache(tmp_path / "cache")
    meter, _ = list_meter()
    if how == "online":
        online = OnlineTeacher(
            load=lambda: teacher,
            open_stage=lambda: meter.stage("teacher_online", kind=StageKind.TEACHER_LOGITS),
            examples=text,
            place=torch.device("cpu"),
        )
    arm = ArmSpec(
        name=how, method=Method.SFT if how == "sft" else Method.KD, alpha=None if how == "sft" else 0.0,
        temperature=None if how == "sft" else 1.0, loss="forward_kl" if how == "online" else None,
    )  # fmt: skip
    train_spec = replace(smoke_spec().train, batch_size=2, seeds=(1,))
    job = TrainJob(
        arm_id=how, arm=arm, train=train_spec, dtype="float32", seed=1, examples=text, cache=cache, teacher=online
    )
    found = train(
        job, tmp_path / "start", from_share=0.0, to_share=1.0, out_dir=tmp_path / "out", stage=CountingStage(),
        task=CountingTask(),
    )  # fmt: skip
    total, count = 0.0, 0
    for piece in pieces(text):
        ids, targets = torch.tensor([piece]), torch.tensor(piece[1:], dtype=torch.long)
        with torch.inference_mode():
            p_TV, q_TV = (model.eval()(input_ids=ids).logits[0, :-1].log_softmax(-1) for model in (teacher, student))
        wrong_T = -q_TV.gather(-1, targets[:, None]) if how == "sft" else (p_TV.exp() * (p_TV - q_TV)).sum(-1)
        total, count = total + float(wrong_T.sum()), count + len(targets)
    assert found["loss_first"] == pytest.approx(total / count, rel=2e-3 if how == "cached" else 1e-5)


def test_of_the_perplexity_only_what_counts_counts() -> None:
    losses = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 99.0]])
    counted = np.array([[True, True, True], [True, True, False]])
    whole, part = perplexity_score(losses[:, :2]), perplexity_score(losses, counted)
    assert part["n"] == 5
    assert part["value"] == pytest.approx(np.exp(3.0))
    assert perplexity_score(losses[:, :2], np.ones((2, 2), dtype=np.bool_)) == whole


def test_a_study_with_documents_kept_apart_runs_and_has_artefacts_of_its_own(tmp_path: Path) -> None:
    base = smoke_spec(serve=None)
    arms = (
        *(arm for arm in base.arms if arm.name != "sft"),
        ArmSpec(name="online", method=Method.KD, alpha=0.5, temperature=1.0, loss="reverse_kl"),
    )
    train = replace(base.train, checkpoints=(1.0,))
    data = replace(base.data, packing="documents", train_tokens=256)
    evaluate = replace(base.evaluate, choice_items=0)
    spec = replace(base, data=data, arms=arms, train=train, evaluate=evaluate)
    meter, journal = list_meter()
    run_pipeline(
        spec,
        meter=meter,
        run_id="r1",
        run_dir=tmp_path / "r1",
        artifacts_dir=tmp_path / "artifacts",
        progress=SilentProgress(),
        announce=lambda _text: None,
    )
    assert set(journal.status().values()) == {"ended"}
    kd, online = (journal.workload(f"train.{arm}.1.0") for arm in ("kd", "online"))
    assert kd["supervised_tokens"] == online["supervised_tokens"] <= 256 - 8
    (score,) = journal.results("evaluate.teacher")["scores"]
    assert score["n"] <= 128 - 4


def test_own_text_cannot_be_kept_apart() -> None:
    base = smoke_spec(own_text=OwnTextSpec(prompt_tokens=8, max_new_tokens=8, temperature=1.0, top_p=1.0))
    arm = ArmSpec(name="g", method=Method.GKD, alpha=0.0, temperature=1.0, loss="forward_kl", own_text_share=0.5)
    check_arms(replace(base, arms=(arm,)))
    with pytest.raises(StillwattError, match=r'set data\.packing = "stream"'):
        check_arms(replace(base, arms=(arm,), data=replace(base.data, packing="documents")))


def test_positions_start_anew() -> None:
    assert positions_of(np.array([[True, True, False], [False, False, True]])).tolist() == [[0, 0, 1], [0, 1, 0]]
