"""Paths on the command line: what is not there, is of another kind, or cannot be written; every verb says so alike."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from run_dirs import quick_run
from stillwatt.errors import StillwattError
from stillwatt.workflows import outputs, publish

Stillwatt = Callable[..., Result]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a file and with runs in it."""
    monkeypatch.chdir(tmp_path)
    quick_run(tmp_path / "runs")
    (tmp_path / "file.py").write_text("", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        "analyse --table gone",
        "advise --budget 1kWh --table gone",
        "rules test --table gone",
        "rules mine --table gone",
        "figures --table gone -o out",
        "validate gone",
        "account --recompute gone",
        "export gone --format sci -o out",
        "import gone",
        "ledger post gone",
        "ledger verify --runs gone",
        "cache info gone",
        "cache verify gone",
        "cache convert gone out",
        "run gone.toml",
        "plan gone.toml",
        "recipe show gone.toml",
        "factors list --factors gone",
        "serve-metrics --runs gone",
    ],
)
@pytest.mark.usefixtures("place")
def test_a_path_that_is_not_there_cannot_be_meant(stillwatt: Stillwatt, words: str) -> None:
    done = stillwatt(*words.split(" "))
    assert done.exit_code == 2, done.output
    assert "gone" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("measure --runs file.py -- true", 2, "--runs': file.py is a file; name a folder"),
        ("ledger list --runs file.py", 2, "file.py is a file; name a folder"),
        ("validate runs", 2, "runs is a folder; name a report's file"),
        (
            "cache info runs",
            1,
            "runs is no logit cache, or an unfinished one: it has no index.json; those of a folder of",
        ),
        ("cache verify runs", 1, "runs is no logit cache"),
        ("cache info file.py", 1, "file.py is a file, and a logit cache is a folder"),
    ],
)
@pytest.mark.usefixtures("place")
def test_a_path_of_the_wrong_kind_is_told_of(stillwatt: Stillwatt, words: str, status: int, said: str) -> None:
    done = stillwatt(*words.split(" "))
    assert done.exit_code == status, done.output
    assert said in done.stderr
    assert "again on the next run" not in done.stderr


def test_a_file_that_cannot_be_written_is_named_and_not_the_one_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *_args: Any, **_options: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    path = tmp_path / "page.html"
    for name in ("write_bytes", "open", "unlink"):
        monkeypatch.setattr(Path, name, refuse)
    said = r"^nothing can be written to \S+/page\.html: Read-only file system$"
    with pytest.raises(StillwattError, match=said):
        publish.write_whole(path, b"x")
    with pytest.raises(StillwattError, match=said):
        outputs.write_whole(path, "x")
