"""A whole distribution from what a coded cache kept of it: the tail takes the shape of what the prior expects.

Shapes: N positions, K kept tokens (shorter rows filled up with id -1), V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["TAIL_POWER", "rebuilt_logp"]

_SMALLEST_P = -103.0
"""Log of the least positive float32: nothing rebuilt is rarer."""
TAIL_POWER = 0.8
"""Power of the prior's means in a tail. That a token is not among the kept says that it is rarer here than it is on
average, and the more so the more is expected of it; measured (method.md, eq. 86)."""


def rebuilt_logp(
    ids_NK: Tensor, logp_NK: Tensor, tail_logmass_N: Tensor, mean_logp_NV: Tensor, *, power: float = TAIL_POWER
) -> Tensor:
    """A whole distribution from kept tokens, tail and prior, in place of `mean_logp_NV` (method.md, eq. 86).

    The tail has the prior's shape made flatter, and no token outside is held more probable than the least of the kept
    ones.

    >>> kept = torch.tensor([[2]]), torch.tensor([[0.8]]).log(), torch.tensor([0.2]).log()
    >>> rebuilt_logp(*kept, torch.tensor([[0.3, 0.1, 0.6]]).log()).exp().numpy().round(3)  # 3 ** 0.8 is 2.41
    array([[0.141, 0.059, 0.8  ]], dtype=float32)
    """
    is_filler_NK = ids_NK < 0
    at_NK = torch.where(is_filler_NK, ids_NK[:, :1], ids_NK)
    least_N1 = logp_NK.masked_fill(is_filler_NK, torch.inf).amin(-1, keepdim=True).clamp_min(_SMALLEST_P)
    shape_NV = mean_logp_NV.mul_(power).scatter_(-1, at_NK, -torch.inf)
    for _ in range(2):  # clipping takes mass away, which is spread again and clipped once more
        shape_NV += tail_logmass_N[:, None] - torch.logsumexp(shape_NV, -1, keepdim=True)
        shape_NV.clamp_max_(least_N1)
    shape_NV += tail_logmass_N[:, None] - torch.logsumexp(shape_NV, -1, keepdim=True)
    kept_NK = torch.where(is_filler_NK, logp_NK[:, :1], logp_NK)
    return shape_NV.nan_to_num_(nan=-torch.inf).scatter_(-1, at_NK, kept_NK.to(shape_NV.dtype))
