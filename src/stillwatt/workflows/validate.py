"""Use case: is this a life-cycle report, and does it keep the rules? Anybody's report, not only our own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stillwatt.config.lifecycle_schema import schema_faults
from stillwatt.records.lifecycle import ReportFault
from stillwatt.report.conformance import Conformance, conformance
from stillwatt.report.lifecycle_rules import rule_faults
from stillwatt.workflows.account import parse_report, read_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated:
    """What was found in a report."""

    faults: Sequence[ReportFault]
    conformance: Conformance
    """How far it keeps the protocol (docs/protocol.md)."""


def validate(path: str | Path) -> Validated:
    """Every fault of a report, and its level; rules beyond the schema are looked at once it keeps the schema.

    Raises:
        MissingInputError: there is no such file.
        ReportError: it is not JSON.
    """
    text = read_text(path)
    data = parse_report(text, str(path))
    faults = schema_faults(text) or rule_faults(data)
    return Validated(faults=faults, conformance=conformance(data, faults))
