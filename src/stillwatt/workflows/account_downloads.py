"""Which bytes the runs fetched, as their records or the user tell; what nobody tells is named, and is never 0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stillwatt.factors.catalog import Catalog, choose_for_device
from stillwatt.impact.downloads import CONCERNED
from stillwatt.impact.stages import DOWNLOADS
from stillwatt.records.impact import LifeStage
from stillwatt.records.lifecycle import Lack, Moved
from stillwatt.records.run import RunRecord
from stillwatt.records.window import StageKind
from stillwatt.units import BYTES_PER_GB

NETWORK = "internet"
_ANYTHING = "models and text"
"""What a run without a recipe may have fetched."""
_FETCHED = ("hf:", "llm-")
"""How sources of models begin that come over a network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloads:
    """Bytes that were fetched, and which are not known."""

    moved: tuple[Moved, ...]
    lacks: tuple[Lack, ...]


def downloads_of(runs: Sequence[RunRecord], catalog: Catalog, given: Sequence[tuple[str, float]] = ()) -> Downloads:
    """Downloads of some runs.

    Args:
        runs: the runs.
        catalog: where the network's factor is.
        given: names and gigabytes that the user states; one of a recorded name stands in for the record.
    """
    found = choose_for_device(catalog, "network_energy", NETWORK)
    stated = dict(given)
    moved: list[Moved] = [
        Moved(run="given", what=what, size_bytes=size * BYTES_PER_GB, told_by="user", found=found)
        for what, size in stated.items()
    ]
    lacks: dict[Lack, None] = {}
    for run in runs:
        sizes = {what: size for what, size in _recorded(run) if what not in stated}
        moved += [
            Moved(run=run.run_id, what=what, size_bytes=size, told_by="record", found=found)
            for what, size in sizes.items()
        ]
        for what, why in _unknown(run, {*sizes, *stated}):
            name = "NAME" if what == _ANYTHING else what
            reason = f"download of {what}: {why}, give --downloaded {name}=GB"
            lacks[Lack(stage=LifeStage.DATA, reason=reason, impacts=CONCERNED)] = None
    return Downloads(moved=tuple(moved), lacks=tuple(lacks))


def _recorded(run: RunRecord) -> Iterator[tuple[str, float]]:
    """What fetching stages and the reading of text wrote down."""
    for stage in run.stages:
        sizes = stage.results.get("fetched_bytes")
        if isinstance(sizes, Mapping):
            yield from ((str(what), float(size)) for what, size in sizes.items() if _is_size(size))


def _unknown(run: RunRecord, known: set[str]) -> Iterator[tuple[str, str]]:
    """Models of the recipe and the text that were fetched once, by this run or before it."""
    fetches = [stage for stage in run.stages if stage.name == DOWNLOADS]
    is_silent = any("fetched_bytes" not in stage.results for stage in fetches)
    why = "its bytes were not recorded" if is_silent else "it was on this machine before the run"
    for source in dict.fromkeys(_sources(run)):
        if source not in known:
            yield source, why
    if not isinstance(run.settings.get("teacher"), Mapping) and not known:
        yield _ANYTHING, "this run's record has no recipe that names them"
    if "text" not in known and any(stage.kind is StageKind.PREPARE_DATA for stage in run.stages):
        yield "text", "nobody recorded what of the corpus came over a network"


def _sources(run: RunRecord) -> Iterator[str]:
    teacher = run.settings.get("teacher")
    models = [teacher, *run.settings.get("students", ())]
    for model in models:
        source = str(model.get("source", "")) if isinstance(model, Mapping) else ""
        if source.startswith(_FETCHED):
            yield source


def _is_size(size: object) -> bool:
    return isinstance(size, int | float) and not isinstance(size, bool) and size > 0
