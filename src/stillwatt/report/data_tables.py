"""Students' data as tables: the teacher's text with what was rejected, and how long trainings waited for data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stillwatt.report.format import MISSING, count_text, percent_text
from stillwatt.report.tables import Row, Table, table_columns

TRAINING_TEXT = "training text"
"""What the teacher went on from where no prompts were counted."""


def texts_table(data: Mapping[str, Any]) -> Table:
    """A row for each text that the teacher wrote: samples kept, rejected and why, tokens kept and billed."""
    stages = [one for one in data["run"]["stages"] if one["labels"].get("artifact_kind") == "text"]
    rows = [_text_row(one, stages) for one in stages if one["status"] == "ended" and "rejects" in one["results"]]
    columns = ("teacher's text", ">kept", ">rejected", "why", ">tokens kept", ">tokens billed", "prompts")
    note = "Of each completion the first check that fails is counted; rejected ones are billed as kept ones are."
    return Table(
        title="The teacher's text", columns=table_columns(*columns), rows=tuple(rows), note=note if rows else ""
    )


def waits_table(data: Mapping[str, Any]) -> Table:
    """A row for each training that says which share of its steps' time it waited for its data."""
    rows = [
        Row(cells=(one["name"], percent_text(float(one["results"]["loader_wait_share"]))))
        for one in data["run"]["stages"]
        if "loader_wait_share" in one["results"]
    ]
    note = "Building microbatches and reading a cache's rows; of the time from the first step to the last."
    return Table(
        title="Waiting for data",
        columns=table_columns("training", ">waited for data, of its steps' time"),
        rows=tuple(rows),
        note=note if rows else "",
    )


def _text_row(made: Mapping[str, Any], stages: Sequence[Mapping[str, Any]]) -> Row:
    found, artifact = made["results"], made["labels"].get("artifact", "")
    rejects: Mapping[str, int] = found["rejects"]
    is_used_again = "reused_from" in made["labels"]
    # attempts that were cut off have their own counts, and what they wrote is in the text
    attempts = [one for one in stages if one["labels"].get("artifact") == artifact]
    billed = sum(one["workload"].get("tokens", 0.0) for one in attempts)
    why = ", ".join(f"{reason} {count:,}" for reason, count in rejects.items() if count)
    prompts = ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in found.get("prompts", {}).items())
    return Row(
        cells=(
            artifact,
            count_text(found.get("samples")),
            count_text(sum(rejects.values())),
            why or MISSING,
            count_text(found.get("tokens")),
            f"by run {made['labels']['reused_from']}" if is_used_again else count_text(billed),
            prompts or TRAINING_TEXT,
        )
    )
