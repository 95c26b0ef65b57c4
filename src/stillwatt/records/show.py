"""Records as a notebook shows them: small tables, every name escaped, a missing number with its reason."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stillwatt.records.comparison import Comparison
    from stillwatt.records.energy import Absent, Energy, NoTotal, Total
    from stillwatt.records.run import RunRecord

MOST_ROWS = 30
"""Rows that are shown; of more, how many."""
_RIGHT = ' style="text-align:right"'


def energy_html(energy: Energy) -> str:
    """One line: part, value with interval, how it is known."""
    value = _joules(energy.value_j, energy.low_j, energy.high_j)
    return f"<b>{_text(energy.part)}</b>: {value} · {_text(energy.basis.value)} · {_text(energy.source)}"


def absent_html(absent: Absent) -> str:
    """One line: what is absent, and why."""
    return f"<b>{_text(absent.part)}</b>: absent, {_text(absent.reason)}"


def total_html(total: Total | NoTotal) -> str:
    """One line: the total with its interval, and what is not in it."""
    from stillwatt.records.energy import NoTotal

    if isinstance(total, NoTotal):
        return no_total_html(total)
    missing = f" · without {_text(', '.join(total.absent))}" if total.absent else ""
    state = "" if total.complete else " · incomplete"
    return f"{_joules(total.value_j, total.low_j, total.high_j)} · {_text(total.basis.value)}{state}{missing}"


def no_total_html(total: NoTotal) -> str:
    """One line: why there is none."""
    return f"no total: {_text(total.reason)}"


def run_html(run: RunRecord) -> str:
    """The run's total, and a row a stage."""
    rows = [
        (stage.name, stage.kind.value, stage.status.value, f"{stage.duration_s:,.1f}", total_html(stage.gross))
        for stage in run.stages[:MOST_ROWS]
    ]
    head = f"<b>{_text(run.name)}</b> · {_text(run.run_id)} · {_text(run.status.value)} · {total_html(run.total)}"
    note = "".join(f"<li>{_text(warning)}</li>" for warning in run.warnings[:MOST_ROWS])
    table = _table(("stage", "kind", "status", "time (s)", "energy (J)"), rows, numbers=(3,), ready=(4,))
    return f"<div>{head}</div>{table}{_more(len(run.stages))}" + (f"<ul>{note}</ul>" if note else "")


def comparison_html(found: Comparison) -> str:
    """A row a label under the first allocation, and N* of each distilled one."""
    from stillwatt.units import Joules, to_kwh

    front = found.fronts[0]
    stars = {entry.label: entry.found for entry in found.n_star}
    rows = []
    for point in front.placed[:MOST_ROWS]:
        star = stars.get(point.label)
        n_star = "" if star is None else star.verdict.value if star.value is None else f"{star.value:,.3g}"
        place = "on the frontier" if point.is_on_frontier else ""
        half = "" if point.energy_half_width_j is None else f" ± {to_kwh(Joules(point.energy_half_width_j)):,.2g}"
        energy = f"{to_kwh(Joules(point.energy_j)):,.4g}{half}"
        rows.append((point.label, f"{point.quality:.3g}", str(point.seeds), energy, place, n_star))
    columns = ("label", "quality (1)", "seeds", f"{front.allocation} (kWh)", "place", "N* (students)")
    note = "".join(f"<li>{_text(warning)}</li>" for warning in found.warnings[:MOST_ROWS])
    table = _table(columns, rows, numbers=(1, 2, 3, 5))
    head = f"<div><b>Comparison</b> · {_text(found.source)} · baseline {_text(found.baseline)}</div>"
    return f"{head}{table}{_more(len(front.placed))}" + (f"<ul>{note}</ul>" if note else "")


def _table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[int], ready: Sequence[int] = ()
) -> str:
    """A table; cells of `ready` columns are markup already."""
    head = "".join(f"<th>{_text(title)}</th>" for title in columns)
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{_RIGHT if place in numbers else ''}>{cell if place in ready else _text(cell)}</td>"
            for place, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _more(count: int) -> str:
    return f"<div>… {count - MOST_ROWS:,} more</div>" if count > MOST_ROWS else ""


def _joules(value_j: float, low_j: float, high_j: float) -> str:
    return f"{value_j:,.4g} J [{low_j:,.4g}, {high_j:,.4g}]"


def _text(text: str) -> str:
    return html.escape(text)
