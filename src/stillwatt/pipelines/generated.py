"""Text the teacher wrote: which completions are kept, and how they lie on disk."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stillwatt.errors import ArtifactError
from stillwatt.pipelines.arrays import read_array, write_array
from stillwatt.pipelines.artifacts import canonical_json, file_sha256, write_json
from stillwatt.pipelines.near_duplicates import KeptTexts, grams_of
from stillwatt.pipelines.prompts import NewSample
from stillwatt.pipelines.spec import GenerateSpec

__all__ = [
    "INDEX_NAME",
    "REJECT_REASONS",
    "Accepted",
    "Generated",
    "load",
    "reasons_of",
    "repeat_share",
    "results",
    "save",
]

REFUSED = "refused"
"""Why there is no completion to look at; counted where it occurs alone, as writers of this machine refuse nothing."""
GENERATED_SCHEMA = "stillwatt.generated/1"
INDEX_NAME = "index.json"
REJECT_REASONS = (
    "empty",
    "too_short",
    "unfinished",
    "too_repetitive",
    "blocked",
    "improbable",
    "too_probable",
    "duplicate",
    "near_duplicate",
)
"""Why a completion is not kept, in the order of the checks: the first that applies is counted."""
_GRAM = 4
_ARRAYS: dict[str, np.dtype[Any]] = {
    "tokens": np.dtype("<i4"),
    "offsets": np.dtype("<i8"),
    "prompt_lengths": np.dtype("<i4"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """Accepted samples: prompt and completion in one sequence, with the prompt's length."""

    sequences: tuple[tuple[int, ...], ...]
    """Token ids; a completion that came to its end closes with its end token, and nothing follows it."""
    prompt_lengths: tuple[int, ...]


def reasons_of(spec: GenerateSpec) -> tuple[str, ...]:
    """The reasons that can occur, in the order of the checks; those of checks that are off are left out."""
    is_on = {
        "unfinished": spec.reject_unfinished,
        "blocked": bool(spec.blocklist),
        "improbable": spec.min_mean_logprob is not None,
        "too_probable": spec.max_mean_logprob is not None,
        "near_duplicate": spec.near_duplicate is not None,
    }
    return tuple(reason for reason in REJECT_REASONS if is_on.get(reason, True))


@dataclass(slots=True)
class Accepted:
    """What has been kept and rejected so far; the same completions in the same order give the same answer."""

    spec: GenerateSpec
    end_ids: frozenset[int]
    decode: Callable[[Sequence[int]], str] | None = None
    """Turns tokens into text; needed for a blocklist."""
    sample: NewSample | None = None
    """Where the teacher was shown examples: the prompt is then no part of what is kept."""
    sequences: list[tuple[int, ...]] = field(default_factory=list)
    prompt_lengths: list[int] = field(default_factory=list)
    rejects: dict[str, int] = field(default_factory=dict)
    tokens: int = 0
    """Of the kept sequences, prompts included where they are kept: what goes through a student."""
    _seen: set[tuple[int, ...]] = field(default_factory=set)
    _near: KeptTexts | None = None
    _blocked: tuple[re.Pattern[str], ...] = ()

    def __post_init__(self) -> None:
        self.rejects = dict.fromkeys(reasons_of(self.spec), 0)
        self._blocked = tuple(re.compile(pattern) for pattern in self.spec.blocklist)
        if self._blocked and self.decode is None:
            raise ValueError("a blocklist looks at text, and nothing turns tokens into text")
        if self.spec.near_duplicate is not None:
            self._near = KeptTexts(self.spec.near_duplicate)
            for ids in () if self.sample is None else self.sample.seed_ids():
                self._near.keep(grams_of(ids))

    def judge(
        self, prompt: Sequence[int], completion: Sequence[int], logprobs: Sequence[float] | None = None
    ) -> str | None:
        """Keep a completion, or count and return the reason why not.

        Args:
            prompt: What the teacher went on from.
            completion: What it wrote; of a sample after examples, what stands before the separator is kept.
            logprobs: Of each of the completion's tokens, where the recipe sets bounds for their mean.
        """
        if self.sample is not None:
            completion, own = self.sample.cut(completion)
            prompt, logprobs = self.sample.bos_ids, None if logprobs is None else logprobs[: max(own, 1)]
        sequence, text = (*prompt, *completion), [token for token in completion if token not in self.end_ids]
        reason = self._form(completion, text) or self._content(text, logprobs) or self._repeated(sequence, text)
        if reason is not None:
            self.rejects[reason] += 1
            return reason
        self._seen.add(sequence)
        if self._near is not None:
            self._near.keep(grams_of(text))
        self.sequences.append(sequence)
        self.prompt_lengths.append(len(prompt))
        self.tokens += len(sequence)
        return None

    def refuse(self) -> None:
        """Count a prompt that the teacher would not go on from."""
        self.rejects[REFUSED] = self.rejects.get(REFUSED, 0) + 1

    def _form(self, completion: Sequence[int], text: Sequence[int]) -> str | None:
        if not text:
            return "empty"
        if len(text) < self.spec.min_new_tokens:
            return "too_short"
        if self.spec.reject_unfinished and completion[-1] not in self.end_ids:
            return "unfinished"
        return "too_repetitive" if repeat_share(text) > self.spec.max_repeat_share else None

    def _content(self, text: Sequence[int], logprobs: Sequence[float] | None) -> str | None:
        if self._blocked and self.decode is not None:
            words = self.decode(text)
            if any(pattern.search(words) for pattern in self._blocked):
                return "blocked"
        if not self.spec.takes_logprobs:
            return None
        if not logprobs:
            raise ValueError("the recipe sets bounds for the mean log-probability, and none was told")
        mean = math.fsum(logprobs) / len(logprobs)
        if self.spec.min_mean_logprob is not None and mean < self.spec.min_mean_logprob:
            return "improbable"
        is_above = self.spec.max_mean_logprob is not None and mean > self.spec.max_mean_logprob
        return "too_probable" if is_above else None

    def _repeated(self, sequence: tuple[int, ...], text: Sequence[int]) -> str | None:
        if sequence in self._seen or (self.sample is not None and self.sample.is_copy(text)):
            return "duplicate"
        return "near_duplicate" if self._near is not None and self._near.has_near(grams_of(text)) else None


def repeat_share(tokens: Sequence[int]) -> float:
    """Share of the 4-grams that are the most frequent one; 0 where none occurs twice.

    >>> repeat_share([1, 2, 3, 4, 5, 6])
    0.0
    >>> repeat_share([7] * 10)
    1.0
    """
    grams = Counter(zip(*(tokens[start:] for start in range(_GRAM)), strict=False))
    most = max(grams.values(), default=0)
    # a short text has few 4-grams, so one occurrence alone would already be a large share
    return most / grams.total() if most > 1 else 0.0


def save(
    accepted: Accepted, directory: Path, *, inputs: Mapping[str, Any], needed_tokens: int, rounds: int
) -> dict[str, Any]:
    """Write the kept samples, the index last; returns what `results` does."""
    lengths = [len(sequence) for sequence in accepted.sequences]
    arrays: dict[str, npt.NDArray[Any]] = {
        "tokens": np.fromiter(itertools.chain.from_iterable(accepted.sequences), dtype=_ARRAYS["tokens"]),
        "offsets": np.cumsum([0, *lengths], dtype=_ARRAYS["offsets"]),
        "prompt_lengths": np.array(accepted.prompt_lengths, dtype=_ARRAYS["prompt_lengths"]),
    }
    index = {
        "schema": GENERATED_SCHEMA,
        "inputs": dict(inputs),
        "files": {name: write_array(directory / f"{name}.npy", array) for name, array in arrays.items()},
        "results": {
            "tokens": accepted.tokens,
            "samples": len(lengths),
            "rejects": dict(accepted.rejects),
            "shortfall_tokens": max(0, needed_tokens - accepted.tokens),
            "rounds": rounds,
        },
    }
    write_json(directory / INDEX_NAME, index)
    return results(directory, inputs)


def results(directory: Path, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What the stage that made the text found: counts, and the hash of the index, which carries all other hashes.

    Raises:
        ArtifactError: The text was made from other inputs, or its index cannot be used.
    """
    index = _read_index(directory)
    if canonical_json(index["inputs"]) != canonical_json(dict(inputs)):
        raise ArtifactError(str(directory), "it was made from other prompts or settings")
    return {"artifact_sha256": file_sha256(directory / INDEX_NAME), **index["results"]}


def load(directory: Path) -> Generated:
    """Read generated text, checking every byte of it against its hashes.

    Raises:
        ArtifactError: A file is missing or changed, or the format is another one.
    """
    files = _read_index(directory)["files"]
    tokens, offsets, prompt_lengths = (
        read_array(directory / f"{name}.npy", sha256=str(files.get(name)), dtype=dtype, is_mapped=False).tolist()
        for name, dtype in _ARRAYS.items()
    )
    return Generated(
        sequences=tuple(tuple(tokens[start:end]) for start, end in itertools.pairwise(offsets)),
        prompt_lengths=tuple(prompt_lengths),
    )


def _read_index(directory: Path) -> dict[str, Any]:
    try:
        index = json.loads((directory / INDEX_NAME).read_text(encoding="utf-8"))
        schema = index["schema"]
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise ArtifactError(str(directory), f"its {INDEX_NAME} cannot be read ({type(err).__name__}: {err})") from err
    if schema != GENERATED_SCHEMA:
        raise ArtifactError(str(directory), f"its format is {schema!r}, not {GENERATED_SCHEMA!r}")
    return dict(index)
