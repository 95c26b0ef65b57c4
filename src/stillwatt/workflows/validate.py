"""Use case: is this a life-cycle report, and does it keep the rules? Anybody's report, not only our own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stillwatt.config.lifecycle_schema import schema_faults
from stillwatt.records.lifecycle import ReportFault
from stillwatt.report.lifecycle_rules import rule_faults
from stillwatt.workflows.account import parse_report, read_text


def validate(path: str | Path) -> Sequence[ReportFault]:
    """Every fault of a report; rules beyond the schema are looked at once it keeps the schema.

    Raises:
        MissingInputError: there is no such file.
        ReportError: it is not JSON.
    """
    text = read_text(path)
    data = parse_report(text, str(path))
    return schema_faults(text) or rule_faults(data)
