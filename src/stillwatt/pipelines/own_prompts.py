"""Prompts of a file that students begin their own text with (method.md, eq. 100), in an order that the seed decides.

They are read once and kept as token ids beside the training text, so that a killed training goes on with what it began
with, though the file has changed since.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from stillwatt.errors import StillwattError
from stillwatt.pipelines.logit_text import sequences_sha256
from stillwatt.pipelines.models import disk_errors
from stillwatt.pipelines.prompts import file_prompts
from stillwatt.pipelines.spec_text import OwnTextSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["StepPrompts", "load", "make"]

_FILE = "own_prompts.safetensors"
_ORDER = 0x6F77  # keeps this order apart from every other that begins with the same seed


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPrompts:
    """Which prompts a step begins with: those that stand at its sequences' places in one permutation after the other.

    A step on given text passes its prompts over, so that arms of one seed begin a step with the same prompts, however
    often each writes; and no rank, no resume and no earlier step has a say in it.
    """

    ids: tuple[tuple[int, ...], ...]
    seed: int
    per_step: int
    """Sequences of a whole step."""

    def of_step(self, step: int, count: int) -> list[list[int]]:
        """The prompts of the first `count` sequences of a step, counted from 0.

        >>> prompts = StepPrompts(ids=((1,), (2,), (3,)), seed=1, per_step=3)
        >>> sorted(prompts.of_step(0, 3)), sorted(prompts.of_step(7, 3))
        ([[1], [2], [3]], [[1], [2], [3]])
        """
        first = step * self.per_step
        return [list(self.ids[self._at(place)]) for place in range(first, first + count)]

    def _at(self, place: int) -> int:
        number, within = divmod(place, len(self.ids))
        return int(_permutation(len(self.ids), self.seed, number)[within])


@lru_cache(maxsize=2)
def _permutation(count: int, seed: int, number: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng([_ORDER, seed, number]).permutation(count)


def make(
    spec: OwnTextSpec,
    tokenizer: PreTrainedTokenizerBase,
    sequences: int,
    out_dir: Path,
    *,
    bos_ids: tuple[int, ...] = (),
    announce: Callable[[str], None],
) -> dict[str, Any]:
    """Read the prompts, keep their tokens in `out_dir`, and say what became of them.

    Args:
        spec: Where they are, and how they are made.
        tokenizer: The study's.
        sequences: Of one training; fewer prompts than that come again.
        out_dir: A folder that is there.
        bos_ids: What stands before every text of this tokenizer.
        announce: Told what was left out, and whether they come again.

    Returns:
        `read`, `refused` and `answers_left_out`, in rows; `prompts` kept; `sequences`; `sha256`.

    Raises:
        MissingInputError: The file is not there.
        StillwattError: It cannot be used, or no prompt is short enough.
    """
    found = file_prompts(spec, tokenizer, bos_ids)
    counts = {name: found.counts[name] for name in ("read", "refused", "answers_left_out")}
    if counts["refused"]:
        announce(
            f"{spec.table}: {counts['refused']:,} of {counts['read']:,} prompts have more than {spec.prompt_tokens} "
            "tokens and are left out"
        )
    if len(found.ids) < sequences:
        announce(
            f"{spec.table}: {len(found.ids):,} prompts for the {sequences:,} sequences of a training: they are taken "
            "again, in a new order each time"
        )
    arrays = {
        "ids": np.concatenate([np.asarray(ids, dtype=np.int32) for ids in found.ids]),
        "lengths": np.asarray([len(ids) for ids in found.ids], dtype=np.int64),
    }
    with disk_errors(out_dir / _FILE):
        save_file(arrays, out_dir / _FILE)
    return {**counts, "prompts": len(found.ids), "sequences": sequences, "sha256": sequences_sha256(found.ids)}


def load(out_dir: Path, sha256: str) -> tuple[tuple[int, ...], ...]:
    """Read what `make` kept.

    Raises:
        StillwattError: It is not what was kept.
    """
    arrays = load_file(out_dir / _FILE)
    parts = np.split(arrays["ids"], np.cumsum(arrays["lengths"])[:-1])
    ids = tuple(tuple(part.tolist()) for part in parts)
    if sequences_sha256(ids) != sha256:
        raise StillwattError(
            f"{out_dir / _FILE}: the prepared prompts have changed since they were written; begin a new run"
        )
    return ids
