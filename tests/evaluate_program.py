"""What `train_program` scores: a tiny student, by all that needs no judge, and the answers a judge would read."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from stillwatt.pipelines import evaluate, prepare_data
from stillwatt.pipelines.judge_answers import write_answers
from stillwatt.pipelines.models import load_model, load_tokenizer
from stillwatt.pipelines.ranks import Ranks
from stillwatt.pipelines.sampling import Writer, end_ids
from tiny_models import CountingTask, smoke_spec

_TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {path}}}}}
test_split: test
output_type: {kind}
doc_to_text: "Question: {{{{question}}}} Answer:"
doc_to_target: {target}
target_delimiter: " "
num_fewshot: 0
{settings}
metric_list: [{{metric: {metric}, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 1.0}}
"""
_CHOOSES = 'doc_to_choice: "{{choices}}"'
_WRITES = 'generation_kwargs: {until: ["."], max_gen_toks: 5, do_sample: false}'


def harness_tasks(folder: Path) -> Path:
    """Local tasks: one of many choices, one that is written, and one with fewer questions than ranks."""
    folder.mkdir()
    for name, count in (("choices", 13), ("writes", 5), ("single", 1)):
        rows = [{"question": f"{n}?", "choices": ["a", "b c", "d"], "label": n % 3, "text": "a"} for n in range(count)]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        is_written = name == "writes"
        text = _TASK.format(
            name=name,
            path=folder / f"{name}.jsonl",
            kind="generate_until" if is_written else "multiple_choice",
            target='"{{text}}"' if is_written else '"{{label}}"',
            settings=_WRITES if is_written else _CHOOSES,
            metric="exact_match" if is_written else "acc",
        )
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


def score(folder: Path, directory: Path) -> dict[str, Any]:
    """Scores of the model in `directory`, and what this rank and all of them wrote for a judge."""
    ranks, task = Ranks(), CountingTask()
    folder = folder.with_name(f"{folder.name}.{ranks.rank}")
    tokenizer: Any = load_tokenizer(directory)
    plain = smoke_spec()
    prepare_data.make(plain.data, plain.evaluate, tokenizer, folder / "data", task=CountingTask())
    data = prepare_data.load(folder / "data")
    spec = dataclasses.replace(
        plain.evaluate,
        batch_size=1,
        choice_items=7,
        lm_eval_tasks=("choices", "writes", "single"),
        lm_eval_include_path=str(harness_tasks(folder / "tasks")),
    )
    model: Any = load_model(directory, dtype="float32")
    read: Counter[str] = Counter()
    books: Any = SimpleNamespace(add=lambda **counts: read.update(counts))
    scores = evaluate.make(model, tokenizer, data, spec, stage=books, task=task, ranks=ranks)
    here: Counter[str] = Counter()
    answers_books: Any = SimpleNamespace(add=lambda **counts: here.update(counts))
    judge: Any = SimpleNamespace(max_new_tokens=6, temperature=1.0, top_p=1.0, seed=3)
    kept = write_answers(
        Writer(model, tokenizer, judge, end_ids(model, tokenizer)),
        tokenizer,
        [document[:8].tolist() for document in data.held_out_documents[:5]],
        judge,
        folder / "answers.json",
        labels={},
        batch_size=2,
        stage=answers_books,
        task=task,
        ranks=ranks,
    )
    texts = json.loads((folder / "answers.json").read_text())["texts"] if kept else []
    return {"scores": scores, "kept": kept, "texts": texts, "here": dict(here), "read": dict(read), "bar": task.done}
