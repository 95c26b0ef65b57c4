"""A finished run as flat names and numbers, as loggers want them; what is absent is a text, never a 0."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from stillwatt.records.energy import NoTotal, Total
from stillwatt.records.run import RunRecord, StageRecord

TABLE_COLUMNS = (
    "stage", "kind", "attempt", "status", "parent", "duration_s", "tokens",
    "gross_j", "gross_low_j", "gross_high_j", "basis", "boundary", "complete",
    "net_j", "net_low_j", "net_high_j", "absent",
)  # fmt: skip
CONTRACT_FILE = "stillwatt_run.json"

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")
_LONGEST_NAME = 100
"""With what stands around it, a stage's name and a count's stay below the 250 characters that MLflow takes."""
_LONGEST_TEXT = 500
_OWN = re.compile(r"duration_s|net|(gross|partial)(_low|_high)?_j")
"""Names in a stage that are the meter's own, and no count's."""


@dataclass(slots=True)
class RunFigures:
    """What a logger is given.

    A sum that lacks a part is called `partial_j`, not `gross_j`, so that it is never compared with a whole one.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    """Bases, boundaries, and the reasons for what is absent."""
    table: list[tuple[str | float | int | bool | None, ...]] = field(default_factory=list)
    """One row per attempt of a stage, in the order of `TABLE_COLUMNS`; None where there is no number."""


def run_figures(record: RunRecord) -> RunFigures:
    """Everything worth logging of a run; the whole record is `contract_json`."""
    figures = RunFigures()
    figures.texts.update(
        {
            "stillwatt.run_id": record.run_id,
            "stillwatt.name": record.name,
            "stillwatt.status": record.status.value,
            "stillwatt.complete": str(record.complete).lower(),
            "stillwatt.settings_sha256": record.settings_sha256,
        }
    )
    figures.metrics["stillwatt/duration_s"] = record.duration_s
    _add_total(figures, "total", record.total, whole="total_j")
    _add_total(figures, "unallocated", record.unallocated)
    names = dict(_stage_names(record))
    for stage in record.stages:
        key = f"stage/{names[stage.stage_id]}"
        figures.metrics[f"stillwatt/{key}/duration_s"] = stage.duration_s
        for count, value in stage.workload.items():
            figures.metrics[f"stillwatt/{key}/{_count_name(count)}"] = float(value)
        _add_total(figures, key, stage.gross)
        _add_total(figures, f"{key}/net", stage.net, whole="net_j")
        figures.table.append(_row(stage, names))
    return figures


def contract_json(record: RunRecord) -> str:
    """The run's JSON contract, as `stillwatt ledger show RUN --json` prints it."""
    return json.dumps(record.to_dict(), indent=2) + "\n"


def _add_total(figures: RunFigures, key: str, total: Total | NoTotal, *, whole: str = "gross_j") -> None:
    tag = f"stillwatt.{key.replace('/', '.')}"
    if isinstance(total, NoTotal):
        figures.texts[f"{tag}.absent"] = _short(total.reason)
        return
    name = whole if total.complete else "partial_j"
    stem = name.removesuffix("_j")
    figures.metrics[f"stillwatt/{key}/{name}"] = total.value_j
    figures.metrics[f"stillwatt/{key}/{stem}_low_j"] = total.low_j
    figures.metrics[f"stillwatt/{key}/{stem}_high_j"] = total.high_j
    figures.texts[f"{tag}.basis"] = total.basis.value
    figures.texts[f"{tag}.boundary"] = total.boundary.value
    if not total.complete:
        missing = f"without {', '.join(total.absent)}" if total.absent else "seconds are missing"
        figures.texts[f"{tag}.incomplete"] = _short(missing)


def _stage_names(record: RunRecord) -> Iterator[tuple[str, str]]:
    """A name for each attempt by stage id: the stage's own, with the attempt's id from the second of that name on."""
    taken: set[str] = set()
    for stage in record.stages:
        name = _safe(stage.name)
        if name in taken:
            name = f"{name}.{_safe(stage.stage_id)}"
        taken.add(name)
        yield stage.stage_id, name


def _row(stage: StageRecord, names: dict[str, str]) -> tuple[str | float | int | bool | None, ...]:
    gross, net = stage.gross, stage.net
    reasons = [
        f"{kind}: {total.reason}" for kind, total in (("gross", gross), ("net", net)) if isinstance(total, NoTotal)
    ]
    return (
        names[stage.stage_id],
        stage.kind.value,
        stage.attempt,
        stage.status.value,
        names.get(stage.parent_id or "", ""),
        stage.duration_s,
        stage.workload.get("tokens"),
        *_ends(gross),
        gross.basis.value if isinstance(gross, Total) else None,
        gross.boundary.value if isinstance(gross, Total) else None,
        gross.complete if isinstance(gross, Total) else False,
        *_ends(net),
        "; ".join(reasons),
    )


def _ends(total: Total | NoTotal) -> tuple[float | None, float | None, float | None]:
    if isinstance(total, NoTotal):
        return None, None, None
    return total.value_j, total.low_j, total.high_j


def _safe(name: str) -> str:
    """A name that every logger takes: no path, and not too long.

    >>> _safe("teacher: generate/1"), _safe("..")
    ('teacher_generate_1', 'unnamed')
    """
    return _UNSAFE.sub("_", name)[:_LONGEST_NAME].strip("_.") or "unnamed"


def _count_name(name: str) -> str:
    """A count's name, which must not pass for a figure of the meter's.

    >>> _count_name("tokens"), _count_name("duration_s")
    ('tokens', 'count.duration_s')
    """
    safe = _safe(name)
    return f"count.{safe}" if _OWN.fullmatch(safe) else safe


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"
