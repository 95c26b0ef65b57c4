"""The Ray cluster that work goes to: the one that is named, else one on this machine."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from stillwatt.errors import LaunchError, MissingEngineError
from stillwatt.workflows.launch import Machine

_KNOCK_S = 10.0


def connect() -> Any:
    """Ray, joined to the cluster that `RAY_ADDRESS` names or that this process is in, else to one of this machine.

    Raises:
        MissingEngineError: Ray is not installed.
        LaunchError: No cluster answers there.
    """
    try:
        ray: Any = import_module("ray")
    except ImportError as err:
        raise MissingEngineError("ray", "ray") from err
    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        address = os.environ.get("RAY_ADDRESS")
        try:
            _knock(address or "")
            ray.init(address=address, include_dashboard=None, log_to_driver=False, logging_level=logging.WARNING)
        except (OSError, ValueError) as err:
            what = f"the Ray cluster at {address}" if address else "Ray on this machine"
            raise LaunchError(what, f"does not answer ({err})", "`ray status` there shows whether it runs") from err
    return ray


def _knock(address: str) -> None:
    """Find out at once whether anybody listens there; Ray itself tries for two minutes, and warns all the while.

    Raises:
        OSError: Nobody does.
    """
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "/" not in address:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()


def machines(nodes: Sequence[Mapping[str, Any]]) -> tuple[Machine, ...]:
    """The machines that are there, as `ray.nodes()` tells of them.

    >>> found = machines([{"Alive": True, "NodeID": "a", "NodeManagerHostname": "one", "NodeManagerAddress": "10.0.0.1",
    ...                    "Resources": {"CPU": 8.0}}, {"Alive": False, "NodeID": "b"}])
    >>> [(machine.host, machine.cpus, machine.gpus) for machine in found]
    [('one', 8.0, 0.0)]
    """
    return tuple(
        Machine(
            node_id=str(node["NodeID"]),
            host=str(node["NodeManagerHostname"]),
            address=str(node["NodeManagerAddress"]),
            cpus=float(node["Resources"].get("CPU", 0)),
            gpus=float(node["Resources"].get("GPU", 0)),
        )
        for node in nodes
        if node["Alive"]
    )


def last_line(err: BaseException) -> str:
    r"""What an error of Ray's comes down to; before it come stacks, behind it guesses and where logs lie.

    >>> last_line(RuntimeError("At:\n  The actor died because its node has died. Node Id: 5f"))
    'The actor died because its node has died'
    """
    lines = [line.strip() for line in str(err).splitlines() if line.strip()]
    return lines[-1].partition(". ")[0] if lines else type(err).__name__
