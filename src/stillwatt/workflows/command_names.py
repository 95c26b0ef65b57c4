"""What a measured command is called: after the script or module that it runs, not after what runs it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["is_interpreter", "name_of_command"]

_PYTHON = re.compile(r"(python|pypy)(\d+(\.\d+)?)?t?")
_SHELLS = ("sh", "bash", "dash", "zsh", "ksh")
_LAUNCHERS: dict[str, tuple[str, ...]] = {
    "torchrun": (),
    "deepspeed": (),
    "accelerate": ("launch",),
    "uv": ("run",),
    "poetry": ("run",),
    "pipenv": ("run",),
}
"""Programs that start another one, and the word after which they do."""
_LAUNCHING_MODULES = {"torch.distributed.run": "torchrun", "torch.distributed.launch": "torchrun"}
_TAKING_A_WORD = ("-W", "-X", "--check-hash-based-pycs")
"""Options of Python's whose value is the next word."""
_SCRIPTS = (".py", ".sh")


def name_of_command(argv: Sequence[str]) -> str:
    """The script or module that a command runs, where its words say so beyond doubt; the program's name elsewhere.

    Args:
        argv: At least one word.

    >>> name_of_command(["python", "-u", "src/train.py", "--lr", "1"]), name_of_command(["python3.11", "-m", "pkg.mod"])
    ('train', 'pkg.mod')
    >>> name_of_command(["torchrun", "--nproc-per-node", "2", "train.py"]), name_of_command(["bash", "run.sh"])
    ('train', 'run')
    >>> name_of_command(["python", "-c", "print(1)"]), name_of_command(["/usr/bin/make", "all"])
    ('python', 'make')
    """
    program = Path(argv[0]).name
    words = argv[1:]
    found: str | None = None
    if _PYTHON.fullmatch(program):
        found = _after_options(words, _python_option)
    elif program in _SHELLS:
        found = _after_options(words, _shell_option)
    elif program in _LAUNCHERS:
        found = _launched(words, _LAUNCHERS[program])
    elif program.endswith(_SCRIPTS):
        found = _stem(program)
    return found or program


def is_interpreter(name: str) -> bool:
    """Whether a name says what ran something and not what was run, so that two runs share it by chance."""
    return name in _SHELLS or name in _LAUNCHERS or _PYTHON.fullmatch(name) is not None


def _stem(word: str) -> str | None:
    name = Path(word).name
    return (Path(name).stem if name.endswith(_SCRIPTS) else name) or None


def _after_options(words: Sequence[str], option: Callable[[Sequence[str]], int | str | None]) -> str | None:
    """What follows an interpreter's own options: `option` says how many words one takes, or what is run by it."""
    at = 0
    while at < len(words):
        if not words[at].startswith(("-", "+")):
            return _stem(words[at])
        step = option(words[at:])
        if not isinstance(step, int):
            return step
        at += step
    return None


def _python_option(words: Sequence[str]) -> int | str | None:
    word = words[0]
    if word in _TAKING_A_WORD:
        return 2
    if word.startswith(("--", "-W", "-X")):
        return 1
    if word == "-" or "c" in word:
        return None  # a program that has no name
    if word.endswith("m") and len(words) > 1:
        module = words[1]
        launcher = _LAUNCHING_MODULES.get(module)
        return module if launcher is None else _launched(words[2:], _LAUNCHERS[launcher]) or module
    return 1


def _shell_option(words: Sequence[str]) -> int | str | None:
    # of a shell's options only the plain letters are sure to take no word of their own
    return 1 if re.fullmatch(r"-[aefhuvxl]+", words[0]) else None


def _launched(words: Sequence[str], verb: tuple[str, ...]) -> str | None:
    """What a launcher starts: the word right after its verb, or the first that can only be a script or a module."""
    if tuple(words[: len(verb)]) != verb:
        return None
    rest = words[len(verb) :]
    if rest and not rest[0].startswith("-"):
        return name_of_command(rest)
    for at, word in enumerate(rest):
        if word in ("-m", "--module") and at + 1 < len(rest):
            return rest[at + 1]
        if word.endswith(_SCRIPTS):
            return _stem(word)
        if is_interpreter(Path(word).name):
            return name_of_command(rest[at:])
    return None
