"""The smallest study with a judge."""

from __future__ import annotations

import dataclasses
from typing import Any

from judge_models import judge_spec
from stillwatt.pipelines.spec import PipelineSpec
from tiny_models import smoke_spec


def judged_study(**judge: Any) -> PipelineSpec:
    """One arm, one checkpoint, no serving load, and a judge."""
    spec = smoke_spec(serve=None, logits=None, generate=None)
    student = dataclasses.replace(spec.students[0], source="tiny-random", drop_layers=0, candidate_starts=())
    return dataclasses.replace(
        spec,
        students=(student,),
        data=dataclasses.replace(spec.data, train_tokens=64),
        arms=spec.arms[:1],
        train=dataclasses.replace(spec.train, checkpoints=(1.0,)),
        evaluate=dataclasses.replace(spec.evaluate, choice_items=0, judge=judge_spec(**judge)),
    )
