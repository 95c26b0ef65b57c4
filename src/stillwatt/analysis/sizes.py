"""How many parameters a student has: said by the source, or read off its name."""

from __future__ import annotations

import re

from stillwatt.analysis.trainings import Label

PARAMETERS = "student_parameters"
"""The setting that says it."""
_KILO = 1_000.0
_SCALES = {"k": _KILO, "m": _KILO**2, "b": _KILO**3, "t": _KILO**4}


def parameters_of(label: Label) -> float | None:
    """Parameters of the label's student; None where nobody says.

    >>> parameters_from("OLMo-2-0425-1B"), parameters_from("135M"), parameters_from("pruned")
    (1000000000.0, 135000000.0, None)
    """
    said = label.settings.get(PARAMETERS)
    return parameters_from(label.student) if said is None else said


def parameters_from(name: str) -> float | None:
    """The number of parameters in a model's name: of several the last; a revision or a run behind an @ is no name.

    >>> parameters_from("tiny@20261126-072715-work-87b3"), parameters_from("gemma-2-2b@run-1")
    (None, 2000000000.0)
    """
    named = name.casefold().partition("@")[0]
    found = re.findall(r"(?<![\d.a-z])(\d+(?:\.\d+)?)\s*([kmbt])(?![a-z\d])", named)
    # a number of tokens, or of positions, may stand beside it: 3T, 128k
    likely = [entry for entry in found if entry[1] in "mb"] or found
    return float(likely[-1][0]) * _SCALES[likely[-1][1]] if likely else None


def size_text(parameters: float) -> str:
    """Parameters as people say them.

    >>> size_text(1e9), size_text(135e6), size_text(1.5e9), size_text(512.0)
    ('1B', '135M', '1.5B', '512')
    """
    for unit in ("t", "b", "m", "k"):
        if parameters >= _SCALES[unit]:
            return f"{parameters / _SCALES[unit]:.3g}{unit.upper()}"
    return f"{parameters:.3g}"
