"""How closely budgets of joules are kept: real small trainings, and what the final ledger says that they took.

    python benchmarks/bench_budget.py [--of arm run] [--seconds 8 20 60] [--runs 20] [--at-once 4] [--watts 100]
                                     [--save]

A budget is the joules of so many seconds at the power of a training that is measured first. `arm`: one run with as
many equal-joule arms (half `sft`, half `gkd`) as are asked for, each with that budget. `run`: as many runs that end
at that budget in their first arm, idle times, evaluations and all. Spent is what the ledger says when the run is
over, never the live view. Half a step is what whole steps allow (method eq. 135). `--watts` takes an instrument of
constant power in stead of the machine's own, and `--at-once` shares the runs out over processes, which is one more
load on the machine. `--save` adds to the day's file, so that it can be measured in parts; the table is over the whole
file.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stillwatt.config.load import load_recipe
from stillwatt.pipelines.progress import SilentProgress
from stillwatt.records import RunRecord, StageRecord, Total
from stillwatt.workflows.pipeline import run_recipe

HERE = Path(__file__).resolve().parent
RECIPE = """
name = "budget"
[meter]
sensors = ["{sensor}"]
sample_period_ms = 50
idle_baseline_s = 0.5
{options}
[teacher]
source = "tiny-random"
dtype = "float32"
[[students]]
name = "tiny"
source = "tiny-random"
dtype = "float32"
[data]
source = "path:{text}"
sequence_tokens = 32
train_tokens = {tokens}
held_out_share = 0.02
seed = 1
[train]
optimizer = "adamw"
learning_rate = 1e-3
warmup_steps = 0
schedule = "constant"
max_grad_norm = 1.0
batch_size = 4
accumulation_steps = 1
checkpoints = [1.0]
seeds = {seeds}
[evaluate]
perplexity_tokens = 1024
choice_items = 32
choice_context_tokens = 8
choice_continuation_tokens = 4
batch_size = 8
seed = 1
[run]
threads = 1
"""
SFT = '[[arms]]\nname = "sft"\nmethod = "sft"\n'
GKD = """
[student_generate]
prompt_tokens = 8
max_new_tokens = 24
temperature = 1.0
top_p = 1.0
[[arms]]
name = "gkd"
method = "gkd"
alpha = 0.0
temperature = 1.0
loss = "jsd"
loss_parameter = 0.5
own_text_share = 0.5
"""
TRAINING = "student_train"
TOKENS_PER_S = 36_000
"""More than a training here takes, so that no text ends before its budget."""
DOCUMENT_TOKENS = 600


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", nargs="+", choices=("arm", "run"), default=["arm", "run"])
    parser.add_argument("--seconds", nargs="+", type=float, default=[8.0, 20.0, 60.0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--at-once", type=int, default=1, help="processes that share the runs")
    parser.add_argument("--as-lines", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--watts", type=float, help="of a made-up instrument; the machine's own where it is left out")
    parser.add_argument("--save", action="store_true", help="add to the dated file beside this one")
    arguments = parser.parse_args()
    rows = measured(arguments) if arguments.at_once == 1 else shared_out(arguments)
    if arguments.as_lines:
        print(json.dumps(rows))
        return 0
    path = HERE / f"budget-{datetime.now(UTC).date().isoformat()}.json"
    if arguments.save:
        before = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
        rows = [*before, *rows]
        path.write_text(json.dumps({"table": table(rows), "rows": rows}, indent=1) + "\n", encoding="utf-8")
    print("\n".join(" | ".join(str(cell) for cell in line.values()) for line in table(rows)))
    return 0


def measured(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """All that is asked for, by this process."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name, quiet_home(Path(name)):
        bench = Bench(Path(name), arguments.watts)
        power_w = bench.power_w()
        for length_s in arguments.seconds:
            for kind in arguments.of:
                amount_j = round(length_s * power_w, 1)
                made = (bench.arms if kind == "arm" else bench.runs)(amount_j, length_s, arguments.runs)
                rows += [{"of": kind, "seconds": length_s, "instrument": bench.sensor, **row} for row in made]
    return rows


def shared_out(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The same, by several processes at once."""
    asked = ["--of", *arguments.of, "--seconds", *map(str, arguments.seconds), "--as-lines"]
    asked += [] if arguments.watts is None else ["--watts", str(arguments.watts)]
    counts = [len(range(n, arguments.runs, arguments.at_once)) for n in range(arguments.at_once)]
    workers = [
        subprocess.Popen([sys.executable, __file__, *asked, "--runs", str(count)], stdout=subprocess.PIPE, text=True)
        for count in counts
    ]
    told = [worker.communicate()[0] for worker in workers]
    return [row for text in told for row in json.loads(text.splitlines()[-1])]


@contextmanager
def quiet_home(folder: Path) -> Iterator[None]:
    """What the first run of a process imports and fetches takes seconds, and is no part of what is asked here."""
    os.environ.setdefault("STILLWATT_HOME", str(folder / "home"))
    importlib.import_module("accelerate")
    from stillwatt.pipelines.model_sources import resolve_model
    from stillwatt.pipelines.models import load_model, load_tokenizer

    place = resolve_model("tiny-random", revision=None, announce=lambda _: None)
    load_model(place.directory, dtype="float32")
    load_tokenizer(place.directory)
    yield


class Bench:
    """Runs in one folder, on one instrument."""

    def __init__(self, folder: Path, watts: float | None) -> None:
        self._folder = folder
        self.sensor = "auto" if watts is None else "synthetic"
        self._options = "" if watts is None else f"[meter.options.synthetic]\nchannels = [{{ watts = {watts} }}]"

    def power_w(self) -> float:
        """Of a training of three seconds."""
        (stage,) = trainings(self._run(SFT, [1], "budgets.each_arm='3 s'", 3.0))
        return joules(stage) / stage.duration_s

    def arms(self, amount_j: float, length_s: float, count: int) -> list[dict[str, Any]]:
        """Arms of one run, each with that budget."""
        seeds = list(range(1, (count + 1) // 2 + 1))
        record = self._run(SFT + GKD, seeds, f"budgets.each_arm='{amount_j} J'", length_s)
        return [row(stage, amount_j, joules(stage)) for stage in trainings(record)][:count]

    def runs(self, amount_j: float, length_s: float, count: int) -> list[dict[str, Any]]:
        """Runs that end at that budget."""
        rows = []
        for number in range(count):
            record = self._run(SFT if number % 2 == 0 else GKD + SFT, [number + 1], f"budget='{amount_j} J'", length_s)
            assert isinstance(record.total, Total)
            rows.append(row(trainings(record)[-1], amount_j, record.total.value_j))
        return rows

    def _run(self, arms: str, seeds: Sequence[int], budget: str, length_s: float) -> RunRecord:
        path, text_path = self._folder / "recipe.toml", self._folder / "text.jsonl"
        tokens = 512 * round(length_s * TOKENS_PER_S / 512)
        write_text(text_path, tokens)
        text = RECIPE.format(
            sensor=self.sensor,
            options=self._options,
            tokens=tokens,
            seeds=list(seeds),
            text=text_path,
        )
        path.write_text(text + arms, encoding="utf-8")
        runs_dir = self._folder / "runs"
        recipe = load_recipe(path, [budget])
        outcome = run_recipe(recipe, runs_dir=runs_dir, fresh=True, progress=SilentProgress(), announce=say)
        assert outcome is not None
        return outcome.record


def write_text(path: Path, tokens: int) -> None:
    """Made-up words, enough for so many tokens and the held-out text."""
    chance = random.Random(1)
    words = ["".join(chance.choices("abcdefghij", k=chance.randint(1, 6))) for _ in range(40)]
    count = 16 + tokens // DOCUMENT_TOKENS * 2
    lines = [json.dumps({"text": " ".join(chance.choices(words, k=DOCUMENT_TOKENS // 3))}) for _ in range(count)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def say(text: str) -> None:
    """To the terminal's other channel."""
    print(text, file=sys.stderr, flush=True)


def trainings(record: RunRecord) -> list[StageRecord]:
    """The run's trainings, in their order."""
    return [stage for stage in record.stages if stage.kind == TRAINING]


def joules(stage: StageRecord) -> float:
    """A stage's, with all that lies inside it."""
    assert isinstance(stage.gross, Total)
    return stage.gross.value_j


def row(stage: StageRecord, amount_j: float, spent_j: float) -> dict[str, Any]:
    """What became of one budget."""
    step_j = joules(stage) / stage.workload["steps"]
    return {
        "arm": stage.labels["arm"].partition(".")[0],
        "budget_j": amount_j,
        "spent_j": round(spent_j, 2),
        "off": round(spent_j / amount_j - 1.0, 5),
        "half_step": round(step_j / 2.0 / amount_j, 5),
        "load": round(os.getloadavg()[0], 2),
    }


def table(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Median and 95th percentile of what budgets were off, in %; on a machine with more to do than cores, apart."""
    found = []
    for key in sorted({_kind(row) for row in rows}):
        same = [row for row in rows if _kind(row) == key]
        off = sorted(100.0 * abs(row["off"]) for row in same)
        found.append(
            {
                "of": key[0],
                "instrument": key[1],
                "seconds": key[2],
                "machine": key[3],
                "runs": len(same),
                "half_step_pct": round(100.0 * statistics.median(row["half_step"] for row in same), 2),
                "off_pct_median": round(statistics.median(off), 2),
                "off_pct_p95": round(off[min(len(off) - 1, round(0.95 * len(off)))], 2),
                "off_pct_mean_signed": round(100.0 * statistics.mean(row["off"] for row in same), 2),
                "within_2_pct": sum(each <= 2.0 for each in off),
                "load": f"{min(row['load'] for row in same):.1f} to {max(row['load'] for row in same):.1f}",
            }
        )
    return found


def _kind(row: dict[str, Any]) -> tuple[str, str, float, str]:
    is_busy = row["load"] > 2 * (os.cpu_count() or 1)
    return row["of"], row["instrument"], row["seconds"], "crowded" if is_busy else "as it was"


if __name__ == "__main__":
    sys.exit(main())
