"""`stillwatt recipe …`: find, read and check recipes; nothing is run, and neither GPU nor network is needed."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from stillwatt.cli.options import json_option, set_option
from stillwatt.cli.screen import columns, say, say_json

if TYPE_CHECKING:
    from stillwatt.config.models import Recipe
    from stillwatt.config.plan import Plan
    from stillwatt.pipelines.objectives.registry import Objective


@click.group()
def recipe() -> None:
    """Find, read and check recipes. RECIPE is a TOML file or the name of a recipe that comes along."""


@recipe.command("list")
@json_option
def list_recipes(as_json: bool) -> None:
    """List the recipes that come along."""
    from stillwatt.config.bundled import bundled_recipes
    from stillwatt.config.load import load_recipe

    found = {name: (path, load_recipe(path)) for name, path in bundled_recipes().items()}
    if as_json:
        say_json([{"name": n, "path": str(path), "description": r.description} for n, (path, r) in found.items()])
        return
    for line in columns([[name, loaded.description] for name, (_, loaded) in found.items()]):
        say(line)


@recipe.command()
@click.argument("recipe")
@set_option
@json_option
def check(recipe: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check a recipe and say what it would run.

    Everything that is wrong is listed, each with its line; files of text are read where they are here, and so are the
    configurations of models. No model is loaded and no other data is looked at: what only they can tell shows when
    it runs.
    """
    from dataclasses import replace

    from stillwatt.config.bundled import find_recipe
    from stillwatt.config.load import check_recipe
    from stillwatt.config.plan import plan

    loaded, cautions = check_recipe(find_recipe(recipe), overrides)
    would = plan(loaded.to_spec())
    would = replace(would, cautions=would.cautions + cautions)
    if as_json:
        say_json(plan_dict(loaded, would))
        return
    for line in plan_lines(loaded, would):
        say(line)


@recipe.command()
@json_option
def losses(as_json: bool) -> None:
    """List the losses that `method = "kd"` can name, each with its equation in docs/method.md and its paper."""
    from stillwatt.pipelines.objectives.registry import DEFAULT_LOSS, OBJECTIVES

    if as_json:
        say_json([{**asdict(entry), "is_default": entry.name == DEFAULT_LOSS} for entry in OBJECTIVES.values()])
        return
    rows = [["loss", "eq.", "reads", "unit", "paper", "definition"]]
    rows += [
        [entry.name, entry.equation, entry.source.value, entry.unit, paper_text(entry), entry.formula]
        for entry in OBJECTIVES.values()
    ]
    for line in columns(rows):
        say(line)
    for entry in OBJECTIVES.values():
        if entry.is_cut_off:
            say(f"{entry.name} cannot see {entry.cannot_see}")


@recipe.command()
def schema() -> None:
    """Print the JSON Schema of a recipe, for editors that check and complete TOML."""
    from stillwatt.config.schema import schema_text

    say(schema_text().rstrip("\n"))


@recipe.command()
@click.argument("recipe")
@set_option
@json_option
def show(recipe: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Print a recipe's text, to copy from; with --json all its settings, defaults included."""
    from stillwatt.config.bundled import find_recipe
    from stillwatt.config.load import load_recipe

    if overrides and not as_json:
        raise click.UsageError("--set changes settings, not the file's text; add --json")
    path = find_recipe(recipe)
    if as_json:
        say_json(load_recipe(path, overrides).model_dump(mode="json"))
        return
    say(path.read_text(encoding="utf-8").rstrip("\n"))


def plan_lines(loaded: Recipe, would: Plan) -> list[str]:
    """A plan as lines: a table of stages, then what it adds up to."""
    rows = [["stage", "tokens", ""]]
    rows += [[s.name, f"{s.tokens:,}" if s.tokens is not None else "-", s.detail] for s in would.stages]
    lines = [f"{loaded.name}: {loaded.description}" if loaded.description else loaded.name, "", *columns(rows), ""]
    lines.append(f"tokens through students in training: {would.student_tokens:,}")
    lines.append(
        f"tokens through the teacher for its artefacts: {would.teacher_tokens:,}, unless they are there already"
    )
    if would.cache_bytes_low is not None and would.cache_bytes_high is not None:
        lines.append(
            f"teacher's logit cache, estimated: {size_text(would.cache_bytes_low)} "
            f"({size_text(would.cache_bytes_high)} where the vocabulary is above 65,536)"
        )
    lines += would.cautions
    if would.downloads:
        lines.append(f"from the hub: {', '.join(would.downloads)}")
    lines.append(f"settings: sha256 {loaded.settings_sha256}")
    return lines


def plan_dict(loaded: Recipe, would: Plan) -> dict[str, Any]:
    """A plan for programs."""
    return {
        "name": loaded.name,
        "settings_sha256": loaded.settings_sha256,
        "student_tokens": would.student_tokens,
        "teacher_tokens": would.teacher_tokens,
        **asdict(would),
    }


def paper_text(entry: Objective) -> str:
    """A loss's papers in short."""
    return ", ".join(f"arXiv {paper.arxiv}" if paper.arxiv else f"{paper.year}" for paper in entry.papers) or "-"


def size_text(size_bytes: int) -> str:
    """A size for people, in powers of ten.

    >>> size_text(2_113_536)
    '2.1 MB'
    """
    size, unit = float(size_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size_bytes} B" if unit == "B" else f"{size:.1f} {unit}"
