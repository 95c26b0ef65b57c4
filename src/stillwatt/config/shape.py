"""The recipe's shape read off its models: which tables there are, what keys they have, how places are written."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from stillwatt.config.models import Recipe

Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table of a recipe: its header, its model, whether it may be left out."""

    key: str
    model: type[BaseModel]
    is_array: bool
    is_needed: bool

    @property
    def header(self) -> str:
        """How the table is opened in TOML: `[data]`, `[evaluate.judge]` or `[[arms]]`."""
        return f"[[{self.key}]]" if self.is_array else f"[{self.key}]"


def tables() -> Iterator[Table]:
    """Every table, in the order of the model; one inside another behind it."""
    yield from _tables(Recipe, "")


def _tables(around: type[BaseModel], prefix: str) -> Iterator[Table]:
    for key, field in around.model_fields.items():
        model = table_model(field)
        if model is not None and not _has_free_keys(field):
            path = f"{prefix}{key}"
            yield Table(key=path, model=model, is_array=_is_array(field), is_needed=field.is_required())
            yield from _tables(model, f"{path}.")


def plain_fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """A table's keys that are no tables themselves."""
    fields = model.model_fields.items()
    return {key: field for key, field in fields if table_model(field) is None or _has_free_keys(field)}


def table_model(field: FieldInfo) -> type[BaseModel] | None:
    """The model behind a key that is a table or an array of tables; None for a plain value."""
    return _model_in(field.annotation)


def known_keys(place: Sequence[str | int]) -> tuple[str, ...]:
    """Keys that may stand at a place; empty where the place is a value or an array.

    >>> known_keys(("run",)), known_keys(("sweep", "parameters", "train.learning_rate"))[:3]
    (('threads', 'sharding'), ('choices', 'low', 'high'))
    """
    model: type[BaseModel] | None = Recipe
    in_array = is_free = False
    for step in place:
        if isinstance(step, int) or is_free:
            in_array = is_free = False
            continue
        if model is None or in_array or step not in model.model_fields:
            return ()
        field = model.model_fields[step]
        model, in_array, is_free = table_model(field), _is_array(field), _has_free_keys(field)
    return () if model is None or in_array else tuple(model.model_fields)


def dotted(place: Sequence[str | int]) -> str:
    """A place as text.

    >>> dotted(("arms", 1, "alpha"))
    'arms.1.alpha'
    """
    return ".".join(str(step) for step in place)


def table_name(place: Sequence[str | int]) -> str:
    """A table as its header in the file.

    >>> table_name(("meter",)), table_name(("arms", 1)), table_name(())
    ('[meter]', '[[arms]] number 2', 'the recipe')
    """
    if not place:
        return "the recipe"
    if isinstance(place[-1], int):
        return f"[[{dotted(place[:-1])}]] number {place[-1] + 1}"
    return f"[{dotted(place)}]"


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation if issubclass(annotation, BaseModel) else None
    for argument in typing.get_args(annotation):
        if argument not in (NoneType, ...):
            found = _model_in(argument)
            if found is not None:
                return found
    return None


def _has_free_keys(field: FieldInfo) -> bool:
    """Whether a key holds tables whose names the user chooses."""
    return typing.get_origin(field.annotation) is dict


def _is_array(field: FieldInfo) -> bool:
    return typing.get_origin(field.annotation) is tuple
