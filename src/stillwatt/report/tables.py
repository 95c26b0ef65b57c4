"""The tables of a report, as text cells; the page and the terminal show the same ones."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stillwatt.report.format import (
    MISSING,
    Unit,
    count_text,
    duration_text,
    energy_text,
    least_students_text,
    per_token_text,
    percent_text,
    pick_unit,
    quality_text,
    share_text,
    significant,
    students_text,
)

_ADDRESS = re.compile(r"https?://[A-Za-z0-9\-._~:/?#@!$&'()*+,;=%]+")
_FEW_COLUMNS, _LONG_CELL = 3, 40
GROUP_TITLES = {
    "shared": "every arm",
    "overhead": "overhead",
    "experimentation": "experimentation",
    "other": "",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column's heading; numbers stand to the right."""

    title: str
    is_number: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of cells; a summing line stands out."""

    cells: tuple[str, ...]
    is_sum: bool = False
    links: tuple[str, ...] = ()
    """Where each cell leads, by `web_address`; empty where none leads anywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table with what it shows."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str = ""

    @property
    def is_wordy(self) -> bool:
        """Whether there is more text than columns: a narrow page sets a row's cells one below the other."""
        longest = max((len(cell) for row in self.rows for cell in row.cells), default=0)
        return len(self.columns) <= _FEW_COLUMNS and longest > _LONG_CELL


def table_columns(*titles: str) -> tuple[Column, ...]:
    """Columns by title; a leading `>` marks numbers."""
    return tuple(Column(title=title.removeprefix(">"), is_number=title.startswith(">")) for title in titles)


def web_address(text: str) -> str:
    """An address that a page may link to; empty where the text is none, or one that could run something.

    >>> web_address("https://example.org/a?b=1"), web_address("javascript:alert(1)"), web_address("http://a b")
    ('https://example.org/a?b=1', '', '')
    """
    return text if _ADDRESS.fullmatch(text) else ""


def stage_table(data: Mapping[str, Any]) -> Table:
    """Where the joules went: one line a row, unallocated, total."""
    table = data["stage_table"]
    unit = table_unit(data)
    total_j = table["total"].get("value_j")
    rows = [
        Row(
            cells=(
                row["label"],
                row["arm"] or GROUP_TITLES.get(row["group"], ""),
                *_energy_cells(row["energy"], unit, total_j),
                duration_text(row["duration_s"]),
                count_text(row["tokens"]),
                per_token_text(row["energy"], row["tokens"]),
            )
        )
        for row in table["rows"]
    ]
    rows.append(Row(cells=("in no stage", "", *_energy_cells(table["unallocated"], unit, total_j), "", "", "")))
    length = duration_text(data["run"]["duration_s"])
    rows.append(Row(cells=("total", "", *_energy_cells(table["total"], unit, total_j), length, "", ""), is_sum=True))
    missing = [f"{row['label']}: {row['energy']['absent']}" for row in table["rows"] if "absent" in row["energy"]]
    return Table(
        title="Where the joules went",
        columns=table_columns(
            "stage", "for", f">energy ({unit.symbol})", ">95 %", ">share", "basis", ">time", ">tokens", ">per token"
        ),
        rows=tuple(rows),
        note=_closing_note(table) + "".join(f" No energy for {entry}." for entry in missing),
    )


def table_unit(data: Mapping[str, Any]) -> Unit:
    """The unit of the stage table: that of the run's total."""
    entries = [row["energy"] for row in data["stage_table"]["rows"]] + [data["stage_table"]["total"]]
    return pick_unit(entry["value_j"] for entry in entries if "absent" not in entry)


def _energy_cells(entry: Mapping[str, Any], unit: Unit, total_j: float | None) -> tuple[str, str, str, str]:
    """Energy, interval, share of the total, basis."""
    if "absent" in entry:
        return MISSING, MISSING, MISSING, "absent"
    number, _, interval = energy_text(entry, unit).replace(f" {unit.symbol}", "").partition(" [")
    basis = (entry["basis"] or "") + ("" if entry["complete"] else ", incomplete")
    return number, f"[{interval}", percent_text(entry["value_j"] / total_j) if total_j else MISSING, basis


def _closing_note(table: Mapping[str, Any]) -> str:
    if table["closes"] is None:
        return "Rows cannot be held against the total, because one of them has no energy."
    if table["closes"]:
        return "Rows and unallocated energy add up to the total."
    return f"The table does not close: {significant(table['residual_j'])} J are in the total and in no row."


def arms_table(data: Mapping[str, Any]) -> Table:
    """What one student of each arm used at each checkpoint, by allocation, and how good it is."""
    points = data["arms"]
    unit = pick_unit(
        entry["value_j"] for point in points for entry in point["allocated"].values() if "value_j" in entry
    )
    rows = [
        Row(
            cells=(
                point["arm"],
                percent_text(point["budget_share"]),
                count_text(point["tokens"]),
                quality_text(point["quality"]),
                *(
                    energy_text(point[part], unit).partition(" [")[0]
                    for part in ("prepare", "teacher", "student_training", "evaluation")
                ),
                *(energy_text(point["allocated"][label], unit) for label in data["allocations"]),
            )
        )
        for point in points
    ]
    return Table(
        title="What one student of each arm used",
        columns=table_columns(
            "arm",
            ">budget",
            ">tokens",
            ">quality Q",
            ">prepare",
            ">teacher",
            ">train",
            ">evaluate",
            *(f">{label}" for label in data["allocations"]),
        ),
        rows=tuple(rows),
        note="The last columns are the whole bill under each allocation of the teacher's work.",
    )


def frontier_table(data: Mapping[str, Any]) -> Table:
    """Every point's place on the frontier, by allocation."""
    unit = pick_unit(point["energy_j"] for point in data["frontier"])
    rows = [
        Row(
            cells=(
                point["allocation"],
                point["arm"],
                share_text(point),
                f"{significant(unit.of(point['energy_j']))} {unit.symbol}",
                f"{point['quality']:.3f}",
                "yes" if point["is_on_frontier"] else f"no: {point['dominated_by']} is no worse for no more energy",
                MISSING if point["on_frontier_probability"] is None else f"{point['on_frontier_probability']:.2f}",
            )
        )
        for point in data["frontier"]
    ]
    rejected = "".join(
        f" Not placed under {r['allocation']}: {r['arm']} at {r['checkpoint']}, because {r['reason']}."
        for r in data["rejected"]
    )
    return Table(
        title="Energy against quality",
        columns=table_columns(
            "teacher's work", "arm", ">budget", ">energy", ">quality Q", "on the frontier", ">probability"
        ),
        rows=tuple(rows),
        note="Probability: that the point is on the frontier, given this run's random errors; one seed." + rejected,
    )


def break_even_table(data: Mapping[str, Any]) -> Table:
    """N* at the same budget and at the same quality, and T*, for each point."""
    kinds = ("reuse", "matched_quality", "serving")
    keys = list(dict.fromkeys((found["arm"], found["checkpoint"]) for found in data["break_evens"]))
    by_key = {(found["kind"], found["arm"], found["checkpoint"]): found for found in data["break_evens"]}
    shares = {(point["arm"], point["checkpoint"]): point["budget_share"] for point in data["arms"]}
    rows = [
        Row(
            cells=(
                arm,
                percent_text(shares[arm, checkpoint]),
                *(break_even_text(by_key.get((kind, arm, checkpoint))) for kind in kinds),
            )
        )
        for arm, checkpoint in keys
    ]
    return Table(
        title="When it pays",
        columns=table_columns("arm", ">budget", "N*, same token budget", "N*, same quality", "T*, tokens served"),
        rows=tuple(rows),
        note=(
            f"N*: students that must share the teacher's work before one costs no more than {data['baseline_arm']}. "
            "T*: tokens to serve before the student has repaid its making, against serving the teacher. Intervals are "
            "95 %, from metering noise and repeatability; a gain error multiplies both energies and cancels."
        ),
    )


def break_even_text(found: Mapping[str, Any] | None) -> str:
    """One break-even in words."""
    if found is None:
        return MISSING
    words = {
        "never": "never",
        "not_at_this_quality": "no baseline at this quality",
        "not_at_this_budget": "no baseline at this budget",
    }
    if found["verdict"] in words:
        return words[found["verdict"]]
    if found["verdict"] == "value":
        return students_text(found["value"], found["low"], found["high"])
    if found["low"] is None:
        return f"undetermined: {found['reason']}"
    is_tokens = found["kind"] == "serving"
    least = significant(found["low"], 2) if is_tokens else least_students_text(found["low"]).partition(" ")[0]
    return f"{least} or more, or never"


def reason_rows(data: Mapping[str, Any]) -> Sequence[str]:
    """Why each break-even at a last checkpoint is what it is."""
    finals = {(point["arm"], point["checkpoint"]) for point in data["arms"] if point["is_final"]}
    names = {"reuse": "N*", "matched_quality": "N* at the same quality", "serving": "T*"}
    return [
        f"{names[found['kind']]} of {found['arm']}: {found['reason']}."
        for found in data["break_evens"]
        if (found["arm"], found["checkpoint"]) in finals and found["verdict"] != "value"
    ]


def scores_table(data: Mapping[str, Any]) -> Table:
    """Every score of every model, teacher and start included."""
    entries = [
        (model["model"] + (f" ({model['student']})" if model["student"] else ""), "", model["scores"], model["quality"])
        for model in data["references"]
    ]
    entries += [
        (point["arm"], percent_text(point["budget_share"]), point["scores"], point["quality"]) for point in data["arms"]
    ]
    tasks = list(dict.fromkeys(score["task"] for _, _, scores, _ in entries for score in scores))
    rows = []
    for name, budget, scores, quality in entries:
        by_task = {score["task"]: score for score in scores}
        cells = (score_text(by_task.get(task)) for task in tasks)
        rows.append(Row(cells=(name, budget, *cells, quality_text(quality))))
    return Table(
        title="Scores",
        columns=table_columns("model", ">budget", *(f">{task}" for task in tasks), ">quality Q"),
        rows=tuple(rows),
        note="± is one standard error for scores, a 95 % half-width for Q.",
    )


def score_text(score: Mapping[str, Any] | None) -> str:
    """A score with its standard error and number of items."""
    if score is None or score["value"] is None:
        return MISSING
    error = "" if score["se"] is None else f" ± {significant(score['se'], 2)}"
    items = "" if score["n"] is None else f" (n {score['n']:,})"
    return f"{significant(score['value'])}{error}{items}"


def parts_table(data: Mapping[str, Any]) -> Table:
    """Who read each part, and how well."""
    rows = [
        Row(
            cells=(
                part["part"],
                part["device"] or MISSING,
                part["boundary"],
                part["basis"] or "absent",
                " · ".join(filter(None, (part["driver"], part["method"]))) or MISSING,
                part["source"] or "; ".join(part["absent_reasons"]) or MISSING,
                MISSING if part["lowest_coverage"] is None else percent_text(part["lowest_coverage"]),
                f"{part['failed_reads']:,}",
            )
        )
        for part in data["parts"]
    ]
    return Table(
        title="What was read, and how",
        columns=table_columns(
            "part", "device", "boundary", "basis", "driver", "source or formula", ">lowest coverage", ">failed reads"
        ),
        rows=tuple(rows),
    )


def sensors_table(data: Mapping[str, Any]) -> Table:
    """What each driver said of itself."""
    rows = [
        Row(cells=(sensor["driver"], "yes" if sensor["usable"] else "no", sensor["detail"], sensor["cure"]))
        for sensor in data["run"]["sensors"]
    ]
    return Table(
        title="Drivers", columns=table_columns("driver", "usable", "what it found", "what would help"), rows=tuple(rows)
    )


def environment_table(data: Mapping[str, Any]) -> Table:
    """The machine and the software, as the run noted them."""
    run = data["run"]
    rows = [
        ("run", run["run_id"]),
        ("started", run["start_utc"]),
        ("status", run["status"]),
        ("settings, SHA-256", run["settings_sha256"]),
        *((f"meter: {key}", f"{value:g}") for key, value in run["meter"].items()),
        *_flat(run["environment"]),
    ]
    return Table(
        title="Environment", columns=table_columns("what", "value"), rows=tuple(Row(cells=row) for row in rows)
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", str(value)))
    return found


def not_counted_table(data: Mapping[str, Any]) -> Table:
    """What is outside the numbers."""
    rows = tuple(Row(cells=(entry["what"], entry["why"])) for entry in data["not_counted"])
    return Table(title="What is not counted", columns=table_columns("not in these numbers", "why"), rows=rows)
