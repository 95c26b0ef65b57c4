"""The published schema of a comparison: every answer of the suite is held against it (tests/unit/cli/conftest.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import ValidationError

import published_schemas
from stillwatt.report.comparison import comparison_dict
from stillwatt.report.comparison_schema import comparison_schema, schema_text
from stillwatt.workflows.analyse import analyse_table


@pytest.fixture(scope="module")
def answer() -> dict[str, Any]:
    """What the published table gives, as a program reads it."""
    found: dict[str, Any] = json.loads(json.dumps(comparison_dict(analyse_table("paper").comparison)))
    return found


def test_the_published_page_is_the_codes() -> None:
    page = Path(__file__).parents[3] / "docs" / "reference" / "comparison.schema.json"
    assert page.read_text(encoding="utf-8") == schema_text()


def test_every_key_is_described_and_needed(answer: dict[str, Any]) -> None:
    schema = comparison_schema()
    assert list(answer) == schema["required"] == list(schema["properties"])
    published_schemas.check("comparison", answer)


@pytest.mark.parametrize("key", ["n_star", "frontiers", "warnings", "by_impact"])
def test_a_key_that_is_lacking_is_refused(answer: dict[str, Any], key: str) -> None:
    with pytest.raises(ValidationError):
        published_schemas.check("comparison", {name: value for name, value in answer.items() if name != key})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("further", 1),
        ("boundary", "rack"),
        ("schema", "stillwatt.comparison/2"),
        ("frontiers", {"reuse:two": []}),
        ("on_frontier_probability", {"one-off": {"a": 1.5}}),
        ("points", {"one-off": [{"label": "a"}]}),
        ("hypervolume", {"one-off": -1.0}),
    ],
)
def test_what_no_comparison_says_is_refused(answer: dict[str, Any], key: str, value: object) -> None:
    with pytest.raises(ValidationError):
        published_schemas.check("comparison", answer | {key: value})
