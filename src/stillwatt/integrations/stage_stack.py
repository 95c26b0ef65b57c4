"""Stages that a framework's events open and close, where no `with` block can: a stack that is always unwound."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from stillwatt.metering.measured import StageLike, SupportsStages, Unmeasured
from stillwatt.metering.meter import Stage
from stillwatt.records.window import StageKind


@dataclass(frozen=True, slots=True, kw_only=True)
class _Open:
    name: str
    stage: Stage
    block: AbstractContextManager[Stage]


class StageStack:
    """The open stages of one hook, innermost last.

    Args:
        run: The run to measure in; whoever made it closes it.
        run_factory: Makes a run where there is none; it is entered with the first stage and left with the last.
    """

    def __init__(
        self, run: SupportsStages | None = None, run_factory: Callable[[], SupportsStages] | None = None
    ) -> None:
        self._given = run
        self._factory = run_factory
        self._own: SupportsStages | None = None
        self._stages: list[_Open] = []
        self.is_left_behind = False
        """Whether this was sent to another process, which its run cannot be."""

    def __deepcopy__(self, memo: dict[int, Any]) -> StageStack:
        """Another stack for stages in the same run; it has none of this one's open."""
        return StageStack(self._given, self._factory)

    def __getstate__(self) -> dict[str, Any]:
        """What goes to another process: the factory."""
        left = self.is_left_behind or self.run is not None
        return {"_given": None, "_factory": self._factory, "_own": None, "_stages": [], "is_left_behind": left}

    @property
    def run(self) -> SupportsStages | None:
        """The run that stages are opened in, where there is one by now."""
        return self._given or self._own

    @property
    def innermost(self) -> StageLike:
        """The stage opened last; one that keeps nothing where none is open."""
        return self._stages[-1].stage if self._stages else Unmeasured()

    def get(self, name: str) -> StageLike:
        """The innermost open stage of that name; one that keeps nothing where none is open."""
        found = [entry.stage for entry in self._stages if entry.name == name]
        return found[-1] if found else Unmeasured()

    def is_open(self, name: str) -> bool:
        """Whether a stage of that name is open."""
        return any(entry.name == name for entry in self._stages)

    def open_run(self) -> SupportsStages | None:
        """Enter the hook's own run, if it makes one and has none open; the run to measure in."""
        if self.run is None and self._factory is not None:
            own: Any = self._factory()
            if isinstance(own, AbstractContextManager):
                own.__enter__()
            self._own = own
        return self.run

    def open(self, name: str, *, kind: StageKind | str, labels: Mapping[str, str] | None = None) -> None:
        """Open a stage inside the innermost one; without a run, nothing is opened."""
        run = self.open_run()
        if run is not None:
            block = run.stage(name, kind=kind, labels=labels)
            self._stages.append(_Open(name=name, stage=block.__enter__(), block=block))

    def close(self, name: str, error: BaseException | None = None) -> None:
        """Close the innermost stage of that name with all that lies in it; one that is not open is no error."""
        places = [place for place, entry in enumerate(self._stages) if entry.name == name]
        if places:
            self._close_from(places[-1], error)

    def close_all(self, error: BaseException | None = None) -> None:
        """Close everything; an error marks all of it failed."""
        self._close_from(0, error)

    def _close_from(self, place: int, error: BaseException | None) -> None:
        while len(self._stages) > place:
            entry = self._stages.pop()
            if error is None:
                entry.block.__exit__(None, None, None)
            else:
                entry.block.__exit__(type(error), error, error.__traceback__)
        if not self._stages:
            self._leave_own(error)

    def _leave_own(self, error: BaseException | None) -> None:
        own: Any = self._own
        self._own = None
        if isinstance(own, AbstractContextManager):
            own.__exit__(None if error is None else type(error), error, None)
