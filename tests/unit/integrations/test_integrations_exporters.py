"""Live numbers from outside: a run that is recorded at this moment by another process, scraped and observed."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import stillwatt
from fakes import FakeClock
from integration_runs import message_without, synthetic_run, value_j
from run_dirs import GPU, SyntheticRun, constant_counter, cpu_counter, gpu_counter
from stillwatt.errors import MissingInputError, PortError, RunNotFoundError, UsageError
from stillwatt.integrations import live_view
from stillwatt.integrations.live_view import Look, RunFolder, view_run
from stillwatt.units import J_PER_MJ_MILLI, J_PER_UJ
from stillwatt.workflows.books import show_run
from stillwatt.workflows.serve_metrics import metrics_text, serve_metrics

parser = pytest.importorskip("prometheus_client.parser", reason="the extra 'integrations' is not installed")

from stillwatt.integrations.prometheus import RunCollector, exposition, serve  # noqa: E402

NASTY = 'two "quoted"\nlines\\'
"""A stage's name with all that Prometheus' text must escape."""

PROGRAM = """
import sys, time
import stillwatt
with stillwatt.Run({name!r}, runs_dir={runs!r}, sensors=("synthetic",), period_ms=50) as run:
    with run.stage("outer", kind="teacher_generate"):
        with run.stage({inner!r}) as inner:
            inner.add_tokens(7)
            time.sleep(0.7)
        print(run.run_id, flush=True)
        sys.stdin.readline()
"""


@contextmanager
def live_program(runs_dir: Path, name: str = "live", inner: str = "inner") -> Iterator[str]:
    """Another process that measures until the block ends; gives the id of its run."""
    script = PROGRAM.format(name=name, runs=str(runs_dir), inner=inner)
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        try:
            yield program.stdout.readline().strip()
        finally:
            program.communicate("\n", timeout=30)
    assert program.returncode == 0


def scrape(url: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """All samples of an endpoint by name, with their labels."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return parsed(answer.read().decode())


def parsed(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return found


def energy_j(found: dict[str, list[tuple[dict[str, str], float]]], **labels: str) -> float:
    """Sum of the energy counters that carry these labels."""
    return sum(value for own, value in found["stillwatt_energy_joules_total"] if labels.items() <= own.items())


def powers(found: dict[str, list[tuple[dict[str, str], float]]]) -> dict[tuple[str, str], float]:
    """Powers by part and basis."""
    return {(labels["part"], labels["basis"]): value for labels, value in found.get("stillwatt_power_watts", [])}


def files_of(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def test_a_run_is_scraped_while_it_is_recorded(runs_dir: Path) -> None:
    with live_program(runs_dir, inner=NASTY) as run_id:
        endpoint = serve_metrics(runs_dir, None, port=0, host="127.0.0.1")
        try:
            first = scrape(endpoint.url)
            deadline = time.monotonic() + 20
            later = scrape(endpoint.url)
            while energy_j(later, stage="outer") <= energy_j(first, stage="outer") or not powers(later):
                assert time.monotonic() < deadline, "the energy of a running stage never grew"
                time.sleep(0.3)
                later = scrape(endpoint.url)
        finally:
            endpoint.close()
    assert {labels["run"] for labels, _ in later["stillwatt_energy_joules_total"]} == {run_id}
    assert [(labels["name"], labels["live"]) for labels, _ in later["stillwatt_run_info"]] == [("live", "true")]
    assert energy_j(later, stage=NASTY) > 0
    assert powers(later).keys() == {("cpu0", "assumed"), ("gpu0", "assumed")}
    assert min(powers(later).values()) > 0
    status = {labels["stage"]: (labels["status"], labels["parent"]) for labels, _ in later["stillwatt_stage_info"]}
    assert status == {"outer": ("running", ""), NASTY: ("ended", "outer")}
    ((tokens, count),) = later["stillwatt_workload_total"]
    assert (tokens["stage"], tokens["count"], count) == (NASTY, "tokens", 7)
    for labels, value in later["stillwatt_energy_joules_total"]:
        (low,) = [each for own, each in later["stillwatt_energy_low_joules"] if own == labels]
        (high,) = [each for own, each in later["stillwatt_energy_high_joules"] if own == labels]
        assert low <= value <= high or value == 0


def test_counters_sum_to_the_ledgers_total_and_nothing_is_written(runs_dir: Path) -> None:
    with synthetic_run(runs_dir) as run, run.stage("outer"):
        time.sleep(0.2)
        for _ in range(2):
            with run.stage("inner"):
                time.sleep(0.2)
    before = files_of(runs_dir)
    found = parsed(metrics_text(runs_dir, "latest"))
    assert files_of(runs_dir) == before
    record = show_run(runs_dir, run.run_id)
    assert energy_j(found) == pytest.approx(value_j(record.total), rel=1e-9)
    inner_j = sum(value_j(stage.gross) for stage in record.stages if stage.name == "inner")
    assert energy_j(found, stage="inner") == pytest.approx(inner_j, rel=1e-9)
    assert energy_j(found, stage="outer") == pytest.approx(value_j(record.stages[0].gross) - inner_j, rel=1e-9)
    assert energy_j(found, stage="unallocated") == pytest.approx(value_j(record.unallocated), rel=1e-9)
    assert "stillwatt_power_watts" not in found
    assert found["stillwatt_failed_reads_total"] == [({"run": run.run_id}, 0.0)]


def test_what_cannot_be_read_is_a_reason_and_no_number(runs_dir: Path) -> None:
    options = {"nvml": {"library": "/nonexistent/libnvidia-ml.so.1"}}
    with stillwatt.Run("absent", runs_dir=runs_dir, sensors=("nvml", "host_model"), options=options) as run:
        with run.stage("work"):
            time.sleep(0.3)
    found = parsed(metrics_text(runs_dir, run.run_id))
    absent = {
        (labels["stage"], labels["part"]): labels["reason"] for labels, _ in found["stillwatt_energy_absent_info"]
    }
    parts = {labels["part"] for labels, _ in found["stillwatt_energy_joules_total"]}
    assert absent.keys() == {("work", "gpu0"), ("unallocated", "gpu0")}
    assert all("libnvidia-ml" in reason for reason in absent.values())
    assert "gpu0" not in parts
    assert parts


def nodes_run(runs_dir: Path, hosts: list[str], *, world_size: int) -> SyntheticRun:
    """A launch of a rank on each of some nodes, all of whose cards are called gpu0; nobody has ended."""
    run = SyntheticRun(runs_dir)
    for rank, host in enumerate(hosts):
        session = run.session(host=host, boot=f"boot-{rank}", rank=rank, world_size=world_size)
        session.prefix = f"r{rank}a"
        session.sampler([gpu_counter()], parts={"gpu0": GPU})
        session.begin("train", 101.0, kind="student_train")
        watts = 100.0 * (rank + 1)
        session.samples("gpu0.energy_counter", constant_counter(watts, J_PER_MJ_MILLI), until_s=111.0)
    return run


def test_nodes_of_a_launch_are_one_energy_and_a_power_each(runs_dir: Path) -> None:
    run = nodes_run(runs_dir, ["alpha", "beta", "alpha"], world_size=4)
    found = parsed(exposition(RunFolder(runs_dir, [run.run_id])))
    by_host = {labels["host"]: watts for labels, watts in found["stillwatt_power_watts"]}
    assert by_host == pytest.approx({"alpha": 100.0, "beta": 200.0, "alpha (boot-2)": 300.0}, rel=1e-3)
    assert len(found["stillwatt_last_reading_timestamp_seconds"]) == 3
    # of 10 s each, the last is not settled while they are live
    assert energy_j(found, stage="train") == pytest.approx(5400.0, rel=1e-3)
    assert found["stillwatt_missing_ranks"] == [({"run": run.run_id}, 1.0)]
    assert len(found["stillwatt_stage_info"]) == 3
    for name, samples in found.items():
        labels = [tuple(sorted(own.items())) for own, _ in samples]
        assert len(set(labels)) == len(labels), f"{name} has two values of one name"


def test_one_text_is_no_list_of_runs(runs_dir: Path) -> None:
    with pytest.raises(UsageError, match=r"one text, 'latest'; give a list of run ids, such as \['latest'\]"):
        RunFolder(runs_dir, "latest")


def test_what_is_not_read_yet_is_not_guessed(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    session = run.session(host="alpha", boot="boot-0")
    session.sampler([gpu_counter()], parts={"gpu0": GPU})
    first = session.begin("first", 101.0)
    session.samples("gpu0.energy_counter", constant_counter(100.0, J_PER_MJ_MILLI), until_s=111.0)
    session.finish(first, 114.0)
    session.begin("second", 114.0)
    found = parsed(exposition(RunFolder(runs_dir, [run.run_id])))
    assert energy_j(found, stage="first") == pytest.approx(900.0, rel=1e-3)
    assert "second" not in {labels["stage"] for labels, _ in found["stillwatt_energy_joules_total"]}
    assert {labels["stage"] for labels, _ in found["stillwatt_stage_info"]} == {"first", "second"}


def test_gaps_and_failed_reads_are_counted(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    session = run.session()
    session.sampler([gpu_counter()])
    session.samples("gpu0.energy_counter", constant_counter(100.0, J_PER_MJ_MILLI), until_s=104.0)
    session.samples("gpu0.energy_counter", constant_counter(100.0, J_PER_MJ_MILLI), from_s=107.0, until_s=110.0)
    session.gap("gpu0.energy_counter", 104.0, 107.0, failed_reads=3)
    session.meter("meter", 110.0, samples=72, failed_reads=3, skipped_ticks=0, cpu_s=0.1)
    found = parsed(exposition(RunFolder(runs_dir, [run.run_id])))
    assert found["stillwatt_gaps_total"] == [({"run": run.run_id, "stream": "gpu0.energy_counter"}, 1.0)]
    assert found["stillwatt_failed_reads_total"] == [({"run": run.run_id}, 3.0)]
    ((_, coverage),) = found["stillwatt_energy_coverage_ratio"]
    assert coverage < 1


def test_a_part_that_fell_silent_has_no_power(runs_dir: Path) -> None:
    run = SyntheticRun(runs_dir)
    session = run.session()
    session.sampler([gpu_counter(), cpu_counter()])
    session.samples("gpu0.energy_counter", constant_counter(100.0, J_PER_MJ_MILLI), until_s=105.0)
    session.samples("cpu0.energy_counter", constant_counter(20.0, J_PER_UJ), until_s=130.0)
    found = parsed(exposition(RunFolder(runs_dir, [run.run_id])))
    assert [labels["part"] for labels, _ in found["stillwatt_power_watts"]] == ["cpu0"]
    assert {labels["part"] for labels, _ in found["stillwatt_energy_joules_total"]} == {"cpu0", "gpu0"}


def test_opentelemetry_tells_nodes_apart(runs_dir: Path) -> None:
    metrics = pytest.importorskip("opentelemetry.sdk.metrics", reason="the extra 'integrations' is not installed")
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from stillwatt.integrations.opentelemetry import observe

    run = nodes_run(runs_dir, ["alpha", "beta"], world_size=2)
    reader = InMemoryMetricReader()
    provider = metrics.MeterProvider(metric_readers=[reader])
    observe(RunFolder(runs_dir, [run.run_id]), provider)
    points = observed(reader)["hw.power"]["data"]["data_points"]
    by_host = {point["attributes"]["host.name"]: point["value"] for point in points}
    assert by_host == pytest.approx({"alpha": 100.0, "beta": 200.0}, rel=1e-3)
    provider.shutdown()


class Told:
    """A folder that shows the looks it is told, in turn."""

    def __init__(self, *looks: Look) -> None:
        self._looks = list(looks)

    def look(self) -> Look:
        return self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]


def scaled(look: Look, factor: float) -> Look:
    """The same look with other energies."""
    run = look.runs[0]
    energies = tuple(
        replace(found, energy=replace(found.energy, value_j=found.energy.value_j * factor)) for found in run.energies
    )
    return Look(runs=(replace(run, energies=energies),), unreadable=())


def test_a_counter_never_goes_down(runs_dir: Path) -> None:
    with synthetic_run(runs_dir) as run, run.stage("work"):
        time.sleep(0.3)
    look = RunFolder(runs_dir, [run.run_id]).look()
    folder: Any = Told(*(scaled(look, factor) for factor in (1.0, 0.5, 0.9, 1.5)))
    collector = RunCollector(folder)
    seen = []
    for _ in range(4):
        (family,) = [each for each in collector.collect() if each.name == "stillwatt_energy_joules"]
        seen.append(sum(sample.value for sample in family.samples))
    assert seen[0] == seen[1] == seen[2] < seen[3]


def test_a_folder_shows_live_runs_and_keeps_them_to_their_end(runs_dir: Path) -> None:
    with synthetic_run(runs_dir, "over before"):
        pass
    folder = RunFolder(runs_dir, min_interval_s=0.0)
    assert folder.look().runs == ()
    with synthetic_run(runs_dir, "live") as run, run.stage("work"):
        time.sleep(0.3)
        (now,) = folder.look().runs
        assert (now.run_id, now.is_live) == (run.run_id, True)
    (after,) = folder.look().runs
    assert not after.is_live
    assert after.powers == ()
    assert folder.look().runs == (after,)
    shutil.rmtree(runs_dir / run.run_id)
    assert folder.look().runs == ()


def test_looks_are_shared_and_quiet_folders_are_not_read(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with synthetic_run(runs_dir) as run:
        pass
    looked: list[Path] = []

    def counting(run_dir: Path) -> live_view.RunView:
        looked.append(run_dir)
        return view_run(run_dir)

    monkeypatch.setattr(live_view, "view_run", counting)
    clock = FakeClock(utc_offset_ns=time.time_ns())
    folder = RunFolder(runs_dir, min_interval_s=5.0, clock=clock)
    folder.look()
    folder.look()
    assert looked == [runs_dir / run.run_id]
    quiet = RunFolder(runs_dir, clock=FakeClock(utc_offset_ns=time.time_ns() + 10**13))
    assert quiet.look().runs == ()
    assert len(looked) == 1


def test_a_run_that_cannot_be_read_is_shown_as_that(runs_dir: Path) -> None:
    with synthetic_run(runs_dir) as run:
        pass
    (runs_dir / run.run_id / "manifest.json").write_text("{")
    text = exposition(RunFolder(runs_dir))
    ((labels, _),) = parsed(text)["stillwatt_unreadable_run_info"]
    assert labels["run"] == run.run_id
    assert "cannot be read" in labels["reason"]


def test_a_port_that_is_taken_says_what_to_do(runs_dir: Path) -> None:
    runs_dir.mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PortError, match="another program listens there; choose another with --port"):
            serve(RunFolder(runs_dir), port=taken.getsockname()[1])
    with pytest.raises(PortError, match="--host takes an address of this machine"):
        serve(RunFolder(runs_dir), port=0, host="192.0.2.1")
    with pytest.raises(PortError, match="--port 0 to 65535"):
        serve(RunFolder(runs_dir), port=70_000)


def test_the_endpoint_is_on_loopback_unless_told_otherwise(runs_dir: Path) -> None:
    runs_dir.mkdir()
    endpoint = serve(RunFolder(runs_dir), port=0)
    try:
        assert endpoint.server.server_address[0] == "127.0.0.1"
        assert "stillwatt_run_info" not in scrape(endpoint.url)
    finally:
        endpoint.close()


def test_unknown_runs_and_folders_are_refused(runs_dir: Path) -> None:
    with pytest.raises(MissingInputError, match="--runs"):
        metrics_text(runs_dir)
    runs_dir.mkdir()
    with pytest.raises(RunNotFoundError):
        metrics_text(runs_dir, "nothing")


def test_the_command_serves_until_it_is_asked_to_end(runs_dir: Path) -> None:
    command = [sys.executable, "-m", "stillwatt", "serve-metrics", "--runs", str(runs_dir), "--port", "0", "--json"]
    with (
        live_program(runs_dir, "served") as run_id,
        subprocess.Popen([*command, run_id], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server,
    ):
        try:
            assert server.stdout is not None
            url = json.loads("".join(server.stdout.readline() for _ in range(5)))["url"]
            deadline = time.monotonic() + 30.0
            while energy_j(scrape(url), run=run_id) == 0:  # what is told ends a second before the latest reading
                assert time.monotonic() < deadline
                time.sleep(0.1)
            server.send_signal(signal.SIGTERM)
            _, errors = server.communicate(timeout=30)
        finally:
            server.kill()  # leaving the block waits for its end
    assert (server.returncode, errors) == (0, "")


def observed(reader: Any) -> dict[str, Any]:
    """All metrics that a reader gives now, by name."""
    data = json.loads(reader.get_metrics_data().to_json())
    return {metric["name"]: metric for metric in data["resource_metrics"][0]["scope_metrics"][0]["metrics"]}


def told_stages(found: dict[str, Any]) -> set[str]:
    """Stages that an observed `hw.energy` names."""
    points = found.get("hw.energy", {"data": {"data_points": []}})["data"]["data_points"]
    return {point["attributes"]["stillwatt.stage"] for point in points}


def test_opentelemetry_observes_the_same_joules(runs_dir: Path) -> None:
    metrics = pytest.importorskip("opentelemetry.sdk.metrics", reason="the extra 'integrations' is not installed")
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from stillwatt.integrations.opentelemetry import observe

    reader = InMemoryMetricReader()
    provider = metrics.MeterProvider(metric_readers=[reader])
    folder = RunFolder(runs_dir, min_interval_s=0.0)
    with live_program(runs_dir, "observed") as run_id:
        observe(folder, provider)
        deadline = time.monotonic() + 20
        while "hw.power" not in (found := observed(reader)) or told_stages(found) < {"outer", "inner", "unallocated"}:
            assert time.monotonic() < deadline, "no power was ever observed"
            time.sleep(0.3)
    energy, power = found["hw.energy"], found["hw.power"]
    assert (energy["unit"], power["unit"]) == ("J", "W")
    assert energy["data"]["is_monotonic"]
    points = energy["data"]["data_points"]
    assert told_stages(found) == {"outer", "inner", "unallocated"}
    described = {
        (p["attributes"]["hw.id"], p["attributes"]["hw.type"], p["attributes"]["stillwatt.run"]) for p in points
    }
    assert described == {("gpu0", "gpu", run_id), ("cpu0", "cpu", run_id)}
    assert all(point["attributes"]["hw.name"] for point in points)
    assert all(point["value"] > 0 for point in power["data"]["data_points"])
    total = observed(reader)["hw.energy"]["data"]["data_points"]
    record = show_run(runs_dir, run_id)
    assert sum(point["value"] for point in total) == pytest.approx(value_j(record.total), rel=0.02)
    provider.shutdown()


def test_opentelemetry_keeps_hosts_and_walls_apart(runs_dir: Path) -> None:
    metrics = pytest.importorskip("opentelemetry.sdk.metrics", reason="the extra 'integrations' is not installed")
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from stillwatt.integrations.opentelemetry import observe
    from stillwatt.records import Boundary

    with synthetic_run(runs_dir) as run, run.stage("work"):
        time.sleep(0.3)
    look = RunFolder(runs_dir, [run.run_id]).look()
    board = look.runs[0].energies[0]
    around = [
        replace(board, energy=replace(board.energy, part=part, boundary=boundary))
        for part, boundary in (("node0", Boundary.NODE), ("plug0", Boundary.WALL), ("npu0", Boundary.CHIP))
    ]
    folder: Any = Told(Look(runs=(replace(look.runs[0], energies=(board, *around)),), unreadable=()))
    reader = InMemoryMetricReader()
    provider = metrics.MeterProvider(metric_readers=[reader])
    observe(folder, provider)
    found = {
        name: [(p["attributes"]["hw.id"], p["attributes"].get("hw.type")) for p in metric["data"]["data_points"]]
        for name, metric in observed(reader).items()
    }
    assert found == {
        "hw.energy": [("gpu0", "gpu"), ("npu0", "npu")],
        "hw.host.energy": [("node0", None)],
        "stillwatt.energy": [("plug0", None)],
    }
    provider.shutdown()


@pytest.mark.parametrize(
    ("blocked", "statement", "package"),
    [
        (
            "prometheus_client",
            "from stillwatt.integrations.prometheus import registry; registry(None)",
            "prometheus-client",
        ),
        (
            "opentelemetry",
            "from stillwatt.integrations.opentelemetry import observe; observe(None)",
            "opentelemetry-sdk",
        ),
        ("mlflow", "from stillwatt.integrations.mlflow import log_run; log_run(None)", "mlflow-skinny"),
        ("wandb", "from stillwatt.integrations.wandb import log_run; log_run(None, None)", "wandb"),
    ],
)
def test_without_a_library_one_sentence_says_what_to_install(blocked: str, statement: str, package: str) -> None:
    said = message_without([blocked], statement)
    assert said == f"MissingExtraError: {package} is not installed; run: pip install 'stillwatt[integrations]'"
