"""Reports for tests of exports: one that counts much, and one that counts little."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from impact_studies import use
from lifecycle_studies import report
from stillwatt.records.energy import NoTotal
from stillwatt.records.export import Details
from stillwatt.records.impact import LifeStage, Use
from stillwatt.records.lifecycle import Count

DETAILS = Details(created_utc="2026-05-01T12:00:00.000Z", model="student-135m")
FULL = Details(
    created_utc="2026-05-01T12:00:00.000Z",
    model="student-135m",
    version="1.0",
    organisation="A Laboratory",
    base_model="teacher-1b",
    licence="https://spdx.org/licenses/Apache-2.0",
    release_date="2026-05-02T00:00:00Z",
    model_hash="ab" * 32,
    parameters=135e6,
    training_flop=1.2345e18,
    compute_methodology="6 FLOP a parameter and token",
    inference_flop=2.7e13,
    inference_task="generating 100000 tokens on 1 card",
    infrastructure="onPremise",
)
_COUNTS = (
    Count(unit="run", count=2.0),
    Count(unit="token", count=1e6, means="tokens"),
    Count(unit="student", count=None, reason="none was trained"),
)


@cache
def _rich() -> str:
    uses = (
        use(stage=LifeStage.TRAINING),
        use(stage=LifeStage.DATA, kwh=5.0),
        use(stage=LifeStage.POST_TRAINING, kwh=2.0),
        use(stage=LifeStage.EXPERIMENTATION, kwh=1.0),
        use(stage=LifeStage.DEPLOYMENT, kwh=4.0),
    )
    return json.dumps(report(uses=uses, counts=_COUNTS))


def rich() -> dict[str, Any]:
    """Every stage in which something runs, a card held, a terabyte kept."""
    made: dict[str, Any] = json.loads(_rich())
    return made


@cache
def _poor() -> str:
    lost = Use(run="r1", stage=LifeStage.TRAINING, energy=NoTotal(reason="nobody could read it"), meter="")
    return json.dumps(report(uses=(lost,), held=(), kept=(), counts=_COUNTS))


def poor() -> dict[str, Any]:
    """One stage whose energy nobody could read."""
    made: dict[str, Any] = json.loads(_poor())
    return made


def named(name: str) -> dict[str, Any]:
    """The rich report with a name of somebody's choosing wherever names stand."""
    made = rich()
    made["goal_and_scope"]["about"]["runs"] = [{"run_id": name, "name": name, "start_utc": "2026-01-01T00:00:00.000Z"}]
    made["goal_and_scope"]["place"]["name"] = name
    for held in made["inventory"]["devices"]:
        held["name"] = name
    for factor in made["factors"]:
        factor["source"] = name
    return made
