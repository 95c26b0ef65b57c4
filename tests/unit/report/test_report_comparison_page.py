"""The page of a comparison: self-contained, the same bytes, honest about what is missing."""

from __future__ import annotations

import base64
import gzip
import json

import pytest

from figure_studies import HOSTILE, study
from html_page import Page
from observations import observation
from stillwatt.analysis.compare import compare
from stillwatt.records.comparison import Unbilled
from stillwatt.report import html
from stillwatt.report.comparison_html import comparison_html


@pytest.fixture(scope="module")
def text() -> str:
    return comparison_html(study())


def words(text: str) -> str:
    return " ".join(" ".join(Page(text).words).split())


def test_the_same_comparison_gives_the_same_page(text: str) -> None:
    assert comparison_html(study()) == text


def test_it_says_the_answer_the_warnings_and_every_table(text: str) -> None:
    found, said = study(), words(text)
    for warning in found.warnings:
        assert warning in said
    for label in ("sft-1b", "kd-1b", "syn-7b", "kd-3b-a0.5-t1.0"):
        assert label in said
    assert "Not drawn, because an energy is unknown: syn-7b." in said
    assert said.count("The same as a table") == 3


def test_every_drawing_has_a_name_and_a_spec(text: str) -> None:
    page = Page(text)
    places = [a for tag, a in page.elements if tag == "div" and "data-figure" in a]
    assert len(places) >= 10
    assert all(len(a["aria-label"] or "") > 30 and a["role"] == "img" for a in places)
    specs = next(script for a, script in page.scripts if a.get("id") == "figure-specs")
    assert all(f'"{a["data-figure"]}"' in specs for a in places)


def test_it_loads_nothing_and_hostile_labels_are_text() -> None:
    page = Page(comparison_html(study(prefix=HOSTILE)))
    assert not [tag for tag, _ in page.elements if tag == "img"]
    for tag, attributes in page.elements:
        for name in ("src", "href", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name, value)


def test_a_comparison_with_nothing_to_draw_is_still_a_page() -> None:
    row = observation("sft-1b", quality=None, student_j=None)
    unbilled = (Unbilled(run_id="r1", stage="teacher_logits", energy_j=7.2e6, reason="no arm names its artefact"),)
    said = words(comparison_html(compare([row], source="made up", unbilled=unbilled, boundary="node")))
    assert "No label has both an energy and a quality." in said
    assert "No label has all of its energies." in said
    assert "energy of the node" in said
    assert "On no bill" in said
    assert "no arm names its artefact" in said


def test_data_of_very_many_labels_are_packed_and_whole(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    held = {a.get("id"): (a["type"], held) for a, held in Page(text).scripts if a.get("id")}
    assert held["report-data"][0] == "application/json"
    monkeypatch.setattr(html, "_MOST_PLAIN", 1_000)
    packed = comparison_html(study())
    scripts = {a.get("id"): (a["type"], held) for a, held in Page(packed).scripts if a.get("id")}
    kind, data = scripts["report-data"]
    assert kind == "application/gzip;base64"
    assert json.loads(gzip.decompress(base64.b64decode(data))) == json.loads(held["report-data"][1])
    assert len(data) < 0.6 * len(held["report-data"][1])
    # the figures stay as they were, and the same comparison gives the same bytes
    assert scripts["figure-specs"] == held["figure-specs"]
    assert comparison_html(study()) == packed
