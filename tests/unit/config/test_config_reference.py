"""The generated pages and the schema say what the models say."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import jsonschema
import pytest
from pydantic import BaseModel

from stillwatt.config.bundled import bundled_recipes
from stillwatt.config.models import Recipe
from stillwatt.config.reference import reference_markdown
from stillwatt.config.schema import recipe_schema, schema_text
from stillwatt.config.shape import dotted, known_keys, plain_fields, tables

ROOT = Path(__file__).resolve().parents[3]
MODELS: list[type[BaseModel]] = [Recipe, *(table.model for table in tables())]


def test_the_reference_page_is_current() -> None:
    page = (ROOT / "docs" / "reference" / "recipe.md").read_text(encoding="utf-8")
    assert page == reference_markdown(), "run: python -m stillwatt.config.reference docs/reference/recipe.md"


def test_the_schema_file_is_current() -> None:
    page = (ROOT / "docs" / "reference" / "recipe.schema.json").read_text(encoding="utf-8")
    assert page == schema_text(), "run: stillwatt recipe schema > docs/reference/recipe.schema.json"


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_key_is_explained(model: type[BaseModel]) -> None:
    unexplained = [key for key, field in model.model_fields.items() if not field.description]
    assert not unexplained
    assert model.__doc__


def test_every_key_is_on_the_page_under_its_table() -> None:
    sections = reference_markdown().split("\n## ")
    for table in tables():
        (section,) = [s for s in sections if s.startswith(f"`{table.header}`")]
        keys = [line.split("`")[1] for line in section.splitlines() if line.startswith("| `")]
        assert keys == list(plain_fields(table.model))
        place = tuple(table.key.split("."))
        within = {each.key.removeprefix(f"{table.key}.") for each in tables() if each.key.startswith(f"{table.key}.")}
        assert {*keys, *within} == set(known_keys((*place, 0) if table.is_array else place))


def test_keys_that_end_in_a_unit_say_that_unit() -> None:
    for model in MODELS:
        for key, field in model.model_fields.items():
            extra = field.json_schema_extra
            unit = extra.get("unit", "") if isinstance(extra, dict) else ""
            for suffix in ("_ms", "_s", "_tokens", "_layers", "_steps"):
                if key.endswith(suffix) and key != "accumulation_steps":
                    assert unit == suffix[1:], key


@pytest.mark.parametrize("name", sorted(bundled_recipes()))
def test_the_schema_accepts_what_the_loader_accepts(name: str) -> None:
    schema = recipe_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    document = tomllib.loads(bundled_recipes()[name].read_text(encoding="utf-8"))
    jsonschema.validate(document, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document, "extra": 1}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(json.dumps({**document, "name": "a b"})), schema)


def test_places_are_written_as_keys_are() -> None:
    assert dotted(("students", 0, "name")) == "students.0.name"
    assert known_keys(("students",)) == ()
    assert known_keys(("none",)) == ()
    assert "choices" in known_keys(("sweep", "parameters", "arms.kd.alpha"))
    assert "alpha" in known_keys(("arms", 3))
