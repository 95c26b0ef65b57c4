"""The tables of a comparison, as text cells: the page and the files for papers show the same ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillwatt.report.format import (
    MISSING,
    Unit,
    decimals_for,
    interval_text,
    percent_text,
    pick_unit_of_kwh,
    rounded,
    significant,
    students_text,
)
from stillwatt.report.tables import Column, Row, Table, table_columns

MOST_ROWS = 200
"""Rows of one table; of more, how many."""
PLUS_MINUS = (
    "± is a 95 % half-width of what readings and repeats scatter by, which is what comparisons on one set of cards "
    "need: what an instrument or a model may be off by moves all their energies together and is not in it. Between "
    "cards it does not cancel: each has a gain of its own, ±5 % where nobody compared it with a meter."
)

REUSE_WORDS = {
    "value": "from N* on",
    "always": "at once",
    "never": "never",
    "undetermined": "cannot be told",
    "not_at_this_quality": "no baseline as good",
    "not_at_this_budget": "no equal budget",
}
"""When reuse repays a teacher, in a few words, by verdict."""
_IMPACTS = {"kgco2e": "carbon", "water_l": "water", "gpu": "GPU energy", "facility": "facility energy"}


def impact_name(name: str) -> str:
    """What a view of a comparison counts, in words."""
    return _IMPACTS.get(name, name)


def is_shown(allocation: str) -> bool:
    """Whether an allocation says anything that one-off does not; a teacher shared by one student is its own."""
    return allocation != "reuse:1"


def plus_minus_text(value: float | None, half_width: float | None) -> str:
    """A value with its 95 % half-width, rounded by it; the value alone where that is not known.

    >>> plus_minus_text(16.874, 0.0312), plus_minus_text(0.7068, None), plus_minus_text(None, None)
    ('16.87 ± 0.03', '0.707', '–')
    """
    if value is None:
        return MISSING
    if half_width is None:
        return significant(value)
    decimals = decimals_for(value, half_width)
    return f"{rounded(value, decimals)} ± {rounded(half_width, decimals)}"


def ends_text(value: float, low: float, high: float) -> str:
    """The ends of an interval, rounded by it.

    >>> ends_text(69.8, 11.2, 262.0)
    '[11, 262]'
    """
    return interval_text(value, low, high).partition(" ")[2]


def plus_minus_energy(unit: Unit, energy_kwh: float | None, half_width_kwh: float | None) -> str:
    """An energy in that unit, with its 95 % half-width."""
    value, half = (None if kwh is None else unit.of_kwh(kwh) for kwh in (energy_kwh, half_width_kwh))
    return plus_minus_text(value, half)


def sure_text(probability: float) -> str:
    """A probability that claims no more than draws can show.

    >>> sure_text(0.999), sure_text(0.42), sure_text(0.001)
    ('>0.99', '0.42', '<0.01')
    """
    return ">0.99" if probability > 0.99 else "<0.01" if probability < 0.01 else f"{probability:.2f}"


def unlisted_text(data: Mapping[str, Any]) -> str:
    """That some labels have no point, where there were too many of them; else nothing."""
    names = (({point["label"] for point in points}, data["left_out"][name]) for name, points in data["points"].items())
    placed = max((len(on.union(out)) for on, out in names), default=0)
    if placed >= data["num_labels"]:
        return ""
    return f" Of {data['num_labels']:,} labels only those that may be on a frontier are listed as points."


def frontier_table(data: Mapping[str, Any]) -> Table:
    """Every placed label: quality, seeds, and its energy under each allocation with its place there."""
    names = [name for name in data["points"] if is_shown(name)]
    unit = pick_unit_of_kwh(point["energy_kwh"] for points in data["points"].values() for point in points)
    rows: dict[str, list[str]] = {}
    for column, name in enumerate(names):
        on, sure = set(data["frontiers"][name]), data["on_frontier_probability"][name]
        for point in data["points"][name]:
            quality = plus_minus_text(point["quality"], point["quality_half_width"])
            begun = [point["label"], point["method"], quality, str(point["seeds"]), *[MISSING] * (2 * len(names))]
            row = rows.setdefault(point["label"], begun)
            probability = sure.get(point["label"])
            energy = plus_minus_energy(unit, point["energy_kwh"], point["energy_half_width_kwh"])
            row[4 + 2 * column] = energy + (" *" if point["label"] in on else "")
            row[5 + 2 * column] = MISSING if probability is None else sure_text(probability)
    return limited_table(
        "Energy against quality",
        table_columns(
            "label",
            "method",
            ">quality Q (1)",
            ">seeds",
            *(title for name in names for title in (f">{name} ({unit.symbol})", f">p, {name}")),
        ),
        list(rows.values()),
        f"* on the frontier; p: the probability of it. {PLUS_MINUS} A dash: no point under that allocation, or no p."
        + unlisted_text(data)
        + _left_out_text(data),
    )


def _left_out_text(data: Mapping[str, Any]) -> str:
    """Why labels are on no plane, each reason once."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, reasons in data["left_out"].items():
        for label, reason in reasons.items():
            found.setdefault((label, reason), []).append(name)
    shown = [
        f" {label} is not under {', '.join(names)}: {reason}."
        for (label, reason), names in list(found.items())[:MOST_ROWS]
    ]
    return "".join(shown)


def stages_table(data: Mapping[str, Any]) -> Table:
    """Each label's energies by stage, means over seeds, the total's whole interval and basis, the teacher's share."""
    keys = ("teacher_kwh", "student_kwh", "other_kwh", "total_kwh")
    unit = pick_unit_of_kwh(entry["total_kwh"] for entry in data["stages"])
    is_told = any(entry.get("basis") for entry in data["stages"])  # an answer that an earlier release kept tells none
    rows = [
        [
            entry["label"],
            *(plus_minus_energy(unit, entry[key], None) for key in keys),
            *([_whole_text(unit, entry), entry["basis"] or MISSING] if is_told else []),
            MISSING if entry["teacher_share"] is None else percent_text(entry["teacher_share"]),
        ]
        for entry in data["stages"]
    ]
    return limited_table(
        "Energy by stage",
        table_columns(
            "label",
            *(f">{key.removesuffix('_kwh')} ({unit.symbol})" for key in keys),
            *([f">total, 95 % ({unit.symbol})", "basis"] if is_told else []),
            ">teacher's share",
        ),
        rows,
        "Means over seeds; the total bears the whole teacher"
        + (", and its interval holds the systematic part" if is_told else "")
        + ". A dash is unknown, not zero."
        + _unlisted_stages(data),
    )


def _whole_text(unit: Unit, entry: Mapping[str, Any]) -> str:
    ends = (entry["total_kwh"], entry["total_low_kwh"], entry["total_high_kwh"])
    return MISSING if None in ends else ends_text(*(unit.of_kwh(kwh) for kwh in ends))


def _unlisted_stages(data: Mapping[str, Any]) -> str:
    more = data["num_labels"] - len(data["stages"])
    return f" {more:,} more labels are not listed." if more > 0 else ""


def reuse_table(data: Mapping[str, Any]) -> Table:
    """N* of each distilled label, at equal budget and at matched quality."""
    matched = {entry["label"]: entry for entry in data["n_star_matched_quality"]}
    rows = []
    for entry in data["n_star"]:
        other = matched[entry["label"]]
        rows.append(
            [
                entry["label"],
                entry["baseline"] or MISSING,
                _students_cell(entry),
                REUSE_WORDS[entry["verdict"]],
                _students_cell(other),
                other["baseline"] or MISSING,
                entry["reason"],
            ]
        )
    return limited_table(
        "When reuse repays the teacher",
        table_columns(
            "label",
            "against",
            ">N* (students)",
            "reuse repays",
            ">N* at matched quality (students)",
            "against",
            "because",
        ),
        rows,
        "Brackets are 95 % intervals, of the same errors as ±.",
    )


def impact_tables(data: Mapping[str, Any]) -> list[Table]:
    """What one student of each label takes by every other boundary and impact, one table each."""
    views = {**data["by_boundary"], **data["by_impact"]}
    return [_impact_table(impact_name(name), view) for name, view in views.items()]


def _impact_table(name: str, view: Mapping[str, Any]) -> Table:
    shown = {allocation: found for allocation, found in view["amounts"].items() if is_shown(allocation)}
    labels = dict.fromkeys(label for amounts in shown.values() for label in amounts)
    rows = [[label, *(_impact_cell(view, allocation, label) for allocation in shown)] for label in labels]
    titles = (f">{allocation} ({view['unit']})" for allocation in shown)
    return limited_table(
        f"{name[:1].upper()}{name[1:]} of one student",
        table_columns("label", *titles),
        rows,
        f"* on the frontier with quality. {PLUS_MINUS} Factors are taken as they are given. A dash: no point under "
        "that allocation.",
    )


def _impact_cell(view: Mapping[str, Any], allocation: str, label: str) -> str:
    if label not in view["amounts"][allocation]:
        return MISSING
    widths = view.get("half_widths", {})  # an answer that an earlier release kept has none
    text = plus_minus_text(view["amounts"][allocation][label], widths.get(allocation, {}).get(label))
    return f"{text} *" if label in view["frontiers"][allocation] else text


def _students_cell(entry: Mapping[str, Any]) -> str:
    if entry["value"] is None:
        return REUSE_WORDS[entry["verdict"]] if entry["verdict"] != "undetermined" else MISSING
    return students_text(entry["value"], entry["low"], entry["high"])


def unbilled_table(data: Mapping[str, Any]) -> Table:
    """Energy that is on no label's bill, with the reason."""
    unit = pick_unit_of_kwh(entry["energy_kwh"] for entry in data["not_billed"])
    rows = [
        [
            entry["run_id"],
            entry["stage"],
            plus_minus_energy(unit, entry["energy_kwh"], None),
            entry["reason"],
        ]
        for entry in data["not_billed"]
    ]
    return limited_table("On no bill", table_columns("run", "stage", f">energy ({unit.symbol})", "because"), rows, "")


def limited_table(title: str, columns: tuple[Column, ...], rows: list[list[str]], note: str) -> Table:
    """A table of its first rows, that says how many more there are."""
    more = f" {len(rows) - MOST_ROWS:,} more rows are in the JSON alone." if len(rows) > MOST_ROWS else ""
    return Table(
        title=title,
        columns=columns,
        rows=tuple(Row(cells=tuple(row)) for row in rows[:MOST_ROWS]),
        note=(note + more).strip(),
    )
