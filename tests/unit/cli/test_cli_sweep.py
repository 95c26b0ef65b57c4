"""What a sweep looks like on the terminal and to programs, and what its folder stands for."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from stillwatt.analysis.trainings import Repeats
from stillwatt.cli.main import cli
from stillwatt.cli.sweep import _status, outcome_dict, outcome_lines
from stillwatt.config.load import sweep_recipe
from stillwatt.errors import UsageError
from stillwatt.workflows.analyse import runs_of_sweep
from stillwatt.workflows.sweep import SweepOutcome, experimentation
from stillwatt.workflows.trial_values import Spread
from stillwatt.workflows.trials import FAILED, FINISHED, PRUNED, Trial, keep, kept_trials

TABLE = """
[sweep]
recipe = "smoke_cpu"
arm = "kd"
method = "random"
trials = 2
seed = 1
objectives = ["energy", "loss"]
[sweep.parameters]
"train.learning_rate" = { low = 0.001, high = 0.01, log = true }
"""
GOOD = Trial(
    number=0, parameters={"train.learning_rate": 0.00123456}, status=FINISHED, run_id="r0", energy_j=1234.0,
    energy_low_j=1100.0, energy_high_j=1500.0, basis="modelled", complete=True, values={"energy": 200.0, "loss": 3.21},
)  # fmt: skip
ENDED = Trial(number=1, parameters={"train.learning_rate": 0.009}, status=PRUNED, run_id="r1", why_not="no energy")


@pytest.fixture
def outcome(tmp_path: Path) -> SweepOutcome:
    path = tmp_path / "sweep.toml"
    path.write_text(TABLE, encoding="utf-8")
    settings = sweep_recipe(path)[1].sweep
    assert settings is not None
    trials = (GOOD, ENDED)
    return SweepOutcome(
        folder=tmp_path, settings=settings, trials=trials, experimentation=experimentation(trials),
        stopped_by="the budget of 1 kJ: 1,234 J are spent", analysis=None,
    )  # fmt: skip


def test_a_row_a_trial_and_what_they_took_together(outcome: SweepOutcome) -> None:
    text = "\n".join(outcome_lines(outcome))
    assert "0      finished  0.001235             200         3.21         1,230 [1,100, 1,500] modelled  r0" in text
    assert "1      pruned    0.009                -           -            -                              r1" in text
    assert "trial 1 pruned: no energy" in text
    assert "least energy: trial 0, 200 J" in text
    assert "least loss: trial 0, 3.21 nats" in text
    assert "experimentation: not known: the energy of trial 1 is not known (no energy)" in text
    assert "ended by the budget of 1 kJ" in text
    assert not outcome.complete


def test_what_all_trials_took_has_its_interval_and_basis(outcome: SweepOutcome) -> None:
    known = replace(outcome, trials=(GOOD,), experimentation=experimentation((GOOD,)))
    assert "experimentation: 1,230 J [1,100, 1,500] modelled, of 1 trial (1 finished)" in outcome_lines(known)


def test_a_sweep_without_a_finished_trial_has_failed(outcome: SweepOutcome) -> None:
    failed = replace(GOOD, status=FAILED, values={})
    assert [_status(replace(outcome, trials=trials)) for trials in ((GOOD,), (GOOD, ENDED), (failed,))] == [0, 3, 1]


NEAR = Spread(low=0.3, high=3.5, random=0.2, basis="modelled")


def test_the_best_has_its_interval_and_says_whom_it_is_not_told_from(outcome: SweepOutcome) -> None:
    """Worked by hand: 2.098 less 1.889 is 0.209, and sqrt(0.2^2 + 0.2^2) is 0.283; of 3.0 it is 1.111."""
    trials = tuple(
        replace(GOOD, number=number, values={"energy": energy_j, "loss": 3.2}, spreads={"energy": NEAR})
        for number, energy_j in enumerate((2.098, 1.889, 3.0))
    )
    lines = outcome_lines(replace(outcome, trials=trials))
    assert "least energy: trial 1, 1.9 J [0.3, 3.5] modelled; cannot be told apart from trial 0" in lines
    assert "least loss: trial 0, 3.2 nats; its error is not known, so it cannot be told apart from the others" in lines
    assert any(line.endswith("within its repeatability, 10 % or more (method.md, eq. 28)") for line in lines)
    how = "from the spread between equal increments of one training"
    repeats = Repeats(rel=0.466, how=how)
    pooled = replace(outcome, trials=trials, repeats=repeats)
    assert any(
        f"within ±47% ({how}, all trials together) (method.md, eq. 28)" in line for line in outcome_lines(pooled)
    )
    assert (outcome_dict(pooled)["repeat_rel"], outcome_dict(outcome)["repeat_rel"]) == (0.466, None)
    assert "1.9 [0.3, 3.5] modelled" in lines[2]
    apart = tuple(trial for trial in trials if trial.number != 0)
    assert "least energy: trial 1, 1.9 J [0.3, 3.5] modelled" in outcome_lines(replace(outcome, trials=apart))


def test_a_trial_is_kept_with_how_well_it_is_known_and_an_older_one_without(tmp_path: Path) -> None:
    known = replace(GOOD, spreads={"energy": NEAR, "loss": Spread(low=None, high=None, random=None)})
    keep(tmp_path, known)
    assert kept_trials(tmp_path) == {0: known}
    (file,) = (tmp_path / "trials").glob("*.json")
    data = json.loads(file.read_text(encoding="utf-8"))
    del data["spreads"]
    file.write_text(json.dumps(data), encoding="utf-8")
    assert kept_trials(tmp_path) == {0: GOOD}


def test_for_programs_an_unknown_sum_is_absent(outcome: SweepOutcome) -> None:
    found = json.loads(json.dumps(outcome_dict(outcome)))
    assert found["experimentation_j"] == {"absent": "the energy of trial 1 is not known (no energy)"}
    assert found["trials"][0]["values"] == {"energy": 200.0, "loss": 3.21}


def test_a_sweeps_folder_stands_for_its_finished_trials(tmp_path: Path) -> None:
    assert runs_of_sweep(["latest"], "runs") == (("latest",), "runs")
    (tmp_path / "sweep.json").write_text("{}", encoding="utf-8")
    keep(tmp_path, ENDED)
    with pytest.raises(UsageError, match="no trial of this sweep is finished"):
        runs_of_sweep([str(tmp_path)], "runs")
    keep(tmp_path, GOOD)
    assert runs_of_sweep([str(tmp_path)], "runs") == (("r0",), str(tmp_path))


@pytest.mark.parametrize(("missing", "more", "status"), [("optuna", (), 1), ("ray", ("--engine", "ray"), 2)])
def test_what_is_not_installed_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, more: tuple[str, ...], status: int
) -> None:
    if missing == "ray":
        pytest.importorskip("optuna", reason="the sweep extra is not installed")
    (tmp_path / "sweep.toml").write_text(TABLE, encoding="utf-8")
    monkeypatch.setitem(sys.modules, missing, None)
    command = ["sweep", str(tmp_path / "sweep.toml"), "--runs", str(tmp_path / "runs"), *more]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == status
    extra = {"optuna": "sweep", "ray": "ray"}[missing]
    assert f"{missing} is not installed; run: pip install 'stillwatt[{extra}]'" in done.stderr
