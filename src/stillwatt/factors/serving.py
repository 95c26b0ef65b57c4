"""Energy of a token that a model writes, modelled by `ecologits` where it is installed: no reading stands behind it."""

from __future__ import annotations

import importlib
import importlib.metadata
import math
from typing import Any

from stillwatt.errors import MissingExtraError, UsageError
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
    found = _request(active, total)["request_energy"]
    low, high = (float(getattr(found, end, found)) * J_PER_KWH / _REPLY_TOKENS for end in ("min", "max"))
    if low == high:
        low, high = low / ASSUMED_RATIO, high * ASSUMED_RATIO
    return _modelled(math.sqrt(low * high), low, high)


def modelled_reply_token(active: tuple[float, float], total: tuple[float, float]) -> tuple[Total, str]:
    """Energy of one token that somebody else's server writes, as a range, and whose figure it is (method.md, eq. 131).

    The value is that of the whole server. The range begins at its graphics cards alone, so that it holds whatever
    boundary the rest of an account has, and is wider by `ASSUMED_RATIO` at both ends: nobody knows the machine.

    Args:
        active: parameters that take part in a token, in billions, at least and at most.
        total: parameters in all, in billions, at least and at most.

    Raises:
        MissingExtraError: ecologits is not installed.
    """
    least, most = _request(active[0], total[0]), _request(active[1], total[1])
    cards_j = _token_j(least["gpu_required_count"] * least["gpu_energy"])
    low_j, high_j = _token_j(least["request_it_energy"]), _token_j(most["request_it_energy"])
    source = (
        f"ecologits {importlib.metadata.version('ecologits')}, {_span(active)} billion parameters at work of "
        f"{_span(total)}; prompts, PUE and making are not in its figure"
    )
    return _modelled(math.sqrt(low_j * high_j), cards_j / ASSUMED_RATIO, high_j * ASSUMED_RATIO), source


def known_parameters(provider: str, model: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """Parameters of a provider's model, in billions, as ecologits lists them: active and in all, each a range.

    Raises:
        MissingExtraError: ecologits is not installed.
        UsageError: it does not list the model.
    """
    listed: Any = _module("ecologits.model_repository").models
    found = listed.find_model(provider, model)
    if found is None:
        release = importlib.metadata.version("ecologits")
        raise UsageError(
            f"ecologits {release} lists no model {model!r} of provider {provider!r}; give active_parameters and "
            "total_parameters (in billions) instead"
        )
    parameters = found.architecture.parameters
    return _ends(getattr(parameters, "active", parameters)), _ends(getattr(parameters, "total", parameters))


def _request(active: float, total: float) -> dict[str, Any]:
    """What ecologits makes of one reply, without what a data centre adds."""
    found: dict[str, Any] = _module("ecologits.impacts.llm").compute_llm_impacts_dag(
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
    )
    return found


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingExtraError("ecologits", "factors") from None


def _token_j(reply_kwh: float) -> float:
    return float(reply_kwh) * J_PER_KWH / _REPLY_TOKENS


def _ends(found: Any) -> tuple[float, float]:
    return float(getattr(found, "min", found)), float(getattr(found, "max", found))


def _span(ends: tuple[float, float]) -> str:
    return f"{ends[0]:g}" if ends[0] == ends[1] else f"{ends[0]:g} to {ends[1]:g}"


def _modelled(value_j: float, low_j: float, high_j: float) -> Total:
    return Total(
        value_j=value_j,
        low_j=low_j,
        high_j=high_j,
        basis=Basis.MODELLED,
        complete=True,
        boundary=Boundary.NODE,
        share_by_basis=((Basis.MODELLED, 1.0),),
    )
