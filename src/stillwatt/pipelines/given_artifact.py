"""The cache that a recipe names, as an artefact: who it was made by, as far as books here say, and what that took."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stillwatt.errors import LedgerError, StillwattError
from stillwatt.ledger.post import build_record
from stillwatt.ledger.rundir import names_run, one_line
from stillwatt.metering.meter import Stage
from stillwatt.pipelines.artifacts import Artifact, artifact_id, read_record
from stillwatt.pipelines.bench import Bench
from stillwatt.pipelines.cached_text import cache_dir
from stillwatt.pipelines.given_cache import given_sha256
from stillwatt.pipelines.progress import Task
from stillwatt.pipelines.spec import GivenCacheSpec
from stillwatt.records.channel import Boundary
from stillwatt.records.energy import Total
from stillwatt.records.run import made_with
from stillwatt.records.window import StageKind

__all__ = ["given_artifact", "point_to_maker"]

PART = "logit_cache"
_STAGE = "teacher_logits"
_KIND = "logits"
_NOT_ASKED = "it was brought in, and the teacher was not asked"


def given_artifact(bench: Bench, given: GivenCacheSpec) -> Artifact:
    """The cache, booked: by a pointer to the run here that made it, else as something whose making nobody knows.

    Raises:
        StillwattError: It is another one than was found to fit.
    """
    directory = cache_dir(given.directory)
    facts = (bench.finished("prepare_data") or {})["given_cache"]
    sha256 = given_sha256(given)
    if sha256 != facts["artifact_sha256"]:
        raise StillwattError(
            f"teacher_logits.source: the logit cache {directory} has the hash {sha256}, and this run began with one of "
            f"{facts['artifact_sha256']}; bring that one back, or begin a new run"
        )
    kept = bench.finished(_STAGE)
    if kept is None:
        maker = bench.ranks.of_first(lambda: _maker_of(bench, directory, facts["artifact_sha256"]))
    else:
        maker = _kept_maker(kept)
    if isinstance(maker, str):
        found = _artifact(artifact_id(_KIND, {"given_sha256": sha256}), directory, facts, {})
        _book_unknown(bench, found, maker)
        return found
    found = _artifact(directory.resolve().name, directory, facts, maker)
    point_to_maker(bench, _STAGE, StageKind.TEACHER_LOGITS, _labels(found), found)
    return found


def point_to_maker(bench: Bench, name: str, kind: StageKind, labels: Mapping[str, str], found: Artifact) -> None:
    """A stage of no length that says which run paid for an artefact found on disk."""
    if bench.finished(name) is not None:
        return
    bench.announce(f"{name}: {found.artifact_id} was made by run {found.made_by['run_id']}; used again")

    def work(_stage: Stage, _task: Task) -> dict[str, Any]:
        bill = {"energy_run_id": found.made_by["run_id"], "energy_stage_id": found.made_by["stage_id"]}
        return {**found.results, **bill}

    pointing = {**labels, "reused_from": found.made_by["run_id"]}
    bench.run_stage(name, kind, work, labels=pointing, total=1, unit="artefacts")


def _book_unknown(bench: Bench, found: Artifact, reason: str) -> None:
    """A stage of no length whose bill has a part that nobody knows: what is not known is not nothing."""
    if bench.finished(_STAGE) is None:
        bench.announce(f"{_STAGE}: {found.directory}: {reason}")

    def work(stage: Stage, _task: Task) -> dict[str, Any]:
        device = f"whatever made {found.directory.name}"
        stage.state_energy(PART, device=device, boundary=Boundary.NODE.value, value_j=None, reason=reason)
        return {**found.results, "kl_absent": _NOT_ASKED, "making_absent": reason}

    bench.run_stage(_STAGE, StageKind.TEACHER_LOGITS, work, labels=_labels(found), total=1, unit="artefacts")


def _labels(found: Artifact) -> dict[str, str]:
    return {"artifact": found.artifact_id, "artifact_kind": _KIND}


def _artifact(name: str, directory: Path, facts: Mapping[str, Any], maker: Mapping[str, str]) -> Artifact:
    return Artifact(
        artifact_id=name,
        kind=_KIND,
        directory=directory,
        sha256=str(facts["artifact_sha256"]),
        bytes=int(facts["bytes"]),
        made_by=maker,
        results=facts,
    )


def _kept_maker(kept: Mapping[str, Any]) -> Mapping[str, str] | str:
    """What the stage said when it was done."""
    if "making_absent" in kept:
        return str(kept["making_absent"])
    return {"run_id": str(kept["energy_run_id"]), "stage_id": str(kept["energy_stage_id"])}


def _maker_of(bench: Bench, directory: Path, sha256: str) -> Mapping[str, str] | str:
    """The run and stage whose books say what a cache took; why there are none, where there are none."""
    record = read_record(directory)
    if record is None:
        return "the logit cache was brought in: what making it took, its teacher's work included, is not known here"
    run_id, stage_id = str(record["made_by"]["run_id"]), str(record["made_by"].get("stage_id", ""))
    runs_dir = bench.state.directory.parent.parent
    unknown = f"the logit cache was made by run {one_line(run_id)}, and what that took is not known here:"
    if not names_run(runs_dir, run_id):
        return f"{unknown} it is not in this folder of runs"
    try:
        made = made_with(build_record(runs_dir / run_id).stages, stage_id)
    except LedgerError as err:
        return f"{unknown} {err}"
    if not any(stage.results.get("artifact_sha256") == sha256 for stage in made):
        return f"{unknown} its books have no such cache"
    if not all(isinstance(stage.gross, Total) for stage in made):
        return f"{unknown} its books have no energy for it"
    return {"run_id": run_id, "stage_id": stage_id}
