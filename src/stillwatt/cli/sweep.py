"""`stillwatt sweep RECIPE`: search over a recipe's settings, every trial's energy on the books."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from stillwatt.cli.interrupts import one_interrupt
from stillwatt.cli.options import INCOMPLETE, json_option, runs_option, sensors_option, set_option
from stillwatt.cli.screen import columns, say, say_json, width
from stillwatt.records.energy import NoTotal
from stillwatt.records.run import total_dict

if TYPE_CHECKING:
    from stillwatt.analysis.trainings import Repeats
    from stillwatt.workflows.sweep import Engine, SweepOutcome
    from stillwatt.workflows.trials import Trial

_GOES_ON = "interrupted: trials that are over are kept and booked; the same command goes on from there"
_ENGINE_HELP = "Trials one after another here, or one on each node of the Ray cluster that RAY_ADDRESS names."

_RESUME_HELP = "Go on with trials that were cut short on another host, too; only where no process is at them any more."

_MOST_NEAR = 5
"""Trials that are named as near to the best one; of more, how many."""
_TOLD_APART = "  told apart by the random parts of their intervals; "

_EXAMPLE = """\b
Such a table:
  [sweep]
  recipe = "quickstart"
  arm = "kd"
  method = "nsga2"    # or grid, random, tpe
  trials = 20
  seed = 1
  objectives = ["energy", "quality"]
  [sweep.parameters]
  "train.learning_rate" = { low = 1e-5, high = 1e-3, log = true }
  "arms.kd.alpha" = { choices = [0.0, 0.5] }
"""


@click.command(epilog=_EXAMPLE)
@click.argument("recipe")
@runs_option
@set_option
@click.option("--trials", type=click.IntRange(min=1), metavar="N", help="How many trials, at most.")
@click.option("--budget", metavar="AMOUNT", help="Of all trials together, such as `0.5 kWh` or `2 h`.")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True, help=_ENGINE_HELP)
@click.option("--resume", is_flag=True, help=_RESUME_HELP)
@click.option("--retry-failed", is_flag=True, help="Run trials that failed again, each as its own run.")
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
    resume: bool,
    retry_failed: bool,
    sensors: tuple[str, ...] | None,
    as_json: bool,
) -> None:
    """Search over settings of a recipe; each trial is a measured run, and teacher artefacts are made once.

    RECIPE has a table `[sweep]`, or is a file with that table alone, which names its recipe. The same command goes
    on with a search that was cut short. What is a server's or the machine's fault ends it and leaves the trial open;
    one that fails of itself stays failed. Exits with 1 where no trial finished, with 3 where the energy of one is not
    known or not whole.
    """
    from stillwatt.cli.progress import reporter
    from stillwatt.clock import SystemClock
    from stillwatt.workflows.sweep import LocalEngine, run_sweep

    try:
        with one_interrupt(SystemClock()), reporter(SystemClock()) as progress:

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
                retry_failed=retry_failed,
                takes_over=resume,
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_GOES_ON) from None
    if as_json:
        say_json(outcome_dict(outcome))
    else:
        for line in outcome_lines(outcome):
            say(line)
    context.exit(_status(outcome))


def _status(outcome: SweepOutcome) -> int:
    """A search that found nothing has failed, whatever its books say."""
    from stillwatt.workflows.trials import FINISHED

    if not any(trial.status == FINISHED for trial in outcome.trials):
        return 1
    return 0 if outcome.complete else INCOMPLETE


def outcome_lines(outcome: SweepOutcome) -> list[str]:
    """A sweep for people: a row a trial, why some did not finish, the best, what all took, and the frontier."""
    from stillwatt.report.format import energy_text
    from stillwatt.workflows.trials import FAILED, FINISHED, PRUNED

    names = list(outcome.settings.parameters)
    objectives = list(outcome.settings.objectives)
    rows = [["trial", "status", *names, *(_heading(name) for name in objectives), "whole run (J)", "run"]]
    rows += [_row(trial, names, objectives) for trial in outcome.trials]
    lines = [*columns(rows), ""]
    lines += [f"trial {t.number} {t.status}: {t.why_not}" for t in outcome.trials if t.status != FINISHED and t.why_not]
    lines += _best(outcome.trials, objectives, outcome.repeats)
    spent = outcome.experimentation
    counts = {status: sum(t.status == status for t in outcome.trials) for status in (FINISHED, PRUNED, FAILED)}
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    if isinstance(spent, NoTotal):
        text = f"not known: {spent.reason}"
    else:
        text = f"{energy_text(total_dict(spent))} {spent.basis.value}"
    noun = "trial" if len(outcome.trials) == 1 else "trials"
    lines.append(f"experimentation: {text}, of {len(outcome.trials)} {noun} ({told or 'none'})")
    if outcome.stopped_by:
        lines.append(f"ended by {outcome.stopped_by}")
    if outcome.analysis is not None:
        from stillwatt.report import verdicts

        frontier = columns(verdicts.frontier_rows(outcome.analysis.comparison), most=width())
        lines += [
            "",
            "a student's energy by who bears the teacher's work "
            "(* on the frontier, p: how surely; ± is a 95 % half-width)",
            *frontier,
        ]
    lines += ["", f"more: stillwatt analyse {outcome.folder}"]
    return lines


def _best(trials: Sequence[Trial], objectives: Sequence[str], repeats: Repeats | None = None) -> list[str]:
    """By each objective, the finished trial that did best."""
    from stillwatt.workflows.trial_lines import value_text
    from stillwatt.workflows.trial_values import not_apart

    lines, is_any_near = [], False
    for name in objectives:
        known = {
            trial.number: (trial.values[name], trial.spreads.get(name)) for trial in trials if name in trial.values
        }
        if known:
            best = (max if name == "quality" else min)(known, key=lambda number: known[number][0])
            word = {"energy": "least energy", "loss": "least loss"}.get(name, f"most {name}")
            near = not_apart(known, best) if len(known) > 1 else ()
            is_any_near = is_any_near or bool(near)
            lines.append(f"{word}: trial {best}, {value_text(name, *known[best])}{_near_text(near)}")
            if name == "energy":
                lines += _prepared(trials)
    return [*lines, *([f"{_TOLD_APART}{_repeats_text(repeats)} (method.md, eq. 28)"] if is_any_near else [])]


def _repeats_text(repeats: Repeats | None) -> str:
    if repeats is None:
        within = "its repeatability, 10 % or more"
    else:
        within = f"±{repeats.rel:.0%} ({repeats.how}, all trials together)"
    return f"a single training's energy is taken to repeat within {within}"


def _near_text(near: Sequence[int] | None) -> str:
    """Whom the best one cannot be told apart from; None where its error is not known."""
    if near is None:
        return "; its error is not known, so it cannot be told apart from the others"
    if not near:
        return ""
    first = ", ".join(map(str, near[:_MOST_NEAR]))
    more = f" and {len(near) - _MOST_NEAR} more" if len(near) > _MOST_NEAR else ""
    return f"; cannot be told apart from trial{'s' if len(near) > 1 else ''} {first}{more}"


def _prepared(trials: Sequence[Trial]) -> list[str]:
    """What the trials are not compared by, and why."""
    from stillwatt.report.format import energy_value_text

    known = {trial.number: trial.prepare_j for trial in trials if trial.prepare_j is not None}
    if not known:
        return []
    most = max(known, key=known.__getitem__)
    others = [energy_j for number, energy_j in known.items() if number != most]
    beside = f", in the others at most {energy_value_text(max(others))}" if others else ""
    return [
        "  trials are compared without the preparation of the data, which loads the libraries in the first trial of a "
        f"process: {energy_value_text(known[most])} in trial {most}{beside}; it is in the whole runs and in the table "
        "below"
    ]


def _heading(objective: str) -> str:
    return {"energy": "energy (J)", "loss": "loss (nats)"}.get(objective, objective)


def _row(trial: Trial, names: Sequence[str], objectives: Sequence[str]) -> list[str]:
    from stillwatt.report.format import interval_text

    values = [_cell(trial, name) for name in objectives]
    parameters = [_text(trial.parameters.get(name, "-")) for name in names]
    energy = trial.energy
    if isinstance(energy, NoTotal):
        text = "-"
    else:
        text = f"{interval_text(energy.value_j, energy.low_j, energy.high_j)} {energy.basis.value}"
    return [str(trial.number), trial.status, *parameters, *values, text, trial.run_id or "-"]


def _cell(trial: Trial, objective: str) -> str:
    """An objective with its interval; the unit stands in the heading."""
    from stillwatt.report.format import interval_text

    if objective not in trial.values:
        return "-"
    value, spread = trial.values[objective], trial.spreads.get(objective)
    if spread is None or spread.low is None or spread.high is None:
        return f"{value:.4g}"
    return f"{interval_text(value, spread.low, spread.high)} {spread.basis}".rstrip()


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def outcome_dict(outcome: SweepOutcome) -> dict[str, Any]:
    """A sweep for programs."""
    found: dict[str, Any] = {
        "folder": str(outcome.folder),
        "complete": outcome.complete,
        "stopped_by": outcome.stopped_by,
        "repeat_rel": None if outcome.repeats is None else outcome.repeats.rel,
        "experimentation_j": total_dict(outcome.experimentation),
        "trials": [asdict(trial) for trial in outcome.trials],
    }
    if outcome.analysis is not None:
        from stillwatt.report.comparison import comparison_dict

        found["comparison"] = comparison_dict(outcome.analysis.comparison)
    return found
