"""How much a stage asks of a machine, from the model's shape and the tokens alone (method.md, eq. 90).

    F_forward = 2 A n + 2 L D s n,   F_trained = 3 F_forward                                            [FLOP]

with A weights a token meets, n tokens, L layers, D width, s tokens of a sequence (half of them are looked back at).
Layers that are computed again for the gradients (gradient checkpointing) add F_forward - 2 V D n, with a
vocabulary of V.
"""

from __future__ import annotations

import math

from stillwatt.records.forecast import Counts, ModelSize

__all__ = ["loaded", "read", "saved", "trained", "written"]

_FORWARDS_OF_A_TRAINING = 3.0
"""Backward costs twice what forward does."""
_FORWARDS_BESIDE_ADAPTERS = 2.0
"""Of weights that stay as they are, the backward pass takes the inputs' gradients alone."""
_STATE_BYTES = 28.0
"""AdamW, float32: weight, gradient and two moments are read, weight and moments written, for each parameter."""
_STORED_BYTES = 4.0
"""A student's weights are kept in float32."""
_OPTIMIZER_BYTES = 8.0
"""Two moments in float32."""
BYTES = {"float32": 4.0, "bfloat16": 2.0}
"""Of one weight, by number format."""


def _forward_flops(size: ModelSize, tokens: float, sequence: float) -> float:
    return 2.0 * size.active * tokens + 2.0 * size.layers * size.width * sequence * tokens


def read(size: ModelSize, *, tokens: float, sequence: float, batch: float, dtype: str = "float32") -> Counts:
    """A model that reads text: one forward pass a batch (method.md, eq. 90).

    >>> tiny = ModelSize(parameters=1e6, active=1e6, layers=4, width=64, vocabulary=100, source="example")
    >>> counts = read(tiny, tokens=1_000, sequence=100, batch=5)
    >>> counts.flops, counts.passes, counts.streamed_bytes
    (2051200000.0, 8, 8000000.0)
    """
    batches = math.ceil(tokens / (sequence * batch))
    return Counts(
        flops=_forward_flops(size, tokens, sequence),
        passes=batches * size.layers,
        streamed_bytes=batches * size.parameters * BYTES[dtype],
    )


def trained(
    size: ModelSize,
    *,
    tokens: float,
    sequence: float,
    batch: float,
    accumulation: float,
    dtype: str = "float32",
    is_recomputed: bool = False,
    adapters: float | None = None,
) -> Counts:
    """A model that learns: forward and backward of every microbatch, one step of the optimiser for several of them.

    Equation 90 of method.md. With `is_recomputed` layers run forward once more (gradient checkpointing): of the whole
    model but for its output layer, which is not in them. Of weights that stay as they are, with so many weights of
    `adapters` beside them (LoRA), no gradients are taken: their backward pass costs what the forward does, and the
    optimiser's state is that of the adapters.

    >>> tiny = ModelSize(parameters=1e6, active=1e6, layers=4, width=64, vocabulary=100, source="example")
    >>> counts = trained(tiny, tokens=1_000, sequence=100, batch=5, accumulation=2)
    >>> counts.flops, counts.passes, counts.streamed_bytes
    (6153600000.0, 28.0, 52000000.0)
    >>> trained(tiny, tokens=1_000, sequence=100, batch=5, accumulation=2, is_recomputed=True).flops
    8192000000.0
    >>> trained(tiny, tokens=1_000, sequence=100, batch=5, accumulation=2, adapters=1e4).flops
    4162400000.0
    """
    microbatches = math.ceil(tokens / (sequence * batch))
    steps = math.ceil(microbatches / accumulation)
    forward = read(size, tokens=tokens, sequence=sequence, batch=batch, dtype=dtype)
    learning = size.parameters if adapters is None else adapters
    forwards = _FORWARDS_OF_A_TRAINING if adapters is None else _FORWARDS_BESIDE_ADAPTERS
    counts = Counts(
        flops=forwards * forward.flops + _FORWARDS_OF_A_TRAINING * 2.0 * (adapters or 0.0) * tokens,
        # a layer's launches are no fewer: what falls away for its weights is there for the adapters
        passes=(_FORWARDS_OF_A_TRAINING * microbatches + steps) * size.layers,
        streamed_bytes=forwards * forward.streamed_bytes + steps * learning * _STATE_BYTES,
    )
    return counts + _again(size, forward, tokens) if is_recomputed else counts


def _again(size: ModelSize, forward: Counts, tokens: float) -> Counts:
    """A forward pass through the layers alone."""
    table = size.vocabulary * size.width
    return Counts(
        flops=max(0.0, forward.flops - 2.0 * table * tokens),
        passes=forward.passes,
        streamed_bytes=forward.streamed_bytes * (1.0 - table / max(size.parameters, table)),
    )


def written(
    size: ModelSize, *, texts: float, prompt: float, new: float, batch: float, dtype: str = "float32"
) -> Counts:
    """A model that writes: the prompts are read, then every new token of a batch streams all weights once.

    Equation 90 of method.md; the cache of keys and values is counted at full width, which is the most it can be.

    >>> tiny = ModelSize(parameters=1e6, active=1e6, layers=4, width=64, vocabulary=100, source="example")
    >>> counts = written(tiny, texts=10, prompt=20, new=30, batch=5)
    >>> counts.passes, round(counts.streamed_bytes / 1e6)
    (248, 270)
    """
    batches = math.ceil(texts / batch)
    prompts = read(size, tokens=texts * prompt, sequence=prompt, batch=batch, dtype=dtype)
    looked_back = prompt + new / 2.0
    cache_bytes = 2.0 * size.layers * size.width * BYTES[dtype] * looked_back * texts * new
    decoded = Counts(
        flops=2.0 * size.active * texts * new + 4.0 * size.layers * size.width * looked_back * texts * new,
        passes=batches * new * size.layers,
        streamed_bytes=batches * new * size.parameters * BYTES[dtype] + cache_bytes,
    )
    return prompts + decoded


def loaded(size: ModelSize) -> Counts:
    """A model's weights, from disk (method.md, eq. 90).

    >>> loaded(ModelSize(parameters=10, active=10, layers=1, width=1, vocabulary=1, source="example")).stored_bytes
    40.0
    """
    return Counts(stored_bytes=size.parameters * _STORED_BYTES)


def saved(size: ModelSize, *, with_optimizer: bool, adapters: float | None = None) -> Counts:
    """A checkpoint, to disk (method.md, eq. 90): with adapters beside weights, these alone until the last one.

    >>> one = ModelSize(parameters=10, active=10, layers=1, width=1, vocabulary=1, source="example")
    >>> saved(one, with_optimizer=False).stored_bytes, saved(one, with_optimizer=True).stored_bytes
    (40.0, 120.0)
    >>> [saved(one, with_optimizer=more, adapters=2.0).stored_bytes for more in (False, True)]
    [48.0, 24.0]
    """
    if adapters is not None:
        weights = adapters if with_optimizer else adapters + size.parameters
        return Counts(stored_bytes=weights * _STORED_BYTES + (adapters * _OPTIMIZER_BYTES if with_optimizer else 0.0))
    per_weight = _STORED_BYTES + (_OPTIMIZER_BYTES if with_optimizer else 0.0)
    return Counts(stored_bytes=size.parameters * per_weight)
