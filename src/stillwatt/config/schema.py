"""JSON Schema of a recipe, for editors that check and complete TOML."""

from __future__ import annotations

import json
from typing import Any

from stillwatt.config.models import Recipe

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def recipe_schema() -> dict[str, Any]:
    """The schema. What one key demands of another is hardly in it; `stillwatt recipe check` knows those rules too."""
    return {"$schema": _DIALECT, **Recipe.model_json_schema(), "title": "Stillwatt recipe"}


def schema_text() -> str:
    """The schema as `docs/reference/recipe.schema.json` keeps it."""
    return json.dumps(recipe_schema(), indent=2) + "\n"
