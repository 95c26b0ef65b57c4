"""Which teacher stood behind an arm, beyond what `[teacher]` says: a server, or a cache from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stillwatt.records.finding import ArmPoint
    from stillwatt.records.run import RunRecord

__all__ = ["OWN", "given_caches", "server_of"]

OWN = "teacher"
"""What `[teacher_logits] source` is where the recipe's teacher writes the cache."""


def server_of(run: RunRecord) -> Any:
    """Which server the teacher is; how patiently it was asked makes no other text."""
    table = run.settings.get("teacher_endpoint")
    if not isinstance(table, Mapping):
        return None
    asked = {name: table[name] for name in ("leave_out", "extra_body") if table.get(name)}
    return {**{name: table.get(name) for name in ("url", "model", "api")}, **asked}


def given_caches(run: RunRecord, point: ArmPoint) -> list[str]:
    """Names of the caches that an arm read and that were there already.

    A name is made from the content: at the same place there may lie another one by now.
    """
    table = run.settings.get("teacher_logits")
    if not isinstance(table, Mapping) or table.get("source", OWN) == OWN:
        return []
    return [use.artifact for use in point.artifacts if use.kind == "logits"]
