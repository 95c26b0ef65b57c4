"""What a figure is: its drawings, its words, and the table that says the same."""

from __future__ import annotations

from dataclasses import dataclass

from stillwatt.report.tables import Table
from stillwatt.report.vega import Spec, Swatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One drawing; a figure has one or several beside each other."""

    title: str
    spec: Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure with its words: what it shows, how to read it, and the same as a table."""

    name: str
    title: str
    caption: str
    alt: str
    panels: tuple[Panel, ...]
    table: Table
    legend: tuple[Swatch, ...] = ()
