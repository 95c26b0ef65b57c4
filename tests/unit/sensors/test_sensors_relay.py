from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from stillwatt.clock import SystemClock
from stillwatt.sensors import relay as relay_module
from stillwatt.sensors.relay import QuickWorker, Relay

LONG_S = 30.0


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "_LOOK_NS", 10_000_000)
    monkeypatch.setattr(relay_module, "_HUNG_NS", 30_000_000)


class Instrument:
    """Notes which thread read it; hangs while told to."""

    def __init__(self) -> None:
        self.readers: list[int] = []
        self.error: Exception | None = None
        self.hangs, self.release = False, threading.Event()

    def read(self) -> None:
        self.readers.append(threading.get_ident())
        if self.hangs:
            self.release.wait(LONG_S)
        if self.error is not None:
            raise self.error


def _trusted(relay: Relay, instrument: Instrument) -> QuickWorker:
    """A worker that has been quick for as long as it takes."""
    worker = relay.worker("read-fake", instrument.read)
    for _ in range(relay_module._QUICK_READINGS):
        assert worker.ask()
        assert worker.wait(LONG_S)
    return worker


def _ask(worker: QuickWorker, times: int = 1) -> None:
    for _ in range(times):
        worker.ask()
        worker.wait(LONG_S)


def test_a_loop_gives_what_it_returns_or_raises() -> None:
    def fail() -> None:
        raise ValueError("mistake")

    assert Relay(SystemClock()).run(lambda: 7) == 7
    with pytest.raises(ValueError, match="mistake"):
        Relay(SystemClock()).run(fail)


def test_a_sensor_is_read_apart_until_it_has_proved_quick_and_then_by_the_loop() -> None:
    relay, instrument = Relay(SystemClock()), Instrument()
    worker = relay.worker("read-fake", instrument.read)

    def loop() -> int:
        _ask(worker, relay_module._QUICK_READINGS + 5)
        return threading.get_ident()

    here = relay.run(loop)
    assert [reader == here for reader in instrument.readers] == 20 * [False] + 5 * [True]
    worker.ask()  # after the loop, whoever asks must not hang: it is read apart
    assert worker.wait(LONG_S)
    assert instrument.readers[-1] not in (here, threading.get_ident())
    worker.close()


def test_an_error_is_kept_until_the_next_run_wherever_the_job_is_done() -> None:
    relay, instrument = Relay(SystemClock()), Instrument()
    worker = _trusted(relay, instrument)
    seen: list[BaseException | None] = []

    def loop() -> None:
        for error in (OSError("here"), None):
            instrument.error = error
            _ask(worker)
            seen.append(worker.error)

    relay.run(loop)
    instrument.error = OSError("apart")
    _ask(worker)
    assert [str(error) for error in [*seen, worker.error]] == ["here", "None", "apart"]
    worker.close()


@pytest.mark.parametrize("door", ["ask", "do_at_once"])
def test_where_a_reading_hangs_the_loop_goes_on_and_the_sensor_waits_for_its_return(door: str) -> None:
    relay, hanging, sound = Relay(SystemClock()), Instrument(), Instrument()
    workers = [_trusted(relay, instrument) for instrument in (hanging, sound)]
    threads: list[int] = []

    def loop() -> list[bool]:
        threads.append(threading.get_ident())
        if len(threads) == 1:
            hanging.hangs = True
            assert workers[0].is_trusted
            getattr(workers[0], door)()
            raise AssertionError("a thread that was left behind does nothing more")
        said = [workers[0].ask(), workers[0].is_trusted, workers[0].wait(0.0), workers[1].do_at_once()]
        hanging.hangs = False
        hanging.release.set()
        return [*said, workers[0].wait(LONG_S), not workers[0].is_left_behind]

    assert relay.run(loop) == [False, False, False, True, True, True]
    assert len(threads) == 2
    assert sound.readers[-1] == threads[1]
    relay.run(lambda: _ask(workers[0]))
    assert hanging.readers[-1] not in threads  # trusted no longer
    for worker in workers:
        worker.close()


def _slow_once(clock: _Steps, instrument: Instrument) -> Callable[[], None]:
    def read() -> None:
        instrument.read()
        clock.now_ns += clock.next_ns

    return read


class _Steps:
    """A clock that readings move."""

    def __init__(self) -> None:
        self.now_ns = self.next_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def utc_ns(self) -> int:
        return self.now_ns


def test_a_sensor_that_was_slow_has_to_be_quick_for_longer_each_time() -> None:
    clock, instrument = _Steps(), Instrument()
    relay = Relay(clock)
    worker = relay.worker("read-fake", _slow_once(clock, instrument))

    def readings_apart() -> int:
        here, before = threading.get_ident(), len(instrument.readers)
        while instrument.readers[-1:] != [here] or len(instrument.readers) == before:
            _ask(worker)
        return len(instrument.readers) - 1 - before

    def loop() -> list[int]:
        found = []
        for _ in range(2):
            found.append(readings_apart())
            clock.next_ns = 50_000_000
            _ask(worker)
            clock.next_ns = 0
        _ask(worker, 3)
        clock.next_ns = 50_000_000  # slow where it was not trusted: the count begins again, no longer than before
        _ask(worker)
        clock.next_ns = 0
        return [*found, readings_apart()]

    assert relay.run(loop) == [20, 320, 5120]
    worker.close()


def test_a_worker_is_trusted_once_quick_in_the_loop_alone_and_not_after_it_was_slow() -> None:
    clock, instrument = _Steps(), Instrument()
    relay = Relay(clock)
    worker = relay.worker("read-fake", _slow_once(clock, instrument))

    def loop() -> list[bool]:
        found = [worker.is_trusted]
        _ask(worker, relay_module._QUICK_READINGS)
        found.append(worker.is_trusted)
        instrument.error = OSError("gone")
        found.append(worker.do_at_once())
        instrument.error = None
        found += [worker.do_at_once(), worker.is_trusted]
        clock.next_ns = 50_000_000
        return [*found, worker.do_at_once(), worker.is_trusted]

    assert relay.run(loop) == [False, True, False, True, True, True, False]
    assert not worker.is_trusted
    worker.close()
