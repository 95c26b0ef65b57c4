"""One pass over a teacher's logits: the greatest of each row, and what all others weigh.

Two rows at a time are read, weighed and summed while they lie in the processor's cache; nothing as long as the
vocabulary outlives them. What is left to be done for a row is then done for many rows at once.

Shapes: T positions, C of them at once, V vocabulary, K wanted ones, P parts of the vocabulary, G groups that the
greatest are looked for in, N tokens of all rows that may be among the greatest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["PART", "Scan", "scaled", "scan"]

PART = 64
"""Neighbours whose weights are summed where there are draws: what these fall on first."""
_PER_GROUP = (32, 16)
"""Tokens of a group, if few are looked for or if many; every so many tokens, not neighbours, so that the greatest of
groups are taken of whole rows."""
_FEW = 32
_ROWS_IN_CACHE = 2
"""Rows that are read from memory once for their greatest and their exponentials; 0.8 MB at a vocabulary of 49,152."""
_ROWS_AT_ONCE = 64
"""Rows whose greatest are looked into at once: fewer would cost more calls than they save."""
_SLAB_ROWS = 256
"""Rows whose greatest are sorted at once: what a key leaves room for."""
_LOW, _HIGH = -20.0, 60.0
"""Where the greatest logit of a row lies between these, exponentials neither vanish nor overflow as they are."""
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


def scaled(logits: Tensor, temperature: float) -> Tensor:
    """Logits over the temperature, in float32 at least."""
    wide = logits if logits.dtype == torch.float32 else logits.to(torch.promote_types(logits.dtype, torch.float32))
    return wide if temperature == 1.0 else wide / temperature


def scan(logits_TV: Tensor, temperature: float, *, count: int, kept: int, is_parted: bool) -> Scan:
    """Find the `count` greatest of each row, and what all but the first `kept` of them weigh, in parts or together.

    Raises:
        ValueError: A row has no greatest logit: it holds NaN or infinity, or nothing but minus infinity.
    """
    size = logits_TV.shape[-1]
    part = PART if is_parted else size + -size % PART
    found: list[Scan] = []
    for slab_TV in torch.split(logits_TV, _SLAB_ROWS):
        found.append(_scan_slab(slab_TV, len(found) * _SLAB_ROWS, temperature, count, kept, part))
    return Scan(*(np.concatenate([getattr(part, name) for part in found]) for name in Scan.__slots__))


def _scan_slab(logits_TV: Tensor, first: int, temperature: float, count: int, kept: int, part: int) -> Scan:
    is_narrow = torch.promote_types(logits_TV.dtype, torch.float32) == torch.float32
    if logits_TV.device.type != "cpu" or not is_narrow or logits_TV.shape[-1] >= 1 << _ID_BITS:
        return _by_library(logits_TV, first, temperature, count, kept, part)
    short = -logits_TV.shape[-1] % PART
    whole_TV = F.pad(logits_TV, (0, short), value=-torch.inf) if short else logits_TV.contiguous()
    near = _read(whole_TV, temperature, count, part)
    _check(near.peak_T, first)
    ids_TK, logits_TK = np.zeros((len(logits_TV), count), dtype=np.int64), np.zeros((len(logits_TV), count))
    row_N, rank_N, id_N, value_N = _ranked(near, whole_TV.shape[-1])
    is_in = rank_N < count
    ids_TK[row_N[is_in], rank_N[is_in]], logits_TK[row_N[is_in], rank_N[is_in]] = id_N[is_in], value_N[is_in]
    sums_TP, shift_T = near.sums_TP, near.shift_T
    if part < whole_TV.shape[-1]:
        is_kept = rank_N < kept
        place_N = row_N[is_kept] * whole_TV.shape[-1] + id_N[is_kept]
        at_D, which = np.unique(place_N // part, return_inverse=True)
        value_DM = _values(whole_TV, temperature, at_D[:, None] * part + np.arange(part))
        weight_DM = np.exp(value_DM - shift_T[at_D // sums_TP.shape[1], None])
        weight_DM[which, place_N % part] = 0.0
        sums_TP.reshape(-1)[at_D] = weight_DM.sum(1)
    else:
        # all that came near was left out, and not all of it is kept
        is_more = rank_N >= kept
        np.add.at(sums_TP[:, 0], row_N[is_more], np.exp(value_N[is_more] - shift_T[row_N[is_more]]))
    sums_TP *= np.exp(near.shift_T - near.peak_T)[:, None]
    for row in near.crowded:
        value_V = scaled(whole_TV[row], temperature).double().numpy()
        ids_TK[row] = _of_row(value_V, count)
        logits_TK[row] = value_V[ids_TK[row]]
        weight_V = np.exp(value_V - near.peak_T[row])
        weight_V[ids_TK[row, :kept]] = 0.0
        sums_TP[row] = weight_V.reshape(-1, part).sum(1)
    return Scan(ids_TK, logits_TK, near.peak_T, sums_TP)


def _check(peak_T: Floats, first: int) -> None:
    lacks = np.flatnonzero(~np.isfinite(peak_T))
    if len(lacks):
        raise ValueError(
            f"position {first + lacks[0]}: its greatest logit is {peak_T[lacks[0]]}, so nothing can be kept of it"
        )


def _by_library(logits_TV: Tensor, first: int, temperature: float, count: int, kept: int, part: int) -> Scan:
    """On an accelerator, or in double precision: all rows at once."""
    values_TV = scaled(logits_TV, temperature)
    peak_T1 = values_TV.amax(-1, keepdim=True)
    _check(peak_T1[:, 0].double().cpu().numpy(), first)
    found = values_TV.topk(count, dim=-1)
    weights_TV = (values_TV - peak_T1).exp_().scatter_(-1, found.indices[:, :kept], 0.0)
    whole_TV = F.pad(weights_TV, (0, -weights_TV.shape[-1] % PART))
    sums_TP = whole_TV.view(len(whole_TV), whole_TV.shape[1] // part, part).sum(-1)
    arrays = (found.indices, found.values.double(), peak_T1[:, 0].double(), sums_TP.double())
    return Scan(*(array.cpu().numpy() for array in arrays))


_NOTHING = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32), np.zeros(0, dtype=np.int64)


class _Near(NamedTuple):
    """What is found of some rows while they are read."""

    place_N: Ints
    """Tokens that reach a bound, at least as many of a row as are wanted: row times vocabulary plus id."""
    value_N: Singles
    peak_T: Floats
    shift_T: Floats
    """What was taken from the logits before their exponentials."""
    sums_TP: Floats
    """Without the tokens above, if there is one part."""
    crowded: Ints
    """Rows of which so many reach the bound, as they are alike, that none is noted."""


def _read(logits_TV: Tensor, temperature: float, count: int, part: int) -> _Near:
    """Many rows, as many as are looked into at once, after each other."""
    parts = []
    for start in range(0, max(len(logits_TV), 1), _ROWS_AT_ONCE):
        near = _Rows(logits_TV[start : start + _ROWS_AT_ONCE], temperature, count, part).near()
        parts.append(near._replace(place_N=near.place_N + start * logits_TV.shape[1], crowded=near.crowded + start))
    return _Near(*(np.concatenate(column) for column in zip(*parts, strict=True)))


class _Rows:
    """Rows that are looked into at once.

    The greatest tokens lie in groups whose own greatest are greatest: these are few, and only they are looked into.
    Where sums are of groups, those of these few are then taken again without the tokens that came near.
    """

    def __init__(self, logits_CV: Tensor, temperature: float, count: int, part: int) -> None:
        self.logits_CV, self.temperature, self.count, self.part = logits_CV, temperature, count, part
        num, size = logits_CV.shape
        per_group = _PER_GROUP[count > _FEW]
        self.per_group = per_group if size // per_group > 2 * count else 1
        self.groups, self.is_parted = size // self.per_group, part < size
        self.best_CG = torch.empty(num, self.groups if count else 0)
        self.sums_CS = torch.empty(num, size // part if self.is_parted else self.groups)
        self.shift_C = np.zeros(num)

    def near(self) -> _Near:
        """All that is found of them."""
        self.weigh()
        peak_C = self.best_CG.numpy().max(1, initial=-np.inf).astype(np.float64) if self.count else self.shift_C
        if not self.is_tame(peak_C):
            peak_C = self.logits_CV.amax(-1).double().numpy() / self.temperature
            self.shift_C = np.where(np.isfinite(peak_C), peak_C, 0.0)
            self.weigh()
        place_N, value_N, crowded = self.reaching() if self.count else _NOTHING
        sums_CP = self.sums_CS.numpy().astype(np.float64)
        if not self.is_parted:
            sums_CP = sums_CP.sum(1, keepdims=True)
        return _Near(place_N, value_N, peak_C, self.shift_C, sums_CP, crowded)

    def is_tame(self, peak_C: Floats) -> bool:
        """Whether exponentials neither vanish nor overflow as they are."""
        if self.count or not len(peak_C):
            return bool((peak_C >= _LOW).all() and (peak_C <= _HIGH).all())
        total_C = self.sums_CS.sum(-1)
        return math.exp(_LOW) <= float(total_C.min()) and float(total_C.max()) <= math.exp(_HIGH)

    def weigh(self) -> None:
        """Greatest of groups; exponentials, and their sums by part, or by group where there are no parts."""
        size, few = self.logits_CV.shape[1], _ROWS_IN_CACHE
        groups = self.per_group, self.groups
        shape, along = ((size // self.part, self.part), 2) if self.is_parted else (groups, 1)
        weights_IV, is_shifted = torch.empty(min(few, len(self.logits_CV)), size), bool(self.shift_C.any())
        columns = self.logits_CV, self.best_CG, self.sums_CS, torch.from_numpy(self.shift_C)[:, None]
        for few_IV, best_IG, sums_IS, shift_I1 in zip(*(torch.split(column, few) for column in columns), strict=True):
            scaled_IV, weights_IV = scaled(few_IV, self.temperature), weights_IV[: len(few_IV)]
            if self.count:
                torch.amax(scaled_IV.view(len(few_IV), *groups), 1, out=best_IG)
            if is_shifted:
                torch.sub(scaled_IV, shift_I1, out=weights_IV).exp_()
            else:
                torch.exp(scaled_IV, out=weights_IV)
            torch.sum(weights_IV.view(len(few_IV), *shape), along, out=sums_IS)

    def reaching(self) -> tuple[Ints, Singles, Ints]:
        """Places and values of what is as great as the `count`-th greatest of groups; and crowded rows.

        Takes what it gives back out of the sums, if these are not of parts.
        """
        num, size = self.logits_CV.shape
        best_CG, crowded = self.best_CG.numpy(), _NOTHING[2]
        bound_C = np.partition(best_CG, self.groups - self.count, axis=1)[:, self.groups - self.count]
        at_N = np.flatnonzero(best_CG >= bound_C[:, None])
        if len(at_N) > num * self.count + PART:
            at_N, crowded = _without_crowded(at_N, self.groups, num, 2 * self.count + PART)
        row_N = at_N // self.groups
        place_NM = (at_N + row_N * (size - self.groups))[:, None] + np.arange(0, size, self.groups)
        value_NM = _values(self.logits_CV, self.temperature, place_NM)
        near = np.flatnonzero(value_NM >= bound_C[row_N, None])
        place, value = place_NM.reshape(-1).take(near), value_NM.reshape(-1).take(near)
        if self.is_parted:
            return place, value, crowded
        weight_NM = np.exp(value_NM - self.shift_C[row_N, None].astype(np.float32))
        weight_NM.reshape(-1)[near] = 0.0
        self.sums_CS.numpy().reshape(-1)[at_N] = weight_NM.sum(1)
        return place, value, crowded


def _values(logits_CV: Tensor, temperature: float, places: Ints) -> Singles:
    """Logits over the temperature at places of the rows one after the other."""
    if logits_CV.dtype == torch.float32:
        found = torch.from_numpy(logits_CV.numpy().reshape(-1).take(places))
    else:
        found = logits_CV.reshape(-1)[torch.from_numpy(places)]
    return scaled(found, temperature).numpy()


def _without_crowded(at: Ints, groups: int, num: int, most: int) -> tuple[Ints, Ints]:
    of_row = np.bincount(at // groups, minlength=num)
    return at[of_row[at // groups] <= most], np.flatnonzero(of_row > most)


def _ranked(near: _Near, size: int) -> tuple[Ints, Ints, Ints, Singles]:
    """Row, rank in it, id and value; sorted as whole numbers of row, value and id."""
    row_N, id_N = np.divmod(near.place_N, size)
    bits = (near.value_N + np.float32(0.0)).view(np.int32).astype(np.int64)  # -0 is 0
    falling = _HIGHEST - np.where(bits < 0, bits ^ _HIGHEST, bits)
    keys = np.sort((row_N << _VALUE_BITS | falling) << _ID_BITS | id_N)
    row_N, falling = keys >> _VALUE_BITS + _ID_BITS, keys >> _ID_BITS & (1 << _VALUE_BITS) - 1
    of_row_T = np.bincount(row_N, minlength=len(near.peak_T))
    rank_N = np.arange(len(row_N)) - (np.cumsum(of_row_T) - of_row_T)[row_N]
    bits = _HIGHEST - falling
    value_N = np.where(bits < 0, bits ^ _HIGHEST, bits).astype(np.int32).view(np.float32)
    return row_N, rank_N, keys & (1 << _ID_BITS) - 1, value_N


def _of_row(value_V: Floats, count: int) -> Ints:
    """The greatest of a row with many equal ones."""
    bound = np.partition(value_V, len(value_V) - count)[len(value_V) - count]
    above, equal = np.flatnonzero(value_V > bound), np.flatnonzero(value_V == bound)
    ids = np.concatenate([above, equal, np.arange(count)])[:count]
    return ids[np.lexsort((ids, -value_V[ids]))]
