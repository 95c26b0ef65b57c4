"""Any function as a stage: a decorator and a context manager; standard library only.

`measured` finds the run by itself, so a library can be decorated once and measured by whoever opens a run around it.
Like the meter, it lets no error of its own out: where no run is open, the function runs as ever, and a warning says so.
"""

from __future__ import annotations

import contextvars
import functools
import os
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import AsyncGeneratorType, CoroutineType, GeneratorType, TracebackType
from typing import Any, Protocol, TypeVar, cast, overload, runtime_checkable

from stillwatt.metering.meter import Stage, parse_kind, warn_user
from stillwatt.records.kinds import StageKind

_F = TypeVar("_F", bound=Callable[..., Any])


class StageLike(Protocol):
    """What a measured block may tell its stage."""

    def add(self, **counts: float) -> None:
        """Add to the stage's workload, by name."""
        ...

    def add_tokens(self, count: int) -> None:
        """Add tokens that the stage processed."""
        ...

    def record(self, results: Mapping[str, Any]) -> None:
        """Keep what the stage found."""
        ...


class SupportsStages(Protocol):
    """What hooks need of a run: `stillwatt.Run` has it, and so has anything that measures in its place."""

    def stage(
        self, name: str, *, kind: StageKind | str = ..., labels: Mapping[str, str] | None = ...
    ) -> AbstractContextManager[Stage]:
        """Measure a block as a stage."""
        ...

    def mark(self, name: str) -> None:
        """Note a moment that all ranks pass together."""
        ...

    @property
    def current_stage(self) -> Stage | None:
        """The innermost stage that this thread or task has open."""
        ...


@runtime_checkable
class SupportsNotes(Protocol):
    """A run that knows the stages of all its threads, and keeps warnings in its record."""

    @property
    def only_stage(self) -> Stage | None:
        """The stage that work of a thread without an open stage lies in, where one can be told."""
        ...

    def note(self, message: str) -> None:
        """Warn, and keep the warning."""
        ...


class Unmeasured:
    """Stands for a stage where nothing measures: takes counts and results, and keeps none."""

    def add(self, **counts: float) -> None:
        """Take counts."""

    def add_tokens(self, count: int) -> None:
        """Take tokens."""

    def record(self, results: Mapping[str, Any]) -> None:
        """Take results."""


_open_runs: list[SupportsStages] = []
_open_lock = threading.Lock()
os.register_at_fork(before=_open_lock.acquire, after_in_parent=_open_lock.release, after_in_child=_open_lock.release)
_entered: contextvars.ContextVar[tuple[tuple[Measured, AbstractContextManager[StageLike]], ...]] = (
    contextvars.ContextVar("entered", default=())
)


def note_open(run: SupportsStages) -> None:
    """Let `measured` find a run; the one that was opened last is found first."""
    with _open_lock:
        _open_runs.append(run)


def note_closed(run: SupportsStages) -> None:
    """Let `measured` no longer find a run; one that is not known is no error."""
    with _open_lock:
        _open_runs[:] = [entry for entry in _open_runs if entry is not run]


def open_run() -> SupportsStages | None:
    """The run that this process opened last and has not closed; None where there is none.

    A process that was forked goes on in its parent's run (see `Run.go_on_forked`).
    """
    with _open_lock:
        return _open_runs[-1] if _open_runs else None


class Measured:
    """A name and a kind under which a function or a block is measured; made by `measured`.

    One object may decorate many functions and be entered many times at once, by recursion, threads and tasks: each
    call and each `with` is a stage of its own.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        kind: StageKind | str = StageKind.OTHER,
        labels: Mapping[str, str] | None = None,
        run: SupportsStages | None = None,
    ) -> None:
        self._name = name
        self._kind = parse_kind(kind)
        self._labels = dict(labels or {})
        self._run = run
        self._has_warned = False

    def __call__(self, function: _F) -> _F:
        """Decorate a function: sync, async, generator or async generator."""
        import inspect  # a program that decorates nothing does without it

        if isinstance(function, (classmethod, staticmethod)):  # no functions yet
            return cast(_F, type(function)(self(function.__func__)))
        name = self._name or str(getattr(function, "__qualname__", type(function).__name__))
        # of an object that is called like a function, its method may say which kind it is
        told: tuple[Any, ...] = (function, type(function).__call__)
        if any(map(inspect.isasyncgenfunction, told)):
            wrapper = self._async_generator(function, name)
        elif any(map(inspect.iscoroutinefunction, told)):
            wrapper = self._coroutine(function, name)
        elif any(map(inspect.isgeneratorfunction, told)):
            wrapper = self._generator(function, name)
        else:
            wrapper = self._plain(function, name)
        return cast(_F, functools.update_wrapper(wrapper, function))

    def __enter__(self) -> StageLike:
        block = self.block(self._name or "measured")
        stage = block.__enter__()
        _entered.set((*_entered.get(), (self, block)))
        return stage

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        entered = _entered.get()
        own = [index for index, (owner, _) in enumerate(entered) if owner is self]
        if not own:  # entered in another context, which still holds the block: its stage ends with that context
            self._warn(f"{self._name or 'measured'!r} was left in another thread or task than it was entered in")
            return
        _entered.set((*entered[: own[-1]], *entered[own[-1] + 1 :]))
        entered[own[-1]][1].__exit__(kind, error, trace)

    @contextmanager
    def block(self, name: str) -> Iterator[StageLike]:
        """One stage of that name around the block; none, with a warning, where no run can be measured in."""
        opened = self._opened(name)
        if opened is None:
            yield Unmeasured()
            return
        with opened as stage:
            yield stage

    def _opened(self, name: str) -> AbstractContextManager[StageLike] | None:
        run = self._run or open_run()
        if run is None:
            self._warn(f"{name!r} runs unmeasured: no stillwatt.Run is open")
            return None
        try:
            return run.stage(name, kind=self._kind, labels=self._labels)
        except RuntimeError as err:
            self._warn(f"{name!r} runs unmeasured: {err}")
            return None

    def _warn(self, message: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            warn_user(message, stacklevel=4)

    def _plain(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self.block(name):
                result = function(*args, **kwargs)
            if isinstance(result, (CoroutineType, GeneratorType, AsyncGeneratorType)):
                self._warn(
                    f"{name!r} returned a {type(result).__name__.replace('_', ' ')}: its work is done later and is not "
                    "measured; decorate the function that makes it, below other decorators"
                )
            return result

        return wrapper

    def _coroutine(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self.block(name):
                return await function(*args, **kwargs)

        return wrapper

    def _generator(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            inner = function(*args, **kwargs)
            step: Callable[[Any], Any] = inner.send
            given: Any = None
            while True:
                with self.block(name):
                    try:
                        item = step(given)
                    except StopIteration as stop:
                        return stop.value
                try:
                    given = yield item
                    step = inner.send
                except GeneratorExit:
                    with self.block(name):
                        inner.close()
                    raise
                except BaseException as err:  # noqa: BLE001 - handed on to the generator, whose business it is
                    given, step = err, inner.throw

        return wrapper

    def _async_generator(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            inner = function(*args, **kwargs)
            step: Callable[[Any], Any] = inner.asend
            given: Any = None
            while True:
                with self.block(name):
                    try:
                        item = await step(given)
                    except StopAsyncIteration:
                        return
                try:
                    given = yield item
                    step = inner.asend
                except GeneratorExit:
                    with self.block(name):
                        await inner.aclose()
                    raise
                except BaseException as err:  # noqa: BLE001 - handed on to the generator, whose business it is
                    given, step = err, inner.athrow

        return wrapper


@overload
def measured(name: _F) -> _F: ...


@overload
def measured(
    name: str | None = None,
    *,
    kind: StageKind | str = StageKind.OTHER,
    labels: Mapping[str, str] | None = None,
    run: SupportsStages | None = None,
) -> Measured: ...


def measured(
    name: Any = None,
    *,
    kind: StageKind | str = StageKind.OTHER,
    labels: Mapping[str, str] | None = None,
    run: SupportsStages | None = None,
) -> Any:
    """Measure a function or a block as a stage.

    As a decorator it takes plain and async functions, generators and async generators. Each call is a stage of its
    own; one inside another nests, also by recursion and over `await`. What a pool of threads does, or a thread that
    began inside a stage of the thread which opened the run, lies in that stage; what other threads do, in none. A
    generator is measured only while it runs, never while its consumer
    does: each step of it is a stage. Where it yields often, put `with measured(...)` around the loop that drains it
    instead, since a stage shorter than the instrument resolves has a wide interval.

    Example:
        @stillwatt.measured("generate", kind="teacher_generate")
        def generate(prompts): ...

        with stillwatt.measured("tidy up") as stage:
            stage.add(files=3)

    Args:
        name: The stage's name; the function's own where None, or where `@measured` stands without brackets.
        kind: What the stage does.
        labels: What the stage belongs to.
        run: The run to measure in; where None, the one that this process opened last. Where none is open, the
            function runs unmeasured and a `MeterWarning` says so once.

    Raises:
        UnknownNameError: `kind` is not a stage kind.
    """
    if callable(name):  # `@measured` without brackets: what is given is the function itself
        return Measured(kind=kind, labels=labels, run=run)(name)
    return Measured(name, kind=kind, labels=labels, run=run)
