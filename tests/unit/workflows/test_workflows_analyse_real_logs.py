"""The published harness's own logs, where they are at hand: one analysis, nothing twice, and what is not in them."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from run_dirs import FixedClock
from stillwatt.records import RunRecord, Total
from stillwatt.records.finding import Verdict
from stillwatt.records.rules import Status
from stillwatt.units import Joules, to_kwh
from stillwatt.workflows.analyse import Analysis, analyse_runs
from stillwatt.workflows.import_logs import import_logs
from stillwatt.workflows.rules import judge_rules, mine_rules

VARIABLE = "STILLWATT_REAL_LOGS"
FOLDER = os.environ.get(VARIABLE, "")

pytestmark = pytest.mark.skipif(
    not Path(FOLDER).is_dir() or not FOLDER,
    reason=f"{VARIABLE} does not name a folder with the published logs (github.com/StellarLuminosity/Energy)",
)


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the logs are imported to."""
    return tmp_path_factory.mktemp("real") / "runs"


@pytest.fixture(scope="module")
def records(runs_dir: Path) -> list[RunRecord]:
    """All of the folder's runs."""
    report = import_logs([FOLDER], runs_dir=runs_dir, clock=FixedClock())
    return [line.record for line in report.lines if line.record is not None]


@pytest.fixture(scope="module")
def found(records: list[RunRecord], runs_dir: Path) -> Analysis:
    """All of them side by side."""
    return analyse_runs([record.run_id for record in records], runs_dir=runs_dir)


def said(found: Analysis, words: str) -> list[str]:
    return [warning for warning in found.comparison.warnings if words in warning]


def test_every_joule_is_on_one_bill_or_listed_beside(found: Analysis, records: list[RunRecord]) -> None:
    totals_j = math.fsum(record.total.value_j for record in records if isinstance(record.total, Total))
    billed_j = math.fsum((s.student_j or 0.0) + (s.other_j or 0.0) for s in found.comparison.stages)
    listed_j = math.fsum(entry.energy_j or 0.0 for entry in found.comparison.unbilled)
    assert billed_j + listed_j == pytest.approx(totals_j)
    assert to_kwh(Joules(billed_j)) == pytest.approx(1.84, abs=0.05)


def test_trainings_are_the_published_ones_once_each(found: Analysis) -> None:
    students = {entry.label: to_kwh(Joules(entry.student_j or 0.0)) for entry in found.comparison.stages}
    assert students == pytest.approx(
        {
            "sft_32b_to_1b_tulu_nosft": 0.156,
            "sft_32b_to_1b_math_nosft": 0.185,
            "sft_32b_to_1b_tulu_3500": 0.146,
            "sft_32b_to_7b_tulu_nosft": 0.639,
            "sft_32b_to_13b_tulu_nosft": 0.717,
        },
        abs=0.002,
    )


def test_the_teachers_work_is_listed_and_on_no_bill(found: Analysis) -> None:
    teacher = [entry for entry in found.comparison.unbilled if "teacher's work" in entry.reason]
    assert len(teacher) == 4
    assert to_kwh(Joules(math.fsum(entry.energy_j or 0.0 for entry in teacher))) == pytest.approx(16.88, abs=0.05)
    assert all(entry.teacher_j is None for entry in found.comparison.stages)


def test_what_the_logs_cannot_support_is_said(found: Analysis) -> None:
    comparison = found.comparison
    assert not found.complete
    assert all(entry.found.verdict is Verdict.UNDETERMINED for entry in comparison.n_star)
    assert all(front.labels == () for front in comparison.fronts)
    assert comparison.t_star == ()
    for words in (
        "there is no baseline, so no N*",
        "one seed: each label was trained once",
        "because the quality and the teacher's energy are unknown",
        "a teacher is named, but no artefact made in the same run",
        "no tokens were counted",
        "no student was trained",
        "the runs had different CPUs",
        "the energy of a served token is unknown for every label: no T*",
    ):
        assert said(found, words), words


def test_no_design_rule_is_claimed_from_these_logs(records: list[RunRecord], runs_dir: Path) -> None:
    ids = [record.run_id for record in records]
    tested = judge_rules(ids, runs_dir=runs_dir)
    assert not tested.complete
    assert {finding.status for finding in tested.found.rules} == {Status.UNTESTED}
    assert all(test.next_run for finding in tested.found.rules for test in finding.tests)
    mined = mine_rules(ids, runs_dir=runs_dir).found
    assert (mined.tried, mined.found) == (0, ())
    assert any("no tokens were counted" in warning for warning in tested.found.warnings)
    assert any("no baseline has student" in reason for reason in mined.untried)
