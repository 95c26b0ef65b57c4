"""A study whose judge is a server: its stages and bills, an outage in the middle of it, and what a reader is told."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from endpoint_server import Asked, Behaviour, endpoint_server
from judge_server import answer, judging
from judge_studies import judged_study
from stillwatt.errors import EndpointError, UsageError
from stillwatt.pipelines.spec import PipelineSpec, TeacherSpec
from stillwatt.pipelines.spec_endpoint import EndpointSpec
from stillwatt.pipelines.spec_evaluate import OWN_TEACHER
from study_place import Place


def study(url: str, *, by: str = "probabilities", key: str | None = None, **judge: Any) -> PipelineSpec:
    """One arm, one checkpoint, no serving load, and a judge behind that address."""
    endpoint = EndpointSpec(
        url=url, model="judge", api="chat", api_key_env=key, concurrency=1, timeout_s=5.0, max_retries=0,
        table="evaluate.judge_endpoint", asked_in="evaluate.judge", top_logprobs=0 if by == "text" else 5,
    )  # fmt: skip
    told = {"against": "text", "form": "chat", "verdicts_by": by, **judge}
    return judged_study(source="endpoint", dtype=None, endpoint=endpoint, **told)


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLWATT_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setattr("stillwatt.pipelines.bench.free_memory", lambda: None)
        yield


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def real_first(prompt: str) -> float:
    """Prefers the answer that is longer; a preference of content, not of place."""
    first, _, second = prompt.partition("Continuation B:\n")
    return 0.9 if len(first.partition("Continuation A:\n")[2]) > len(second.partition("\n\nWhich")[0]) else 0.1


def test_a_server_judges_after_all_training_and_its_joules_are_absent_on_the_arms_own_bill(place: Place) -> None:
    with endpoint_server(judging(real_first)) as server:
        journal = place.run(study(server.url))
        asked = len(server.asked)
    stages = [name for name in journal.stages() if name.startswith(("judge.", "load_judge"))]
    assert stages == ["judge.planted", "judge.teacher", "judge.start", "judge.sft.1.0"]
    assert asked == 4 * 12
    (score,) = journal.results("judge.sft.1.0")["scores"]
    assert (score["n"], score["judged"]["asked_prompts"], score["judged"]["no_verdict"]) == (6, 12, 0)
    assert score["judged"]["judge"] == "judge at 127.0.0.1"
    assert score["judged"]["caution"] is None
    assert journal.labels("judge.sft.1.0")["judged_as"] == score["task"]
    assert journal.workload("judge.sft.1.0")["tokens"] == 12 * 12
    assert journal.workload("judge.sft.1.0")["samples"] == 12
    assert journal.results("judge.sft.1.0")["endpoint"]["endpoint"] == server.url
    ids = {event["stage_id"]: event["name"] for event in journal.of("stage_started")}
    stated = {ids[event["stage_id"]]: event for event in journal.of("stated_energy")}
    assert list(stated) == stages
    assert {event["value_j"] for event in stated.values()} == {None}
    assert stated["judge.planted"]["reason"].startswith("the judge is an endpoint")
    known = journal.results("prepare_data")["judge"]
    assert (known["weights"], known["model"], known["top_logprobs"]) == (None, "judge", 5)


def test_after_an_outage_the_run_goes_on_and_asks_for_the_rest_alone(place: Place, tmp_path: Path) -> None:
    whole = judging(real_first)

    def breaks(number: int, asked: Asked) -> Behaviour:
        return whole(number, asked) if number < 30 else Behaviour(status=503)

    with endpoint_server(breaks) as server:
        with pytest.raises(EndpointError, match="status 503"):
            place.run(study(server.url))
        server.behave, before = whole, len(server.asked)
        rest = place.run(study(server.url), prefix="b")
        assert len(server.asked) - before == 48 - 30
        plain = Place(tmp_path / "plain")
        once = plain.run(study(server.url))
    assert rest.stages() == ["judge.start", "judge.sft.1.0"]
    assert rest.workload("judge.start")["prompts_taken_over"] == 6
    for name in rest.stages():
        assert rest.results(name)["scores"] == once.results(name)["scores"]


def test_written_verdicts_without_a_letter_leave_no_score_and_not_a_bad_one(place: Place) -> None:
    def behave(number: int, asked: Asked) -> Behaviour:
        return answer(asked, "B" if number < 12 else "I prefer neither.", finish="stop")

    with endpoint_server(behave) as server:
        journal = place.run(study(server.url, by="text"))
    (planted,) = journal.results("judge.planted")["scores"]
    assert (planted["value"], planted["judged"]["verdict_mass"]) == (0.5, None)
    (score,) = journal.results("judge.sft.1.0")["scores"]
    assert (score["value"], score["se"], score["n"]) == (None, None, 0)
    assert (score["judged"]["no_verdict"], score["judged"]["refused"]) == (12, 0)
    kept = place.directory / "r1" / "state" / "judgements" / "sft.1.0.json"
    assert json.loads(kept.read_text(encoding="utf-8")) == {"shares": [None] * 12}


def test_a_key_that_is_not_there_is_told_before_anything_is_spent(place: Place) -> None:
    with pytest.raises(UsageError, match=r"NO_SUCH_JUDGE_KEY, which evaluate\.judge_endpoint\.api_key_env names"):
        place.run(study("http://127.0.0.1:9/v1", key="NO_SUCH_JUDGE_KEY"))
    assert not (place.directory / "r1").exists()


def test_the_teachers_own_server_as_a_judge_is_cautioned_against(place: Place) -> None:
    with endpoint_server(judging(real_first)) as server:
        spec = study(server.url, try_planted=False)
        judge = spec.evaluate.judge
        assert judge is not None
        teacher = TeacherSpec(source="endpoint", revision=None, dtype=None, endpoint=judge.endpoint)
        journal = place.run(dataclasses.replace(spec, teacher=teacher))
    (score,) = journal.results("judge.sft.1.0")["scores"]
    assert score["judged"]["caution"] == OWN_TEACHER
    assert any(OWN_TEACHER in line for line in place.said)
