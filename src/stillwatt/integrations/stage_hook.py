"""What hooks into training loops have in common: stages that events open and close, and methods that are measured."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from stillwatt.integrations.clocks import tie_clocks
from stillwatt.integrations.contained import Contained, contained
from stillwatt.integrations.stage_stack import StageStack
from stillwatt.metering.measured import SupportsNotes, SupportsStages
from stillwatt.records.window import StageKind

EVALUATE = "evaluate"
SAVE = "save_checkpoint"
STEPS = "steps"


class StageHook(Contained):
    """Holds the stack of stages; whatever fails in it is one warning and no exception."""

    def __init__(
        self,
        run: SupportsStages | None,
        run_factory: Callable[[], SupportsStages] | None,
        labels: Mapping[str, str] | None,
    ) -> None:
        super().__init__()
        self._stages = StageStack(run, run_factory)
        self._labels = dict(labels or {})

    def close(self) -> None:
        """Close what is open, e.g. after training that raised and no event said so."""
        self._close_all()

    @contained
    def _begin_run(self) -> None:
        if self._stages.open_run() is None and self._stages.is_left_behind:
            self.warn(
                "it was sent to this process and its run stayed in the one that opened it: what is done here is in the "
                "energy of that run, and in no stage of it; give a run_factory to measure here"
            )
        elif self._stages.run is None:
            self.warn("it was given neither a run nor a run_factory; nothing is measured")

    @contained
    def _tie(self, name: str) -> None:
        run: Any = self._stages.run
        try:
            tie_clocks(run, name)
        except TimeoutError as err:
            if isinstance(run, SupportsNotes):
                run.note(str(err))
            else:
                self.warn(str(err))

    @contained
    def _open(self, name: str, kind: StageKind, labels: Mapping[str, str] | None = None) -> None:
        self._stages.open(name, kind=kind, labels={**self._labels, **(labels or {})})

    @contained
    def _close(self, name: str, error: BaseException | None = None) -> None:
        self._stages.close(name, error)

    @contained
    def _close_all(self, error: BaseException | None = None) -> None:
        self._stages.close_all(error)

    def _around(self, method: Callable[..., Any], name: str, kind: StageKind) -> Callable[..., Any]:
        """The method as a stage: exact edges, and a failure marks it failed."""

        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            self._open(name, kind)
            try:
                result = method(*args, **kwargs)
            except BaseException as err:
                self._close(name, err)
                raise
            self._close(name)
            return result

        return call
