"""Predictions on disk: kept beside the runs by the recipe's settings, and taken into the run that carries it out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stillwatt.records.forecast import Figure, Forecast, LeftOut, Prediction
from stillwatt.records.kinds import StageKind

__all__ = ["FILE_NAME", "adopt_prediction", "load_prediction", "prediction_dict", "save_prediction"]

FILE_NAME = "prediction.json"
_FOLDER = "predictions"
SCHEMA = "stillwatt.prediction/1"


def prediction_dict(prediction: Prediction) -> dict[str, Any]:
    """A prediction for programs."""
    return {"schema": SCHEMA, **asdict(prediction)}


def save_prediction(prediction: Prediction, runs_dir: str | Path) -> Path | None:
    """Keep a prediction for the run that may follow; None where the folder cannot be written."""
    path = Path(runs_dir) / _FOLDER / f"{prediction.settings_sha256}.json"
    return path if _write(path, json.dumps(prediction_dict(prediction), indent=1) + "\n") else None


def adopt_prediction(runs_dir: Path, run_dir: Path, settings_sha256: str) -> None:
    """Take the prediction of these settings, if there is one, into a run that begins; one that is there stays.

    Called at a run's first session alone: what is predicted while it is under way is not from before it.
    """
    try:
        text = (runs_dir / _FOLDER / f"{settings_sha256}.json").read_text(encoding="utf-8")
    except OSError:
        return
    if not (run_dir / FILE_NAME).exists():
        _write(run_dir / FILE_NAME, text)


def load_prediction(run_dir: Path) -> Prediction | None:
    """The prediction that was made before a run; None where none can be read, or where it learnt from this very run."""
    try:
        told = json.loads((run_dir / FILE_NAME).read_text(encoding="utf-8"))
        found = _prediction(told) if told["schema"] == SCHEMA else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if found is None or run_dir.name in found.learnt_from else found


def _write(path: Path, text: str) -> bool:
    """Whole or not at all."""
    temporary = path.with_name(f".{path.name}.writing")
    try:
        path.parent.mkdir(exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError:
        return False
    return True


def _prediction(told: Mapping[str, Any]) -> Prediction:
    named = {key: value for key, value in told.items() if key != "schema"}
    for key in ("energy_j", "duration_s", "kgco2e"):
        named[key] = _figure(named[key])
    for key in ("energy_error", "duration_error"):
        named[key] = None if named[key] is None else LeftOut(**named[key])
    for key in ("disk_bytes", "learnt_from", "notes"):
        named[key] = tuple(named[key])
    named["stages"] = tuple(_stage(stage) for stage in named["stages"])
    return Prediction(**named)


def _stage(told: Mapping[str, Any]) -> Forecast:
    figures = {key: _figure(told[key]) for key in ("energy_j", "duration_s", "kgco2e")}
    return Forecast(**{**told, **figures, "kind": StageKind(told["kind"]), "disk_bytes": tuple(told["disk_bytes"])})


def _figure(told: Mapping[str, float] | None) -> Figure | None:
    return None if told is None else Figure(**told)
