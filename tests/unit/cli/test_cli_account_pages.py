"""`stillwatt account` with --html and --markdown: of runs, of a saved report, of one that is computed anew."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lifecycle_pages import bare
from run_dirs import quick_run
from stillwatt.cli.main import cli
from stillwatt.report.data import report_json


def ask(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["account", *arguments])


def test_of_runs_of_the_report_and_of_the_report_anew_the_same_bytes(tmp_path: Path) -> None:
    quick_run(tmp_path)
    report, page, text = (tmp_path / name for name in ("report.json", "a.html", "a.md"))
    outs = ("-o", str(report), "--html", str(page), "--markdown", str(text))
    made = ask("latest", "--runs", str(tmp_path), "--region", "FRA", "--draws", "200", *outs)
    assert made.exit_code == 0, made.output
    assert f"page  {page}" in made.stderr
    for number, source in enumerate(((str(report),), ("--recompute", str(report)))):
        again = tmp_path / f"{number}.html", tmp_path / f"{number}.md"
        done = ask(*source, "--html", str(again[0]), "--markdown", str(again[1]))
        assert done.exit_code == 0, done.output
        assert again[0].read_bytes() == page.read_bytes()
        assert again[1].read_bytes() == text.read_bytes()
    taken = ask(str(report), "--markdown", str(text))
    assert taken.exit_code == 2
    assert "another --markdown, or --force" in taken.stderr


def test_a_page_is_renewed_and_somebody_elses_is_left_as_it_was(tmp_path: Path) -> None:
    report, page, other = tmp_path / "hand.json", tmp_path / "hand.html", tmp_path / "other.html"
    report.write_text(report_json(bare()), encoding="utf-8")
    assert ask(str(report), "--html", str(page)).exit_code == 0
    first = page.read_bytes()
    page.write_bytes(first.replace(b"life cycle</p>", b"of yesterday</p>"))
    assert ask(str(report), "--html", str(page)).exit_code == 0
    assert page.read_bytes() == first
    for words in (first.replace("· Stillwatt life cycle</title>".encode(), "· Stillwatt comparison</title>".encode()),
                  b"<!doctype html><title>mine</title>", b"", report.read_bytes()):  # fmt: skip
        other.write_bytes(words)
        taken = ask(str(report), "--html", str(other))
        assert (taken.exit_code, other.read_bytes()) == (2, words)
        assert "another --html, or --force" in taken.stderr


def test_a_page_is_there_also_where_the_reader_of_the_account_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_text: str) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("stillwatt.cli.lifecycle.say", gone)
    report = tmp_path / "hand.json"
    report.write_text(report_json(bare()), encoding="utf-8")
    assert ask(str(report), "--html", str(tmp_path / "hand.html")).exit_code == 1
    assert (tmp_path / "hand.html").is_file()


def test_a_report_by_hand_is_shown_and_written(tmp_path: Path) -> None:
    report = tmp_path / "hand.json"
    report.write_text(report_json(bare()), encoding="utf-8")
    done = ask(str(report), "--html", str(tmp_path / "hand.html"))
    assert done.exit_code == 0, done.output
    assert "Life cycle of no run" in done.stdout
    assert (tmp_path / "hand.html").is_file()


def test_what_a_run_is_known_by_is_never_written_over(tmp_path: Path) -> None:
    report = tmp_path / "hand.json"
    report.write_text(report_json(bare()), encoding="utf-8")
    run = quick_run(tmp_path / "runs")
    journal = next(run.path.glob("journal.*.jsonl"))
    sample = next((run.path / "samples").iterdir())
    ledger = tmp_path / "runs" / "ledger.sqlite"
    ledger.touch()
    for path in (journal, sample, run.path / "manifest.json", ledger):
        before = path.read_bytes()
        refused = ask(str(report), "--markdown", str(path), "--force")
        assert refused.exit_code == 2
        assert "is what a run is known by" in refused.stderr
        assert path.read_bytes() == before
    own = run.path / "report.md"
    own.write_text("mine", encoding="utf-8")
    assert ask(str(report), "--markdown", str(own), "--force").exit_code == 0


def test_what_cannot_be_meant(tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    report.write_text(report_json(bare()), encoding="utf-8")
    idle = ask(str(report), "--region", "FRA")
    assert idle.exit_code == 2
    assert "leave out --region" in idle.stderr
    assert "stands alone" in ask(str(report), "latest").stderr
    same = str(tmp_path / "x")
    assert "a file each" in ask(str(report), "--html", same, "--markdown", same).stderr
    assert ask(str(tmp_path / "none.json")).exit_code == 2
    report.write_text(json.dumps({**bare(), "schema": "else/1"}), encoding="utf-8")
    other = ask(str(report), "--html", same)
    assert other.exit_code == 1
    assert "$.schema" in str(other.exception) + other.stderr


@pytest.mark.parametrize("option", ["-o", "--html", "--markdown"])
@pytest.mark.parametrize("asked", [[], ["--recompute"]])
def test_a_report_that_is_read_is_never_written_over(option: str, asked: list[str], tmp_path: Path) -> None:
    report = tmp_path / "hand.json"
    report.write_text(report_json(bare()), encoding="utf-8")
    before = report.read_bytes()
    refused = ask(*asked, str(report), option, str(report), "--force")
    assert refused.exit_code == 2
    assert f"error: {option}: {report} is what the command reads" in " ".join(refused.stderr.split())
    assert report.read_bytes() == before
