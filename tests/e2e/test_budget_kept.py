"""Budgets held against a real run's own sampling: an instrument of exactly 100 W, and what the books say afterwards."""

from __future__ import annotations

import gc
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the distill extra is not installed")

from stillwatt.config.bundled import find_recipe
from stillwatt.config.load import load_recipe
from stillwatt.errors import BudgetError
from stillwatt.pipelines.progress import SilentProgress
from stillwatt.records import RunRecord, Total
from stillwatt.report.budget_table import budgets_table
from stillwatt.workflows.pipeline import run_recipe

pytestmark = pytest.mark.slow
WATTS = 100.0
SLACK_J = 30.0
"""What a busy machine may delay the last steps and the last stages by, 0.3 s: as much for a budget of any size, and
here, where a budget is of seconds, some per cent of it. benchmarks/bench_budget.py measures what it comes to."""
FAST = (
    "meter.sensors=['synthetic']",
    f"meter.options.synthetic={{channels=[{{watts={WATTS}}}]}}",
    "meter.idle_baseline_s=0.3",
    "train.checkpoints=[1.0]",
    "data.train_tokens=31744",
    "train.batch_size=1",
)


@pytest.fixture(scope="module", autouse=True)
def quick_process() -> Iterator[None]:
    """What the first run of a process imports takes seconds, and so does clearing up after a whole test suite: these
    budgets are of seconds."""
    importlib.import_module("accelerate")

    from stillwatt.pipelines.model_sources import resolve_model
    from stillwatt.pipelines.models import load_model, load_tokenizer

    place = resolve_model("tiny-random", revision=None, announce=lambda _: None)
    load_model(place.directory, dtype="float32")
    load_tokenizer(place.directory)
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def run_smoke(folder: Path, *changes: str) -> tuple[RunRecord, list[str]]:
    """The smoke recipe with the arms `sft` and `gkd` alone, on an instrument whose joules are known."""
    text = find_recipe("smoke_cpu").read_text(encoding="utf-8")
    for table in ("teacher_logits", "teacher_generate"):
        text = re.sub(rf"\[{table}\]\n(?:[^\[\n].*\n|\n)+", "", text)
    for arm in ("kd", "synthetic"):
        text = re.sub(rf'\[\[arms\]\]\nname = "{arm}"\n(?:[^\[\n].*\n|\n)+', "", text)
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    said: list[str] = []
    recipe = load_recipe(path, [*FAST, *changes])
    outcome = run_recipe(recipe, runs_dir=folder, fresh=True, progress=SilentProgress(), announce=said.append)
    assert outcome is not None
    return outcome.record, said


def trained_j(record: RunRecord) -> dict[str, float]:
    """Joules of each arm's training, with all that lies inside it."""
    found = {}
    for stage in record.stages:
        if stage.kind == "student_train":
            assert isinstance(stage.gross, Total)
            found[stage.labels["arm"]] = stage.gross.value_j
    return found


def test_arms_of_equal_joules_end_at_their_budget(tmp_path: Path) -> None:
    record, said = run_smoke(tmp_path, 'budgets.each_arm="300 J"')
    used = trained_j(record)
    assert used == {"sft": pytest.approx(300.0, abs=SLACK_J), "gkd": pytest.approx(300.0, abs=SLACK_J)}
    told = {row["name"]: row for row in record.to_dict()["budgets"]}
    assert {name: row["spent"] for name, row in told.items()} == pytest.approx(used)
    for name, row in told.items():
        assert (row["of"], row["amount"], row["said"], row["reached"]) == ("arm", 300.0, "300 J", True), name
        # whole steps would have kept it this closely; the rest is what was not foreseen
        assert 0.0 < row["half_step"] < 0.1 * 300.0
    (note,) = [line for line in budgets_table({"run": record.to_dict()}).note.split(". ") if "Equal-joule" in line]
    assert note.startswith("Equal-joule arms: 2 of 300 J, at most ")
    assert [line for line in said if "stopped at its budget of 300 J" in line]
    assert any("modelled at least in part" in line for line in said)
    stages = {stage.name: stage for stage in record.stages}
    tokens = [stages[f"train.{arm}.1.0"].workload["tokens"] for arm in ("sft", "gkd")]
    assert tokens[0] > 1.3 * tokens[1]  # writing and the teacher take their share of the same joules
    for arm in ("sft", "gkd"):
        assert stages[f"evaluate.{arm}.1.0"].status == "ended"
        assert stages[f"train.{arm}.1.0"].results["steps_done"] < 992


def test_a_run_ends_at_its_budget_with_its_last_arm_evaluated(tmp_path: Path) -> None:
    amount = 800.0
    try:
        record, said = run_smoke(tmp_path, f'budget="{amount:.0f} J"')
    except BudgetError:
        amount *= 4.0  # on a machine so busy that less did not take it to the first step
        record, said = run_smoke(tmp_path, f'budget="{amount:.0f} J"')
    assert isinstance(record.total, Total)
    assert record.total.value_j == pytest.approx(amount, abs=0.02 * amount + SLACK_J)
    (row,) = record.to_dict()["budgets"]
    assert (row["of"], row["unit"], row["spent"]) == ("run", "J", record.total.value_j)
    stages = [stage for stage in record.stages if stage.parent_id is None]
    *_, trained, evaluated, rest = stages
    assert (trained.kind, evaluated.kind, rest.name) == ("student_train", "evaluate", "idle_after")
    # it was stopped, or was done when too little was left for the next arm
    assert any(f"the run's budget of {amount:.0f} J" in t for t in (*said, trained.results.get("stopped_by", "")))
    assert evaluated.results["scores"]
    assert any("the serving load is left out" in line for line in said)
    checkpoint = tmp_path / record.run_id / "state" / "checkpoints" / trained.labels["arm"] / "1.0"
    assert {"model.safetensors", "tokenizer.json"} <= {path.name for path in checkpoint.iterdir()}


def test_a_serving_load_that_uses_the_budget_up_is_ended_and_the_rest_left_out(tmp_path: Path) -> None:
    """All text is trained on for less than the budget; serving would take fifty times as much."""
    text = ('budget="1500 J"', "data.train_tokens=512", "serve.prompts=4000", "serve.new_tokens=32")
    record, said = run_smoke(tmp_path, *text)
    assert isinstance(record.total, Total)
    assert record.total.value_j == pytest.approx(1500.0, abs=0.02 * 1500.0 + 2 * SLACK_J)
    stages = {stage.name: stage for stage in record.stages}
    assert (stages["train.gkd.1.0"].status, stages["serve.teacher"].status) == ("ended", "failed")
    assert "serve.student" not in stages
    for model in ("teacher", "student"):
        assert any(re.match(rf"serve\.{model} is left out: 1,[0-9]+ J of it are spent", line) for line in said), said


def test_a_budget_that_is_spent_before_any_step_says_so(tmp_path: Path) -> None:
    """Whichever stage the first look at the books falls into: this machine's pace decides."""
    told = (
        r"the budget of 1 J cannot be kept: [0-9.,]+ J of it are spent (at [a-z_.]+, )?before the first training step"
    )
    with pytest.raises(BudgetError, match=told):
        run_smoke(tmp_path, 'budget="1 J"')
