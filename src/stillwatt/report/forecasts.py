"""Predictions in words: a table of stages, and sentences about what they rest on and how far off such figures were."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stillwatt.analysis.words import listed
from stillwatt.records.channel import Basis
from stillwatt.records.forecast import Figure, Forecast, Held, LeftOut, Prediction, PredictionCheck
from stillwatt.report.format import MISSING, duration_text, energy_value_text, interval_text, percent_text, pick_unit
from stillwatt.report.tables import Column, Row, Table
from stillwatt.units import KG_PER_G, S_PER_H, S_PER_MIN

__all__ = [
    "amount_text",
    "carbon_text",
    "comparison_dict",
    "comparison_line",
    "comparison_sentences",
    "comparison_table",
    "energy_text",
    "held_dict",
    "prediction_rows",
    "prediction_sentences",
    "time_text",
]

_KILO = 1_000.0
_TOTAL = "total"
_MASSES = ((1.0, "kg"), (KG_PER_G, "g"), (KG_PER_G * KG_PER_G, "mg"))


def energy_text(figure: Figure | None) -> str:
    """An energy with its interval and unit.

    >>> energy_text(Figure(value=312.4, low=183.1, high=561.0)), energy_text(None)
    ('310 J [180, 560]', '–')
    >>> energy_text(Figure(value=0.0, low=0.0, high=0.0))
    '0 J'
    """
    if figure is None:
        return MISSING
    if figure.low == figure.high == 0.0:
        return "0 J"
    unit = pick_unit([figure.value])
    return _united(Figure(value=unit.of(figure.value), low=unit.of(figure.low), high=unit.of(figure.high)), unit.symbol)


def time_text(figure: Figure | None) -> str:
    """A length of time with its interval.

    >>> time_text(Figure(value=90.0, low=30.0, high=600.0)), time_text(Figure(value=9e4, low=3e4, high=2e5))
    ('90 s [30, 600]', '25 h [8, 56]')
    """
    if figure is None:
        return MISSING
    if figure.low == figure.high == 0.0:
        return "0 s"
    size, name = (1.0, "s")
    if figure.value >= 2.0 * S_PER_H:
        size, name = float(S_PER_H), "h"
    elif figure.value >= 10.0 * S_PER_MIN:
        size, name = float(S_PER_MIN), "min"
    return _united(Figure(value=figure.value / size, low=figure.low / size, high=figure.high / size), name)


def amount_text(size_bytes: float) -> str:
    """Bytes for people.

    >>> amount_text(2_113_536.0), amount_text(0.0)
    ('2.1 MB', '–')
    """
    if not size_bytes:
        return MISSING
    size, unit = size_bytes, "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < _KILO:
            break
        size, unit = size / _KILO, larger
    return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"


def _united(figure: Figure, unit: str) -> str:
    value, _, ends = interval_text(figure.value, figure.low, figure.high).partition(" ")
    return f"{value} {unit} {ends}"


def prediction_rows(prediction: Prediction) -> list[list[str]]:
    """A table: one row a stage, the total last."""
    has_carbon = prediction.kgco2e is not None
    head = ["stage", "energy", "time", "disk", *(["CO2e"] if has_carbon else []), "rests on"]
    rows = [head, *(_row(stage, has_carbon=has_carbon) for stage in prediction.stages)]
    total = ["total", energy_text(prediction.energy_j), time_text(prediction.duration_s)]
    total += [amount_text(prediction.disk_bytes[1]), *([carbon_text(prediction.kgco2e)] if has_carbon else []), ""]
    return [*rows, total]


def _row(stage: Forecast, *, has_carbon: bool) -> list[str]:
    carbon = [carbon_text(stage.kgco2e)] if has_carbon else []
    disk = amount_text(stage.disk_bytes[1])
    return [
        stage.name,
        energy_text(stage.energy_j),
        time_text(stage.duration_s),
        disk,
        *carbon,
        stage.reason or stage.evidence,
    ]


def carbon_text(figure: Figure | None) -> str:
    """kgCO2e with its interval, in the unit that suits it.

    >>> carbon_text(Figure(value=0.25, low=0.2, high=0.3)), carbon_text(None)
    ('250 g [200, 300]', '–')
    """
    if figure is None:
        return MISSING
    size, unit = next(((s, u) for s, u in _MASSES if figure.value >= s), _MASSES[-1])
    return _united(Figure(value=figure.value / size, low=figure.low / size, high=figure.high / size), unit)


def prediction_sentences(prediction: Prediction) -> Iterator[str]:
    """What a reader of the table should know."""
    yield f"on {prediction.device}; intervals are 95 %, those of kgCO2e 90 %"
    if prediction.learnt_from:
        yield f"learnt from {listed(prediction.learnt_from)}"
    yield from _errors(prediction.energy_error, prediction.duration_error)
    if prediction.kgco2e is None and not prediction.kgco2e_reason.startswith("no place"):
        yield f"kgCO2e: {prediction.kgco2e_reason}"
    for note in prediction.notes:
        yield f"note: {note}"


def _errors(energy: LeftOut | None, duration: LeftOut | None) -> Iterator[str]:
    if energy is None or duration is None:
        yield "nothing was measured yet that could be left out to tell how far off such figures are"
        return
    who = f"{energy.groups} runs, each" if energy.median_total_error is not None else "the stages of one run, each"
    off, late = percent_text(energy.median_error), percent_text(duration.median_error)
    yield (
        f"left out in turn ({who} predicted from the rest): a stage's energy is off by {off} in the median, its time "
        f"by {late}; {percent_text(energy.coverage)} of {energy.stages} energies lay in their intervals"
    )
    if energy.median_total_error is not None:
        yield f"a whole run's energy: off by {percent_text(energy.median_total_error)} in the median"


def comparison_dict(comparison: PredictionCheck) -> dict[str, Any]:
    """Predicted beside measured, for programs."""
    return {
        "run_id": comparison.run_id,
        "is_from_before": comparison.is_from_before,
        "energy_j": [held_dict(held) for held in comparison.energy],
        "duration_s": [held_dict(held) for held in comparison.duration],
        "notes": list(comparison.notes),
        "basis": None if comparison.basis is None else comparison.basis.value,
        "whole_j": comparison.whole_j,
        "uncompared_j": dict(comparison.uncompared),
    }


def held_dict(held: Held) -> dict[str, Any]:
    """A stage for programs."""
    predicted = held.predicted
    return {
        "name": held.name,
        "predicted": None
        if predicted is None
        else {"value": predicted.value, "low": predicted.low, "high": predicted.high},
        "measured": held.measured,
        "error": held.error,
        "is_inside": held.is_inside,
        "reason": held.reason,
    }


def comparison_table(told: Mapping[str, Any]) -> Table:
    """Predicted beside measured, by stage, from `comparison_dict`."""
    known = told["basis"] or Basis.MEASURED.value
    titles = ("stage", ">energy, predicted", f">{known}", ">off by", "inside", ">time, predicted", ">measured")
    cells = [_compared(*pair) for pair in zip(told["energy_j"], told["duration_s"], strict=True)]
    return Table(
        title=f"Predicted and {known}",
        columns=tuple(Column(title=title.removeprefix(">"), is_number=title.startswith(">")) for title in titles),
        rows=tuple(Row(cells=row, is_sum=row[0] == _TOTAL) for row in cells),
        note=" ".join(f"{_capital(text)}." for text in (next(comparison_sentences(told)), *_left_out(told))),
    )


def _compared(joules: Mapping[str, Any], seconds: Mapping[str, Any]) -> tuple[str, ...]:
    error = joules["error"]
    return (
        joules["name"],
        energy_text(_figure(joules["predicted"])),
        MISSING if joules["measured"] is None else energy_value_text(joules["measured"]),
        MISSING if error is None else f"{'−' if error < 0.0 else '+'}{percent_text(round(abs(error), 3))}",
        joules["reason"] or {True: "yes", False: "NO", None: MISSING}[joules["is_inside"]],
        time_text(_figure(seconds["predicted"])),
        MISSING if seconds["measured"] is None else duration_text(seconds["measured"]),
    )


def _figure(told: Mapping[str, float] | None) -> Figure | None:
    return None if told is None else Figure(**told)


def comparison_line(comparison: PredictionCheck) -> str:
    """How the whole run compares with what was predicted before it, in one line."""
    told = comparison_dict(comparison)
    name, predicted, measured, error, inside, *_ = _compared(told["energy_j"][-1], told["duration_s"][-1])
    off = f"off by {error}" if error != MISSING else inside
    sums = f"predicted {predicted}, {told['basis'] or 'measured'} {measured} ({off})"
    return f"{name} energy: {'; '.join((sums, next(comparison_sentences(told)), *_left_out(told)))}"


def comparison_sentences(told: Mapping[str, Any]) -> Iterator[str]:
    """What the table comes to."""
    stages = [held["is_inside"] for held in told["energy_j"][:-1] if not held["reason"]]
    when = "before the run" if told["is_from_before"] else "without the run"
    inside = sum(is_inside is True for is_inside in stages)
    yield f"predicted {when}: {inside} of {len(stages)} stages lay in their 95 % intervals of energy"
    yield from _left_out(told)
    for note in told["notes"]:
        yield f"note: {note}"


def _left_out(told: Mapping[str, Any]) -> Iterator[str]:
    """What the run's total holds beside the predicted stages, where it does."""
    parts = told["uncompared_j"]
    if told["whole_j"] is None or not parts:
        return
    into = listed([f"{what} ({energy_value_text(energy_j)})" for what, energy_j in parts.items()])
    whole = energy_value_text(told["whole_j"])
    yield f"the run used {whole} in all; beside the predicted stages that went into {into}"


def _capital(text: str) -> str:
    """The text as a sentence begins, its units as they are."""
    return text[:1].upper() + text[1:]
