"""Stage: a small serving load, so that joules per generated token are known for teacher and student.

Shapes: B prompts, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from stillwatt.metering.meter import Stage
from stillwatt.pipelines.models import CausalModel
from stillwatt.pipelines.progress import Task
from stillwatt.pipelines.spec_evaluate import ServeSpec

__all__ = ["make"]


@torch.no_grad()
def make(
    model: CausalModel, prompts: Sequence[Sequence[int]], spec: ServeSpec, *, end_id: int, task: Task, stage: Stage
) -> int:
    """Answer the prompts greedily, in batches, and count the generated tokens; returns their number.

    The end token is held back, so every prompt yields exactly `spec.new_tokens` tokens: teacher and student carry
    the same load, and no row of a batch idles through padding. Prompts are equally long and repeat where
    `spec.prompts` asks for more than there are.
    """
    from transformers import GenerationConfig

    chosen = [list(prompts[index % len(prompts)]) for index in range(spec.prompts)]
    settings = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        num_beams=1,
        use_cache=True,
        min_new_tokens=spec.new_tokens,
        max_new_tokens=spec.new_tokens,
        eos_token_id=end_id,
        pad_token_id=end_id,
    )
    generated = 0
    for first in range(0, len(chosen), spec.batch_size):
        ids_BT = torch.tensor(chosen[first : first + spec.batch_size], device=model.device)
        out_BT = model.generate(ids_BT, attention_mask=torch.ones_like(ids_BT), generation_config=settings)
        new = int(out_BT[:, ids_BT.shape[1] :].numel())
        stage.add(tokens=new, generated_tokens=new)
        task.advance(new)
        generated += new
    return generated
