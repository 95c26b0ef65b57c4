"""Stage: the teacher continues prompts, and what it writes becomes training text for students.

Everything the teacher processes is billed, what is then rejected included: prompts, kept and rejected completions.
Padding and whatever stands behind an end token is neither billed, stored nor counted.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from stillwatt.errors import ArtifactError, StillwattError
from stillwatt.pipelines.artifacts import canonical_json, write_json
from stillwatt.pipelines.batches import Batch, Schedule
from stillwatt.pipelines.generated import INDEX_NAME, Accepted, Generated, load, results, save
from stillwatt.pipelines.progress import Task
from stillwatt.pipelines.prompts import NewSample
from stillwatt.pipelines.sampling import ScoringWriter, TextWriter, Written
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
    sample: NewSample | None = None,
    decode: Callable[[Sequence[int]], str] | None = None,
) -> dict[str, Any]:
    """Generate until the kept samples hold `needed_tokens`, or every prompt has been used `max_rounds` times.

    No more prompts are used than the missing tokens ask for. Where a writer fills batches up with padding
    (`pads_batches`) and prompts are of unlike lengths, batches are made of neighbours in length (`batches.Schedule`);
    texts are judged and kept in the prompts' own order all the same. Each batch is sampled from its own seed, made
    from `spec.seed`, the round and the batch, so the text does not depend on what ran before. A finished batch is on
    disk at once; in a folder where an earlier attempt was stopped, finished batches are taken over and not billed
    again. At temperature 0 the most probable token is always taken, and there is one round, as a second could only
    repeat the first.

    Args:
        writer: The teacher, however it is run (`text_writers.open_writer`).
        prompts: Token ids, cut to `spec.prompt_tokens` by the caller; of any lengths.
        spec: Sampling, rejection, batch size, rounds, seed.
        needed_tokens: Tokens of kept samples, prompts included where they are kept.
        out_dir: Made if it is not there.
        task: Advances by tokens of kept samples.
        stage: Gets `tokens` (prompts and completions processed in this attempt), `generated_tokens`,
            `accepted_tokens`, `accepted_samples`, `rejected_samples`; `taken_over_tokens`, where an earlier attempt
            had done some.
        sample: Where the prompts are examples: what ends a new one, which is kept without them.
        decode: Turns tokens into text; where there is a blocklist.

    Returns:
        `artifact_sha256`; `tokens` and `samples` kept; `rejects` by reason; `shortfall_tokens`, 0 where the text
        suffices; `rounds` begun. A folder that is complete already gives the same, with nothing run or billed.

    Raises:
        ArtifactError: `out_dir` holds text of other prompts or settings.
        StillwattError: Mean log-probabilities are bounded and the writer cannot tell them.
        ValueError: There are no prompts, or one of them has no tokens.
    """
    _check_prompts(prompts, spec)
    write = _scored(writer) if spec.takes_logprobs else _plain(writer)
    inputs = {"spec": spec.identity, "needed_tokens": needed_tokens, "prompts_sha256": _prompts_sha256(prompts)}
    schedule = Schedule([len(prompt) for prompt in prompts], spec, pads_batches=getattr(writer, "pads_batches", False))
    batches = _Batches(out_dir, inputs, schedule.window_batches)
    if (out_dir / INDEX_NAME).exists():
        found = results(out_dir, inputs)
        batches.remove()
        stage.add(taken_over_tokens=found["tokens"])
        task.advance(found["tokens"])
        return found
    batches.begin()
    accepted, rounds = Accepted(spec, writer.end_ids, decode, sample), 0
    while accepted.tokens < needed_tokens and (window := schedule.next(accepted.tokens, needed_tokens)) is not None:
        rounds, tokens_before = window[0].round_number + 1, accepted.tokens
        texts: dict[int, _Text] = {}
        for batch in window:
            found_texts = _texts(batch, prompts, batches, write, spec.seed)
            stage.add(**_bill(list(found_texts.values()), getattr(writer, "bills_itself", False)))
            texts |= found_texts
        stage.add(**_judge(accepted, [texts[number] for number in sorted(texts)]))
        task.advance(accepted.tokens - tokens_before)
    found = save(accepted, out_dir, inputs=inputs, needed_tokens=needed_tokens, rounds=rounds)
    batches.remove()
    return found


_Write = Callable[[Sequence[Sequence[int]], int], list[Written]]


def _scored(writer: TextWriter) -> _Write:
    if not isinstance(writer, ScoringWriter):
        raise StillwattError(
            f"teacher_generate.min_mean_logprob and max_mean_logprob: {type(writer).__name__} does not tell how "
            "probable its tokens were; leave both out, or let a model of this process write"
        )
    return writer.write_scored


def _plain(writer: TextWriter) -> _Write:
    return lambda prompts, seed: [Written(tokens=tokens) for tokens in writer.write(prompts, seed)]


@dataclass(frozen=True, slots=True)
class _Text:
    prompt: Sequence[int]
    written: Written
    is_new: bool
    """Written in this attempt, not in an earlier one that was stopped."""

    @property
    def tokens(self) -> int:
        return len(self.prompt) + len(self.written.tokens)


def _texts(
    batch: Batch, prompts: Sequence[Sequence[int]], batches: _Batches, write: _Write, seed: int
) -> dict[int, _Text]:
    """A batch's texts by the number of their prompt; written now, if an earlier attempt had not come to it."""
    asked = [prompts[number] for number in batch.prompts]
    written = batches.finished(batch)
    is_new = written is None
    if written is None:
        written = write(asked, _seed(seed, batch.round_number, batch.number))
        batches.finish(batch, written)
    rows = zip(batch.prompts, asked, written, strict=True)
    return {number: _Text(prompt, one, is_new) for number, prompt, one in rows}


def _bill(texts: Sequence[_Text], bills_itself: bool) -> dict[str, int]:
    """What a batch adds to the work: what was processed, or what was taken over.

    An endpoint counts tokens of its own and has told the stage already.
    """
    processed = sum(one.tokens for one in texts)
    if not texts[0].is_new:
        return {"taken_over_tokens": processed}
    return {} if bills_itself else {"tokens": processed, "generated_tokens": sum(len(t.written.tokens) for t in texts)}


def _judge(accepted: Accepted, texts: Sequence[_Text]) -> dict[str, int]:
    """Judge texts in their order; returns what those of this attempt add to the work."""
    counts = dict.fromkeys(("accepted_tokens", "accepted_samples", "rejected_samples"), 0)
    for one in texts:
        tokens_before, samples_before = accepted.tokens, len(accepted.sequences)
        accepted.judge(one.prompt, one.written.tokens, one.written.logprobs)
        if one.is_new:
            kept = len(accepted.sequences) - samples_before
            counts["accepted_tokens"] += accepted.tokens - tokens_before
            counts["accepted_samples"] += kept
            counts["rejected_samples"] += 1 - kept
    return counts if any(one.is_new for one in texts) else {}


class _Batches:
    """Finished batches of an unfinished artefact; removed once the whole is written."""

    def __init__(self, out_dir: Path, inputs: dict[str, Any], window_batches: int) -> None:
        self._directory = out_dir / _SCRATCH
        by_length = {"batches_by_length": window_batches} if window_batches > 1 else {}
        self._inputs = {
            **inputs,
            **by_length,
        }  # which prompts a batch holds hangs on it; the finished text does not say

    def begin(self) -> None:
        """Make the folder, or take over that of an earlier attempt at the same text."""
        place = self._directory / "inputs.json"
        if place.exists():
            earlier = json.loads(place.read_text(encoding="utf-8"))
            if canonical_json(earlier) != canonical_json(self._inputs):
                raise ArtifactError(str(self._directory.parent), "it was begun with other prompts or settings")
        write_json(place, self._inputs)

    def finished(self, batch: Batch) -> list[Written] | None:
        """What was written in a batch that an earlier attempt finished."""
        place = self._place(batch)
        if not place.exists():
            return None
        kept = json.loads(place.read_text(encoding="utf-8"))
        completions: list[list[int]] = kept["completions"]
        logprobs: list[list[float] | None] = kept.get("logprobs", [None] * len(completions))
        return [Written(tokens=t, logprobs=row) for t, row in zip(completions, logprobs, strict=True)]

    def finish(self, batch: Batch, written: list[Written]) -> None:
        """Put what was written in a batch on disk."""
        kept: dict[str, Any] = {"completions": [one.tokens for one in written]}
        if written and written[0].logprobs is not None:
            kept["logprobs"] = [one.logprobs for one in written]
        write_json(self._place(batch), kept)

    def remove(self) -> None:
        """They are part of the artefact now."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _place(self, batch: Batch) -> Path:
        return self._directory / f"{batch.round_number:04d}-{batch.number:06d}.json"


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
