"""Stage: the teacher continues prompts, and what it writes becomes training text for students.

Everything the teacher processes is billed, what is then rejected included: prompts, kept and rejected completions.
Padding and whatever stands behind an end token is neither billed, stored nor counted.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from stillwatt.errors import ArtifactError
from stillwatt.pipelines.artifacts import canonical_json, write_json
from stillwatt.pipelines.generated import INDEX_NAME, Accepted, Generated, load, results, save
from stillwatt.pipelines.progress import Task
from stillwatt.pipelines.sampling import TextWriter
from stillwatt.pipelines.spec import GenerateSpec

__all__ = ["Generated", "load", "make"]

_SCRATCH = "batches"


class Counter(Protocol):
    """What a stage is told of work done; `metering.meter.Stage` is one."""

    def add(self, **counts: float) -> None:
        """Add to the workload, by name."""
        ...


def make(
    writer: TextWriter,
    prompts: Sequence[Sequence[int]],
    spec: GenerateSpec,
    needed_tokens: int,
    out_dir: Path,
    *,
    task: Task,
    stage: Counter,
) -> dict[str, Any]:
    """Generate until the kept samples hold `needed_tokens`, or every prompt has been used `max_rounds` times.

    No batch is larger than the missing tokens ask for. Each is sampled from its own seed, made from `spec.seed`, the
    round and the batch, so the text does not depend on what ran before. A finished batch is on disk at
    once; in a folder where an earlier attempt was stopped, finished batches are taken over and not billed again. At
    temperature 0 the most probable token is always taken, and there is one round, as a second could only repeat the
    first.

    Args:
        writer: The teacher, however it is run (`text_writers.open_writer`).
        prompts: Token ids, cut to `spec.prompt_tokens` by the caller; of any lengths.
        spec: Sampling, rejection, batch size, rounds, seed.
        needed_tokens: Tokens of kept samples, prompts included.
        out_dir: Made if it is not there.
        task: Advances by tokens of kept samples.
        stage: Gets `tokens` (prompts and completions processed in this attempt), `generated_tokens`,
            `accepted_tokens`, `accepted_samples`, `rejected_samples`; `taken_over_tokens`, where an earlier attempt
            had done some.

    Returns:
        `artifact_sha256`; `tokens` and `samples` kept; `rejects` by reason; `shortfall_tokens`, 0 where the text
        suffices; `rounds` begun. A folder that is complete already gives the same, with nothing run or billed.

    Raises:
        ArtifactError: `out_dir` holds text of other prompts or settings.
        ValueError: There are no prompts, or one of them has no tokens.
    """
    _check_prompts(prompts, spec)
    inputs = {"spec": spec.identity, "needed_tokens": needed_tokens, "prompts_sha256": _prompts_sha256(prompts)}
    batches = _Batches(out_dir, inputs)
    if (out_dir / INDEX_NAME).exists():
        found = results(out_dir, inputs)
        batches.remove()
        stage.add(taken_over_tokens=found["tokens"])
        task.advance(found["tokens"])
        return found
    batches.begin()
    accepted, rounds = Accepted(spec, writer.end_ids), 0
    schedule = _Schedule(len(prompts), spec)
    while accepted.tokens < needed_tokens and (batch := schedule.next(accepted.tokens, needed_tokens)) is not None:
        round_number, batch_number, chosen = batch
        rounds = round_number + 1
        texts = [prompts[index] for index in chosen]
        completions = batches.finished(round_number, batch_number)
        is_new = completions is None
        if completions is None:
            completions = writer.write(texts, _seed(spec.seed, round_number, batch_number))
            batches.finish(round_number, batch_number, completions)
        counts = _judge(accepted, texts, completions)
        stage.add(**(counts if is_new else {"taken_over_tokens": counts["tokens"]}))
        task.advance(counts["accepted_tokens"])
    found = save(accepted, out_dir, inputs=inputs, needed_tokens=needed_tokens, rounds=rounds)
    batches.remove()
    return found


def _judge(accepted: Accepted, prompts: Sequence[Sequence[int]], completions: list[list[int]]) -> dict[str, int]:
    """Judge a batch; returns what it adds to the workload."""
    tokens_before, samples_before = accepted.tokens, len(accepted.sequences)
    for prompt, completion in zip(prompts, completions, strict=True):
        accepted.judge(prompt, completion)
    generated = sum(map(len, completions))
    kept = len(accepted.sequences) - samples_before
    return {
        "tokens": sum(map(len, prompts)) + generated,
        "generated_tokens": generated,
        "accepted_tokens": accepted.tokens - tokens_before,
        "accepted_samples": kept,
        "rejected_samples": len(completions) - kept,
    }


class _Batches:
    """Finished batches of an unfinished artefact; removed once the whole is written."""

    def __init__(self, out_dir: Path, inputs: dict[str, Any]) -> None:
        self._directory, self._inputs = out_dir / _SCRATCH, inputs

    def begin(self) -> None:
        """Make the folder, or take over that of an earlier attempt at the same text."""
        place = self._directory / "inputs.json"
        if place.exists():
            earlier = json.loads(place.read_text(encoding="utf-8"))
            if canonical_json(earlier) != canonical_json(self._inputs):
                raise ArtifactError(str(self._directory.parent), "it was begun with other prompts or settings")
        write_json(place, self._inputs)

    def finished(self, round_number: int, batch_number: int) -> list[list[int]] | None:
        """The completions of a batch that an earlier attempt finished."""
        place = self._place(round_number, batch_number)
        if not place.exists():
            return None
        completions: list[list[int]] = json.loads(place.read_text(encoding="utf-8"))["completions"]
        return completions

    def finish(self, round_number: int, batch_number: int, completions: list[list[int]]) -> None:
        """Put a batch's completions on disk."""
        write_json(self._place(round_number, batch_number), {"completions": completions})

    def remove(self) -> None:
        """They are part of the artefact now."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _place(self, round_number: int, batch_number: int) -> Path:
        return self._directory / f"{round_number:04d}-{batch_number:06d}.json"


@dataclass(slots=True)
class _Schedule:
    """Which prompts come next: in order, round by round, and no more of them than the missing tokens ask for.

    A batch depends on what the batches before it kept and on nothing else, so a resumed attempt finds the same ones.
    """

    num_prompts: int
    spec: GenerateSpec
    _round: int = 0
    _batch: int = 0
    _start: int = 0
    _tried: int = 0

    def next(self, kept_tokens: int, needed_tokens: int) -> tuple[int, int, range] | None:
        """Round, batch and prompts; None once every prompt has been used in every round."""
        if self._start >= self.num_prompts:
            self._round, self._batch, self._start = self._round + 1, 0, 0
        if self._round >= (self.spec.max_rounds if self.spec.temperature > 0.0 else min(1, self.spec.max_rounds)):
            return None
        stop = min(self._start + self._size(kept_tokens, needed_tokens), self.num_prompts)
        batch = (self._round, self._batch, range(self._start, stop))
        self._tried += stop - self._start
        self._batch, self._start = self._batch + 1, stop
        return batch

    def _size(self, kept_tokens: int, needed_tokens: int) -> int:
        """As many prompts as the missing tokens take, at the yield so far (rejects included), within a batch."""
        shortest = 1 + self.spec.min_new_tokens  # of the first batch's yield nothing is known yet
        yielded = max(kept_tokens / self._tried, 1.0) if self._tried else shortest
        return min(self.spec.batch_size, max(1, math.ceil((needed_tokens - kept_tokens) / yielded)))


def _seed(seed: int, round_number: int, batch_number: int) -> int:
    """A batch's own seed; batches of one run never share a random stream."""
    digest = hashlib.sha256(f"{seed}/{round_number}/{batch_number}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def _check_prompts(prompts: Sequence[Sequence[int]], spec: GenerateSpec) -> None:
    if not prompts:
        raise ValueError("there are no prompts to continue")
    for index, prompt in enumerate(prompts):
        if not prompt:
            raise ValueError(f"prompt {index} has no tokens")
    if spec.temperature < 0.0 or spec.batch_size < 1:
        raise ValueError(f"temperature {spec.temperature} or batch_size {spec.batch_size} has no meaning")


def _prompts_sha256(prompts: Sequence[Sequence[int]]) -> str:
    return hashlib.sha256(canonical_json([list(prompt) for prompt in prompts]).encode()).hexdigest()
