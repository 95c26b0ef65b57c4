"""From what lm-evaluation-harness reports to scores; pure functions of its results.

A score without a direction or a standard error says why, and is never taken for one that has it.
"""

from __future__ import annotations

import hashlib
import math
import numbers
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stillwatt.pipelines.evaluate import shrunk_error
from stillwatt.pipelines.spec_evaluate import EvaluateSpec

__all__ = ["Asked", "task_scores"]

_SHARES = frozenset({"exact_match", "em", "pass@1", "pass_at_1", "contains", "quasi_exact_match"})
"""Metrics beside accuracies that are 0 or 1 for each question."""
_NO_SCORE = frozenset({"bypass"})
"""Metrics that stand for none."""
_LETTERS = 8
"""Of the hash of a system message, in a score's name."""
_NO_DIRECTION = (
    "its tasks do not say, or do not agree, whether higher is better (`higher_is_better` in their metric_list)"
)
_NO_ERROR = "lm-evaluation-harness knows no standard error of this metric"
_NO_SPREAD = "all questions scored the same, which tells nothing of the error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How a task was asked, or all tasks of a group."""

    spec: EvaluateSpec
    tasks: tuple[str, ...]
    """Names of the tasks; the one itself where it is no group."""
    few_shot: tuple[int, ...]
    """Numbers of examples that were shown, ascending; one where all tasks have the same."""
    is_own: bool
    """Whether these are what the tasks say themselves."""
    writes: bool
    """Whether any of them lets the model write."""

    @property
    def otherwise(self) -> str:
        """What was asked otherwise than the tasks say, as it stands behind their names; empty where nothing was.

        Scores that were taken otherwise are scores of other tasks: they are never compared.
        """
        spec, shots = self.spec, max(self.few_shot)
        parts = [] if self.is_own else [f"{shots}-shot"]
        if spec.lm_eval_chat_template:
            parts.append("chat" if spec.lm_eval_few_shot_as_turns or not shots else "chat-in-one-turn")
        if spec.lm_eval_system is not None:
            parts.append(f"system-{hashlib.sha256(spec.lm_eval_system.encode('utf-8')).hexdigest()[:_LETTERS]}")
        if self.writes and spec.lm_eval_generation is not None:
            told = spec.lm_eval_generation.told
            parts += [f"{name}={value:g}" for name, value in told.items() if name != "do_sample"]
        return f"@{','.join(parts)}" if parts else ""


def task_scores(name: str, found: Mapping[str, Any], asked: Asked) -> list[dict[str, Any]]:
    """Every metric that a task or a group reports, through every filter.

    Args:
        name: The task or the group.
        found: The harness' results.
        asked: How it was asked.

    Returns:
        Entries {task, value, se, n, higher_is_better, asked}. Where it has no standard error, `se` is None and
        `se_absent` says why; where nobody says which way is better, the entry is not `in_quality`, and `beside` says
        so. A value that is no finite number is None. A group's entries hold those of its tasks in `of_tasks`.
    """
    settings, is_group = _settings(name, found, asked), asked.tasks != (name,)
    parts = [(task, part) for task in asked.tasks for part in _entries(task, (task,), found)] if is_group else []
    return [
        {
            **entry,
            "task": f"lm_eval:{name}:{entry['task']}{asked.otherwise}",
            "asked": settings,
            **(
                {"of_tasks": [{**part, "task": task} for task, part in parts if part["task"] == entry["task"]]}
                if is_group
                else {}
            ),
        }
        for entry in _entries(name, asked.tasks, found)
    ]


def _entries(name: str, tasks: Sequence[str], found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Metrics of a task or a group, by their own names, one for each filter."""
    row: Mapping[str, Any] = found["results"].get(name, {})
    counted = found.get("n-samples", {}).get(name, {})
    for key, value in row.items():
        metric, _, filtered = key.partition(",")
        if not filtered or metric.endswith("_stderr") or metric in _NO_SCORE:
            continue
        number, count = _number(value), _count(row, key, counted)
        error, why = _standard_error(metric, number, row.get(f"{metric}_stderr,{filtered}"), count)
        # of a group's tasks some may not have the metric; the harness tells of its direct members alone
        told = {found.get("higher_is_better", {}).get(task, {}).get(metric) for task in tasks} - {None}
        is_told = len(told) == 1
        yield {
            "task": metric if filtered == "none" else f"{metric}[{filtered}]",
            "value": number,
            "se": error,
            **({"se_absent": why} if why else {}),
            "n": count,
            "higher_is_better": bool(told.pop()) if is_told else True,
            **({} if is_told else {"in_quality": False, "beside": _NO_DIRECTION}),
        }


def _settings(name: str, found: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    """What a reader must know to take the score again."""
    spec = asked.spec
    told: dict[str, Any] = {"few_shot": asked.few_shot[0] if len(asked.few_shot) == 1 else list(asked.few_shot)}
    told |= {"version": str(found.get("versions", {}).get(name, "not said")), "limit": spec.lm_eval_limit}
    if spec.lm_eval_few_shot is not None and set(asked.few_shot) != {spec.lm_eval_few_shot}:
        told["few_shot_asked"] = spec.lm_eval_few_shot
    if spec.lm_eval_chat_template:
        told |= {"chat_template": True, "few_shot_as_turns": spec.lm_eval_few_shot_as_turns}
        told["system"] = spec.lm_eval_system
    if asked.writes and spec.lm_eval_generation is not None:
        told["generation"] = spec.lm_eval_generation.told
    return told


def _number(value: Any) -> float | None:
    """The value where it is a finite number; numpy's are numbers too."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _count(row: Mapping[str, Any], key: str, counted: Mapping[str, Any]) -> int | None:
    """Questions behind a score; of a group, those of the tasks that have it."""
    found = counted.get("effective") or row.get("sample_count", {}).get(key) or row.get("sample_len")
    return None if found is None else int(found)


def _standard_error(metric: str, value: float | None, error: Any, count: int | None) -> tuple[float | None, str]:
    """The harness' own, but for a share of right answers that it claims to be certain of (method.md, eq. 45).

    Returns:
        The error, or None with the reason: what the harness writes as "N/A" is unknown, and not zero.
    """
    known = _number(error)
    if known is None or value is None:
        return None, _NO_ERROR if count != 1 else "one question alone has no standard error"
    if known > 0.0:
        return known, ""
    if value in (0.0, 1.0) and count and _is_share(metric):
        return shrunk_error(round(value * count), count), ""
    return None, _NO_SPREAD


def _is_share(metric: str) -> bool:
    """Whether a metric is the mean of a right or wrong for each question.

    >>> [_is_share(name) for name in ("acc_norm", "exact_match", "inst_level_strict_acc", "f1", "accordance")]
    [True, True, True, False, False]
    """
    return metric in _SHARES or "acc" in metric.split("_")
