"""`analyse`: the contract of its JSON, its words, and how it refuses."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from observations import observation
from run_records import quickstart
from stillwatt.analysis.compare import compare
from stillwatt.workflows.analyse import Analysis
from stillwatt.workflows.table import COLUMNS

Stillwatt = Callable[..., Result]

ROWS = """\
sft-1b,sft,1B,1,0.690,0.01,0,6.28,0.70,120
sft-1b,sft,1B,2,0.696,0.01,0,6.33,0.70,121
sft-1b,sft,1B,3,0.693,0.01,0,6.35,0.70,120
kd-1b,kd,1B,1,0.701,0.01,11.0,5.18,0.70,119
kd-1b,kd,1B,2,0.712,0.01,11.0,5.22,0.70,122
kd-1b,kd,1B,3,0.703,0.01,11.0,5.24,0.70,120
sft-7b,sft,7B,1,0.90,0.01,0,18.0,1.0,40
kd-7b,kd,7B,1,0.88,0.01,11.0,18.9,1.0,
syn-7b,synthetic,7B,1,0.91,0.01,,16.0,1.0,41
"""


@pytest.fixture
def points(tmp_path: Path) -> Callable[[str], str]:
    """Write a table below the contract's header; gives its path."""

    def write(rows: str, header: str = ",".join(COLUMNS)) -> str:
        path = tmp_path / "points.csv"
        path.write_text(f"{header}\n{rows}", encoding="utf-8")
        return str(path)

    return write


Points = Callable[..., str]


def answer(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_contract_of_the_json(stillwatt: Stillwatt, points: Points) -> None:
    found = answer(stillwatt("analyse", "--table", points(ROWS), "--json"))
    allocations = ["one-off", "reuse:2", "marginal"]
    assert list(found["frontiers"]) == allocations
    assert found["frontiers"]["one-off"] == ["sft-1b", "kd-1b", "sft-7b"]
    assert found["frontiers"]["marginal"] == ["kd-1b", "syn-7b"]
    for allocation in allocations:
        for probability in found["on_frontier_probability"][allocation].values():
            assert 0.0 <= probability <= 1.0
        assert found["hypervolume"][allocation] > 0.0
    by_key = {(entry["method"], entry["student"]): entry for entry in found["n_star"]}
    assert set(by_key) == {("kd", "1B"), ("kd", "7B"), ("synthetic", "7B")}
    kd = by_key["kd", "1B"]
    assert {"method", "student", "value", "low", "high", "verdict"} <= set(kd)
    assert kd["value"] == pytest.approx(11.0 / (6.32 - 5.21333333), rel=1e-6)
    assert kd["low"] < kd["value"] < kd["high"]
    assert kd["verdict"] == "value"
    assert by_key["kd", "7B"]["verdict"] in ("undetermined", "never")
    assert by_key["synthetic", "7B"]["value"] is None
    assert any("one seed of sft-7b, kd-7b and syn-7b" in warning for warning in found["warnings"])
    assert any("the teacher's energy" in warning and "syn-7b" in warning for warning in found["warnings"])
    assert found["baseline"] == "sft"


def test_the_answer_is_json_without_nan(stillwatt: Stillwatt, points: Points) -> None:
    result = stillwatt("analyse", "--table", points("a,sft,,,,,,,,\nb,kd,,,,,,,,\n"), "--json")

    def refuse(name: str) -> None:
        raise AssertionError(name)

    found = json.loads(result.stdout, parse_constant=refuse)
    assert found["frontiers"] == {"one-off": [], "reuse:1": [], "marginal": []}
    assert found["hypervolume"] == {"one-off": None, "reuse:1": None, "marginal": None}
    assert found["n_star"][0]["verdict"] == "undetermined"


def test_the_same_table_gives_the_same_bytes_in_any_order(stillwatt: Stillwatt, points: Points) -> None:
    first = answer(stillwatt("analyse", "--table", points(ROWS), "--json"))
    again = answer(stillwatt("analyse", "--table", points(ROWS), "--json"))
    turned = answer(stillwatt("analyse", "--table", points("\n".join(reversed(ROWS.splitlines()))), "--json"))
    assert first == again
    for allocation, labels in first["frontiers"].items():
        assert sorted(turned["frontiers"][allocation]) == sorted(labels)
        mine, theirs = (x["on_frontier_probability"][allocation] for x in (first, turned))
        assert {k: pytest.approx(v) for k, v in mine.items()} == theirs


def test_a_table_whose_name_is_not_utf_8_has_a_page_that_spells_it_out(
    stillwatt: Stillwatt, points: Points, tmp_path: Path
) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    table = Path(points(ROWS)).rename(folder / "points.csv")
    done = stillwatt("analyse", "--table", str(table), "--html", str(folder / "page.html"))
    assert done.exit_code == 0, done.output
    assert "caf\\\\xe9/points.csv" in (folder / "page.html").read_text(encoding="utf-8")


def test_never_and_always_are_answers(stillwatt: Stillwatt, points: Points) -> None:
    rows = "a,sft,1B,,0.7,,0,6,1,\nb,kd,1B,,0.7,,11,9,1,\nc,syn,1B,,0.7,,0.1,2,1,\n"
    found = answer(stillwatt("analyse", "--table", points(rows), "--json"))
    assert [entry["verdict"] for entry in found["n_star"]] == ["never", "always"]
    assert found["n_star"][0]["value"] is None
    words = stillwatt("analyse", "--table", points(rows)).stdout
    assert "No reuse repays the teacher of b: nothing is saved against a" in words
    assert "c is worth it from the first student" in words
    assert words.startswith(
        "On one seed, 1 of 2 distilled labels repays its teacher at matched quality: c's N* is 0.0250"
    )


def test_boundaries_and_impacts(stillwatt: Stillwatt, points: Points) -> None:
    options = ("--pue", "1.2", "--kgco2e-per-kwh", "0.5", "--water-l-per-kwh", "2", "--price-per-kwh", "0.1")
    found = answer(stillwatt("analyse", "--table", points(ROWS), "--json", *options))
    assert list(found["by_boundary"]) == ["facility"]
    assert list(found["by_impact"]) == ["kgco2e", "water_l", "price"]
    carbon = found["by_impact"]["kgco2e"]
    assert carbon["unit"] == "kgCO2e"
    assert carbon["frontiers"] == found["frontiers"]
    assert carbon["amounts"]["one-off"]["sft-7b"] == pytest.approx(19.0 * 1.2 * 0.5)
    assert carbon["on_frontier_probability"] == found["on_frontier_probability"]
    words = stillwatt("analyse", "--table", points(ROWS), *options).stdout
    assert "By carbon [kgCO2e] under one-off, on the frontier: sft-1b, kd-1b, sft-7b." in words
    assert "carbon of one student  one-off [kgCO2e]" in words
    assert re.search(r"^sft-7b +11\.4", words, re.MULTILINE)


def test_words_for_a_table(stillwatt: Stillwatt, points: Points) -> None:
    result = stillwatt("analyse", "--table", points(ROWS), "--reuse", "20")
    assert result.exit_code == 0
    words = " ".join(result.stdout.split())
    assert "repays its teacher at matched quality: kd-1b's N* is 0.84 [0.73, 0.98] against sft-7b" in words
    assert "; at an equal token budget it is " in words
    assert "reuse:20 [kWh]" in words
    assert "teacher's share" in words
    assert "reuse:2 is the most students that one method distilled here" in words
    assert "note: " in words


def test_the_published_table_has_a_name(stillwatt: Stillwatt) -> None:
    assert "kd-1b" in stillwatt("analyse", "--table", "paper").stdout


@pytest.mark.parametrize(
    ("rows", "place", "thing", "step"),
    [
        ("a,sft,1B,1,0.7,,0,-6,1,\n", ":2: ", "student_kwh is -6: less than nothing", "leave the cell empty"),
        ("a,sft,1B,1,0.7,,0,six,1,\n", ":2: ", "student_kwh is 'six', which is no number", "leave the cell empty"),
        ("a,sft,1B,1,0.7,,0,6,1,\na,sft,1B,1,0.7,,0,6,1,\n", ":3: ", "label 'a' with seed '1'", "differ in their seed"),
        ("", ": ", "no row below the header", "no row"),
    ],
)
def test_a_broken_table_is_refused_by_thing_place_and_next_step(
    stillwatt: Stillwatt, points: Points, rows: str, place: str, thing: str, step: str
) -> None:
    path = points(rows)
    result = stillwatt("analyse", "--table", path)
    assert result.exit_code == 2
    for part in (f"{path}{place}", thing, step):
        assert part in str(result.exception) + result.stderr
    assert result.stdout == ""


def test_wrong_columns_say_which_and_what_they_should_be(stillwatt: Stillwatt, points: Points) -> None:
    result = stillwatt("analyse", "--table", points("x,1\n", header="name,energy"))
    assert result.exit_code == 2
    assert "no column 'label', 'method'" in str(result.exception) + result.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "name runs or a table, one of the two"),
        (("latest", "--table", "paper"), "name runs or a table, one of the two"),
        (("--table", "paper", "--pretraining-kwh", "5"), "belong together"),
        (("--table", "nothing.csv"), "table not found at nothing.csv"),
    ],
)
def test_misuse(stillwatt: Stillwatt, arguments: tuple[str, ...], why: str) -> None:
    result = stillwatt("analyse", *arguments)
    assert result.exit_code in (1, 2)
    assert why in str(result.exception) + result.stderr


def test_energies_have_their_half_widths_within_the_usual_columns(stillwatt: Stillwatt, points: Points) -> None:
    lines = stillwatt("analyse", "--table", points(ROWS)).stdout.splitlines()
    head = next(n for n, line in enumerate(lines) if line.startswith("label") and "seeds" in line)
    rows = lines[head : lines.index("", head)]
    assert all(" ± " in line for line in rows if line.startswith(("sft-1b", "kd-1b")))
    assert max(map(len, rows)) <= 100
    assert any(line.startswith("* on the frontier, p: how surely; reuse:2") for line in lines)
    assert "what readings and repeats scatter by" in " ".join(lines)


def test_nothing_placed_has_no_footnote(stillwatt: Stillwatt, points: Points) -> None:
    words = stillwatt("analyse", "--table", points("a,sft,1B,,,,,6,1,\n")).stdout
    assert "* on the frontier" not in words
    assert words.startswith("Nothing was distilled here")


def test_runs_whose_energy_is_not_whole_exit_with_3(stillwatt: Stillwatt, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def analyse_runs(runs: tuple[str, ...], **options: Any) -> Analysis:
        asked.update(options, runs=runs)
        found = compare([observation("sft-1b"), observation("kd-1b")], source="r1")
        return Analysis(comparison=found, complete=False)

    monkeypatch.setattr("stillwatt.workflows.analyse.analyse_runs", analyse_runs)
    result = stillwatt("analyse", "r1", "r2", "--runs", "d", "--json")
    assert result.exit_code == 3
    assert (asked["runs"], asked["runs_dir"]) == (("r1", "r2"), "d")
    assert json.loads(result.stdout)["source"] == "r1"


def test_runs_list_what_is_on_no_bill(stillwatt: Stillwatt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stillwatt.workflows.analyse.show_run", lambda runs_dir, reference: quickstart())
    words = " ".join(stillwatt("analyse", "latest").stdout.split())  # folded to fit
    assert "on no bill" in words
    assert "idle power, measured to be compared with" in words
    found = json.loads(stillwatt("analyse", "latest", "--json").stdout)
    assert math.fsum(entry["energy_kwh"] for entry in found["not_billed"]) > 0.0
    assert found["boundary"] == "node"
