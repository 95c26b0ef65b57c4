"""Trials over the machines of a Ray cluster: one at a time on each, so that none is on another's meter."""

from __future__ import annotations

from dataclasses import asdict
from importlib import import_module
from typing import Any

from stillwatt.errors import MissingExtraError, MissingInputError, StillwattError
from stillwatt.pipelines.progress import SilentProgress
from stillwatt.workflows.launch import Machine
from stillwatt.workflows.ray_cluster import connect, last_line, machines
from stillwatt.workflows.trials import Trial, TrialJob, TrialLeftOpen, carry_out, give_up, trial_of

_CUT_SHORT = "cut_short"


def carry_out_far(job: dict[str, Any]) -> dict[str, Any]:
    """Carry out a trial on whatever machine this is; plain values both ways.

    What ends the sweep comes back as a value, too: raised over there it would arrive as a stack and no sentence.
    """
    sensors = job["sensors"]
    told = TrialJob(**{**job, "sensors": None if sensors is None else tuple(sensors)})
    try:
        return asdict(carry_out(told, SilentProgress(), _nobody))
    except TrialLeftOpen as err:
        return {_CUT_SHORT: err.cause, "number": err.number}
    except (MissingInputError, MissingExtraError) as err:
        return {_CUT_SHORT: str(err), "number": told.number}


class RayEngine:
    """Trials as tasks of Ray. The sweep's folder must be one that all machines share.

    Joins the cluster that `RAY_ADDRESS` names or that this process is in, else starts one on this machine. A trial goes
    to a machine on which none of this sweep's runs and takes all its CPUs, however unlike the machines are.

    Raises:
        MissingEngineError: Ray is not installed.
        LaunchError: No cluster answers.
    """

    def __init__(self) -> None:
        self._ray = connect()
        self._free = [each for each in machines(self._ray.nodes()) if each.cpus >= 1]
        if not self._free:
            raise StillwattError("no machine of the Ray cluster has a CPU for trials; `ray status` shows what it has")
        self.slots = len(self._free)
        self._at_work: dict[Any, tuple[TrialJob, Machine]] = {}
        self._errors: Any = import_module("ray.exceptions")
        self._place: Any = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy

    def submit(self, job: TrialJob) -> None:
        """Put it to a machine that is free; there is one as long as no more than `slots` are under way."""
        machine = self._free.pop()
        place = self._place(node_id=machine.node_id, soft=False)
        task = self._ray.remote(num_cpus=machine.cpus, scheduling_strategy=place, max_retries=0)(carry_out_far)
        self._at_work[task.remote(asdict(job))] = (job, machine)

    def wait(self) -> Trial:
        """The next that is over; an error of the machinery comes out here.

        One whose process took all of its machine's memory has failed: on the next attempt it would do so again.

        Raises:
            TrialLeftOpen: What no trial could help has cut one short, its machine's or its process's end among that.
        """
        (over,), _ = self._ray.wait(list(self._at_work), num_returns=1)
        job, machine = self._at_work.pop(over)
        self._free.append(machine)
        try:
            return come_back(self._ray.get(over))
        except self._errors.OutOfMemoryError:
            return give_up(job, f"it took all memory of {machine.host} ({machine.address}), and Ray ended it")
        except self._errors.RayTaskError:
            raise  # what was raised over there, and nobody has foreseen
        except self._errors.RayError as err:
            cause = f"its process on {machine.host} ({machine.address}) is gone ({last_line(err)})"
            raise TrialLeftOpen(job.number, cause) from err


def come_back(told: dict[str, Any]) -> Trial:
    """What a trial that was carried out far away came to.

    Raises:
        TrialLeftOpen: It was cut short.
    """
    if _CUT_SHORT in told:
        raise TrialLeftOpen(told["number"], told[_CUT_SHORT])
    return trial_of(told)


def _nobody(_text: str) -> None:
    """There is no screen there."""
