"""What an arm's budget bears of an artefact: all that its making took, or nothing that can be told."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import stillwatt
from stillwatt.errors import BudgetError
from stillwatt.pipelines.artifacts import Artifact
from stillwatt.pipelines.bench import Bench
from stillwatt.pipelines.progress import SilentProgress
from stillwatt.pipelines.state import RunState
from tiny_models import list_meter, smoke_spec

SERVER: dict[str, Any] = {"device": "big at a server", "boundary": "node"}
UNKNOWN = {**SERVER, "value_j": None, "reason": "read by nobody here"}
MODELLED = {**SERVER, "value_j": 500.0, "basis": "modelled", "driver": "ecologits", "source": "a model"}


def made(folder: Path, said: dict[str, Any] | None) -> tuple[Bench, Artifact, float]:
    """A bench, text that a run made with a server's help, and the joules of this machine for it."""
    options = {"synthetic": {"channels": [{"watts": 100.0}]}}
    with stillwatt.Run("made", runs_dir=folder, sensors=("synthetic",), options=options, period_ms=20) as run:
        with run.stage("teacher_generate", kind="teacher_generate") as stage:
            time.sleep(0.3)
            if said is not None:
                stage.state_energy("endpoint", **said)
    meter, _ = list_meter()
    bench = Bench(
        smoke_spec(),
        meter=meter,
        run_id=run.run_id,
        state=RunState(run.run_dir),
        artifacts_dir=folder / "artifacts",
        progress=SilentProgress(),
        announce=print,
    )
    made_by = {"run_id": run.run_id, "stage_id": run.result.stages[0].stage_id}
    artifact = Artifact(
        artifact_id="text-1", kind="text", directory=folder, sha256="0", bytes=1, made_by=made_by, results={}
    )
    return bench, artifact, 100.0 * run.result.stages[0].duration_s


@pytest.mark.parametrize(("said", "server_j"), [(None, 0.0), (MODELLED, 500.0)])
def test_an_artefact_took_what_this_machine_and_the_server_did(
    tmp_path: Path, said: dict[str, Any] | None, server_j: float
) -> None:
    bench, artifact, here_j = made(tmp_path, said)
    assert bench.artifact_j(artifact) == pytest.approx(here_j + server_j, rel=0.05)


def test_what_a_server_took_that_nobody_reads_is_no_share_of_nothing(tmp_path: Path) -> None:
    """Waiting for it here would pass for all that the text took."""
    bench, artifact, _ = made(tmp_path, UNKNOWN)
    with pytest.raises(BudgetError, match=r"the energy of text-1 is not known, so its share cannot be told"):
        bench.artifact_j(artifact)
