"""`stillwatt sweep RECIPE`: search over a recipe's settings, every trial's energy on the books."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from stillwatt.cli.options import json_option, runs_option, sensors_option, set_option
from stillwatt.cli.screen import columns, note, say, say_json
from stillwatt.records.energy import NoTotal

if TYPE_CHECKING:
    from stillwatt.workflows.sweep import Engine, SweepOutcome
    from stillwatt.workflows.trials import Trial

_INCOMPLETE = 3
_INTERRUPTED = 130


@click.command()
@click.argument("recipe")
@runs_option
@set_option
@click.option("--trials", type=click.IntRange(min=1), metavar="N", help="How many trials, at most.")
@click.option("--budget", metavar="AMOUNT", help="Of all trials together, such as `0.5 kWh` or `2 h`.")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True, help="Where to.")
@sensors_option
@json_option
@click.pass_context
def sweep(
    context: click.Context,
    recipe: str,
    runs_dir: str,
    overrides: tuple[str, ...],
    trials: int | None,
    budget: str | None,
    engine: str,
    sensors: tuple[str, ...] | None,
    as_json: bool,
) -> None:
    """Search over settings of a recipe; each trial is a measured run, and teacher artefacts are made once.

    RECIPE has a table `[sweep]`, or is a file with that table alone. The same command goes on with a search that was
    cut short. Exits with 3 where the energy of a trial is not known or not whole.
    """
    from stillwatt.cli.progress import reporter
    from stillwatt.clock import SystemClock
    from stillwatt.workflows.sweep import LocalEngine, run_sweep

    try:
        with reporter(SystemClock()) as progress:

            def make_engine() -> Engine:
                if engine == "local":
                    return LocalEngine(progress, progress.announce)
                from stillwatt.workflows.sweep_ray import RayEngine

                return RayEngine()

            outcome = run_sweep(
                recipe,
                overrides,
                runs_dir=runs_dir,
                engine=make_engine,
                progress=progress,
                announce=progress.announce,
                trials=trials,
                budget=budget,
                sensors=sensors,
            )
    except KeyboardInterrupt:
        note("interrupted: trials that are over are kept and booked; the same command goes on from there")
        context.exit(_INTERRUPTED)
    if as_json:
        say_json(outcome_dict(outcome))
    else:
        for line in outcome_lines(outcome):
            say(line)
    context.exit(0 if outcome.complete else _INCOMPLETE)


def outcome_lines(outcome: SweepOutcome) -> list[str]:
    """A sweep for people: a row a trial, what they took together, and the frontier."""
    names = list(outcome.settings.parameters)
    objectives = list(outcome.settings.objectives)
    rows = [["trial", "status", *names, *(_heading(name) for name in objectives), "whole run (J)", "run"]]
    rows += [_row(trial, names, objectives) for trial in outcome.trials]
    lines = [*columns(rows), ""]
    spent = outcome.experimentation_j
    counts = {status: sum(t.status == status for t in outcome.trials) for status in ("finished", "pruned", "failed")}
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    text = f"not known: {spent.reason}" if isinstance(spent, NoTotal) else f"{spent:,.0f} J"
    lines.append(f"experimentation: {text}, of {len(outcome.trials)} trials ({told or 'none'})")
    if outcome.stopped_by:
        lines.append(f"ended by {outcome.stopped_by}")
    if outcome.analysis is not None:
        from stillwatt.report import verdicts

        lines += ["", *columns(verdicts.frontier_rows(outcome.analysis.comparison))]
    lines.append(f"more: stillwatt analyse {outcome.folder}")
    return lines


def _heading(objective: str) -> str:
    return {"energy": "energy (J)", "loss": "loss (nats)"}.get(objective, objective)


def _row(trial: Trial, names: Sequence[str], objectives: Sequence[str]) -> list[str]:
    values = [f"{trial.values[name]:.4g}" if name in trial.values else "-" for name in objectives]
    parameters = [_text(trial.parameters.get(name, "-")) for name in names]
    energy = "-" if trial.energy_j is None else f"{trial.energy_j:,.0f}"
    return [str(trial.number), trial.status, *parameters, *values, energy, trial.run_id or "-"]


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def outcome_dict(outcome: SweepOutcome) -> dict[str, Any]:
    """A sweep for programs."""
    spent = outcome.experimentation_j
    found: dict[str, Any] = {
        "folder": str(outcome.folder),
        "complete": outcome.complete,
        "stopped_by": outcome.stopped_by,
        "experimentation_j": None if isinstance(spent, NoTotal) else spent,
        "experimentation_absent": spent.reason if isinstance(spent, NoTotal) else "",
        "trials": [asdict(trial) for trial in outcome.trials],
    }
    if outcome.analysis is not None:
        from stillwatt.report.comparison import comparison_dict

        found["comparison"] = comparison_dict(outcome.analysis.comparison)
    return found
