"""`stillwatt account` writes its report as a page and as Markdown: of runs, of a saved report, and computed anew."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from run_dirs import quick_run
from stillwatt.cli.main import cli


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    quick_run(folder)
    return folder


@pytest.fixture
def made(runs: Path, tmp_path: Path) -> Path:
    """A folder with a report and its two renderings."""
    out = tmp_path / "made"
    out.mkdir()
    files = ("-o", out / "report.json", "--html", out / "page.html", "--markdown", out / "page.md")
    result = invoke("account", "latest", "--runs", runs, "--region", "FRA", *files)
    assert result.exit_code == 0, result.output
    assert f"page  {out / 'page.html'}" in result.stderr
    assert f"markdown  {out / 'page.md'}" in result.stderr
    return out


@pytest.mark.parametrize("how", [(), ("--recompute",)], ids=["as it is", "computed anew"])
def test_a_saved_report_gives_the_same_page_and_text(made: Path, tmp_path: Path, how: tuple[str, ...]) -> None:
    pages = ("--html", tmp_path / "again.html", "--markdown", tmp_path / "again.md")
    result = invoke("account", *how, made / "report.json", *pages)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "again.html").read_bytes() == (made / "page.html").read_bytes()
    assert (tmp_path / "again.md").read_bytes() == (made / "page.md").read_bytes()


def test_nothing_is_written_over_unasked(made: Path, runs: Path) -> None:
    before = (made / "page.html").read_bytes()
    asked = ("account", "latest", "--runs", runs, "--region", "USA", "--html", made / "page.html")
    refused = invoke(*asked)
    assert refused.exit_code == 2
    assert "another --html, or --force" in refused.stderr
    assert (made / "page.html").read_bytes() == before
    assert invoke(*asked, "--force").exit_code == 0
    assert (made / "page.html").read_bytes() != before


def test_what_cannot_be_meant_is_misuse(made: Path, runs: Path, tmp_path: Path) -> None:
    same = tmp_path / "same"
    twice = invoke("account", "latest", "--runs", runs, "--region", "FRA", "--html", same, "--markdown", same)
    assert twice.exit_code == 2
    assert "need a file each" in twice.stderr
    beside = invoke("account", made / "report.json", "latest", "--runs", runs, "--html", same)
    assert beside.exit_code == 2
    assert "stands alone" in beside.stderr
    elsewhere = invoke("account", made / "report.json", "--region", "USA", "--html", same)
    assert elsewhere.exit_code == 2
    assert "leave out --region" in elsewhere.stderr
    assert not same.exists()


def test_what_is_no_report_gives_no_page(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('{"contract": "stillwatt.lifecycle/1"}', encoding="utf-8")
    result = invoke("account", tmp_path / "r.json", "--html", tmp_path / "r.html")
    assert result.exit_code == 1
    assert "stillwatt validate" in result.stderr
    assert not (tmp_path / "r.html").exists()
