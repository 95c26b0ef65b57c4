"""How much text prompts can give at most: known before anything is written, and before anything is paid for."""

from __future__ import annotations

from stillwatt.errors import StillwattError
from stillwatt.pipelines.spec import GenerateSpec

__all__ = ["check_enough", "most_tokens"]


def most_tokens(spec: GenerateSpec, prompts: int, prompt_tokens: int) -> int:
    """Tokens of text that so many prompts of so many tokens in all can give at most."""
    if spec.seeds is not None:  # where a sample ends, an end token takes the separator's place
        return spec.rounds * prompts * (spec.max_new_tokens + 1)
    return spec.rounds * (prompt_tokens + prompts * spec.max_new_tokens)


def check_enough(spec: GenerateSpec, needed_tokens: int, prompts: int, prompt_tokens: int) -> None:
    """Refuse prompts that cannot give the budget, whatever is written after them.

    Raises:
        StillwattError: With both figures.
    """
    most = most_tokens(spec, prompts, prompt_tokens)
    if most >= needed_tokens:
        return
    rounds = f"{spec.rounds} round{'' if spec.rounds == 1 else 's'}"
    again = "max_rounds" if spec.temperature > 0.0 else "temperature, as at 0 a second round repeats the first"
    raise StillwattError(
        f"{prompts} prompts in {rounds} give {most:,} tokens at most, and the budget is {needed_tokens:,}: "
        f"give more prompts, lower data.train_tokens, or raise {spec.table}.max_new_tokens or {again}"
    )
