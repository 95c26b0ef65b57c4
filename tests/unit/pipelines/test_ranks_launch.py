from __future__ import annotations

import dataclasses
import socket
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
import torch

from stillwatt.errors import LaunchError, LostTouchError, StillwattError
from stillwatt.metering.meter import Meter
from stillwatt.pipelines import ranks as ranks_module
from stillwatt.pipelines.budget import Follow
from stillwatt.pipelines.ranks import Ranks, join_launch
from stillwatt.pipelines.sharding import as_kept, gathered, spread_over
from stillwatt.pipelines.spec import PipelineSpec
from stillwatt.pipelines.study import _warn_of_idle_turns
from tiny_models import list_meter, smoke_spec


def test_a_process_by_itself_is_the_first_and_only_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    ranks = join_launch()
    assert (ranks.rank, ranks.count, ranks.is_first) == (0, 1, True)
    assert not torch.distributed.is_initialized()
    assert ranks.of_first(lambda: 7) == 7


def test_a_count_of_processes_without_a_number_is_no_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    assert join_launch().count == 1
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_meets_nobody_says_so_in_a_sentence(monkeypatch: pytest.MonkeyPatch, rank: int) -> None:
    monkeypatch.setattr(ranks_module, "_TO_MEET", timedelta(seconds=1))
    with socket.socket() as kept:  # bound and not listened at: nobody else's, and nobody's who connects
        kept.bind(("127.0.0.1", 0))
        port = kept.getsockname()[1]
        if rank == 0:
            kept.close()
        told = {"RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        for name, value in told.items():
            monkeypatch.setenv(name, str(value))
        with pytest.raises(LaunchError) as caught:
            join_launch()
    said = str(caught.value)
    assert said.startswith(f"rank {rank} has not met the other 1 of its launch at 127.0.0.1:{port} (")
    assert said.endswith("); a launcher such as `torchrun` starts all ranks and ends them together; nothing was spent")
    assert "\n" not in said
    assert not torch.distributed.is_initialized()


def test_a_port_that_is_taken_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        told = {"RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": taken.getsockname()[1]}
        for name, value in told.items():
            monkeypatch.setenv(name, str(value))
        with pytest.raises(LaunchError, match=r"rank 0 has not met .*(in use|EADDRINUSE)"):
            join_launch()


def test_a_launch_that_does_not_say_where_to_meet_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(LaunchError, match=r"rank 0 has not met the other 1 of its launch \(.*MASTER_ADDR expected"):
        join_launch()


def test_a_rank_that_follows_never_ends_by_itself() -> None:
    stop = Follow()
    stop.begin()
    stop.first_step(0, is_own=False)
    assert stop.after_step(10**9, is_own=True) is None
    stop.end(0)
    assert stop.facts() == []


def test_one_process_holds_everything_however_it_is_to_be_spread() -> None:
    model = torch.nn.Linear(2, 2)
    whole = spread_over(model, Ranks(), "fsdp")
    assert whole(lambda inner: inner is model)
    assert list(whole.parameters()) == list(model.parameters())
    tensor = torch.ones(2)
    assert gathered(tensor) is tensor
    assert as_kept(tensor, model.weight) is tensor


def test_an_unknown_way_of_spreading_is_refused() -> None:
    with pytest.raises(StillwattError, match=r"run\.sharding 'zero9'; known: none, fsdp"):
        spread_over(torch.nn.Linear(1, 1), Ranks(), "zero9")


def test_a_rank_whose_peer_is_gone_says_so_and_its_own_faults_stay_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = Ranks()
    ranks.count = 2

    def closed(*_given: object, **_more: object) -> None:
        raise RuntimeError(
            "[pair.cc:537] Connection closed by peer [10.0.0.2]:4711. This is typically caused by others"
        )

    for name in ("barrier", "all_reduce", "gather_object", "broadcast_object_list"):
        monkeypatch.setattr(torch.distributed, name, closed)

    def out_of_memory() -> int:
        raise RuntimeError("CUDA out of memory")

    for work in (
        ranks.wait,
        lambda: ranks.sum(torch.ones(1)),
        lambda: ranks.agree(1),
        lambda: list(ranks.spread([1], lambda part: part)),
    ):
        with pytest.raises(LostTouchError) as caught:
            work()
        assert str(caught.value) == (
            "rank 0 has lost touch with another rank ([pair.cc:537] Connection closed by peer [10.0.0.2]:4711); what "
            "is finished is kept and booked, and the same command goes on from there"
        )
    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        ranks.of_first(out_of_memory)


@dataclass
class Ground:
    """As much of a study's bench as says what its ranks have to do."""

    spec: PipelineSpec
    ranks: Ranks
    meter: Meter
    said: list[str] = field(default_factory=list)

    def announce(self, text: str) -> None:
        self.said.append(text)


@pytest.mark.parametrize(
    ("parts", "count", "sharding", "told"),
    [
        (1, 2, "none", "of each step's 2 turns 1 is spent waiting; a multiple of 2 leaves none idle"),
        (5, 4, "fsdp", "of each step's 8 turns 3 are spent on one that counts nothing; a multiple of 4"),
        (6, 3, "fsdp", None),
        (3, 1, "none", None),
    ],
)
def test_ranks_that_a_step_has_no_work_for_are_told_of(parts: int, count: int, sharding: str, told: str | None) -> None:
    plain, ranks = smoke_spec(sharding=sharding), Ranks(is_alone=True)
    ranks.count = count
    meter, journal = list_meter()
    train = dataclasses.replace(plain.train, accumulation_steps=parts)
    bench: Any = Ground(spec=dataclasses.replace(plain, train=train), ranks=ranks, meter=meter)
    _warn_of_idle_turns(bench)
    assert [event["message"] for event in journal.of("warning")] == bench.said
    assert len(bench.said) == (0 if told is None else 1)
    assert all((told or "") in line and line.startswith(f"train.accumulation_steps = {parts}") for line in bench.said)
