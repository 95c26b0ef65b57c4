"""Plugs and controllers that give power and a counter: which is booked, how fine the counter is, what is refused."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_devices import FakeServer, serving
from fakes import FakeClock
from stillwatt.errors import UsageError
from stillwatt.metering.attribute import WeightedWindow
from stillwatt.metering.estimate import estimate
from stillwatt.metering.series import Series
from stillwatt.records import Channel, Energy, Quantity, ReadFailure, Reading, Role
from stillwatt.sensors import Sensor
from stillwatt.sensors.redfish import RedfishSensor
from stillwatt.sensors.smart_plug import SmartPlugSensor
from stillwatt.sensors.web_login import Login
from stillwatt.units import NS_PER_S

TASMOTA = "/cm?cmnd=Status%208"
METRICS = "/redfish/v1/Chassis/1/EnvironmentMetrics"
POWER, COUNTER = Quantity.POWER, Quantity.ENERGY_COUNTER


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with serving() as fake:
        yield fake


def _by_quantity(sensor: Sensor) -> dict[Quantity, Channel]:
    return {channel.quantity: channel for channel in sensor.open()}


def _tasmota(total: str, watts: float) -> bytes:
    """As the plug writes it: with the zeros at the end."""
    return f'{{"StatusSNS":{{"ENERGY":{{"Power":{watts},"Total":{total}}}}}}}'.encode()


def _counter_alone(clock: FakeClock, server: FakeServer) -> SmartPlugSensor:
    return SmartPlugSensor(clock, url=server.url, kind="json", energy_path="kwh", energy_unit_j=3.6e6)


def _csv(folder: Path, text: str) -> Path:
    path = folder / "meter.csv"
    path.write_text(text)
    return path


# a counter's step -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "watts", "step_j", "is_coarse"),
    [
        ("12.345", 100, 3600.0, True),
        ("12.300", 100, 3600.0, True),  # zeros at the end are digits too
        ("12", 100, 3.6e6, True),
        ("1.23e1", 100, 360_000.0, True),
        ("12.34567", 100, 36.0, False),
        ("12.345", 3000, 3600.0, False),  # little more than a second of it
        ("12.34567", 0, 36.0, False),  # a plug is opened before the work begins
    ],
)
def test_power_is_booked_where_the_counters_step_is_worth_seconds_of_it(
    server: FakeServer, total: str, watts: float, step_j: float, is_coarse: bool
) -> None:
    server.answers = {TASMOTA: _tasmota(total, watts)}
    sensor = SmartPlugSensor(FakeClock(), url=server.url, kind="tasmota")
    channels = _by_quantity(sensor)
    if is_coarse:
        assert {quantity: channel.role for quantity, channel in channels.items()} == {POWER: Role.LEDGER}
        assert f"its counter, which moves in steps of {step_j:.6g} J, is left out" in channels[POWER].source
        assert [result.stream for result in sensor.read()] == ["wall0.power"]
    else:
        assert (channels[COUNTER].role, channels[POWER].role) == (Role.LEDGER, Role.WITNESS)
        assert channels[COUNTER].unit_si == pytest.approx(step_j)


def test_a_counter_alone_is_booked_whatever_its_step(server: FakeServer) -> None:
    server.answers = {"/": b'{"kwh":12.345}'}
    channels = _by_quantity(_counter_alone(FakeClock(), server))
    assert {quantity: channel.role for quantity, channel in channels.items()} == {COUNTER: Role.LEDGER}
    assert channels[COUNTER].unit_si == 3600.0


def test_the_step_of_a_lone_coarse_counter_is_in_the_interval(server: FakeServer) -> None:
    """A constant 100 W over two stages of 50 s, read once a second through steps of 3,600 J."""
    clock = FakeClock()
    server.answers = {"/": b'{"kwh":12.000}'}
    sensor = _counter_alone(clock, server)
    (channel,) = sensor.open()
    start_ns, times_ns, counts = clock.now_ns, [], []
    for _ in range(100):
        truth_j = 12 * 3.6e6 + 1000.0 + 100.0 * (clock.now_ns - start_ns) / NS_PER_S
        server.answers = {"/": f'{{"kwh":{truth_j // 3600 / 1000:.3f}}}'.encode()}
        (result,) = sensor.read()
        assert isinstance(result, Reading)
        times_ns.append(result.t_ns)
        counts.append(result.count)
        clock.advance(1.0)
    series = Series(channel, np.array(times_ns), np.array(counts))
    for first_s in (0, 5, 25, 45):
        window = WeightedWindow(start_ns + first_s * NS_PER_S, start_ns + (first_s + 50) * NS_PER_S)
        energy = estimate(series, None, [window])
        assert isinstance(energy, Energy)
        assert abs(energy.value_j - 5000.0) <= energy.random_j, first_s


@pytest.mark.parametrize(
    ("kind", "path", "document", "step_j"),
    [
        ("shelly1", "/status", b'{"meters":[{"power":100,"total":12}]}', 60.0),
        ("shelly2", "/rpc/Switch.GetStatus?id=0", b'{"apower":100,"aenergy":{"total":12}}', 3.6),
        ("shelly2", "/rpc/Switch.GetStatus?id=0", b'{"apower":100,"aenergy":{"total":12.345}}', 3.6),
    ],
)
def test_the_step_that_a_maker_documents_is_taken(
    server: FakeServer, kind: str, path: str, document: bytes, step_j: float
) -> None:
    server.answers = {path: document}
    channels = _by_quantity(SmartPlugSensor(FakeClock(), url=server.url, kind=kind))
    assert channels[COUNTER].unit_si == pytest.approx(step_j)
    assert channels[COUNTER].role is Role.LEDGER


@pytest.mark.parametrize(
    ("options", "step_j"), [({}, 3.6e5), ({"energy_step_j": 360.0}, 360.0), ({"energy_step_j": 0.1}, 1.0)]
)
def test_the_step_of_any_plug_is_its_last_digit_or_as_told(
    server: FakeServer, options: dict[str, Any], step_j: float
) -> None:
    """No step is finer than a joule: digits beyond may be arithmetic."""
    server.answers = {"/": b'{"kwh":"1.5"}'}
    sensor = SmartPlugSensor(
        FakeClock(), url=server.url, kind="json", energy_path="kwh", energy_unit_j=3.6e6, **options
    )
    assert _by_quantity(sensor)[COUNTER].unit_si == pytest.approx(step_j)


@pytest.mark.parametrize(
    ("fields", "booked", "said"),
    [
        ('"EnergykWh":{"Reading":12.3}', POWER, "steps of 360000 J"),
        ('"EnergykWh":{"Reading":12.300000190734863}', POWER, "steps of 3600 J"),  # what arithmetic leaves of 12.3
        ('"EnergyJoules":{"Reading":44280000}', COUNTER, ""),
    ],
)
def test_a_controllers_kilowatt_hours_are_left_out_beside_its_power(
    server: FakeServer, fields: str, booked: Quantity, said: str
) -> None:
    server.answers = {METRICS: f'{{"PowerWatts":{{"Reading":321.5}},{fields}}}'.encode()}
    sensor = RedfishSensor(FakeClock(), url=server.url, chassis="1", user_env="", password_env="")
    channels = _by_quantity(sensor)
    assert channels[booked].role is Role.LEDGER
    assert said in channels[booked].source
    assert (COUNTER in channels) == (booked is COUNTER)


# a file that another program writes to --------------------------------------------------------------------------------


class Logger:
    """A program that appends rows to a CSV; what it writes is as old as the fake clock says."""

    def __init__(self, clock: FakeClock, folder: Path, row: str = "power_w\n100\n") -> None:
        self.clock, self.path = clock, folder / "meter.csv"
        self.path.write_text(row)
        self._stamp()

    def writes(self, row: str) -> None:
        with self.path.open("a") as file:
            file.write(f"{row}\n")
        self._stamp()

    def _stamp(self) -> None:
        os.utime(self.path, ns=(self.clock.utc_ns(), self.clock.utc_ns()))


def _outcome(sensor: SmartPlugSensor) -> float | str:
    (result,) = sensor.read()
    assert isinstance(result, Reading | ReadFailure)
    return result.count if isinstance(result, Reading) else result.reason


def test_a_file_that_nobody_has_written_to_for_long_is_no_instrument(tmp_path: Path) -> None:
    clock = FakeClock()
    logger = Logger(clock, tmp_path)
    os.utime(logger.path, ns=(0, 0))
    probe = SmartPlugSensor(clock, csv=logger.path).probe()
    assert not probe.usable
    assert str(logger.path) in probe.detail
    assert "nothing was written to it for" in probe.detail
    assert "still run" in probe.detail


def test_a_logger_that_dies_leaves_failures_and_no_constant_power(tmp_path: Path) -> None:
    clock = FakeClock()
    logger = Logger(clock, tmp_path)
    sensor = SmartPlugSensor(clock, csv=logger.path)
    sensor.open()
    found = []
    for second in range(20):
        found.append(_outcome(sensor))
        clock.advance(1.0)
        if second < 10:
            logger.writes(f"{101 + second}")
    assert found[:16] == [100.0 + min(second, 10) for second in range(16)]
    assert all(isinstance(one, str) and "nothing was written to it for" in one for one in found[16:])
    logger.writes("50")
    assert _outcome(sensor) == 50.0


def test_a_slow_logger_is_not_called_dead_once_its_rhythm_is_seen(tmp_path: Path) -> None:
    clock = FakeClock()
    logger = Logger(clock, tmp_path)
    sensor = SmartPlugSensor(clock, csv=logger.path)
    sensor.open()
    failures = []
    for second in range(100):
        if second % 10 == 9:
            logger.writes(f"{second}")
        failures.append(isinstance(_outcome(sensor), str))
        clock.advance(1.0)
    assert any(failures[:9])
    assert not any(failures[9:])


def test_the_period_of_a_slow_logger_can_be_told(tmp_path: Path) -> None:
    clock = FakeClock()
    logger = Logger(clock, tmp_path)
    clock.advance(29.0)
    sensor = SmartPlugSensor(clock, csv=logger.path, period_ms=10_000)
    sensor.open()
    assert _outcome(sensor) == 100.0
    clock.advance(20.0)
    assert _outcome(sensor) == 100.0
    clock.advance(10.0)
    assert "`period_ms`" in str(_outcome(sensor))


def test_a_wall_clock_that_is_set_does_not_make_a_file_old(tmp_path: Path) -> None:
    clock = FakeClock()
    logger = Logger(clock, tmp_path)
    sensor = SmartPlugSensor(clock, csv=logger.path)
    sensor.open()
    for offset_s in (3600, -7200):
        clock.utc_offset_ns += offset_s * NS_PER_S
        clock.advance(1.0)
        logger.writes("100")
        assert _outcome(sensor) == 100.0


# what no plug can mean ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("-5", "-5 W is no power that is drawn"),
        ("1e308", "1e+308 W is no power that is drawn"),
        ("nan", "no number at 'power_w'"),
        ("-inf", "no number at 'power_w'"),
    ],
)
def test_a_power_that_cannot_be_is_a_failure_with_its_number(tmp_path: Path, row: str, words: str) -> None:
    clock = FakeClock()
    logger = Logger(clock, tmp_path)
    sensor = SmartPlugSensor(clock, csv=logger.path)
    sensor.open()
    logger.writes(row)
    assert words in str(_outcome(sensor))


def test_a_power_that_cannot_be_costs_the_counter_beside_it_nothing(server: FakeServer) -> None:
    clock = FakeClock()
    path = "/rpc/Switch.GetStatus?id=0"
    server.answers = {path: b'{"apower":100,"aenergy":{"total":12.345}}'}
    sensor = SmartPlugSensor(clock, url=server.url)
    sensor.open()
    server.answers = {path: b'{"apower":-5,"aenergy":{"total":12.346}}'}
    found = {result.stream: result for result in sensor.read()}
    assert isinstance(found["wall0.power"], ReadFailure)
    assert isinstance(found["wall0.energy_counter"], Reading)


@pytest.mark.parametrize("kwh", ["1e302", "1e12", "-1e12"])
def test_a_count_that_cannot_be_is_a_failure_with_its_number(server: FakeServer, kwh: str) -> None:
    clock = FakeClock()
    server.answers = {"/": b'{"kwh":12.345}'}
    sensor = _counter_alone(clock, server)
    sensor.open()
    server.answers = {"/": f'{{"kwh":{kwh}}}'.encode()}
    assert "is beyond any counter" in str(_outcome(sensor))


def test_a_whole_number_of_400_digits_is_no_number(server: FakeServer) -> None:
    server.answers = {"/": b'{"w":1' + b"0" * 400 + b"}"}
    probe = SmartPlugSensor(FakeClock(), url=server.url, kind="json", power_path="w").probe()
    assert not probe.usable
    assert "no number at 'w'" in probe.detail


# who asks -------------------------------------------------------------------------------------------------------------


SHELLY = "/rpc/Switch.GetStatus?id=0"
SHELLY_ANSWER = b'{"apower":100,"aenergy":{"total":12}}'


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("PLUG_USER", "admin")
    monkeypatch.setenv("PLUG_PASSWORD", 'wa"tt')
    return {"user_env": "PLUG_USER", "password_env": "PLUG_PASSWORD"}


def test_a_plug_with_a_password_is_answered_as_it_asks(server: FakeServer, account: dict[str, Any]) -> None:
    """The second generation of Shelly takes nothing but a digest; a challenge is good for more than one asking."""
    server.answers = {SHELLY: SHELLY_ANSWER}
    server.challenge = 'Digest qop="auth", realm="shellyplus-1", nonce="60dc2c69", algorithm=SHA-256'
    clock = FakeClock()
    sensor = SmartPlugSensor(clock, url=server.url, **account)
    assert set(_by_quantity(sensor)) == {POWER, COUNTER}
    assert all(isinstance(result, Reading) for result in sensor.read())
    server.challenge = server.challenge.replace("60dc2c69", "60dc2d00")  # it forgets its challenges after a while
    clock.advance(1.0)
    assert all(isinstance(result, Reading) for result in sensor.read())
    schemes = [text.partition(" ")[0] for text in server.authorizations]
    assert schemes == ["Basic", "Digest", "Digest", "Digest", "Digest"]
    assert ["nc=00000001" in text for text in server.authorizations[1:]] == [True, False, False, True]
    assert all('uri="/rpc/Switch.GetStatus?id=0"' in text for text in server.authorizations[1:])
    assert not any("wa" in text.partition("username")[0] for text in server.authorizations[1:])


@pytest.mark.parametrize(
    "challenge",
    [
        'Digest realm="r", nonce="never", algorithm=SHA-512-256',
        'Digest realm="r", nonce="never", qop="auth-int"',
        'Basic realm="r"',
        "Negotiate",
    ],
)
def test_what_a_plug_wants_and_nobody_can_give_is_its_refusal(
    server: FakeServer, account: dict[str, Any], challenge: str
) -> None:
    server.challenge = challenge
    probe = SmartPlugSensor(FakeClock(), url=server.url, **account).probe()
    assert "401" in probe.detail
    assert len(server.asked) == 1


def test_a_wrong_password_is_told_once_a_reading(server: FakeServer, account: dict[str, Any]) -> None:
    server.challenge = 'Digest realm="r", nonce="x y"'
    server.wanted_authorization = "another"
    probe = SmartPlugSensor(FakeClock(), url=server.url, **account).probe()
    assert not probe.usable
    assert "401" in probe.detail
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_a_challenge_is_answered_as_the_standard_answers_it(
    monkeypatch: pytest.MonkeyPatch, algorithm: str, response: str
) -> None:
    """The example of RFC 7616, section 3.9.1."""
    own = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
    monkeypatch.setattr("secrets.token_hex", lambda _count: own)
    monkeypatch.setenv("WHO", "Mufasa")
    monkeypatch.setenv("WHAT", "Circle of Life")
    login = Login("plug", user_env="WHO", password_env="WHAT")
    nonce, opaque = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"
    told = f'realm="http-auth@example.org", qop="auth, auth-int", nonce="{nonce}", opaque="{opaque}"'
    assert login.take_up([f"Digest {told}, algorithm={algorithm}"])
    answer = login.header("/dir/index.html")
    assert f'response="{response}"' in answer
    assert f'opaque="{opaque}"' in answer


def test_an_instrument_that_counts_nothing_gets_the_older_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 2617 without `qop`, and a secret of the session's."""
    monkeypatch.setenv("WHO", "u")
    login = Login("plug", user_env="WHO")
    assert login.take_up(['Digest realm="r", nonce="n"'])
    assert 'response="' in login.header("/")
    assert "nc=" not in login.header("/")
    assert login.take_up(['Digest realm="r", nonce="n", qop="auth", algorithm=MD5-sess'])
    assert "algorithm=MD5-sess" in login.header("/")


def test_a_token_is_sent_as_one(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Home Assistant wants it."""
    monkeypatch.setenv("HA_TOKEN", "abc.def")
    server.answers = {"/": {"state": "123.4", "attributes": {"unit_of_measurement": "W"}}}
    server.wanted_authorization = "Bearer abc.def"
    options: dict[str, Any] = {"url": server.url, "kind": "json", "power_path": "state", "token_env": "HA_TOKEN"}
    sensor = SmartPlugSensor(FakeClock(), **options)
    sensor.open()
    (reading,) = sensor.read()
    assert isinstance(reading, Reading)
    assert reading.count == 123.4
    monkeypatch.delenv("HA_TOKEN")
    with pytest.raises(UsageError, match="HA_TOKEN is not set"):
        SmartPlugSensor(FakeClock(), **options)
    with pytest.raises(UsageError, match="not both"):
        SmartPlugSensor(FakeClock(), **options, user_env="PLUG_USER")


# several outlets ------------------------------------------------------------------------------------------------------


def test_an_outlet_of_several_has_its_own_power_and_never_the_counter_of_all(server: FakeServer) -> None:
    server.answers = {TASMOTA: b'{"StatusSNS":{"ENERGY":{"Power":[12,340],"Total":12.34567}}}'}
    sensor = SmartPlugSensor(FakeClock(), url=server.url, kind="tasmota", outlet=1)
    assert set(_by_quantity(sensor)) == {POWER}
    (reading,) = sensor.read()
    assert isinstance(reading, Reading)
    assert reading.count == 340.0
    server.answers = {TASMOTA: b'{"StatusSNS":{"ENERGY":{"Power":[12,340],"Total":[1.00000,2.00000]}}}'}
    sensor = SmartPlugSensor(FakeClock(), url=server.url, kind="tasmota", outlet=1)
    assert set(_by_quantity(sensor)) == {POWER, COUNTER}
    assert {r.stream: r.count * 36.0 for r in sensor.read() if isinstance(r, Reading)}["wall0.energy_counter"] == 7.2e6


@pytest.mark.parametrize(
    ("powers", "outlet", "said"),
    [
        ("[12,340]", None, r"meters 2 outlets or phases \(12, 340 W\); name one by `outlet`"),
        ("[12,340]", 2, "nothing at 'StatusSNS.ENERGY.Power.2'"),
        ("340", 1, "one meter for all its outlets, and none of outlet 1"),
    ],
)
def test_which_outlet_is_meant_has_to_be_clear(server: FakeServer, powers: str, outlet: int | None, said: str) -> None:
    server.answers = {TASMOTA: f'{{"StatusSNS":{{"ENERGY":{{"Power":{powers},"Total":1.0}}}}}}'.encode()}
    probe = SmartPlugSensor(FakeClock(), url=server.url, kind="tasmota", outlet=outlet).probe()
    assert re.search(said, probe.detail)
