"""Budgets as a table: what each arm, and the run, was to take, and how far what it took is off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stillwatt.report.format import MISSING
from stillwatt.report.tables import Row, Table, table_columns

_IN_JOULES = "Joules spent are the books' values, as the budget counts them; basis and interval stand with the stages."


def budgets_table(data: Mapping[str, Any]) -> Table:
    """A row for each budget of the run (method.md, eqs. 101, 102 and 135); the note says how alike equal arms are."""
    budgets = data["run"].get("budgets", ())
    columns = ("budget of", "as written", ">budget", ">spent", ">off", ">half a step", "ended by")
    rows = tuple(
        Row(
            cells=(
                budget["name"] or "the run",
                budget["said"],
                _amount(budget["amount"], budget["unit"]),
                ("≥ " if budget.get("at_least") else "") + _amount(budget["spent"], budget["unit"]),
                MISSING if budget.get("at_least") else _percent(budget["spent"], budget["amount"], is_off=True),
                _percent(budget["half_step"], budget["amount"], is_off=False),
                _ending(budget),
            )
        )
        for budget in budgets
    )
    in_joules = any(each["unit"] == "J" and not isinstance(each["spent"], Mapping) for each in budgets)
    notes = [*([_IN_JOULES] if in_joules else []), *_equal_arms(budgets), *_whys(budgets)]
    return Table(title="Budgets", columns=table_columns(*columns), rows=rows, note=" ".join(notes))


def _ending(budget: Mapping[str, Any]) -> str:
    """What ended what the budget is of."""
    if budget["reached"]:
        return "its budget"
    if budget.get("unread"):
        return "unread energy"
    return "its text" if budget["of"] == "arm" else "its last arm"


def _equal_arms(budgets: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is said of arms with one budget of joules: by how much the dearest is above the cheapest."""
    arms = [each for each in budgets if each["of"] == "arm" and each["unit"] == "J"]
    notes = []
    for amount in dict.fromkeys(each["amount"] for each in arms):
        of_amount = [each for each in arms if each["amount"] == amount and not each.get("unread")]
        same = [each for each in of_amount if not isinstance(each["spent"], Mapping) and not each.get("at_least")]
        ended, short = (
            [each for each in same if each["reached"]],
            [each["name"] for each in same if not each["reached"]],
        )
        if len(ended) > 1:
            spent = [each["spent"] for each in ended]
            apart = 100.0 * (max(spent) - min(spent)) / amount
            notes.append(
                f"Equal-joule arms: {len(ended)} of {_amount(amount, 'J')}, at most {apart:.2f} % of it apart."
            )
        if len(same) > 1 and short:
            notes.append(f"Not of equal joules, since their text ended first: {', '.join(short)}.")
    return notes


def _whys(budgets: Sequence[Mapping[str, Any]]) -> list[str]:
    whys = [(each["name"] or "the run", each["spent"]) for each in budgets if isinstance(each["spent"], Mapping)]
    unread = [f"{each['name'] or 'the run'}: {each['unread']}." for each in budgets if each.get("unread")]
    known = [each["name"] or "the run" for each in budgets if each.get("at_least")]
    more = [f"More was spent than is known by {', '.join(known)}: see the note on the total."] if known else []
    return [*(f"{name}: {spent['absent']}." for name, spent in whys), *unread, *more]


def _amount(amount: float | Mapping[str, Any], unit: str) -> str:
    if isinstance(amount, Mapping):
        return MISSING
    return f"{amount:,.0f} {unit}" if amount >= 1000.0 else f"{amount:.4g} {unit}"


def _percent(amount: float | Mapping[str, Any], whole: float, *, is_off: bool) -> str:
    if isinstance(amount, Mapping):
        return MISSING
    return f"{100.0 * (amount / whole - 1.0):+.2f} %" if is_off else f"{100.0 * amount / whole:.2f} %"
