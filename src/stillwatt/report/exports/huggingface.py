"""Hugging Face model card: `co2_eq_emissions` in GRAMS for the front matter, and a section of its own for the text.

The section stands between two marks, so that a later export replaces it and nothing else of the card.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stillwatt.records.export import Details, Loss
from stillwatt.records.impact import Impact, LifeStage
from stillwatt.report.exports.losses import losses_of, uncounted_losses
from stillwatt.report.exports.reading import EMBODIED, MADE, Reading
from stillwatt.units import KG_PER_G, S_PER_H

BEGIN, END = "<!-- stillwatt: begin -->", "<!-- stillwatt: end -->"
_SECTION = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|<>~])")


@dataclass(frozen=True, slots=True, kw_only=True)
class CardParts:
    """What goes into a card, and what is lost."""

    emissions: Mapping[str, Any] | None
    """The block `co2_eq_emissions`; None where no GWP is counted: then the card gets none, and never a 0."""
    section: str
    losses: tuple[Loss, ...]


def to_card(report: Mapping[str, Any], details: Details) -> CardParts:
    """Front matter and section of a model card."""
    reading = Reading(report, details)
    gwp_kg = reading.sum_of(MADE, Impact.GWP_LOCATION)
    emissions = None if gwp_kg is None else _emissions(reading, gwp_kg)
    partly = {
        "gwp_location": "one sum over the making of the model, in grams; by stage in the text",
        "energy": "in the text alone",
        "gwp_market": "in the text alone",
        "water": "in the text alone",
        "primary_energy": "in the text alone",
        "adpe": "in the text alone",
        "ewaste": "in the text alone",
        "status": "in the text alone",
        "intervals": "in the text alone",
        "embodied": "in the text alone: the front matter counts electricity",
        "coverage": "the score alone, in the text",
    }
    more = [*uncounted_losses(reading, (Impact.GWP_LOCATION,))]
    if reading.value(LifeStage.TRAINING, Impact.GWP_LOCATION) is not None:
        more.append(
            Loss(
                path="$.cells[?stage=training]", what="training and adapting side by side", why="one training_type only"
            )
        )
    return CardParts(emissions=emissions, section=_section(reading), losses=losses_of((), why=partly, more=more))


def with_section(text: str, section: str) -> str:
    """A card's text with the section in place of an earlier one, or at its end; nothing else is changed."""
    if _SECTION.search(text):
        return _SECTION.sub(lambda _: section, text, count=1)
    return f"{text.rstrip(chr(10))}\n\n{section}\n" if text.strip() else f"\n{section}\n"


def plain(text: str) -> str:
    r"""A name as Markdown shows it, whatever marks are in it, on one line.

    >>> print(plain("a|b <script>"))
    a\|b \<script\>
    """
    return _SPECIAL.sub(r"\\\1", _on_one_line(text))


def _on_one_line(text: str) -> str:
    # the library that writes the front matter cuts blanks off its end, and what is left may mean something else there
    return " ".join(text.split())


def _emissions(reading: Reading, gwp_kg: float) -> dict[str, Any]:
    tool, version = reading.maker
    stages = [stage.value for stage in MADE if reading.value(stage, Impact.GWP_LOCATION) is not None]
    was_trained = reading.value(LifeStage.TRAINING, Impact.GWP_LOCATION) is not None
    boards = ((name, count) for role, name, count in reading.machines() if role == "accelerator")
    hardware = "; ".join(f"{count:g} x {name}" for name, count in boards)
    return {
        "emissions": gwp_kg / KG_PER_G,
        "source": f"{tool} {version}: location-based GWP of electricity in {', '.join(stages)}; "
        f"report sha256 {reading.sha256}",
        "training_type": "pre-training" if was_trained else "fine-tuning",
        "geographical_location": _on_one_line(reading.place["name"]),
        **({"hardware_used": _on_one_line(hardware)} if hardware else {}),
    }


def _section(reading: Reading) -> str:
    return "\n".join((BEGIN, *_lines(reading), END))


def _lines(reading: Reading) -> Iterator[str]:
    tool, version = reading.maker
    yield "## Environmental Impact"
    yield ""
    yield f"Life-cycle report by {plain(tool)} {plain(version)}, sha256 `{reading.sha256}`;"
    yield (
        f"coverage {float(reading.coverage['score']):.2f} of 1. What is not counted is missing from every total and is "
        "not 0."
    )
    yield ""
    for held in reading.accelerators:
        name, hours = plain(held["name"]), held["time_s"] / S_PER_H
        yield f"- **Hardware Type:** {held['count']:g} x {name}, {hours:.4g} hours each"
    yield f"- **Compute Region:** {plain(str(reading.place['name']))}"
    if reading.place["provider"]:
        yield f"- **Cloud Provider:** {plain(str(reading.place['provider']))}"
    yield ""
    yield "| stage | impact | value | 90 % interval | unit | known as |"
    yield "|---|---|---|---|---|---|"
    for cell in reading.valued():
        interval = f"{cell['low']:.4g} to {cell['high']:.4g}"
        incomplete = ", incomplete" if cell.get("incomplete") else ""
        yield (
            f"| {plain(cell['stage'])} | {plain(cell['impact'])} | {cell['value']:.4g} | {interval} "
            f"| {plain(cell['unit'])} | {plain(cell['status'])}{incomplete} |"
        )
    yield ""
    yield from _not_counted(reading)


def _not_counted(reading: Reading) -> Iterator[str]:
    """Stages of the making whose GWP is not known: what the grams of the front matter lack."""
    for stage in (*MADE, *EMBODIED):
        if reading.cell(stage, Impact.GWP_LOCATION) is None:
            yield f"- not counted: GWP of {plain(stage.value)}: {plain(reading.why_not(stage, Impact.GWP_LOCATION))}"
