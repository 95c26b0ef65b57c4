"""A card's gain reaches the channels of that card, read by that driver, and no others."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from calibration_files import CALIBRATION, written
from fakes import FakeClock, fake_channel
from nvml_simulator_build import NvmlSimulator
from stillwatt.records import Channel, Quantity
from stillwatt.sensors.calibration import (
    apply_calibrations,
    base_source,
    has_uuid,
    read_calibrations,
)
from stillwatt.sensors.nvml_sources import Source
from stillwatt.sensors.registry import resolve
from stillwatt.units import NS_PER_MS

UUID = "GPU-5c1a8f0e-0000-4000-8000-0123456789ab"


def channel(**changes: object) -> Channel:
    """The channel that `CALIBRATION` is of."""
    plain = fake_channel(part="gpu0", quantity=Quantity.ENERGY_COUNTER)
    return replace(plain, device=UUID, driver="nvml", source=CALIBRATION.source, **changes)  # type: ignore[arg-type]


def test_the_gain_its_interval_and_its_origin_are_on_the_channel() -> None:
    (found,), notes = apply_calibrations([channel()], [CALIBRATION])
    assert notes == []
    assert found.gain == 1.08
    assert found.gain_low_rel == pytest.approx(0.02 / 1.08)
    assert found.gain_high_rel == pytest.approx(0.02 / 1.08)
    assert found.source == f"{CALIBRATION.source}; calibrated by PMD2 on 2026-11-20"
    assert base_source(found.source) == CALIBRATION.source
    assert found.unit_si == channel().unit_si  # counts keep their meaning; the gain is applied when they are booked
    assert found.calibrated().unit_si == pytest.approx(1.08 * channel().unit_si)
    assert channel().calibrated() == channel()


def test_the_last_of_several_counts() -> None:
    (found,), _ = apply_calibrations([channel()], [CALIBRATION, replace(CALIBRATION, gain=1.09)])
    assert found.gain == 1.09


def test_another_driver_version_is_said_and_not_used() -> None:
    newer = replace(channel(), source=CALIBRATION.source.replace("580.65.06", "590.10"))
    (found,), (note,) = apply_calibrations([newer], [CALIBRATION])
    assert found == newer
    assert note.startswith(
        f"{newer.stream}: the calibration of 2026-11-20T12:00:00Z is ignored, since it was made with"
    )
    assert "590.10" in note


def test_how_often_a_costly_counter_is_read_changes_no_gain() -> None:
    then, now = (
        Source(Quantity.ENERGY_COUNTER, "call", lambda _handle: 0, every_ns=every_ms * NS_PER_MS).pace
        for every_ms in (870, 910)
    )
    assert then != now
    found = replace(CALIBRATION, source=base_source(f"{CALIBRATION.source}{then}"))
    assert found == CALIBRATION
    (read,), notes = apply_calibrations([replace(channel(), source=f"{CALIBRATION.source}{now}")], [found])
    assert (read.gain, notes) == (1.08, [])


def test_another_card_or_quantity_is_no_concern() -> None:
    other = replace(channel(), device="GPU-ffffffff-0000-4000-8000-000000000000")
    power = replace(channel(), quantity=Quantity.POWER)
    assert apply_calibrations([other, power], [CALIBRATION]) == ((other, power), [])


@pytest.mark.parametrize("gain", [0.0, -1.0, float("inf"), float("nan")])
def test_what_is_no_factor_is_no_gain(gain: float) -> None:
    with pytest.raises(ValueError, match="must be above 0 and finite"):
        channel(gain=gain)


@pytest.mark.parametrize("changes", [{"gain_low": 1.09}, {"gain_high": 1.0}, {"gain_high": 2.5}, {"gain_low": 0.0}])
def test_an_interval_holds_its_gain(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="is none"):
        replace(CALIBRATION, **changes)  # type: ignore[arg-type]


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_calibrations(written(tmp_path / "c.toml", CALIBRATION)) == ((CALIBRATION,), "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schema = ", "cannot be read"),
        ('schema = "other/1"', "its schema is 'other/1'"),
        ('schema = "stillwatt.calibration/1"\ncalibrations = 3', "calibration 1 cannot be understood"),
        ('schema = "stillwatt.calibration/1"\n[[calibrations]]\ngain = 1.0', "calibration 1 cannot be understood"),
    ],
)
def test_a_broken_file_calibrates_nothing_and_is_told_of(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text, encoding="utf-8")
    found, problem = read_calibrations(path)
    assert found == ()
    assert said in problem


@pytest.mark.parametrize(("name", "value"), [("gain", '"1.1"'), ("readings", "true"), ("meter", "7")])
def test_a_value_of_another_kind_leaves_one_calibration_out(tmp_path: Path, name: str, value: str) -> None:
    path = written(tmp_path / "c.toml", CALIBRATION, CALIBRATION)
    lines = path.read_text(encoding="utf-8").splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith(f"{name} = "))
    lines[at] = f"{name} = {value}"
    path.write_text("\n".join(lines), encoding="utf-8")
    found, problem = read_calibrations(path)
    assert found == (CALIBRATION,)
    assert f"calibration 1 cannot be understood ({name} = " in problem


def test_only_names_of_one_piece_of_hardware_are_uuids() -> None:
    assert has_uuid(UUID)
    assert not has_uuid("package-0")


def test_a_resolved_card_carries_its_gain(tmp_path: Path, nvml_simulator: NvmlSimulator) -> None:
    clock = FakeClock()
    nvml_simulator.configure("gpu", now_ns=clock.now_ns)
    options = {"nvml": {"library": nvml_simulator.path, "device_root": str(tmp_path / "no-dev")}}
    with closing(resolve(["nvml"], clock, options)) as plain:
        (counter,) = [each for each in plain.channels if each.quantity is Quantity.ENERGY_COUNTER]
    mine = replace(CALIBRATION, device=counter.device, source=counter.source)
    path = written(tmp_path / "c.toml", mine)
    with closing(resolve(["nvml"], clock, options, calibration=path)) as found:
        gains = {each.quantity: each.gain for each in found.channels if each.part == "gpu0"}
        assert gains[Quantity.ENERGY_COUNTER] == 1.08
        assert all(probe.driver != "calibration" for probe in found.probes)
    written(path, replace(mine, source="another driver"))
    with closing(resolve(["nvml"], clock, options, calibration=path)) as found:
        (said,) = [probe for probe in found.probes if probe.driver == "calibration"]
        assert "is ignored, since it was made with 'another driver'" in said.detail
        assert "--calibrate" in said.cure
    with closing(resolve(["nvml"], clock, options, calibration=tmp_path / "none.toml")) as found:
        assert all(each.gain is None for each in found.channels)
    path.write_text("no", encoding="utf-8")
    with closing(resolve(["nvml"], clock, options, calibration=path)) as found:
        assert "cannot be read" in found.probes[-1].detail
        assert not found.probes[-1].usable
