from __future__ import annotations

from pathlib import Path

import pytest

from fakes import FakeClock
from stillwatt.errors import SensorUnavailableError, UnknownNameError, UsageError
from stillwatt.records import Basis, Boundary, ReadFailure, Reading, Role
from stillwatt.sensors.replay import ReplaySensor
from stillwatt.units import NS_PER_MS, NS_PER_S

RECORDING = """t_s,part,power_w,counter_j,device,boundary
10.0,gpu0,100,5,GPU-1,board
10.0,cpu0,20,,pkg,chip
10.1,gpu0,110,16,,
10.1,cpu0,,,,
10.2,gpu0,120,28,,
10.2,cpu0,22,,,
"""


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recording.csv"
    path.write_text(text, encoding="utf-8")
    return path


def _shown(sensor: ReplaySensor) -> dict[str, float | str]:
    return {r.stream: r.count if isinstance(r, Reading) else r.reason for r in sensor.read()}


def test_channels_come_from_the_columns(tmp_path: Path) -> None:
    sensor = ReplaySensor(FakeClock(), path=_write(tmp_path, RECORDING), basis="measured")
    channels = {channel.stream: channel for channel in sensor.open()}
    assert channels["gpu0.energy_counter"].role is Role.LEDGER
    assert channels["gpu0.power"].role is Role.WITNESS
    assert channels["cpu0.power"].role is Role.LEDGER
    assert channels["cpu0.power"].boundary is Boundary.CHIP
    assert channels["gpu0.power"].device == "GPU-1"
    assert channels["gpu0.power"].update_period_ns == 100 * NS_PER_MS
    assert channels["gpu0.power"].basis is Basis.MEASURED
    assert all(channel.source.startswith("REPLAY") for channel in channels.values())


def test_as_recorded_gives_row_by_row_with_its_own_stamps(tmp_path: Path) -> None:
    clock = FakeClock(now_ns=7 * NS_PER_S)
    sensor = ReplaySensor(clock, path=_write(tmp_path, RECORDING), pace="as_recorded")
    sensor.open()
    stamps, shown = [], []
    for _ in range(4):
        results = sensor.read()
        stamps.append({result.t_ns - 7 * NS_PER_S for result in results})
        shown.append([r.count if isinstance(r, Reading) else r.reason for r in results])
    assert shown[:3] == [[100.0, 5.0, 20.0], [110.0, 16.0, "the recorded reading had failed"], [120.0, 28.0, 22.0]]
    assert shown[3] == ["the recording is over"] * 3
    assert stamps == [{0}, {100_000_000}, {200_000_000}, {200_000_000}]


def test_real_time_shows_the_row_that_was_current(tmp_path: Path) -> None:
    clock = FakeClock()
    sensor = ReplaySensor(clock, path=_write(tmp_path, RECORDING))
    sensor.open()
    assert _shown(sensor)["gpu0.energy_counter"] == 5.0
    clock.advance(0.15)
    assert _shown(sensor)["gpu0.power"] == 110.0
    assert {result.t_ns for result in sensor.read()} == {clock.now_ns}
    clock.advance(0.1)
    assert _shown(sensor)["gpu0.power"] == 120.0
    clock.advance(1.0)
    assert _shown(sensor)["gpu0.power"] == "the recording is over"


def test_a_stream_that_begins_later_fails_until_then(tmp_path: Path) -> None:
    clock = FakeClock()
    sensor = ReplaySensor(clock, path=_write(tmp_path, "t_s,part,power_w\n0,gpu0,1\n0.5,gpu1,2\n1,gpu0,3\n"))
    sensor.open()
    assert _shown(sensor)["gpu1.power"] == "the recording of this stream begins later"
    clock.advance(0.5)
    assert _shown(sensor)["gpu1.power"] == 2.0


def test_a_recording_of_one_row_has_a_period_all_the_same(tmp_path: Path) -> None:
    channels = ReplaySensor(FakeClock(), path=_write(tmp_path, "t_s,part,power_w\n0,gpu0,1\n")).open()
    assert channels[0].update_period_ns == 100 * NS_PER_MS


def test_opening_again_starts_from_the_beginning(tmp_path: Path) -> None:
    sensor = ReplaySensor(FakeClock(), path=_write(tmp_path, RECORDING), pace="as_recorded")
    sensor.open()
    first = _shown(sensor)
    sensor.read()
    sensor.close()
    assert sensor.read() == []
    sensor.open()
    assert _shown(sensor) == first


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("t_s,part,power_w\nx,gpu0,1\n", ":2: t_s = 'x' is not a number"),
        ("t_s,part,power_w\n0,gpu0,1\n1,gpu0,inf\n", ":3: power_w = 'inf' is not finite"),
        ("t_s,part,power_w\n1,gpu0,1\n0,gpu0,1\n", ":3: the time of gpu0 goes back"),
        ("t_s,part,power_w\n0,gpu 0,1\n", ":2: part 'gpu 0'"),
        ("t_s,part,power_w\n0,gpu0,\n", ":2: gpu0 fails before its first value"),
        ("t_s,part,power_w\n0,,\n", ":2: a row fails before"),
        ("t_s,part,power_w,boundary\n0,gpu0,1,moon\n", ":2: boundary 'moon' is none of"),
        ("t_s,part,power_w\n", "no row with a power or a counter"),
        ("part,power_w\ngpu0,1\n", ":2: t_s = None is not a number"),
    ],
)
def test_a_recording_that_cannot_be_meant_names_its_line(tmp_path: Path, text: str, words: str) -> None:
    sensor = ReplaySensor(FakeClock(), path=_write(tmp_path, text))
    probe = sensor.probe()
    assert not probe.usable
    assert words in probe.detail
    assert probe.absent[0].reason == probe.detail
    with pytest.raises(SensorUnavailableError):
        sensor.open()


def test_text_that_is_not_utf8_is_said_to_be_so(tmp_path: Path) -> None:
    path = tmp_path / "recording.csv"
    path.write_bytes(b"t_s,part,power_w\n0,gpu\xff,1\n")
    assert "utf-8" in ReplaySensor(FakeClock(), path=path).probe().detail


@pytest.mark.parametrize(
    ("options", "error"),
    [({"pace": "fast"}, UnknownNameError), ({"basis": "guessed"}, UnknownNameError), ({"gain_rel": 1.0}, UsageError)],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, str], error: type[Exception]) -> None:
    with pytest.raises(error):
        ReplaySensor(FakeClock(), path="x.csv", **options)  # type: ignore[arg-type]


def test_a_failure_of_a_part_is_one_of_all_its_streams(tmp_path: Path) -> None:
    clock = FakeClock()
    sensor = ReplaySensor(clock, path=_write(tmp_path, "t_s,part,power_w,counter_j\n0,gpu0,1,1\n0.1,gpu0,,\n"))
    sensor.open()
    clock.advance(0.1)
    assert all(isinstance(result, ReadFailure) for result in sensor.read())


@pytest.mark.parametrize("time", ["1e308", "-1e308", "1732700000000"])
def test_a_time_that_is_none_in_seconds_is_told_with_its_line(tmp_path: Path, time: str) -> None:
    probe = ReplaySensor(FakeClock(), path=_write(tmp_path, f"t_s,part,power_w\n0,gpu0,1\n{time},gpu0,2\n")).probe()
    assert not probe.usable
    assert "recording.csv:3: t_s = " in probe.detail
    assert "is no time in seconds" in probe.detail


def test_a_recording_that_a_spreadsheet_marked_as_unicode_is_read(tmp_path: Path) -> None:
    assert ReplaySensor(FakeClock(), path=_write(tmp_path, f"\ufeff{RECORDING}")).probe().usable
