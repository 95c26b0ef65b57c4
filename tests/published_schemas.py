"""The published JSON Schemas, to hold answers against."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

_REFERENCE = Path(__file__).resolve().parents[1] / "docs" / "reference"


@functools.cache
def _validator(name: str) -> Draft202012Validator:
    schema = json.loads((_REFERENCE / f"{name}.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def check(name: str, answer: Any) -> None:
    """Fail where an answer does not follow the published schema of that name."""
    _validator(name).validate(answer)
