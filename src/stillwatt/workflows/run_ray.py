"""One study over the machines of a Ray cluster: Ray starts the ranks, and they are the launch that `torchrun` makes.

Nothing of the study goes through Ray: ranks talk to each other over gloo or NCCL and write to the folder of runs,
which all machines share. Ray says where there is room, starts a keeper beside each rank, and carries what the first
rank writes to whoever waits for it. Nothing is started twice: a rank that is lost ends the launch, and the same
command goes on from there, with what was lost on the books.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from stillwatt import __version__
from stillwatt.clock import Clock, SystemClock
from stillwatt.errors import LaunchError
from stillwatt.workflows.launch import End, Machine, Plan, Seat, Watch, plan, rank_environment, refuse_nested, seats
from stillwatt.workflows.ray_cluster import connect, last_line, machines
from stillwatt.workflows.ray_keeper import Keeper, Look, News

_ROOM_PATIENCE_S = 300.0
"""For the cluster to have what is asked for; one that grows by itself takes minutes."""
_SOON_S = 2.0
_WISH_S = 0.25
"""How long somebody who interrupts may wait to be heard."""
_START_PATIENCE_S = 120.0
"""For keepers to start: a worker's first import, from a disk over a network."""

Show = Callable[[str, bytes], None]
"""Told `stdout` or `stderr`, and what the first rank wrote there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be run, as every rank is told it."""

    arguments: tuple[str, ...]
    """Of `stillwatt`; the folder of runs and the recipe's file by their whole paths."""
    runs_dir: Path
    recipe: Path | None
    """None for one that comes along."""


def run_over_ray(
    order: Order, *, ranks: int | None, show: Show, announce: Callable[[str], None], clock: Clock | None = None
) -> int:
    """Start the ranks, wait until all are over, and give the first one's exit status.

    Args:
        order: What each rank runs.
        ranks: How many; None for as many as GPUs are free, or machines where there are none.
        show: Shown what the first rank writes.
        announce: Told one line now and then.
        clock: The clocks; tests pass a fake.

    Raises:
        MissingEngineError: Ray is not installed.
        UsageError: This process is itself a rank of a launch.
        LaunchError: There is no room, a machine cannot take part, or a rank was lost.
        KeyboardInterrupt: It was interrupted; all ranks have ended.
    """
    refuse_nested(os.environ)
    ray = connect()
    nodes = {machine.node_id: machine for machine in machines(ray.nodes())}
    free_gpus = int(ray.available_resources().get("GPU", 0))
    wanted = plan(tuple(nodes.values()), free_gpus=free_gpus, ranks=ranks)
    with _room(ray, wanted, announce) as group:
        placed = seats(_node_of_bundle(group))
        nodes |= {machine.node_id: machine for machine in machines(ray.nodes())}  # it may have grown meanwhile
        at = [nodes[seat.node_id] for seat in placed]
        keepers = _keepers(ray, group, wanted, placed)
        looks = _look(ray, keepers, order, at)
        announce(_said(at))
        begun = _start(keepers, order, placed, at[0].address, looks[0].port)
        pids: list[int] = _answers(ray, begun, at)
        names = [f"{machine.host} ({machine.address}, process {pid})" for machine, pid in zip(at, pids, strict=True)]
        watch = Watch(names, clock or SystemClock())
        _Attendance(ray, keepers, watch, show).until_over()
        return watch.status()


@contextlib.contextmanager
def _room(ray: Any, wanted: Plan, announce: Callable[[str], None]) -> Iterator[Any]:
    """A placement group: all ranks have room at the same time, or none is started."""
    groups: Any = import_module("ray.util.placement_group")
    group = groups.placement_group([dict(bundle) for bundle in wanted.bundles], strategy=wanted.strategy)
    try:
        if not group.wait(_SOON_S):
            announce(f"waiting for room for {wanted.said} on the Ray cluster")
            if not group.wait(_ROOM_PATIENCE_S):
                cure = "`ray status` shows who has it; wait, or ask for fewer with --ranks"
                raise LaunchError("the Ray cluster", f"has no room for {wanted.said}", cure)
        yield group
    finally:
        groups.remove_placement_group(group)


def _node_of_bundle(group: Any) -> Mapping[int, str]:
    table = import_module("ray.util.placement_group").placement_group_table(group)
    found: Mapping[int, str] = table["bundles_to_node_id"]
    return found


def _keepers(ray: Any, group: Any, wanted: Plan, placed: Sequence[Seat]) -> list[Any]:
    place: Any = import_module("ray.util.scheduling_strategies").PlacementGroupSchedulingStrategy
    made = []
    for seat in placed:
        bundle = wanted.bundles[seat.bundle]
        options = {
            "num_cpus": bundle["CPU"],
            "num_gpus": bundle.get("GPU", 0),
            "max_restarts": 0,  # nothing runs again that no attempt of a stage tells of
            "max_task_retries": 0,
            "max_concurrency": 2,  # it is told to stop while somebody waits for its news
            "scheduling_strategy": place(placement_group=group, placement_group_bundle_index=seat.bundle),
        }
        made.append(ray.remote(**options)(Keeper).remote())
    return made


def _look(ray: Any, keepers: Sequence[Any], order: Order, at: Sequence[Machine]) -> list[Look]:
    """Hold every machine against this one, before anything is spent.

    Raises:
        LaunchError: One of them cannot take part; says which, and what to do.
    """
    recipe, sha256 = "", ""
    if order.recipe is not None:
        recipe, sha256 = str(order.recipe), hashlib.sha256(order.recipe.read_bytes()).hexdigest()
    with _token(order.runs_dir) as token:
        asked = [
            keeper.look.remote(str(token), recipe, sha256, machine.address)
            for keeper, machine in zip(keepers, at, strict=True)
        ]
        looks: list[Look] = _answers(ray, asked, at)
    for look, machine in zip(looks, at, strict=True):
        check_look(look, f"{machine.host} ({machine.address})", order)
    return looks


def _answers(ray: Any, asked: Sequence[Any], at: Sequence[Machine]) -> list[Any]:
    """What keepers answer.

    Raises:
        LaunchError: One of them does not; says which.
    """
    errors: Any = import_module("ray.exceptions")
    found = []
    for each, machine in zip(asked, at, strict=True):
        try:
            found.append(ray.get(each, timeout=_START_PATIENCE_S))
        except errors.RayError as err:
            detail = f"cannot start a rank ({last_line(err)})"
            cure = "the same Python with the same Stillwatt must be on every machine of the cluster"
            raise LaunchError(f"{machine.host} ({machine.address})", detail, cure) from err
    return found


def check_look(look: Look, name: str, order: Order) -> None:
    """Whether a machine can take part.

    Raises:
        LaunchError: It has another Stillwatt, another folder of runs, or another recipe.
    """
    if look.version != __version__:
        cure = "install the same on every machine of the cluster"
        raise LaunchError(name, f"has Stillwatt {look.version}, and this machine {__version__}", cure)
    if not look.sees_runs:
        detail = f"does not see the folder of runs {order.runs_dir} that this machine sees"
        raise LaunchError(name, detail, "name one with --runs that lies on a disk which all machines share")
    if not look.sees_recipe:
        detail = f"does not have the recipe {order.recipe} as it is on this machine"
        raise LaunchError(name, detail, "put it on a disk which all machines share, beside the runs for example")


@contextlib.contextmanager
def _token(runs_dir: Path) -> Iterator[Path]:
    """A file by which others tell whether they see this folder; it holds its own name."""
    runs_dir.mkdir(parents=True, exist_ok=True)
    path = runs_dir / f".launch-{uuid.uuid4().hex}"
    path.write_text(path.name, encoding="utf-8")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _start(keepers: Sequence[Any], order: Order, placed: Sequence[Seat], master: str, port: int) -> list[Any]:
    launch_id = f"ray {uuid.uuid4().hex}"
    begun = []
    for keeper, seat in zip(keepers, placed, strict=True):
        told = rank_environment(seat, len(placed), master=master, port=port, launch_id=launch_id)
        begun.append(keeper.start.remote(list(order.arguments), told, os.getcwd(), seat.rank == 0))
    return begun


@contextlib.contextmanager
def _wishes() -> Iterator[deque[int]]:
    """The signals of whoever wants the launch to end, as they come; those that this process is to ignore are ignored.

    A KeyboardInterrupt may be raised anywhere, between two ranks' news too, and then one of them is never asked again.
    At SIGTERM, Ray ends a program without a word to its ranks.
    """
    wishes: deque[int] = deque()
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():  # signals are its own
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, lambda caught, _frame: wishes.append(caught))
    try:
        yield wishes
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Attendance:
    """Waits for the ranks' news until all are over."""

    def __init__(self, ray: Any, keepers: Sequence[Any], watch: Watch, show: Show) -> None:
        self._ray, self._keepers, self._watch, self._show = ray, keepers, watch, show
        self._errors: Any = import_module("ray.exceptions")
        self._asked = {keeper.news.remote(): rank for rank, keeper in enumerate(keepers)}

    def until_over(self) -> None:
        """Show what the first rank writes; end the others where one is lost, or where somebody interrupts.

        Raises:
            KeyboardInterrupt: Somebody did; all ranks have ended.
        """
        is_interrupted = False
        with _wishes() as wishes:
            while not self._watch.is_over:
                self._turn()
                while wishes:
                    wishes.popleft()
                    is_interrupted = True
                    self._tell(self._watch.interrupt())
        if is_interrupted:
            raise KeyboardInterrupt

    def _turn(self) -> None:
        due_s = self._watch.wait_s
        wait_s = _WISH_S if due_s is None else min(_WISH_S, due_s)
        ready, _ = self._ray.wait(list(self._asked), num_returns=1, timeout=wait_s)
        for each in ready:
            self._take(self._asked.pop(each), each)
        if (signal_number := self._watch.due()) is not None:
            self._tell(signal_number)

    def _take(self, rank: int, answer: Any) -> None:
        try:
            news: News = self._ray.get(answer)
        except self._errors.RayError as err:
            self._watch.over(End(rank=rank, status=None, why=last_line(err)))
            return
        for name, piece in news.pieces:
            self._show(name, piece)
        if news.status is None:
            self._asked[self._keepers[rank].news.remote()] = rank
        else:
            self._watch.over(End(rank=rank, status=news.status, last_lines=news.last_lines))

    def _tell(self, signal_number: int) -> None:
        """Send a signal to every rank that is at work."""
        for rank in self._asked.values():
            self._keepers[rank].stop.remote(signal_number)


def _said(at: Sequence[Machine]) -> str:
    """Where the ranks are.

    >>> one, two = (Machine(node_id=name, host=name, address="") for name in ("left", "right"))
    >>> _said([one, one, two])
    '3 ranks over the Ray cluster: 0-1 on left, 2 on right'
    """
    spans: dict[str, list[int]] = {}
    for rank, machine in enumerate(at):
        spans.setdefault(machine.node_id, []).append(rank)
    hosts = {machine.node_id: machine.host for machine in at}
    told = [
        f"{ranks[0]}{f'-{ranks[-1]}' if len(ranks) > 1 else ''} on {hosts[node_id]}" for node_id, ranks in spans.items()
    ]
    return f"{len(at)} rank{'' if len(at) == 1 else 's'} over the Ray cluster: {', '.join(told)}"
