"""The interpretation of a life-cycle report as tables: hot spots, where the doubt comes from, what is not counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from stillwatt.report.comparison_tables import limited_table
from stillwatt.report.conformance import Conformance, Gap, protocol
from stillwatt.report.lifecycle_impact import coverage_text, impact_scale
from stillwatt.report.lifecycle_reasons import grouped, plain_words
from stillwatt.report.lifecycle_whole import Row as Said
from stillwatt.report.lifecycle_whole import cell_of, impacts_of, stages_of, total_of
from stillwatt.report.lifecycle_words import (
    NOT_COUNTED,
    VALUED,
    factor_title,
    impact_title,
    names_text,
    number_text,
    share_text,
    stage_title,
)
from stillwatt.report.tables import Row, Table, table_columns

_MOST_PLACES = 3
"""Places of one rule that are shown; the JSON has all."""
_LEAST_SHARE = 0.001
"""Of a variance: smaller shares are in the JSON alone."""


def hot_spots_table(data: Said) -> Table | None:
    """The largest stages of each impact, as shares of what is counted; None where a report names none."""
    spots: dict[str, list[str]] = {}
    for spot in data["interpretation"]["hot_spots"]:
        words = f"{stage_title(spot['stage'])} {share_text(spot['share_of_counted'])}"
        spots.setdefault(spot["impact"], []).append(words)
    if not spots:
        return None
    rows = [Row(cells=(impact_title(name), ", ".join(said), coverage_text(data, name))) for name, said in spots.items()]
    return Table(
        title="Hot spots",
        columns=table_columns("impact", "largest stages, as shares of what is counted", ">coverage"),
        rows=tuple(rows),
        note="Shares of what is counted and no more: a stage that is not counted may be larger than all of these.",
    )


def input_titles(data: Said) -> dict[str, str]:
    """What each input of the draws is, in words; a meter is called as it is written."""
    return {factor["id"]: factor_title(factor) for factor in data["factors"]}


def variance_table(data: Said) -> Table | None:
    """Share of each total's variance by input, most first; None where a report says nothing of it."""
    titles, rows = input_titles(data), []
    for total in data["totals"]:
        shares = total["shares_of_variance"]
        shown = [(name, share) for name, share in _by_size(shares) if share >= _LEAST_SHARE]
        for name, share in shown:
            what = f"{titles[name]} ({name})" if name in titles else name
            rows.append([impact_title(total["impact"]), what, share_text(share), coverage_text(data, total["impact"])])
    if not rows:
        return None
    return limited_table(
        "Share of variance by input",
        table_columns("impact", "input", ">share of variance", ">coverage of the total"),
        rows,
        "Squared correlation of the input with the total over the draws. What is missing from 100 % is the interplay "
        f"of inputs; shares below {share_text(_LEAST_SHARE)} are in the JSON alone.",
    )


def _by_size(shares: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(shares.items(), key=lambda item: -item[1])


def improve_table(data: Said) -> Table | None:
    """Which figure to improve first, for which impacts, and how; None where a report does not say."""
    titles = input_titles(data)
    found: dict[tuple[str, str], list[str]] = {}
    for one in data["interpretation"]["improve_first"]:
        words = f"{impact_title(one['impact'])} {share_text(one['share_of_variance'])}"
        found.setdefault((one["input"], one["how"]), []).append(words)
    if not found:
        return None
    rows = [[titles.get(name, name), "; ".join(impacts), plain_words(how)] for (name, how), impacts in found.items()]
    titles_row = table_columns("input", "its share of the variance of", "how it could be narrowed")
    return limited_table("What to improve first", titles_row, rows, "")


def swings_table(data: Said) -> Table | None:
    """A total at both ends of a factor's interval; None where a report has none."""
    titles, rows = input_titles(data), []
    for swing in data["interpretation"]["sensitivity"]:
        impact, name = swing["impact"], swing["factor"]
        scale, total = impact_scale(data, impact), total_of(data, impact)
        as_is = None if total is None else total["value"]
        numbers = [
            "no total" if value is None else f"{number_text(scale.of(value))} {scale.symbol}"
            for value in (swing["at_low"], as_is, swing["at_high"])
        ]
        what = f"{titles[name]} ({name})" if name in titles else name
        rows.append([impact_title(impact), what, *numbers, coverage_text(data, impact)])
    if not rows:
        return None
    return limited_table(
        "The total when one factor moves",
        table_columns("impact", "factor", ">at its low end", ">as it is", ">at its high end", ">coverage"),
        rows,
        "One factor at an end of its 90 % interval, all else as it is.",
    )


def missing_table(data: Said) -> Table:
    """What is not counted, by stage, and from which impacts it is missing."""
    found: dict[str, list[tuple[str, str]]] = {}
    for stage in stages_of(data):
        for impact in impacts_of(data):
            lacks = [(what, impact) for what in _missing_in(cell_of(data, stage, impact))]
            found.setdefault(stage, []).extend(lacks)
    told = {(impact, f"{stage}: {what}") for stage, lacks in found.items() for what, impact in lacks}
    of_totals = [(lack, total["impact"]) for total in data["totals"] for lack in total["lacking"]]
    rest = [(lack, impact) for lack, impact in of_totals if (impact, lack) not in told]
    rows = [
        Row(cells=(title, what, names_text(map(impact_title, impacts))))
        for title, lacks in (*((stage_title(stage), lacks) for stage, lacks in found.items()), ("of the total", rest))
        for what, impacts in grouped(lacks)
    ]
    return Table(
        title="What is not counted",
        columns=table_columns("stage", "what, and why", "missing from"),
        rows=tuple(rows),
        note="" if rows else "The report names nothing that is missing.",
    )


def _missing_in(cell: Said) -> Iterator[str]:
    if cell["status"] == NOT_COUNTED:
        yield cell["reason"] or "no reason is given"
    elif cell["status"] in VALUED and cell["value"] is None:
        yield "its status promises a value, and there is none"
    yield from cell["incomplete"]


def cautions_of(data: Said) -> tuple[str, ...]:
    """What must be known of the numbers that are there, each once."""
    return tuple(dict.fromkeys(plain_words(caution) for cell in data["cells"] for caution in cell["cautions"]))


def level_text(found: Conformance) -> str:
    """The level of the protocol in a few words."""
    reached = f"level {found.reached.number} ({found.reached.name})" if found.reached else "no level"
    return f"protocol {found.version}: {reached} is reached"


def levels_table(found: Conformance) -> Table:
    """The protocol's levels, and which are reached."""
    number = found.reached.number if found.reached else 0
    rows = tuple(
        Row(
            cells=(
                f"{level.number} ({level.name})",
                level.means,
                "reached" if level.number <= number else "not reached",
            )
        )
        for level in protocol().levels
    )
    return Table(title="Levels", columns=table_columns("level", "means", "this report"), rows=rows)


def gaps_table(title: str, gaps: Sequence[Gap]) -> Table | None:
    """What stands before a level: the requirement, what it asks, and the places that do not meet it."""
    by_rule: dict[tuple[str, str], list[Gap]] = {}
    for gap in gaps:
        by_rule.setdefault((gap.requirement.id, gap.rule), []).append(gap)
    if not by_rule:
        return None
    rows = [
        Row(cells=(name, found[0].requirement.text, _places(found), rule)) for (name, rule), found in by_rule.items()
    ]
    return Table(title=title, columns=table_columns("requirement", "asks", "here", "rule"), rows=tuple(rows))


def _places(found: Sequence[Gap]) -> str:
    shown = [f"{gap.path}: {gap.message}" for gap in found[:_MOST_PLACES]]
    more = len(found) - len(shown)
    return "; ".join([*shown, *([f"and {number_text(more)} more places"] if more else [])])
