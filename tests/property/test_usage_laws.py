"""What must hold however devices are shared, and by whatever rule (method.md, eq. 15)."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillwatt.metering.tenants import fallbacks, findings, shared_flag, tenancy
from stillwatt.metering.usage import Program, shares, use_steps
from stillwatt.records import DeviceInstance, DeviceUse, DeviceUser, ProcessId, Rule

law = settings(deadline=None, max_examples=100)
END_NS = 200
SESSIONS = ("a", "b", "c")
PARTS = ("gpu0", "gpu1")
INSTANCES = (DeviceInstance(name="1/0", uuid="MIG-a", slices=3), DeviceInstance(name="2/0", uuid="MIG-b", slices=4))

_times = st.integers(-50, END_NS + 50)
_spans = st.lists(st.tuples(_times, _times).map(lambda pair: (min(pair), max(pair))), max_size=3).map(tuple)


@st.composite
def program_maps(draw: st.DrawFn) -> dict[str, Program]:
    """Some sessions, with processes or without, that may use some parts now and then."""
    names = draw(st.lists(st.sampled_from(SESSIONS), unique=True, max_size=3))
    return {
        name: Program(
            process=draw(st.sampled_from([ProcessId(100 + SESSIONS.index(name), 1), None])),
            parts=draw(st.frozensets(st.sampled_from(PARTS))),
            spans=draw(_spans),
        )
        for name in names
    }


@st.composite
def device_users(draw: st.DrawFn) -> DeviceUser:
    """A process of a session, of a stranger, or of nobody knows whom."""
    pid = draw(st.integers(0, 30))
    root = draw(st.sampled_from([ProcessId(100, 1), ProcessId(101, 1), ProcessId(102, 1), ProcessId(999, 1), None]))
    return DeviceUser(
        pid=pid,
        chain=() if root is None else (ProcessId(pid, pid), root),
        sm_share=draw(st.none() | st.integers(0, 100).map(lambda percent: percent / 100)),
        instance=draw(st.sampled_from([None, "1/0", "2/0"])),
        same_user=draw(st.sampled_from([None, True, False])),
    )


@st.composite
def looks(draw: st.DrawFn) -> DeviceUse:
    since_ns = draw(_times)
    users = draw(st.none() | st.lists(device_users(), max_size=5).map(tuple))
    return DeviceUse(
        part=draw(st.sampled_from(PARTS)),
        since_ns=since_ns,
        t_ns=since_ns + draw(st.integers(0, 100)),
        users=users,
        reason="refused" if users is None else "",
        instances=draw(st.sampled_from([(), (), INSTANCES])),
        slices=draw(st.sampled_from([None, 7])),
    )


_uses = st.lists(looks(), max_size=8)
_rules = st.sampled_from(list(Rule))


@law
@given(_uses, program_maps(), _rules, st.booleans())
def test_weights_sum_to_one_wherever_a_session_counts(
    uses: list[DeviceUse], programs: dict[str, Program], rule: Rule, pay: bool
) -> None:
    found = shares(uses, programs, rule=rule, start_ns=0, end_ns=END_NS, tenants_pay=pay)
    for steps in found.values():
        for step in steps:
            weights = [*step.weights.sessions.values(), step.weights.strangers]
            assert all(0.0 <= weight <= 1.0 for weight in weights)
            assert math.fsum(weights) == pytest.approx(1.0 if step.weights.sessions else 0.0)
            assert pay or step.weights.strangers == 0.0


@law
@given(_uses, program_maps(), _rules)
def test_steps_lie_without_hole_or_overlap_from_start_to_end(
    uses: list[DeviceUse], programs: dict[str, Program], rule: Rule
) -> None:
    found = shares(uses, programs, rule=rule, start_ns=0, end_ns=END_NS)
    assert {use.part for use in uses} <= found.keys()
    for steps in found.values():
        marks = [0, *(step.end_ns for step in steps)]
        assert [step.start_ns for step in steps] == marks[:-1]
        assert marks[-1] == END_NS
        assert all(step.start_ns < step.end_ns for step in steps)


@law
@given(_uses, program_maps(), st.lists(st.integers(0, 500), min_size=END_NS, max_size=END_NS), st.booleans())
def test_another_rule_moves_energy_and_conserves_the_total(
    uses: list[DeviceUse], programs: dict[str, Program], power_w: list[int], pay: bool
) -> None:
    """Energy of any trace, given out by weights, is the same in all for every rule; so is what nobody gets."""
    totals = []
    for rule in Rule:
        found = shares(uses, programs, rule=rule, start_ns=0, end_ns=END_NS, tenants_pay=pay)
        totals.append(
            {
                part: math.fsum(
                    (math.fsum(step.weights.sessions.values()) + step.weights.strangers)
                    * sum(power_w[step.start_ns : step.end_ns])
                    for step in steps
                )
                for part, steps in found.items()
            }
        )
    for part in totals[0]:
        assert totals[1][part] == pytest.approx(totals[0][part])
        assert totals[2][part] == pytest.approx(totals[0][part])


@law
@given(_uses, program_maps(), _rules)
def test_one_session_alone_gets_all_by_every_rule(
    uses: list[DeviceUse], programs: dict[str, Program], rule: Rule
) -> None:
    for steps in shares(uses, programs, rule=rule, start_ns=0, end_ns=END_NS).values():
        for step in steps:
            if len(step.weights.sessions) == 1:
                assert list(step.weights.sessions.values()) == [1.0]


@law
@given(_uses, program_maps(), _rules, st.booleans(), st.randoms())
def test_the_order_of_sessions_and_looks_changes_nothing(
    uses: list[DeviceUse], programs: dict[str, Program], rule: Rule, pay: bool, random: object
) -> None:
    import random as shuffling

    assert isinstance(random, shuffling.Random)
    # two looks that begin at once have no order of their own
    uses = list({(use.part, use.since_ns): use for use in uses}.values())
    names, others = list(programs), list(uses)
    random.shuffle(names)
    random.shuffle(others)
    shuffled = {name: programs[name] for name in names}
    kept = shares(uses, programs, rule=rule, start_ns=0, end_ns=END_NS, tenants_pay=pay)
    assert shares(others, shuffled, rule=rule, start_ns=0, end_ns=END_NS, tenants_pay=pay) == kept


@law
@given(_uses, program_maps(), _rules, st.integers(1, END_NS - 1))
def test_cutting_the_time_in_two_gives_the_same_weights(
    uses: list[DeviceUse], programs: dict[str, Program], rule: Rule, cut_ns: int
) -> None:
    def second_by_second(start_ns: int, end_ns: int) -> dict[str, list[dict[str, float]]]:
        found = shares(uses, programs, rule=rule, start_ns=start_ns, end_ns=end_ns)
        return {
            part: [dict(step.weights.sessions) for step in steps for _ in range(step.start_ns, step.end_ns)]
            for part, steps in found.items()
        }

    whole, left, right = second_by_second(0, END_NS), second_by_second(0, cut_ns), second_by_second(cut_ns, END_NS)
    assert {part: left[part] + right[part] for part in whole} == whole


@law
@given(_uses, program_maps())
def test_nothing_of_a_part_goes_to_a_session_that_may_not_use_it_and_was_not_there(
    uses: list[DeviceUse], programs: dict[str, Program]
) -> None:
    for part, steps in shares(uses, programs, rule=Rule.EVEN, start_ns=0, end_ns=END_NS).items():
        for step in steps:
            for session in step.weights.sessions:
                assert part in programs[session].parts or session in step.seen.sessions


@law
@given(_uses, program_maps(), _rules, _spans)
def test_tenants_are_told_of_exactly_where_they_were(
    uses: list[DeviceUse], programs: dict[str, Program], rule: Rule, spans: tuple[tuple[int, int], ...]
) -> None:
    for steps in use_steps(uses, programs, 0, END_NS).values():
        there = [any(step.seen.strangers for step in steps if step.start_ns <= t < step.end_ns) for t in range(END_NS)]
        expected_ns = sum(sum(there[max(first, 0) : max(last, 0)]) for first, last in spans)
        found = tenancy(steps, spans)
        assert (found.shared_s if found else 0.0) == pytest.approx(expected_ns / 1e9)
        flag = shared_flag(steps, spans)
        assert flag is None or flag.startswith("shared: ")
    for line in (
        *findings(use_steps(uses, programs, 0, END_NS), programs, 0, END_NS),
        *fallbacks(shares(uses, programs, rule=rule, start_ns=0, end_ns=END_NS), rule),
    ):
        assert line.partition(":")[0] in PARTS


@law
@given(_uses, program_maps(), _rules)
def test_a_stranger_who_does_not_pay_moves_no_joule(
    uses: list[DeviceUse], programs: dict[str, Program], rule: Rule
) -> None:
    without = [
        use
        if use.users is None or use.instances
        else replace(use, users=tuple(user for user in use.users if not _is_strange(user, programs)))
        for use in uses
    ]
    with_them = shares(uses, programs, rule=rule, start_ns=0, end_ns=END_NS)
    found = shares(without, programs, rule=rule, start_ns=0, end_ns=END_NS)
    for part, steps in with_them.items():
        told = [dict(step.weights.sessions) for step in steps for _ in range(step.start_ns, step.end_ns)]
        alone = [dict(step.weights.sessions) for step in found[part] for _ in range(step.start_ns, step.end_ns)]
        assert told == alone


def _is_strange(user: DeviceUser, programs: dict[str, Program]) -> bool:
    return not user.is_unknown and not {program.process for program in programs.values()} & set(user.chain)
