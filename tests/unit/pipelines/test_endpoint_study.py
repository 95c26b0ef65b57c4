"""A whole study with a server for a teacher, on tiny random students: its stages, artefact and statements."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from byte_tokenizer import TEMPLATE, byte_tokenizer
from endpoint_server import EndpointServer, endpoint_server
from judge_models import judge_spec
from stillwatt.errors import StillwattError, UsageError
from stillwatt.pipelines import teacher_generate
from stillwatt.pipelines.artifacts import RECORD_NAME
from stillwatt.pipelines.progress import SilentProgress
from stillwatt.pipelines.runner import run_pipeline
from stillwatt.pipelines.spec import Method, PipelineSpec, TeacherSpec
from stillwatt.pipelines.spec_endpoint import EndpointSpec
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


def chatting(directory: Path, *, chat_template: str | None = TEMPLATE) -> str:
    """A tiny student with a tokenizer of bytes; the source that names it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = byte_tokenizer(chat_template=chat_template)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return f"path:{directory}"


def conversing(url: str, student: str, rows: Path, **generate: object) -> PipelineSpec:
    """A study of the teacher's answers alone."""
    spec = spec_of(url, serve=None)
    assert spec.teacher.endpoint is not None
    assert spec.generate is not None
    told = replace(spec.generate, prompts=f"path:{rows}", prompt_tokens=200, max_new_tokens=64, **generate)  # type: ignore[arg-type]  # values of its fields
    return replace(
        spec,
        teacher=replace(spec.teacher, endpoint=replace(spec.teacher.endpoint, api="chat")),
        students=(replace(spec.students[0], source=student),),
        arms=tuple(arm for arm in spec.arms if arm.method is Method.SYNTHETIC_SFT),
        train=replace(spec.train, checkpoints=(1.0,)),
        generate=told,
    )


def inputs_of(directory: Path, journal: ListJournal) -> dict[str, Any]:
    place = directory / "artifacts" / journal.labels("teacher_generate")["artifact"] / RECORD_NAME
    found: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))["inputs"]
    return found


def test_conversations_go_out_as_messages_and_stand_in_the_students_text_as_its_template_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLWATT_HOME", str(tmp_path / "home"))
    rows = tmp_path / "prompts.jsonl"
    asked = [f"What is {number} plus 1?" for number in range(8)]
    rows.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in asked), encoding="utf-8")
    student = chatting(tmp_path / "student")
    with endpoint_server() as server:
        spec = conversing(server.url, student, rows, chat=True, system="You are terse.")
        journal, _ = run(spec, tmp_path)
        sent = [each.body["messages"] for each in server.asked]
        plain, _ = run(conversing(server.url, student, rows), tmp_path, "r2")
    system = {"role": "system", "content": "You are terse."}
    assert sorted(map(json.dumps, sent)) == sorted(
        json.dumps([system, {"role": "user", "content": text}]) for text in asked[: len(sent)]
    )
    place = tmp_path / "artifacts" / journal.labels("teacher_generate")["artifact"]
    text, tokenizer = teacher_generate.load(place), byte_tokenizer()
    begun = {tokenizer.decode(s[:n]) for s, n in zip(text.sequences, text.prompt_lengths, strict=True)}
    assert begun <= {f"[system]You are terse.\n[user]{text}\n[assistant]" for text in asked}
    # another way of asking is another text; what is sent as it ever was is found under its old name
    assert "said_sha256" in inputs_of(tmp_path, journal)
    assert sorted(inputs_of(tmp_path, plain)) == ["needed_tokens", "prompts", "settings", "teacher", "tokenizer_sha256"]


def test_a_student_that_cannot_be_told_of_a_conversation_is_named_before_anybody_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLWATT_HOME", str(tmp_path / "home"))
    rows = tmp_path / "prompts.jsonl"
    rows.write_text('{"prompt": "a"}\n', encoding="utf-8")
    student = chatting(tmp_path / "student", chat_template=None)
    with endpoint_server() as server:
        with pytest.raises(StillwattError, match=f"the tokenizer of student 'pruned' .{student}. has none"):
            run(conversing(server.url, student, rows, chat=True), tmp_path)
        assert not server.asked
        spec = conversing(server.url, student, rows, chat=True)
        assert spec.teacher.endpoint is not None
        goes_on = replace(spec.teacher, endpoint=replace(spec.teacher.endpoint, api="completions"))
        with pytest.raises(StillwattError, match='a conversation, and api "completions" goes on from a text'):
            run(replace(spec, teacher=goes_on), tmp_path, "r2")
    assert not (tmp_path / "r2").exists()
