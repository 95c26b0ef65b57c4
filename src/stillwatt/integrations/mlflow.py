"""A finished run's energies in MLflow: metrics, tags, parameters, and the whole record as an artefact."""

from __future__ import annotations

import csv
import io
from typing import Any

from stillwatt.errors import MissingExtraError
from stillwatt.integrations.figures_of_run import CONTRACT_FILE, TABLE_COLUMNS, contract_json, run_figures
from stillwatt.records.run import RunRecord

_TAGS_AT_ONCE = 100
"""As many as MLflow's servers take in one request."""


def log_run(record: RunRecord, *, mlflow_run_id: str | None = None) -> str:
    """Log a run to MLflow's active run, to the named one, or to a new one of the run's own name.

    Energies become metrics `stillwatt/total/total_j`, `stillwatt/stage/NAME/gross_j` and so on, each with its `_low_j`
    and `_high_j`; bases, boundaries and the reasons for what is absent become tags; the JSON contract and a table of
    stages become artefacts. A sum that lacks a part is `partial_j`. What is absent has no metric.

    Returns:
        The id of the MLflow run.

    Raises:
        MissingExtraError: mlflow is not installed.
        Exception: what MLflow raises where its store does not take it; nothing of the run is lost by that.
    """
    mlflow = _library()
    active = mlflow.active_run()
    if mlflow_run_id is None and active is not None:
        _log(mlflow, record, active.info.run_id)
        return str(active.info.run_id)
    name = {} if mlflow_run_id else {"run_name": record.name}
    with mlflow.start_run(run_id=mlflow_run_id, nested=active is not None, **name) as opened:
        _log(mlflow, record, opened.info.run_id)
        return str(opened.info.run_id)


def _log(mlflow: Any, record: RunRecord, run_id: str) -> None:
    figures = run_figures(record)
    client = mlflow.MlflowClient()
    # first, since MLflow refuses another value: the figures of two runs must not mix under the same names
    client.log_param(run_id, "stillwatt_run_id", record.run_id)
    mlflow.log_metrics(figures.metrics, run_id=run_id)
    tags = [mlflow.entities.RunTag(key, text) for key, text in figures.texts.items()]
    for first in range(0, len(tags), _TAGS_AT_ONCE):
        client.log_batch(run_id, tags=tags[first : first + _TAGS_AT_ONCE])
    client.log_text(run_id, contract_json(record), CONTRACT_FILE)
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([TABLE_COLUMNS, *figures.table])
    client.log_text(run_id, table.getvalue(), "stillwatt_stages.csv")


def _library() -> Any:
    try:
        import mlflow
    except ImportError as err:
        raise MissingExtraError("mlflow-skinny", "integrations") from err
    return mlflow
