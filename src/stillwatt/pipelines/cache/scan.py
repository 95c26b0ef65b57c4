"""One pass over a teacher's logits: the greatest of each row, and what all others weigh.

A few rows at a time are read, weighed and summed by part while they lie in the processor's cache; nothing as long as
the vocabulary outlives them. A token weighs no more than the part it lies in, so the sums tell which parts the greatest
can lie in: only these few are looked into, for many rows at once.

Shapes: T positions, C of them at once, I of these in the cache, V vocabulary, K wanted ones, P parts of the vocabulary,
D parts of all rows that are looked into, M tokens of a part, N tokens of all rows that may be among the greatest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from stillwatt.pipelines.cache.places import places

__all__ = ["LOG2_E", "PART", "Scan", "scaled", "scan"]

PART = 64
"""Neighbours whose weights are summed: what draws fall on first, and what the greatest are looked for in."""
LOG2_E = 1.0 / math.log(2.0)
"""Exponentials are taken to the base 2, which the library does in half the time; what they lose, a rounding of the
exponent, logits in single precision have lost before."""
_ROWS_IN_CACHE = 8
"""Rows that are read from memory once; 1.6 MB at a vocabulary of 49,152. Fewer would cost more calls than they save."""
_ROWS_AT_ONCE = 128
"""Rows that are looked into at once; a sorting key leaves room for 256."""
_LOW, _HIGH = math.exp(-20.0), math.exp(60.0)
"""Where a row weighs between these, exponentials neither vanish nor overflow as they are."""
_MARGIN = 1.0 - 2.0**-14
"""For the rounding of exponentials: a part that weighs less than this share of a token does not hold it."""
_LEAST = 2.0**-100
"""Weights below have lost their digits and bound nothing."""
_PER_BOUND = 8
"""Tokens of which the greatest stands for all where a bound is sought: fewer to choose from, and it falls little."""
_ID_BITS = 23
_VALUE_BITS = 32
_HIGHEST = (1 << 31) - 1

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scan:
    """What one pass finds; logits are those over the temperature."""

    ids_TK: Ints
    """Greatest first; of equal ones the first."""
    logits_TK: Floats
    peak_T: Floats
    """The greatest logit; where none is looked for, anything near it."""
    sums_TP: Floats
    """What the tokens of each part weigh relative to the peak, those that are kept left out; one part if no draws
    are to fall on them."""


@dataclass(frozen=True, slots=True)
class _Looked:
    """Parts that are looked into."""

    at_D: Ints
    """Row times parts plus part; as many of each row, then some more."""
    more: int
    row_D: Ints
    value_DM: Singles
    bound_C: Singles
    """At least as many tokens of a row as are wanted reach it, and all that do lie in these parts."""
    crowded: Ints
    """Rows of which too much is alike, so that they are left for later: their bound is infinite."""

    def reaching(self) -> npt.NDArray[np.bool_]:
        """Which tokens reach the bound, [D, M]."""
        first = len(self.at_D) - self.more
        found = np.empty(self.value_DM.shape, dtype=np.bool_)
        by_row = len(self.bound_C), -1  # compared in long stretches
        bound_C1 = self.bound_C[:, None]
        np.greater_equal(self.value_DM[:first].reshape(by_row), bound_C1, out=found[:first].reshape(by_row))
        np.greater_equal(self.value_DM[first:], bound_C1[self.row_D[first:]], out=found[first:])
        return found


def scaled(logits: Tensor, temperature: float) -> Tensor:
    """Logits over the temperature, in float32 at least."""
    wide = logits if logits.dtype == torch.float32 else logits.to(torch.promote_types(logits.dtype, torch.float32))
    return wide if temperature == 1.0 else wide / temperature


def scan(logits_TV: Tensor, temperature: float, *, count: int, kept: int, is_parted: bool) -> Scan:
    """Find the `count` greatest of each row, and what all but the first `kept` of them weigh, in parts or together.

    Raises:
        ValueError: A row has no greatest logit: it holds NaN or infinity, or nothing but minus infinity.
    """
    is_narrow = torch.promote_types(logits_TV.dtype, torch.float32) == torch.float32
    is_here = logits_TV.device.type == "cpu" and is_narrow and logits_TV.shape[-1] < 1 << _ID_BITS
    found: list[Scan] = []
    for start in range(0, max(len(logits_TV), 1), _ROWS_AT_ONCE):
        rows_CV = logits_TV[start : start + _ROWS_AT_ONCE]
        if is_here:
            found.append(_Rows(rows_CV, start, temperature, count, kept).scan(is_parted=is_parted))
        else:
            found.append(_by_library(rows_CV, start, temperature, count, kept, is_parted))
    return Scan(*(np.concatenate([getattr(part, name) for part in found]) for name in Scan.__slots__))


def _check(peak_C: Floats, first: int) -> None:
    lacks = np.flatnonzero(~np.isfinite(peak_C))
    if len(lacks):
        raise ValueError(
            f"position {first + lacks[0]}: its greatest logit is {peak_C[lacks[0]]}, so nothing can be kept of it"
        )


def _by_library(logits_CV: Tensor, first: int, temperature: float, count: int, kept: int, is_parted: bool) -> Scan:
    """On an accelerator, or in double precision."""
    values_CV = scaled(logits_CV, temperature)
    peak_C1 = values_CV.amax(-1, keepdim=True)
    _check(peak_C1[:, 0].double().cpu().numpy(), first)
    found = values_CV.topk(count, dim=-1)
    weights_CV = (values_CV - peak_C1).exp_().scatter_(-1, found.indices[:, :kept], 0.0)
    whole_CV = F.pad(weights_CV, (0, -weights_CV.shape[-1] % PART))
    part = PART if is_parted else whole_CV.shape[1]
    sums_CP = whole_CV.view(len(whole_CV), whole_CV.shape[1] // part, part).sum(-1)
    arrays = (found.indices, found.values.double(), peak_C1[:, 0].double(), sums_CP.double())
    return Scan(*(array.cpu().numpy() for array in arrays))


class _Rows:
    """Rows that are looked into at once, on a processor and in single precision."""

    def __init__(self, logits_CV: Tensor, first: int, temperature: float, count: int, kept: int) -> None:
        short = -logits_CV.shape[1] % PART
        self.logits_CV = F.pad(logits_CV, (0, short), value=-torch.inf) if short else logits_CV.contiguous()
        self.first, self.temperature, self.count, self.kept = first, temperature, count, kept
        self.size = self.logits_CV.shape[1]
        self.parts = self.size // PART
        self.shift_C = np.zeros(len(logits_CV), dtype=np.float32)
        """What is taken from the logits before their exponentials."""

    def scan(self, *, is_parted: bool) -> Scan:
        """All that is found of them."""
        sums_CP = self.tame()
        num = len(sums_CP)
        ids_CK, logits_CK = np.zeros((num, self.count), dtype=np.int64), np.zeros((num, self.count))
        peak_C, crowded = self.shift_C.astype(np.float64), np.zeros(0, dtype=np.int64)
        if self.count and num:
            looked = self.look(sums_CP)
            crowded, full = looked.crowded, np.flatnonzero(np.isfinite(looked.bound_C))
            id_N, value_N = self.greatest(looked)
            ids_CK[full], logits_CK[full] = id_N.reshape(-1, self.count), value_N.reshape(-1, self.count)
            if self.kept:
                self.leave_out(sums_CP, looked, full, ids_CK[full, : self.kept])
            peak_C[full] = logits_CK[full, 0]
        sums_CQ = sums_CP.astype(np.float64) if is_parted else sums_CP.sum(1, keepdims=True, dtype=np.float64)
        sums_CQ *= np.exp(self.shift_C - peak_C)[:, None]
        for row in crowded:
            value_V = scaled(self.logits_CV[row], self.temperature).double().numpy()
            ids_CK[row] = _of_row(value_V, self.count)
            logits_CK[row] = value_V[ids_CK[row]]
            peak_C[row] = value_V.max()
            weight_V = np.exp(value_V - peak_C[row])
            weight_V[ids_CK[row, : self.kept]] = 0.0
            sums_CQ[row] = weight_V.reshape(sums_CQ.shape[1], -1).sum(1)
        return Scan(ids_CK, logits_CK, peak_C, sums_CQ)

    def tame(self) -> Singles:
        """What parts weigh; rows whose exponentials would vanish or overflow are taken relative to their greatest."""
        sums_CP = _weighed(self.logits_CV, self.temperature, None)
        with np.errstate(over="ignore"):  # an infinite total is found to be wild
            total_C = sums_CP.sum(1)
        wild = np.flatnonzero(~((total_C >= _LOW) & (total_C <= _HIGH)))  # written so that NaN is wild
        if len(wild):
            wild_CV = self.logits_CV[torch.from_numpy(wild)]
            peak_C = scaled(wild_CV.amax(-1), self.temperature).double().numpy()
            lacks = np.full(len(self.shift_C), 0.0)
            lacks[wild] = peak_C
            _check(lacks, self.first)
            self.shift_C[wild] = peak_C
            sums_CP[wild] = _weighed(wild_CV, self.temperature, self.shift_C[wild])
        return sums_CP

    def look(self, sums_CP: Singles) -> _Looked:
        """Choose the parts to look into.

        As many of the heaviest as tokens are wanted give a bound that the greatest reach; whatever other part weighs
        as much as a token at the bound may hold one, too.
        """
        num, few = len(sums_CP), min(self.count, self.parts)
        heavy_D = _heaviest(sums_CP, few)
        most = 4 * few + 2 * PART
        value_DM = np.empty((num * (few + most), PART), dtype=np.float32)
        looked_DM = self.values(heavy_D, value_DM[: len(heavy_D)])
        best_CG = looked_DM.reshape(num, -1)
        if few == self.count:
            best_CG = best_CG.reshape(num, _PER_BOUND, -1).max(1)
        at = best_CG.shape[1] - self.count
        bound_C = np.partition(best_CG, at, axis=1)[:, at]
        limit_C = np.exp((bound_C - self.shift_C).astype(np.float64)) * _MARGIN
        is_due_CP = sums_CP >= limit_C.astype(np.float32)[:, None]
        is_crowded_C = (np.count_nonzero(is_due_CP, axis=1) > most) | (limit_C < _LEAST)
        bound_C[is_crowded_C] = np.inf
        is_due_CP[is_crowded_C] = False
        is_due_CP.reshape(-1)[heavy_D] = False
        more_D = np.flatnonzero(is_due_CP)
        at_D = np.concatenate([heavy_D, more_D])
        self.values(more_D, value_DM[len(heavy_D) : len(at_D)])
        return _Looked(
            at_D, len(more_D), at_D // self.parts, value_DM[: len(at_D)], bound_C, np.flatnonzero(is_crowded_C)
        )

    def values(self, at_D: Ints, out_DM: Singles) -> Singles:
        """Logits over the temperature of parts, written to `out_DM`."""
        if self.logits_CV.dtype == torch.float32:
            self.logits_CV.numpy().reshape(-1, PART).take(at_D, axis=0, out=out_DM, mode="clip")
            if self.temperature != 1.0:
                out_DM /= np.float32(self.temperature)
        else:
            picked_DM = self.logits_CV.view(-1, PART).index_select(0, torch.from_numpy(at_D))
            out_DM[:] = scaled(picked_DM, self.temperature).numpy()
        return out_DM

    def greatest(self, looked: _Looked) -> tuple[Ints, Singles]:
        """Ids and values of the greatest, row by row; sorted as whole numbers of row, value and id."""
        near = places(looked.reaching())
        part_N = near // PART
        row_N = looked.row_D[part_N]
        id_N = (looked.at_D[part_N] - row_N * self.parts) * PART + near % PART
        bits = (looked.value_DM.reshape(-1)[near] + np.float32(0.0)).view(np.int32).astype(np.int64)  # -0 is 0
        falling = _HIGHEST - np.where(bits < 0, bits ^ _HIGHEST, bits)
        keys = np.sort((row_N << _VALUE_BITS | falling) << _ID_BITS | id_N)
        of_row_C = np.bincount(row_N, minlength=len(self.shift_C))
        begin_C = (np.cumsum(of_row_C) - of_row_C)[of_row_C > 0]
        keys = keys[(begin_C[:, None] + np.arange(self.count)).reshape(-1)]
        bits = _HIGHEST - (keys >> _ID_BITS & (1 << _VALUE_BITS) - 1)
        value_N = np.where(bits < 0, bits ^ _HIGHEST, bits).astype(np.int32).view(np.float32)
        return keys & (1 << _ID_BITS) - 1, value_N

    def leave_out(self, sums_CP: Singles, looked: _Looked, full: Ints, ids_FK: Ints) -> None:
        """Weigh the parts that were looked into again, without what is kept of them; their logits are used up."""
        weight_DM = _to_weights(torch.from_numpy(looked.value_DM), looked.row_D, self.shift_C)
        where_CP = np.empty(sums_CP.size, dtype=np.int32)
        where_CP[looked.at_D] = np.arange(len(looked.at_D))
        held_FK = where_CP[full[:, None] * self.parts + ids_FK // PART]
        weight_DM.numpy()[held_FK, ids_FK % PART] = 0.0
        sums_CP.reshape(-1)[looked.at_D] = weight_DM.sum(1).numpy()


def _weighed(logits_CV: Tensor, temperature: float, shift_C: Singles | None) -> Singles:
    """What the tokens of each part weigh together, [C, P]."""
    num, size = logits_CV.shape
    sums_CP = torch.empty(num, size // PART)
    weights_IV = torch.empty(min(_ROWS_IN_CACHE, num), size)
    for start in range(0, num, _ROWS_IN_CACHE):
        rows_IV = logits_CV[start : start + _ROWS_IN_CACHE]
        few_IV = weights_IV[: len(rows_IV)]
        if shift_C is None:
            wide_IV = rows_IV if rows_IV.dtype == torch.float32 else few_IV.copy_(rows_IV)
            torch.mul(wide_IV, LOG2_E / temperature, out=few_IV)
        else:
            shift_I1 = torch.from_numpy(shift_C[start : start + _ROWS_IN_CACHE])[:, None]
            torch.sub(scaled(rows_IV, temperature), shift_I1, out=few_IV).mul_(LOG2_E)
        sums_IP = sums_CP[start : start + _ROWS_IN_CACHE]
        torch.sum(few_IV.exp2_().view(len(rows_IV), -1, PART), 2, out=sums_IP)
    return sums_CP.numpy()


def _to_weights(value_DM: Tensor, row_D: Ints, shift_C: Singles) -> Tensor:
    """Exponentials of what was looked into, in its place."""
    if shift_C.any():
        value_DM -= torch.from_numpy(shift_C[row_D])[:, None]
    return value_DM.mul_(LOG2_E).exp2_()


def _heaviest(sums_CP: Singles, few: int) -> Ints:
    """Places of the heaviest parts, as many of each row; of equal ones any."""
    num, parts = sums_CP.shape
    least_C1 = np.partition(sums_CP, parts - few, axis=1)[:, parts - few, None]
    at_D = np.flatnonzero(sums_CP >= least_C1)
    if len(at_D) > num * few:
        of_row_C = np.bincount(at_D // parts, minlength=num)
        rank_D = np.arange(len(at_D)) - np.repeat(np.cumsum(of_row_C) - of_row_C, of_row_C)
        at_D = at_D[rank_D < few]
    return at_D


def _of_row(value_V: Floats, count: int) -> Ints:
    """The greatest of a row with many equal ones."""
    bound = np.partition(value_V, len(value_V) - count)[len(value_V) - count]
    above, equal = np.flatnonzero(value_V > bound), np.flatnonzero(value_V == bound)
    ids = np.concatenate([above, equal, np.arange(count)])[:count]
    return ids[np.lexsort((ids, -value_V[ids]))]
