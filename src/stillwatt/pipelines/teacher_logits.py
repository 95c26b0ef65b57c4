"""Stage: the teacher reads the corpus once, and what it would have said next goes into a logit cache.

Shapes: B sequences of a batch, T positions with a successor in the text, V vocabulary, K kept tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stillwatt.pipelines.caches import open_cache
from stillwatt.pipelines.logit_cache import LogitCacheWriter
from stillwatt.pipelines.progress import Task
from stillwatt.pipelines.spec import LogitsSpec

if TYPE_CHECKING:
    from stillwatt.pipelines.cache.writer import CodedCacheWriter
    from stillwatt.pipelines.spec import CacheSpec

__all__ = ["Counter", "Teacher", "make", "top_k_with_tail"]


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

    def __call__(self, *, input_ids: Tensor, use_cache: bool) -> Any:
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
) -> dict[str, Any]:
    """Fill a logit cache with the teacher's distributions over `sequences`, whose positions become its indices.

    Sequences of one length are batched, so that there is no padding to process, to bill or to store. In a folder
    where an earlier attempt was stopped, sealed sequences are taken over and not billed again.

    Args:
        teacher_model: A causal language model; it is set to evaluation mode.
        sequences: Token ids.
        spec: Kept tokens, temperature, batch size.
        out_dir: The cache's folder; made if it is not there.
        task: Advances by tokens, those taken over from an earlier attempt included.
        stage: Gets `tokens`, those that went through the teacher in this attempt.
        inputs: What else the cache depends on (teacher, corpus), kept in its index.

    Returns:
        `artifact_sha256`, `bytes`, `bytes_per_token` and `kept_mass` (method.md, eq. 46; None without positions),
        `tokens` (of all sequences), `positions` (with a stored distribution).

    Raises:
        ArtifactError: `out_dir` holds a cache of other inputs, or a damaged one.
        ValueError: `spec` has no meaning for this teacher, or its logits are not numbers.
    """
    teacher_model.eval()
    everything = {**(inputs or {}), "sequences_sha256": _sequences_sha256(sequences)}
    vocab_size = int(teacher_model.config.vocab_size)
    writer, put = _open_writer(out_dir, vocab_size, spec, everything, sequences)
    with writer:
        for batch in _batches(sequences, spec.batch_size):
            missing = [index for index in batch if index not in writer.sealed_sequences]
            num_tokens = len(batch) * len(sequences[batch[0]])
            if missing:
                # the whole batch runs even if part of it is sealed: batching may alter the last bits of a result
                for index, logits_TV in _logits(teacher_model, sequences, batch):
                    if index in missing:
                        put(index, logits_TV)
                stage.add(tokens=num_tokens)
            task.advance(num_tokens)
    cache = open_cache(out_dir)
    return {
        "artifact_sha256": cache.sha256,
        "bytes": cache.bytes,
        "bytes_per_token": cache.bytes_per_token,
        "kept_mass": cache.kept_mass,
        "tokens": sum(map(len, sequences)),
        "positions": cache.num_rows,
    }


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


_Put = Callable[[int, Tensor], None]
"""Called with a sequence's index and its logits, without those of the last position."""


def _open_writer(
    out_dir: Path, vocab_size: int, spec: LogitsSpec, inputs: Mapping[str, Any], sequences: Sequence[Sequence[int]]
) -> tuple[LogitCacheWriter | CodedCacheWriter, _Put]:
    """The writer of the wanted format, and what puts logits into it."""
    if spec.cache is not None:
        return _open_coded(out_dir, vocab_size, spec, spec.cache, inputs, sequences)
    writer = LogitCacheWriter(
        out_dir, vocab_size=vocab_size, top_k=spec.top_k, temperature=spec.temperature, inputs=inputs
    )

    def put(index: int, logits_TV: Tensor) -> None:
        found = top_k_with_tail(logits_TV, top_k=spec.top_k, temperature=spec.temperature)
        ids_TK, logp_TK, tail_T = (tensor.cpu().numpy() for tensor in found)
        writer.add(index, ids_TK, logp_TK, tail_T)

    return writer, put


def _open_coded(
    out_dir: Path,
    vocab_size: int,
    spec: LogitsSpec,
    how: CacheSpec,
    inputs: Mapping[str, Any],
    sequences: Sequence[Sequence[int]],
) -> tuple[CodedCacheWriter, _Put]:
    # only where it is asked for: the coder is an extra
    from stillwatt.pipelines.cache.cut import cut_logits
    from stillwatt.pipelines.cache.scheme import Scheme
    from stillwatt.pipelines.cache.writer import CodedCacheWriter

    scheme = Scheme(
        name=how.scheme, top_k=spec.top_k, mass=how.mass, draws=how.draws, step=how.step, seed=how.seed, prior=how.prior
    )
    writer = CodedCacheWriter(
        out_dir, scheme=scheme, vocab_size=vocab_size, temperature=spec.temperature, inputs=inputs
    )

    def put(index: int, logits_TV: Tensor) -> None:
        cut = cut_logits(
            logits_TV, scheme, temperature=spec.temperature, sequence_index=index, is_wide=writer.wants_wide
        )
        writer.add(index, np.asarray(sequences[index], dtype=np.int64), cut)

    return writer, put


def _logits(
    teacher_model: Teacher, sequences: Sequence[Sequence[int]], batch: Sequence[int]
) -> Iterator[tuple[int, Tensor]]:
    """Run one batch; each sequence's logits for positions 0 to n - 2: the last predicts a token not in the text.

    One by one, as what is made of them is as large as they are.
    """
    tokens_BS = torch.tensor([list(sequences[index]) for index in batch], dtype=torch.long)
    with torch.inference_mode():
        logits_BSV = teacher_model(input_ids=tokens_BS.to(teacher_model.device), use_cache=False).logits
        for index, logits_SV in zip(batch, logits_BSV, strict=True):
            yield index, logits_SV[:-1]


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


def _sequences_sha256(sequences: Sequence[Sequence[int]]) -> str:
    """One hash over all token ids and lengths."""
    digest = hashlib.sha256()
    for sequence in sequences:
        digest.update(len(sequence).to_bytes(8, "little"))
        digest.update(np.asarray(sequence, dtype="<i8").tobytes())
    return digest.hexdigest()
