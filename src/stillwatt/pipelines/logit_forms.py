"""Forms of a logit cache: what is kept of a teacher's distributions, and how it is written.

A teacher of this process gives whole logits. Another engine may tell the most probable tokens alone (`Top`); then the
mass of all others is what theirs leaves of 1 (method.md, eq. 136), and nothing can be drawn from it.

Shapes: T positions with a successor in the text, V vocabulary, K kept tokens, W told ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from stillwatt.errors import StillwattError
from stillwatt.pipelines.logit_cache import LogitCacheWriter
from stillwatt.pipelines.spec import LogitsSpec

if TYPE_CHECKING:
    from stillwatt.pipelines.cache.scheme import Scheme
    from stillwatt.pipelines.cache.writer import CodedCacheWriter, Cut
    from stillwatt.pipelines.spec import CacheSpec

__all__ = ["Form", "Told", "Top", "form_of", "told_top", "top_k_with_tail"]

_LEAST_TAIL = 2.0**-24
"""Half a step of float32 below 1: log-probabilities of that precision leave no smaller mass to tell of."""


@dataclass(frozen=True, slots=True)
class Top:
    """The most probable tokens of a sequence's positions, as an engine tells them, and nothing of the others."""

    ids_TW: npt.NDArray[np.integer]
    """Most probable first."""
    logp_TW: npt.NDArray[np.floating]
    """Over the whole vocabulary, at temperature 1."""
    vocab_size: int

    def cut(self, rows: int, count: int) -> Top:
        """The `count` most probable of the first `rows` tokens, over these: as if the engine had no others.

        The engine must have told of as many tokens more as there are others. What it told of these is taken out of
        the distribution; the mass of others that are less probable than all it told of stays in the tail.

        >>> told = Top(ids_TW=np.array([[3, 0, 1]]), logp_TW=np.log([[0.5, 0.25, 0.125]]), vocab_size=4)
        >>> np.exp(told.cut(3, 2).logp_TW).round(3).tolist()
        [[0.5, 0.25]]
        """
        is_out_TW = self.ids_TW >= rows
        order_TK = np.argsort(is_out_TW, axis=1, kind="stable")[:, :count]
        p_TW = np.exp(self.logp_TW.astype(np.float64))
        logged_T1 = np.log1p(-np.minimum((p_TW * is_out_TW).sum(1, keepdims=True), 1.0 - _LEAST_TAIL))
        return Top(
            ids_TW=np.take_along_axis(self.ids_TW, order_TK, 1),
            logp_TW=np.take_along_axis(self.logp_TW, order_TK, 1) - logged_T1,
            vocab_size=rows,
        )


Told = Tensor | Top
"""What a teacher says of a sequence: whole logits [T, V], or the most probable tokens."""
_Rows = tuple[npt.NDArray[np.integer], npt.NDArray[np.floating], npt.NDArray[np.floating]]


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


def told_top(told: Top, top_k: int, mass: float = 1.0) -> _Rows:
    """The first `top_k` of what was told, or as many as reach `mass`, and the log of what they leave (eq. 136).

    What is left out to keep to a mass has the id -1. The tail is -inf where the whole vocabulary is kept.

    >>> told = Top(ids_TW=np.array([[2, 1]]), logp_TW=np.log([[0.5, 0.25]]), vocab_size=3)
    >>> _, _, tail_T = told_top(told, 2)
    >>> round(float(np.exp(tail_T[0])), 5)
    0.25
    """
    ids_TK, logp_TK = told.ids_TW[:, :top_k], told.logp_TW[:, :top_k].astype(np.float64)
    if mass < 1.0:
        p_TK = np.exp(logp_TK)
        is_out_TK = np.cumsum(p_TK, axis=1) - p_TK >= mass
        is_out_TK[:, 0] = False
        ids_TK, logp_TK = np.where(is_out_TK, -1, ids_TK), np.where(is_out_TK, -np.inf, logp_TK)
    left_T = np.maximum(1.0 - np.exp(logp_TK).sum(1), _LEAST_TAIL)
    is_all_T = (ids_TK >= 0).sum(1) == told.vocab_size
    return ids_TK, logp_TK, np.where(is_all_T, -np.inf, np.log(left_T))


class Form(Protocol):
    """A format of caches: what is cut out of what is told, on any rank, and how it is written, on the first."""

    def open(self, out_dir: Path, vocab_size: int, inputs: Mapping[str, Any]) -> LogitCacheWriter | CodedCacheWriter:
        """Begin or continue a cache of this form."""
        ...

    def told(self, *, is_wide: bool) -> int:
        """How many of the most probable tokens it must be told; `is_wide` where a prior is learned from them."""
        ...

    def cut(self, index: int, told: Told, *, is_wide: bool) -> Any:
        """What is kept of a sequence."""
        ...

    def put(self, writer: Any, index: int, cut: Any) -> None:
        """Write that."""
        ...


def form_of(spec: LogitsSpec, sequences: Sequence[Sequence[int]]) -> Form:
    """The form that a recipe asks for.

    Raises:
        UsageError: There is no such scheme, or its numbers have no meaning.
    """
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

    def told(self, *, is_wide: bool) -> int:
        return self.spec.top_k

    def cut(self, index: int, told: Told, *, is_wide: bool) -> _Rows:
        if isinstance(told, Top):
            return told_top(told, self.spec.top_k)
        found = top_k_with_tail(told, top_k=self.spec.top_k, temperature=self.spec.temperature)
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

    def told(self, *, is_wide: bool) -> int:
        from stillwatt.pipelines.cache.cut import WIDE

        return max(self.scheme.top_k, WIDE) if is_wide else self.scheme.top_k

    def cut(self, index: int, told: Told, *, is_wide: bool) -> Cut:
        from stillwatt.pipelines.cache.cut import cut_logits

        if isinstance(told, Top):
            return self._of_top(told, is_wide=is_wide)
        return cut_logits(told, self.scheme, temperature=self.spec.temperature, sequence_index=index, is_wide=is_wide)

    def _of_top(self, told: Top, *, is_wide: bool) -> Cut:
        from stillwatt.pipelines.cache.codec import Wide
        from stillwatt.pipelines.cache.writer import Cut

        if self.scheme.draws:
            raise StillwattError(
                f"logit_cache.scheme {self.scheme.name}: its draws fall on the whole distribution, and the teacher's "
                "engine tells the most probable tokens alone; take topk or topp, or an engine of this process"
            )
        ids_TK, logp_TK, tail_T = told_top(told, self.scheme.top_k, self.scheme.mass)
        nothing = np.zeros((len(ids_TK), 0), dtype=np.int64)
        wide = Wide(told.ids_TW, told.logp_TW.astype(np.float64)) if is_wide else None
        return Cut(
            ids_TK=ids_TK, logp_TK=logp_TK, tail_logmass_T=tail_T, draw_ids_TU=nothing, draw_counts_TU=nothing,
            wide=wide,
        )  # fmt: skip

    def put(self, writer: CodedCacheWriter, index: int, cut: Cut) -> None:
        writer.add(index, np.asarray(self.sequences[index], dtype=np.int64), cut)
