"""Students that begin their own text with prompts of a file: which step takes which, and what is learned from."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from byte_tokenizer import byte_tokenizer
from stillwatt.errors import StillwattError
from stillwatt.pipelines import own_prompts
from stillwatt.pipelines.corpus import Packed
from stillwatt.pipelines.model_sources import resolve_model
from stillwatt.pipelines.models import CausalModel, device, load_model, load_tokenizer
from stillwatt.pipelines.objectives.reference import divergence
from stillwatt.pipelines.on_policy import OwnText
from stillwatt.pipelines.own_prompts import StepPrompts
from stillwatt.pipelines.passes import Microbatch
from stillwatt.pipelines.spec import ArmSpec, Method, PipelineSpec
from stillwatt.pipelines.spec_text import OwnTextSpec
from stillwatt.pipelines.student_train import TrainJob, train
from stillwatt.pipelines.teacher_online import OnlineTeacher
from stillwatt.records.window import StageKind
from study_place import KillingProgress, Place
from tiny_models import CountingStage, CountingTask, ListJournal, list_meter, smoke_spec

_TRAIN = dataclasses.replace(smoke_spec().train, learning_rate=1e-2, batch_size=2)
_OWN = OwnTextSpec(prompt_tokens=9, max_new_tokens=7, temperature=1.0, top_p=1.0, prompts="path:asked.jsonl")
_PROMPTS = ((65,), (66, 67, 68, 69, 70, 71, 72, 73, 74), (75, 76), (77, 78, 79, 80, 81))


def _written(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@given(count=st.integers(1, 40), per_step=st.integers(1, 9), seed=st.integers(0, 2**31 - 1), steps=st.integers(1, 60))
def test_each_prompt_is_taken_once_before_any_comes_again(count: int, per_step: int, seed: int, steps: int) -> None:
    prompts = StepPrompts(ids=tuple((number,) for number in range(count)), seed=seed, per_step=per_step)
    taken = [prompt[0] for step in range(steps) for prompt in prompts.of_step(step, per_step)]
    for start in range(0, len(taken), count):
        turn = taken[start : start + count]
        assert len(set(turn)) == len(turn)
    # whatever came before it, and for the sequences that a short step has
    last = taken[-per_step:]
    assert [prompt[0] for prompt in prompts.of_step(steps - 1, per_step)] == last
    assert [prompt[0] for prompt in prompts.of_step(steps - 1, 1)] == last[:1]


def test_an_order_is_a_seeds_own_and_a_new_one_each_time() -> None:
    ids = tuple((number,) for number in range(50))
    first, second = (StepPrompts(ids=ids, seed=seed, per_step=50) for seed in (1, 2))
    orders = [first.of_step(0, 50), first.of_step(1, 50), second.of_step(0, 50)]
    assert len({str(order) for order in orders}) == 3
    assert all(sorted(order) == [[number] for number in range(50)] for order in orders)


def test_prompts_are_kept_with_the_run_and_what_became_of_them_is_said(tmp_path: Path) -> None:
    rows = [
        {"prompt": "hi"},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "left out"}]},
        {"prompt": "longer than a prompt may be, by far"},
    ]
    path, said = _written(tmp_path / "asked.jsonl", *rows), list[str]()
    spec = dataclasses.replace(_OWN, prompts=f"path:{path}", prompt_tokens=30, chat=True, template="<{prompt}>")
    found = own_prompts.make(spec, byte_tokenizer(), 8, tmp_path, announce=said.append)
    path.unlink()
    kept = own_prompts.load(tmp_path, found["sha256"])
    assert [byte_tokenizer().decode(ids) for ids in kept] == ["[user]<hi>\n[assistant]", "[user]a\n[assistant]"]
    assert found | {"sha256": ""} == {
        "read": 3, "refused": 1, "answers_left_out": 1, "prompts": 2, "sequences": 8, "sha256": "",
    }  # fmt: skip
    assert said == [
        "student_generate: 1 of 3 prompts have more than 30 tokens and are left out",
        "student_generate: 2 prompts for the 8 sequences of a training: they are taken again, in a new order each time",
    ]
    with pytest.raises(StillwattError, match="the prepared prompts have changed"):
        own_prompts.load(tmp_path, "0" * 64)


def test_faults_name_the_students_table(tmp_path: Path) -> None:
    path = _written(tmp_path / "asked.jsonl", {"messages": [{"role": "user", "content": "a"}]}, {"prompt": "b" * 40})
    spec = dataclasses.replace(_OWN, prompts=f"path:{path}")
    for tokenizer, words in (
        (byte_tokenizer(chat_template=None), "write the turns into student_generate.template"),
        (byte_tokenizer(), r"more than 9 tokens; raise student_generate\.prompt_tokens$"),
    ):
        with pytest.raises(StillwattError, match=words):
            own_prompts.make(spec, tokenizer, 1, tmp_path, announce=lambda _text: None)


def _examples() -> Packed:
    supervised = np.ones((8, 16), dtype=np.bool_)
    supervised[:, 0] = False
    ids = np.random.default_rng(4).integers(0, 256, (8, 16)).astype(np.int32)
    return Packed(ids_ST=ids, supervised_ST=supervised, dropped_tokens=0)


def _start() -> Path:
    return resolve_model("tiny-random", revision=None, announce=lambda _: None, is_student=True).directory


def _teacher() -> CausalModel:
    model = load_model(_start(), dtype="float32")
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(20.0)
    return model


def _job(share: float, **own: Any) -> tuple[TrainJob, ListJournal]:
    meter, journal = list_meter()
    arm = ArmSpec(
        name="gkd", method=Method.GKD, alpha=0.0, temperature=1.0, loss="forward_kl", own_text_share=share,
    )  # fmt: skip
    teacher = OnlineTeacher(
        load=_teacher,
        open_stage=lambda: meter.stage("teacher_online.gkd", kind=StageKind.TEACHER_LOGITS),
        examples=_examples(),
        place=device(),
    )
    own_text = OwnText(
        spec=dataclasses.replace(_OWN, **own),
        share=share,
        seed=3,
        prompts=_examples(),
        tokenizer=load_tokenizer(_start()),
        open_stage=lambda: meter.stage("student_generate.gkd", kind=StageKind.OTHER),
        asked=StepPrompts(ids=_PROMPTS, seed=3, per_step=2),
    )
    job = TrainJob(
        arm_id="gkd", arm=arm, train=_TRAIN, dtype="float32", seed=3, examples=_examples(), cache=None, teacher=teacher,
        own_text=own_text,
    )  # fmt: skip
    return job, journal


def _run(
    job: TrainJob, out: Path, *, start: Path | None = None, shares: tuple[float, float] = (0.0, 1.0)
) -> tuple[dict[str, Any], CountingStage]:
    stage = CountingStage()
    found = train(
        job, start or _start(), from_share=shares[0], to_share=shares[1], out_dir=out, stage=stage, task=CountingTask()
    )
    return found, stage


def test_own_text_begins_with_whole_prompts_and_only_what_was_written_is_learned(tmp_path: Path) -> None:
    job, journal = _job(1.0)
    found, stage = _run(job, tmp_path / "gkd")
    written = journal.workload("student_generate.gkd")
    prompts = 2 * sum(map(len, _PROMPTS))  # eight sequences, so that each of four prompts is taken twice
    assert found["own_text_steps"] == 4
    assert 8 <= written["generated_tokens"] <= 8 * _OWN.max_new_tokens
    assert written["tokens"] == prompts + written["generated_tokens"] == stage.counts["tokens"]
    assert stage.counts["supervised_tokens"] == written["generated_tokens"]
    assert journal.workload("teacher_online.gkd") == {"tokens": written["tokens"]}


def test_padding_makes_no_difference_to_text_or_loss(tmp_path: Path) -> None:
    """One prompt at a time, without any padding, gives the same words and the same divergence."""
    job, _ = _job(1.0, temperature=0.0)
    found, _ = _run(job, tmp_path / "gkd", shares=(0.0, 0.25))
    own_text = job.own_text
    assert own_text is not None
    assert own_text.asked is not None
    student, teacher, rows = load_model(_start(), dtype="float32"), _teacher(), (5, 2)
    (batch,) = own_text.write(student, [Microbatch(0, rows)], 0)
    asked = own_text.asked.of_step(0, 2)
    assert len({len(prompt) for prompt in asked}) == 2
    sums = []
    for ids, predicted, prompt in zip(batch.ids_BT, batch.predicted_BT, asked, strict=True):
        end = int(predicted.nonzero().max()) + 2
        assert ids[: len(prompt)].tolist() == prompt
        assert predicted.nonzero().flatten().tolist() == list(range(len(prompt) - 1, end - 1))
        alone = dataclasses.replace(own_text, asked=StepPrompts(ids=(tuple(prompt),), seed=0, per_step=1))
        assert ids[:end].tolist() == alone.write(student, [Microbatch(0, (0,))], 0)[0].ids_BT[0].tolist()
        with torch.no_grad():
            sides = [model(input_ids=ids[None, :end]).logits[0, :-1] for model in (teacher, student)]
        values = divergence("forward_kl", sides[0], sides[1], temperature=1.0, parameter=None)
        sums.append(values[predicted[: end - 1]].double().sum())
    assert found["loss_first"] == pytest.approx(float(sum(sums)) / batch.supervised, rel=1e-4)


def test_in_increments_it_ends_where_one_go_does(tmp_path: Path) -> None:
    whole, _ = _run(_job(0.5)[0], tmp_path / "whole")
    _run(_job(0.5)[0], tmp_path / "half", shares=(0.0, 0.5))
    rest, _ = _run(_job(0.5)[0], tmp_path / "rest", start=tmp_path / "half", shares=(0.5, 1.0))
    assert 0 < whole["own_text_steps"] < 4
    assert (rest["loss_last"], rest["tokens_total"]) == (whole["loss_last"], whole["tokens_total"])
    for left, right in zip(_weights(tmp_path / "whole"), _weights(tmp_path / "rest"), strict=True):
        assert torch.equal(left, right)


def _weights(directory: Path) -> list[torch.Tensor]:
    return list(load_model(directory, dtype="float32").state_dict().values())


def _study(path: Path, *, packing: str = "stream") -> PipelineSpec:
    base = smoke_spec()
    arms = tuple(
        ArmSpec(name=name, method=Method.GKD, alpha=0.0, temperature=1.0, loss="reverse_kl", own_text_share=share)
        for name, share in (("half", 0.5), ("all", 1.0))
    )
    own = OwnTextSpec(prompt_tokens=10, max_new_tokens=12, temperature=1.0, top_p=1.0, prompts=f"path:{path}")
    data = dataclasses.replace(base.data, packing=packing, train_tokens=256)
    return dataclasses.replace(
        base, arms=arms, own_text=own, data=data, logits=None, generate=None, serve=None
    )  # fmt: skip


def test_a_killed_arm_goes_on_with_the_prompts_it_began_with(tmp_path: Path) -> None:
    rows = [{"prompt": "x" * length} for length in (1, 10, 3, 7, 11)]
    path = _written(tmp_path / "asked.jsonl", *rows)
    spec, whole, place = _study(path, packing="documents"), Place(tmp_path / "whole"), Place(tmp_path / "killed")
    journal = whole.run(spec)
    assert set(journal.status().values()) == {"ended"}
    facts = journal.results("prepare_data")["own_prompts"]
    assert (facts["read"], facts["refused"], facts["prompts"], facts["sequences"]) == (5, 1, 4, 8)
    assert any("1 of 5 prompts have more than 10 tokens" in line for line in whole.said)
    assert any("4 prompts for the 8 sequences of a training" in line for line in whole.said)
    killed = place.run(spec, progress=KillingProgress("train.all.1.0", 2))
    assert killed.status()["train.all.1.0"] == "failed"
    _written(path, {"prompt": "others"})
    place.run(spec, prefix="b")
    for name, values in place.weights("all").items():
        assert torch.equal(values, whole.weights("all")[name]), name


def test_a_file_that_cannot_be_used_is_refused_before_anything_is_spent(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with pytest.raises(StillwattError, match="neither `prompt`"):
        place.run(_study(_written(tmp_path / "asked.jsonl", {"text": "a"})))
    assert place.journal.stages() == []
