"""Where a run happened: machine, interpreter, versions, code; standard library only, nothing imported or run."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "transformers", "accelerate", "datasets", "peft", "numpy", "nvidia-ml-py")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_CPUINFO = Path("/proc/cpuinfo")


def capture_environment(*, code_dir: Path | None = None) -> dict[str, Any]:
    """What is known of the machine and the software, as JSON values; what cannot be found out is None.

    Args:
        code_dir: Where to look for the measured program's git checkout; the working directory if None.
    """
    import platform  # the measured program has no need of it until it enters a run

    return {
        "host": host_name(),
        "platform": platform.platform(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "python": sys.version.split()[0],
        "python_implementation": platform.python_implementation(),
        "cpu_model": cpu_model(),
        "logical_cpus": os.cpu_count(),
        "usable_cpus": _usable_cpus(),
        "memory_bytes": _memory_bytes(),
        "stillwatt": version("stillwatt"),
        "packages": versions(_PACKAGES),
        "git_commit": git_commit(code_dir or Path.cwd()),
        "boot_id": boot_id(),
    }


def host_name() -> str:
    """What the kernel calls this machine; the same as `socket.gethostname` gives, without the library of sockets."""
    return os.uname().nodename


def boot_id(path: Path = _BOOT_ID) -> str:
    """The kernel's id of this boot; empty where the kernel gives none."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def cpu_model(path: Path = _CPUINFO) -> str | None:
    """The processor's name as the kernel gives it, or None."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named and named[0] else None


def git_commit(start: Path) -> str | None:
    """The commit checked out at `start` or above it, read from the files of git; None where there is none."""
    try:
        folder = Path(start).resolve()
        for place in (folder, *folder.parents):
            if (place / ".git").exists():
                return _head_commit(_git_dir(place / ".git"))
    except (OSError, ValueError):
        return None
    return None


def _git_dir(dot_git: Path) -> Path:
    """The folder of git itself; in a linked work tree `.git` is a file that names it."""
    if dot_git.is_dir():
        return dot_git
    return dot_git.parent / dot_git.read_text(encoding="utf-8").partition("gitdir:")[2].strip()


def _head_commit(git_dir: Path) -> str | None:
    head = (git_dir / "HEAD").read_text(encoding="utf-8").strip()
    if not head.startswith("ref:"):
        return head or None
    ref = head.partition(":")[2].strip()
    common = git_dir / "commondir"
    roots = [git_dir, git_dir / common.read_text(encoding="utf-8").strip()] if common.is_file() else [git_dir]
    for root in roots:
        if (root / ref).is_file():
            return (root / ref).read_text(encoding="utf-8").strip() or None
        if (root / "packed-refs").is_file():
            for line in (root / "packed-refs").read_text(encoding="utf-8").splitlines():
                if line.endswith(f" {ref}"):
                    return line.split(" ", 1)[0]
    return None


def version(package: str) -> str | None:
    """The installed version of a package; None where it is not installed (a checkout on the path is not)."""
    return versions((package,))[package]


def versions(packages: Sequence[str]) -> dict[str, str | None]:
    """The same of several.

    Read off the names of the folders that installers leave: `importlib.metadata` takes longer to import than all else
    that the measured program imports.
    """
    found: dict[str, str] = {}
    for place in sys.path:
        for folder in _installed(place):
            name, _, rest = folder.partition("-")
            number = rest.removesuffix(".dist-info").removesuffix(".egg-info").partition("-")[0]
            if number:
                found.setdefault(_normal(name), number)
    return {package: found.get(_normal(package)) for package in packages}


def _normal(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")


def _installed(place: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(place or ".") if name.endswith((".dist-info", ".egg-info")))
    except OSError:
        return []


def _usable_cpus() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None
