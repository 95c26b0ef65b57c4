"""JSON Schema of `stillwatt.comparison/1`: what `stillwatt analyse --json` prints."""

from __future__ import annotations

import json
from typing import Any

from stillwatt.records.channel import Basis
from stillwatt.records.finding import Verdict
from stillwatt.report.comparison import SCHEMA

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ID = "https://github.com/stillwatt/stillwatt/blob/main/docs/reference/comparison.schema.json"
_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}
_TEXT_OR_NULL = {"type": ["string", "null"]}
_NUMBER = {"type": "number"}
_NUMBER_OR_NULL = {"type": ["number", "null"]}
_AMOUNT = {"type": "number", "minimum": 0}
_AMOUNT_OR_NULL = {"type": ["number", "null"], "minimum": 0}
_SHARE_OR_NULL = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
_COUNT = {"type": "integer", "minimum": 0}
_YES_NO = {"type": "boolean"}
_BASES = [basis.value for basis in Basis]
_VERDICT = {"enum": [verdict.value for verdict in Verdict]}
_ALLOCATION = "^(one-off|reuse:[0-9]+|tokens|marginal)$"
_INTERVAL = {"value": _NUMBER_OR_NULL, "low": _NUMBER_OR_NULL, "high": _NUMBER_OR_NULL, "verdict": _VERDICT}


def comparison_schema() -> dict[str, Any]:
    """The schema; unknown is null, an energy is in kWh, an interval is 95 %."""
    return {
        "$schema": _DIALECT,
        "$id": _ID,
        "title": SCHEMA,
        "description": "Many trainings side by side. Unknown is null and never 0; energies are in kWh; intervals "
        "are 95 %; a null `high` beside a `low` is no upper end. Half-widths are of random errors and of how trainings "
        "repeat; `total_low_kwh` and `total_high_kwh` have the systematic part in them.",
        **_object(_properties()),
    }


def schema_text() -> str:
    """The schema as `docs/reference/comparison.schema.json` keeps it."""
    return json.dumps(comparison_schema(), indent=1) + "\n"


def _properties() -> dict[str, Any]:
    probability = _by_allocation(_by_name(_SHARE_OR_NULL))
    return {
        "schema": {"const": SCHEMA},
        "source": _said("A table's path, `paper`, or the runs' ids.", _TEXT),
        "baseline": _said("Method that the others are held against.", _TEXT),
        "boundary": _said(
            "What the energies cover; null where nobody says.", {"enum": ["gpu", "node", "facility", None]}
        ),
        "num_labels": _said("Labels compared; of very many, not all are listed.", _COUNT),
        "reuse_students": _said("N of `reuse:N`: the most students that one method distilled here.", _COUNT),
        "frontiers": _said("Labels that no other beats on energy and quality.", _by_allocation(_TEXTS)),
        "frontiers_with_throughput": _said(
            "The same with throughput; null where none is known.",
            _by_allocation({"type": ["array", "null"], "items": _TEXT}),
        ),
        "frontiers_by_method": _said("The same among labels of one method.", _by_allocation(_by_name(_TEXTS))),
        "on_frontier_probability": _said("Null where a quality has neither seeds nor a standard error.", probability),
        "n_star": _said("Students that must share the teacher (method.md, eqs. 25, 30).", _list(_reuse("saving_kwh"))),
        "n_star_matched_quality": _said("The same at matched quality (eq. 33).", _list(_reuse("saving_kwh"))),
        "t_star": _said("Tokens until serving has repaid (eq. 26).", _list(_reuse("saving_j_per_token"))),
        "sweeps": _said("One cache, several students (eq. 31).", _list(_sweep())),
        "matched": _said("Beside baselines as good and as cheap (eqs. 34, 35).", _list(_matched())),
        "curves": _said("E(N) with its band (eq. 32).", _list(_curve())),
        "sensitivity": _said("What turns a verdict (eq. 36).", _list(_lever())),
        "by_boundary": _said("Frontiers of other boundaries' energies (eq. 60).", _by_name(_view())),
        "by_impact": _said("Frontiers of impacts: kgco2e, water_l, price (eq. 60).", _by_name(_view())),
        "hypervolume": _said("In kWh times quality (eq. 37).", _by_allocation(_AMOUNT_OR_NULL)),
        "hypervolume_reference": _object({"energy_kwh": _AMOUNT_OR_NULL, "quality": _NUMBER}),
        "attainment": _said("What a share of the draws reaches (eq. 39).", _by_allocation(_list(_attained()))),
        "points": _said("Labels placed; of very many those on the frontier.", _by_allocation(_list(_point()))),
        "stages": _said("Energies by stage; of very many labels the first.", _list(_stage())),
        "settings": _said("Numbers that labels were trained with.", _by_name(_by_name(_NUMBER))),
        **_not_in_it(),
        "warnings": _said("What to beware of.", _TEXTS),
    }


def _not_in_it() -> dict[str, Any]:
    """Labels, trainings, arms and energies that are in no answer, and why."""
    return {
        "left_out": _said("Labels that could not be placed, with the reason.", _by_allocation(_by_name(_TEXT))),
        "seeds_left_out": _said(
            "Trainings in no mean of their label, with what they lack (eq. 145).", _list(_seed_left_out())
        ),
        "missing_arms": _said(
            "Arms that a run's recipe asks for and of which it reached no checkpoint, and what became of them.",
            _list({"run_id": _TEXT, "arm": _TEXT, "reason": _TEXT}),
        ),
        "not_billed": _said("Energy of runs that is on no label's bill.", _list(_unbilled())),
    }


def _reuse(saving: str) -> dict[str, Any]:
    return {
        "method": _TEXT,
        "student": _TEXT,
        **_INTERVAL,
        "label": _TEXT,
        "baseline": _TEXT_OR_NULL,
        "reason": _TEXT,
        "extra_kwh": _NUMBER_OR_NULL,
        saving: _NUMBER_OR_NULL,
        "quality_gap": _NUMBER_OR_NULL,
        "quality_gap_is_significant": _YES_NO,
        "seeds": _COUNT,
    }


def _sweep() -> dict[str, Any]:
    return {
        "method": _TEXT,
        "students": _TEXTS,
        **_INTERVAL,
        "reason": _TEXT,
        "teacher_kwh": _AMOUNT_OR_NULL,
        "saving_kwh": _NUMBER_OR_NULL,
    }


def _matched() -> dict[str, Any]:
    return {
        "allocation": {"type": "string", "pattern": _ALLOCATION},
        "label": _TEXT,
        "as_good": _TEXT_OR_NULL,
        "as_good_lacks": _AMOUNT_OR_NULL,
        "energy_ratio": _AMOUNT_OR_NULL,
        "energy_ratio_low": _AMOUNT_OR_NULL,
        "energy_ratio_high": _AMOUNT_OR_NULL,
        "as_cheap": _TEXT_OR_NULL,
        "quality_difference": _NUMBER_OR_NULL,
        "quality_difference_half_width": _AMOUNT_OR_NULL,
        "is_significant": _YES_NO,
    }


def _curve() -> dict[str, Any]:
    point = {"students": _COUNT, "energy_kwh": _AMOUNT, "half_width_kwh": _AMOUNT}
    return {
        "label": _TEXT,
        "baseline": _TEXT_OR_NULL,
        "baseline_kwh": _AMOUNT_OR_NULL,
        "baseline_half_width_kwh": _AMOUNT_OR_NULL,
        "points": _list(point),
    }


def _lever() -> dict[str, Any]:
    return {
        "label": _TEXT,
        "stage": {"enum": ["teacher", "student", "baseline"]},
        "elasticity": _NUMBER_OR_NULL,
        "turning_factor": _AMOUNT_OR_NULL,
    }


def _view() -> dict[str, Any]:
    return _object(
        {
            "unit": _TEXT,
            "frontiers": _by_allocation(_TEXTS),
            "on_frontier_probability": _by_allocation(_by_name(_SHARE_OR_NULL)),
            "amounts": _by_allocation(_by_name(_AMOUNT)),
            "half_widths": _by_allocation(_by_name(_AMOUNT)),
            "left_out": _by_allocation(_by_name(_TEXT)),
        }
    )


def _attained() -> dict[str, Any]:
    corner = {"type": "array", "prefixItems": [_NUMBER, _NUMBER], "minItems": 2, "maxItems": 2}
    return {"share": {"type": "number", "minimum": 0, "maximum": 1}, "corners": {"type": "array", "items": corner}}


def _point() -> dict[str, Any]:
    return {
        "label": _TEXT,
        "method": _TEXT,
        "student": _TEXT,
        "energy_kwh": _AMOUNT,
        "energy_half_width_kwh": _AMOUNT_OR_NULL,
        "quality": _NUMBER,
        "quality_half_width": _AMOUNT_OR_NULL,
        "throughput": _AMOUNT_OR_NULL,
        "seeds": _COUNT,
    }


def _seed_left_out() -> dict[str, Any]:
    return {"label": _TEXT, "seed": _TEXT, "place": _TEXT, "lacks": _TEXTS}


def _stage() -> dict[str, Any]:
    names = ("teacher", "student", "other", "total", "total_low", "total_high")
    energies = {f"{name}_kwh": _NUMBER_OR_NULL for name in names}
    basis = _said("How they came to be known, the worst; null where nobody says.", {"enum": [*_BASES, None]})
    mean = _said("That its trainings came to, the mean; null where nobody counted.", _AMOUNT_OR_NULL)
    tokens = {"tokens": mean, "tokens_least": _AMOUNT_OR_NULL, "tokens_most": _AMOUNT_OR_NULL}
    return {"label": _TEXT, **energies, "basis": basis, "teacher_share": _NUMBER_OR_NULL, **tokens}


def _unbilled() -> dict[str, Any]:
    return {"run_id": _TEXT, "stage": _TEXT, "energy_kwh": _NUMBER_OR_NULL, "reason": _TEXT}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
    }


def _list(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": _object(properties)}


def _by_name(values: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": values}


def _by_allocation(values: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "patternProperties": {_ALLOCATION: values}}


def _said(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, **schema}
