"""Runs, stages and checks as lines of text: energies with their interval and basis, and what is not known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from stillwatt.cli.screen import columns
from stillwatt.records.energy import Absent, Energy, NoTotal, Total
from stillwatt.units import Joules, to_kwh

if TYPE_CHECKING:
    from stillwatt.ledger.store import RunLine
    from stillwatt.ledger.verify import Finding
    from stillwatt.records.run import RunRecord, StageRecord

_PREFIXES = ((1_000_000_000, "GJ"), (1_000_000, "MJ"), (1_000, "kJ"), (1, "J"))


def joules_text(energy_j: float) -> str:
    """Joules with four digits and the fitting prefix.

    >>> joules_text(1234.5), joules_text(-0.25)
    ('1.234 kJ', '-0.25 J')
    """
    size, unit = next(((s, u) for s, u in _PREFIXES if abs(energy_j) >= s), (1, "J"))
    return f"{energy_j / size:.4g} {unit}"


def total_text(total: Total | NoTotal) -> str:
    """A total with interval, basis and what is missing; or why there is none.

    >>> total_text(NoTotal(reason="no idle baseline"))
    'not known: no idle baseline'
    """
    if isinstance(total, NoTotal):
        return f"not known: {total.reason}"
    text = f"{joules_text(total.value_j)} ({joules_text(total.low_j)} to {joules_text(total.high_j)}), {_bases(total)}"
    if total.complete:
        return text
    return f"{text}; incomplete" + (f", without {', '.join(total.absent)}" if total.absent else "")


def record_lines(record: RunRecord) -> list[str]:
    """A run: its stages with their energies, its total, and what the reader should know."""
    lines = [f"run {record.run_id}  {record.name}: {record.status.value}, {record.duration_s:.1f} s"]
    rows = [["stage", "kind", "status", "seconds", "tokens", "energy"]]
    rows += [_stage_row(stage) for stage in record.stages]
    lines += columns(rows) if record.stages else ["no stages"]
    lines.append(f"outside any stage  {total_text(record.unallocated)}")
    lines.append(f"total  {total_text(record.total)}{_kwh(record.total)}")
    lines += _parts(record)
    lines += [f"note: {warning}" for warning in record.warnings]
    return lines


def run_rows(runs: Sequence[RunLine]) -> list[str]:
    """Runs as a table."""
    if not runs:
        return []
    rows = [["run", "name", "status", "started", "seconds", "energy"]]
    rows += [
        [run.run_id, run.name, run.status.value, run.start_utc, f"{run.duration_s:.1f}", total_text(run.total)]
        for run in runs
    ]
    return columns(rows)


def _stage_row(stage: StageRecord) -> list[str]:
    tokens = stage.workload.get("tokens")
    name = stage.name if stage.attempt == 1 else f"{stage.name} (attempt {stage.attempt})"
    return [
        name,
        stage.kind.value,
        stage.status.value,
        f"{stage.duration_s:.1f}",
        "-" if tokens is None else f"{tokens:,.0f}",
        total_text(stage.gross),
    ]


def _parts(record: RunRecord) -> Iterator[str]:
    """Each part once: who reads it and how, or why nobody does."""
    seen: set[str] = set()
    for energy in (energy for stage in record.stages for energy in stage.energies):
        if energy.part in seen:
            continue
        seen.add(energy.part)
        yield f"{energy.part}  {_how(energy)}"


def _how(energy: Energy | Absent) -> str:
    if isinstance(energy, Absent):
        return f"not known: {energy.reason}"
    return f"{energy.basis.value} by {energy.driver} ({energy.source or energy.method}), {energy.device}"


def _bases(total: Total) -> str:
    shares = [(basis, share) for basis, share in total.share_by_basis if share > 0]
    if len(shares) < 2:
        return total.basis.value
    return ", ".join(f"{share:.0%} {basis.value}" for basis, share in shares)


def _kwh(total: Total | NoTotal) -> str:
    return "" if isinstance(total, NoTotal) else f" = {to_kwh(Joules(total.value_j)):.4g} kWh"
