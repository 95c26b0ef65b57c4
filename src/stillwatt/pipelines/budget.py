"""Stops training at a budget of joules, seconds or tokens, for a run or for an arm (method.md, eqs. 101, 102, 135).

Joules are those the ledger would book now, from the run's own sampling: nothing is measured here. Between two looks
they are carried on at the power of late. Training goes on in whole optimiser steps, so it stops at the step that ends
nearest to the budget once what ends the stage is done too, and a budget smaller than one step is refused before it is
overdrawn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from stillwatt.clock import Clock, SystemClock
from stillwatt.errors import BudgetError
from stillwatt.ledger.spent import Spent
from stillwatt.pipelines.pace import Habits, Pace
from stillwatt.pipelines.spec import Limit, LimitKind, PipelineSpec
from stillwatt.records.stop import UNREAD
from stillwatt.records.window import StageKind
from stillwatt.units import seconds

__all__ = ["Budgets", "Follow", "Gauge", "Stop"]

_PATIENCE_S = 30.0
_POLL_S = 0.05
_COARSE_SHARE = 0.04
"""Of a budget that one step takes: half of it is what an end may be off."""
_CLOSE_S = 1.5
"""So near to its end a training has the books looked at more often."""
_DRIFT = 1.0 / 3.0
"""How far joules may be off, of those that were carried on since the latest look: a long run's books take the longer to
look at, and rest for twenty times as long."""
_GAPS_AFTER = 2
"""Between a run's last training and its end: before its evaluation, and before the idle machine."""
_OF_THE_RUN = "the run's budget"


class Gauge(Protocol):
    """Something that tells what the run has spent."""

    def latest(self) -> Spent | None:
        """What the last look found; None before the first one. Never waits."""
        ...

    def ask(self) -> None:
        """Have a look taken now, whose turn would come later. Never waits."""
        ...


class Budgets:
    """The budgets of a study, and what is left of them."""

    def __init__(
        self,
        spec: PipelineSpec,
        gauge: Gauge | None,
        announce: Callable[[str], None],
        *,
        clock: Clock | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._spec, self._gauge, self._announce = spec, gauge, announce
        self._clock, self._sleep = clock or SystemClock(), sleep
        self._tokens: dict[str, int] = {}
        self.over: str | None = None
        """Why nothing more is begun, once the run's budget has ended a training."""
        self.habits = Habits()
        """What stages were seen to take beside their work."""
        self._has_told = False
        self._patience_s = _PATIENCE_S

    def count(self, arm: str, results: Mapping[str, Any]) -> None:
        """Take note of what an arm's increment, finished now or in an earlier session, came to."""
        self._tokens[arm] = int(results.get("tokens_total") or 0)
        reason, limit = str(results.get("stopped_by") or ""), self._spec.budget
        # one that has been raised since ends nothing
        if limit is not None and reason.startswith(f"{_OF_THE_RUN} of {limit.said}:"):
            self.over = reason

    def check(self, stage: str, kind: StageKind) -> None:
        """Refuse to begin or to go on with a stage once the run's budget is spent; waits for nothing.

        A training ends itself, what it left is evaluated in any case, and the idle machine is measured.

        Raises:
            BudgetError: It is spent.
        """
        limit, found = self._spec.budget, None if self._gauge is None else self._gauge.latest()
        is_kept = kind in (StageKind.STUDENT_TRAIN, StageKind.IDLE_BASELINE)
        is_kept = is_kept or (kind is StageKind.EVALUATE and bool(self._tokens))
        if limit is None or limit.kind is LimitKind.TOKENS or is_kept or found is None or self._is_blind(found):
            return
        spent = self.run_amount(limit) + self.reserve(limit, "" if self._tokens else self._spec.students[0].name)
        if spent >= limit.amount:
            where = f"at {stage}" if self._tokens else f"at {stage}, before the first training step"
            raise BudgetError(limit.said, f"{limit.text(spent)} of it are spent {where}", "run")

    @property
    def tokens(self) -> int:
        """Tokens that went through students in training so far."""
        return sum(self._tokens.values())

    def tokens_of_others(self, arm: str) -> int:
        """The same, less one arm's."""
        return self.tokens - self._tokens.get(arm, 0)

    def coming(self, limit: Limit, length_s: float) -> float:
        """What so many further seconds will take."""
        return length_s if limit.kind is LimitKind.TIME else self._spent()[0].power_w * length_s

    def cannot_begin(self, student: str, limit: Limit | None, *, begun: int) -> str | None:
        """Why no further arm can begin under its budget and the run's; None where one can.

        Args:
            student: Whose arm it is: an evaluation of it will take what its latest one took.
            limit: The arm's own budget.
            begun: Arms that were trained already.

        Raises:
            BudgetError: Not even the first arm can begin.
        """
        for each, whose in ((limit, "arm"), (self._spec.budget, "run")):
            why = None if each is None else self.unread(each, may_wait=True)
            if each is not None and why is not None:
                if begun == 0:
                    cure = "see that it is read (`stillwatt doctor`), or limit tokens or time"
                    raise BudgetError(each.said, why, whose, cure=cure)
                return why
        run = self._spec.budget
        if run is None or self.over is not None:
            return self.over
        spent = self.run_amount(run) + self.reserve(run, student)
        if spent < run.amount:
            return None
        if begun == 0:
            raise BudgetError(run.said, f"{run.text(spent)} of it are spent before the first training step", "run")
        return f"{run.text(spent)} of {_OF_THE_RUN} of {run.said} are spent, evaluation included"

    def unread(self, limit: Limit, *, may_wait: bool = False) -> str | None:
        """Why a budget of joules cannot be held to, since not all of them are known; None where it can.

        Args:
            limit: The budget.
            may_wait: Whether a part that is not read is given time; a training that goes on is not, for it draws.
        """
        if limit.kind is not LimitKind.ENERGY:
            return None
        found, _ = self._spent(may_wait=may_wait)
        if found.energy_j is None:
            return f"the run's energy is not known ({found.why_not})"
        return f"not all of the run's energy is known ({found.unread})" if found.unread else None

    def stop(self, arm: str, student: str, limit: Limit | None, teacher_j: float) -> Stop | None:
        """What tells an arm's training when to end; None where nothing limits it.

        Args:
            arm: The arm's id.
            student: Its student's name.
            limit: Its own budget.
            teacher_j: Joules of shared teacher work that the arm bears.
        """
        run = self._spec.budget
        if limit is None and run is None:
            return None
        return Stop(self, arm, student, limit, run, teacher_j, self._clock)

    def run_amount(self, limit: Limit) -> float:
        """What the run has used up, in the limit's own unit."""
        if limit.kind is LimitKind.TOKENS:
            return float(self.tokens)
        spent, behind_s = self._spent()
        if limit.kind is LimitKind.TIME:
            return spent.duration_s + behind_s
        return self._known_j(spent) + spent.power_w * behind_s

    def arm_amount(self, limit: Limit, arm: str, tokens: int, teacher_j: float, since_ns: int | None = None) -> float:
        """What an arm has used up; since `since_ns` a training of it goes on."""
        if limit.kind is LimitKind.TOKENS:
            return float(tokens)
        spent, behind_s = self._spent()
        joules, length_s = spent.arms.get(arm, (0.0, 0.0))
        if since_ns is None:
            behind_s = 0.0
        elif since_ns > spent.t_ns:
            behind_s = float(seconds(self._clock.monotonic_ns() - since_ns))
        if limit.kind is LimitKind.TIME:
            return length_s + behind_s
        return joules + spent.power_w * behind_s + teacher_j

    def reserve(self, limit: Limit, student: str) -> float:
        """What an evaluation, the idle machine measured once more, and what lies between will take of the budget."""
        if limit.kind is LimitKind.TOKENS:
            return 0.0
        spent, _ = self._spent()
        cleanup_s, like = self.habits.cleanup_s, self.habits.evaluation(student)
        between_s = _GAPS_AFTER * self.habits.gap_s + cleanup_s
        evaluation_j, evaluation_s = (0.0, 0.0) if like is None else spent.stages.get(like.name, (0.0, 0.0))
        evaluated = 1.0 if like is None else like.scale(evaluation_s, cleanup_s)
        rest_s = self._spec.idle_after_s
        if limit.kind is LimitKind.TIME:
            return evaluation_s * evaluated + rest_s + between_s
        idle_j, idle_s = spent.stages.get("idle_baseline", (0.0, 0.0))
        idle_w = idle_j / idle_s if idle_s else 0.0
        return evaluation_j * evaluated + idle_w * rest_s + spent.power_w * between_s

    def look_closely(self, left: float, limit: Limit) -> None:
        """Have the books looked at now, where so little is left that the next look in its turn may come too late."""
        if limit.kind is LimitKind.TOKENS or self._gauge is None:
            return
        carried_s = self._spent()[1] if limit.kind is LimitKind.ENERGY else 0.0
        if left < self.coming(limit, _CLOSE_S + _DRIFT * carried_s):
            self._gauge.ask()

    def _spent(self, *, may_wait: bool = False) -> tuple[Spent, float]:
        """The latest look, and the seconds since; `may_wait` for one at which all parts are read."""
        found, waited_s = self._look(), 0.0
        while found is None or (self._is_blind(found, is_whole=may_wait) and waited_s < self._patience_s):
            if waited_s >= _PATIENCE_S:
                raise BudgetError(self._said, f"nothing was heard of what is spent for {_PATIENCE_S:g} s", "run")
            self._sleep(_POLL_S)
            waited_s += _POLL_S
            found = self._look()
        # who has waited once for a part that nobody reads need not do so at every step
        self._patience_s = 0.0 if self._is_blind(found, is_whole=may_wait) else _PATIENCE_S
        self._tell(found)
        return found, max(0.0, float(seconds(self._clock.monotonic_ns() - found.t_ns)))

    def _is_blind(self, found: Spent, *, is_whole: bool = True) -> bool:
        """Whether joules are to be known and are not; all of them where the whole is meant."""
        return self._needs_energy and (found.energy_j is None or (is_whole and found.unread != ""))

    def _look(self) -> Spent | None:
        if self._gauge is None:
            raise BudgetError(self._said, "nothing tells what this run has spent", "run")
        return self._gauge.latest()

    def _tell(self, found: Spent) -> None:
        if self._has_told or not self._needs_energy:
            return
        self._has_told = True
        if not found.is_measured:
            self._announce("budget: this machine's energy is modelled at least in part, and so is what is left of it")

    def _known_j(self, spent: Spent) -> float:
        if spent.energy_j is None:
            raise BudgetError(self._said, f"the run's energy is not known ({spent.why_not})", "run")
        return spent.energy_j

    @property
    def _limits(self) -> list[Limit]:
        return [limit for limit in (self._spec.budget, *(arm.budget for arm in self._spec.arms)) if limit is not None]

    @property
    def _needs_energy(self) -> bool:
        return any(limit.kind is LimitKind.ENERGY for limit in self._limits)

    @property
    def _said(self) -> str:
        return self._limits[0].said if self._limits else ""


class Stop:
    """Tells one arm's training, after each step, whether to end here."""

    def __init__(
        self,
        budgets: Budgets,
        arm: str,
        student: str,
        limit: Limit | None,
        run: Limit | None,
        teacher_j: float,
        clock: Clock,
    ) -> None:
        self._budgets, self._arm, self._student, self._limit, self._run = budgets, arm, student, limit, run
        self._teacher_j, self._clock = teacher_j, clock
        self._since_ns = self._step_ns = clock.monotonic_ns()
        self._tokens = self._step_tokens = 0
        self._pace, self._is_own = Pace(), False

    def begin(self) -> None:
        """The training's stage begins now."""
        self._since_ns = self._clock.monotonic_ns()

    def first_step(self, tokens: int, *, is_own: bool) -> None:
        """The first step begins now, at so many tokens: what was loaded before is no part of how long a step takes.

        Args:
            tokens: The arm's own tokens so far.
            is_own: Whether the step trains on what the student writes.
        """
        self._tokens, self._is_own = tokens, is_own
        self._step_ns = self._clock.monotonic_ns()

    def after_step(self, tokens: int, *, is_own: bool) -> str | None:
        """Why to end after this step: the next one would end further from the budget than this one did.

        Args:
            tokens: The arm's own tokens so far.
            is_own: Whether the next step trains on what the student writes.
        """
        self._step_ns, before_ns = self._clock.monotonic_ns(), self._step_ns
        self._pace.note(float(seconds(self._step_ns - before_ns)), is_own=self._is_own)
        self._step_tokens, self._tokens, self._is_own = tokens - self._tokens, tokens, is_own
        return self._reason(tokens, self._pace.next_s(is_own=is_own))

    def end(self, ended_ns: int) -> None:
        """The training was over, and its checkpoint the last one; its stage ended then."""
        self._budgets.habits.note_ending(self._student, float(seconds(max(0, ended_ns - self._step_ns))))

    def facts(self) -> list[dict[str, Any]]:
        """The budgets that were held to, for the stage's results."""
        limits = {"arm": self._limit, "run": self._run}
        return [
            {"of": of, "amount": limit.amount, "unit": limit.kind.value, "said": limit.said}
            | ({"teacher_j": self._teacher_j} if of == "arm" else {})
            for of, limit in limits.items()
            if limit is not None
        ]

    def _reason(self, tokens: int, step_s: float) -> str | None:
        limit = self._limit
        for each, whose in ((limit, "its budget"), (self._run, _OF_THE_RUN)):
            why = None if each is None else self._budgets.unread(each)
            if each is not None and why is not None:
                return f"{UNREAD}{why}, so that {whose} of {each.said} cannot be held to"
        if limit is not None:
            used = self._budgets.arm_amount(limit, self._arm, tokens, self._teacher_j, self._since_ns)
            if self._is_reached(limit, used, step_s):
                return f"its budget of {limit.said}: {limit.text(used)}{self._coarse(limit, step_s)}"
        if self._run is not None:
            used = self._run_used(self._run, tokens)
            if self._is_reached(self._run, used, step_s):
                coarse = self._coarse(self._run, step_s)
                return f"{_OF_THE_RUN} of {self._run.said}: {self._run.text(used)} with the evaluation to come{coarse}"
        return None

    def _coarse(self, limit: Limit, step_s: float) -> str:
        """What is said of a budget that whole steps cannot keep closely."""
        if limit.kind is LimitKind.TOKENS:
            return ""
        share = self._budgets.coming(limit, step_s) / limit.amount
        return f" (a step takes {share:.0%} of it, so that it can be kept no closer)" if share > _COARSE_SHARE else ""

    def _run_used(self, limit: Limit, tokens: int) -> float:
        if limit.kind is LimitKind.TOKENS:
            return float(self._budgets.tokens_of_others(self._arm) + tokens)
        return self._budgets.run_amount(limit) + self._budgets.reserve(limit, self._student)

    def _is_reached(self, limit: Limit, used: float, step_s: float) -> bool:
        if limit.kind is LimitKind.TOKENS:
            # tokens of a step are known exactly; a budget of them is never overdrawn
            return used + self._step_tokens > limit.amount
        ending = self._budgets.coming(limit, self._budgets.habits.ending_s(self._student))
        self._budgets.look_closely(limit.amount - used - ending, limit)
        return used + ending + self._budgets.coming(limit, step_s / 2) >= limit.amount


class Follow:
    """A `Stop` of a rank that does as the first one says, and looks at no books itself."""

    def begin(self) -> None:
        """Nothing is looked at."""

    def first_step(self, tokens: int, *, is_own: bool) -> None:
        """Nothing is looked at."""

    def after_step(self, tokens: int, *, is_own: bool) -> str | None:
        """Nothing of its own; the ranks agree on what the first one says."""
        return None

    def end(self, ended_ns: int) -> None:
        """Nothing is looked at."""

    def facts(self) -> list[dict[str, Any]]:
        """The first rank tells for all."""
        return []
