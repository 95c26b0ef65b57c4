"""What must hold of exports whatever somebody called things, and whatever is not counted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from huggingface_hub import ModelCard
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prov.model import ProvDocument

from export_reports import FULL, named, rich
from stillwatt.report.exports.boamps import to_boamps
from stillwatt.report.exports.cyclonedx import to_cyclonedx
from stillwatt.report.exports.eu_gpai import significant, to_eu_gpai
from stillwatt.report.exports.huggingface import BEGIN, END, plain, to_card, with_section
from stillwatt.report.exports.otel import to_opentelemetry
from stillwatt.report.exports.rocrate import PROVENANCE, to_rocrate
from stillwatt.report.exports.sci import to_sci
from stillwatt.report.exports.spdx import to_spdx

NAMES = st.text(min_size=1, max_size=30)
VALIDATOR = JsonStrictValidator(SchemaVersion.V1_6)


@settings(max_examples=6)
@given(NAMES)
@example("a|b")
@example("=\xa0")
@example("<script>alert(1)</script>")
@example("x\n---\n# y [z](w)")
@example("<!-- stillwatt: end -->")
def test_any_name_is_carried_whole_or_escaped(name: str) -> None:
    report = named(name)
    text = to_cyclonedx(report, FULL).text
    assert VALIDATOR.validate_str(text) is None
    ProvDocument.deserialize(content=to_rocrate(report, FULL).files[PROVENANCE], format="json")
    for make in (to_spdx, to_boamps, to_sci, to_eu_gpai, to_opentelemetry):
        json.loads(make(report, FULL).text)
    parts = to_card(report, FULL)
    card = ModelCard("---\nlicense: mit\n---\n# A model\n")
    card.data["co2_eq_emissions"] = dict(parts.emissions or {})
    card.text = with_section(card.text, parts.section)
    again = ModelCard(str(card))
    assert again.data["co2_eq_emissions"]["geographical_location"] == " ".join(name.split())
    assert again.data["co2_eq_emissions"]["emissions"] == (parts.emissions or {})["emissions"]
    assert yaml.safe_load(card.data.to_yaml())["license"] == "mit"
    inside = parts.section.removeprefix(BEGIN).removesuffix(END)
    assert "<" not in inside.replace("\\<", "")
    assert f"- **Compute Region:** {plain(name)}\n" in inside
    rows = [line for line in parts.section.splitlines() if line.startswith("| ")]
    assert all(line.replace("\\|", "").count("|") == 7 for line in rows)


@settings(max_examples=10)
@given(st.sets(st.integers(0, 79)))
def test_what_is_not_counted_is_never_zero(gone: set[int]) -> None:
    """Whatever cells are lost: no export holds a number in their place."""
    report = rich()
    for number in gone:
        cell = report["cells"][number]
        if cell["status"] != "not_applicable":
            cell.update(status="not_counted", value=None, low=None, high=None, reason="lost")
    documents = [json.loads(make(report, FULL).text) for make in (to_spdx, to_opentelemetry, to_sci, to_cyclonedx)]
    assert 0.0 not in [number for document in documents for number in _numbers(document)]
    lost = {(cell["stage"], cell["impact"]) for cell in report["cells"] if cell["status"] == "not_counted"}
    listed = {loss.path for loss in to_opentelemetry(report, FULL).losses}
    assert {f"$.cells[?stage={stage}&impact={impact}]" for stage, impact in lost} <= listed


def _numbers(data: Any) -> Iterator[float]:
    if isinstance(data, dict):
        for inner in data.values():
            yield from _numbers(inner)
    elif isinstance(data, list):
        for inner in data:
            yield from _numbers(inner)
    elif isinstance(data, float):
        yield data


@given(st.floats(1e-12, 1e24))
def test_significant_figures_keep_the_value(number: float) -> None:
    text = significant(number, 2)
    assert abs(float(text) - number) <= 0.005 * number
    digits = text.split("e")[0].replace(".", "").lstrip("0")
    assert len(digits) >= 2
