"""What can be refused of lm-evaluation-harness before any model is asked; nothing heavy is imported."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from stillwatt.errors import MissingExtraError, MissingInputError, StillwattError
from stillwatt.pipelines.spec_evaluate import EvaluateSpec

__all__ = ["check_chat", "check_harness", "check_include_path"]

_SAID = ("a system message", "a question")
"""What stands in for the messages when a template is tried."""


def check_harness(spec: EvaluateSpec) -> None:
    """Refuse tasks that cannot be run here at all.

    Raises:
        MissingExtraError: The harness is not installed.
        MissingInputError: There is no directory of task definitions where the recipe names one.
    """
    if not spec.lm_eval_tasks:
        return
    if importlib.util.find_spec("lm_eval") is None:
        raise MissingExtraError("lm-eval", "evaluate")
    check_include_path(spec)


def check_include_path(spec: EvaluateSpec) -> None:
    """Refuse a directory of task definitions that is not there.

    Raises:
        MissingInputError: It is not, or it holds no definition.
    """
    if spec.lm_eval_include_path is None:
        return
    place = Path(spec.lm_eval_include_path).expanduser()
    if not any(place.rglob("*.yaml")):
        cure = "evaluate.lm_eval_include_path is a directory with a YAML file for each task"
        raise MissingInputError("task definitions of lm-evaluation-harness", str(place), cure)


def check_chat(spec: EvaluateSpec, tokenizer: Any, whose: str) -> None:
    """Refuse a chat template that is not there, or that loses the system message.

    Args:
        spec: What is asked for.
        tokenizer: The one that all models of the study share.
        whose: Whose it is, for the message.

    Raises:
        StillwattError: With what to change.
    """
    if not spec.lm_eval_tasks or not spec.lm_eval_chat_template:
        return
    if not getattr(tokenizer, "chat_template", None):
        raise StillwattError(
            f"evaluate.lm_eval_chat_template: the tokenizer of {whose} has no chat template; set it to false, or take "
            "models that were made for conversations"
        )
    if spec.lm_eval_system is not None and not _takes_system(tokenizer):
        raise StillwattError(
            f"evaluate.lm_eval_system: the chat template of {whose} takes no system message; leave it out, or write it "
            "into the tasks' `doc_to_text`"
        )


def _takes_system(tokenizer: Any) -> bool:
    """Whether a system message stands in what the template makes; some raise, others leave it out."""
    from jinja2.exceptions import TemplateError

    messages = [{"role": role, "content": text} for role, text in zip(("system", "user"), _SAID, strict=True)]
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except TemplateError:
        return False
    return all(said in text for said in _SAID)
