"""EU GPAI Model Documentation Form, energy and compute part, by a mapping with a version of its own."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stillwatt.records.export import Details, Exported, Loss
from stillwatt.records.impact import Impact, LifeStage
from stillwatt.report.exports.losses import losses_of, missing
from stillwatt.report.exports.reading import Reading, pretty
from stillwatt.units import KWH_PER_MWH, S_PER_H

SCHEMA = "stillwatt.eu-gpai/1"
MAPPING = "eu_gpai_2025-07-10.toml"
NOT_AVAILABLE = "N/A"
_MONTH_DAYS = 365.25 / 12.0
_RANGES = ((1.0, "<1 month"), (3.0, "1-3 months"), (6.0, "3-6 months"), (math.inf, ">6 months"))
_BOUNDARY = {
    Impact.ENERGY_FACILITY: "the facility, PUE included",
    Impact.ENERGY_NODE: "the node, without the facility",
    Impact.ENERGY_METERED: "the meter, without what it does not see",
}


def mapping() -> dict[str, Any]:
    """The mapping that is in force."""
    path = Path(__file__).resolve().parent / "data" / MAPPING
    return tomllib.loads(path.read_text(encoding="utf-8"))


def to_eu_gpai(report: Mapping[str, Any], details: Details) -> Exported:
    """The fields that a report can fill; others say N/A and why."""
    reading, form = Reading(report, details), mapping()
    stages = tuple(LifeStage(name) for name in form["training_stages"])
    writer = _Form(reading, stages, int(form["significant_figures"]), int(form["methodology_words"]))
    fields, losses = [], []
    for field in form["field"]:
        value, why = writer.fill(field["id"])
        fields.append({**field, "value": NOT_AVAILABLE if value is None else value, "note": why or None})
        if value is None:
            losses.append(missing(f"{field['section']} {field['title']}", why))
    document = {
        "schema": SCHEMA,
        "form": {key: form[key] for key in ("form", "form_date", "mapping_version", "status")},
        "report_sha256": reading.sha256,
        "boundary": writer.boundary(),
        "energy_by_stage_mwh": writer.by_stage(),
        "fields": fields,
    }
    partly = {"energy": "one sum at one boundary, by stage beside it", "conventions": "what 100 words hold"}
    return Exported(text=pretty(document), losses=losses_of((), why=partly, more=[*losses, *writer.left_out()]))


def significant(value: float, figures: int) -> str:
    """A number with at least so many significant figures, without a power of ten where it can be read without.

    >>> significant(0.0123456, 2), significant(1234.5, 2), significant(2.0, 2)
    ('0.0123', '1230', '2.00')
    """
    if value == 0.0:
        return "0"
    figures += 1  # at least two are asked for; a third keeps rounding out of the second
    exponent = math.floor(math.log10(abs(value)))
    places = figures - 1 - exponent
    rounded = round(value, places)
    if not -7 < exponent < 15:
        return f"{value:.{figures - 1}e}"
    return f"{rounded:.{max(places, 0)}f}"


class _Form:
    """Fills one form."""

    def __init__(self, reading: Reading, stages: tuple[LifeStage, ...], figures: int, words: int) -> None:
        self._reading, self._stages, self._figures, self._words = reading, stages, figures, words
        self._energy = reading.widest_energy(stages)
        self._cut: list[str] = []
        details = reading.details
        self._fillers: dict[str, Callable[[], tuple[Any, str]]] = {
            "model_name": lambda: (reading.name, "" if details.model else "the runs' names; --detail model=NAME"),
            "model_authenticity": lambda: _given(details.model_hash, "model_hash"),
            "release_date": lambda: _given(details.release_date, "release_date"),
            "model_dependencies": lambda: _given(details.base_model, "base_model"),
            "total_parameters": lambda: self._number(details.parameters, "parameters"),
            "training_time_days": self._days,
            "training_time_range": self._range,
            "training_flop": lambda: self._number(details.training_flop, "training_flop"),
            "training_flop_magnitude": self._magnitude,
            "compute_methodology": lambda: _given(details.compute_methodology, "compute_methodology"),
            "energy_mwh": self._mwh,
            "energy_methodology": self._methodology,
            "inference_flop": lambda: self._number(details.inference_flop, "inference_flop"),
            "inference_methodology": lambda: _given(details.inference_task, "inference_task"),
        }

    def fill(self, field: str) -> tuple[Any, str]:
        """A field's value, or None, and what must be known of it."""
        return self._fillers[field]()

    def boundary(self) -> dict[str, Any]:
        """What the energy covers: the form asks for a figure and names none."""
        return {
            "energy": _BOUNDARY[self._energy[0]] if self._energy else None,
            "stages": [stage.value for stage in self._stages],
            "lacking": self._reading.lacking(self._stages, self._energy[0] if self._energy else Impact.ENERGY_METERED),
        }

    def by_stage(self) -> dict[str, str | None]:
        """Each stage's share, so that a reader can draw the line elsewhere; null where it is not counted."""
        impact = self._energy[0] if self._energy else Impact.ENERGY_METERED
        found = {stage.value: self._reading.value(stage, impact) for stage in self._stages}
        return {
            name: None if value is None else significant(value / KWH_PER_MWH, self._figures)
            for name, value in found.items()
        }

    def left_out(self) -> Iterator[Loss]:
        """Sentences that the methodology had no room for."""
        for sentence in self._cut:
            yield Loss(path="$.goal_and_scope", what=sentence, why=f"the methodology holds {self._words} words")

    def _number(self, value: float | None, key: str) -> tuple[Any, str]:
        if value is None:
            return None, f"the report does not know it; give it with --detail {key}=N"
        return significant(value, self._figures), "given by the user"

    def _magnitude(self) -> tuple[Any, str]:
        """The power of ten at or below the FLOP of training."""
        flop = self._reading.details.training_flop
        if flop is None:
            return self._number(None, "training_flop")
        return f"10^{int(f'{flop:.16e}'.partition('e')[2])}", "the power of ten of what the user gave"

    def _wall_days(self) -> float | None:
        """Sum over runs of the longest time that a device was held."""
        longest: dict[str, float] = {}
        for held in self._reading.inventory["devices"]:
            longest[held["run"]] = max(longest.get(held["run"], 0.0), float(held["time_s"]))
        runs = {run["run_id"] for run in self._reading.runs}
        times = [time_s for run, time_s in longest.items() if run in runs]
        return math.fsum(times) / (24.0 * S_PER_H) if times else None

    def _days(self) -> tuple[Any, str]:
        wall = self._wall_days()
        if wall is None:
            return None, "the report holds no device with the time that it was held"
        held = [float(one["count"]) * float(one["time_s"]) for one in self._reading.accelerators]
        days: dict[str, str | None] = {"wall_clock_days": significant(wall, self._figures), "hardware_days": None}
        if not held:
            return days, "no accelerator is in the report, so hardware-days are not known"
        days["hardware_days"] = significant(math.fsum(held) / (24.0 * S_PER_H), self._figures)
        return days, "all runs of the account, evaluation and idle baselines too; accelerators alone"

    def _range(self) -> tuple[Any, str]:
        wall = self._wall_days()
        if wall is None:
            return None, "the report holds no device with the time that it was held"
        return next(name for most, name in _RANGES if wall / _MONTH_DAYS < most), ""

    def _mwh(self) -> tuple[Any, str]:
        if self._energy is None:
            return None, "no energy of making the model is counted"
        impact, value = self._energy
        lacks = self._reading.lacking(self._stages, impact)
        note = f"at the boundary of {_BOUNDARY[impact]}; " + ("incomplete" if lacks else "all that is in the ledger")
        return significant(value / KWH_PER_MWH, self._figures), note

    def _methodology(self) -> tuple[Any, str]:
        """At most so many words, the most telling sentences first."""
        text: list[str] = []
        for sentence in self._sentences():
            if len(" ".join((*text, sentence)).split()) <= self._words:
                text.append(sentence)
            else:
                self._cut.append(sentence)
        return " ".join(text), f"{len(' '.join(text).split())} of at most {self._words} words"

    def _sentences(self) -> Iterator[str]:
        reading = self._reading
        tool, version = reading.maker
        if self._energy is None:
            yield f"No energy of making the model is counted by {tool} {version}."
            return
        impact, value = self._energy
        cells = [reading.cell(stage, Impact.ENERGY_METERED) for stage in self._stages]
        how = " and ".join(sorted({str(cell["status"]) for cell in cells if cell is not None})) or "stated"
        meters = " and ".join(reading.meters) or "unknown meters"
        yield f"Electricity, {how} with {tool} {version} by {meters}."
        by_factors = ", to which it was brought by factors" if impact is not Impact.ENERGY_METERED else ""
        yield f"Boundary: {_BOUNDARY[impact]}{by_factors}."
        counted = [stage.value for stage in self._stages if reading.value(stage, impact) is not None]
        yield f"Covers {', '.join(counted)}, failed attempts included."
        ends = reading.interval_of(self._stages, impact)
        if ends and value:
            yield f"90 % interval {ends[0] / value - 1.0:+.0%} to {ends[1] / value - 1.0:+.0%}."
        absent = [stage.value for stage in self._stages if reading.value(stage, impact) is None]
        if absent:
            yield f"Not counted: {', '.join(absent)}."
        for quantity, words in (("pue", "PUE"), ("node_overhead", "Node over accelerators")):
            factor = reading.factor_used(quantity)
            if factor is not None and impact is not Impact.ENERGY_METERED and self._uses(factor["id"], impact):
                yield f"{words} {factor['value']:.3g} ({factor['where']}, {factor['year'] or 'no year'})."
        yield f"Report sha256 {reading.sha256[:16]}."

    def _uses(self, factor: str, impact: Impact) -> bool:
        return any(factor in (self._reading.cell(stage, impact) or {}).get("factors", ()) for stage in self._stages)


def _given(value: str, key: str) -> tuple[Any, str]:
    return (value, "given by the user") if value else (None, f"the report does not know it; --detail {key}=TEXT")
