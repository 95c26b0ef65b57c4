"""A run under an accounting policy as lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from stillwatt.cli.account import total_text
from stillwatt.cli.screen import columns
from stillwatt.metering.baseline import IdlePower
from stillwatt.records.energy import Absent, Total
from stillwatt.records.repeats import titles
from stillwatt.report.format import duration_text, interval_text, pick_unit

if TYPE_CHECKING:
    from stillwatt.ledger.policy import PolicyView
    from stillwatt.metering.idle import Baseline

_MEANS = {
    "gross": ("all that was drawn", ""),
    "net": ("above idle power", "idle power"),
    "marginal": ("above standing power, that between stages", "standing power"),
}
_CURES = {
    "net": "measure the idle machine too: `stillwatt measure --idle 30 -- COMMAND`, `stillwatt.Run(name, idle_s=30)`",
    "marginal": "leave pauses of a second and more between stages, with everything loaded: five seconds of them in all",
}
_ROUNDING = 2.0**-30
"""Of a power: widths below that are those of floating-point numbers."""


def policy_lines(view: PolicyView) -> list[str]:
    """Stages and the run under a policy, the baseline's joules on a line of their own, and the powers behind it."""
    record, policy = view.record, view.policy.value
    meaning, power_name = _MEANS[policy]
    lines = [f"run {record.run_id}  {record.name}: {policy}, {meaning}"]
    unit = pick_unit(stage.gross.value_j for stage in record.stages if isinstance(stage.gross, Total))
    rows, names = [["stage", "kind", "status", "time", f"{policy} energy"]], titles(record.stages)
    rows += [
        [
            names[stage.stage_id],
            stage.kind.value,
            stage.status.value,
            duration_text(stage.duration_s),
            total_text(view.stages[stage.stage_id].energy, unit),
        ]
        for stage in record.stages
    ]
    lines += columns(rows) if record.stages else ["no stages"]
    lines.append(f"outside any stage  {total_text(view.unallocated.energy)}")
    lines.append(f"{policy} total  {total_text(view.total.energy)}")
    if power_name:
        lines.append(f"{power_name}, all of the run's seconds  {total_text(view.total.baseline)}")
        lines.append(f"gross total, the two together  {total_text(record.total)}")
    for baseline in view.baselines.values():
        lines += _baseline_lines(baseline, power_name)
    if power_name and not view.baselines and record.stages:
        lines.append(f"to know it next time: {_CURES[policy]}")
    lines += [f"note: {note}" for note in dict.fromkeys([*_notes(view), *record.warnings])]
    return lines


def _notes(view: PolicyView) -> Iterator[str]:
    for baseline in view.baselines.values():
        yield from baseline.notes


def _baseline_lines(baseline: Baseline, power_name: str) -> Iterator[str]:
    yield f"{baseline.label}  {power_name} {_power_text(baseline.power)}"
    for rest in baseline.rests:
        spread = "" if rest.spread_w is None else f", spread {_figure(rest.spread_w, rest.power)} W"
        looked = f"{rest.clean} of {rest.pieces} pieces clean" if rest.pieces else "too short to look for work in it"
        yield f"  {rest.when.value} the work  {_reading_text(rest.power)} over {rest.length_s:.3g} s{spread}; {looked}"
    if baseline.drift_w is not None and baseline.drift_random_w is not None:
        drift = f"{float(_figure(baseline.drift_w, baseline.power)):+.2g}"
        yield f"  drift {drift} ± {_figure(baseline.drift_random_w, baseline.power)} W"


def _power_text(power: IdlePower | Absent) -> str:
    """With its whole interval, and what of it is no gain."""
    if isinstance(power, Absent):
        return f"not known: {power.reason}"
    value, _, interval = interval_text(power.value_w, power.low_w, power.high_w).partition(" ")
    return f"{value} W {interval} {power.basis.value}, ± {_figure(power.random_w, power)} W of it at random"


def _reading_text(power: IdlePower | Absent) -> str:
    """With what is random of its interval: the gain is the same in every rest."""
    if isinstance(power, Absent):
        return f"not known: {power.reason}"
    return f"{power.value_w:.4g} ± {_figure(power.random_w, power)} W"


def _figure(width_w: float, beside: IdlePower | Absent) -> str:
    """Two digits of a width; 0 where it is only the rounding of the power that it belongs to."""
    is_rounding = isinstance(beside, IdlePower) and abs(width_w) < _ROUNDING * abs(beside.value_w)
    return f"{0.0 if is_rounding else width_w:.2g}"
