"""A vocabulary of 128,256 made of a smaller one, for the cache's bench: what a coded row takes and keeps there.

No teacher with such a vocabulary is at hand, so one stands in: each of its tokens is the likeness of one of the real
vocabulary's, 2.6 of them to each, and at every position one likeness, drawn anew, takes all of that token's
probability. Nothing tells which it is; in a real vocabulary something does, so that ids, tails and gradients are
harder to get right here than there. The student has a head whose likenesses have equal rows.

Shapes: T positions of a sequence, V real vocabulary, W the wider one, D hidden, K kept tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from stillwatt.pipelines.cache.cut import cut_logits
from stillwatt.pipelines.cache.reader import CodedCache, rebuilt_logp
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
        self._bench, self._sizes = bench, sizes
        rng = np.random.default_rng(0)
        extra = rng.integers(0, bench.vocab_size, VOCAB - bench.vocab_size)
        self._owner = np.concatenate([np.arange(bench.vocab_size), extra])
        self._order = np.argsort(self._owner, kind="stable")
        self._counts = np.bincount(self._owner)
        self._first = np.cumsum(self._counts) - self._counts
        self._head_WD = head_weight(bench.student).detach()[torch.from_numpy(self._owner)].requires_grad_()
        self._exact: dict[int, float] = {}

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
        cache = self._write(fitted, directory)
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
            **self._fidelity(lambda index, _: _rebuilt(cache, index)),
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

    def _logits_TW(self, index: int) -> Tensor:
        """The teacher's, of a held-out sequence."""
        logits_TV = self._bench.exact[index]
        return self._spread(logits_TV, self._drawn_TV(1, index, len(logits_TV)))

    def _write(self, fitted: CodedCache, directory: Path) -> CodedCache:
        with CodedCacheWriter(
            directory, scheme=fitted.scheme, vocab_size=VOCAB, temperature=1.0, inputs={}, prior=fitted.codec
        ) as writer:
            for index, tokens_S in enumerate(self._bench.held_out):
                cut = cut_logits(self._logits_TW(index), fitted.scheme, temperature=1.0, sequence_index=index)
                writer.add(index, self._likenesses(1, index, tokens_S), cut)
        return CodedCache.open(directory)

    def _fidelity(self, rebuilt: Callable[[int, Tensor], Tensor]) -> dict[str, Any]:
        """Mean divergence of what is rebuilt over all held-out tokens, and the errors of the student's gradient."""
        parameters, errors, kls = self._parameters(), {}, []
        wrong = [torch.zeros_like(each) for each in parameters]
        exact = self._exact_norms(parameters)
        for index in range(len(self._bench.held_out)):
            logp_TW = torch.log_softmax(self._logits_TW(index), -1)
            found_TW, p_TW = rebuilt(index, logp_TW), logp_TW.exp()
            kls.append((p_TW * (logp_TW - found_TW)).sum(-1))
            if index >= self._bench.gradient_sequences:
                continue
            student_TW, w_TW = self._student_logits(index), found_TW.exp()
            q_TW = torch.softmax(student_TW.detach(), -1)
            _add(wrong, student_TW, parameters, (w_TW.sum(-1, keepdim=True) - 1.0) * q_TW - (w_TW - p_TW))
            if index + 1 in self._sizes:
                tokens = sum(len(each) - 1 for each in self._bench.held_out[: index + 1])
                errors[str(tokens)] = round(_norm(wrong) / exact[index + 1], 4)
        return {"kl_to_full": round(float(torch.cat(kls).mean()), 4), "gradient_error": errors}

    def _exact_norms(self, parameters: list[Tensor]) -> dict[int, float]:
        """Norms of the exact gradient over the first sequences; computed once."""
        if not self._exact:
            sums = [torch.zeros_like(each) for each in parameters]
            for index in range(self._bench.gradient_sequences):
                student_TW = self._student_logits(index)
                slope_TW = torch.softmax(student_TW.detach(), -1) - torch.softmax(self._logits_TW(index), -1)
                _add(sums, student_TW, parameters, slope_TW)
                self._exact[index + 1] = _norm(sums)
        return self._exact

    def _parameters(self) -> list[Tensor]:
        return [*(each for each in self._bench.student.parameters() if each.requires_grad), self._head_WD]

    def _student_logits(self, index: int) -> Tensor:
        tokens_BS = torch.from_numpy(self._bench.held_out[index].astype(np.int64))[None]
        return hidden_states(self._bench.student, tokens_BS)[0, :-1] @ self._head_WD.T


def _rebuilt(cache: CodedCache, index: int) -> Tensor:
    kept = cache.batch([index])
    mean_TW = torch.from_numpy(cache.mean_logp(index))
    return rebuilt_logp(kept.ids_BTK[0], kept.logp_BTK[0], kept.tail_logmass_BT[0], mean_TW)


def _add(sums: list[Tensor], logits_TW: Tensor, parameters: list[Tensor], slope_TW: Tensor) -> None:
    """Add the parameters' gradients."""
    for total, part in zip(sums, torch.autograd.grad(logits_TW, parameters, slope_TW, allow_unused=True), strict=True):
        if part is not None:  # a tied head is an input's embedding alone here, where the wider one stands apart
            total += part


def _norm(parts: list[Tensor]) -> float:
    return float(sum(part.square().sum() for part in parts)) ** 0.5


def even_tail(logp_TV: Tensor, kept: int) -> Tensor:
    """Log of the distribution that keeps the most probable tokens and spreads the rest evenly."""
    found = logp_TV.topk(kept, -1)
    rest_T1 = torch.log1p(-found.values.exp().sum(-1, keepdim=True).clamp_max(1 - 1e-7))
    even_T1 = rest_T1 - float(np.log(logp_TV.shape[-1] - kept))
    return even_T1.expand(-1, logp_TV.shape[-1]).clone().scatter_(-1, found.indices, found.values)
