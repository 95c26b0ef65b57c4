"""`rules`: list, test and mine; words, JSON, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from run_records import quickstart
from stillwatt.records.rules import MinedRule, RulesMined
from stillwatt.report.rules import mined_lines, mined_text
from stillwatt.workflows.table import COLUMNS

Stillwatt = Callable[..., Result]

SWEPT = (*COLUMNS, "alpha", "max_new_tokens", "student_seconds")


def sweep(seeds: int = 4) -> str:
    """A table in which distilling costs more once, saves afterwards, and longer answers cost more."""
    stream = np.random.default_rng(5)
    lines = [",".join(SWEPT)]
    for label, teacher, student, quality, tokens in (
        ("sft-1b", 0.0, 6.3, 0.69, ""),
        ("syn-1b", 11.0, 5.2, 0.74, "256"),
        ("syn-1b-long", 22.0, 5.2, 0.78, "1024"),
    ):
        for seed in range(seeds):
            own = student + float(stream.normal(0.0, 0.05))
            made = teacher + float(stream.normal(0.0, 0.05)) if teacher else 0.0
            good = quality + float(stream.normal(0.0, 0.003))
            method = label.partition("-")[0]
            lines.append(
                f"{label},{method},1B,{seed},{good:.5f},,{made:.4f},{own:.4f},0.7,,,{tokens},{1000.0 * own:.1f}"
            )
    return "\n".join(lines) + "\n"


@pytest.fixture
def points(tmp_path: Path) -> str:
    """The sweep as a file."""
    path = tmp_path / "points.csv"
    path.write_text(sweep(), encoding="utf-8")
    return str(path)


def answer(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["schema"] == "stillwatt.rules/1"
    return found


def by_name(found: dict[str, Any]) -> dict[str, Any]:
    return {rule["name"]: rule for rule in found["rules"]}


def test_the_rules_are_listed(stillwatt: Stillwatt) -> None:
    rules = answer(stillwatt("rules", "list", "--json"))["rules"]
    assert [rule["name"] for rule in rules] == [
        "one-off",
        "reuse",
        "small-students",
        "stops-sooner",
        "alpha-first",
        "short-answers",
        "carbon-is-energy",
    ]
    text = stillwatt("rules", "list").stdout
    for rule in rules:
        assert rule["statement"] in text
        assert rule["section"] in text
    assert "expected near 1 (within 0.2)" in text


def test_rules_are_tested_on_a_table(stillwatt: Stillwatt, points: str) -> None:
    rules = by_name(answer(stillwatt("rules", "test", "--table", points, "--json")))
    one_off = rules["one-off"]["tests"][0]
    assert (one_off["status"], one_off["next_run"]) == ("holds", None)
    case = one_off["cases"][0]
    assert case["labels"] == ["syn-1b", "sft-1b"]
    assert case["effect"] == pytest.approx(16.9 / 7.0, rel=0.05)
    assert case["low"] < case["effect"] < case["high"]
    assert (case["unit"], case["seeds"], case["leans"]) == ("times", 4, "for")
    # one student: nothing larger to hold it against
    assert rules["one-off"]["status"] == "undetermined"
    assert rules["reuse"]["tests"][1]["status"] == "holds"
    assert rules["short-answers"]["tests"][0]["status"] == "holds"
    assert rules["carbon-is-energy"]["status"] == "untested here"
    assert "--kgco2e-per-kwh" in rules["carbon-is-energy"]["tests"][0]["next_run"]
    assert rules["stops-sooner"]["tests"][0]["cases"][0]["effect"] == pytest.approx(0.825, rel=0.05)
    assert set(rules["reuse"]["supporting"]) == {"syn-1b", "sft-1b", "syn-1b-long"}
    assert rules["reuse"]["contradicting"] == []


def test_one_grid_factor_may_be_said(stillwatt: Stillwatt, points: str) -> None:
    done = stillwatt("rules", "test", "--table", points, "--kgco2e-per-kwh", "0.4", "--json")
    assert by_name(answer(done))["carbon-is-energy"]["status"] == "holds"


def test_the_test_in_words(stillwatt: Stillwatt, points: str) -> None:
    text = stillwatt("rules", "test", "--table", points).stdout
    assert "1. one-off: undetermined" in text
    assert "syn-1b against sft-1b: 2.4" in text
    assert "for it (4 seeds)" in text
    assert "to settle it: say what a kWh costs" in text
    assert "note: " in text


def test_statements_are_mined_from_a_table(stillwatt: Stillwatt, points: str) -> None:
    found = answer(stillwatt("rules", "mine", "--table", points, "--json"))
    assert (found["procedure"], found["false_discovery_rate"]) == ("Benjamini-Hochberg", 0.05)
    assert found["tried"] > len(found["mined"]) > 0
    longer = [r for r in found["mined"] if r["statement"].startswith("raising max_new_tokens from 256 to 1024")]
    energy = next(rule for rule in longer if "all of the teacher's work" in rule["statement"])
    assert "by +65" in energy["statement"]
    assert "of quality" in energy["statement"]
    assert energy["effect"] == pytest.approx(27.9 / 16.9, rel=0.02)
    assert energy["quality_change"] == pytest.approx(0.04, abs=0.01)
    assert energy["unit"] == "times"
    fewer = answer(stillwatt("rules", "mine", "--table", points, "--rate", "0.000001", "--json"))
    assert len(fewer["mined"]) < len(found["mined"])


def test_mined_statements_in_words(stillwatt: Stillwatt, points: str) -> None:
    text = stillwatt("rules", "mine", "--table", points).stdout
    assert "statements that were tried stand out; of such, 5 % are false on average, at most" in text
    assert "syn takes 2.4" in text
    assert "times the energy of sft, with all of the teacher's work" in text


def test_long_answers_are_cut_in_words_alone() -> None:
    rule = MinedRule(
        kind="monotone",
        statement="it rises by {effect}",
        scope="drawn",
        effect=7_200_000.0,
        low=None,
        high=None,
        unit="J",
        quality_change=None,
        quality_change_half_width=None,
        supporting=("a", "b"),
        contradicting=("a",),
        seeds=3,
        p=0.001,
    )
    assert mined_text(rule) == "it rises by 2.00 kWh"
    found = RulesMined(
        source="drawn",
        baseline="sft",
        rate=0.05,
        tried=99,
        largest_p=0.01,
        untried=("x",) * 33,
        found=(rule,) * 32,
        warnings=(),
    )
    lines = list(mined_lines(found))
    assert "2 more are in the JSON alone" in lines
    assert lines[-1] == "not tried: 3 more"
    assert lines[1].endswith("p 0.001; against it: a)")


def test_many_cases_are_cut_in_words_alone(stillwatt: Stillwatt, tmp_path: Path) -> None:
    rows = [f"kd-{number},kd,1B,,0.7,,11,5.2,0.7," for number in range(35)]
    path = tmp_path / "many.csv"
    path.write_text("\n".join((",".join(COLUMNS), "sft,sft,1B,,0.69,,0,6.3,0.7,", *rows)) + "\n", encoding="utf-8")
    assert "5 more cases" in stillwatt("rules", "test", "--table", str(path)).stdout


def test_what_could_not_be_used_is_named_in_words_and_as_data(stillwatt: Stillwatt, tmp_path: Path) -> None:
    path = tmp_path / "sizes.csv"
    rows = [
        f"{method}-{size},{method},{size},,0.7,,{teacher},{own},0.7,"
        for size in ("1B", "7B", "tiny")
        for method, teacher, own in (("sft", 0, 6.2), ("kd", 11, 5.2))
    ]
    path.write_text("\n".join((",".join(COLUMNS), *rows)) + "\n", encoding="utf-8")
    why = "nobody says how large student 'tiny' is (a name with 1B in it, or a column student_parameters)"
    (order,) = by_name(answer(stillwatt("rules", "test", "--table", str(path), "--json")))["small-students"]["tests"]
    assert order["unused"] == [{"label": "kd-tiny", "reason": why}]
    text = stillwatt("rules", "test", "--table", str(path)).stdout
    # the rule on artefacts has no case: its first gap is the reason, the others follow
    assert f"nothing here makes this comparison: kd-tiny: {why}" in text
    assert "not compared: kd-7B and kd-1B: they name the same teacher energy to the last digit" in text
    assert f"not compared: kd-tiny: {why}" in text
    untried = answer(stillwatt("rules", "mine", "--table", str(path), "--json"))["untried"]
    assert f"kd-tiny: {why}" in untried


# The published table.


def test_the_published_table_tests_what_it_can(stillwatt: Stillwatt) -> None:
    found = answer(stillwatt("rules", "test", "--table", "paper", "--json"))
    rules = by_name(found)
    assert {name: rule["status"] for name, rule in rules.items()} == {
        "one-off": "undetermined",
        "reuse": "undetermined",
        "small-students": "undetermined",
        "stops-sooner": "untested here",
        "alpha-first": "untested here",
        "short-answers": "untested here",
        "carbon-is-energy": "untested here",
    }
    ratios, gaps = rules["one-off"]["tests"]
    assert {case["about"]: round(case["effect"], 2) for case in ratios["cases"]} == {
        "kd-1b against sft-1b": 2.41,
        "kd-13b against sft-13b": 1.23,
        "synthetic-1b against sft-1b": 2.38,
        "synthetic-13b against sft-13b": 1.18,
    }
    assert {case["about"]: round(case["effect"], 2) for case in gaps["cases"]} == {
        "kd-13b against sft-13b": -0.17,
        "synthetic-13b against sft-13b": -0.14,
    }
    # nothing is known of the error of a single training's quality
    assert all((case["low"], case["high"]) == (None, None) for case in gaps["cases"])
    _, reuse = rules["reuse"]["tests"]
    assert {case["about"]: round(case["effect"], 1) for case in reuse["cases"]} == {
        "N* of kd-1b against sft-1b": 10.0,
        "N* of kd-13b against sft-13b": 3.5,
        "N* of synthetic-1b against sft-1b": 11.2,
        "N* of synthetic-13b against sft-13b": 2.4,
    }
    (order,) = rules["small-students"]["tests"]
    assert {case["about"]: round(case["effect"], 1) for case in order["cases"]} == {
        "N* of kd-1b against that of kd-13b": 2.8,
        "N* of synthetic-1b against that of synthetic-13b": 4.7,
    }


def test_the_published_tables_gaps_and_warning_signs_are_said(stillwatt: Stillwatt) -> None:
    found = answer(stillwatt("rules", "test", "--table", "paper", "--json"))
    rules = by_name(found)
    assert rules["one-off"]["tests"][0]["not_compared"] == [
        "kd-7b against sft-7b: the teacher's energy of kd-7b is unknown",
        "synthetic-7b against sft-7b: the teacher's energy of synthetic-7b is unknown",
    ]
    assert (
        "N* of kd-7b: the teacher's energy of kd-7b is unknown or 0"
        in rules["small-students"]["tests"][0]["not_compared"]
    )
    warnings = "\n".join(found["warnings"])
    assert "column j_per_token is the total over 30.0 million tokens in every row" in warnings
    assert "N* of kd-13b is at unlike quality: 0.82 against 0.99" in warnings
    assert "one seed: each label was trained once" in warnings


def test_nothing_is_mined_from_the_published_table(stillwatt: Stillwatt) -> None:
    found = answer(stillwatt("rules", "mine", "--table", "paper", "--json"))
    assert (found["tried"], found["mined"], found["largest_p"]) == (0, [], None)
    assert any(reason.startswith("statements on one seed, of kd-1b") for reason in found["untried"])


# Runs, and refusals.


@pytest.mark.parametrize("verb", ["test", "mine"])
def test_runs_are_read_from_the_ledger(stillwatt: Stillwatt, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    runs = {name: quickstart(run_id=name) for name in ("r1", "r2")}
    monkeypatch.setattr("stillwatt.workflows.analyse.show_run", lambda _, reference: runs[reference])
    found = answer(stillwatt("rules", verb, "r1", "r2", "--json"))
    assert found["source"] == "r1, r2"
    assert found["baseline"] == "sft"
    if verb == "test":
        # the same seed in both runs: repeats of the energy, one draw
        assert {rule["status"] for rule in found["rules"]} <= {"undetermined", "untested here"}
        assert by_name(found)["stops-sooner"]["tests"][1]["cases"][0]["effect"] == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("verb", ["test", "mine"])
@pytest.mark.parametrize("arguments", [(), ("latest", "--table", "paper")])
def test_runs_or_a_table_but_not_both(stillwatt: Stillwatt, verb: str, arguments: tuple[str, ...]) -> None:
    done = stillwatt("rules", verb, *arguments)
    assert done.exit_code == 2
    assert "name runs or a table, one of the two" in done.stderr


@pytest.mark.parametrize("verb", ["test", "mine"])
def test_what_to_name_is_told_of_the_verb_that_was_asked(verb: str, stillwatt: Stillwatt) -> None:
    assert f"`stillwatt rules {verb} latest`" in stillwatt("rules", verb).stderr
