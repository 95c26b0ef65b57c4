"""The recipe's reference page, written from the models: `docs/reference/recipe.md`.

`python -m stillwatt.config.reference FILE` writes it anew; a test compares.
"""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, Literal

from pydantic import BaseModel, JsonValue
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from stillwatt.config.models import Recipe
from stillwatt.config.shape import Table, plain_fields, tables
from stillwatt.config.tomlvalue import toml_value

_OPENING = """\
# Recipe reference

A recipe is a TOML file that says what a study consists of. `stillwatt run` carries it out, `stillwatt recipe check`
checks it without a GPU or the network, `stillwatt recipe schema` prints its JSON Schema for editors.

Unknown keys, values of another type and values outside their limits stop the run before it starts. A key that is
*needed* has no default, because a reader of the results must know it. On the command line `--set data.seed=7` changes
one key; the value is TOML, and an entry of an array of tables is meant by its name or number, as in
`--set arms.kd.alpha=0.3`. Nothing else changes a setting: no environment variables, no other files. The resolved
settings and their SHA-256 are kept with each run.

This page is generated from the settings models.
"""
_TYPE_NAMES: dict[Any, str] = {str: "text", int: "whole number", float: "number", bool: "true or false"}
_PLURALS = {"text": "texts", "whole number": "whole numbers", "number": "numbers"}
_LIMITS = (("gt", "> {}"), ("ge", "≥ {}"), ("lt", "< {}"), ("le", "≤ {}"))


def reference_markdown() -> str:
    """The page as Markdown: every table, every key with type, unit, default and meaning."""
    parts = [_OPENING, "## Top of the file\n", _key_table(plain_fields(Recipe))]
    for table in tables():
        parts += [f"## `{table.header}`\n", _about(table), _key_table(plain_fields(table.model))]
    return "\n".join(parts)


def type_text(annotation: Any) -> str:
    """A type as a reader of TOML would say it.

    >>> type_text(tuple[int, ...] | None)
    'array of whole numbers'
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{toml_value(choice)}`" for choice in arguments)
    if origin is typing.Annotated:
        return type_text(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_text(argument) for argument in arguments if argument is not NoneType)
    if origin is tuple:
        entry = type_text(arguments[0])
        return f"array of {_PLURALS.get(entry, entry)}"
    if origin is dict:
        return "table" if arguments[1] is JsonValue else "tables"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " or ".join(f"`{toml_value(member.value)}`" for member in annotation)
    return _TYPE_NAMES[annotation]


def _about(table: Table) -> str:
    need = "Needed" if table.is_needed else "May be left out"
    times = ", one table for each" if table.is_array else ""
    return f"{_first_line(table.model)} {need}{times}.\n"


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]


def _key_table(fields: dict[str, FieldInfo]) -> str:
    rows = ["| key | type | unit | default | meaning |", "|---|---|---|---|---|"]
    rows += [_row(key, field) for key, field in fields.items()]
    return "\n".join(rows) + "\n"


def _row(key: str, field: FieldInfo) -> str:
    limits = list(_limits(field))
    kind = type_text(field.annotation) + (f", {', '.join(limits)}" if limits else "")
    cells = [f"`{key}`", kind, _unit(field), _default(field), field.description or ""]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _limits(field: FieldInfo) -> Iterator[str]:
    for metadata in (*field.metadata, *_inner_metadata(field.annotation)):
        for name, words in _LIMITS:
            limit = getattr(metadata, name, None)
            if limit is not None:
                yield words.format(limit)


def _inner_metadata(annotation: Any) -> Iterator[Any]:
    """Limits of an array's entries, and of the type beside None."""
    for argument in typing.get_args(annotation):
        if typing.get_origin(argument) is typing.Annotated:
            for metadata in typing.get_args(argument)[1:]:
                yield from metadata.metadata if isinstance(metadata, FieldInfo) else (metadata,)


def _unit(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    return str(extra.get("unit", "")) if isinstance(extra, dict) else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "*needed*"
    value = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined:
        return "none"
    return f"`{toml_value(value)}`"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference_markdown(), encoding="utf-8")
