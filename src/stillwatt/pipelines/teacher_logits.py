"""Stage: the teacher reads the corpus once, and what it would have said next goes into a logit cache.

Shapes: B sequences of a batch, T positions with a successor in the text, V vocabulary, K kept tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from stillwatt.clock import SystemClock
from stillwatt.pipelines.caches import open_cache
from stillwatt.pipelines.logit_cache import LogitCacheWriter
from stillwatt.pipelines.progress import Task
from stillwatt.pipelines.ranks import Ranks
from stillwatt.pipelines.spec import LogitsSpec
from stillwatt.units import seconds

if TYPE_CHECKING:
    from stillwatt.pipelines.cache.scheme import Scheme
    from stillwatt.pipelines.cache.writer import CodedCacheWriter, Cut
    from stillwatt.pipelines.spec import CacheSpec

__all__ = ["Counter", "Positions", "Teacher", "make", "places_in_documents", "top_k_with_tail"]


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
        """Its shape; has `vocab_size`."""
        ...

    def __call__(self, *, input_ids: Tensor, use_cache: bool, **more: Tensor) -> Any:
        """Return an object with `logits`."""
        ...

    def eval(self) -> Any:
        """Switch dropout and the like off."""
        ...


def make(
    teacher_model: Teacher,
    sequences: Sequence[Sequence[int]],
    spec: LogitsSpec,
    out_dir: Path,
    *,
    task: Task,
    stage: Counter,
    inputs: Mapping[str, Any] | None = None,
    positions: Positions = None,
) -> dict[str, Any]:
    """Fill a logit cache with the teacher's distributions over `sequences`, whose positions become its indices.

    Sequences of one length are batched, so that there is no padding to process, to bill or to store. In a folder
    where an earlier attempt was stopped, sealed sequences are taken over and not billed again. Under `torchrun` each
    rank reads some of the batches and the first one writes all, to the same bytes as one process.

    Args:
        teacher_model: A causal language model; it is set to evaluation mode.
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

    Returns:
        `artifact_sha256`, `bytes`, `bytes_per_token` and `kept_mass` (method.md, eq. 46; None without positions),
        `tokens` (of all sequences), `positions` (with a stored distribution).

    Raises:
        ArtifactError: `out_dir` holds a cache of other inputs, or a damaged one.
        ValueError: `spec` has no meaning for this teacher, or its logits are not numbers.
    """
    teacher_model.eval()
    ranks = Ranks()
    everything = {**(inputs or {}), **_text_identity(sequences, positions)}
    form = _form(spec, sequences)
    with ExitStack() as stack:
        writer = ranks.of_first_or_damage(lambda: form.open(out_dir, int(teacher_model.config.vocab_size), everything))
        if writer is not None:
            stack.enter_context(writer)
        sealed, wide_rows = ranks.agree((frozenset[int](), 0) if writer is None else _begun(writer))

        def read(part: tuple[Sequence[int], bool]) -> list[Any]:
            # the whole batch runs even if part of it is sealed: batching may alter the last bits of a result
            batch, is_wide = part
            stage.add(tokens=_num_tokens(sequences, batch))
            found = []
            for index, logits_TV in _logits(teacher_model, sequences, batch, positions):
                with _writing(stage):
                    found.append(form.cut(index, logits_TV, is_wide=is_wide))
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


def top_k_with_tail(logits_TV: Tensor, *, top_k: int, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """The most probable tokens, their log-probabilities, and the log of the mass of all others; fp32 or wider.

    The tail comes from the sum of the others' own weights, never from 1 minus the kept mass, and is -inf where
    every token is kept.

    >>> ids_TK, logp_TK, tail_T = top_k_with_tail(torch.tensor([[0.0, 1.0, 1.5]]), top_k=2, temperature=1.0)
    >>> ids_TK.tolist()
    [[2, 1]]
    >>> round((logp_TK.exp().sum() + tail_T.exp().sum()).item(), 5)
    1.0
    """
    scaled_TV = logits_TV.to(torch.promote_types(logits_TV.dtype, torch.float32)) / temperature
    kept_TK, ids_TK = scaled_TV.topk(top_k, dim=-1)
    inside_T = torch.logsumexp(kept_TK, dim=-1)
    outside_T = torch.logsumexp(scaled_TV.scatter_(-1, ids_TK, -torch.inf), dim=-1)
    logp_TK = kept_TK - torch.logaddexp(inside_T, outside_T)[:, None]
    return ids_TK, logp_TK, F.logsigmoid(outside_T - inside_T)


_Rows = tuple[npt.NDArray[np.integer], npt.NDArray[np.floating], npt.NDArray[np.floating]]


class _Form(Protocol):
    """A format of caches: what is cut out of logits, on any rank, and how it is written, on the first."""

    def open(
        self, out_dir: Path, vocab_size: int, inputs: Mapping[str, Any]
    ) -> LogitCacheWriter | CodedCacheWriter: ...

    def cut(self, index: int, logits_TV: Tensor, *, is_wide: bool) -> Any: ...

    def put(self, writer: Any, index: int, cut: Any) -> None: ...


def _form(spec: LogitsSpec, sequences: Sequence[Sequence[int]]) -> _Form:
    if spec.cache is None:
        return _FixedRows(spec)
    # only where it is asked for: the coder is an extra
    from stillwatt.pipelines.cache.scheme import Scheme

    how: CacheSpec = spec.cache
    scheme = Scheme(
        name=how.scheme, top_k=spec.top_k, mass=how.mass, draws=how.draws, step=how.step, seed=how.seed, prior=how.prior
    )
    return _Coded(spec, scheme, sequences)


@dataclass(frozen=True, slots=True)
class _FixedRows:
    """As many bytes for every token."""

    spec: LogitsSpec

    def open(self, out_dir: Path, vocab_size: int, inputs: Mapping[str, Any]) -> LogitCacheWriter:
        spec = self.spec
        return LogitCacheWriter(
            out_dir, vocab_size=vocab_size, top_k=spec.top_k, temperature=spec.temperature, inputs=inputs
        )

    def cut(self, index: int, logits_TV: Tensor, *, is_wide: bool) -> _Rows:
        found = top_k_with_tail(logits_TV, top_k=self.spec.top_k, temperature=self.spec.temperature)
        ids_TK, logp_TK, tail_T = (tensor.cpu().numpy() for tensor in found)
        return ids_TK, logp_TK, tail_T

    def put(self, writer: LogitCacheWriter, index: int, cut: _Rows) -> None:
        writer.add(index, *cut)


@dataclass(frozen=True, slots=True)
class _Coded:
    """As many bytes as a token's distribution needs."""

    spec: LogitsSpec
    scheme: Scheme
    sequences: Sequence[Sequence[int]]

    def open(self, out_dir: Path, vocab_size: int, inputs: Mapping[str, Any]) -> CodedCacheWriter:
        from stillwatt.pipelines.cache.writer import CodedCacheWriter

        return CodedCacheWriter(
            out_dir, scheme=self.scheme, vocab_size=vocab_size, temperature=self.spec.temperature, inputs=inputs
        )

    def cut(self, index: int, logits_TV: Tensor, *, is_wide: bool) -> Cut:
        from stillwatt.pipelines.cache.cut import cut_logits

        return cut_logits(
            logits_TV, self.scheme, temperature=self.spec.temperature, sequence_index=index, is_wide=is_wide
        )

    def put(self, writer: CodedCacheWriter, index: int, cut: Cut) -> None:
        writer.add(index, np.asarray(self.sequences[index], dtype=np.int64), cut)


def _logits(
    teacher_model: Teacher, sequences: Sequence[Sequence[int]], batch: Sequence[int], positions: Positions
) -> Iterator[tuple[int, Tensor]]:
    """Run one batch; each sequence's logits for positions 0 to n - 2: the last predicts a token not in the text.

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
            yield index, logits_SV[:-1]


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
    text = {"sequences_sha256": _sequences_sha256(sequences)}
    if positions is None:
        return text
    return {**text, "packing": "documents", "positions_sha256": _sequences_sha256(positions.tolist())}


def _sequences_sha256(sequences: Sequence[Sequence[int]]) -> str:
    """One hash over all token ids and lengths."""
    digest = hashlib.sha256()
    for sequence in sequences:
        digest.update(len(sequence).to_bytes(8, "little"))
        digest.update(np.asarray(sequence, dtype="<i8").tobytes())
    return digest.hexdigest()
