"""Runs that measured one machine at the same time are told of each other, so that nobody adds them up."""

from __future__ import annotations

from pathlib import Path

import pytest

from run_dirs import BOOT, ENVIRONMENT, SyntheticRun, constant_counter, cpu_counter
from stillwatt.report.lifecycle_text import lifecycle_text
from stillwatt.units import J_PER_UJ
from stillwatt.workflows.account import Wanted, account
from stillwatt.workflows.beside import counted_twice
from stillwatt.workflows.books import show_run


def measured(runs_dir: Path, number: int, start_s: float, *, boot: str = BOOT, length_s: float = 10.0) -> str:
    run = SyntheticRun(runs_dir, name=f"run{number}", number=number, environment={**ENVIRONMENT, "boot_id": boot})
    session = run.session(start_s=start_s, boot=boot)
    session.sampler([cpu_counter()])
    session.stage("work", start_s + 1.0, start_s + length_s - 1.0)
    counter = constant_counter(50.0, J_PER_UJ)
    session.samples("cpu0.energy_counter", counter, until_s=start_s + length_s)
    session.end(start_s + length_s)
    return run.run_id


def test_two_at_once_know_of_each_other(runs_dir: Path) -> None:
    first, second = measured(runs_dir, 1, 100.0), measured(runs_dir, 2, 106.0)
    for one, other in ((first, second), (second, first)):
        (said,) = [line for line in show_run(runs_dir, one).warnings if "at the same time" in line]
        assert said.startswith(f"run {other} measured cpu0 of this machine too, for 4 s at the same time")
        assert "counts it twice" in said
    runs = [show_run(runs_dir, run_id) for run_id in (first, second)]
    (twice,) = counted_twice(runs)
    assert twice.startswith(f"run {first} and the other are added up: run {second} measured cpu0")
    by_rule = show_run(runs_dir, first, rule="even")
    assert any(other in line for line in by_rule.warnings for other in (second,))


@pytest.mark.parametrize(("start_s", "boot"), [(109.8, BOOT), (115.0, BOOT), (106.0, "another-boot"), (106.0, "")])
def test_one_after_the_other_or_elsewhere_is_no_concern(runs_dir: Path, start_s: float, boot: str) -> None:
    first = measured(runs_dir, 1, 100.0)
    second = measured(runs_dir, 2, start_s, boot=boot)
    for one in (first, second):
        assert not [line for line in show_run(runs_dir, one).warnings if "at the same time" in line]


def test_an_account_of_both_carries_it_and_the_text_cautions_by_that_and_not_by_words(runs_dir: Path) -> None:
    both, wanted = [measured(runs_dir, 1, 100.0), measured(runs_dir, 2, 106.0)], Wanted(region="FRA", draws=200)
    data = account(both, wanted, runs_dir=runs_dir)
    about = data["goal_and_scope"]["about"]
    (said,) = about["counted_twice"]
    assert said in about["assumptions"]
    (line,) = [line for line in lifecycle_text(data, columns=2000).splitlines() if "caution: " in line]
    assert said in line
    about["counted_twice"] = ["in other words"]
    assert "caution: in other words" in lifecycle_text(data, columns=2000)
    one = account(both[:1], wanted, runs_dir=runs_dir)
    one["goal_and_scope"]["about"]["assumptions"].append("nobody counts it twice")
    assert "counted_twice" not in one["goal_and_scope"]["about"]
    assert "caution: " not in lifecycle_text(one, columns=2000)
