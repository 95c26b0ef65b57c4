"""How far `stillwatt plan` is off on real runs of this machine that it has not seen.

    python benchmarks/plan_error.py [--runs DIR] [--save]

Trains small models of varied width, depth, sequence length, batch and budget by the recipe of `smoke_cpu`, one run
each (about six minutes on two cores), then leaves every run out in turn and predicts it from the others. Runs that
are in DIR already are not repeated. Where a machine has no energy sensor the host's energy is modelled from its use of
the processor, so that energy is very nearly a function of time there: the figures then say how well time is predicted,
and on a machine that others use at the same time they say how well their work is. So the seconds that the run's own
process spent on the processor in each stage are taken down too, and judged beside: `own` is what the same model of the
host would have booked, had nobody else been there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from stillwatt.analysis.costs.forecasts import forecast
from stillwatt.config.bundled import find_recipe
from stillwatt.config.load import load_recipe
from stillwatt.config.models import Recipe
from stillwatt.pipelines.bench import Bench
from stillwatt.pipelines.model_sources import resolve_model
from stillwatt.pipelines.progress import SilentProgress
from stillwatt.workflows.history import History, read_history, read_runs
from stillwatt.workflows.pipeline import run_recipe

HERE = Path(__file__).resolve().parent
WATTS = 8.0
"""Of two logical processors and their memory with one at work, by the model of the host; it scales all alike."""
WORKS = (
    # teacher width and layers, student width and layers, sequence, training tokens, batch
    (128, 4, 64, 4, 64, 4_096, 4),
    (192, 6, 96, 4, 64, 4_096, 8),
    (256, 4, 128, 4, 128, 4_096, 4),
    (256, 6, 192, 4, 64, 2_048, 8),
    (320, 4, 256, 4, 128, 4_096, 8),
    (192, 4, 128, 8, 128, 6_144, 4),
    (320, 6, 192, 6, 64, 3_072, 4),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", default="build/plan-error", help="where the runs lie")
    parser.add_argument("--save", action="store_true", help="keep a dated output beside this file")
    arguments = parser.parse_args()
    runs_dir = Path(arguments.runs)
    runs_dir.mkdir(parents=True, exist_ok=True)
    place = runs_dir / "processor_seconds.json"
    spent: dict[str, dict[str, float]] = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
    for number, work in enumerate(WORKS):
        recipe = study(number, work, runs_dir / "models")
        if recipe.name not in spent:
            print(f"running {recipe.name}: {work}", file=sys.stderr, flush=True)
            own: dict[str, float] = {}
            watch_processor(own)
            run_recipe(recipe, runs_dir=runs_dir, fresh=True, progress=SilentProgress(), announce=lambda _line: None)
            shutil.rmtree(runs_dir / "artifacts", ignore_errors=True)
            spent[recipe.name] = own
            place.write_text(json.dumps(spent), encoding="utf-8")
    history = read_history(*read_runs(runs_dir))
    found = {"booked": judge(history), "own": judge(undisturbed(history, spent))}
    print(json.dumps(found, indent=1))
    if arguments.save:
        date = datetime.now(UTC).date().isoformat()
        path = HERE / f"plan-error-{date}.json"
        path.write_text(json.dumps({"date": date, **found}, indent=1) + "\n", encoding="utf-8")


_PLAIN_RUN_STAGE = Bench.run_stage


def watch_processor(spent: dict[str, float]) -> None:
    """Take down what each stage of the next run takes of the processor, in this process."""

    def run_stage(bench: Bench, name: str, *more: Any, **named: Any) -> Any:
        began_s = time.process_time()
        results = _PLAIN_RUN_STAGE(bench, name, *more, **named)
        spent[name] = time.process_time() - began_s
        return results

    # from outside: processor seconds are this bench's affair, no part of a run's record
    Bench.run_stage = run_stage  # type: ignore[method-assign, assignment]


def undisturbed(history: History, spent: dict[str, dict[str, float]]) -> History:
    """The same stages as they would have been booked with the machine to themselves."""
    names = {run.run_id: run.name for run in history.runs}
    # what a stage with others inside it took was not told apart from what they took
    holding = {
        (run.run_id, stage.name)
        for run in history.runs
        for stage in run.stages
        if any(inner.parent_id == stage.stage_id for inner in run.stages)
    }
    found = []
    for outcome in history.outcomes:
        if (outcome.run_id, outcome.job.name) in holding:
            continue
        seconds = spent[names[outcome.run_id]].get(outcome.job.name, 0.0)
        if outcome.job.counts.waited_s == 0.0 and seconds > 0.0:
            found.append(replace(outcome, energy_j=WATTS * seconds, duration_s=seconds, energy_rel=0.0))
    return replace(history, outcomes=tuple(found))


def study(number: int, work: tuple[int, ...], models: Path) -> Recipe:
    """The recipe of one work."""
    teacher_width, teacher_layers, width, layers, sequence, tokens, batch = work
    text = find_recipe("smoke_cpu").read_text(encoding="utf-8")
    place = models.parent / f"work{number}.toml"
    text = text.replace('source = "tiny-random"', f'source = "path:{_model(models, teacher_width, teacher_layers)}"', 1)
    text = text.replace('source = "tiny-random"', f'source = "path:{_model(models, width, layers)}"', 1)
    place.write_text(text, encoding="utf-8")
    changes = {
        "name": f'"work{number}"',
        "data.sequence_tokens": sequence,
        "data.train_tokens": tokens,
        "teacher_logits.batch_size": 8,
        "teacher_generate.prompt_tokens": 16,
        "teacher_generate.max_new_tokens": 48,
        "teacher_generate.min_new_tokens": 1,
        "teacher_generate.batch_size": 32,
        "train.batch_size": batch,
        "evaluate.perplexity_tokens": 1_024,
        "evaluate.choice_items": 32,
        "serve.prompts": 16,
        "serve.new_tokens": 32,
        "serve.batch_size": 8,
        "meter.idle_baseline_s": 2.0,
    }
    return load_recipe(place, [f"{key}={value}" for key, value in changes.items()])


def _model(models: Path, width: int, layers: int) -> Path:
    """A seeded, untrained Llama with the byte-level tokenizer of `tiny-random`."""
    folder = models / f"{width}x{layers}"
    if (folder / "config.json").exists():
        return folder.resolve()
    tokenizer = AutoTokenizer.from_pretrained(
        str(resolve_model("tiny-random", revision=None, announce=print).directory), local_files_only=True
    )
    config = LlamaConfig(
        vocab_size=257,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 32,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    torch.manual_seed(width * 100 + layers)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder.resolve()


def judge(history: History) -> dict[str, Any]:
    """Every run predicted from the others: errors and coverage, by stage and in total."""
    rows: list[dict[str, Any]] = []
    totals: list[dict[str, Any]] = []
    for run_id in history.run_ids:
        own = [outcome for outcome in history.outcomes if outcome.run_id == run_id]
        rest = [outcome for outcome in history.outcomes if outcome.run_id != run_id]
        found = forecast(rest, [outcome.job for outcome in own])
        for outcome, stage in zip(own, found.stages, strict=True):
            if stage.energy_j is None or stage.duration_s is None:
                continue
            rows.append(
                {
                    "run": run_id,
                    "stage": stage.name,
                    "energy_j": outcome.energy_j,
                    "energy_error": stage.energy_j.value / outcome.energy_j - 1.0,
                    "energy_inside": stage.energy_j.holds(outcome.energy_j),
                    "time_error": stage.duration_s.value / outcome.duration_s - 1.0,
                    "time_inside": stage.duration_s.holds(outcome.duration_s),
                }
            )
        measured = sum(outcome.energy_j for outcome in own)
        if found.energy_j is not None:
            inside = found.energy_j.holds(measured)
            totals.append({"error": found.energy_j.value / measured - 1.0, "inside": inside, "energy_j": measured})
    work = [row for row in rows if not row["stage"].startswith("idle")]
    by_kind: dict[str, list[float]] = {}
    for row in work:
        by_kind.setdefault(row["stage"].split(".")[0], []).append(abs(row["energy_error"]))
    return {
        "runs": len(totals),
        "stages_that_work": len(work),
        "median_abs_energy_error_of_a_run": statistics.median(abs(total["error"]) for total in totals),
        "worst_abs_energy_error_of_a_run": max(abs(total["error"]) for total in totals),
        "runs_inside": sum(total["inside"] for total in totals),
        "median_abs_energy_error_of_a_stage": statistics.median(abs(row["energy_error"]) for row in work),
        "median_abs_time_error_of_a_stage": statistics.median(abs(row["time_error"]) for row in work),
        "stages_inside_energy": sum(row["energy_inside"] for row in work) / len(work),
        "stages_inside_time": sum(row["time_inside"] for row in work) / len(work),
        "median_abs_energy_error_by_kind": {kind: statistics.median(errors) for kind, errors in by_kind.items()},
        "totals": totals,
    }


if __name__ == "__main__":
    main()
