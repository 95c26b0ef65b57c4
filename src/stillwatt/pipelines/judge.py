"""Stages: answers are written inside each model's evaluation, and judged after all training (method.md, section 13).

The judge is loaded once, when all answers are on disk: it needs no memory while students are trained. Its work is a
stage `judge.*` beside each `evaluate.*`, of the same kind and with the same labels, so it is on the
same bill, by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property, partial
from itertools import cycle
from pathlib import Path
from typing import Any

from stillwatt.errors import StillwattError
from stillwatt.metering.meter import Stage
from stillwatt.pipelines.artifacts import canonical_json, file_sha256, write_json
from stillwatt.pipelines.bench import Bench
from stillwatt.pipelines.corpus import Prepared
from stillwatt.pipelines.endpoint_client import read_key
from stillwatt.pipelines.judge_answers import Piece, decoded, judged_pieces, read_answers, shuffled, write_answers
from stillwatt.pipelines.judge_local import Judge
from stillwatt.pipelines.judge_scores import (
    NO_VERDICT,
    REFUSED,
    Duel,
    Mean,
    NoReading,
    Reading,
    duels_of,
    flip_share,
    grade,
    mean_grade,
    planted_accuracy,
    verdict_mass,
    win_rate,
)
from stillwatt.pipelines.judges import open_judge
from stillwatt.pipelines.model_fit import num_tokens
from stillwatt.pipelines.models import CausalModel
from stillwatt.pipelines.progress import Task
from stillwatt.pipelines.rubrics import Rubric, read_rubric
from stillwatt.pipelines.sampling import Writer, end_ids
from stillwatt.pipelines.spec_evaluate import OWN_TEACHER, EvaluateSpec, JudgeSpec
from stillwatt.records.window import JUDGED_AS, StageKind

__all__ = ["answer", "check_judge", "judge_models", "task_name", "total_answers", "try_judge"]

_LETTERS = 8
"""Of a judge's hash, in a score's name."""


def check_judge(spec: EvaluateSpec) -> None:
    """Refuse a rubric that cannot be used, and a server's key that is not there, before anything is spent."""
    if spec.judge is not None:
        read_rubric(spec.judge.rubric, spec.judge.mode)
        if spec.judge.endpoint is not None:
            read_key(spec.judge.endpoint)


def total_answers(spec: EvaluateSpec) -> int:
    """Tokens that an evaluation reads and writes for the judge, at most; the bar's length."""
    judge = spec.judge
    return judge.prompts * (judge.prompt_tokens + judge.answer_tokens) if judge else 0


def task_name(spec: JudgeSpec, identity: Mapping[str, Any]) -> str:
    """The score's name: unlike judges or rubrics give unlike names, and are never compared."""
    what = f"win_vs_{spec.against}" if spec.mode == "pairwise" else f"grade_of_{len(spec.verdicts)}"
    return f"judge:{what}@{hashlib.sha256(canonical_json(identity).encode('utf-8')).hexdigest()[:_LETTERS]}"


def try_judge(bench: Bench, read_data: Callable[[], Prepared]) -> dict[str, Any]:
    """Try the judge on the real continuations, without its weights: what it cannot read shows before any training.

    Args:
        bench: The study.
        read_data: Reads the prepared tokens, which are not written down as finished yet.

    Returns:
        What tells the judge and what it is asked from others, to be kept with the prepared data.

    Raises:
        StillwattError: Too few questions, verdicts that are no single tokens, a prompt that is too long, no template.
    """
    spec = bench.spec.evaluate.judge
    if spec is None:
        return {}
    court = _Court(bench, spec, read_data)
    really = court.really
    court.judge.check(court.prompts(really, really))
    if court.is_teacher:
        bench.announce(f"caution: {OWN_TEACHER}")
    return {"judge": court.identity}


def answer(bench: Bench, model: CausalModel, name: str, labels: Mapping[str, str], task: Task) -> dict[str, Any]:
    """Let a model write its answers, in a stage inside its evaluation; nothing where nobody judges."""
    spec = bench.spec.evaluate.judge
    if spec is None:
        return {}
    tokenizer = bench.tokenizer()
    data = bench.data()
    prompts = [piece.prompt for piece in judged_pieces(data.held_out_documents, spec, data.bos_ids)]
    writer = Writer(model, tokenizer, spec, end_ids(model, tokenizer), num_tokens=num_tokens(tokenizer))
    own = bench.labels(labels, is_shared=True)
    with bench.meter.stage(_named("answer", name), kind=StageKind.OTHER, labels=own) as stage:
        kept = write_answers(
            writer,
            tokenizer,
            prompts,
            spec,
            _answers_path(bench, name),
            labels=labels,
            batch_size=bench.spec.evaluate.batch_size,
            stage=stage,
            task=task,
            ranks=bench.ranks,
        )
    return {"answers": kept}


def judge_models(bench: Bench, evaluations: Iterable[str]) -> None:
    """Judge what every finished evaluation left, in order; then the judge's memory is given back.

    Args:
        bench: The study.
        evaluations: Names of evaluation stages; those that are not finished are passed over.
    """
    spec = bench.spec.evaluate.judge
    if spec is None:
        return
    court = _Court(bench, spec, bench.data)
    if spec.try_planted:
        court.try_planted()
    for name in evaluations:
        court.sit(name)


def _named(verb: str, evaluation: str) -> str:
    """The name of a stage that belongs to an evaluation.

    >>> _named("judge", "evaluate.kd.1.0")
    'judge.kd.1.0'
    """
    return f"{verb}.{evaluation.removeprefix('evaluate.')}"


def _answers_path(bench: Bench, evaluation: str) -> Path:
    return bench.state.folder("answers") / f"{evaluation.removeprefix('evaluate.')}.json"


class _Court:
    """One judge with its questions."""

    def __init__(self, bench: Bench, spec: JudgeSpec, read_data: Callable[[], Prepared]) -> None:
        self.bench, self.spec, self._read_data = bench, spec, read_data
        self._is_open = False

    @cached_property
    def rubric(self) -> Rubric:
        """What is asked."""
        return read_rubric(self.spec.rubric, self.spec.mode)

    @cached_property
    def judge(self) -> Judge:
        """Who is asked; loaded when the first prompt is read."""
        return open_judge(self.bench, self.spec)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What tells these judgements from others."""
        spec = self.spec
        asked = {"rubric_sha256": self.rubric.sha256, "form": spec.form, "verdicts": list(spec.verdicts)}
        return {**self.judge.identity, **asked, "mode": spec.mode, "against": spec.against}

    @property
    def is_teacher(self) -> bool:
        """Whether the judge is the model that is distilled, whatever it is called; weights elsewhere are not known."""
        teacher, judge = self.bench.spec.teacher, self.spec.endpoint
        if judge is not None and teacher.endpoint is not None:
            return (judge.url, judge.model) == (teacher.endpoint.url, teacher.endpoint.model)
        if not teacher.has_weights:
            return False
        return bool(self.judge.identity["weights"] == self.bench.teacher_place().identity)

    @cached_property
    def questions(self) -> list[str]:
        """The questions' text."""
        return [decoded(self.bench.tokenizer(), piece.prompt) for piece in self._pieces]

    @cached_property
    def really(self) -> list[str]:
        """What really followed each question."""
        return [decoded(self.bench.tokenizer(), piece.really) for piece in self._pieces]

    @cached_property
    def _pieces(self) -> Sequence[Piece]:
        data = self._read_data()
        return judged_pieces(data.held_out_documents, self.spec, data.bos_ids)

    def prompts(self, own: Sequence[str], other: Sequence[str]) -> list[str]:
        """What the judge reads: for each question both orders, or the one answer."""
        fill = self.rubric.fill
        if self.spec.mode == "score":
            # planted pairs are twice as many answers to the same questions
            return [fill(question=asked, answer=mine) for asked, mine in zip(cycle(self.questions), own, strict=False)]
        return [
            fill(question=asked, answer_a=first, answer_b=second)
            for asked, mine, theirs in zip(self.questions, own, other, strict=True)
            for first, second in ((mine, theirs), (theirs, mine))
        ]

    def sit(self, evaluation: str) -> None:
        """Judge what one evaluation left, as a stage of its own."""
        kept = self.bench.finished(evaluation)
        if kept is None or "answers" not in kept:
            return
        name = task_name(self.spec, self._known)
        labels = {**kept["answers"]["labels"], JUDGED_AS: name}
        self._stage(_named("judge", evaluation), labels, partial(self._score, name, evaluation, kept["answers"]))

    def try_planted(self) -> None:
        """Try the judge on pairs whose better side is known: what really followed, and its own words shuffled."""
        name = task_name(self.spec, self._known).replace("judge:", "judge:planted_", 1)
        self._stage("judge.planted", {JUDGED_AS: name}, partial(self._score_planted, name))

    def _stage(self, name: str, labels: Mapping[str, str], score: Callable[[Stage, Task], dict[str, Any]]) -> None:
        known = self._known

        def work(stage: Stage, task: Task) -> dict[str, Any]:
            self._check_same(known)
            entry = score(stage, task)
            return {"judge": {"source": self.spec.source, **self.identity}, "scores": [entry]}

        total = 2 * self.spec.prompts  # half as many where each answer has a grade by itself
        # every rank has a judge of this machine, and the first one alone asks a server
        is_shared = self.judge.is_loaded_here
        self.bench.run_stage(
            name, StageKind.EVALUATE, work, labels=labels, total=total, unit="prompts", is_shared=is_shared
        )

    @property
    def _known(self) -> Mapping[str, Any]:
        """What told these judgements from others when the run began."""
        found: Mapping[str, Any] = (self.bench.finished("prepare_data") or {}).get("judge", {})
        return found

    def _check_same(self, known: Mapping[str, Any]) -> None:
        changed = sorted(key for key, value in self.identity.items() if known.get(key) != value)
        if changed:
            raise StillwattError(
                f"judge {self.spec.source}: {', '.join(changed)} changed since the run began, and scores of unlike "
                "judges or rubrics are not compared; put it back, or begin a new run"
            )

    def _score_planted(self, name: str, stage: Stage, task: Task) -> dict[str, Any]:
        real = [" ".join(text.split()) for text in self.really]
        mixed = [shuffled(text, self.spec.seed + number) for number, text in enumerate(real)]
        if self.spec.mode == "pairwise":
            readings, told = self._ask("planted", self.prompts(real, mixed), stage, task)
            duels = duels_of(readings)
            wins, told = [duel.win for duel in duels], {**told, **_flips(duels)}
        else:
            readings, told = self._ask("planted", self.prompts(real + mixed, ()), stage, task)
            pairs = [
                (grade(better), grade(worse))
                for better, worse in zip(readings[: len(real)], readings[len(real) :], strict=True)
                if isinstance(better, Reading) and isinstance(worse, Reading)
            ]
            wins = [0.5 if better == worse else float(better > worse) for better, worse in pairs]
        judged = {**self._described, **told, **_lengths(real, mixed), "planted": True}
        return self._entry(name, planted_accuracy(wins) if _are_enough(wins) else None, judged, in_quality=False)

    def _score(self, name: str, evaluation: str, kept: Mapping[str, Any], stage: Stage, task: Task) -> dict[str, Any]:
        own, other = read_answers(_answers_path(self.bench, evaluation), kept), self._other()
        if self.spec.mode == "pairwise" and evaluation == self._reference:
            # eq. 132 is 1/2 for equal sides, whatever a judge says
            mean: Mean | None = Mean(value=0.5, se=0.0, n=len(own))
            told: dict[str, Any] = {"asked": "not at all: it is what others are held against"}
        else:
            readings, told = self._ask(evaluation.removeprefix("evaluate."), self.prompts(own, other), stage, task)
            mean, told = self._mean(readings, told)
        judged = {**self._described, **told, **_lengths(own, other if self.spec.mode == "pairwise" else None)}
        return self._entry(name, mean, judged, in_quality=self.spec.in_quality)

    def _entry(self, name: str, mean: Mean | None, judged: Mapping[str, Any], *, in_quality: bool) -> dict[str, Any]:
        told = {"value": None, "se": None, "n": 0} if mean is None else asdict(mean)
        return {"task": name, **told, "higher_is_better": True, "in_quality": in_quality, "judged": dict(judged)}

    def _mean(
        self, readings: Sequence[Reading | NoReading], told: dict[str, Any]
    ) -> tuple[Mean | None, dict[str, Any]]:
        if self.spec.mode == "score":
            grades = [grade(reading) for reading in readings if isinstance(reading, Reading)]
            return (mean_grade(grades, best=len(self.spec.verdicts)) if _are_enough(grades) else None), told
        duels = duels_of(readings)
        return (win_rate(duels) if _are_enough(duels) else None), {**told, **_flips(duels)}

    def _ask(
        self, model: str, prompts: Sequence[str], stage: Stage, task: Task
    ) -> tuple[Sequence[Reading | NoReading], dict[str, Any]]:
        if self.judge.is_loaded_here and not self._is_open:
            labels = self.bench.labels(None, is_shared=True)
            with self.bench.meter.stage("load_judge", kind=StageKind.OTHER, labels=labels):
                self.judge.open()
            self._is_open = True
        path = self.bench.state.folder("judgements") / f"{model}.json"
        readings = self.judge.read(prompts, task=task, stage=stage, kept=path.with_suffix(".asked.jsonl"))
        if not self.bench.ranks.is_first:
            return readings, {"verdict_mass": None}  # the stage's results are the first rank's
        path.parent.mkdir(parents=True, exist_ok=True)
        given = [reading for reading in readings if isinstance(reading, Reading)]
        write_json(path, {"shares": [each.shares if isinstance(each, Reading) else None for each in readings]})
        told = {"verdict_mass": verdict_mass(given), "judgements_sha256": file_sha256(path)}
        return readings, told if self.spec.endpoint is None else {**told, **_counted(readings)}

    def _other(self) -> list[str]:
        """The other side's answers; what really followed where there is no other model."""
        if self._reference is None:
            return self.really
        kept = self.bench.state.finished(self._reference)
        if kept is None or "answers" not in kept:
            raise StillwattError(f"{self._reference} left no answers to be held against; begin a new run")
        return read_answers(_answers_path(self.bench, self._reference), kept["answers"])

    @property
    def _reference(self) -> str | None:
        """The evaluation whose answers the others are held against."""
        return {"teacher": "evaluate.teacher", "start": "evaluate.start"}.get(self.spec.against or "")

    @property
    def _described(self) -> dict[str, Any]:
        """What a reader of the score must know."""
        spec = self.spec
        return {
            "judge": spec.name,
            "weights": self.judge.identity["weights"],
            "rubric": spec.rubric,
            "rubric_sha256": self.rubric.sha256,
            "against": spec.against,
            "caution": OWN_TEACHER if self.is_teacher else None,
        }


def _are_enough(values: Sequence[object]) -> bool:
    """Whether a mean has a standard error; without verdicts there is no score, and not a score of 0."""
    return len(values) > 1


def _flips(duels: Sequence[Duel]) -> dict[str, float]:
    return {"position_flip_share": flip_share(duels)} if duels else {}


def _counted(readings: Sequence[Reading | NoReading]) -> dict[str, int]:
    """How many prompts were asked, and what became of those that gave no verdict, or not all of one."""
    why = [each.why for each in readings if isinstance(each, NoReading)]
    cut_off = sum(isinstance(each, Reading) and each.is_cut_off for each in readings)
    counts = {"no_verdict": why.count(NO_VERDICT), "refused": why.count(REFUSED), "cut_off": cut_off}
    return {"asked_prompts": len(readings), **counts}


def _lengths(own: Sequence[str], other: Sequence[str] | None) -> dict[str, Any]:
    """Mean lengths of both sides in characters, and how many answers say nothing."""
    found = {"own_chars": _mean_length(own), "own_empty": sum(not text.strip() for text in own)}
    if other is None:
        return found
    return {
        **found,
        "other_chars": _mean_length(other),
        "other_empty": sum(not text.strip() for text in other),
    }


def _mean_length(texts: Sequence[str]) -> float:
    return sum(map(len, texts)) / len(texts)
