"""Trainings on unlike caches at one place are no repeats of each other."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from run_records import run_record, scores, stage
from stillwatt.analysis.study import summarise
from stillwatt.analysis.teachers import given_caches
from stillwatt.records import StageKind
from stillwatt.records.run import RunRecord


def trained_on(artifact: str, settings: dict[str, Any]) -> RunRecord:
    labels = {"artifact": artifact, "artifact_kind": "logits"}
    arm = {"arm": "kd", "checkpoint": "1.0"}
    made = stage("a1", "teacher_logits", StageKind.TEACHER_LOGITS, joules=1.0, labels=labels)
    student = stage("a2", "train.kd.1.0", StageKind.STUDENT_TRAIN, joules=1.0, labels={**arm, "artifact": artifact})
    scored = stage("a3", "evaluate.kd.1.0", StageKind.EVALUATE, joules=1.0, labels=arm, results=scores(40.0, 0.5))
    return dataclasses.replace(run_record([made, student, scored]), settings={"teacher_logits": settings})


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"source": "path:caches/mine"}, ["logits-0a"]),
        ({"source": "teacher", "top_k": 8}, []),
        ({"top_k": 8}, []),  # of a record from before it could be said
    ],
)
def test_the_name_of_a_cache_counts_where_it_was_there_already(settings: dict[str, Any], names: list[str]) -> None:
    run = trained_on("logits-0a", settings)
    (point,) = summarise(run, reuse=()).arms
    assert given_caches(run, point) == names
