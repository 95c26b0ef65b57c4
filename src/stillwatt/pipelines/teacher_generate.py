"""Stage: the teacher continues prompts, and what it writes becomes training text for students.

Everything the teacher processes is billed, what is then rejected included: prompts, kept and rejected completions.
Padding and whatever stands behind an end token is neither billed, stored nor counted.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from stillwatt.errors import ArtifactError, StillwattError
from stillwatt.pipelines.artifacts import canonical_json, write_json
from stillwatt.pipelines.batches import WINDOW_BATCHES, Batch, Schedule
from stillwatt.pipelines.endpoint_prompts import Prompt, said_sha256
from stillwatt.pipelines.generated import INDEX_NAME, Accepted, Generated, load, results, save
from stillwatt.pipelines.progress import Task
from stillwatt.pipelines.prompts import NewSample, Said
from stillwatt.pipelines.ranks import Ranks
from stillwatt.pipelines.refusals import Refusals
from stillwatt.pipelines.sampling import AskingWriter, ScoringWriter, TextWriter, Written
from stillwatt.pipelines.spec import GenerateSpec

__all__ = ["Generated", "load", "make"]

_SCRATCH = "batches"
_FEW_EMPTY = 64
"""So many texts, and not one of them with a word in it, are no chance: the next ones would be paid for nothing."""
_KEPT = ("accepted_tokens", "accepted_samples", "rejected_samples")
"""What is counted of texts that were judged."""


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
    said: Sequence[Said | None] = (),
    is_shared: bool = False,
) -> dict[str, Any]:
    """Generate until the kept samples hold `needed_tokens`, or every prompt has been used `max_rounds` times.

    No more prompts are used than the missing tokens ask for. Batches are planned several at once (`batches.Schedule`)
    and made of neighbours in length; texts are judged and kept in the prompts' own order all the same. Each batch is
    sampled from its own seed, made from `spec.seed`, the round and the batch, so the text does not depend on what ran
    before. A finished batch is on disk at once; in a folder where an earlier attempt was stopped, finished batches are
    taken over and not billed again. At temperature 0 the most probable token is always taken, and there is one round,
    as a second could only repeat the first. Where it `is_shared`, each rank of the launch writes some of the batches
    and bills them, and the first one judges and keeps all: the text is that of one process. A prompt that the writer
    refuses counts once as a rejected sample, and is not asked again, neither in a later round nor in a later attempt.

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
        said: What a writer that is asked in words is told for each prompt, where its tokens do not say the same.
        is_shared: Whether every rank of the launch is here, with a writer of its own.

    Returns:
        `artifact_sha256`; `tokens` and `samples` kept; `rejects` by reason; `shortfall_tokens`, 0 where the text
        suffices; `rounds` begun. A folder that is complete already gives the same, with nothing run or billed.

    Raises:
        ArtifactError: `out_dir` holds text of other prompts or settings.
        StillwattError: Mean log-probabilities are bounded and the writer cannot tell them; or every prompt of the first
            batch is refused, or all at the end, which is then not the prompts' fault; or the first texts are all empty.
        ValueError: There are no prompts, or one of them has no tokens.
    """
    _check_prompts(prompts, spec)
    write = _write_of(writer, prompts, said, spec)
    ranks = Ranks(is_alone=not is_shared)
    inputs = {"spec": spec.identity, "needed_tokens": needed_tokens, "prompts_sha256": _prompts_sha256(prompts)}
    inputs |= {"said_sha256": said_sha256(said)} if said else {}
    batches = _Batches(out_dir, inputs)
    found = ranks.agree(ranks.of_first_or_damage(batches.begin))
    if found is not None:
        if ranks.is_first:
            stage.add(taken_over_tokens=found["tokens"])
            task.advance(found["tokens"])
        return found
    if not ranks.is_first:
        stage.add(**dict.fromkeys(_KEPT, 0))  # the first one judges
    accepted = Accepted(spec, writer.end_ids, decode, sample)
    refusals = Refusals(len(prompts))
    verdicts, rounds = _Verdicts(accepted, prompts, stage, task, refusals), 0
    schedule = Schedule([len(prompt) for prompt in prompts], spec)
    work = _billed(write, prompts, refusals, spec.seed, None if getattr(writer, "bills_itself", False) else stage)
    while (kept := ranks.agree(accepted.tokens)) < needed_tokens and (window := schedule.next(kept, needed_tokens)):
        rounds = window[0].round_number + 1
        verdicts.begin(window)
        earlier = ranks.of_first(partial(batches.of_earlier_attempt, window))
        if ranks.is_first:
            verdicts.take_over(earlier)
        for batch, written in ranks.spread([batch for batch in window if batch not in earlier], work):
            for finished in refusals.let_through(batch, written):
                batches.finish(*finished)
            verdicts.hand_in(batch, written)
            _check_some(accepted)
    refusals.check_end(needed_tokens - accepted.tokens)
    return ranks.of_first(
        lambda: batches.end(save(accepted, out_dir, inputs=inputs, needed_tokens=needed_tokens, rounds=rounds))
    )


def _check_some(accepted: Accepted) -> None:
    """Refuse to go on where nothing but empty texts came back."""
    num_empty = accepted.rejects["empty"]
    if num_empty >= _FEW_EMPTY and not accepted.sequences and num_empty == sum(accepted.rejects.values()):
        raise StillwattError(
            f"each of the first {num_empty} texts that the teacher wrote is empty, and what it is asked for next would "
            "be paid for nothing: a model that thinks before it writes may want more teacher_generate.max_new_tokens, "
            "or not to think (teacher_endpoint.extra_body); begin a new run with that (--fresh where the recipe stays "
            "as it is)"
        )


_Write = Callable[[Sequence[int], int], list[Written]]
"""Called with the prompts' numbers and a seed."""


def _write_of(
    writer: TextWriter, prompts: Sequence[Sequence[int]], said: Sequence[Said | None], spec: GenerateSpec
) -> _Write:
    if spec.takes_logprobs:
        scored = _scored(writer)
        return lambda numbers, seed: scored.write_scored([prompts[n] for n in numbers], seed)
    if isinstance(writer, AskingWriter):
        asked = [Prompt(ids=ids, said=said[n] if said else None) for n, ids in enumerate(prompts)]
        return lambda numbers, seed: writer.answer([asked[n] for n in numbers], seed)
    return lambda numbers, seed: [Written(tokens=t) for t in writer.write([prompts[n] for n in numbers], seed)]


def _scored(writer: TextWriter) -> ScoringWriter:
    if not isinstance(writer, ScoringWriter):
        raise StillwattError(
            f"teacher_generate.min_mean_logprob and max_mean_logprob: {type(writer).__name__} does not tell how "
            "probable its tokens were; leave both out, or let a model of this process write"
        )
    return writer


def _billed(
    write: _Write, prompts: Sequence[Sequence[int]], refusals: Refusals, seed: int, stage: Counter | None
) -> Callable[[Batch], list[Written]]:
    """Writes a batch and bills it; not where the writer does so itself, as one does that asks an endpoint."""

    def work(batch: Batch) -> list[Written]:
        asked = refusals.not_refused(batch)
        written = write(asked, _seed(seed, batch.round_number, batch.number)) if asked else []
        if stage is not None:
            generated = sum(len(one.tokens) for one in written)
            stage.add(tokens=sum(len(prompts[n]) for n in asked) + generated, generated_tokens=generated)
        return refusals.filled_up(batch, written)

    return work


@dataclass(slots=True)
class _Verdicts:
    """Judges the texts of a window in the order of their prompts, as soon as all before them are there."""

    accepted: Accepted
    prompts: Sequence[Sequence[int]]
    stage: Counter
    task: Task
    refusals: Refusals
    _waiting: dict[int, tuple[Written, bool]] = field(default_factory=dict)
    """By prompt, and whether it was written in this attempt."""
    _next: int = 0

    def begin(self, window: Sequence[Batch]) -> None:
        """Those batches come next."""
        self._next = min(number for batch in window for number in batch.prompts)

    def take_over(self, earlier: Mapping[Batch, Sequence[Written]]) -> None:
        """Batches that an earlier attempt wrote, and billed."""
        for batch, written in earlier.items():
            self.refusals.take_over(written)
            rows = [(number, one) for number, one in self._rows(batch, written) if one.refusal is None]
            processed = sum(len(self.prompts[number]) + len(one.tokens) for number, one in rows)
            self.stage.add(taken_over_tokens=processed)
            self._judge(batch, written, is_new=False)

    def hand_in(self, batch: Batch, written: Sequence[Written]) -> None:
        """A batch of this attempt."""
        self._judge(batch, written, is_new=True)

    def _rows(self, batch: Batch, written: Sequence[Written]) -> Iterable[tuple[int, Written]]:
        return zip(batch.prompts, written, strict=True)

    def _judge(self, batch: Batch, written: Sequence[Written], *, is_new: bool) -> None:
        self._waiting |= {number: (one, is_new) for number, one in self._rows(batch, written)}
        counts: dict[str, int] = {}
        while self._next in self._waiting:
            number, self._next = self._next, self._next + 1
            one, is_of_now = self._waiting.pop(number)
            if number in self.refusals.numbers:
                continue  # of an earlier round, and counted there
            tokens, samples = self._verdict(number, one)
            self.task.advance(tokens)
            if is_of_now:
                for name, amount in zip(_KEPT, (tokens, samples, 1 - samples), strict=True):
                    counts[name] = counts.get(name, 0) + amount
        self.stage.add(**counts)

    def _verdict(self, number: int, one: Written) -> tuple[int, int]:
        """Tokens and samples that are kept of what was written."""
        if one.refusal is not None:
            self.refusals.numbers[number] = one.refusal
            self.accepted.refuse()
            return 0, 0
        tokens_before, samples_before = self.accepted.tokens, len(self.accepted.sequences)
        self.accepted.judge(self.prompts[number], one.tokens, one.logprobs)
        return self.accepted.tokens - tokens_before, len(self.accepted.sequences) - samples_before


class _Batches:
    """Finished batches of an unfinished artefact; removed once the whole is written."""

    def __init__(self, out_dir: Path, inputs: dict[str, Any]) -> None:
        self._out_dir, self._directory, self._inputs = out_dir, out_dir / _SCRATCH, inputs

    def begin(self) -> dict[str, Any] | None:
        """Make the folder, or take over that of an earlier attempt at the same text; its results if it is whole."""
        if (self._out_dir / INDEX_NAME).exists():
            return self.end(results(self._out_dir, self._inputs))
        place = self._directory / "inputs.json"
        # which prompts a batch holds hangs on the window; the finished text is as good as any, and does not say
        inputs = {**self._inputs, "window_batches": WINDOW_BATCHES}
        if place.exists():
            earlier = json.loads(place.read_text(encoding="utf-8"))
            if canonical_json(earlier) != canonical_json(inputs):
                raise ArtifactError(str(self._out_dir), "it was begun with other prompts or settings")
        write_json(place, inputs)
        return None

    def of_earlier_attempt(self, window: Sequence[Batch]) -> dict[Batch, list[Written]]:
        """The batches that an earlier attempt finished, with what was written."""
        return {batch: self._read(self._place(batch)) for batch in window if self._place(batch).exists()}

    def finish(self, batch: Batch, written: Sequence[Written]) -> None:
        """Put what was written in a batch on disk."""
        kept: dict[str, Any] = {"completions": [one.tokens for one in written]}
        if written and written[0].logprobs is not None:
            kept["logprobs"] = [one.logprobs for one in written]
        if any(one.refusal is not None for one in written):
            kept["refusals"] = [one.refusal for one in written]
        write_json(self._place(batch), kept)

    def end(self, found: dict[str, Any]) -> dict[str, Any]:
        """They are part of the artefact now."""
        shutil.rmtree(self._directory, ignore_errors=True)
        return found

    def _read(self, place: Path) -> list[Written]:
        kept = json.loads(place.read_text(encoding="utf-8"))
        completions: list[list[int]] = kept["completions"]
        nothing = [None] * len(completions)
        logprobs: list[list[float] | None] = kept.get("logprobs", nothing)
        refusals: list[str | None] = kept.get("refusals", nothing)
        return [
            Written(tokens=tokens, logprobs=row, refusal=refusal)
            for tokens, row, refusal in zip(completions, logprobs, refusals, strict=True)
        ]

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
