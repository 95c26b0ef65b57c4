"""Which engine judges."""

from __future__ import annotations

from stillwatt.pipelines.bench import Bench
from stillwatt.pipelines.judge_endpoint import EndpointJudge
from stillwatt.pipelines.judge_local import Coder, Judge, LocalJudge, context_of
from stillwatt.pipelines.models import load_model, load_tokenizer
from stillwatt.pipelines.spec_evaluate import JudgeSpec

__all__ = ["TEACHER", "open_judge"]

TEACHER = "teacher"
"""The judge that is the study's own teacher."""


def open_judge(bench: Bench, spec: JudgeSpec) -> Judge:
    """The judge: of this machine with its tokenizer and without its weights, which come when it is opened."""
    if spec.endpoint is not None:
        return EndpointJudge(spec)
    from transformers import AutoConfig

    place = bench.teacher_place() if spec.source == TEACHER else bench.place(spec.source, spec.revision)
    config = AutoConfig.from_pretrained(str(place.directory), local_files_only=True)
    coder = Coder(
        tokenizer=load_tokenizer(place.directory),
        judge=spec.source,
        form=spec.form,
        verdicts=spec.verdicts,
        context=context_of(config),
    )
    is_alone, dtype = bench.ranks.count == 1, spec.dtype or "float32"
    return LocalJudge(
        coder,
        lambda: load_model(place.directory, dtype=dtype, may_spread=is_alone, announce=bench.announce_once),
        weights=place.identity,
        dtype=dtype,
        batch=spec.batch_size,
        ranks=bench.ranks,
    )
