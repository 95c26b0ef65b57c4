"""Each service against answers as its public documentation shows them, on loopback."""

from __future__ import annotations

import base64
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from grid_server import Asked, GridServer, Reply, acknowledgement, generation, json_reply
from run_dirs import FixedClock
from stillwatt.errors import GridError, UnknownNameError, UsageError
from stillwatt.factors.mix import by_source
from stillwatt.grids.answers import AnswerStore
from stillwatt.grids.registry import SERVICES, open_source
from stillwatt.grids.source import GridSource, Span, span_of, utc_ns
from stillwatt.grids.zones import is_eic, zones
from stillwatt.records.energy import NoTotal
from stillwatt.records.grid import HOUR_NS, Hour, HourlySeries, NoSeries, Signal, Worked
from stillwatt.units import nanoseconds

KEYS = {
    "ELECTRICITYMAPS_API_KEY": "em-key-of-a-test",
    "ENTSOE_API_KEY": "entsoe-token-of-a-test",
    "WATTTIME_USER": "somebody",
    "WATTTIME_PASSWORD": "watttime-password-of-a-test",
}
DAY = span_of("2026-01-01", "2026-01-01T03:00Z")


def opened(name: str, server: GridServer, store: AnswerStore | None = None, **more: Any) -> GridSource:
    slept: list[float] = more.pop("slept", [])
    more.setdefault("environment", KEYS)
    more.setdefault("by_source", by_source("grid_gwp_by_source"))
    return open_source(name, url=server.url, store=store, clock=FixedClock(), sleep=slept.append, **more)


def series_of(source: GridSource, zone: str, span: Span = DAY) -> HourlySeries:
    found = source.series(zone, span)
    assert isinstance(found, HourlySeries), found
    return found


def em_row(at: str, value: float | None, *, estimated: bool = False) -> dict[str, Any]:
    return {
        "zone": "DE",
        "carbonIntensity": value,
        "datetime": at,
        "updatedAt": "2026-01-02T00:00:00.000Z",
        "createdAt": "2026-01-01T00:00:00.000Z",
        "emissionFactorType": "lifecycle",
        "isEstimated": estimated,
        "estimationMethod": "TIME_SLICER_AVERAGE" if estimated else None,
    }


class TestElectricityMaps:
    def test_hours_with_what_is_estimated_and_what_is_missing(self, server: GridServer) -> None:
        rows = [
            em_row("2026-01-01T00:00:00.000Z", 302),
            em_row("2026-01-01T01:00:00.000Z", 280.5, estimated=True),
            em_row("2026-01-01T02:00:00.000Z", None),
            em_row("2026-01-01T03:00:00.000Z", 999),  # beyond what was asked
        ]
        server.answers["/carbon-intensity/past-range"] = [json_reply({"zone": "DE", "data": rows})]
        found = series_of(opened("electricitymaps", server), "DE")
        assert [hour.value_g_per_kwh for hour in found.hours] == [302.0, 280.5]
        assert found.estimated == 1
        assert found.signal is Signal.AVERAGE
        assert [(gone.start_utc_ns, "no value" in gone.reason) for gone in found.missing] == [
            (utc_ns("2026-01-01T02:00Z"), True)
        ]
        asked = server.asked[0]
        assert asked.headers["auth-token"] == KEYS["ELECTRICITYMAPS_API_KEY"]
        assert asked.query["zone"] == ["DE"]
        assert asked.query["start"] == ["2026-01-01T00:00Z"]
        assert found.answers[0].fetched_utc == "2026-01-01T00:00:00.000Z"

    def test_ten_days_at_a_time(self, server: GridServer) -> None:
        def answer(asked: Asked) -> Reply:
            start, end = utc_ns(asked.query["start"][0]), utc_ns(asked.query["end"][0])
            assert end - start <= 240 * HOUR_NS
            rows = [em_row(_text(at), 100) for at in range(start, end, HOUR_NS)]
            return json_reply({"zone": "FR", "data": rows})

        server.answers["/carbon-intensity/past-range"] = answer
        found = series_of(opened("electricitymaps", server), "FR", span_of("2025-12-01", "2025-12-22"))
        assert len(found.hours) == 21 * 24
        assert len(server.asked) == len(found.answers) == 3

    def test_direct_figures_are_not_taken_for_life_cycle_ones(self, server: GridServer) -> None:
        row = em_row("2026-01-01T00:00:00.000Z", 302) | {"emissionFactorType": "direct"}
        server.answers["/carbon-intensity/past-range"] = [json_reply({"data": [row]})]
        found = opened("electricitymaps", server).series("DE", DAY)
        assert isinstance(found, NoSeries)
        assert "direct" in found.reason

    def test_an_hour_given_twice_has_no_figure(self, server: GridServer) -> None:
        rows = [em_row("2026-01-01T00:00:00.000Z", value) for value in (302, 303)]
        rows.append(em_row("2026-01-01T01:00:00.000Z", 300))
        server.answers["/carbon-intensity/past-range"] = [json_reply({"data": rows})]
        found = series_of(opened("electricitymaps", server), "DE")
        assert [hour.value_g_per_kwh for hour in found.hours] == [300.0]
        assert "more than once" in found.missing[0].reason

    @pytest.mark.parametrize(
        ("body", "what"),
        [
            (b"<html>busy</html>", "not JSON"),
            (b"\xff\xfe", "not UTF-8"),
            (b'{"zone": "DE"}', r"no list at \$\.data"),
            (b'{"data": [{"datetime": "yesterday"}]}', r"no time"),
            (b'{"data": [7]}', r"no text at \$\.data\[0\]\.datetime"),
            (b'{"data": [{"datetime": "2026-01-01T00:00Z", "carbonIntensity": "302"}]}', "no number"),
            (b'{"data": [{"datetime": "2026-01-01T00:00Z", "carbonIntensity": NaN}]}', "no number"),
            (b'{"data": [{"datetime": "2026-01-01T00:00Z", "carbonIntensity": true}]}', "no number"),
        ],
    )
    def test_an_answer_that_cannot_be_understood_says_where(self, server: GridServer, body: bytes, what: str) -> None:
        server.answers["/carbon-intensity/past-range"] = [Reply(body=body)]
        with pytest.raises(GridError, match=what):
            opened("electricitymaps", server).series("DE", DAY)

    def test_an_empty_answer_is_no_series(self, server: GridServer) -> None:
        server.answers["/carbon-intensity/past-range"] = [json_reply({"data": []})]
        found = opened("electricitymaps", server).series("DE", DAY)
        assert isinstance(found, NoSeries)
        assert "nothing for this hour" in found.reason


class TestUkCarbon:
    @staticmethod
    def row(start: str, end: str, forecast: float | None, actual: float | None) -> dict[str, Any]:
        return {
            "from": start,
            "to": end,
            "intensity": {"forecast": forecast, "actual": actual, "index": "moderate"},
        }

    def test_half_hours_make_hours_and_forecasts_are_estimates(self, server: GridServer) -> None:
        path = "/intensity/2026-01-01T00:00Z/2026-01-01T03:00Z"
        rows = [
            self.row("2025-12-31T23:30Z", "2026-01-01T00:00Z", 1, 1),  # the service gives the half-hour before too
            self.row("2026-01-01T00:00Z", "2026-01-01T00:30Z", 266, 263),
            self.row("2026-01-01T00:30Z", "2026-01-01T01:00Z", 270, 273),
            self.row("2026-01-01T01:00Z", "2026-01-01T01:30Z", 250, None),
            self.row("2026-01-01T01:30Z", "2026-01-01T02:00Z", 260, 240),
            self.row("2026-01-01T02:00Z", "2026-01-01T02:30Z", 200, 210),
        ]
        server.answers[path] = [json_reply({"data": rows})]
        found = series_of(opened("ukcarbon", server, environment={}), "GB")
        assert [hour.value_g_per_kwh for hour in found.hours] == [268.0, 245.0]
        assert [hour.is_estimated for hour in found.hours] == [False, True]
        assert "30 of 60 minutes" in found.missing[0].reason
        assert any("CO2 of generation alone" in caution for caution in found.cautions)

    def test_a_region_is_forecast(self, server: GridServer) -> None:
        path = "/regional/intensity/2026-01-01T00:00Z/2026-01-01T01:00Z/regionid/13"
        halves = [("00:00Z", "00:30Z"), ("00:30Z", "01:00Z")]
        rows = [
            {"from": f"2026-01-01T{a}", "to": f"2026-01-01T{b}", "intensity": {"forecast": 90, "index": "low"}}
            for a, b in halves
        ]
        server.answers[path] = [json_reply({"data": {"regionid": 13, "shortname": "London", "data": rows}})]
        found = series_of(
            opened("ukcarbon", server, environment={}), "GB-13", span_of("2026-01-01", "2026-01-01T01:00Z")
        )
        assert found.hours[0].value_g_per_kwh == 90.0
        assert found.estimated == 1

    @pytest.mark.parametrize("zone", ["FR", "GB-0", "GB-19", "13", "GB-x"])
    def test_another_zone_is_refused(self, server: GridServer, zone: str) -> None:
        with pytest.raises(UsageError, match="region GB-1"):
            opened("ukcarbon", server, environment={}).series(zone, DAY)


class TestWattTime:
    def data(self, **meta: Any) -> dict[str, Any]:
        points = [{"point_time": f"2026-01-01T00:{minute:02d}:00+00:00", "value": 870.0} for minute in range(0, 60, 5)]
        said = {
            "region": "CAISO_NORTH",
            "signal_type": "co2_moer",
            "model": {"date": "2023-03-01"},
            "units": "lbs_co2_per_mwh",
            "data_point_period_seconds": 300,
        }
        return {"data": points, "meta": said | meta}

    def test_logs_in_once_and_is_marginal(self, server: GridServer) -> None:
        server.answers["/login"] = [json_reply({"token": "a-token-of-a-test"})]
        server.answers["/v3/historical"] = [json_reply(self.data())]
        source = opened("watttime", server)
        for _ in range(2):
            found = series_of(source, "CAISO_NORTH")
        assert found.signal is Signal.MARGINAL
        assert found.hours[0].value_g_per_kwh == pytest.approx(870 * 0.45359237)
        assert len(found.missing) == 2
        assert [one.path for one in server.asked] == ["/login", "/v3/historical", "/v3/historical"]
        secret = base64.b64decode(server.asked[0].headers["authorization"].removeprefix("Basic ")).decode()
        assert secret == f"{KEYS['WATTTIME_USER']}:{KEYS['WATTTIME_PASSWORD']}"
        assert server.asked[1].headers["authorization"] == "Bearer a-token-of-a-test"

    @pytest.mark.parametrize(
        ("meta", "what"),
        [
            ({"units": "percentile"}, "unit 'percentile'"),
            ({"data_point_period_seconds": None}, "data_point_period_seconds"),
            ({"model": 7}, "no object"),
        ],
    )
    def test_an_answer_in_another_unit_is_refused(self, server: GridServer, meta: dict[str, Any], what: str) -> None:
        server.answers["/login"] = [json_reply({"token": "a-token-of-a-test"})]
        server.answers["/v3/historical"] = [json_reply(self.data(**meta))]
        with pytest.raises(GridError, match=what):
            opened("watttime", server).series("CAISO_NORTH", DAY)

    def test_a_wrong_password_says_where_to_look(self, server: GridServer) -> None:
        server.answers["/login"] = [Reply(status=401, body=b"no")]
        with pytest.raises(GridError, match="WATTTIME_USER and WATTTIME_PASSWORD") as caught:
            opened("watttime", server).series("CAISO_NORTH", DAY)
        assert KEYS["WATTTIME_PASSWORD"] not in str(caught.value)


class TestEntsoE:
    FRANCE = "10YFR-RTE------C"

    def ask(self, server: GridServer, *replies: Reply, span: Span = DAY) -> HourlySeries | NoSeries:
        server.answers["/api"] = replies
        return opened("entsoe", server).series(self.FRANCE, span)

    def test_generation_by_type_becomes_an_intensity(self, server: GridServer) -> None:
        """Worked by hand: 3 MW nuclear at 12 g and 1 MW gas at 490 g are 131.5 g (eq. 110)."""
        reply = generation({"B14": [3, 3, 3], "B04": [1, 1, 0]}, "2026-01-01T00:00Z", "2026-01-01T03:00Z")
        found = self.ask(server, reply)
        assert isinstance(found, HourlySeries)
        assert [hour.value_g_per_kwh for hour in found.hours] == pytest.approx([131.5, 131.5, 12.0])
        assert all(
            hour.low_g_per_kwh is not None
            and hour.high_g_per_kwh is not None
            and hour.low_g_per_kwh <= hour.value_g_per_kwh <= hour.high_g_per_kwh
            for hour in found.hours
        )
        asked = server.asked[0].query
        assert asked["documentType"] == ["A75"]
        assert asked["periodStart"] == ["202601010000"]
        assert asked["securityToken"] == [KEYS["ENTSOE_API_KEY"]]
        assert all(KEYS["ENTSOE_API_KEY"] not in answer.request for answer in found.answers)

    def test_storage_is_left_out_and_what_pumps_use_too(self, server: GridServer) -> None:
        reply = generation(
            {"B14": [3, 3, 3], "B10": [5, 5, 5]},
            "2026-01-01T00:00Z",
            "2026-01-01T03:00Z",
            consumed={"B10": [9, 9, 9]},
        )
        found = self.ask(server, reply)
        assert isinstance(found, HourlySeries)
        assert found.hours[0].value_g_per_kwh == pytest.approx(12.0)
        assert any("storage" in caution for caution in found.cautions)

    def test_a_mix_that_is_too_unknown_has_no_intensity(self, server: GridServer) -> None:
        reply = generation({"B14": [96, 94, 0], "B20": [4, 6, 0]}, "2026-01-01T00:00Z", "2026-01-01T03:00Z")
        found = self.ask(server, reply)
        assert isinstance(found, HourlySeries)
        assert len(found.hours) == 1
        assert [gone.reason for gone in found.missing] == [
            "6.0% of the generation comes from sources without a factor",
            "nothing was generated in this hour",
        ]

    def test_quarters_of_an_hour_and_one_that_is_missing(self, server: GridServer) -> None:
        nan = math.nan
        values = [1, 2, 3, 4, 1, nan, 3, 4, 0, 0, 0, 2]
        end = "2026-01-01T03:00Z"
        reply = generation({"B14": values, "B16": [0] * 12}, "2026-01-01T00:00Z", end, resolution="PT15M")
        found = self.ask(server, reply)
        assert isinstance(found, HourlySeries)
        assert len(found.hours) == 2
        assert "B14 covers 45 of 60 minutes" in found.missing[0].reason

    def test_a_value_holds_where_the_curve_says_so(self, server: GridServer) -> None:
        nan = math.nan
        reply = generation({"B14": [5, nan, nan]}, "2026-01-01T00:00Z", "2026-01-01T03:00Z", curve="A03")
        found = self.ask(server, reply)
        assert isinstance(found, HourlySeries)
        assert len(found.hours) == 3

    def test_generation_that_cannot_be_has_no_intensity(self, server: GridServer) -> None:
        twice = generation({"B14": [3, 3, 3]}, "2026-01-01T00:00Z", "2026-01-01T03:00Z").body
        series = twice[twice.index(b"<TimeSeries>") : twice.index(b"</GL_Market")]
        found = self.ask(server, Reply(body=twice.replace(series, series * 2)))
        assert isinstance(found, NoSeries)
        assert "more than once" in found.reason
        found = self.ask(server, generation({"B14": [3, 3, -1]}, "2026-01-01T00:00Z", "2026-01-01T03:00Z"))
        assert isinstance(found, HourlySeries)
        assert "below 0" in found.missing[0].reason

    def test_lignite_and_quoted_factors_are_told_of(self, server: GridServer) -> None:
        found = self.ask(server, generation({"B02": [3, 3, 3]}, "2026-01-01T00:00Z", "2026-01-01T03:00Z"))
        assert isinstance(found, HourlySeries)
        assert any("lignite" in caution for caution in found.cautions)
        assert any("factors of coal are quoted" in caution for caution in found.cautions)

    def test_a_series_made_with_a_quoted_factor_was_not_read(self, server: GridServer) -> None:
        server.answers["/api"] = [generation({"B02": [3, 3, 3]}, "2026-01-01T00:00Z", "2026-01-01T03:00Z")]
        quoted = by_source("grid_gwp_by_source")
        read = {name: replace(factor, verified=True) for name, factor in quoted.items()}
        assert not series_of(opened("entsoe", server, by_source=quoted), self.FRANCE).is_read
        assert series_of(opened("entsoe", server, by_source=read), self.FRANCE).is_read

    def test_generation_without_a_factor_is_told_of(self, server: GridServer) -> None:
        reply = generation(
            {"B14": [97, 97, 97], "B20": [3, 3, 3], "B10": [50, 0, 0]}, "2026-01-01T00:00Z", "2026-01-01T03:00Z"
        )
        found = self.ask(server, reply)
        assert isinstance(found, HourlySeries)
        assert [hour.value_g_per_kwh for hour in found.hours] == pytest.approx([12.0] * 3)
        assert any(said.startswith("3.0% of the generation has no factor") for said in found.cautions)
        whole = self.ask(server, generation({"B14": [9, 9, 9]}, "2026-01-01T00:00Z", "2026-01-01T03:00Z"))
        assert isinstance(whole, HourlySeries)
        assert not any("has no factor" in said for said in whole.cautions)

    def test_no_data_is_no_series_and_a_refusal_is_an_error(self, server: GridServer) -> None:
        found = self.ask(server, acknowledgement("999", "No matching data found for Data item"))
        assert isinstance(found, NoSeries)
        assert "No matching data" in found.reason
        with pytest.raises(GridError, match="refuses the question: bad entsoe"):
            self.ask(server, acknowledgement("A01", "bad entsoe"))

    @pytest.mark.parametrize(
        ("body", "what"),
        [
            (b"<html>", "not XML"),
            (b'<!DOCTYPE x [<!ENTITY a "b">]><GL_MarketDocument/>', "definitions"),
            (b"<Publication_MarketDocument/>", "a document 'Publication"),
            (b"<GL_MarketDocument><TimeSeries/></GL_MarketDocument>", "type ''"),
        ],
    )
    def test_an_answer_that_cannot_be_understood(self, server: GridServer, body: bytes, what: str) -> None:
        with pytest.raises(GridError, match=what):
            self.ask(server, Reply(body=body))

    @pytest.mark.parametrize(
        ("old", "new", "what"),
        [
            (b"PT60M", b"P1D", "steps of 'P1D'"),
            (b"<quantity>3</quantity>", b"<quantity>many</quantity>", "a period of B14"),
            (b"MAW", b"MWH", "unit 'MWH'"),
        ],
    )
    def test_a_damaged_period(self, server: GridServer, old: bytes, new: bytes, what: str) -> None:
        reply = generation({"B14": [3, 3, 3]}, "2026-01-01T00:00Z", "2026-01-01T03:00Z")
        with pytest.raises(GridError, match=what):
            self.ask(server, Reply(body=reply.body.replace(old, new)))

    def test_a_zone_must_be_an_eic_code(self, server: GridServer) -> None:
        with pytest.raises(UsageError, match="no EIC code"):
            opened("entsoe", server).series("FR", DAY)


class TestPatience:
    PATH = "/carbon-intensity/past-range"
    GOOD = json_reply({"data": [em_row("2026-01-01T00:00:00.000Z", 302)]})

    def test_a_busy_service_is_asked_again_after_longer_and_longer_pauses(self, server: GridServer) -> None:
        slept: list[float] = []
        server.answers[self.PATH] = [
            Reply(status=503),
            Reply(status=429, headers={"Retry-After": "7"}),
            Reply(status=500, headers={"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}),
            self.GOOD,
        ]
        assert series_of(opened("electricitymaps", server, slept=slept), "DE").hours
        assert slept == [1.0, 7.0, 4.0]

    def test_patience_ends(self, server: GridServer) -> None:
        server.answers[self.PATH] = [Reply(status=503)]
        with pytest.raises(GridError, match=r"status 503.*asked 4 times; ask again later"):
            opened("electricitymaps", server).series("DE", DAY)

    def test_a_pause_that_is_too_long_is_not_waited_for(self, server: GridServer) -> None:
        slept: list[float] = []
        server.answers[self.PATH] = [Reply(status=429, headers={"Retry-After": "3600"})]
        with pytest.raises(GridError, match="a pause of 3600 s"):
            opened("electricitymaps", server, slept=slept).series("DE", DAY)
        assert slept == []

    @pytest.mark.parametrize("status", [401, 403])
    def test_a_refused_key_names_the_variable_and_is_asked_once(self, server: GridServer, status: int) -> None:
        server.answers[self.PATH] = [Reply(status=status, body=KEYS["ELECTRICITYMAPS_API_KEY"].encode())]
        with pytest.raises(GridError, match="look at ELECTRICITYMAPS_API_KEY") as caught:
            opened("electricitymaps", server).series("DE", DAY)
        assert len(server.asked) == 1
        assert KEYS["ELECTRICITYMAPS_API_KEY"] not in str(caught.value)

    def test_another_status_shows_what_the_service_says_without_the_key(self, server: GridServer) -> None:
        said = f"no zone XX for token {KEYS['ENTSOE_API_KEY']}"
        server.answers["/api"] = [Reply(status=400, body=said.encode())]
        with pytest.raises(GridError, match=r"status 400.*no zone XX for token \*\*\*"):
            opened("entsoe", server).series("10YFR-RTE------C", DAY)

    def test_a_redirect_is_not_followed(self, server: GridServer) -> None:
        server.answers[self.PATH] = [Reply(status=302, headers={"Location": f"{server.url}/elsewhere"})]
        with pytest.raises(GridError, match="not followed"):
            opened("electricitymaps", server).series("DE", DAY)
        assert [one.path for one in server.asked] == [self.PATH]

    def test_a_slow_service_is_given_up(self, server: GridServer) -> None:
        server.answers[self.PATH] = [Reply(delay_s=0.3)]
        with pytest.raises(GridError, match=r"no answer within 0\.05 s"):
            opened("electricitymaps", server, timeout_s=0.05).series("DE", DAY)

    def test_a_refusal_that_breaks_off_is_a_refusal(self, server: GridServer) -> None:
        server.answers[self.PATH] = [Reply(status=400, body=b"no such zone", stall_s=0.4)]
        with pytest.raises(GridError, match="status 400 for"):
            opened("electricitymaps", server, timeout_s=0.1).series("DE", DAY)

    def test_nobody_there(self) -> None:
        with GridServer() as gone:
            url = gone
        with pytest.raises(GridError, match="cannot be reached"):
            opened("electricitymaps", url).series("DE", DAY)

    def test_an_answer_that_repeats_the_key_is_not_kept(self, server: GridServer, tmp_path: Path) -> None:
        echo = {"data": [], "token": KEYS["ELECTRICITYMAPS_API_KEY"]}
        server.answers[self.PATH] = [json_reply(echo)]
        with pytest.raises(GridError, match="repeats the key"):
            opened("electricitymaps", server, AnswerStore(tmp_path / "grids")).series("DE", DAY)
        assert not (tmp_path / "grids").exists()


class TestKeptAnswers:
    PATH = TestPatience.PATH

    def test_a_settled_answer_is_asked_for_once(self, server: GridServer, tmp_path: Path) -> None:
        server.answers[self.PATH] = [json_reply({"data": [em_row("2025-12-01T00:00:00.000Z", 302)]})]
        span = span_of("2025-12-01", "2025-12-01T01:00Z")
        store = AnswerStore(tmp_path)
        first = series_of(opened("electricitymaps", server, store), "DE", span)
        second = series_of(opened("electricitymaps", server, store), "DE", span)
        assert first == second
        assert len(server.asked) == 1
        for path in tmp_path.iterdir():
            assert KEYS["ELECTRICITYMAPS_API_KEY"] not in path.read_text(encoding="utf-8")

    def test_an_answer_of_today_is_asked_for_again(self, server: GridServer, tmp_path: Path) -> None:
        server.answers[self.PATH] = [TestPatience.GOOD]
        store = AnswerStore(tmp_path)
        for _ in range(2):
            series_of(opened("electricitymaps", server, store), "DE")
        assert len(server.asked) == 2

    def test_offline_answers_from_what_was_kept_without_a_key(self, server: GridServer, tmp_path: Path) -> None:
        server.answers[self.PATH] = [TestPatience.GOOD]
        store = AnswerStore(tmp_path)
        online = series_of(opened("electricitymaps", server, store), "DE")
        offline = series_of(opened("electricitymaps", server, store, is_offline=True, environment={}), "DE")
        assert offline == online
        with pytest.raises(GridError, match="without --offline"):
            opened("electricitymaps", server, store, is_offline=True, environment={}).series("FR", DAY)
        assert len(server.asked) == 1

    def test_a_damaged_answer_is_not_used(self, server: GridServer, tmp_path: Path) -> None:
        server.answers[self.PATH] = [TestPatience.GOOD]
        store = AnswerStore(tmp_path)
        series_of(opened("electricitymaps", server, store), "DE")
        (path,) = tmp_path.iterdir()
        path.write_text(path.read_text(encoding="utf-8").replace("302", "3"), encoding="utf-8")
        with pytest.raises(GridError, match="no kept answer"):
            opened("electricitymaps", server, store, is_offline=True).series("DE", DAY)
        path.write_text("[]", encoding="utf-8")
        assert store.find("anything") is None

    def test_a_folder_that_cannot_be_written_costs_nothing_but_the_next_request(
        self, server: GridServer, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("", encoding="utf-8")
        server.answers[self.PATH] = [TestPatience.GOOD]
        found = series_of(opened("electricitymaps", server, AnswerStore(tmp_path / "file")), "DE")
        assert len(found.hours) == 1


@pytest.mark.parametrize("name", [name for name, service in SERVICES.items() if service.keys])
def test_a_key_that_is_not_set_is_named(name: str) -> None:
    with pytest.raises(UsageError, match=SERVICES[name].keys[0]):
        open_source(name, by_source={}, environment={})


@pytest.mark.parametrize("name", [name for name, service in SERVICES.items() if service.keys])
@pytest.mark.parametrize("mark", ["\r", "\n", "ключ", "é", "\u200b"])
def test_a_key_with_marks_that_none_has_names_its_variable_and_is_not_shown(name: str, mark: str) -> None:
    environment = dict.fromkeys(SERVICES[name].keys, f"secret{mark}of-a-test")
    with pytest.raises(UsageError, match="marks that no key has") as caught:
        open_source(name, by_source={}, environment=environment)
    assert all(key in str(caught.value) for key in SERVICES[name].keys)
    assert "secret" not in str(caught.value)
    assert "of-a-test" not in str(caught.value)


@pytest.mark.parametrize("end", ["\r", "\r\n", " "])
def test_a_line_break_after_a_key_is_no_part_of_it(server: GridServer, end: str) -> None:
    server.answers["/carbon-intensity/past-range"] = [TestPatience.GOOD]
    kept = {key: f"{value}{end}" for key, value in KEYS.items()}
    assert series_of(opened("electricitymaps", server, environment=kept), "DE").hours
    assert server.asked[0].headers["auth-token"] == KEYS["ELECTRICITYMAPS_API_KEY"]


def test_an_unknown_source_suggests_one() -> None:
    with pytest.raises(UnknownNameError, match="electricitymaps"):
        open_source("electricitymap", by_source={}, environment={})


@pytest.mark.parametrize(
    "url", ["ftp://example.org", "http://example.org/api", "https://me:secret@example.org", "not an address"]
)
def test_keys_go_over_https_alone_and_never_in_an_address(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_source("electricitymaps", by_source={}, environment=KEYS, url=url)
    assert KEYS["ELECTRICITYMAPS_API_KEY"] not in str(caught.value)


def test_nothing_that_is_printed_of_a_source_shows_a_key() -> None:
    source = open_source("electricitymaps", by_source={}, environment=KEYS)
    assert KEYS["ELECTRICITYMAPS_API_KEY"] not in repr(vars(source)) + repr(vars(vars(source)["_web"]))


def test_every_eic_code_of_the_table_checks() -> None:
    assert len(zones("entsoe")) == 39
    assert all(map(is_eic, zones("entsoe").values()))
    assert not is_eic("10YFR-RTE----C")


@pytest.mark.parametrize(
    ("start", "end", "what"),
    [
        ("yesterday", "2026-01-01", "no time"),
        ("2026-01-01", "2026-01-01", "does not lie after"),
        ("2020-01-01", "2026-01-01", "more than 400 days"),
    ],
)
def test_a_period_that_cannot_be_meant(start: str, end: str, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        span_of(start, end)


def test_hours_check_themselves() -> None:
    with pytest.raises(ValueError, match="beginning of an hour"):
        Hour(start_utc_ns=1, value_g_per_kwh=1.0)
    with pytest.raises(ValueError, match="not an intensity"):
        Hour(start_utc_ns=0, value_g_per_kwh=-1.0)
    with pytest.raises(ValueError, match="no window"):
        Worked(name="x", windows=((2, 1),), energy=NoTotal(reason="none"))
    hour = Hour(start_utc_ns=0, value_g_per_kwh=1.0)
    with pytest.raises(ValueError, match="twice"):
        HourlySeries(
            source="x",
            zone="x",
            signal=Signal.AVERAGE,
            boundary="",
            licence="",
            source_url="",
            hours=(hour, hour),
            missing=(),
            answers=(),
        )


def test_a_period_is_widened_to_whole_hours() -> None:
    span = span_of("2026-01-01T00:59:59Z", "2026-01-01T01:00:01Z")
    assert len(span.hours) == 2
    with pytest.raises(ValueError, match="whole hours"):
        Span(start_utc_ns=nanoseconds(1.0), end_utc_ns=HOUR_NS)


def _text(at_ns: int) -> str:
    from stillwatt.grids.source import utc_text

    return utc_text(at_ns)
