"""A made-up study with everything that figures show, and what its drawings hold."""

from __future__ import annotations

import functools
import re
from dataclasses import replace
from typing import Any

import pytest

from observations import observation, seeds
from stillwatt.analysis.compare import compare
from stillwatt.records.comparison import Comparison, Observation
from stillwatt.report.comparison import comparison_dict

HOSTILE = "</script ><img src=x onerror=alert(1)>&\"'{{7*7}}\u2028datum['x']"


def study_rows(*, prefix: str = "") -> list[Observation]:
    """Three methods on two students with seeds, a sweep of kd, and a label of unknown teacher."""
    rows = [
        *seeds("sft-1b", [6.2, 6.3, 6.4], quality=[0.69, 0.70, 0.68], quality_se=0.01),
        *seeds("kd-1b", [5.1, 5.2, 5.3], quality=[0.71, 0.72, 0.70], quality_se=0.01),
        *seeds("syn-1b", [4.8, 5.0], quality=[0.73, 0.75], teacher_j=10.0),
        observation("sft-7b", student_j=18.0, quality=0.9, quality_se=0.01),
        observation("kd-7b", student_j=15.0, quality=0.86),
        observation("syn-7b", student_j=16.0, teacher_j=None, quality=0.88),
    ]
    for alpha in (0.1, 0.5, 0.9):
        for temperature in (1.0, 2.0):
            settings = {"alpha": alpha, "temperature": temperature}
            label = f"kd-3b-a{alpha}-t{temperature}"
            rows.append(
                observation(
                    "kd-3b",
                    label=label,
                    student_j=8.0 + alpha,
                    quality=0.8 + 0.01 * temperature,
                    quality_se=0.01,
                    settings=settings,
                )
            )
    rows.append(observation("sft-3b", student_j=9.5, quality=0.79, quality_se=0.01))
    return [_renamed(row, prefix) for row in rows]


def _renamed(row: Observation, prefix: str) -> Observation:
    return replace(row, label=prefix + row.label)


@functools.cache
def study(*, prefix: str = "") -> Comparison:
    """The comparison of that study."""
    return compare(study_rows(prefix=prefix), source=prefix + "made up")


def study_data(*, prefix: str = "") -> dict[str, Any]:
    """The same as data."""
    return comparison_dict(study(prefix=prefix))


def marks(spec: dict[str, Any]) -> dict[str, int]:
    """Marks by kind in a spec, drawn without a browser; the library that draws accepts nonsense and draws nothing."""
    converter = pytest.importorskip("vl_convert", reason="vl-convert-python is not installed")
    svg = converter.vegalite_to_svg({**spec, "width": 480}, vl_version="6.4")
    return marks_of(svg)


def marks_of(svg: str) -> dict[str, int]:
    """Marks by kind in an SVG, axes and legends not counted; a text without a letter is no mark."""
    # a layer without marks is an element that closes itself
    groups = re.findall(r'<g class="mark-(\w+) role-mark[^"]*"(?:[^>]*[^>/])?>(.*?)</g>', svg, flags=re.DOTALL)
    found: dict[str, int] = {}
    for kind, inside in groups:
        texts = len(re.findall(r"<text[^>]*>[^<]", inside))
        count = inside.count("<path") + inside.count("<line") + texts
        found[kind] = found.get(kind, 0) + count
    return found
