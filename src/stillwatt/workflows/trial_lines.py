"""What a sweep says of its trials, a line for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from stillwatt.report.format import interval_text
from stillwatt.workflows.trial_values import Spread
from stillwatt.workflows.trials import FINISHED, Trial

if TYPE_CHECKING:
    from stillwatt.config.sweep import Scalar


def begun_line(number: int, parameters: Mapping[str, Scalar]) -> str:
    """What is said of a trial as it begins.

    >>> begun_line(3, {"train.learning_rate": 0.00123456, "train.optimizer": "adamw"})
    'trial 3: train.learning_rate 0.001235, train.optimizer adamw'
    """
    told = (f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in parameters.items())
    return f"trial {number}: {', '.join(told)}"


def over_line(trial: Trial) -> str:
    """What is said of a trial that is over."""
    values = ", ".join(
        f"{name} {value_text(name, value, trial.spreads.get(name))}" for name, value in trial.values.items()
    )
    energy = f"{trial.energy_j:,.0f} J {trial.basis}" if trial.energy_j is not None else "energy not known"
    why = "" if trial.status == FINISHED else f" ({trial.why_not})"
    return f"trial {trial.number}: {trial.status}{why}; whole run {energy}" + (f"; {values}" if values else "")


def value_text(objective: str, value: float, spread: Spread | None = None) -> str:
    """An objective's value with its unit, and with its interval and basis where they are known.

    >>> value_text("energy", 106.83), value_text("loss", 2.697), value_text("quality", 16.6)
    ('106.8 J', '2.697 nats', '16.6')
    >>> value_text("energy", 106.83, Spread(low=97.2, high=118.0, random=8.0, basis="measured"))
    '107 J [97, 118] measured'
    """
    unit = {"energy": " J", "loss": " nats"}.get(objective, "")
    if spread is None or spread.low is None or spread.high is None:
        return f"{value:.4g}{unit}"
    known, _, interval = interval_text(value, spread.low, spread.high).partition(" ")
    return f"{known}{unit} {interval} {spread.basis}".rstrip()
