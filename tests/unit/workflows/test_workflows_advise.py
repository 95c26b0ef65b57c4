"""What to run next, from made-up studies and from tables."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from planned_runs import smoke, study_run
from run_dirs import quick_run
from stillwatt.analysis.study import summarise
from stillwatt.config.amounts import Amount
from stillwatt.config.bundled import find_recipe
from stillwatt.config.load import load_recipe
from stillwatt.config.models import Recipe
from stillwatt.errors import ConfigError, MissingInputError, StillwattError, UnknownNameError, UsageError
from stillwatt.factors.catalog import Catalog
from stillwatt.records.advice import Answer, Limits
from stillwatt.records.finding import Bill
from stillwatt.workflows.advise import Request, advise_from_runs, advise_from_table, limits_of
from stillwatt.workflows.books import show_run

HEADER = "label,method,student,seed,quality,quality_se,teacher_kwh,student_kwh,other_kwh,throughput"
TABLE = f"""{HEADER}
sft,sft,1B,1,0.690,0.01,0,6.28,0.70,
sft,sft,1B,2,0.696,0.01,0,6.33,0.70,
kd,kd,1B,1,0.801,0.01,11.0,5.18,0.70,
kd,kd,1B,2,0.812,0.01,11.0,5.22,0.70,
lost,kd,1B,1,,,11.0,5.22,0.70,
"""
SERVED = f"""{HEADER},serving_teacher_j_per_token,serving_student_j_per_token
sft,sft,1B,1,0.690,0.01,0,6.28,0.70,,10,1
kd,kd,1B,1,0.801,0.01,11.0,5.18,0.70,,10,1
bare,kd,1B,1,0.801,0.01,11.0,5.18,0.70,,10,
"""
KWH = 3.6e6


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "points.csv"
    path.write_text(TABLE, encoding="utf-8")
    return path


@pytest.fixture
def studies(runs_dir: Path) -> Path:
    """Three studies of other budgets, their cache still there."""
    for number, tokens in enumerate((256, 512, 1024), start=1):
        study_run(runs_dir, smoke(f"data.train_tokens={tokens}"), number=number)
    (runs_dir / "artifacts" / "logits-1").mkdir(parents=True)
    return runs_dir


def request(runs_dir: Path | str = "runs", **changes: Any) -> Request:
    limits = changes.pop("limits", Limits(energy_j=1e9))
    return Request(limits=limits, runs_dir=str(runs_dir), **changes)


def test_passes_are_a_way_of_their_own_and_its_budgets_are_whole_ones(runs_dir: Path) -> None:
    for number, (tokens, epochs) in enumerate(((480, 1), (480, 3), (960, 3)), start=1):
        changes = (f"data.train_tokens={tokens}", f"data.epochs={epochs}")
        study_run(runs_dir, smoke(*changes), number=number)
    found = advise_from_runs(request(runs_dir))
    passes = {(entry.option.settings.get("passes"), entry.option.tokens) for entry in found.ranked}
    assert {tokens % 96 for said, tokens in passes if said and tokens} == {0}
    assert {("3", 480.0), (None, 480.0)} <= passes
    many, one = (
        next(entry for entry in found.ranked if (entry.option.settings.get("passes"), entry.option.tokens) == key)
        for key in (("3", 480.0), (None, 480.0))
    )
    assert "passes 3" in many.option.name
    assert "passes" not in one.option.name


def test_a_table_is_advised_on_within_its_budget(table: Path) -> None:
    wide = advise_from_table(table, request(limits=Limits(energy_j=20 * KWH)))
    assert wide.ranked[0].option.method == "kd"
    assert wide.left_out == (("lost", "its quality is not known"),)
    reuse = advise_from_table(table, request(limits=Limits(energy_j=8 * KWH)))
    assert reuse.answer is Answer.REUSE
    # three students share the cache: nine kilowatt-hours each
    shared = advise_from_table(table, request(limits=Limits(energy_j=35 * KWH), students=3))
    made = next(entry for entry in shared.ranked if entry.option.answer is Answer.DISTIL)
    assert made.energy_j.value == pytest.approx((3 * 5.9 + 11.0) * KWH, rel=0.03)
    assert any("which caches are still there" in note for note in shared.notes)
    assert any("labels are offered at their own budgets alone" in note for note in shared.notes)


def test_the_published_table_says_train_plainly_where_no_cache_is_there() -> None:
    found = advise_from_table("paper", request(limits=Limits(energy_j=40 * KWH, quality=0.95)))
    assert found.ranked[0].option.name == "sft-13b"
    assert found.answer is Answer.TRAIN_PLAINLY
    assert any("no training was repeated" in note for note in found.notes)


def test_serving_can_make_the_teacher_too_dear_or_the_answer(tmp_path: Path) -> None:
    path = tmp_path / "served.csv"
    path.write_text(SERVED, encoding="utf-8")
    few = advise_from_table(path, request(limits=Limits(energy_j=4 * KWH), tokens_served=1e6))
    assert few.answer is Answer.DO_NOT_DISTIL
    assert ("bare", "what serving it takes is not known (serving_student_j_per_token)") in few.left_out
    many = advise_from_table(path, request(limits=Limits(energy_j=60 * KWH), tokens_served=1e8))
    assert many.answer is Answer.REUSE
    percent = path.with_name("percent.csv")
    percent.write_text(SERVED.replace(",0.", ",80.").replace(",80.01", ",0.01").replace(",80.70", ",0.70"), "utf-8")
    shown = advise_from_table(percent, request(limits=Limits(energy_j=60 * KWH), tokens_served=1e6))
    assert all(entry.option.answer is not Answer.DO_NOT_DISTIL for entry in shown.ranked)


def test_an_impossible_budget_says_the_nearest(table: Path) -> None:
    found = advise_from_table(table, request(limits=Limits(energy_j=1.0)))
    assert found.answer is Answer.IMPOSSIBLE
    assert "nearest is" in found.reason


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        (f"{HEADER}\na,sft,1B,1,NaN,,0,1,1,\n", ConfigError, "quality is NaN"),
        (f"{HEADER}\na,sft,1B,1,,,0,1,1,\n", StillwattError, "nothing can be advised: a: its quality is not known"),
        (f"{HEADER}\na,sft,1B,1,0.5,,,1,1,\n", StillwattError, "an energy of it is not known"),
        (
            f"{HEADER},boundary\na,sft,1B,1,0.5,,0,1,1,,gpu\nb,sft,1B,1,0.5,,0,1,1,,node\n",
            ConfigError,
            "unlike boundaries",
        ),
        (
            f"{HEADER},quality_definition\na,sft,1B,1,0.5,,0,1,1,,mmlu\nb,sft,1B,1,0.5,,0,1,1,,gsm8k\n",
            ConfigError,
            "unlike definitions",
        ),
    ],
)
def test_bad_tables_are_refused_with_the_reason(tmp_path: Path, text: str, error: type[Exception], said: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(error, match=said):
        advise_from_table(path, request())


def test_a_single_row_is_advised_on_and_says_what_is_assumed(tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    path.write_text(f"{HEADER}\na,sft,1B,1,0.5,,0,1,1,\n", encoding="utf-8")
    found = advise_from_table(path, request())
    assert found.answer is Answer.TRAIN_PLAINLY
    assert found.ranked[0].option.remark == "one seed: its spread is assumed"


def test_limits_that_a_table_cannot_judge_are_refused(table: Path) -> None:
    with pytest.raises(UsageError, match="a limit on time needs runs"):
        advise_from_table(table, request(limits=Limits(duration_s=60.0)))
    with pytest.raises(UsageError, match="a limit on tokens in training needs runs"):
        advise_from_table(table, request(limits=Limits(tokens=60.0)))
    with pytest.raises(UsageError, match="needs a place: --region FRA takes its factors"):
        request(limits=Limits(kgco2e=1.0))
    with pytest.raises(UsageError, match="give one of the two"):
        request(region="FRA", kgco2e_per_kwh=0.05)
    with pytest.raises(UsageError, match="not a number"):
        limits_of([Amount(1.0, "J")], quality=float("nan"))
    with pytest.raises(MissingInputError):
        advise_from_table("nowhere.csv", request())
    found = advise_from_table(table, request(limits=Limits(kgco2e=4.0), kgco2e_per_kwh=0.5))
    assert found.ranked[0].kgco2e is not None
    assert found.answer is Answer.REUSE


def test_a_place_gives_carbon_with_its_interval(table: Path) -> None:
    found = advise_from_table(table, request(limits=Limits(kgco2e=4.0), region="France"))
    first = found.ranked[0]
    assert first.kgco2e is not None
    # per kWh of the table's energies, between a clean grid's figure and twice what it may be with cooling
    assert 0.01 < first.kgco2e.value * KWH / first.energy_j.value < 0.2
    # the factors' doubt is in the interval: it is wider, as a share, than the energy's
    assert first.kgco2e.high / first.kgco2e.low > 1.1 * first.energy_j.high / first.energy_j.low
    told = next(note for note in found.notes if note.startswith("carbon: "))
    assert "kgCO2e per metered kWh in France, 95 %, location-based: components_to_node" in told
    assert any("does not say what its energies cover" in note for note in found.notes)


def test_a_dirtier_place_turns_the_advice(table: Path) -> None:
    limits = Limits(kgco2e=3.0)
    clean, dirty = (advise_from_table(table, request(limits=limits, region=place)) for place in ("FRA", "POL"))
    chances = [{e.option.name: e.chance for e in found.ranked}["kd"] for found in (clean, dirty)]
    assert chances == [pytest.approx(1.0, abs=0.1), pytest.approx(0.0, abs=0.01)]
    assert (clean.answer, dirty.answer) == (Answer.REUSE, Answer.IMPOSSIBLE)


@pytest.mark.parametrize("boundary", ["gpu", "node", "facility"])
def test_carbon_knows_what_a_tables_energies_cover(tmp_path: Path, boundary: str) -> None:
    path = tmp_path / "covered.csv"
    path.write_text(f"{HEADER},boundary\na,sft,1B,1,0.5,,0,1,1,,{boundary}\n", encoding="utf-8")
    found = advise_from_table(path, request(region="FRA"))
    assert not any("does not say what its energies cover" in note for note in found.notes)
    told = next(note for note in found.notes if note.startswith("carbon: "))
    assert ("pue" in told, "node_overhead" in told) == (boundary != "facility", boundary == "gpu")


def test_a_place_that_nobody_knows_is_refused_by_name(table: Path) -> None:
    with pytest.raises(UnknownNameError, match="Atlantis"):
        advise_from_table(table, request(region="Atlantis"))


def test_a_place_without_carbon_is_refused_with_what_it_lacks(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stillwatt.workflows.factors.open_catalog", lambda: Catalog(factors=(), faults=()))
    with pytest.raises(UsageError, match=r"--region FRA: carbon is not known there \(.*; name another place, or"):
        advise_from_table(table, request(region="FRA"))


def test_trainings_by_lora_are_ways_of_their_own(runs_dir: Path) -> None:
    lora = 'train.lora={rank=4, alpha=8.0, target_modules=["q_proj", "v_proj"]}'
    study_run(runs_dir, smoke("data.train_tokens=512"), number=1)
    study_run(runs_dir, smoke("data.train_tokens=512", lora), number=2)
    ranked = advise_from_runs(request(runs_dir)).ranked
    said = {entry.option.settings.get("lora") for entry in ranked if entry.option.method == "kd"}
    assert said == {None, "rank 4, alpha 8, q_proj+v_proj"}


def test_runs_are_advised_on_at_budgets_around_those_tried(studies: Path) -> None:
    found = advise_from_runs(request(studies))
    assert found.answer is Answer.DISTIL
    best = found.ranked[0].option
    assert best.method == "kd"
    assert best.tokens == 4096.0
    assert best.settings == {"alpha": "0.5", "temperature": "1", "top_k": "8"}
    assert len(best.evidence) == 3
    assert "was not tried" in best.remark
    assert not any("undetermined" in note for note in found.notes)
    assert any("is left out" in note for note in found.notes)
    assert any("energy of a stage: off by" in note for note in found.notes)
    cheap = advise_from_runs(request(studies, limits=Limits(energy_j=1e6, tokens=600.0)))
    assert cheap.ranked[0].option.tokens is not None
    assert cheap.ranked[0].option.tokens <= 600.0
    synthetic = next(entry for entry in found.ranked if entry.option.method == "synthetic_sft")
    assert synthetic.option.settings["max_new_tokens"] == "24"
    assert int(synthetic.option.settings["prompts"]) * 32 >= (synthetic.option.tokens or 0.0)


def test_the_cache_that_is_there_and_no_training_at_all_are_answers(studies: Path) -> None:
    found = advise_from_runs(request(studies, limits=Limits(energy_j=1e9, quality=0.55)))
    assert found.answer in (Answer.REUSE, Answer.TRAIN_PLAINLY)
    assert any(entry.option.answer is Answer.REUSE for entry in found.ranked)
    start = advise_from_runs(request(studies, limits=Limits(energy_j=1e9, quality=0.2)))
    assert start.answer is Answer.DO_NOT_DISTIL
    assert start.ranked[0].option.name == "use tiny as it starts"
    served = advise_from_runs(request(studies, limits=Limits(energy_j=1e9, quality=0.97), tokens_served=100.0))
    assert served.ranked[0].option.name == "serve the teacher as it is"


def test_where_serving_was_not_measured_what_serves_is_left_out_and_named(runs_dir: Path) -> None:
    study_run(runs_dir, smoke(), number=1, without=("serve.teacher",))
    found = advise_from_runs(request(runs_dir, tokens_served=1e6))
    assert all(entry.option.student for entry in found.ranked)
    ((name, why),) = ((name, why) for name, why in found.left_out if "serving" in why)
    assert name == "what serves the teacher"
    assert why.startswith("what serving it takes is not known (no finished serve stage of it in ")


@pytest.mark.parametrize("newest", [("serve.teacher", "serve.student"), ("serve.teacher",)])
def test_a_run_that_did_not_finish_serving_leaves_the_newest_that_did(runs_dir: Path, newest: tuple[str, ...]) -> None:
    served = study_run(runs_dir, smoke(), number=1)
    study_run(runs_dir, smoke(), number=2, without=newest)
    found = advise_from_runs(request(runs_dir, tokens_served=1e6))
    assert not [why for _, why in found.left_out if "serving" in why]
    assert "serve the teacher as it is" in {entry.option.name for entry in found.ranked}
    assert [note for note in found.notes if note.startswith("serving the teacher: ") and served.run_id in note]


def test_serving_is_drawn_from_its_stages_own_interval_and_says_what_it_rests_on(runs_dir: Path) -> None:
    run = study_run(runs_dir, smoke(), number=1)
    served = 1e7
    found = advise_from_runs(request(runs_dir, tokens_served=served))
    (teacher,) = (entry for entry in found.ranked if entry.option.name == "serve the teacher as it is")
    record = show_run(runs_dir, run.run_id)
    study = summarise(record, reuse=[])
    (rate,) = (rate for rate in study.serving if rate.is_teacher)
    assert isinstance(rate.energy, Bill)
    each_j = served / rate.tokens
    below_j, above_j = (
        math.hypot(rate.energy.random_j, study.repeat_rel * rate.energy.value_j, systematic_j)
        for systematic_j in (rate.energy.systematic_low_j, rate.energy.systematic_high_j)
    )
    energy = teacher.energy_j
    assert energy.value == pytest.approx(each_j * rate.energy.value_j, rel=0.05)
    assert energy.high - energy.value == pytest.approx(each_j * above_j, rel=0.15)
    assert energy.value - energy.low == pytest.approx(each_j * below_j, rel=0.15)
    (note,) = (note for note in found.notes if note.startswith("serving the teacher: "))
    assert f"measured a token, as {rate.tokens:,.0f} tokens in " in note


def test_serving_counts_against_a_deadline(runs_dir: Path) -> None:
    run = study_run(runs_dir, smoke(), number=1)
    rates = summarise(show_run(runs_dir, run.run_id), reuse=[]).serving
    served = 1e7
    lasts_s = min(served * rate.duration_s / rate.tokens for rate in rates)
    short = advise_from_runs(request(runs_dir, limits=Limits(duration_s=0.5 * lasts_s), tokens_served=served))
    assert short.answer is Answer.IMPOSSIBLE
    unserved = advise_from_runs(request(runs_dir, limits=Limits(duration_s=0.5 * lasts_s)))
    assert unserved.answer is not Answer.IMPOSSIBLE
    longest_s = max(served * rate.duration_s / rate.tokens for rate in rates)
    enough = advise_from_runs(request(runs_dir, limits=Limits(duration_s=3.0 * longest_s), tokens_served=served))
    assert enough.answer is not Answer.IMPOSSIBLE
    (teacher,) = (entry for entry in enough.ranked if entry.option.name == "serve the teacher as it is")
    (rate,) = (rate for rate in rates if rate.is_teacher)
    assert teacher.duration_s is not None
    assert teacher.duration_s.value == pytest.approx(served * rate.duration_s / rate.tokens, rel=0.05)


def test_without_any_serving_tokens_to_serve_are_refused_with_the_next_step(runs_dir: Path) -> None:
    study_run(runs_dir, smoke(), number=1, without=("serve.teacher", "serve.student"))
    assert advise_from_runs(request(runs_dir)).ranked
    with pytest.raises(
        StillwattError,
        match=r"what serves tiny.*: what serving it takes is not known .*measure a training with its quality and its "
        r"serving first",
    ):
        advise_from_runs(request(runs_dir, tokens_served=5e7))


def test_runs_in_a_place_have_carbon_under_a_budget(studies: Path) -> None:
    found = advise_from_runs(request(studies, limits=Limits(kgco2e=1e6), region="Deutschland"))
    assert all(entry.kgco2e is not None for entry in found.ranked)
    assert any(note.startswith("carbon: ") and "components_to_node" in note for note in found.notes)


def test_more_students_and_a_deadline_count(studies: Path) -> None:
    one, three = (advise_from_runs(request(studies, students=number)).ranked[0].energy_j.value for number in (1, 3))
    assert one < three < 3.1 * one
    found = advise_from_runs(request(studies, limits=Limits(duration_s=0.001)))
    assert found.answer in (Answer.IMPOSSIBLE, Answer.DO_NOT_DISTIL)


def test_what_cannot_be_compared_is_left_out_and_named(runs_dir: Path) -> None:
    quick_run(runs_dir, number=1)
    study_run(runs_dir, smoke("evaluate.choice_items=9"), number=2)
    study_run(runs_dir, smoke(), number=3, quality=float("nan"))
    study_run(runs_dir, smoke(), number=4)
    for number in (5, 6):
        quick_run(runs_dir, number=number)
    found = advise_from_runs(request(runs_dir))
    left_out = dict(found.left_out)
    (runs,) = [name for name, reason in left_out.items() if reason == "no recipe was carried out"]
    assert re.fullmatch(r"3 runs \(\S+, \S+ and 1 more\)", runs)
    assert not any("no recipe was carried out" in note for note in found.notes)
    assert any("unlike qualities are not mixed" in reason for reason in left_out.values())
    assert any("no scores" in reason for reason in left_out.values())


def test_one_run_is_little_and_no_run_is_nothing(runs_dir: Path) -> None:
    with pytest.raises(StillwattError, match=r"there is no ledger in .*none; measure a training .* or give figures"):
        advise_from_runs(request(runs_dir / "none"))
    study_run(runs_dir, smoke(), number=1)
    found = advise_from_runs(request(runs_dir))
    assert any("is undetermined: 2 scores at 2 token budgets" in note for note in found.notes)
    assert any("all evidence is one run" in note for note in found.notes)


def _of_server(folder: Path) -> Recipe:
    """The smoke recipe with a server for a teacher: text alone."""
    text = find_recipe("smoke_cpu").read_text(encoding="utf-8")
    text = text.replace('[teacher]\nsource = "tiny-random"\ndtype = "float32"\n', '[teacher]\nsource = "endpoint"\n')
    for table in ('[[arms]]\nname = "kd"', '[[arms]]\nname = "gkd"', "[teacher_logits]", "[student_generate]"):
        head, _, rest = text.partition(f"{table}\n")
        text = head + rest[rest.index("\n[") + 1 :]
    server = '[teacher_endpoint]\nurl = "http://127.0.0.1:9/v1"\nmodel = "big"\napi = "chat"\n'
    path = folder / "server.toml"
    path.write_text(text + "\n" + server, encoding="utf-8")
    return load_recipe(path)


def test_what_nobody_can_foretell_is_never_taken_for_nothing(tmp_path: Path, runs_dir: Path) -> None:
    study_run(runs_dir, _of_server(tmp_path), number=1, without=("serve.teacher",))
    found = advise_from_runs(request(runs_dir))
    assert {entry.option.method for entry in found.ranked if entry.option.tokens} == {"sft"}
    assert dict(found.left_out)["synthetic_sft, tiny"].startswith("teacher_generate: the teacher is an endpoint: how")
    assert "qualities are relative to tiny as it starts, whose own is 1 (eq. 22)" in found.notes
    # text that is there takes nothing more of the server
    (runs_dir / "artifacts" / "text-1").mkdir(parents=True)
    reused = [entry for entry in advise_from_runs(request(runs_dir)).ranked if entry.option.method == "synthetic_sft"]
    assert reused
    assert {entry.option.answer for entry in reused} == {Answer.REUSE}


def test_a_student_of_unknown_size_is_no_option_for_nothing(runs_dir: Path, tmp_path: Path) -> None:
    study_run(runs_dir, smoke(f'students.0.source="path:{tmp_path}/gone"'), number=1)
    with pytest.raises(StillwattError, match="the model's size is not known: its configuration is not on this machine"):
        advise_from_runs(request(runs_dir))


def test_qualities_by_another_yardstick_are_not_mixed(runs_dir: Path) -> None:
    for number, without in ((1, ("evaluate.teacher",)), (2, ()), (3, ())):
        study_run(runs_dir, smoke(), number=number, without=without)
    found = advise_from_runs(request(runs_dir))
    assert "qualities are relative to the teacher, whose own is 1 (eq. 22)" in found.notes
    (why,) = [why for name, why in found.left_out if "unlike qualities" in why]
    assert "where no teacher was evaluated" in why
    assert {len(entry.option.evidence) for entry in found.ranked if entry.option.tokens} == {2}


def test_a_budget_is_tried_where_a_training_came_to_its_end(runs_dir: Path) -> None:
    """The most text that an arm may take is no budget that was tried, where its joules ended it long before."""
    budgets = ('budgets.each_arm="6 J"', 'budgets.teacher_share="marginal"')
    equal = smoke("data.train_tokens=8192", *budgets, "train.checkpoints=[1.0]")
    study_run(runs_dir, equal, number=1, ended_at=1290)
    tried = {
        entry.option.tokens: not entry.option.remark
        for entry in advise_from_runs(request(runs_dir)).ranked
        if entry.option.method == "sft"
    }
    assert tried == {320.0: False, 640.0: False, 1280.0: True, 2560.0: False, 5120.0: False}


def test_every_budget_that_some_run_tried_is_offered_as_tried(runs_dir: Path) -> None:
    for number, tokens in enumerate((256, 640), start=1):
        study_run(runs_dir, smoke(f"data.train_tokens={tokens}"), number=number)
    entries = advise_from_runs(request(runs_dir)).ranked
    tried = {one.option.tokens for one in entries if one.option.method == "sft" and not one.option.remark}
    assert tried == {256.0, 640.0}
