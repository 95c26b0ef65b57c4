"""What a report says, topic by topic, and so what an export loses that does not carry a topic."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from stillwatt.records.export import Loss
from stillwatt.records.impact import Impact, LifeStage
from stillwatt.report.exports.reading import Reading

TOPICS: Mapping[str, tuple[str, str]] = {
    "energy": ("$.cells[?impact=energy_*]", "electricity by stage and boundary"),
    "gwp_location": ("$.cells[?impact=gwp_location]", "location-based GWP"),
    "gwp_market": ("$.cells[?impact=gwp_market]", "market-based GWP"),
    "primary_energy": ("$.cells[?impact=primary_energy]", "primary energy"),
    "water": ("$.cells[?impact=water_*]", "water on-site and off-site, with its kind"),
    "adpe": ("$.cells[?impact=adpe]", "abiotic depletion of elements"),
    "ewaste": ("$.cells[?impact=ewaste]", "mass of electronic waste"),
    "status": ("$.cells[*].status", "how each cell is known, and which are not counted and why"),
    "intervals": ("$.cells[*].low, $.cells[*].high", "90 % intervals"),
    "embodied": ("$.cells[?stage=hardware_manufacturing]", "making of hardware and buildings, end of life"),
    "factors": ("$.factors", "every factor with its source, year and interval"),
    "coverage": ("$.coverage", "how much of stages and impacts is counted"),
    "units": ("$.functional_units", "impacts per functional unit"),
    "conventions": ("$.goal_and_scope", "goal, boundary, place and conventions"),
    "inventory": ("$.inventory", "energies by run, devices, bytes kept and fetched, attempts, what is missing"),
    "interpretation": ("$.interpretation", "hot spots, sensitivity and limits"),
}
"""Everything that a report says, by topic: where it stands, and what it is."""
NO_FIELD = "the format has no field for it"


def losses_of(
    carried: Iterable[str], *, why: Mapping[str, str] | None = None, more: Iterable[Loss] = ()
) -> tuple[Loss, ...]:
    """Each topic that is not carried, or is carried in part.

    Args:
        carried: topics that the export carries whole.
        why: of topics that it carries in part or in another way, what is lost.
        more: what else is lost.
    """
    whole, reasons = set(carried), dict(why or {})
    unknown = (whole | reasons.keys()) - TOPICS.keys()
    if unknown:
        raise ValueError(f"no such topic: {sorted(unknown)}")
    found = [
        Loss(path=path, what=what, why=reasons.get(topic, NO_FIELD))
        for topic, (path, what) in TOPICS.items()
        if topic not in whole
    ]
    return (*found, *more)


def stage_losses(reading: Reading, stages: Iterable[LifeStage], impact: Impact, why: str) -> Iterator[Loss]:
    """Stages whose value of one impact has no place in a format."""
    for stage in stages:
        value = reading.value(stage, impact)
        if value is not None:
            yield Loss(
                path=f"$.cells[?stage={stage.value}&impact={impact.value}]",
                what=f"{impact.value} of {stage.value}",
                why=why,
            )


def uncounted_losses(reading: Reading, impacts: Iterable[Impact]) -> Iterator[Loss]:
    """Cells of some impacts that are not counted: the format shows nothing where they would be, and says nothing."""
    wanted = {impact.value for impact in impacts}
    for cell in reading.uncounted():
        if cell["impact"] in wanted:
            yield Loss(
                path=f"$.cells[?stage={cell['stage']}&impact={cell['impact']}]",
                what=f"that {cell['impact']} of {cell['stage']} is not counted",
                why=f"nothing stands in its place, which may be read as nothing used: {cell.get('reason')}",
            )


def missing(field: str, why: str) -> Loss:
    """A field that the format asks for and neither the report nor the user gives."""
    return Loss(path="", what=f"the format's field {field}", why=why)
