"""SCI (ISO/IEC 21031:2024) and SCI for AI: (E × I + M) / R, location-based, without offsets; null where M is unknown.

O is the location-based GWP of the electricity, which is E × I cell by cell (method.md, eq. 66); M the GWP of making
hardware and buildings for the time that they were held. Nothing market-based is in either, and offsets are in neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stillwatt.records.export import Details, Exported, Loss
from stillwatt.records.impact import Impact, LifeStage
from stillwatt.report.exports.losses import losses_of
from stillwatt.report.exports.reading import MADE, Reading, pretty
from stillwatt.units import KG_PER_G

SCHEMA = "stillwatt.sci/1"
_MADE_OF = (LifeStage.HARDWARE, LifeStage.INFRASTRUCTURE)
_USED = (*MADE, LifeStage.DEPLOYMENT)
_EXCLUDED = ("market-based GWP", "offsets and removals", "end of life of hardware (not part of M)")


def to_sci(report: Mapping[str, Any], details: Details) -> Exported:
    """Both scores with everything that the specifications ask to be disclosed."""
    reading = Reading(report, details)
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "of": {"name": reading.name, "report_sha256": reading.sha256, "coverage": reading.coverage["score"]},
        "formula": "SCI = (E * I + M) / R",
        "excluded": list(_EXCLUDED),
        "conventions": {
            "E": "electricity of the facility, PUE included",
            "I": "location-based average intensity of the grid",
            "M": "GWP of making, for the time held over the lifetime",
            "time_share": reading.scope["conventions"]["time_share"],
            "conversions": _conversions(reading),
        },
        "sci": {
            "scores": [
                _score(reading, unit, _stages_of(unit), () if unit.get("stages") else _MADE_OF)
                for unit in reading.inventory["counts"]
            ]
        },
        "sci_ai": {
            "provider": _provider(reading, details),
            "consumer": _consumer(reading),
            "values": "gross: no optimisation is taken off",
            "assumptions": list(reading.scope["about"].get("assumptions", ())),
        },
    }
    partly = {
        "energy": "the facility's alone",
        "gwp_location": "electricity and making alone, per unit",
        "embodied": "GWP alone, and no end of life",
        "factors": "those of the formula alone",
        "units": "GWP per unit alone",
        "conventions": "those of the formula alone",
    }
    more = [
        Loss(path="$.functional_units", what=f"SCI per {one['unit']}", why=str(one["reason"]))
        for one in document["sci"]["scores"]
        if one["sci_g_per_unit"] is None
    ]
    return Exported(text=pretty(document), losses=losses_of((), why=partly, more=more))


def _stages_of(unit: Mapping[str, Any]) -> tuple[LifeStage, ...]:
    """Whose electricity a unit divides: the stages that the report names, else all in which something runs."""
    named = {str(stage) for stage in unit.get("stages", ())}
    return tuple(stage for stage in _USED if not named or stage.value in named)


def _score(
    reading: Reading, unit: Mapping[str, Any], stages: Sequence[LifeStage], made_of: Sequence[LifeStage] = _MADE_OF
) -> dict[str, Any]:
    """One score; `sci_g_per_unit` is null where a term is unknown, with what is known beside it."""
    used_g = _grams(reading.sum_of(stages, Impact.GWP_LOCATION))
    made_g = _grams(reading.sum_of(made_of, Impact.GWP_LOCATION))
    if LifeStage.HARDWARE not in made_of or reading.value(LifeStage.HARDWARE, Impact.GWP_LOCATION) is None:
        made_g = None  # a building alone is no M
    count = unit["count"]
    energy = reading.sum_of(stages, Impact.ENERGY_FACILITY)
    factor = reading.factor_used("grid_gwp_location")
    lacking = reading.lacking((*stages, *made_of), Impact.GWP_LOCATION)
    reasons = [
        *([f"R is not known: {unit.get('reason')}"] if count is None else []),
        *(["E × I is not counted in any of its stages"] if used_g is None else []),
        *([_no_making(made_of)] if made_g is None else []),
    ]
    known = None if reasons or used_g is None or made_g is None or count is None else (used_g + made_g) / count
    return {
        "unit": unit["unit"],
        "R": count,
        "stages": [stage.value for stage in stages],
        "E_kwh": energy,
        "I_g_per_kwh": None if factor is None else factor["value"] / KG_PER_G,
        "E_times_I_g": used_g,
        "M_g": made_g,
        "sci_g_per_unit": known,
        "complete": known is not None and not lacking,
        "lacking": lacking,
        "reason": "; ".join(reasons) or None,
    }


def _no_making(made_of: Sequence[LifeStage]) -> str:
    if not made_of:
        return "M of these stages is not split from that of the whole account, and an SCI without M is none"
    return "M is not counted (making of hardware), and an SCI without M is none"


def _provider(reading: Reading, details: Details) -> dict[str, Any]:
    """Data with the teacher's generation, all attempts, training, adapting; the units that the specification allows."""
    said = (
        ("training token", reading.count("token")["count"], reading.count("token")["reason"]),
        ("parameter", details.parameters, "the report does not know it; give it with --detail parameters=N"),
        ("FLOP", details.training_flop, "the report does not know it; give it with --detail training_flop=N"),
    )
    units = [{"unit": unit, "count": count, "reason": reason} for unit, count, reason in said]
    made_of = () if reading.has_scenario_devices else _MADE_OF  # serving's hardware is the consumer's
    return {
        "chosen_unit": "training token",
        "rationale": "tokens are counted by the runs themselves",
        "includes": "every epoch, step, intermediate, failed and discarded run that is in the ledger",
        "scores": [_score(reading, unit, MADE, made_of) for unit in units],
    }


def _consumer(reading: Reading) -> dict[str, Any]:
    """Serving: its electricity is known where a scenario is given; its share of M is not split from the provider's."""
    unit = reading.count("1,000 requests")
    if reading.value(LifeStage.DEPLOYMENT, Impact.GWP_LOCATION) is None:
        why = reading.why_not(LifeStage.DEPLOYMENT, Impact.GWP_LOCATION)
        return {"scores": [], "reason": f"serving is not counted: {why}"}
    score = _score(reading, unit, (LifeStage.DEPLOYMENT,), ())
    score["reason"] = "M of serving is not split from M of making the model: see the provider's score"
    return {"scores": [score], "reason": score["reason"]}


def _conversions(reading: Reading) -> list[dict[str, Any]]:
    """The factors of the formula, with their sources."""
    wanted = {name for cell in _cells(reading) for name in cell["factors"]}
    kept = ("id", "quantity", "value", "low", "high", "unit", "where", "year", "source", "licence", "hash")
    return [{key: factor[key] for key in kept} for factor in reading.report["factors"] if factor["id"] in wanted]


def _cells(reading: Reading) -> Iterable[Mapping[str, Any]]:
    return (cell for cell in reading.valued() if cell["impact"] == Impact.GWP_LOCATION.value)


def _grams(kilograms: float | None) -> float | None:
    return None if kilograms is None else kilograms / KG_PER_G
