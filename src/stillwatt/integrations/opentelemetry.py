"""OpenTelemetry's hardware metrics over runs that are recorded at this moment; for a process of its own.

Names and attributes follow OpenTelemetry's semantic conventions for hardware: `hw.energy` (J) and `hw.power` (W) with
`hw.id`, `hw.name` and `hw.type` for components, `hw.host.energy` and `hw.host.power` for a whole node, which the
conventions keep apart so that nothing is added twice. What they have no name for (rails, wall meters, facilities) is
`stillwatt.energy` and `stillwatt.power`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from stillwatt.errors import MissingExtraError
from stillwatt.integrations.live_view import RunFolder, RunView
from stillwatt.records.channel import Boundary

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

_TYPES = {"gpu": "gpu", "cpu": "cpu", "dram": "memory"}
"""Well-known values of `hw.type`, by what our parts are called; a part of another name is a type of its own."""
_COMPONENTS = frozenset({Boundary.CHIP, Boundary.BOARD})

Found = tuple[Boundary, dict[str, str], float]


def observe(folder: RunFolder, provider: MeterProvider | None = None) -> None:
    """Let a meter provider observe a folder's runs at each of its collections.

    Energies carry `stillwatt.run`, `stillwatt.stage` and `stillwatt.basis` besides the conventions' attributes: sums
    over stages are the run's. They never go down.

    Example:
        reader = PeriodicExportingMetricReader(OTLPMetricExporter())
        observe(RunFolder(Path("runs")), MeterProvider(metric_readers=[reader]))

    Args:
        folder: The runs to observe.
        provider: Where to; the program's own where None.

    Raises:
        MissingExtraError: OpenTelemetry is not installed.
    """
    metrics = _library()
    meter = metrics.get_meter("stillwatt", meter_provider=provider)
    highest: dict[tuple[str, ...], float] = {}
    names = (
        ("hw", _COMPONENTS, "of a component"),
        ("hw.host", frozenset({Boundary.NODE}), "of a whole host"),
        ("stillwatt", frozenset(Boundary) - _COMPONENTS - {Boundary.NODE}, "at another boundary"),
    )
    for prefix, boundaries, what in names:
        meter.create_observable_counter(
            f"{prefix}.energy",
            [_callback(folder, _energies, boundaries, metrics, highest)],
            unit="J",
            description=f"Energy {what}",
        )
        meter.create_observable_gauge(
            f"{prefix}.power",
            [_callback(folder, _powers, boundaries, metrics, None)],
            unit="W",
            description=f"Power {what}, mean over the last seconds",
        )


def _callback(
    folder: RunFolder,
    find: Callable[[RunView], Iterator[Found]],
    boundaries: frozenset[Boundary],
    metrics: Any,
    highest: dict[tuple[str, ...], float] | None,
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observations(_options: CallbackOptions) -> Iterable[Observation]:
        for run in folder.look().runs:
            for boundary, attributes, value in find(run):
                if boundary not in boundaries:
                    continue
                if highest is not None:
                    key = tuple(attributes.values())
                    value = highest[key] = max(value, highest.get(key, 0.0))
                yield metrics.Observation(value, attributes)

    return observations


def _energies(run: RunView) -> Iterator[Found]:
    for found in run.energies:
        energy = found.energy
        more = {"stillwatt.stage": found.stage, "stillwatt.stage.kind": found.kind}
        yield (
            energy.boundary,
            {**_attributes(run, energy.part, energy.device, energy.boundary, energy.basis.value), **more},
            energy.value_j,
        )


def _powers(run: RunView) -> Iterator[Found]:
    for now in run.powers:
        attributes = _attributes(run, now.part, now.device, now.boundary, now.basis.value)
        yield now.boundary, {**attributes, "host.name": now.host}, now.power_w


def _attributes(run: RunView, part: str, device: str, boundary: Boundary, basis: str) -> dict[str, str]:
    stem = part.rstrip("0123456789")
    kind = {"hw.type": _TYPES.get(stem, stem or part)} if boundary in _COMPONENTS else {}
    return {
        "hw.id": part,
        "hw.name": device,
        **kind,
        "stillwatt.run": run.run_id,
        "stillwatt.boundary": boundary.value,
        "stillwatt.basis": basis,
    }


def _library() -> Any:
    try:
        from opentelemetry import metrics
    except ImportError as err:
        raise MissingExtraError("opentelemetry-sdk", "integrations") from err
    return metrics
