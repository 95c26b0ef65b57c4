"""Metrics for Prometheus from the command line: once, until a signal, and where it cannot listen."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from run_dirs import quick_run
from stillwatt.cli.screen import say

pytest.importorskip("prometheus_client", reason="the extra 'integrations' is not installed")

Stillwatt = Callable[..., Result]


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    quick_run(tmp_path)
    return tmp_path


@pytest.fixture
def scraped(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the endpoint answered; this process asks itself to end as soon as it has."""
    answers: list[str] = []

    def scrape_and_end(line: str) -> None:
        say(line)
        url = line.removeprefix("serving ").partition(";")[0]

        def ask() -> None:
            with urllib.request.urlopen(url, timeout=10) as answer:
                answers.append(answer.read().decode())
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Timer(0.3, ask).start()

    monkeypatch.setattr("stillwatt.cli.serve_metrics.say", scrape_and_end)
    return answers


def test_it_serves_until_a_signal_and_leaves_the_handlers_as_they_were(
    stillwatt: Stillwatt, runs_dir: Path, scraped: list[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    result = stillwatt("serve-metrics", "latest", "--runs", str(runs_dir), "--port", "0")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("serving http://127.0.0.1:")
    assert 'stage="teacher_logits"' in scraped[0]
    assert signal.getsignal(signal.SIGTERM) is before


def test_once_prints_what_a_scrape_would_get(stillwatt: Stillwatt, runs_dir: Path) -> None:
    text = stillwatt("serve-metrics", "latest", "--runs", str(runs_dir), "--once").stdout
    assert text.startswith("# HELP stillwatt_energy_joules_total ")
    told = stillwatt("serve-metrics", "latest", "--runs", str(runs_dir), "--once", "--json").stdout
    assert json.loads(told) == {"metrics": text}


def test_a_port_that_is_taken_is_a_failure_that_says_what_to_do(stillwatt: Stillwatt, runs_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = stillwatt("serve-metrics", "--runs", str(runs_dir), "--port", port)
    assert result.exit_code == 1
    assert f"cannot listen on 127.0.0.1 port {port}: another program listens there; choose another with --port" in (
        result.stderr
    )


def test_an_unknown_run_is_misuse(stillwatt: Stillwatt, runs_dir: Path) -> None:
    assert stillwatt("serve-metrics", "nothing", "--runs", str(runs_dir), "--once").exit_code == 2
