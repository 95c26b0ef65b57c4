from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from stillwatt.errors import StillwattError, UnknownNameError
from stillwatt.pipelines import evaluate, prepare_data
from stillwatt.pipelines.corpus import Prepared
from stillwatt.pipelines.evaluate import choice_score
from stillwatt.pipelines.evaluate_harness import harness_scores
from stillwatt.pipelines.model_sources import resolve_model
from stillwatt.pipelines.models import CausalModel, open_place
from stillwatt.pipelines.ranks import Ranks
from stillwatt.pipelines.spec_evaluate import EvaluateSpec
from tiny_models import CountingStage, CountingTask, smoke_spec

_SPEC = smoke_spec().evaluate


@pytest.fixture
def opened() -> tuple[CausalModel, Any]:
    return open_place(resolve_model("tiny-random", revision=None, announce=lambda _: None), dtype="float32")


@pytest.fixture
def data(tmp_path: Path, opened: tuple[CausalModel, Any]) -> Prepared:
    spec = smoke_spec()
    prepare_data.make(spec.data, spec.evaluate, opened[1], tmp_path / "data", task=CountingTask())
    return prepare_data.load(tmp_path / "data")


_TASK = """
task: tiny_mc
dataset_path: json
dataset_kwargs: {{data_files: {{test: {path}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{label}}}}"
target_delimiter: " "
num_fewshot: 0
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
metadata: {{version: 1.0}}
"""


@pytest.mark.slow
def test_harness_tasks_are_scored_beside_our_own(
    opened: tuple[CausalModel, Any], data: Prepared, tmp_path: Path
) -> None:
    pytest.importorskip("lm_eval")
    rows = [{"question": f"{n}?", "choices": ["a", "b", "c"], "label": n % 3} for n in range(12)]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "tiny_mc.yaml").write_text(_TASK.format(path=tmp_path / "rows.jsonl"))
    spec = dataclasses.replace(
        _SPEC, lm_eval_tasks=("tiny_mc",), lm_eval_include_path=str(tmp_path / "tasks"), lm_eval_limit=9
    )
    scores = evaluate.make(*opened, data, spec, stage=CountingStage(), task=CountingTask(), ranks=Ranks())
    found = {score["task"]: score for score in scores}
    assert set(found) == {"perplexity", "choice4", "lm_eval:tiny_mc:acc", "lm_eval:tiny_mc:acc_norm"}
    accuracy = found["lm_eval:tiny_mc:acc"]
    assert accuracy["n"] == 9
    assert accuracy["higher_is_better"] is True
    assert accuracy["value"] * 9 == pytest.approx(round(accuracy["value"] * 9))
    assert accuracy["se"] == pytest.approx(math.sqrt(accuracy["value"] * (1 - accuracy["value"]) / 8), rel=1e-6)


_HEAD = """
task: {name}
{more}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
doc_to_text: {text}
num_fewshot: 0
metadata: {{version: 1.0}}
"""
_CHOICE = """
output_type: multiple_choice
doc_to_choice: "{{choices}}"
doc_to_target: "{{label}}"
target_delimiter: " "
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""
_WRITTEN = """
output_type: generate_until
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 4}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""
_GROUP = """
group: both
task: [first, second]
aggregate_metric_list:
  - {metric: acc, aggregation: mean, weight_by_size: true}
metadata: {version: 1.0}
"""
_ASKED = '"Question: {{question}}\\nAnswer:"'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tasks of every kind, a group, and a tag."""
    pytest.importorskip("lm_eval")
    made = tmp_path_factory.mktemp("tasks")
    rows = [{"question": f"{n}?", "choices": ["a", "b", "c"], "label": n % 3, "answer": "never"} for n in range(12)]
    (made / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    kinds = {"first": f"tag: tagged{_CHOICE}", "second": f"tag: tagged{_CHOICE}", "written": _WRITTEN}
    for name, more in kinds.items():
        text = _HEAD.format(name=name, more=more, rows=made / "rows.jsonl", text=_ASKED)
        (made / f"{name}.yaml").write_text(text, encoding="utf-8")
    text = _HEAD.format(name="broken", more=_CHOICE, rows=made / "rows.jsonl", text='"{{ question"')
    (made / "broken.yaml").write_text(text, encoding="utf-8")
    (made / "both.yaml").write_text(_GROUP, encoding="utf-8")
    return made


def _scores(
    opened: tuple[CausalModel, Any], folder: Path, *tasks: str, stage: CountingStage | None = None
) -> dict[str, dict[str, Any]]:
    spec: EvaluateSpec = dataclasses.replace(
        _SPEC, lm_eval_tasks=tasks, lm_eval_include_path=str(folder), lm_eval_limit=6
    )
    scores = harness_scores(*opened, spec, stage=stage or CountingStage(), ranks=Ranks())
    return {score["task"]: score for score in scores}


@pytest.mark.slow
def test_a_tag_is_its_tasks_and_none_is_scored_twice(opened: tuple[CausalModel, Any], folder: Path) -> None:
    found = _scores(opened, folder, "tagged", "second")
    assert list(found) == ["lm_eval:first:acc", "lm_eval:second:acc"]


@pytest.mark.slow
def test_a_task_that_is_not_there_suggests_the_nearest(opened: tuple[CausalModel, Any], folder: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"evaluate\.lm_eval_tasks: unknown task 'frist'; did you mean 'first'"):
        _scores(opened, folder, "frist")


@pytest.mark.slow
def test_a_broken_template_is_one_sentence(opened: tuple[CausalModel, Any], folder: Path) -> None:
    with pytest.raises(StillwattError, match="lm-evaluation-harness failed on broken: unexpected end of template"):
        _scores(opened, folder, "broken")


@pytest.mark.slow
def test_tokens_that_the_harness_reads_and_writes_are_counted(opened: tuple[CausalModel, Any], folder: Path) -> None:
    """Tokens are bytes here: `Question: 3?`, a line's end, `Answer:`, a space, and an option of one letter."""
    stage = CountingStage()
    _scores(opened, folder, "first", stage=stage)
    context = len("Question: 3?\nAnswer:")
    # all options of a question are read off one pass, which ends before the letter
    assert stage.counts == {"tokens": 6 * (context + 1)}
    stage = CountingStage()
    _scores(opened, folder, "written", stage=stage)
    new = stage.counts["generated_tokens"]
    assert 6 <= new <= 6 * 4
    assert stage.counts == {"tokens": 6 * context + new, "generated_tokens": new}


@pytest.mark.slow
def test_what_is_counted_is_what_went_through_the_model(
    opened: tuple[CausalModel, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    forward = opened[0].forward

    def watched(ids: Any, *args: Any, **more: Any) -> Any:
        seen.append(int(ids.numel()))
        return forward(ids, *args, **more)

    monkeypatch.setattr(opened[0], "forward", watched)
    stage = CountingStage()
    _scores(opened, folder, "first", stage=stage)
    assert sum(seen) == stage.counts["tokens"]  # equally long, so that there is no padding


@pytest.mark.slow
def test_a_share_of_none_or_all_is_not_certain_and_a_group_counts_its_questions(
    opened: tuple[CausalModel, Any], folder: Path
) -> None:
    found = _scores(opened, folder, "written", "both")
    none = found["lm_eval:written:exact_match"]
    assert (none["value"], none["n"]) == (0.0, 6)
    assert none["se"] == pytest.approx(choice_score([False] * 6)["se"])
    both = found["lm_eval:both:acc"]
    assert both["n"] == 12
    assert 0.0 < both["value"] < 1.0
    assert both["se"] > 0.0
