"""A finished run's energies in Weights & Biases: summary, config, a table of stages, and the record as an artifact."""

from __future__ import annotations

from typing import Any

from stillwatt.errors import MissingExtraError, UsageError
from stillwatt.integrations.figures_of_run import CONTRACT_FILE, TABLE_COLUMNS, contract_json, run_figures
from stillwatt.records.run import RunRecord


def log_run(record: RunRecord, run: Any) -> None:
    """Log a run to a `wandb` run that is open.

    Energies become summary values `stillwatt/total/total_j`, `stillwatt/stage/NAME/gross_j` and so on, each with its
    `_low_j` and `_high_j`; bases, boundaries and the reasons for what is absent go to the config; the stages are a
    table, the JSON contract an artifact. A sum that lacks a part is `partial_j`. What is absent has no summary value.

    Args:
        record: The finished run.
        run: What `wandb.init` returned.

    Raises:
        MissingExtraError: wandb is not installed.
        UsageError: the figures of another run are there already; those of two must not mix under the same names.
    """
    wandb = _library()
    there = run.config.get("stillwatt/run_id", record.run_id)
    if there != record.run_id:
        raise UsageError(
            f"this W&B run holds the figures of {there} already; log {record.run_id} to one of its own (wandb.init)"
        )
    figures = run_figures(record)
    run.summary.update(figures.metrics)
    run.config.update({key.replace(".", "/"): text for key, text in figures.texts.items()}, allow_val_change=True)
    run.log({"stillwatt/stages": wandb.Table(columns=list(TABLE_COLUMNS), data=[list(row) for row in figures.table])})
    artifact = wandb.Artifact(f"stillwatt-{record.run_id}", type="stillwatt-run")
    with artifact.new_file(CONTRACT_FILE, mode="w", encoding="utf-8") as file:
        file.write(contract_json(record))
    run.log_artifact(artifact)


def _library() -> Any:
    try:
        import wandb
    except ImportError as err:
        raise MissingExtraError("wandb", "integrations") from err
    return wandb
