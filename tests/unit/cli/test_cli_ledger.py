"""The ledger's verbs ask the books and print what they say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from run_dirs import SyntheticRun, constant_counter, gpu_counter, quick_run
from stillwatt.errors import RunNotFoundError
from stillwatt.ledger.finding import Finding, Severity
from stillwatt.ledger.store import RunLine
from stillwatt.records import NoTotal, RunRecord, StageStatus
from stillwatt.workflows import books

Stillwatt = Callable[..., Result]
LINE = RunLine(
    run_id="20261122-225501-demo-3f2a",
    name="demo",
    status=StageStatus.RECOVERED,
    start_utc="2026-11-22T22:55:01.000Z",
    duration_s=13.5,
    complete=False,
    stages=3,
    warnings=1,
    total=NoTotal(reason="no reading"),
)


def test_list_is_a_table_or_json(stillwatt: Stillwatt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "list_runs", lambda runs_dir: [LINE] if runs_dir == "r" else [])
    head, row = stillwatt("ledger", "list", "--runs", "r").stdout.splitlines()
    assert head.split() == ["run", "name", "status", "started", "time", "energy"]
    assert row.split("  ")[0] == LINE.run_id
    assert "not known: no reading" in row
    (entry,) = json.loads(stillwatt("ledger", "list", "--runs", "r", "--json").stdout)
    assert entry["status"] == "recovered"
    assert entry["total_j"] == {"absent": "no reading"}
    assert entry["stages"] == 3


def test_an_empty_list_says_so(stillwatt: Stillwatt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "list_runs", lambda runs_dir: [])
    assert stillwatt("ledger", "list").stdout.startswith("no runs in runs;")
    assert json.loads(stillwatt("ledger", "list", "--json").stdout) == []


def test_show_json_is_the_record_and_nothing_else(
    stillwatt: Stillwatt, monkeypatch: pytest.MonkeyPatch, make_record: Callable[..., RunRecord]
) -> None:
    record = make_record()
    monkeypatch.setattr(books, "show_run", lambda runs_dir, reference, rule: record)
    assert stillwatt("ledger", "show", "x", "--json").stdout == json.dumps(record.to_dict(), indent=2) + "\n"
    assert record.run_id in stillwatt("ledger", "show", "x").stdout


def test_an_unknown_run_exits_with_2(stillwatt: Stillwatt, monkeypatch: pytest.MonkeyPatch) -> None:
    def show_run(runs_dir: str, reference: str, *, rule: str | None) -> RunRecord:
        raise RunNotFoundError(reference, runs_dir, ["demo"])

    monkeypatch.setattr(books, "show_run", show_run)
    result = stillwatt("ledger", "show", "dmeo")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: no run 'dmeo' in runs; did you mean 'demo'?\n"


@pytest.mark.parametrize(("count", "words"), [(0, "0 runs"), (1, "1 run in"), (2, "2 runs")])
def test_rebuild_counts(count: int, words: str, stillwatt: Stillwatt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "rebuild", lambda runs_dir: count)
    assert stillwatt("ledger", "rebuild").stdout.startswith(words)
    assert json.loads(stillwatt("ledger", "rebuild", "--json").stdout) == {"runs": count}


@pytest.mark.parametrize(
    ("severities", "status"), [([], 0), ([Severity.INFO, Severity.WARNING], 0), ([Severity.WARNING, Severity.ERROR], 1)]
)
def test_verify_fails_where_a_number_may_be_wrong(
    severities: list[Severity], status: int, stillwatt: Stillwatt, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [Finding(severity=severity, code="torn-line", where="r1", message="one line") for severity in severities]
    monkeypatch.setattr(books, "verify", lambda runs_dir, reference: found if reference == "r1" else [])
    result = stillwatt("ledger", "verify", "r1")
    assert result.exit_code == status
    if not found:
        assert result.stdout == "everything is as it should be\n"
    for severity in severities:
        assert any(line.split() == [severity.value, "r1", "one", "line"] for line in result.stdout.splitlines())
    answer = json.loads(stillwatt("ledger", "verify", "r1", "--json").stdout)
    assert [entry["severity"] for entry in answer] == [severity.value for severity in severities]
    assert stillwatt("ledger", "verify").exit_code == 0


def test_export_prints_its_files(stillwatt: Stillwatt, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def export(runs_dir: str, reference: str, **options: Any) -> list[Path]:
        asked.update(options, runs_dir=runs_dir, reference=reference)
        return [Path("o/stages.csv"), Path("o/energies.csv")]

    monkeypatch.setattr(books, "export", export)
    arguments = ("ledger", "export", "latest", "--format", "csv", "--out", "o")
    assert stillwatt(*arguments).stdout == "o/stages.csv\no/energies.csv\n"
    assert asked == {"runs_dir": "runs", "reference": "latest", "form": "csv", "out": "o"}
    assert json.loads(stillwatt(*arguments, "--json").stdout) == {"files": ["o/stages.csv", "o/energies.csv"]}
    assert stillwatt("ledger", "export", "latest", "--format", "xls", "--out", "o").exit_code == 2


@pytest.mark.parametrize(
    ("policy", "words", "status"),
    [("gross", "all that was drawn", 0), ("net", "above idle power", 0), ("marginal", "not known: the run", 3)],
)
def test_a_policy_is_shown_with_what_it_takes_off(
    policy: str, words: str, status: int, stillwatt: Stillwatt, tmp_path: Path
) -> None:
    run = SyntheticRun(tmp_path)
    session = run.session(start_s=100.0)
    session.sampler([gpu_counter()])
    session.samples("gpu0.energy_counter", constant_counter(200.0, 0.001), until_s=125.0)
    session.stage("idle_baseline", 101.0, 106.0, kind="idle_baseline")
    session.stage("train", 107.0, 112.0)
    session.stage("idle_after", 113.0, 114.0, kind="idle_baseline", attempt=2)
    session.end(115.0)
    command = ("ledger", "show", "latest", "--runs", str(tmp_path), "--policy", policy)
    shown = stillwatt(*command)
    assert shown.exit_code == stillwatt(*command, "--json").exit_code == status, shown.output
    assert words in shown.stdout
    answer = json.loads(
        stillwatt("ledger", "show", "latest", "--runs", str(tmp_path), "--policy", policy, "--json").stdout
    )
    assert answer["policy"]["name"] == policy
    assert ("to know it next time: leave pauses" in shown.stdout) == (policy == "marginal")
    if policy == "net":
        assert "gpu0  idle power 200 W [190, 210] measured, ± " in shown.stdout
        assert "before the work  200 ± " in shown.stdout
        assert "25 of 25 pieces clean" in shown.stdout
        assert "too short to look for work in it" in shown.stdout
        assert "spread 0 W" in shown.stdout
        assert "drift +0 ± " in shown.stdout
        assert answer["policy"]["baselines"][0]["power_w"]["basis"] == "measured"
        assert "gross total, the two together" in shown.stdout


def test_a_run_without_an_idle_stage_is_told_how_to_have_one(stillwatt: Stillwatt, tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path)
    session = run.session(start_s=100.0)
    session.stage("train", 107.0, 112.0)
    session.end(115.0)
    result = stillwatt("ledger", "show", "latest", "--runs", str(tmp_path), "--policy", "net")
    shown = result.stdout
    assert result.exit_code == 3
    assert "net total  not known: no idle_baseline stage in this run" in shown
    assert "to know it next time: measure the idle machine too: `stillwatt measure --idle 30" in shown


def test_an_unknown_policy_is_misuse(stillwatt: Stillwatt) -> None:
    assert stillwatt("ledger", "show", "latest", "--policy", "nett").exit_code == 2


def test_a_verdict_names_the_rule_that_is_missed(stillwatt: Stillwatt, tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path)
    session = run.session(start_s=100.0)
    session.sampler([replace(gpu_counter(), gain_low_rel=0.01, gain_high_rel=0.01)])
    session.samples("gpu0.energy_counter", constant_counter(200.0, 0.001), until_s=205.0)
    session.stage("train", 101.0, 198.0)
    session.stage("probe", 198.5, 199.5, status="failed")
    session.stage("probe", 200.0, 204.0, attempt=2)
    session.end(205.0)
    command = ("ledger", "show", "latest", "--runs", str(tmp_path), "--verdict")
    shown = stillwatt(*command).stdout
    assert shown.startswith(stillwatt("ledger", "show", "latest", "--runs", str(tmp_path)).stdout)
    assert "verdict  1 of 3 stages measured by the rules: a reading a second, 60 of them, 95% covered" in shown
    assert "  probe (attempt 2) (a3): falls short\n    gpu0: 40 readings; 60 are needed\n" in shown
    train, _, probe = json.loads(stillwatt(*command, "--json").stdout)["stages"]
    assert (train["verdict"]["outcome"], probe["verdict"]["outcome"]) == ("meets", "falls short")
    refused = stillwatt(*command, "--policy", "net")
    assert refused.exit_code == 2
    assert "without --policy" in refused.stderr


def test_a_run_without_stages_has_no_verdict_line(stillwatt: Stillwatt, tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path)
    run.session(start_s=100.0).end(105.0)
    assert "verdict" not in stillwatt("ledger", "show", "latest", "--runs", str(tmp_path), "--verdict").stdout


def test_a_ledger_that_cannot_be_written_is_not_made_anew(
    stillwatt: Stillwatt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick_run(tmp_path)
    monkeypatch.setattr("os.access", lambda *_: False)  # whoever runs the tests may be root, whom no mode stops
    done = stillwatt("ledger", "rebuild", "--runs", str(tmp_path))
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"the ledger of {tmp_path} cannot be written, and nothing was" in done.stderr
    assert stillwatt("ledger", "list", "--runs", str(tmp_path)).exit_code == 0
