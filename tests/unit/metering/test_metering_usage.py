"""Who used a device, and how its energy is shared: worked examples. The laws are in tests/property."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stillwatt.metering.tenants import fallbacks, findings, shared_flag, tenancy
from stillwatt.metering.usage import NOT_LOOKED, Program, Seen, UseStep, Weights, shares, use_steps, weigh
from stillwatt.records import DeviceInstance, DeviceUse, DeviceUser, ProcessId, Rule
from stillwatt.units import NS_PER_S

TEACHER, STUDENT = ProcessId(100, 1), ProcessId(200, 2)
GPU0 = frozenset({"gpu0"})


def user(pid: int, *above: ProcessId, share: float | None = None, instance: str | None = None) -> DeviceUser:
    return DeviceUser(pid=pid, chain=(ProcessId(pid, pid), *above), sm_share=share, instance=instance)


def look(start_s: int, *users: DeviceUser, part: str = "gpu0") -> DeviceUse:
    return DeviceUse(part=part, since_ns=start_s * NS_PER_S, t_ns=(start_s + 1) * NS_PER_S, users=users)


def programs(*spans: tuple[int, int]) -> dict[str, Program]:
    """Teacher and student, each running its stage over one span of seconds."""
    pairs = zip(("teacher", "student"), (TEACHER, STUDENT), spans, strict=False)
    return {
        name: Program(process=process, parts=GPU0, spans=((first * NS_PER_S, last * NS_PER_S),))
        for name, process, (first, last) in pairs
    }


def weighed(uses: list[DeviceUse], who: dict[str, Program], rule: Rule, end_s: int = 10) -> list[tuple[int, Weights]]:
    found = shares(uses, who, rule=rule, start_ns=0, end_ns=end_s * NS_PER_S)
    return [(step.start_ns // NS_PER_S, step.weights) for step in found["gpu0"]]


def test_a_teacher_beside_a_student_is_shared_by_each_rule() -> None:
    uses = [look(0, user(101, TEACHER, share=0.6), user(102, TEACHER, share=0.15), user(201, STUDENT, share=0.25))]
    who = programs((0, 10), (2, 10))
    for rule, teacher in ((Rule.EVEN, 0.5), (Rule.PROCESS, 0.5), (Rule.UTILISATION, 0.75)):
        (_, alone), (at_s, both) = weighed(uses, who, rule)
        assert at_s == 2
        assert alone.sessions == {"teacher": 1.0}
        assert both.sessions["teacher"] == pytest.approx(teacher)
        assert (both.rule, both.reason, both.strangers) == (rule, "", 0.0)


def test_by_process_only_those_that_are_there_share() -> None:
    uses = [look(0, user(201, STUDENT)), look(5, user(201, STUDENT), user(100, share=None))]
    uses[1] = replace(uses[1], users=(user(201, STUDENT), DeviceUser(pid=100, chain=(TEACHER,))))
    (_, before), (at_s, after) = weighed(uses, programs((0, 10), (0, 10)), Rule.PROCESS)
    assert before.sessions == {"student": 1.0, "teacher": 0.0}
    assert (at_s, after.sessions) == (5, {"student": 0.5, "teacher": 0.5})


@pytest.mark.parametrize(
    ("seen", "rule", "reason"),
    [
        (Seen(sessions={"a": None, "b": 0.2}), Rule.PROCESS, "shares of the multiprocessors are not known"),
        (
            Seen(sessions={"a": None, "b": 0.2}, reason="Not Supported"),
            Rule.PROCESS,
            "shares of the multiprocessors are not known (Not Supported)",
        ),
        (Seen(sessions={"a": 0.0}), Rule.PROCESS, "no process computed"),
        (Seen(), Rule.EVEN, "no process computed; no session had a process on it"),
        (Seen(unknown=1, reason="pid 0"), Rule.EVEN, "some of its processes cannot be told (pid 0)"),
        (Seen(is_listed=False, reason="refused"), Rule.EVEN, "its processes are not seen (refused)"),
        (NOT_LOOKED, Rule.EVEN, "its processes are not seen (nobody looked at who is on it)"),
    ],
)
def test_a_rule_with_nothing_to_go_by_falls_back_and_says_so(seen: Seen, rule: Rule, reason: str) -> None:
    weights = weigh(seen, ["a", "b"], Rule.UTILISATION)
    assert (weights.rule, weights.reason) == (rule, reason)
    assert sum(weights.sessions.values()) == pytest.approx(1.0)


def test_tenants_pay_only_where_that_is_asked_for() -> None:
    seen = Seen(sessions={"a": 0.3, "b": 0.1}, strangers={7: 0.2, 8: 0.2})
    expected = {Rule.EVEN: (1 / 3, 1 / 3), Rule.PROCESS: (1 / 3, 1 / 3), Rule.UTILISATION: (0.3 / 0.8, 0.5)}
    for rule, (first, strangers) in expected.items():
        assert weigh(seen, ["a", "b"], rule).strangers == 0.0
        paid = weigh(seen, ["a", "b"], rule, tenants_pay=True)
        assert [paid.sessions["a"], paid.strangers] == pytest.approx([first, strangers])
    alone = replace(seen, strangers={})
    assert weigh(alone, ["a", "b"], Rule.EVEN, tenants_pay=True).strangers == 0.0
    idle = Seen(sessions={"a": 0.0}, strangers={7: 0.9})
    assert weigh(idle, ["a"], Rule.UTILISATION, tenants_pay=True).strangers == 1.0
    assert weigh(idle, ["a"], Rule.UTILISATION).sessions == {"a": 1.0}
    unknown = Seen(sessions={"a": 0.5}, strangers={7: None})
    assert weigh(unknown, ["a"], Rule.UTILISATION, tenants_pay=True).rule is Rule.PROCESS
    assert weigh(unknown, ["a"], Rule.UTILISATION).rule is Rule.UTILISATION


def test_a_card_in_instances_is_shared_by_slices() -> None:
    instances = (
        DeviceInstance(name="1/0", uuid="MIG-a", slices=3),
        DeviceInstance(name="2/0", uuid="MIG-b", slices=2),
    )
    users = (user(101, TEACHER, instance="1/0"), user(201, STUDENT, instance="2/0"), user(300, instance="2/0"))
    use = replace(look(0, *users), instances=instances, slices=7)
    ((_, weights),) = weighed([use], programs((0, 10), (0, 10)), Rule.UTILISATION)
    assert weights.sessions == {"teacher": pytest.approx(0.75), "student": pytest.approx(0.25)}
    steps = use_steps([use], programs((0, 10), (0, 10)), 0, 10 * NS_PER_S)
    own, others = findings(steps, {}, 0, 10 * NS_PER_S)
    share = "57 % of its slices for 10 s of 10 s"  # 3 of 7, and half of 2
    assert own == f"gpu0: a card in instances (MIG): this run had {share}; the whole card is billed"
    assert others.endswith("up to 14 % of its slices")
    later = replace(use, since_ns=4 * NS_PER_S, t_ns=5 * NS_PER_S, users=users[:1])
    steps = use_steps([use, later], programs((0, 10), (0, 10)), 0, 10 * NS_PER_S)
    assert "had 43 to 57 % of its slices for 10 s" in findings(steps, {}, 0, 10 * NS_PER_S)[0]
    untold = use_steps([replace(use, slices=None)], programs((0, 10), (0, 10)), 0, 10 * NS_PER_S)
    assert "had some of its slices (the driver does not tell how many)" in findings(untold, {}, 0, 10 * NS_PER_S)[0]
    gone = use_steps([replace(use, users=users[2:])], programs((0, 10), (0, 10)), 0, 10 * NS_PER_S)
    assert not any("this run had" in said for said in findings(gone, {}, 0, 10 * NS_PER_S))
    for odd in (replace(use, slices=None), replace(use, users=(user(101, TEACHER), user(201, STUDENT)))):
        ((_, weights),) = weighed([odd], programs((0, 10), (0, 10)), Rule.UTILISATION)
        assert weights.rule is Rule.PROCESS


def test_the_nearest_program_in_the_chain_owns_a_process() -> None:
    inner = {"outer": Program(process=TEACHER, parts=GPU0), "inner": Program(process=STUDENT, parts=GPU0)}
    (step,) = use_steps([look(0, user(7, STUDENT, TEACHER, share=0.5))], inner, 0, NS_PER_S)["gpu0"]
    assert step.seen.sessions == {"inner": 0.5}


def test_a_number_used_again_is_a_stranger() -> None:
    (step,) = use_steps([look(0, user(7, ProcessId(TEACHER.pid, 99)))], programs((0, 1)), 0, NS_PER_S)["gpu0"]
    assert (step.seen.sessions, step.seen.strangers) == ({}, {7: None})


def test_a_session_gets_nothing_of_a_part_it_may_not_use_unless_it_was_there() -> None:
    who = programs((0, 10), (0, 10))
    who["student"] = replace(who["student"], parts=frozenset({"gpu1"}))
    uses = [
        look(0, user(101, TEACHER, share=0.5)),
        look(5, user(101, TEACHER, share=0.5), user(201, STUDENT, share=0.5)),
    ]
    found = shares(uses, who, rule=Rule.EVEN, start_ns=0, end_ns=10 * NS_PER_S)
    assert [dict(step.weights.sessions) for step in found["gpu0"]] == [
        {"teacher": 1.0},
        {"student": 0.5, "teacher": 0.5},
    ]
    assert [dict(step.weights.sessions) for step in found["gpu1"]] == [{"student": 1.0}]
    said = findings(use_steps(uses, who, 0, 10 * NS_PER_S), who, 0, 10 * NS_PER_S)
    assert said == (
        "gpu0: session student used it for 5.0 s although it could not when it began; "
        "check what chooses its cards (CUDA_VISIBLE_DEVICES, HIP_VISIBLE_DEVICES)",
    )


def test_spans_are_cut_to_the_time_that_is_asked_for() -> None:
    found = weighed([], programs((-5, 3), (20, 30)), Rule.EVEN)
    assert [(at_s, dict(weights.sessions)) for at_s, weights in found] == [(0, {"teacher": 1.0}), (3, {})]
    assert shares([], programs((0, 1)), rule=Rule.EVEN, start_ns=5, end_ns=5) == {"gpu0": ()}


def test_looks_out_of_order_and_out_of_time_do_no_harm() -> None:
    uses = [look(5), look(1, user(1)), look(30, user(2)), look(5, user(3))]
    steps = use_steps(uses, {}, 2 * NS_PER_S, 10 * NS_PER_S)["gpu0"]
    assert [(step.start_ns // NS_PER_S, list(step.seen.strangers)) for step in steps] == [(2, [1]), (5, [3])]
    assert use_steps([look(0)], {}, 5, 5)["gpu0"] == ()


def test_what_a_refusal_leaves_unknown_is_said() -> None:
    refused = DeviceUse(part="gpu0", since_ns=0, t_ns=0, users=None, reason="Not Supported")
    lost = replace(look(4, DeviceUser(pid=0)), reason="the driver gives processes without a number")
    steps = use_steps(
        [refused, lost, replace(lost, since_ns=8 * NS_PER_S, t_ns=9 * NS_PER_S, reason="")], {}, 0, 10 * NS_PER_S
    )
    assert findings(steps, {}, 0, 10 * NS_PER_S) == (
        "gpu0: for 4.0 s it is not known who used it: Not Supported",
        "gpu0: for 4.0 s it is not known who used it: the driver gives processes without a number",
        "gpu0: for 2.0 s it is not known who used it: processes that nobody can place",
    )
    assert findings({"gpu0": (UseStep(start_ns=0, end_ns=9, seen=Seen()),)}, {}, 0, 9) == ()


def test_strangers_are_named_by_number_with_their_time_and_share() -> None:
    uses = [look(0), look(20, *(user(pid, share=0.2) for pid in (9, 7, 8, 6))), look(54)]
    steps = use_steps(uses, {}, 0, 120 * NS_PER_S)
    assert findings(steps, {}, 0, 120 * NS_PER_S) == (
        "gpu0: 4 other processes (pids 6, 7, 8, …, not of this run) used it for 34 s of 120 s, up to 80 % of its"
        " multiprocessors",
    )
    stage = [(0, 30 * NS_PER_S), (50 * NS_PER_S, 60 * NS_PER_S)]
    assert shared_flag(steps["gpu0"], stage) == (
        "shared: processes of others were on it for 14 s of 40 s, with up to 80 % of its multiprocessors"
    )
    assert shared_flag(steps["gpu0"], [(60 * NS_PER_S, 70 * NS_PER_S)]) is None


def test_a_stranger_that_never_computed_is_told_and_flags_nothing() -> None:
    idle = use_steps([look(0, user(9, share=0.0))], {}, 0, 10 * NS_PER_S)
    assert shared_flag(idle["gpu0"], [(0, NS_PER_S)]) is None
    assert findings(idle, {}, 0, 10 * NS_PER_S)[0].endswith(
        "used it for 10 s of 10 s, up to 0 % of its multiprocessors"
    )
    unknown = use_steps([look(0, user(9, share=0.0)), look(5, user(9))], {}, 0, 10 * NS_PER_S)["gpu0"]
    found = tenancy(unknown, [(0, 10 * NS_PER_S)])
    assert found is not None
    assert (found.most_share, found.is_idle) == (0.0, False)
    assert shared_flag(unknown[1:], [(0, 10 * NS_PER_S)]) == "shared: processes of others were on it for 5.0 s of 10 s"


def test_the_seconds_of_each_fallback_are_added_up() -> None:
    uses = [look(0), look(3, user(101, TEACHER)), look(6, user(101, TEACHER), user(201, STUDENT)), look(8)]
    found = shares(uses, programs((0, 10), (0, 9)), rule=Rule.UTILISATION, start_ns=0, end_ns=10 * NS_PER_S)
    assert fallbacks(found, Rule.UTILISATION) == (
        "gpu0: for 4.0 s shared by `even` and not by `utilisation`: no process computed; no session had a process on"
        " it",
        "gpu0: for 5.0 s shared by `process` and not by `utilisation`: shares of the multiprocessors are not known",
    )
    assert fallbacks(found, Rule.EVEN)
    assert fallbacks(shares(uses, programs((0, 10)), rule=Rule.PROCESS, start_ns=0, end_ns=9), Rule.PROCESS) == ()
