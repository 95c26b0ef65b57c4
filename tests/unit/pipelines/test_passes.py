"""Several passes over the text: the order of each, and that trainings, caches and teachers agree on it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillwatt.pipelines import teacher_logits
from stillwatt.pipelines.caches import open_cache
from stillwatt.pipelines.corpus import Packed
from stillwatt.pipelines.model_sources import resolve_model
from stillwatt.pipelines.models import CausalModel, device, load_model, load_tokenizer
from stillwatt.pipelines.on_policy import OwnText
from stillwatt.pipelines.own_prompts import StepPrompts
from stillwatt.pipelines.passes import Microbatch, Passes, settings_reaching
from stillwatt.pipelines.ranks import Ranks
from stillwatt.pipelines.spec import ArmSpec, CacheSpec, LogitsSpec, Method
from stillwatt.pipelines.spec_text import OwnTextSpec
from stillwatt.pipelines.student_train import TrainJob, num_steps, train
from stillwatt.pipelines.teacher_online import OnlineTeacher
from stillwatt.records.window import StageKind
from tiny_models import CountingStage, CountingTask, list_meter, smoke_spec

SEQUENCES, EPOCHS = 5, 3  # with steps of two, both ends of a pass fall into a step
TRAIN = dataclasses.replace(smoke_spec().train, learning_rate=1e-2, schedule="constant", batch_size=2)
SFT = ArmSpec(name="sft", method=Method.SFT, alpha=None, temperature=None)

counts = st.integers(1, 40)


@given(counts, st.integers(1, 5), st.integers(0, 2**31 - 1))
def test_each_pass_has_every_sequence_once_and_the_first_is_that_of_one_pass(
    sequences: int, epochs: int, seed: int
) -> None:
    passes = Passes(sequences=sequences, epochs=epochs, seed=seed)
    orders = [_rows(passes.microbatches(n * sequences, (n + 1) * sequences, 7)) for n in range(epochs)]
    assert all(sorted(order) == list(range(sequences)) for order in orders)
    assert orders[0] == np.random.default_rng(seed).permutation(sequences).tolist()
    if sequences > 20:
        assert len(set(map(tuple, orders))) == epochs  # equal ones are less likely than one in 10**17
    more = dataclasses.replace(passes, epochs=epochs + 2)
    assert _rows(more.microbatches(0, passes.places, 7)) == list(chain(*orders))


@given(counts, st.integers(1, 5), st.integers(1, 9), st.integers(1, 4), st.integers(1, 4))
def test_steps_leave_nothing_out_and_ranks_divide_them(
    sequences: int, epochs: int, batch: int, accumulation: int, world: int
) -> None:
    passes = Passes(sequences=sequences, epochs=epochs, seed=3)
    per_step = batch * accumulation
    starts = range(0, passes.places, per_step)
    steps = [passes.microbatches(start, start + per_step, batch) for start in starts]
    assert Counter(_rows(list(chain(*steps)))) == dict.fromkeys(range(sequences), epochs)
    assert all(sum(len(group.rows) for group in step) == per_step for step in steps[:-1])
    places = [group.place for step in steps for group in step]
    assert len(set(places)) == len(places)  # what a teacher found is kept under them
    for step in steps:
        ranks = [Ranks(is_alone=True) for _ in range(world)]
        for number, rank in enumerate(ranks):
            rank.rank, rank.count = number, world
        assert sorted(group for rank in ranks for group in rank.share(step)) == sorted(step)


@given(counts, st.integers(1, 300), st.integers(1, 64))
def test_settings_that_are_named_reach_the_budget_with_the_text_there_is(have: int, places: int, length: int) -> None:
    said = dict(part.split(" = ") for part in settings_reaching(have, places=places, length=length).split(" with "))
    epochs, tokens = int(said["data.epochs"]), int(said.get("data.train_tokens", places * length))
    each, rest = divmod(tokens, epochs * length)
    assert rest == 0
    assert each <= have
    assert places * length <= tokens < (places + epochs) * length


def _rows(groups: list[Microbatch]) -> list[int]:
    return [row for group in groups for row in group.rows]


# --- trainings ---------------------------------------------------------------------------------------------------


def _examples(rows: int = SEQUENCES, length: int = 16) -> Packed:
    ids = np.random.default_rng(4).integers(0, 256, (rows, length)).astype(np.int32)
    supervised = np.ones(ids.shape, dtype=np.bool_)
    supervised[:, 0] = False
    return Packed(ids_ST=ids, supervised_ST=supervised, dropped_tokens=0)


def _start() -> Path:
    return resolve_model("tiny-random", revision=None, announce=lambda _: None, is_student=True).directory


def _teacher() -> CausalModel:
    model = load_model(resolve_model("tiny-random", revision=None, announce=lambda _: None).directory, dtype="float32")
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(20.0)
    return model


def _sft(**changes: Any) -> TrainJob:
    job = TrainJob(
        arm_id="sft", arm=SFT, train=TRAIN, dtype="float32", seed=3, examples=_examples(), cache=None, epochs=EPOCHS
    )
    return dataclasses.replace(job, **changes)


def _online(loss: str = "forward_kl", **changes: Any) -> TrainJob:
    meter, _ = list_meter()
    teacher = OnlineTeacher(
        load=_teacher,
        open_stage=lambda: meter.stage("teacher_online.kd", kind=StageKind.TEACHER_LOGITS),
        examples=_examples(),
        place=device(),
    )
    arm = ArmSpec(name="kd", method=Method.KD, alpha=0.25, temperature=1.0, loss=loss)
    return _sft(**{"arm": arm, "teacher": teacher, **changes})


def _cached(directory: Path, loss: str, settings: LogitsSpec) -> TrainJob:
    rows = [row.tolist() for row in _examples().ids_ST]
    teacher_logits.make(_teacher(), rows, settings, directory, task=CountingTask(), stage=CountingStage())
    arm = ArmSpec(name="kd", method=Method.KD, alpha=0.25, temperature=1.0, loss=loss)
    return _sft(arm=arm, cache=open_cache(directory))


def _on_policy(share: float, asked: bool = False, **changes: Any) -> TrainJob:
    meter, _ = list_meter()
    prompts = StepPrompts(ids=((1, 2), (3, 4, 5), (6,)), seed=3, per_step=2) if asked else None
    own_text = OwnText(
        spec=OwnTextSpec(prompt_tokens=4, max_new_tokens=8, temperature=1.0, top_p=1.0),
        share=share,
        seed=3,
        prompts=_examples(),
        tokenizer=load_tokenizer(_start()),
        open_stage=lambda: meter.stage("student_generate.gkd", kind=StageKind.OTHER),
        asked=prompts,
    )
    arm = ArmSpec(name="gkd", method=Method.GKD, alpha=0.25, temperature=1.0, loss="forward_kl", own_text_share=share)
    return dataclasses.replace(_online(), arm=arm, own_text=own_text, **changes)


def _run(
    job: TrainJob, out: Path, *, start: Path | None = None, shares: tuple[float, float] = (0.0, 1.0)
) -> dict[str, Any]:
    stage, (from_share, to_share) = CountingStage(), shares
    found = train(
        job, start or _start(), from_share=from_share, to_share=to_share, out_dir=out, stage=stage, task=CountingTask()
    )
    return {**found, "counted": stage.counts}


def _losses(found: dict[str, Any]) -> list[float]:
    return list(found["loss_curve"])


def _assert_same(left: Path, right: Path) -> None:
    theirs = load_model(right, dtype="float32").state_dict()
    for name, values in load_model(left, dtype="float32").state_dict().items():
        assert torch.equal(values, theirs[name]), name


def test_the_first_pass_of_several_has_the_curve_of_one(tmp_path: Path) -> None:
    once, thrice = (_run(_sft(epochs=epochs), tmp_path / str(epochs)) for epochs in (1, EPOCHS))
    assert num_steps(_sft()) == 8
    assert thrice["counted"]["tokens"] == thrice["tokens_total"] == EPOCHS * once["tokens_total"]
    assert thrice["epochs"] == EPOCHS
    assert "epochs" not in once
    whole_steps = SEQUENCES // 2
    assert _losses(thrice)[:whole_steps] == _losses(once)[:whole_steps]
    # and the third step goes on with the next pass, where the one pass has a short step
    assert _losses(thrice)[whole_steps] != _losses(once)[whole_steps]


def test_a_training_goes_on_amid_a_later_pass_as_if_it_had_not_ended(tmp_path: Path) -> None:
    kinds: dict[str, Callable[[], TrainJob]] = {
        "sft": _sft,
        "online": _online,
        "own": lambda: _on_policy(0.5),
        "asked": lambda: _on_policy(1.0, asked=True),
    }
    for kind, job in kinds.items():
        whole = _run(job(), tmp_path / kind / "whole")
        half = _run(job(), tmp_path / kind / "half", shares=(0.0, 0.5))  # a step and more into the second pass
        rest = _run(job(), tmp_path / kind / "rest", start=tmp_path / kind / "half", shares=(0.5, 1.0))
        assert half["tokens_total"] < rest["tokens_total"] == whole["tokens_total"]
        _assert_same(tmp_path / kind / "whole", tmp_path / kind / "rest")


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_whole_cache_read_again_teaches_as_the_teacher_beside_the_student(tmp_path: Path, batch_size: int) -> None:
    """With microbatches of one sequence the teacher reads ahead over what is, by its rows, the same microbatch."""
    spec = dataclasses.replace(TRAIN, batch_size=batch_size, accumulation_steps=2 // batch_size)
    whole = LogitsSpec(top_k=257, temperature=1.0, batch_size=4)
    cached = _run(
        dataclasses.replace(_cached(tmp_path / "cache", "top_k_tail", whole), train=spec), tmp_path / "cached"
    )
    online = _run(_online(train=spec), tmp_path / "online")
    assert _losses(cached) == pytest.approx(_losses(online), rel=1e-2)
    assert len(_losses(online)) == 8


def test_every_scheme_is_read_again_in_the_order_of_each_pass(tmp_path: Path) -> None:
    ways = {
        "top_k_tail": CacheSpec(scheme="topk", step=0.05),
        "top_p_tail": CacheSpec(scheme="topp", mass=0.99, step=0.05),
        "sampled_kl": CacheSpec(scheme="head_draws", draws=200, step=0.05),
    }
    online = _losses(_run(_online(), tmp_path / "online"))
    for loss, coding in ways.items():
        settings = LogitsSpec(top_k=200, temperature=1.0, batch_size=4, cache=coding)
        job = _cached(tmp_path / loss, loss, settings)
        assert job.cache is not None
        assert len(job.cache.sequence_indices) == SEQUENCES
        assert _losses(_run(job, tmp_path / f"{loss}.out")) == pytest.approx(online, rel=0.1), loss


def test_each_pass_has_own_text_of_its_own(tmp_path: Path) -> None:
    """A student that does not change writes anew after the same prompts."""
    job = _on_policy(1.0)
    assert job.own_text is not None
    student = load_model(_start(), dtype="float32")
    passes = Passes(sequences=1, epochs=4, seed=3)
    twice = job.own_text.write(student, passes.microbatches(0, 4, 2), step=0)
    assert [batch.place for batch in twice] == [0, 2]
    assert [batch.rows for batch in twice] == [(0, 0), (0, 0)]
    texts = [tuple(row) for batch in twice for row in batch.ids_BT.tolist()]
    assert len({text[:4] for text in texts}) == 1
    assert len(set(texts)) == 4
    later = job.own_text.write(student, passes.microbatches(0, 4, 2), step=1)
    assert not {tuple(row) for batch in later for row in batch.ids_BT.tolist()} & set(texts)
