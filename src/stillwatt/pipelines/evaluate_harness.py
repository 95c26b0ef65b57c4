"""Scores from lm-evaluation-harness, run on a model that is already loaded."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stillwatt.errors import MissingExtraError, StillwattError
from stillwatt.pipelines.models import CausalModel
from stillwatt.pipelines.spec_evaluate import EvaluateSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["harness_scores"]


def harness_scores(model: CausalModel, tokenizer: PreTrainedTokenizerBase, spec: EvaluateSpec) -> list[dict[str, Any]]:
    """Run the recipe's harness tasks; one score for each task and metric, named `lm_eval:<task>:<metric>`.

    Raises:
        MissingExtraError: The harness is not installed.
        StillwattError: A task that it does not know, or one that fails.
    """
    try:
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ImportError as err:
        raise MissingExtraError("lm-eval", "evaluate") from err
    local = spec.lm_eval_include_path is not None
    try:
        # reading the harness' own thousands of tasks takes seconds, so they are read only where no folder is named
        manager = TaskManager(include_path=spec.lm_eval_include_path, include_defaults=not local)
        # the harness and what it calls draw bars of their own, over ours
        with contextlib.redirect_stderr(io.StringIO()):
            found = simple_evaluate(
                model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=spec.batch_size),
                tasks=list(spec.lm_eval_tasks),
                task_manager=manager,
                limit=spec.lm_eval_limit,
                random_seed=spec.seed,
                numpy_random_seed=spec.seed,
                torch_random_seed=spec.seed,
                fewshot_random_seed=spec.seed,
                log_samples=False,
                verbosity="ERROR",
            )
    except (OSError, ValueError, KeyError) as err:
        raise StillwattError(f"lm-evaluation-harness failed on {', '.join(spec.lm_eval_tasks)}: {err}") from err
    return [score for task in spec.lm_eval_tasks for score in _task_scores(task, found)]


def _task_scores(task: str, found: Mapping[str, Any]) -> list[dict[str, Any]]:
    row: Mapping[str, Any] = found["results"][task]
    counted = found.get("n-samples", {}).get(task, {})
    directions = found.get("higher_is_better", {}).get(task, {})
    scores = []
    for key, value in row.items():
        metric, _, filtered = key.partition(",")
        if not filtered or metric.endswith("_stderr") or not isinstance(value, (int, float)):
            continue
        error = row.get(f"{metric}_stderr,{filtered}")
        name = metric if filtered == "none" else f"{metric}[{filtered}]"
        scores.append(
            {
                "task": f"lm_eval:{task}:{name}",
                "value": float(value),
                # the harness writes "N/A" where it has no standard error; that is unknown, not zero
                "se": float(error) if isinstance(error, (int, float)) and math.isfinite(error) else None,
                "n": int(counted.get("effective", 0)),
                "higher_is_better": bool(directions.get(metric, True)),
            }
        )
    return scores
