"""How often students saw their text, where that is more than once: a student of three passes is not one of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stillwatt.records.run import RunRecord
from stillwatt.report.format import MISSING, count_text, significant
from stillwatt.report.tables import Row, Table, table_columns

__all__ = ["passes_sentence", "passes_table"]

_EPOCHS = "epochs"


def passes_table(data: Mapping[str, Any]) -> Table:
    """A row for each training whose budget goes over its text several times: how far it came."""
    stages = data["run"]["stages"]
    rows = [_row(one) for one in stages if _EPOCHS in one["results"] and one["labels"].get("arm")]
    note = "".join(
        _text(one["results"]) for one in stages if _EPOCHS in one["results"] and not one["labels"].get("arm")
    )
    return Table(
        title="Passes over the text",
        columns=table_columns("training", ">tokens trained on", ">passes", ">of"),
        rows=tuple(rows),
        note=f"{note}Whatever a teacher makes of a text is made once, however often it is read." if rows else "",
    )


def passes_sentence(run: RunRecord) -> Iterator[str]:
    """What is to be known of every student's text, as a sentence; nothing where each saw it once."""
    for stage in run.stages:
        if _EPOCHS in stage.results and not stage.labels.get("arm"):
            epochs, tokens = stage.results[_EPOCHS], count_text(stage.results.get("train_tokens"))
            passes = f"{epochs} passes over a text of {tokens} tokens"
            yield f"Each budget is {passes}: no student here saw as much new text."
            return


def _row(trained: Mapping[str, Any]) -> Row:
    found = trained["results"]
    done = found.get("passes_done")
    return Row(
        cells=(
            trained["name"],
            count_text(found.get("tokens_total")),
            MISSING if done is None else significant(float(done), 3),
            count_text(found[_EPOCHS]),
        )
    )


def _text(prepared: Mapping[str, Any]) -> str:
    return f"The text is {count_text(prepared.get('train_tokens'))} tokens. "
