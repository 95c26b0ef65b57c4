"""`stillwatt factors grid` and `stillwatt account --grid`: asks nobody unless told whom, and shows no key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from grid_server import Asked, GridServer, Reply, json_reply
from run_dirs import quick_run
from stillwatt.cli.main import cli
from stillwatt.grids.source import utc_ns, utc_text
from stillwatt.records.grid import HOUR_NS

KEY = "em-key-of-a-test"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[GridServer]:
    monkeypatch.setenv("ELECTRICITYMAPS_API_KEY", KEY)
    with GridServer() as running:
        running.answers["/carbon-intensity/past-range"] = lambda asked: hours(asked, 50.0)
        yield running


def hours(asked: Asked, value: float | None, *, most: int = 1_000) -> Reply:
    start, end = utc_ns(asked.query["start"][0]), utc_ns(asked.query["end"][0])
    rows = [
        {"datetime": utc_text(at), "carbonIntensity": value, "isEstimated": at == start}
        for at in range(start, end, HOUR_NS)[:most]
    ]
    return json_reply({"data": rows})


def ask(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def test_without_a_source_nobody_is_asked() -> None:
    result = ask("factors", "grid", "France")
    assert result.exit_code == 0
    assert "10YFR-RTE------C" in result.stdout
    assert "nothing was asked" in result.stderr
    data = json.loads(ask("factors", "grid", "France", "--json").stdout)
    assert data["series"] is None
    assert {one["source"] for one in data["sources"]} == {"electricitymaps", "entsoe", "ukcarbon", "watttime"}


@pytest.mark.parametrize("more", [(), ("--source", "electricitymaps", "--from", "2026-01-01", "--to", "2026-01-02")])
def test_a_misspelt_place_is_no_zone(server: GridServer, more: tuple[str, ...]) -> None:
    result = ask("factors", "grid", "Frnace", *more)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "unknown place 'Frnace'; did you mean 'France'?" in result.stderr
    assert not server.asked


def test_a_code_is_taken_by_the_services_whose_codes_look_so() -> None:
    result = ask("factors", "grid", "US-CAL-CISO")
    assert result.exit_code == 0
    assert "'US-CAL-CISO': it is taken as the service's own code, which nobody has checked" in result.stderr
    for code, service in (
        ("US-CAL-CISO", "electricitymaps"),
        ("10YFR-RTE------C", "entsoe"),
        ("GB-18", "ukcarbon"),
        ("CAISO_NORTH", "watttime"),
    ):
        sources = json.loads(ask("factors", "grid", code, "--json").stdout)["sources"]
        taken = {one["source"]: one["zone"] for one in sources if one["is_own_code"]}
        assert taken[service] == code
        assert len(taken) == (2 if service == "ukcarbon" else 1)
        assert all(one["zone"] is None for one in sources if one["source"] not in taken)


def test_hours_with_their_notes(server: GridServer) -> None:
    period = ("--from", "2026-01-01T10:00Z", "--to", "2026-01-01T12:00Z", "--source", "electricitymaps")
    result = ask("factors", "grid", "France", *period, "--url", server.url)
    assert result.exit_code == 0, result.output
    assert "zone FR (France): average, life-cycle" in result.stdout
    assert "2026-01-01T10:00Z  50.0       estimated" in result.stdout
    assert KEY not in result.output
    data = json.loads(ask("factors", "grid", "France", *period, "--url", server.url, "--json").stdout)
    assert [hour["value_g_per_kwh"] for hour in data["series"]["hours"]] == [50.0, 50.0]
    assert len(data["series"]["answers"][0]["sha256"]) == 64
    assert KEY not in json.dumps(data)


def test_missing_hours_are_listed(server: GridServer) -> None:
    server.answers["/carbon-intensity/past-range"] = lambda asked: hours(asked, None)
    period = ("--from", "2026-01-01T00:00Z", "--to", "2026-01-01T12:00Z", "--source", "electricitymaps")
    result = ask("factors", "grid", "FRA", *period, "--url", server.url)
    assert result.exit_code == 1
    assert "no series: the source gives no value" in result.stdout
    data = json.loads(ask("factors", "grid", "FRA", *period, "--url", server.url, "--json").stdout)
    assert data["series"] is None
    assert "no value" in data["reason"]


def test_a_run_s_own_hours(server: GridServer, tmp_path: Path) -> None:
    quick_run(tmp_path)
    more = ("--run", "latest", "--runs", str(tmp_path), "--source", "electricitymaps", "--url", server.url)
    result = ask("factors", "grid", "FRA", *more)
    assert result.exit_code == 0, result.output
    assert "the whole run: 50.0 gCO2e/kWh over its own hours" in result.stdout
    data = json.loads(ask("factors", "grid", "FRA", *more, "--json").stdout)
    assert data["factor"]["factor"]["value"] == pytest.approx(0.05)
    assert data["stages"][-1]["known_gco2e"] > 0


def test_a_run_whose_hours_are_missing_in_part(server: GridServer, tmp_path: Path) -> None:
    """The run lies in the first hour; the series is asked for nine more, and gives none of these."""
    quick_run(tmp_path)
    server.answers["/carbon-intensity/past-range"] = lambda asked: hours(asked, 50.0, most=1)
    more = ("--run", "latest", "--runs", str(tmp_path), "--source", "electricitymaps", "--url", server.url)
    result = ask("factors", "grid", "FRA", *more, "--to", "2026-01-01T10:00Z")
    assert result.exit_code == 0, result.output
    assert "missing: 9 hours, which are not filled" in result.stdout
    assert "and 4 more (--json lists them)" in result.stdout
    late = ask("factors", "grid", "FRA", *more, "--from", "2025-12-31T22:00Z")
    assert late.exit_code == 0
    assert "the whole run: no mean: no energy lies in hours that have an intensity" in late.stdout
    assert "note: " not in late.stdout


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--source", "electricitymaps"), "say from when to when"),
        (("--source", "elecmaps", "--from", "2026-01-01", "--to", "2026-01-02"), "unknown grid source"),
        (("--source", "entsoe", "--from", "2026-01-01", "--to", "2026-01-02"), "ENTSOE_API_KEY"),
        (("--source", "electricitymaps", "--from", "soon", "--to", "2026-01-02", "--offline"), "no time"),
    ],
)
def test_misuse(server: GridServer, arguments: tuple[str, ...], what: str) -> None:
    result = ask("factors", "grid", "FRA", *arguments)
    assert result.exit_code == 2
    assert what in result.stderr


def test_offline_without_a_kept_answer_is_an_error() -> None:
    period = ("--from", "2026-01-01", "--to", "2026-01-02")
    result = ask("factors", "grid", "FRA", *period, "--source", "electricitymaps", "--offline")
    assert result.exit_code == 1
    assert "no kept answer" in result.stderr


def test_an_account_asks_a_grid_only_where_it_is_named(
    server: GridServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stillwatt.workflows import grids

    quick_run(tmp_path)
    ask_grid = grids.ask_grid
    monkeypatch.setattr(grids, "ask_grid", lambda *asked, **how: ask_grid(*asked, url=server.url, **how))
    plain = ("account", "latest", "--runs", str(tmp_path), "--region", "FRA", "--json", "--draws", "100")
    yearly = json.loads(ask(*plain).stdout)
    assert server.asked == []
    path = tmp_path / "report.json"
    hourly = json.loads(ask(*plain, "--grid", "electricitymaps", "-o", str(path)).stdout)
    assert len(server.asked) == 1
    used = {factor["quantity"]: factor for factor in hourly["factors"]}["grid_gwp_location"]
    assert used["value"] == pytest.approx(0.05)
    assert used["origin"] == "user: --grid electricitymaps"
    assert not any("average over a year" in limit for limit in hourly["interpretation"]["limits"])
    assert any("average over a year" in limit for limit in yearly["interpretation"]["limits"])
    again = ask("account", "--recompute", str(path))
    assert again.exit_code == 0, again.output
    assert "the same bytes" in again.stderr
    assert ask("validate", str(path)).exit_code == 0
