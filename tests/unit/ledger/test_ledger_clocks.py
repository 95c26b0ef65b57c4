"""Wall clocks of nodes are compared by the marks they passed together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from run_dirs import GPU, FakeLiveness, SyntheticRun, constant_counter, gpu_counter
from stillwatt.ledger.clocks import Start, clock_offsets
from stillwatt.ledger.post import build_record
from stillwatt.records import RunRecord
from stillwatt.units import J_PER_MJ_MILLI, NS_PER_MS, NS_PER_S

names = st.sampled_from(["a", "b", "c", "d"])


def start(marks: dict[str, int]) -> Start:
    return Start(min(marks.values()), max(marks.values()), marks)


@given(
    offsets_ns=st.dictionaries(names, st.integers(-(10**12), 10**12), min_size=2),
    marks_ns=st.lists(st.integers(0, 10**14), min_size=1, max_size=6, unique=True),
    jitter_ns=st.integers(0, NS_PER_MS),
    data=st.data(),
)
def test_offsets_are_found_to_within_the_marks_own_disagreement(
    offsets_ns: dict[str, int], marks_ns: list[int], jitter_ns: int, data: st.DataObject
) -> None:
    """Whatever the clocks are off by, and however late each rank leaves a barrier, up to the jitter."""
    told = {
        name: {
            f"m {number}": at_ns + offset_ns + data.draw(st.integers(0, jitter_ns))
            for number, at_ns in enumerate(marks_ns)
        }
        for name, offset_ns in offsets_ns.items()
    }
    reference = min(offsets_ns)
    found = clock_offsets({name: [start(marks)] for name, marks in told.items()}, reference)
    assert found.keys() == offsets_ns.keys()
    for name, offset in found.items():
        true_ns = offsets_ns[name] - offsets_ns[reference]
        assert abs(offset.offset_ns - true_ns) <= jitter_ns
        assert offset.spread_ns <= jitter_ns


def test_a_machine_is_reached_through_another() -> None:
    told = {"a": {"x": 0}, "b": {"x": 10, "y": 110}, "c": {"y": 130}, "lone": {"z": 1}}
    found = clock_offsets({name: [start(marks)] for name, marks in told.items()}, "a")
    assert {name: offset.offset_ns for name, offset in found.items()} == {"a": 0, "b": 10, "c": 30}


def two_nodes(tmp_path: Path, *, marks: tuple[int, int], world_size: int = 2) -> RunRecord:
    """Rank 1's wall clock is 40 s ahead; each node's stage runs from second 101 to second 103 of true time."""
    run = SyntheticRun(tmp_path)
    for rank, monotonic_s in enumerate((100.0, 7000.0)):
        session = run.session(
            start_s=monotonic_s,
            host=f"node-{rank}",
            boot=f"boot-{rank}",
            wall_offset_s=100.0 - monotonic_s + 40.0 * rank,
            rank=rank,
            world_size=world_size,
        )
        session.sampler([gpu_counter()], parts={"gpu0": GPU})
        for number in range(marks[rank]):
            session.program("mark", monotonic_s + 1 + number, name="step", utc_ns=0)
        session.stage("train", monotonic_s + 1, monotonic_s + 3)
        signal = constant_counter(100.0, J_PER_MJ_MILLI, offset=-100.0 * monotonic_s / J_PER_MJ_MILLI)
        session.samples("gpu0.energy_counter", signal, until_s=monotonic_s + 4)
        session.end(monotonic_s + 4)
    return build_record(run.path, liveness=FakeLiveness())


def test_times_of_day_are_the_first_ranks(tmp_path: Path) -> None:
    record = two_nodes(tmp_path, marks=(3, 3))
    assert record.complete
    assert len({stage.start_utc for stage in record.stages}) == 1
    assert record.duration_s == pytest.approx(4.0)
    assert record.warnings == (
        "the wall clock of node-1 was 40 s ahead of node-0's, by 3 shared marks that agree to 0 ms; "
        "the times of its stages are corrected",
    )


def test_one_mark_says_nothing_of_its_own_error(tmp_path: Path) -> None:
    (said,) = two_nodes(tmp_path, marks=(1, 2)).warnings
    assert "by one shared mark, whose own error is not known" in said


def test_without_a_mark_the_nodes_keep_their_times(tmp_path: Path) -> None:
    record = two_nodes(tmp_path, marks=(0, 2))
    assert record.warnings == ("the clock of node-1 shares no mark with node-0's; its times of day are its own",)
    assert len({stage.start_utc for stage in record.stages}) == 2


def test_a_missing_node_makes_the_run_incomplete(tmp_path: Path) -> None:
    record = two_nodes(tmp_path, marks=(3, 3), world_size=14)
    assert not record.complete
    assert record.warnings[-1].startswith("12 of 14 ranks have no journal here (2, 3, 4, 5, 6, 7, 8, 9 …)")


@pytest.mark.parametrize(
    ("sizes", "world_size", "is_whole"),
    [
        ((4,), 4, True),  # the launch is this machine
        ((2,), 4, False),  # another has the other two
        ((None,), 4, False),
        ((2, 2), 4, True),  # one rank of each node measures
        ((2, None), 4, False),
        ((3, 3), 8, False),
    ],
)
def test_a_rank_that_opened_no_run_where_another_measured_is_a_note(
    tmp_path: Path, sizes: tuple[int | None, ...], world_size: int, is_whole: bool
) -> None:
    run = SyntheticRun(tmp_path)
    for rank, size in enumerate(sizes):
        local: dict[str, Any] = {} if size is None else {"local_size": size}
        session = run.session(host=f"node-{rank}", boot=f"boot-{rank}", rank=rank, world_size=world_size, **local)
        session.prefix = f"r{rank}"
        session.sampler([gpu_counter()], parts={"gpu0": GPU})
        session.program("mark", 101.0, name="step", utc_ns=0)
        session.stage("train", 101.0, 103.0)
        session.samples("gpu0.energy_counter", constant_counter(100.0, J_PER_MJ_MILLI), until_s=104.0)
        session.end(104.0)
    record = build_record(run.path, liveness=FakeLiveness())
    lacking = ", ".join(map(str, range(len(sizes), world_size)))
    count = f"{world_size - len(sizes)} of {world_size} ranks"
    said = f"{count} opened no run here ({lacking});" if is_whole else f"{count} have no journal here ({lacking});"
    assert record.complete == is_whole
    assert [warning for warning in record.warnings if warning.startswith(said)]


def test_a_clock_that_is_behind_is_said_to_be(tmp_path: Path) -> None:
    offsets = clock_offsets({"a": [start({"m": NS_PER_S})], "b": [start({"m": 0})]}, "a")
    assert offsets["b"].offset_ns == -NS_PER_S


def started_again(
    tmp_path: Path,
    second: str | None,
    *,
    ahead_s: float = 3.0,
    again: tuple[int, ...] = (0, 1),
    first: str = "node-1",
    local_size: int = 1,
) -> RunRecord:
    """Two ranks from second 100 to 120, started anew at second 1000, rank 1 on node `second`, whose clock is ahead."""
    run = SyntheticRun(tmp_path)
    starts = [(0, 100.0, "node-0"), (1, 100.0, first)]
    starts += [(rank, 1000.0, second or "" if rank else "node-0") for rank in again]
    for number, (rank, start_s, host) in enumerate(starts):
        session = run.session(
            start_s=start_s,
            host=host,
            boot=f"boot of {host}",
            rank=rank,
            world_size=2,
            wall_offset_s=ahead_s if host == second else 0.0,
            launch="word",
            local_size=local_size,
        )
        session.prefix = f"r{number}"
        session.sampler([gpu_counter()], parts={"gpu0": GPU})
        for mark in range(4):
            session.program("mark", start_s + 1.0 + mark, name="step", utc_ns=0)
        session.stage("train", start_s + 1.0, start_s + 15.0)
        session.samples("gpu0.energy_counter", constant_counter(100.0, J_PER_MJ_MILLI), until_s=start_s + 20.0)
        session.end(start_s + 20.0)
    return build_record(run.path, liveness=FakeLiveness())


@pytest.mark.parametrize("second", ["node-1", "node-2"])
@pytest.mark.parametrize("ahead_s", [3.0, -200.0, 300.0])
def test_marks_of_ranks_that_were_started_anew_are_those_of_their_start(
    tmp_path: Path, second: str, ahead_s: float
) -> None:
    """On the same node, and on one that took the place of another."""
    record = started_again(tmp_path, second, ahead_s=ahead_s)
    assert record.complete
    times = [stage.start_utc for stage in record.stages]
    assert times == ["2026-01-01T00:01:41.000Z"] * 2 + ["2026-01-01T00:16:41.000Z"] * 2
    assert record.duration_s == pytest.approx(40.0)


def test_a_node_that_is_missing_after_a_new_start_makes_the_run_incomplete(tmp_path: Path) -> None:
    record = started_again(tmp_path, None, again=(0,))
    assert not record.complete
    assert "1 of 2 ranks have no journal of each of the 2 starts here (1)" in record.warnings[-1]


def test_a_machine_that_was_measured_at_each_start_is_whole_without_a_rank(tmp_path: Path) -> None:
    record = started_again(tmp_path, None, again=(0,), first="node-0", local_size=2)
    assert record.complete
    assert any("1 of 2 ranks opened no run of each of the 2 starts here (1)" in said for said in record.warnings)
