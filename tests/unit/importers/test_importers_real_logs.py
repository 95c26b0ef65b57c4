"""The published logs of a distillation harness, where they are at hand: nothing twice, and our figure beside theirs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from run_dirs import FixedClock
from stillwatt.ledger.conservation import conservation_findings
from stillwatt.records import Total
from stillwatt.units import Joules, to_kwh
from stillwatt.workflows.import_logs import ImportReport, import_logs

VARIABLE = "STILLWATT_REAL_LOGS"
FOLDER = os.environ.get(VARIABLE, "")

pytestmark = pytest.mark.skipif(
    not Path(FOLDER).is_dir() or not FOLDER,
    reason=f"{VARIABLE} does not name a folder with the published logs (github.com/StellarLuminosity/Energy)",
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> ImportReport:
    """All of the folder, imported once."""
    return import_logs([FOLDER], runs_dir=tmp_path_factory.mktemp("real") / "runs", clock=FixedClock())


def test_every_stage_is_there_once(report: ImportReport) -> None:
    stages = [stage.name for line in report.lines if line.record for stage in line.record.stages]
    named = [name for name in stages if name.startswith(("sft_", "synthetic_"))]
    assert len(named) >= 10
    # the one name that is there twice was trained twice: an aborted session that only CodeCarbon logged, and the whole
    assert {name for name in named if named.count(name) > 1} <= {"sft_32b_to_13b_tulu_nosft"}


def test_the_books_close(report: ImportReport) -> None:
    for line in report.lines:
        assert line.record is not None
        assert list(conservation_findings(line.record)) == []


def test_our_energy_agrees_with_the_files_but_for_what_their_samples_do_not_tell(report: ImportReport) -> None:
    checks = [check.check for line in report.lines for check in line.checks]
    assert len(checks) >= 10
    for check in checks:
        assert check.is_inside, check.sentence(check.stage_id)
        if check.stated_j > 10_000:
            assert abs(check.difference_rel or 0.0) < 0.005


def test_the_longest_generation_is_the_published_one(report: ImportReport) -> None:
    """synthetic_math_generation: 7.97 kWh by CodeCarbon, its GPU and CPU once."""
    totals = {line.found.name: line.record.total for line in report.lines if line.record}
    total = next(total for name, total in totals.items() if name.startswith("synthetic_math_generation"))
    assert isinstance(total, Total)
    assert float(to_kwh(Joules(total.value_j))) == pytest.approx(7.97, abs=0.02)


def test_tokens_of_0_are_absent(report: ImportReport) -> None:
    counts = [stage.workload for line in report.lines if line.record for stage in line.record.stages]
    assert all(count.get("tokens") != 0 for count in counts)
    assert any("tokens" not in count for count in counts)
