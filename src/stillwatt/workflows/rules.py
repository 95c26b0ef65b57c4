"""Design rules on a table or on runs: list them, test them, mine new ones."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillwatt.records.rules import DesignRule, Expected, RuleTest
from stillwatt.workflows.analyse import Analysis, Wishes, analyse_runs, analyse_table

if TYPE_CHECKING:
    from stillwatt.records.rules import RulesMined, RulesTested

RATE = 0.05
"""Share of false statements among those mined that is accepted, unless asked otherwise."""
_OPTIONS = ("setting", "other", "outcome", "students", "impact")
_DATA = Path(__file__).parent / "data" / "design_rules.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """Rules tested, and whether every energy behind them is whole."""

    found: RulesTested
    complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined:
    """Rules mined, and whether every energy behind them is whole."""

    found: RulesMined
    complete: bool


def list_rules() -> tuple[DesignRule, ...]:
    """The rules that come along, in their source's order."""
    said = tomllib.loads(_DATA.read_text(encoding="utf-8"))
    return tuple(
        DesignRule(
            name=rule["name"],
            statement=rule["statement"],
            scope=rule["scope"],
            source=said["source"],
            section=rule["section"],
            tests=tuple(_test(entry) for entry in rule["test"]),
        )
        for rule in said["rule"]
    )


def judge_rules(
    references: Sequence[str] = (),
    *,
    table: str | Path | None = None,
    runs_dir: str | Path = "runs",
    wishes: Wishes | None = None,
) -> Tested:
    """Test the rules on a table, or on runs where none is given.

    Raises:
        StillwattError: What `analyse_table` and `analyse_runs` raise.
    """
    from stillwatt.analysis.design_rules import try_rules

    analysis = _analysis(references, table, runs_dir, wishes)
    found = try_rules(list_rules(), analysis.rows, analysis.comparison)
    return Tested(found=found, complete=analysis.complete)


def mine_rules(
    references: Sequence[str] = (),
    *,
    table: str | Path | None = None,
    runs_dir: str | Path = "runs",
    rate: float = RATE,
) -> Mined:
    """Mine statements from a table, or from runs where none is given.

    Raises:
        StillwattError: What `analyse_table` and `analyse_runs` raise.
    """
    from stillwatt.analysis.mining import mine

    analysis = _analysis(references, table, runs_dir, None)
    return Mined(found=mine(analysis.rows, analysis.comparison, rate=rate), complete=analysis.complete)


def _analysis(
    references: Sequence[str], table: str | Path | None, runs_dir: str | Path, wishes: Wishes | None
) -> Analysis:
    if table is not None:
        return analyse_table(table, wishes)
    return analyse_runs(references, runs_dir=runs_dir, wishes=wishes)


def _test(entry: Mapping[str, Any]) -> RuleTest:
    return RuleTest(
        comparison=entry["comparison"],
        says=entry["says"],
        expected=Expected(entry["expected"]),
        bound=entry["bound"],
        margin=entry.get("margin", 0.0),
        methods=tuple(entry.get("methods", ())),
        options={name: entry[name] for name in _OPTIONS if name in entry},
        needs=entry["needs"],
    )
