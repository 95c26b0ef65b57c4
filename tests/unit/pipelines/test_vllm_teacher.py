"""Logit caches from vLLM's side that is ours, with a plain stand-in for the engine.

The real library is met in `tests/contract/test_logit_teachers.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from stillwatt.errors import MissingInputError, StillwattError
from stillwatt.pipelines import teacher_logits
from stillwatt.pipelines.caches import open_cache
from stillwatt.pipelines.logit_cache import LogitCache
from stillwatt.pipelines.logit_forms import Top, told_top
from stillwatt.pipelines.progress import SilentProgress
from stillwatt.pipelines.runner import run_pipeline
from stillwatt.pipelines.spec import CacheSpec, LogitsSpec
from stillwatt.pipelines.vllm_teacher import vllm_teacher
from tiny_models import Tally, files_below, list_meter, smoke_spec
from vllm_stand_in import VOCABULARY, TableTeacher, install, model_folder

SPEC = LogitsSpec(top_k=8, temperature=1.0, batch_size=2, engine="vllm")
CODED = {
    "topk": replace(SPEC, cache=CacheSpec(scheme="topk", step=0.25)),
    "topp": replace(SPEC, cache=CacheSpec(scheme="topp", mass=0.8, step=0.25)),
}
OUT_OF_LUCK, OUT_OF_MEMORY = 13, 14


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for vLLM, and a model's folder."""
    install(tmp_path / "site", monkeypatch)
    return model_folder(tmp_path / "model")


def sequences_of(lengths: Sequence[int]) -> list[list[int]]:
    draw = np.random.default_rng(7)
    usable = [token for token in range(VOCABULARY) if token not in (OUT_OF_LUCK, OUT_OF_MEMORY)]
    return [draw.choice(usable, length).tolist() for length in lengths]


def make(
    directory: Path, sequences: Sequence[Sequence[int]], out_dir: Path, spec: LogitsSpec = SPEC, **more: Any
) -> tuple[dict[str, Any], Tally]:
    tally = Tally()
    with vllm_teacher(directory, "float32", spec, sequences, threads=1, stage=tally) as teacher:
        found = teacher_logits.make(teacher, sequences, spec, out_dir, task=tally, stage=tally, **more)
    return found, tally


def make_here(sequences: Sequence[Sequence[int]], out_dir: Path, spec: LogitsSpec = SPEC) -> dict[str, Any]:
    tally = Tally()
    return teacher_logits.make(TableTeacher(), sequences, spec, out_dir, task=tally, stage=tally)


def test_fixed_rows_are_those_of_the_same_teacher_in_this_process(stand_in: Path, tmp_path: Path) -> None:
    sequences = sequences_of((12, 9, 12, 12, 1))
    found, tally = make(stand_in, sequences, tmp_path / "theirs")
    here = make_here(sequences, tmp_path / "ours")
    assert found["kept_mass"] == pytest.approx(here["kept_mass"], rel=1e-6)
    assert {key: found[key] for key in ("tokens", "positions")} == {"tokens": 46, "positions": 41}
    one, other = LogitCache.open(tmp_path / "theirs"), LogitCache.open(tmp_path / "ours")
    for index in range(5):
        theirs, ours = one.sequence(index), other.sequence(index)
        assert theirs.ids_TK.equal(ours.ids_TK)
        np.testing.assert_allclose(theirs.logp_TK, ours.logp_TK, atol=1e-3)
        np.testing.assert_allclose(theirs.tail_logmass_T, ours.tail_logmass_T, atol=1e-5)
    assert tally.counts.pop("engine_start_s") > 0.0
    assert tally.counts.pop("write_s") > 0.0
    assert tally.counts == {"tokens": 46}
    assert tally.progress == 46


@pytest.mark.parametrize("scheme", sorted(CODED))
def test_coded_rows_are_those_of_the_same_teacher_in_this_process(scheme: str, stand_in: Path, tmp_path: Path) -> None:
    sequences = sequences_of((20,) * 12)
    make(stand_in, sequences, tmp_path / "theirs", CODED[scheme])
    make_here(sequences, tmp_path / "ours", CODED[scheme])
    one, other = open_cache(tmp_path / "theirs"), open_cache(tmp_path / "ours")
    theirs, ours = one.batch(range(12)), other.batch(range(12))
    assert theirs.ids_BTK.equal(ours.ids_BTK)
    np.testing.assert_allclose(theirs.logp_BTK, ours.logp_BTK, atol=1e-6)  # the same levels
    np.testing.assert_allclose(theirs.tail_logmass_BT, ours.tail_logmass_BT, atol=1e-6)


def test_a_whole_vocabulary_leaves_no_tail(stand_in: Path, tmp_path: Path) -> None:
    found, _ = make(stand_in, sequences_of((6,)), tmp_path / "out", replace(SPEC, top_k=VOCABULARY))
    assert found["kept_mass"] == 1.0
    assert LogitCache.open(tmp_path / "out").sequence(0).tail_logmass_T.isneginf().all()


def test_a_tail_below_what_the_numbers_tell_is_half_a_step_and_never_nothing() -> None:
    # in float32 these three sum to a little more than 1, as rounded ones may
    told = Top(
        ids_TW=np.array([[4, 5, 6]]),
        logp_TW=np.log(np.array([[0.5, 0.25, 0.25000003]], dtype=np.float32)),
        vocab_size=9,
    )
    ids_TK, _, tail_T = told_top(told, 3)
    assert ids_TK.tolist() == [[4, 5, 6]]
    assert tail_T.tolist() == [np.log(2.0**-24)]


def test_top_p_keeps_what_reaches_the_mass_and_at_least_one() -> None:
    told = Top(
        ids_TW=np.array([[3, 1, 2], [0, 1, 2]]), logp_TW=np.log([[0.5, 0.3, 0.1], [0.9, 0.05, 0.02]]), vocab_size=9
    )
    ids_TK, logp_TK, tail_T = told_top(told, 3, mass=0.8)
    assert ids_TK.tolist() == [[3, 1, -1], [0, -1, -1]]
    np.testing.assert_allclose(np.exp(logp_TK), [[0.5, 0.3, 0.0], [0.9, 0.0, 0.0]])
    np.testing.assert_allclose(np.exp(tail_T), [0.2, 0.1])


def test_a_killed_engine_is_continued_behind_the_last_shard(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences = sequences_of((12,) * 7)
    make(stand_in, sequences, tmp_path / "whole")
    monkeypatch.setattr("stillwatt.pipelines.logit_cache.SHARD_ROWS", 30)  # three sequences, not a whole batch
    make(stand_in, sequences, tmp_path / "in shards")
    (stand_in / "calls_left").write_text("2", encoding="utf-8")
    with pytest.raises(StillwattError, match=r"(?s)its process has ended; its last words:\n.*out of luck"):
        make(stand_in, sequences, tmp_path / "broken")
    _, tally = make(stand_in, sequences, tmp_path / "broken")
    assert tally.counts["tokens"] == 12 * 5
    assert tally.counts["taken_over_tokens"] == 12 * 2  # the first batch; of the second one sequence was sealed
    assert tally.progress == 12 * 7
    assert contents(tmp_path / "broken") == contents(tmp_path / "in shards")


def contents(directory: Path) -> dict[str, bytes]:
    return {name: (directory / name).read_bytes() for name in files_below(directory)}


def test_no_engine_starts_where_nothing_is_left_to_read(stand_in: Path, tmp_path: Path) -> None:
    sequences = sequences_of((12, 9))
    first, _ = make(stand_in, sequences, tmp_path / "out")
    again, tally = make(stand_in, sequences, tmp_path / "out")
    assert again == first
    assert tally.counts.pop("write_s") > 0.0
    assert tally.counts == {"taken_over_tokens": 21}


def test_sequences_of_one_token_ask_for_nothing(stand_in: Path, tmp_path: Path) -> None:
    found, tally = make(stand_in, [[5], [6]], tmp_path / "out")
    assert found["positions"] == 0
    assert "engine_start_s" not in tally.counts


def test_the_engine_is_gone_with_the_block_however_it_ends(stand_in: Path) -> None:
    with pytest.raises(StillwattError, match=r"(?s)vLLM, with the teacher at .*model: RuntimeError: out of memory"):
        with vllm_teacher(stand_in, "float32", SPEC, [[5, 6]], threads=1, stage=Tally()) as teacher:
            teacher.top([[5, 6]], 8)
            process = psutil.Process(teacher.engine.pid)
            teacher.top([[OUT_OF_MEMORY, 6]], 8)
    assert not process.is_running()
    with pytest.raises(ZeroDivisionError):
        with vllm_teacher(stand_in, "float32", SPEC, [[5, 6]], threads=1, stage=Tally()) as teacher:
            teacher.top([[5, 6]], 8)
            process = psutil.Process(teacher.engine.pid)
            raise ZeroDivisionError
    assert not process.is_running()


def test_an_engine_that_tells_other_numbers_than_were_asked_for_is_not_believed(stand_in: Path) -> None:
    (stand_in / "short").touch()
    with vllm_teacher(stand_in, "float32", SPEC, [[5, 6, 7]], threads=1, stage=Tally()) as teacher:
        with pytest.raises(StillwattError, match="16 log-probabilities came back for 2 positions"):
            teacher.top([[5, 6, 7]], 8)


def test_without_vllm_one_sentence_says_what_to_install(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(MissingInputError, match=r"vLLM not found at .*leave teacher_logits.engine out"):
        make(stand_in, [[5, 6]], tmp_path / "out")


@pytest.mark.parametrize(
    ("spec", "more", "words"),
    [
        (replace(SPEC, temperature=2.0), {}, "set teacher_logits.temperature = 1.0"),
        (SPEC, {"positions": np.zeros((1, 2), dtype=np.int64)}, 'data.packing = "stream"'),
        (
            replace(SPEC, cache=CacheSpec(scheme="head_draws", draws=4)),
            {},
            "logit_cache.scheme head_draws: its draws fall on the whole distribution",
        ),
    ],
)
def test_what_the_most_probable_tokens_cannot_give_is_refused(
    stand_in: Path, tmp_path: Path, spec: LogitsSpec, more: dict[str, Any], words: str
) -> None:
    with pytest.raises(StillwattError, match=words):
        make(stand_in, [[5, 6]], tmp_path / "out", spec, **more)


def test_a_cache_of_another_engine_is_another_artefact() -> None:
    assert SPEC.identity == {"top_k": 8, "temperature": 1.0, "batch_size": 2, "engine": "vllm"}
    assert set(replace(SPEC, engine="transformers").identity) == {"top_k", "temperature", "batch_size"}  # as before


def test_a_teacher_of_this_process_is_not_taken_for_an_engine() -> None:
    assert not isinstance(TableTeacher(), teacher_logits.TopTeacher)


def test_a_study_makes_its_cache_through_the_engine_and_measures_it_against_the_teacher(
    stand_in: Path, tmp_path: Path
) -> None:
    spec = smoke_spec(serve=None)
    assert spec.logits is not None
    arms = tuple(arm for arm in spec.arms if arm.name == "kd")
    train, evaluate = replace(spec.train, checkpoints=(1.0,)), replace(spec.evaluate, choice_items=0)
    logits = replace(spec.logits, engine="vllm")
    meter, journal = list_meter()
    run_pipeline(
        replace(spec, arms=arms, train=train, evaluate=evaluate, logits=logits),
        meter=meter,
        run_id="r1",
        run_dir=tmp_path / "r1",
        artifacts_dir=tmp_path / "artifacts",
        progress=SilentProgress(),
        announce=lambda _text: None,
    )
    assert set(journal.status().values()) == {"ended"}
    work, found = journal.workload("teacher_logits"), journal.results("teacher_logits")
    assert work["tokens"] == found["tokens"] == 512
    assert work["engine_start_s"] > 0.0
    # the stand-in's table is not the teacher's: that the two are far apart is seen
    assert found["kl_to_full"] > 0.5
    assert journal.workload("train.kd.1.0")["tokens"] == 512
