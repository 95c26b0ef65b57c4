"""`stillwatt ledger compare`: runs against the first one named, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import pytest
from click.testing import Result

from run_records import run_record, stage
from stillwatt.errors import RunNotFoundError
from stillwatt.records import RunRecord, StageKind
from stillwatt.workflows import books

Stillwatt = Callable[..., Result]


def measured(name: str, *joules: float, tokens: float | None = None) -> RunRecord:
    """A run of as many stages, each at 10 W: what a model is off by is then alike."""
    stages = [
        stage(f"t{index}", f"step{index}", StageKind.OTHER, joules=each, tokens=tokens, duration_s=each / 10.0)
        for index, each in enumerate(joules)
    ]
    return run_record(stages, name=name, run_id=f"id-{name}", environment={"host": "node1"})


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Mapping[str, RunRecord]:
    known = {
        one.name: one
        for one in (
            measured("a", 100.0, tokens=1000.0),
            measured("b", 300.0, tokens=1000.0),
            measured("b,1", 310.0),
            measured("near", 101.0, 5.0),
            measured("none"),
        )
    }

    def show_run(runs_dir: str, reference: str) -> RunRecord:
        if reference not in known:
            raise RunNotFoundError(reference, runs_dir, list(known))
        return known[reference]

    monkeypatch.setattr(books, "show_run", show_run)
    monkeypatch.setattr(books, "list_runs", lambda runs_dir: list(known.values()))
    return known


@pytest.mark.usefixtures("runs")
def test_the_answer_comes_first(stillwatt: Stillwatt) -> None:
    result = stillwatt("ledger", "compare", "a", "b")
    first, second, _, head, *_ = result.stdout.splitlines()
    assert first.startswith("b took 3.00 [2.60, 3.47] times the energy of a")
    assert second.startswith("  by token: 3.00 [")
    assert head.split()[:4] == ["run", "energy", "basis", "time"]
    assert "cannot be told" not in result.stdout
    assert result.exit_code == 0


@pytest.mark.usefixtures("runs")
def test_what_cannot_be_told_apart_is_said(stillwatt: Stillwatt) -> None:
    result = stillwatt("ledger", "compare", "a", "near")
    assert "times the energy of a: which of them took more cannot be told" in " ".join(result.stdout.split())
    assert any(line.split()[:3] == ["stage", "a", "near"] for line in result.stdout.splitlines())


@pytest.mark.usefixtures("runs")
def test_json_is_alone_on_stdout(stillwatt: Stillwatt) -> None:
    answer = json.loads(stillwatt("ledger", "compare", "a", "b", "--json").stdout)
    assert answer["sides"][1]["times_the_first"]["value"] == pytest.approx(3.0)


@pytest.mark.usefixtures("runs")
def test_an_energy_that_is_not_known_is_a_reason_and_status_3(stillwatt: Stillwatt) -> None:
    result = stillwatt("ledger", "compare", "a", "none")
    assert result.exit_code == 3
    assert result.stdout.startswith(
        "none against a: not known: run id-none has no stages, and work is what lies in them"
    )
    assert stillwatt("ledger", "compare", "a", "none", "--json").exit_code == 3


@pytest.mark.usefixtures("runs")
def test_commas_join_repeats_and_a_name_may_hold_one(stillwatt: Stillwatt) -> None:
    pytest.importorskip("scipy")
    joined = json.loads(stillwatt("ledger", "compare", "a", "b,near", "--json").stdout)
    assert joined["sides"][1]["runs"] == ["id-b", "id-near"]
    named = json.loads(stillwatt("ledger", "compare", "a", "b,1", "--json").stdout)
    assert named["sides"][1]["runs"] == ["id-b,1"]


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("asked", "words"),
    [(["a"], "name two runs or more"), (["a", "a"], "run id-a is named twice"), (["a", "c"], "no run 'c' in runs")],
)
def test_misuse_is_told_in_a_sentence(asked: list[str], words: str, stillwatt: Stillwatt) -> None:
    result = stillwatt("ledger", "compare", *asked)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
