"""Stage: the teacher reads the corpus once, and what it would have said next goes into a logit cache.

Shapes: B sequences of a batch, T positions with a successor in the text, V vocabulary, K kept tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stillwatt.clock import SystemClock
from stillwatt.errors import StillwattError
from stillwatt.pipelines.caches import open_cache
from stillwatt.pipelines.logit_cache import LogitCacheWriter
from stillwatt.pipelines.logit_forms import Form, Told, Top, form_of
from stillwatt.pipelines.logit_text import sequences_sha256
from stillwatt.pipelines.progress import Task
from stillwatt.pipelines.ranks import Ranks
from stillwatt.pipelines.spec import LogitsSpec
from stillwatt.units import seconds

if TYPE_CHECKING:
    from stillwatt.pipelines.cache.writer import CodedCacheWriter

__all__ = ["Counter", "Positions", "Teacher", "TopTeacher", "make", "places_in_documents"]


Positions = npt.NDArray[np.int64] | None
"""Places of tokens in their own documents [S, T]; None where documents are not kept apart."""


class Counter(Protocol):
    """What a stage is told of work done; `metering.meter.Stage` is one."""

    def add(self, **counts: float) -> None:
        """Add to the workload, by name."""
        ...


class Teacher(Protocol):
    """The part of a transformers causal language model that is used here."""

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        ...

    @property
    def config(self) -> Any:
        """Its shape; `get_text_config` gives the part that has `vocab_size`."""
        ...

    def __call__(self, *, input_ids: Tensor, use_cache: bool, **more: Tensor) -> Any:
        """Return an object with `logits`."""
        ...

    def eval(self) -> Any:
        """Switch dropout and the like off."""
        ...


@runtime_checkable
class TopTeacher(Protocol):
    """A teacher that another engine runs, and that tells the most probable tokens alone."""

    @property
    def vocab_size(self) -> int:
        """Width of its output, or of what it is asked to tell of that."""
        ...

    def top(self, sequences: Sequence[Sequence[int]], count: int) -> Sequence[Top]:
        """The `count` most probable tokens at each position of each sequence that has a successor in it."""
        ...


def make(
    teacher_model: Teacher | TopTeacher,
    sequences: Sequence[Sequence[int]],
    spec: LogitsSpec,
    out_dir: Path,
    *,
    task: Task,
    stage: Counter,
    inputs: Mapping[str, Any] | None = None,
    positions: Positions = None,
    is_shared: bool = True,
    rows: int | None = None,
) -> dict[str, Any]:
    """Fill a logit cache with the teacher's distributions over `sequences`, whose positions become its indices.

    Sequences of one length are batched, so that there is no padding to process, to bill or to store. In a folder
    where an earlier attempt was stopped, sealed sequences are taken over and not billed again. Under `torchrun` each
    rank reads some of the batches and the first one writes all, to the same bytes as one process.

    Args:
        teacher_model: A causal language model, which is set to evaluation mode; or another engine that runs one.
        sequences: Token ids.
        spec: Kept tokens, temperature, batch size.
        out_dir: The cache's folder; made if it is not there.
        task: Advances by tokens, those taken over from an earlier attempt included.
        stage: Gets `tokens`, those that went through this process's teacher in this attempt, and `write_s`, the
            seconds in which what is kept of them was cut out, coded and sealed; `taken_over_tokens`, those of
            sequences that an earlier attempt had sealed, where there are any.
        inputs: What else the cache depends on (teacher, corpus), kept in its index.
        positions: Where documents are kept apart, the place of each token of `sequences` in its own document: the
            distributions are then those of each document by itself, and the index says so.
        is_shared: Whether every rank of the launch is here, with a teacher of its own.
        rows: How many output rows of a teacher of this process, from the first, there is a student's row for: its
            distributions are those over these alone (method.md, eq. 59). None for all that it has.

    Returns:
        `artifact_sha256`, `bytes`, `bytes_per_token` and `kept_mass` (method.md, eq. 46; None without positions),
        `tokens` (of all sequences), `positions` (with a stored distribution).

    Raises:
        ArtifactError: `out_dir` holds a cache of other inputs, or a damaged one.
        StillwattError: `teacher_model` tells the most probable tokens alone, and more is needed.
        ValueError: `spec` has no meaning for this teacher, or its logits are not numbers.
    """
    ranks = Ranks(is_alone=not is_shared)
    everything = {**(inputs or {}), **_text_identity(sequences, positions)}
    form = form_of(spec, sequences)
    vocab_size, tell = _told_by(teacher_model, form, sequences, positions, spec, rows)
    with ExitStack() as stack:
        writer = ranks.of_first_or_damage(lambda: form.open(out_dir, vocab_size, everything))
        if writer is not None:
            stack.enter_context(writer)
        sealed, wide_rows = ranks.agree((frozenset[int](), 0) if writer is None else _begun(writer))

        def read(part: tuple[Sequence[int], bool]) -> list[Any]:
            # the whole batch runs even if part of it is sealed: batching may alter the last bits of a result
            batch, is_wide = part
            stage.add(tokens=_num_tokens(sequences, batch))
            found = []
            for index, told in tell(batch, is_wide):
                with _writing(stage):
                    found.append(form.cut(index, told, is_wide=is_wide))
            return found

        batches = list(_batches(sequences, spec.batch_size))
        missing = [batch for batch in batches if not sealed.issuperset(batch)]
        taken_over = sum(_num_tokens(sequences, batch) for batch in batches if sealed.issuperset(batch))
        task.advance(taken_over)
        if taken_over and ranks.is_first:
            stage.add(taken_over_tokens=taken_over)
        # the first rank writes in the order in which one process would, so that the files are the same
        for (batch, _), found in ranks.spread(list(_widths(missing, sequences, wide_rows)), read):
            with _writing(stage):
                for index, cut in zip(batch, found, strict=True):
                    if writer is not None and index not in sealed:
                        form.put(writer, index, cut)
            task.advance(_num_tokens(sequences, batch))
        with _writing(stage):
            stack.close()  # seals what is left
    return ranks.agree(_results(out_dir, sequences) if ranks.is_first else {})


@contextmanager
def _writing(stage: Counter) -> Iterator[None]:
    """Count what is done inside as writing."""
    clock = SystemClock()
    start_ns = clock.monotonic_ns()
    yield
    stage.add(write_s=float(seconds(clock.monotonic_ns() - start_ns)))


def _results(out_dir: Path, sequences: Sequence[Sequence[int]]) -> dict[str, Any]:
    cache = open_cache(out_dir)
    return {
        "artifact_sha256": cache.sha256,
        "bytes": cache.bytes,
        "bytes_per_token": cache.bytes_per_token,
        "kept_mass": cache.kept_mass,
        "tokens": sum(map(len, sequences)),
        "positions": cache.num_rows,
    }


def _begun(writer: LogitCacheWriter | CodedCacheWriter) -> tuple[frozenset[int], int]:
    """The sequences that are there already, and how many rows a prior is still to be learned from."""
    return writer.sealed_sequences, 0 if isinstance(writer, LogitCacheWriter) else writer.rows_to_learn_from


def _widths(
    batches: Sequence[Sequence[int]], sequences: Sequence[Sequence[int]], wide_rows: int
) -> Iterator[tuple[Sequence[int], bool]]:
    """Each batch, and whether a prior is learned from some of it; every rank comes to the same."""
    for batch in batches:
        yield batch, wide_rows > 0
        wide_rows -= _num_tokens(sequences, batch) - len(batch)


def _num_tokens(sequences: Sequence[Sequence[int]], batch: Sequence[int]) -> int:
    """Tokens of a batch, whose sequences are of one length."""
    return len(batch) * len(sequences[batch[0]])


_Tell = Callable[[Sequence[int], bool], Iterator[tuple[int, Told]]]
"""Gives what is told of each sequence of a batch; asked whether a prior is learned from it."""


def _told_by(
    teacher_model: Teacher | TopTeacher,
    form: Form,
    sequences: Sequence[Sequence[int]],
    positions: Positions,
    spec: LogitsSpec,
    rows: int | None,
) -> tuple[int, _Tell]:
    """Width of what the teacher tells, and how it is asked."""
    if not isinstance(teacher_model, TopTeacher):
        model, width = teacher_model, int(teacher_model.config.get_text_config().vocab_size)
        model.eval()
        rows = width if rows is None else min(rows, width)
        return rows, lambda batch, _is_wide: _logits(model, sequences, batch, positions, rows)
    engine = teacher_model
    if spec.temperature != 1.0 or positions is not None:
        raise StillwattError(
            f"teacher_logits: {type(engine).__name__} tells what it would have said next at temperature 1, each "
            'sequence as one text; set teacher_logits.temperature = 1.0 and data.packing = "stream", or leave '
            "teacher_logits.engine out"
        )

    def tell(batch: Sequence[int], is_wide: bool) -> Iterator[tuple[int, Told]]:
        count = min(form.told(is_wide=is_wide), engine.vocab_size)
        return zip(batch, engine.top([sequences[index] for index in batch], count), strict=True)

    return engine.vocab_size, tell


def _logits(
    teacher_model: Teacher, sequences: Sequence[Sequence[int]], batch: Sequence[int], positions: Positions, rows: int
) -> Iterator[tuple[int, Tensor]]:
    """Run one batch; each sequence's logits for positions 0 to n - 2: the last predicts a token not in the text.

    What is behind the first `rows` of the output is left out before anything is made of it.

    One by one, as what is made of them is as large as they are.
    """
    tokens_BS = torch.tensor([list(sequences[index]) for index in batch], dtype=torch.long)
    with torch.inference_mode():
        place = teacher_model.device
        apart = places_in_documents(positions, batch, place)
        logits_BSV = teacher_model(input_ids=tokens_BS.to(place), use_cache=False, **apart).logits
        if logits_BSV.is_cuda:
            torch.cuda.synchronize(logits_BSV.device)  # or the teacher's work would count as that of who asks for it
        for index, logits_SV in zip(batch, logits_BSV, strict=True):
            yield index, logits_SV[:-1, :rows].contiguous()


def places_in_documents(positions: Positions, batch: Sequence[int], place: torch.device) -> dict[str, Tensor]:
    """What a model is given beside those sequences, so that it keeps their documents apart; nothing where it need not.

    >>> places_in_documents(None, [0], torch.device("cpu"))
    {}
    """
    return {} if positions is None else {"position_ids": torch.from_numpy(positions[list(batch)]).to(place)}


def _batches(sequences: Sequence[Sequence[int]], batch_size: int) -> Iterator[list[int]]:
    """Indices of sequences of one length, `batch_size` at a time; the same on every call.

    >>> list(_batches([[1, 2], [3], [4, 5], [6, 7]], 2))
    [[0, 2], [3], [1]]
    """
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size} must be at least 1")
    by_length: dict[int, list[int]] = {}
    for index, sequence in enumerate(sequences):
        if not sequence:
            raise ValueError(f"sequence {index} has no tokens")
        by_length.setdefault(len(sequence), []).append(index)
    for indices in by_length.values():
        for start in range(0, len(indices), batch_size):
            yield indices[start : start + batch_size]


def _text_identity(sequences: Sequence[Sequence[int]], positions: Positions) -> dict[str, str]:
    text = {"sequences_sha256": sequences_sha256(sequences)}
    if positions is None:
        return text
    return {**text, "packing": "documents", "positions_sha256": sequences_sha256(positions.tolist())}
