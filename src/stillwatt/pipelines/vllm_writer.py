"""The teacher's text from vLLM's offline engine, which runs in a process of its own (`vllm_engine`).

All prompts of a batch are given at once and vLLM batches them as it goes. The engine is started by the first batch and
ended by `close`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stillwatt.pipelines.spec import GenerateSpec
from stillwatt.pipelines.vllm_engine import Counter, VllmEngine, config_of_folder

__all__ = ["VllmWriter", "end_ids_of_folder"]


@dataclass(slots=True)
class VllmWriter:
    """A teacher that vLLM runs; the same for the same prompts, seed, vLLM, hardware and number of threads."""

    directory: Path
    dtype: str
    spec: GenerateSpec
    end_ids: frozenset[int]
    threads: int | None = None
    stage: Counter | None = None
    """Told what starting took, as `VllmEngine.stage` is."""
    num_tokens: int | None = None
    """How many output rows, from the first, may be drawn; None where every row may."""
    engine: VllmEngine = field(init=False)

    def __post_init__(self) -> None:
        spec = self.spec
        self.engine = VllmEngine(
            self.directory,
            self.dtype,
            longest=spec.prompt_tokens + spec.max_new_tokens,
            batch_size=spec.batch_size,
            threads=self.threads,
            key="teacher_generate.engine",
            stage=self.stage,
        )

    def write(self, prompts: Sequence[Sequence[int]], seed: int) -> list[list[int]]:
        """Each prompt's completion, its end token included where it came to one.

        Raises:
            MissingInputError: vLLM is not installed.
            StillwattError: vLLM cannot load the teacher, or failed or was ended while it wrote.
        """
        seeds = [_prompt_seed(seed, index) for index in range(len(prompts))]
        texts = [list(prompt) for prompt in prompts]
        request = {"prompts": texts, "seeds": seeds, "sampling": self._sampling(), "num_tokens": self.num_tokens}
        answer, _ = self.engine.ask(request)
        completions: list[list[int]] = answer["completions"]
        return completions

    def close(self) -> None:
        """End the engine. May be called again."""
        self.engine.close()

    def _sampling(self) -> dict[str, Any]:
        """As vLLM's `SamplingParams` names them, but for the seed."""
        return {
            "temperature": self.spec.temperature,
            "top_p": self.spec.top_p if self.spec.temperature > 0.0 else 1.0,
            "max_tokens": self.spec.max_new_tokens,
            "stop_token_ids": sorted(self.end_ids),
        }


def _prompt_seed(seed: int, index: int) -> int:
    """A prompt's own seed, from its batch's."""
    digest = hashlib.sha256(f"{seed}/{index}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def end_ids_of_folder(directory: Path, tokenizer_end: int | None) -> frozenset[int]:
    """Tokens that end a text, as `sampling.end_ids` names them, without loading the model."""
    place = directory / "generation_config.json"
    settings = json.loads(place.read_text(encoding="utf-8")) if place.exists() else config_of_folder(directory)
    found = settings.get("eos_token_id")
    ids = set(found) if isinstance(found, list) else {found}
    return frozenset(each for each in (*ids, tokenizer_end) if each is not None)
