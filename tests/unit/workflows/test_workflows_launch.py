"""A launch over machines: how many ranks, where, what each is told, and what the end of one means for the others."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from fakes import FakeClock
from stillwatt import __version__
from stillwatt.errors import LaunchError, LostTouchError, UsageError
from stillwatt.ledger.group import launch_group
from stillwatt.workflows.launch import End, Machine, Watch, plan, rank_environment, refuse_nested, seats
from stillwatt.workflows.ray_keeper import Look
from stillwatt.workflows.run_ray import Order, check_look


def machine(name: str, cpus: float, gpus: float = 0.0) -> Machine:
    return Machine(node_id=name, host=name, address=f"10.0.0.{ord(name) - 96}", cpus=cpus, gpus=gpus)


def test_without_gpus_each_machine_has_a_rank_that_takes_all_of_its_cpus() -> None:
    found = plan([machine("a", 4), machine("b", 16), machine("c", 0)], free_gpus=0, ranks=None)
    assert list(found.bundles) == [{"CPU": 16}, {"CPU": 4}]
    assert found.strategy == "STRICT_SPREAD"
    assert found.said == "2 ranks with 20 CPU together"


def test_fewer_ranks_than_machines_take_the_largest_and_more_are_dealt_in_turns() -> None:
    three = [machine("a", 4), machine("b", 16), machine("c", 8)]
    assert list(plan(three, free_gpus=0, ranks=1).bundles) == [{"CPU": 16}]
    assert plan(three, free_gpus=0, ranks=1).said == "1 rank with 16 CPU together"
    more = plan(three, free_gpus=0, ranks=5)
    assert list(more.bundles) == [{"CPU": 8}, {"CPU": 8}, {"CPU": 4}, {"CPU": 4}, {"CPU": 4}]
    assert more.strategy == "SPREAD"
    # a machine has no more ranks than CPUs
    assert list(plan([machine("a", 1), machine("b", 3)], free_gpus=0, ranks=4).bundles) == [{"CPU": 1}] * 4


def test_a_rank_takes_one_gpu_with_its_share_of_the_cpus() -> None:
    found = plan([machine("a", 32, 4), machine("b", 8, 2), machine("c", 64)], free_gpus=5, ranks=None)
    assert list(found.bundles) == [{"GPU": 1, "CPU": 4}] * 5
    assert found.strategy == "PACK"
    assert found.said == "5 ranks with 5 GPU and 20 CPU together"
    assert len(plan([machine("a", 1, 4)], free_gpus=0, ranks=2).bundles) == 2  # they are waited for


@pytest.mark.parametrize(
    ("machines", "ranks", "words"),
    [
        ([machine("a", 8, 2)], None, "the Ray cluster has no free GPU; wait until one is"),
        ([machine("a", 2)], 3, "the Ray cluster has 2 CPUs, and 3 ranks take one each; `ray status`"),
        ([machine("a", 0)], None, "the Ray cluster has no machine with a CPU; `ray status`"),
    ],
)
def test_what_cannot_be_had_is_said_with_what_to_do(machines: list[Machine], ranks: int | None, words: str) -> None:
    with pytest.raises(LaunchError) as caught:
        plan(machines, free_gpus=0, ranks=ranks)
    assert str(caught.value).startswith(words)


def test_ranks_of_a_machine_follow_each_other_and_are_told_what_torchrun_tells() -> None:
    placed = seats({0: "b", 1: "a", 2: "b"})
    assert [(seat.rank, seat.node_id, seat.bundle) for seat in placed] == [(0, "b", 0), (1, "b", 2), (2, "a", 1)]
    told = [rank_environment(seat, 3, master="10.0.0.2", port=4711, launch_id="ray x") for seat in placed]
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    assert [[each[name] for name in names] for each in told] == [
        ["0", "3", "0", "2", "10.0.0.2", "4711"],
        ["1", "3", "1", "2", "10.0.0.2", "4711"],
        ["2", "3", "0", "1", "10.0.0.2", "4711"],
    ]
    groups = [launch_group({**each, "SLURM_JOB_ID": "1", "SLURM_STEP_ID": "0"}) for each in told]
    assert all(group is not None for group in groups)
    assert [group.rank for group in groups if group] == [0, 1, 2]
    assert len({group.key("study") for group in groups if group}) == 1


def test_a_rank_of_a_launch_launches_nothing() -> None:
    refuse_nested({"WORLD_SIZE": "1"})
    with pytest.raises(UsageError, match="start it once, without torchrun"):
        refuse_nested({"WORLD_SIZE": "2"})


NAMES = ("one (10.0.0.1, process 5)", "two (10.0.0.2, process 6)", "three (10.0.0.3, process 7)")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def watch(clock: FakeClock) -> Watch:
    return Watch(NAMES, clock)


def end_all(watch: Watch, *statuses: int, order: tuple[int, ...] = (0, 1, 2)) -> None:
    for rank in order:
        watch.over(End(rank=rank, status=statuses[rank]))


@pytest.mark.parametrize("status", [0, 3])
def test_a_launch_ends_as_its_first_rank_does(watch: Watch, status: int) -> None:
    assert watch.wait_s is None
    end_all(watch, status, 0, 0, order=(1, 2, 0))
    assert watch.is_over
    assert watch.due() is None
    assert watch.status() == status


@pytest.mark.parametrize("status", [1, 2, 130])
def test_the_first_rank_s_own_words_are_enough(watch: Watch, status: int) -> None:
    end_all(watch, status, 1, 1)
    assert watch.status() == status


def test_of_ranks_that_say_the_same_the_first_one_s_word_is_enough(watch: Watch) -> None:
    for rank in (2, 0, 1):
        watch.over(End(rank=rank, status=1, last_lines=("error: no such model",)))
    assert watch.status() == 1


def test_a_lost_rank_gives_the_others_a_moment_and_then_ends_them(watch: Watch, clock: FakeClock) -> None:
    watch.over(End(rank=1, status=-9, last_lines=("a", "b")))
    assert watch.wait_s == 5.0
    clock.advance(4.9)
    assert watch.due() is None
    clock.advance(0.2)
    assert (watch.due(), watch.wait_s, watch.due()) == (signal.SIGINT, 30.0, None)
    watch.over(End(rank=0, status=130))
    clock.advance(30.1)
    assert watch.due() == signal.SIGKILL
    watch.over(End(rank=2, status=-9))
    with pytest.raises(LaunchError) as caught:
        watch.status()
    assert str(caught.value) == (
        "rank 1 on two (10.0.0.2, process 6) was ended by SIGKILL, perhaps for want of memory; what is finished is "
        "kept and booked, and the same command goes on from there\nits last lines:\n  a\n  b"
    )
    assert caught.value.exit_code == 1


def test_a_rank_that_cannot_be_ended_is_given_up(watch: Watch, clock: FakeClock) -> None:
    end_all(watch, 1, -11, order=(0, 1))
    for _ in range(3):
        assert not watch.is_over
        clock.advance(31)
        watch.due()
    assert watch.is_over
    with pytest.raises(LaunchError, match=r"rank 1 on two .* was ended by SIGSEGV;"):
        watch.status()


def test_whoever_was_lost_is_named_and_not_who_noticed_it_first(watch: Watch) -> None:
    noticed = (f"error: {LostTouchError(0, 'Connection closed by peer')}",)
    watch.over(End(rank=0, status=1, last_lines=noticed))
    watch.over(End(rank=1, status=1, last_lines=noticed))
    watch.over(End(rank=2, status=1, last_lines=("torch.OutOfMemoryError: CUDA out of memory",)))
    with pytest.raises(LaunchError, match=r"rank 2 on three .* ended with status 1; .*\n.*\n  torch\.OutOfMemoryError"):
        watch.status()


def test_a_rank_that_ray_has_lost_sight_of_is_told_with_ray_s_reason(watch: Watch) -> None:
    watch.over(End(rank=2, status=None, why="the node has died"))
    end_all(watch, 1, 1, order=(0, 1))
    with pytest.raises(LaunchError, match=r"rank 2 on three .* was lost by Ray \(the node has died\);"):
        watch.status()


def test_a_first_rank_that_is_ended_from_outside_has_had_no_word(watch: Watch) -> None:
    watch.over(End(rank=0, status=-40, last_lines=("shown as it came",)))
    end_all(watch, 0, 1, 1, order=(1, 2))
    with pytest.raises(LaunchError, match=r"rank 0 on one .* was ended by signal 40;") as caught:
        watch.status()
    assert caught.value.last_lines == ()


def test_a_second_ctrl_c_is_not_polite(watch: Watch) -> None:
    assert watch.interrupt() == signal.SIGINT
    assert watch.wait_s == 30.0
    assert watch.interrupt() == signal.SIGKILL


SEEN = Look(host="two", version=__version__, sees_runs=True, sees_recipe=True, port=1)
ORDER = Order(arguments=("run",), runs_dir=Path("/here/runs"), recipe=Path("/here/study.toml"))


@pytest.mark.parametrize(
    ("look", "words"),
    [
        (SEEN._replace(version="0.0.9"), "has Stillwatt 0.0.9, and this machine"),
        (SEEN._replace(sees_runs=False), "does not see the folder of runs /here/runs that this machine sees; name one"),
        (SEEN._replace(sees_recipe=False), "does not have the recipe /here/study.toml as it is on this machine; put"),
    ],
)
def test_a_machine_that_cannot_take_part_is_named_before_anything_is_spent(look: Look, words: str) -> None:
    check_look(SEEN, "two (10.0.0.2)", ORDER)
    with pytest.raises(LaunchError) as caught:
        check_look(look, "two (10.0.0.2)", ORDER)
    assert str(caught.value).startswith(f"two (10.0.0.2) {words}")
