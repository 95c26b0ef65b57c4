"""A Prometheus endpoint over runs that are recorded at this moment; it runs outside the measured program."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stillwatt.errors import MissingExtraError, PortError
from stillwatt.integrations.live_view import EnergySoFar, Look, RunFolder, RunView

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

LOOPBACK = "127.0.0.1"

_ENERGY_LABELS = ("run", "stage", "kind", "part", "boundary", "basis")
_ENERGY_HELP = (
    "Energy of a part while a stage ran and none of its sub-stages did; sums over stages are the run's. "
    "Sum only boundaries that do not contain one another (chip and board)."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A running endpoint."""

    host: str
    port: int
    server: Any

    @property
    def url(self) -> str:
        """Where the metrics are."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/metrics"

    def close(self) -> None:
        """Stop answering."""
        self.server.shutdown()
        self.server.server_close()


def serve(folder: RunFolder, *, port: int, host: str = LOOPBACK) -> Endpoint:
    """Answer scrapes, in threads of their own, until the endpoint is closed.

    Args:
        folder: The runs to show.
        port: Where to listen; 0 for any free port.
        host: Which of this machine's addresses to listen on; others than loopback let other machines read.

    Raises:
        MissingExtraError: prometheus-client is not installed.
        PortError: the port is taken or not allowed, or the address is not this machine's.
    """
    prometheus_client = _library()
    try:
        server, _ = prometheus_client.start_http_server(port, addr=host, registry=registry(folder))
    except (OSError, OverflowError) as err:
        raise PortError(host, port, _cause(err)) from err
    return Endpoint(host=host, port=int(server.server_address[1]), server=server)


def exposition(folder: RunFolder) -> str:
    """The metrics once, as text: for node_exporter's textfile collector, or to look at.

    Raises:
        MissingExtraError: prometheus-client is not installed.
    """
    text: bytes = _library().generate_latest(registry(folder))
    return text.decode("utf-8")


def registry(folder: RunFolder) -> CollectorRegistry:
    """A registry with nothing in it but the runs.

    Raises:
        MissingExtraError: prometheus-client is not installed.
    """
    made: CollectorRegistry = _library().CollectorRegistry(auto_describe=False)
    made.register(RunCollector(folder))
    return made


class RunCollector:
    """Asks a folder for its runs at each scrape.

    Counters never go down: an energy that later readings correct downwards stands still until it has caught up. The
    ends of its interval are gauges and move freely.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._highest: dict[tuple[str, ...], float] = {}

    def collect(self) -> Iterator[Metric]:
        """All metrics of one scrape."""
        look = self._folder.look()
        yield from self._energies(look)
        yield from self._counts(look)
        yield from _powers(look)
        yield from _infos(look)

    def _rise(self, value: float, *key: str) -> float:
        self._highest[key] = max(value, self._highest.get(key, 0.0))
        return self._highest[key]

    def _energies(self, look: Look) -> Iterator[Metric]:
        core = _metrics()
        energy = core.CounterMetricFamily("stillwatt_energy_joules", _ENERGY_HELP, labels=_ENERGY_LABELS)
        ends = "end of the 95 % interval of stillwatt_energy_joules_total; moves both ways"
        low = core.GaugeMetricFamily("stillwatt_energy_low_joules", f"Lower {ends}", labels=_ENERGY_LABELS)
        high = core.GaugeMetricFamily("stillwatt_energy_high_joules", f"Upper {ends}", labels=_ENERGY_LABELS)
        coverage = core.GaugeMetricFamily(
            "stillwatt_energy_coverage_ratio",
            "Share of the seconds that lie between good readings",
            labels=_ENERGY_LABELS,
        )
        missing = core.GaugeMetricFamily(
            "stillwatt_energy_missing_seconds", "Seconds that no joules stand for", labels=_ENERGY_LABELS
        )
        for run in look.runs:
            for found in run.energies:
                labels = _energy_labels(run, found)
                energy.add_metric(labels, self._rise(found.energy.value_j, "energy", *labels))
                low.add_metric(labels, found.energy.low_j)
                high.add_metric(labels, found.energy.high_j)
                coverage.add_metric(labels, found.energy.coverage)
                missing.add_metric(labels, found.energy.missing_s)
        yield from (energy, low, high, coverage, missing)

    def _counts(self, look: Look) -> Iterator[Metric]:
        core = _metrics()
        workload = core.CounterMetricFamily(
            "stillwatt_workload", "What stages did: tokens, steps, requests", labels=("run", "stage", "kind", "count")
        )
        samples = core.CounterMetricFamily("stillwatt_samples", "Good readings", labels=("run",))
        failed = core.CounterMetricFamily("stillwatt_failed_reads", "Readings that failed", labels=("run",))
        ranks = core.GaugeMetricFamily(
            "stillwatt_missing_ranks", "Ranks of the launch of which nothing is here", labels=("run",)
        )
        gaps = core.CounterMetricFamily("stillwatt_gaps", "Spans without readings", labels=("run", "stream"))
        for run in look.runs:
            for stage, kind, name, count in run.workload:
                workload.add_metric((run.run_id, stage, kind, name), self._rise(count, run.run_id, stage, kind, name))
            samples.add_metric((run.run_id,), self._rise(run.samples, run.run_id, "samples"))
            failed.add_metric((run.run_id,), self._rise(run.failed_reads, run.run_id, "failed"))
            ranks.add_metric((run.run_id,), run.missing_ranks)
            for stream, count in run.gaps:
                gaps.add_metric((run.run_id, stream), self._rise(count, run.run_id, stream, "gaps"))
        yield from (workload, samples, failed, gaps, ranks)


def _energy_labels(run: RunView, found: EnergySoFar) -> tuple[str, ...]:
    energy = found.energy
    return (run.run_id, found.stage, found.kind, energy.part, energy.boundary.value, energy.basis.value)


def _powers(look: Look) -> Iterator[Metric]:
    core = _metrics()
    labels = ("run", "host", "part", "boundary", "basis")
    power = core.GaugeMetricFamily(
        "stillwatt_power_watts", "Mean power over the last seconds; absent where nothing is read", labels=labels
    )
    read = core.GaugeMetricFamily(
        "stillwatt_last_reading_timestamp_seconds", "When the part was last read", labels=("run", "host", "part")
    )
    for run in look.runs:
        for now in run.powers:
            power.add_metric((run.run_id, now.host, now.part, now.boundary.value, now.basis.value), now.power_w)
            read.add_metric((run.run_id, now.host, now.part), now.read_utc_s)
    yield from (power, read)


def _infos(look: Look) -> Iterator[Metric]:
    core = _metrics()
    runs = core.GaugeMetricFamily("stillwatt_run_info", "A run; 1", labels=("run", "name", "live"))
    stage_labels = ("run", "stage", "kind", "stage_id", "parent", "attempt", "status")
    stages = core.GaugeMetricFamily("stillwatt_stage_info", "The latest attempt of a stage; 1", labels=stage_labels)
    absent_labels = ("run", "stage", "part", "boundary", "reason")
    absent = core.GaugeMetricFamily(
        "stillwatt_energy_absent_info", "A part without energy in a stage, and why; 1", labels=absent_labels
    )
    unreadable = core.GaugeMetricFamily(
        "stillwatt_unreadable_run_info", "A run that cannot be read, and why; 1", labels=("run", "reason")
    )
    for run in look.runs:
        runs.add_metric((run.run_id, run.name, str(run.is_live).lower()), 1)
        for now in run.stages:
            told = (now.stage, now.kind, now.stage_id, now.parent, str(now.attempt), now.status.value)
            stages.add_metric((run.run_id, *told), 1)
        for gone in run.absent:
            absent.add_metric((run.run_id, gone.stage, gone.part, gone.boundary.value, gone.reason), 1)
    for problem in look.unreadable:
        unreadable.add_metric((problem.run_id, problem.reason), 1)
    yield from (runs, stages, absent, unreadable)


def _cause(err: OSError | OverflowError) -> str:
    code = getattr(err, "errno", None)
    if code == errno.EADDRINUSE:
        return "another program listens there; choose another with --port, or --port 0 for any that is free"
    if code == errno.EACCES:
        return "ports below 1024 are for the administrator; choose a higher one with --port"
    if code in (errno.EADDRNOTAVAIL, None) or "not known" in str(err):
        return f"{err}; --host takes an address of this machine, such as {LOOPBACK}, and --port 0 to 65535"
    return str(err)


def _library() -> Any:
    try:
        import prometheus_client
    except ImportError as err:
        raise MissingExtraError("prometheus-client", "integrations") from err
    return prometheus_client


def _metrics() -> Any:
    _library()
    from prometheus_client import metrics_core

    return metrics_core
