"""Comparisons between cards: each has a gain of its own, which no repeat shrinks."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from observations import seeds
from run_records import energy, quickstart, run_record
from stillwatt.analysis.compare import compare
from stillwatt.analysis.seeds import SummedRun, cards_only, gather_runs
from stillwatt.analysis.study import summarise
from stillwatt.records import Basis, Boundary, NoTotal, RunRecord, StageKind, StageRecord
from stillwatt.records.comparison import Comparison, Matched, Observation
from stillwatt.records.finding import Verdict
from stillwatt.report.comparison_tables import PLUS_MINUS
from stillwatt.workflows.analyse import analyse_table

ONE, OTHER = "GPU-5c1a8f0e-0000-4000-8000-0123456789ab", "GPU-77777777-0000-4000-8000-0123456789ab"
GAIN = 0.05


def on(card: str, rows: list[Observation]) -> list[Observation]:
    fields = ("teacher_j", "student_j", "own_j")
    return [
        replace(
            row,
            devices={name: frozenset({card}) for name in fields},
            gains_j={name: GAIN * (getattr(row, name) or 0.0) for name in fields},
        )
        for row in rows
    ]


def two_cards(sft_card: str, kd_card: str, *, kd: float = 10.3) -> Comparison:
    """Trainings of 10 J, of which kd's read 3 % more and sft's 3 % less; they repeat within 0.3 %."""
    sft = seeds("sft-1b", [9.7, 9.72, 9.68], quality=[0.80, 0.802, 0.798], own_j=[9.7, 9.72, 9.68])
    distilled = [kd, kd + 0.02, kd - 0.02]
    made = seeds("kd-1b", distilled, quality=[0.80, 0.802, 0.798], own_j=distilled, teacher_j=0.0)
    return compare([*on(sft_card, sft), *on(kd_card, made)], source="drawn")


def ratio(found: Comparison) -> Matched:
    return next(entry for entry in found.matched if entry.allocation == "one-off")


def test_equal_trainings_on_two_cards_within_their_gains_are_not_told_apart() -> None:
    found = ratio(two_cards(ONE, OTHER))
    assert found.energy_ratio == pytest.approx(10.3 / 9.7)
    assert found.ratio_low is not None
    assert found.ratio_low < 1.0
    (entry,) = two_cards(ONE, OTHER).n_star
    assert entry.found.verdict is Verdict.UNDETERMINED


def test_on_one_card_its_gain_cancels() -> None:
    found, plain = ratio(two_cards(ONE, ONE)), ratio(two_cards("", ""))
    assert (found.ratio_low, found.ratio_high) == (plain.ratio_low, plain.ratio_high)
    assert found.ratio_low is not None
    assert found.ratio_low > 1.04
    assert two_cards(ONE, ONE).n_star[0].found.verdict is Verdict.NEVER
    assert not any("unlike cards" in text for text in two_cards(ONE, ONE).warnings)


def test_two_gains_add_as_independent_ones() -> None:
    apart, alike = ratio(two_cards(ONE, OTHER, kd=9.7)), ratio(two_cards(ONE, ONE, kd=9.7))
    assert apart.ratio_low is not None
    assert apart.ratio_high is not None
    assert alike.ratio_low is not None
    assert alike.ratio_high is not None
    gains = math.sqrt(((apart.ratio_high - apart.ratio_low) ** 2 - (alike.ratio_high - alike.ratio_low) ** 2) / 4.0)
    assert gains == pytest.approx(math.sqrt(2.0) * GAIN, rel=0.01)


def test_the_cards_and_their_gain_are_named() -> None:
    (said,) = [text for text in two_cards(ONE, OTHER).warnings if "unlike cards" in text]
    assert f"sft-1b on {ONE}; kd-1b on {OTHER}" in said
    assert "up to ±5% of the energy" in said
    assert "about ±7%" in said


def test_what_nobody_says_the_gain_of_is_said_all_the_same() -> None:
    rows = [*on(ONE, seeds("sft-1b", [6.0])), *on(OTHER, seeds("kd-1b", [5.0]))]
    bare = [replace(row, gains_j={}, student_j=None if row.method == "kd" else row.student_j) for row in rows]
    assert any("up to ±0% of the energy" in text for text in compare(bare, source="drawn").warnings)


def card_part(value_j: float, card: str) -> Any:
    return energy(value_j, "gpu0", gain=GAIN, device=card, boundary=Boundary.BOARD, driver="nvml", basis=Basis.MEASURED)


def with_cards(run: RunRecord, cards: dict[str, str]) -> RunRecord:
    """The run with a card's energy in every stage, as much as the CPU's; of arms that are named, on their own card."""

    def carded(entry: StageRecord) -> StageRecord:
        card = cards.get(entry.labels.get("arm", ""), ONE)
        return replace(entry, energies=(*entry.energies, card_part(100.0, card)))

    return replace(run, stages=tuple(carded(entry) for entry in run.stages))


def gathered(*runs: RunRecord) -> dict[str, Observation]:
    summed = [
        SummedRun(run=run, study=summarise(run, reuse=()), cards=summarise(cards_only(run), reuse=())) for run in runs
    ]
    return {row.label: row for row in gather_runs(summed).rows}


def test_a_run_s_rows_say_on_which_cards_they_were_read_and_what_those_may_be_off_by() -> None:
    rows = gathered(with_cards(quickstart(), {"kd": OTHER}))
    assert rows["sft"].devices == {"student_j": frozenset({ONE}), "own_j": frozenset({ONE})}
    assert rows["kd"].devices == {
        "student_j": frozenset({OTHER}),
        "own_j": frozenset({OTHER}),
        "teacher_j": frozenset({ONE}),
    }
    assert rows["sft"].gains_j["student_j"] == pytest.approx(2 * 100.0 * GAIN)
    assert rows["kd"].gains_j["teacher_j"] == pytest.approx(100.0 * GAIN)
    assert gathered(quickstart())["kd"].devices == {}


def reused(card: str) -> tuple[RunRecord, RunRecord]:
    """A study on one card, whose cache an earlier run made on a card that is named; and that run."""
    here = with_cards(quickstart(), {})
    (made,) = [entry for entry in here.stages if entry.kind is StageKind.TEACHER_LOGITS]
    there = [*(entry for entry in made.energies if entry.part != "gpu0"), card_part(100.0, card)]
    pointing = replace(
        made,
        labels={**made.labels, "reused_from": "maker"},
        results={"energy_run_id": "maker", "energy_stage_id": made.stage_id},
        energies=(),
        gross=NoTotal(reason="nothing was made"),
    )
    stages = [pointing if entry is made else entry for entry in here.stages]
    return replace(here, stages=tuple(stages)), run_record([replace(made, energies=tuple(there))], run_id="maker")


def n_star_of(run: RunRecord, maker: RunRecord) -> tuple[float, float]:
    study = summarise(run, reuse=(), others=(maker,))
    cards = summarise(cards_only(run), reuse=(), others=(cards_only(maker),))
    rows = gather_runs([SummedRun(run=run, study=study, cards=cards)]).rows
    # as if distilling saved much
    kept = [
        replace(row, student_j=row.student_j / 9.0) if row.method == "kd" and row.student_j else row for row in rows
    ]
    found = next(entry for entry in compare(kept, source="drawn").n_star if entry.label == "kd").found
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


def test_a_teacher_of_an_earlier_run_keeps_the_gain_of_the_card_that_it_worked_on() -> None:
    (run, maker), (same, one) = reused(OTHER), reused(ONE)
    study = summarise(run, reuse=(), others=(maker,))
    (kd, *_) = [point for point in study.final_points if point.name == "kd"]
    assert kd.teacher_cards == frozenset({OTHER})
    said = f"the teacher worked on {ONE} and {OTHER}, and the arms were trained on {ONE}: each card's gain is its own"
    assert any(said in text for text in study.warnings)
    assert not any("the teacher worked on" in text for text in summarise(same, reuse=(), others=(one,)).warnings)
    low, high = n_star_of(run, maker)
    alike_low, alike_high = n_star_of(same, one)
    assert low < alike_low < alike_high < high


def test_a_report_says_that_its_arms_were_trained_on_unlike_cards() -> None:
    said = summarise(with_cards(quickstart(), {"kd": OTHER}), reuse=()).warnings
    assert any(f"trained on unlike cards (sft and synthetic on {ONE}; kd on {OTHER})" in text for text in said)
    assert not any("unlike cards" in text for text in summarise(with_cards(quickstart(), {}), reuse=()).warnings)


def test_cards_that_cannot_be_told_from_others_are_not_told_apart() -> None:
    rows = gathered(with_cards(quickstart(), {"kd": "card 1", "sft": "card 0"}))
    assert "student_j" not in rows["kd"].devices
    untold = [entry for entry in quickstart().stages if entry.kind is not StageKind.TEACHER_LOGITS]
    assert "teacher_j" not in gathered(replace(quickstart(), stages=tuple(untold)))["kd"].devices


HEADER = "label,method,student,seed,quality,quality_se,teacher_kwh,student_kwh,other_kwh,throughput,device,gain_rel"


def table(tmp_path: Path, *cells: str) -> Path:
    path = tmp_path / "cards.csv"
    rows = [
        f"{method},{method},1b,{seed},0.8,0.01,0,{kwh},0,,{cells[place]}"
        for place, (method, kwhs) in enumerate((("sft", (9.7, 9.72, 9.68)), ("kd", (10.3, 10.32, 10.28))))
        for seed, kwh in enumerate(kwhs)
    ]
    path.write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    return path


def test_a_table_may_name_its_cards_and_their_gains(tmp_path: Path) -> None:
    apart = analyse_table(table(tmp_path, "a,", "b,")).comparison
    assert apart.n_star[0].found.verdict is Verdict.UNDETERMINED
    assert any("sft on a; kd on b" in text for text in apart.warnings)
    calibrated = analyse_table(table(tmp_path, "a,0.003", "b,0.003")).comparison
    assert calibrated.n_star[0].found.verdict is Verdict.NEVER
    assert analyse_table(table(tmp_path, ",", ",")).comparison.n_star[0].found.verdict is Verdict.NEVER


def test_what_the_intervals_are_of_is_said_under_every_table() -> None:
    assert "Between cards it does not cancel" in PLUS_MINUS
