"""Scores from lm-evaluation-harness, run on a model that is already loaded."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from stillwatt.errors import MissingExtraError, StillwattError, UnknownNameError
from stillwatt.metering.meter import Stage
from stillwatt.pipelines.evaluate import shrunk_error
from stillwatt.pipelines.models import CausalModel
from stillwatt.pipelines.ranks import Ranks
from stillwatt.pipelines.spec_evaluate import EvaluateSpec

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

__all__ = ["harness_scores"]

_SHARES = frozenset({"exact_match", "em", "pass@1", "pass_at_1", "contains", "quasi_exact_match"})
"""Metrics beside accuracies that are 0 or 1 for each question."""


def harness_scores(
    model: CausalModel,
    tokenizer: PreTrainedTokenizerBase,
    spec: EvaluateSpec,
    *,
    stage: Stage,
    ranks: Ranks,
    has_bos: bool = False,
) -> list[dict[str, Any]]:
    """Run the recipe's harness tasks; one score for each task and metric, named `lm_eval:<task>:<metric>`.

    A group has the scores that the harness makes of its tasks'; a tag is its tasks.

    Ranks share what the harness asks of the model, and the first one has the scores; on the others there are none. Each
    counts its own `tokens`, read and written, and `generated_tokens`. With `has_bos` the harness is told to begin every
    text with the tokenizer's BOS, which its older releases do not do by themselves.

    Raises:
        MissingExtraError: The harness is not installed.
        UnknownNameError: A task, group or tag that it does not know.
        StillwattError: A task that fails.
    """
    try:
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ImportError as err:
        raise MissingExtraError("lm-eval", "evaluate") from err
    from jinja2.exceptions import TemplateError

    local = spec.lm_eval_include_path is not None
    try:
        # reading the harness' own thousands of tasks takes seconds, so they are read only where no folder is named
        manager = TaskManager(include_path=spec.lm_eval_include_path, include_defaults=not local)
        tasks = _tasks(spec.lm_eval_tasks, manager)
        # the harness and what it calls draw bars of their own, over ours
        with contextlib.redirect_stderr(io.StringIO()):
            found = simple_evaluate(
                model=_shared(_counted(HFLM, stage), ranks)(
                    pretrained=model,
                    tokenizer=tokenizer,
                    batch_size=spec.batch_size,
                    **({"add_bos_token": True} if has_bos else {}),
                ),
                tasks=tasks,
                task_manager=manager,
                limit=spec.lm_eval_limit,
                random_seed=spec.seed,
                numpy_random_seed=spec.seed,
                torch_random_seed=spec.seed,
                fewshot_random_seed=spec.seed,
                log_samples=False,
                verbosity="ERROR",
            )
    except (OSError, ValueError, KeyError, TemplateError) as err:
        raise StillwattError(f"lm-evaluation-harness failed on {', '.join(spec.lm_eval_tasks)}: {err}") from err
    # the harness gives results on the first process of each machine
    return [score for task in tasks for score in _task_scores(task, found)] if ranks.is_first else []


def _tasks(asked: Sequence[str], manager: Any) -> list[str]:
    """The tasks and groups that have scores of their own: a tag stands for its tasks, and the harness scores none.

    Raises:
        UnknownNameError: A name that is no task, group or tag.
    """
    tags = set(manager.all_tags)
    for name in asked:
        if name not in manager.task_index:
            raise UnknownNameError("task", name, manager.all_tasks, place="evaluate.lm_eval_tasks")
    named = [sorted(manager.task_index[name].tags) if name in tags else [name] for name in asked]
    return list(dict.fromkeys(task for tasks in named for task in tasks))


def _counted(plain: type[Any], stage: Stage) -> type[Any]:
    """The harness' own model, which counts the tokens that go through it; padding is none."""

    class Counted(plain):  # type: ignore[misc]  # mypy takes no base that only a run knows: the harness is optional
        def _loglikelihood_tokens(self, requests: Sequence[Any], **settings: Any) -> list[Any]:
            read = [tuple([*context, *asked][:-1][-self.max_length :]) for _, context, asked in requests]
            # options that differ in their last token alone are read off one pass
            passed = set(read) if self.logits_cache else read
            stage.add(tokens=sum(map(len, passed)))
            answers: list[Any] = super()._loglikelihood_tokens(requests, **settings)
            return answers

        def _model_generate(self, context: Tensor, *args: Any, **settings: Any) -> Tensor:
            written: Tensor = super()._model_generate(context, *args, **settings)
            mask = settings.get("attention_mask")
            read = context.numel() if mask is None else int(mask.sum())
            new = _num_written(written[:, context.shape[1] :], self.tokenizer.pad_token_id, self.eot_token_id)
            stage.add(tokens=read + new, generated_tokens=new)
            return written

    return Counted


def _num_written(ids_BT: Tensor, pad_id: int, end_id: int) -> int:
    """Tokens without the padding behind them, each text's end token among them.

    >>> import torch
    >>> _num_written(torch.tensor([[5, 0, 0], [5, 6, 7]]), 0, 0), _num_written(torch.tensor([[5, 1, 0]]), 0, 1)
    (5, 2)
    """
    padded_B = (ids_BT.flip(1) == pad_id).long().cumprod(1).sum(1)
    ends = int((padded_B > 0).sum()) if pad_id == end_id else 0
    return ids_BT.numel() - int(padded_B.sum()) + ends


def _shared(plain: type[Any], ranks: Ranks) -> type[Any]:
    """The harness' own model, asked for a part of the answers on each rank; each rank is told all of them.

    The harness is left to believe that it runs alone: its own way of sharing deals out questions, which ends in an
    error where there are fewer of them than ranks.
    """
    if ranks.count == 1:
        return plain

    class Shared(plain):  # type: ignore[misc]  # as `Counted`: its base is only known in a run
        def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[Any]:
            return ranks.divide(requests, partial(super().loglikelihood, disable_tqdm=disable_tqdm))

        def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[Any]:
            return ranks.divide(requests, partial(super().loglikelihood_rolling, disable_tqdm=disable_tqdm))

        def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[Any]:
            return ranks.divide(requests, partial(super().generate_until, disable_tqdm=disable_tqdm))

    return Shared


def _task_scores(task: str, found: Mapping[str, Any]) -> list[dict[str, Any]]:
    row: Mapping[str, Any] = found["results"][task]
    counted = found.get("n-samples", {}).get(task, {})
    directions = found.get("higher_is_better", {}).get(task, {})
    scores = []
    for key, value in row.items():
        metric, _, filtered = key.partition(",")
        if not filtered or metric.endswith("_stderr") or not isinstance(value, (int, float)):
            continue
        error, count = row.get(f"{metric}_stderr,{filtered}"), _count(row, key, counted)
        name = metric if filtered == "none" else f"{metric}[{filtered}]"
        scores.append(
            {
                "task": f"lm_eval:{task}:{name}",
                "value": float(value),
                "se": _standard_error(metric, float(value), error, count),
                "n": count,
                "higher_is_better": bool(directions.get(metric, True)),
            }
        )
    return scores


def _count(row: Mapping[str, Any], key: str, counted: Mapping[str, Any]) -> int | None:
    """Questions behind a score; of a group, those of the tasks that have it."""
    found = counted.get("effective") or row.get("sample_count", {}).get(key) or row.get("sample_len")
    return None if found is None else int(found)


def _standard_error(metric: str, value: float, error: Any, count: int | None) -> float | None:
    """The harness' own, but for a share of right answers that it claims to be certain of (method.md, eq. 45)."""
    if not isinstance(error, (int, float)) or not math.isfinite(error):
        return None  # the harness writes "N/A" where it has none; that is unknown, not zero
    if error == 0.0 and value in (0.0, 1.0) and count and _is_share(metric):
        return shrunk_error(round(value * count), count)
    return float(error)


def _is_share(metric: str) -> bool:
    """Whether a metric is the mean of a right or wrong for each question.

    >>> [_is_share(name) for name in ("acc_norm", "exact_match", "inst_level_strict_acc", "f1", "accordance")]
    [True, True, True, False, False]
    """
    return metric in _SHARES or "acc" in metric.split("_")
