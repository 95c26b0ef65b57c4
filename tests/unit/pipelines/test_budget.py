"""Budgets against a gauge and a clock of plain code: where training stops, and what is refused."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillwatt.errors import BudgetError
from stillwatt.ledger.spent import Spent
from stillwatt.pipelines.budget import Budgets, Stop
from stillwatt.pipelines.spec import Limit, LimitKind, PipelineSpec
from stillwatt.records.window import StageKind
from stillwatt.units import NS_PER_S
from tiny_models import smoke_spec


@dataclass
class Machine:
    """A clock, and a gauge that looks at exactly known power every `look_every_s`."""

    watts: float = 100.0
    look_every_s: float = 1.0
    before_s: float = 2.0
    """Seconds of the run before the arm."""
    now_ns: int = 0
    stages: dict[str, tuple[float, float]] = field(default_factory=dict)
    is_measured: bool = True
    energy_known: bool = True
    unread_from_s: float = float("inf")
    unread_until_s: float = float("inf")
    asked: int = 0

    def ask(self) -> None:
        self.asked += 1

    def monotonic_ns(self) -> int:
        return self.now_ns

    def utc_ns(self) -> int:
        return self.now_ns

    def advance(self, length_s: float) -> None:
        self.now_ns += round(length_s * NS_PER_S)

    def latest(self) -> Spent:
        t_ns = self.now_ns // round(self.look_every_s * NS_PER_S) * round(self.look_every_s * NS_PER_S)
        t_s, in_arm_s = t_ns / NS_PER_S, max(0.0, t_ns / NS_PER_S - self.before_s)
        return Spent(
            t_ns=t_ns,
            energy_j=self.watts * t_s if self.energy_known else None,
            power_w=self.watts,
            duration_s=t_s,
            arms={"sft": (self.watts * in_arm_s, in_arm_s)} if in_arm_s else {},
            stages=self.stages,
            is_measured=self.is_measured,
            why_not="" if self.energy_known else "no instrument",
            unread="gpu0 is not read" if self.unread_from_s <= t_s < self.unread_until_s else "",
        )


def joules(amount: float) -> Limit:
    return Limit(kind=LimitKind.ENERGY, amount=amount, said=f"{amount:g} J")


def study(*, run: Limit | None = None, arm: Limit | None = None) -> PipelineSpec:
    spec = smoke_spec(budget=run, idle_baseline_s=1.0, idle_after_s=2.0)
    return dataclasses.replace(spec, arms=(dataclasses.replace(spec.arms[0], budget=arm),))


def budgets(machine: Machine, spec: PipelineSpec, said: list[str] | None = None) -> Budgets:
    announce = (said if said is not None else []).append
    return Budgets(spec, machine, announce, clock=machine, sleep=machine.advance)


def train(machine: Machine, stop: Stop, *, step_s: float, tokens: int = 64, steps: int = 100_000) -> tuple[int, str]:
    """Steps taken until told to stop, and why."""
    stop.begin()
    stop.first_step(0, is_own=False)
    for step in range(1, steps):
        machine.advance(step_s)
        reason = stop.after_step(step * tokens, is_own=False)
        if reason is not None:
            return step, reason
    raise AssertionError("never told to stop")


@given(
    watts=st.floats(1.0, 1e4),
    step_s=st.floats(0.001, 5.0),
    look_every_s=st.floats(0.2, 30.0),
    steps=st.floats(60.0, 600.0),
)
def test_an_arm_stops_within_two_percent_of_its_joules(
    watts: float, step_s: float, look_every_s: float, steps: float
) -> None:
    machine = Machine(watts=watts, look_every_s=look_every_s)
    machine.advance(machine.before_s)
    arm = joules(watts * step_s * steps)
    stop = budgets(machine, study(arm=arm)).stop("sft", "tiny", arm, 0.0)
    assert stop is not None
    taken, _ = train(machine, stop, step_s=step_s)
    assert taken * step_s * watts == pytest.approx(arm.amount, rel=0.02)


@settings(max_examples=50)
@given(
    steps_s=st.tuples(st.floats(0.1, 3.0), st.floats(0.1, 3.0)),
    ending_s=st.floats(0.0, 4.0),
    length_s=st.floats(10.0, 60.0),
)
def test_equal_joule_arms_end_within_two_percent_of_each_other_or_what_whole_steps_allow(
    steps_s: tuple[float, float], ending_s: float, length_s: float
) -> None:
    machine = Machine(look_every_s=0.25)
    machine.advance(machine.before_s)
    limit = joules(machine.watts * length_s)
    kept = budgets(machine, study(arm=limit))
    kept.habits.note_writing("tiny", ending_s)
    spent_j = []
    for step_s in steps_s:
        machine.before_s = machine.now_ns / NS_PER_S
        stop = kept.stop("sft", "tiny", limit, 0.0)
        assert stop is not None
        taken, _ = train(machine, stop, step_s=step_s)
        machine.advance(ending_s)
        stop.end(machine.now_ns)
        spent_j.append(machine.watts * (taken * step_s + ending_s))
    half_steps_j = machine.watts * sum(steps_s) / 2.0
    assert abs(spent_j[0] - spent_j[1]) <= max(0.02 * limit.amount, half_steps_j) + 1e-6 * limit.amount


def test_what_the_end_of_a_training_takes_is_held_back_from_the_first_one_on() -> None:
    machine = Machine(look_every_s=0.5)
    machine.advance(machine.before_s)
    whole = budgets(machine, study(arm=joules(1000.0)))
    whole.habits.note_size("tiny", 125_000_000)
    assert whole.habits.ending_s("tiny") == pytest.approx(1.0)  # nothing better is known
    whole.habits.note_writing("tiny", 1.5)
    whole.habits.note_size("tiny", 125_000_000)
    whole.habits.cleanup_s = 0.5
    assert whole.habits.ending_s("tiny") == 2.0
    assert whole.habits.ending_s("other") == 0.5  # a student of another size says nothing of this one's file
    stop = whole.stop("sft", "tiny", joules(1000.0), 0.0)
    assert stop is not None
    taken, _ = train(machine, stop, step_s=0.1)
    assert taken == 80  # and 200 J for the end
    machine.advance(3.0)
    stop.end(machine.now_ns)
    assert whole.habits.ending_s("tiny") == 3.0  # a real end says more than a guess
    for length_s, told_s in ((40.0, 3.0), (3.5, 3.5), (3.6, 3.6)):
        whole.habits.note_ending("tiny", length_s)
        assert whole.habits.ending_s("tiny") == told_s  # one that others held up says little


def test_it_stops_at_the_step_that_ends_nearest() -> None:
    for amount, wanted in ((1000.0, 4), (1030.0, 4), (1160.0, 5)):
        machine = Machine(look_every_s=0.5)
        machine.advance(machine.before_s)
        stop = budgets(machine, study(arm=joules(amount))).stop("sft", "tiny", joules(amount), 0.0)
        assert stop is not None
        steps, reason = train(machine, stop, step_s=2.5)
        assert (steps, reason[:10]) == (wanted, "its budget")
        assert re.search(r"\(a step takes 2[0-9]% of it, so that it can be kept no closer\)", reason)


@given(
    lengths_s=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=80, max_size=80),
    given_s=st.floats(0.05, 0.5),
    own_s=st.floats(0.05, 5.0),
    steps=st.floats(30.0, 60.0),
)
def test_steps_of_two_lengths_end_half_of_one_off_at_most(
    lengths_s: list[tuple[bool, bool]], given_s: float, own_s: float, steps: float
) -> None:
    """Eq. 135: the step that was the last one, or the one that was not taken any more, bounds what it is off."""
    is_own = [own for own, _ in lengths_s]
    step_s = [own_s if own else given_s for own in is_own]
    machine = Machine(look_every_s=0.1)
    machine.advance(machine.before_s)
    limit = joules(machine.watts * sum(step_s) * steps / 80)
    stop = budgets(machine, study(arm=limit)).stop("sft", "tiny", limit, 0.0)
    assert stop is not None
    stop.begin()
    stop.first_step(0, is_own=is_own[0])
    taken, seen = 0, {is_own[0]}
    while stop_reason(machine, stop, step_s[taken], is_own[taken + 1]) is None:
        taken += 1
        if is_own[taken] not in seen and step_s[taken] > min(given_s, own_s):
            return  # a first long step comes as a surprise: nothing has shown its length yet
        seen.add(is_own[taken])
    off_s = sum(step_s[: taken + 1]) - limit.amount / machine.watts
    assert -step_s[taken + 1] / 2 - 1e-6 <= off_s <= step_s[taken] / 2 + 1e-6


def stop_reason(machine: Machine, stop: Stop, step_s: float, next_is_own: bool) -> str | None:
    machine.advance(step_s)
    return stop.after_step(0, is_own=next_is_own)


def test_the_books_are_looked_at_more_often_near_the_end_and_not_before() -> None:
    machine = Machine(look_every_s=0.5)
    machine.advance(machine.before_s)
    stop = budgets(machine, study(arm=joules(1000.0))).stop("sft", "tiny", joules(1000.0), 0.0)
    assert stop is not None
    assert train(machine, stop, step_s=0.1)[0] == 100
    assert 10 <= machine.asked <= 16  # the last one and a half seconds


@dataclass
class LongBooks(Machine):
    """A look takes four seconds, and comes when asked; the first one tells the power of a moment with more to do."""

    told_watts: float = 125.0
    look_s: float = 4.0
    looking_ns: int | None = None
    data_ns: int = 0

    def ask(self) -> None:
        super().ask()
        if self.looking_ns is None:
            self.looking_ns = self.now_ns

    def latest(self) -> Spent:
        if self.looking_ns is not None and self.now_ns >= self.looking_ns + round(self.look_s * NS_PER_S):
            self.data_ns, self.looking_ns = self.looking_ns, None
        in_arm_s = max(0.0, self.data_ns / NS_PER_S - self.before_s)
        return Spent(
            t_ns=self.data_ns,
            energy_j=self.watts * self.data_ns / NS_PER_S,
            power_w=self.watts if self.data_ns else self.told_watts,
            duration_s=self.data_ns / NS_PER_S,
            arms={"sft": (self.watts * in_arm_s, in_arm_s)} if in_arm_s else {},
        )


@pytest.mark.parametrize("told_watts", [80.0, 95.0, 100.0, 125.0])
def test_joules_that_were_long_carried_on_are_looked_at_before_they_end_a_training(told_watts: float) -> None:
    machine = LongBooks(told_watts=told_watts)
    machine.advance(machine.before_s)
    stop = budgets(machine, study(arm=joules(6000.0))).stop("sft", "tiny", joules(6000.0), 0.0)
    assert stop is not None
    taken, _ = train(machine, stop, step_s=0.1)
    assert taken * 0.1 * machine.watts == pytest.approx(6000.0, rel=0.01)
    assert machine.asked > 0


def test_the_teachers_share_is_spent_before_the_first_step() -> None:
    machine = Machine()
    machine.advance(machine.before_s)
    stop = budgets(machine, study(arm=joules(1000.0))).stop("sft", "tiny", joules(1000.0), 600.0)
    assert stop is not None
    assert train(machine, stop, step_s=0.1)[0] == 40


def test_a_runs_budget_keeps_back_the_evaluation_and_the_rest() -> None:
    machine = Machine(stages={"evaluate.start": (150.0, 1.5), "idle_baseline": (100.0, 1.0)})
    machine.advance(machine.before_s)
    kept = budgets(machine, study(run=joules(2000.0)))
    kept.habits.note_evaluation("tiny", "evaluate.start", is_seen=True)
    stop = kept.stop("sft", "tiny", None, 0.0)
    assert stop is not None
    steps, reason = train(machine, stop, step_s=0.1)
    # 2000 J less 150 J of evaluation, 200 J of the idle machine and the 200 J before: 14.5 s
    assert steps == 145
    assert reason.startswith("the run's budget of 2000 J")
    kept.count("sft", {"tokens_total": 64, "stopped_by": reason})
    assert kept.cannot_begin("tiny", None, begun=1) == reason


def test_what_lies_between_the_last_stages_is_kept_back_too() -> None:
    machine = Machine(look_every_s=0.5, stages={"evaluate.start": (150.0, 1.5), "idle_baseline": (100.0, 1.0)})
    machine.advance(machine.before_s)
    kept = budgets(machine, study())
    kept.habits.note_evaluation("tiny", "evaluate.start", is_seen=True)
    time = Limit(kind=LimitKind.TIME, amount=60.0, said="1 min")
    assert kept.reserve(joules(1000.0), "tiny") == pytest.approx(350.0)
    assert kept.reserve(time, "tiny") == pytest.approx(3.5)
    for gap_s in (0.1, 0.2, 9.0):
        kept.habits.note_gap(gap_s)
    kept.habits.cleanup_s = 0.3
    # of the evaluation, and before the idle stage, which drops nothing
    assert kept.reserve(joules(1000.0), "tiny") == pytest.approx(350.0 + 100.0 * (2 * 0.2 + 2 * 0.3))
    assert kept.reserve(time, "tiny") == pytest.approx(3.5 + 2 * 0.2 + 2 * 0.3)
    kept.habits.note_evaluation("tiny", "evaluate.start", is_seen=True)  # it took 0.3 s of its 1.5 s to clear up
    kept.habits.cleanup_s = 0.1
    assert kept.reserve(joules(1000.0), "tiny") == pytest.approx(350.0 + 100.0 * (2 * 0.2 - 0.2 + 0.1))


def test_what_a_checkpoint_took_to_write_is_kept_back_next_time() -> None:
    machine = Machine(look_every_s=0.5)
    machine.advance(machine.before_s)
    kept = budgets(machine, study(arm=joules(1000.0)))
    first = kept.stop("sft", "tiny", joules(1000.0), 0.0)
    assert first is not None
    assert train(machine, first, step_s=0.1)[0] == 100
    machine.advance(2.0)
    first.end(machine.now_ns)
    machine.before_s = machine.now_ns / NS_PER_S
    second = kept.stop("sft", "tiny", joules(1000.0), 0.0)
    assert second is not None
    assert train(machine, second, step_s=0.1)[0] == 80


def test_time_and_tokens_are_budgets_too() -> None:
    machine = Machine()
    machine.advance(machine.before_s)
    time = Limit(kind=LimitKind.TIME, amount=60.0, said="1 min")
    stop = budgets(machine, study(arm=time)).stop("sft", "tiny", time, 0.0)
    assert stop is not None
    assert train(machine, stop, step_s=0.5)[0] == 120
    tokens = Limit(kind=LimitKind.TOKENS, amount=1000.0, said="1000 tokens")
    stop = budgets(machine, study(arm=tokens)).stop("sft", "tiny", tokens, 0.0)
    assert stop is not None
    steps, reason = train(machine, stop, step_s=0.5)
    assert (steps, reason) == (15, "its budget of 1000 tokens: 960 tokens")  # never overdrawn


def test_tokens_of_all_arms_are_the_runs() -> None:
    machine = Machine()
    limit = Limit(kind=LimitKind.TOKENS, amount=1000.0, said="1000 tokens")
    kept = budgets(machine, study(run=limit))
    kept.count("sft", {"tokens_total": 512})
    assert kept.cannot_begin("tiny", None, begun=1) is None
    stop = kept.stop("kd", "tiny", None, 0.0)
    assert stop is not None
    assert train(machine, stop, step_s=0.1)[0] == 7
    kept.count("kd", {"tokens_total": 500})
    assert "1,012 tokens of the run's budget" in (kept.cannot_begin("tiny", None, begun=2) or "")


def test_a_run_that_cannot_take_a_step_is_refused() -> None:
    machine = Machine()
    machine.advance(30.0)
    with pytest.raises(BudgetError, match="run: the budget of 2000 J cannot be kept: 3,000 J of it are spent before"):
        budgets(machine, study(run=joules(2000.0))).cannot_begin("tiny", None, begun=0)


def test_energy_that_is_not_known_cannot_be_limited() -> None:
    machine = Machine(energy_known=False)
    with pytest.raises(BudgetError, match=r"the run's energy is not known \(no instrument\)"):
        budgets(machine, study(run=joules(2000.0))).cannot_begin("tiny", None, begun=0)
    with pytest.raises(BudgetError, match="nothing tells what this run has spent"):
        Budgets(study(run=joules(1.0)), None, print).cannot_begin("tiny", None, begun=0)


def test_no_arm_begins_under_joules_of_which_some_are_not_read() -> None:
    machine, limit = Machine(unread_from_s=0.0), joules(2000.0)
    kept = budgets(machine, study(arm=limit))
    with pytest.raises(
        BudgetError, match=r"arm: .* not all of the run's energy is known \(gpu0 is not read\); see that"
    ):
        kept.cannot_begin("tiny", limit, begun=0)
    assert machine.now_ns == pytest.approx(30 * NS_PER_S, rel=0.01), "it may come yet"
    assert "gpu0 is not read" in (kept.cannot_begin("tiny", limit, begun=1) or "")
    assert machine.now_ns == pytest.approx(30 * NS_PER_S, rel=0.01), "and was waited for"
    assert kept.cannot_begin("tiny", None, begun=1) is None
    assert kept.cannot_begin("tiny", Limit(kind=LimitKind.TIME, amount=60.0, said="60 s"), begun=1) is None


def test_a_part_that_is_read_late_is_waited_for() -> None:
    machine, limit = Machine(unread_from_s=0.0, unread_until_s=4.0), joules(2000.0)
    assert budgets(machine, study(arm=limit)).cannot_begin("tiny", limit, begun=0) is None
    assert machine.now_ns == pytest.approx(4 * NS_PER_S, rel=0.02)


@pytest.mark.parametrize("whose", ["arm", "run"])
def test_a_training_whose_energy_is_no_longer_read_ends_there(whose: str) -> None:
    """What is carried on for ever would be held against the power of a part that nobody sees."""
    machine, limit = Machine(before_s=0.0, unread_from_s=20.0), joules(20_000.0)
    spec = study(arm=limit) if whose == "arm" else study(run=limit)
    kept = budgets(machine, spec)
    stop = kept.stop("sft", "tiny", limit if whose == "arm" else None, 0.0)
    assert stop is not None
    steps, reason = train(machine, stop, step_s=1.0)
    assert steps == 20
    name = "its budget" if whose == "arm" else "the run's budget"
    told = "not all of the run's energy is known (gpu0 is not read)"
    assert reason == f"unread energy: {told}, so that {name} of 20000 J cannot be held to"
    assert machine.now_ns == 20 * NS_PER_S, "waiting draws, too"


def test_a_stage_that_uses_the_runs_budget_up_is_ended() -> None:
    machine = Machine()
    kept = budgets(machine, study(run=joules(2000.0)))
    kept.check("teacher_logits", StageKind.TEACHER_LOGITS)
    machine.advance(21.0)
    with pytest.raises(BudgetError, match="2,100 J of it are spent at teacher_logits, before the first"):
        kept.check("teacher_logits", StageKind.TEACHER_LOGITS)
    with pytest.raises(BudgetError, match=r"at evaluate\.start"):
        kept.check("evaluate.start", StageKind.EVALUATE)
    for kind in (StageKind.IDLE_BASELINE, StageKind.STUDENT_TRAIN):
        kept.check("any", kind)
    kept.count("sft", {"tokens_total": 64})
    kept.check("evaluate.sft.1.0", StageKind.EVALUATE)
    with pytest.raises(BudgetError, match=r"2,100 J of it are spent at serve\.teacher; raise"):
        kept.check("serve.teacher", StageKind.SERVE)
    machine.unread_from_s = 0.0
    kept.check("serve.teacher", StageKind.SERVE)
    for spec in (study(arm=joules(1.0)), study(run=Limit(kind=LimitKind.TOKENS, amount=1.0, said="1 tokens"))):
        budgets(machine, spec).check("serve.teacher", StageKind.SERVE)


def test_a_budget_that_has_been_raised_since_ends_nothing() -> None:
    machine, stopped = Machine(), {"tokens_total": 64, "stopped_by": "the run's budget of 1000 J: 1,000 J with the e"}
    for amount, over in ((1000.0, stopped["stopped_by"]), (2000.0, None)):
        kept = budgets(machine, study(run=joules(amount)))
        kept.count("sft", stopped)
        assert kept.over == over


def test_modelled_energy_is_said_once() -> None:
    machine, said = Machine(is_measured=False), list[str]()
    kept = budgets(machine, study(run=joules(2000.0)), said)
    for _ in range(2):
        assert kept.cannot_begin("tiny", None, begun=0) is None
    assert said == ["budget: this machine's energy is modelled at least in part, and so is what is left of it"]


def test_without_a_budget_nothing_is_asked() -> None:
    kept = Budgets(study(), None, print)
    assert kept.cannot_begin("tiny", None, begun=0) is None
    assert kept.stop("sft", "tiny", None, 0.0) is None
