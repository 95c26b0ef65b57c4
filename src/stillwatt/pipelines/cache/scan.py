"""One pass over a teacher's logits: the greatest of each row, and what all others weigh.

Few rows at a time are read, weighed and summed, in memory that is used again for the next few: nothing as long as the
vocabulary outlives them. What is left to be done for a row is then done for all rows at once.

Shapes: T positions, C of them at once, V vocabulary, K wanted ones, P parts of the vocabulary, G groups that the
greatest are looked for in, N tokens of all rows that may be among the greatest.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

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
_ROWS_AT_ONCE = 32
"""Fewer would lie nearer to the processor, and cost more calls than that saves: measured."""
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
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
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
    whole_TV = F.pad(logits_TV, (0, short), value=-torch.inf) if short else logits_TV
    near = _read(whole_TV, temperature, count, part)
    _check(near.peak_T, first)
    ids_TK, logits_TK = np.zeros((len(logits_TV), count), dtype=np.int64), np.zeros((len(logits_TV), count))
    row_N, rank_N, id_N, value_N = _ranked(near, whole_TV.shape[-1])
    is_in = rank_N < count
    ids_TK[row_N[is_in], rank_N[is_in]], logits_TK[row_N[is_in], rank_N[is_in]] = id_N[is_in], value_N[is_in]
    # all that came near was left out of the sums, and not all of it is kept
    is_more = rank_N >= kept
    row_M, id_M, value_M = row_N[is_more], id_N[is_more], value_N[is_more]
    sums_TP = near.sums_TP.astype(np.float64)
    np.add.at(sums_TP, (row_M, id_M // part), np.exp(value_M - near.shift_T[row_M]))
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
    sums_TP = F.pad(weights_TV, (0, -weights_TV.shape[-1] % PART)).unflatten(-1, (-1, part)).sum(-1)
    arrays = (found.indices, found.values.double(), peak_T1[:, 0].double(), sums_TP.double())
    return Scan(*(array.cpu().numpy() for array in arrays))


@dataclass(frozen=True, slots=True)
class _Near:
    """What is found of some rows while they are read."""

    place_N: Ints
    """Tokens that reach a bound, at least as many of a row as are wanted: row times vocabulary plus id."""
    value_N: Singles
    peak_T: Floats
    shift_T: Floats
    """What was taken from the logits before their exponentials."""
    sums_TP: Singles
    """Without the tokens above."""
    crowded: Ints
    """Rows of which so many reach the bound, as they are alike, that none is noted."""


def _read(logits_TV: Tensor, temperature: float, count: int, part: int) -> _Near:
    """Few rows at a time: bound, what reaches it, exponentials and their sums."""
    num, size = logits_TV.shape
    sums_TP, buffer_CV = torch.empty(num, size // part), _buffer(size)
    none = np.zeros(0, dtype=np.int64)
    peak_T, shift_T, places, values, crowded = np.empty(num), np.zeros(num), [none], [none.astype(np.float32)], [none]
    for start in range(0, num, _ROWS_AT_ONCE):
        few_CV = scaled(logits_TV[start : start + _ROWS_AT_ONCE], temperature)
        rows, weights_CV = slice(start, start + len(few_CV)), buffer_CV[: len(few_CV)]
        peak_T[rows], place_N, value_N, of_few = _reaching(few_CV, count)
        if not _LOW <= peak_T[rows].min() <= peak_T[rows].max() <= _HIGH:
            shift_T[rows] = peak_T[rows]
        _weigh(few_CV, shift_T[rows], place_N, weights_CV, sums_TP[rows])
        if not count and not _is_tame(sums_TP[rows].sum(-1)):
            peak_T[rows] = shift_T[rows] = few_CV.amax(-1).numpy()
            _weigh(few_CV, shift_T[rows], place_N, weights_CV, sums_TP[rows])
        places.append(place_N + start * size)
        values.append(value_N)
        crowded.append(of_few + start)
    near, reached = np.concatenate(places), np.concatenate(values)
    return _Near(near, reached, peak_T, shift_T, sums_TP.numpy(), np.concatenate(crowded))


class _Scratch(threading.local):
    """A thread's memory for exponentials: fresh memory would take longer than they do."""

    buffer = torch.empty(0)


_SCRATCH = _Scratch()


def _buffer(size: int) -> Tensor:
    if _SCRATCH.buffer.numel() < _ROWS_AT_ONCE * size:
        _SCRATCH.buffer = torch.empty(_ROWS_AT_ONCE * size)
    return _SCRATCH.buffer[: _ROWS_AT_ONCE * size].view(_ROWS_AT_ONCE, size)


def _weigh(few_CV: Tensor, shift_C: Floats, place_N: Ints, weights_CV: Tensor, sums_CP: Tensor) -> None:
    """Exponentials, those at some places left out, and their sums."""
    if shift_C.any():
        torch.sub(few_CV, torch.from_numpy(shift_C)[:, None], out=weights_CV).exp_()
    else:
        torch.exp(few_CV, out=weights_CV)
    weights_CV.view(-1).numpy()[place_N] = 0.0
    torch.sum(weights_CV.view(*sums_CP.shape, -1), -1, out=sums_CP)


def _is_tame(total_C: Tensor) -> bool:
    return math.exp(_LOW) <= float(total_C.min()) and float(total_C.max()) <= math.exp(_HIGH)


def _reaching(few_CV: Tensor, count: int) -> tuple[Singles, Ints, Singles, Ints]:
    """Peaks; places and values of what is as great as the `count`-th greatest of groups; and crowded rows.

    The greatest tokens lie in groups whose own greatest reach it; these are few, and only they are looked into.
    """
    num, size = few_CV.shape
    none = np.zeros(0, dtype=np.int64)
    if not count:
        return np.zeros(num, dtype=np.float32), none, np.zeros(0, dtype=np.float32), none
    per_group = _PER_GROUP[count > _FEW]
    if size // per_group <= 2 * count:
        per_group = 1
    groups = size // per_group
    best_CG = few_CV.view(num, per_group, groups).amax(1).numpy() if per_group > 1 else few_CV.numpy()
    bound_C = np.partition(best_CG, groups - count, axis=1)[:, groups - count]
    at, crowded = np.flatnonzero(best_CG >= bound_C[:, None]), none
    if len(at) > num * count + PART:
        at, crowded = _without_crowded(at, groups, num, 2 * count + PART)
    row = at // groups
    place = (at + row * (size - groups))[:, None] + np.arange(0, size, groups)
    value = few_CV.numpy().reshape(-1).take(place)
    near = np.flatnonzero(value >= bound_C[row, None])
    return best_CG.max(1), place.reshape(-1).take(near), value.reshape(-1).take(near), crowded


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
