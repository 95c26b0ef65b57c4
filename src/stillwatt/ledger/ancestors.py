"""The processes above this one, as far as the kernel tells of them; standard library only."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_PROC = Path("/proc")
_ESTABLISHED = "01"


def parents_alike(env: Mapping[str, str], names: Sequence[str]) -> list[int]:
    """The processes above this one that were started with the same variables of these names, nearest first.

    None where this one has none of the variables; the first that lacks one ends the list.
    """
    return [pid for pid, _ in _alike(env, names)]


def starter(env: Mapping[str, str], names: Sequence[str]) -> int:
    """The nearest process above this one that lacks one of these variables, or has another value of it."""
    parents = [parent for _, parent in _alike(env, names)]
    return parents[-1] if parents else os.getppid()


def began_ticks(pid: int) -> str:
    """When a process began, in the kernel's ticks since its boot; empty where it does not tell."""
    fields = _stat(pid)
    return fields[19] if fields else ""


def environment_of(pid: int) -> set[bytes]:
    """What a process was started with; nothing where that is not ours to read."""
    try:
        return set((_PROC / str(pid) / "environ").read_bytes().split(b"\0"))
    except OSError:
        return set()


def holds_port(pid: int, port: int) -> bool:
    """Whether a process has a TCP connection from or to a port; no where that is not ours to see."""
    sockets = set(_sockets(pid, port))
    folder = _PROC / str(pid) / "fd"
    with contextlib.suppress(OSError):
        for name in os.listdir(folder) if sockets else ():
            with contextlib.suppress(OSError):  # closed meanwhile
                if os.readlink(folder / name) in sockets:
                    return True
    return False


def _sockets(pid: int, port: int) -> Iterator[str]:
    """What the descriptors of such connections are called, of all processes that share its network."""
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (_PROC / str(pid) / "net" / table).read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == _ESTABLISHED and port in (int(end.rpartition(":")[2], 16) for end in fields[1:3]):
                    yield f"socket:[{fields[9]}]"


def _alike(env: Mapping[str, str], names: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Those processes, each with the one above it."""
    own = {os.fsencode(f"{name}={env[name]}") for name in names if name in env}
    pid = os.getppid()
    fields = _stat(pid)
    while fields and own and own <= environment_of(pid):
        yield pid, int(fields[1])
        pid = int(fields[1])
        fields = _stat(pid)


def _stat(pid: int) -> list[str]:
    """What the kernel tells of a process, from its state on; nothing where it tells nothing."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text(encoding="ascii", errors="replace").rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return []
    return fields if len(fields) > 19 else []
