"""Use case: a life-cycle report, made just now or saved by anybody, as a page and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stillwatt.errors import ReportError
from stillwatt.workflows.account import parse_report, read_text
from stillwatt.workflows.outputs import write_whole

LIFECYCLE_TITLE = " · Stillwatt life cycle"
"""What the title of such a page ends in."""


def is_saved(reference: str) -> bool:
    """Whether a reference is a report's file and no run."""
    return reference.endswith(".json") or Path(reference).is_file()


def saved_report(path: str | Path) -> dict[str, Any]:
    """A report that was saved, as it is: nothing is computed.

    Raises:
        MissingInputError: there is no such file.
        ReportError: it is no life-cycle report; says where it is not.
    """
    from stillwatt.config.lifecycle_schema import schema_faults

    text = read_text(path)
    data = parse_report(text, str(path))
    if faults := schema_faults(text):
        more = f" and {len(faults) - 1} faults more" if len(faults) > 1 else ""
        raise ReportError(f"{path} {faults[0].path}", f"{faults[0].message}{more}: `stillwatt validate` lists them")
    return data


def write_pages(
    data: Mapping[str, Any], *, html: Path | None = None, markdown: Path | None = None
) -> Iterator[tuple[str, Path]]:
    """Write what is asked for, and say what and where; the same report gives the same bytes.

    Raises:
        ReportError: it is no life-cycle report.
        MissingExtraError: the template engine is not installed, for HTML.
    """
    from stillwatt.report.lifecycle_page import lifecycle_html, lifecycle_markdown

    if html is not None:
        write_whole(html, lifecycle_html(data))
        yield "page", html
    if markdown is not None:
        write_whole(markdown, lifecycle_markdown(data))
        yield "markdown", markdown
