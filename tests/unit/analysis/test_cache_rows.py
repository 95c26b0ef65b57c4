from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from run_records import run_record, scores, stage
from stillwatt.analysis.study import summarise
from stillwatt.records import NoTotal, StageKind, StageStatus, Total
from stillwatt.records.cache_rows import PerToken, cache_rows
from stillwatt.records.finding import Bill
from stillwatt.records.run import StageRecord

LABELS = {"artifact": "logits-0a1b2c3d4e5f", "artifact_kind": "logits"}
FOUND = {"positions": 1000, "bytes": 50_000, "bytes_per_token": 50.0, "kept_mass": 0.93, "kl_to_full": 0.25}


def made(joules: float = 200.0, *, stage_id: str = "a1", **changes: Any) -> StageRecord:
    settled: dict[str, Any] = {"workload": {"write_s": 1.0}, "labels": LABELS, "results": FOUND, **changes}
    return stage(stage_id, "teacher_logits", StageKind.TEACHER_LOGITS, joules=joules, **settled)


def trained(read_s: float, *, tokens: float = 500.0, stage_id: str = "a2", **changes: Any) -> StageRecord:
    labels = {"arm": "kd", "artifact": LABELS["artifact"], "checkpoint": "1.0"}
    settled: dict[str, Any] = {"workload": {"tokens": tokens, "read_s": read_s}, "labels": labels, **changes}
    return stage(stage_id, "train.kd.1.0", StageKind.STUDENT_TRAIN, joules=100.0, **settled)


def test_joules_of_a_token_are_those_of_its_share_of_the_stage() -> None:
    (row,) = cache_rows([made(), trained(0.5), trained(1.5, stage_id="a3")])
    assert (row.bytes_per_token, row.kl_to_full, row.kept_mass, row.kl_why_not) == (50.0, 0.25, 0.93, "")
    assert isinstance(row.made_j, PerToken)
    assert isinstance(row.write_j, PerToken)
    assert isinstance(row.read_j, PerToken)
    assert row.made_j.value_j == pytest.approx(0.2)
    assert row.write_j.value_j == pytest.approx(0.02)  # 1 of 10 s
    assert row.read_j.value_j == pytest.approx((5.0 + 15.0) / 1000)
    for energy in (row.made_j, row.write_j, row.read_j):
        assert energy.low_j < energy.value_j < energy.high_j
        assert energy.basis.value == "modelled"


def test_a_cache_that_is_read_three_times_is_written_by_its_rows_and_read_by_every_reading() -> None:
    (once,) = cache_rows([made(), trained(0.5)])
    (thrice,) = cache_rows([made(), trained(1.5, tokens=1500.0)])
    assert isinstance(once.read_j, PerToken)
    assert isinstance(thrice.read_j, PerToken)
    assert (thrice.bytes_per_token, thrice.positions) == (once.bytes_per_token, once.positions)
    assert (thrice.made_j, thrice.write_j) == (once.made_j, once.write_j)
    assert thrice.read_j.value_j == pytest.approx(once.read_j.value_j)


def test_ranks_side_by_side_are_summed() -> None:
    halves = [made(100.0, stage_id=f"r{rank}a1", labels={**LABELS, "rank": str(rank)}) for rank in (0, 1)]
    halves[1] = dataclasses.replace(halves[1], results={})
    (row,), (whole,) = cache_rows(halves), cache_rows([made(200.0)])
    assert isinstance(row.made_j, PerToken)
    assert isinstance(whole.made_j, PerToken)
    assert row.made_j.value_j == pytest.approx(whole.made_j.value_j)
    assert row.positions == 1000


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"workload": {}}, "did not count write_s"),
        ({"results": {**FOUND, "positions": 0}}, "tokens were not counted"),
        ({"labels": {**LABELS, "reused_from": "r7"}}, "run r7 made it"),
        ({"results": {**FOUND, "making_absent": "it was brought in"}}, "it was brought in"),
        ({"attempt": 2}, "cut off"),
        ({"energies": ()}, "every part is absent"),
    ],
)
def test_what_is_not_known_has_its_reason(changes: dict[str, Any], reason: str) -> None:
    (row,) = cache_rows([made(**changes)])
    assert isinstance(row.write_j, NoTotal)
    assert reason in row.write_j.reason
    assert row.to_dict()["write_j_per_token"] == {"absent": row.write_j.reason}
    assert isinstance(row.read_j, NoTotal)


def test_a_cache_without_a_divergence_says_why() -> None:
    bare = {key: value for key, value in FOUND.items() if key != "kl_to_full"}
    (old,) = cache_rows([made(results=bare)])
    (drawn,) = cache_rows([made(results={**bare, "kl_absent": "draws"})])
    assert "before fidelity was measured" in old.kl_why_not
    assert drawn.to_dict()["kl_to_full"] == {"absent": "draws"}


def test_only_finished_caches_have_rows() -> None:
    beside = stage("a1", "teacher_online", StageKind.TEACHER_LOGITS, joules=1.0, labels={"artifact_kind": "online"})
    assert cache_rows([made(status=StageStatus.RECOVERED), beside]) == ()
    assert "caches" not in run_record([beside]).to_dict()
    assert run_record([made()]).to_dict()["caches"][0]["artifact"] == LABELS["artifact"]


def test_a_cache_that_ranks_made_together_is_billed_whole_where_it_is_used_again() -> None:
    halves = [made(100.0, stage_id=f"r{rank}a1", labels={**LABELS, "rank": str(rank)}) for rank in (0, 1)]
    maker = dataclasses.replace(run_record(halves), run_id="first")
    pointer = stage(
        "a1",
        "teacher_logits",
        StageKind.TEACHER_LOGITS,
        joules=0.01,
        labels={**LABELS, "reused_from": "first"},
        results={"energy_run_id": "first", "energy_stage_id": "r0a1"},
    )
    study = summarise(run_record([pointer, trained(0.1), scored_kd("a3")]), others=[maker], reuse=())
    (point,) = study.arms
    bill = point.teacher_energy
    assert not isinstance(bill, NoTotal)
    assert bill.value_j == pytest.approx(200.0)
    assert isinstance(halves[0].gross, Total)


@pytest.mark.parametrize(("taken_over", "teacher_j", "lost_j"), [(600.0, 290.0, 0.0), (0.0, 200.0, 90.0)])
def test_a_lost_attempt_is_the_artefacts_where_its_work_was_taken_over_and_an_experiment_elsewhere(
    taken_over: float, teacher_j: float, lost_j: float
) -> None:
    lost = made(90.0, status=StageStatus.RECOVERED)
    again = made(200.0, stage_id="b1", attempt=2, workload={"write_s": 1.0, "taken_over_tokens": taken_over})
    run = run_record([lost, again, trained(0.1, stage_id="b2"), scored_kd("b3")])
    study = summarise(run, reuse=())
    (point,) = study.arms
    assert not isinstance(point.teacher_energy, NoTotal)
    assert point.teacher_energy.value_j == pytest.approx(teacher_j)
    assert isinstance(study.experimentation, Bill)
    assert study.experimentation.value_j == pytest.approx(lost_j)
    assert study.table.closes


def scored_kd(stage_id: str) -> StageRecord:
    labels = {"arm": "kd", "checkpoint": "1.0"}
    return stage(stage_id, "evaluate.kd.1.0", StageKind.EVALUATE, joules=1.0, labels=labels, results=scores(40.0, 0.5))
