"""Life-cycle reports for tests of their pages: spoilt, bare and hostile ones, and what stands in a page."""

from __future__ import annotations

import copy
import html.parser
import json
from functools import cache
from typing import Any

from export_reports import poor, rich

HOSTILE = "</script><img src=x onerror=alert(1)>|a\n\n# b\n`c` [d](javascript:alert(2)) **e** \u2028 &amp;"
_BLOCKS = frozenset({"tr", "p", "li", "h1", "h2", "h3", "figcaption", "summary"})
_OPTIONAL = {
    "cells": ("quality", "boundary", "water", "factors", "incomplete", "cautions"),
    "totals": ("reason", "shares_of_variance"),
    "factors": ("note", "water", "spread_is_ours", "origin"),
}


def reports() -> dict[str, dict[str, Any]]:
    """One that counts much, one that counts little, one with what must be there alone, one without any total."""
    return {"rich": rich(), "poor": poor(), "bare": bare(), "uncounted": uncounted()}


@cache
def _bare() -> str:
    data = rich()
    for part, keys in _OPTIONAL.items():
        data[part] = [_without(row, *keys) for row in data[part]]
    scope = _without(data["goal_and_scope"], "site_factors", "shared_factors")
    data["goal_and_scope"] = {**scope, "about": {}, "place": _without(scope["place"], "within", "provider", "caution")}
    uses = [_without(use, "meter") for use in data["inventory"]["uses"]]
    for use in uses:
        use["energy_j"] = _without(use["energy_j"], "absent_channels", "share_by_basis")
    data["inventory"] = {"uses": uses}
    data["coverage"] = {key: data["coverage"][key] for key in ("score", "counted")}
    data["interpretation"] = {"limits": []}
    return json.dumps(_without(data, "functional_units"))


def _without(row: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in keys}


def bare() -> dict[str, Any]:
    """What somebody would write by hand who writes no more than the schema asks."""
    made: dict[str, Any] = json.loads(_bare())
    return made


def uncounted() -> dict[str, Any]:
    """Eight stages of which nothing is known."""
    data = copy.deepcopy(rich())
    for cell in data["cells"]:
        if cell["status"] != "not_applicable":
            cell.update(status="not_counted", value=None, low=None, high=None, reason="nobody looked", factors=[])
            cell.update(incomplete=[], cautions=[], quality=None, boundary=None, water=None)
    for total in data["totals"]:
        total.update(value=None, low=None, high=None, stages=[], complete=False, coverage=0.0, lacking=[])
        total.update(reason="no stage is counted", shares_of_variance={})
    for unit in data["functional_units"]:
        unit["values"] = {}
    data["interpretation"].update(hot_spots=[], improve_first=[], sensitivity=[])
    data["coverage"].update(score=0.0, counted=0.0)
    return data


def hostile() -> dict[str, Any]:
    """Every name and sentence that comes from outside would like to be something else."""
    data = rich()
    data["goal_and_scope"]["about"] = {
        "goal": HOSTILE,
        "runs": [{"run_id": HOSTILE, "name": HOSTILE, "start_utc": HOSTILE, "status": HOSTILE, "complete": True}],
        "booked": [{"run": HOSTILE, "stage": HOSTILE, "attempt": 1, "booked_in": HOSTILE, "why": HOSTILE}],
        "assumptions": [HOSTILE],
        HOSTILE: {HOSTILE: [HOSTILE, None, 1.5]},
    }
    data["goal_and_scope"]["place"].update(name=HOSTILE, code=HOSTILE, provider=HOSTILE, caution=HOSTILE)
    for cell in data["cells"]:
        cell.update(reason=HOSTILE if cell["value"] is None else None, cautions=[HOSTILE], incomplete=[HOSTILE])
    for factor in data["factors"]:
        factor.update(where=HOSTILE, source=HOSTILE, licence=HOSTILE, note=HOSTILE, boundary=HOSTILE)
        factor.update(source_url="javascript:alert(3)", unit=HOSTILE)
    data["factors"][0]["source_url"] = "https://example.org/a_b?c=<d>|e"
    data["factors"][1]["source_url"] = "https://example.org/a_b?c=d&e"
    for use in data["inventory"]["uses"]:
        use.update(run=HOSTILE, meter=HOSTILE)
    for device in data["inventory"]["devices"]:
        device.update(name=HOSTILE, run=HOSTILE, cautions=[HOSTILE])
    for total in data["totals"]:
        total.update(lacking=[HOSTILE], shares_of_variance={HOSTILE: 0.5, **total["shares_of_variance"]})
    for unit in data["functional_units"]:
        unit.update(unit=unit["unit"] + HOSTILE, means=HOSTILE)
    data["interpretation"].update(limits=[HOSTILE])
    data["interpretation"]["improve_first"] = [
        {"impact": "gwp_location", "input": HOSTILE, "share_of_variance": 0.5, "how": HOSTILE}
    ]
    return data


class Blocks(html.parser.HTMLParser):
    """What stands in each line of a page (a row, a paragraph, a title), and in each cell of stage and impact."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.cells: dict[str, str] = {}
        self.totals: dict[str, str] = {}
        self._open: list[list[str]] = []
        self._cell: tuple[dict[str, str], str] | None = None
        self._is_raw = self._is_in_list = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        self._is_raw = tag in ("script", "style")
        for name, place in (("data-cell", self.cells), ("data-total", self.totals)):
            if said.get(name):
                self._cell = (place, str(said[name]))
                assert str(said[name]) not in place
                place[str(said[name])] = ""
        self._is_in_list |= tag == "dl"
        if self._is_block(tag):
            self._open.append([])

    def handle_endtag(self, tag: str) -> None:
        self._is_raw = False
        if tag == "td":
            self._cell = None
        self._is_in_list &= tag != "dl"
        if self._is_block(tag):
            self.lines.append(" ".join(" ".join(self._open.pop()).split()))

    def _is_block(self, tag: str) -> bool:
        """A line of its own; of the boxes those alone that hold a key number."""
        return tag in _BLOCKS or (tag == "div" and self._is_in_list)

    def handle_data(self, data: str) -> None:
        if self._is_raw:
            return
        for words in self._open:
            words.append(data)
        if self._cell:
            place, name = self._cell
            place[name] += f" {data.strip()}"
