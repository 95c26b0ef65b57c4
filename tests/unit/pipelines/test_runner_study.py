from __future__ import annotations

import dataclasses
import gc
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from stillwatt.errors import MissingInputError, StillwattError
from stillwatt.ledger.journal import JournalWriter
from stillwatt.pipelines import bench as bench_module
from stillwatt.pipelines.bench import Bench
from stillwatt.pipelines.logit_cache import LogitCache
from stillwatt.pipelines.progress import SilentProgress
from stillwatt.pipelines.runner import _libraries_set_aside
from stillwatt.pipelines.spec import ArmSpec, Method, PipelineSpec
from stillwatt.pipelines.spec_text import OwnTextSpec
from stillwatt.pipelines.state import RunState
from stillwatt.pipelines.study import arm_id
from study_place import Killed, KillingProgress, KillingTask, Place
from tiny_models import CountingTask, ListJournal, files_below, smoke_spec

_TASKS = ("perplexity", "choice4")
_ARMS = ("sft", "kd", "synthetic")
_ORDER = [
    "prepare_data",
    "evaluate.teacher",
    "evaluate.start",
    "teacher_logits",
    "cache_fidelity",
    "teacher_generate",
    *(f"{stage}.{arm}.{share}" for arm in _ARMS for share in ("0.5", "1.0") for stage in ("train", "evaluate")),
    "serve.teacher",
    "serve.student",
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, ListJournal]]:
    """One uninterrupted run of the whole smoke study."""
    directory = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLWATT_HOME", str(directory / "home"))
        place = Place(directory)
        yield place, place.run(smoke_spec())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def _only(*names: str, **changes: Any) -> PipelineSpec:
    """The smoke study with some of its arms, and without a serving load."""
    spec = smoke_spec(serve=None, **changes)
    return dataclasses.replace(spec, arms=tuple(arm for arm in spec.arms if arm.name in names))


def test_the_stages_come_in_order_and_all_end(whole: tuple[Place, ListJournal]) -> None:
    _, journal = whole
    assert journal.stages() == _ORDER
    assert set(journal.status().values()) == {"ended"}


def test_every_arm_has_the_same_budget_in_tokens_and_steps(whole: tuple[Place, ListJournal]) -> None:
    _, journal = whole
    for arm in _ARMS:
        for share, total in (("0.5", 256), ("1.0", 512)):
            name = f"train.{arm}.{share}"
            counts = journal.workload(name)
            assert (counts["tokens"], counts["steps"]) == (256, 4), name
            assert journal.results(name)["tokens_total"] == total
    supervised = {arm: journal.workload(f"train.{arm}.1.0")["supervised_tokens"] for arm in _ARMS}
    assert supervised["sft"] == supervised["kd"] == 8 * 31
    # prompts are not supervised, and the table says so
    assert 0 < supervised["synthetic"] < supervised["sft"]


def test_every_evaluation_has_its_tokens_on_the_books(whole: tuple[Place, ListJournal]) -> None:
    _, journal = whole
    names = [name for name in _ORDER if name.startswith("evaluate.")]
    assert len(names) == 8
    assert {name: journal.workload(name)["tokens"] for name in names} == dict.fromkeys(names, 128 + 8 * (8 + 4 * 4))


def test_labels_say_what_belongs_to_what(whole: tuple[Place, ListJournal]) -> None:
    _, journal = whole
    logits, text = (journal.labels(name) for name in ("teacher_logits", "teacher_generate"))
    assert logits["artifact_kind"] == "logits"
    assert text["artifact_kind"] == "text"
    assert journal.labels("train.kd.0.5") == {
        "arm": "kd",
        "method": "kd",
        "student": "pruned",
        "seed": "1",
        "checkpoint": "0.5",
        "artifact": logits["artifact"],
    }
    assert journal.labels("train.synthetic.1.0")["artifact"] == text["artifact"]
    assert "artifact" not in journal.labels("train.sft.1.0")
    assert journal.labels("evaluate.kd.1.0")["arm"] == "kd"
    assert journal.labels("evaluate.start") == {"arm": "start", "student": "pruned"}
    assert journal.labels("serve.teacher") == {"arm": "teacher"}
    assert journal.labels("serve.student") == {"student": "pruned"}


def test_results_hold_what_the_report_reads(whole: tuple[Place, ListJournal]) -> None:
    place, journal = whole
    prepared = journal.results("prepare_data")
    assert prepared["train_tokens"] == 512
    assert len(prepared["corpus_sha256"]) == 64
    losses = prepared["layer_losses"]["pruned"]
    best = min(losses, key=lambda start: losses[start])
    assert prepared["chosen_layers"] == {"pruned": [int(best), int(best) + 1]}
    cache = journal.results("teacher_logits")
    assert cache["tokens"] == 512 == journal.workload("teacher_logits")["tokens"]
    assert 0.0 < cache["kept_mass"] < 1.0
    text = journal.workload("teacher_generate")
    assert text["tokens"] >= text["generated_tokens"] > 0
    for name in _ORDER:
        if name.startswith("evaluate."):
            assert [score["task"] for score in journal.results(name)["scores"]] == list(_TASKS)
    assert journal.workload("serve.student")["tokens"] == 24
    kept = {path.name for path in (place.directory / "artifacts").iterdir()}
    assert kept == {journal.labels(name)["artifact"] for name in ("teacher_logits", "teacher_generate")}


def test_a_cache_of_fixed_rows_names_its_teacher_tokenizer_and_text(whole: tuple[Place, ListJournal]) -> None:
    place, _journal = whole
    folder = next((place.directory / "artifacts").glob("logits-*"))
    known = json.loads((folder / "artifact.json").read_text(encoding="utf-8"))["inputs"]
    cache = LogitCache.open(folder)
    assert {name: cache.inputs[name] for name in ("teacher", "dtype", "tokenizer_sha256")} == {
        name: known[name] for name in ("teacher", "dtype", "tokenizer_sha256")
    }
    assert len(cache.inputs["sequences_sha256"]) == 64
    assert cache.not_vouched_for is None


def test_only_last_checkpoints_are_kept_and_load_as_models(whole: tuple[Place, ListJournal]) -> None:
    place, _ = whole
    checkpoints = place.directory / "r1" / "state" / "checkpoints"
    for arm in _ARMS:
        assert [path.name for path in (checkpoints / arm).iterdir()] == ["1.0"]
        assert {"model.safetensors", "config.json", "tokenizer.json"} <= files_below(checkpoints / arm / "1.0")


def test_training_on_corpus_text_helps_on_held_out_text(whole: tuple[Place, ListJournal]) -> None:
    _, journal = whole
    values = {
        name: journal.results(name)["scores"][0]["value"]
        for name in ("evaluate.start", "evaluate.sft.0.5", "evaluate.sft.1.0", "evaluate.kd.1.0")
    }
    assert values["evaluate.sft.1.0"] < values["evaluate.sft.0.5"] < values["evaluate.start"] / 2
    assert values["evaluate.kd.1.0"] < values["evaluate.start"] / 2


def test_a_finished_run_has_nothing_left_to_do(whole: tuple[Place, ListJournal]) -> None:
    place, _ = whole
    assert place.run(smoke_spec(), prefix="b").events == []


def test_another_run_finds_the_artefacts_and_says_who_paid(whole: tuple[Place, ListJournal]) -> None:
    place, first = whole
    journal = place.run(_only("kd"), "r2")
    labels = journal.labels("teacher_logits")
    assert labels["reused_from"] == "r1"
    assert labels["artifact"] == first.labels("teacher_logits")["artifact"]
    assert journal.workload("teacher_logits") == {}
    paid = next(e["stage_id"] for e in first.of("stage_started") if e["name"] == "teacher_logits")
    found = journal.results("teacher_logits")
    assert (found["energy_run_id"], found["energy_stage_id"]) == ("r1", paid)
    assert found["tokens"] == 512
    for name, values in place.weights("kd", "r2").items():
        assert torch.equal(values, place.weights("kd")[name])


@pytest.mark.parametrize(
    ("stage", "advances"),
    [("prepare_data", 1), ("teacher_logits", 3), ("train.kd.0.5", 2), ("train.kd.1.0", 3), ("evaluate.kd.0.5", 1)],
)
def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been(
    whole: tuple[Place, ListJournal], place: Place, stage: str, advances: int
) -> None:
    killed = place.run(_only("kd"), progress=KillingProgress(stage, advances))
    assert killed.stages()[-1] == stage
    assert killed.status()[stage] == "failed"
    rest = place.run(_only("kd"), prefix="b")
    assert rest.stages()[0] == stage
    assert set(killed.stages()[:-1]).isdisjoint(rest.stages())
    uninterrupted, journal = whole
    for name, values in place.weights("kd").items():
        assert torch.equal(values, uninterrupted.weights("kd")[name]), name
    assert rest.results("evaluate.kd.1.0") == journal.results("evaluate.kd.1.0")


def test_a_kill_between_a_stages_end_and_its_mark_runs_nothing_twice(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = RunState.finish

    def killed(state: RunState, stage: str, outcome: Mapping[str, Any]) -> None:
        if stage == "evaluate.start":
            raise Killed
        finish(state, stage, outcome)

    monkeypatch.setattr(RunState, "finish", killed)
    first = place.run(_only("sft"))
    monkeypatch.undo()
    assert first.status()["evaluate.start"] == "ended"
    journal = JournalWriter(place.directory / "r1" / "journal.s1.jsonl")
    for event in ({"event": "session_started", "t_ns": 0, "utc_ns": 1}, *first.events[:-1]):
        journal.write(event)
    journal.close()
    rest = place.run(_only("sft"), prefix="b")
    assert rest.stages()[0] == "train.sft.0.5"
    assert RunState(place.directory / "r1").finished("evaluate.start") == first.results("evaluate.start")
    assert "evaluate.start came to its end" in "".join(place.said)


def test_a_damaged_artefact_is_announced_set_aside_and_made_again(place: Place) -> None:
    first = place.run(_only("kd"))
    target = place.directory / "artifacts" / first.labels("teacher_logits")["artifact"]
    shard = next(path for path in target.iterdir() if path.suffix == ".npy")
    raw = bytearray(shard.read_bytes())
    raw[-1] ^= 1
    shard.write_bytes(bytes(raw))
    second = place.run(_only("kd"), "r2")
    assert any("set aside" in line for line in place.said)
    assert "reused_from" not in second.labels("teacher_logits")
    assert second.workload("teacher_logits")["tokens"] == 512
    assert target.with_name(f"{target.name}.bad").exists()
    for name, values in place.weights("kd", "r2").items():
        assert torch.equal(values, place.weights("kd")[name])


def test_a_run_whose_artefact_is_gone_makes_it_again(place: Place) -> None:
    first = place.run(_only("kd"), progress=KillingProgress("train.kd.1.0"))
    shutil.rmtree(place.directory / "artifacts" / first.labels("teacher_logits")["artifact"])
    rest = place.run(_only("kd"), prefix="b")
    assert rest.stages() == ["teacher_logits", "cache_fidelity", "train.kd.1.0", "evaluate.kd.1.0"]
    assert rest.workload("teacher_logits")["tokens"] == 512


def test_a_stage_that_fails_is_failed_and_not_kept(place: Place) -> None:
    spec = _only("sft")
    wild = dataclasses.replace(spec.train, learning_rate=1e30, warmup_steps=0, max_grad_norm=1e9)
    with pytest.raises(StillwattError, match="arm 'sft': the loss is"):
        place.run(dataclasses.replace(spec, train=wild))
    assert place.journal.status()["train.sft.0.5"] == "failed"
    assert not (place.directory / "r1" / "state" / "train.sft.0.5.json").exists()
    assert (place.directory / "r1" / "state" / "evaluate.start.json").exists()


def test_prepared_tokens_that_changed_are_refused(place: Place) -> None:
    place.run(_only("sft"), progress=KillingProgress("evaluate.teacher"))
    tokens = place.directory / "r1" / "state" / "data" / "tokens.safetensors"
    raw = bytearray(tokens.read_bytes())
    raw[-4] ^= 1
    tokens.write_bytes(bytes(raw))
    with pytest.raises(StillwattError, match="have changed"):
        place.run(_only("sft"), prefix="b")
    tokens.write_bytes(bytes(raw[:-100]))
    with pytest.raises(
        StillwattError, match=r"tokens\.safetensors: the prepared tokens cannot be read .* begin a new run"
    ):
        place.run(_only("sft"), prefix="c")
    tokens.unlink()
    with pytest.raises(StillwattError, match=r"the prepared tokens cannot be read \(No such file"):
        place.run(_only("sft"), prefix="d")


def test_text_that_is_all_rejected_says_what_to_change(place: Place) -> None:
    spec = _only("synthetic")
    assert spec.generate is not None
    strict = dataclasses.replace(spec.generate, min_new_tokens=1000, max_rounds=1)
    with pytest.raises(StillwattError, match=r"raise teacher_generate\.max_rounds"):
        place.run(dataclasses.replace(spec, generate=strict))


def test_a_student_of_its_own_is_checked_against_the_teacher(place: Place) -> None:
    spec = _only("sft")
    student = dataclasses.replace(spec.students[0], source="tiny-random", drop_layers=0, candidate_starts=())
    journal = place.run(dataclasses.replace(spec, students=(student,)))
    assert journal.results("prepare_data")["chosen_layers"] == {}
    assert journal.status()["evaluate.sft.1.0"] == "ended"


def test_a_student_with_another_vocabulary_stops_before_any_teacher_work(place: Place, tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    from stillwatt.pipelines.model_sources import resolve_model
    from stillwatt.pipelines.models import load_tokenizer

    teacher = resolve_model("tiny-random", revision=None, announce=place.said.append)
    config = LlamaConfig(vocab_size=200, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "other")
    load_tokenizer(teacher.directory).save_pretrained(tmp_path / "other")
    spec = _only("sft")
    student = dataclasses.replace(spec.students[0], source=f"path:{tmp_path / 'other'}")
    with pytest.raises(StillwattError, match="the teacher predicts 257 and student 'pruned' 200; each needs a row"):
        place.run(dataclasses.replace(spec, students=(student,)))


def test_several_students_and_seeds_get_names_of_their_own() -> None:
    spec = smoke_spec()
    one, two = spec.students[0], dataclasses.replace(spec.students[0], name="other")
    arm = spec.arms[0]
    assert arm_id(spec, one, arm, 1) == "sft"
    both = dataclasses.replace(spec, students=(one, two))
    assert arm_id(both, two, arm, 1) == "other.sft"
    seeds = dataclasses.replace(both, train=dataclasses.replace(spec.train, seeds=(1, 2)))
    assert arm_id(seeds, two, arm, 2) == "other.sft.s2"


def test_two_students_and_two_seeds_are_all_trained_and_served(place: Place) -> None:
    spec = _only("sft")
    students = (spec.students[0], dataclasses.replace(spec.students[0], name="other", drop_layers=1))
    train = dataclasses.replace(spec.train, seeds=(1, 2), checkpoints=(1.0,))
    serving = smoke_spec().serve
    journal = place.run(dataclasses.replace(spec, students=students, train=train, serve=serving))
    trained = [name for name in journal.stages() if name.startswith("train.")]
    assert trained == [f"train.{student}.sft.s{seed}.1.0" for student in ("pruned", "other") for seed in (1, 2)]
    assert {"evaluate.start.pruned", "evaluate.start.other"} <= set(journal.stages())
    assert {"serve.teacher", "serve.student.pruned", "serve.student.other"} <= set(journal.stages())


def test_processes_of_a_launch_that_know_nothing_of_each_other_are_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(StillwattError, match=r"join_launch.*torchrun -m stillwatt run"):
        place.run(_only("sft"))
    assert not (place.directory / "r1").exists()


def test_the_caches_fidelity_is_a_stage_inside_its_making(whole: tuple[Place, ListJournal]) -> None:
    _, journal = whole
    started = {event["name"]: event for event in journal.of("stage_started")}
    assert started["cache_fidelity"]["parent_id"] == started["teacher_logits"]["stage_id"]
    assert journal.workload("cache_fidelity") == {"tokens": 32}
    found = journal.results("teacher_logits")
    assert found["kl_to_full"] > 0.0
    assert found["kl_positions"] == 31
    assert journal.workload("teacher_logits")["write_s"] > 0.0
    assert journal.workload("train.kd.1.0")["read_s"] > 0.0
    assert "read_s" not in journal.workload("train.sft.1.0")


@pytest.mark.parametrize("field", ["logits", "generate"])
def test_an_arm_without_its_artefacts_settings_is_refused_at_once(place: Place, field: str) -> None:
    with pytest.raises(StillwattError, match=r"arm .(kd|synthetic)."):
        place.run(smoke_spec(**{field: None}))
    assert not (place.directory / "r1").exists()


def test_the_idle_baseline_comes_first_and_once(place: Place) -> None:
    spec = _only("sft", idle_baseline_s=0.01)
    first = place.run(spec, progress=KillingProgress("prepare_data"))
    assert first.stages() == ["idle_baseline", "prepare_data"]
    second = place.run(spec, prefix="b", progress=KillingProgress("evaluate.teacher"))
    assert second.stages() == ["prepare_data", "evaluate.teacher"]


def test_the_idle_machine_is_measured_again_after_everything(place: Place) -> None:
    journal = place.run(_only("sft", idle_baseline_s=0.01, idle_after_s=0.01))
    assert journal.stages()[0] == "idle_baseline"
    assert journal.stages()[-1] == "idle_after"
    assert place.run(_only("sft", idle_baseline_s=0.01, idle_after_s=0.01), prefix="b").stages() == []


def test_a_rest_is_no_work(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    cleared: list[str] = []
    work = Bench.run_stage

    def watched(bench: Bench, name: str, *given: Any, **more: Any) -> Mapping[str, Any]:
        monkeypatch.setattr(bench_module, "free_memory", lambda: cleared.append(name))
        return work(bench, name, *given, **more)

    monkeypatch.setattr(Bench, "run_stage", watched)
    place.run(_only("sft", idle_baseline_s=0.01, idle_after_s=0.01))
    assert "prepare_data" in cleared
    assert not {"idle_baseline", "idle_after"} & set(cleared)


def test_a_local_study_keeps_the_hub_libraries_offline(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    seen: list[str | None] = []

    class Watching(SilentProgress):
        @contextmanager
        def task(self, description: str, *, total: float, unit: str) -> Iterator[Any]:
            seen.append(os.environ.get("HF_HUB_OFFLINE"))
            yield KillingTask(1)

    place.run(_only("sft"), progress=Watching())
    assert seen == ["1"]
    assert "HF_HUB_OFFLINE" not in os.environ


def test_clearing_up_passes_by_what_was_there_before_until_the_run_is_over(place: Place) -> None:
    frozen: dict[str, bool] = {}

    class Watching(SilentProgress):
        @contextmanager
        def task(self, description: str, *, total: float, unit: str) -> Iterator[Any]:
            frozen[description] = gc.get_freeze_count() > 0
            yield KillingTask(1) if description == "train.sft.0.5" else CountingTask()

    gc.unfreeze()
    try:
        place.run(_only("sft"), progress=Watching())
        assert frozen["evaluate.start"] is True
        assert frozen["train.sft.0.5"] is True
        assert gc.get_freeze_count() == 0
    finally:
        gc.freeze()


def test_models_that_must_be_fetched_are_a_stage_outside_all_arms(place: Place) -> None:
    spec = _only("sft")
    hub = dataclasses.replace(spec, teacher=dataclasses.replace(spec.teacher, source="hf:nobody/nothing"))
    with pytest.raises(MissingInputError, match="hf:nobody/nothing"):
        place.run(hub)
    started = place.journal.of("stage_started")
    assert [(event["name"], event["kind"]) for event in started] == [("fetch_models", "other")]


def test_the_kd_arm_needs_its_caches_temperature(place: Place) -> None:
    arm = ArmSpec(name="kd", method=Method.KD, alpha=0.5, temperature=3.0)
    with pytest.raises(StillwattError, match="differs from the logit cache"):
        place.run(dataclasses.replace(smoke_spec(), arms=(arm,)))


def test_an_online_teacher_is_billed_inside_the_training_and_keeps_nothing(place: Place) -> None:
    arms = (
        smoke_spec().arms[0],
        ArmSpec(name="online", method=Method.KD, alpha=0.5, temperature=2.0, loss="jsd", loss_parameter=0.5),
        ArmSpec(name="cut", method=Method.KD, alpha=0.5, temperature=1.0, loss="truncated_top_k"),
    )
    journal = place.run(dataclasses.replace(smoke_spec(), arms=arms, generate=None, serve=None))
    names = journal.stages()
    assert set(journal.status().values()) == {"ended"}
    for share in ("0.5", "1.0"):
        at = names.index(f"train.online.{share}")
        assert names[at + 1] == f"teacher_online.online.{share}"
        assert journal.workload(names[at + 1]) == {"tokens": 256}
    started = {event["name"]: event for event in journal.of("stage_started")}
    teacher, training = started["teacher_online.online.1.0"], started["train.online.1.0"]
    assert teacher["parent_id"] == training["stage_id"]
    assert teacher["kind"] == "teacher_logits"
    assert teacher["labels"] == {**training["labels"], "artifact_kind": "online"}
    assert journal.results("train.online.1.0")["objective"] == "0.5 CE + 0.5 T^2 jsd(beta=0.5), T=2"
    assert any("arm 'cut': loss truncated_top_k cannot see" in line for line in place.said)


def test_an_on_policy_arm_bills_the_students_writing_and_the_teachers_reading(place: Place) -> None:
    arm = ArmSpec(
        name="gkd", method=Method.GKD, alpha=0.5, temperature=1.0, loss="reverse_kl", own_text_share=1.0, text="teacher"
    )
    own = OwnTextSpec(prompt_tokens=8, max_new_tokens=24, temperature=1.0, top_p=1.0)
    spec = dataclasses.replace(smoke_spec(), arms=(smoke_spec().arms[0], arm), own_text=own, logits=None, serve=None)
    journal = place.run(spec)
    assert set(journal.status().values()) == {"ended"}
    started = {event["name"]: event for event in journal.of("stage_started")}
    training, writing = started["train.gkd.1.0"], started["student_generate.gkd.1.0"]
    assert writing["parent_id"] == training["stage_id"] == started["teacher_online.gkd.1.0"]["parent_id"]
    assert writing["kind"] == "other"
    assert training["labels"]["text_artifact"] == journal.labels("teacher_generate")["artifact"]
    assert training["labels"]["artifact"] == "online-gkd"
    written = journal.workload("student_generate.gkd.1.0")
    assert journal.workload("train.gkd.1.0")["tokens"] == written["tokens"]
    assert journal.results("train.gkd.1.0")["own_text_steps"] == 4
    with pytest.raises(StillwattError, match="needs settings for the student's text"):
        place.run(dataclasses.replace(spec, own_text=None), "r2")


def test_a_killed_on_policy_arm_ends_as_if_it_had_not_been(place: Place, tmp_path: Path) -> None:
    arm = ArmSpec(name="gkd", method=Method.GKD, alpha=0.0, temperature=1.0, loss="reverse_kl", own_text_share=0.5)
    own = OwnTextSpec(prompt_tokens=8, max_new_tokens=24, temperature=1.0, top_p=1.0)
    spec = dataclasses.replace(
        smoke_spec(), arms=(smoke_spec().arms[0], arm), own_text=own, logits=None, generate=None, serve=None
    )
    whole = Place(tmp_path / "whole")
    journal = whole.run(spec)
    killed = place.run(spec, progress=KillingProgress("train.gkd.1.0", 2))
    assert killed.status()["train.gkd.1.0"] == "failed"
    rest = place.run(spec, prefix="b")
    found, expected = (one.results("train.gkd.1.0") for one in (rest, journal))
    # how long it waited for its data is a time; all else is the same
    assert 0.0 <= found.pop("loader_wait_share") + expected.pop("loader_wait_share") <= 2.0
    assert found == expected
    for name, values in place.weights("gkd").items():
        assert torch.equal(values, whole.weights("gkd")[name]), name


def test_libraries_are_set_aside_for_as_long_as_a_study_runs() -> None:
    gc.unfreeze()
    try:
        with pytest.raises(KeyError), _libraries_set_aside():
            assert gc.get_freeze_count() > 10_000
            raise KeyError
        assert gc.get_freeze_count() == 0
    finally:
        gc.freeze()
    with _libraries_set_aside():  # the caller did so before
        pass
    assert gc.get_freeze_count() > 10_000
