"""Nothing that is there is written over unasked, and what a command reads never."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from run_dirs import quick_run
from stillwatt.workflows.table import COLUMNS

Stillwatt = Callable[..., Result]

PAGES = ("analyse --table points.csv --html", "literature map --html")
TABLE = f"""{",".join(COLUMNS)}
sft-1b,sft,1B,1,0.69,0.01,0,6.30,0.70,120
kd-1b,kd,1B,1,0.70,0.01,11.0,5.20,0.70,119
"""
MINE = "my own notes\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a table, a corpus and notes in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "points.csv").write_text(TABLE, encoding="utf-8")
    (tmp_path / "notes.txt").write_text(MINE, encoding="utf-8")
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.mark.parametrize("words", PAGES)
def test_a_page_is_written_anew_and_anything_else_only_when_asked(
    stillwatt: Stillwatt, place: Path, words: str
) -> None:
    command = words.split(" ")
    for _ in range(2):
        assert stillwatt(*command, "page.html").exit_code == 0
    page = (place / "page.html").read_bytes()
    refused = stillwatt(*command, "notes.txt")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "notes.txt is there already and was left as it is; give another --html, or --force" in refused.stderr
    assert (place / "notes.txt").read_text(encoding="utf-8") == MINE
    assert stillwatt(*command, "notes.txt", "--force").exit_code == 0
    assert (place / "notes.txt").read_bytes() == page


def test_a_page_of_another_kind_is_left_alone(stillwatt: Stillwatt, place: Path) -> None:
    assert stillwatt("literature", "map", "--html", "page.html").exit_code == 0
    assert stillwatt("analyse", "--table", "paper", "--html", "page.html").exit_code == 2


@pytest.mark.parametrize("words", PAGES)
@pytest.mark.usefixtures("place")
def test_a_folder_is_no_page(stillwatt: Stillwatt, words: str) -> None:
    refused = stillwatt(*words.split(" "), "folder")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "folder is a folder and was left as it is; name a file, e.g. folder/report.html" in refused.stderr


@pytest.mark.parametrize(
    "words",
    [
        "analyse --table points.csv --html points.csv",
        "analyse --table points.csv --html link.csv",
        "literature map --corpus corpus.csv --html corpus.csv",
        "figures --table bills.csv -o . --format json --tables csv --only bills",
    ],
)
def test_what_is_read_is_never_written_over(stillwatt: Stillwatt, place: Path, words: str) -> None:
    table = (place / "points.csv").read_text(encoding="utf-8")
    (place / "link.csv").hardlink_to(place / "points.csv")
    (place / "bills.csv").write_text(table, encoding="utf-8")
    (place / "corpus.csv").write_text(
        "title,authors,year,source,subject,stage,metric,value,unit,per,boundary,evidence,verified\n", encoding="utf-8"
    )
    before = {path: path.read_bytes() for path in place.iterdir() if path.is_file()}
    for more in ((), ("--force",)):
        refused = stillwatt(*words.split(" "), *more)
        assert refused.exit_code == 2, refused.output
        assert "is what the command reads and was left as it is; name another file" in refused.stderr
    assert {path: path.read_bytes() for path in place.iterdir() if path.is_file()} == before


def test_figures_that_are_there_are_drawn_anew_only_when_asked(stillwatt: Stillwatt, place: Path) -> None:
    command = ("figures", "--table", "points.csv", "-o", "out", "--format", "json", "--tables", "csv")
    assert stillwatt(*command).exit_code == 0
    assert stillwatt(*command).exit_code == 0  # the same bytes: nothing is lost
    (place / "out" / "bills.csv").write_text(MINE, encoding="utf-8")
    (place / "out" / "frontier-1.json").unlink()
    refused = stillwatt(*command)
    assert refused.exit_code == 2
    assert "out/bills.csv is there already and was left as it is; give another -o, or --force" in refused.stderr
    assert not (place / "out" / "frontier-1.json").exists()
    assert stillwatt(*command, "--force").exit_code == 0
    assert (place / "out" / "bills.csv").read_text(encoding="utf-8") != MINE


@pytest.mark.parametrize("out", ["notes.txt", "notes.txt/below"])
@pytest.mark.parametrize(
    ("words", "option"),
    [("figures --table points.csv --format json -o", "-o"), ("ledger export latest --format csv --out", "--out")],
)
def test_a_file_is_no_folder(stillwatt: Stillwatt, place: Path, words: str, option: str, out: str) -> None:
    quick_run(place / "runs")
    refused = stillwatt(*words.split(" "), out)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert f"{option}: notes.txt is a file and was left as it is; name a folder" in refused.stderr
    assert (place / "notes.txt").read_text(encoding="utf-8") == MINE


def test_a_pipe_takes_a_page_and_stays_a_pipe(stillwatt: Stillwatt, place: Path) -> None:
    pipe = place / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    try:
        done = stillwatt("analyse", "--table", "paper", "--html", "pipe")
    finally:
        if pipe.is_fifo():  # a reader that nobody wrote to ends too
            pipe.open("r+b", buffering=0).close()
    reader.join(10)
    assert done.exit_code == 0
    assert pipe.is_fifo()
    assert read[0].startswith(b"<!doctype html>")
