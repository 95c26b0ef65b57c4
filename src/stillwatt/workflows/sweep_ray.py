"""Trials over the machines of a Ray cluster: one at a time on each, so that none is on another's meter."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from typing import Any

from stillwatt.errors import MissingExtraError, StillwattError
from stillwatt.pipelines.progress import SilentProgress
from stillwatt.workflows.trials import Trial, TrialJob, carry_out


def carry_out_far(job: dict[str, Any]) -> dict[str, Any]:
    """Carry out a trial on whatever machine this is; plain values both ways."""
    sensors = job["sensors"]
    told = TrialJob(**{**job, "sensors": None if sensors is None else tuple(sensors)})
    return asdict(carry_out(told, SilentProgress(), _nobody))


class RayEngine:
    """Trials as tasks of Ray. The sweep's folder must be one that all machines share.

    Joins the cluster that `RAY_ADDRESS` names or that this process is in, else starts one on this machine. A trial goes
    to a machine on which none of this sweep's runs and takes all its CPUs, however unlike the machines are.

    Raises:
        MissingExtraError: Ray is not installed.
    """

    def __init__(self) -> None:
        try:
            ray: Any = import_module("ray")
        except ImportError as err:
            raise MissingExtraError("ray", "ray") from err
        self._ray = ray
        if not ray.is_initialized():
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            ray.init(address=os.environ.get("RAY_ADDRESS"), include_dashboard=None, log_to_driver=False)
        self._free = free_machines(ray.nodes())
        if not self._free:
            raise StillwattError("no machine of the Ray cluster has a CPU for trials; `ray status` shows what it has")
        self.slots = len(self._free)
        self._at_work: dict[Any, tuple[str, float]] = {}
        self._place: Any = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy

    def submit(self, job: TrialJob) -> None:
        """Put it to a machine that is free; there is one as long as no more than `slots` are under way."""
        node_id, cpus = self._free.pop()
        place = self._place(node_id=node_id, soft=False)
        task = self._ray.remote(num_cpus=cpus, scheduling_strategy=place, max_retries=0)(carry_out_far)
        self._at_work[task.remote(asdict(job))] = (node_id, cpus)

    def wait(self) -> Trial:
        """The next that is over; an error of the machinery comes out here."""
        (over,), _ = self._ray.wait(list(self._at_work), num_returns=1)
        self._free.append(self._at_work.pop(over))
        return Trial(**self._ray.get(over))


def free_machines(nodes: Sequence[Mapping[str, Any]]) -> list[tuple[str, float]]:
    """Ids and CPUs of the machines that are there and can work, as Ray tells of them.

    >>> free_machines([{"Alive": True, "NodeID": "a", "Resources": {"CPU": 8.0}}, {"Alive": True, "NodeID": "b",
    ...                "Resources": {}}, {"Alive": False, "NodeID": "c", "Resources": {"CPU": 8.0}}])
    [('a', 8.0)]
    """
    return [
        (str(node["NodeID"]), float(node["Resources"]["CPU"]))
        for node in nodes
        if node["Alive"] and node["Resources"].get("CPU", 0) >= 1
    ]


def _nobody(_text: str) -> None:
    """There is no screen there."""
