"""Where few of many are true."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["places"]

_WORD = 8


def places(is_true: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Places of what is true, rising, as `np.flatnonzero`; eight at a time are passed over where none is.

    >>> places(np.arange(20) % 9 == 7).tolist()
    [7, 16]
    """
    flat = is_true.reshape(-1)
    whole = len(flat) // _WORD * _WORD
    words = np.flatnonzero(flat[:whole].view(np.uint64))
    inside = np.flatnonzero(flat[:whole].reshape(-1, _WORD)[words])
    found: npt.NDArray[np.int64] = words[inside // _WORD] * _WORD + inside % _WORD
    return found if whole == len(flat) else np.concatenate([found, whole + np.flatnonzero(flat[whole:])])
