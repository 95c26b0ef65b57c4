"""Bad input to `analyse` and to `rules`: the same message from each, and no answer where one would be wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from run_records import quickstart
from stillwatt.workflows.table import COLUMNS

Stillwatt = Callable[..., Result]

HEADER = ",".join(COLUMNS)
SFT = "sft-1b,sft,1B,1,0.69,0.01,0,6.30,0.70,120"
KD = "kd-1b,kd,1B,1,0.70,0.01,11.0,5.20,0.70,119"
VERBS = (("analyse",), ("rules", "test"), ("rules", "mine"))

everywhere = pytest.mark.parametrize("verb", VERBS, ids=" ".join)


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., str]:
    """Write lines as a table; gives its path."""

    def write(*lines: str) -> str:
        path = tmp_path / "points.csv"
        path.write_text("\n".join((*lines, "")), encoding="utf-8")
        return str(path)

    return write


Write = Callable[..., str]


@everywhere
@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            (HEADER, SFT, KD.replace("0.70,0.01", "NaN,0.01")),
            ":3: quality is NaN; leave the cell empty if it is unknown",
        ),
        (
            (f"{HEADER},quality_definition", f"{SFT},mean of five", f"{KD},MMLU"),
            ":3: quality is 'MMLU' here and 'mean of five' on line 2: qualities of unlike definitions cannot stand "
            "on one axis; give each its own table",
        ),
        (
            (HEADER, SFT, KD.replace("0.70,0.01", "70,0.01")),
            ":3: quality 70 here and 0.69 on line 2 look like two definitions (per cent and share?)",
        ),
        (
            (f"{HEADER},boundary", f"{SFT},gpu", f"{KD},node"),
            ":3: boundary is 'node' here and 'gpu' on line 2: energies of unlike boundaries are never compared; "
            "give each its own table",
        ),
        (
            (HEADER, SFT, KD, KD),
            ":4: label 'kd-1b' with seed '1' stands here and on line 3: one training is one row, and repeats differ in "
            "their seed",
        ),
        (
            (f"{HEADER},alpha", f"{KD},0.5", f"{KD.replace('1B,1', '1B,2')},0.8"),
            ":3: label 'kd-1b' has another alpha here than on line 2: rows of one label differ in their seed alone",
        ),
    ],
    ids=["NaN", "definitions", "per cent", "boundaries", "duplicates", "settings"],
)
def test_a_table_that_would_answer_wrongly_is_refused(
    stillwatt: Stillwatt, table: Write, verb: tuple[str, ...], lines: tuple[str, ...], message: str
) -> None:
    done = stillwatt(*verb, "--table", table(*lines))
    assert done.exit_code == 2
    assert done.stdout == ""
    assert f"points.csv{message}" in done.stderr


@everywhere
def test_a_quality_that_is_missing_is_said(stillwatt: Stillwatt, table: Write, verb: tuple[str, ...]) -> None:
    done = stillwatt(*verb, "--table", table(HEADER, SFT, KD.replace("0.70,0.01", ",")))
    assert done.exit_code == 0
    said = " ".join(done.stdout.split())
    assert "points.csv:3: kd-1b, seed 1, has no quality; that row is in no frontier" in said
    assert "in no frontier under any allocation: kd-1b, because the quality is unknown" in said


@everywhere
def test_a_single_training_is_compared_with_nothing(stillwatt: Stillwatt, table: Write, verb: tuple[str, ...]) -> None:
    done = stillwatt(*verb, "--table", table(HEADER, KD))
    assert done.exit_code == 0
    assert "kd-1b is alone: there is nothing to compare it with" in done.stdout
    assert "no row has method 'sft': there is no baseline, so no N*" in done.stdout


@everywhere
def test_a_single_run_is_one_seed(stillwatt: Stillwatt, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...]) -> None:
    monkeypatch.setattr("stillwatt.workflows.analyse.show_run", lambda _, reference: quickstart(run_id=reference))
    done = stillwatt(*verb, "r1")
    assert done.exit_code == 0
    assert "one seed: each label was trained once, so no difference here is a significance" in done.stdout
    assert "holds" not in done.stdout
    assert "fails" not in done.stdout


@everywhere
def test_a_run_named_twice_is_refused(
    stillwatt: Stillwatt, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...]
) -> None:
    monkeypatch.setattr("stillwatt.workflows.analyse.show_run", lambda _, reference: quickstart(run_id=reference))
    done = stillwatt(*verb, "r1", "r1")
    assert done.exit_code == 2
    assert "run r1 is named twice; a run is no repeat of itself" in done.stderr


@everywhere
def test_a_baseline_that_is_misspelt_is_suggested(stillwatt: Stillwatt, table: Write, verb: tuple[str, ...]) -> None:
    done = stillwatt(*verb, "--table", table(HEADER, SFT.replace(",sft,", ",sftt,"), KD))
    assert done.exit_code == 0
    assert "no row has method 'sft': there is no baseline, so no N*; did you mean 'sftt'?" in done.stdout


@everywhere
def test_a_method_that_no_rule_knows_is_taken_as_distilled(
    stillwatt: Stillwatt, table: Write, verb: tuple[str, ...]
) -> None:
    done = stillwatt(*verb, "--table", table(HEADER, SFT, KD.replace("kd", "pruning")))
    assert done.exit_code == 0
    assert "pruning-1b" in done.stdout


@everywhere
def test_a_run_that_is_not_there(stillwatt: Stillwatt, tmp_path: Path, verb: tuple[str, ...]) -> None:
    done = stillwatt(*verb, "nothing", "--runs", str(tmp_path))
    assert done.exit_code == 2
    assert "no run 'nothing'" in done.stderr


@everywhere
def test_a_table_that_is_not_there(stillwatt: Stillwatt, tmp_path: Path, verb: tuple[str, ...]) -> None:
    done = stillwatt(*verb, "--table", str(tmp_path / "none.csv"))
    assert done.exit_code == 2
    assert "table not found at" in done.stderr
