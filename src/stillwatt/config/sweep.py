"""The table `[sweep]`: which settings are tried with which values, how they are chosen, and what is wanted of them."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from stillwatt.config.budgets import BudgetText
from stillwatt.config.names import Name
from stillwatt.config.settings import Count, Settings

Scalar = bool | int | float | str
"""A value that a setting may be tried with."""

_ALIKE = ("name", "sweep")
"""Keys and tables of a recipe that alter nothing of a trial: trials would be the same, and paid for."""


def keys_of(parameter: str) -> tuple[str, ...]:
    """The keys of a recipe that a parameter sets, each to the same value.

    >>> keys_of("arms.kd.temperature + teacher_logits.temperature")
    ('arms.kd.temperature', 'teacher_logits.temperature')
    """
    return tuple(key.strip() for key in parameter.split("+"))


class ParameterSettings(Settings):
    """What one setting is tried with: some values, or a range."""

    choices: tuple[Scalar, ...] = Field(
        default=(), description="Values to choose from; each may be anything a key takes."
    )
    low: float | None = Field(default=None, description="Lowest value of a range.")
    high: float | None = Field(default=None, description="Highest value of a range.")
    step: float | None = Field(default=None, gt=0.0, description="Between two values of the range; a grid needs it.")
    log: bool = Field(default=False, description="Whether values are even on a logarithmic scale; not with a step.")
    is_whole: bool = Field(default=False, description="Whether values of the range are whole numbers.")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        has_range = self.low is not None or self.high is not None
        if bool(self.choices) == has_range:
            raise PydanticCustomError("parameter", "needs either choices, or low and high")
        if has_range and (self.low is None or self.high is None or not self.low < self.high):
            raise PydanticCustomError("parameter", "low must be below high, and both be given")
        if self.log and (self.step is not None or not has_range or (self.low or 0.0) <= 0.0):
            raise PydanticCustomError("parameter", "log needs a range above 0 and no step")
        # True is 1 to Python, and another value to a recipe
        told = [(isinstance(choice, bool), choice) for choice in self.choices]
        twice = next((choice for number, (_, choice) in enumerate(told) if told[number] in told[:number]), None)
        if twice is not None:
            text = f"{twice!r} stands among the choices twice, and would be tried twice"
            raise PydanticCustomError("parameter", "{text}", {"text": text})
        return self

    @property
    def steps_are_whole(self) -> bool:
        """Whether its range is of whole numbers: said so, or written so with a step."""
        ends = (self.low, self.high, self.step)
        return self.is_whole or all(end is not None and end.is_integer() for end in ends)

    @property
    def grid(self) -> tuple[Scalar, ...] | None:
        """All its values; None for a range without a step."""
        if self.choices:
            return self.choices
        if self.step is None or self.low is None or self.high is None:
            return None
        count = int(round((self.high - self.low) / self.step, 9)) + 1
        values = [self.low + number * self.step for number in range(count)]
        return tuple(round(value) if self.steps_are_whole else value for value in values)


class SweepSettings(Settings):
    """A search over settings of the recipe: every trial is a run of its own."""

    recipe: str | None = Field(
        default=None, description="The recipe that is varied, where this table stands in a file of its own."
    )
    arm: Name = Field(description="The arm that every trial trains, alone, and is judged by.")
    method: Literal["grid", "random", "tpe", "nsga2"] = Field(
        description="How values are chosen: every combination, at random, or by what earlier trials came to (`tpe` "
        "models it, `nsga2` breeds from the best)."
    )
    trials: Count | None = Field(
        default=None, description="How many trials, at most; needed unless the method is `grid`, which may end before."
    )
    seed: int = Field(ge=0, lt=2**31, description="Seed of the choice of values.")
    objectives: tuple[Literal["energy", "quality", "loss"], ...] = Field(
        min_length=1,
        description="What is wanted: little energy (one student with all of the teacher's work), much quality, or "
        "little held-out loss in nats; a frontier where there are several.",
    )
    early_stopping: Literal["median", "none"] = Field(
        default="none",
        description="`median` ends a trial whose held-out loss at a checkpoint is above the median of the earlier "
        "trials' there.",
    )
    warmup_trials: Count = Field(default=4, description="Trials that are never ended early.")
    budget: BudgetText | None = Field(
        default=None, description="Of all trials together; the trial that would be likely to pass it is not begun."
    )
    parameters: dict[str, ParameterSettings] = Field(
        min_length=1,
        description='Settings by their key, as `--set` takes them, quoted: `"train.learning_rate" = {low = 1e-5, '
        'high = 1e-3, log = true}` or `"arms.kd.alpha" = {choices = [0.1, 0.5]}`.',
    )

    @model_validator(mode="after")
    def _can_be_searched(self) -> Self:
        if self.method != "grid" and self.trials is None:
            raise PydanticCustomError("sweep", "needs trials, unless the method is 'grid'")
        endless = [key for key, parameter in self.parameters.items() if parameter.grid is None]
        if self.method == "grid" and endless:
            text = f"a grid needs choices or a step for {endless[0]}"
            raise PydanticCustomError("sweep", "{text}", {"text": text})
        keys = [key for parameter in self.parameters for key in keys_of(parameter)]
        for number, key in enumerate(keys):
            if key.partition(".")[0] in _ALIKE:
                text = f"{key} alters nothing of a trial, so all would be the same; remove it from the parameters"
                raise PydanticCustomError("sweep", "{text}", {"text": text})
            if key in keys[:number]:
                raise PydanticCustomError("sweep", "{text}", {"text": f"{key} is set by two parameters; keep one"})
        if len(set(self.objectives)) < len(self.objectives):
            raise PydanticCustomError("sweep", "objectives must differ")
        return self
