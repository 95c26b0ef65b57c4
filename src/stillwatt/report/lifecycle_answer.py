"""What a life-cycle report comes to, in plain words: headline, a few sentences, key numbers, what to beware of.

No sentence says more than the data: an incomplete total is what could be counted, an interval that wide is a range,
and a share is one of what is counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stillwatt.records.lifecycle import ReportFault
from stillwatt.report.format import percent_text
from stillwatt.report.lifecycle_impact import coverage_text, impact_scale
from stillwatt.report.lifecycle_reasons import plain_words
from stillwatt.report.lifecycle_scope import runs_of
from stillwatt.report.lifecycle_whole import Row as Said
from stillwatt.report.lifecycle_whole import cell_of, stages_of, total_of, unit_of
from stillwatt.report.lifecycle_words import (
    NO_ZERO,
    NOT_COUNTED,
    VALUED,
    amount_text,
    factor_title,
    impact_title,
    names_text,
    range_words,
    share_text,
    stage_title,
    value_and_ends,
)

ENERGIES = ("energy_facility", "energy_node", "energy_metered")
"""Electricity by boundary, the widest first."""
_WIDE = 1.5
"""Where the interval's high end is so many times the low one, the range is told before the value."""
_MOST_NAMES = 3
_MOST_FAULTS = 5


def subject(data: Said) -> str:
    """What was accounted for, in a few words."""
    names = [str(run.get("name") or run.get("run_id") or "a run") for run in runs_of(data)]
    names = list(dict.fromkeys(names))
    if not names:
        return "this work"
    more = len(names) - _MOST_NAMES
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:_MOST_NAMES])} and {more:,} more"


def headline(data: Said) -> str:
    """The location-based GWP in one sentence, with how much of it is covered."""
    total = total_of(data, "gwp_location")
    if total is None or total["value"] is None:
        covered = "" if total is None else f" (coverage {coverage_text(data, 'gwp_location')})"
        return f"What {subject(data)} did to the climate is not known{covered}"
    covers = coverage_text(data, "gwp_location")
    said = f"{_about(total)} could be counted for {subject(data)}, with a coverage of {covers}"
    if total["complete"]:
        return said.replace(" could be counted for ", " for ", 1)
    return f"{said}: how much it was in all is not known"


def _about(total: Said) -> str:
    """A total as a range where it is a wide one, else as a value."""
    low, high = total["low"], total["high"]
    if low is not None and high is not None and low >= 0.0 and high > _WIDE * low:
        return range_words(total, total["unit"])
    return f"About {amount_text({'value': total['value']}, total['unit'])}"


def sentences(data: Said) -> list[str]:
    """What a reader should take along, in order."""
    return [*_of_climate(data), *_of_energy(data), *_of_statuses(data), *_of_hot_spots(data), *_of_doubt(data)]


def _of_climate(data: Said) -> Iterator[str]:
    for impact, by in (("gwp_location", "By the grid of the place"), ("gwp_market", "By contracts")):
        total = total_of(data, impact)
        if total is None or total["value"] is None:
            reason = (total or {}).get("reason") or "the report has no such total"
            covers = "" if total is None else f" (coverage {coverage_text(data, impact)})"
            yield f"{by}, the GWP is not known{covers}: {plain_words(reason)}."
            continue
        value, ends = value_and_ends(total, total["unit"])
        interval = f", 90 % interval {ends[1:-1].replace(', ', ' to ')}" if ends else ""
        gone = _uncounted(data, impact)
        rest = f" Not in it: {names_text(map(stage_title, gone))}." if gone else ""
        partly = "" if total["complete"] or gone else " Some of what belongs to it is missing."
        yield f"{by}: {value}{interval}; coverage {coverage_text(data, impact)}.{rest}{partly}"


def _uncounted(data: Said, impact: str) -> list[str]:
    return [stage for stage in stages_of(data) if cell_of(data, stage, impact)["status"] == NOT_COUNTED]


def widest_energy(data: Said) -> Said | None:
    """The electricity total of the widest boundary that has a value."""
    totals = [total_of(data, impact) for impact in ENERGIES]
    return next((total for total in totals if total is not None and total["value"] is not None), None)


def _of_energy(data: Said) -> Iterator[str]:
    total = widest_energy(data)
    if total is None:
        yield "No electricity is counted."
        return
    impact = total["impact"]
    value, ends = value_and_ends(total, total["unit"])
    interval = f", 90 % interval {ends[1:-1].replace(', ', ' to ')}" if ends else ""
    name = impact_title(impact)
    yield f"{name[0].upper()}{name[1:]}: {value}{interval}; coverage {coverage_text(data, impact)}."


def _of_statuses(data: Said) -> Iterator[str]:
    counts = {status: sum(cell["status"] == status for cell in data["cells"]) for status in (*VALUED, NOT_COUNTED)}
    measured, modelled, factor, gone = counts.values()
    none = "" if measured else " Nothing is measured."
    yield (
        f"Of {measured + modelled + factor + gone} cells of stage and impact that exist, {measured} are measured, "
        f"{modelled} modelled, {factor} by factors, and {gone} are not counted.{none}"
    )


def _of_hot_spots(data: Said) -> Iterator[str]:
    spots = [spot for spot in data["interpretation"]["hot_spots"] if spot["impact"] == "gwp_location"]
    if spots:
        first = spots[0]
        yield (
            f"The largest part of the location-based GWP that is counted: {stage_title(first['stage'])}, "
            f"{share_text(first['share_of_counted'])} (coverage {coverage_text(data, 'gwp_location')})."
        )


def _of_doubt(data: Said) -> Iterator[str]:
    total = total_of(data, "gwp_location")
    shares = (total or {}).get("shares_of_variance") or {}
    if not shares:
        return
    names = {factor["id"]: factor_title(factor) for factor in data["factors"]}
    name, share = max(shares.items(), key=lambda item: float(item[1]))
    yield f"Its doubt comes most from one input: {names.get(name, name)}, {share_text(share)} of the variance."


def key_numbers(data: Said) -> list[dict[str, str]]:
    """The totals that readers look for first, each with its interval and coverage."""
    energy = widest_energy(data)
    wanted = ["gwp_location", "gwp_market", energy["impact"] if energy else ENERGIES[0], "water_offsite"]
    numbers = [_key_number(data, impact) for impact in wanted if total_of(data, impact) is not None]
    score, counted = data["coverage"]["score"], data["coverage"]["counted"]
    return [
        *numbers,
        {
            "label": "Coverage of the whole account",
            "value": percent_text(score),
            "note": f"by quality of data; {percent_text(counted)} is counted at all",
        },
    ]


def _key_number(data: Said, impact: str) -> dict[str, str]:
    total = total_of(data, impact) or {}
    covers = f"coverage {coverage_text(data, impact)}"
    name = impact_title(impact)
    label = f"{name[0].upper()}{name[1:]}"
    if total["value"] is None:
        return {"label": label, "value": "not counted", "note": covers}
    value, ends = value_and_ends(total, unit_of(data, impact), impact_scale(data, impact))
    interval = f"90 %: {ends[1:-1].replace(', ', ' to ')}; " if ends else ""
    return {"label": label, "value": value, "note": f"{interval}{covers}"}


def warnings_of(data: Said, faults: Sequence[ReportFault]) -> list[str]:
    """What a reader should know before the numbers: broken rules first, then zeros that are none, then energies."""
    found = [f"{fault.path}: {fault.message} ({fault.rule})" for fault in faults[:_MOST_FAULTS]]
    if faults:
        more = f"; {len(faults) - _MOST_FAULTS:,} more: see `stillwatt validate`" if len(faults) > _MOST_FAULTS else ""
        number = f"{len(faults):,} rule{'' if len(faults) == 1 else 's'}"
        found = [f"This report breaks {number} of `stillwatt validate`; its numbers may not hold{more}.", *found]
    cautions = dict.fromkeys(caution for cell in data["cells"] for caution in cell["cautions"])
    found += [caution for caution in cautions if NO_ZERO in caution]
    lost = [use for use in data["inventory"]["uses"] if not use["energy_j"].get("complete", False)]
    if lost:
        found.append(f"{len(lost):,} energies of the inventory are not known or not whole; see the inventory.")
    return found
