"""Random numbers of a training: each hangs on the arm's seed and on what it is for, never on who draws it or when.

So a training draws the same whatever its ranks, and goes on as it would have, wherever it was cut.
"""

from __future__ import annotations

import hashlib

import torch

__all__ = ["begin_dropout", "drawn_number"]


def drawn_number(seed: int, place: int, what: str) -> int:
    """A number of 64 bits; those of unlike places, or for unlike uses, have nothing to do with each other.

    >>> drawn_number(1, 0, "own") == drawn_number(1, 0, "own") != drawn_number(1, 1, "own")
    True
    """
    return int.from_bytes(hashlib.sha256(f"{what}/{seed}/{place}".encode()).digest()[:8], "little")


def begin_dropout(seed: int, place: int) -> None:
    """Let a student's forward over a microbatch leave out what it does on any rank, in any attempt.

    Args:
        seed: The arm's.
        place: The microbatch's in the training, all passes counted.
    """
    torch.manual_seed(drawn_number(seed, place, "dropout") >> 1)  # of all devices
