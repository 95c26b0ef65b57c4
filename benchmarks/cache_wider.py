"""A vocabulary of 128,256 made of a smaller one, for the cache's bench: what a coded row takes and keeps there.

No teacher with such a vocabulary is at hand, so one stands in: each of its tokens is the likeness of one of the real
vocabulary's, 2.6 of them to each, and at every position one likeness, drawn anew, takes all of that token's
probability. Nothing tells which it is; in a real vocabulary something does, so that ids, tails and gradients are
harder to get right here than there. The student has a head whose likenesses have equal rows.

Shapes: T positions of a sequence, V real vocabulary, W the wider one, D hidden, K kept tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from cache_fidelity import Gradients, StandIn, even_tail, mean_kl, rebuilt
from torch import Tensor

from stillwatt.pipelines.cache.cut import cut_logits
from stillwatt.pipelines.cache.reader import CodedCache
from stillwatt.pipelines.cache.scheme import Scheme
from stillwatt.pipelines.cache.writer import CodedCacheWriter
from stillwatt.pipelines.models import head_weight, hidden_states

if TYPE_CHECKING:
    from bench_cache import Bench

VOCAB = 128_256
_NEVER = -1e4
"""The logit of a likeness that is not drawn: its probability is 0 in float32."""


class WiderWorld:
    """The bench's teacher, student and text over the wider vocabulary."""

    def __init__(self, bench: Bench, sizes: tuple[int, ...]) -> None:
        self._bench = bench
        rng = np.random.default_rng(0)
        extra = rng.integers(0, bench.vocab_size, VOCAB - bench.vocab_size)
        self._owner = np.concatenate([np.arange(bench.vocab_size), extra])
        self._order = np.argsort(self._owner, kind="stable")
        self._counts = np.bincount(self._owner)
        self._first = np.cumsum(self._counts) - self._counts
        self._head_WD = head_weight(bench.student).detach()[torch.from_numpy(self._owner)].requires_grad_()
        self.gradients = Gradients(
            parameters=[*bench.gradients.parameters, self._head_WD],
            student_TV=self._student_logits,
            teacher_TV=self.logits_TW,
            sequences=bench.gradient_sequences,
            sizes=sizes,
        )

    def learn(self, scratch: Path, schemes: Mapping[str, Scheme]) -> dict[str, CodedCache]:
        """Caches of the training text, for their priors."""
        bench = self._bench
        writers = {
            name: CodedCacheWriter(
                scratch / f"wider-train-{n}", scheme=scheme, vocab_size=VOCAB, temperature=1.0, inputs={},
                prior_rows=10**9,
            )
            for n, (name, scheme) in enumerate(schemes.items())
        }  # fmt: skip
        for index, tokens_S in enumerate(bench.train):
            logits_TW = self._spread(bench.logits(tokens_S), self._drawn_TV(0, index, len(tokens_S) - 1))
            for name, writer in writers.items():
                cut = cut_logits(logits_TW, schemes[name], temperature=1.0, sequence_index=index, is_wide=True)
                writer.add(index, self._likenesses(0, index, tokens_S), cut)
        for writer in writers.values():
            writer.close()
        return {name: CodedCache.open(scratch / f"wider-train-{n}") for n, name in enumerate(schemes)}

    def row(self, directory: Path, name: str, fitted: CodedCache) -> dict[str, Any]:
        """One scheme under its prior: bytes of the files, divergence, error of the student's gradient."""
        cache = self.write(fitted, directory)
        parts = cache.bytes_per_token_of
        return {
            "bench": "cache",
            "name": f"{name}, ids spread",
            "vocab": VOCAB,
            "k": cache.scheme.top_k,
            "bytes_per_token": round(sum(parts.values()) - parts["prior"], 2),
            "bytes_of": {part: round(size, 2) for part, size in parts.items() if part != "prior"},
            "prior_bytes": cache.prior_bytes,
            "prior_bytes_per_token": round(cache.prior_bytes / self._bench.train.size, 2),
            **self._fidelity(lambda index, _: rebuilt(cache, index)),
            "is_unbiased": False,
            "write_share_of_teacher_time": None,
            "read_ratio_to_sft": None,
        }

    def peer(self, name: str, kept: int, size: float) -> dict[str, Any]:
        """Top-k with an even tail."""
        return {
            "bench": "cache", "name": f"{name}, ids spread", "vocab": VOCAB, "k": kept, "bytes_per_token": size,
            **self._fidelity(lambda _, logp_TW: even_tail(logp_TW, kept)),
            "is_unbiased": False, "write_share_of_teacher_time": None, "read_ratio_to_sft": None,
        }  # fmt: skip

    def _likeness(self, ids: Any, u: Any) -> Any:
        return self._order[self._first[ids] + (u * self._counts[ids]).astype(np.int64)]

    def _likenesses(self, side: int, index: int, tokens_S: Any) -> Any:
        """Of a sequence's own tokens."""
        return self._likeness(tokens_S, np.random.default_rng([2, side, index]).random(tokens_S.shape))

    def _drawn_TV(self, side: int, index: int, rows: int) -> Any:
        """The likeness of each real token at each position of a sequence, of the training side (0) or held out (1)."""
        ids_TV = np.broadcast_to(np.arange(self._bench.vocab_size), (rows, self._bench.vocab_size))
        return self._likeness(ids_TV, np.random.default_rng([side, index]).random(ids_TV.shape, dtype=np.float32))

    def _spread(self, logits_TV: Tensor, drawn_TV: Any) -> Tensor:
        logits_TW = torch.full((len(logits_TV), VOCAB), _NEVER)
        return logits_TW.scatter_(1, torch.from_numpy(drawn_TV), logits_TV)

    def logits_TW(self, index: int) -> Tensor:
        """The teacher's, of a held-out sequence."""
        logits_TV = self._bench.exact[index]
        return self._spread(logits_TV, self._drawn_TV(1, index, len(logits_TV)))

    def write(self, fitted: CodedCache, directory: Path) -> CodedCache:
        """The held-out text under that prior."""
        with CodedCacheWriter(
            directory, scheme=fitted.scheme, vocab_size=VOCAB, temperature=1.0, inputs={}, prior=fitted.codec
        ) as writer:
            for index, tokens_S in enumerate(self._bench.held_out):
                cut = cut_logits(self.logits_TW(index), fitted.scheme, temperature=1.0, sequence_index=index)
                writer.add(index, self._likenesses(1, index, tokens_S), cut)
        return CodedCache.open(directory)

    def _fidelity(self, found: StandIn) -> dict[str, Any]:
        """Divergence of what is rebuilt over all held-out tokens, and the errors of the student's gradient."""
        return {
            "kl_to_full": mean_kl(len(self._bench.held_out), self.logits_TW, found),
            "gradient_error": self.gradients.errors(lambda index, logp_TW: found(index, logp_TW).exp()),
        }

    def _student_logits(self, index: int) -> Tensor:
        tokens_BS = torch.from_numpy(self._bench.held_out[index].astype(np.int64))[None]
        return hidden_states(self._bench.student, tokens_BS)[0, :-1] @ self._head_WD.T
