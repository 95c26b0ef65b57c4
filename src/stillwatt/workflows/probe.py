"""A few steps of every stage of a recipe, run and measured for what they cost; nothing of them is kept but the bill.

A probe is a run of its own (`probe-NAME`) in the ledger: its energy is experimentation, and no study's. What it makes
lies in a folder that is removed.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillwatt.errors import ConfigError, MissingExtraError
from stillwatt.workflows.history import PROBE
from stillwatt.workflows.live import Run

if TYPE_CHECKING:
    from stillwatt.config.models import Recipe
    from stillwatt.workflows.plan import Probing

__all__ = ["probe_recipe", "shrink"]

_FIRST_STEPS = 2
"""Optimiser steps of every arm in the first, smallest try."""
_FEWEST_TRIES_S = 2.0
_MOST_GROWTH = 64
_MOST_LETTERS = 64
"""Of a name."""


def probe_recipe(recipe: Recipe, *, runs_dir: str | Path, probing: Probing) -> tuple[str, ...]:
    """Run a smallest form of a recipe, and a larger one in the seconds that are left; returns what is to be said.

    Two sizes tell what a stage costs whatever it does from what its work costs. No try is larger than the recipe.

    Raises:
        MissingExtraError: The training stack is not installed.
    """
    small = shrink(recipe, steps=_FIRST_STEPS)
    spent_s = _carry_out(small, Path(runs_dir), probing)
    tries, left_s = [small], probing.seconds - spent_s
    growth = min(_MOST_GROWTH, int(left_s / spent_s * _FIRST_STEPS)) if spent_s > 0.0 else 0
    if left_s > _FEWEST_TRIES_S and growth > _FIRST_STEPS:
        larger = shrink(recipe, steps=growth)
        if larger.data.train_tokens > small.data.train_tokens:
            spent_s += _carry_out(larger, Path(runs_dir), probing)
            tries.append(larger)
    words = " and ".join(f"{tried.data.train_tokens:,}" for tried in tries)
    return (
        f"probed {spent_s:.0f} s with {words} of {recipe.data.train_tokens:,} tokens; booked as experimentation "
        f"under {PROBE}{recipe.name}",
    )


def shrink(recipe: Recipe, *, steps: int) -> Recipe:
    """The same work in small: a few steps of one arm a method and one seed, evaluated and served in small.

    Raises:
        ConfigError: Nothing smaller can be made of it.
    """
    from pydantic import ValidationError

    from stillwatt.config.models import Recipe

    told = recipe.resolved()
    try:
        return Recipe.model_validate(_shrunken(told, steps), strict=False)
    except ValidationError as err:
        raise ConfigError(
            recipe.name, f"no small form of it can be made for a probe: {err.errors()[0]['msg']}"
        ) from err


def _shrunken(told: dict[str, Any], steps: int) -> dict[str, Any]:
    sequence = told["data"]["sequence_tokens"]
    train, evaluate = told["train"], told["evaluate"]
    per_step = train["batch_size"] * train["accumulation_steps"] * sequence
    told["name"] = f"{PROBE}{told['name']}"[:_MOST_LETTERS]
    told["data"] |= _text_of(told["data"], steps * per_step)
    told["arms"] = list(_one_of_each(told["arms"]))
    told["analysis"]["baseline_arm"] = next((a["name"] for a in told["arms"] if a["method"] == "sft"), "sft")
    told["train"] |= {"checkpoints": [1.0], "seeds": train["seeds"][:1], "warmup_steps": 0}
    told["meter"] |= {"idle_baseline_s": min(told["meter"]["idle_baseline_s"], 1.0), "idle_after_s": 0.0}
    evaluate["perplexity_tokens"] = max(2 * sequence, min(evaluate["perplexity_tokens"], 2 * sequence * steps))
    evaluate["choice_items"] = min(evaluate["choice_items"], evaluate["batch_size"])
    evaluate["lm_eval_limit"] = min(evaluate["lm_eval_limit"] or steps, steps) if evaluate["lm_eval_tasks"] else None
    if evaluate["judge"]:
        evaluate["judge"]["prompts"] = min(evaluate["judge"]["prompts"], max(2, steps))
    for student in told["students"]:
        student["selection_tokens"] = min(student["selection_tokens"], 2 * sequence)
    if told["serve"]:
        told["serve"]["prompts"] = min(told["serve"]["prompts"], told["serve"]["batch_size"])
        told["serve"]["new_tokens"] = min(told["serve"]["new_tokens"], 8 * steps)
    return told


def _text_of(data: dict[str, Any], tokens: int) -> dict[str, int]:
    """Text for so many tokens of training: passed over once, unless the recipe has less of it than that."""
    sequence, epochs = data["sequence_tokens"], data.get("epochs", 1)
    text = max(1, min(data["train_tokens"] // epochs, tokens) // sequence) * sequence
    passes = min(epochs, max(1, tokens // text))
    return {"train_tokens": passes * text, "epochs": passes}


def _one_of_each(arms: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    seen = set()
    for arm in arms:
        what = (arm["method"], arm["loss"])
        if what not in seen:
            seen.add(what)
            yield arm


def _carry_out(recipe: Recipe, runs_dir: Path, probing: Probing) -> float:
    """Run it and take away what it made; returns its seconds."""
    try:
        from stillwatt.pipelines.runner import run_pipeline
    except ModuleNotFoundError as err:
        raise MissingExtraError(str(err.name), "distill") from err
    from stillwatt.clock import SystemClock
    from stillwatt.units import seconds

    clock = SystemClock()
    began_ns = clock.monotonic_ns()
    run = Run(
        recipe.name,
        runs_dir=runs_dir,
        sensors=recipe.sensors,
        period_ms=recipe.meter.sample_period_ms,
        settings=recipe.resolved(),
        options=recipe.meter.options,
    )
    with tempfile.TemporaryDirectory(prefix="stillwatt-probe-", ignore_cleanup_errors=True) as scratch, run:
        run_pipeline(
            recipe.to_spec(),
            meter=run.meter,
            run_id=run.run_id,
            run_dir=run.run_dir,
            artifacts_dir=Path(scratch),
            progress=probing.progress,
            announce=probing.announce,
        )
    shutil.rmtree(run.run_dir / "state", ignore_errors=True)
    return seconds(clock.monotonic_ns() - began_ns)
