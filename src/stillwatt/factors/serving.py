"""Energy of a token that a model writes, modelled by `ecologits` where it is installed: no reading stands behind it."""

from __future__ import annotations

import importlib
import math
from typing import Any

from stillwatt.errors import MissingExtraError
from stillwatt.records.channel import Basis, Boundary
from stillwatt.records.energy import Total
from stillwatt.units import J_PER_KWH

ASSUMED_RATIO = 2.0
"""Ratio of the ends to the value where the model gives a figure without a range: ours."""
_REPLY_TOKENS = 400.0
"""Length of the reply for which the model is asked; its energy is proportional to it."""


def modelled_token(active: float, total: float) -> Total:
    """Energy of one token at the boundary of the node, as a range.

    Args:
        active: parameters that take part in a token, in billions.
        total: parameters in all, in billions.

    Raises:
        MissingExtraError: ecologits is not installed.
    """
    try:
        llm: Any = importlib.import_module("ecologits.impacts.llm")
    except ImportError:
        raise MissingExtraError("ecologits", "factors") from None
    found = llm.compute_llm_impacts_dag(
        model_active_parameter_count=active,
        model_total_parameter_count=total,
        output_token_count=_REPLY_TOKENS,
        request_latency=float("inf"),
        if_electricity_mix_adpe=0.0,
        if_electricity_mix_pe=0.0,
        if_electricity_mix_gwp=0.0,
        if_electricity_mix_wue=0.0,
        datacenter_pue=1.0,
        datacenter_wue=0.0,
    )["request_energy"]
    low, high = (float(getattr(found, end, found)) * J_PER_KWH / _REPLY_TOKENS for end in ("min", "max"))
    if low == high:
        low, high = low / ASSUMED_RATIO, high * ASSUMED_RATIO
    return Total(
        value_j=math.sqrt(low * high),
        low_j=low,
        high_j=high,
        basis=Basis.MODELLED,
        complete=True,
        boundary=Boundary.NODE,
        share_by_basis=((Basis.MODELLED, 1.0),),
    )
