"""A study of seeds in an account: an arm is named once, and means all of its trainings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lifecycle_studies import study
from run_records import run_record, stage
from stillwatt.config.account_options import parse_serving
from stillwatt.errors import UnknownNameError
from stillwatt.factors.catalog import build_catalog
from stillwatt.impact.stages import Mapper
from stillwatt.records.impact import LifeStage
from stillwatt.records.run import RunRecord
from stillwatt.records.window import StageKind
from stillwatt.workflows.account_hardware import storage_of


def trained(arm: str, seed: int) -> Any:
    labels = {"arm": f"{arm}.s{seed}", "seed": str(seed), "student": "tiny", "artifact": f"logits-{arm}"}
    one = stage(f"{arm}{seed}", f"train.{arm}.s{seed}.1.0", StageKind.STUDENT_TRAIN, joules=5.0, labels=labels)
    return replace(one, workload={"tokens": 100.0})


def of_seeds(*more: Any) -> RunRecord:
    return run_record([*(trained(arm, seed) for arm in ("sft", "kd") for seed in (1, 2, 3)), *more])


def test_the_arm_of_a_study_keeps_all_of_its_seeds() -> None:
    kept = frozenset({"kd.s1", "kd.s2", "kd.s3"})
    booked = {one.stage.name: one for one in Mapper(of_seeds(), kept=kept).booked()}
    assert all(booked[f"train.kd.s{seed}.1.0"].life is LifeStage.POST_TRAINING for seed in (1, 2, 3))
    assert all(booked[f"train.sft.s{seed}.1.0"].life is LifeStage.EXPERIMENTATION for seed in (1, 2, 3))
    assert booked["train.sft.s1.1.0"].why == "tried beside the arms kd.s1, kd.s2, kd.s3, which were kept"


def test_an_account_takes_the_name_of_the_recipe() -> None:
    counts = {one.unit: one.count for one in study(of_seeds(), student="kd").counts}
    assert (counts["student"], counts["token"]) == (3.0, 300.0)
    counts = {one.unit: one.count for one in study(of_seeds(), student="kd.s2").counts}
    assert (counts["student"], counts["token"]) == (1.0, 100.0)


def test_an_arm_that_is_not_there_is_refused_with_both_ways_to_name_those_that_are() -> None:
    with pytest.raises(UnknownNameError, match=r"kd, kd\.s1, kd\.s2"):
        study(of_seeds(), student="nobody")


def test_the_student_of_all_seeds_is_served_once() -> None:
    one = stage("s", "serve.tiny", StageKind.SERVE, joules=10.0, labels={"student": "tiny"})
    run = of_seeds(replace(one, workload={"generated_tokens": 100.0}))
    said = str(study(run, student="kd", serving=parse_serving("1e6,1")).about["assumptions"])
    assert "the student of arm kd.s1, kd.s2, kd.s3 is served" in said


def test_a_teacher_beside_a_training_leaves_no_cache_to_keep(tmp_path: Path) -> None:
    labels = {"arm": "gkd", "artifact": "online-1a2b", "artifact_kind": "online"}
    beside = stage("t", "teacher_online.gkd.1.0", StageKind.TEACHER_LOGITS, joules=1.0, labels=labels)
    found = storage_of([run_record([beside])], tmp_path, build_catalog(), days=10.0)
    assert not found.lacks
    assert not found.kept
    stored = replace(beside, labels={**labels, "artifact_kind": "logits"})
    (lack,) = storage_of([run_record([stored])], tmp_path, build_catalog(), days=10.0).lacks
    assert "the logit cache" in lack.reason
