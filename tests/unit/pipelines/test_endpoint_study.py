"""A whole study with a server for a teacher, on tiny random students: its stages, artefact and statements."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from endpoint_server import EndpointServer, endpoint_server
from judge_models import judge_spec
from stillwatt.errors import StillwattError, UsageError
from stillwatt.pipelines.progress import SilentProgress
from stillwatt.pipelines.runner import run_pipeline
from stillwatt.pipelines.spec import EndpointSpec, Method, PipelineSpec, TeacherSpec
from stillwatt.records.channel import Basis
from stillwatt.records.energy import Total
from tiny_models import ListJournal, list_meter, smoke_spec

PER_TOKEN = Total(value_j=0.5, low_j=0.1, high_j=2.0, basis=Basis.MODELLED, complete=True)


def spec_of(url: str, **changes: object) -> PipelineSpec:
    whole = smoke_spec()
    student = replace(whole.students[0], source="tiny-random", drop_layers=0, candidate_starts=(), selection_tokens=0)
    server = EndpointSpec(
        url=url, model="m", api="completions", api_key_env=None, concurrency=4, timeout_s=10.0, max_retries=2,
        token_energy=PER_TOKEN, energy_source="a model",
    )  # fmt: skip
    arms = tuple(arm for arm in whole.arms if arm.method in (Method.SFT, Method.SYNTHETIC_SFT))
    teacher = TeacherSpec(source="endpoint", revision=None, dtype=None, endpoint=server)
    return replace(whole, teacher=teacher, students=(student,), arms=arms, logits=None, **changes)  # type: ignore[arg-type]  # of its fields


def run(spec: PipelineSpec, directory: Path, run_id: str = "r1") -> tuple[ListJournal, list[str]]:
    meter, journal = list_meter("a")
    said: list[str] = []
    run_pipeline(
        spec,
        meter=meter,
        run_id=run_id,
        run_dir=directory / run_id,
        artifacts_dir=directory / "artifacts",
        progress=SilentProgress(),
        announce=said.append,
    )
    return journal, said


def nobody_spec() -> PipelineSpec:
    """Students that learn from text that is there, and nobody to ask."""
    spec = spec_of("http://127.0.0.1:1/v1")
    arms = tuple(arm for arm in spec.arms if arm.method is Method.SFT)
    teacher = TeacherSpec(source="none", revision=None, dtype=None)
    return replace(spec, teacher=teacher, arms=arms, generate=None)


def test_a_study_without_a_teacher_has_students_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLWATT_HOME", str(tmp_path / "home"))
    journal, said = run(nobody_spec(), tmp_path)
    assert not [name for name in journal.stages() if "teacher" in name]
    assert {"evaluate.start", "train.sft.1.0", "evaluate.sft.1.0"} <= set(journal.stages())
    assert set(journal.status().values()) == {"ended"}
    assert sum("the recipe has no teacher" in line for line in said) == 2
    assert not journal.of("stated_energy")
    asked = replace(nobody_spec().evaluate, judge=judge_spec(source="tiny-random", against="start"))
    judged, _ = run(replace(nobody_spec(), evaluate=asked), tmp_path, "r2")
    assert "judge.sft.1.0" in judged.stages()
    assert "judge.teacher" not in judged.stages()


def test_a_study_has_the_stages_that_text_alone_allows_and_its_text_is_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLWATT_HOME", str(tmp_path / "home"))
    with endpoint_server() as server:
        journal, said = run(spec_of(server.url), tmp_path)
        asked = len(server.asked)
        again, _ = run(spec_of(server.url), tmp_path, "r2")
    assert len(server.asked) == asked
    assert [name for name in journal.stages() if "teacher" in name] == ["teacher_generate"]
    assert sum("the teacher is an endpoint" in line for line in said) == 2
    last = journal.of("stated_energy")[-1]
    assert last["value_j"] == pytest.approx(server.generated * PER_TOKEN.value_j)
    assert again.of("stated_energy") == []
    assert {event["labels"].get("reused_from") for event in again.of("stage_started")} == {None, "r1"}


def test_students_of_a_server_are_judged_by_a_model_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLWATT_HOME", str(tmp_path / "home"))
    with endpoint_server() as server:
        spec = spec_of(server.url)
        judged = replace(spec.evaluate, judge=judge_spec(source="tiny-random", against="text"))
        journal, _ = run(replace(spec, evaluate=judged), tmp_path)
    names = {name for name in journal.stages() if name.startswith("judge.")}
    assert names >= {"judge.start", "judge.sft.1.0", "judge.synthetic.1.0"}
    assert "judge.teacher" not in names


def test_what_a_server_cannot_do_is_refused_before_anything_is_spent(tmp_path: Path) -> None:
    whole, server = smoke_spec(), EndpointServer(url="http://127.0.0.1:9/v1")
    cases = {
        "arm 'kd': the teacher is an endpoint": replace(spec_of(server.url), arms=whole.arms, logits=whole.logits),
        "the teacher is an endpoint, so there are no layers": replace(
            spec_of(server.url), students=(replace(whole.students[0], source="prune-teacher"),)
        ),
        "arm 'kd': the recipe has no teacher": replace(nobody_spec(), arms=whole.arms, logits=whole.logits),
        "arm 'synthetic': the recipe has no teacher, and nobody writes text": replace(
            spec_of(server.url), teacher=nobody_spec().teacher
        ),
    }
    for message, spec in cases.items():
        with pytest.raises(StillwattError, match=message):
            run(spec, tmp_path)
    keyed = spec_of(server.url)
    assert keyed.teacher.endpoint is not None
    teacher = replace(keyed.teacher, endpoint=replace(keyed.teacher.endpoint, api_key_env="NO_SUCH_TEACHER_KEY"))
    with pytest.raises(UsageError, match=r"NO_SUCH_TEACHER_KEY, which .* names, is not set"):
        run(replace(keyed, teacher=teacher), tmp_path)
    assert not list(tmp_path.rglob("stages*"))
