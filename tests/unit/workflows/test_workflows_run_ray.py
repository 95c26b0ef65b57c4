"""How a launch over a Ray cluster hears whoever wants it to end, with a Ray that answers what a test says."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from fakes import FakeClock

pytest.importorskip("ray", reason="the ray extra is not installed")

from stillwatt.workflows.launch import Watch
from stillwatt.workflows.ray_keeper import News
from stillwatt.workflows.run_ray import _Attendance, _wishes


class Method:
    """A keeper's method, as Ray has it."""

    def __init__(self, answer: Any) -> None:
        self.remote = answer


class FakeKeeper:
    """Has something new each time it is asked, and ends at once when it is told to."""

    def __init__(self, patience: int) -> None:
        self._left = patience
        self.told: list[int] = []
        self.news = Method(self._news)
        self.stop = Method(self.told.append)

    def _news(self) -> FakeKeeper:
        return self

    def answer(self) -> News:
        self._left -= 1
        if self.told:
            return News((), 130, ())
        return News((("stderr", b"at work\n"),), None if self._left > 0 else 0, ())


class FakeRay:
    """All that is asked of it is there at once."""

    def wait(self, asked: Sequence[FakeKeeper], num_returns: int, timeout: float) -> tuple[list[FakeKeeper], list[Any]]:
        assert num_returns == 1
        assert 0 < timeout < 1  # else an interruption would wait for a rank's next word
        return list(asked), []

    def get(self, asked: FakeKeeper) -> News:
        return asked.answer()


@contextmanager
def handled(number: int, handler: Any) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_amid_one_rank_s_news_is_told_to_all_and_no_rank_is_forgotten(number: int) -> None:
    keepers = [FakeKeeper(50), FakeKeeper(50)]
    shown: list[bytes] = []

    def show(_name: str, piece: bytes) -> None:
        shown.append(piece)
        if len(shown) == 3:
            os.kill(os.getpid(), number)

    watch = Watch(["one", "two"], FakeClock())
    attendance = _Attendance(FakeRay(), keepers, watch, show)
    with handled(signal.SIGINT, signal.default_int_handler), pytest.raises(KeyboardInterrupt):
        attendance.until_over()
    assert [keeper.told for keeper in keepers] == [[signal.SIGINT]] * 2
    assert len(shown) == 4  # what the second rank had said is not lost
    assert watch.is_over
    assert watch.status() == 130


def test_what_is_to_be_ignored_is_ignored() -> None:
    """As in a script that starts it with `&`, or under `nohup`."""
    keepers = [FakeKeeper(3), FakeKeeper(3)]
    watch = Watch(["one", "two"], FakeClock())
    with handled(signal.SIGINT, signal.SIG_IGN):
        attendance = _Attendance(FakeRay(), keepers, watch, lambda *_: os.kill(os.getpid(), signal.SIGINT))
        attendance.until_over()
    assert [keeper.told for keeper in keepers] == [[], []]
    assert watch.status() == 0


def test_handlers_are_as_before_once_it_is_over() -> None:
    with handled(signal.SIGINT, signal.default_int_handler):  # whoever starts the tests may have it ignored
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        with _wishes() as wishes:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
            deadline = time.monotonic() + 60.0
            while len(wishes) < 2 and time.monotonic() < deadline:  # another thread may have caught them first
                time.sleep(0.01)
            assert sorted(wishes) == [signal.SIGINT, signal.SIGTERM]
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
