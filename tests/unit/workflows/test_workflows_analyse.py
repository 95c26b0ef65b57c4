"""`analyse` over tables, over the published one and over runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from observations import observation, seeds
from run_records import measured_command, quickstart
from stillwatt.analysis.study import summarise
from stillwatt.analysis.trainings import gather_labels, repeat_rel, repeats_within
from stillwatt.errors import UsageError
from stillwatt.records import Absent, Basis, Energy, RunRecord, StageKind
from stillwatt.records.comparison import Comparison, Ratio, Site
from stillwatt.records.finding import Bill, BreakEvenKind, Verdict
from stillwatt.report.comparison import comparison_dict
from stillwatt.report.comparison_tables import stages_table
from stillwatt.report.verdicts import stage_rows
from stillwatt.units import J_PER_KWH, Joules, to_kwh
from stillwatt.workflows.analyse import Pretraining, Wishes, analyse_runs, analyse_table
from stillwatt.workflows.table import COLUMNS

ROWS = ("sft-1b,sft,1B,,0.69,,0,6.3,0.7,", "kd-1b,kd,1B,,0.70,,11,5.2,0.7,", "kd-7b,kd,7B,,0.8,,11,9,0.7,")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A small table."""
    path = tmp_path / "points.csv"
    path.write_text("\n".join((",".join(COLUMNS), *ROWS)) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def paper() -> Comparison:
    """What the tool makes of the published table."""
    return analyse_table("paper").comparison


def said(found: Comparison, words: str) -> list[str]:
    return [warning for warning in found.warnings if words in warning]


def n_star(found: Comparison, label: str) -> Ratio:
    return next(entry.found for entry in found.n_star if entry.label == label)


def test_a_table_is_compared(table: Path) -> None:
    found = analyse_table(table, Wishes(reuse=(7,)))
    assert found.complete
    assert [front.allocation for front in found.comparison.fronts] == ["one-off", "reuse:2", "reuse:7", "marginal"]
    assert n_star(found.comparison, "kd-1b").value == pytest.approx(10.0)
    assert found.comparison.source == str(table)


def test_a_share_of_the_pretraining_is_borne_by_every_artefact_and_said(table: Path) -> None:
    wishes = Wishes(pretraining=Pretraining(energy_kwh=1000.0, share=0.0011))
    found = analyse_table(table, wishes).comparison
    assert n_star(found, "kd-1b").value == pytest.approx(11.0)
    assert {entry.label: entry.teacher_j for entry in found.stages}["sft-1b"] == 0.0
    assert said(found, "every teacher artefact bears 0.0011 of 1,000 kWh of pre-training")
    assert not said(analyse_table(table).comparison, "pre-training")


def test_a_site_that_was_asked_for_gives_its_views(table: Path) -> None:
    found = analyse_table(table, Wishes(site=Site(pue=1.5, kgco2e_per_kwh=0.2))).comparison
    assert {view.name: view.fronts[0].points[0].amount for view in found.views} == pytest.approx(
        {"facility": 10.5, "kgco2e": 2.1}
    )


# The paper as a test: Lambert and Luccioni, arXiv 2605.13981.


def test_the_papers_totals_and_shares_come_out_of_its_stages(paper: Comparison) -> None:
    totals = {e.label: to_kwh(Joules(e.total_j)) for e in paper.stages if e.total_j is not None}
    assert totals == pytest.approx(
        {
            "sft-1b": 7.0,
            "sft-7b": 19.5,
            "sft-13b": 34.6,
            "kd-1b": 16.9,
            "kd-13b": 42.5,
            "synthetic-1b": 16.65,
            "synthetic-13b": 40.7,
        },
        abs=0.011,
    )
    shares = {entry.label: entry.teacher_share for entry in paper.stages}
    assert shares["kd-1b"] == pytest.approx(0.65, abs=0.005)
    assert shares["kd-13b"] == pytest.approx(0.26, abs=0.005)
    assert shares["kd-7b"] is None
    # a one-off distillation of the smallest student takes about 2.4 times its baseline's energy
    assert totals["kd-1b"] / totals["sft-1b"] == pytest.approx(2.4, abs=0.05)
    assert totals["synthetic-1b"] / totals["sft-1b"] == pytest.approx(2.4, abs=0.05)


@pytest.mark.parametrize(
    ("label", "low", "high"),
    [("kd-1b", 9.5, 10.5), ("kd-13b", 3.0, 4.0), ("synthetic-1b", 10.5, 11.5), ("synthetic-13b", 2.0, 3.0)],
)
def test_the_papers_n_star_is_derived_where_its_rows_are_known(
    paper: Comparison, label: str, low: float, high: float
) -> None:
    value = n_star(paper, label).value
    assert value is not None
    assert low <= value <= high


def test_the_papers_unknown_rows_are_said_and_not_filled_in(paper: Comparison) -> None:
    for label in ("kd-7b", "synthetic-7b"):
        found = n_star(paper, label)
        assert (found.verdict, found.value, found.low) == (Verdict.UNDETERMINED, None, None)
        assert found.reason == f"the teacher's energy of {label} is unknown"
    left = dict(paper.fronts[0].left_out)
    assert sorted(left) == ["kd-7b", "synthetic-1b", "synthetic-7b"]
    assert said(paper, "N* as the source gives it: kd-1b about 10, kd-7b 5-6, kd-13b 4, synthetic-1b about 11")


def test_the_papers_frontier_and_verdicts(paper: Comparison) -> None:
    """At 13B the baseline beats both; at matched quality a 7B baseline does the work of either for less."""
    assert paper.fronts[0].labels == ("sft-1b", "sft-7b", "sft-13b", "kd-1b")
    for front in paper.fronts:
        assert not {"kd-13b", "synthetic-13b"} & set(front.labels)
    matched = {entry.label: entry for entry in paper.n_star_matched}
    for label in ("kd-13b", "synthetic-13b"):
        assert (matched[label].baseline, matched[label].found.verdict) == ("sft-7b", Verdict.NEVER)
    assert not any(entry.is_significant for entry in paper.n_star)
    assert not any(entry.is_significant for entry in paper.matched)
    assert all(point.probability is None for front in paper.fronts for point in front.placed)


def test_the_papers_own_warning_signs_are_shown(paper: Comparison) -> None:
    assert said(paper, "column j_per_token is the total over 30.0 million tokens in every row")
    for label, own, other in (("kd-13b", "0.82", "0.99"), ("synthetic-13b", "0.85", "0.99")):
        assert said(paper, f"N* of {label} is at unlike quality: {own} against {other} of sft-13b")
    assert said(paper, "one seed: each label was trained once, so no difference here is a significance")


def test_the_published_table_says_where_it_is_from() -> None:
    from stillwatt.workflows import analyse

    text = (Path(analyse.__file__).parent / "data" / "lambert_luccioni_2026.csv").read_text(encoding="utf-8")
    assert "arXiv 2605.13981" in text
    assert "ICML 2026" in text


# Runs.

Shown = Callable[..., list[str]]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """Put made-up runs in place of the ledger's; gives their ids."""

    def show(*runs: RunRecord) -> list[str]:
        by_id = {run.run_id: run for run in runs}

        def show_run(runs_dir: str | Path, reference: str) -> RunRecord:
            return by_id[reference]

        monkeypatch.setattr("stillwatt.workflows.analyse.show_run", show_run)
        return list(by_id)

    return show


def test_the_arms_of_runs_are_compared(shown: Shown) -> None:
    # the same seed in both: two repeats of the energy, one draw of the quality
    ids = shown(quickstart(run_id="r1"), quickstart(run_id="r2"))
    found = analyse_runs(ids)
    assert (found.complete, found.comparison.boundary, found.comparison.source) == (True, "node", "r1, r2")
    assert [point.seeds for point in found.comparison.fronts[0].placed] == [1, 1, 1]
    answer = comparison_dict(found.comparison)
    assert answer["not_billed"][0]["stage"] == "idle_baseline"
    billed_j = sum(entry.energy_j or 0.0 for entry in found.comparison.unbilled)
    assert billed_j > 0.0


def wobbling(run: RunRecord, *shares: float) -> RunRecord:
    """The run with its increments' energies times those shares, in turns."""
    turns = itertools.cycle(shares)
    stages = [
        replace(each, energies=tuple(_times(part, share) for part in each.energies))
        if each.kind is StageKind.STUDENT_TRAIN and (share := next(turns))
        else each
        for each in run.stages
    ]
    return replace(run, stages=tuple(stages))


def _times(part: Energy | Absent, share: float) -> Energy:
    assert isinstance(part, Energy)
    return replace(part, value_j=part.value_j * share)


@pytest.mark.parametrize("shares", [(1.0,), (1.0, 1.02), (0.8, 1.2), (0.6, 1.4), (1.5, 0.9, 0.7)])
def test_a_run_alone_is_compared_within_what_its_report_takes_it_to_repeat(
    shown: Shown, shares: tuple[float, ...]
) -> None:
    run = wobbling(quickstart(run_id="r1"), *shares)
    study = summarise(run, reuse=[10])
    found = analyse_runs(shown(run))
    assert repeat_rel(gather_labels(found.rows)) == pytest.approx(study.repeat_rel)
    (within,) = said(found.comparison, "a single training is taken to repeat within")
    assert f"±{study.repeat_rel:.0%} ({'assumed' if study.repeat_rel == 0.1 else 'from the spread between'}" in within
    for point in study.final_points:
        reported = study.break_even(BreakEvenKind.REUSE, point)
        if reported is not None:
            assert n_star(found.comparison, point.arm).verdict in (reported.verdict, Verdict.ALWAYS)


def test_arms_that_a_run_does_not_have_are_the_first_note(shown: Shown) -> None:
    arms = [{"name": name} for name in ("sft", "kd", "synthetic", "gkd")]
    asked = {"arms": arms, "students": [{"name": "pruned"}], "train": {"seeds": [1]}}
    found = analyse_runs(shown(quickstart(run_id="r1", settings=asked)))
    assert found.comparison.warnings[0].startswith("1 of 4 arms is missing (gkd: not begun): nothing here is said")
    assert found.complete  # the energies that are here are whole


def test_repeats_say_how_well_a_training_repeats_where_there_are_any() -> None:
    rows = [*seeds("kd-1b", [5.0, 5.5]), observation("sft-1b", increments_j=(1.0, 3.0))]
    within = repeats_within(gather_labels(rows))
    assert within.how == "from the spread between the seeds of the other labels"
    assert within.rel == pytest.approx(1.96 * 0.0673, rel=1e-2)
    copies = [*seeds("kd-1b", [5.0, 5.0]), observation("sft-1b", increments_j=(1.0, 3.0))]
    assert repeats_within(gather_labels(copies)).how == "from the spread between equal increments of one training"


def test_the_basis_and_the_whole_interval_stand_beside_every_total(shown: Shown) -> None:
    run = quickstart(run_id="r1")
    found = analyse_runs(shown(run)).comparison
    assert said(found, "all energies are modelled, not measured: the joules are rough")
    whole = {point.arm: point.energy_under("one-off") for point in summarise(run, reuse=[10]).final_points}
    for entry in found.stages:
        bill = whole[entry.label]
        assert isinstance(bill, Bill)
        assert (entry.total_low_j, entry.total_high_j) == pytest.approx((bill.low_j, bill.high_j))
        assert entry.basis is Basis.MODELLED
    header, *rows = stage_rows(found)
    assert header[5:7] == ["95 %", "basis"]
    assert all(row[6] == "modelled" and row[5].startswith("[") for row in rows)
    page = stages_table(comparison_dict(found))
    assert [column.title for column in page.columns][5:7] == ["total, 95 % (kJ)", "basis"]
    assert [row.cells[6] for row in page.rows] == ["modelled"] * len(rows)


def test_a_table_that_says_no_basis_has_no_column_for_it(table: Path) -> None:
    found = analyse_table(table).comparison
    assert stage_rows(found)[0] == [
        "label",
        "teacher [kWh]",
        "student [kWh]",
        "other [kWh]",
        "total [kWh]",
        "teacher's share",
    ]
    assert not said(found, "not measured")
    assert {entry["basis"] for entry in comparison_dict(found)["stages"]} == {None}


def test_a_run_named_twice_is_no_repeat(shown: Shown) -> None:
    ids = shown(quickstart(run_id="r1"))
    with pytest.raises(UsageError, match="run r1 is named twice; a run is no repeat of itself"):
        analyse_runs([*ids, *ids])


def test_runs_that_trained_nothing_are_no_comparison(shown: Shown) -> None:
    with pytest.raises(UsageError, match=r"no student was trained in r1; `stillwatt report` shows"):
        analyse_runs(shown(measured_command(run_id="r1")))


def test_kwh_are_joules_over_an_exact_constant(table: Path) -> None:
    answer = comparison_dict(analyse_table(table).comparison)
    assert answer["points"]["one-off"][1]["energy_kwh"] == pytest.approx(16.9, rel=1e-11)
    assert J_PER_KWH == 3_600_000
