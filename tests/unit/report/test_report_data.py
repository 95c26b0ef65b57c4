"""The report as data: its contract, its bytes, its answer."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from run_records import arm_stages, by_lora, energy, measured_command, quickstart, run_record, scores, stage
from stillwatt.analysis.study import summarise
from stillwatt.records import Absent, Basis, Boundary, NoTotal, RunRecord, StageKind, StageStatus, Total
from stillwatt.report.answer import answer_dict, compare
from stillwatt.report.data import report_dict, report_json
from stillwatt.report.terminal import answer_text

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "tests" / "golden" / "report"
SCHEMA = json.loads((ROOT / "docs" / "reference" / "report.schema.json").read_text(encoding="utf-8"))


def made(run: RunRecord) -> dict[str, Any]:
    return report_dict(run, summarise(run, reuse=(10,)))


def absent_everything() -> RunRecord:
    gone = Absent(part="cpu0", boundary=Boundary.CHIP, reason="no readable sensor")
    stages = [replace(entry, energies=(gone,), gross=NoTotal(reason="absent")) for entry in quickstart().stages]
    nothing = NoTotal(reason="every part is absent")
    return run_record(stages, total=nothing, unallocated=nothing, complete=False, traces=(), spans=())


def partly_absent() -> RunRecord:
    gone = Absent(part="dram0", boundary=Boundary.CHIP, reason="no model for this memory")
    return run_record([replace(s, energies=(s.energies[0], gone)) for s in quickstart().stages], complete=False, gaps=2)


def with_lost_attempt() -> RunRecord:
    lost = stage(
        "x1", "train.kd.0.5", StageKind.STUDENT_TRAIN, joules=70.0, status=StageStatus.FAILED, labels={"arm": "kd"}
    )
    return run_record([*quickstart().stages, lost])


RUNS: dict[str, Callable[[], RunRecord]] = {
    "quickstart": quickstart,
    "command": measured_command,
    "absent": absent_everything,
    "partly": partly_absent,
    "lost": with_lost_attempt,
    "lora": lambda: by_lora(quickstart()),
    "empty": lambda: run_record([], traces=()),
}


@pytest.mark.parametrize("name", RUNS)
def test_every_report_keeps_its_contract(name: str) -> None:
    jsonschema.validate(json.loads(report_json(made(RUNS[name]()))), SCHEMA)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", RUNS)
def test_the_same_run_gives_the_same_bytes(name: str) -> None:
    assert report_json(made(RUNS[name]())) == report_json(made(RUNS[name]()))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("quickstart.report.json", report_json(made(quickstart(traces=())))),
        ("quickstart.txt", answer_text(quickstart(), summarise(quickstart(), reuse=(10,)))),
        ("command.txt", answer_text(measured_command(), summarise(measured_command(), reuse=(10,)))),
    ],
)
def test_what_people_read_has_not_changed(name: str, text: str, request: pytest.FixtureRequest) -> None:
    """Goldens; to write them anew: `python tests/unit/report/test_report_data.py`."""
    golden = (GOLDEN / name).read_text(encoding="utf-8")
    if name.endswith(".json"):
        assert_close(json.loads(text), json.loads(golden))
    else:
        assert text == golden


def assert_close(found: Any, wanted: Any) -> None:
    """Equal but for the last bits, which differ between C libraries."""
    if isinstance(wanted, dict):
        assert list(found) == list(wanted)
        for key, value in wanted.items():
            assert_close(found[key], value)
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for one, two in zip(found, wanted, strict=True):
            assert_close(one, two)
    elif isinstance(wanted, float):
        assert math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-9)
    else:
        assert found == wanted


def test_floats_are_not_rounded() -> None:
    data = made(quickstart())
    row = next(row for row in data["stage_table"]["rows"] if row["label"] == "train" and row["arm"] == "kd")
    assert row["j_per_token"] == row["energy"]["value_j"] / 32768


def test_a_runaway_loss_is_written_as_text_and_a_lost_number_elsewhere_refused() -> None:
    stages = [stage("a1", "train", StageKind.OTHER, joules=1.0, results={"loss_last": math.nan, "all": [math.inf, 1]})]
    data = made(run_record(stages))
    assert data["run"]["stages"][0]["results"] == {"loss_last": "nan", "all": ["inf", 1]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        report_json({"value": math.nan})


def test_provenance_of_each_part() -> None:
    parts = {part["part"]: part for part in made(partly_absent())["parts"]}
    assert parts["cpu0"]["basis"] == "modelled"
    assert "busy_w" in parts["cpu0"]["source"]
    assert (parts["dram0"]["basis"], parts["dram0"]["value_j"]) == (None, None)
    assert parts["dram0"]["absent_reasons"] == ["no model for this memory"]


def test_what_is_not_counted_begins_with_what_was_absent() -> None:
    listed = [entry["what"] for entry in made(partly_absent())["not_counted"]]
    assert listed[0] == "dram0, where it could not be read"
    assert any("PUE" in what for what in listed)
    run = quickstart()
    assert isinstance(run.total, Total)
    gpu = replace(run, total=replace(run.total, complete=False, absent=("gpu0",)))
    assert {"what": "gpu0", "why": "absent from the run's total"} in made(gpu)["not_counted"]


def study_of(sft: tuple[float, float], kd: tuple[float, float], *, teacher_j: float, kd_scores: Any) -> RunRecord:
    sharp = scores(25.0, 0.7, items=100_000)
    for entry in sharp["scores"]:
        entry["se"] = 0.001 * entry["value"]
    labels = {"artifact": "x", "artifact_kind": "logits"}
    return run_record(
        [
            stage(
                "e1",
                "evaluate.teacher",
                StageKind.EVALUATE,
                joules=7.0,
                labels={"arm": "teacher"},
                results=scores(15.0, 0.8),
            ),
            stage("t1", "teacher_logits", StageKind.TEACHER_LOGITS, joules=teacher_j, labels=labels),
            *arm_stages(11, "sft", "sft", sft, (sharp, sharp)),
            *arm_stages(21, "kd", "kd", kd, (kd_scores, kd_scores), artifact="x"),
        ]
    )


def sharp_scores(perplexity: float, accuracy: float) -> dict[str, Any]:
    found = scores(perplexity, accuracy, items=100_000)
    for entry in found["scores"]:
        entry["se"] = 0.001 * entry["value"]
    return found


BETTER, EQUAL, WORSE = sharp_scores(20.0, 0.78), sharp_scores(25.0, 0.7), sharp_scores(40.0, 0.5)

BETTER_FOR = "On one seed, kd made a better student than sft, for"
AT_ONCE = "On one seed, kd was worth it at once: less energy than sft"
NOT_SHOWN = "Not shown to be worth it: no distilled arm was clearly better or clearly cheaper than sft"


@pytest.mark.parametrize(
    ("kd", "teacher_j", "kd_scores", "title"),
    [
        ((1000.0, 1000.0), 100.0, EQUAL, f"{AT_ONCE}, its teacher included"),
        ((3000.0, 3000.0), 9000.0, BETTER, f"{BETTER_FOR} 2.40 [2.08, 2.77] times the energy"),
        ((2500.0, 2500.0), 9000.0, EQUAL, "On one seed, kd is worth it if 9 or more students share its teacher's work"),
        ((1000.0, 1000.0), 100.0, WORSE, "On one seed, kd took less energy than sft, but made a worse student"),
        ((3500.0, 3500.0), 9000.0, WORSE, NOT_SHOWN),
        ((2800.0, 2800.0), 100.0, EQUAL, NOT_SHOWN),
        ((2500.0, 2500.0), None, EQUAL, "Whether distilling was worth it cannot be said: an energy is missing"),
    ],
    ids=["at once", "better", "reuse", "cheap and worse", "nothing", "within what one repeats to", "missing"],
)  # fmt: skip
def test_the_title_says_the_best_that_can_be_said(
    kd: tuple[float, float], teacher_j: float | None, kd_scores: Any, title: str
) -> None:
    run = study_of((3000.0, 3000.0), kd, teacher_j=teacher_j or 0.0, kd_scores=kd_scores)
    if teacher_j is None:
        run = run_record([entry for entry in run.stages if entry.name != "teacher_logits"])
    assert answer_dict(run, summarise(run, reuse=(10,)))["title"] == title


def test_a_ratio_of_energies_has_a_lopsided_interval_above_zero() -> None:
    """A first-order half-width would reach below 0 where a training repeats within three quarters of its energy."""
    run = study_of((3000.0, 3000.0), (3500.0, 3500.0), teacher_j=100.0, kd_scores=EQUAL)
    (found,) = compare(replace(summarise(run, reuse=(10,)), repeat_rel=0.75))
    for ratio in (found.one_off_ratio, found.marginal_ratio):
        assert ratio is not None
        assert ratio.high is not None
        assert 0.0 < ratio.low < ratio.value < ratio.high
        assert ratio.high - ratio.value > ratio.value - ratio.low
    (open_ended,) = compare(replace(summarise(run, reuse=(10,)), repeat_rel=1.5))
    assert open_ended.one_off_ratio is not None
    assert open_ended.one_off_ratio.high is None
    sentences = answer_dict(run, replace(summarise(run, reuse=(10,)), repeat_rel=1.5))["sentences"]
    assert re.search(r"It used \d.\d\d \[\d.\d\d, no upper end\] times the energy of sft", sentences[0])


def test_several_arms_of_the_same_merit_are_named_together() -> None:
    run = study_of((3000.0, 3000.0), (1000.0, 1000.0), teacher_j=100.0, kd_scores=EQUAL)
    twin = arm_stages(31, "kd2", "kd", (1100.0, 1100.0), (EQUAL, EQUAL), artifact="x")
    both = run_record([*run.stages, *twin])
    assert made(both)["answer"]["title"] == (
        "On one seed, kd and kd2 were worth it at once: less energy than sft, their teacher included"
    )


def test_many_comparisons_are_left_to_the_tables() -> None:
    run = study_of((3000.0, 3000.0), (3500.0, 3500.0), teacher_j=100.0, kd_scores=WORSE)
    more = [
        entry
        for i in range(8)
        for entry in arm_stages(100 + 10 * i, f"kd{i}", "kd", (2500.0, 2500.0), (WORSE, WORSE), artifact="x")
    ]
    sentences = made(run_record([*run.stages, *more]))["answer"]["sentences"]
    assert any(text.startswith("3 more comparisons") for text in sentences)
    assert "each of them a worse student." in sentences[1]


def test_noise_is_never_called_a_difference() -> None:
    sentences = made(quickstart())["answer"]["sentences"]
    assert "kd scored higher than sft, but within the noise" in sentences[0]
    assert "synthetic scored lower than sft, but within the noise" in sentences[1]
    assert "5 students on at the earliest, or never" in sentences[1]
    assert sentences[-1].startswith("All of the energy is modelled")


def test_words_for_what_is_missing() -> None:
    run = quickstart()
    no_errors = [
        replace(s, results={"scores": [{**e, "se": None} for e in s.results["scores"]]}) if "scores" in s.results else s
        for s in run.stages
    ]
    assert "(no standard error was given)" in made(run_record(no_errors))["answer"]["sentences"][0]
    no_scores = [replace(s, results={}) for s in run.stages]
    first = made(run_record(no_scores))["answer"]["sentences"][0]
    assert first.startswith("kd and sft have no quality to compare. kd used ")
    alone = [s for s in run.stages if s.labels.get("arm") != "sft"]
    assert made(run_record(alone))["answer"]["title"] == "2 arms were trained; none could be held against a baseline"
    nothing = made(absent_everything())["answer"]
    assert nothing["title"] == "Whether distilling was worth it cannot be said: an energy is missing"
    assert nothing["key_numbers"][0] == {
        "label": "Energy of the run",
        "value": "unknown",
        "note": "every part is absent",
    }


def test_a_measured_run_does_not_say_modelled() -> None:
    run = measured_command()
    assert isinstance(run.total, Total)
    read = replace(run.total, basis=Basis.MEASURED, share_by_basis=((Basis.MEASURED, 1.0),))
    sentences = made(replace(run, total=read))["answer"]["sentences"]
    assert not any("modelled" in sentence for sentence in sentences)
    guessed = replace(run.total, basis=Basis.ASSUMED, share_by_basis=((Basis.ASSUMED, 1.0),))
    said = made(replace(run, total=guessed))["answer"]["sentences"][-1]
    assert said == "All of the energy is assumed, not measured: the joules are no better than what was assumed."
    both = replace(run.total, basis=Basis.ASSUMED, share_by_basis=((Basis.MODELLED, 0.7), (Basis.ASSUMED, 0.3)))
    said = made(replace(run, total=both))["answer"]["sentences"][-1]
    assert said == "Of the energy 70 % is modelled and 30 % is assumed, not measured: the joules are rough."
    half = replace(run.total, share_by_basis=((Basis.MEASURED, 0.5), (Basis.MODELLED, 0.5)))
    assert any(
        s.startswith("50 % of the energy is modelled") for s in made(replace(run, total=half))["answer"]["sentences"]
    )


def test_key_numbers_of_a_study_that_pays() -> None:
    run = study_of((3000.0, 3000.0), (2500.0, 2500.0), teacher_j=9000.0, kd_scores=EQUAL)
    numbers = {n["label"]: n for n in made(run)["answer"]["key_numbers"]}
    assert numbers["Reuse break-even N*"]["value"] == "9.0"
    assert numbers["Serving break-even T*"]["value"] == "not known"
    never = study_of((3000.0, 3000.0), (3500.0, 3500.0), teacher_j=9000.0, kd_scores=EQUAL)
    assert {n["label"]: n["value"] for n in made(never)["answer"]["key_numbers"]}["Reuse break-even N*"] == "never"


def test_a_run_without_any_energy_has_a_title() -> None:
    gone = NoTotal(reason="every part is absent")
    run = measured_command(total=gone, unallocated=gone, meter={})
    answer = made(run)["answer"]
    assert answer["title"] == "python train.py: no energy"
    assert answer["key_numbers"][-1]["note"] == "the meter's own time is not known"


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("columns", [100, 60])
def test_the_terminal_s_answer_fits_and_is_plain(name: str, columns: int) -> None:
    run = RUNS[name]()
    text = answer_text(run, summarise(run, reuse=(10,)), columns=columns)
    assert max(len(line) for line in text.splitlines()) <= columns
    assert "\x1b" not in text
    assert "…" not in text


def test_a_terminal_gets_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    run = quickstart()
    text = answer_text(run, summarise(run, reuse=(10,)), is_terminal=True)
    assert "\x1b[1m" in text


def test_names_with_markup_are_shown_as_they_are() -> None:
    run = run_record([stage("a1", "[bold]x[/bold] :smile:", StageKind.OTHER, joules=1.0)])
    assert "[bold]x[/bold] :smile:" in answer_text(run, summarise(run, reuse=(10,)), columns=140)


def test_a_mixed_energy_counts_each_part_once() -> None:
    parts = (energy(100.0, "gpu0", boundary=Boundary.BOARD, basis=Basis.MEASURED, driver="nvml"), energy(50.0))
    run = run_record([stage("a1", "job", StageKind.OTHER, energies=parts)], unallocated_j=0.0)
    row = made(run)["stage_table"]["rows"][0]
    assert row["energy"]["value_j"] == pytest.approx(150.0)
    assert row["energy"]["basis"] == "modelled"


def test_a_report_says_which_arms_were_trained_by_lora_and_how_much_of_a_student_that_is() -> None:
    plain, lora = made(quickstart()), made(by_lora(quickstart()))
    assert all("lora" not in point for point in plain["arms"])
    assert {json.dumps(point["lora"]) for point in lora["arms"]} == {
        '{"trained_parameters": 5120, "parameters": 1000000}'
    }
    (told,) = [warning for warning in lora["warnings"] if "LoRA" in warning]
    assert told.startswith("sft, kd, synthetic: trained by LoRA, which is 5,120 weights of adapters (0.0051 of the")
    assert "1,000,000 of student pruned, which stayed as they were)" in told
    assert not any("LoRA" in warning for warning in plain["warnings"])


def write_goldens() -> None:
    """Write the goldens anew; look at the difference before keeping it."""
    os.makedirs(GOLDEN, exist_ok=True)
    (GOLDEN / "quickstart.report.json").write_text(report_json(made(quickstart(traces=()))), encoding="utf-8")
    for name, run in (("quickstart", quickstart()), ("command", measured_command())):
        (GOLDEN / f"{name}.txt").write_text(answer_text(run, summarise(run, reuse=(10,))), encoding="utf-8")


if __name__ == "__main__":
    write_goldens()
