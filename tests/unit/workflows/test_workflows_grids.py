"""Hours applied to runs: nested stages once, time outside them, missing hours refused, marginal ones kept apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from grid_server import Asked, GridServer, Reply, generation, json_reply
from run_dirs import FixedClock
from run_records import run_record, stage
from stillwatt.errors import UsageError
from stillwatt.factors.catalog import build_catalog
from stillwatt.factors.places import find_place
from stillwatt.grids.source import utc_ns, utc_text
from stillwatt.impact.site import site_at
from stillwatt.records import NoTotal, StageKind, Total
from stillwatt.records.factor import Choice, NoFactor
from stillwatt.records.grid import HOUR_NS, HourlySeries, Signal
from stillwatt.records.run import RunRecord
from stillwatt.units import nanoseconds
from stillwatt.workflows.grids import (
    OUTSIDE,
    ask_grid,
    by_hour,
    factor_for_runs,
    hourly_factor,
    site_by_the_hour,
    span_of_run,
    what_is_known,
    worked_of,
)
from stillwatt.workflows.grids import (
    Asked as AskedGrid,
)

NOW_NS = utc_ns("2026-04-01")
MADE = {"2026-03-01T09:00Z": 500.0, "2026-03-01T10:00Z": 100.0, "2026-03-01T11:00Z": 300.0}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[GridServer]:
    monkeypatch.setenv("ELECTRICITYMAPS_API_KEY", "em-key-of-a-test")
    with GridServer() as running:
        running.answers["/carbon-intensity/past-range"] = answer
        yield running


def answer(asked: Asked) -> Reply:
    start, end = utc_ns(asked.query["start"][0]), utc_ns(asked.query["end"][0])
    rows = [
        {"datetime": utc_text(at), "carbonIntensity": MADE[utc_text(at)]}
        for at in range(start, end, HOUR_NS)
        if utc_text(at) in MADE
    ]
    return json_reply({"data": rows})


def how(server: GridServer, tmp_path: Path) -> dict[str, Any]:
    return {"url": server.url, "folder": tmp_path, "clock": FixedClock(now_utc_ns=NOW_NS), "sleep": lambda _s: None}


def two_hours(**changes: Any) -> RunRecord:
    """90 minutes of training from 10:00, with an evaluation of 30 minutes inside it from 11:00."""
    train = stage("s1", "train", StageKind.STUDENT_TRAIN, joules=3_600.0, duration_s=5_400.0)
    inner = replace(
        stage("s2", "evaluate", StageKind.EVALUATE, joules=1_200.0, duration_s=1_800.0, parent_id="s1"),
        start_utc="2026-03-01T11:00:00.000Z",
    )
    return run_record([train, inner], unallocated_j=0.0, **changes)


def asked_for(record: RunRecord, server: GridServer, tmp_path: Path) -> AskedGrid:
    span = span_of_run(record)
    assert span is not None
    return ask_grid(
        "electricitymaps", "FRA", utc_text(span.start_utc_ns), utc_text(span.end_utc_ns), **how(server, tmp_path)
    )


def test_each_joule_is_placed_once(server: GridServer, tmp_path: Path) -> None:
    """Worked by hand: 2,400 J in the hour of 100 g and 1,200 J in the hour of 300 g are 166.7 g on average."""
    record = two_hours()
    asked = asked_for(record, server, tmp_path)
    assert isinstance(asked.found, HourlySeries)
    train, evaluate, whole = by_hour(record, asked.found)
    assert train.energy_j == pytest.approx(2_400.0)
    assert train.mean_g_per_kwh == 100.0
    assert evaluate.mean_g_per_kwh == 300.0
    assert whole.mean_g_per_kwh == pytest.approx(500.0 / 3.0)
    assert whole.energy_j == pytest.approx(3_600.0)


def test_energy_outside_stages_has_the_time_outside_stages() -> None:
    alone = stage("s1", "train", StageKind.STUDENT_TRAIN, joules=100.0, duration_s=10.0)
    *_, outside = worked_of(run_record([alone], unallocated_j=20.0))
    start = utc_ns("2026-03-01T10:00:10Z")
    assert outside.name == OUTSIDE
    assert outside.windows == ((start, start + nanoseconds(2.0)),)
    assert isinstance(outside.energy, Total)
    assert outside.energy.value_j == pytest.approx(20.0)
    assert span_of_run(run_record([], unallocated_j=0.0)) is None


def test_what_is_not_known_stays_unknown() -> None:
    record = two_hours()
    lost = replace(record.stages[1], gross=NoTotal(reason="no meter"))
    train, evaluate = worked_of(replace(record, stages=(record.stages[0], lost)))
    assert isinstance(train.energy, NoTotal)
    assert "inside it" in train.energy.reason
    assert isinstance(evaluate.energy, NoTotal)


def test_the_mean_is_a_factor_of_the_user(server: GridServer, tmp_path: Path) -> None:
    found, results = factor_for_runs([two_hours()], "electricitymaps", "FRA", **how(server, tmp_path))
    assert isinstance(found, Choice)
    factor = found.factor
    assert factor.value == pytest.approx(0.5 / 3.0)
    assert factor.low == pytest.approx(factor.value / 1.3)  # the quantity's own interval: the hours leave nothing open
    assert factor.high == pytest.approx(factor.value * 1.3)
    assert factor.where == "FRA"
    assert factor.year == 2026
    assert "2026-04-01" in factor.source
    assert len(results) == 3
    again, _ = factor_for_runs([two_hours()], "electricitymaps", "FRA", **how(server, tmp_path))
    assert isinstance(again, Choice)
    assert again.factor.content_hash == factor.content_hash
    assert len(server.asked) == 1


def test_runs_of_one_account_are_taken_together(server: GridServer, tmp_path: Path) -> None:
    """The second run used 1,200 J in the hour of 500 g."""
    early = replace(
        stage("s1", "train", StageKind.STUDENT_TRAIN, joules=1_200.0, duration_s=600.0),
        start_utc="2026-03-01T09:30:00.000Z",
    )
    other = run_record([early], unallocated_j=0.0, run_id="other", start_utc="2026-03-01T09:30:00.000Z")
    found, _ = factor_for_runs([two_hours(), other], "electricitymaps", "FRA", **how(server, tmp_path))
    assert isinstance(found, Choice)
    assert found.factor.value == pytest.approx((2_400 * 0.1 + 1_200 * 0.3 + 1_200 * 0.5) / 4_800)


def test_a_missing_hour_is_never_filled(server: GridServer, tmp_path: Path) -> None:
    late = replace(two_hours().stages[0], start_utc="2026-03-01T11:30:00.000Z")
    record = run_record([late], unallocated_j=0.0, start_utc="2026-03-01T11:30:00.000Z")
    found, results = factor_for_runs([record], "electricitymaps", "FRA", **how(server, tmp_path))
    assert isinstance(found, NoFactor)
    assert "lacks 1 hours" in found.reason
    assert results[-1].known_j == pytest.approx(1_200.0)
    assert results[-1].mean_g_per_kwh == 300.0
    site = site_at(build_catalog(), find_place("FRA"))
    kept = site_by_the_hour(site, [record], "electricitymaps", **how(server, tmp_path))
    yearly = kept.found["grid_gwp_location"]
    assert isinstance(yearly, Choice)
    assert yearly.factor == site.factor("grid_gwp_location")
    assert any("no hourly figure" in caution for caution in yearly.cautions)


def test_a_marginal_series_is_never_an_account_s_factor(server: GridServer, tmp_path: Path) -> None:
    record = two_hours()
    asked = asked_for(record, server, tmp_path)
    assert isinstance(asked.found, HourlySeries)
    marginal = replace(asked, found=replace(asked.found, source="watttime", signal=Signal.MARGINAL))
    found = hourly_factor(marginal, by_hour(record, asked.found), "FRA")
    assert isinstance(found, NoFactor)
    assert "marginal" in found.reason


def test_the_account_takes_the_runs_own_hours(server: GridServer, tmp_path: Path) -> None:
    site = site_at(build_catalog(), find_place("FRA"))
    hourly = site_by_the_hour(site, [two_hours()], "electricitymaps:FR", **how(server, tmp_path))
    factor = hourly.factor("grid_gwp_location")
    assert not isinstance(factor, NoFactor)
    assert factor.value == pytest.approx(0.5 / 3.0)
    assert factor.where == "FRA"
    assert any("own hours" in caution for caution in hourly.cautions("grid_gwp_location"))


def test_a_factor_made_with_a_quoted_one_is_not_verified(
    server: GridServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENTSOE_API_KEY", "entsoe-token-of-a-test")
    end = "2026-03-01T12:00Z"
    server.answers["/api"] = [generation({"B02": [98, 98], "B20": [2, 2]}, "2026-03-01T10:00Z", end)]
    found, _ = factor_for_runs([two_hours()], "entsoe", "FRA", **how(server, tmp_path))
    assert isinstance(found, Choice)
    assert not found.factor.verified
    assert any("quoted" in said for said in found.cautions)
    assert any("has no factor" in said for said in found.cautions)
    read, _ = factor_for_runs([two_hours()], "electricitymaps", "FRA", **how(server, tmp_path))
    assert isinstance(read, Choice)
    assert read.factor.verified


def test_a_place_finds_its_zone_and_says_what_stands_in(server: GridServer, tmp_path: Path) -> None:
    assert {one.source: one.zone for one in what_is_known("France")} == {
        "electricitymaps": "FR",
        "entsoe": "10YFR-RTE------C",
        "ukcarbon": None,
        "watttime": None,
    }
    zones = {name: {one.source: one.zone for one in what_is_known(name)} for name in ("aws/us-east-1", "SE3", "US-TX")}
    assert zones["aws/us-east-1"]["electricitymaps"] == "US-MIDA-PJM"
    assert zones["SE3"]["entsoe"] == "10Y1001A1001A46L"
    assert zones["US-TX"]["electricitymaps"] == "US"
    asked = ask_grid("electricitymaps", "US-TX", "2026-03-01T10:00Z", "2026-03-01T11:00Z", **how(server, tmp_path))
    assert any("USA stands in for US-TX" in caution for caution in asked.cautions)
    with pytest.raises(UsageError, match="no zone known here"):
        ask_grid("electricitymaps", "gcp", "2026-03-01", "2026-03-02", **how(server, tmp_path))
    with pytest.raises(UsageError, match="future"):
        ask_grid("electricitymaps", "FRA", "2030-03-01", "2030-03-02", **how(server, tmp_path))
