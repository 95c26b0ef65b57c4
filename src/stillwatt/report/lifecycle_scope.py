"""Goal and scope, inventory and factors of a life-cycle report as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stillwatt.report.comparison_tables import limited_table
from stillwatt.report.format import MISSING, date_text, duration_text, energy_text, pick_unit
from stillwatt.report.lifecycle_reasons import plain_words, told_once
from stillwatt.report.lifecycle_whole import Row as Said
from stillwatt.report.lifecycle_words import (
    NOT_COUNTED,
    amount_text,
    factor_title,
    impact_title,
    names_text,
    number_text,
    quantity_title,
    stage_title,
)
from stillwatt.report.tables import Row, Table, table_columns, web_address

_KNOWN_ABOUT = ("goal", "made_by", "runs", "student", "booked", "assumptions", "served", "counted_twice")
"""The last are among the assumptions, too."""
_SOURCE = 6
"""Column of a factor's source."""
_CONVENTIONS: Mapping[str, Mapping[Any, str]] = {
    "time_share": {
        "calendar": "devices are charged from the beginning to the end of the work, whatever they did",
        "busy": "devices are charged for the stages of the work alone",
    },
    "charge_idle": {True: "the fleet's idle hours are charged to the work", False: "idle hours are charged to nothing"},
    "charge_hydro": {
        True: "what evaporates from reservoirs is charged to hydro power",
        False: "what evaporates from reservoirs is charged to nothing",
    },
}


def runs_of(data: Said) -> list[Mapping[str, Any]]:
    """The runs of the account, as far as a report tells of them in the usual way."""
    runs = data["goal_and_scope"]["about"].get("runs")
    return [run for run in runs if isinstance(run, Mapping)] if isinstance(runs, Sequence) else []


def about_table(data: Said) -> Table:
    """What was asked, by whom, where and by which conventions."""
    scope = data["goal_and_scope"]
    about, place, doubt = scope["about"], scope["place"], scope["uncertainty"]
    where = ", ".join(filter(None, (f"{place['name']} ({place['code']}, {place['kind']})", place["provider"])))
    rows = [("goal", _text(about["goal"]) if about.get("goal") else "not stated"), ("place", where)]
    if place["caution"]:
        rows.append(("of the place", place["caution"]))
    if about.get("student"):
        rows.append(("arm that was kept", _text(about["student"])))
    for name, value in scope["conventions"].items():
        rows.append((name.replace("_", " "), _CONVENTIONS.get(name, {}).get(value, _text(value))))
    rows.append(
        ("intervals", f"{doubt['interval'] * 100:g} %, by {doubt['draws']:,} random draws, seed {doubt['seed']}")
    )
    if about.get("served"):
        rows.append(("student that is served", _served(about["served"])))
    if about.get("made_by"):
        rows.append(("made by", _maker(about["made_by"])))
    rows += [(str(key), _text(value)) for key, value in about.items() if key not in _KNOWN_ABOUT]
    if not runs_of(data) and about.get("runs"):
        rows.append(("runs", _text(about["runs"])))
    return Table(
        title="What was asked", columns=table_columns("what", "said"), rows=tuple(Row(cells=row) for row in rows)
    )


def _maker(made: Any) -> str:
    if isinstance(made, Mapping) and set(made) == {"name", "version"}:
        return f"{_text(made['name'])} {_text(made['version'])}"
    return _text(made)


def _served(served: Any) -> str:
    """Whom a serving scenario serves, why, and by which stages."""
    if not isinstance(served, Mapping) or set(served) != {"student", "why", "stages", "not_served"}:
        return _text(served)
    stages = [one for one in served["stages"] if isinstance(one, Mapping)]
    by = names_text(f"{_text(one.get('stage'))} of {_text(one.get('run'))}" for one in stages)
    rest = f"; not served: {_text(served['not_served'])}" if served["not_served"] else ""
    return f"{_text(served['student'])}, by {by}: {_text(served['why'])}{rest}"


def _text(value: Any) -> str:
    """A value that may be anything, on one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(map(_text, value))
    if value is None or isinstance(value, bool):
        return "not said" if value is None else "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def runs_table(data: Said) -> Table:
    """The runs that are accounted for."""
    rows = [
        [
            _text(run.get("run_id")),
            _text(run.get("name")),
            date_text(_text(run.get("start_utc"))),
            _text(run.get("status")),
            _text(run.get("complete")),
        ]
        for run in runs_of(data)
    ]
    titles = table_columns("run", "name", "started", "status", "energy whole")
    return limited_table("Runs", titles, rows, "")


def boundary_table(data: Said) -> Table:
    """The system boundary: what of each stage is counted, and why the rest is left out."""
    elsewhere = frozenset(cell["reason"] for cell in data["cells"] if cell["status"] == NOT_COUNTED)
    rows = [
        Row(
            cells=(
                stage_title(row["stage"]),
                names_text(map(impact_title, row["counted"])) if row["counted"] else "nothing",
                told_once(row["left_out"], elsewhere=elsewhere) or MISSING,
            )
        )
        for row in data["goal_and_scope"]["system_boundary"]
    ]
    return Table(
        title="System boundary",
        columns=table_columns("stage", "counted", "left out, and why"),
        rows=tuple(rows),
        note="How a figure that is missing can be given is told under “What is not counted”." if elsewhere else "",
    )


def chosen_table(data: Said) -> Table:
    """Which factor stands for what at this place, or why there is none."""
    scope, factors = data["goal_and_scope"], {factor["id"]: factor for factor in data["factors"]}
    rows = [
        Row(cells=(quantity_title(name), *_chosen(found, factors)))
        for part in ("site_factors", "shared_factors")
        for name, found in scope[part].items()
    ]
    return Table(
        title="Factors of the place and of the account",
        columns=table_columns("for", ">value", "factor", "to be known of it"),
        rows=tuple(rows),
    )


def _chosen(found: Said, factors: Mapping[str, Said]) -> tuple[str, str, str]:
    name = found["factor"]
    if name is None:
        return "none", "", plain_words(found.get("reason") or "")
    factor = factors.get(name)
    value = MISSING if factor is None else f"{number_text(factor['value'])} {_unit(factor)}".strip()
    return value, name, "; ".join(map(plain_words, found.get("cautions", ())))


def _unit(factor: Said) -> str:
    """A factor's unit; a bare ratio has none to show."""
    return "" if factor["unit"] == "1" else str(factor["unit"])


def booked_table(data: Said) -> Table | None:
    """Which stage of a run is counted in which stage of the life cycle, and why; None where nobody says."""
    booked = data["goal_and_scope"]["about"].get("booked")
    entries = [one for one in booked if isinstance(one, Mapping)] if isinstance(booked, Sequence) else []
    if not entries:
        return None
    rows = [
        [
            *(_text(one.get(key)) for key in ("run", "stage", "attempt")),
            stage_title(_text(one.get("booked_in"))),
            _text(one.get("why")),
        ]
        for one in entries
    ]
    return limited_table(
        "Where each stage of a run is counted", table_columns("run", "stage", ">attempt", "counted in", "why"), rows, ""
    )


def assumptions_of(data: Said) -> tuple[str, ...]:
    """What was taken to be so."""
    said = data["goal_and_scope"]["about"].get("assumptions") or ()
    return tuple(map(_text, said)) if isinstance(said, list | tuple) else (_text(said),)


def uses_table(data: Said) -> Table:
    """Energy by run and stage, as it came from the meter."""
    uses = data["inventory"]["uses"]
    rows = [[use["run"], stage_title(use["stage"]), *_energy(use["energy_j"]), use["meter"]] for use in uses]
    return limited_table(
        "Electricity",
        table_columns("run", "counted in", ">energy [95 %]", "basis", "boundary", "read by"),
        rows,
        "These intervals are 95 % and the meter's own; those of impacts are 90 %. One line is one stage of a run.",
    )


def _energy(entry: Said) -> tuple[str, str, str]:
    """Each in a unit of its own: a scenario of years stands beside stages of seconds."""
    if "absent" in entry:
        return "not known", entry["absent"], ""
    lost = f", without {', '.join(entry['absent_channels'])}" if entry["absent_channels"] else ""
    basis = entry["basis"] + ("" if entry["complete"] else f", incomplete{lost}")
    return energy_text(entry, pick_unit([entry["value_j"]])), basis, entry["boundary"]


def devices_table(data: Said) -> Table:
    """Devices that were held for a time, and what is known of their making and end."""
    rows = []
    for held in data["inventory"]["devices"]:
        found = held["found"]
        have = [name for name, one in found.items() if one["factor"] is not None]
        lack = [name for name, one in found.items() if one["factor"] is None]
        rows.append(
            [
                held["run"],
                held["role"],
                f"{held['name']} ({held['device']})" if held["device"] != held["name"] else held["name"],
                number_text(held["count"]),
                duration_text(held["time_s"]),
                _quantities(have),
                _quantities(lack),
                "; ".join(map(plain_words, held["cautions"])),
            ]
        )
    titles = ("run", "role", "device", ">number", ">held for", "factors for", "no factor for", "to be known of it")
    return limited_table("Devices", table_columns(*titles), rows, "")


def _quantities(names: Sequence[str]) -> str:
    return names_text(map(quantity_title, names)) if names else MISSING


def stored_table(data: Said) -> Table:
    """Bytes that are kept, for how long and on what."""
    rows = [
        [
            kept["run"],
            kept["what"],
            amount_text({"value": kept["size_bytes"]}, "B"),
            f"{number_text(kept['days'])} days",
            kept["technology"],
            kept["found"]["factor"] or f"none: {kept['found'].get('reason') or 'not said'}",
        ]
        for kept in data["inventory"]["stored"]
    ]
    titles = table_columns("run", "what", ">size", ">kept for", "on", "factor of its making")
    return limited_table("What is stored", titles, rows, "")


def moved_table(data: Said) -> Table:
    """Bytes that were fetched, who says so, and by which factor their way is counted."""
    rows = [
        [
            moved["run"],
            moved["what"],
            amount_text({"value": moved["size_bytes"]}, "B"),
            "the run's record" if moved["told_by"] == "record" else moved["told_by"],
            moved["found"]["factor"] or f"none: {moved['found'].get('reason') or 'not said'}",
        ]
        for moved in data["inventory"]["moved"]
    ]
    titles = table_columns("run", "what", ">size", "told by", "factor of its way")
    return limited_table("What was fetched", titles, rows, "")


def tried_table(data: Said) -> Table:
    """Where attempts were looked for, which a 0 of experimentation needs."""
    tried = data["inventory"]["tried"]
    rows = [] if tried is None else [[str(tried["runs_looked_at"]), str(tried["attempts"]), tried["means"]]]
    return limited_table("Attempts looked for", table_columns(">runs looked at", ">attempts found", "where"), rows, "")


def lacks_table(data: Said) -> Table:
    """What belongs to the inventory and is not known."""
    rows = [
        [
            stage_title(lack["stage"]),
            plain_words(lack["reason"]),
            names_text(map(impact_title, lack["impacts"])) if lack["impacts"] else "all that apply",
        ]
        for lack in data["inventory"]["lacks"]
    ]
    return limited_table("Known to be missing", table_columns("stage", "what", "impacts that lack it"), rows, "")


def factors_table(data: Said) -> Table:
    """Every factor that was used: value, interval, unit, year, source, licence."""
    return Table(
        title="Every factor used",
        columns=table_columns("factor", ">value", ">low", ">high", "unit", ">year", "source", "licence", "read there"),
        rows=tuple(_factor_row(factor) for factor in data["factors"]),
        note="Low and high are the ends of the 90 % interval; “ours” where the source gives none and the interval is "
        "this project's. Read there: whether the number was read in the source that is named.",
    )


def _factor_row(factor: Said) -> Row:
    address = web_address(factor["source_url"])
    source = factor["source"] or factor["source_url"] or "not stated"
    if factor["source_url"] and not address and factor["source_url"] != source:
        source = f"{source}, {factor['source_url']}"
    ours = " (ours)" if factor["spread_is_ours"] else ""
    cells = (
        f"{factor_title(factor)} ({factor['id']})",
        number_text(factor["value"]),
        number_text(factor["low"]),
        f"{number_text(factor['high'])}{ours}",
        _unit(factor) or "ratio",
        MISSING if factor["year"] is None else str(factor["year"]),
        source,
        factor["licence"] or "not stated",
        "yes" if factor["verified"] else "no",
    )
    return Row(cells=cells, links=tuple(address if place == _SOURCE else "" for place in range(len(cells))))


def remarks_table(data: Said) -> Table:
    """What else each factor says of itself, and its hash."""
    rows = [
        Row(
            cells=(
                factor["id"],
                factor["boundary"],
                factor["distribution"],
                "; ".join(_remarks(factor)),
                factor["hash"],
            )
        )
        for factor in data["factors"]
    ]
    titles = table_columns("factor", "boundary", "distribution", "remarks", "sha256")
    return Table(title="Of the factors", columns=titles, rows=tuple(rows))


def _remarks(factor: Said) -> Iterator[str]:
    yield from filter(None, (factor["note"],))
    if factor["water"]:
        yield f"water: {factor['water']}"
    if factor["origin"] != "stillwatt":
        yield f"from {factor['origin']}"
