"""Finished runs in MLflow and Weights & Biases, with the real libraries and no network; what is absent stays absent."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import stillwatt
from integration_runs import synthetic_run, value_j
from stillwatt.errors import UsageError
from stillwatt.integrations.figures_of_run import TABLE_COLUMNS, run_figures
from stillwatt.records import NoTotal, RunRecord


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """A run with everything metered, an idle baseline and two attempts of one name."""
    with synthetic_run(tmp_path_factory.mktemp("whole"), "my distillation") as run:
        with run.stage("idle", kind="idle_baseline"):
            time.sleep(0.4)
        with run.stage("teacher: generate/1", kind="teacher_generate") as stage:
            stage.add_tokens(12)
            time.sleep(0.4)
        with run.stage("teacher  generate 1"):
            time.sleep(0.2)
    return run.result


@pytest.fixture(scope="module")
def partial(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """A run whose GPU cannot be read, and that has no idle baseline."""
    options = {"nvml": {"library": "/nonexistent/libnvidia-ml.so.1"}}
    runs_dir = tmp_path_factory.mktemp("partial")
    with stillwatt.Run("no gpu", runs_dir=runs_dir, sensors=("nvml", "host_model"), options=options) as run:
        with run.stage("work"):
            time.sleep(0.4)
    return run.result


def test_every_number_has_its_interval_and_basis(whole: RunRecord) -> None:
    figures = run_figures(whole)
    assert figures.metrics["stillwatt/total/total_j"] == value_j(whole.total)
    ends = [figures.metrics[f"stillwatt/total/total_{end}_j"] for end in ("low", "high")]
    assert ends[0] <= value_j(whole.total) <= ends[1]
    assert figures.texts["stillwatt.total.basis"] == "assumed"
    assert figures.metrics["stillwatt/stage/teacher_generate_1/gross_j"] == value_j(whole.stages[1].gross)
    assert figures.metrics["stillwatt/stage/teacher_generate_1/net/net_j"] == value_j(whole.stages[1].net)
    assert figures.metrics["stillwatt/stage/teacher_generate_1/tokens"] == 12
    second = f"stillwatt/stage/teacher_generate_1.{whole.stages[2].stage_id}/gross_j"
    assert figures.metrics[second] == value_j(whole.stages[2].gross)
    assert all(math.isfinite(value) for value in figures.metrics.values())
    assert len(figures.table) == 3
    assert all(len(row) == len(TABLE_COLUMNS) for row in figures.table)


def test_what_is_absent_is_a_reason_and_never_a_number(partial: RunRecord) -> None:
    figures = run_figures(partial)
    assert isinstance(partial.stages[0].net, NoTotal)
    assert figures.texts["stillwatt.stage.work.net.absent"] == partial.stages[0].net.reason
    assert not any("net" in name for name in figures.metrics)
    assert "stillwatt/total/partial_j" in figures.metrics
    assert "stillwatt/total/total_j" not in figures.metrics
    assert figures.texts["stillwatt.total.incomplete"] == "without gpu0"
    assert 0.0 not in figures.metrics.values()
    (row,) = figures.table
    told = dict(zip(TABLE_COLUMNS, row, strict=True))
    assert (told["net_j"], told["complete"]) == (None, False)
    assert str(told["absent"]).startswith("net: ")


def test_a_total_that_cannot_be_given_is_a_reason(whole: RunRecord) -> None:
    from dataclasses import replace

    nothing = NoTotal(reason="x" * 600)
    stage = replace(whole.stages[0], gross=nothing, net=nothing, name="...")
    figures = run_figures(replace(whole, total=nothing, unallocated=nothing, stages=(stage,)))
    assert not any("_j" in name for name in figures.metrics)
    assert len(figures.texts["stillwatt.total.absent"]) == 501
    (row,) = figures.table
    assert dict(zip(TABLE_COLUMNS, row, strict=True))["gross_j"] is None


def test_names_are_ones_that_every_logger_takes(tmp_path: Path) -> None:
    with synthetic_run(tmp_path) as run:
        for name in ("x" * 300, "x" * 300, "..", "生成"):
            with run.stage(name) as stage:
                stage.add(**{"y" * 300: 1})
    metrics = run_figures(run.result).metrics
    assert len([name for name in metrics if name.endswith("/gross_j") and name.startswith("stillwatt/stage/")]) == 4
    assert max(map(len, metrics)) < 250
    assert not [name for name in metrics if {".", "..", ""} & set(name.split("/"))]


def test_a_count_does_not_pass_for_a_figure_of_the_meter(tmp_path: Path) -> None:
    with synthetic_run(tmp_path) as run, run.stage("work") as stage:
        stage.add(duration_s=5, gross_j=3, tokens=2)
    figures, (work,) = run_figures(run.result), run.result.stages
    found = {name.removeprefix("stillwatt/stage/work/"): value for name, value in figures.metrics.items()}
    assert (found["duration_s"], found["count.duration_s"]) == (work.duration_s, 5)
    assert (found["gross_j"], found["count.gross_j"], found["tokens"]) == (value_j(work.gross), 3, 2)


@pytest.fixture
def mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """MLflow with a store of files."""
    library = pytest.importorskip("mlflow", reason="the extra 'integrations' is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    library.set_tracking_uri((tmp_path / "mlruns").as_uri())
    yield library
    library.set_tracking_uri(None)


def test_mlflow_keeps_the_run(mlflow: Any, whole: RunRecord, partial: RunRecord, tmp_path: Path) -> None:
    from stillwatt.integrations.mlflow import log_run

    run_id = log_run(whole)
    found = mlflow.get_run(run_id)
    assert found.info.run_name == "my distillation"
    assert found.data.metrics["stillwatt/total/total_j"] == pytest.approx(value_j(whole.total))
    assert found.data.tags["stillwatt.total.basis"] == "assumed"
    assert found.data.params["stillwatt_run_id"] == whole.run_id
    (contract,) = tmp_path.rglob("stillwatt_run.json")
    assert json.loads(contract.read_text()) == whole.to_dict()
    (table,) = tmp_path.rglob("stillwatt_stages.csv")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["stage"] for row in rows[:2]] == ["idle", "teacher_generate_1"]
    with mlflow.start_run() as active:
        assert log_run(partial) == active.info.run_id
        nested = log_run(whole, mlflow_run_id=run_id)
        assert mlflow.active_run().info.run_id == active.info.run_id
    assert nested == run_id
    tags = mlflow.get_run(active.info.run_id).data.tags
    assert tags["stillwatt.total.incomplete"] == "without gpu0"
    assert "idle" in tags["stillwatt.stage.work.net.absent"]


def test_two_runs_do_not_mix_in_one_of_mlflow(mlflow: Any, whole: RunRecord, partial: RunRecord) -> None:
    from stillwatt.integrations.mlflow import log_run

    with mlflow.start_run() as active:
        log_run(whole)
        with pytest.raises(mlflow.MlflowException, match="stillwatt_run_id"):
            log_run(partial)
    found = mlflow.get_run(active.info.run_id).data
    assert found.metrics["stillwatt/duration_s"] == pytest.approx(whole.duration_s)
    assert not [name for name in found.metrics if "stage/work" in name]


def test_a_run_of_many_stages_takes_few_requests(mlflow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stillwatt.integrations.mlflow import log_run

    with synthetic_run(tmp_path / "runs") as run:
        for _ in range(40):
            with run.stage("step"):
                pass
    sizes: list[int] = []
    log_batch = mlflow.MlflowClient.log_batch

    def noting(client: Any, run_id: str, **given: Any) -> Any:
        sizes.append(len(given.get("tags", ())))
        return log_batch(client, run_id, **given)

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", noting)
    found = mlflow.get_run(log_run(run.result)).data.tags
    assert {name: found[name] for name in run_figures(run.result).texts} == run_figures(run.result).texts
    assert sum(sizes) == len(run_figures(run.result).texts) > 100 >= max(sizes)


def test_wandb_keeps_the_run(
    whole: RunRecord, partial: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb", reason="the extra 'integrations' is not installed")
    from stillwatt.integrations.wandb import log_run

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    for record in (whole, partial):
        run = wandb.init(project="test", dir=str(tmp_path), mode="offline")
        log_run(record, run)
        log_run(record, run)
        with pytest.raises(UsageError, match=f"holds the figures of {record.run_id} already"):
            log_run(partial if record is whole else whole, run)
        summary, config = dict(run.summary), dict(run.config)
        run.finish()
        if record is whole:
            assert summary["stillwatt/total/total_j"] == pytest.approx(value_j(whole.total))
            assert config["stillwatt/run_id"] == whole.run_id
        else:
            assert config["stillwatt/total/incomplete"] == "without gpu0"
            assert "stillwatt/total/total_j" not in summary
    assert list(tmp_path.rglob("*.wandb"))
    tables = [json.loads(path.read_text()) for path in tmp_path.rglob("*.table.json")]
    assert sorted({len(table["data"]) for table in tables}) == [1, 3]
    assert all(table["columns"] == list(TABLE_COLUMNS) for table in tables)
