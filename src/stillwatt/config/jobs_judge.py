"""What judged answers ask of a machine: their writing, and a judge's reading of them."""

from __future__ import annotations

from stillwatt.analysis.costs.counts import loaded, read, written
from stillwatt.config.model_size import size_of_source, size_of_teacher
from stillwatt.pipelines.spec import PipelineSpec
from stillwatt.pipelines.spec_evaluate import JudgeSpec
from stillwatt.records.forecast import Counts, ModelSize

__all__ = ["ASSUMED_RUBRIC_TOKENS", "answer_counts", "judge_counts", "judge_tokens", "size_of_judge"]

ASSUMED_RUBRIC_TOKENS = 100
"""Of a rubric without what is put into it: its text is not looked at."""


def size_of_judge(spec: PipelineSpec) -> ModelSize | None:
    """The judge's shape; None where there is no judge, or it is not known."""
    judge = spec.evaluate.judge
    if judge is None or judge.endpoint is not None:
        return None
    return size_of_teacher(spec) if judge.source == "teacher" else size_of_source(judge.source)


def answer_counts(judge: JudgeSpec, size: ModelSize, *, batch: int) -> Counts:
    """A model that answers all questions, none of them shorter than it may be."""
    return written(size, texts=judge.prompts, prompt=judge.prompt_tokens, new=judge.answer_tokens, batch=batch)


def judge_tokens(judge: JudgeSpec) -> int:
    """Tokens that the judge reads of one model's answers: both orders of each question, or the one answer."""
    is_pair = judge.mode == "pairwise"
    each = ASSUMED_RUBRIC_TOKENS + judge.prompt_tokens + judge.answer_tokens * (2 if is_pair else 1)
    return judge.prompts * each * (2 if is_pair else 1)


def judge_counts(judge: JudgeSpec, size: ModelSize, *, is_first: bool) -> Counts:
    """A judge that reads one model's answers; it is loaded for the first."""
    tokens = judge_tokens(judge)
    sequence = tokens / judge.prompts / (2 if judge.mode == "pairwise" else 1)
    counts = read(size, tokens=tokens, sequence=sequence, batch=judge.batch_size)
    return counts + loaded(size) if is_first else counts
