"""Which engine writes the teacher's text."""

from __future__ import annotations

from stillwatt.pipelines.bench import Bench
from stillwatt.pipelines.endpoint_writer import EndpointWriter
from stillwatt.pipelines.sampling import TextWriter, Writer, end_ids
from stillwatt.pipelines.spec import GenerateSpec

__all__ = ["open_writer"]


def open_writer(bench: Bench, settings: GenerateSpec) -> TextWriter:
    """The teacher as a writer of text; its model is loaded by whoever asks first, and billed to that stage."""
    endpoint = bench.spec.teacher.endpoint
    if endpoint is not None:
        stage = bench.meter.current_stage
        assert stage is not None  # text is written in a stage, which an endpoint's tokens are billed to
        return EndpointWriter(endpoint, bench.tokenizer(), settings, stage)
    teacher, tokenizer = bench.teacher(), bench.tokenizer()
    return Writer(teacher, tokenizer, settings, end_ids(teacher, tokenizer))
