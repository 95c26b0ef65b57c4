"""A model's output layer, and whether its logits are what the fused losses take them to be.

Shapes: B sequences, T tokens of a sequence, D hidden width, V vocabulary.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from stillwatt.errors import StillwattError

__all__ = ["CausalModel", "check_plain_head", "head_weight", "hidden_states"]

CausalModel = Any
"""A transformers causal language model, whose own annotations do not pass strict checking."""

_PROBE_TOKENS = 4
_SURE_LOGIT = 60.0
"""Greatest logit of a probe: where a cap at 30 takes half away, and bfloat16 still tells numbers apart."""
_PLAIN_HEADS: set[str] = set()
"""Shapes of models whose logits are known to be those that the losses take."""


def check_plain_head(model: CausalModel) -> None:
    """Refuse output layers that do more than `hidden @ weight.T`; the losses would silently be others.

    A few tokens go through the model, once a process for models of one shape.

    Raises:
        StillwattError: The head has a bias, its logits are capped or scaled, or they are not what the losses take.
    """
    config = model.config.get_text_config()
    for name, neutral in (("final_logit_softcapping", None), ("logit_scale", 1.0), ("logits_scaling", 1.0)):
        value = getattr(config, name, None)
        if value is not None and value != neutral:
            raise StillwattError(f"{type(model).__name__} has {name} = {value}; the losses here do not cover that")
    head = model.get_output_embeddings()
    if head is None or getattr(head, "bias", None) is not None:
        raise StillwattError(f"{type(model).__name__} has no output layer, or one with a bias; choose another model")
    # what a head does follows from the class and its settings: checkpoints of one student are looked at once
    shape = f"{type(model).__module__}.{type(model).__qualname__} {model.config.to_json_string(use_diff=False)}"
    if shape not in _PLAIN_HEADS:
        _probe_head(model, head)
        _PLAIN_HEADS.add(shape)


@torch.no_grad()
def _probe_head(model: CausalModel, head: torch.nn.Module) -> None:
    """Compare a model's own logits with those that the losses take.

    Untrained or cautious models have logits so small that a cap hardly bends them, so others are put in the place of
    what the output layer gives, as far apart as a sure model's: they must come out as they went in.
    """
    given: list[tuple[Tensor, Tensor]] = []

    def replace_logits(_head: torch.nn.Module, _inputs: Any, made_BTV: Tensor) -> Tensor:
        wide_V = torch.linspace(-_SURE_LOGIT, _SURE_LOGIT, made_BTV.shape[-1], device=made_BTV.device)
        given.append((made_BTV, wide_V.to(made_BTV.dtype).expand_as(made_BTV)))
        return given[-1][1].clone()

    ids_1T = torch.arange(_PROBE_TOKENS, device=model.device)[None] % head_weight(model).shape[0]
    was_training = model.training
    model.eval()
    # one that is the table of the inputs too is not asked for logits
    hook = None if head is model.get_input_embeddings() else head.register_forward_hook(replace_logits)
    try:
        told_BTV = model(input_ids=ids_1T, use_cache=False).logits
    finally:
        if hook is not None:
            hook.remove()
    states_BTD = hidden_states(model, ids_1T).to(head_weight(model).device)
    model.train(was_training)
    ours_BTV = states_BTD @ head_weight(model).T
    eps = torch.finfo(ours_BTV.dtype).eps
    made_BTV, wide_BTV = given[0] if given else (told_BTV, told_BTV)  # of a head that the model passes by
    # far above what rounding does, and what is only handed on is not rounded; NaN is said by those who train on it
    off = _relative_distance(made_BTV, ours_BTV)
    off = off if off > math.sqrt(eps) else _relative_distance(told_BTV, wide_BTV)
    if off > eps:
        raise StillwattError(
            f"{type(model).__name__}: its logits are not its last hidden states times its output layer's matrix: they "
            f"differ by {off:.2g} of their size (scaled or capped logits do); the losses here do not cover that"
        )


def _relative_distance(found: Tensor, wanted: Tensor) -> float:
    found, wanted = found.double().cpu(), wanted.double().cpu()
    return float((found - wanted).norm() / wanted.norm().clamp_min(torch.finfo(torch.float64).tiny))


def head_weight(model: CausalModel) -> Tensor:
    """The output layer's matrix [V, D]."""
    weight: Tensor = model.get_output_embeddings().weight
    return weight


def hidden_states(model: CausalModel, ids_BT: Tensor, positions_BT: Tensor | None = None) -> Tensor:
    """The last hidden states [B, T, D], before the output layer; logits are left to the caller.

    Args:
        model: The model.
        ids_BT: Token ids.
        positions_BT: Each token's place in its own document, where no token may see another document.
    """
    decoder = model.get_decoder()
    apart = {} if positions_BT is None else {"position_ids": positions_BT.to(ids_BT.device)}
    states_BTD: Tensor = decoder(input_ids=ids_BT, use_cache=False, **apart).last_hidden_state
    return states_BTD
