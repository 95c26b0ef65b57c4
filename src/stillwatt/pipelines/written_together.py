"""Which prompts a model can continue together, each as it would by itself.

Most models heed the mask that hides padding on the left. Some take no notice of it, and those that carry a state from
token to token take the padding in; of some (RWKV in transformers) texts of one batch even run into each other.

Shapes: B prompts of a batch, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum
from typing import Any

import torch
from torch import Tensor

__all__ = ["Together", "together"]

_PROMPT, _BESIDE, _LONGER = (3, 1), (2, 4), (2, 4, 1, 3, 4, 2)
"""Prompts of a probe; every vocabulary has their tokens."""
_STEPS = 2
"""Tokens that are written: one from what was read, one from what was kept of it."""


class Together(Enum):
    """What may stand in one batch."""

    ANY_LENGTHS = "prompts of any lengths"
    ONE_LENGTH = "prompts of one length"
    NOTHING = "one prompt"


_FOUND: dict[str, Together] = {}
"""By shape of model."""


def together(model: Any, pad_id: int) -> Together:
    """Which prompts a model continues in a batch as it does alone, as far as a few tokens tell, once a process.

    A speaker that is no module of torch is believed to continue any, and so is a model that is spread over ranks: they
    must all call it as often, and a rank whose batch is a single prompt has nothing to try.

    Args:
        model: What continues prompts (`sampling.Speaker`).
        pad_id: The token that fills a batch.
    """
    if not isinstance(model, torch.nn.Module) or _is_spread(model):
        return Together.ANY_LENGTHS
    config: Any = model.config
    shape = f"{type(model).__module__}.{type(model).__qualname__} {config.to_json_string(use_diff=False)}"
    if shape not in _FOUND:
        _FOUND[shape] = _tried(model, pad_id)
    return _FOUND[shape]


def _is_spread(model: torch.nn.Module) -> bool:
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return False
    from torch.distributed.fsdp import FSDPModule

    return any(isinstance(module, FSDPModule) for module in model.modules())


def _tried(model: Any, pad_id: int) -> Together:
    alone = _logits(model, [_PROMPT], pad_id)
    for beside, kind in ((_LONGER, Together.ANY_LENGTHS), (_BESIDE, Together.ONE_LENGTH)):
        if _is_alike(alone, _logits(model, [_PROMPT, beside], pad_id), torch.finfo(model.dtype).eps):
            return kind
    return Together.NOTHING


def _is_alike(alone: Sequence[Tensor], beside: Sequence[Tensor], eps: float) -> bool:
    """Whether a batch's first prompt is continued as it is by itself, by the logits [B, V] of each step."""
    for alone_BV, beside_BV in zip(alone, beside, strict=True):
        alone_V, beside_V = alone_BV[0].double(), beside_BV[0].double()
        distance, size = float((beside_V - alone_V).norm()), float(alone_V.norm())
        # far above what rounding does, far below what other tokens do; NaN is alike to nothing
        if not distance <= math.sqrt(eps) * size:
            return False
        if int(alone_V.argmax()) != int(beside_V.argmax()):
            break  # two tokens are as good: what follows them is not to be compared
    return True


def _logits(model: Any, prompts: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, ...]:
    """What a model says at each step, [B, V] each."""
    from transformers import GenerationConfig

    settings = GenerationConfig(  # type: ignore[no-untyped-call]  # transformers leaves its constructor untyped
        do_sample=False,
        max_new_tokens=_STEPS,
        pad_token_id=pad_id,
        return_dict_in_generate=True,
        output_logits=True,
    )
    fill = [max(map(len, prompts)) - len(prompt) for prompt in prompts]
    rows = [[pad_id] * empty + list(prompt) for empty, prompt in zip(fill, prompts, strict=True)]
    masks = [[0] * empty + [1] * len(prompt) for empty, prompt in zip(fill, prompts, strict=True)]
    tokens_BP, mask_BP = (torch.tensor(each, device=model.device) for each in (rows, masks))
    written = model.generate(tokens_BP, attention_mask=mask_BP, generation_config=settings)
    steps: tuple[Tensor, ...] = written.logits
    return steps
