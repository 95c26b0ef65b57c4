"""From a run and a meter's log to a file of gains, and from that file to calibrated energies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from fakes import FakeClock
from run_dirs import EPOCH_UTC_NS, FakeLiveness, SyntheticRun, gpu_counter, gpu_power
from stillwatt.errors import CalibrationError, ConfigError, MissingInputError, UsageError
from stillwatt.ledger.post import build_record
from stillwatt.records import Total
from stillwatt.sensors.calibration import apply_calibrations, read_calibrations
from stillwatt.units import NS_PER_MS, NS_PER_S
from stillwatt.workflows.calibrate import CalibrationOutcome, MeterFacts, calibrate
from stillwatt.workflows.meter_log import read_meter_log

Stillwatt = Callable[..., Result]
UUID = "GPU-5c1a8f0e-0000-4000-8000-0123456789ab"
LENGTH_S, START_S = 200, 100.0
COUNTER = replace(gpu_counter(), device=UUID, source="counter; card; driver 580.65.06")
POWER = replace(gpu_power(), device=UUID, source="power; card; driver 580.65.06")
_random = np.random.default_rng(7)
EDGES_S = np.concatenate(([0.0], np.cumsum(_random.uniform(3.0, 15.0, 100))))
LEVELS_W = _random.uniform(60.0, 350.0, 100)
ENERGY_J = np.concatenate(([0.0], np.cumsum(np.diff(EDGES_S) * LEVELS_W)))


def energy_j(t_s: float) -> float:
    """What the card itself says it drew by that time of the monotonic clock."""
    return float(np.interp(t_s - START_S, EDGES_S, ENERGY_J))


def run_under_load(folder: Path, *, uuid: bool = True, witness: bool = True, gain: float | None = None) -> SyntheticRun:
    run = SyntheticRun(folder)
    session = run.session(start_s=START_S)
    counter = COUNTER if uuid else gpu_counter()
    if gain is not None:
        counter = replace(counter, gain=gain, gain_low_rel=0.01, gain_high_rel=0.02)
    session.sampler([counter, POWER] if witness else [counter])
    session.samples("gpu0.energy_counter", lambda t_s: energy_j(t_s) * 1000.0, until_s=START_S + LENGTH_S)
    if witness:
        power = lambda t_s: (energy_j(t_s) - energy_j(t_s - 0.1)) / 0.1 if t_s > START_S + 0.1 else 60.0  # noqa: E731
        session.samples("gpu0.power", power, until_s=START_S + LENGTH_S)
    session.stage("load", START_S + 1.0, START_S + LENGTH_S - 1.0)
    session.end(START_S + LENGTH_S)
    return run


def meter_csv(
    path: Path, *, gain: float = 1.08, offset_s: float = 37.0, offset_w: float = 0.0, wall: bool = True
) -> Path:
    """A meter at 1 Hz, whose clock lags by so many seconds; seconds since 1970, or since it was switched on."""
    lines = ["time,watts"]
    for second in range(1, LENGTH_S - 1):
        power_w = offset_w + gain * (energy_j(START_S + second) - energy_j(START_S + second - 1))
        begin_s = EPOCH_UTC_NS / NS_PER_S + START_S if wall else 12.0
        lines.append(f"{begin_s + second - offset_s:.3f},{power_w:.3f}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def calibrated(tmp_path: Path, log: Path, meter: MeterFacts | None = None, part: str = "gpu0") -> CalibrationOutcome:
    meter = meter or MeterFacts(boundary="board")
    return calibrate(
        log, meter, part=part, runs_dir=tmp_path, run="latest", out=tmp_path / "c" / "c.toml", clock=FakeClock()
    )


def test_a_known_gain_is_found_written_and_used(tmp_path: Path) -> None:
    run = run_under_load(tmp_path)
    outcome = calibrated(tmp_path, meter_csv(tmp_path / "pmd.csv"))
    assert [found.quantity for found in outcome.calibrations] == ["energy_counter", "power"]
    (counter, _) = outcome.calibrations
    assert counter.gain == pytest.approx(1.08, rel=2e-3)
    assert counter.gain_low < 1.08 < counter.gain_high
    assert 0.01 <= (counter.gain_high - counter.gain_low) / 2 / counter.gain < 0.02
    assert counter.shift_s == pytest.approx(37.0, abs=0.2)
    assert (counter.meter, counter.driver_version, counter.run) == ("pmd", "580.65.06", run.run_id)
    assert [note.partition(",")[0] for note in outcome.notes] == ["the meter's own accuracy is taken as 1.00%"]
    assert read_calibrations(outcome.path) == (outcome.calibrations, "")
    (channel,), _ = apply_calibrations([COUNTER], outcome.calibrations)
    assert channel.gain == counter.gain


def test_a_meter_that_smooths_is_told_of(tmp_path: Path) -> None:
    run_under_load(tmp_path)
    head, *lines = meter_csv(tmp_path / "pmd.csv").read_text(encoding="utf-8").splitlines()
    rows = [[float(cell) for cell in line.split(",")] for line in lines]
    smooth = [f"{t_s:.3f},{sum(w for _, w in rows[k - 4 : k + 1]) / 5:.3f}" for k, (t_s, _) in enumerate(rows) if k > 3]
    (tmp_path / "smooth.csv").write_text("\n".join([head, *smooth]) + "\n", encoding="utf-8")
    outcome = calibrated(tmp_path, tmp_path / "smooth.csv")
    assert outcome.calibrations[0].gain == pytest.approx(1.08, rel=3e-3)
    assert any("each of the meter's readings averages over about" in note for note in outcome.notes)


def test_a_gain_in_the_journal_scales_energies_and_no_counts(tmp_path: Path) -> None:
    plain = build_record(run_under_load(tmp_path / "a", witness=False).path, liveness=FakeLiveness(False))
    run = run_under_load(tmp_path / "b", gain=1.1, witness=False)
    found = build_record(run.path, liveness=FakeLiveness(False))
    assert isinstance(plain.total, Total)
    assert isinstance(found.total, Total)
    assert found.total.value_j == pytest.approx(1.1 * plain.total.value_j, rel=1e-9)
    assert found.total.high_j - found.total.low_j < 0.6 * (plain.total.high_j - plain.total.low_j)
    raw = [path.read_bytes() for path in sorted((run.path / "samples").iterdir())]
    assert raw == [path.read_bytes() for path in sorted((tmp_path / "a" / run.run_id / "samples").iterdir())]


def test_a_record_of_power_gives_the_shape_of_a_counter_that_is_read_rarely(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path)
    session = run.session(start_s=START_S)
    record = replace(POWER, update_period_ns=20 * NS_PER_MS, averaging_ns=20 * NS_PER_MS, is_stamped=True)
    counter = replace(COUNTER, update_period_ns=100 * NS_PER_MS, sampling_period_ns=900 * NS_PER_MS)
    session.sampler([counter, record], period_s=0.02)
    power = lambda t_s: (energy_j(t_s) - energy_j(t_s - 0.02)) / 0.02  # noqa: E731
    session.samples("gpu0.power", power, until_s=START_S + LENGTH_S)
    session.period_s = 0.9
    shown = lambda t_s: energy_j(np.floor(t_s * 10.0 + 1e-6) / 10.0) * 1000.0  # noqa: E731
    session.samples("gpu0.energy_counter", shown, until_s=START_S + LENGTH_S)
    session.stage("load", START_S + 1.0, START_S + LENGTH_S - 1.0)
    session.end(START_S + LENGTH_S)
    counter_gain, power_gain = calibrated(tmp_path, meter_csv(tmp_path / "pmd.csv")).calibrations
    assert counter_gain.readings > 190  # every second by itself, not four put together
    assert counter_gain.gain == pytest.approx(1.08, rel=2e-3)
    assert power_gain.gain == pytest.approx(1.08, rel=2e-3)


def test_calibrating_again_does_not_stack_gains(tmp_path: Path) -> None:
    run_under_load(tmp_path, gain=1.3, witness=False)
    log = meter_csv(tmp_path / "pmd.csv")
    once, again = calibrated(tmp_path, log), calibrated(tmp_path, log)
    assert once.calibrations == again.calibrations
    assert once.calibrations[0].gain == pytest.approx(1.08, rel=2e-3)
    assert len(read_calibrations(again.path)[0]) == 1


def test_a_log_that_counts_from_its_own_beginning_is_placed(tmp_path: Path) -> None:
    run_under_load(tmp_path, witness=False)
    (found,) = calibrated(tmp_path, meter_csv(tmp_path / "pmd.csv", wall=False)).calibrations
    assert found.gain == pytest.approx(1.08, rel=2e-3)


def test_an_offset_is_said_and_widens_the_interval(tmp_path: Path) -> None:
    run_under_load(tmp_path, witness=False)
    plain = calibrated(tmp_path, meter_csv(tmp_path / "pmd.csv"))
    outcome = calibrated(tmp_path, meter_csv(tmp_path / "pmd.csv", offset_w=5.0))
    assert any("the meter reads +5 ± " in note for note in outcome.notes)
    (found,), (before,) = outcome.calibrations, plain.calibrations
    assert found.gain_high - found.gain_low > 1.3 * (before.gain_high - before.gain_low)


def test_a_meter_at_the_wall_needs_the_supplys_efficiency(tmp_path: Path) -> None:
    run_under_load(tmp_path, witness=False)
    log = meter_csv(tmp_path / "plug.csv", gain=1.2, offset_w=90.0)
    outcome = calibrated(tmp_path, log, MeterFacts(boundary="wall", name="plug", efficiency=(0.89, 0.92)))
    (found,) = outcome.calibrations
    assert found.gain == pytest.approx(1.2 * 0.905, rel=2e-3)
    assert any("the meter measures the wall" in note for note in outcome.notes)


@pytest.mark.parametrize(
    ("meter", "said"),
    [
        (MeterFacts(boundary="moon"), "say what the meter measures"),
        (MeterFacts(boundary="board", accuracy_rel=1.5), "is no fraction"),
        (MeterFacts(boundary="board", efficiency=(0.9, 0.9)), "is for a meter at the node or the wall"),
        (MeterFacts(boundary="wall"), "give the supply's efficiency"),
        (MeterFacts(boundary="wall", efficiency=(0.9, 1.9)), "is no range of shares"),
    ],
)
def test_what_cannot_be_meant_of_a_meter_is_misuse(tmp_path: Path, meter: MeterFacts, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        calibrated(tmp_path, tmp_path / "none.csv", meter)


def test_weak_data_are_refused_with_figures_and_nothing_is_written(tmp_path: Path) -> None:
    run_under_load(tmp_path)
    log = meter_csv(tmp_path / "pmd.csv")
    log.write_text("\n".join(log.read_text(encoding="utf-8").splitlines()[:40]), encoding="utf-8")
    with pytest.raises(
        CalibrationError, match=r"39 readings of the meter; more than 60 are needed; nothing was written"
    ):
        calibrated(tmp_path, log)
    assert not (tmp_path / "c").exists()


def test_a_meter_no_better_than_the_card_is_refused(tmp_path: Path) -> None:
    run_under_load(tmp_path)
    with pytest.raises(CalibrationError, match="is no narrower than the"):
        calibrated(tmp_path, meter_csv(tmp_path / "pmd.csv"), MeterFacts(boundary="board", accuracy_rel=0.06))


def test_parts_that_were_not_read_or_have_no_name_of_their_own_are_refused(tmp_path: Path) -> None:
    run_under_load(tmp_path, uuid=False, witness=False)
    log = meter_csv(tmp_path / "pmd.csv")
    with pytest.raises(CalibrationError, match=r"has no readings of it; it read: gpu0"):
        calibrated(tmp_path, log, part="gpu3")
    gpu = gpu_counter().device
    if UUID not in gpu:
        with pytest.raises(CalibrationError, match="is not the name of one piece of hardware"):
            calibrated(tmp_path, log)


def test_a_witness_that_does_not_fit_is_left_as_it_was(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path)
    session = run.session(start_s=START_S)
    session.sampler([COUNTER, POWER])
    session.samples("gpu0.energy_counter", lambda t_s: energy_j(t_s) * 1000.0, until_s=START_S + LENGTH_S)
    session.samples("gpu0.power", lambda _: 200.0, until_s=START_S + LENGTH_S)
    session.end(START_S + LENGTH_S)
    outcome = calibrated(tmp_path, meter_csv(tmp_path / "pmd.csv"))
    assert [found.quantity for found in outcome.calibrations] == ["energy_counter"]
    assert outcome.notes[-1].startswith("gpu0.power is left as it was: ")


def test_a_card_that_was_never_read_is_refused(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path)
    session = run.session(start_s=START_S)
    session.sampler([COUNTER])
    session.end(START_S + LENGTH_S)
    with pytest.raises(CalibrationError, match=r"gpu0\.energy_counter"):
        calibrated(tmp_path, meter_csv(tmp_path / "pmd.csv"))


def test_a_broken_file_of_calibrations_is_not_written_over(tmp_path: Path) -> None:
    run_under_load(tmp_path, witness=False)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "c.toml").write_text("my notes", encoding="utf-8")
    with pytest.raises(CalibrationError, match="mend or move the file"):
        calibrated(tmp_path, meter_csv(tmp_path / "pmd.csv"))
    assert (tmp_path / "c" / "c.toml").read_text(encoding="utf-8") == "my notes"


# --- the log --------------------------------------------------------------------------------------------------------


def csv_of(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "log.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "is_wall_clock"),
    [
        ("time,watts\n0,1\n1,2\n", False),
        ("Timestamp, Power_W\n1800000000,1\n1800000001.5,2\n\n", True),
        ("x,utc,w\n,2026-11-20T12:00:00Z,1\n,2026-11-20T12:00:01,2\n", True),
    ],
)
def test_logs_are_read(tmp_path: Path, text: str, is_wall_clock: bool) -> None:
    found = read_meter_log(csv_of(tmp_path, text))
    assert found.is_wall_clock is is_wall_clock
    assert found.log.power_w.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("when,watts\n", "no column 'time'"),
        ("", "its head is: nothing"),
        ("time,watts\n1\n", "1 of 2 columns"),
        ("time,watts\n1,x\n", "'x' is not a power in watts"),
        ("time,watts\n1,nan\n", "'nan' is not a power in watts"),
        ("time,watts\n1,-3\n", "turn the meter's clamp"),
        ("time,watts\nnoon,3\n", "'noon' is neither seconds nor ISO 8601"),
        ("time,watts\n1,3\n1,4\n", "is not later than the row before"),
        ("time,watts\n1,3\n", "holds 1 readings"),
    ],
)
def test_logs_that_cannot_be_read_say_where(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_meter_log(csv_of(tmp_path, text))


def test_logs_that_are_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError):
        read_meter_log(tmp_path / "none.csv")
    (tmp_path / "bad.csv").write_bytes(b"\xff\xfe\x00time")
    with pytest.raises(ConfigError, match="cannot be read as CSV"):
        read_meter_log(tmp_path / "bad.csv")
