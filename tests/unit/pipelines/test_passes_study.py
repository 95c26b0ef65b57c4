"""A study whose students pass several times over one text: what the teacher makes once, what a kill leaves."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from given_tables import CODED, LENGTH, converted, given_spec, rows_of
from stillwatt.errors import StillwattError
from stillwatt.pipelines import own_prompts
from stillwatt.pipelines.caches import open_cache
from stillwatt.pipelines.spec import ArmSpec, Limit, LimitKind, Method, PipelineSpec
from stillwatt.pipelines.spec_data import DataSpec
from stillwatt.pipelines.spec_text import OwnTextSpec
from stillwatt.pipelines.study import check
from study_place import KillingProgress, Place
from tiny_models import ListJournal, smoke_spec

TEXT_TOKENS, EPOCHS = 160, 3  # five sequences; steps of two cross the border of each pass
GKD = ArmSpec(
    name="gkd", method=Method.GKD, alpha=0.5, temperature=1.0, loss="forward_kl", own_text_share=0.5, text="teacher"
)
OWN = OwnTextSpec(prompt_tokens=8, max_new_tokens=24, temperature=1.0, top_p=1.0)
ARMS = ("sft", "kd", "synthetic", "gkd")


def _data(epochs: int) -> DataSpec:
    return dataclasses.replace(smoke_spec().data, train_tokens=epochs * TEXT_TOKENS, epochs=epochs)


def _spec(epochs: int = EPOCHS, **changes: Any) -> PipelineSpec:
    spec = smoke_spec(serve=None, own_text=OWN, data=_data(epochs))
    return dataclasses.replace(spec, **{"arms": (*spec.arms, GKD), **changes})


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, ListJournal]]:
    """One uninterrupted run of a study with three passes."""
    directory = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLWATT_HOME", str(directory / "home"))
        place = Place(directory)
        yield place, place.run(_spec())


def test_the_teacher_works_once_over_the_text_and_students_pass_over_all_of_it(
    whole: tuple[Place, ListJournal],
) -> None:
    _, journal = whole
    prepared = journal.results("prepare_data")
    assert (prepared["train_tokens"], prepared["epochs"]) == (TEXT_TOKENS, EPOCHS)
    assert journal.workload("teacher_logits")["tokens"] == TEXT_TOKENS
    assert journal.results("teacher_logits")["positions"] == TEXT_TOKENS - 5
    written = journal.workload("teacher_generate")
    assert TEXT_TOKENS <= written["accepted_tokens"] < 2 * TEXT_TOKENS
    for arm in ("sft", "kd", "synthetic"):
        increments = [journal.workload(f"train.{arm}.{share}") for share in ("0.5", "1.0")]
        assert sum(counts["tokens"] for counts in increments) == EPOCHS * TEXT_TOKENS, arm
        assert [counts["steps"] for counts in increments] == [4, 4], arm
    assert journal.results("train.kd.1.0")["epochs"] == journal.results("train.kd.1.0")["passes_done"] == EPOCHS
    assert journal.results("train.kd.0.5")["passes_done"] == 8 / 5


def test_a_cache_is_no_larger_for_being_read_again(place: Place) -> None:
    arms = smoke_spec().arms
    first = place.run(_spec(1, arms=arms))
    made = {path: path.stat().st_size for path in (place.directory / "artifacts").rglob("*") if path.is_file()}
    second = place.run(_spec(arms=arms), "r2")
    for stage in ("teacher_logits", "teacher_generate"):
        assert second.labels(stage)["reused_from"] == "r1"
        assert second.labels(stage)["artifact"] == first.labels(stage)["artifact"]
    assert made == {p: p.stat().st_size for p in (place.directory / "artifacts").rglob("*") if p.is_file()}
    assert first.results("prepare_data")["corpus_sha256"] == second.results("prepare_data")["corpus_sha256"]
    assert "epochs" not in first.results("prepare_data")


@pytest.mark.parametrize(("arm", "share"), [("sft", "1.0"), ("kd", "0.5"), ("kd", "1.0"), ("synthetic", "1.0")])
def test_an_arm_that_is_killed_amid_a_pass_ends_as_if_it_had_not_been(
    whole: tuple[Place, ListJournal], place: Place, arm: str, share: str
) -> None:
    spec = _spec(arms=tuple(each for each in _spec().arms if each.name in ("sft", arm)))
    killed = place.run(spec, progress=KillingProgress(f"train.{arm}.{share}", 3))
    assert killed.status()[f"train.{arm}.{share}"] == "failed"
    place.run(spec, prefix="b")
    uninterrupted, _ = whole
    for name, values in place.weights(arm).items():
        assert torch.equal(values, uninterrupted.weights(arm)[name]), name


def test_own_text_that_is_killed_amid_a_pass_is_written_again_as_it_was(
    whole: tuple[Place, ListJournal], place: Place
) -> None:
    spec = _spec(arms=(_spec().arms[0], GKD), logits=None)
    place.run(spec, progress=KillingProgress("train.gkd.1.0", 3))
    rest = place.run(spec, prefix="b")
    uninterrupted, journal = whole
    found, wanted = (dict(one.results("train.gkd.1.0")) for one in (rest, journal))
    for results in (found, wanted):
        results.pop("loader_wait_share", None)  # a time
    assert found == wanted
    for name, values in place.weights("gkd").items():
        assert torch.equal(values, uninterrupted.weights("gkd")[name]), name


def test_prompts_of_a_file_are_held_against_the_sequences_of_all_passes(place: Place, tmp_path: Path) -> None:
    (tmp_path / "asked.jsonl").write_text('{"prompt": "one"}\n{"prompt": "two"}\n', encoding="utf-8")
    own = dataclasses.replace(OWN, prompts=f"path:{tmp_path / 'asked.jsonl'}", prompt_tokens=8)
    spec = _spec(own_text=own, arms=(_spec().arms[0], dataclasses.replace(GKD, text="corpus")), logits=None)
    journal = place.run(dataclasses.replace(spec, generate=None))
    assert journal.results("prepare_data")["own_prompts"]["sequences"] == 5 * EPOCHS
    assert any("2 prompts for the 15 sequences of a training" in line for line in place.said)
    kept = journal.results("prepare_data")["own_prompts"]
    assert len(own_prompts.load(place.directory / "r1" / "state" / "data", kept["sha256"])) == 2


def test_a_budget_ends_an_arm_amid_a_pass(place: Place) -> None:
    limit = Limit(kind=LimitKind.TOKENS, amount=7 * 32, said="224 tokens")
    sft = dataclasses.replace(_spec().arms[0], budget=limit)
    spec = _spec(arms=(sft,), logits=None, generate=None)
    journal = place.run(dataclasses.replace(spec, train=dataclasses.replace(spec.train, checkpoints=(1.0,))))
    found = journal.results("train.sft.1.0")
    assert (found["tokens_total"], found["steps_done"], found["steps_planned"]) == (192, 3, 8)
    assert found["passes_done"] == 6 / 5


@pytest.mark.parametrize("scheme", [None, CODED], ids=["rows", "topk"])
def test_a_cache_that_is_there_is_read_in_every_pass_and_is_the_text_of_it(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: Any
) -> None:
    """Its sequences are of unlike lengths, and its own numbers need not be those of the training."""
    monkeypatch.setenv("STILLWATT_HOME", str(tmp_path / "home"))
    lengths = (20, 32, 9, 15, 32, 11, 28, 32, 32)
    cache = converted(tmp_path, "harness", rows_of(257, lengths), 257, scheme=scheme)
    before = open_cache(cache).sha256
    spec = given_spec(cache)
    data = dataclasses.replace(spec.data, train_tokens=3 * 5 * LENGTH, epochs=3)
    journal = place.run(dataclasses.replace(spec, data=data))
    for arm in ("sft", "kd"):
        tokens = [journal.workload(f"train.{arm}.{share}")["tokens"] for share in ("0.5", "1.0")]
        assert sum(tokens) == 3 * sum(lengths[:5]), arm
    assert open_cache(cache).sha256 == before


def test_a_cache_that_is_too_short_is_refused_with_the_passes_that_reach_the_budget(
    place: Place, tmp_path: Path
) -> None:
    spec = given_spec(converted(tmp_path, "harness", rows_of(257, (20, 32, 9, 15, 32, 11, 28, 7)), 257))
    asking = dataclasses.replace(spec, data=dataclasses.replace(spec.data, train_tokens=12 * LENGTH))
    with pytest.raises(StillwattError, match=r"asks for 12; lower it, raise data\.epochs"):
        check(asking)
    check(dataclasses.replace(asking, data=dataclasses.replace(asking.data, epochs=2)))
    six = dataclasses.replace(spec, data=dataclasses.replace(spec.data, train_tokens=8 * LENGTH))
    with pytest.raises(
        StillwattError, match=r"lower it to at most 192, or data\.held_out_share, or set data\.epochs = 2"
    ):
        place.run(six)


@pytest.mark.parametrize(("tokens", "epochs", "nearest"), [(500, 3, 480), (32, 3, 96), (500, 1, 480)])
def test_a_budget_that_is_no_whole_number_of_sequences_a_pass_is_refused(
    tokens: int, epochs: int, nearest: int
) -> None:
    data = dataclasses.replace(_data(1), train_tokens=tokens, epochs=epochs)
    with pytest.raises(StillwattError, match=f"data.train_tokens = {tokens} is not a multiple of .*is {nearest}$"):
        check(_spec(data=data))
