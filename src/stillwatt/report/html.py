"""One self-contained page: the report's data, drawn and told. Opens from a disk, asks the network for nothing.

The page is a function of the report's data alone, so a published report.json can be turned into its page again. A
content security policy names the page's own scripts by hash: nothing else can run in it, and nothing can be fetched.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from stillwatt.errors import MissingExtraError
from stillwatt.report import tables
from stillwatt.report.budget_table import budgets_table
from stillwatt.report.cache_table import caches_table
from stillwatt.report.data_tables import texts_table, waits_table
from stillwatt.report.figure import Figure
from stillwatt.report.figures import build_figures
from stillwatt.report.forecasts import comparison_table
from stillwatt.report.format import date_text
from stillwatt.report.judged_table import judged_table
from stillwatt.report.passes import passes_table
from stillwatt.report.runtimes import load_runtimes

_NUMBER_AND_UNIT = re.compile(r"(\d) (%|(?:mJ|kJ|J|kWh|W|s|min|h)\b)")
_MOST_PLAIN = 1_000_000
"""Characters of data that a page holds as they are; of very many labels they are packed."""
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def report_html(data: Mapping[str, Any]) -> str:
    """The page for a report's data (`report.data.report_dict`); the same data gives the same bytes.

    Raises:
        MissingExtraError: The template engine is not installed.
        MissingInputError: A drawing runtime is damaged.
    """
    return render_page(
        "report.html.j2",
        build_figures(data),
        data,
        tables=_tables(data),
        reasons=tables.reason_rows(data),
    )


def render_page(name: str, figures: Sequence[Figure], data: Mapping[str, Any], **more: Any) -> str:
    """A page of the template of that name with its figures, its scripts, and the data behind it.

    Raises:
        MissingExtraError: The template engine is not installed.
        MissingInputError: A drawing runtime is damaged.
    """
    try:
        import jinja2
    except ModuleNotFoundError as err:
        raise MissingExtraError("jinja2", "report") from err

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(template),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(keep=keep_units, date=date_text)
    scripts = (*load_runtimes(), template("report.js"))
    held = hold(data)
    specs = {f"{figure.name}-{number}": panel.spec for figure in figures for number, panel in enumerate(figure.panels)}
    return environment.get_template(name).render(
        data=data,
        figures={figure.name: figure for figure in figures},
        scripts=scripts,
        hashes=[script_hash(script) for script in scripts],
        style=template("report.css"),
        report_type=held.kind,
        report_text=held.text,
        specs_text=embed_json(specs),
        **more,
    )


@dataclass(frozen=True, slots=True)
class Held:
    """Data as a script element holds them, and what kind of text that is."""

    kind: str
    text: str


def hold(value: Any) -> Held:
    """The data behind a page: as JSON, or compressed where that would be most of the page.

    >>> hold({"labels": 2}).kind, hold({"labels": ["a"] * 1_000_000}).kind
    ('application/json', 'application/gzip;base64')
    """
    text = embed_json(value)
    if len(text) <= _MOST_PLAIN:
        return Held("application/json", text)
    packed = gzip.compress(json.dumps(value, ensure_ascii=False, allow_nan=False).encode(), mtime=0)
    return Held("application/gzip;base64", base64.b64encode(packed).decode("ascii"))


def embed_json(value: Any) -> str:
    r"""JSON that cannot end the script element it stands in, nor start markup.

    >>> embed_json({"name": "</script>&"})
    '{"name": "\\u003c/script\\u003e\\u0026"}'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)
    return text


def keep_units(text: str) -> str:
    """The text with its numbers held to their units at line ends.

    >>> keep_units("100 % of 7 kJ, at 50 % and 3 arms").count(chr(160))
    3
    """
    return _NUMBER_AND_UNIT.sub("\\1\u00a0\\2", text)


def template(name: str) -> str:
    """A file of the templates' folder."""
    return (resources.files("stillwatt.report") / "templates" / name).read_text(encoding="utf-8")


def script_hash(script: str) -> str:
    """A script's hash as a content security policy writes it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")


def _tables(data: Mapping[str, Any]) -> dict[str, tables.Table]:
    """The tables that stand on their own; those behind figures come with them."""
    return {
        "stages": tables.stage_table(data),
        "caches": caches_table(data),
        "texts": texts_table(data),
        "passes": passes_table(data),
        "waits": waits_table(data),
        "budgets": budgets_table(data),
        "arms": tables.arms_table(data),
        "frontier": tables.frontier_table(data),
        "break_evens": tables.break_even_table(data),
        "scores": tables.scores_table(data),
        "judged": judged_table(data),
        "parts": tables.parts_table(data),
        "sensors": tables.sensors_table(data),
        "environment": tables.environment_table(data),
        "not_counted": tables.not_counted_table(data),
        **({"forecast": comparison_table(data["prediction"])} if "prediction" in data else {}),
    }
