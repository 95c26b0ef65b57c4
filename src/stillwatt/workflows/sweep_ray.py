"""Trials over the machines of a Ray cluster: one at a time on each, so that none is on another's meter."""

from __future__ import annotations

import os
from dataclasses import asdict
from importlib import import_module
from typing import Any

from stillwatt.errors import MissingExtraError
from stillwatt.pipelines.progress import SilentProgress
from stillwatt.workflows.trials import Trial, TrialJob, carry_out


def carry_out_far(job: dict[str, Any]) -> dict[str, Any]:
    """Carry out a trial on whatever machine this is; plain values both ways."""
    sensors = job["sensors"]
    told = TrialJob(**{**job, "sensors": None if sensors is None else tuple(sensors)})
    return asdict(carry_out(told, SilentProgress(), _nobody))


class RayEngine:
    """Trials as tasks of Ray. The sweep's folder must be one that all machines share.

    Joins the cluster that `RAY_ADDRESS` names or that this process is in, else starts one on this machine. Each task
    takes all CPUs of a machine, so that two trials never run on one.

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
        nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
        self.slots = max(1, len(nodes))
        cpus = min((float(node["Resources"]["CPU"]) for node in nodes), default=1.0)
        spread = {"num_cpus": cpus, "scheduling_strategy": "SPREAD", "max_retries": 0}
        self._task: Any = ray.remote(**spread)(carry_out_far)
        self._waiting: list[Any] = []

    def submit(self, job: TrialJob) -> None:
        """Put it to whichever machine is free."""
        self._waiting.append(self._task.remote(asdict(job)))

    def wait(self) -> Trial:
        """The next that is over; an error of the machinery comes out here."""
        (over,), self._waiting = self._ray.wait(self._waiting, num_returns=1)
        return Trial(**self._ray.get(over))


def _nobody(_text: str) -> None:
    """There is no screen there."""
