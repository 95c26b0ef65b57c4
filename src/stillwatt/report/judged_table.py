"""What a judge said of the answers that were written, with what shows how far it can be believed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stillwatt.records.window import JUDGED_AS
from stillwatt.report.format import MISSING, energy_text, percent_text, significant
from stillwatt.report.tables import Row, Table, score_text, table_columns

_NOTE = (
    "± is one standard error over questions (eq. 132), and none of the judge's own. Flips: questions whose winner "
    "changes with the order of the answers; a coin has half of them. On verdicts: probability that the judge gives to "
    "any verdict at all. Lengths in characters: judges favour the longer answer, and the score is not corrected for it."
)

_OF_SERVERS = " Without: prompts on which the server gave no verdict, or refused; their questions are in no score."


def judged_table(data: Mapping[str, Any]) -> Table:
    """A row for each stage in which a judge read answers (method.md, section 13)."""
    judged = list(_judged(data))
    # only a server may leave a prompt without a verdict
    silent = (">without",) if any("asked_prompts" in told for _, _, told in judged) else ()
    columns = ("judged", "score", ">value", ">flips", ">on verdicts", *silent, ">length", ">of the others", ">empty")
    rows = tuple(_row(stage, score, told, is_server=bool(silent)) for stage, score, told in judged)
    note = f"{_NOTE}{_OF_SERVERS if silent else ''}" if rows else ""
    return Table(title="Judged answers", columns=table_columns(*columns, ">J"), rows=rows, note=note)


def _judged(data: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]]:
    for stage in data["run"]["stages"]:
        if JUDGED_AS not in stage["labels"] or stage["status"] != "ended":
            continue
        for score in stage["results"].get("scores") or ():
            if isinstance(told := score.get("judged"), Mapping):
                yield stage, score, told


def _row(stage: Mapping[str, Any], score: Mapping[str, Any], told: Mapping[str, Any], *, is_server: bool) -> Row:
    energy = stage["gross_j"]
    empty = [str(told[key]) for key in ("own_empty", "other_empty") if key in told]
    return Row(
        cells=(
            stage["name"].removeprefix("judge."),
            f"{score['task'].removeprefix('judge:')} by {told['judge']}",
            score_text(score),
            _share(told.get("position_flip_share")),
            _share(told.get("verdict_mass")),
            *([_without(told)] if is_server else []),
            _length(told.get("own_chars")),
            _length(told.get("other_chars")),
            " / ".join(empty) or MISSING,
            MISSING if "absent" in energy else f"{energy_text(energy)} {energy['basis']}",
        )
    )


def _without(told: Mapping[str, Any]) -> str:
    if "asked_prompts" not in told:
        return MISSING
    return f"{told['no_verdict'] + told['refused']} of {told['asked_prompts']}"


def _share(value: float | None) -> str:
    return MISSING if value is None else percent_text(value)


def _length(value: float | None) -> str:
    return MISSING if value is None else significant(value, 3)
