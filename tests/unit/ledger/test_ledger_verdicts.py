"""Stages of run directories are held against the rules by what was read of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from run_dirs import (
    GPU,
    FakeLiveness,
    SyntheticRun,
    SyntheticSession,
    constant_counter,
    constant_power,
    dram_model,
    gpu_counter,
    gpu_power,
)
from stillwatt.ledger.post import read_run
from stillwatt.ledger.verdicts import Judged, judge_run
from stillwatt.metering.verdict import Outcome
from stillwatt.units import NS_PER_MS

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "reference" / "run.schema.json").read_text(encoding="utf-8"))
CALIBRATED = replace(gpu_counter(), gain_low_rel=0.01, gain_high_rel=0.01)


def judged(run: SyntheticRun) -> Judged:
    return judge_run(read_run(run.path, liveness=FakeLiveness(False)))


def test_each_stage_is_judged_by_its_own_readings(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path)
    session = run.session(start_s=100.0)
    session.sampler([CALIBRATED])
    session.samples("gpu0.energy_counter", constant_counter(300.0, 0.001), until_s=200.0)
    whole = session.stage("study", 101.0, 199.0)
    short = session.stage("blink", 110.0, 110.03, parent=whole)
    some = session.stage("warm_up", 120.0, 123.0, parent=whole)
    session.end(200.0)
    found = judged(run).verdicts
    assert found[whole].outcome is Outcome.MEETS
    assert found[short].outcome is Outcome.TOO_SHORT
    assert found[some].outcome is Outcome.FALLS_SHORT
    assert found[some].readings in {30, 31}
    assert found[some].rate_per_s == pytest.approx((found[some].readings or 0) / 3.0)
    Draft202012Validator(SCHEMA).validate(json.loads(json.dumps(judged(run).to_dict(), allow_nan=False)))


def test_an_unread_second_part_keeps_a_stage_from_meeting_them(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path)
    session = run.session(start_s=100.0)
    session.sampler([CALIBRATED, dram_model()])
    session.samples("gpu0.energy_counter", constant_counter(300.0, 0.001), until_s=200.0)
    stage = session.stage("train", 101.0, 199.0)
    session.end(200.0)
    found = judged(run).verdicts[stage]
    assert found.outcome is Outcome.FALLS_SHORT
    assert found.reasons == ("without dram0",)


def test_a_run_without_readings_is_not_known_and_stays_valid(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path)
    session = run.session(start_s=100.0)
    stage = session.stage("train", 101.0, 109.0)
    session.end(110.0)
    found = judged(run)
    assert found.verdicts[stage].outcome is Outcome.NOT_KNOWN
    assert found.verdicts[stage].coverage is None
    Draft202012Validator(SCHEMA).validate(json.loads(json.dumps(found.to_dict(), allow_nan=False)))


def test_a_card_that_nobody_calibrated_misses_the_last_rule_by_its_gain_alone(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path)
    session = run.session(start_s=100.0)
    session.sampler([gpu_counter()])
    session.samples("gpu0.energy_counter", constant_counter(300.0, 0.001), until_s=200.0)
    stage = session.stage("train", 101.0, 199.0)
    session.end(200.0)
    (reason,) = judged(run).verdicts[stage].reasons
    assert reason.startswith("the interval is ±5")


def test_an_energy_that_a_file_only_states_was_not_read(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path)
    session = run.session(start_s=100.0)
    stage = session.stage("train", 101.0, 199.0)
    stated(session, stage, 30_000.0)
    session.end(200.0)
    found = judged(run).verdicts[stage]
    assert found.outcome is Outcome.FALLS_SHORT
    assert found.readings == 0
    assert found.reasons[0] == "gpu0: no readings in it"


def test_a_record_of_power_counts_where_the_counter_is_read_once_a_second(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path)
    session = run.session(start_s=100.0)
    counter = replace(CALIBRATED, update_period_ns=100 * NS_PER_MS, sampling_period_ns=1_200 * NS_PER_MS)
    record = replace(gpu_power(), averaging_ns=25 * NS_PER_MS, is_stamped=True)
    session.sampler([counter, record], period_s=0.02)
    session.samples("gpu0.power", constant_power(300.0), until_s=200.0)
    session.period_s = 1.2
    session.samples("gpu0.energy_counter", constant_counter(300.0, 0.001), until_s=200.0)
    stage = session.stage("train", 101.0, 199.0)
    session.end(200.0)
    found = judged(run).verdicts[stage]
    assert found.outcome is Outcome.MEETS
    assert found.readings == pytest.approx(98 / 0.02, abs=1)


def stated(session: SyntheticSession, stage: str, value_j: float) -> None:
    session.meter(
        "stated_energy", 200.0, stage_id=stage, part="gpu0", device=GPU, boundary="board", value_j=value_j,
        random_j=0.0, systematic_low_j=0.06 * value_j, systematic_high_j=0.06 * value_j, basis="measured",
        driver="zeus", source="a file",
    )  # fmt: skip
