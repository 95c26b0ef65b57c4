"""Tokens of an OpenAI client's requests, counted into the stage that makes them; sync, async and streamed.

Works with any server that speaks the protocol. The energy of the stage is that of this machine: where the server is
another one, its joules are not in it, and the counts are what another account of them can be held against.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

from stillwatt.errors import UsageError
from stillwatt.integrations.raw_answers import NOT_SAID, count_raw
from stillwatt.integrations.usage import Usage, UsageCounter, read_usage
from stillwatt.metering.measured import StageLike, SupportsStages

_Client = TypeVar("_Client")

_RESOURCES = ("chat.completions", "completions", "responses", "embeddings")
_PATHS = ("/chat/completions", "/completions", "/responses", "/responses/compact", "/embeddings")
_UNCOUNTED = "_stillwatt_uncounted"
"""Where a counted method keeps the one it stands for, so that a client that is given again is counted once."""
_NOT_STREAMED = "the stream carried no usage; ask for it with stream_options={'include_usage': True}"
_LEFT = "the stream was left before its usage came"


def count_tokens(client: _Client, run: SupportsStages | None = None) -> _Client:
    """Let a client count its requests and tokens into the stage that is open where it is used.

    Counts: `requests`, `prompt_tokens`, `generated_tokens`, `tokens` (both), of them `cached_prompt_tokens` and
    `reasoning_tokens`; `failed_requests`, and `requests_without_usage` with the reason in the stage's results. A
    request that the client repeats by itself is one request. Requests for text and for embeddings are counted, answers
    that are taken raw (`with_raw_response`) too; one whose body is streamed is counted when it is parsed.

    Example:
        client = count_tokens(openai.OpenAI(), run)
        with run.stage("teacher_generate", kind="teacher_generate"):
            client.chat.completions.create(...)

    Args:
        client: An `openai.OpenAI` or `AsyncOpenAI`, or one that has its methods. It is changed, not copied; clients
            that it makes with `with_options` count as it does. One that is given again counts for the last one only.
        run: The run to count in; the one that this process opened last where None.

    Raises:
        UsageError: it has none of the methods.
    """
    if not _watch(client, UsageCounter(run)):
        raise UsageError(f"{type(client).__name__} has none of {', '.join(_RESOURCES)}")
    return client


def _watch(client: Any, counter: UsageCounter) -> int:
    """Count what a client posts, and its copies; the number of resources found whose requests are counted."""
    if callable(getattr(client, "post", None)):
        # resources that the client makes later, those of `beta` among them, take their way of posting from it
        client.post = _counted(client.post, counter, _is_counted)
        for name in ("copy", "with_options"):
            if callable(getattr(client, name, None)):
                setattr(client, name, _copied(getattr(client, name), counter))
    return sum(_watch_resource(resource, counter) for resource in _resources(client))


def _resources(client: Any) -> Iterator[Any]:
    """The client's resources that are counted; those of `beta` where it has made them, since to ask is to make them."""
    beta = vars(client).get("beta") if hasattr(client, "__dict__") else None
    for root in (client, beta):
        for place in _RESOURCES:
            resource = root
            for name in place.split("."):
                resource = getattr(resource, name, None)
            if resource is not None:
                yield resource


def _watch_resource(resource: Any, counter: UsageCounter) -> int:
    """Count what a resource posts: all its methods (create, parse, stream) go through that; else its `create`."""
    post = getattr(resource, "_post", None)
    if callable(post):
        resource._post = _counted(post, counter, _is_counted)
        return 1
    create = getattr(resource, "create", None)
    if callable(create):
        resource.create = _counted(create, counter, lambda _args: True)
        return 1
    return 0


def _is_counted(args: tuple[Any, ...]) -> bool:
    return bool(args) and str(args[0]).partition("?")[0] in _PATHS


def _copied(copy: Callable[..., Any], counter: UsageCounter) -> Callable[..., Any]:
    """A way to copy a client that lets the copy count, too."""
    original = _uncounted(copy)

    @functools.wraps(original)
    def copied(*args: Any, **kwargs: Any) -> Any:
        made = original(*args, **kwargs)
        _watch(made, counter)
        return made

    setattr(copied, _UNCOUNTED, original)
    return copied


def _uncounted(call: Callable[..., Any]) -> Callable[..., Any]:
    """What a counted method stands for; another method as it is."""
    original: Callable[..., Any] = getattr(call, "__dict__", {}).get(_UNCOUNTED, call)
    return original


def _counted(
    call: Callable[..., Any], counter: UsageCounter, is_request: Callable[[tuple[Any, ...]], bool]
) -> Callable[..., Any]:
    original = _uncounted(call)

    @functools.wraps(original)
    def counted(*args: Any, **kwargs: Any) -> Any:
        if not is_request(args):
            return original(*args, **kwargs)
        stage = counter.begin()
        try:
            answer = original(*args, **kwargs)
        except BaseException as err:
            counter.fail(stage, err)
            raise
        if inspect.isawaitable(answer):
            return _awaited(answer, counter, stage)
        return _taken(answer, counter, stage)

    setattr(counted, _UNCOUNTED, original)
    return counted


async def _awaited(answer: Any, counter: UsageCounter, stage: StageLike | None) -> Any:
    try:
        got = await answer
    except BaseException as err:
        counter.fail(stage, err)
        raise
    return _taken(got, counter, stage)


def _taken(answer: Any, counter: UsageCounter, stage: StageLike | None) -> Any:
    """The answer, its usage counted; a stream counts when it is at its end."""
    if hasattr(answer, "__anext__"):
        return CountedAsyncStream(answer, counter, stage)
    if hasattr(answer, "__next__"):
        return CountedStream(answer, counter, stage)
    if hasattr(answer, "http_response") or hasattr(answer, "http_request"):
        count_raw(answer, counter, stage, take=_taken)
    else:
        counter.finish(stage, read_usage(answer), reason=NOT_SAID)
    return answer


class _Counting:
    """A stream that is handed on as it is, while the usage in it is noted; it passes for the stream it holds."""

    def __init__(self, stream: Any, counter: UsageCounter, stage: StageLike | None) -> None:
        self._stream = stream
        self._counter = counter
        self._stage = stage
        self._usage: Usage | None = None
        self._is_over = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """The stream's own, so that `isinstance` says of this what it says of the stream."""
        return type(self._stream)

    def _note(self, chunk: Any) -> None:
        # servers that send usage with every chunk send sums so far, so the last one counts
        self._usage = read_usage(chunk) or self._usage

    def _end(self, error: BaseException | None = None, *, reason: str = _NOT_STREAMED) -> None:
        if self._is_over:
            return
        self._is_over = True
        if error is None:
            self._counter.finish(self._stage, self._usage, reason=reason)
        else:
            self._counter.fail(self._stage, error, self._usage)


class CountedStream(_Counting):
    """A synchronous stream of an answer."""

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            chunk = next(self._stream)
        except StopIteration:
            self._end()
            raise
        except BaseException as err:
            self._end(err)
            raise
        self._note(chunk)
        return chunk

    def __enter__(self) -> CountedStream:
        self._stream.__enter__()
        return self

    def __exit__(self, *details: Any) -> Any:
        self._end(reason=_LEFT)
        return self._stream.__exit__(*details)

    def close(self) -> Any:
        """Close the stream."""
        self._end(reason=_LEFT)
        return self._stream.close()

    def __del__(self) -> None:
        self._end(reason=_LEFT)


class CountedAsyncStream(_Counting):
    """An asynchronous stream of an answer."""

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            chunk = await anext(self._stream)
        except StopAsyncIteration:
            self._end()
            raise
        except BaseException as err:
            self._end(err)
            raise
        self._note(chunk)
        return chunk

    async def __aenter__(self) -> CountedAsyncStream:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *details: Any) -> Any:
        self._end(reason=_LEFT)
        return await self._stream.__aexit__(*details)

    async def close(self) -> Any:
        """Close the stream."""
        self._end(reason=_LEFT)
        return await self._stream.close()

    def __del__(self) -> None:
        self._end(reason=_LEFT)
