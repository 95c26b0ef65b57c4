"""Gradient checkpointing: activations inside layers are not kept, and computed again for the gradients.

Each layer keeps its input alone, so a training needs less memory and one more forward pass through its layers.
"""

from __future__ import annotations

from stillwatt.errors import StillwattError
from stillwatt.pipelines.output_layer import CausalModel

__all__ = ["recompute_layers"]


def recompute_layers(model: CausalModel) -> None:
    """Let a model compute its layers again in each backward pass, by transformers' own means.

    Takes effect while the model is in training mode: what it writes in evaluation mode keeps its cache. Random numbers
    (dropout) are drawn again as they were, so loss and gradients are those of a model that keeps everything.

    Raises:
        StillwattError: The model has no such means.
    """
    # named anew in transformers 5.23, whose old name warns
    enable = getattr(model, "activation_checkpointing_enable", None)
    try:
        if enable is not None:
            enable(activation_checkpointing_kwargs={"use_reentrant": False})
        else:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    except ValueError as err:
        raise StillwattError(
            f"{type(model).__name__} cannot compute its layers again; set train.gradient_checkpointing = false ({err})"
        ) from err
