"""A study with a judge: whose answers are written where, what the judge's stages hold, and what a kill changes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from judge_models import ALWAYS_A, plant_judge
from judge_studies import judged_study
from stillwatt.errors import StillwattError
from stillwatt.pipelines.artifacts import file_sha256
from stillwatt.pipelines.spec_evaluate import OWN_TEACHER
from study_place import KillingProgress, Place
from tiny_models import ListJournal

STAGES = [
    "prepare_data",
    "evaluate.teacher",
    "answer.teacher",
    "evaluate.start",
    "answer.start",
    "train.sft.1.0",
    "evaluate.sft.1.0",
    "answer.sft.1.0",
    "judge.planted",
    "load_judge",
    "judge.teacher",
    "judge.start",
    "judge.sft.1.0",
]


def score_of(journal: ListJournal, name: str) -> Mapping[str, Any]:
    (score,) = journal.results(name)["scores"]
    found: Mapping[str, Any] = score
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLWATT_HOME", str(directory))
        # tiny models leave nothing to clear away, and looking for it takes most of such a study's time
        patch.setattr("stillwatt.pipelines.bench.free_memory", lambda: None)
        yield directory


@pytest.fixture(scope="module")
def planted(home: Path) -> str:
    return f"path:{plant_judge(home / 'planted', ALWAYS_A)}"


@pytest.fixture(scope="module")
def whole(planted: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, ListJournal]:
    """One uninterrupted study, judged by a model that takes whatever stands first."""
    place = Place(tmp_path_factory.mktemp("whole"))
    return place, place.run(judged_study(source=planted))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_answers_are_written_inside_evaluations_and_judged_after_all_training(
    whole: tuple[Place, ListJournal],
) -> None:
    _, journal = whole
    assert journal.stages() == STAGES
    parents = {event["name"]: event["parent_id"] for event in journal.of("stage_started")}
    ids = {event["name"]: event["stage_id"] for event in journal.of("stage_started")}
    for model in ("teacher", "start", "sft.1.0"):
        assert parents[f"answer.{model}"] == ids[f"evaluate.{model}"]
        assert parents[f"judge.{model}"] is None
    # loaded once, by the first that needs it, which is on no arm's bill
    assert parents["load_judge"] == ids["judge.planted"]
    assert journal.labels("judge.planted").keys() == {"judged_as"}


def test_what_was_written_and_read_is_counted_on_the_arms_own_labels(whole: tuple[Place, ListJournal]) -> None:
    _, journal = whole
    written = journal.workload("answer.sft.1.0")
    assert written["samples"] == 6
    assert 6 <= written["generated_tokens"] <= 36
    assert written["tokens"] == 48 + written["generated_tokens"]
    read = journal.workload("judge.sft.1.0")
    assert read["samples"] == 12
    assert read["tokens"] > 12 * 250  # letters of the rubric
    assert journal.workload("judge.teacher") == {}
    name = score_of(journal, "judge.sft.1.0")["task"]
    assert journal.labels("judge.sft.1.0") == {**journal.labels("evaluate.sft.1.0"), "judged_as": name}
    assert journal.labels("judge.start")["arm"] == "start"


def test_a_judge_of_positions_says_nothing_and_its_flips_say_so(whole: tuple[Place, ListJournal]) -> None:
    _, journal = whole
    score = score_of(journal, "judge.sft.1.0")
    assert score["value"] == pytest.approx(0.5, abs=1e-6)
    assert (score["n"], score["in_quality"], score["higher_is_better"]) == (6, False, True)
    judged = score["judged"]
    assert judged["position_flip_share"] == 1.0
    assert judged["verdict_mass"] > 0.9
    assert (judged["rubric"], judged["against"], judged["caution"]) == ("continuation-pairwise-1", "teacher", None)
    assert judged["own_chars"] > 0
    planted = score_of(journal, "judge.planted")
    assert planted["task"].startswith("judge:planted_win_vs_teacher@")
    assert abs(planted["value"] - 0.5) <= 0.5
    assert planted["in_quality"] is False
    assert score_of(journal, "judge.teacher")["value"] == 0.5
    assert score_of(journal, "judge.teacher")["se"] == 0.0


def test_the_record_tells_the_judge_its_rubric_and_its_template(whole: tuple[Place, ListJournal]) -> None:
    _, journal = whole
    kept = journal.results("prepare_data")["judge"]
    told = journal.results("judge.sft.1.0")["judge"]
    assert {key: told[key] for key in kept} == kept
    assert kept["weights"].startswith("sha256:")
    assert {"rubric_sha256", "tokenizer_sha256", "chat_template_sha256", "verdicts", "form", "dtype"} <= set(kept)


@pytest.mark.parametrize("stage", ["evaluate.sft.1.0", "judge.sft.1.0"])
def test_a_killed_run_goes_on_and_is_judged_as_if_it_had_not_been(
    whole: tuple[Place, ListJournal], planted: str, place: Place, stage: str
) -> None:
    killed = place.run(judged_study(source=planted), progress=KillingProgress(stage))
    assert killed.status()[stage] == "failed"
    rest = place.run(judged_study(source=planted), prefix="b")
    assert rest.stages()[0] == stage
    first, journal = whole
    for name in STAGES:
        if name.startswith("judge.") and name in rest.stages():
            assert rest.results(name) == journal.results(name)
    for kind in ("answers", "judgements"):
        for path in (first.directory / "r1" / "state" / kind).iterdir():
            assert (place.directory / "r1" / "state" / kind / path.name).read_bytes() == path.read_bytes()


def test_what_changed_or_went_since_the_run_began_is_refused(planted: str, place: Place, tmp_path: Path) -> None:
    rubric = tmp_path / "rubric.txt"
    text = "{question} {answer_a} {answer_b}: "
    rubric.write_text(text, encoding="utf-8")
    spec = judged_study(source=planted, rubric=f"path:{rubric}", against="start")
    journal = place.run(spec, progress=KillingProgress("judge.sft.1.0"))
    assert (score_of(journal, "judge.start")["value"], score_of(journal, "judge.start")["se"]) == (0.5, 0.0)
    assert score_of(journal, "judge.teacher")["task"].startswith("judge:win_vs_start@")
    rubric.write_text("{question} {answer_b} {answer_a}: ", encoding="utf-8")
    with pytest.raises(StillwattError, match=r"rubric_sha256 changed since the run began.*are not compared"):
        place.run(spec, prefix="b")
    rubric.write_text(text, encoding="utf-8")
    (place.directory / "r1" / "state" / "answers" / "sft.1.0.json").unlink()
    with pytest.raises(StillwattError, match=r"sft\.1\.0\.json: the answers that are to be judged are gone"):
        place.run(spec, prefix="c")


def test_the_teacher_as_its_own_judge_grades_and_is_cautioned_against(home: Path, place: Place) -> None:
    verdicts = tuple("12345")
    spec = judged_study(mode="score", against=None, rubric="continuation-grade-1", verdicts=verdicts, in_quality=True)
    journal = place.run(spec)
    assert any(OWN_TEACHER in line for line in place.said)
    for name in ("judge.teacher", "judge.start", "judge.sft.1.0"):
        score = score_of(journal, name)
        assert score["task"].startswith("judge:grade_of_5@")
        assert 1.0 < score["value"] < 5.0
        assert score["in_quality"] is True
        assert score["judged"]["caution"] == OWN_TEACHER
        assert "position_flip_share" not in score["judged"]
        assert "other_chars" not in score["judged"]
    assert journal.workload("judge.teacher")["samples"] == 6


def test_what_the_judge_cannot_read_stops_the_study_before_any_model_is_asked(home: Path, place: Place) -> None:
    with pytest.raises(StillwattError, match="reads 512 tokens at most"):
        place.run(judged_study(answer_tokens=140))
    with pytest.raises(StillwattError, match="are not single tokens"):
        place.run(judged_study(verdicts=("first", "second")), prefix="b")
    assert not (place.directory / "r1" / "state" / "prepare_data.json").exists()
    assert not (place.directory / "r1" / "state" / "evaluate.teacher.json").exists()


def test_empty_answers_are_judged_and_counted(planted: str, place: Place) -> None:
    spec = judged_study(source=planted, against="text", try_planted=False)
    place.run(spec, progress=KillingProgress("judge.teacher"))
    state = place.directory / "r1" / "state"
    path, mark = state / "answers" / "sft.1.0.json", state / "evaluate.sft.1.0.json"
    path.write_text(json.dumps({"texts": ["", " ", "a", "b", "c", "d"]}), encoding="utf-8")
    kept = json.loads(mark.read_text(encoding="utf-8"))
    kept["answers"]["sha256"] = file_sha256(path)
    mark.write_text(json.dumps(kept), encoding="utf-8")
    journal = place.run(spec, prefix="b")
    assert "judge.planted" not in journal.stages()
    score = score_of(journal, "judge.sft.1.0")
    assert (score["n"], score["judged"]["own_empty"], score["judged"]["other_empty"]) == (6, 2, 0)
    assert score["judged"]["own_chars"] == pytest.approx(5 / 6)
