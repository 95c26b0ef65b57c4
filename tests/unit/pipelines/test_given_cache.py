"""A study that trains on a cache brought in from another tool, and on its text: results, books, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from given_tables import CODED, KEPT, LENGTH, TABLES, Row, converted, given_spec, rows_of
from run_dirs import SyntheticRun, cpu_counter
from stillwatt.errors import BudgetError, MissingInputError, StillwattError, UsageError
from stillwatt.ledger.post import build_record
from stillwatt.pipelines.logit_cache import LogitCache, LogitCacheWriter
from stillwatt.pipelines.model_sources import resolve_model
from stillwatt.pipelines.models import load_tokenizer, tokenizer_sha256
from stillwatt.pipelines.schedule import learning_rate
from stillwatt.pipelines.spec import (
    GivenCacheSpec,
    Limit,
    LimitKind,
    LogitsSpec,
    PipelineSpec,
    TeacherSpec,
)
from stillwatt.pipelines.spec_endpoint import EndpointSpec
from stillwatt.pipelines.study import check
from stillwatt.units import J_PER_UJ
from study_place import KillingProgress, Place

VOCAB = 257
LENGTHS = (20, 32, 9, 15, 32, 11, 28, 7, 30, 32, 32, 24, 32, 31)
"""Eight to train on, two that nobody asks for, and four that are held out."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("STILLWATT_HOME", str(tmp_path / "home"))
    return Place(tmp_path)


def trained_by_hand(spec: PipelineSpec, rows: Sequence[Row], *, alpha: float) -> list[float]:
    """Losses of every step of a plain loop over the table's own rows; no code of the pipeline but its schedule."""
    start = resolve_model("tiny-random", revision=None, announce=lambda _: None, is_student=True).directory
    model = AutoModelForCausalLM.from_pretrained(str(start), dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.0)
    order = np.random.default_rng(spec.train.seeds[0]).permutation(8)
    losses, steps = [], 4
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(spec.train, step, steps)
        parts = [_losses_by_hand(model, rows[number], alpha) for number in order[2 * step : 2 * step + 2]]
        loss = torch.cat(parts).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(model.parameters(), spec.train.max_grad_norm)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def _losses_by_hand(model: Any, row: Row, alpha: float) -> torch.Tensor:
    """Of each token to be predicted: cross-entropy, and the divergence of kept tokens and all others as one."""
    tokens = torch.from_numpy(row.tokens_T)[None]
    logp_RV = torch.log_softmax(model(input_ids=tokens).logits[0, :-1].double(), -1)
    ids_RK, kept_RK = torch.from_numpy(row.ids_RK), torch.from_numpy(row.logp_RK)
    own_RK = logp_RV.gather(1, ids_RK)
    rest_R, own_rest_R = 1.0 - kept_RK.exp().sum(1), 1.0 - own_RK.exp().sum(1)
    kl_R = (kept_RK.exp() * (kept_RK - own_RK)).sum(1) + rest_R * (rest_R / own_rest_R).log()
    ce_R = -logp_RV.gather(1, tokens[0, 1:, None])[:, 0]
    return (alpha * ce_R + (1 - alpha) * kl_R)[torch.from_numpy(row.supervised_T[1:])]


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("scheme", [None, CODED], ids=["rows", "topk"])
def test_a_student_of_a_table_has_the_losses_of_a_plain_loop_over_its_rows(
    place: Place, tmp_path: Path, kind: str, scheme: Any
) -> None:
    rows = rows_of(VOCAB, LENGTHS, prompt=3 if kind == "harness" else 1)
    spec = given_spec(converted(tmp_path, kind, rows, VOCAB, scheme=scheme))
    journal = place.run(spec)
    assert set(journal.status().values()) == {"ended"}
    for arm, alpha, rel in (("kd", 0.25, 0.01 if scheme else 1e-3), ("sft", 1.0, 1e-4)):
        found = [journal.results(f"train.{arm}.{share}") for share in ("0.5", "1.0")]
        ours = [part[key] for part in found for key in ("loss_first", "loss_last")]
        assert ours == pytest.approx(trained_by_hand(spec, rows, alpha=alpha), rel=rel), arm
    trained = sum(LENGTHS[:8])
    supervised = sum(int(row.supervised_T.sum()) for row in rows[:8])
    for key, count in (("tokens", trained), ("supervised_tokens", supervised)):
        assert sum(journal.workload(f"train.kd.{share}")[key] for share in ("0.5", "1.0")) == count
    prepared = journal.results("prepare_data")
    assert (prepared["train_tokens"], prepared["train_documents_available"]) == (trained, 10)
    assert prepared["held_out_tokens"] == sum(LENGTHS[10:])


def test_the_teacher_gives_no_logits_and_what_the_cache_took_is_absent(place: Place, tmp_path: Path) -> None:
    cache = converted(tmp_path, "harness", rows_of(VOCAB, LENGTHS), VOCAB)
    journal = place.run(given_spec(cache))
    assert journal.workload("teacher_logits") == {}
    (said,) = journal.of("stated_energy")
    assert (said["part"], said["value_j"]) == ("logit_cache", None)
    assert "was brought in: what making it took, its teacher's work included, is not known here" in said["reason"]
    labels, results = journal.labels("teacher_logits"), journal.results("teacher_logits")
    assert "reused_from" not in labels
    assert journal.labels("train.kd.1.0")["artifact"] == labels["artifact"]
    assert "artifact" not in journal.labels("train.sft.1.0")
    assert results["artifact_sha256"] == LogitCache.open(cache).sha256
    assert results["making_absent"] == said["reason"]
    assert "kl_to_full" not in results
    assert not (tmp_path / "artifacts").exists()
    # another content is another artefact
    other = converted(tmp_path / "other", "harness", rows_of(VOCAB, LENGTHS, seed=5), VOCAB)
    assert place.run(given_spec(other), "r2").labels("teacher_logits")["artifact"] != labels["artifact"]


SERVER = EndpointSpec(
    url="http://127.0.0.1:1/v1", model="m", api="chat", api_key_env=None, concurrency=1, timeout_s=1.0, max_retries=0
)


@pytest.mark.parametrize("teacher", [
    TeacherSpec(source="endpoint", revision=None, dtype=None, endpoint=SERVER),
    TeacherSpec(source="none", revision=None, dtype=None),
], ids=["server", "none"])  # fmt: skip
def test_a_teacher_that_is_used_for_nothing_else_is_never_loaded(
    place: Place, tmp_path: Path, teacher: TeacherSpec
) -> None:
    cache = converted(tmp_path, "harness", rows_of(VOCAB, LENGTHS), VOCAB)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stillwatt.pipelines.bench.Bench.teacher", None)
        journal = place.run(given_spec(cache, teacher=teacher))
    assert [name for name in journal.stages() if "teacher" in name] == ["teacher_logits"]
    assert set(journal.status().values()) == {"ended"}


def test_a_cache_without_a_tokenizer_is_warned_of_on_the_books(place: Place, tmp_path: Path) -> None:
    rows = rows_of(VOCAB, LENGTHS)
    journal = place.run(given_spec(converted(tmp_path, "harness", rows, VOCAB)))
    (warning,) = journal.of("warning")
    assert "does not name its tokenizer" in warning["message"]
    assert warning["message"] in place.said
    tokenizer = load_tokenizer(resolve_model("tiny-random", revision=None, announce=lambda _: None).directory)
    named = converted(tmp_path / "named", "harness", rows, VOCAB, tokenizer_sha256=tokenizer_sha256(tokenizer))
    assert place.run(given_spec(named), "r2").of("warning") == []


@pytest.mark.parametrize("stage", ["train.kd.0.5", "train.kd.1.0"])
def test_a_run_that_was_cut_off_comes_to_the_same_students(place: Place, tmp_path: Path, stage: str) -> None:
    spec = given_spec(converted(tmp_path, "harness", rows_of(VOCAB, LENGTHS), VOCAB))
    place.run(spec, "whole")
    assert place.run(spec, "cut", progress=KillingProgress(stage)).of("killed")
    again = place.run(spec, "cut", prefix="b")
    assert "prepare_data" not in again.stages()
    assert again.of("stated_energy") == []  # said once, in the session that began the run
    for arm in ("sft", "kd"):
        whole, cut = place.weights(arm, "whole"), place.weights(arm, "cut")
        assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_another_cache_in_its_place_is_no_way_to_go_on(place: Place, tmp_path: Path) -> None:
    cache = converted(tmp_path, "harness", rows_of(VOCAB, LENGTHS), VOCAB)
    other = converted(tmp_path / "other", "harness", rows_of(VOCAB, LENGTHS, seed=5), VOCAB)
    spec = given_spec(cache)
    place.run(spec, progress=KillingProgress("train.kd.1.0"))
    shutil.rmtree(cache)
    shutil.copytree(other, cache)
    with pytest.raises(StillwattError, match=r"has the hash [0-9a-f]{64}, and this run began with one of"):
        place.run(spec, prefix="b")


def test_rows_that_were_padding_alone_leave_gaps_that_shift_nothing(place: Place, tmp_path: Path) -> None:
    rows = rows_of(VOCAB, LENGTHS, prompt=1)
    plain = converted(tmp_path, "distillkit", rows, VOCAB)
    gaps = tmp_path / "gaps"
    whole = LogitCache.open(plain)
    how: Any = {"vocab_size": VOCAB, "top_k": KEPT, "temperature": 1.0, "inputs": {}}
    with LogitCacheWriter(gaps, **how) as writer:
        for index in whole.sequence_indices:
            found = whole.sequence(index)
            parts = (found.ids_TK.numpy(), found.logp_TK.numpy(), found.tail_logmass_T.numpy())
            writer.add(3 * index + 2, *parts, text=whole.text(index))
    first = place.run(given_spec(plain)).results("train.kd.1.0")["loss_last"]
    assert place.run(given_spec(gaps), "r2").results("train.kd.1.0")["loss_last"] == pytest.approx(first, rel=1e-5)


# --- caches of this project's own -------------------------------------------------------------------------------


def own_spec(**changes: Any) -> PipelineSpec:
    """A study whose teacher writes the cache."""
    spec = given_spec(Path("none"), logits=LogitsSpec(top_k=8, temperature=1.0, batch_size=4), given_cache=None)
    data = dataclasses.replace(spec.data, source="random-words")
    return dataclasses.replace(spec, data=data, **changes)


def reading(spec: PipelineSpec, cache: Path, **changes: Any) -> PipelineSpec:
    """The same study, reading a cache that is there."""
    return dataclasses.replace(spec, logits=None, given_cache=GivenCacheSpec(directory=str(cache)), **changes)


def test_a_run_beside_it_that_made_the_cache_is_pointed_to(place: Place, tmp_path: Path) -> None:
    made = place.run(own_spec())
    (cache,) = (tmp_path / "artifacts").iterdir()
    # a run of the same folder whose books have the stage, as the meter of a real run writes them
    maker = SyntheticRun(tmp_path, name="maker", number=7)
    session = maker.session(start_s=100.0)
    _book(session, cache)
    record = json.loads((cache / "artifact.json").read_text(encoding="utf-8"))
    record["made_by"] = {"run_id": maker.run_id, "stage_id": _stage_of(maker.path)}
    (cache / "artifact.json").write_text(json.dumps(record), encoding="utf-8")
    journal = place.run(reading(own_spec(), cache), "r2")
    assert journal.of("stated_energy") == []
    assert journal.labels("teacher_logits")["reused_from"] == maker.run_id
    assert journal.results("teacher_logits")["energy_stage_id"] == record["made_by"]["stage_id"]
    assert journal.labels("teacher_logits")["artifact"] == cache.name
    for key in ("loss_first", "loss_last"):
        assert journal.results("train.kd.1.0")[key] == made.results("train.kd.1.0")[key]


def _book(session: Any, cache: Path) -> None:
    session.sampler([cpu_counter()])
    results = json.loads((cache / "artifact.json").read_text(encoding="utf-8"))["results"]
    labels = {"artifact": cache.name, "artifact_kind": "logits"}
    session.stage("teacher_logits", 101.0, 103.0, kind="teacher_logits", labels=labels, workload={}, results=results)
    session.samples("cpu0.energy_counter", lambda t_s: round(20.0 * t_s / J_PER_UJ) % 262_143_328_850, until_s=104.0)
    session.end(103.5)


def _stage_of(run_dir: Path) -> str:
    return next(stage.stage_id for stage in build_record(run_dir).stages if stage.name == "teacher_logits")


def test_a_run_whose_books_are_elsewhere_leaves_the_making_absent(place: Place, tmp_path: Path) -> None:
    made = place.run(own_spec(), "maker")
    (cache,) = (tmp_path / "artifacts").iterdir()
    # the meter of these tests writes to a list, so the run has a folder and no books
    journal = place.run(reading(own_spec(), cache), "r2")
    (said,) = journal.of("stated_energy")
    assert "was made by run maker, and what that took is not known here" in said["reason"]
    assert "manifest.json cannot be read" in said["reason"]
    shutil.rmtree(tmp_path / "maker")
    journal = place.run(reading(own_spec(), cache), "r3")
    assert "it is not in this folder of runs" in journal.of("stated_energy")[0]["reason"]
    assert journal.results("train.kd.1.0")["loss_last"] == made.results("train.kd.1.0")["loss_last"]


def test_who_made_a_cache_is_looked_for_among_the_runs_here_alone(place: Place, tmp_path: Path) -> None:
    place.run(own_spec(), "maker")
    (cache,) = (tmp_path / "artifacts").iterdir()
    record = json.loads((cache / "artifact.json").read_text(encoding="utf-8"))
    record["made_by"]["run_id"] = f"../{tmp_path.name}/maker"
    (cache / "artifact.json").write_text(json.dumps(record), encoding="utf-8")
    (said,) = place.run(reading(own_spec(), cache), "r2").of("stated_energy")
    assert said["reason"].endswith("it is not in this folder of runs")


def test_a_budget_of_joules_cannot_bear_a_share_that_nobody_knows(place: Place, tmp_path: Path) -> None:
    spec = given_spec(converted(tmp_path, "harness", rows_of(VOCAB, LENGTHS), VOCAB), teacher_factor=1.0)
    limit = Limit(kind=LimitKind.ENERGY, amount=1000.0, said="1 kJ")
    arms = tuple(dataclasses.replace(arm, budget=limit) for arm in spec.arms)
    with pytest.raises(BudgetError, match=r"nobody here knows what .* took to make.*set budgets\.teacher_share"):
        place.run(dataclasses.replace(spec, arms=arms))


# --- refusals ---------------------------------------------------------------------------------------------------


def stages_of_refused(place: Place, spec: PipelineSpec, match: str, error: type[Exception] = StillwattError) -> None:
    """Refused in one line, before anything is trained or evaluated."""
    with pytest.raises(error, match=match) as caught:
        place.run(spec)
    assert "\n" not in str(caught.value)
    assert set(place.journal.stages()) <= {"prepare_data"}


def test_a_cache_that_is_not_there_not_sealed_or_damaged_is_refused(place: Place, tmp_path: Path) -> None:
    cache = converted(tmp_path, "harness", rows_of(VOCAB, LENGTHS), VOCAB)
    gone = given_spec(tmp_path / "gone")
    stages_of_refused(place, gone, r"teacher_logits\.source not found at .*gone; name the folder", MissingInputError)
    (tmp_path / "empty").mkdir()
    stages_of_refused(place, given_spec(tmp_path / "empty"), r"empty is no sealed logit cache: its index\.json cannot")
    begun = tmp_path / "begun"
    LogitCacheWriter(begun, vocab_size=VOCAB, top_k=KEPT, temperature=1.0, inputs={})
    stages_of_refused(place, given_spec(begun), "begun is not sealed: its writing was not completed; let what writes")
    rows = cache / "shard-00000.rows.npy"
    content = bytearray(rows.read_bytes())
    content[-3] ^= 1
    rows.write_bytes(content)
    # found where the bytes are read first: as text, and as logits
    stages_of_refused(place, given_spec(cache), r"rows\.npy has changed since it was written; `stillwatt cache verify`")
    elsewhere = given_spec(cache)
    elsewhere = dataclasses.replace(elsewhere, data=dataclasses.replace(elsewhere.data, source="random-words"))
    stages_of_refused(place, elsewhere, r"^teacher_logits\.source: .* rows\.npy has changed|rows\.npy has changed")
    assert cache.is_dir()  # never moved aside


def test_another_temperature_or_scheme_is_refused_before_a_stage(place: Place, tmp_path: Path) -> None:
    rows = rows_of(VOCAB, LENGTHS)
    hot = given_spec(converted(tmp_path, "harness", rows, VOCAB, temperature=2.0))
    stages_of_refused(place, hot, r"arm 'kd': temperature 1\.0 differs from the logit cache's 2\.0; .* set both alike")
    spec = given_spec(converted(tmp_path / "b", "harness", rows, VOCAB))
    drawn = tuple(dataclasses.replace(arm, loss="sampled_kl") if arm.name == "kd" else arm for arm in spec.arms)
    message = "arm 'kd': sampled_kl reads a sample cache, and the logit cache is a top_k cache"
    stages_of_refused(place, dataclasses.replace(spec, arms=drawn), message)


def test_too_few_sequences_are_refused_with_both_numbers(place: Place, tmp_path: Path) -> None:
    spec = given_spec(converted(tmp_path, "harness", rows_of(VOCAB, LENGTHS), VOCAB))

    def asking(count: int) -> PipelineSpec:
        return dataclasses.replace(spec, data=dataclasses.replace(spec.data, train_tokens=count * LENGTH))

    with pytest.raises(StillwattError, match=r"holds 14 sequences, and data\.train_tokens asks for 15; lower it"):
        check(asking(15))
    message = (
        r"holds 14 sequences, of which 4 are held out, and data\.train_tokens asks for 11: lower it to at most 320"
    )
    stages_of_refused(place, asking(11), message)


def test_another_vocabulary_or_tokenizer_is_refused(place: Place, tmp_path: Path) -> None:
    def with_(vocab_size: int, **how: Any) -> PipelineSpec:
        return given_spec(converted(tmp_path / str(len(list(tmp_path.iterdir()))), "harness", rows, vocab_size, **how))

    rows = rows_of(VOCAB, LENGTHS)
    stages_of_refused(place, with_(300), r"is of a vocabulary of 300, and here the tokenizer has 257 tokens \(output")
    # one of the data and the cache each: the text is read first
    stages_of_refused(place, with_(VOCAB, tokenizer_sha256="ab" * 32), "tokenizer has the hash (ab)+, and", UsageError)
    tokenizer = load_tokenizer(resolve_model("tiny-random", revision=None, announce=lambda _: None).directory)
    padded = with_(300, tokenizer_sha256=tokenizer_sha256(tokenizer))
    assert set(place.run(padded, "padded").status().values()) == {"ended"}


def test_another_text_is_refused_with_both_hashes(place: Place, tmp_path: Path) -> None:
    cache = converted(tmp_path, "harness", rows_of(VOCAB, LENGTHS), VOCAB)
    spec = given_spec(cache)
    words = dataclasses.replace(spec, data=dataclasses.replace(spec.data, source="random-words"))
    match = (
        r"the text of .* has the hash [0-9a-f]{64}, and data\.source 'random-words' gives 8 sequences with [0-9a-f]{64}"
    )
    stages_of_refused(place, words, match)
    other = converted(tmp_path / "other", "harness", rows_of(VOCAB, LENGTHS, seed=9), VOCAB)
    crossed = dataclasses.replace(spec, given_cache=GivenCacheSpec(directory=str(other)))
    stages_of_refused(place, crossed, r'train on its own text with data\.source = "cache:')
    stages_of_refused(place, dataclasses.replace(words, **_without_text(tmp_path, cache)), "says nothing of the text")


def _without_text(tmp_path: Path, cache: Path) -> dict[str, Any]:
    whole, old = LogitCache.open(cache), tmp_path / "old"
    with LogitCacheWriter(old, vocab_size=VOCAB, top_k=KEPT, temperature=1.0, inputs={}) as writer:
        for index in whole.sequence_indices:
            found = whole.sequence(index)
            writer.add(index, found.ids_TK.numpy(), found.logp_TK.numpy(), found.tail_logmass_T.numpy())
    return {"given_cache": GivenCacheSpec(directory=str(old))}


def test_text_that_a_cache_cannot_give_is_refused(place: Place, tmp_path: Path) -> None:
    cache = converted(tmp_path, "harness", rows_of(VOCAB, LENGTHS), VOCAB)
    spec = given_spec(cache)

    def data(**changes: Any) -> PipelineSpec:
        return dataclasses.replace(spec, data=dataclasses.replace(spec.data, **changes))

    _without_text(tmp_path, cache)
    stages_of_refused(place, data(source=f"cache:{tmp_path / 'old'}"), "old does not hold its text; convert its table")
    short = data(sequence_tokens=16, train_tokens=128)
    stages_of_refused(place, short, r"a sequence of 32 tokens, and data\.sequence_tokens is 16; raise it")
    silent = converted(tmp_path / "silent", "harness", rows_of(VOCAB, LENGTHS, prompt=99), VOCAB)
    stages_of_refused(place, given_spec(silent), "no token of the 8 sequences to train on is to be predicted; look at")


def test_caches_of_documents_kept_apart_fit_no_stream(place: Place, tmp_path: Path) -> None:
    apart = own_spec()
    apart = dataclasses.replace(apart, data=dataclasses.replace(apart.data, packing="documents"))
    made = place.run(apart, "maker")
    (cache,) = (tmp_path / "artifacts").iterdir()
    told = r"made with packing 'documents', positions .* data\.packing gives packing 'stream'"
    stages_of_refused(place, reading(own_spec(), cache), told)
    again = place.run(reading(apart, cache), "r2")
    assert again.results("train.kd.1.0")["loss_last"] == made.results("train.kd.1.0")["loss_last"]
